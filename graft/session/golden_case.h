// Reference cases: what transformers and PEFT computed, computed again and compared.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "graft/io/tensor_map.h"

namespace graft {

struct CaseReport {
  std::string name;
  double share = 0;                   // largest error, as a share of its tolerance
  std::string worst;                  // the tensor that has it
  std::vector<std::string> problems;  // empty: the case passes
  TensorMap computed;                 // by the names of expected.safetensors
};

/// Computes everything that the case's expected.safetensors holds, and compares. The model lies at
/// <folder>/../../<model>. Errors: DataError (a missing file, an expected tensor with an unknown name).
CaseReport run_case(const std::filesystem::path& folder);

/// Largest |computed - expected| as a share of what is allowed for a tensor of this name; elements that are
/// NaN in `expected` do not count. Infinite where shapes differ or a result is not finite.
double tolerance_share(const std::string& name, const Tensor& computed, const Tensor& expected);

}  // namespace graft
