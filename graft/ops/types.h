// Which type an operation computes in, and which tensors its fast form takes.
#pragma once
#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>

#include "graft/ops/kernels.h"

namespace graft::ops {

/// float64 for float64, else float32: sums and statistics of 16-bit values are wider than they are.
inline at::ScalarType compute_type(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

/// Whether the kernels know x's type and place.
inline bool has_kernels(const at::Tensor& x) {
  return x.is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

/// Calls run with a value of x's element type.
template <class Run>
void by_type(const at::Tensor& x, const Run& run) {
  if (x.scalar_type() == at::kBFloat16) return run(Half{});
  run(float{});
}

template <class T>
const T* data(const at::Tensor& x) {
  return x.defined() ? x.const_data_ptr<T>() : nullptr;
}
template <class T>
T* writable(const at::Tensor& x) {
  return x.defined() ? x.mutable_data_ptr<T>() : nullptr;
}

/// at::empty, on this processor, without the ways that libtorch's choice of a kernel takes: these are most of
/// what a token's small operations cost.
inline at::Tensor empty(at::IntArrayRef sizes, at::ScalarType type) {
  return at::Tensor(at::detail::empty_cpu(sizes, type));
}

/// Whether autograd records what is done to x.
inline bool wants_gradient(const at::Tensor& x) {
  return x.defined() && x.requires_grad() && at::GradMode::is_enabled();
}

/// Another one once x was written to: what was packed of it is packed anew. 0 where nobody counts.
inline uint32_t version_of(const at::Tensor& x) {
  return x.is_inference() ? 0 : static_cast<uint32_t>(x._version());
}

/// An undefined tensor may not be handed to an autograd function; nothing may.
inline std::optional<at::Tensor> maybe(const at::Tensor& x) {
  return x.defined() ? std::optional(x) : std::nullopt;
}

/// Rows a thread takes at least, so that starting it pays.
inline int64_t grain(int64_t row_length) {
  return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, row_length));
}

}  // namespace graft::ops
