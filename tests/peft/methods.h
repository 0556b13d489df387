// The methods that the laws are tested on, one row each: a later method joins by one more.
#pragma once
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <functional>
#include <string>
#include <vector>

#include "graft/peft/adapter.h"
#include "tests/models/tiny.h"

namespace graft::test {

struct MethodRow {
  const char* name;
  const char* config;          // as in a recipe, JSON
  bool identity = true;        // a fresh adapter changes nothing
  bool merges = true;          // there is a merged form
  bool exact_gradient = true;  // not where a part of the value is held fixed (DoRA's norms)
  std::function<int64_t(int64_t in, int64_t out)> count = {};
  /// Of a method on the model's inputs: trained numbers beside the heads'.
  std::function<int64_t(const Model&)> input_count = {};
  /// Model types (first word of the tiny model's name) that have nothing to train, or sizes that the row does
  /// not divide.
  std::vector<std::string> refuses = {};
  bool names_modules = true;  // the file's keys are the model's: no other model fits
};

inline void PrintTo(const MethodRow& row, std::ostream* out) { *out << row.name; }
inline void PrintTo(const Tiny& tiny, std::ostream* out) { *out << tiny.name; }

const std::vector<MethodRow>& method_rows();

/// The row's adapter for a model; families without default targets get all linears.
Adapter fresh_adapter(const MethodRow& row, Model& model);

/// Moves every trained tensor by seeded noise, so that nothing is zero or one.
void move_tensors(const Adapter& adapter, double noise = 0.2);

/// The model's answer: logits of all rows, or of the sequences' heads; hidden rows without a head.
Tensor answer(Model& model, const Adapter* adapter, const Batch& batch);

}  // namespace graft::test
