#include "graft/train/optimizer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "graft/base/error.h"
#include "graft/ops/adamw.h"

namespace graft {
namespace {

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

/// A path's component that names a norm: LayerNorm, input_layernorm, norm, q_norm, ln_1, ln_f …
bool is_norm(const std::string& component) {
  return component.find("layernorm") != std::string::npos || component.find("rmsnorm") != std::string::npos ||
         component == "norm" || component.ends_with("_norm") || component.starts_with("ln_");
}

}  // namespace

bool decays(const std::string& key) {
  const std::string path = lower(key);
  if (path.ends_with("bias")) return false;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('.', begin), path.size());
    if (is_norm(path.substr(begin, end - begin))) return false;
    begin = end + 1;
  }
  return true;
}

double group_learning_rate(const std::string& key, const Tensor& tensor, double learning_rate,
                           const TrainConfig& config) {
  if (config.loraplus_lr_ratio == 1) return learning_rate;
  if (key.find("lora_embedding_") != std::string::npos) {
    // A rate of its own, on the same schedule.
    return config.learning_rate > 0 ? config.loraplus_lr_embedding * (learning_rate / config.learning_rate)
                                    : 0;
  }
  const bool faster = key.find("lora_B") != std::string::npos || tensor.dim() == 1;
  return faster ? learning_rate * config.loraplus_lr_ratio : learning_rate;
}

Optimizer::Optimizer(TensorMap trained, const TrainConfig& config)
    : trained_(std::move(trained)), config_(config) {
  if (config.betas.size() != 2 ||
      !(config.betas[0] >= 0 && config.betas[0] < 1 && config.betas[1] >= 0 && config.betas[1] < 1)) {
    throw UsageError("train.betas", "[{}], expected two numbers from 0 to below 1",
                     fmt::join(config.betas, ", "));
  }
  for (const auto& [key, tensor] : trained_) {
    if (tensor.scalar_type() != at::kFloat || !tensor.requires_grad()) {
      throw InternalError("optimizer", "{} is not a trained float32 tensor", key);
    }
    exp_avg_[key] = at::zeros_like(tensor, at::MemoryFormat::Contiguous).detach();
    exp_avg_sq_[key] = at::zeros_like(tensor, at::MemoryFormat::Contiguous).detach();
  }
}

double Optimizer::gradient_norm() const {
  const at::NoGradGuard no_grad;
  double sum = 0;
  for (const auto& [key, tensor] : trained_) {
    if (!tensor.grad().defined()) continue;
    const double norm = tensor.grad().norm().item<double>();
    sum += norm * norm;
  }
  return std::sqrt(sum);
}

void Optimizer::step(int64_t step, double learning_rate, double gradient_norm) {
  const at::NoGradGuard no_grad;
  ops::AdamWOptions options{.learning_rate = learning_rate,
                            .beta1 = config_.betas[0],
                            .beta2 = config_.betas[1],
                            .eps = config_.eps,
                            .weight_decay = config_.weight_decay};
  const double factor =
      config_.max_grad_norm > 0 ? std::min(1.0, config_.max_grad_norm / (gradient_norm + 1e-6)) : 1.0;
  for (auto& [key, tensor] : trained_) {
    Tensor gradient = tensor.grad();
    if (!gradient.defined()) continue;
    if (factor < 1) gradient.mul_(factor);
    options.learning_rate = group_learning_rate(key, tensor, learning_rate, config_);
    options.weight_decay = decays(key) ? config_.weight_decay : 0;
    ops::adamw_step(tensor, gradient, exp_avg_[key], exp_avg_sq_[key], step, options);
  }
}

void Optimizer::clear_gradients() {
  for (auto& [key, tensor] : trained_) tensor.mutable_grad().reset();
}

}  // namespace graft
