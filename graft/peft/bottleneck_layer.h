// A bottleneck adapter at one sublayer: down, activation, up, and how they meet the stream.
#pragma once
#include <memory>

#include "graft/nn/activation.h"
#include "graft/nn/sublayer.h"

namespace graft {

/// x [T, in] → [T, out], in float32.
class Projection {
 public:
  virtual ~Projection() = default;
  virtual Tensor forward(const Tensor& x) const = 0;
};

class LinearProjection : public Projection {
 public:
  /// weight [out, in], bias [out].
  LinearProjection(Tensor weight, Tensor bias) : weight_(std::move(weight)), bias_(std::move(bias)) {}
  Tensor forward(const Tensor& x) const override;

 private:
  Tensor weight_, bias_;
};

/// A trained norm of the adapter's own; undefined: none.
struct AdapterNorm {
  Tensor weight, bias;  // [hidden]
  Tensor operator()(const Tensor& x) const;
};

/// How many of a stack's lowest layers go without adapters in this pass of training (robust AdapterDrop,
/// Rücklé et al. 2021); one for all hooks of a stack.
struct RandomDrop {
  int64_t most = 0;     // a draw is 0 … most
  int64_t dropped = 0;  // the last draw
};

struct BottleneckParts {
  std::shared_ptr<Projection> down, up;
  Activation activation;
  AdapterNorm norm_before, norm_after;
  double scale = 1;
  Tensor trained_scale;  // [1] or [hidden]; undefined: scale
  double dropout = 0;
  bool parallel = false;
  bool swapped = false;        // stream and output in each other's place (AdapterHub's ALBERT)
  bool joined_before = false;  // the adapter reads the normed sum
  enum class Residual { output, stream, normed } residual = Residual::output;
  bool residual_before_norm = false;
  std::shared_ptr<RandomDrop> drop;  // null: none
  int64_t layer = 0;                 // of its stack
  bool draws = false;                // the first hook that a pass meets
};

/// Behind the sublayer: output → up(act(down(z))) · scale + residual, z = output, or norm(output + stream).
/// Parallel: output + up(act(down(stream))) · scale. The family then adds the stream, and norms. As
/// AdapterHub's BnConfig.
class BottleneckLayer : public SublayerHook {
 public:
  explicit BottleneckLayer(BottleneckParts parts) : parts_(std::move(parts)) {}
  Tensor forward(const SublayerPass& pass, RandomStream* dropout) override;

 private:
  bool left_out(RandomStream* dropout) const;
  Tensor scaled_up(const Tensor& x, RandomStream* dropout) const;
  Tensor behind(const SublayerPass& pass, RandomStream* dropout) const;
  Tensor joined(const SublayerPass& pass, RandomStream* dropout) const;

  BottleneckParts parts_;
};

}  // namespace graft
