#include "graft/ops/adamw.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cmath>

#include "graft/base/error.h"
#include "graft/ops/kernels.h"
#include "graft/ops/optimizer_steps.h"

namespace graft::ops {
namespace {

const char* const kWhere = "adamw_step";

AdamWFactors factors(int64_t step, const AdamWOptions& o) {
  const double correction1 = 1 - std::pow(o.beta1, static_cast<double>(step));
  const double correction2 = 1 - std::pow(o.beta2, static_cast<double>(step));
  return {static_cast<float>(1 - o.learning_rate * o.weight_decay),
          static_cast<float>(1 - o.beta1),
          static_cast<float>(o.beta2),
          static_cast<float>(1 - o.beta2),
          static_cast<float>(o.eps),
          static_cast<float>(o.learning_rate / correction1),
          static_cast<float>(1 / std::sqrt(correction2))};
}

void check(const Tensor& parameter, const Tensor& other, const char* name) {
  if (other.scalar_type() != at::kFloat || other.sizes() != parameter.sizes() || !other.is_contiguous()) {
    throw InternalError(kWhere, "{}: not float32, of the parameter's shape and contiguous", name);
  }
}

}  // namespace

void adamw_range(const StepRange& range, int64_t step, const AdamWOptions& options) {
  kernels<float>().adamw(factors(step, options), range.n, range.parameter, range.gradient, range.first,
                         range.second);
}

void adamw_step(Tensor& parameter, const Tensor& gradient, Tensor& exp_avg, Tensor& exp_avg_sq, int64_t step,
                const AdamWOptions& options) {
  const Tensor dense = gradient.contiguous();
  check(parameter, parameter, "parameter");
  check(parameter, dense, "gradient");
  check(parameter, exp_avg, "exp_avg");
  check(parameter, exp_avg_sq, "exp_avg_sq");
  const AdamWFactors f = factors(step, options);
  float* const p = parameter.data_ptr<float>();
  const float* const g = dense.data_ptr<float>();
  float* const m = exp_avg.data_ptr<float>();
  float* const v = exp_avg_sq.data_ptr<float>();
  at::parallel_for(0, parameter.numel(), 32768, [&](int64_t begin, int64_t end) {
    kernels<float>().adamw(f, end - begin, p + begin, g + begin, m + begin, v + begin);
  });
  // Written through a pointer: who packed it must see that it is another one.
  parameter.unsafeGetTensorImpl()->bump_version();
}

}  // namespace graft::ops
