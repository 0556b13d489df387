#include "graft/peft/lora.h"

#include <cmath>

#include "graft/base/error.h"
#include "graft/base/log.h"
#include "graft/peft/builder.h"
#include "graft/peft/dora.h"
#include "graft/peft/lora_layer.h"
#include "graft/peft/trainable_tokens.h"

namespace graft {
namespace {

struct LoraConfig : TargetedConfig {
  int64_t r = 8;
  double lora_alpha = 8, lora_dropout = 0;
  bool fan_in_fan_out = false, use_rslora = false, lora_bias = false;
  std::string bias = "none";
  Json init_lora_weights = true;
  Json rank_pattern = Json::object(), alpha_pattern = Json::object();
  Json trainable_token_indices;
  bool use_dora = false;
  // Keys whose only implemented value is the default.
  Json unset, loftq_config = Json::object(), not_set = false;
  std::string megatron_core = "megatron.core";
  int64_t qalora_group_size = 16;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    TargetedConfig::fields(self, visit);
    visit("r", self.r, "rank of the update", at_least<int64_t>(1));
    visit("lora_alpha", self.lora_alpha, "the update counts lora_alpha / r");
    visit("lora_dropout", self.lora_dropout, "dropout of the update's input", between(0.0, 1.0));
    visit("fan_in_fan_out", self.fan_in_fan_out,
          "the file holds the base's weight as [in, out]; set by the model");
    visit("bias", self.bias, "which biases of the base are trained too",
          one_of({"none", "all", "lora_only"}));
    visit("use_rslora", self.use_rslora, "the update counts lora_alpha / √r");
    visit("lora_bias", self.lora_bias, "a trained bias on B");
    visit("init_lora_weights", self.init_lora_weights,
          "true: B zero; gaussian: A normal; false: A and B random", only_values({true, false, "gaussian"}));
    visit("rank_pattern", self.rank_pattern, "ranks by pattern of the path; the first that matches counts");
    visit("alpha_pattern", self.alpha_pattern, "lora_alpha by pattern of the path");
    visit("trainable_token_indices", self.trainable_token_indices, "token ids whose embeddings are trained");
    visit("use_dora", self.use_dora, "magnitude and direction apart (DoRA)");
    unimplemented(self, visit);
  }

  template <class Self, class Visitor>
  static void unimplemented(Self& self, Visitor& visit) {
    for (const char* name : {"layer_replication", "alora_invocation_tokens", "arrow_config", "corda_config",
                             "eva_config", "kasa_config", "lora_ga_config", "monteclora_config",
                             "target_parameters", "use_bdlora", "velora_config", "megatron_config"}) {
      visit(name, self.unset, "not implemented", only_unset());
    }
    for (const char* name : {"use_qalora", "ensure_weight_tying"}) {
      visit(name, self.not_set, "not implemented", only_unset());
    }
    visit("loftq_config", self.loftq_config, "not implemented", only_unset());
    visit("megatron_core", self.megatron_core, "without effect");
    visit("qalora_group_size", self.qalora_group_size, "without effect");
  }
};

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
