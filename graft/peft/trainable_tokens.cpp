#include "graft/peft/trainable_tokens.h"

#include <ATen/ATen.h>

#include "graft/base/error.h"

namespace graft {
namespace {

/// The table with its trained rows in place.
Tensor replaced(const Tensor& table, const TokenRows& rows) {
  Tensor out = widened(table).clone();
  out.index_copy_(0, rows.indices, rows.rows.detach().to(out.scalar_type()));
  return out;
}

/// The path of the model's word embedding; of several that share a table the shortest ("shared").
std::string word_path(Model& model) {
  const std::shared_ptr<Parameter> table = model.word_embedding().weight;
  std::string shortest;
  for (const auto& [path, module] : model.named_modules()) {
    const auto* embedding = dynamic_cast<Embedding*>(module);
    if (!embedding || embedding->weight != table) continue;
    if (shortest.empty() || path.size() < shortest.size()) shortest = path;
  }
  return shortest;
}

TokenRows token_rows(AdapterBuilder& builder, const Embedding& embedding, const std::vector<int64_t>& indices,
                     const std::string& path, const std::string& suffix) {
  TokenRows rows;
  rows.slots = at::full({embedding.rows()}, -1, at::kLong);
  for (size_t i = 0; i < indices.size(); ++i) {
    if (indices[i] < 0 || indices[i] >= embedding.rows()) {
      throw UsageError("trainable_token_indices", "{} for {}, expected 0 to {}", indices[i], path,
                       embedding.rows() - 1);
    }
    rows.slots[indices[i]] = static_cast<int64_t>(i);
  }
  rows.indices = at::tensor(indices);
  rows.rows =
      builder.train(file_key(path + suffix), widened(embedding.weight->base.index_select(0, rows.indices)));
  return rows;
}

constexpr const char* kOptionSuffix = ".token_adapter.trainable_tokens_delta";
constexpr const char* kMethodSuffix = ".trainable_tokens_delta";

/// → the paths of the modules that share the table.
std::vector<std::string> train_rows(AdapterBuilder& builder, const std::string& path, Embedding& embedding,
                                    const std::vector<int64_t>& indices, const std::string& suffix) {
  if (indices.empty()) throw UsageError("trainable_token_indices", "an empty list, expected token ids");
  const TokenRows rows = token_rows(builder, embedding, indices, path, suffix);
  std::vector<std::string> tied;
  builder.hook(path, std::shared_ptr<EmbeddingHook>(std::make_shared<TokenEmbedding>(rows)));
  for (const auto& [other, module] : builder.model().named_modules()) {
    if (module == &embedding) continue;
    if (const auto* head = dynamic_cast<Linear*>(module); head && head->weight == embedding.weight) {
      builder.hook(other, std::shared_ptr<LinearHook>(std::make_shared<TokenHead>(rows)));
      tied.push_back(other);
    } else if (const auto* table = dynamic_cast<Embedding*>(module);
               table && table->weight == embedding.weight) {
      builder.hook(other, std::shared_ptr<EmbeddingHook>(std::make_shared<TokenEmbedding>(rows)));
      tied.push_back(other);
    }
  }
  return tied;
}

/// The first embedding whose path ends with the name. Errors: UsageError.
std::pair<std::string, Embedding*> find_embedding(Model& model, const std::string& name) {
  for (const auto& [path, module] : model.named_modules()) {
    auto* embedding = dynamic_cast<Embedding*>(module);
    if (embedding && ends_with_name(path, name)) return {path, embedding};
  }
  throw UsageError("trainable_token_indices", "{} is no embedding of this model, expected {}", name,
                   word_path(model));
}

struct TrainableTokensConfig : CommonConfig {
  Json token_indices = Json::array(), target_modules;
  bool init_weights = true;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    CommonConfig::fields(self, visit);
    visit("token_indices", self.token_indices, "ids of the tokens whose embeddings are trained");
    visit("target_modules", self.target_modules, "the embedding; null: the model's word embedding");
    visit("init_weights", self.init_weights, "rows start as the base's");
  }
};

/// The embedding that a file or recipe names: null, a path, or a list of one name.
std::string target_path(Model& model, const Json& target) {
  if (target.is_null()) return word_path(model);
  if (target.is_array() && target.size() == 1 && target[0].is_string()) {
    return find_embedding(model, target[0].get<std::string>()).first;
  }
  if (!target.is_string()) fail_value(target, "target_modules", "the name of one embedding");
  return find_embedding(model, target.get<std::string>()).first;
}

Adapter create(const Json& given, Model& model, uint64_t seed) {
  ConfigSource source(given);
  const auto config = read_method_config<TrainableTokensConfig>(source, kTrainableTokens.peft_type, model);
  AdapterBuilder builder(kTrainableTokens, source, model, seed);
  std::vector<int64_t> indices;
  read_value(config.token_indices, indices, "token_indices");
  const std::string path = target_path(model, config.target_modules);
  if (config.target_modules.is_null()) builder.config()["target_modules"] = path;
  auto& embedding = dynamic_cast<Embedding&>(*model.find(path));
  for (const std::string& tied : train_rows(builder, path, embedding, indices, kMethodSuffix)) {
    builder.keep(file_key(tied + kMethodSuffix),
                 builder.adapter().trained.at(file_key(path + kMethodSuffix)));
  }
  return builder.finish();
}

}  // namespace

Tensor TokenEmbedding::forward(const Embedding& base, const Tensor& ids) {
  const Tensor out = base.apply(ids);
  const Tensor slots = rows_.slots.index_select(0, ids);
  const Tensor places = at::nonzero(slots.ge(0)).squeeze(1);
  if (places.numel() == 0) return out;
  const Tensor trained = rows_.rows.index_select(0, slots.index_select(0, places));
  return out.index_copy(0, places, trained.to(out.scalar_type()));
}

std::optional<Tensor> TokenEmbedding::merged(const Embedding& base) const {
  return replaced(base.weight->value(), rows_);
}

Tensor TokenHead::forward(const Linear& base, const Tensor& x, RandomStream*) {
  const Tensor y = base.apply(x);
  Tensor trained = at::matmul(x.to(rows_.rows.scalar_type()), rows_.rows.t());
  if (base.bias) trained = trained + base.bias->value().index_select(0, rows_.indices);
  return y.index_copy(1, rows_.indices, trained.to(y.scalar_type()));
}

std::optional<Affine> TokenHead::merged(const Linear& base) const {
  return Affine{replaced(base.weight->value(), rows_), base.bias ? base.bias->value() : Tensor()};
}

void train_tokens(AdapterBuilder& builder, const Json& indices) {
  if (indices.is_null()) return;
  Model& model = builder.model();
  if (!indices.is_object()) {
    std::vector<int64_t> list;
    read_value(indices, list, "trainable_token_indices");
    const std::string path = word_path(model);
    train_rows(builder, path, dynamic_cast<Embedding&>(*model.find(path)), list, kOptionSuffix);
    return;
  }
  for (const auto& [name, value] : indices.items()) {
    std::vector<int64_t> list;
    read_value(value, list, "trainable_token_indices." + name);
    const auto [path, embedding] = find_embedding(model, name);
    train_rows(builder, path, *embedding, list, kOptionSuffix);
  }
}

const TuningMethod kTrainableTokens = {"trainable_tokens", "TRAINABLE_TOKENS", create,
                                       method_help<TrainableTokensConfig>};

}  // namespace graft
