// The fast forms' inner loops, by processor: one table a type, chosen once by what the processor can do.
// One thread each; the operations' own files divide the work.
#pragma once
#include <c10/util/BFloat16.h>

#include <cstdint>
#include <string>

namespace graft::ops {

using Half = c10::BFloat16;

/// One sequence and one head of keys, with the `group` heads of queries that read it. Strides count elements.
template <class T>
struct AttentionTask {
  int64_t queries, keys, dim, group;
  const T *q, *k, *v;
  int64_t q_row, q_head, k_row, v_row;
  T* out;  // rows and heads as of d_q
  int64_t out_row, out_head;
  float* log_sum;  // [group][queries], log_sum_head apart: log Σ exp(score)
  int64_t log_sum_head;
  float scale;
  bool causal;
  int64_t window;     // 0: all
  const float* bias;  // [group] rows, bias_head apart, of the bias by distance; bias[0] is distance 0; null: none
  int64_t bias_head;
  float* d_bias;  // added to, like bias; or null
  uint32_t drop_below;  // Philox words below this are dropped; 0: none
  float kept;           // what the others are multiplied with
  uint64_t drop_key;
  uint32_t first_row, first_head;  // of the queries: counters of the dropout
  // Backward only; null where no gradient is wanted.
  const T* d_out;  // strides as of out
  T *d_q, *d_k, *d_v;
  int64_t d_k_row;  // of d_k and d_v
};

/// Rows of a normalisation.
template <class T>
struct NormRows {
  int64_t rows, n;
  const T* x;
  const float *weight, *bias;  // or null
  double eps;
  T* y;
  float *mean, *inverse_deviation;  // [rows]; mean null: no centring (RMS)
  // Backward only.
  const T* d_y;
  T* d_x;
  float *d_weight, *d_bias;  // [n], added to; or null
};

/// Rows y + scale · u Bᵀ and the like; u [rows, r].
template <class T>
struct LowRankRows {
  int64_t rows, r, in, out;
  const T *x, *y;
  T* result;
};

enum class Activation { gelu, gelu_tanh, silu, relu };

template <class T>
struct Kernels {
  const char* isa;
  void (*attention_forward)(const AttentionTask<T>&, float* scratch);
  void (*attention_backward)(const AttentionTask<T>&, float* scratch);
};

/// Floats of scratch that a task needs, forward or backward.
int64_t attention_scratch(int64_t queries, int64_t keys, int64_t dim);

template <class T>
const Kernels<T>& kernels();

/// "avx512_bf16", "avx2" or "portable": what kernels() is now.
std::string isa();
/// For tests and comparisons. Errors: UsageError for a name that is unknown or that this processor cannot run.
void choose_isa(const std::string& name);

namespace avx512_bf16 {
extern const Kernels<Half> kHalf;
extern const Kernels<float> kFloat;
}  // namespace avx512_bf16
namespace avx2 {
extern const Kernels<Half> kHalf;
extern const Kernels<float> kFloat;
}  // namespace avx2
namespace portable {
extern const Kernels<Half> kHalf;
extern const Kernels<float> kFloat;
}  // namespace portable

}  // namespace graft::ops
