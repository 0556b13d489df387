#include "graft/peft/bottleneck_layer.h"

#include <ATen/ATen.h>

#include "graft/nn/dropout.h"
#include "graft/peft/builder.h"

namespace graft {
namespace {

/// torch.nn.LayerNorm's default.
constexpr double kEps = 1e-5;

}  // namespace

Tensor LinearProjection::forward(const Tensor& x) const { return at::linear(x, weight_, bias_); }

Tensor AdapterNorm::operator()(const Tensor& x) const {
  return weight.defined() ? at::layer_norm(x, weight.sizes(), weight, bias, kEps) : x;
}

bool BottleneckLayer::left_out(RandomStream* dropout) const {
  if (!parts_.drop || dropout == nullptr) return false;
  if (parts_.draws) {
    const auto count = static_cast<uint64_t>(parts_.drop->most) + 1;
    parts_.drop->dropped = static_cast<int64_t>(dropout->below(count));
  }
  return parts_.layer < parts_.drop->dropped;
}

Tensor BottleneckLayer::scaled_up(const Tensor& x, RandomStream* dropout) const {
  const Tensor inner = parts_.activation(parts_.down->forward(parts_.norm_before(x)));
  Tensor up = parts_.up->forward(inner);
  if (parts_.trained_scale.defined()) {
    up = up * parts_.trained_scale;
  } else if (parts_.scale != 1) {
    up = up * parts_.scale;
  }
  return dropped(up, parts_.dropout, dropout);
}

Tensor BottleneckLayer::behind(const SublayerPass& pass, RandomStream* dropout) const {
  using Residual = BottleneckParts::Residual;
  const Tensor output = widened(pass.output);
  Tensor in = output, stream = output;
  if (parts_.joined_before) {
    const Tensor sum = pass.output + pass.residual;
    stream = widened(sum);
    in = pass.norm ? widened(pass.norm(sum)) : stream;
  }
  const Tensor residual = parts_.residual == Residual::output   ? output
                          : parts_.residual == Residual::stream ? stream
                                                                : in;
  const Tensor up = scaled_up(in, dropout);
  return parts_.residual_before_norm ? parts_.norm_after(up + residual) : parts_.norm_after(up) + residual;
}

Tensor BottleneckLayer::joined(const SublayerPass& pass, RandomStream* dropout) const {
  if (!parts_.parallel) return behind(pass, dropout);
  return widened(pass.output) + parts_.norm_after(scaled_up(widened(pass.residual), dropout));
}

Tensor BottleneckLayer::forward(const SublayerPass& pass, RandomStream* dropout) {
  if (left_out(dropout)) return pass.output;
  Tensor out;
  if (parts_.swapped) {
    // The family adds the stream; the other way round it is the output that is to be added.
    const SublayerPass turned{pass.output, pass.residual, pass.norm};
    out = joined(turned, dropout) + (widened(pass.output) - widened(pass.residual));
  } else {
    out = joined(pass, dropout);
  }
  return out.to(pass.output.scalar_type());
}

}  // namespace graft
