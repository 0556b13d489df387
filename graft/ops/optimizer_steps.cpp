#include "graft/ops/optimizer_steps.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "graft/base/error.h"
#include "graft/ops/philox.h"

namespace graft::ops {
namespace {

/// Sums over parts of fixed size: equal bits with any number of threads.
constexpr int64_t kPart = 16384;

template <class Part>
double sum_of_parts(int64_t n, const Part& part) {
  const int64_t parts = (n + kPart - 1) / kPart;
  std::vector<double> sums(static_cast<size_t>(parts));
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      sums[static_cast<size_t>(i)] = part(i * kPart, std::min(n, (i + 1) * kPart));
  });
  double sum = 0;
  for (const double one : sums) sum += one;
  return sum;
}

/// Of value(i), i from 0 to below n.
template <class Value>
double root_mean_square(int64_t n, const Value& value) {
  const double squares = sum_of_parts(n, [&](int64_t begin, int64_t end) {
    double sum = 0;
    for (int64_t i = begin; i < end; ++i) {
      const auto wide = static_cast<double>(value(i));
      sum += wide * wide;
    }
    return sum;
  });
  return std::sqrt(squares / static_cast<double>(std::max<int64_t>(1, n)));
}

/// What a matrix's gradient is multiplied by, in its place (r, c): row[r] · column[c].
struct Factors {
  std::vector<float> rows, columns;
};

/// The means of squares, moved towards this gradient's.
void move_means(const float* g, int64_t rows, int64_t columns, const AdafactorState& state, float beta,
                float eps) {
  std::vector<double> of_columns(static_cast<size_t>(columns), 0);
  for (int64_t r = 0; r < rows; ++r) {
    double of_row = 0;
    for (int64_t c = 0; c < columns; ++c) {
      const double square = static_cast<double>(g[r * columns + c] * g[r * columns + c] + eps);
      of_row += square;
      of_columns[static_cast<size_t>(c)] += square;
    }
    state.rows[r] =
        state.rows[r] * beta + static_cast<float>(of_row / static_cast<double>(columns)) * (1 - beta);
  }
  for (int64_t c = 0; c < columns; ++c) {
    const auto mean = static_cast<float>(of_columns[static_cast<size_t>(c)] / static_cast<double>(rows));
    state.columns[c] = state.columns[c] * beta + mean * (1 - beta);
  }
}

Factors factors_of(int64_t rows, int64_t columns, const AdafactorState& state) {
  Factors out{std::vector<float>(static_cast<size_t>(rows)),
              std::vector<float>(static_cast<size_t>(columns))};
  double mean = 0;
  for (int64_t r = 0; r < rows; ++r) mean += static_cast<double>(state.rows[r]);
  mean /= static_cast<double>(rows);
  for (int64_t r = 0; r < rows; ++r)
    out.rows[static_cast<size_t>(r)] = 1 / std::sqrt(state.rows[r] / static_cast<float>(mean));
  for (int64_t c = 0; c < columns; ++c) out.columns[static_cast<size_t>(c)] = 1 / std::sqrt(state.columns[c]);
  return out;
}

}  // namespace

void sgd_range(const StepRange& range, const SgdOptions& options) {
  const auto rate = static_cast<float>(options.learning_rate),
             momentum = static_cast<float>(options.momentum),
             decay = static_cast<float>(options.weight_decay);
  float* const p = range.parameter;
  const float* const g = range.gradient;
  float* const m = range.first;
  if (m == nullptr) {
#pragma omp simd
    for (int64_t i = 0; i < range.n; ++i) p[i] -= rate * (g[i] + decay * p[i]);
    return;
  }
#pragma omp simd
  for (int64_t i = 0; i < range.n; ++i) {
    m[i] = momentum * m[i] + (g[i] + decay * p[i]);
    p[i] -= rate * m[i];
  }
}

void lion_range(const StepRange& range, const LionOptions& options) {
  const auto rate = static_cast<float>(options.learning_rate), beta1 = static_cast<float>(options.beta1),
             beta2 = static_cast<float>(options.beta2);
  const auto keep = static_cast<float>(1 - options.learning_rate * options.weight_decay);
  float* const p = range.parameter;
  const float* const g = range.gradient;
  float* const m = range.first;
#pragma omp simd
  for (int64_t i = 0; i < range.n; ++i) {
    const float direction = beta1 * m[i] + (1 - beta1) * g[i];
    const float sign = direction > 0 ? 1.0F : direction < 0 ? -1.0F : 0.0F;
    p[i] = keep * p[i] - rate * sign;
    m[i] = beta2 * m[i] + (1 - beta2) * g[i];
  }
}

void adafactor_tensor(const StepRange& range, const MatrixShape& shape, const AdafactorState& state,
                      int64_t step, const AdafactorOptions& options) {
  const auto beta = static_cast<float>(1 - std::pow(static_cast<double>(step), options.decay_rate));
  const auto eps = static_cast<float>(options.eps);
  const float* const g = range.gradient;
  const int64_t of_one = shape.rows * shape.columns;
  std::vector<Factors> factors;
  if (state.rows != nullptr) {
    factors.resize(static_cast<size_t>(shape.matrices));
    at::parallel_for(0, shape.matrices, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const AdafactorState part{state.rows + i * shape.rows, state.columns + i * shape.columns, nullptr};
        move_means(g + i * of_one, shape.rows, shape.columns, part, beta, eps);
        factors[static_cast<size_t>(i)] = factors_of(shape.rows, shape.columns, part);
      }
    });
  } else {
    at::parallel_for(0, range.n, kPart, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        state.values[i] = state.values[i] * beta + (g[i] * g[i] + eps) * (1 - beta);
    });
  }
  const auto update = [&](int64_t i) {
    if (state.rows == nullptr) return g[i] / std::sqrt(state.values[i]);
    const Factors& of = factors[static_cast<size_t>(i / of_one)];
    const int64_t at = i % of_one;
    return of.rows[static_cast<size_t>(at / shape.columns)] *
           of.columns[static_cast<size_t>(at % shape.columns)] * g[i];
  };
  const double root = root_mean_square(range.n, update);
  double scaled = options.learning_rate;
  if (options.scale_parameter) {
    const auto parameter = [&](int64_t i) { return range.parameter[i]; };
    scaled *= std::max(options.least_scale, root_mean_square(range.n, parameter));
  }
  const auto rate = static_cast<float>(scaled / std::max(1.0, root / options.clip_threshold));
  const auto decay = static_cast<float>(scaled * options.weight_decay);
  at::parallel_for(0, range.n, kPart, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) range.parameter[i] -= decay * range.parameter[i] + rate * update(i);
  });
}

void round_by_chance(const float* from, int64_t n, uint64_t key, int64_t first_index, c10::BFloat16* to) {
  if (first_index % 8 != 0) throw InternalError("round_by_chance", "first index {}", first_index);
  for (int64_t i = 0; i < n; i += 8) {
    const auto block = static_cast<uint64_t>((first_index + i) / 8);
    const auto words = philox_block({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), 0, 0},
                                    PhiloxKey(key));
    for (int64_t j = 0; j < std::min<int64_t>(8, n - i); ++j) {
      const uint32_t chance = words[static_cast<size_t>(j / 2)] >> (j % 2 * 16) & 0xFFFFU;
      const float value = from[i + j];
      const auto bits = std::bit_cast<uint32_t>(value);
      // Infinities and not-a-numbers have no neighbour to go to.
      const bool finite = (bits & 0x7F800000U) != 0x7F800000U;
      to[i + j] =
          finite ? c10::BFloat16(static_cast<uint16_t>((bits + chance) >> 16), c10::BFloat16::from_bits())
                 : c10::BFloat16(value);
    }
  }
}

}  // namespace graft::ops
