// Every kernel that is written over lanes alone, in the order in which they use each other. Included after
// one processor's lanes, kName and kTiles.

// clang-format off
#include "graft/ops/math_kernels.inl"
#include "graft/ops/gemm_kernels.inl"
#include "graft/ops/attention_kernels.inl"
#include "graft/ops/attention_few_kernels.inl"
#include "graft/ops/norm_kernels.inl"
#include "graft/ops/elementwise_kernels.inl"
#include "graft/ops/low_rank_kernels.inl"
#include "graft/ops/panel_kernels.inl"
#include "graft/ops/int8_kernels.inl"
// clang-format on
