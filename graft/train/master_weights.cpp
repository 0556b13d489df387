#include "graft/train/master_weights.h"

#include <ATen/ATen.h>

#include "graft/base/error.h"

namespace graft {

void drop_master_weights(const Adapter& adapter, const Model& model) {
  if (model.dtype != at::kBFloat16) {
    throw UsageError("train.master_weights", "none with model.dtype {}, expected bfloat16",
                     at::toString(model.dtype));
  }
  if (adapter.compute_stand_ins)
    throw UsageError("train.master_weights", "none, expected float32: this method computes the weights");
  for (const auto& [path, tensor] : adapter.stand_ins) {
    if (tensor.dim() < 2) continue;
    Tensor leaf = tensor;
    leaf.set_data(tensor.detach().to(at::kBFloat16));
  }
}

}  // namespace graft
