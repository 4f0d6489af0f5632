// Matmuls of few rows of f32 by quantized weights, by the matrix units of a warp and exactly:
// quants are numbers of bf16 as they are, and a number of a row is the sum of a few (three for all
// digits of an f32), which are columns of a product of their own. Runs of quants with one scale are
// summed, then scaled. A phase before writes the rows so.
//
// Quants of less than eight bits are multiplied 128 too large: what that is too much follows from
// the rows alone, and is where a run's sum begins; minima are multiplied with the same.
#include "kernelforge/codegen/cuda/MatmulParts.h"
#include "kernelforge/codegen/cuda/Assembly.h"
#include "kernelforge/codegen/cuda/Methods.h"
#include "kernelforge/codegen/cuda/NarrowEmitter.h"

#include "kernelforge/codegen/Operands.h"
#include "kernelforge/codegen/simt/Emit.h"
#include "kernelforge/codegen/simt/PlaneReader.h"
#include "kernelforge/ir/Numerics.h"

#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;
using namespace kernelforge::cuda;
using namespace kernelforge::cuda::matmul;

namespace {

/// Most rows.
constexpr int64_t mostRows = 16;

/// Emits the phase of a group of segments.
class MatmulPartsEmitter final : public NarrowEmitter {
public:
  MatmulPartsEmitter(ModuleOp module, const KernelAnalysis &kernel, const rows::Shape &shape,
                     size_t number, StringRef entry, const NarrowKnobs &knobs, int workspaces)
      : NarrowEmitter(module, kernel, shape, number, entry, knobs, partsOf(kernel.matmul())),
        steps(matmul.getWeights()[group.segments[0]].getType()), workspaces(workspaces) {}

private:
  /// What a thread has of a column at once.
  struct Column {
    PlaneReader::Piece own; ///< of which it has scales: one of each of the column's threads
    std::array<PlaneReader::Piece, piecesAtOnce> words;
  };

  void placeOperands() override {
    const auto depth = static_cast<int64_t>(matmul.getK());
    pieces = depth / steps.elements();
    for (unsigned segment : group.segments)
      weights.emplace_back(p, matmul.getWeights()[segment]);
    for (Value col : cols)
      begins.push_back(p.named(weights[0].firstPiece(col), "begin"));
    words = p.workspace(2 * workspaces, Access::Read, p.vec(p.i32, 4));
    if (steps.offset() > 0)
      sumBegins = p.workspace(2 * workspaces + 1, Access::Read, p.vec(p.f32, 2));
    for (int64_t j = 0; j < tiles(); ++j) {
      Value column = rowOf(p.add(p.div(lane, threadsOfColumn), j * productColumns));
      Value at = p.mul(column, depth / stepElements * threadsOfColumn);
      rowBegins.push_back(p.named(p.add(at, quarter), "row_begin"));
    }
    for (int64_t i = 0; i < threadsOfColumn; ++i)
      sources.push_back(p.named(p.add(p.sub(lane, quarter), i), "source"));
  }

  /// The first of the pieces of a column that are read at once.
  Value firstPiece(size_t half, Value piece, int64_t i) {
    return p.add(p.add(begins[half], p.mul(piece, piecesAtOnce)), i * piecesAtOnce);
  }

  Values load(Value piece, int64_t count) override {
    Values loads;
    for (int64_t i = 0; i < count; ++i)
      for (PlaneReader &weight : weights)
        for (size_t half : {0, 1}) {
          Value first = firstPiece(half, piece, i);
          const PlaneReader::Piece own = weight.load(p.add(first, quarter));
          loads.push_back(own.scale);
          llvm::append_range(loads, own.subScales);
          for (int64_t number = 0; number < piecesAtOnce; ++number) {
            Value word = p.add(p.mul(p.add(first, number), threadsOfColumn), quarter);
            const PlaneReader::Piece read = weight.loadWord(word);
            loads.push_back(read.quants);
            if (steps.type.hasHighs())
              loads.push_back(read.highs);
          }
        }
    return loads;
  }

  Column columnOf(ValueRange loads, Value first) {
    Column column;
    column.own.number = p.add(first, quarter);
    column.own.scale = loads[0];
    const size_t perWord = steps.type.hasHighs() ? 2 : 1;
    const size_t subScales = loads.size() - 1 - piecesAtOnce * perWord;
    loads = loads.drop_front();
    column.own.subScales.append(loads.begin(), loads.begin() + subScales);
    loads = loads.drop_front(subScales);
    for (auto [number, word] : llvm::enumerate(column.words)) {
      word.number = p.add(first, static_cast<int64_t>(number));
      word.quants = loads[0];
      if (steps.type.hasHighs())
        word.highs = PlaneReader::highWords(steps.type) == 1
                         ? p.shr(loads[1], p.mul(quarter, 4)) // bits of one element after another
                         : loads[1];
      loads = loads.drop_front(perWord);
    }
    return column;
  }

  /// Four quants of a run as pairs of bf16.
  std::array<Value, 2> pairsOf(PlaneReader &weight, const PlaneReader::Piece &word, int64_t run) {
    if (steps.type.isE4M3) { // numbers of bf16 as they are
      Value quad = weight.byteQuads(word, run).front();
      Assembly assembly(p);
      auto pair = [&](int64_t i) {
        return assembly.packHalves(ElementType::BF16, p.extract(quad, i), p.extract(quad, i + 1));
      };
      return {pair(0), pair(2)};
    }
    if (steps.areExact())
      return units.quantsOfBytes(p.named(weight.bytes(word, run), "bytes"));
    return units.offsetPairsOfBytes(p.named(weight.bytes(word, run), "bytes"));
  }

  /// Scales of two columns, by step and group: each is known to one thread of the column.
  struct Scales {
    std::array<Value, 2> factor, minimum; ///< minimum: to be multiplied with where sums begin
  };
  SmallVector<Scales> scalesOf(PlaneReader &weight, const std::array<Column, 2> &columns) {
    std::array<SmallVector<PlaneReader::Scale, 2>, 2> own;
    for (size_t half : {0, 1}) {
      own[half] = weight.scales(columns[half].own);
      for (PlaneReader::Scale &scale : own[half])
        if (scale.minimum)
          scale.minimum = p.mulf(scale.minimum, p.cf(-1.0 / static_cast<double>(steps.offset())));
    }
    SmallVector<Scales> all;
    for (int64_t step = 0; step < steps.count(); ++step)
      for (int64_t number = 0; number < steps.groups(); ++number) {
        Value source = sources[static_cast<size_t>(steps.pieceOf(step, 0))];
        Scales scales;
        for (size_t half : {0, 1}) {
          const PlaneReader::Scale &scale =
              own[half][static_cast<size_t>(steps.runOfPiece(step, number))];
          scales.factor[half] = units.ofLane(scale.factor, source);
          if (scale.minimum)
            scales.minimum[half] = units.ofLane(scale.minimum, source);
        }
        all.push_back(scales);
      }
    return all;
  }

  Values add(ValueRange loads, Value piece, int64_t count, ValueRange carried) override {
    Values sums(carried);
    const size_t each = loads.size() / (static_cast<size_t>(count) * weights.size() * 2);
    for (int64_t i = 0; i < count; ++i) {
      std::vector<std::array<Column, 2>> own(weights.size());
      std::vector<SmallVector<Scales>> scales;
      for (size_t s = 0; s < weights.size(); ++s) {
        for (size_t half : {0, 1}) {
          own[s][half] = columnOf(loads.take_front(each), firstPiece(half, piece, i));
          loads = loads.drop_front(each);
        }
        scales.push_back(scalesOf(weights[s], own[s]));
      }
      for (int64_t step = 0; step < steps.count(); ++step) {
        Value number = p.add(p.mul(p.add(piece, i), steps.count()), step);
        addStep(own, scales, number, step, sums);
      }
    }
    return sums;
  }

  void addStep(const std::vector<std::array<Column, 2>> &own,
               const std::vector<SmallVector<Scales>> &scales, Value number, int64_t step,
               Values &sums) {
    std::vector<Values> xs; // by tile: words of both runs
    for (Value begin : rowBegins) {
      Value x = p.named(p.loadVector(words, p.add(begin, p.mul(number, threadsOfColumn))), "x");
      xs.push_back({p.extract(x, int64_t(0)), p.extract(x, 1), p.extract(x, 2), p.extract(x, 3)});
    }
    const int64_t groups = steps.groups(), runs = 2 / groups;
    for (int64_t g = 0; g < groups; ++g) {
      std::vector<std::array<Value, 2>> begin; // of sums, by tile
      for (int64_t j = 0; j < tiles(); ++j)
        begin.push_back(beginOf(p.add(p.mul(number, groups), g), j));
      for (size_t s = 0; s < weights.size(); ++s) {
        std::vector<WarpMatrices::Sums> products;
        for (const auto &two : begin)
          products.push_back({two[0], two[1], two[0], two[1]});
        for (int64_t run = g * runs; run < (g + 1) * runs; ++run) {
          std::array<std::array<Value, 2>, 2> pairs;
          for (size_t half : {0, 1})
            pairs[half] = pairsOf(weights[s], own[s][half].words[size_t(steps.pieceOf(step, run))],
                                  steps.runOfPiece(step, run));
          for (auto [x, product] : llvm::zip(xs, products))
            product = units.multiply(
                ElementType::BF16, {pairs[0][0], pairs[1][0], pairs[0][1], pairs[1][1]},
                {x[static_cast<size_t>(2 * run)], x[static_cast<size_t>(2 * run + 1)]}, product);
        }
        const Scales &own = scales[s][static_cast<size_t>(step * groups + g)];
        for (size_t j = 0; j < products.size(); ++j)
          for (size_t i = 0; i < 4; ++i) {
            Value &sum = sums[(s * products.size() + j) * 4 + i];
            sum = p.fma(own.factor[i / 2], products[j][i], sum);
            if (own.minimum[0])
              sum = p.fma(own.minimum[i / 2], begin[j][i % 2], sum);
          }
      }
    }
  }

  /// Where sums of two columns of a product begin.
  std::array<Value, 2> beginOf(Value sumNumber, int64_t tile) {
    if (!sumBegins)
      return {p.cf(0), p.cf(0)};
    const int64_t pairs = tiles() * productColumns / 2;
    Value at = p.add(p.mul(sumNumber, pairs), p.add(quarter, tile * productColumns / 2));
    Value two = p.named(p.loadVector(sumBegins, at), "begin");
    return {p.extract(two, int64_t(0)), p.extract(two, 1)};
  }

  Steps steps;
  int workspaces;
  std::vector<PlaneReader> weights; ///< by segment
  Values begins;                    ///< first pieces of the two columns
  Value words, sumBegins;
  Values rowBegins; ///< by tile
  Values sources;   ///< threads of this one's column
};

/// Few rows of f32 and quants, by matrix units of a warp.
class Parts final : public Method {
public:
  std::string_view name() const override { return "parts"; }

  Status supports(const KernelAnalysis &kernel, const Target &target) const override {
    auto refuse = [&](const std::string &why) {
      return unusable("kernel cannot be computed in parts of its rows",
                      kernel.name() + ", transformer.matmul", why, "use another method");
    };
    const Target seen = simtTarget(target);
    if (!seen.has("dependent-launch"))
      return refuse("the target is older than capability 9.0");
    KF_CHECK(checkOperations(kernel.kernel(), {.device = "a GPU",
                                               .hasCode = RowExpressions::hasCode,
                                               .readsLayouts = true,
                                               .needsFiniteF32 = true,
                                               .multipliesIn = nullptr,
                                               .layout = WeightLayout::Planes}));
    KF_CHECK(rows::supportsShape(kernel));
    MatmulOp matmul = kernel.matmul();
    if (numericsOf(matmul) != Numerics::F32)
      return refuse("its numerics are not f32");
    for (Value weight : matmul.getWeights()) {
      if (!PlaneReader::reads(weight.getType()))
        return refuse("a weight is not in planes");
      const int64_t depth = Steps(weight.getType()).elements();
      if (matmul.getK() % static_cast<uint64_t>(depth) != 0)
        return refuse(fmt::format("K is no multiple of {}", depth));
    }
    const rows::Shape shape = rows::shapeOf(kernel, seen);
    if (shape.rows > mostRows)
      return refuse(fmt::format("it may have more than {} rows", mostRows));
    const NarrowNeeds needs = needsOf(kernel, shape);
    KF_TRY(const NarrowKnobs knobs, narrowKnobs(shape, needs, narrowSpace(shape, needs).analytic));
    (void)knobs;
    return simt::checkLimits(
        kernel.kernel(), Needs{0, RowExpressions::sharedBytesOfRow(kernel.kernel()) + 4096, 256},
        seen.limits);
  }

  ScheduleSpace space(const KernelAnalysis &kernel, const Target &target) const override {
    const rows::Shape shape = rows::shapeOf(kernel, simtTarget(target));
    return narrowSpace(shape, needsOf(kernel, shape));
  }

  Expected<Launching> emit(ModuleOp module, const KernelAnalysis &kernel, const Target &target,
                           StringRef entry, const KnobValues &schedule) const override {
    const rows::Shape shape = rows::shapeOf(kernel, simtTarget(target));
    const NarrowNeeds needs = needsOf(kernel, shape);
    KF_TRY(const NarrowKnobs knobs, narrowKnobs(shape, needs, schedule));
    MatmulOp matmul = kernel.matmul();
    SmallVector<Value> kinds; // a weight of each type
    auto kindOf = [&](Value weight) {
      auto same = [&](Value other) {
        return elementTypeOf(other.getType()) == elementTypeOf(weight.getType());
      };
      auto *found = llvm::find_if(kinds, same);
      if (found == kinds.end()) {
        kinds.push_back(weight);
        found = &kinds.back();
      }
      return static_cast<int>(found - kinds.begin());
    };
    SmallVector<int> ofGroup;
    for (const SegmentGroup &group : kernel.groups())
      ofGroup.push_back(kindOf(matmul.getWeights()[group.segments[0]]));
    Launching launching;
    const size_t count = kinds.size() + ofGroup.size();
    auto next = [&] { return phaseEntry(entry, launching.phases.size(), count); };
    const int64_t parts = partsOf(matmul), columns = columnsOfProducts(shape.rows, parts);
    const auto depth = static_cast<int64_t>(matmul.getK());
    for (auto [number, weight] : llvm::enumerate(kinds)) {
      launching.phases.push_back(
          emitParts(module, kernel, weight, static_cast<int>(number), columns, next()));
      launching.phases.back().afterPrevious = number == 0;
      const Steps steps(weight.getType());
      launching.workspaces.push_back(
          {.bytes = launching.phases.back().grid * Extent(parts * depth * 2)});
      launching.workspaces.push_back(
          {.bytes = Extent(depth / stepElements * steps.groups() * columns * 4)});
    }
    for (auto [i, kind] : llvm::enumerate(ofGroup)) {
      launching.phases.push_back(
          MatmulPartsEmitter(module, kernel, shape, i, next(), knobs, kind).emit());
      module.lookupSymbol(launching.phases.back().entry)
          ->setAttr(NVVM::NVVMDialect::getMaxnregAttrName(),
                    OpBuilder(module.getContext())
                        .getI32IntegerAttr(static_cast<int32_t>(needs.registers)));
    }
    return launching;
  }

  std::vector<std::string> describe(const KernelAnalysis &kernel,
                                    const KnobValues &schedule) const override {
    std::vector<std::string> lines = simt::describe(kernel);
    lines.back() = fmt::format("parts: {} warps a block, {} share out K, 16 columns each; {} times "
                               "four pieces of K on their way",
                               schedule.at("warps"), schedule.at("ks"), schedule.at("u"));
    return lines;
  }

private:
  static NarrowNeeds needsOf(const KernelAnalysis &kernel, const rows::Shape &shape) {
    MatmulOp matmul = kernel.matmul();
    NarrowNeeds needs;
    needs.writesRows = true;
    needs.parts = partsOf(matmul);
    needs.rows = shape.rows;
    needs.loopsOften = true;
    const int64_t tiles = columnsOfProducts(shape.rows, needs.parts) / WarpMatrices::columns;
    int64_t words = 0; // of a column
    bool hasMinima = false;
    for (Value weight : matmul.getWeights()) {
      const Steps steps(weight.getType());
      words = std::max(words, steps.words());
      hasMinima = hasMinima || steps.type.hasMin();
      needs.elements = std::max(needs.elements, steps.elements());
      // Quants and scales take work once, each sum for each of its products.
      const double ofType = steps.type.hasSubScales() ? 2.0e-13 : 1.2e-13;
      const double ofTile = static_cast<double>(steps.groups()) * 3e-14;
      needs.secondsPerWeight =
          std::max(needs.secondsPerWeight, ofType + static_cast<double>(tiles - 1) * ofTile);
    }
    needs.words = 2 * shape.segments() * words;
    // More blocks share a multiprocessor where there is not much of a column beside its quants.
    constexpr int64_t few = 5;
    needs.registers = tiles == 1 && words <= few && !hasMinima ? 128 : 168;
    needs.mostAtOnce = tiles > 1 && hasMinima ? 1 : 2;
    needs.besides = 36 + 8 * tiles;
    return needs;
  }
};

} // namespace

const Method &cuda::matmulParts() {
  static const Parts method;
  return method;
}
