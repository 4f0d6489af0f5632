#include "kernelforge/codegen/cpu/VectorMath.h"

#include "kernelforge/codegen/ElementaryFunctions.h"

#include <cmath>
#include <limits>
#include <numbers>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;
using namespace kernelforge::transformer;

static ElementaryFunctions functions(KernelBuilder &k) { return {k.b, k.loc, k.vf32}; }

static Value times(KernelBuilder &k, double factor, Value x) { return k.mulf(x, k.splat(factor)); }

Value cpu::emitExp(KernelBuilder &k, Value x) { return functions(k).exp(x); }
Value cpu::emitExpOfNonPositive(KernelBuilder &k, Value x) {
  return functions(k).expOfNonPositive(x);
}
Value cpu::emitTanh(KernelBuilder &k, Value x) { return functions(k).tanh(x); }
Value cpu::emitErf(KernelBuilder &k, Value x) { return functions(k).erf(x); }

Value cpu::emitRoughExp2(KernelBuilder &k, Value x) {
  // 2^x = 2^floor(x) 2^f, f = x - floor(x), which the instruction VREDUCEPS gives (0 for
  // infinities): 2^f by the cubic whose largest relative error is least among those that are 1 at
  // 0.
  Value allLanes = k.b.create<arith::ConstantOp>(k.loc, k.b.getI16IntegerAttr(-1));
  Value currentRounding = k.b.create<arith::ConstantOp>(k.loc, k.b.getI32IntegerAttr(4));
  Value toFloor = k.b.create<arith::ConstantOp>(k.loc, k.b.getI32IntegerAttr(1));
  Value f = k.intrinsic("llvm.x86.avx512.mask.reduce.ps.512", k.vf32,
                        {x, toFloor, k.splat(0), allLanes, currentRounding});
  Value power = k.splat(0.07706705);
  for (double coefficient : {0.22764498, 0.69511679, 1.0})
    power = k.fma(power, f, k.splat(coefficient));
  return k.intrinsic("llvm.x86.avx512.mask.scalef.ps.512", k.vf32,
                     {power, x, k.splat(0), allLanes, currentRounding});
}

/// What an activation is at -inf is 0, which the formulas would multiply by infinity.
static Value zeroAtMinusInfinity(KernelBuilder &k, Value x, Value y) {
  Value isEnd =
      k.cmpf(arith::CmpFPredicate::OEQ, x, k.splat(-std::numeric_limits<double>::infinity()));
  return k.select(isEnd, k.splat(0.0), y);
}

Value cpu::emitActivation(KernelBuilder &k, Activation function, Value x) {
  // x / (1 + exp(-y)), the logistic function of y times x.
  auto gated = [&](Value y) {
    Value power = emitExp(k, k.subf(k.splat(0.0), y));
    return zeroAtMinusInfinity(k, x, k.divf(x, k.addf(k.splat(1.0), power)));
  };
  switch (function) {
  case Activation::Silu:
    return gated(x);
  case Activation::Gelu:
    return zeroAtMinusInfinity(
        k, x,
        k.mulf(times(k, 0.5, x), functions(k).onePlusErf(times(k, std::numbers::sqrt2 / 2, x))));
  case Activation::GeluTanh: {
    // (1 + tanh(u)) / 2 is the logistic function of 2u, u = sqrt(2 / pi) (x + 0.044715 x^3).
    Value cubic = k.mulf(x, k.fma(times(k, 0.044715, x), x, k.splat(1.0)));
    return gated(times(k, 2 * std::sqrt(2 * std::numbers::inv_pi), cubic));
  }
  case Activation::Relu:
    return k.maxf(x, k.splat(0.0));
  }
  llvm_unreachable("an activation function without code");
}

Value cpu::emitSoftcap(KernelBuilder &k, double softcap, Value x) {
  if (softcap == 0)
    return x;
  return k.mulf(emitTanh(k, k.divf(x, k.splat(softcap))), k.splat(softcap));
}
