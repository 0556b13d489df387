#include "graft/peft/adapt_linears.h"

#include <ATen/ATen.h>

#include <cmath>

namespace graft {

double kaiming_bound(int64_t fan_in) { return 1 / std::sqrt(static_cast<double>(fan_in)); }

Tensor like(const Tensor& x, const Tensor& parameter) { return x.to(parameter.scalar_type()); }

}  // namespace graft
