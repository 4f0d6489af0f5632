// What kernels of the matmul family look like: which of a matmul's segments are computed together,
// and what may stand after it.
#include "kernelforge/codegen/MatmulSources.h"
#include "kernelforge/codegen/cpu/MatmulSchedule.h"

#include "llvm/ADT/EquivalenceClasses.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/SmallSet.h"

#include <numeric>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;
using namespace kernelforge::cpu::matmul;
using namespace kernelforge::transformer;

namespace {

/// Why what a kernel stores cannot be computed tile by tile, from the row and the columns at hand;
/// empty where it can.
std::string sinkObstacle(KernelOp kernel, MatmulOp matmul) {
  auto rowsOf = [](Type type) {
    auto tensor = cast<RankedTensorType>(type);
    return std::pair(rowsSizeName(tensor), tensor.getDimSize(0));
  };
  for (const SegmentGroup &group : formGroups(kernel, matmul))
    for (const RowExpressions::Sink &sink : group.sinks) {
      auto type = dyn_cast<RankedTensorType>(sink.value.getType());
      if (!type || type.getRank() != 2 || !type.getElementType().isF32() ||
          rowsOf(type) != rowsOf(matmul.getInput().getType()) || type.getDimSize(1) != group.n)
        return "a result has another type than the matmul's";
      for (Operation *op : sourcesOf(matmul, sink.value).ops) {
        if (kindOf(op) == OpKind::Statistics)
          return op->getName().getStringRef().str() + " needs whole rows, and follows the matmul";
        if (kindOf(op) == OpKind::PicksRows &&
            !sourcesOf(matmul, op->getOperand(0)).segments.empty())
          return op->getName().getStringRef().str() +
                 " needs other rows of the matmul's result than those at hand";
      }
    }
  return "";
}

} // namespace

SmallVector<SegmentGroup> cpu::matmul::formGroups(KernelOp kernel, MatmulOp matmul) {
  llvm::EquivalenceClasses<unsigned> classes;
  auto sinks = RowExpressions::sinks(kernel);
  const unsigned count = matmul.getWeights().size();
  SmallVector<unsigned> owner;
  for (unsigned s = 0; s < count; ++s)
    classes.insert(s);
  for (const RowExpressions::Sink &sink : sinks) {
    const llvm::SmallSet<unsigned, 4> segments = sourcesOf(matmul, sink.value).segments;
    unsigned first = segments.empty() ? 0 : *segments.begin();
    for (unsigned s : segments)
      classes.unionSets(first, s);
    owner.push_back(first);
  }
  SmallVector<SegmentGroup> groups;
  for (unsigned s = 0; s < count; ++s) {
    if (classes.getLeaderValue(s) != s)
      continue;
    SegmentGroup group;
    for (unsigned t = 0; t < count; ++t)
      if (classes.isEquivalent(s, t))
        group.segments.push_back(t);
    for (auto [sink, first] : llvm::zip(sinks, owner))
      if (classes.isEquivalent(s, first))
        group.sinks.push_back(sink);
    group.n = cast<RankedTensorType>(matmul.getOutputs()[s].getType()).getDimSize(1);
    if (!group.sinks.empty() && group.n > 0)
      groups.push_back(std::move(group));
  }
  return groups;
}

int64_t cpu::matmul::countBlocks(ArrayRef<SegmentGroup> groups, int64_t nb) {
  int64_t count = 0;
  for (const SegmentGroup &group : groups)
    count += ceilDiv(group.n, nb);
  return count;
}

std::optional<int64_t> cpu::matmul::wholeColumns(KernelOp kernel) {
  int64_t columns = lanes;
  for (auto rope : kernel.getBody().getOps<RopeOp>()) {
    const auto headDim = static_cast<int64_t>(rope.getHeadDim());
    columns = headDim > maxBlock ? headDim : std::lcm(columns, headDim);
    if (columns > maxBlock)
      return std::nullopt;
  }
  return columns;
}

static std::string printed(Type type) {
  std::string text;
  llvm::raw_string_ostream(text) << type;
  return text;
}

/// The type that a weight must have to be multiplied by.
static RankedTensorType packedType(Value weight) {
  return withLayout(cast<RankedTensorType>(weight.getType()),
                    LayoutAttr::get(weight.getContext(), "interleaved", 16));
}

Expected<MatmulOp> cpu::matmul::supportedMatmul(KernelOp kernel) {
  auto matmul = cast<MatmulOp>(kernel.getRoot());
  auto refuse = [&](const std::string &why, const std::string &hint) {
    return unusable("matmul cannot be compiled for the CPU", kernelName(kernel), why, hint);
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
    return refuse("transformer.rope rotates heads that are wider than any tile",
                  "rotate them in a kernel of its own");
  if (std::string why = sinkObstacle(kernel, matmul); !why.empty())
    return refuse(why, "compute it in a kernel of its own");
  return matmul;
}
