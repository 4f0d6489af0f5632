// Matmuls of few rows by the matrix units of a warp, of operands that are f16 or bf16 or rounded to
// it. A warp reads 16 bytes of a column by each of four threads. Which of its k a number is of
// matters to nobody, as long as it is the same one on both sides: what a thread reads at once are
// its parts of two products of depth 16.
#include "kernelforge/codegen/cuda/Methods.h"
#include "kernelforge/codegen/cuda/NarrowEmitter.h"
#include "kernelforge/codegen/cuda/NarrowUnits.h"

#include "kernelforge/codegen/Operands.h"
#include "kernelforge/codegen/simt/Emit.h"
#include "kernelforge/codegen/simt/MatmulUnits.h"
#include "kernelforge/ir/Numerics.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;
using namespace kernelforge::cuda;
using namespace kernelforge::cuda::matmul;

namespace {

/// Numbers in 16 bytes, and threads that share a column.
constexpr int64_t together = 8, unitsOfPiece = 4;

/// The type that operands are multiplied in; nothing where there is none.
std::optional<ElementType> narrowElement(MatmulOp matmul) {
  const bool isQuantized = llvm::all_of(
      matmul.getWeights(), [](Value weight) { return PlaneReader::reads(weight.getType()); });
  return isQuantized ? rows::roundedTo(numericsOf(matmul)) : matrixElement(matmul);
}

/// Whether rows stand in memory as they are multiplied; else a phase before writes them so.
bool hasNarrowRows(MatmulOp matmul) {
  return isa<BlockArgument>(matmul.getInput()) &&
         elementTypeOf(matmul.getInput().getType()) == narrowElement(matmul);
}

/// Emits the phase of a group of segments, of numbers that are multiplied as they are or rounded.
class MatmulNarrowEmitter final : public NarrowEmitter {
public:
  MatmulNarrowEmitter(ModuleOp module, const KernelAnalysis &kernel, const rows::Shape &shape,
                      size_t number, StringRef entry, const NarrowKnobs &knobs)
      : NarrowEmitter(module, kernel, shape, number, entry, knobs, /*parts=*/1),
        element(*narrowElement(matmul)) {}

private:
  void placeOperands() override {
    const auto depth = static_cast<int64_t>(matmul.getK());
    const Type weight = matmul.getWeights()[group.segments[0]].getType();
    const int64_t unitsOfRow = depth / NarrowUnits::elementsOf(weight);
    pieces = unitsOfRow / unitsOfPiece;
    for (unsigned segment : group.segments)
      weights.emplace_back(p, matmul.getWeights()[segment], element);
    for (Value col : cols)
      begins.push_back(p.named(p.add(p.mul(col, unitsOfRow), quarter), "begin"));
    input = hasNarrowRows(matmul) ? p.argument(matmul.getInput(), Access::Read, View::Words4)
                                  : p.workspace(0, Access::Read, p.vec(p.i32, 4));
    // Rows that are not there repeat the last one, and are not stored.
    for (int64_t j = 0; j < tiles(); ++j) {
      Value row = rowOf(p.add(p.div(lane, 4), j * productColumns));
      rowBegins.push_back(p.named(p.mul(row, depth / together), "row_begin"));
    }
  }

  Values load(Value piece, int64_t count) override {
    Values loads;
    Value from = p.mul(piece, unitsOfPiece);
    for (int64_t i = 0; i < count; ++i)
      for (NarrowUnits &weight : weights)
        for (Value begin : begins) {
          const auto loaded = weight.load(p.add(p.add(begin, from), i * unitsOfPiece));
          if (i == 0)
            like = loaded;
          llvm::append_range(loads, weight.valuesOf(loaded));
        }
    return loads;
  }

  /// Words of a run of each tile's row.
  std::vector<Values> rowsAt(Value unit, int64_t run) {
    std::vector<Values> words;
    for (Value begin : rowBegins) {
      Value at = p.add(begin, weights[0].column(unit, run));
      words.emplace_back();
      for (int64_t i = 0; i < weights[0].elementsOfRun() / together; ++i) {
        Value x = p.named(p.loadVector(input, p.add(at, i)), "x");
        for (int64_t word = 0; word < 4; ++word)
          words.back().push_back(p.extract(x, word));
      }
    }
    return words;
  }

  Values add(ValueRange loads, Value piece, int64_t count, ValueRange carried) override {
    Values sums(carried);
    Value from = p.mul(piece, unitsOfPiece), unit = p.add(from, quarter);
    const size_t each = loads.size() / (static_cast<size_t>(count) * weights.size() * 2);
    for (int64_t i = 0; i < count; ++i) {
      std::vector<std::array<NarrowUnits::Loaded, 2>> own(weights.size());
      for (auto [weight, pair] : llvm::zip(weights, own))
        for (auto [begin, loaded] : llvm::zip(begins, pair)) {
          Value number = p.add(p.add(begin, from), i * unitsOfPiece);
          loaded = weight.loadedOf(loads.take_front(each), number, like);
          loads = loads.drop_front(each);
        }
      for (int64_t run = 0; run < weights[0].runs(); ++run) {
        const std::vector<Values> xs = rowsAt(p.add(unit, i * unitsOfPiece), run);
        for (size_t s = 0; s < weights.size(); ++s) {
          const Values upper = weights[s].words(own[s][0], run),
                       lower = weights[s].words(own[s][1], run);
          for (size_t j = 0; j < xs.size(); ++j)
            for (size_t w = 0; w < upper.size(); w += 2) {
              Value *sum = &sums[(s * xs.size() + j) * 4];
              const WarpMatrices::Sums next =
                  units.multiply(element, {upper[w], lower[w], upper[w + 1], lower[w + 1]},
                                 {xs[j][w], xs[j][w + 1]}, {sum[0], sum[1], sum[2], sum[3]});
              llvm::copy(next, sum);
            }
        }
      }
    }
    return sums;
  }

  ElementType element;
  std::vector<NarrowUnits> weights; ///< by segment
  Values begins;                    ///< of the two columns
  NarrowUnits::Loaded like;         ///< a unit, as one is loaded
  Value input;                      ///< the rows as they are multiplied
  Values rowBegins;
};

class Narrow final : public Method {
public:
  std::string_view name() const override { return "narrow"; }

  Status supports(const KernelAnalysis &kernel, const Target &target) const override {
    auto refuse = [&](const std::string &why) {
      return unusable("kernel cannot be computed by matrix units of a warp",
                      kernel.name() + ", transformer.matmul", why, "use another method");
    };
    const Target seen = simtTarget(target);
    if (!seen.has("dependent-launch"))
      return refuse("the target is older than capability 9.0");
    KF_CHECK(checkOperations(kernel.kernel(), {.device = "a GPU",
                                               .hasCode = RowExpressions::hasCode,
                                               .readsLayouts = true,
                                               .needsFiniteF32 = true,
                                               .multipliesIn =
                                                   [](Operation *op, Numerics) {
                                                     auto matmul = dyn_cast<MatmulOp>(op);
                                                     return matmul && narrowElement(matmul);
                                                   },
                                               .layout = WeightLayout::Planes}));
    KF_CHECK(rows::supportsShape(kernel));
    if (!narrowElement(kernel.matmul()))
      return refuse("its numerics do not have rows and weights multiplied both as bf16 or as f16");
    for (Value weight : kernel.matmul().getWeights())
      if (const int64_t depth = unitsOfPiece * NarrowUnits::elementsOf(weight.getType());
          kernel.matmul().getK() % depth != 0)
        return refuse(fmt::format("K is no multiple of {}", depth));
    const rows::Shape shape = rows::shapeOf(kernel, seen);
    const NarrowNeeds needs = needsOf(kernel, shape);
    KF_TRY(const NarrowKnobs knobs, narrowKnobs(shape, needs, narrowSpace(shape, needs).analytic));
    (void)knobs;
    SmallVector<Needs> phases;
    if (needs.writesRows)
      phases.push_back({0, RowExpressions::sharedBytesOfRow(kernel.kernel()) + 4096, 256});
    return simt::checkLimits(kernel.kernel(), phases, seen.limits);
  }

  ScheduleSpace space(const KernelAnalysis &kernel, const Target &target) const override {
    const rows::Shape shape = rows::shapeOf(kernel, simtTarget(target));
    return narrowSpace(shape, needsOf(kernel, shape));
  }

  Expected<Launching> emit(ModuleOp module, const KernelAnalysis &kernel, const Target &target,
                           StringRef entry, const KnobValues &schedule) const override {
    const rows::Shape shape = rows::shapeOf(kernel, simtTarget(target));
    KF_TRY(const NarrowKnobs knobs, narrowKnobs(shape, needsOf(kernel, shape), schedule));
    Launching launching;
    const bool writesRows = !hasNarrowRows(kernel.matmul());
    const size_t count = kernel.groups().size() + (writesRows ? 1 : 0);
    auto next = [&] { return phaseEntry(entry, launching.phases.size(), count); };
    if (writesRows) {
      launching.phases.push_back(emitRows(module, kernel, next(), *narrowElement(kernel.matmul())));
      const int64_t rowBytes = static_cast<int64_t>(kernel.matmul().getK()) * 2;
      launching.workspaces.push_back({launching.phases.back().grid * Extent(rowBytes), 128});
    }
    for (size_t i = 0; i < kernel.groups().size(); ++i) {
      const bool isFirst = launching.phases.empty();
      launching.phases.push_back(
          MatmulNarrowEmitter(module, kernel, shape, i, next(), knobs).emit());
      launching.phases.back().afterPrevious =
          writesRows || isFirst; // groups do not wait for each other
    }
    return launching;
  }

  std::vector<std::string> describe(const KernelAnalysis &kernel,
                                    const KnobValues &schedule) const override {
    std::vector<std::string> lines = simt::describe(kernel);
    lines.back() =
        fmt::format("narrow: {} warps a block, {} share out K, 16 columns x {} rows each; "
                    "{} pieces of K on their way",
                    schedule.at("warps"), schedule.at("ks"), schedule.at("rows"), schedule.at("u"));
    return lines;
  }

private:
  static NarrowNeeds needsOf(const KernelAnalysis &kernel, const rows::Shape &shape) {
    NarrowNeeds needs;
    needs.writesRows = !hasNarrowRows(kernel.matmul());
    for (Value weight : kernel.matmul().getWeights()) {
      const int64_t elements = NarrowUnits::elementsOf(weight.getType());
      needs.words =
          std::max(needs.words, 2 * shape.segments() * NarrowUnits::wordsOf(weight.getType()));
      needs.elements = std::max(needs.elements, unitsOfPiece * elements);
      if (!PlaneReader::reads(weight.getType()))
        continue;
      // Quants become numbers, once for all rows of a block.
      needs.besides = 24;
      needs.secondsPerWeight = 1.2e-13;
    }
    return needs;
  }
};

} // namespace

const Method &cuda::matmulNarrow() {
  static const Narrow method;
  return method;
}
