#include "graft/ops/cross_entropy.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "graft/base/error.h"
#include "graft/ops/types.h"

namespace graft::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kNoTarget = -100;

struct Rows {
  Tensor losses, log_sums;  // [N] float32
};

Rows measure(const Tensor& logits, const Tensor& targets) {
  const int64_t rows = logits.size(0), n = logits.size(1);
  Rows out{at::zeros({rows}, at::kFloat), at::zeros({rows}, at::kFloat)};
  const int64_t* target = data<int64_t>(targets);
  by_type(logits, [&]<class T>(T) {
    at::parallel_for(0, rows, grain(n), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* x = data<T>(logits) + i * n;
        if (target[i] == kNoTarget) continue;
        const float log_sum = kernels<T>().log_sum_exp(x, n);
        writable<float>(out.log_sums)[i] = log_sum;
        writable<float>(out.losses)[i] = log_sum - static_cast<float>(x[target[i]]);
      }
    });
  });
  return out;
}

/// Losses of many rows are summed in float64: the order of threads does not show.
Tensor total(const Tensor& losses) { return losses.sum(at::kDouble).to(at::kFloat); }

/// Whether nobody but the operation that saved x, and the caller of this, has it or its memory.
bool is_ours(const Tensor& x) { return x.use_count() <= 2 && x.storage().use_count() == 1; }

class CrossEntropyOp : public torch::autograd::Function<CrossEntropyOp> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& logits, const Tensor& targets) {
    const Tensor in = logits.contiguous();
    const Rows rows = measure(in, targets);
    ctx->save_for_backward({in, targets, rows.log_sums});
    return total(rows.losses);
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &logits = saved[0], &targets = saved[1], &log_sums = saved[2];
    if (ctx->saved_data.count("spent") > 0)
      throw InternalError("cross_entropy", "a second backward pass, expected one");
    const bool in_place = is_ours(logits);
    if (in_place) ctx->saved_data["spent"] = true;
    const Tensor d = in_place ? logits : at::empty(logits.sizes(), logits.options());
    const float scale = gradients[0].to(at::kFloat).item<float>();
    const int64_t n = logits.size(1);
    const int64_t* target = data<int64_t>(targets);
    by_type(logits, [&]<class T>(T) {
      at::parallel_for(0, logits.size(0), grain(n), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          T* const out = writable<T>(d) + i * n;
          if (target[i] == kNoTarget) {
            std::fill_n(out, n, T(0));
          } else {
            kernels<T>().softmax_gradient(data<T>(logits) + i * n, n, data<float>(log_sums)[i], target[i],
                                          scale, out);
          }
        }
      });
    });
    return {d.detach(), Tensor()};
  }
};

void check(const Tensor& targets, int64_t rows, int64_t n) {
  if (targets.dim() != 1 || targets.size(0) != rows || targets.scalar_type() != at::kLong) {
    throw InternalError("cross_entropy", "targets {}, expected [{}] int64", fmt::join(targets.sizes(), "×"),
                        rows);
  }
  const Tensor wrong = (targets.lt(0).logical_and(targets.ne(kNoTarget))).logical_or(targets.ge(n));
  if (wrong.any().item<bool>()) {
    throw DataError("cross_entropy", "label {}, expected 0 to {} or {}",
                    targets.masked_select(wrong)[0].item<int64_t>(), n - 1, kNoTarget);
  }
}

}  // namespace

Tensor cross_entropy(const Tensor& logits, const Tensor& targets) {
  check(targets, logits.size(0), logits.size(1));
  if (!has_kernels(logits)) return cross_entropy_plain(logits, targets);
  return CrossEntropyOp::apply(logits, targets.contiguous());
}

Tensor cross_entropy_plain(const Tensor& logits, const Tensor& targets) {
  return at::nll_loss(at::log_softmax(logits.to(compute_type(logits)), 1), targets, {}, at::Reduction::Sum,
                      kNoTarget);
}

}  // namespace graft::ops
