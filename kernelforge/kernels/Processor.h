// Which vector instructions hand-written loops may use. They are compiled once for each level, by
// function attributes, and chosen at run time.
#pragma once

/// Target attributes of the levels: `[[gnu::target(KF_AVX512)]]`.
#define KF_AVX512 "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,f16c"
#define KF_AVX2 "avx2,fma,f16c"

/// For what is inlined into functions with such an attribute, and compiled for their level there.
#define KF_INLINE [[gnu::always_inline]] inline

namespace kernelforge {

enum class VectorLevel { Portable, Avx2, Avx512 };

/// The best level that this processor and its operating system offer.
inline VectorLevel vectorLevel() {
  static const VectorLevel level = [] {
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
      return VectorLevel::Avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
      return VectorLevel::Avx2;
    return VectorLevel::Portable;
  }();
  return level;
}

} // namespace kernelforge
