// modules_to_save at one end of tied tensors: a table of its own, while the other end keeps the base's.
#pragma once
#include "graft/nn/embedding.h"
#include "graft/nn/linear.h"

namespace graft {

class SavedEmbedding : public EmbeddingHook {
 public:
  /// table [rows, dim], trained.
  explicit SavedEmbedding(Tensor table) : table_(std::move(table)) {}
  Tensor forward(const Embedding& base, const Tensor& ids) override;
  std::optional<Tensor> merged(const Embedding&) const override { return table_.detach(); }

 private:
  Tensor table_;
};

class SavedLinear : public LinearHook {
 public:
  /// weight [out, in], trained.
  explicit SavedLinear(Tensor weight) : weight_(std::move(weight)) {}
  Tensor forward(const Linear& base, const Tensor& x, RandomStream* dropout) override;
  std::optional<Affine> merged(const Linear& base) const override;

 private:
  Tensor weight_;
};

}  // namespace graft
