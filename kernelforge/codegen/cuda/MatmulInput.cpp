// Rows of a matmul as matrix units take them: as they stand in memory, or written so by a phase of
// their own, with what is computed before the matmul.
#include "kernelforge/codegen/cuda/Matmul.h"
#include "kernelforge/codegen/cuda/WeightExpander.h"

#include "kernelforge/codegen/simt/Epilogue.h"
#include "kernelforge/codegen/simt/PlaneReader.h"
#include "kernelforge/ir/Numerics.h"

#include "llvm/Support/MathExtras.h"

#include <algorithm>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;
using kernelforge::cuda::Assembly;

/// What a matmul's numerics say that operands are rounded to.
static std::optional<ElementType> elementOfNumerics(MatmulOp matmul) {
  const Numerics numerics = numericsOf(matmul);
  return numerics == Numerics::BF16  ? std::optional(ElementType::BF16)
         : numerics == Numerics::F16 ? std::optional(ElementType::F16)
                                     : std::nullopt;
}

bool cuda::matmul::expandsWeights(MatmulOp matmul) {
  return !matmul.getWeights().empty() && llvm::all_of(matmul.getWeights(), [](Value weight) {
    return PlaneReader::reads(weight.getType());
  });
}

int64_t cuda::matmul::stagesOfUnit(MatmulOp matmul) {
  int64_t stages = 1;
  if (expandsWeights(matmul))
    for (Value weight : matmul.getWeights())
      stages = std::max(stages, WeightExpander::stagesOf(weight.getType()));
  return stages;
}

int64_t cuda::matmul::registersOfUnit(const KernelAnalysis &kernel, int64_t columns) {
  MatmulOp matmul = kernel.matmul();
  int64_t most = 0;
  for (const SegmentGroup &group : kernel.groups()) {
    int64_t ofGroup = 0;
    for (unsigned s : group.segments)
      ofGroup += WeightExpander::registersOf(matmul.getWeights()[s].getType(), columns,
                                             stagesOfUnit(matmul));
    most = std::max(most, ofGroup);
  }
  return most;
}

bool cuda::matmul::hasMatrixRows(MatmulOp matmul) {
  if (!isa<BlockArgument>(matmul.getInput()))
    return false;
  const auto element = elementTypeOf(matmul.getInput().getType());
  return element == (expandsWeights(matmul) ? elementOfNumerics(matmul)
                                            : elementTypeOf(matmul.getWeights()[0].getType()));
}

std::optional<ElementType> cuda::matmul::matrixElement(MatmulOp matmul) {
  if (expandsWeights(matmul))
    return elementOfNumerics(matmul);
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

namespace {

/// Emits the phase that writes rows: a block has a row, and each thread some quads of it, which
/// stay in registers where they are read for statistics, too.
class RowsEmitter {
public:
  RowsEmitter(ModuleOp module, const KernelAnalysis &kernel, StringRef entry, ElementType element)
      : matmul(kernel.matmul()), element(element), depth(static_cast<int64_t>(matmul.getK())),
        p(module, kernel.kernel(), entry, threadsFor(depth)), assembly(p) {}

  Phase emit() {
    Assembly::letNextStart(p.b, p.loc);
    Assembly::waitForPrevious(p.b, p.loc);
    Value input = matmul.getInput(), row = p.block();
    RowSharing sharing = sharingOfRow();
    const SmallVector<OwnColumns> kept = sharing.kept;
    RowExpressions rows(p, std::move(sharing));
    rows.prepareRow(input, row);
    if (depth % quad != 0) {
      storePairs(rows, row);
    } else {
      SmallVector<Value> values; // all are on their way before one is needed
      for (const OwnColumns &own : kept)
        values.push_back(rows.evaluate(input, {row, own.first, quad}));
      for (auto [own, value] : llvm::zip(kept, values)) {
        auto store = [&, first = own.first, value = value] { storeQuad(row, first, value); };
        if (own.isThere)
          p.ifThen(own.isThere, store);
        else
          store();
      }
      if (kept.empty())
        p.loop("col", p.mul(p.thread(), quad), p.c(depth), p.blockThreads() * quad,
               [&](Value col) { storeQuad(row, col, rows.evaluate(input, {row, col, quad})); });
    }
    Phase phase = p.finish(p.rowsExtent(input.getType()));
    phase.startsEarly = true;
    return phase;
  }

private:
  static constexpr int64_t quad = 4, mostKept = 8;

  /// Four quads a thread where the row has as many, and 128 registers fit.
  static int64_t threadsFor(int64_t depth) {
    constexpr int64_t least = 64, most = 512, quads = 4;
    return std::clamp(int64_t(llvm::PowerOf2Ceil(uint64_t(llvm::divideCeil(depth, quad * quads)))),
                      least, most);
  }

  RowSharing sharingOfRow() {
    RowSharing sharing{depth % quad == 0 ? quad : 1, cuda::warp, {}, depth};
    const int64_t threads = p.blockThreads(), quads = depth / quad;
    if (depth % quad != 0 || quads > mostKept * threads)
      return sharing;
    for (int64_t i = 0; i * threads < quads; ++i) {
      OwnColumns own;
      Value number = p.add(p.thread(), i * threads);
      if ((i + 1) * threads > quads) {
        own.isThere = p.named(p.lessThan(number, p.c(quads)), "is_there");
        number = p.min(number, p.c(quads - 1));
      }
      own.first = p.named(p.mul(number, quad), "col");
      sharing.kept.push_back(own);
    }
    return sharing;
  }

  /// Two words of four numbers.
  void storeQuad(Value row, Value col, Value value) {
    constexpr int64_t words = 2;
    Value memory = p.workspace(0, Access::Write, p.vec(p.i32, words));
    Value pairs =
        p.vector({assembly.packHalves(element, p.extract(value, int64_t(0)), p.extract(value, 1)),
                  assembly.packHalves(element, p.extract(value, 2), p.extract(value, 3))});
    Value first = p.mul(row, cuda::matmul::paddedDepth(depth) / quad);
    p.storeVector(pairs, memory, p.add(first, p.quarter(col)));
  }

  /// Rows that are no whole quads, two numbers at a time.
  void storePairs(RowExpressions &rows, Value row) {
    const int64_t words = cuda::matmul::paddedDepth(depth) / 2;
    Value memory = p.workspace(0, Access::Write, p.i32);
    p.loop("word", p.thread(), p.c(words), p.blockThreads(), [&](Value word) {
      std::array<Value, 2> pair;
      for (int64_t i : {0, 1}) {
        Value col = p.min(p.add(p.mul(word, 2), i), p.c(depth - 1)); // beyond it none is read
        pair[size_t(i)] = rows.evaluate(matmul.getInput(), {row, p.named(col, "col")});
      }
      p.store(assembly.packHalves(element, pair[0], pair[1]), memory,
              p.add(p.mul(row, words), word));
    });
  }

  MatmulOp matmul;
  ElementType element;
  int64_t depth;
  PhaseBuilder p;
  Assembly assembly;
};

} // namespace

Phase cuda::matmul::emitRows(ModuleOp module, const KernelAnalysis &kernel, StringRef entry,
                             ElementType element) {
  return RowsEmitter(module, kernel, entry, element).emit();
}
