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
  int64_t window;  // 0: all
  const float*
      bias;  // [group] rows, bias_head apart, of the bias by distance; bias[0] is distance 0; null: none
  int64_t bias_head;
  float* d_bias;        // added to, like bias; or null
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
  const T* residual;  // added to x first, the sum going to `sum`; or null
  T* sum;
  const float *weight, *bias;  // or null
  float eps;
  T* y;
  float *mean, *inverse_deviation;  // [rows]; mean null: no centring (RMS)
  // Backward only. x is what was normalised.
  const T* d_y;
  const T* d_sum;            // added to d_x; or null
  T* d_x;                    // or null
  float *d_weight, *d_bias;  // [n], added to; or null
};

enum class Activation { gelu, gelu_tanh, silu, tanh, relu };

struct DropRange {
  int64_t begin, end;
  uint64_t key;
  uint32_t drop_below;
  float kept;
};

struct Rotation {
  int64_t heads, head_stride, dim, half;  // half: pairs that turn; output heads are dim apart
  float direction;
};

/// fresh1, fresh2: 1 - beta1 and 1 - beta2 as float64 gives them; from a float32 beta2 of 0.999 the
/// difference would be off by 1e-5 of itself.
struct AdamWFactors {
  float decay, fresh1, beta2, fresh2, eps, step_size, inverse_root_correction;
};

/// result [rows, n] = y (or nothing) + scale · u [rows, r] · right [r, n].
template <class T>
struct LowRankUp {
  int64_t rows, n, r;
  const T* y;
  const float* u;
  int64_t u_stride;
  float scale;
  const float* right;
  int64_t right_stride;  // a multiple of 16
  T* result;
};

/// Rows that a merged weight is tried with.
constexpr int kMergeProbes = 2;
/// result [rows, n] = weight + scale · u [rows, r] · right [r, n], rounded once.
template <class T>
struct LowRankMerge {
  int64_t rows, n, r;
  float scale;
  const T* weight;
  const float* u;
  int64_t u_stride;
  const float* right;
  int64_t right_stride;  // a multiple of 16, of the probes too
  const float* probes;   // [kMergeProbes, n]
  T* result;
  float* seen;  // [rows, kMergeProbes]: what result - weight, before it is rounded, makes of the probes
};

/// result [r, …] += uᵀ x.
template <class T>
struct LowRankOuter {
  int64_t rows, n, r;
  const float* u;
  int64_t u_stride;
  const T* x;
  float* result;
  int64_t result_stride;  // a multiple of 16
  int64_t first_column, last_column;
};

/// Columns of a product's right side that lie together, as 32-bit units along what is summed: in one strip,
/// or strips of sixteen, [units][columns rounded up to 16].
constexpr int64_t kPanel = 64;

/// A left side and a panel of a product: x [rows, units] · panel.
template <class T>
struct PanelSides {
  int64_t units;
  const T* x;
  int64_t x_stride;
  const int32_t* panel;
};

/// y [rows, columns] = the sum of all terms + bias, rounded once. At most as many rows and columns as a piece
/// has; of stream_rows also stream_panels whole panels.
template <class T>
struct PanelProduct {
  int64_t rows, columns;
  const PanelSides<T>* terms;
  int64_t count;  // of terms, at most kMostTerms
  const T* bias;  // or null
  T* y;
  int64_t y_stride;
};
constexpr int64_t kMostTerms = 8;

/// A matrix [columns, summed] in panels, of which sixteen columns from `column` on go into the panels of its
/// transpose: those of the summed values from `first` (a multiple of kPanel) to `last`, which become columns.
struct PanelTurn {
  const int32_t* units;
  int64_t columns, summed, column, first, last;
  int32_t* out;  // the panel that starts at `first`
};

/// The values of a row that are too large for its scale; they count exactly.
struct Outliers {
  static constexpr int64_t kMost = 8;
  int32_t count;
  int32_t column[kMost];
  float value[kMost];
};

/// Rows of T to 8 bits: value ≈ scale · (q - 128), but for the outliers, which are zero there.
template <class T>
struct RowsToInt8 {
  int64_t rows, n;
  const T* x;
  const float* factor;  // [n], multiplies x first; or null
  float outlier;        // a value above this many times the mean size of its row is one
  uint8_t* q;
  int64_t q_stride;  // a multiple of 16
  float* scale;      // [rows]; not a number where the row has one
  Outliers* outliers;
};

/// y [rows, columns] = x (8 bits, with its scales and outliers) · panel · w_scale + bias.
template <class T>
struct Int8Product {
  int64_t rows, units, columns;
  const uint8_t* x;
  int64_t x_stride;
  const float* x_scale;
  const Outliers* outliers;
  const int32_t* panel;
  const int32_t* offset;  // [columns rounded up to 16]: 128 times each column's sum
  const float* w_scale;   // likewise; or null
  const T* bias;          // or null
  T* y;
  int64_t y_stride;
};

template <class T>
struct Kernels {
  const char* isa;
  void (*attention_forward)(const AttentionTask<T>&, float* scratch);
  void (*attention_backward)(const AttentionTask<T>&, float* scratch);
  void (*attention_few)(const AttentionTask<T>&,
                        float* scratch);  // forward of one query, keys where they lie
  void (*norm_forward)(const NormRows<T>&);
  void (*norm_backward)(const NormRows<T>&);
  void (*activate)(Activation, int64_t n, const T* x, const T* up, T* y);
  void (*activate_backward)(Activation, int64_t n, const T* x, const T* up, const T* d_y, T* d_x, T* d_up);
  void (*drop)(const DropRange&, const T* x, T* y);
  void (*rotate_row)(const Rotation&, const T* x, T* y, const float* cos, const float* sin);
  float (*highest)(const T* x, int64_t n);
  float (*log_sum_exp)(const T* x, int64_t n);
  void (*softmax_gradient)(const T* x, int64_t n, float log_sum, int64_t target, float scale, T* d);
  void (*pack_down)(const T* a, int64_t r, int64_t n, int32_t* out);
  void (*pack_up)(const T* b, int64_t r, int64_t n, int32_t* out);
  void (*low_rank_down)(const T* x, int64_t rows, int64_t n, const int32_t* packed, int64_t r, float* u);
  void (*low_rank_up)(const LowRankUp<T>&);
  void (*low_rank_outer)(const LowRankOuter<T>&);
  void (*low_rank_merge)(const LowRankMerge<T>&);
  // What one piece of a panel's product takes: rows stay in the second cache while the panels pass; columns
  // are whole panels.
  int64_t piece_rows, piece_columns;
  // Panels that so few rows read side by side.
  int64_t stream_rows, stream_panels;
  void (*pack_panel)(const T* columns, int64_t count, int64_t summed, int32_t* out);
  void (*turn_panels)(const PanelTurn&);
  void (*panel_product)(const PanelProduct<T>&);
  void (*rows_to_int8)(const RowsToInt8<T>&);
  void (*int8_product)(const Int8Product<T>&);
  void (*adamw)(const AdamWFactors&, int64_t n, float* p, const float* g, float* m, float* v);
};

/// Floats of scratch that a task needs, forward or backward.
int64_t attention_scratch(int64_t queries, int64_t keys, int64_t dim);

template <class T>
const Kernels<T>& kernels();

/// "avx512_amx", "avx512_bf16", "avx2" or "portable": what kernels() is now. At first the best that the
/// processor runs, or what the environment's GRAFT_KERNELS names (UsageError as of choose_isa).
std::string isa();
/// For tests and comparisons; weights in panels want packing again. Errors: UsageError for a name that is
/// unknown or that this processor cannot run.
void choose_isa(const std::string& name);

namespace avx512_amx {
extern const Kernels<Half> kHalf;
extern const Kernels<float> kFloat;
/// Asks the system for the tiles' registers; false where it has none, or keeps them.
bool tiles_allowed();
}  // namespace avx512_amx
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
