// Numbers of lanes as template arguments, for kernels that are written once over a vector's width. Types
// alone: no code that would be compiled for one processor and run on another.
#pragma once

namespace graft::ops {

template <int... kIndex>
struct Indices {};
template <int kCount, int... kIndex>
struct MakeIndices : MakeIndices<kCount - 1, kCount - 1, kIndex...> {};
template <int... kIndex>
struct MakeIndices<0, kIndex...> {
  using Type = Indices<kIndex...>;
};

}  // namespace graft::ops
