#include "kernelforge/codegen/cuda/AttentionSeen.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cuda;
using namespace kernelforge::cuda::attention;

using Predicate = arith::CmpIPredicate;

/// Words of a record before its rows.
static constexpr int64_t headWords = llvm::alignTo(uint64_t(Word::Count), 4);

SeenKeys::SeenKeys(simt::PhaseBuilder &p, transformer::AttentionOp op, const Shape &shape,
                   PhaseMemory &memory)
    : ring(p, memory, stages, recordBytes(shape)), p(p), assembly(p), op(op), shape(shape),
      keys(p, op), hasFirsts(op.getWindow() != 0) {}

int64_t SeenKeys::recordBytes(const Shape &shape) { return (headWords + 2 * shape.rows) * 4; }

int64_t SeenKeys::firstsAt() const { return headWords * 4; }

int64_t SeenKeys::lengthsAt() const { return (headWords + shape.rows) * 4; }

Value SeenKeys::word(Value record, Word which) {
  return assembly.loadShared(wordAddress(record, which), 4);
}

Value SeenKeys::baseOf(Value record, Value block) {
  Value before = p.sub(p.sub(word(record, Word::Blocks), 1), block);
  return p.add(word(record, Word::Start), p.mul(before, shape.keys));
}

std::pair<Value, Value> SeenKeys::ofRow(Value record, Value row) {
  Value at = p.add(record, p.mul(row, 4));
  Value first = hasFirsts ? assembly.loadShared(p.add(at, firstsAt()), 4) : p.c(0);
  return {first, assembly.loadShared(p.add(at, lengthsAt()), 4)};
}

SeenKeys::LaneRows SeenKeys::lanesRows(Value lane, Value firstRow) {
  LaneRows rows;
  Value last = p.sub(p.rows(op.getQuery().getType()), 1);
  for (int64_t i = 0; i < shape.rows; i += warp) {
    // A row past the last one is that again.
    Value row = p.min(p.add(p.add(firstRow, i), lane), last);
    rows.sequences.push_back(
        shape.facts.sequences == 1 ? p.c(0) : p.load(p.argument(op.getSequences()), row));
    auto [first, end] = keys.range(row, rows.sequences.back());
    rows.firsts.push_back(first);
    rows.lengths.push_back(p.sub(p.max(end, first), first));
  }
  return rows;
}

/// The greatest of all lanes' values.
static Value greatest(simt::PhaseBuilder &p, ValueRange values) {
  Value own = values[0];
  for (Value value : values.drop_front())
    own = p.max(own, value);
  return p.subgroupReduce(own, gpu::AllReduceOperation::MAXUI);
}

std::pair<Value, Value> SeenKeys::sequencesOf(const LaneRows &rows) {
  // What is to be least counts down from the greatest number.
  Value most = p.c(-1);
  SmallVector<Value> down;
  for (Value sequence : rows.sequences)
    down.push_back(p.sub(most, sequence));
  return {p.sub(most, greatest(p, down)), greatest(p, rows.sequences)};
}

void SeenKeys::hand(const RingPlace &place, Value lane) {
  assembly.meetWarp();
  assembly.arriveIf(p.cmp(Predicate::eq, lane, p.c(0)), ring.full(place.stage));
}

SeenKeys::Range SeenKeys::publish(const RingPlace &place, const LaneRows &rows, Value lane,
                                  Value tile, Value sequence, Value sequences, Value isFirst) {
  Value most = p.c(-1);
  SmallVector<Value> from, to, commonFrom, commonTo, lengths;
  for (auto [of, first, length] : llvm::zip(rows.sequences, rows.firsts, rows.lengths)) {
    Value own = length;
    if (shape.facts.sequences > 1)
      own = p.select(p.cmp(Predicate::eq, of, sequence), length, p.c(0));
    lengths.push_back(own);
    Value sees = p.cmp(Predicate::ne, own, p.c(0));
    auto ifSees = [&](Value value) { return p.select(sees, value, p.c(0)); };
    Value end = ifSees(p.add(first, own));
    from.push_back(ifSees(p.sub(most, first)));
    to.push_back(end);
    commonFrom.push_back(ifSees(first));
    commonTo.push_back(p.sub(most, end));
  }
  Range range;
  range.to = greatest(p, to);
  Value begin = p.c(0), allFrom = p.c(0);
  if (hasFirsts) {
    begin = p.sub(most, greatest(p, from));
    begin = p.select(p.cmp(Predicate::ne, range.to, p.c(0)), begin, p.c(0));
    allFrom = greatest(p, commonFrom);
  }
  Value allTo = p.sub(most, greatest(p, commonTo));
  range.start = p.sub(begin, p.rem(begin, shape.page ? shape.copiedKeys() : 1));
  auto blocksFrom = [&](Value end, int64_t added) {
    Value beyond = p.sub(p.max(end, range.start), range.start);
    return p.div(p.add(beyond, added), shape.keys);
  };
  range.blocks = p.max(blocksFrom(range.to, shape.keys - 1), p.select(isFirst, p.c(1), p.c(0)));
  Value clear = p.min(range.blocks, blocksFrom(allTo, 0));
  Value partly = p.min(range.blocks, blocksFrom(allFrom, shape.keys - 1));

  assembly.waitBarrier(ring.empty(place.stage), place.parity);
  Value record = ring.address(place.stage);
  for (auto [i, first, length] : llvm::enumerate(rows.firsts, lengths)) {
    Value at = p.add(record, p.mul(p.add(lane, int64_t(i) * warp), 4));
    if (hasFirsts)
      assembly.storeWord(p.add(at, firstsAt()), first);
    assembly.storeWord(p.add(at, lengthsAt()), length);
  }
  const std::pair<Word, Value> words[] = {
      {Word::Tile, tile},
      {Word::Sequences, sequences},
      {Word::Blocks, range.blocks},
      {Word::Start, range.start},
      {Word::MaskedFirst, p.sub(range.blocks, clear)},
      {Word::ClearEnd, p.sub(range.blocks, partly)},
      {Word::From, begin},
      {Word::To, range.to},
      {Word::IsApart,
       p.b.create<arith::ExtUIOp>(p.loc, p.i32, p.cmp(Predicate::ugt, allFrom, allTo))}};
  p.ifThen(p.cmp(Predicate::eq, lane, p.c(0)), [&] {
    for (auto [which, value] : words)
      assembly.storeWord(wordAddress(record, which), value);
  });
  hand(place, lane);
  return range;
}

void SeenKeys::publishEnd(const RingPlace &place, Value lane) {
  assembly.waitBarrier(ring.empty(place.stage), place.parity);
  p.ifThen(p.cmp(Predicate::eq, lane, p.c(0)), [&] {
    assembly.storeWord(wordAddress(ring.address(place.stage), Word::Tile), p.c(noTile));
  });
  hand(place, lane);
}
