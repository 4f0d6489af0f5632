// What the code generator computes. What the shape of a kernel must be is each family's own to say.
#include "kernelforge/codegen/Operands.h"
#include "kernelforge/codegen/cpu/Emit.h"
#include "kernelforge/codegen/cpu/Epilogue.h"
#include "kernelforge/codegen/cpu/Step.h"
#include "kernelforge/ir/Numerics.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;
using namespace kernelforge::transformer;

/// Matmuls of rows of whole numbers of 8 bits; matmuls and attentions of bf16.
static bool multipliesIn(Operation *op, Numerics numerics) {
  return (numerics == Numerics::I8 || numerics == Numerics::BF16) && takesNumerics(op, numerics);
}

Status cpu::supports(const KernelAnalysis &kernel) {
  KF_CHECK(checkOperations(kernel.kernel(), {.device = "a CPU",
                                             .hasCode = RowExpressions::hasCode,
                                             .readsLayouts = true,
                                             .needsFiniteF32 = false,
                                             .multipliesIn = multipliesIn,
                                             .layout = WeightLayout::Interleaved}));
  if (kernel.family() != KernelFamily::Step)
    KF_CHECK(checkRowwise(kernel.kernel()));
  switch (kernel.family()) {
  case KernelFamily::Matmul:
    return matmul::supports(kernel);
  case KernelFamily::Attention:
    return attention::supports(kernel);
  case KernelFamily::Rowwise:
    return rowwise::supports(kernel);
  case KernelFamily::Step:
    return step::supports(kernel);
  }
  llvm_unreachable("a family without an emitter");
}
