// Matmuls of few rows by the matrix units of a warp. The weights are the left operand: a warp has
// 16 columns of the results and up to 32 rows beside them, and reads 16 bytes of a column by each
// of four threads. Which of its k a number is of matters to nobody, as long as it is the same one
// on both sides: what a thread reads at once are its parts of two products of depth 16.
//
// Warps that share out K add up through shared memory, from where what follows the matmul reads.
#include "kernelforge/codegen/cuda/Matmul.h"
#include "kernelforge/codegen/cuda/Methods.h"
#include "kernelforge/codegen/cuda/NarrowUnits.h"
#include "kernelforge/codegen/cuda/WarpMatrices.h"

#include "kernelforge/codegen/Operands.h"
#include "kernelforge/codegen/simt/Emit.h"
#include "kernelforge/codegen/simt/MatmulUnits.h"
#include "kernelforge/codegen/simt/Strip.h"
#include "kernelforge/ir/Numerics.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;
using namespace kernelforge::cuda;
using namespace kernelforge::cuda::matmul;

namespace {

using Values = SmallVector<Value>;

/// Rows of the results that a product has, numbers in 16 bytes, and threads that share a column.
constexpr int64_t productRows = 8, together = 8, unitsOfPiece = 4;

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

/// Emits the phase of a group of segments.
class Emitter {
public:
  Emitter(ModuleOp module, const KernelAnalysis &kernel, const rows::Shape &shape, size_t number,
          StringRef entry, const NarrowKnobs &knobs)
      : p(module, kernel.kernel(), entry, knobs.warps * 32), units(p), matmul(kernel.matmul()),
        group(kernel.groups()[number]), columns(shape.groups[number]), knobs(knobs),
        element(*narrowElement(matmul)), rowsHeld(std::min(knobs.rows, shape.rows)),
        isOneBlock(shape.rows <= knobs.rows) {
    const auto depth = static_cast<int64_t>(matmul.getK());
    unitsOfRow = depth / NarrowUnits::elementsOf(matmul.getWeights()[group.segments[0]].getType());
    pieces = unitsOfRow / unitsOfPiece;
    vectors = depth / together;
  }

  Phase emit() {
    Type input = matmul.getInput().getType();
    const int64_t blocks = (columns.n + knobs.columns() - 1) / knobs.columns();
    total = p.rows(input);
    // Blocks that need the same weights are neighbours.
    Value rowBlock = p.c(0), block = p.block();
    if (!isOneBlock) {
      Value count = p.div(p.add(total, knobs.rows - 1), knobs.rows);
      rowBlock = p.b.create<arith::RemUIOp>(p.loc, p.block(), count);
      block = p.b.create<arith::DivUIOp>(p.loc, p.block(), count);
    }
    firstRow = p.named(p.mul(rowBlock, knobs.rows), "first_row");
    const rows::ColumnPlace place(p, columns, block, knobs.columns());
    placeThread(place);
    const Strip strip = stripOf(place);
    Loads first;
    if (rounds() > 0)
      first = load(pieceOf(p.c(0)), knobs.u);
    if (knobs.early)
      p.waitForPrevious();
    RowExpressions after(p, {.lanes = 4, .subgroup = 32, .kept = {}, .keptWidth = 0});
    if (const auto position = readAhead(p, after, matmul, group, strip, total))
      readAngles(after, group, *position);
    put(multiply(std::move(first)), strip);
    p.barrier();
    storeStrip(p, after, matmul, group, strip, total);
    return p.finish(p.rowsExtent(input, knobs.rows) * Extent(blocks));
  }

private:
  int64_t segments() const { return columns.segments; }
  int64_t rowTiles() const { return (rowsHeld + productRows - 1) / productRows; }
  /// Pieces of K that all warps which share it out ask for at once, and how often they do.
  int64_t round() const { return knobs.ks * knobs.u; }
  int64_t rounds() const { return pieces / round(); }

  void placeThread(const rows::ColumnPlace &place) {
    Value lane = p.rem(p.thread(), 32), warp = p.named(p.div(p.thread(), 32), "warp");
    part = p.named(p.rem(warp, knobs.ks), "part");
    local = p.mul(p.div(warp, knobs.ks), NarrowKnobs::columnsOfWarp);
    local = p.named(p.add(local, p.div(lane, 4)), "local_col");
    quarter = p.named(p.rem(lane, 4), "quarter");
    for (unsigned segment : group.segments)
      weights.emplace_back(p, matmul.getWeights()[segment], element);
    for (int64_t half : {0, 1}) {
      Value col = place.column(p, p.add(local, half * 8));
      if (columns.n % knobs.columns() != 0)
        col = p.min(col, p.c(columns.n - 1));
      begins.push_back(p.named(p.add(p.mul(col, unitsOfRow), quarter), "begin"));
    }
    input = hasNarrowRows(matmul) ? p.argument(matmul.getInput(), Access::Read, View::Words4)
                                  : p.workspace(0, Access::Read, p.vec(p.i32, 4));
    // Rows that are not there repeat the last one, and are not stored.
    for (int64_t i = 0; i < rowTiles(); ++i) {
      Value row = p.add(p.add(firstRow, p.div(lane, 4)), i * productRows);
      row = p.min(row, p.sub(total, 1));
      rowBegins.push_back(p.named(p.mul(row, vectors), "row_begin"));
    }
  }

  Strip stripOf(const rows::ColumnPlace &place) {
    Strip strip;
    strip.rows = rowsHeld;
    strip.cols = knobs.columns();
    strip.rowStride = strip.cols + 4; // threads of a warp write to banks of their own
    strip.segmentStride = strip.rows * strip.rowStride;
    strip.parts = knobs.ks;
    strip.partStride = segments() * strip.segmentStride;
    strip.memory = p.shared("sums", p.f32, strip.parts * strip.partStride);
    strip.begin = p.c(0);
    strip.firstRow = firstRow;
    strip.firstCol = place.first;
    strip.apart = place.apart;
    return strip;
  }

  /// Two columns of each segment for each of several pieces.
  using Loads = std::vector<NarrowUnits::Loaded>;

  /// This warp's first piece of a round, from its number.
  Value pieceOf(Value roundNumber) {
    return p.add(p.mul(roundNumber, round()), p.mul(part, knobs.u));
  }

  Loads load(Value piece, int64_t count) {
    Loads loads;
    Value from = p.mul(piece, unitsOfPiece);
    for (int64_t i = 0; i < count; ++i)
      for (NarrowUnits &weight : weights)
        for (Value begin : begins)
          loads.push_back(weight.load(p.add(p.add(begin, from), i * unitsOfPiece)));
    return loads;
  }

  /// Words of a run of each tile's row.
  std::vector<Values> rowsOf(Value unit, int64_t run) {
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

  /// Adds the products of pieces.
  Values add(const Loads &loads, Value piece, int64_t count, ValueRange carried) {
    Values sums(carried);
    Value unit = p.add(p.mul(piece, unitsOfPiece), quarter);
    for (int64_t i = 0; i < count; ++i)
      for (int64_t run = 0; run < weights[0].runs(); ++run) {
        const std::vector<Values> xs = rowsOf(p.add(unit, i * unitsOfPiece), run);
        for (int64_t s = 0; s < segments(); ++s) {
          const auto *own = &loads[static_cast<size_t>((i * segments() + s) * 2)];
          NarrowUnits &weight = weights[static_cast<size_t>(s)];
          const Values upper = weight.words(own[0], run), lower = weight.words(own[1], run);
          for (size_t j = 0; j < xs.size(); ++j)
            for (size_t w = 0; w < upper.size(); w += 2) {
              Value *sum = &sums[(static_cast<size_t>(s) * xs.size() + j) * 4];
              const WarpMatrices::Sums next =
                  units.multiply(element, {upper[w], lower[w], upper[w + 1], lower[w + 1]},
                                 {xs[j][w], xs[j][w + 1]}, {sum[0], sum[1], sum[2], sum[3]});
              llvm::copy(next, sum);
            }
        }
      }
    return sums;
  }

  /// This thread's sums: by segment and rows, two columns of two rows.
  Values multiply(Loads loads) {
    Values sums(static_cast<size_t>(segments() * rowTiles() * 4), p.cf(0));
    if (rounds() > 0)
      sums = knobs.ahead ? multiplyAhead(std::move(loads), sums) : multiplyRounds(loads, sums);
    const int64_t done = rounds() * round();
    if (done < pieces)
      sums = p.loop(
          "k", p.add(part, done), p.c(pieces), knobs.ks, "sum", sums,
          [&](Value piece, ValueRange carried) { return add(load(piece, 1), piece, 1, carried); });
    return sums;
  }

  Values multiplyRounds(const Loads &first, const Values &zeros) {
    Values sums = add(first, pieceOf(p.c(0)), knobs.u, zeros);
    if (rounds() == 1)
      return sums;
    return p.loop("round", p.c(1), p.c(rounds()), 1, "sum", sums,
                  [&](Value number, ValueRange carried) {
                    Value piece = pieceOf(number);
                    return add(load(piece, knobs.u), piece, knobs.u, carried);
                  });
  }

  /// The same with the next round asked for before one is multiplied.
  Values multiplyAhead(Loads loads, Values sums) {
    const size_t count = sums.size();
    auto turn = [&](Value number) {
      Loads next = load(pieceOf(p.add(number, 1)), knobs.u);
      sums = add(loads, pieceOf(number), knobs.u, sums);
      loads = std::move(next);
    };
    constexpr int64_t fewRounds = 4; // which are written out
    if (rounds() <= fewRounds) {
      for (int64_t i = 0; i + 1 < rounds(); ++i)
        turn(p.c(i));
      return add(loads, pieceOf(p.c(rounds() - 1)), knobs.u, sums);
    }
    auto carry = [&] {
      Values carried = sums;
      for (const NarrowUnits::Loaded &one : loads)
        llvm::append_range(carried, weights[0].valuesOf(one));
      return carried;
    };
    auto take = [&](ValueRange carried, Value number) {
      sums.assign(carried.begin(), carried.begin() + count);
      carried = carried.drop_front(count);
      Value from = p.mul(pieceOf(number), unitsOfPiece);
      for (auto [i, one] : llvm::enumerate(loads)) {
        const int64_t piece = static_cast<int64_t>(i / (2 * weights.size()));
        Value unit = p.add(p.add(begins[i % 2], from), piece * unitsOfPiece);
        one = weights[0].loadedOf(carried, unit, one);
        carried = carried.drop_front(weights[0].valuesOf(one).size());
      }
    };
    const Values carried = p.loop("round", p.c(0), p.c(rounds() - 1), 1, "sum", carry(),
                                  [&](Value number, ValueRange values) {
                                    take(values, number);
                                    turn(number);
                                    return carry();
                                  });
    take(carried, p.c(rounds() - 1));
    return add(loads, pieceOf(p.c(rounds() - 1)), knobs.u, sums);
  }

  void put(const Values &sums, const Strip &strip) {
    Value firstPlace = p.add(p.mul(part, strip.partStride), local);
    for (int64_t s = 0; s < segments(); ++s)
      for (int64_t j = 0; j < rowTiles(); ++j)
        for (int64_t second : {0, 1}) {
          Value row = p.add(p.mul(quarter, 2), j * productRows + second);
          Value at = p.add(p.add(firstPlace, p.mul(row, strip.rowStride)), s * strip.segmentStride);
          auto store = [&] {
            for (int64_t half : {0, 1})
              p.store(sums[static_cast<size_t>((s * rowTiles() + j) * 4 + 2 * half + second)],
                      strip.memory, p.add(at, 8 * half));
          };
          if ((j + 1) * productRows <= rowsHeld)
            store();
          else
            p.ifThen(p.lessThan(row, p.c(rowsHeld)), store);
        }
  }

  PhaseBuilder p;
  WarpMatrices units;
  MatmulOp matmul;
  const SegmentGroup &group;
  const rows::Columns &columns;
  const NarrowKnobs &knobs;
  ElementType element;
  int64_t rowsHeld;
  bool isOneBlock;
  /// Units of a row of a weight; pieces of K, which are a unit of each thread of a column; and 16
  /// bytes of rows.
  int64_t unitsOfRow, pieces, vectors;
  Value total, firstRow;            ///< rows
  Value part, local, quarter;       ///< of this thread
  std::vector<NarrowUnits> weights; ///< by segment
  Values begins;                    ///< of the two columns
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
    KF_TRY(const NarrowKnobs knobs,
           narrowKnobs(shape, narrowSpace(shape, !hasNarrowRows(kernel.matmul())).analytic));
    (void)knobs;
    SmallVector<Needs> needs;
    if (!hasNarrowRows(kernel.matmul()))
      needs.push_back({0, RowExpressions::sharedBytesOfRow(kernel.kernel()) + 4096, 256});
    return simt::checkLimits(kernel.kernel(), needs, seen.limits);
  }

  ScheduleSpace space(const KernelAnalysis &kernel, const Target &target) const override {
    return narrowSpace(rows::shapeOf(kernel, simtTarget(target)), !hasNarrowRows(kernel.matmul()));
  }

  Expected<Launching> emit(ModuleOp module, const KernelAnalysis &kernel, const Target &target,
                           StringRef entry, const KnobValues &schedule) const override {
    const rows::Shape shape = rows::shapeOf(kernel, simtTarget(target));
    KF_TRY(const NarrowKnobs knobs, narrowKnobs(shape, schedule));
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
      launching.phases.push_back(Emitter(module, kernel, shape, i, next(), knobs).emit());
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
};

} // namespace

const Method &cuda::matmulNarrow() {
  static const Narrow method;
  return method;
}
