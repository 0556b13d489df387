// A two-layer network, its adapter and a regression task: small enough that every step is cheap, with a
// dropout stream that changes the numbers.
#pragma once
#include <ATen/ATen.h>

#include "graft/base/random.h"
#include "graft/train/trainer.h"

namespace graft::test {

constexpr int64_t kWidth = 5;
constexpr int64_t kVocabulary = 11;

/// One-hot ids, summed over each sequence → hidden → one number.
class FakeModel : public Model {
 public:
  FakeModel() {
    up = add("up.weight", {kWidth, kVocabulary});
    bias = add("up.bias", {kWidth});
    down = add("down.weight", {1, kWidth});
    for (const auto& [name, parameter] : named_parameters()) parameter->base = at::zeros(parameter->shape);
    info_.hidden_size = kWidth;
    info_.vocab_size = kVocabulary;
  }
  Tensor run(const Batch& batch) override {
    std::vector<Tensor> rows;
    for (int64_t b = 0; b < batch.layout.sequences(); ++b) {
      const Tensor ids = batch.input_ids.slice(0, batch.layout.offsets[static_cast<size_t>(b)],
                                               batch.layout.offsets[static_cast<size_t>(b) + 1]);
      rows.push_back(at::one_hot(ids, kVocabulary).to(at::kFloat).sum(0));
    }
    Tensor hidden = (at::matmul(at::stack(rows), up->value().t()) + bias->value()).tanh();
    if (batch.dropout) hidden = hidden * (1 + noise * batch.dropout->uniform());
    return hidden;
  }
  Tensor logits(const Tensor& hidden, const Batch&) override { return at::matmul(hidden, down->value().t()); }
  Tensor head_rows(const Layout& layout, const Tensor&) const override { return layout.first_rows(); }
  const ModelInfo& info() const override { return info_; }
  std::vector<Role> roles() const override { return {}; }
  Embedding& word_embedding() override { throw std::logic_error("no embedding"); }
  Linear* output_embedding() override { return nullptr; }
  std::vector<std::string> head_modules() const override { return {}; }

  std::shared_ptr<Parameter> up, bias, down;
  double noise = 0.1;  // of the dropout stream

 private:
  ModelInfo info_;
};

/// Trains all tensors of the model by standing in for them.
inline Adapter fake_adapter(Model& model, uint64_t seed) {
  Adapter adapter;
  RandomStream stream(seed, "fake");
  for (const auto& [name, parameter] : model.named_parameters()) {
    std::vector<float> values(static_cast<size_t>(parameter->base.numel()));
    for (float& value : values) value = static_cast<float>(0.3 * stream.normal());
    Tensor leaf = at::tensor(values).reshape(parameter->shape).requires_grad_(true);
    parameter->stand_in = leaf;
    adapter.stand_ins[name] = leaf;
    adapter.trained[name] = leaf;
  }
  return adapter;
}

class FakeMetrics : public Metrics {
 public:
  void add(const TaskBatch& batch, const Tensor& logits) override {
    error_ += (logits.flatten() - batch.labels).abs().sum().item<double>();
    count_ += batch.label_units;
  }
  std::vector<std::pair<std::string, double>> values() const override {
    return {{"closeness", -error_ / static_cast<double>(count_)}};
  }
  std::vector<Json> predictions() const override { return {}; }

 private:
  double error_ = 0;
  int64_t count_ = 0;
};

/// Squared error of one number a sequence.
class FakeTask : public Task {
 public:
  HeadKind head() const override { return HeadKind::sequence_classification; }
  std::vector<std::string> label_names() const override { return {}; }
  int64_t num_labels() const override { return 1; }
  std::string problem_type() const override { return "regression"; }
  std::vector<Features> features(const std::vector<Example>&) const override { return {}; }
  TaskBatch collate(const std::vector<Features>& features, const std::vector<int64_t>& indices, const Model&,
                    int64_t) const override {
    TaskBatch batch;
    std::vector<int64_t> ids, lengths;
    std::vector<float> targets;
    for (const int64_t i : indices) {
      const Features& one = features[static_cast<size_t>(i)];
      ids.insert(ids.end(), one.input_ids.begin(), one.input_ids.end());
      lengths.push_back(static_cast<int64_t>(one.input_ids.size()));
      targets.push_back(static_cast<float>(one.target));
    }
    batch.batch.input_ids = at::tensor(ids);
    batch.batch.layout = Layout::of(lengths);
    batch.labels = at::tensor(targets);
    batch.label_units = static_cast<int64_t>(indices.size());
    batch.tokens = batch.batch.layout.rows();
    return batch;
  }
  Result evaluate(Model& model, const Batch& prepared, const TaskBatch& batch) const override {
    const Tensor logits = model.logits(model.run(prepared), prepared);
    return {(logits.flatten() - batch.labels).square().sum(), logits.detach()};
  }
  std::unique_ptr<Metrics> metrics() const override { return std::make_unique<FakeMetrics>(); }
  std::string default_metric() const override { return "closeness"; }
  bool larger_is_better(const std::string&) const override { return true; }
};

/// Sequences whose target is a fixed function of their ids.
inline std::vector<Features> fake_data(int64_t count, uint64_t seed) {
  RandomStream stream(seed, "data");
  std::vector<Features> data(static_cast<size_t>(count));
  for (Features& one : data) {
    const auto length = 1 + static_cast<int64_t>(stream.below(4));
    for (int64_t i = 0; i < length; ++i) {
      one.input_ids.push_back(static_cast<int64_t>(stream.below(kVocabulary)));
      one.target += 0.1 * static_cast<double>(one.input_ids.back()) - 0.4;
    }
  }
  return data;
}

/// All that one training needs, owned in one place.
struct FakeTraining {
  explicit FakeTraining(TrainConfig train_config, std::filesystem::path folder = {})
      : config(std::move(train_config)),
        adapter(fake_adapter(model, 1)),
        train(fake_data(23, 2)),
        validation(fake_data(9, 3)),
        trainer({model, adapter, task, train, validation}, config, std::move(folder)) {}

  TrainConfig config;
  FakeModel model;
  Adapter adapter;
  FakeTask task;
  std::vector<Features> train, validation;
  Trainer trainer;
};

/// The bytes of all tensors, by name.
inline std::string bytes_of(const TensorMap& tensors) {
  std::string bytes;
  for (const auto& [key, tensor] : tensors) {
    const Tensor values = tensor.detach().contiguous();
    bytes += key;
    bytes.append(static_cast<const char*>(values.data_ptr()), values.nbytes());
  }
  return bytes;
}

/// A folder of its own for one test, removed with it.
class TestFolder {
 public:
  TestFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "graft-test-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~TestFolder() { std::filesystem::remove_all(path_); }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace graft::test
