#include "graft/peft/lora.h"

#include <cmath>

#include "graft/base/error.h"
#include "graft/base/log.h"
#include "graft/peft/adapt_linears.h"
#include "graft/peft/builder.h"
#include "graft/peft/dora.h"
#include "graft/peft/eva.h"
#include "graft/peft/lora_init.h"
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

/// → the map's tensors.
LoraTensors adapt(AdapterBuilder& builder, const LoraConfig& config, const std::string& path,
                  const Linear& linear) {
  const int64_t r = rank_at(path, config.rank_pattern, config.r);
  LoraTensors lora = tensors_for(config, path);
  start_lora(builder, config, {path, linear, r}, lora);
  if (config.lora_bias) {
    const std::string key = file_key(path + ".lora_B.bias");
    const double bound = 1 / std::sqrt(static_cast<double>(r));
    const bool random = config.init_lora_weights == Json(false);
    lora.bias = builder.train(
        key, random ? builder.uniform(key, {linear.out()}, bound) : builder.zeros({linear.out()}));
  }
  if (!config.use_dora) {
    builder.hook(path, std::shared_ptr<LinearHook>(std::make_shared<LoraLinear>(lora)));
    return lora;
  }
  const Tensor norms =
      builder.from_file() ? builder.zeros({linear.out()}) : dora_norms(linear.weight->base, lora);
  const Tensor magnitude = builder.train(file_key(path + ".lora_magnitude_vector"), norms);
  builder.hook(path, std::shared_ptr<LinearHook>(std::make_shared<DoraLinear>(lora, magnitude)));
  return lora;
}

void adapt(AdapterBuilder& builder, const LoraConfig& config, const std::string& path,
           const Embedding& embedding) {
  if (config.lora_bias) {
    throw UsageError("lora_bias", "with the embedding {} as a target, expected linear maps only", path);
  }
  const int64_t r = rank_at(path, config.rank_pattern, config.r);
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

void check(const LoraConfig& config, const Model& model) {
  const Json& init = config.init_lora_weights;
  if (config.use_dora && config.lora_bias)
    throw UsageError("lora_bias", "with use_dora, expected one of them");
  if (config.use_dora && starts_from_weight(init))
    throw UsageError("use_dora", "with init_lora_weights {}, expected one of them", init.dump());
  if (config.lora_bias && !init.is_boolean())
    throw UsageError("lora_bias", "with init_lora_weights {}, expected true or false there", init.dump());
  if (layer_ranges(config.layer_replication) != model.layer_replication) {
    throw UsageError("layer_replication", "{}, but the model was loaded otherwise, expected the same layers",
                     config.layer_replication.dump());
  }
}

Adapter create(const Json& given, Model& model, uint64_t seed) {
  return create_lora(kLora, given, model, seed);
}

/// The file's own form, where the recipe asks for plain LoRA; the key that asks is graft's own.
void set_saved_form(Adapter& adapter, const LoraConfig& config, std::map<std::string, LoraTensors> maps) {
  if (!config.save_as_lora) {
    adapter.config.erase("save_as_lora");
    return;
  }
  if (!starts_from_weight(config.init_lora_weights)) maps.clear();
  adapter.before_saving = [maps](TensorMap& tensors, Json& document) {
    document.erase("save_as_lora");
    if (!maps.empty()) convert_to_plain(maps, tensors, document);
  };
}

}  // namespace

std::vector<std::pair<int64_t, int64_t>> layer_ranges(const Json& layer_replication) {
  std::vector<std::pair<int64_t, int64_t>> out;
  if (layer_replication.is_null()) return out;
  std::vector<std::vector<int64_t>> rows;
  read_value(layer_replication, rows, "layer_replication");
  for (const std::vector<int64_t>& row : rows) {
    if (row.size() != 2)
      fail_value(layer_replication, "layer_replication", "pairs of a first and a last layer");
    out.emplace_back(row[0], row[1]);
  }
  return out;
}

Adapter create_lora(const TuningMethod& method, const Json& given, Model& model, uint64_t seed) {
  ConfigSource source(given);
  LoraConfig config = read_method_config<LoraConfig>(source, method.peft_type, model);
  check(config, model);
  AdapterBuilder builder(method, source, model, seed);
  const Targets targets = builder.find(config, TargetColumn::lora);
  builder.set_fan_in_fan_out(targets);
  std::map<std::string, LoraTensors> maps;
  for (const auto& [path, linear] : targets.linears) {
    maps[path] = adapt(builder, config, path, *linear);
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
  Adapter adapter = builder.finish();
  set_saved_form(adapter, config, std::move(maps));
  return adapter;
}

const TuningMethod kLora = {
    "lora", "LORA", create, method_help<LoraConfig>, 0, nullptr, create_lora_from_data};

}  // namespace graft
