#include "graft/ops/cross_entropy.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "graft/base/error.h"
#include "graft/ops/panel_product.h"
#include "graft/ops/types.h"

namespace graft::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kNoTarget = -100;

struct Rows {
  Tensor losses, log_sums;  // [N] float32
};

/// Each row's loss; and with `d_logits` (may be the logits) the gradient of their sum.
Rows measure(const Tensor& logits, const Tensor& targets, const Tensor& d_logits) {
  const int64_t rows = logits.size(0), n = logits.size(1);
  Rows out{at::zeros({rows}, at::kFloat), at::zeros({rows}, at::kFloat)};
  const int64_t* target = data<int64_t>(targets);
  by_type(logits, [&]<class T>(T) {
    at::parallel_for(0, rows, grain(n), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* x = data<T>(logits) + i * n;
        T* const d = d_logits.defined() ? writable<T>(d_logits) + i * n : nullptr;
        if (target[i] == kNoTarget) {
          if (d) std::fill_n(d, n, T(0));
          continue;
        }
        const float log_sum = kernels<T>().log_sum_exp(x, n);
        writable<float>(out.log_sums)[i] = log_sum;
        writable<float>(out.losses)[i] = log_sum - static_cast<float>(x[target[i]]);
        if (d) kernels<T>().softmax_gradient(x, n, log_sum, target[i], 1.0f, d);
      }
    });
  });
  return out;
}

/// Losses of many rows are summed in float64: the order of threads does not show.
Tensor total(const Tensor& losses) { return losses.sum(at::kDouble).to(at::kFloat); }

class CrossEntropyOp : public torch::autograd::Function<CrossEntropyOp> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& logits, const Tensor& targets) {
    const Tensor in = logits.contiguous();
    const Rows rows = measure(in, targets, {});
    ctx->save_for_backward({in, targets, rows.log_sums});
    return total(rows.losses);
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &logits = saved[0], &targets = saved[1], &log_sums = saved[2];
    const Tensor d = at::empty(logits.sizes(), logits.options());
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
    return {d, Tensor()};
  }
};

/// About this many logits at a time: 64 MiB in bfloat16. A large vocabulary's weight is read once a chunk.
constexpr int64_t kChunkLogits = int64_t{1} << 25;

/// Rows of a chunk: whole blocks of the product.
int64_t chunk_rows(int64_t vocabulary) {
  const int64_t rows = kChunkLogits / std::max<int64_t>(1, vocabulary);
  return std::max<int64_t>(1, rows / kPanelRows) * kPanelRows;
}

struct Chunked {
  Tensor loss, d_hidden;  // d_hidden undefined where not wanted
};

Chunked by_chunks(const Tensor& hidden, const Tensor& weight, const Tensor& bias, const Tensor& targets,
                  PackedWeight& packed, bool gradient) {
  const at::NoGradGuard no_grad;
  Chunked out{at::zeros({}, at::kDouble), gradient ? at::empty(hidden.sizes(), hidden.options()) : Tensor()};
  const int64_t step = chunk_rows(weight.size(0));
  for (int64_t first = 0; first < hidden.size(0); first += step) {
    const int64_t rows = std::min(step, hidden.size(0) - first);
    const Tensor logits = frozen_linear(hidden.narrow(0, first, rows), weight, bias, packed);
    const Rows measured = measure(logits, targets.narrow(0, first, rows), gradient ? logits : Tensor());
    out.loss.add_(measured.losses.sum(at::kDouble));
    if (gradient) out.d_hidden.narrow(0, first, rows).copy_(frozen_linear_gradient(logits, weight, packed));
  }
  out.loss = out.loss.to(at::kFloat);
  return out;
}

class LinearCrossEntropyOp : public torch::autograd::Function<LinearCrossEntropyOp> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& hidden, const Tensor& loss,
                        const Tensor& d_hidden) {
    (void)hidden;
    ctx->save_for_backward({d_hidden});
    return loss.clone();
  }
  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const Tensor d_hidden = ctx->get_saved_variables()[0];
    return {d_hidden * gradients[0].to(d_hidden.scalar_type()), Tensor(), Tensor()};
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

Tensor linear_cross_entropy(const Tensor& hidden, const Tensor& weight, const Tensor& bias,
                            const Tensor& targets, PackedWeight& packed) {
  check(targets, hidden.size(0), weight.size(0));
  const bool frozen = !wants_gradient(weight) && !wants_gradient(bias);
  if (!has_kernels(hidden) || !frozen || weight.scalar_type() != hidden.scalar_type()) {
    return linear_cross_entropy_plain(hidden, weight, bias, targets);
  }
  const Tensor labelled = targets.ne(kNoTarget);
  if (!labelled.all().item<bool>()) {
    const Tensor rows = labelled.nonzero().squeeze(1);
    return linear_cross_entropy(hidden.index_select(0, rows), weight, bias, targets.index_select(0, rows),
                                packed);
  }
  const bool gradient = wants_gradient(hidden);
  const Chunked out =
      by_chunks(hidden.detach().contiguous(), weight, bias, targets.contiguous(), packed, gradient);
  return gradient ? LinearCrossEntropyOp::apply(hidden, out.loss, out.d_hidden) : out.loss;
}

Tensor linear_cross_entropy_plain(const Tensor& hidden, const Tensor& weight, const Tensor& bias,
                                  const Tensor& targets) {
  return cross_entropy_plain(frozen_linear_plain(hidden, weight, bias), targets);
}

}  // namespace graft::ops
