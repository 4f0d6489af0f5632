// Rows of a matmul as matrix units take them: as they stand in memory, or written so by a phase of
// their own, with what is computed before the matmul.
#include "kernelforge/codegen/cuda/Matmul.h"

#include "kernelforge/codegen/simt/Epilogue.h"
#include "kernelforge/ir/Numerics.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;

bool cuda::matmul::hasMatrixRows(MatmulOp matmul) {
  return isa<BlockArgument>(matmul.getInput()) &&
         elementTypeOf(matmul.getInput().getType()) ==
             elementTypeOf(matmul.getWeights()[0].getType());
}

std::optional<ElementType> cuda::matmul::matrixElement(MatmulOp matmul) {
  const std::optional<ElementType> element = elementTypeOf(matmul.getWeights()[0].getType());
  for (Value weight : matmul.getWeights())
    if (elementTypeOf(weight.getType()) != element)
      return std::nullopt;
  const Numerics numerics = numericsOf(matmul);
  const bool isExact = numerics == Numerics::F32 && hasMatrixRows(matmul);
  if (element == ElementType::BF16 && (isExact || numerics == Numerics::BF16))
    return element;
  if (element == ElementType::F16 && (isExact || numerics == Numerics::F16))
    return element;
  return std::nullopt;
}

Phase cuda::matmul::emitRows(ModuleOp module, const KernelAnalysis &kernel, StringRef entry) {
  constexpr int64_t rowThreads = 256;
  PhaseBuilder p(module, kernel.kernel(), entry, rowThreads);
  Assembly assembly(p);
  MatmulOp matmul = kernel.matmul();
  const ElementType element = *matrixElement(matmul);
  const auto depth = static_cast<int64_t>(matmul.getK());
  const int64_t words = paddedDepth(depth) / 2;
  Value input = matmul.getInput(), row = p.block();
  RowExpressions rows(p);
  rows.prepareRow(input, row);
  Value memory = p.workspace(0, Access::Write, p.i32);
  p.loop("word", p.thread(), p.c(words), rowThreads, [&](Value word) {
    std::array<Value, 2> pair;
    for (int64_t i : {0, 1}) {
      Value col = p.add(p.mul(word, 2), i);
      if (depth < 2 * words) // numbers that are not read
        col = p.min(col, p.c(depth - 1));
      pair[size_t(i)] = rows.evaluate(input, {row, p.named(col, "col")});
    }
    p.store(assembly.packHalves(element, pair[0], pair[1]), memory, p.add(p.mul(row, words), word));
  });
  return p.finish(p.rowsExtent(input.getType()));
}
