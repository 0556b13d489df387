#include "graft/peft/lora_fa.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "graft/base/error.h"
#include "graft/peft/lora.h"
#include "graft/peft/lora_config.h"
#include "graft/peft/lora_layer.h"

namespace graft {
namespace {

constexpr double kDamping = 1e-8;  // PEFT's

/// B's gradient becomes the one whose step comes nearest to a full step of the weight: 1/s² · g (A Aᵀ)⁺.
void project(const std::vector<LoraTensors>& maps) {
  const at::NoGradGuard no_grad;
  for (const LoraTensors& map : maps) {
    Tensor b = map.b;
    if (!b.grad().defined()) continue;
    const Tensor damped = at::matmul(map.a, map.a.t()) + kDamping * at::eye(map.a.size(0), map.a.options());
    const Tensor projected = at::matmul(b.grad(), at::linalg_pinv(damped)) / (map.scale * map.scale);
    b.mutable_grad() = projected.contiguous();
  }
}

Adapter create(const Json& config, Model& model, uint64_t seed) {
  Adapter adapter = create_lora(kLoraFa, config, model, seed);
  std::vector<LoraTensors> maps;
  for (const auto& [path, hook] : adapter.linears) {
    const auto* lora = dynamic_cast<const LoraLinear*>(hook.get());
    if (lora == nullptr) continue;
    if (lora->tensors().a0.defined())
      throw UsageError("init_lora_weights", "from the weight with lora_fa, expected one that leaves B zero");
    maps.push_back(lora->tensors());
  }
  if (maps.empty())
    throw UsageError("lora_fa", "no plain low-rank update, expected linear maps without use_dora");
  for (LoraTensors& map : maps) {
    for (auto one = adapter.trained.begin(); one != adapter.trained.end(); ++one) {
      if (!one->second.is_same(map.a)) continue;
      map.a.set_requires_grad(false);
      adapter.untrained[one->first] = map.a;
      adapter.trained.erase(one);
      break;
    }
  }
  adapter.adjust_gradients = [maps] { project(maps); };
  return adapter;
}

}  // namespace

const TuningMethod kLoraFa = {"lora_fa", "LORA", create, method_help<LoraConfig>};

}  // namespace graft
