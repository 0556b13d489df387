#include "graft/nn/embedding.h"

#include <ATen/ATen.h>

#include <span>

#include "graft/base/error.h"

namespace graft {

Embedding::Embedding(int64_t rows, int64_t dim) : weight(add("weight", {rows, dim})) {}

Embedding::Embedding(std::shared_ptr<Parameter> shared) : weight(std::move(shared)) { add("weight", weight); }

Tensor Embedding::forward(const Tensor& ids) const {
  const Tensor rows = hook ? hook->forward(*this, ids) : apply(ids);
  // The factor in the rows' own type, as transformers rounds it.
  return scale == 1 ? rows : rows * at::scalar_tensor(scale, rows.options().requires_grad(false));
}

Tensor Embedding::apply(const Tensor& ids) const {
  const Tensor all = ids.contiguous();
  for (const int64_t id : std::span(all.const_data_ptr<int64_t>(), static_cast<size_t>(all.numel()))) {
    if (id < 0 || id >= rows()) {
      throw DataError("embedding", "id {}, expected 0 to {}; do tokenizer and model belong together?", id,
                      rows() - 1);
    }
  }
  // The lookup first, the conversion after: only the rows that are read are converted.
  return at::embedding(weight->value(), ids).to(weight->base.scalar_type());
}

Tensor Embedding::inputs(const Tensor& ids, const Tensor& embeddings) const {
  return embeddings.defined() ? embeddings.to(weight->base.scalar_type()) : forward(ids);
}

}  // namespace graft
