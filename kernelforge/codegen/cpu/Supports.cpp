// What the code generator computes. What the shape of a kernel must be is each family's own to say.
#include "kernelforge/codegen/Operands.h"
#include "kernelforge/codegen/StepKernel.h"
#include "kernelforge/codegen/cpu/AttentionSchedule.h"
#include "kernelforge/codegen/cpu/Emit.h"
#include "kernelforge/codegen/cpu/Epilogue.h"
#include "kernelforge/codegen/cpu/MatmulSchedule.h"
#include "kernelforge/codegen/cpu/Step.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;
using namespace kernelforge::transformer;

Status cpu::supports(KernelOp kernel) {
  KF_CHECK(checkOperations(kernel, {.device = "a CPU",
                                    .hasCode = RowExpressions::hasCode,
                                    .readsLayouts = true,
                                    .convertsBiases = false,
                                    .needsFiniteF32 = false}));
  if (endsStep(kernel))
    return step::supports(kernel);
  KF_CHECK(checkRowwise(kernel));
  StringRef family = kernel.getFamily();
  if (family == "matmul")
    return matmul::supportedMatmul(kernel).transform([](MatmulOp) {});
  if (family == "attention")
    return attention::supportedAttention(kernel).transform([](AttentionOp) {});
  return rowwise::supports(kernel);
}
