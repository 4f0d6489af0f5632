// Matmuls by the matrix units of a warpgroup: a block goes from tile to tile of the results; one
// thread fetches stages of both operands by bulk copies, and the other warpgroups multiply them and
// keep the sums in registers, where what follows the matmul is computed.
#include "kernelforge/codegen/cuda/MatmulResults.h"
#include "kernelforge/codegen/cuda/Methods.h"

#include "kernelforge/codegen/Operands.h"
#include "kernelforge/codegen/simt/Emit.h"
#include "kernelforge/codegen/simt/Weights.h"
#include "kernelforge/ir/Numerics.h"

#include "llvm/Support/MathExtras.h"

#include <fmt/format.h>

#include <memory>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;
using namespace kernelforge::cuda;
using namespace kernelforge::cuda::matmul;

using llvm::divideCeilSigned;

namespace {

/// Emits the phase of groups of segments that are tiles side by side: a block's tile is of one of
/// them.
class Emitter {
public:
  Emitter(ModuleOp module, const KernelAnalysis &kernel, ArrayRef<const SegmentGroup *> groups,
          StringRef entry, const MatrixKnobs &knobs)
      : p(module, kernel.kernel(), entry, Roles::threadsOf(knobs.consumers())), memory(p),
        assembly(p), roles(p, knobs.consumers()), matmul(kernel.matmul()), groups(groups),
        knobs(knobs), element(*matrixElement(matmul)),
        segments(static_cast<int64_t>(groups[0]->segments.size())),
        transposed(matmul.getTranspose()), left(knobs.left()),
        right(knobs.right(segments, transposed)), segment(knobs.bn, !transposed),
        panels(memory.reserve(knobs.consumers() * ResultPanels::bytesOfGroup, Panel::alignment)),
        ring(p, memory, knobs.stages, knobs.stageBytes(segments)) {}

  Phase emit() {
    Type input = matmul.getInput().getType();
    totalRows = p.rows(input);
    makeMaps(input);
    p.ifThen(p.cmp(arith::CmpIPredicate::eq, p.thread(), p.c(0)), [&] {
      ring.initialise(knobs.consumers() * warpgroup / warp);
      assembly.prefetchMap(rowsMap);
      for (Value map : weightMaps)
        assembly.prefetchMap(map);
      Assembly::letNextStart(p.b, p.loc);
    });
    p.barrier();
    int64_t columnTiles = 0;
    for (const SegmentGroup *group : groups) {
      firstTiles.push_back(columnTiles);
      columnTiles += divideCeilSigned(group->n, knobs.bn);
    }
    Value rowTiles = p.named(p.div(p.add(totalRows, knobs.bm - 1), knobs.bm), "row_tiles");
    TileSchedule tiles(p, rowTiles, columnTiles, knobs.group, knobs.split);
    roles.split(knobs.resident, [&] { produce(tiles); }, [&] { consume(tiles); });
    Extent grid = p.rowsExtent(input, knobs.bm) * Extent(columnTiles * knobs.split);
    if (knobs.split == 1 && grid.isConstant())
      grid = Extent(std::min(grid.multiplier, knobs.blocks));
    else if (knobs.split == 1)
      grid.atMost = knobs.blocks;
    Phase phase =
        memory.finish(std::move(grid), Roles::registers(knobs.consumers(), knobs.resident));
    phase.cluster = knobs.split;
    phase.startsEarly = true;
    return phase;
  }

private:
  static constexpr int64_t depth = OperandTile::depth;

  void makeMaps(Type input) {
    const int64_t k = matmul.getK();
    const bool isRead = hasMatrixRows(matmul);
    rowsMap = memory.map(isRead ? memory.bufferOf(matmul.getInput()) : memory.bufferOfWorkspace(0),
                         Access::Read,
                         left.map(element, p.rowsExtent(input), k, isRead ? k : paddedDepth(k)));
    for (const SegmentGroup *group : groups)
      for (unsigned s : group->segments)
        weightMaps.push_back(memory.map(memory.bufferOf(matmul.getWeights()[s]), Access::Read,
                                        transposed ? segment.map(element, k, group->n, group->n)
                                                   : segment.map(element, group->n, k, k)));
    for (const SegmentGroup *group : groups)
      results.push_back(std::make_unique<GroupResults>(p, memory, roles, matmul, *group, knobs,
                                                       panels, totalRows));
  }

  //===--------------------------------------------------------------------===//
  // Roles
  //===--------------------------------------------------------------------===//

  /// Stages of the depth that this block multiplies: all of a tile, or its part of them.
  std::pair<Value, Value> depthRange() {
    const int64_t count = divideCeilSigned(static_cast<int64_t>(matmul.getK()), depth);
    if (knobs.split == 1)
      return {p.c(0), p.c(count)};
    Value rank = p.rem(p.block(), knobs.split);
    return {p.named(p.div(p.mul(rank, count), knobs.split), "first_stage"),
            p.named(p.div(p.mul(p.add(rank, 1), count), knobs.split), "end_stage")};
  }

  /// Whether a tile is of the group `number` or one after it.
  Value isFrom(size_t number, Value column) {
    return p.cmp(arith::CmpIPredicate::uge, column, p.c(firstTiles[number]));
  }

  void produce(TileSchedule &tiles) {
    const RingPlace start = ring.producerStart();
    const auto [from, to] = depthRange();
    // What ran before may still run, and what it writes is not what weights are read from: memory
    // has something to do meanwhile.
    const WeightTile first = weightTile(tiles.first().second);
    p.loop("depth", from, p.min(p.add(from, 2 * knobs.stages), to), 1, [&](Value number) {
      forEachBox(first, p.mul(number, depth),
                 [&](int64_t, Value map, Value x, Value y) { assembly.prefetchBox(map, x, y); });
    });
    Assembly::waitForPrevious(p.b, p.loc);
    tiles.forEach({start.stage, start.parity}, [&](Value row, Value column, ValueRange carried) {
      Value firstRow = p.mul(row, knobs.bm);
      const WeightTile weights = weightTile(column);
      return p.loop("depth", from, to, 1, "stage parity", carried,
                    [&](Value number, ValueRange turn) {
                      const RingPlace place{turn[0], turn[1]};
                      assembly.waitBarrier(ring.empty(place.stage), place.parity);
                      fetch(place, weights, p.mul(number, depth), firstRow);
                      const RingPlace next = ring.next(place);
                      return SmallVector<Value>{next.stage, next.parity};
                    });
    });
  }

  /// The weights of a tile: their maps by segment, and their first column.
  struct WeightTile {
    SmallVector<Value> maps;
    Value firstCol;
  };

  WeightTile weightTile(Value column) {
    SmallVector<Value> maps(ArrayRef(weightMaps).take_front(size_t(segments)));
    Value inGroup = column;
    for (size_t g = 1; g < groups.size(); ++g) {
      Value isIt = isFrom(g, column);
      inGroup = p.select(isIt, p.sub(column, firstTiles[g]), inGroup);
      for (int64_t s = 0; s < segments; ++s)
        maps[size_t(s)] =
            p.select(isIt, weightMaps[g * size_t(segments) + size_t(s)], maps[size_t(s)]);
    }
    return {maps, p.mul(inGroup, knobs.bn)};
  }

  /// The boxes of a stage of weights: where each lies in the stage, its map, and its place there.
  void forEachBox(const WeightTile &weights, Value deep,
                  llvm::function_ref<void(int64_t offset, Value map, Value x, Value y)> body) {
    for (int64_t s = 0; s < segments; ++s)
      for (int64_t panel = 0; panel < segment.panels(); ++panel) {
        Value along = p.add(weights.firstCol, panel * OperandTile::panelElements);
        body(s * segment.bytes() + panel * segment.panel().bytes(), weights.maps[size_t(s)],
             transposed ? along : deep, transposed ? deep : along);
      }
  }

  /// A stage of both operands. What is not there of a box arrives as zeros.
  void fetch(const RingPlace &place, const WeightTile &weights, Value deep, Value firstRow) {
    Value full = ring.full(place.stage), to = ring.address(place.stage);
    assembly.expectBytes(full, knobs.stageBytes(segments));
    assembly.loadBox(to, rowsMap, deep, firstRow, full);
    forEachBox(weights, deep, [&](int64_t offset, Value map, Value x, Value y) {
      assembly.loadBox(p.add(to, left.bytes() + offset), map, x, y, full);
    });
  }

  void consume(TileSchedule &tiles) {
    const MatrixShape shape{element, segments * knobs.bn, transposed};
    Accumulators sums(p, roles, shape);
    Value isFirstLane = p.cmp(arith::CmpIPredicate::eq, roles.lane, p.c(0));
    Value ownRows = p.mul(roles.group, MatrixShape::rows);
    const RingPlace start = ring.consumerStart();
    const auto [from, to] = depthRange();
    Assembly::waitForPrevious(p.b, p.loc); // for what is read and written beside the stages
    tiles.forEach({start.stage, start.parity}, [&](Value row, Value column, ValueRange carried) {
      SmallVector<Value> all = sums.zeros();
      llvm::append_range(all, carried);
      all = p.loop("depth", from, to, 1, "stage parity", all, [&](Value, ValueRange turn) {
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
      storeTile(shape, ArrayRef(all).drop_back(2), firstRow, column);
      return SmallVector<Value>(all.end() - 2, all.end());
    });
    p.ifThen(p.cmp(arith::CmpIPredicate::eq, roles.thread, p.c(0)), [&] { assembly.waitStores(); });
  }

  bool rowsAreWhole() {
    auto input = cast<RankedTensorType>(matmul.getInput().getType());
    return !input.isDynamicDim(0) && input.getDimSize(0) % MatrixShape::rows == 0;
  }

  /// What follows, for the columns that this block has in the end.
  void storeTile(const MatrixShape &shape, ArrayRef<Value> sums, Value firstRow, Value column) {
    std::optional<ClusterSums> cluster;
    SmallVector<Value> own(sums);
    if (knobs.split > 1) {
      cluster.emplace(p, roles, shape, knobs.consumers(), segments, knobs.split,
                      ring.address(p.c(0)));
      // A warp has sixteen rows, and of few rows most warps have none.
      Value isNeeded;
      if (!rowsAreWhole())
        isNeeded = p.lessThan(p.add(firstRow, p.mul(roles.warpNumber, 16)), totalRows);
      own = cluster->join(sums, isNeeded);
    }
    bool isOdd = false;
    for (const SegmentGroup *group : groups)
      isOdd |=
          GroupResults::panelsOf(*group, knobs.columnsOfBlock()) % ResultPanels::mostBuffers != 0;
    auto store = [&](size_t g) {
      Value firstCol = p.mul(p.sub(column, firstTiles[g]), knobs.bn);
      if (cluster)
        firstCol = p.add(firstCol, p.mul(cluster->rank, knobs.columnsOfBlock()));
      results[g]->store(own, knobs.columnsOfBlock(), firstRow, p.named(firstCol, "first_col"),
                        isOdd);
    };
    for (size_t g = 0; g < groups.size(); ++g) {
      Value isIt = g > 0 ? isFrom(g, column) : Value();
      if (g + 1 < groups.size()) {
        Value isBefore = p.lessThan(column, p.c(firstTiles[g + 1]));
        isIt = isIt ? p.b.create<arith::AndIOp>(p.loc, isIt, isBefore) : isBefore;
      }
      if (isIt)
        p.ifThen(isIt, [&] { store(g); });
      else
        store(g);
    }
    if (cluster)
      cluster->leave();
  }

  PhaseBuilder p;
  PhaseMemory memory;
  Assembly assembly;
  Roles roles;
  MatmulOp matmul;
  ArrayRef<const SegmentGroup *> groups;
  const MatrixKnobs &knobs;
  ElementType element;
  int64_t segments; ///< of each group
  bool transposed;
  OperandTile left, right, segment; ///< of a stage; of one segment
  Value panels;                     ///< address of all warpgroups' panels
  Ring ring;
  Value totalRows, rowsMap;
  SmallVector<Value> weightMaps;                      ///< by group and segment
  SmallVector<int64_t> firstTiles;                    ///< of each group among the tiles of a row
  std::vector<std::unique_ptr<GroupResults>> results; ///< by group
};

/// Groups whose tiles are side by side in one phase: those of as many segments.
SmallVector<SmallVector<const SegmentGroup *>> phasesOf(const KernelAnalysis &kernel) {
  SmallVector<SmallVector<const SegmentGroup *>> phases;
  for (const SegmentGroup &group : kernel.groups()) {
    auto *same = llvm::find_if(phases, [&](const auto &phase) {
      return phase[0]->segments.size() == group.segments.size();
    });
    if (same == phases.end())
      phases.push_back({&group});
    else
      same->push_back(&group);
  }
  return phases;
}

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
    if (std::string why = epilogueObstacle(kernel, /*hasTile=*/true); !why.empty())
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
      if (std::string why = GroupResults::obstacle(group); !why.empty())
        return refuse(why);
      if (GroupResults::headColumns(group) * int64_t(group.segments.size()) > mostColumns)
        return refuse(fmt::format("{} columns are no room for whole heads", mostColumns));
    }
    SmallVector<Needs> needs;
    if (!hasMatrixRows(matmul))
      needs.push_back({0, RowExpressions::sharedBytesOfRow(kernel.kernel()) + 4096, 512});
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
    const auto phases = phasesOf(kernel);
    const size_t count = phases.size() + (writesRows ? 1 : 0);
    auto next = [&] { return phaseEntry(entry, launching.phases.size(), count); };
    if (writesRows) {
      launching.phases.push_back(emitRows(module, kernel, next(), *matrixElement(kernel.matmul())));
      const int64_t rowBytes = paddedDepth(kernel.matmul().getK()) * OperandTile::elementBytes;
      launching.workspaces.push_back({launching.phases.back().grid * Extent(rowBytes), 128});
    }
    for (const auto &groups : phases) {
      const bool isFirst = launching.phases.empty();
      launching.phases.push_back(Emitter(module, kernel, groups, next(), knobs).emit());
      launching.phases.back().afterPrevious =
          writesRows || isFirst; // groups do not wait for each other
    }
    return launching;
  }

  std::vector<std::string> describe(const KernelAnalysis &kernel,
                                    const KnobValues &schedule) const override {
    std::vector<std::string> lines = simt::describe(kernel);
    const int64_t split = schedule.at("split");
    lines.back() = fmt::format("matrices: {} x {} results a block, {} stages of 64{}",
                               schedule.at("bm"), schedule.at("bn"), schedule.at("stages"),
                               split == 1 ? "" : fmt::format(", {} blocks share the depth", split));
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
