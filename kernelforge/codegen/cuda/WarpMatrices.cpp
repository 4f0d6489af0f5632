#include "kernelforge/codegen/cuda/WarpMatrices.h"

#include "kernelforge/codegen/cuda/Assembly.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cuda;

// By the intrinsic: the dialect's operation has no bf16.
WarpMatrices::Sums WarpMatrices::multiply(ElementType element, const Left &left, const Right &right,
                                          const Sums &sums) {
  const bool isF16 = element == ElementType::F16;
  SmallVector<Value> operands(left.begin(), left.end());
  operands.append(right.begin(), right.end());
  if (isF16)
    for (Value &word : operands)
      word = p.b.create<LLVM::BitcastOp>(p.loc, p.vec(p.b.getF16Type(), 2), word);
  operands.append(sums.begin(), sums.end());
  Type result = LLVM::LLVMStructType::getLiteral(p.b.getContext(), SmallVector<Type>(4, p.f32));
  Value all = p.b.create<LLVM::CallIntrinsicOp>(
                     p.loc, result,
                     p.b.getStringAttr(isF16 ? "llvm.nvvm.mma.m16n8k16.row.col.f32.f32"
                                             : "llvm.nvvm.mma.m16n8k16.row.col.bf16"),
                     operands)
                  .getResult(0);
  Sums next;
  for (int64_t i = 0; i < 4; ++i)
    next[size_t(i)] = p.b.create<LLVM::ExtractValueOp>(p.loc, all, i);
  return next;
}

Value WarpMatrices::ofLane(Value value, Value lane) {
  return p.b.create<NVVM::ShflOp>(p.loc, value.getType(), p.c(-1), value, lane, p.c(threads - 1),
                                  NVVM::ShflKind::idx, UnitAttr());
}

Value WarpMatrices::bytesOf(Value first, Value second, int64_t selector) {
  return p.b
      .create<LLVM::CallIntrinsicOp>(p.loc, p.i32, p.b.getStringAttr("llvm.nvvm.prmt"),
                                     ValueRange{first, second, p.c(selector)})
      .getResult(0);
}

Value WarpMatrices::lowHalves(Value first, Value second) { return bytesOf(first, second, 0x5410); }
Value WarpMatrices::highHalves(Value first, Value second) { return bytesOf(first, second, 0x7632); }

/// Of two bytes of a word each, with bytes of another one above them.
static constexpr int64_t pairSelectors[] = {0x4140, 0x4342};

/// x - y of pairs.
static Value differenceOf(simt::PhaseBuilder &p, Type element, Value x, Value y) {
  Type pair = p.vec(element, 2);
  Value difference =
      p.b.create<arith::SubFOp>(p.loc, p.b.create<LLVM::BitcastOp>(p.loc, pair, x).getResult(),
                                p.b.create<LLVM::BitcastOp>(p.loc, pair, y).getResult());
  return p.b.create<LLVM::BitcastOp>(p.loc, p.i32, difference);
}

// Under the exponent of 1024 eight bits are a sum with it: with the sign turned, of 1152.
std::array<Value, 2> WarpMatrices::halvesOfBytes(Value word) {
  Value turned = p.xorBits(word, p.c(0x80808080)), exponents = p.c(0x64646464);
  std::array<Value, 2> halves;
  for (size_t i : {0, 1})
    halves[i] = differenceOf(p, p.b.getF16Type(), bytesOf(turned, exponents, pairSelectors[i]),
                             p.c(0x64806480));
  return halves;
}

Value WarpMatrices::pairsOfBytes(Value first, Value second, int64_t number) {
  return bytesOf(first, second, number == 0 ? 0x5140 : 0x7362);
}

std::array<Value, 2> WarpMatrices::offsetPairsOfBytes(Value word) {
  Value exponents = p.c(0x43434343);
  return {bytesOf(word, exponents, pairSelectors[0]), bytesOf(word, exponents, pairSelectors[1])};
}

// bf16 has seven bits under the exponent of 128: the low ones are a sum with it, and the sign says
// whether that is 128 too large or 256.
std::array<Value, 2> WarpMatrices::quantsOfBytes(Value word) {
  Value exponents = p.c(0x43434343);
  std::array<Value, 2> quants;
  for (size_t i : {0, 1}) {
    Value both = bytesOf(word, exponents, pairSelectors[i]);
    quants[i] = differenceOf(p, p.b.getBF16Type(), p.andBits(both, 0xff7fff7f),
                             p.andBits(both, 0xff80ff80));
  }
  return quants;
}

SmallVector<Value> WarpMatrices::partsOf(ElementType element, int64_t count, Value first,
                                         Value second) {
  Assembly assembly(p);
  SmallVector<Value> parts;
  for (int64_t i = 0; i < count; ++i) {
    Value word = assembly.packHalves(element, first, second);
    parts.push_back(word);
    if (i + 1 == count)
      break;
    first = p.subf(first, simt::widened(p, element, word));
    second = p.subf(second, simt::widened(p, element, word, /*high=*/true));
  }
  return parts;
}
