// Transcendental functions as arithmetic, for every target whose code may call no library: the
// arith dialect and fused multiply-adds.
#pragma once

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/Builders.h"

namespace kernelforge {

/// Writes with `b`, on values of `type`: f32, or a vector of it.
class ElementaryFunctions {
public:
  ElementaryFunctions(mlir::OpBuilder &b, mlir::Location loc, mlir::Type type);

  /// exp(x) within 2 ulp; +inf above the largest finite result, 0 below the smallest normal one,
  /// NaN for NaN.
  mlir::Value exp(mlir::Value x);
  /// exp(x) for x <= 0 in three quarters of the operations: within 2 ulp while the result is
  /// normal, within 1.2e-38 of it below and 0 from -88 on down; NaN for NaN.
  mlir::Value expOfNonPositive(mlir::Value x);
  /// tanh(x) within 3 ulp.
  mlir::Value tanh(mlir::Value x);
  /// erf(x) within 4 ulp.
  mlir::Value erf(mlir::Value x);
  /// 1 + erf(x), which stays accurate where erf is near -1.
  mlir::Value onePlusErf(mlir::Value x);

private:
  /// exp(x) = 2^n power.
  struct Power {
    mlir::Value shifted; ///< n in the low bits
    mlir::Value power;   ///< between 0.7 and 1.42
  };
  /// With `bias` added to n in `shifted`.
  Power powerOf(mlir::Value x, double bias);
  /// erf and its complement for a = |x|, each accurate where it is used.
  struct ErrorFunction {
    mlir::Value isSmall; ///< where `erf` is meant, and not `complement`
    mlir::Value erf, complement;
  };
  ErrorFunction errorFunction(mlir::Value a);

  mlir::Value constant(double value);
  mlir::Value integer(int64_t value);
  mlir::Value add(mlir::Value x, mlir::Value y);
  mlir::Value sub(mlir::Value x, mlir::Value y);
  mlir::Value mul(mlir::Value x, mlir::Value y);
  mlir::Value div(mlir::Value x, mlir::Value y);
  mlir::Value fma(mlir::Value x, mlir::Value y, mlir::Value z);
  mlir::Value compare(mlir::arith::CmpFPredicate predicate, mlir::Value x, double y);
  mlir::Value select(mlir::Value condition, mlir::Value x, mlir::Value y);
  mlir::Value bitsOf(mlir::Value x);
  mlir::Value floatOf(mlir::Value bits);
  mlir::Value absolute(mlir::Value x);
  mlir::Value withSignOf(mlir::Value x, mlir::Value magnitude);
  mlir::Value polynomial(mlir::Value x, llvm::ArrayRef<double> coefficients);

  mlir::OpBuilder &b;
  mlir::Location loc;
  mlir::Type type, bits;
};

} // namespace kernelforge
