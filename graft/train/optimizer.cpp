#include "graft/train/optimizer.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "graft/base/error.h"
#include "graft/base/random.h"

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

/// A piece is a thread's work; a multiple of what rounding draws at once.
constexpr int64_t kPiece = 32768;

void check_config(const TrainConfig& config) {
  if (config.betas.size() != 2 ||
      !(config.betas[0] >= 0 && config.betas[0] < 1 && config.betas[1] >= 0 && config.betas[1] < 1)) {
    throw UsageError("train.betas", "[{}], expected two numbers from 0 to below 1",
                     fmt::join(config.betas, ", "));
  }
  if (config.scale_parameter && config.optimizer != "adafactor")
    throw UsageError("train.scale_parameter", "true with {}; only adafactor has it", config.optimizer);
}

double squares(const float* values, int64_t n) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  return sum;
}

double squares(const c10::BFloat16* values, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    const auto value = static_cast<double>(static_cast<float>(values[i]));
    sum += value * value;
  }
  return sum;
}

ops::MatrixShape matrix_shape(const Tensor& tensor) {
  if (tensor.dim() < 2) return {1, 1, tensor.numel()};
  const int64_t rows = tensor.size(-2), columns = tensor.size(-1);
  return {tensor.numel() / std::max<int64_t>(1, rows * columns), rows, columns};
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

/// What an optimizer keeps of a tensor: its name, its shape, and the slot's pointer to it.
struct Optimizer::Part {
  const char* name;
  std::vector<int64_t> shape;
  float** place;
};

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
  check_config(config);
  int64_t index = 0;
  for (const auto& [key, tensor] : trained_) {
    const bool known = tensor.scalar_type() == at::kFloat || tensor.scalar_type() == at::kBFloat16;
    if (!known || !tensor.requires_grad() || !tensor.is_contiguous())
      throw InternalError("optimizer", "{} is not a trained, contiguous tensor of floats", key);
    // Adafactor's sums are of whole tensors.
    const int64_t length = config.optimizer == "adafactor" ? std::max<int64_t>(1, tensor.numel()) : kPiece;
    for (int64_t begin = 0; begin < tensor.numel(); begin += length)
      pieces_.push_back({slots_.size(), begin, std::min(tensor.numel(), begin + length)});
    slots_.push_back(
        {.parameter = tensor, .decays = decays(key), .index = index, .shape = matrix_shape(tensor)});
    index += (tensor.numel() + 7) / 8 * 8;
  }
  lay_out();
}

std::vector<Optimizer::Part> Optimizer::parts(Slot& slot) {
  const std::vector<int64_t> shape = slot.parameter.sizes().vec();
  if (config_.optimizer == "adamw")
    return {{"exp_avg", shape, &slot.first}, {"exp_avg_sq", shape, &slot.second}};
  if (config_.optimizer == "lion") return {{"exp_avg", shape, &slot.first}};
  if (config_.optimizer == "sgd") {
    if (config_.momentum == 0) return {};
    return {{"momentum_buffer", shape, &slot.first}};
  }
  if (shape.size() < 2) return {{"exp_avg_sq", shape, &slot.second}};
  std::vector<int64_t> of_rows(shape.begin(), shape.end() - 1), of_columns(shape.begin(), shape.end() - 2);
  of_columns.push_back(shape.back());
  return {{"exp_avg_sq_row", of_rows, &slot.rows}, {"exp_avg_sq_col", of_columns, &slot.columns}};
}

void Optimizer::lay_out() {
  const auto values = [](const Part& part) {
    int64_t count = 1;
    for (const int64_t size : part.shape) count *= size;
    return count;
  };
  constexpr int64_t kLine = 16;  // floats of a cache line
  int64_t total = 0;
  for (Slot& slot : slots_) {
    for (const Part& part : parts(slot)) total += (values(part) + kLine - 1) / kLine * kLine;
  }
  buffer_ = at::zeros({total}, at::kFloat);
  int64_t begin = 0;
  auto slot = slots_.begin();
  for (const auto& [key, tensor] : trained_) {
    for (const Part& part : parts(*slot)) {
      const int64_t count = values(part);
      state_[fmt::format("{}.{}", part.name, key)] = buffer_.slice(0, begin, begin + count).view(part.shape);
      *part.place = buffer_.data_ptr<float>() + begin;
      begin += (count + kLine - 1) / kLine * kLine;
    }
    ++slot;
  }
}

double Optimizer::gradient_norm() const {
  std::vector<double> sums(pieces_.size(), 0);
  at::parallel_for(0, static_cast<int64_t>(pieces_.size()), 8, [&](int64_t first, int64_t last) {
    for (auto i = static_cast<size_t>(first); i < static_cast<size_t>(last); ++i) {
      const Piece& piece = pieces_[i];
      const Tensor& gradient = slots_[piece.slot].parameter.grad();
      if (!gradient.defined()) continue;
      const Tensor dense = gradient.contiguous();
      sums[i] = dense.scalar_type() == at::kFloat
                    ? squares(dense.const_data_ptr<float>() + piece.begin, piece.end - piece.begin)
                    : squares(dense.const_data_ptr<c10::BFloat16>() + piece.begin, piece.end - piece.begin);
    }
  });
  double sum = 0;
  for (const double one : sums) sum += one;
  return std::sqrt(sum);
}

void Optimizer::update(const Slot& slot, const ops::StepRange& range, const Step& step) const {
  const double decay = slot.decays ? config_.weight_decay : 0;
  if (config_.optimizer == "adamw") {
    ops::adamw_range(range, step.number,
                     {.learning_rate = slot.learning_rate,
                      .beta1 = config_.betas[0],
                      .beta2 = config_.betas[1],
                      .eps = config_.eps,
                      .weight_decay = decay});
  } else if (config_.optimizer == "sgd") {
    ops::sgd_range(range, {slot.learning_rate, config_.momentum, decay});
  } else if (config_.optimizer == "lion") {
    ops::lion_range(range, {slot.learning_rate, config_.betas[0], config_.betas[1], decay});
  } else {
    ops::adafactor_tensor(range, slot.shape, {slot.rows, slot.columns, slot.second}, step.number,
                          {.learning_rate = slot.learning_rate,
                           .weight_decay = decay,
                           .scale_parameter = config_.scale_parameter});
  }
}

void Optimizer::update_halves(const Slot& slot, const Piece& piece, const Tensor& gradient,
                              const Step& step) const {
  const int64_t n = piece.end - piece.begin;
  auto* const halves = slot.parameter.mutable_data_ptr<c10::BFloat16>() + piece.begin;
  std::vector<float> values(halves, halves + n), gradients(static_cast<size_t>(n));
  const Tensor part = gradient.view({-1}).slice(0, piece.begin, piece.end).to(at::kFloat);
  const float* const from = part.const_data_ptr<float>();
  for (int64_t i = 0; i < n; ++i) gradients[static_cast<size_t>(i)] = from[i] * step.factor;
  const auto at = [&](float* all) { return all == nullptr ? nullptr : all + piece.begin; };
  update(slot, {n, values.data(), gradients.data(), at(slot.first), at(slot.second)}, step);
  ops::round_by_chance(values.data(), n, step.rounding, slot.index + piece.begin, halves);
}

void Optimizer::update_piece(const Piece& piece, const Step& step) const {
  const Slot& slot = slots_[piece.slot];
  if (!slot.parameter.grad().defined()) return;
  const Tensor gradient = slot.parameter.grad().contiguous();
  if (slot.parameter.scalar_type() == at::kBFloat16) return update_halves(slot, piece, gradient, step);
  const int64_t n = piece.end - piece.begin;
  float* const values = gradient.mutable_data_ptr<float>() + piece.begin;
  if (step.factor < 1) {
    for (int64_t i = 0; i < n; ++i) values[i] *= step.factor;
  }
  const auto at = [&](float* all) { return all == nullptr ? nullptr : all + piece.begin; };
  update(slot,
         {n, slot.parameter.mutable_data_ptr<float>() + piece.begin, values, at(slot.first), at(slot.second)},
         step);
}

void Optimizer::step(int64_t step, double learning_rate, double gradient_norm) {
  const at::NoGradGuard no_grad;
  RandomStream rounding(static_cast<uint64_t>(config_.seed), "rounding");
  rounding.seek(2 * static_cast<uint64_t>(step));
  const double factor =
      config_.max_grad_norm > 0 ? std::min(1.0, config_.max_grad_norm / (gradient_norm + 1e-6)) : 1.0;
  auto slot = slots_.begin();
  for (const auto& [key, tensor] : trained_)
    (slot++)->learning_rate = group_learning_rate(key, tensor, learning_rate, config_);
  const Step now{step, static_cast<float>(factor), rounding.next_key()};
  const auto count = static_cast<int64_t>(pieces_.size());
  const auto run = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) update_piece(pieces_[static_cast<size_t>(i)], now);
  };
  if (config_.optimizer == "adafactor") {
    run(0, count);  // its tensors are shared between threads within
  } else {
    at::parallel_for(0, count, 8, run);
  }
  // Written through pointers: who packed a tensor must see that it is another one.
  for (const Slot& one : slots_) one.parameter.unsafeGetTensorImpl()->bump_version();
}

void Optimizer::clear_gradients() {
  for (auto& [key, tensor] : trained_) tensor.mutable_grad().reset();
}

}  // namespace graft
