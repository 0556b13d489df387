#include "graft/ops/kernels.h"

#include <cstdlib>
#include <vector>

#include "graft/base/error.h"

namespace graft::ops {
namespace {

struct Isa {
  const Kernels<Half>* half;
  const Kernels<float>* single;
  bool runs;
};

/// Best first.
const std::vector<Isa>& isas() {
  static const bool wide = __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni") &&
                           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                           __builtin_cpu_supports("avx512vl");
  static const std::vector<Isa> table = {
      {&avx512_amx::kHalf, &avx512_amx::kFloat,
       wide && __builtin_cpu_supports("amx-bf16") && __builtin_cpu_supports("amx-int8") &&
           avx512_amx::tiles_allowed()},
      {&avx512_bf16::kHalf, &avx512_bf16::kFloat, wide},
      {&avx2::kHalf, &avx2::kFloat, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")},
      {&portable::kHalf, &portable::kFloat, true},
  };
  return table;
}

const Isa& named(const std::string& name, const std::string& path) {
  for (const Isa& one : isas()) {
    if (name == one.half->isa && one.runs) return one;
  }
  throw UsageError(
      path, "{}: not one that this processor runs, expected avx512_amx, avx512_bf16, avx2 or portable", name);
}

/// What GRAFT_KERNELS names, or the best.
const Isa* wanted() {
  const char* const name = std::getenv("GRAFT_KERNELS");
  if (name != nullptr) return &named(name, "GRAFT_KERNELS");
  for (const Isa& one : isas()) {
    if (one.runs) return &one;
  }
  return &isas().back();
}

const Isa*& chosen() {
  static const Isa* current = wanted();
  return current;
}

}  // namespace

template <>
const Kernels<Half>& kernels<Half>() {
  return *chosen()->half;
}
template <>
const Kernels<float>& kernels<float>() {
  return *chosen()->single;
}

std::string isa() { return chosen()->half->isa; }

void choose_isa(const std::string& name) { chosen() = &named(name, "isa"); }

}  // namespace graft::ops
