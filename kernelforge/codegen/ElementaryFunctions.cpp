// All polynomials are weighted minimax fits by scripts/minimax.py, rounded to f32.
#include "kernelforge/codegen/ElementaryFunctions.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include <limits>
#include <numbers>

using namespace mlir;
using namespace kernelforge;

using Predicate = arith::CmpFPredicate;

ElementaryFunctions::ElementaryFunctions(OpBuilder &b, Location loc, Type type)
    : b(b), loc(loc), type(type), bits(b.getI32Type()) {
  if (auto vector = dyn_cast<VectorType>(type))
    bits = vector.clone(bits);
}

//===----------------------------------------------------------------------===//
// What they are written with
//===----------------------------------------------------------------------===//

/// `value` of `type`, in all lanes where that is a vector.
static Value constantOf(OpBuilder &b, Location loc, Type type, TypedAttr value) {
  if (auto vector = dyn_cast<VectorType>(type))
    value = DenseElementsAttr::get(vector, static_cast<Attribute>(value));
  return b.create<arith::ConstantOp>(loc, value);
}

Value ElementaryFunctions::constant(double value) {
  return constantOf(b, loc, type, b.getF32FloatAttr(static_cast<float>(value)));
}
Value ElementaryFunctions::integer(int64_t value) {
  return constantOf(b, loc, bits, b.getI32IntegerAttr(static_cast<int32_t>(value)));
}
Value ElementaryFunctions::add(Value x, Value y) { return b.create<arith::AddFOp>(loc, x, y); }
Value ElementaryFunctions::sub(Value x, Value y) { return b.create<arith::SubFOp>(loc, x, y); }
Value ElementaryFunctions::mul(Value x, Value y) { return b.create<arith::MulFOp>(loc, x, y); }
Value ElementaryFunctions::div(Value x, Value y) { return b.create<arith::DivFOp>(loc, x, y); }
Value ElementaryFunctions::fma(Value x, Value y, Value z) {
  if (isa<VectorType>(type))
    return b.create<vector::FMAOp>(loc, x, y, z);
  return b.create<math::FmaOp>(loc, x, y, z);
}
Value ElementaryFunctions::compare(Predicate predicate, Value x, double y) {
  return b.create<arith::CmpFOp>(loc, predicate, x, constant(y));
}
Value ElementaryFunctions::select(Value condition, Value x, Value y) {
  return b.create<arith::SelectOp>(loc, condition, x, y);
}
Value ElementaryFunctions::bitsOf(Value x) { return b.create<arith::BitcastOp>(loc, bits, x); }
Value ElementaryFunctions::floatOf(Value x) { return b.create<arith::BitcastOp>(loc, type, x); }

Value ElementaryFunctions::absolute(Value x) {
  Value mask = integer(std::numeric_limits<int32_t>::max());
  return floatOf(b.create<arith::AndIOp>(loc, bitsOf(x), mask));
}

/// `magnitude`, which is not negative, with the sign of `x`.
Value ElementaryFunctions::withSignOf(Value x, Value magnitude) {
  Value mask = integer(std::numeric_limits<int32_t>::min());
  Value sign = b.create<arith::AndIOp>(loc, bitsOf(x), mask);
  return floatOf(b.create<arith::OrIOp>(loc, bitsOf(magnitude), sign));
}

/// c[0] + c[1] x + ... by Horner's rule.
Value ElementaryFunctions::polynomial(Value x, ArrayRef<double> c) {
  Value sum = constant(c.back());
  for (double coefficient : llvm::reverse(c.drop_back()))
    sum = fma(sum, x, constant(coefficient));
  return sum;
}

//===----------------------------------------------------------------------===//
// The functions
//===----------------------------------------------------------------------===//

ElementaryFunctions::Power ElementaryFunctions::powerOf(Value x, double bias) {
  // x = n ln 2 + r with |r| <= ln 2 / 2. Adding 1.5 * 2^23 rounds to an integer and leaves it in
  // the low bits; ln 2 is taken in two pieces, the first of few enough bits that n times it is
  // exact under fma.
  const double shift = 12582912.0 + bias;
  Value shifted = fma(x, constant(std::numbers::log2e), constant(shift));
  Value n = sub(shifted, constant(shift));
  Value r = fma(n, constant(-0.693359375), x);
  r = fma(n, constant(2.12194440054690583e-4), r);
  Value q = polynomial(r, {0.49999994, 0.166665211, 0.0416682735, 0.00836868398, 0.00138200796});
  return {shifted, add(fma(mul(r, r), q, r), constant(1.0))};
}

Value ElementaryFunctions::expOfNonPositive(Value x) {
  // 2^n as the f32 whose exponent's bits are n + 127, which is 0 for the least n that is left. NaN
  // is not below and comes through.
  constexpr double lowest = -88.0, bias = 127.0;
  x = select(compare(Predicate::OLT, x, lowest), constant(lowest), x);
  const Power of = powerOf(x, bias);
  Value scale = floatOf(b.create<arith::ShLIOp>(loc, bitsOf(of.shifted), integer(23)));
  return mul(of.power, scale);
}

Value ElementaryFunctions::exp(Value x) {
  const auto [shifted, power] = powerOf(x, 0);
  // Times 2^n on the exponent's bits: right while the result is normal, and replaced otherwise.
  Value exponent = b.create<arith::ShLIOp>(loc, bitsOf(shifted), integer(23));
  Value y = floatOf(b.create<arith::AddIOp>(loc, bitsOf(power), exponent));
  // The largest x whose exp is finite, and the smallest whose exp is normal. NaN is not below or at
  // the first and comes through x + inf.
  constexpr double largest = 0x1.62e42ep+6, smallest = -0x1.5d589ep+6;
  Value inRange = compare(Predicate::OLE, x, largest);
  Value beyond = add(x, constant(std::numeric_limits<double>::infinity()));
  Value tiny = compare(Predicate::OLT, x, smallest);
  return select(tiny, constant(0.0), select(inRange, y, beyond));
}

Value ElementaryFunctions::tanh(Value x) {
  Value a = absolute(x);
  Value s = mul(a, a);
  Value p = polynomial(s, {-0.333332807, 0.133314058, -0.0537365153, 0.0206281673, -0.0056922962});
  Value small = fma(mul(a, s), p, a);
  // 1 - 2 / (exp(2a) + 1): 1 where exp overflows.
  Value denominator = add(exp(add(a, a)), constant(1.0));
  Value large = sub(constant(1.0), div(constant(2.0), denominator));
  return withSignOf(x, select(compare(Predicate::OLT, a, 0.625), small, large));
}

ElementaryFunctions::ErrorFunction ElementaryFunctions::errorFunction(Value a) {
  Value p = polynomial(mul(a, a), {0.128379151, -0.376125067, 0.112819649, -0.0267724283,
                                   0.00500232307, -0.000604072178});
  Value erf = fma(a, p, a);
  // erfc(a) = exp(-a^2) P(t), t = 1 / (1 + a / 2); the rounding of a^2 is put right. From 10 on it
  // is below all normal numbers. NaN is not greater and stays.
  constexpr double end = 10.0;
  a = select(compare(Predicate::OGT, a, end), constant(end), a);
  Value minusSquare = mul(a, sub(constant(0.0), a));
  Value rest = fma(a, a, minusSquare);
  Value power = exp(minusSquare);
  power = sub(power, mul(power, rest));
  Value t = div(constant(1.0), fma(a, constant(0.5), constant(1.0)));
  p = polynomial(t, {-3.52023926e-05, 0.282943934, 0.273447901, 0.295197815, 0.0150715597,
                     0.405326158, -0.356415838, 0.084199369});
  return {compare(Predicate::OLT, a, 0.875), erf, mul(power, p)};
}

Value ElementaryFunctions::onePlusErf(Value x) {
  ErrorFunction f = errorFunction(absolute(x));
  Value small = add(constant(1.0), withSignOf(x, f.erf));
  Value negative = compare(Predicate::OLT, x, 0.0);
  Value large = select(negative, f.complement, sub(constant(2.0), f.complement));
  return select(f.isSmall, small, large);
}

Value ElementaryFunctions::erf(Value x) {
  ErrorFunction f = errorFunction(absolute(x));
  return withSignOf(x, select(f.isSmall, f.erf, sub(constant(1.0), f.complement)));
}
