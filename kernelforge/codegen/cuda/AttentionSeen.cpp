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
                   Value records, Value barriers)
    : ring(p, Shape::recordStages, shape.recordBytes(), records, barriers), p(p), assembly(p),
      op(op), shape(shape), keys(p, op), hasFirsts(op.getWindow() != 0) {}

int64_t Shape::recordBytes() const { return (headWords + 2 * rows) * 4; }

int64_t SeenKeys::firstsAt() const { return headWords * 4; }

int64_t SeenKeys::lengthsAt() const { return (headWords + shape.rows) * 4; }

SmallVector<Value> SeenKeys::nextTile(ValueRange carried) {
  assembly.waitBarrier(ring.full(carried[0]), carried[1]);
  Value head = word(ring.address(carried[0]), Word::Head);
  SmallVector<Value> all{p.cmp(Predicate::ne, head, p.c(noTile))};
  llvm::append_range(all, carried.drop_back());
  all.push_back(head);
  return all;
}

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

SmallVector<Value> SeenKeys::lanesRows(Value lane, Value firstRow) {
  SmallVector<Value> rows;
  Value last = p.sub(p.rows(op.getQuery().getType()), 1);
  for (int64_t i = 0; i < shape.rows; i += warp)
    rows.push_back(p.min(p.add(p.add(firstRow, i), lane), last));
  return rows;
}

Value SeenKeys::sequenceOf(Value row) {
  return shape.facts.sequences == 1 ? p.c(0) : p.load(p.argument(op.getSequences()), row);
}

/// The greatest of all lanes' values.
static Value greatest(simt::PhaseBuilder &p, Value value) {
  return p.subgroupReduce(value, gpu::AllReduceOperation::MAXUI);
}

std::pair<Value, Value> SeenKeys::sequencesOf(Value lane, Value firstRow) {
  // What is to be least counts down from the greatest number.
  Value most = p.c(-1), up = p.c(0), down = p.c(0);
  for (Value row : lanesRows(lane, firstRow)) {
    Value sequence = sequenceOf(row);
    up = p.max(up, sequence);
    down = p.max(down, p.sub(most, sequence));
  }
  return {p.sub(most, greatest(p, down)), greatest(p, up)};
}

void SeenKeys::hand(const RingPlace &place, Value lane) {
  assembly.meetWarp();
  assembly.arriveIf(p.cmp(Predicate::eq, lane, p.c(0)), ring.full(place.stage));
}

// Rows are read again for each sequence, and what is wanted of all of them is put together row by
// row: the producer has few registers.
void SeenKeys::publish(const RingPlace &place, Value lane, const Of &of) {
  Value most = p.c(-1);
  SmallVector<std::pair<Value, Value>> rows;
  for (Value row : lanesRows(lane, of.firstRow)) {
    Value sequence = sequenceOf(row);
    auto [first, end] = keys.range(row, sequence);
    Value length = p.sub(p.max(end, first), first);
    if (shape.facts.sequences > 1)
      length = p.select(p.cmp(Predicate::eq, sequence, of.sequence), length, p.c(0));
    rows.emplace_back(first, length);
  }
  assembly.waitBarrier(ring.empty(place.stage), place.parity);
  Value record = ring.address(place.stage);
  // The greatest of all rows; what is to be least counts down.
  Value from = p.c(0), to = p.c(0), commonFrom = p.c(0), commonTo = p.c(0);
  for (auto [i, row] : llvm::enumerate(rows)) {
    const auto [first, length] = row;
    Value at = p.add(record, p.mul(p.add(lane, int64_t(i) * warp), 4));
    if (hasFirsts)
      assembly.storeWord(p.add(at, firstsAt()), first);
    assembly.storeWord(p.add(at, lengthsAt()), length);
    Value sees = p.cmp(Predicate::ne, length, p.c(0));
    auto ifSees = [&, sees](Value value) { return p.select(sees, value, p.c(0)); };
    Value end = ifSees(p.add(first, length));
    from = p.max(from, ifSees(p.sub(most, first)));
    to = p.max(to, end);
    commonFrom = p.max(commonFrom, ifSees(first));
    commonTo = p.max(commonTo, p.sub(most, end));
  }
  Value seenTo = greatest(p, to), begin = p.c(0), allFrom = p.c(0);
  if (hasFirsts) {
    begin = p.sub(most, greatest(p, from));
    begin = p.select(p.cmp(Predicate::ne, seenTo, p.c(0)), begin, p.c(0));
    allFrom = greatest(p, commonFrom);
  }
  Value allTo = p.sub(most, greatest(p, commonTo));
  Value start = p.sub(begin, p.rem(begin, shape.page ? shape.copiedKeys() : 1));
  auto blocksFrom = [&](Value end, int64_t added) {
    Value beyond = p.sub(p.max(end, start), start);
    return p.div(p.add(beyond, added), shape.keys);
  };
  Value blocks = p.max(blocksFrom(seenTo, shape.keys - 1), p.select(of.isFirst, p.c(1), p.c(0)));
  Value clear = p.min(blocks, blocksFrom(allTo, 0));
  Value partly = p.min(blocks, blocksFrom(allFrom, shape.keys - 1));

  auto number = [&](Value is) { return Value(p.b.create<arith::ExtUIOp>(p.loc, p.i32, is)); };
  const std::pair<Word, Value> words[] = {
      {Word::Head, of.head},
      {Word::FirstRow, of.firstRow},
      {Word::Sequences, of.sequences},
      {Word::Sequence, of.sequence},
      {Word::IsFirst, number(of.isFirst)},
      {Word::IsLast, number(of.isLast)},
      {Word::Blocks, blocks},
      {Word::Start, start},
      {Word::MaskedFirst, p.sub(blocks, clear)},
      {Word::ClearEnd, p.sub(blocks, partly)},
      {Word::From, begin},
      {Word::To, seenTo},
      {Word::IsApart, number(p.cmp(Predicate::ugt, allFrom, allTo))}};
  p.ifThen(p.cmp(Predicate::eq, lane, p.c(0)), [&] {
    for (auto [which, value] : words)
      assembly.storeWord(wordAddress(record, which), value);
  });
  hand(place, lane);
}

void SeenKeys::publishEnd(const RingPlace &place, Value lane) {
  assembly.waitBarrier(ring.empty(place.stage), place.parity);
  p.ifThen(p.cmp(Predicate::eq, lane, p.c(0)), [&] {
    assembly.storeWord(wordAddress(ring.address(place.stage), Word::Head), p.c(noTile));
  });
  hand(place, lane);
}
