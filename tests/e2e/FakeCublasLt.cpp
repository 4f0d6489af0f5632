// A cuBLASLt without a GPU: products of bf16 on the memory of the made-up driver, by the functions
// and numbers of the library's ABI that bench/cuda uses. With FAKE_CUBLASLT=wrong they are wrong.
#include "kernelforge/backend/cuda/Api.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>
#include <numbers>
#include <string_view>
#include <vector>

using kernelforge::cuda::CUdeviceptr;
using kernelforge::cuda::CUresult;
using kernelforge::cuda::CUstream;

namespace {

/// A matrix column by column, as the library has them.
struct Layout {
  uint64_t rows = 0, columns = 0;
  int64_t leading = 0;
};

using Desc = std::map<int, uint64_t>; ///< attributes of a product by number

struct Heuristic {
  uint64_t algorithm[8];
  size_t workspaceBytes;
  int state;
  float waves;
  int reserved[4];
};

constexpr int success = 0, invalid = 7;
constexpr int transA = 3, transB = 4, epilogue = 7, biasPointer = 8;
constexpr uint64_t bias = 4, biasGelu = 36;

float toFloat(uint16_t value) { return std::bit_cast<float>(uint32_t(value) << 16); }
uint16_t toBf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

} // namespace

extern "C" {

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream);

size_t cublasLtGetVersion() { return 130100; }
int cublasLtCreate(void **handle) {
  static int one;
  *handle = &one;
  return success;
}
int cublasLtMatmulDescCreate(Desc **desc, int compute, int scale) {
  *desc = new Desc;
  return compute == 68 && scale == 0 ? success : invalid;
}
int cublasLtMatmulDescDestroy(Desc *desc) {
  delete desc;
  return success;
}
int cublasLtMatmulDescSetAttribute(Desc *desc, int attribute, const void *value, size_t bytes) {
  uint64_t &to = (*desc)[attribute];
  to = 0;
  std::memcpy(&to, value, std::min(bytes, sizeof(to)));
  return success;
}
int cublasLtMatrixLayoutCreate(Layout **layout, int type, uint64_t rows, uint64_t columns,
                               int64_t leading) {
  *layout = new Layout{rows, columns, leading};
  return type == 14 ? success : invalid;
}
int cublasLtMatrixLayoutDestroy(Layout *layout) {
  delete layout;
  return success;
}
int cublasLtMatmulPreferenceCreate(uint64_t **preference) {
  *preference = new uint64_t(0);
  return success;
}
int cublasLtMatmulPreferenceDestroy(uint64_t *preference) {
  delete preference;
  return success;
}
int cublasLtMatmulPreferenceSetAttribute(uint64_t *preference, int attribute, const void *value,
                                         size_t bytes) {
  if (attribute == 1)
    std::memcpy(preference, value, bytes);
  return attribute == 1 && bytes == 8 ? success : invalid;
}

/// Three algorithms, of which the second cannot be used.
int cublasLtMatmulAlgoGetHeuristic(void *, Desc *desc, Layout *a, Layout *b, Layout *c, Layout *d,
                                   const uint64_t *preference, int most, Heuristic *results,
                                   int *count) {
  if ((*desc)[transA] != 1 || (*desc)[transB] != 0 || a->rows != b->rows || c != d ||
      c->rows != a->columns || c->columns != b->columns || *preference == 0)
    return invalid;
  *count = std::min(most, 3);
  for (int i = 0; i < *count; ++i) {
    results[i] = {};
    results[i].algorithm[0] = uint64_t(i) + 1;
    results[i].state = i == 1 ? invalid : success;
  }
  return success;
}

int cublasLtMatmul(void *, Desc *desc, const float *alpha, const uint16_t *a, Layout *layoutA,
                   const uint16_t *b, Layout *layoutB, const float *beta, const void *c, Layout *,
                   void *d, Layout *layoutD, const uint64_t *algorithm, void *, size_t,
                   CUstream stream) {
  if (*alpha != 1 || *beta != 0 || c != d || algorithm[0] % 2 == 0)
    return invalid;
  const char *said = std::getenv("FAKE_CUBLASLT");
  const bool isWrong = said && std::string_view(said) == "wrong";
  const auto *added = reinterpret_cast<const uint16_t *>((*desc)[biasPointer]);
  const uint64_t follows = (*desc)[epilogue];
  std::vector<uint16_t> result(layoutD->rows * layoutD->columns);
  for (uint64_t column = 0; column < layoutD->columns; ++column)
    for (uint64_t row = 0; row < layoutD->rows; ++row) {
      double sum = follows == bias || follows == biasGelu ? double(toFloat(added[row])) : 0;
      for (uint64_t i = 0; i < layoutA->rows; ++i)
        sum += double(toFloat(a[row * uint64_t(layoutA->leading) + i])) *
               double(toFloat(b[column * uint64_t(layoutB->leading) + i]));
      if (follows == biasGelu)
        sum = 0.5 * sum *
              (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (sum + 0.044715 * sum * sum * sum)));
      result[column * uint64_t(layoutD->leading) + row] = toBf16(isWrong ? 0 : float(sum));
    }
  return cuMemcpyHtoDAsync_v2(reinterpret_cast<CUdeviceptr>(d), result.data(), result.size() * 2,
                              stream);
}
}
