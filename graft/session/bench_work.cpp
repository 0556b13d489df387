#include "graft/session/bench_work.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "graft/base/random.h"
#include "graft/ops/cross_entropy.h"
#include "graft/peft/adapter.h"
#include "graft/session/session.h"
#include "graft/tasks/packing.h"
#include "graft/tasks/token_loss.h"
#include "graft/train/trainer.h"

namespace graft {
namespace {

Json encoder(int64_t hidden, int64_t layers, int64_t heads, int64_t inner) {
  return {{"model_type", "bert"},        {"architectures", {"BertForSequenceClassification"}},
          {"vocab_size", 30522},         {"hidden_size", hidden},
          {"num_hidden_layers", layers}, {"num_attention_heads", heads},
          {"intermediate_size", inner},  {"max_position_embeddings", 512}};
}

struct DecoderShape {
  const char* family;
  const char* architecture;
  int64_t hidden, layers, heads, key_heads, inner, words;
  bool tied = true;
};
Json decoder(const DecoderShape& s) {
  return {{"model_type", s.family},
          {"architectures", {s.architecture}},
          {"vocab_size", s.words},
          {"hidden_size", s.hidden},
          {"num_hidden_layers", s.layers},
          {"num_attention_heads", s.heads},
          {"num_key_value_heads", s.key_heads},
          {"intermediate_size", s.inner},
          {"max_position_embeddings", 2048},
          {"tie_word_embeddings", s.tied},
          {"rope_theta", 10000.0},
          {"rms_norm_eps", 1e-5},
          {"hidden_act", "silu"}};
}

const Json kQueryValue = {
    {"name", "lora"}, {"r", 8}, {"lora_alpha", 16}, {"target_modules", {"query", "value"}}};
const Json kAllLinears = {
    {"name", "lora"},
    {"r", 8},
    {"lora_alpha", 16},
    {"target_modules", {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}}};

/// Sequences of random ids: a classifier's with any label, or a language model's blocks.
class RandomTask : public Task {
 public:
  explicit RandomTask(HeadKind head) : head_(head) {}
  HeadKind head() const override { return head_; }
  std::vector<std::string> label_names() const override { return {}; }
  int64_t num_labels() const override { return classifies() ? 2 : 0; }
  std::string problem_type() const override { return ""; }
  std::vector<Features> features(const std::vector<Example>&) const override { return {}; }
  TaskBatch collate(const std::vector<Features>& features, const std::vector<int64_t>& indices,
                    const Model& model, int64_t) const override {
    TaskBatch out = pack(features, indices);
    out.tokens = out.batch.layout.rows();
    if (classifies()) {
      out.batch.rows = model.head_rows(out.batch.layout, out.batch.input_ids);
      out.labels = at::arange(out.batch.layout.sequences(), at::kLong).remainder(2);
      out.label_units = out.batch.layout.sequences();
      return out;
    }
    std::vector<int64_t> labels;
    for (const int64_t i : indices) {
      const auto& ids = features[static_cast<size_t>(i)].input_ids;
      labels.insert(labels.end(), ids.begin(), ids.end());
    }
    set_token_labels(out, labels, Prediction::next);
    return out;
  }
  Result evaluate(Model& model, const Batch& prepared, const TaskBatch& batch) const override {
    if (!classifies()) return token_loss(model, prepared, batch);
    return {ops::cross_entropy(model.logits(model.run(prepared), prepared), batch.labels), Tensor()};
  }
  std::unique_ptr<Metrics> metrics() const override { return token_metrics(); }
  std::string default_metric() const override { return "loss"; }
  bool larger_is_better(const std::string&) const override { return false; }

 private:
  bool classifies() const { return head_ == HeadKind::sequence_classification; }
  HeadKind head_;
};

/// MRPC's pairs have 53 tokens on average, deviation 16, between 16 and 104.
int64_t mrpc_length(RandomStream& draw) {
  return std::clamp<int64_t>(static_cast<int64_t>(53.0 + 16.0 * draw.normal()), 16, 104);
}

std::vector<Features> random_features(const BenchWork& work, int64_t count, int64_t words) {
  RandomStream draw(1, "bench");
  std::vector<Features> out(static_cast<size_t>(count));
  for (Features& one : out) {
    one.input_ids.resize(static_cast<size_t>(work.block > 0 ? work.block : mrpc_length(draw)));
    for (int64_t& id : one.input_ids) id = static_cast<int64_t>(draw.below(static_cast<uint64_t>(words)));
  }
  return out;
}

/// Operations of one pass over all linears that are applied to every row, and of the head over the
/// vocabulary.
double linear_parameters(const Model& model, bool over_vocabulary) {
  double total = 0;
  for (const auto& [path, parameter] : model.named_parameters()) {
    const bool table = path.find("embed") != std::string::npos;
    const bool head = path.starts_with("classifier") || path.find("pooler") != std::string::npos ||
                      path.starts_with("lm_head");
    if (parameter->shape.size() == 2 && !table && !head)
      total += static_cast<double>(parameter->base.numel());
  }
  const ModelInfo& info = model.info();
  return total + (over_vocabulary ? static_cast<double>(info.vocab_size * info.hidden_size) : 0.0);
}

/// Forward two products of L × L × width a layer, backward four; half of them under a causal mask.
double attention_operations(const Model& model, const std::vector<Features>& features) {
  const ModelInfo& info = model.info();
  double pairs = 0;
  for (const Features& one : features)
    pairs += static_cast<double>(one.input_ids.size() * one.input_ids.size());
  if (info.is_decoder) pairs /= 2;
  return 6.0 * 2.0 * pairs * static_cast<double>(info.num_heads * info.head_dim * info.num_layers);
}

}  // namespace

const std::vector<BenchWork>& bench_work_table() {
  const auto classify = HeadKind::sequence_classification;
  static const std::vector<BenchWork> table = {
      {"bert-base", encoder(768, 12, 12, 3072), classify, kQueryValue, 32, 0},
      {"minilm", encoder(384, 6, 12, 1536), classify, kQueryValue, 32, 0},
      {"smollm2-135m", decoder({"llama", "LlamaForCausalLM", 576, 30, 9, 3, 1536, 49152}),
       HeadKind::causal_lm, kAllLinears, 4, 512},
      {"qwen2.5-0.5b", decoder({"qwen2", "Qwen2ForCausalLM", 896, 24, 14, 2, 4864, 151936}),
       HeadKind::causal_lm, kAllLinears, 4, 512},
      {"tinyllama-1.1b", decoder({"llama", "LlamaForCausalLM", 2048, 22, 32, 4, 5632, 32000, false}),
       HeadKind::causal_lm, kAllLinears, 4, 512},
      {"tiny", decoder({"llama", "LlamaForCausalLM", 64, 2, 4, 2, 128, 512}), HeadKind::causal_lm,
       kAllLinears, 4, 64},
  };
  return table;
}

BenchMeasurement measure_training(const BenchWork& work, const std::string& dtype, int64_t steps) {
  LoadOptions load;
  set_dtype(load, dtype);
  load.head = work.head;
  if (work.head == HeadKind::sequence_classification) load.num_labels = 2;
  const auto model = new_model(work.config, load);
  Adapter adapter = tuning_method(work.method["name"].get<std::string>()).create(work.method, *model, 1);
  attach(adapter, *model);
  const RandomTask task(work.head);
  constexpr int64_t kWarm = 2;
  const auto features = random_features(work, work.batch * (steps + kWarm), model->info().vocab_size);
  TrainConfig config;
  config.epochs = 1;
  config.batch_size = work.batch;
  config.shuffle = false;
  config.save_every = 1000000;
  Trainer trainer({*model, adapter, task, features, {}}, config, {});
  std::vector<double> rates, times;
  TrainEvents events;
  events.on_step = [&](const StepReport& report) {
    if (report.step <= kWarm) return;
    rates.push_back(static_cast<double>(report.tokens) / report.seconds);
    times.push_back(report.seconds);
  };
  trainer.run(events);
  double tokens = 0;
  for (const Features& one : features) tokens += static_cast<double>(one.input_ids.size());
  const double linears = 4.0 * linear_parameters(*model, work.head == HeadKind::causal_lm);
  BenchMeasurement out{0, linears + attention_operations(*model, features) / tokens, 0};
  std::sort(rates.begin(), rates.end());
  std::sort(times.begin(), times.end());
  out.tokens_per_second = rates[rates.size() / 2];
  out.step_seconds = times[times.size() / 2];
  detach(*model);
  return out;
}

}  // namespace graft
