// The second place where a method acts: inside an embedding.
#pragma once
#include <optional>

#include "graft/nn/module.h"

namespace graft {

class Embedding;

class EmbeddingHook {
 public:
  virtual ~EmbeddingHook() = default;
  /// ids [T] int64 → [T, dim]; base.apply(ids) is the lookup under the hook.
  virtual Tensor forward(const Embedding& base, const Tensor& ids) = 0;
  /// The plain table this amounts to [rows, dim], float32; nothing where there is none.
  virtual std::optional<Tensor> merged(const Embedding&) const { return {}; }
};

class Embedding : public Module {
 public:
  Embedding(int64_t rows, int64_t dim);
  /// Shares `weight` with another module.
  explicit Embedding(std::shared_ptr<Parameter> weight);
  /// ids [T] int64 → [T, dim]. Errors: DataError for an id outside the table.
  Tensor forward(const Tensor& ids) const;
  Tensor apply(const Tensor& ids) const;
  /// `embeddings` [T, dim] in the table's type where they are given, else the rows of `ids`.
  Tensor inputs(const Tensor& ids, const Tensor& embeddings) const;
  int64_t rows() const { return weight->shape[0]; }
  int64_t dim() const { return weight->shape[1]; }

  std::shared_ptr<Parameter> weight;  // [rows, dim]
  double scale = 1;                   // of what forward gives (Gemma); not of apply
  std::shared_ptr<EmbeddingHook> hook;
};

}  // namespace graft
