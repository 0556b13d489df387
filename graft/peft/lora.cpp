#include "graft/peft/lora.h"

#include <cmath>

#include "graft/base/error.h"
#include "graft/base/log.h"
#include "graft/peft/builder.h"
#include "graft/peft/dora.h"
#include "graft/peft/lora_config.h"
#include "graft/peft/lora_layer.h"
#include "graft/peft/trainable_tokens.h"

namespace graft {
namespace {

LoraTensors tensors_for(const LoraConfig& config, const std::string& path) {
  LoraTensors lora;
  const double alpha = pattern_value(path, config.alpha_pattern, config.lora_alpha, "alpha_pattern");
  const auto r = static_cast<double>(config.r);
  const double rank = pattern_value(path, config.rank_pattern, r, "rank_pattern");
  lora.scale = config.use_rslora ? alpha / std::sqrt(rank) : alpha / rank;
  lora.dropout = config.lora_dropout;
  return lora;
}

int64_t rank_for(const LoraConfig& config, const std::string& path) {
  const double rank = pattern_value(path, config.rank_pattern, static_cast<double>(config.r), "rank_pattern");
  if (rank < 1 || rank != std::floor(rank) || rank > 1e6) {
    throw UsageError("rank_pattern", "{} for {}, expected a whole number of at least 1", rank, path);
  }
  return static_cast<int64_t>(rank);
}

void adapt(AdapterBuilder& builder, const LoraConfig& config, const std::string& path, const Linear& linear) {
  const int64_t r = rank_for(config, path);
  const std::string a = file_key(path + ".lora_A.weight"), b = file_key(path + ".lora_B.weight");
  const double bound = 1 / std::sqrt(static_cast<double>(linear.in()));
  const double rank_bound = 1 / std::sqrt(static_cast<double>(r));
  const bool random_b = config.init_lora_weights == Json(false);
  LoraTensors lora = tensors_for(config, path);
  lora.a = builder.train(a, config.init_lora_weights == Json("gaussian")
                                ? builder.normal(a, {r, linear.in()}, 1 / static_cast<double>(r))
                                : builder.uniform(a, {r, linear.in()}, bound));
  lora.b = builder.train(
      b, random_b ? builder.uniform(b, {linear.out(), r}, rank_bound) : builder.zeros({linear.out(), r}));
  if (config.lora_bias) {
    const std::string key = file_key(path + ".lora_B.bias");
    lora.bias = builder.train(
        key, random_b ? builder.uniform(key, {linear.out()}, rank_bound) : builder.zeros({linear.out()}));
  }
  if (!config.use_dora) {
    builder.hook(path, std::shared_ptr<LinearHook>(std::make_shared<LoraLinear>(lora)));
    return;
  }
  const Tensor norms =
      builder.from_file() ? builder.zeros({linear.out()}) : dora_norms(linear.weight->base, lora);
  const Tensor magnitude = builder.train(file_key(path + ".lora_magnitude_vector"), norms);
  builder.hook(path, std::shared_ptr<LinearHook>(std::make_shared<DoraLinear>(lora, magnitude)));
}

void adapt(AdapterBuilder& builder, const LoraConfig& config, const std::string& path,
           const Embedding& embedding) {
  if (config.lora_bias) {
    throw UsageError("lora_bias", "with the embedding {} as a target, expected linear maps only", path);
  }
  const int64_t r = rank_for(config, path);
  const std::string a = file_key(path + ".lora_embedding_A"), b = file_key(path + ".lora_embedding_B");
  const bool random_a = config.init_lora_weights == Json(false);
  LoraTensors lora = tensors_for(config, path);
  lora.a = builder.train(
      a, random_a ? builder.normal(a, {r, embedding.rows()}, 1) : builder.zeros({r, embedding.rows()}));
  lora.b = builder.train(b, builder.normal(b, {embedding.dim(), r}, 1));
  if (!config.use_dora) {
    builder.hook(path, std::shared_ptr<EmbeddingHook>(std::make_shared<LoraEmbedding>(lora)));
    return;
  }
  const Tensor norms =
      builder.from_file() ? builder.zeros({embedding.dim()}) : dora_norms(embedding.weight->base.t(), lora);
  const Tensor magnitude = builder.train(file_key(path + ".lora_magnitude_vector"), norms);
  builder.hook(path, std::shared_ptr<EmbeddingHook>(std::make_shared<DoraEmbedding>(lora, magnitude)));
}

/// PEFT saves the base's table beside the update where a target bears one of these two names.
void keep_base_table(AdapterBuilder& builder, const std::string& path, const Parameter& weight) {
  for (const char* name : {"embed_tokens", "lm_head"}) {
    if (ends_with_name(path, name)) builder.keep(file_key(path + ".base_layer.weight"), weight.base);
  }
}

void warn_unused_patterns(const char* name, const Json& patterns, const Targets& targets) {
  if (!patterns.is_object()) return;
  for (const auto& [key, value] : patterns.items()) {
    const Json one = {{key, value}};
    const auto unmatched = [&](const auto& target) {
      return std::isnan(pattern_value(target.first, one, std::nan(""), name));
    };
    if (std::all_of(targets.linears.begin(), targets.linears.end(), unmatched) &&
        std::all_of(targets.embeddings.begin(), targets.embeddings.end(), unmatched)) {
      warn("{}: {} matches no adapted module", name, key);
    }
  }
}

Adapter create(const Json& given, Model& model, uint64_t seed) {
  ConfigSource source(given);
  LoraConfig config = read_method_config<LoraConfig>(source, kLora.peft_type, model);
  if (config.use_dora && config.lora_bias)
    throw UsageError("lora_bias", "with use_dora, expected one of them");
  AdapterBuilder builder(kLora, source, model, seed);
  const Targets targets = builder.find(config, TargetColumn::lora);
  builder.set_fan_in_fan_out(targets);
  for (const auto& [path, linear] : targets.linears) {
    adapt(builder, config, path, *linear);
    keep_base_table(builder, path, *linear->weight);
  }
  for (const auto& [path, embedding] : targets.embeddings) {
    adapt(builder, config, path, *embedding);
    keep_base_table(builder, path, *embedding->weight);
  }
  builder.train_saved_modules(saved_modules(config.modules_to_save, config.task_type));
  builder.train_biases(config.bias, targets);
  train_tokens(builder, config.trainable_token_indices);
  warn_unused_patterns("rank_pattern", config.rank_pattern, targets);
  warn_unused_patterns("alpha_pattern", config.alpha_pattern, targets);
  return builder.finish();
}

}  // namespace

const TuningMethod kLora = {"lora", "LORA", create};

}  // namespace graft
