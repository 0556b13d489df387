#include "graft/peft/intrinsic.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "graft/base/error.h"
#include "graft/base/file.h"
#include "tests/models/tiny.h"
#include "tests/temporary.h"

namespace graft {
namespace {

using test::tiny_model;
using test::tiny_models;

const test::Tiny& tiny(const std::string& name) {
  for (const test::Tiny& row : tiny_models()) {
    if (row.name == name) return row;
  }
  throw std::logic_error(name);
}

Tensor logits_of(Model& model, const Adapter* adapter = nullptr) {
  const Batch batch =
      test::batch_of(model, {test::some_text(1, 5), test::some_text(2, 7), test::some_text(3, 4)});
  if (adapter) refresh_stand_ins(*adapter, model);
  Batch read = batch;
  read.rows = model.head_rows(batch.layout, batch.input_ids);
  return model.logits(model.run(read), read);
}

/// Gradient descent with normalised steps; → the loss at the end.
double train(Model& model, const Adapter& adapter, int steps, double rate) {
  const Tensor labels = at::tensor({0, 2, 1}).to(at::kLong);
  double loss = 0;
  TensorMap first, second;
  for (int step = 1; step <= steps; ++step) {
    const Tensor value = at::cross_entropy_loss(logits_of(model, &adapter), labels);
    value.backward();
    loss = value.item<double>();
    const at::NoGradGuard no_grad;
    for (auto [key, tensor] : adapter.trained) {
      if (!first[key].defined()) first[key] = second[key] = at::zeros_like(tensor);
      first[key] = 0.9 * first[key] + 0.1 * tensor.grad();
      second[key] = 0.99 * second[key] + 0.01 * tensor.grad().pow(2);
      const double c1 = 1 - std::pow(0.9, step), c2 = 1 - std::pow(0.99, step);
      tensor.sub_(rate * (first[key] / c1) / ((second[key] / c2).sqrt() + 1e-8));
      tensor.mutable_grad().reset();
    }
  }
  return loss;
}

std::map<std::string, Tensor> copies(Model& model) {
  std::map<std::string, Tensor> out;
  for (const auto& [path, parameter] : model.named_parameters()) out[path] = parameter->base.clone();
  return out;
}

class Intrinsic : public testing::TestWithParam<const char*> {
 protected:
  Adapter create(Model& model, Json config, uint64_t seed = 7) {
    const TuningMethod& method = tuning_method(GetParam());
    config["name"] = method.name;
    return method.create(config, model, seed);
  }
};

TEST_P(Intrinsic, TrainsExactlyDNumbers) {
  const auto model = tiny_model(tiny("bert_seqcls"));
  EXPECT_EQ(parameter_count(trainable(create(*model, {{"d", 200}}))), 200);
  EXPECT_EQ(parameter_count(trainable(create(*model, {{"d", 200}, {"gradient", "reference"}}))), 200);
}

TEST_P(Intrinsic, AFreshAdapterIsTheIdentity) {
  const auto model = tiny_model(tiny("bert_seqcls"));
  const Tensor before = logits_of(*model);
  const Adapter adapter = create(*model, {{"d", 100}});
  attach(adapter, *model);
  // The stand-ins equal the base's tensors; the maps' products are summed in another order.
  EXPECT_LT(test::largest_difference(logits_of(*model), before), 1e-5);
  for (const auto& [path, parameter] : model->named_parameters()) {
    EXPECT_TRUE(parameter->stand_in.equal(parameter->base)) << path;
  }
}

TEST_P(Intrinsic, TrainingMovesTheAdapterAndNotTheBase) {
  const auto model = tiny_model(tiny("bert_seqcls"));
  const auto before = copies(*model);
  const Tensor logits = logits_of(*model);
  for (const char* gradient : {"exact", "reference"}) {
    const Adapter adapter = create(*model, {{"d", 150}, {"gradient", gradient}});
    attach(adapter, *model);
    const double start = train(*model, adapter, 1, 0.05), end = train(*model, adapter, 40, 0.05);
    EXPECT_LT(end, 0.5 * start) << gradient;
    for (const auto& [key, tensor] : adapter.trained)
      EXPECT_GT(tensor.detach().std().item<double>(), 0) << key;
    for (const auto& [path, parameter] : model->named_parameters()) {
      EXPECT_FALSE(parameter->stand_in.equal(parameter->base)) << path;
    }
    detach(*model);
    EXPECT_TRUE(logits_of(*model).equal(logits));
  }
  for (const auto& [path, parameter] : model->named_parameters())
    EXPECT_TRUE(parameter->base.equal(before.at(path))) << path;
}

TEST_P(Intrinsic, MergingEqualsAttaching) {
  for (const char* name : {"bert_seqcls", "llama", "gpt2"}) {
    const auto model = tiny_model(tiny(name));
    const Adapter adapter = create(*model, {{"d", 80}});
    const at::NoGradGuard no_grad;
    for (auto [key, tensor] : adapter.trained) tensor.add_(at::randn_like(tensor), 0.3);
    attach(adapter, *model);
    const Tensor attached = logits_of(*model);
    detach(*model);
    EXPECT_GT(test::largest_difference(logits_of(*model), attached), 1e-3) << name;
    merge(adapter, *model);
    EXPECT_LT(test::largest_difference(logits_of(*model), attached), 1e-5) << name;  // sums in another order
  }
}

TEST_P(Intrinsic, SavedLoadedSavedIsEqualByteForByte) {
  const test::TemporaryFolder folder;
  const auto model = tiny_model(tiny("bert_seqcls"));
  for (const char* head : {"inside", "outside"}) {
    const Adapter adapter = create(*model, {{"d", 90}, {"head", head}});
    attach(adapter, *model);
    train(*model, adapter, 3, 0.05);
    const Tensor logits = logits_of(*model, &adapter).detach();
    detach(*model);
    const auto first = folder.path() / head / "first", second = folder.path() / head / "second";
    std::filesystem::create_directories(first);
    std::filesystem::create_directories(second);
    write_adapter(first, adapter, *model);
    // Another run's base has another new head.
    const auto other = tiny_model(tiny("bert_seqcls"));
    for (const auto& [path, parameter] : other->named_parameters()) {
      if (path.starts_with("classifier.")) parameter->base.add_(1);
    }
    const Adapter loaded = read_adapter(first, *other);
    attach(loaded, *other);
    EXPECT_LT(test::largest_difference(logits_of(*other).detach(), logits), 1e-6) << head;
    write_adapter(second, loaded, *other);
    for (const char* file : {"adapter_config.json", "adapter_model.safetensors"})
      EXPECT_EQ(read_file(first / file), read_file(second / file)) << file;
    EXPECT_LT(std::filesystem::file_size(first / "adapter_model.safetensors"), 4096u);
  }
}

TEST_P(Intrinsic, AnotherBaseIsRefused) {
  const test::TemporaryFolder folder;
  const auto model = tiny_model(tiny("bert_seqcls"));
  write_adapter(folder.path(), create(*model, {{"d", 90}}), *model);
  const auto other = tiny_model(tiny("gpt2"));
  try {
    read_adapter(folder.path(), *other);
    FAIL() << "was read";
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find("made for a base with"), std::string::npos) << error.what();
  }
}

TEST_P(Intrinsic, ChoosesTensors) {
  const auto model = tiny_model(tiny("bert_seqcls"));
  const auto moved = [&](const Json& rule) {
    return create(*model, {{"d", 90}, {"target_tensors", rule}}).stand_ins;
  };
  const TensorMap all = moved("all"), without = moved("no_embeddings"), some = moved(".*layer\\.1\\..*");
  EXPECT_EQ(all.size(), model->named_parameters().size());
  EXPECT_EQ(all.size() - without.size(), 3u);
  EXPECT_EQ(without.count("bert.embeddings.word_embeddings.weight"), 0u);
  EXPECT_EQ(some.size(), 16u + 2u);  // and the head
  EXPECT_EQ(some.count("classifier.weight"), 1u);
  EXPECT_THROW(create(*model, {{"d", 90}, {"target_tensors", "nothing"}, {"head", "outside"}}), UsageError);
}

TEST_P(Intrinsic, AHeadOutsideIsTrainedBesideTheNumbers) {
  const auto model = tiny_model(tiny("bert_seqcls"));
  const Adapter adapter = create(*model, {{"d", 90}, {"head", "outside"}});
  EXPECT_EQ(parameter_count(trainable(adapter)), 90 + 3 * 24 + 3);
  attach(adapter, *model);
  const Tensor head = adapter.trained.at("base_model.model.classifier.weight").detach().clone();
  train(*model, adapter, 2, 0.05);
  EXPECT_FALSE(adapter.trained.at("base_model.model.classifier.weight").equal(head));
  EXPECT_EQ(adapter.stand_ins.at("classifier.weight").data_ptr(),
            adapter.trained.at("base_model.model.classifier.weight").data_ptr());
}

TEST_P(Intrinsic, OtherSeedsGiveOtherMapsAndEqualSeedsTheSame) {
  const auto model = tiny_model(tiny("bert_seqcls"));
  const at::NoGradGuard no_grad;
  const auto logits = [&](uint64_t seed) {
    const Adapter adapter = create(*model, {{"d", 90}}, seed);
    adapter.trained.at("base_model.model.intrinsic.theta").detach().fill_(0.1);
    attach(adapter, *model);
    Tensor out = logits_of(*model);
    detach(*model);
    return out;
  };
  EXPECT_TRUE(logits(2).equal(logits(2)));
  EXPECT_GT(test::largest_difference(logits(2), logits(4)), 1e-3);
}

TEST_P(Intrinsic, RefusesWrongSettings) {
  const auto model = tiny_model(tiny("bert_seqcls"));
  EXPECT_THROW(create(*model, {{"d", 0}}), UsageError);
  EXPECT_THROW(create(*model, {{"d", 10}, {"projection", "sparse"}}), UsageError);
  EXPECT_THROW(create(*model, {{"d", 10}, {"gradient", "exakt"}}), UsageError);
  EXPECT_THROW(create(*model, {{"dd", 10}}), UsageError);
}

INSTANTIATE_TEST_SUITE_P(Methods, Intrinsic, testing::Values("did", "said"),
                         [](const auto& tested) { return std::string(tested.param); });

TEST(IntrinsicSaid, NeedsMoreNumbersThanTensors) {
  const auto model = tiny_model(tiny("bert_seqcls"));
  const auto tensors = static_cast<int64_t>(model->named_parameters().size());
  EXPECT_THROW(kSaid.create({{"name", "said"}, {"d", tensors}}, *model, 1), UsageError);
  EXPECT_EQ(parameter_count(kSaid.create({{"name", "said"}, {"d", tensors + 1}}, *model, 1).trained),
            tensors + 1);
  EXPECT_THROW(kSaid.create({{"name", "said"}, {"d", tensors + 1}, {"gradient", "reference"}}, *model, 1),
               UsageError);
}

TEST(IntrinsicDid, WithAsManyNumbersAsParametersReachesFullFineTuningsLoss) {
  const char* part = "bert\\.encoder\\.layer\\.1\\.output\\..*|classifier\\..*";
  const auto model = tiny_model(tiny("bert_seqcls"));
  const Adapter full = tuning_method("full").create({{"name", "full"}, {"unfreeze", part}}, *model, 1);
  const int64_t size = parameter_count(full.trained);
  attach(full, *model);
  const double start = train(*model, full, 1, 0.01), full_loss = train(*model, full, 100, 0.01);
  detach(*model);
  const Adapter did = kDid.create(
      {{"name", "did"}, {"d", size}, {"target_tensors", part}, {"projection", "dense"}}, *model, 1);
  attach(did, *model);
  const double did_loss = train(*model, did, 100, 0.01);
  EXPECT_LT(full_loss, 0.02 * start);
  // A square random matrix reaches every point; both descend to the same floor, up to a tenth of what is
  // left.
  EXPECT_LT(did_loss, full_loss + 0.02 * start);
}

}  // namespace
}  // namespace graft
