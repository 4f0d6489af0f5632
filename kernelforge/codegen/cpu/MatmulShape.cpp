// What kernels of the matmul family look like: what may stand around the matmul, and how wide a
// tile must be for it.
#include "kernelforge/codegen/cpu/Emit.h"
#include "kernelforge/codegen/cpu/Epilogue.h"
#include "kernelforge/codegen/cpu/KernelBuilder.h"
#include "kernelforge/codegen/cpu/MatmulSchedule.h"
#include "kernelforge/ir/WeightLayouts.h"

#include <numeric>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;
using namespace kernelforge::cpu::matmul;
using namespace kernelforge::transformer;

int64_t cpu::matmul::countBlocks(ArrayRef<SegmentGroup> groups, int64_t nb) {
  int64_t count = 0;
  for (const SegmentGroup &group : groups)
    count += ceilDiv(group.n, nb);
  return count;
}

std::optional<int64_t> cpu::matmul::wholeColumns(const KernelAnalysis &kernel) {
  int64_t columns = lanes;
  for (const SegmentGroup &group : kernel.groups())
    for (Operation *op : group.ops)
      if (const int64_t head = headWidthOf(op)) {
        columns = head > maxBlock ? head : std::lcm(columns, head);
        if (columns > maxBlock)
          return std::nullopt;
      }
  // What is appended to a quantized cache, in whole blocks.
  for (const Sink &sink : kernel.sinks())
    columns = std::lcm(columns, RowExpressions::storedAtOnce(sink));
  return columns > maxBlock ? std::nullopt : std::optional(columns);
}

bool cpu::matmul::readsInPlace(MatmulOp matmul) {
  return isa<BlockArgument>(matmul.getInput()) &&
         getElementTypeOrSelf(matmul.getInput().getType()).isF32();
}

static std::string printed(Type type) {
  std::string text;
  llvm::raw_string_ostream(text) << type;
  return text;
}

/// The type that a weight must have to be multiplied by.
static RankedTensorType packedType(Value weight) {
  return withLayout(cast<RankedTensorType>(weight.getType()),
                    layoutAttr(weight.getContext(), WeightLayout::Interleaved));
}

Status cpu::matmul::supports(const KernelAnalysis &kernel) {
  MatmulOp matmul = kernel.matmul();
  auto refuse = [&](const std::string &why, const std::string &hint) {
    return unusable("matmul cannot be compiled for the CPU", kernel.name(), why, hint);
  };
  for (Value weight : matmul.getWeights()) {
    if (!isa<BlockArgument>(weight))
      return refuse("a weight is computed inside the kernel", "pass weights as arguments");
    if (!matmul.getTranspose() && !layoutOf(weight.getType()))
      return refuse("a weight of type " + printed(weight.getType()) + " has no layout",
                    "write " + printed(packedType(weight)) +
                        " in the kernel and in the function that launches it, or write the matmul "
                        "into a func.func without a kernel");
  }
  if (!wholeColumns(kernel))
    return refuse("heads that are rotated or normed are wider than any tile",
                  "rotate or norm them in a kernel of its own");
  if (std::string why = epilogueObstacle(kernel, /*hasTile=*/true); !why.empty())
    return refuse(why, "compute it in a kernel of its own");
  return {};
}
