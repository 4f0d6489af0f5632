// The matmul family: a workgroup computes 64 columns of a few rows, a thread one column of them, so
// that a weight is read and expanded once for all these rows. Segments that an epilogue does not
// bring together are phases that do not wait for each other.
#include "kernelforge/codegen/simt/Cache.h"
#include "kernelforge/codegen/simt/Emit.h"
#include "kernelforge/codegen/simt/Weights.h"

#include <algorithm>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;

namespace {

/// Most rows that a thread computes.
constexpr int64_t mostRows = 4;

/// Emits the phase of one group.
class PlainMatmulEmitter {
public:
  PlainMatmulEmitter(ModuleOp module, const KernelAnalysis &kernel, const SegmentGroup &group,
                     StringRef entry)
      : p(module, kernel.kernel(), entry), matmul(kernel.matmul()), group(group), rows(p),
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
      Value added = readParameter(p, bias, col);
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

int64_t matmul::rowsOfThread(const KernelAnalysis &kernel) {
  Type input = kernel.matmul().getInput().getType();
  return std::clamp<int64_t>(kernel.rows(input).second, 1, mostRows);
}

Status matmul::supports(const KernelAnalysis &kernel) {
  auto refuse = [&](const std::string &why, const std::string &hint) {
    return unusable("kernel cannot be compiled for a GPU", kernel.name() + ", transformer.matmul",
                    why, hint);
  };
  for (Value operand : kernel.matmul().getOperands().drop_front())
    if (!isa<BlockArgument>(operand))
      return refuse("a weight or bias is computed inside the kernel", "pass it as an argument");
  if (llvm::range_size(kernel.kernel().getBody().getOps<MatmulOp>()) > 1)
    return refuse("there are two of them", "make a kernel of each");
  if (std::string why = epilogueObstacle(kernel, /*hasTile=*/false); !why.empty())
    return refuse(why, "compute it in a kernel of its own");
  for (const Sink &sink : kernel.sinks())
    if (isInBlocks(sink))
      return refuse(
          "transformer.cache_append into q8_0 needs a block of a row, and an element is at "
          "hand",
          "append in a kernel of its own");
  return {};
}

SmallVector<Needs> matmul::needsOf(const KernelAnalysis &kernel) {
  SmallVector<Needs> needs;
  for (const SegmentGroup &group : kernel.groups())
    needs.push_back({countBuffers(group.sinks),
                     threads * 4 + matmul::rowsOfThread(kernel) *
                                       RowExpressions::sharedBytesOfRow(kernel.kernel())});
  return needs;
}

Launching matmul::emit(ModuleOp module, const KernelAnalysis &kernel, StringRef entry) {
  Launching launching;
  const ArrayRef<SegmentGroup> groups = kernel.groups();
  if (groups.empty()) // no results, or of no columns: a phase of no blocks
    launching.phases.push_back(PhaseBuilder(module, kernel.kernel(), entry).finish(Extent(0)));
  for (const auto &[i, group] : llvm::enumerate(groups)) {
    launching.phases.push_back(
        PlainMatmulEmitter(module, kernel, group, phaseEntry(entry, i, groups.size())).emit());
    launching.phases.back().afterPrevious = i == 0; // they do not wait for each other
  }
  return launching;
}
