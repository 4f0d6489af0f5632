// Matmuls of few rows: which kernels, and what their schedules follow from.
#include "kernelforge/codegen/Operands.h"
#include "kernelforge/codegen/simt/Cache.h"
#include "kernelforge/codegen/simt/Emit.h"
#include "kernelforge/codegen/simt/MatmulRows.h"
#include "kernelforge/codegen/simt/Methods.h"
#include "kernelforge/codegen/simt/PlaneReader.h"
#include "kernelforge/codegen/simt/Strip.h"
#include "kernelforge/ir/Numerics.h"

#include "llvm/ADT/bit.h"

#include <algorithm>
#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;
using namespace kernelforge::simt;
using namespace kernelforge::simt::rows;

int64_t Shape::segments() const {
  int64_t most = 1;
  for (const Columns &group : groups)
    most = std::max(most, group.segments);
  return most;
}

/// How far the halves of a head are apart that all operations after the matmul which need whole
/// heads rotate; 0 where there are none, or they need more than the two halves' same places.
static int64_t halvesApart(const SegmentGroup &group) {
  int64_t apart = 0;
  for (Operation *op : group.ops) {
    if (headWidthOf(op) == 0)
      continue;
    auto rope = dyn_cast<RopeOp>(op);
    if (!rope || rope.getPairing() != Pairing::HalfSplit ||
        rope.getRotaryDim() != int64_t(rope.getHeadDim()))
      return 0;
    const int64_t half = rope.getRotaryDim() / 2;
    if (apart != 0 && apart != half)
      return 0;
    apart = half;
  }
  return apart;
}

/// Columns that a workgroup's are a multiple of where halves of heads are not apart: pairs that lie
/// side by side, or whole heads.
static int64_t columnsOf(const SegmentGroup &group) {
  const bool arePairs = llvm::all_of(group.ops, [](Operation *op) {
    auto rope = dyn_cast<RopeOp>(op);
    return headWidthOf(op) == 0 || (rope && rope.getPairing() == Pairing::Interleaved);
  });
  return arePairs ? std::min<int64_t>(wholeColumns(group), 2) : wholeColumns(group);
}

/// Of columns of these weights: 16 bytes of quants, or a chunk where its pieces share scales that
/// take work to unpack; of plain numbers 16 bytes, or fewer where rows of a weight do not begin at
/// such places.
static Unit unitOf(MatmulOp matmul, ArrayRef<unsigned> segments) {
  int64_t elements = 8;
  for (unsigned segment : segments) {
    const ElementTypeInfo &type = info(*elementTypeOf(matmul.getWeights()[segment].getType()));
    if (type.isQuantized()) { // and all others are of the same type
      const int64_t runs =
          type.subScales == SubScales::Packed6 ? type.chunkElements / runElements : type.fields();
      const int64_t pieces = runs / type.fields();
      const int64_t highs = pieces * PlaneReader::highWords(type);
      return {runs * runElements, runs, runs == 1 ? runElements : type.chunkElements,
              4 * pieces + highs + 1 + PlaneReader::subScaleWords(type)};
    }
    elements = std::min<int64_t>(elements, isHalf(type.type) ? 8 : 4);
  }
  const int64_t k = matmul.getK();
  elements = k % elements == 0 ? elements : k % 4 == 0 ? 4 : 1;
  return {.elements = elements, .runs = 0, .chunk = 0, .words = std::min<int64_t>(elements, 4)};
}

std::vector<Unit> Shape::distinctUnits() const {
  std::vector<Unit> units;
  for (const Columns &group : groups)
    if (!llvm::is_contained(units, group.unit))
      units.push_back(group.unit);
  return units;
}

Shape rows::shapeOf(const KernelAnalysis &kernel, const Target &target) {
  MatmulOp matmul = kernel.matmul();
  Shape shape;
  shape.name = kernel.name();
  SmallVector<Sink> sinks;
  for (const SegmentGroup &group : kernel.groups()) {
    const int64_t apart = halvesApart(group);
    shape.groups.push_back({group.n, static_cast<int64_t>(group.segments.size()),
                            apart > 0 ? 1 : columnsOf(group), apart,
                            unitOf(matmul, group.segments)});
    llvm::append_range(sinks, group.sinks);
  }
  for (Value weight : matmul.getWeights())
    shape.weightBytes +=
        static_cast<double>(weightBytes(cast<RankedTensorType>(weight.getType())).value_or(0));
  shape.k = matmul.getK();
  shape.numerics = numericsOf(matmul);
  shape.rows = std::max<int64_t>(1, kernel.rows(matmul.getInput().getType()).second);
  shape.staged = !isa<BlockArgument>(matmul.getInput());
  shape.rowBytes = RowExpressions::sharedBytesOfRow(kernel.kernel());
  shape.streams = target.has("dependent-launch");
  shape.areMarked = llvm::all_of(matmul.getWeights(), [&](Value weight) {
    return kernel.isWeight(cast<BlockArgument>(weight));
  });
  const Limits &limits = target.limits;
  // Threads that are neighbours by number are so in every subgroup: one that is larger works like
  // several of the least size.
  if (target.has("subgroups") && limits.subgroupMin >= 4)
    shape.lanes = int64_t(llvm::bit_floor(uint64_t(std::min<int64_t>(limits.subgroupMin, 64))));
  shape.separate = limits.bindings > 0 && countBuffers(sinks) > limits.bindings;
  shape.sharedBytes = limits.sharedBytes > 0 ? limits.sharedBytes : 16384;
  shape.registers = limits.registers;
  shape.threads = limits.threadsPerBlock > 0 ? limits.threadsPerBlock : 256;
  return shape;
}

Status rows::supportsShape(const KernelAnalysis &kernel) {
  MatmulOp matmul = kernel.matmul();
  auto refuse = [&](const std::string &why, const std::string &hint) {
    return unusable("kernel cannot be computed by rows", kernel.name() + ", transformer.matmul",
                    why, hint);
  };
  if (llvm::range_size(kernel.kernel().getBody().getOps<MatmulOp>()) > 1)
    return refuse("there are two of them", "make a kernel of each");
  if (kernel.groups().empty() || matmul.getK() == 0)
    return refuse("nothing is computed", "use the plain method");
  if (matmul.getTranspose())
    return refuse("the weights lie the other way", "use another method");
  if (kernel.rows(matmul.getInput().getType()).second > mostRows)
    return refuse(fmt::format("it may have more than {} rows", mostRows), "use another method");
  for (const SegmentGroup &group : kernel.groups()) {
    auto elementOf = [&](unsigned segment) {
      return getElementTypeOrSelf(matmul.getWeights()[segment].getType());
    };
    const Type first = elementOf(group.segments[0]);
    for (unsigned segment : group.segments) {
      Value weight = matmul.getWeights()[segment];
      const bool isPlain = isa<FloatType>(elementOf(segment));
      if (!isa<BlockArgument>(weight) || (!isPlain && !PlaneReader::reads(weight.getType())))
        return refuse("a weight is neither a matrix of plain numbers in memory "
                      "nor in planes",
                      "use another method");
      // How a thread reads its rows must suit all weights of a group.
      if (isPlain != isa<FloatType>(first) || (!isPlain && elementOf(segment) != first))
        return refuse("weights that are needed together are of different types",
                      "make a kernel of each");
    }
  }
  for (Value bias : matmul.getBiases())
    if (!isa<BlockArgument>(bias))
      return refuse("a bias is computed inside the kernel", "pass it as an argument");
  if (std::string why = epilogueObstacle(kernel, /*hasTile=*/true); !why.empty())
    return refuse(why, "compute it in a kernel of its own");
  for (const SegmentGroup &group : kernel.groups())
    for (Operation *op : group.ops)
      if (kindOf(op) == OpKind::Statistics)
        return refuse("heads are normed after it", "compute it in a kernel of its own");
  for (const Sink &sink : kernel.sinks())
    if (isInBlocks(sink))
      return refuse("transformer.cache_append into q8_0 needs a block of a row",
                    "append in a kernel of its own");
  return {};
}

/// Whole numbers are multiplied by weights of whole numbers alone, f16 and bf16 by any.
static bool multipliesIn(Operation *op, Numerics numerics) {
  auto matmul = dyn_cast<MatmulOp>(op);
  auto hasIntegers = [](Value weight) {
    return info(*elementTypeOf(weight.getType())).hasIntegers();
  };
  return matmul &&
         (multipliesIntegers(numerics) ? llvm::all_of(matmul.getWeights(), hasIntegers)
                                       : numerics == Numerics::F16 || numerics == Numerics::BF16);
}

Status rows::supports(const KernelAnalysis &kernel, const Target &target) {
  KF_CHECK(checkOperations(kernel.kernel(), {.device = "a GPU",
                                             .hasCode = RowExpressions::hasCode,
                                             .readsLayouts = true,
                                             .needsFiniteF32 = true,
                                             .multipliesIn = multipliesIn,
                                             .layout = WeightLayout::Planes}));
  KF_CHECK(supportsShape(kernel));
  if (multipliesIntegers(numericsOf(kernel.matmul())) && !target.has("packed-dot"))
    return unusable("kernel cannot be computed by rows", kernel.name() + ", transformer.matmul",
                    "the target has no packed-dot", "use numerics f32");
  const Shape shape = shapeOf(kernel, target);
  SmallVector<Needs> needs;
  SmallVector<Sink> all;
  for (const SegmentGroup &group : kernel.groups()) {
    llvm::append_range(all, group.sinks);
    if (shape.separate)
      needs.push_back({countBuffers(group.sinks)});
  }
  if (!shape.separate)
    needs.push_back({countBuffers(all)});
  KF_CHECK(checkLimits(kernel.kernel(), needs, target.limits));
  KF_TRY(const Knobs knobs, readKnobs(shape, usualKnobs(shape, {})));
  (void)knobs;
  return {};
}
