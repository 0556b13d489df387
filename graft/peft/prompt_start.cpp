#include "graft/peft/prompt_start.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "graft/base/error.h"
#include "graft/peft/adapt_linears.h"

namespace graft {
namespace {

Tensor mean_row(const Tensor& table, const std::vector<int64_t>& ids) {
  for (const int64_t id : ids) {
    if (id < 0 || id >= table.size(0))
      throw UsageError("prompt_tuning_init", "token {}, expected 0 to {}", id, table.size(0) - 1);
  }
  return widened(table.index_select(0, at::tensor(ids, at::kLong))).mean(0);
}

/// Keeps what a map gives, pass by pass: shared layers come by several times.
class Recorder : public LinearHook {
 public:
  explicit Recorder(std::vector<Tensor>& kept) : kept_(kept) {}
  Tensor forward(const Linear& base, const Tensor& x, RandomStream*) override {
    kept_.push_back(base.apply(x));
    return kept_.back();
  }

 private:
  std::vector<Tensor>& kept_;
};

struct KeysAndValues {
  std::vector<Tensor> keys, values;  // a layer each, [v, heads · head_dim]
};

KeysAndValues of_encoder(Model& model, const Batch& batch) {
  KeysAndValues out;
  std::string key, value;
  for (const Role& role : model.roles()) {
    if (role.name == "key") key = role.suffix;
    if (role.name == "value") value = role.suffix;
  }
  for (const auto& [path, module] : model.named_modules()) {
    auto* linear = dynamic_cast<Linear*>(module);
    if (linear && path.ends_with(key)) linear->hook = std::make_shared<Recorder>(out.keys);
    if (linear && path.ends_with(value)) linear->hook = std::make_shared<Recorder>(out.values);
  }
  model.run(batch);
  detach(model);
  return out;
}

KeysAndValues of_decoder(Model& model, Batch batch) {
  const ModelInfo& info = model.info();
  const int64_t length = batch.layout.rows();
  KvCache cache(info.num_layers, 1, length);
  batch.cache = &cache;
  model.run(batch);
  KeysAndValues out;
  for (int64_t layer = 0; layer < info.num_layers; ++layer) {
    out.keys.push_back(cache.keys(layer).slice(0, 0, length).flatten(1));
    out.values.push_back(cache.values(layer).slice(0, 0, length).flatten(1));
  }
  return out;
}

}  // namespace

StartTokens take_start_tokens(ConfigSource& source, const char* key) {
  StartTokens tokens;
  const auto given = source.json.find(key);
  if (source.from_file || given == source.json.end()) return tokens;
  const std::string where = fmt::format("method.{}", key);
  const bool nested = given->is_array() && !given->empty() && given->front().is_array();
  if (nested) {
    read_value(*given, tokens, where);
  } else {
    std::vector<int64_t> ids;
    read_value(*given, ids, where);
    for (const int64_t id : ids) tokens.push_back({id});
  }
  source.json.erase(key);
  return tokens;
}

Tensor start_rows(AdapterBuilder& builder, const std::string& key, const StartTokens& tokens) {
  const Tensor table = builder.model().word_embedding().weight->base;
  Tensor rows = builder.normal(key, {static_cast<int64_t>(tokens.size()), table.size(1)}, 1);
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (!tokens[i].empty()) rows[static_cast<int64_t>(i)].copy_(mean_row(table, tokens[i]));
  }
  return rows;
}

Tensor initial_prompt(AdapterBuilder& builder, const PromptInitConfig& config, const StartTokens& tokens) {
  const int64_t rows = config.num_virtual_tokens * *config.num_transformer_submodules;
  const std::string key = "prompt_embeddings", &init = config.prompt_tuning_init;
  const auto count = static_cast<int64_t>(tokens.size());
  if (builder.from_file() || (init == "RANDOM" && tokens.empty()))
    return builder.normal(key, {rows, *config.token_dim}, 1);
  const bool sampled = init == "SAMPLE_VOCAB" || init == "CLASS_LABEL";
  if (init != "SAMPLE_VOCAB" && tokens.empty()) {
    throw UsageError("prompt_tuning_init",
                     "{} without the tokens to start from, expected RANDOM, SAMPLE_VOCAB, a text or labels",
                     init);
  }
  const int64_t words = builder.model().word_embedding().rows();
  StartTokens chosen;
  for (int64_t i = 0; i < rows; ++i) {
    const bool drawn = sampled && (init == "SAMPLE_VOCAB" || i >= count);
    chosen.push_back(drawn ? std::vector<int64_t>{builder.draw_below(key, i, words)}
                           : tokens[static_cast<size_t>(i % count)]);
  }
  return start_rows(builder, key, chosen);
}

void settle_start(AdapterBuilder& builder, const PromptInitConfig& config) {
  if (builder.from_file()) return;
  const bool text = config.prompt_tuning_init == "TEXT" && !config.prompt_tuning_init_text.is_null();
  if (text && config.tokenizer_name_or_path.is_null())
    builder.config()["tokenizer_name_or_path"] = builder.config()["base_model_name_or_path"];
  if (text || config.prompt_tuning_init == "RANDOM" || config.prompt_tuning_init == "SAMPLE_VOCAB") return;
  builder.adapter().before_saving = [](TensorMap&, Json& file) {
    file["prompt_tuning_init"] = "RANDOM";
    file["prompt_tuning_init_text"] = nullptr;
  };
}

Tensor prefix_of_text(Model& model, const std::vector<int64_t>& ids, int64_t length) {
  const at::NoGradGuard no_grad;
  if (model.info().is_encoder_decoder) {
    throw UsageError("prefix_init_text",
                     "on a {} model, expected one with one stack: PEFT's prefixes of two share rows",
                     model.info().model_type);
  }
  std::vector<int64_t> repeated;
  for (int64_t i = 0; i < length; ++i) repeated.push_back(ids[static_cast<size_t>(i) % ids.size()]);
  Batch batch;
  batch.input_ids = at::tensor(repeated, at::kLong);
  batch.layout = Layout::of({length});
  const KeysAndValues found = model.info().is_decoder ? of_decoder(model, batch) : of_encoder(model, batch);
  std::vector<Tensor> parts;
  for (size_t layer = 0; layer < found.keys.size(); ++layer) {
    parts.push_back(widened(found.keys[layer]));
    parts.push_back(widened(found.values[layer]));
  }
  return at::cat(parts, 1);
}

}  // namespace graft
