// All polynomials are weighted minimax fits by scripts/minimax.py, rounded to f32.
#include "kernelforge/codegen/cpu/VectorMath.h"

#include <cmath>
#include <limits>
#include <numbers>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;
using namespace kernelforge::transformer;

namespace {

/// c[0] + c[1] x + ... by Horner's rule.
Value polynomial(KernelBuilder &k, Value x, ArrayRef<double> c) {
  Value sum = k.splat(c.back());
  for (double coefficient : llvm::reverse(c.drop_back()))
    sum = k.fma(sum, x, k.splat(coefficient));
  return sum;
}

Value bitsOf(KernelBuilder &k, Value x) { return k.b.create<arith::BitcastOp>(k.loc, k.vi32, x); }
Value floatOf(KernelBuilder &k, Value bits) {
  return k.b.create<arith::BitcastOp>(k.loc, k.vf32, bits);
}

Value maskBits(KernelBuilder &k, Value bits, int64_t mask) {
  return k.b.create<arith::AndIOp>(k.loc, bits, k.splatI(mask));
}
Value absolute(KernelBuilder &k, Value x) {
  return floatOf(k, maskBits(k, bitsOf(k, x), std::numeric_limits<int32_t>::max()));
}
/// `magnitude`, which is not negative, with the sign of `x`.
Value withSignOf(KernelBuilder &k, Value x, Value magnitude) {
  Value sign = maskBits(k, bitsOf(k, x), std::numeric_limits<int32_t>::min());
  return floatOf(k, k.b.create<arith::OrIOp>(k.loc, bitsOf(k, magnitude), sign));
}

Value times(KernelBuilder &k, double factor, Value x) { return k.mulf(x, k.splat(factor)); }

} // namespace

Value cpu::emitExp(KernelBuilder &k, Value x) {
  // x = n ln 2 + r with |r| <= ln 2 / 2. Adding 1.5 * 2^23 rounds to an integer and leaves it in
  // the low bits; ln 2 is taken in two pieces, the first of few enough bits that n times it is
  // exact under fma.
  constexpr double shift = 12582912.0;
  Value shifted = k.fma(x, k.splat(std::numbers::log2e), k.splat(shift));
  Value n = k.subf(shifted, k.splat(shift));
  Value r = k.fma(n, k.splat(-0.693359375), x);
  r = k.fma(n, k.splat(2.12194440054690583e-4), r);
  Value q = polynomial(k, r, {0.49999994, 0.166665211, 0.0416682735, 0.00836868398, 0.00138200796});
  Value power = k.addf(k.fma(k.mulf(r, r), q, r), k.splat(1.0));
  // Times 2^n on the exponent's bits: right while the result is normal, and replaced otherwise.
  Value exponent = k.b.create<arith::ShLIOp>(k.loc, bitsOf(k, shifted), k.splatI(23));
  Value y = floatOf(k, k.b.create<arith::AddIOp>(k.loc, bitsOf(k, power), exponent));
  // The largest x whose exp is finite, and the smallest whose exp is normal. NaN is not below or at
  // the first and comes through x + inf.
  constexpr double largest = 0x1.62e42ep+6, smallest = -0x1.5d589ep+6;
  Value inRange = k.cmpf(arith::CmpFPredicate::OLE, x, k.splat(largest));
  Value beyond = k.addf(x, k.splat(std::numeric_limits<double>::infinity()));
  Value tiny = k.cmpf(arith::CmpFPredicate::OLT, x, k.splat(smallest));
  return k.select(tiny, k.splat(0.0), k.select(inRange, y, beyond));
}

Value cpu::emitTanh(KernelBuilder &k, Value x) {
  Value a = absolute(k, x);
  Value s = k.mulf(a, a);
  Value p =
      polynomial(k, s, {-0.333332807, 0.133314058, -0.0537365153, 0.0206281673, -0.0056922962});
  Value small = k.fma(k.mulf(a, s), p, a);
  // 1 - 2 / (exp(2a) + 1): 1 where exp overflows.
  Value denominator = k.addf(emitExp(k, k.addf(a, a)), k.splat(1.0));
  Value large = k.subf(k.splat(1.0), k.divf(k.splat(2.0), denominator));
  Value isSmall = k.cmpf(arith::CmpFPredicate::OLT, a, k.splat(0.625));
  return withSignOf(k, x, k.select(isSmall, small, large));
}

namespace {

/// erf and its complement for a = |x|, each accurate where it is used.
struct ErrorFunction {
  Value isSmall; ///< where `erf` is meant, and not `complement`
  Value erf, complement;
};

ErrorFunction errorFunction(KernelBuilder &k, Value a) {
  Value p = polynomial(
      k, k.mulf(a, a),
      {0.128379151, -0.376125067, 0.112819649, -0.0267724283, 0.00500232307, -0.000604072178});
  Value erf = k.fma(a, p, a);
  // erfc(a) = exp(-a^2) P(t), t = 1 / (1 + a / 2); the rounding of a^2 is put right. From 10 on it
  // is below all normal numbers. NaN is not greater and stays.
  constexpr double end = 10.0;
  a = k.select(k.cmpf(arith::CmpFPredicate::OGT, a, k.splat(end)), k.splat(end), a);
  Value minusSquare = k.mulf(a, k.subf(k.splat(0.0), a));
  Value rest = k.fma(a, a, minusSquare);
  Value power = emitExp(k, minusSquare);
  power = k.subf(power, k.mulf(power, rest));
  Value t = k.divf(k.splat(1.0), k.fma(a, k.splat(0.5), k.splat(1.0)));
  p = polynomial(k, t,
                 {-3.52023926e-05, 0.282943934, 0.273447901, 0.295197815, 0.0150715597, 0.405326158,
                  -0.356415838, 0.084199369});
  return {k.cmpf(arith::CmpFPredicate::OLT, a, k.splat(0.875)), erf, k.mulf(power, p)};
}

/// 1 + erf(x), which stays accurate where erf is near -1.
Value onePlusErf(KernelBuilder &k, Value x) {
  ErrorFunction f = errorFunction(k, absolute(k, x));
  Value small = k.addf(k.splat(1.0), withSignOf(k, x, f.erf));
  Value negative = k.cmpf(arith::CmpFPredicate::OLT, x, k.splat(0.0));
  Value large = k.select(negative, f.complement, k.subf(k.splat(2.0), f.complement));
  return k.select(f.isSmall, small, large);
}

} // namespace

Value cpu::emitErf(KernelBuilder &k, Value x) {
  ErrorFunction f = errorFunction(k, absolute(k, x));
  return withSignOf(k, x, k.select(f.isSmall, f.erf, k.subf(k.splat(1.0), f.complement)));
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
        k, x, k.mulf(times(k, 0.5, x), onePlusErf(k, times(k, std::numbers::sqrt2 / 2, x))));
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
