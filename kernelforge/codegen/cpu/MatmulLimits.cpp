#include "kernelforge/codegen/cpu/MatmulLimits.h"

#include "kernelforge/codegen/cpu/Weights.h"
#include "kernelforge/ir/Numerics.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;
using namespace kernelforge::cpu::matmul;
using namespace kernelforge::transformer;

KernelLimits cpu::matmul::limitsOf(const KernelAnalysis &kernel, const Target &target,
                                   int64_t threads) {
  MatmulOp matmul = kernel.matmul();
  KernelLimits limits;
  limits.name = kernel.name();
  // Of no rows nothing is computed, whatever the schedule.
  limits.rows = std::max<int64_t>(1, kernel.plannedRows(matmul.getInput().getType()).second);
  limits.depth = matmul.getK();
  limits.columns = wholeColumns(kernel).value_or(maxBlock);
  limits.form = PanelForm::of(numericsOf(matmul), target);
  limits.inPlace = !matmul.getTranspose();
  for (Value weight : matmul.getWeights()) {
    const ElementTypeInfo &element = info(*elementTypeOf(weight.getType()));
    limits.block = std::max(limits.block, WeightReader::blockK(element));
    limits.chains = std::max(limits.chains, WeightReader::chains(element));
    limits.quantized |= element.isQuantized();
    limits.needsSums |= element.hasMin();
    limits.shifts |= element.zero != 0;
    limits.inPlace &= limits.form.unit == PanelForm::Unit::Floats
                          ? element.type == ElementType::F32 && numericsOf(matmul) == Numerics::F32
                          : interleavedRun(element.type, limits.depth) == 2 &&
                                limits.depth % limits.form.step() == 0;
    limits.onlyPanels |= numericsOf(matmul) == Numerics::BF16 &&
                         element.type != ElementType::BF16 && limits.depth > 0;
    limits.weightBytes =
        std::max(limits.weightBytes,
                 double(limits.depth) * double(element.blockBytes) / double(element.blockElements));
  }
  limits.registers = target.limits.vectorBits == 512 ? 32 : 16;
  limits.perVector = target.limits.vectorBits == 512 ? 1 : 2;
  limits.plainInput = readsInPlace(matmul) && numericsOf(matmul) == Numerics::F32;
  limits.integers = multipliesIntegers(numericsOf(matmul));
  limits.threads = std::max<int64_t>(1, threads);
  for (const SegmentGroup &group : kernel.groups()) {
    limits.widths.push_back(group.n);
    limits.groupCounts.push_back(static_cast<int64_t>(group.segments.size()));
  }
  if (limits.widths.empty()) { // nothing is stored
    limits.widths.push_back(lanes);
    limits.groupCounts.push_back(1);
  }
  return limits;
}
