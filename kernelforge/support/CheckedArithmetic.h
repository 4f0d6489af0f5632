// Arithmetic on sizes that come from outside: overflow is a value, never a wrap.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>

namespace kernelforge {

inline std::optional<uint64_t> checkedAdd(uint64_t a, uint64_t b) {
  uint64_t r;
  if (__builtin_add_overflow(a, b, &r))
    return std::nullopt;
  return r;
}

inline std::optional<uint64_t> checkedMul(uint64_t a, uint64_t b) {
  uint64_t r;
  if (__builtin_mul_overflow(a, b, &r))
    return std::nullopt;
  return r;
}

/// Product of a range of factors, each step checked: an overflow is not undone by a later zero.
template <typename Range> std::optional<uint64_t> checkedProduct(const Range &factors) {
  uint64_t r = 1;
  for (uint64_t f : factors)
    if (__builtin_mul_overflow(r, f, &r))
      return std::nullopt;
  return r;
}
inline std::optional<uint64_t> checkedProduct(std::initializer_list<uint64_t> factors) {
  return checkedProduct<std::initializer_list<uint64_t>>(factors);
}

/// `a` rounded up to a multiple of `to` (a power of two or not, but not zero).
inline std::optional<uint64_t> checkedRoundUp(uint64_t a, uint64_t to) {
  auto sum = checkedAdd(a, to - 1);
  if (!sum)
    return std::nullopt;
  return *sum / to * to;
}

} // namespace kernelforge
