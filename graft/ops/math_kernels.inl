// Functions of sixteen lanes, to float32's accuracy.

/// eˣ; below -104 zero, above 88 infinity or nearly so. Relative error 2 ulp.
inline Vec vexp(Vec x) {
  // The bound stands first: a NaN passes.
  x = vmin(vset(88.7f), vmax(vset(-110.0f), x));
  const Vec n = vround(x * vset(1.44269504f));
  const Vec r = vfma(n, vset(-1.42860677e-6f), vfma(n, vset(-0.693145752f), x));
  Vec p = vset(1.0f / 720);
  p = vfma(p, r, vset(1.0f / 120));
  p = vfma(p, r, vset(1.0f / 24));
  p = vfma(p, r, vset(1.0f / 6));
  p = vfma(p, r, vset(0.5f));
  p = vfma(p, r, vset(1.0f));
  p = vfma(p, r, vset(1.0f));
  return vscale2(p, n);
}

/// The error function and e^(-x²), by Abramowitz and Stegun 7.1.26: absolute error 1.5e-7.
inline Vec verf(Vec x, Vec& exp_of_minus_square) {
  const Vec a = vabs(x);
  const Vec t = vset(1.0f) / vfma(a, vset(0.3275911f), vset(1.0f));
  Vec p = vset(1.061405429f);
  p = vfma(p, t, vset(-1.453152027f));
  p = vfma(p, t, vset(1.421413741f));
  p = vfma(p, t, vset(-0.284496736f));
  p = vfma(p, t, vset(0.254829592f));
  exp_of_minus_square = vexp(vset(0.0f) - a * a);
  return vcopysign(vset(1.0f) - p * t * exp_of_minus_square, x);
}

inline Vec vsigmoid(Vec x) { return vset(1.0f) / (vset(1.0f) + vexp(vset(0.0f) - x)); }
/// tanh by the sigmoid; absolute error 1e-7.
inline Vec vtanh(Vec x) { return vfma(vset(2.0f), vsigmoid(x + x), vset(-1.0f)); }
