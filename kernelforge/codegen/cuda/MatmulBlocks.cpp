// Blocks that multiply by the matrix units of a warpgroup: they go from tile to tile of the
// results; a producer fetches stages of both operands, and the other warpgroups multiply them and
// keep the sums in registers, where what follows the matmul is computed.
#include "kernelforge/codegen/cuda/MatmulResults.h"
#include "kernelforge/codegen/cuda/WeightExpander.h"

#include "llvm/Support/MathExtras.h"

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
class MatmulBlocksEmitter {
public:
  MatmulBlocksEmitter(ModuleOp module, const KernelAnalysis &kernel,
                      ArrayRef<const SegmentGroup *> groups, StringRef entry,
                      const MatrixKnobs &knobs)
      : p(module, kernel.kernel(), entry, Roles::threadsOf(knobs.consumers())), memory(p),
        assembly(p), roles(p, knobs.consumers(), expandsWeights(kernel.matmul())),
        matmul(kernel.matmul()), groups(groups), knobs(knobs), element(*matrixElement(matmul)),
        expands(expandsWeights(matmul)), stagesOfUnit(cuda::matmul::stagesOfUnit(matmul)),
        boxRows(std::min<int64_t>(
            knobs.bm,
            llvm::alignTo(
                std::max<int64_t>(kernel.plannedRows(matmul.getInput().getType()).second, 1), 8))),
        unitsAhead(expands && 2 * registersOfUnit(kernel, knobs.bn) <= registersOfTwo ? 2 : 1),
        segments(static_cast<int64_t>(groups[0]->segments.size())),
        transposed(matmul.getTranspose()), left(knobs.left()),
        right(knobs.right(segments, transposed)), segment(knobs.bn, !transposed),
        panels(memory.reserve(knobs.consumers() * ResultPanels::bytesOfGroup, Panel::alignment)),
        ring(p, memory, knobs.stages, knobs.stageBytes(segments)) {}

  Phase emit() {
    Type input = matmul.getInput().getType();
    totalRows = p.rows(input);
    memory.useOwnFunctions();
    makeMaps(input);
    p.ifThen(p.cmp(arith::CmpIPredicate::eq, p.thread(), p.c(0)), [&] {
      ring.initialise(knobs.consumers() * warpgroup / warp, expands ? warpgroup + 1 : 1);
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
    // Beside the thread that copies there is one that asks ahead, of another warp.
    auto isThread = [&](int64_t number) {
      return p.cmp(arith::CmpIPredicate::eq, roles.thread, p.c(number));
    };
    auto produceAny = [&] {
      if (expands)
        return produceExpanded(tiles);
      p.ifThen(isThread(warp), [&] { prefetch(tiles); });
      p.ifThen(isThread(0), [&] { produce(tiles); });
    };
    roles.split(knobs.resident, produceAny, [&] { consume(tiles); }, /*producers=*/warp + 1);
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
  /// Registers for two units on their way, beside which there is room to expand another.
  static constexpr int64_t registersOfTwo = 40;

  void makeMaps(Type input) {
    const int64_t k = matmul.getK();
    const bool isRead = hasMatrixRows(matmul);
    rowsMap = memory.map(isRead ? memory.bufferOf(matmul.getInput()) : memory.bufferOfWorkspace(0),
                         Access::Read,
                         OperandTile(boxRows, true)
                             .map(element, p.rowsExtent(input), k, isRead ? k : paddedDepth(k)));
    for (const SegmentGroup *group : groups)
      for (unsigned s : group->segments)
        if (!expands)
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

  /// Units of the depth, so many stages each, that this block multiplies: all of a tile, or its
  /// part of them.
  std::pair<Value, Value> unitRange() {
    const int64_t count =
        divideCeilSigned(static_cast<int64_t>(matmul.getK()), depth * stagesOfUnit);
    if (knobs.split == 1)
      return {p.c(0), p.c(count)};
    Value rank = p.rem(p.block(), knobs.split);
    return {p.named(p.div(p.mul(rank, count), knobs.split), "first_unit"),
            p.named(p.div(p.mul(p.add(rank, 1), count), knobs.split), "end_unit")};
  }
  /// The same in stages.
  std::pair<Value, Value> depthRange() {
    const auto [from, to] = unitRange();
    return {p.mul(from, stagesOfUnit), p.mul(to, stagesOfUnit)};
  }

  /// Whether a tile is of the group `number` or one after it.
  Value isFrom(size_t number, Value column) {
    return p.cmp(arith::CmpIPredicate::uge, column, p.c(firstTiles[number]));
  }

  /// Asks for weights while what ran before still runs, those behind what the producer has: the L2
  /// cache has what is written to them meanwhile, too.
  void prefetch(TileSchedule &tiles) {
    const auto [from, to] = depthRange();
    const WeightTile first = weightTile(tiles.first().second);
    Value begin = knobs.early ? p.min(p.add(from, knobs.stages), to) : from;
    p.loop("depth", begin, p.min(p.add(begin, knobs.stages), to), 1, [&](Value number) {
      forEachBox(first, p.mul(number, depth),
                 [&](int64_t, Value map, Value x, Value y) { assembly.prefetchBox(map, x, y); });
    });
  }

  void produce(TileSchedule &tiles) {
    const auto [from, to] = depthRange();
    const RingPlace start = ring.producerStart();
    Value stage = start.stage, parity = start.parity, done = p.c(0);
    if (knobs.early) {
      done = p.named(p.min(p.c(knobs.stages), p.sub(to, from)), "stages_begun");
      beginStages(tiles, from, done);
      Value isFull = p.cmp(arith::CmpIPredicate::eq, done, p.c(knobs.stages));
      stage = p.select(isFull, p.c(0), done);
      parity = p.select(isFull, p.c(0), start.parity);
    } else {
      Assembly::waitForPrevious(p.b, p.loc);
    }
    Value begin = from, end = to;
    tiles.forEach({stage, parity, done}, [&](Value row, Value column, ValueRange carried) {
      Value firstRow = p.mul(row, knobs.bm);
      const WeightTile weights = weightTile(column);
      SmallVector<Value> after =
          p.loop("depth", p.add(begin, carried[2]), end, 1, "stage parity", carried.take_front(2),
                 [&](Value number, ValueRange turn) {
                   const RingPlace place{turn[0], turn[1]};
                   assembly.waitBarrier(ring.empty(place.stage), place.parity);
                   fetchWeights(place.stage, weights, p.mul(number, depth));
                   fetchRows(place.stage, p.mul(number, depth), firstRow);
                   const RingPlace next = ring.next(place);
                   return SmallVector<Value>{next.stage, next.parity};
                 });
      after.push_back(p.c(0));
      return after;
    });
  }

  /// The first `count` stages of the first tile: weights, which are there, and when what ran before
  /// is done, rows.
  void beginStages(TileSchedule &tiles, Value from, Value count) {
    const auto [row, column] = tiles.first();
    const WeightTile weights = weightTile(column);
    Value firstRow = p.mul(row, knobs.bm);
    auto deepOf = [&](Value stage) { return p.mul(p.add(from, stage), depth); };
    p.loop("stage", p.c(0), count, 1,
           [&](Value stage) { fetchWeights(stage, weights, deepOf(stage)); });
    Assembly::waitForPrevious(p.b, p.loc);
    p.loop("stage", p.c(0), count, 1,
           [&](Value stage) { fetchRows(stage, deepOf(stage), firstRow); });
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

  /// The weights of a stage, which is full when its rows are there, too. What is not there of a box
  /// arrives as zeros.
  void fetchWeights(Value stage, const WeightTile &weights, Value deep) {
    Value full = ring.full(stage), to = ring.address(stage);
    assembly.expectBytes(full, rowsBytes() + segments * segment.bytes());
    forEachBox(weights, deep, [&](int64_t offset, Value map, Value x, Value y) {
      assembly.loadBox(p.add(to, left.bytes() + offset), map, x, y, full);
    });
  }
  int64_t rowsBytes() const { return boxRows * Panel::rowBytes; }
  void fetchRows(Value stage, Value deep, Value firstRow) {
    assembly.loadBox(ring.address(stage), rowsMap, deep, firstRow, ring.full(stage));
  }

  /// The same of weights that a warpgroup expands: what is in memory of a unit is on its way while
  /// the one before it is expanded.
  void produceExpanded(TileSchedule &tiles) {
    std::vector<WeightExpander> expanders;
    for (const SegmentGroup *group : groups)
      for (unsigned s : group->segments)
        expanders.emplace_back(p, matmul.getWeights()[s], knobs.bn, element, stagesOfUnit,
                               roles.thread);
    const RingPlace start = ring.producerStart();
    Assembly::waitForPrevious(p.b, p.loc);
    tiles.forEach({start.stage, start.parity}, [&](Value row, Value column, ValueRange carried) {
      return expandTile(0, expanders, p.mul(row, knobs.bm), column, carried);
    });
  }

  /// A tile of the group that it belongs to, `number` or one after it.
  SmallVector<Value> expandTile(size_t number, MutableArrayRef<WeightExpander> expanders,
                                Value firstRow, Value column, ValueRange carried) {
    auto here = [&] {
      Value firstCol = p.mul(p.sub(column, firstTiles[number]), knobs.bn);
      return expandDepth(expanders.slice(number * size_t(segments), size_t(segments)), firstRow,
                         firstCol, carried);
    };
    if (number + 1 == groups.size())
      return here();
    return p.ifElse("stage parity", p.lessThan(column, p.c(firstTiles[number + 1])),
                    carried.getTypes(), here,
                    [&] { return expandTile(number + 1, expanders, firstRow, column, carried); });
  }

  SmallVector<Value> expandDepth(MutableArrayRef<WeightExpander> expanders, Value firstRow,
                                 Value firstCol, ValueRange carried) {
    const auto [from, to] = unitRange();
    Value last = p.sub(to, 1);
    auto load = [&](Value unit) {
      SmallVector<Value> all;
      for (WeightExpander &expander : expanders)
        llvm::append_range(all, expander.load(unit, firstCol));
      return all;
    };
    SmallVector<Value> init(carried);
    for (int64_t i = 0; i < unitsAhead; ++i)
      llvm::append_range(init, load(p.min(p.add(from, i), last)));
    SmallVector<Value> end =
        p.loop("unit", from, to, 1, "stage parity loaded", init, [&](Value unit, ValueRange turn) {
          SmallVector<Value> next = load(p.min(p.add(unit, unitsAhead), last));
          RingPlace place{turn[0], turn[1]};
          SmallVector<Value> stages, fulls;
          for (int64_t i = 0; i < stagesOfUnit; ++i) {
            assembly.waitBarrier(ring.empty(place.stage), place.parity);
            stages.push_back(ring.address(place.stage));
            fulls.push_back(ring.full(place.stage));
            Value deep = p.mul(p.add(p.mul(unit, stagesOfUnit), i), depth);
            p.ifThen(p.cmp(arith::CmpIPredicate::eq, roles.thread, p.c(0)), [&] {
              assembly.expectBytes(fulls.back(), rowsBytes());
              assembly.loadBox(stages.back(), rowsMap, deep, firstRow, fulls.back());
            });
            place = ring.next(place);
          }
          ValueRange loaded = turn.slice(2, next.size());
          for (auto [s, expander] : llvm::enumerate(expanders)) {
            SmallVector<Value> panels;
            for (Value stage : stages)
              panels.push_back(p.add(stage, left.bytes() + int64_t(s) * segment.bytes()));
            expander.store(loaded.take_front(expander.values()), unit, firstCol, panels);
            loaded = loaded.drop_front(expander.values());
          }
          assembly.publishShared();
          for (Value full : fulls)
            assembly.arrive(full);
          SmallVector<Value> after{place.stage, place.parity};
          llvm::append_range(after, turn.drop_front(2 + next.size()));
          llvm::append_range(after, next);
          return after;
        });
    return {end[0], end[1]};
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
  bool expands;         ///< weights
  int64_t stagesOfUnit; ///< that are filled together
  int64_t boxRows;      ///< rows that are copied: not those that can never be there
  int64_t unitsAhead;   ///< that are on their way from memory
  int64_t segments;     ///< of each group
  bool transposed;
  OperandTile left, right, segment; ///< of a stage; of one segment
  Value panels;                     ///< address of all warpgroups' panels
  Ring ring;
  Value totalRows, rowsMap;
  SmallVector<Value> weightMaps;                      ///< by group and segment
  SmallVector<int64_t> firstTiles;                    ///< of each group among the tiles of a row
  std::vector<std::unique_ptr<GroupResults>> results; ///< by group
};

} // namespace

Phase cuda::matmul::emitBlocks(ModuleOp module, const KernelAnalysis &kernel,
                               ArrayRef<const SegmentGroup *> groups, StringRef entry,
                               const MatrixKnobs &knobs) {
  return MatmulBlocksEmitter(module, kernel, groups, entry, knobs).emit();
}
