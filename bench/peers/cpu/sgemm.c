// A loop around cblas_sgemm, and around what takes a packed matrix: by_blas.py compiles it, because a loop in Python
// would add a microsecond to each call. Integers are 64 bits wide; a library of 32 reads the lower halves.
#include <stdint.h>
#include <time.h>

enum { ROW_MAJOR = 101, PLAIN = 111, TRANSPOSED = 112 };

typedef void (*sgemm)(int64_t order, int64_t transpose_a, int64_t transpose_b, int64_t m, int64_t n, int64_t k,
                      float alpha, const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c,
                      int64_t ldc);
typedef void (*sgemm_compute)(int64_t order, int64_t transpose_a, int64_t transpose_b, int64_t m, int64_t n, int64_t k,
                              const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c,
                              int64_t ldc);

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/// Seconds of `runs` products y[m, n] = x[m, k] w, where w is [k, n] or, transposed, [n, k].
double sgemm_seconds(sgemm product, int transposed, int64_t m, int64_t n, int64_t k, const float *x, const float *w,
                     float *y, int64_t runs) {
  const double begin = now();
  for (int64_t i = 0; i < runs; ++i)
    product(ROW_MAJOR, PLAIN, transposed ? TRANSPOSED : PLAIN, m, n, k, 1, x, k, w, transposed ? k : n, 0, y, n);
  return now() - begin;
}

/// The same, where `packed` is what cblas_sgemm_pack made of w.
double packed_seconds(sgemm_compute product, int64_t m, int64_t n, int64_t k, const float *x, const float *packed,
                      float *y, int64_t runs) {
  enum { PACKED = 151 };
  const double begin = now();
  for (int64_t i = 0; i < runs; ++i)
    product(ROW_MAJOR, PLAIN, PACKED, m, n, k, x, k, packed, n, 0, y, n);
  return now() - begin;
}
