#include "graft/ops/dropout.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "graft/ops/philox.h"
#include "graft/ops/types.h"

namespace graft::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// x with the mask of (p, key); forward and backward alike.
Tensor masked(const Tensor& x, double p, uint64_t key) {
  const Tensor in = x.contiguous();
  Tensor out = at::empty(in.sizes(), in.options());
  const int64_t groups = (in.numel() + 63) / 64;
  by_type(in, [&]<class T>(T) {
    const T* from = data<T>(in);
    T* const to = writable<T>(out);
    at::parallel_for(0, groups, 256, [&](int64_t begin, int64_t end) {
      kernels<T>().drop({begin * 64, std::min(end * 64, in.numel()), key, drop_threshold(p),
                         static_cast<float>(1.0 / (1.0 - p))},
                        from, to);
    });
  });
  return out;
}

class DropoutOp : public torch::autograd::Function<DropoutOp> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x, double p, uint64_t key) {
    ctx->saved_data["p"] = p;
    ctx->saved_data["key"] = static_cast<int64_t>(key);
    return masked(x, p, key);
  }
  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    return {masked(gradients[0], ctx->saved_data["p"].toDouble(),
                   static_cast<uint64_t>(ctx->saved_data["key"].toInt())),
            Tensor(), Tensor()};
  }
};

}  // namespace

Tensor dropout(const Tensor& x, double p, uint64_t key) {
  if (p <= 0 || p >= 1 || !has_kernels(x)) return dropout_plain(x, p, key);
  return wants_gradient(x) ? DropoutOp::apply(x, p, key) : masked(x, p, key);
}

Tensor dropout_plain(const Tensor& x, double p, uint64_t key) {
  if (p <= 0) return x;
  if (p >= 1) return x * 0;
  const auto type = compute_type(x);
  Tensor mask = at::empty(x.sizes(), at::kFloat);
  float* const values = mask.data_ptr<float>();
  const uint32_t threshold = drop_threshold(p);
  for (int64_t i = 0; i < mask.numel(); ++i) {
    values[i] = philox_word(static_cast<uint64_t>(i), PhiloxKey(key)) < threshold ? 0.0f : 1.0f;
  }
  return (x.to(type) * (mask.to(type) * (1.0 / (1.0 - p)))).to(x.scalar_type());
}

}  // namespace graft::ops
