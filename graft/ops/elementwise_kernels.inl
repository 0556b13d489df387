// One value at a time: activations, dropout, rotations, softmax over a row, the optimizer's step.

/// act(x), and its derivative where `slope` is asked for.
template <Activation kind>
inline Vec activation(Vec x, Vec* slope) {
  const Vec one = vset(1.0f), half = vset(0.5f);
  if constexpr (kind == Activation::gelu) {
    Vec bell;
    const Vec share = half * (one + verf(x * vset(0.70710678f), bell));
    if (slope) *slope = vfma(x * bell, vset(0.39894228f), share);
    return x * share;
  } else if constexpr (kind == Activation::gelu_tanh) {
    const Vec square = x * x, inner = x * vset(0.79788456f) * vfma(square, vset(0.044715f), one);
    const Vec t = vtanh(inner), share = half * (one + t);
    if (slope) {
      const Vec d_inner = vset(0.79788456f) * vfma(square, vset(3 * 0.044715f), one);
      *slope = vfma(half * x * (one - t * t), d_inner, share);
    }
    return x * share;
  } else if constexpr (kind == Activation::silu) {
    const Vec s = vsigmoid(x);
    if (slope) *slope = s * vfma(x, one - s, one);
    return x * s;
  } else if constexpr (kind == Activation::tanh) {
    const Vec t = vtanh(x);
    if (slope) *slope = one - t * t;
    return t;
  } else {
    // max with the bound first: a NaN passes. The derivative at 0 is 0, as torch has it.
    if (slope) *slope = vstep(x);
    return vmax(vset(0.0f), x);
  }
}

/// y = act(x) · up, or act(x) where there is no up.
template <class T, Activation kind>
void activate_as(int64_t n, const T* x, const T* up, T* y) {
  each_lanes(n, [&](int64_t j, auto lanes) {
    Vec v = activation<kind>(load_lanes(x + j, lanes), nullptr);
    if (up) v = v * load_lanes(up + j, lanes);
    store_lanes(y + j, v, lanes);
  });
}
template <class T, Activation kind>
void activate_backward_as(int64_t n, const T* x, const T* up, const T* d_y, T* d_x, T* d_up) {
  each_lanes(n, [&](int64_t j, auto lanes) {
    Vec slope;
    const Vec g = load_lanes(d_y + j, lanes), value = activation<kind>(load_lanes(x + j, lanes), &slope);
    Vec d = g * slope;
    if (up) {
      d = d * load_lanes(up + j, lanes);
      store_lanes(d_up + j, g * value, lanes);
    }
    store_lanes(d_x + j, d, lanes);
  });
}

template <class T>
void activate(Activation kind, int64_t n, const T* x, const T* up, T* y) {
  switch (kind) {
    case Activation::gelu:
      return activate_as<T, Activation::gelu>(n, x, up, y);
    case Activation::gelu_tanh:
      return activate_as<T, Activation::gelu_tanh>(n, x, up, y);
    case Activation::silu:
      return activate_as<T, Activation::silu>(n, x, up, y);
    case Activation::tanh:
      return activate_as<T, Activation::tanh>(n, x, up, y);
    case Activation::relu:
      return activate_as<T, Activation::relu>(n, x, up, y);
  }
}
template <class T>
void activate_backward(Activation kind, int64_t n, const T* x, const T* up, const T* d_y, T* d_x, T* d_up) {
  switch (kind) {
    case Activation::gelu:
      return activate_backward_as<T, Activation::gelu>(n, x, up, d_y, d_x, d_up);
    case Activation::gelu_tanh:
      return activate_backward_as<T, Activation::gelu_tanh>(n, x, up, d_y, d_x, d_up);
    case Activation::silu:
      return activate_backward_as<T, Activation::silu>(n, x, up, d_y, d_x, d_up);
    case Activation::tanh:
      return activate_backward_as<T, Activation::tanh>(n, x, up, d_y, d_x, d_up);
    case Activation::relu:
      return activate_backward_as<T, Activation::relu>(n, x, up, d_y, d_x, d_up);
  }
}

/// Elements [begin, end) of a tensor, begin a multiple of 64.
template <class T>
void drop(const DropRange& range, const T* x, T* y) {
  for (int64_t i = range.begin; i < range.end; i += 64) {
    const uint64_t counter = static_cast<uint64_t>(i) / 4;
    const Words words = philox_lanes(counter, static_cast<uint32_t>(counter >> 32), 0, PhiloxKey(range.key));
    const int64_t count = std::min<int64_t>(64, range.end - i);
    each_lanes(count, [&](int64_t j, auto lanes) {
      const Vec factor = vkeep(words, static_cast<int>(j / 16), range.drop_below, vset(range.kept));
      store_lanes(y + i + j, load_lanes(x + i + j, lanes) * factor, lanes);
    });
  }
}

/// One row's heads, turned by the row's angles; direction -1 turns back.
template <class T>
void rotate_row(const Rotation& r, const T* x, T* y, const float* cos, const float* sin) {
  const Vec sign = vset(r.direction);
  for (int64_t head = 0; head < r.heads; ++head, x += r.head_stride, y += r.dim) {
    each_lanes(r.half, [&](int64_t j, auto lanes) {
      const Vec c = load_lanes(cos + j, lanes), s = load_lanes(sin + j, lanes) * sign;
      const Vec first = load_lanes(x + j, lanes), second = load_lanes(x + r.half + j, lanes);
      store_lanes(y + j, first * c - second * s, lanes);
      store_lanes(y + r.half + j, second * c + first * s, lanes);
    });
    std::copy(x + 2 * r.half, x + r.dim, y + 2 * r.half);
  }
}

/// The largest value of one row, four sums side by side: as fast as memory gives it.
template <class T>
float highest(const T* x, int64_t n) {
  const Vec lowest = vset(-std::numeric_limits<float>::infinity());
  Vec top[4] = {lowest, lowest, lowest, lowest};
  // A long row is read in four places: one alone does not keep memory busy.
  const bool together = n < (int64_t{1} << 16);
  const int64_t apart = together ? 16 : n / 64 * 16, step = together ? 64 : 16;
  int64_t i = n / 64 * 64;
  for (int64_t at = 0; at < i / 64 * step; at += step) {
    for (int j = 0; j < 4; ++j) top[j] = vmax(top[j], vload(x + at + j * apart));
  }
  for (; i < n; i += 16) {
    const int64_t left = std::min<int64_t>(16, n - i);
    top[0] = vmax(top[0], vbetween(vload_first(x + i, left), 0, left, lowest));
  }
  return vhighest(vmax(vmax(top[0], top[1]), vmax(top[2], top[3])));
}

/// log Σ exp of one row.
template <class T>
float log_sum_exp(const T* x, int64_t n) {
  const float top = highest(x, n);
  const Vec shift = vset(top);
  Vec total = vset(0.0f);
  each_lanes(n, [&](int64_t j, auto lanes) {
    total = total + only_lanes(vexp(load_lanes(x + j, lanes) - shift), lanes);
  });
  return top + std::log(vsum(total));
}

/// d = scale · (softmax(x) - [target]); d may be x.
template <class T>
void softmax_gradient(const T* x, int64_t n, float log_sum, int64_t target, float scale, T* d) {
  const Vec shift = vset(log_sum), factor = vset(scale);
  const float at_target = std::exp(static_cast<float>(x[target]) - log_sum) * scale - scale;
  each_lanes(n, [&](int64_t j, auto lanes) {
    store_lanes(d + j, vexp(load_lanes(x + j, lanes) - shift) * factor, lanes);
  });
  d[target] = static_cast<T>(at_target);
}

inline void adamw(const AdamWFactors& f, int64_t n, float* p, const float* g, float* m, float* v) {
  const Vec fresh1 = vset(f.fresh1), beta2 = vset(f.beta2), fresh2 = vset(f.fresh2), decay = vset(f.decay);
  const Vec step = vset(f.step_size), correction = vset(f.inverse_root_correction), eps = vset(f.eps);
  each_lanes(n, [&](int64_t j, auto lanes) {
    const Vec gradient = load_lanes(g + j, lanes), before = load_lanes(m + j, lanes);
    const Vec first = vfma(fresh1, gradient - before, before);
    const Vec second = vfma(fresh2 * gradient, gradient, beta2 * load_lanes(v + j, lanes));
    const Vec moved = load_lanes(p + j, lanes) * decay - step * first / vfma(vsqrt(second), correction, eps);
    store_lanes(m + j, first, lanes);
    store_lanes(v + j, second, lanes);
    store_lanes(p + j, moved, lanes);
  });
}
