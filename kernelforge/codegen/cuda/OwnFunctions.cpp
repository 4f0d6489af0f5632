#include "kernelforge/codegen/cuda/OwnFunctions.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include <numbers>

using namespace mlir;
using namespace kernelforge;

namespace {

class OwnFunctions {
public:
  OwnFunctions(OpBuilder &b, Location loc) : b(b), loc(loc), f32(b.getF32Type()) {}

  Value exp(Value x) { return powerOfTwo(mul(x, constant(std::numbers::log2e))); }

  Value quotient(Value x, Value y) { return mul(x, own("llvm.nvvm.rcp.approx.ftz.f", y)); }

  /// A polynomial of t = 1 / (1 + p |x|) times exp(-x^2) is what is missing to 1: Abramowitz and
  /// Stegun, 7.1.26.
  Value erf(Value x) {
    Value size = ofBits(masked(bitsOf(x), 0x7fffffff));
    Value t = own("llvm.nvvm.rcp.approx.ftz.f", fma(size, constant(0.3275911), constant(1)));
    Value sum = constant(1.061405429);
    for (const double next : {-1.453152027, 1.421413741, -0.284496736, 0.254829592})
      sum = fma(sum, t, constant(next));
    Value power = powerOfTwo(mul(mul(x, x), constant(-std::numbers::log2e)));
    Value missing = mul(mul(sum, t), power);
    Value positive = b.create<arith::SubFOp>(loc, constant(1), missing);
    return ofBits(b.create<arith::OrIOp>(loc, bitsOf(positive), masked(bitsOf(x), 0x80000000)));
  }

private:
  Value constant(double value) {
    return b.create<arith::ConstantFloatOp>(loc, llvm::APFloat(float(value)), f32);
  }
  Value bitsOf(Value x) { return b.create<arith::BitcastOp>(loc, b.getI32Type(), x); }
  Value ofBits(Value x) { return b.create<arith::BitcastOp>(loc, f32, x); }
  Value masked(Value x, uint32_t mask) {
    Value bits = b.create<arith::ConstantIntOp>(loc, int64_t(int32_t(mask)), 32);
    return b.create<arith::AndIOp>(loc, x, bits);
  }
  Value mul(Value x, Value y) { return b.create<arith::MulFOp>(loc, x, y); }
  Value fma(Value x, Value y, Value z) { return b.create<math::FmaOp>(loc, x, y, z); }
  Value powerOfTwo(Value x) { return own("llvm.nvvm.ex2.approx.ftz.f", x); }
  Value own(StringRef name, Value x) {
    return b.create<LLVM::CallIntrinsicOp>(loc, f32, b.getStringAttr(name), x).getResult(0);
  }

  OpBuilder &b;
  Location loc;
  FloatType f32;
};

} // namespace

void cuda::expandByOwnFunctions(func::FuncOp function) {
  if (!function->removeAttr(ownFunctionsName))
    return;
  SmallVector<Operation *> ops;
  function.walk([&](Operation *op) {
    if (isa<math::ExpOp, math::ErfOp, arith::DivFOp>(op) &&
        getElementTypeOrSelf(op->getResult(0).getType()).isF32())
      ops.push_back(op);
  });
  for (Operation *op : ops) {
    OpBuilder b(op);
    OwnFunctions functions(b, op->getLoc());
    auto expand = [&](ValueRange operands) {
      if (isa<math::ExpOp>(op))
        return functions.exp(operands[0]);
      return isa<math::ErfOp>(op) ? functions.erf(operands[0])
                                  : functions.quotient(operands[0], operands[1]);
    };
    Value made;
    if (auto vector = dyn_cast<VectorType>(op->getResult(0).getType())) {
      SmallVector<Value> elements;
      for (int64_t i = 0; i < vector.getNumElements(); ++i) {
        SmallVector<Value> operands;
        for (Value operand : op->getOperands())
          operands.push_back(b.create<vector::ExtractOp>(op->getLoc(), operand, i));
        elements.push_back(expand(operands));
      }
      made = b.create<vector::FromElementsOp>(op->getLoc(), vector, elements);
    } else {
      made = expand(op->getOperands());
    }
    op->replaceAllUsesWith(ValueRange(made));
    op->erase();
  }
}
