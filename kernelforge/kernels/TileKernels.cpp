// One source for all levels: templates over a vector type are inlined into functions that carry the
// level's target attribute. All loads and stores are unaligned ones.
#include "kernelforge/kernels/TileKernels.h"

#include <cstring>

using namespace kernelforge;

namespace {

/// Vectors of f32. The type that memory is read through has the alignment of a byte, because
/// weights lie in a file as they like, and may alias anything.
template <int lanes> struct Vectors {
  typedef float Type __attribute__((vector_size(lanes * 4)));
  typedef float InMemory __attribute__((vector_size(lanes * 4), aligned(1), may_alias));
};
using V16 = Vectors<16>;
using V8 = Vectors<8>;
using V4 = Vectors<4>;

/// A tile of rows x (3 vectors). With 16 lanes and 8 rows its 24 sums, 3 vectors of b and one
/// broadcast take 28 of 32 registers; with 8 lanes and 4 rows 16 of 16.
constexpr int tileVectors = 3;

template <typename V, int lanes, int rows>
KF_INLINE void tile(int64_t k, const float *a, const float *b, float *c, int64_t stride, bool add) {
  using Vector = typename V::Type;
  using InMemory = typename V::InMemory;
  Vector sums[rows][tileVectors] = {};
  if (add)
    for (int r = 0; r < rows; ++r)
      for (int v = 0; v < tileVectors; ++v)
        sums[r][v] = *reinterpret_cast<const InMemory *>(c + r * stride + v * lanes);
  for (int64_t i = 0; i < k; ++i, a += tileRows, b += tileVectors * lanes) {
    Vector right[tileVectors];
    for (int v = 0; v < tileVectors; ++v)
      right[v] = *reinterpret_cast<const InMemory *>(b + v * lanes);
    for (int r = 0; r < rows; ++r)
      for (int v = 0; v < tileVectors; ++v)
        sums[r][v] += right[v] * a[r];
  }
  for (int r = 0; r < rows; ++r)
    for (int v = 0; v < tileVectors; ++v)
      *reinterpret_cast<InMemory *>(c + r * stride + v * lanes) = sums[r][v];
}

/// Cuts `rows` into tiles of at most `most`.
template <typename V, int lanes, int most>
KF_INLINE void tiles(int64_t rows, int64_t k, const float *a, const float *b, float *c,
                     int64_t stride, bool add) {
  for (; rows >= most; rows -= most, a += most, c += most * stride)
    tile<V, lanes, most>(k, a, b, c, stride, add);
  if constexpr (most > 1)
    if (rows > 0)
      tiles<V, lanes, most / 2>(rows, k, a, b, c, stride, add);
}

KF_INLINE void transposeAny(int64_t rows, int64_t k, const float *from, int64_t fromStride,
                            float *to, int64_t toStride) {
  const auto *bytes = reinterpret_cast<const std::byte *>(from);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < k; ++i)
      std::memcpy(to + i * toStride + r, bytes + (r * fromStride + i) * 4, 4);
}

/// 8 x 8 values at a time, in three steps of interleaving.
KF_INLINE void transposeEight(int64_t k, const float *from, int64_t fromStride, float *to,
                              int64_t toStride) {
  using Vector = V8::Type;
  int64_t i = 0;
  for (; i + 8 <= k; i += 8) {
    Vector a[8], b[8];
    for (int r = 0; r < 8; ++r)
      a[r] = *reinterpret_cast<const V8::InMemory *>(from + r * fromStride + i);
    for (int r = 0; r < 8; r += 2) {
      b[r] = __builtin_shufflevector(a[r], a[r + 1], 0, 8, 2, 10, 4, 12, 6, 14);
      b[r + 1] = __builtin_shufflevector(a[r], a[r + 1], 1, 9, 3, 11, 5, 13, 7, 15);
    }
    for (int r = 0; r < 8; r += 4)
      for (int s = 0; s < 2; ++s) {
        a[r + s] = __builtin_shufflevector(b[r + s], b[r + s + 2], 0, 1, 8, 9, 4, 5, 12, 13);
        a[r + s + 2] = __builtin_shufflevector(b[r + s], b[r + s + 2], 2, 3, 10, 11, 6, 7, 14, 15);
      }
    for (int r = 0; r < 4; ++r) {
      b[r] = __builtin_shufflevector(a[r], a[r + 4], 0, 1, 2, 3, 8, 9, 10, 11);
      b[r + 4] = __builtin_shufflevector(a[r], a[r + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
    for (int r = 0; r < 8; ++r)
      *reinterpret_cast<V8::InMemory *>(to + (i + r) * toStride) = b[r];
  }
  transposeAny(8, k - i, from + i, fromStride, to + i * toStride, toStride);
}

KF_INLINE void transpose(int64_t rows, int64_t k, const float *from, int64_t fromStride, float *to,
                         int64_t toStride) {
  if (rows == 8)
    return transposeEight(k, from, fromStride, to, toStride);
  transposeAny(rows, k, from, fromStride, to, toStride);
}

/// Eight streams at once: one alone does not keep the memory busy.
template <typename V, int lanes>
KF_INLINE void dot(int64_t k, const float *x, const float *rows, int64_t stride, float *sums) {
  using InMemory = typename V::InMemory;
  typename V::Type partial[dotRows] = {};
  int64_t i = 0;
  for (; i + lanes <= k; i += lanes) {
    const typename V::Type left = *reinterpret_cast<const InMemory *>(x + i);
    for (int r = 0; r < dotRows; ++r)
      partial[r] += left * *reinterpret_cast<const InMemory *>(rows + r * stride + i);
  }
  const auto *bytes = reinterpret_cast<const std::byte *>(rows);
  for (int r = 0; r < dotRows; ++r) {
    float sum = 0;
    for (int64_t j = i; j < k; ++j) {
      float value;
      std::memcpy(&value, bytes + (r * stride + j) * 4, 4);
      sum += x[j] * value;
    }
    for (int lane = 0; lane < lanes; ++lane)
      sum += partial[r][lane];
    sums[r] = sum;
  }
}

/// The three functions of one level, under the attribute ATTRIBUTE.
#define KF_LEVEL(NAME, ATTRIBUTE, V, LANES, ROWS)                                                  \
  ATTRIBUTE void tile##NAME(int64_t rows, int64_t k, const float *a, const float *b, float *c,     \
                            int64_t stride, bool add) {                                            \
    tiles<V, LANES, ROWS>(rows, k, a, b, c, stride, add);                                          \
  }                                                                                                \
  ATTRIBUTE void transpose##NAME(int64_t rows, int64_t k, const float *from, int64_t fromStride,   \
                                 float *to, int64_t toStride) {                                    \
    transpose(rows, k, from, fromStride, to, toStride);                                            \
  }                                                                                                \
  ATTRIBUTE void dot##NAME(int64_t k, const float *x, const float *rows, int64_t stride,           \
                           float *sums) {                                                          \
    dot<V, LANES>(k, x, rows, stride, sums);                                                       \
  }                                                                                                \
  constexpr TileKernels level##NAME { tileVectors *(LANES), tile##NAME, transpose##NAME, dot##NAME }

KF_LEVEL(Avx512, [[gnu::target(KF_AVX512)]], V16, 16, 8);
KF_LEVEL(Avx2, [[gnu::target(KF_AVX2)]], V8, 8, 4);
KF_LEVEL(Portable, , V4, 4, 4);

} // namespace

const TileKernels &kernelforge::tileKernels(VectorLevel level) {
  switch (level) {
  case VectorLevel::Avx512:
    return levelAvx512;
  case VectorLevel::Avx2:
    return levelAvx2;
  case VectorLevel::Portable:
    break;
  }
  return levelPortable;
}
