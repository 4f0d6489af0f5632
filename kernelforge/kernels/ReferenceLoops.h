// What the reference operations are made of: memory of each thread, and sums in either type, whose
// order is part of what they mean.
#pragma once

#include "kernelforge/kernels/Reference.h"

#include <omp.h>
#include <vector>

namespace kernelforge::reference {

/// Buffers of `elements` values for each OpenMP thread, made before the threads start: an
/// allocation that fails must not do so inside a parallel region.
template <typename T> class PerThread {
public:
  explicit PerThread(int64_t elements)
      : elements(elements), values(static_cast<size_t>(elements * omp_get_max_threads())) {}
  T *mine() { return values.data() + elements * omp_get_thread_num(); }

private:
  int64_t elements;
  std::vector<T> values;
};

/// Columns of one matmul task: the panel of their expanded weights stays in the L2 cache while all
/// input rows pass.
inline constexpr int64_t panelColumns = 16;

/// Where element i of column c stands in a panel of `k` rows. Wide sums are vectors along k, plain
/// ones vectors across the columns.
template <typename T> constexpr int64_t panelIndex(int64_t c, int64_t i, int64_t k);
template <> constexpr int64_t panelIndex<double>(int64_t c, int64_t i, int64_t k) {
  return c * k + i;
}
template <> constexpr int64_t panelIndex<float>(int64_t c, int64_t i, int64_t k) {
  return i * panelColumns + c;
}

/// Dot product in `T`. In f64 the product of two f32 is exact, fused or not, so the order of the
/// sums, which depends on `n` alone, gives the bits: eight partial sums over the multiples of
/// eight, then the tail's sum plus each of them. In f32 each product and each sum is rounded.
template <typename T> T dot(const float *a, const float *b, int64_t n);
template <> double dot<double>(const float *a, const float *b, int64_t n);
template <> float dot<float>(const float *a, const float *b, int64_t n);

/// The dot products of all `rows` of `input` with `count` columns of a panel, the same bits as
/// dot(): `sums` takes panelColumns values for each row.
template <typename T> void multiplyPanel(Rows input, const T *panel, int64_t count, T *sums);

} // namespace kernelforge::reference
