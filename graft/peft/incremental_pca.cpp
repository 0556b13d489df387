#include "graft/peft/incremental_pca.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "graft/peft/lora_init.h"

namespace graft {
namespace {

constexpr int64_t kIterations = 2;  // of the subspace, as torch.svd_lowrank takes by default

}  // namespace

void IncrementalPca::add(const Tensor& rows) {
  const at::NoGradGuard no_grad;
  const Tensor wide = rows.to(at::kDouble);
  const auto added = static_cast<double>(rows.size(0));
  const Tensor batch_mean = wide.mean(0);
  const Tensor centred = wide - batch_mean;
  Tensor matrix = centred;
  if (count_ > 0) {
    const double total = count_ + added;
    const Tensor shift = (mean_ - batch_mean).unsqueeze(0);
    const Tensor correction = std::sqrt(count_ / total * added) * shift;
    matrix = at::cat({singular_values_.unsqueeze(1) * components_, centred, correction}, 0);
    scatter_ = scatter_ + centred.square().sum(0) + correction.squeeze(0).square();
    mean_ = (mean_ * count_ + batch_mean * added) / total;
  } else {
    scatter_ = centred.square().sum(0);
    mean_ = batch_mean;
  }
  count_ += added;
  // Twice the directions that are wanted, so that those are sharp.
  const int64_t width = std::min({2 * directions_, matrix.size(0), matrix.size(1)});
  LowRankSvd parts = low_rank_svd(matrix, width, kIterations, name_);
  const Tensor strongest = parts.vt.gather(1, parts.vt.abs().argmax(1, true));
  components_ = (parts.vt * strongest.sign()).narrow(0, 0, directions_).contiguous();
  singular_values_ = parts.s.narrow(0, 0, directions_).contiguous();
  explained_ = singular_values_.square() / scatter_.sum();
}

}  // namespace graft
