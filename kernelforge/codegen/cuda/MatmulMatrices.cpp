// Matmuls by the matrix units of a warpgroup: which kernels, in which phases.
#include "kernelforge/codegen/cuda/MatmulResults.h"
#include "kernelforge/codegen/cuda/Methods.h"

#include "kernelforge/codegen/Operands.h"
#include "kernelforge/codegen/simt/Emit.h"
#include "kernelforge/ir/Numerics.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;
using namespace kernelforge::cuda;
using namespace kernelforge::cuda::matmul;

namespace {

/// Groups whose tiles are side by side in one phase: those of as many segments.
SmallVector<SmallVector<const SegmentGroup *>> phasesOf(const KernelAnalysis &kernel) {
  SmallVector<SmallVector<const SegmentGroup *>> phases;
  for (const SegmentGroup &group : kernel.groups()) {
    auto *same = llvm::find_if(phases, [&](const auto &phase) {
      return phase[0]->segments.size() == group.segments.size();
    });
    if (same == phases.end())
      phases.push_back({&group});
    else
      same->push_back(&group);
  }
  return phases;
}

/// By matrix units of a warpgroup.
class Matrices final : public Method {
public:
  std::string_view name() const override { return "matrices"; }

  Status supports(const KernelAnalysis &kernel, const Target &target) const override {
    auto refuse = [&](const std::string &why) {
      return unusable("kernel cannot be compiled by matrices", kernel.name(), why,
                      "use another method");
    };
    if (!target.has("sm_90a"))
      return refuse("the target is not sm_90a");
    MatmulOp matmul = kernel.matmul();
    KF_CHECK(checkOperations(kernel.kernel(), {.device = "a GPU",
                                               .hasCode = RowExpressions::hasCode,
                                               .readsLayouts = true,
                                               .needsFiniteF32 = true,
                                               .multipliesIn = multipliesIn,
                                               .layout = WeightLayout::Planes}));
    for (Value operand : matmul.getOperands().drop_front())
      if (!isa<BlockArgument>(operand))
        return refuse("a weight or bias is computed in the kernel");
    if (llvm::range_size(kernel.kernel().getBody().getOps<MatmulOp>()) > 1)
      return refuse("there are two matmuls");
    if (kernel.groups().empty() || matmul.getK() == 0)
      return refuse("there is nothing to multiply");
    if (!matrixElement(matmul))
      return refuse("its numerics do not have rows and weights multiplied both as bf16 or as f16");
    if (std::string why = epilogueObstacle(kernel, /*hasTile=*/true); !why.empty())
      return refuse(why);
    const int64_t k = matmul.getK();
    if (expandsWeights(matmul) &&
        (matmul.getTranspose() || k % (stagesOfUnit(matmul) * OperandTile::depth) != 0))
      return refuse(fmt::format("quantized weights are not [N, K] with K a multiple of {}",
                                stagesOfUnit(matmul) * OperandTile::depth));
    const bool readsDepth =
        hasMatrixRows(matmul) || (!matmul.getTranspose() && !expandsWeights(matmul));
    if (readsDepth && k * OperandTile::elementBytes % copyUnit != 0)
      return refuse(fmt::format("rows of {} numbers are no multiples of {} bytes", k, copyUnit));
    for (const SegmentGroup &group : kernel.groups()) {
      if (matmul.getTranspose() && group.n * OperandTile::elementBytes % copyUnit != 0)
        return refuse(fmt::format("rows of the weight are no multiples of {} bytes", copyUnit));
      if (group.segments.size() > 2)
        return refuse("more than two segments are needed together");
      if (std::string why = GroupResults::obstacle(group); !why.empty())
        return refuse(why);
      if (GroupResults::headColumns(group) * int64_t(group.segments.size()) > mostColumns)
        return refuse(fmt::format("{} columns are no room for whole heads", mostColumns));
    }
    SmallVector<Needs> needs;
    if (!hasMatrixRows(matmul))
      needs.push_back({0, RowExpressions::sharedBytesOfRow(kernel.kernel()) + 4096, 512});
    return simt::checkLimits(kernel.kernel(), needs, simtLimits(target));
  }

  ScheduleSpace space(const KernelAnalysis &kernel, const Target &target) const override {
    return matrixSpace(kernel, target);
  }

  Expected<Launching> emit(ModuleOp module, const KernelAnalysis &kernel, const Target &target,
                           StringRef entry, const KnobValues &schedule) const override {
    KF_TRY(const MatrixKnobs knobs, matrixKnobs(kernel, target, schedule));
    Launching launching;
    const bool writesRows = !hasMatrixRows(kernel.matmul());
    const auto phases = phasesOf(kernel);
    const size_t count = phases.size() + (writesRows ? 1 : 0);
    auto next = [&] { return phaseEntry(entry, launching.phases.size(), count); };
    if (writesRows) {
      launching.phases.push_back(emitRows(module, kernel, next(), *matrixElement(kernel.matmul())));
      const int64_t rowBytes = paddedDepth(kernel.matmul().getK()) * OperandTile::elementBytes;
      launching.workspaces.push_back({launching.phases.back().grid * Extent(rowBytes), 128});
    }
    for (const auto &groups : phases) {
      const bool isFirst = launching.phases.empty();
      launching.phases.push_back(emitBlocks(module, kernel, groups, next(), knobs));
      launching.phases.back().afterPrevious =
          writesRows || isFirst; // groups do not wait for each other
    }
    return launching;
  }

  std::vector<std::string> describe(const KernelAnalysis &kernel,
                                    const KnobValues &schedule) const override {
    std::vector<std::string> lines = simt::describe(kernel);
    const int64_t split = schedule.at("split");
    lines.back() = fmt::format("matrices: {} x {} results a block, {} stages of 64{}",
                               schedule.at("bm"), schedule.at("bn"), schedule.at("stages"),
                               split == 1 ? "" : fmt::format(", {} blocks share the depth", split));
    return lines;
  }

private:
  static bool multipliesIn(Operation *op, Numerics numerics) {
    auto matmul = dyn_cast<MatmulOp>(op);
    return matmul && matrixElement(matmul);
  }
};

} // namespace

const Method &cuda::matmulMatrices() {
  static const Matrices method;
  return method;
}
