#include "kernelforge/codegen/cpu/QuantizedStore.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;

/// The largest magnitude of all lanes of all vectors, a vector; those that are NaN do not count.
static Value largestMagnitude(KernelBuilder &k, ArrayRef<Value> vectors) {
  Value most = k.splat(0);
  for (Value x : vectors) {
    Value magnitude = k.b.create<LLVM::FAbsOp>(k.loc, x);
    most = k.select(k.cmpf(arith::CmpFPredicate::OGT, magnitude, most), magnitude, most);
  }
  return k.broadcast(k.reduceMax(most));
}

/// As quantizeRow() makes a block of q8_0.
static void storeBlock(KernelBuilder &k, ArrayRef<Value> x, Value quants, Value scale) {
  constexpr double top = 127;
  OpBuilder &b = k.b;
  Value d = k.divf(largestMagnitude(k, x), k.splat(top));
  Value first = b.create<vector::ExtractOp>(k.loc, d, ArrayRef<int64_t>{0});
  k.store(b.create<arith::TruncFOp>(k.loc, k.f16, first), scale, CacheSlot::scaleBytes);
  Value isZero = k.cmpf(arith::CmpFPredicate::OEQ, d, k.splat(0));
  Value inverse = k.select(isZero, k.splat(0), k.divf(k.splat(1), d));
  for (auto [v, values] : llvm::enumerate(x)) {
    // To the nearest, halves away from 0. Only the inverse of a subnormal, or what is no number,
    // leads out of the range.
    Value q = b.create<LLVM::RoundOp>(k.loc, k.mulf(values, inverse));
    q = k.select(k.cmpf(arith::CmpFPredicate::OGT, q, k.splat(-top)), q, k.splat(-top));
    q = k.select(k.cmpf(arith::CmpFPredicate::OLT, q, k.splat(top)), q, k.splat(top));
    Value words = b.create<arith::FPToSIOp>(k.loc, k.vi32, q);
    k.store(b.create<arith::TruncIOp>(k.loc, k.vec(k.i8), words),
            k.at(quants, static_cast<int64_t>(v) * lanes));
  }
}

void cpu::emitBlockStore(KernelBuilder &k, const CacheSlot &slot, ArrayRef<Value> x, Value to,
                         Value col) {
  Value block = k.div(col, info(slot.type).blockElements);
  storeBlock(k, x, k.at(to, col),
             k.at(to, k.add(k.mul(block, CacheSlot::scaleBytes), slot.scalesBegin())));
}
