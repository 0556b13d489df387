// The table of one processor's kernels.

template <class T>
constexpr Kernels<T> table() {
  return {
      .isa = kName,
      .attention_forward = attention_forward<T>,
      .attention_backward = attention_backward<T>,
  };
}

const Kernels<Half> kHalf = table<Half>();
const Kernels<float> kFloat = table<float>();
