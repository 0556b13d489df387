// A training step as `graft bench` measures it: shape, data and method of one work.
#pragma once
#include <string>
#include <vector>

#include "graft/models/model.h"

namespace graft {

struct BenchWork {
  std::string name;
  Json config;  // of the model; weights are random
  HeadKind head = HeadKind::none;
  Json method;        // of the adapter
  int64_t batch = 0;  // sequences
  int64_t block = 0;  // tokens of each; 0: MRPC's lengths
};
const std::vector<BenchWork>& bench_work_table();

struct BenchMeasurement {
  double tokens_per_second = 0;  // the median step's
  double operations_per_token =
      0;  // useful ones: linears forward and gradient to the input, attention forward and backward
  double step_seconds = 0;  // median
};
/// `dtype` as in a recipe's model.dtype.
BenchMeasurement measure_training(const BenchWork& work, const std::string& dtype, int64_t steps);

}  // namespace graft
