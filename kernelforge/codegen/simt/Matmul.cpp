// The matmul family: a workgroup computes 64 columns of a few rows, a thread one column of them, so
// that a weight is read and expanded once for all these rows. Segments that an epilogue does not
// bring together are phases that do not wait for each other.
#include "kernelforge/codegen/MatmulSources.h"
#include "kernelforge/codegen/simt/Emit.h"
#include "kernelforge/codegen/simt/Weights.h"

#include "llvm/ADT/EquivalenceClasses.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/SmallSet.h"

#include <algorithm>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;

namespace {

/// Most rows that a thread computes.
constexpr int64_t mostRows = 4;

/// Segments whose elements an epilogue needs together (gate and up), with the sinks they feed.
struct SegmentGroup {
  SmallVector<unsigned> segments;
  SmallVector<Sink> sinks;
  int64_t n = 0;
};

/// Those that nothing needs, or that have no columns, are left out.
SmallVector<SegmentGroup> formGroups(KernelOp kernel, MatmulOp matmul) {
  llvm::EquivalenceClasses<unsigned> classes;
  const SmallVector<Sink> sinks = sinksOf(kernel);
  const auto count = static_cast<unsigned>(matmul.getWeights().size());
  SmallVector<unsigned> owner;
  for (unsigned s = 0; s < count; ++s)
    classes.insert(s);
  for (const Sink &sink : sinks) {
    const llvm::SmallSet<unsigned, 4> segments = sourcesOf(matmul, sink.value).segments;
    const unsigned first = segments.empty() ? 0 : *segments.begin();
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
    group.n = widthOf(matmul.getOutputs()[s]);
    if (!group.sinks.empty() && group.n > 0)
      groups.push_back(std::move(group));
  }
  return groups;
}

/// Why what a kernel stores cannot be computed element by element from the matmul's; empty where it
/// can.
std::string epilogueObstacle(KernelOp kernel, MatmulOp matmul) {
  auto rowsOf = [](Type type) {
    auto tensor = cast<RankedTensorType>(type);
    return std::pair(rowsSizeName(tensor), tensor.getDimSize(0));
  };
  for (const SegmentGroup &group : formGroups(kernel, matmul))
    for (const Sink &sink : group.sinks) {
      if (std::string why = sinkObstacle(sink); !why.empty())
        return why;
      if (rowsOf(sink.value.getType()) != rowsOf(matmul.getInput().getType()) ||
          widthOf(sink.value) != group.n)
        return "a result has another type than the matmul's";
      for (Operation *op : sourcesOf(matmul, sink.value).ops) {
        const bool follows = !sourcesOf(matmul, op->getOperand(0)).segments.empty();
        const std::optional<OpKind> kind = kindOf(op);
        if (kind == OpKind::Statistics)
          return op->getName().getStringRef().str() + " needs whole rows, and follows the matmul";
        if (follows && (kind == OpKind::Pairs || kind == OpKind::PicksRows))
          return op->getName().getStringRef().str() +
                 " needs other elements of the matmul's result than the one at hand";
      }
    }
  return "";
}

/// Emits the phase of one group.
class Emitter {
public:
  Emitter(ModuleOp module, KernelOp kernel, MatmulOp matmul, const SegmentGroup &group,
          StringRef entry)
      : p(module, kernel, entry), matmul(matmul), group(group), rows(p),
        rowsOfThread(matmul::rowsOfThread(kernel)) {}

  Phase emit() {
    const int64_t columnBlocks = (group.n + threads - 1) / threads;
    Type input = matmul.getInput().getType();
    Value total = p.rows(input);
    Value col = p.named(p.add(p.mul(p.rem(p.block(), columnBlocks), threads), p.thread()), "col");
    Value first = p.named(p.mul(p.div(p.block(), columnBlocks), rowsOfThread), "first_row");
    SmallVector<Value> own; // rows past the last one repeat it, and are not stored
    for (int64_t r = 0; r < rowsOfThread; ++r) {
      own.push_back(rowsOfThread == 1 ? first
                                      : p.named(p.min(p.add(first, r), p.sub(total, 1)), "row"));
      rows.prepareRow(matmul.getInput(), own.back());
    }
    auto compute = [&] {
      for (unsigned s : group.segments)
        multiply(s, col, own);
      for (int64_t r = 0; r < rowsOfThread; ++r) {
        auto store = [&] { rows.store(group.sinks, {own[r], col}); };
        if (r == 0)
          store();
        else
          p.ifThen(p.lessThan(p.add(first, r), total), store);
      }
    };
    if (group.n % threads == 0)
      compute();
    else
      p.ifThen(p.lessThan(col, p.c(group.n)), compute);
    return p.finish(p.rowsExtent(input, rowsOfThread) * Extent(columnBlocks));
  }

private:
  /// Computes segment `s` of column `col` for all rows, and binds its result to that.
  void multiply(unsigned s, Value col, ArrayRef<Value> own) {
    Value weight = matmul.getWeights()[s];
    auto type = cast<RankedTensorType>(weight.getType());
    WeightReader reader(p, p.argument(weight), type);
    auto step = [&](Value element, Value k, ValueRange carried) {
      element = p.named(element, "w");
      SmallVector<Value> next;
      for (auto [row, sum] : llvm::zip(own, carried))
        next.push_back(p.addf(sum, p.mulf(element, rows.evaluate(matmul.getInput(), {row, k}))));
      return next;
    };
    SmallVector<Value> zeros(own.size(), p.cf(0));
    SmallVector<Value> sums = matmul.getTranspose()
                                  ? reader.foldColumn(col, type.getDimSize(0), "sum", zeros, step)
                                  : reader.fold(col, "sum", zeros, step);
    if (!matmul.getBiases().empty()) {
      Value bias = matmul.getBiases()[s];
      Value added = WeightReader(p, p.argument(bias), cast<RankedTensorType>(bias.getType()))
                        .element(p.c(0), col);
      for (Value &sum : sums)
        sum = p.addf(sum, added);
    }
    rows.bind(matmul.getOutputs()[s],
              [sums, own = SmallVector<Value>(own)](const Position &position) {
                return sums[llvm::find(own, position.row) - own.begin()];
              });
  }

  PhaseBuilder p;
  MatmulOp matmul;
  const SegmentGroup &group;
  RowExpressions rows;
  int64_t rowsOfThread;
};

} // namespace

int64_t matmul::rowsOfThread(KernelOp kernel) {
  auto matmul = cast<MatmulOp>(kernel.getRoot());
  return std::clamp<int64_t>(rowsRange(kernel, matmul.getInput().getType()).second, 1, mostRows);
}

Status matmul::supports(KernelOp kernel) {
  auto matmul = cast<MatmulOp>(kernel.getRoot());
  auto refuse = [&](const std::string &why, const std::string &hint) {
    return unusable("kernel cannot be compiled for a GPU",
                    kernelName(kernel) + ", transformer.matmul", why, hint);
  };
  for (Value operand : matmul.getOperands().drop_front())
    if (!isa<BlockArgument>(operand))
      return refuse("a weight or bias is computed inside the kernel", "pass it as an argument");
  if (llvm::range_size(kernel.getBody().getOps<MatmulOp>()) > 1)
    return refuse("there are two of them", "make a kernel of each");
  if (std::string why = epilogueObstacle(kernel, matmul); !why.empty())
    return refuse(why, "compute it in a kernel of its own");
  return {};
}

SmallVector<Needs> matmul::needsOf(KernelOp kernel) {
  auto matmul = cast<MatmulOp>(kernel.getRoot());
  SmallVector<Needs> needs;
  for (const SegmentGroup &group : formGroups(kernel, matmul))
    needs.push_back({countBuffers(group.sinks), threads * 4});
  return needs;
}

Launching matmul::emit(ModuleOp module, KernelOp kernel, StringRef entry) {
  auto matmul = cast<MatmulOp>(kernel.getRoot());
  Launching launching;
  const SmallVector<SegmentGroup> groups = formGroups(kernel, matmul);
  for (const auto &[i, group] : llvm::enumerate(groups)) {
    launching.phases.push_back(
        Emitter(module, kernel, matmul, group, phaseEntry(entry, i, groups.size())).emit());
    launching.phases.back().afterPrevious = i == 0; // they do not wait for each other
  }
  return launching;
}
