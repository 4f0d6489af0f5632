#include "kernelforge/codegen/cpu/AttentionLanes.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;
using namespace kernelforge::cpu::attention;

namespace {

/// One of four steps that transpose 16 x 16 lanes: `low` and `high` of two vectors, each lane from
/// the first (0-15) or the second (16-31). Each is one instruction on AVX-512; on AVX2, where a
/// vector is two registers, none, two, two and two.
struct Step {
  int64_t low[lanes], high[lanes];
};
constexpr Step halves = {{0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23},
                         {8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31}};
constexpr Step quarters = {{0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27},
                           {4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31}};
constexpr Step singles = {{0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29},
                          {2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31}};
constexpr Step pairs = {{0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29},
                        {2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31}};

/// Which vectors meet in which order: halves of w and w + 4 and of w + 8 and w + 12, quarters of
/// these, then singles of w = 0 and 1 and of 2 and 3, then pairs. `merge(x, y, step)` makes one T
/// of two; lane i of the result is what vector i brought.
template <typename T, typename Merge> T mergeSixteen(ArrayRef<T> vectors, Merge merge) {
  std::array<T, 4> spread;
  for (size_t w = 0; w < 4; ++w)
    spread[w] = merge(merge(vectors[w], vectors[4 + w], halves),
                      merge(vectors[8 + w], vectors[12 + w], halves), quarters);
  return merge(merge(spread[0], spread[1], singles), merge(spread[2], spread[3], singles), pairs);
}

} // namespace

Value attention::larger(KernelBuilder &k, Value x, Value y) {
  return k.select(k.cmpf(arith::CmpFPredicate::OGT, x, y), x, y);
}

Value attention::reduceEach(KernelBuilder &k, ArrayRef<Value> vectors,
                            llvm::function_ref<Value(Value, Value)> combine) {
  SmallVector<Value> all(vectors);
  all.resize(lanes);
  return mergeSixteen<Value>(all, [&](Value x, Value y, const Step &step) {
    if (!x)
      return Value();
    if (!y)
      y = x;
    return combine(k.shuffle(x, y, step.low), k.shuffle(x, y, step.high));
  });
}

SmallVector<Value> attention::transpose(KernelBuilder &k, ArrayRef<Value> vectors) {
  SmallVector<SmallVector<Value>> all;
  for (Value vector : vectors)
    all.push_back({vector});
  return mergeSixteen<SmallVector<Value>>(
      all, [&](ArrayRef<Value> x, ArrayRef<Value> y, const Step &step) {
        SmallVector<Value> both;
        for (auto [p, q] : llvm::zip_equal(x, y)) {
          both.push_back(k.shuffle(p, q, step.low));
          both.push_back(k.shuffle(p, q, step.high));
        }
        return both;
      });
}

Value attention::addPairs(KernelBuilder &k, Value x, Value y, bool isFirst) {
  SmallVector<int64_t> low{0, 1, 8, 9, 4, 5, 12, 13}, high{2, 3, 10, 11, 6, 7, 14, 15};
  if (isFirst) {
    low = {0, 8, 1, 9, 4, 12, 5, 13};
    high = {2, 10, 3, 11, 6, 14, 7, 15};
  }
  return k.addf(k.shuffle(x, y, low), k.shuffle(x, y, high));
}
