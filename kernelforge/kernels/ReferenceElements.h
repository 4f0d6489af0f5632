// What elementwise operations mean, as functions of one element in either precision, and the loop
// over rows.
#pragma once

#include "kernelforge/kernels/Reference.h"

#include <cmath>
#include <numbers>

namespace kernelforge::reference {

/// Calls `compute` with a value of the type that `precision` computes in.
template <typename Function> void computeIn(Precision precision, const Function &compute) {
  if (precision == Precision::Plain)
    compute(0.0F);
  else
    compute(0.0);
}

/// Each element of `out` is `function` of the element of `input` there, in its type T: it is called
/// with a T, the row and the column.
template <typename T, typename Function>
void mapElements(Rows input, MutableRows out, const Function &function) {
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < out.rows; ++r)
    for (int64_t i = 0; i < out.width; ++i)
      out.row(r)[i] = static_cast<float>(function(T(input.row(r)[i]), r, i));
}

/// The same for a function of an element alone, which takes a double or a float.
template <typename Function>
void mapElements(Rows input, MutableRows out, Precision precision, const Function &function) {
  computeIn(precision, [&](auto zero) {
    using T = decltype(zero);
    mapElements<T>(input, out, [&](T x, int64_t, int64_t) { return function(x); });
  });
}

template <typename T> T softCapped(T value, T cap) {
  return cap > 0 ? cap * std::tanh(value / cap) : value;
}

template <typename T> T activated(T x, ActivationKind function) {
  // The limit there; the formulas would multiply it by 0.
  if (x == -INFINITY)
    return 0;
  switch (function) {
  case ActivationKind::Silu:
    return x / (1 + std::exp(-x));
  case ActivationKind::Gelu: // x * Phi(x); erfc keeps the small values of negative x exact
    return T(0.5) * x * std::erfc(-x * T(std::numbers::sqrt2 / 2));
  case ActivationKind::GeluTanh: {
    const T factor(std::sqrt(2 * std::numbers::inv_pi));
    return T(0.5) * x * (1 + std::tanh(factor * (x + T(0.044715) * x * x * x)));
  }
  case ActivationKind::Relu: // NaN stays NaN
    return x <= 0 ? 0 : x;
  }
  return x;
}

} // namespace kernelforge::reference
