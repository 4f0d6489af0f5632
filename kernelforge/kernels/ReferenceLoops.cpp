// One source for all levels, as in TileKernels.cpp. No level gives other bits than another: lanes
// are sums of their own, a product in f64 is exact, and in f32 none is fused with its sum.
#include "kernelforge/kernels/ReferenceLoops.h"

#include "kernelforge/kernels/Processor.h"

#include <algorithm>

namespace kernelforge::reference {

namespace {

#pragma clang fp contract(off)

/// Partial sums of a wide dot product.
constexpr int64_t lanes = 8;
typedef double Wide __attribute__((vector_size(lanes * sizeof(double))));
typedef float Narrow __attribute__((vector_size(lanes * sizeof(float))));
typedef double WideInMemory __attribute__((vector_size(lanes * sizeof(double)), aligned(8)));
typedef float NarrowInMemory __attribute__((vector_size(lanes * sizeof(float)), aligned(4)));

/// A row of a plain panel.
typedef float Columns __attribute__((vector_size(panelColumns * sizeof(float))));
typedef float ColumnsInMemory
    __attribute__((vector_size(panelColumns * sizeof(float)), aligned(4)));

/// By reference: a vector is not returned in the same way at every level.
KF_INLINE void load(const double *p, Wide &to) { to = *reinterpret_cast<const WideInMemory *>(p); }
KF_INLINE void load(const float *p, Wide &to) {
  const Narrow narrow = *reinterpret_cast<const NarrowInMemory *>(p);
  to = __builtin_convertvector(narrow, Wide);
}

/// The wide dot products of `R` rows with `C` columns of `k` elements each.
template <int R, int C, typename B>
KF_INLINE void wideTile(const float *a, int64_t stride, const B *b, int64_t k, double *out) {
  Wide sums[R][C] = {};
  int64_t i = 0;
  for (; i + lanes <= k; i += lanes) {
    Wide right[C];
    for (int c = 0; c < C; ++c)
      load(b + c * k + i, right[c]);
    for (int r = 0; r < R; ++r) {
      Wide left;
      load(a + r * stride + i, left);
      for (int c = 0; c < C; ++c)
        sums[r][c] += left * right[c];
    }
  }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) {
      double sum = 0;
      for (int64_t rest = i; rest < k; ++rest)
        sum += static_cast<double>(a[r * stride + rest]) * static_cast<double>(b[c * k + rest]);
      for (int64_t j = 0; j < lanes; ++j)
        sum += sums[r][c][j];
      out[r * panelColumns + c] = sum;
    }
}

template <int R, int C>
KF_INLINE void wideRows(Rows in, const double *panel, int64_t count, int64_t r, double *sums) {
  int64_t c = 0;
  for (; c + C <= count; c += C)
    wideTile<R, C>(in.row(r), in.stride, panel + c * in.width, in.width,
                   sums + r * panelColumns + c);
  for (; c < count; ++c)
    wideTile<R, 1>(in.row(r), in.stride, panel + c * in.width, in.width,
                   sums + r * panelColumns + c);
}

/// Cuts the rows and columns into tiles of at most R x C.
template <int R, int C>
KF_INLINE void widePanel(Rows in, const double *panel, int64_t count, double *sums) {
  int64_t r = 0;
  for (; r + R <= in.rows; r += R)
    wideRows<R, C>(in, panel, count, r, sums);
  for (; r < in.rows; ++r)
    wideRows<1, C>(in, panel, count, r, sums);
}

template <int R>
KF_INLINE void plainTile(const float *a, int64_t stride, const float *panel, int64_t k,
                         float *out) {
  Columns sums[R] = {};
  for (int64_t i = 0; i < k; ++i) {
    const Columns right = *reinterpret_cast<const ColumnsInMemory *>(panel + i * panelColumns);
    for (int r = 0; r < R; ++r)
      sums[r] += right * a[r * stride + i];
  }
  for (int r = 0; r < R; ++r)
    *reinterpret_cast<ColumnsInMemory *>(out + r * panelColumns) = sums[r];
}

template <int R> KF_INLINE void plainPanel(Rows in, const float *panel, float *sums) {
  int64_t r = 0;
  for (; r + R <= in.rows; r += R)
    plainTile<R>(in.row(r), in.stride, panel, in.width, sums + r * panelColumns);
  for (; r < in.rows; ++r)
    plainTile<1>(in.row(r), in.stride, panel, in.width, sums + r * panelColumns);
}

// With 512 bits, 4 x 4 sums and what is loaded take 21 of 32 registers; with 256 bits a lane set
// takes two, and 2 x 2 sums 8 of 16.
[[gnu::target(KF_AVX512)]] void wideAvx512(Rows in, const double *panel, int64_t count,
                                           double *sums) {
  widePanel<4, 4>(in, panel, count, sums);
}
[[gnu::target(KF_AVX2)]] void wideAvx2(Rows in, const double *panel, int64_t count, double *sums) {
  widePanel<2, 2>(in, panel, count, sums);
}
[[gnu::target(KF_AVX512)]] void plainAvx512(Rows in, const float *panel, float *sums) {
  plainPanel<8>(in, panel, sums);
}
[[gnu::target(KF_AVX2)]] void plainAvx2(Rows in, const float *panel, float *sums) {
  plainPanel<4>(in, panel, sums);
}
[[gnu::target(KF_AVX512)]] double dotAvx512(const float *a, const float *b, int64_t n) {
  double sum = 0;
  wideTile<1, 1>(a, 0, b, n, &sum);
  return sum;
}
[[gnu::target(KF_AVX2)]] double dotAvx2(const float *a, const float *b, int64_t n) {
  double sum = 0;
  wideTile<1, 1>(a, 0, b, n, &sum);
  return sum;
}

} // namespace

template <> double dot<double>(const float *a, const float *b, int64_t n) {
  if (vectorLevel() == VectorLevel::Avx512)
    return dotAvx512(a, b, n);
  if (vectorLevel() == VectorLevel::Avx2)
    return dotAvx2(a, b, n);
  double sum = 0;
  wideTile<1, 1>(a, 0, b, n, &sum);
  return sum;
}

template <> float dot<float>(const float *a, const float *b, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; ++i)
    sum += a[i] * b[i];
  return sum;
}

template <>
void multiplyPanel<double>(Rows input, const double *panel, int64_t count, double *sums) {
  if (vectorLevel() == VectorLevel::Avx512)
    wideAvx512(input, panel, count, sums);
  else if (vectorLevel() == VectorLevel::Avx2)
    wideAvx2(input, panel, count, sums);
  else
    widePanel<1, 1>(input, panel, count, sums);
}

template <>
void multiplyPanel<float>(Rows input, const float *panel, int64_t /*count*/, float *sums) {
  if (vectorLevel() == VectorLevel::Avx512)
    plainAvx512(input, panel, sums);
  else if (vectorLevel() == VectorLevel::Avx2)
    plainAvx2(input, panel, sums);
  else
    plainPanel<1>(input, panel, sums);
}

} // namespace kernelforge::reference
