#include "graft/nn/linear.h"

#include <ATen/ATen.h>

#include "graft/ops/few_values.h"
#include "graft/ops/row_count.h"

namespace graft {
namespace {

/// The map of a trained weight; in bfloat16 oneDNN's.
Tensor trained_linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  if (x.scalar_type() != at::kBFloat16 || x.dim() != 2) return at::linear(x, weight, bias);
  return ops::first_rows(at::linear(ops::few_row_counts(x), weight, bias), x.size(0));
}

}  // namespace

Linear::Linear(int64_t in, int64_t out, bool with_bias) {
  weight = add("weight", {out, in});
  if (with_bias) bias = add("bias", {out});
}

Linear::Linear(std::shared_ptr<Parameter> shared, bool with_bias) : weight(std::move(shared)) {
  add("weight", weight);
  if (with_bias) bias = add("bias", {out()});
}

Tensor Linear::forward(const Tensor& x, RandomStream* dropout) const {
  if (!hook) return apply(x);
  if (const auto map = adapted(x, dropout)) return ops::adapted_linears(x, {*map})[0];
  return hook->forward(*this, x, dropout);
}

std::vector<Tensor> Linear::forward_together(const std::vector<const Linear*>& maps, const Tensor& x,
                                             RandomStream* dropout) {
  std::vector<Tensor> out;
  std::vector<ops::AdaptedLinear> together;
  for (const Linear* map : maps) {
    auto one = map->adapted(x, dropout);
    out.push_back(one ? Tensor() : map->forward(x, dropout));
    if (one) together.push_back(std::move(*one));
  }
  if (together.empty()) return out;
  const std::vector<Tensor> found = ops::adapted_linears(x, together);
  auto next = found.begin();
  for (Tensor& y : out) {
    if (!y.defined()) y = *next++;
  }
  return out;
}

std::optional<ops::AdaptedLinear> Linear::adapted(const Tensor& x, RandomStream* dropout) const {
  if (!weight->frozen() || x.dim() != 2 || (hook && !hook->is_update())) return {};
  ops::AdaptedLinear out{.weight = weight->base, .packed = &packed_, .int8 = int8_.get()};
  if (bias) out.bias = ops::to_type(bias->value(), x.scalar_type());
  if (hook) out.update = hook->update(x, dropout);
  return out;
}

Tensor Linear::apply(const Tensor& x) const {
  const Tensor b = bias ? ops::to_type(bias->value(), x.scalar_type()) : Tensor();
  if (weight->frozen() && int8_) return ops::int8_linear(x, weight->base, b, *int8_);
  if (weight->frozen()) return ops::frozen_linear(x, weight->base, b, packed_);
  return trained_linear(x, weight->stand_in.to(x.scalar_type()), b);
}

void Linear::use_one_layout() {
  packed_ = {.single = true};
  if (int8_) int8_->exact = std::make_shared<ops::PackedWeight>(packed_);
}

void Linear::use_int8(Int8 form) {
  int8_ = std::make_unique<ops::PackedInt8>();
  int8_->exact_gradient = form.exact_gradient;
  if (packed_.single) use_one_layout();
}

std::optional<Linear::Int8> Linear::int8() const {
  if (!int8_) return {};
  return Int8{int8_->exact_gradient};
}

bool Linear::streams() const {
  return weight->frozen() && (!hook || hook->is_update()) && (int8_ || ops::in_panels(weight->base));
}

void Linear::untie() {
  weight = std::make_shared<Parameter>(*weight);
  replace("weight", weight);
  packed_ = {.single = packed_.single};
  if (int8_) use_int8(*int8());
}

}  // namespace graft
