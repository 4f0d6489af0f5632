#include "kernelforge/codegen/cuda/MatmulResults.h"

#include "kernelforge/codegen/simt/Cache.h"
#include "kernelforge/codegen/simt/Elements.h"
#include "kernelforge/codegen/simt/Weights.h"

#include "llvm/ADT/MapVector.h"

#include <fmt/format.h>
#include <numeric>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;
using namespace kernelforge::cuda;
using namespace kernelforge::cuda::matmul;

static ElementType elementOf(const Sink &sink) {
  if (auto append = dyn_cast<CacheAppendOp>(sink.op))
    return *elementTypeOf(append.getCache().getType().getElementType());
  return *elementTypeOf(sink.value.getType());
}

/// What a warpgroup's threads have of a tile, and where it is.
struct GroupResults::Tile {
  Tile(simt::PhaseBuilder &p, Accumulators sums, ValueRange values, int64_t width, Value firstRow,
       Value firstCol)
      : p(p), sums(sums), values(values), blocks(width / Accumulators::blockColumns),
        firstRow(firstRow), firstCol(firstCol), rows(p) {}

  /// Of a thread's value: block of eight columns of the tile, first or second of its pair.
  using Place = std::pair<int64_t, int64_t>;

  /// The column of a thread's value, there or not.
  Value wholeColumn(Place place) {
    return p.add(p.add(firstCol, sums.firstColumn()),
                 place.first * Accumulators::blockColumns + place.second);
  }

  /// The same, where what is beyond `last` is computed with what belongs to that one.
  Value column(Place place, std::optional<int64_t> last) {
    Value &made = columns[place];
    if (!made) {
      made = wholeColumn(place);
      if (last)
        made = p.min(made, p.c(*last));
      made = p.named(made, "col");
      places[made] = place;
    }
    return made;
  }

  /// The sum of a segment that is at a position.
  Value sum(int64_t segment, const Position &position) const {
    const auto [block, second] = places.lookup(position.col);
    const int64_t lower = position.row == row[1] ? 1 : 0;
    return values[size_t(Accumulators::numberOf(segment * blocks + block, lower, second))];
  }

  /// What a rotation joins a column with: a thread has both of them.
  RowExpressions::Partner partnerOf(RopeOp op, Value col, std::optional<int64_t> last) {
    constexpr int64_t unit = Accumulators::blockColumns;
    const auto [block, second] = places.lookup(col);
    const auto head = static_cast<int64_t>(op.getHeadDim()) / unit;
    const int64_t rotary = op.getRotaryDim() / unit, inHead = block % head;
    if (inHead >= rotary)
      return {};
    if (op.getPairing() != Pairing::HalfSplit)
      return {column({block, 1 - second}, last), second == 0};
    const bool isFirst = inHead < rotary / 2;
    return {column({block + (isFirst ? rotary / 2 : -rotary / 2), second}, last), isFirst};
  }

  simt::PhaseBuilder &p;
  Accumulators sums;
  ValueRange values;
  int64_t blocks;
  Value firstRow, firstCol;
  RowExpressions rows;
  std::array<Value, 2> row; ///< the upper one and the lower one of the thread's rows
  llvm::MapVector<Place, Value> columns;
  llvm::DenseMap<Value, Place> places; ///< of a column
  int64_t panelsStored = 0;
  bool isOdd = false;
};

GroupResults::GroupResults(simt::PhaseBuilder &p, PhaseMemory &memory, const Roles &roles,
                           MatmulOp matmul, const SegmentGroup &group, const MatrixKnobs &knobs,
                           Value panels, Value rows)
    : p(p), assembly(p), roles(roles), matmul(matmul), group(group), knobs(knobs), panels(panels),
      totalRows(rows) {
  for (const Sink &sink : group.sinks) {
    const ElementType type = elementOf(sink);
    const bool copies = isa<YieldOp>(sink.op) && group.n * info(type).blockBytes % copyUnit == 0 &&
                        knobs.columnsOfBlock() >= ResultPanels::columnsOf(type);
    maps.push_back(copies
                       ? memory.map(memory.bufferOfResult(sink.resultIndex), Access::Write,
                                    ResultPanels::map(
                                        type, p.rowsExtent(matmul.getInput().getType()), group.n))
                       : Value());
  }
}

std::string GroupResults::obstacle(const SegmentGroup &group) {
  constexpr int64_t unit = Accumulators::blockColumns;
  for (Operation *op : group.ops) {
    if (kindOf(op) == OpKind::Statistics)
      return fmt::format("{} needs a whole head, and follows the matmul",
                         op->getName().getStringRef().str());
    if (auto rope = dyn_cast<RopeOp>(op))
      if (rope.getHeadDim() % unit != 0 || rope.getRotaryDim() % (2 * unit) != 0)
        return fmt::format(
            "transformer.rope rotates {} of {} columns, and threads have pairs of {}",
            rope.getRotaryDim(), rope.getHeadDim(), unit);
  }
  for (const Sink &sink : group.sinks)
    if (isInBlocks(sink))
      return "an append to a cache of blocks follows";
  return "";
}

int64_t GroupResults::headColumns(const SegmentGroup &group) {
  int64_t columns = 1;
  for (Operation *op : group.ops)
    if (auto rope = dyn_cast<RopeOp>(op))
      columns = std::lcm(columns, static_cast<int64_t>(rope.getHeadDim()));
  return columns;
}

int64_t GroupResults::panelsOf(const SegmentGroup &group, int64_t columns) {
  int64_t count = 0;
  for (const Sink &sink : group.sinks)
    count += columns / ResultPanels::columnsOf(elementOf(sink));
  return count;
}

bool GroupResults::rowsFollowSize() {
  return cast<RankedTensorType>(matmul.getInput().getType()).isDynamicDim(0);
}

bool GroupResults::allRowsAreThere() {
  return !rowsFollowSize() &&
         cast<RankedTensorType>(matmul.getInput().getType()).getDimSize(0) % knobs.bm == 0;
}

std::optional<int64_t> GroupResults::lastColumn() const {
  return group.n % knobs.bn != 0 ? std::optional(group.n - 1) : std::nullopt;
}

void GroupResults::store(ValueRange sums, int64_t columns, Value firstRow, Value firstCol,
                         bool isOdd) {
  Tile tile(p, Accumulators(p, roles, {ElementType::BF16, columns}), sums, columns, firstRow,
            firstCol);
  tile.isOdd = isOdd;
  for (auto [s, number] : llvm::enumerate(group.segments))
    tile.rows.bind(matmul.getOutputs()[number],
                   [&, s = int64_t(s), number = number](const Position &position) {
                     Value sum = tile.sum(s, position);
                     if (matmul.getBiases().empty())
                       return sum;
                     return p.addf(sum, readParameter(p, matmul.getBiases()[number], position.col));
                   });
  tile.rows.bindPartners(
      [&](RopeOp op, Value col) { return tile.partnerOf(op, col, lastColumn()); });
  SmallVector<Value> stored;
  for (const Sink &sink : group.sinks)
    stored.push_back(sink.value);
  // Results that are not there are computed of others that are.
  for (int64_t lower : {0, 1}) {
    Value row = p.add(firstRow, tile.sums.row(lower));
    if (!allRowsAreThere())
      row = p.min(row, p.sub(totalRows, 1));
    tile.row[size_t(lower)] = p.named(row, "row");
    tile.rows.prepareRow(stored, tile.row[size_t(lower)]);
  }
  for (auto [sink, map] : llvm::zip(group.sinks, maps)) {
    const int64_t panel = ResultPanels::columnsOf(elementOf(sink)) / Accumulators::blockColumns;
    int64_t block = 0;
    for (; block + panel <= tile.blocks; block += panel)
      storePanel(tile, sink, map, block);
    if (block < tile.blocks)
      storeBlocks(tile, sink, block);
  }
}

//===----------------------------------------------------------------------===//
// Panels
//===----------------------------------------------------------------------===//

void GroupResults::storePanel(Tile &tile, const Sink &sink, Value map, int64_t first) {
  ResultPanels panel(p, roles, panels, elementOf(sink));
  auto pairOf = [&](int64_t block, int64_t lower) -> std::array<Value, 2> {
    std::array<Value, 2> pair;
    for (int64_t second : {0, 1})
      pair[size_t(second)] =
          tile.rows.evaluate(sink.value, {tile.row[size_t(lower)],
                                          tile.column({first + block, second}, lastColumn())});
    return pair;
  };
  Value firstCol = p.add(tile.firstCol, first * Accumulators::blockColumns);
  panel.store(tile.sums, tile.panelsStored++, tile.isOdd, pairOf,
              [&](Value from) { copyPanel(panel, sink, map, from, tile.firstRow, firstCol); });
}

/// Copies a panel at `from` to where it belongs. A map cuts it off at the end of the results, as
/// far as that is known when it is made; where there is no map, or rows follow a size, the
/// warpgroup's threads store what is there.
void GroupResults::copyPanel(ResultPanels &panel, const Sink &sink, Value map, Value from,
                             Value firstRow, Value firstCol) {
  auto copyAll = [&] {
    p.ifThen(panel.isLeader, [&] {
      assembly.storeBox(map, firstCol, firstRow, from);
      assembly.commitStores();
    });
  };
  auto copyPart = [&] { storeElements(panel, sink, from, firstRow, firstCol); };
  if (!map)
    return copyPart();
  if (!rowsFollowSize())
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

void GroupResults::storeElements(ResultPanels &panel, const Sink &sink, Value from, Value firstRow,
                                 Value firstCol) {
  const int64_t columns = panel.columns(), bytes = Panel::rowBytes / columns;
  p.loop("element", roles.thread, p.c(MatrixShape::rows * columns), warpgroup, [&](Value number) {
    Value r = p.div(number, columns), c = p.rem(number, columns);
    Value row = p.add(firstRow, r), col = p.add(firstCol, c);
    p.ifThen(p.lessThan(col, p.c(group.n)), [&] {
      Value at = p.add(from, Panel::offsetOf(p, r, p.mul(c, bytes)));
      ifStored(sink, row, [&](Value start) {
        Value value = assembly.loadShared(at, bytes);
        p.store(bytes == 4 ? p.bitsToFloat(value) : value, bufferOf(sink), p.add(start, col));
      });
    });
  });
}

//===----------------------------------------------------------------------===//
// Elements
//===----------------------------------------------------------------------===//

/// Where what a sink stores goes to.
Value GroupResults::bufferOf(const Sink &sink) {
  if (auto append = dyn_cast<CacheAppendOp>(sink.op))
    return p.argument(append.getCache(), Access::ReadWrite);
  return p.result(sink.resultIndex);
}

/// Emits what stores a row of a sink, which begins at element `start`, where it is stored at all.
void GroupResults::ifStored(const Sink &sink, Value row, llvm::function_ref<void(Value)> store) {
  p.ifThen(p.lessThan(row, totalRows), [&] {
    auto append = dyn_cast<CacheAppendOp>(sink.op);
    if (!append)
      return store(p.mul(row, group.n));
    Value slot = p.named(p.load(p.argument(append.getSlots()), row), "slot");
    p.ifThen(p.cmp(arith::CmpIPredicate::sge, slot, p.c(0)), [&] { store(p.mul(slot, group.n)); });
  });
}

/// The blocks of eight columns from `first` on, by the threads that have them.
void GroupResults::storeBlocks(Tile &tile, const Sink &sink, int64_t first) {
  const auto last = lastColumn();
  const ElementType type = elementOf(sink);
  for (int64_t lower : {0, 1}) {
    SmallVector<std::pair<Value, Value>> byColumn;
    for (int64_t block = first; block < tile.blocks; ++block)
      for (int64_t second : {0, 1}) {
        const Position position{tile.row[size_t(lower)], tile.column({block, second}, last)};
        byColumn.emplace_back(tile.wholeColumn({block, second}),
                              tile.rows.evaluate(sink.value, position));
      }
    ifStored(sink, p.add(tile.firstRow, tile.sums.row(lower)), [&](Value start) {
      for (auto [col, value] : byColumn) {
        auto store = [&, col = col, value = value] {
          writeElement(p, value, bufferOf(sink), type, p.add(start, col));
        };
        if (last)
          p.ifThen(p.lessThan(col, p.c(group.n)), store);
        else
          store();
      }
    });
  }
}
