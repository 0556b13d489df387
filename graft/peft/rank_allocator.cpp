#include "graft/peft/rank_allocator.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

namespace graft {

RankAllocator::RankAllocator(const RankSchedule& schedule, std::vector<Triplets> maps)
    : schedule_(schedule), maps_(std::move(maps)), masked_(at::zeros({1}, at::kBool)) {
  const auto fresh = [](const Tensor& like) {
    return Statistics{at::zeros_like(like).detach(), at::zeros_like(like).detach()};
  };
  for (const Triplets& map : maps_) {
    statistics_.push_back({fresh(map.a), fresh(map.b), fresh(map.e)});
    kept_.push_back(at::ones({map.e.size(0)}, at::kBool));
  }
}

bool RankAllocator::masked() const { return masked_.item<bool>(); }

TensorMap RankAllocator::state() const {
  TensorMap out = {{"masked", masked_}};
  constexpr std::array<const char*, 3> kParts{"lora_A", "lora_B", "lora_E"};
  for (size_t i = 0; i < maps_.size(); ++i) {
    for (size_t part = 0; part < kParts.size(); ++part) {
      const std::string name = maps_[i].path + "." + kParts[part];
      out[name + ".sensitivity"] = statistics_[i][part].sensitivity;
      out[name + ".uncertainty"] = statistics_[i][part].uncertainty;
    }
    out[maps_[i].path + ".kept"] = kept_[i];
  }
  return out;
}

int64_t RankAllocator::budget(int64_t step) const {
  const auto maps = static_cast<int64_t>(maps_.size());
  const int64_t first = schedule_.init_r * maps, last = schedule_.target_r * maps;
  if (step <= schedule_.tinit) return first;
  if (step > schedule_.total_step - schedule_.tfinal) return last;
  const auto span = static_cast<double>(schedule_.total_step - schedule_.tfinal - schedule_.tinit);
  const double left = 1 - static_cast<double>(step - schedule_.tinit) / span;
  return static_cast<int64_t>(static_cast<double>(first - last) * left * left * left +
                              static_cast<double>(last));
}

bool RankAllocator::masks(int64_t step) const {
  if (step == schedule_.total_step - schedule_.tfinal) return true;
  return step > schedule_.tinit && step % schedule_.delta_t == 0;
}

void RankAllocator::update(const Tensor& tensor, Statistics& statistics) const {
  if (!tensor.grad().defined()) return;
  const Tensor now = (tensor * tensor.grad()).abs();
  statistics.sensitivity.mul_(schedule_.beta1).add_(now, 1 - schedule_.beta1);
  const Tensor away = (now - statistics.sensitivity).abs();
  statistics.uncertainty.mul_(schedule_.beta2).add_(away, 1 - schedule_.beta2);
}

void RankAllocator::update_all() {
  for (size_t i = 0; i < maps_.size(); ++i) {
    update(maps_[i].a, statistics_[i][0]);
    update(maps_[i].b, statistics_[i][1]);
    update(maps_[i].e, statistics_[i][2]);
  }
}

/// score(E_i) + mean_j score(A_ij) + mean_j score(B_ji).
Tensor RankAllocator::scores(size_t map) const {
  const auto score = [&](size_t part) {
    return statistics_[map][part].sensitivity * statistics_[map][part].uncertainty;
  };
  return score(2).view({-1}) + score(0).mean(1) + score(1).mean(0);
}

void RankAllocator::mask_to(int64_t budget) {
  std::vector<Tensor> all;
  for (size_t i = 0; i < maps_.size(); ++i) all.push_back(scores(i));
  const Tensor together = at::cat(all);
  const int64_t dropped = together.numel() - budget;
  const double threshold = dropped > 0 ? std::get<0>(at::kthvalue(together, dropped)).item<double>() : -1;
  for (size_t i = 0; i < maps_.size(); ++i) kept_[i].copy_(all[i].to(at::kDouble).gt(threshold));
  masked_.fill_(true);
  mask_again();
}

void RankAllocator::mask_again() {
  for (size_t i = 0; i < kept_.size(); ++i) {
    Tensor e = maps_[i].e;
    e.masked_fill_(kept_[i].logical_not().unsqueeze(1), 0);
  }
}

void RankAllocator::after_step(int64_t step) {
  const at::NoGradGuard no_grad;
  const int64_t end = schedule_.total_step - schedule_.tfinal;
  if (step > end) {
    mask_again();
    return;
  }
  if (step < end) update_all();
  if (masks(step)) mask_to(budget(step));
}

}  // namespace graft
