// Our numbers equal transformers': logits, hidden states, loss and every gradient of the cases without
// adapter.
#include "tests/models/golden.h"

#include <ATen/ATen.h>

#include "graft/ops/cross_entropy.h"

namespace graft::test {
namespace {

std::vector<std::string> full_cases() {
  std::vector<std::string> names;
  if (shared_dir().empty()) return {"none"};
  for (const auto& entry : std::filesystem::directory_iterator(shared_dir() / "goldens" / "cases")) {
    const std::string name = entry.path().filename().string();
    if (!name.ends_with(".full")) continue;
    const std::string type = read_json(entry.path() / "case.json").at("family").get<std::string>();
    for (const Family& known : families()) {
      if (known.model_type == type) names.push_back(name);
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

Tensor mean_cross_entropy(const Tensor& logits, const Tensor& labels) {
  return ops::cross_entropy(logits, labels) / (labels != -100).sum();
}

/// Labels of causal LM shifted: each row's target is the next row's label, none at a sequence's end.
Tensor shifted(const Tensor& labels, const Layout& layout) {
  const Tensor next = at::cat({labels.slice(0, 1), at::full({1}, -100, at::kLong)});
  return next.index_fill(0, layout.last_rows(), -100);
}

/// transformers' own loss for the case's task, from packed logits.
Tensor loss_of(const GoldenCase& golden, const Tensor& logits, const Layout& layout) {
  const std::string task = golden.task();
  const auto labels = [&] { return golden.inputs.at("labels"); };
  const auto packed = [&] { return GoldenCase::pack(labels(), golden.real()); };
  if (task == "causal_lm") return mean_cross_entropy(logits, shifted(packed(), layout));
  if (task == "seq2seq_lm") {
    return mean_cross_entropy(logits, GoldenCase::pack(labels(), golden.decoder_real()));
  }
  if (task == "masked_lm" || task == "token_classification") return mean_cross_entropy(logits, packed());
  if (task == "sequence_classification") return mean_cross_entropy(logits, labels());
  if (task == "multiple_choice") return mean_cross_entropy(logits.view({labels().size(0), -1}), labels());
  if (task == "regression") return at::mse_loss(logits.flatten(), labels().flatten());
  // Question answering: no pads in the batch, so that all positions are real.
  const Tensor both = logits.view({-1, golden.width(), 2});
  return (mean_cross_entropy(both.select(2, 0), golden.inputs.at("start_positions")) +
          mean_cross_entropy(both.select(2, 1), golden.inputs.at("end_positions"))) /
         2;
}

Tensor logits_of(Model& model, const Tensor& hidden, const Batch& batch) {
  return model.head == HeadKind::none ? hidden : model.logits(hidden, batch);
}

class Golden : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { GRAFT_NEED(shared_dir()); }
};

TEST_P(Golden, LogitsAndHiddenStatesAndPooler) {
  const GoldenCase golden = GoldenCase::open(GetParam());
  const auto model = golden.load();
  const at::NoGradGuard no_grad;
  Trace trace;
  Batch batch = golden.batch();
  const bool two_stacks = batch.decoder_layout.sequences() > 0;
  const Layout& layout = two_stacks ? batch.decoder_layout : batch.layout;
  batch.trace = &trace;
  batch.rows = model->head_rows(layout, batch.input_ids);
  const Tensor logits = logits_of(*model, model->run(batch), batch);
  if (batch.rows.defined()) {
    EXPECT_LT(share_of_tolerance(logits, golden.expected.at("logits"), 1e-5, 1e-5), 1.0);
  } else {
    expect_rows(logits, golden.expected.at("logits"), two_stacks ? golden.decoder_real() : golden.real(),
                "logits");
  }
  size_t compared = 0;
  for (const auto& [key, value] : golden.expected) {
    const auto index = [&] { return static_cast<size_t>(std::stoul(key.substr(key.rfind('.') + 1))); };
    if (key.starts_with("decoder_hidden_states.")) {
      expect_rows(trace.decoder_hidden_states.at(index()), value, golden.decoder_real(), key);
    } else if (key.starts_with("hidden_states.") || key.starts_with("encoder_hidden_states.")) {
      expect_rows(trace.hidden_states.at(index()), value, golden.real(), key);
    } else if (key == "pooler_output") {
      EXPECT_LT(share_of_tolerance(trace.pooler_output, value, 1e-5, 1e-5), 1.0) << key;
    } else {
      continue;
    }
    ++compared;
  }
  EXPECT_GT(compared, 2u);
  EXPECT_EQ(trace.hidden_states.size() + trace.decoder_hidden_states.size() +
                (trace.pooler_output.defined() && golden.expected.contains("pooler_output") ? 1 : 0),
            compared);
}

TEST_P(Golden, LossAndEveryGradient) {
  const GoldenCase golden = GoldenCase::open(GetParam());
  if (golden.task() == "feature_extraction") return;  // has no loss
  const auto model = golden.load();
  for (const auto& [path, parameter] : model->named_parameters()) {
    parameter->stand_in = parameter->base.clone().requires_grad_(true);
  }
  Batch batch = golden.batch();
  const Layout& layout = batch.decoder_layout.sequences() > 0 ? batch.decoder_layout : batch.layout;
  batch.rows = model->head_rows(layout, batch.input_ids);
  const Tensor loss = loss_of(golden, model->logits(model->run(batch), batch), layout);
  EXPECT_LT(share_of_tolerance(loss, golden.expected.at("loss"), 3e-6, 3e-6), 1.0);
  loss.backward();
  // The tensors as the file has them, with gradients in the place of the values.
  for (const auto& [path, parameter] : model->named_parameters()) {
    const Tensor gradient = parameter->stand_in.grad();
    parameter->stand_in = gradient.defined() ? gradient : at::zeros(parameter->shape);
  }
  size_t compared = 0;
  const TensorMap gradients = model_tensors(*model, at::kFloat);
  for (const auto& [key, value] : golden.expected) {
    if (!key.starts_with("grad.")) continue;
    const std::string name = key.substr(5);
    ASSERT_TRUE(gradients.contains(name)) << name;
    EXPECT_LT(share_of_tolerance(gradients.at(name), value, 3e-6, 3e-5), 1.0) << name;
    ++compared;
  }
  EXPECT_GT(compared, 10u);
}

TEST_P(Golden, WritesTheTensorsItRead) {
  const GoldenCase golden = GoldenCase::open(GetParam());
  const TensorMap written = model_tensors(*golden.load(), at::kFloat);
  const TensorMap file = read_safetensors(golden.model_folder / "model.safetensors");
  ASSERT_EQ(written.size(), file.size());
  for (const auto& [name, tensor] : file) {
    ASSERT_TRUE(written.contains(name)) << name;
    EXPECT_TRUE(at::equal(written.at(name), tensor)) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Golden, ::testing::ValuesIn(full_cases()), [](const auto& given) {
  std::string name = given.param;
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
});

}  // namespace
}  // namespace graft::test
