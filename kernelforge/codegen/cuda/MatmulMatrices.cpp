// Matmuls by the matrix units of a warpgroup: a block goes from tile to tile of the results; one
// thread fetches stages of both operands by bulk copies, and the other warpgroups multiply them and
// keep the sums in registers, where what follows the matmul is computed.
#include "kernelforge/codegen/cuda/Matmul.h"
#include "kernelforge/codegen/cuda/Methods.h"

#include "kernelforge/codegen/Operands.h"
#include "kernelforge/codegen/simt/Emit.h"
#include "kernelforge/codegen/simt/Weights.h"
#include "kernelforge/ir/Numerics.h"

#include "llvm/Support/MathExtras.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;
using namespace kernelforge::cuda;
using namespace kernelforge::cuda::matmul;

using llvm::divideCeilSigned;

namespace {

/// Bytes that rows of a bulk copy must be a multiple of.
constexpr int64_t copyUnit = 16;

int64_t bytesOf(ElementType element) { return info(element).blockBytes; }

/// Emits the phase of one group of segments.
class Emitter {
public:
  Emitter(ModuleOp module, const KernelAnalysis &kernel, const SegmentGroup &group, StringRef entry,
          const MatrixKnobs &knobs)
      : p(module, kernel.kernel(), entry, Roles::threadsOf(knobs.consumers())), memory(p),
        assembly(p), roles(p, knobs.consumers()), matmul(kernel.matmul()), group(group),
        knobs(knobs), element(*matrixElement(matmul)),
        segments(static_cast<int64_t>(group.segments.size())), transposed(matmul.getTranspose()),
        left(knobs.left()), right(knobs.right(segments, transposed)),
        segment(knobs.bn, !transposed),
        panels(memory.reserve(knobs.consumers() * ResultPanels::bytesOfGroup, Panel::alignment)),
        ring(p, memory, knobs.stages, knobs.stageBytes(segments)) {}

  Phase emit() {
    Type input = matmul.getInput().getType();
    totalRows = p.rows(input);
    makeMaps(input);
    p.ifThen(p.cmp(arith::CmpIPredicate::eq, p.thread(), p.c(0)), [&] {
      ring.initialise(knobs.consumers() * warpgroup / warp);
      for (Value map : operandMaps)
        assembly.prefetchMap(map);
    });
    p.barrier();
    const int64_t columnTiles = divideCeilSigned(group.n, knobs.bn);
    Value rowTiles = p.named(p.div(p.add(totalRows, knobs.bm - 1), knobs.bm), "row_tiles");
    TileSchedule tiles(p, rowTiles, columnTiles, knobs.group);
    roles.split(knobs.resident, [&] { produce(tiles); }, [&] { consume(tiles); });
    Extent grid = p.rowsExtent(input, knobs.bm) * Extent(columnTiles);
    if (grid.isConstant())
      grid = Extent(std::min(grid.multiplier, knobs.blocks));
    else
      grid.atMost = knobs.blocks;
    return memory.finish(std::move(grid), Roles::registers(knobs.consumers(), knobs.resident));
  }

private:
  static constexpr int64_t depth = OperandTile::depth;

  void makeMaps(Type input) {
    const int64_t k = matmul.getK();
    const bool isRead = hasMatrixRows(matmul);
    operandMaps.push_back(memory.map(
        isRead ? memory.bufferOf(matmul.getInput()) : memory.bufferOfWorkspace(0), Access::Read,
        left.map(element, p.rowsExtent(input), k, isRead ? k : paddedDepth(k))));
    for (unsigned s : group.segments)
      operandMaps.push_back(memory.map(memory.bufferOf(matmul.getWeights()[s]), Access::Read,
                                       transposed ? segment.map(element, k, group.n, group.n)
                                                  : segment.map(element, group.n, k, k)));
    for (const Sink &sink : group.sinks) {
      const ElementType type = *elementTypeOf(sink.value.getType());
      const bool copies = group.n * bytesOf(type) % copyUnit == 0;
      resultMaps.push_back(copies
                               ? memory.map(memory.bufferOfResult(sink.resultIndex), Access::Write,
                                            ResultPanels::map(type, p.rowsExtent(input), group.n))
                               : Value());
    }
  }

  //===--------------------------------------------------------------------===//
  // Roles
  //===--------------------------------------------------------------------===//

  int64_t depthTiles() { return divideCeilSigned(static_cast<int64_t>(matmul.getK()), depth); }

  void produce(TileSchedule &tiles) {
    const RingPlace start = ring.producerStart();
    tiles.forEach({start.stage, start.parity}, [&](Value row, Value column, ValueRange carried) {
      Value firstRow = p.mul(row, knobs.bm), firstCol = p.mul(column, knobs.bn);
      return p.loop("depth", p.c(0), p.c(depthTiles()), 1, "stage parity", carried,
                    [&](Value number, ValueRange turn) {
                      const RingPlace place{turn[0], turn[1]};
                      assembly.waitBarrier(ring.empty(place.stage), place.parity);
                      fetch(place, p.mul(number, depth), firstRow, firstCol);
                      const RingPlace next = ring.next(place);
                      return SmallVector<Value>{next.stage, next.parity};
                    });
    });
  }

  /// A stage of both operands. What is not there of a box arrives as zeros.
  void fetch(const RingPlace &place, Value deep, Value firstRow, Value firstCol) {
    Value full = ring.full(place.stage), to = ring.address(place.stage);
    assembly.expectBytes(full, knobs.stageBytes(segments));
    assembly.loadBox(to, operandMaps[0], deep, firstRow, full);
    for (int64_t s = 0; s < segments; ++s)
      for (int64_t panel = 0; panel < segment.panels(); ++panel) {
        Value at = p.add(to, left.bytes() + s * segment.bytes() + panel * segment.panel().bytes());
        Value along = p.add(firstCol, panel * OperandTile::panelElements);
        assembly.loadBox(at, operandMaps[size_t(s) + 1], transposed ? along : deep,
                         transposed ? deep : along, full);
      }
  }

  void consume(TileSchedule &tiles) {
    const MatrixShape shape{element, segments * knobs.bn, transposed};
    Accumulators sums(p, roles, shape);
    Value isFirstLane = p.cmp(arith::CmpIPredicate::eq, roles.lane, p.c(0));
    Value ownRows = p.mul(roles.group, MatrixShape::rows);
    const RingPlace start = ring.consumerStart();
    tiles.forEach({start.stage, start.parity}, [&](Value row, Value column, ValueRange carried) {
      SmallVector<Value> all = sums.zeros();
      llvm::append_range(all, carried);
      all = p.loop("depth", p.c(0), p.c(depthTiles()), 1, "stage parity", all,
                   [&](Value, ValueRange turn) {
                     const RingPlace place{turn[turn.size() - 2], turn.back()};
                     assembly.waitBarrier(ring.full(place.stage), place.parity);
                     Value at = ring.address(place.stage);
                     Value own = p.add(at, p.mul(ownRows, Panel::rowBytes));
                     SmallVector<Value> next = assembly.multiply(
                         shape, turn.drop_back(2), left.descriptor(p, own),
                         right.descriptor(p, p.add(at, left.bytes())), depth / MatrixShape::depth,
                         left.descriptorStep(), right.descriptorStep());
                     assembly.arriveIf(isFirstLane, ring.empty(place.stage));
                     const RingPlace after = ring.next(place);
                     next.append({after.stage, after.parity});
                     return next;
                   });
      Value firstRow = p.named(p.add(p.mul(row, knobs.bm), ownRows), "first_row");
      Value firstCol = p.named(p.mul(column, knobs.bn), "first_col");
      storeResults(sums, ArrayRef(all).drop_back(2), firstRow, firstCol);
      return SmallVector<Value>(all.end() - 2, all.end());
    });
    p.ifThen(p.cmp(arith::CmpIPredicate::eq, roles.thread, p.c(0)), [&] { assembly.waitStores(); });
  }

  //===--------------------------------------------------------------------===//
  // Results
  //===--------------------------------------------------------------------===//

  /// Which value of the thread is evaluated: what a segment's result is then.
  struct Current {
    int64_t block = 0, lower = 0, second = 0;
  };

  void storeResults(Accumulators &sums, ArrayRef<Value> values, Value firstRow, Value firstCol) {
    RowExpressions rows(p);
    Current current;
    for (auto [s, number] : llvm::enumerate(group.segments)) {
      const int64_t before = int64_t(s) * knobs.bn / Accumulators::blockColumns;
      auto element = [&, before, number = number](const Position &position) {
        Value sum =
            values[size_t(sums.numberOf(before + current.block, current.lower, current.second))];
        if (matmul.getBiases().empty())
          return sum;
        return p.addf(sum, readParameter(p, matmul.getBiases()[number], position.col));
      };
      rows.bind(matmul.getOutputs()[number], element);
    }
    SmallVector<Value> stored;
    for (const Sink &sink : group.sinks)
      stored.push_back(sink.value);
    // Results that are not there are computed of others that are.
    SmallVector<Value> row;
    for (int64_t lower : {0, 1}) {
      row.push_back(p.add(firstRow, sums.row(lower)));
      if (!allRowsAreThere())
        row.back() = p.min(row.back(), p.sub(totalRows, 1));
      row.back() = p.named(row.back(), "row");
      rows.prepareRow(stored, row.back());
    }
    panelsStored = 0;
    for (auto [sink, map] : llvm::zip(group.sinks, resultMaps))
      storeSink(sums, rows, sink, map, row, firstRow, firstCol, current);
  }

  /// Panels of a warpgroup's tile of all results.
  int64_t panelsOfTile() {
    int64_t count = 0;
    for (const Sink &sink : group.sinks)
      count += knobs.bn / ResultPanels::columnsOf(*elementTypeOf(sink.value.getType()));
    return count;
  }

  bool allRowsAreThere() {
    Type input = matmul.getInput().getType();
    const int64_t count = cast<RankedTensorType>(input).getDimSize(0);
    return !ShapedType::isDynamic(count) && count % knobs.bm == 0;
  }

  void storeSink(Accumulators &sums, RowExpressions &rows, const Sink &sink, Value map,
                 ArrayRef<Value> row, Value firstRow, Value firstCol, Current &current) {
    const ElementType type = *elementTypeOf(sink.value.getType());
    ResultPanels panel(p, roles, panels, type);
    for (int64_t number = 0; number < knobs.bn / panel.columns(); ++number) {
      Value panelCol = p.add(firstCol, number * panel.columns());
      auto element = [&](int64_t block, int64_t lower, int64_t second) {
        current = {number * panel.columns() / Accumulators::blockColumns + block, lower, second};
        Value col =
            p.add(p.add(panelCol, sums.firstColumn()), block * Accumulators::blockColumns + second);
        if (group.n % knobs.bn != 0)
          col = p.min(col, p.c(group.n - 1));
        return rows.evaluate(sink.value, {row[size_t(lower)], col});
      };
      auto pairOf = [&](int64_t block, int64_t lower) -> std::array<Value, 2> {
        return {element(block, lower, 0), element(block, lower, 1)};
      };
      panel.store(sums, panelsStored++, panelsOfTile(), pairOf,
                  [&](Value from) { copyPanel(panel, sink, map, from, firstRow, panelCol); });
    }
  }

  /// Copies a panel at `from` to where it belongs. A map cuts it off at the end of the results, as
  /// far as that is known when it is made; where there is no map, or rows follow a size, the
  /// warpgroup's threads store what is there.
  void copyPanel(ResultPanels &panel, const Sink &sink, Value map, Value from, Value firstRow,
                 Value firstCol) {
    auto copyAll = [&] {
      p.ifThen(panel.isLeader, [&] {
        assembly.storeBox(map, firstCol, firstRow, from);
        assembly.commitStores();
      });
    };
    auto copyPart = [&] { storeElements(panel, sink, from, firstRow, firstCol); };
    if (!map)
      return copyPart();
    if (!ShapedType::isDynamic(cast<RankedTensorType>(matmul.getInput().getType()).getDimSize(0)))
      return copyAll();
    Value isWhole = p.cmp(arith::CmpIPredicate::ule, p.add(firstRow, MatrixShape::rows), totalRows);
    p.ifElse(
        "whole", isWhole, TypeRange(p.i32),
        [&] {
          copyAll();
          return SmallVector<Value>{p.c(0)};
        },
        [&] {
          copyPart();
          return SmallVector<Value>{p.c(0)};
        });
  }

  void storeElements(ResultPanels &panel, const Sink &sink, Value from, Value firstRow,
                     Value firstCol) {
    const int64_t columns = panel.columns(), bytes = Panel::rowBytes / columns;
    Value to = p.result(sink.resultIndex);
    p.loop("element", roles.thread, p.c(MatrixShape::rows * columns), warpgroup, [&](Value number) {
      Value r = p.div(number, columns), c = p.rem(number, columns);
      Value row = p.add(firstRow, r), col = p.add(firstCol, c);
      Value isThere = p.b.create<arith::AndIOp>(p.loc, p.lessThan(row, totalRows),
                                                p.lessThan(col, p.c(group.n)));
      p.ifThen(isThere, [&] {
        Value at = p.add(from, Panel::offsetOf(p, r, p.mul(c, bytes)));
        Value value = assembly.loadShared(at, bytes);
        p.store(bytes == 4 ? p.bitsToFloat(value) : value, to, p.add(p.mul(row, group.n), col));
      });
    });
  }

  PhaseBuilder p;
  PhaseMemory memory;
  Assembly assembly;
  Roles roles;
  MatmulOp matmul;
  const SegmentGroup &group;
  const MatrixKnobs &knobs;
  ElementType element;
  int64_t segments;
  bool transposed;
  OperandTile left, right, segment; ///< of a stage; of one segment
  Value panels;                     ///< address of all warpgroups' panels
  Ring ring;
  Value totalRows;
  int64_t panelsStored = 0;                   ///< of the tile so far
  SmallVector<Value> operandMaps, resultMaps; ///< rows, then weights; null: no bulk copy can store
};

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
                                               .readsLayouts = false,
                                               .needsFiniteF32 = true,
                                               .multipliesIn = multipliesIn}));
    for (Value operand : matmul.getOperands().drop_front())
      if (!isa<BlockArgument>(operand))
        return refuse("a weight or bias is computed in the kernel");
    if (llvm::range_size(kernel.kernel().getBody().getOps<MatmulOp>()) > 1)
      return refuse("there are two matmuls");
    if (kernel.groups().empty() || matmul.getK() == 0)
      return refuse("there is nothing to multiply");
    if (!matrixElement(matmul))
      return refuse("its numerics do not have rows and weights multiplied both as bf16 or as f16");
    if (std::string why = epilogueObstacle(kernel, /*hasTile=*/false); !why.empty())
      return refuse(why);
    const int64_t k = matmul.getK();
    const bool readsDepth = hasMatrixRows(matmul) || !matmul.getTranspose();
    if (readsDepth && k * OperandTile::elementBytes % copyUnit != 0)
      return refuse(fmt::format("rows of {} numbers are no multiples of {} bytes", k, copyUnit));
    for (const SegmentGroup &group : kernel.groups()) {
      if (matmul.getTranspose() && group.n * OperandTile::elementBytes % copyUnit != 0)
        return refuse(fmt::format("rows of the weight are no multiples of {} bytes", copyUnit));
      if (group.segments.size() > 2)
        return refuse("more than two segments are needed together");
      for (const Sink &sink : group.sinks)
        if (!isa<YieldOp>(sink.op))
          return refuse("a cache append follows");
    }
    SmallVector<Needs> needs;
    if (!hasMatrixRows(matmul))
      needs.push_back({0, RowExpressions::sharedBytesOfRow(kernel.kernel()) + 4096, 256});
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
    const size_t count = kernel.groups().size() + (writesRows ? 1 : 0);
    auto next = [&] { return phaseEntry(entry, launching.phases.size(), count); };
    if (writesRows) {
      launching.phases.push_back(emitRows(module, kernel, next()));
      const int64_t rowBytes = paddedDepth(kernel.matmul().getK()) * OperandTile::elementBytes;
      launching.workspaces.push_back({launching.phases.back().grid * Extent(rowBytes), 128});
    }
    for (const SegmentGroup &group : kernel.groups()) {
      const bool isFirst = launching.phases.empty();
      launching.phases.push_back(Emitter(module, kernel, group, next(), knobs).emit());
      launching.phases.back().afterPrevious =
          writesRows || isFirst; // groups do not wait for each other
    }
    return launching;
  }

  std::vector<std::string> describe(const KernelAnalysis &kernel,
                                    const KnobValues &schedule) const override {
    std::vector<std::string> lines = simt::describe(kernel);
    lines.back() = fmt::format("matrices: {} x {} results a block, {} stages of 64",
                               schedule.at("bm"), schedule.at("bn"), schedule.at("stages"));
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
