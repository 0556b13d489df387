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

std::string path_of(Model& model, const Module* wanted) {
  for (const auto& [path, module] : model.named_modules()) {
    if (module == wanted) return path;
  }
  throw InternalError("model", "a module without a path");
}

TokenRows token_rows(AdapterBuilder& builder, const Embedding& embedding, const std::vector<int64_t>& indices,
                     const std::string& path) {
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
  rows.rows = builder.train(file_key(path + ".token_adapter.trainable_tokens_delta"),
                            widened(embedding.weight->base.index_select(0, rows.indices)));
  return rows;
}

void train_rows(AdapterBuilder& builder, const std::string& path, Embedding& embedding,
                const std::vector<int64_t>& indices) {
  if (indices.empty()) throw UsageError("trainable_token_indices", "an empty list, expected token ids");
  const TokenRows rows = token_rows(builder, embedding, indices, path);
  builder.hook(path, std::shared_ptr<EmbeddingHook>(std::make_shared<TokenEmbedding>(rows)));
  for (const auto& [other, module] : builder.model().named_modules()) {
    if (module == &embedding) continue;
    if (const auto* head = dynamic_cast<Linear*>(module); head && head->weight == embedding.weight) {
      builder.hook(other, std::shared_ptr<LinearHook>(std::make_shared<TokenHead>(rows)));
    } else if (const auto* table = dynamic_cast<Embedding*>(module);
               table && table->weight == embedding.weight) {
      builder.hook(other, std::shared_ptr<EmbeddingHook>(std::make_shared<TokenEmbedding>(rows)));
    }
  }
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
    Embedding& embedding = model.word_embedding();
    train_rows(builder, path_of(model, &embedding), embedding, list);
    return;
  }
  for (const auto& [name, value] : indices.items()) {
    std::vector<int64_t> list;
    read_value(value, list, "trainable_token_indices." + name);
    bool found = false;
    for (const auto& [path, module] : model.named_modules()) {
      auto* embedding = dynamic_cast<Embedding*>(module);
      if (!embedding || found || !ends_with_name(path, name)) continue;
      train_rows(builder, path, *embedding, list);
      found = true;
    }
    if (!found) throw UsageError("trainable_token_indices", "{} is no embedding of this model", name);
  }
}

}  // namespace graft
