#include "graft/ops/few_values.h"

#include <ATen/ATen.h>
#include <ATen/ops/view_cpu_dispatch.h>

#include <algorithm>

#include "graft/ops/parallel.h"
#include "graft/ops/types.h"

namespace graft::ops {
namespace {

constexpr int64_t kFew = 16384;

bool is_plain(const Tensor& x) { return has_kernels(x) && x.is_contiguous() && !wants_gradient(x); }
bool is_few(const Tensor& x) { return x.numel() <= kFew && is_plain(x); }

}  // namespace

Tensor whole_numbers(at::IntArrayRef values) {
  const Tensor out = empty({static_cast<int64_t>(values.size())}, at::kLong);
  std::copy(values.begin(), values.end(), writable<int64_t>(out));
  return out;
}

Tensor shaped(const Tensor& x, at::IntArrayRef sizes) {
  return wants_gradient(x) || !x.is_contiguous() ? x.reshape(sizes) : at::cpu::view(x, sizes);
}

Tensor to_type(const Tensor& x, at::ScalarType type) {
  if (x.scalar_type() == type) return x;
  const bool here = is_few(x) || (Crew::current() != nullptr && is_plain(x));
  if (!here || (type != at::kFloat && type != at::kBFloat16)) return x.to(type);
  const Tensor out = empty(x.sizes(), type);
  by_type(x, [&]<class From>(From) {
    by_type(out, [&]<class To>(To) {
      const auto convert = [&](int64_t piece, int64_t) {
        const int64_t first = piece * kFew, last = std::min(first + kFew, x.numel());
        std::transform(data<From>(x) + first, data<From>(x) + last, writable<To>(out) + first,
                       [](From value) { return static_cast<To>(static_cast<float>(value)); });
      };
      if (is_few(x)) return convert(0, 0);
      each_piece((x.numel() + kFew - 1) / kFew, convert);
    });
  });
  return out;
}

Tensor sum(const Tensor& x, const Tensor& y) {
  if (!is_few(x) || !is_few(y) || x.sizes() != y.sizes() || x.scalar_type() != y.scalar_type()) return x + y;
  const Tensor out = empty(x.sizes(), x.scalar_type());
  by_type(x, [&]<class T>(T) {
    std::transform(data<T>(x), data<T>(x) + x.numel(), data<T>(y), writable<T>(out),
                   [](T a, T b) { return static_cast<T>(static_cast<float>(a) + static_cast<float>(b)); });
  });
  return out;
}

}  // namespace graft::ops
