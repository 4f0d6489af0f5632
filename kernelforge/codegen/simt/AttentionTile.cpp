#include "kernelforge/codegen/simt/AttentionTile.h"

#include "kernelforge/codegen/simt/Reduce.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;

using Predicate = arith::CmpIPredicate;

/// Numbers that all threads take from one place: two of sequences, four of keys.
static constexpr int64_t sharedNumbers = 6;

/// Threads of a subgroup that combine numbers of a tile's rows, as of reduceBlock(). In a loop over
/// sequences one driver combines those of a subgroup's first thread alone: the others' come through
/// workgroup memory there.
static int64_t combining(int64_t sequences, int64_t subgroup) {
  return sequences == 1 ? subgroup : 0;
}

TileStart simt::startOfTile(PhaseBuilder &p, transformer::AttentionOp op,
                            const AttentionFacts &facts, int64_t tileRows) {
  TileStart start;
  start.head = p.named(p.rem(p.block(), facts.heads), "head");
  start.cacheHead = p.named(p.div(start.head, facts.group()), "cache_head");
  Value number = p.div(p.block(), facts.heads);
  if (op.getCausal()) {
    Value tiles = p.div(p.add(p.rows(op.getQuery().getType()), tileRows - 1), tileRows);
    number = p.sub(p.sub(tiles, 1), number);
  }
  start.firstRow = p.named(p.mul(p.named(number, "tile"), tileRows), "first_row");
  return start;
}

AttentionTile::AttentionTile(PhaseBuilder &p, transformer::AttentionOp op, int64_t sequences,
                             int64_t subgroup, Value firstRow, int64_t tileRows)
    : p(p), op(op), seen(p, op), sequences(sequences), subgroup(combining(sequences, subgroup)),
      firstRow(firstRow), tileRows(tileRows) {}

int64_t AttentionTile::sharedBytes(int64_t sequences, int64_t rows, int64_t blockThreads,
                                   int64_t subgroup) {
  subgroup = combining(sequences, subgroup);
  return sharedNumbers * 4 + reduceBytes(2, blockThreads, subgroup) +
         reduceBytes(4, blockThreads, subgroup) + 2 * rows * 4;
}

TileRow AttentionTile::row(Value index) {
  TileRow made;
  made.index = index;
  Value count = p.rows(op.getQuery().getType());
  Value row = p.named(p.add(firstRow, index), "tile_row");
  made.isThere = p.named(p.lessThan(row, count), "is_row");
  made.row = p.named(p.min(row, p.sub(count, 1)), "row");
  made.sequence = sequences == 1
                      ? p.c(0)
                      : p.named(p.load(p.argument(op.getSequences()), made.row), "row_sequence");
  auto [from, to] = seen.range(made.row, made.sequence);
  made.first = p.named(from, "row_first");
  made.length = p.named(p.sub(p.max(to, made.first), made.first), "row_length");
  return made;
}

TileKeys AttentionTile::keysOf(ArrayRef<TileRow> own, Value sequence, Value isMixed) {
  TileKeys keys;
  keys.sequence = sequence;
  keys.isMixed = isMixed;
  // What is to be least counts down from the largest number.
  Value most = p.c(-1), from = p.c(0), to = p.c(0), commonFrom = p.c(0), commonTo = p.c(0);
  for (const TileRow &row : own) {
    Value length = row.length;
    if (isMixed) {
      Value isOf = p.cmp(Predicate::eq, row.sequence, sequence);
      length = p.named(p.select(isOf, length, p.c(0)), "length");
    }
    keys.lengths.push_back(length);
    Value isAny = p.named(p.cmp(Predicate::ne, length, p.c(0)), "sees_any");
    Value end = p.add(row.first, length);
    auto largest = [&](Value all, Value one) { return p.max(all, p.select(isAny, one, p.c(0))); };
    from = largest(from, p.sub(most, row.first));
    to = largest(to, end);
    commonFrom = largest(commonFrom, row.first);
    commonTo = largest(commonTo, p.sub(most, end));
  }
  SmallVector<Value> found =
      reduceBlock(p, {from, to, commonFrom, commonTo}, Combine::Max, subgroup, "key_parts");
  found[0] = p.sub(most, found[0]);
  found[3] = p.sub(most, found[3]);
  found = madeUniform(p, found, "range_of_keys");
  keys.from = found[0];
  keys.to = found[1];
  keys.commonFrom = found[2];
  keys.commonTo = found[3];
  keys.firstSlot = seen.firstSlot(sequence);
  if (keys.firstSlot)
    p.named(keys.firstSlot, "first_slot");
  if (op.getWindow() != 0) { // for isSeen()
    Value firsts = p.shared("row_firsts", p.i32, tileRows);
    Value lengths = p.shared("row_lengths", p.i32, tileRows);
    for (auto [row, length] : llvm::zip(own, keys.lengths)) {
      p.store(row.first, firsts, row.index);
      p.store(length, lengths, row.index);
    }
    p.barrier();
  }
  return keys;
}

SmallVector<Value> AttentionTile::overSequences(ArrayRef<TileRow> own, StringRef carriedNames,
                                                ValueRange init, Body body) {
  if (sequences == 1)
    return body(keysOf(own, p.c(0), {}), init);
  Value least = p.c(0), largest = p.c(0), most = p.c(-1);
  for (const TileRow &row : own) {
    least = p.max(least, p.sub(most, row.sequence));
    largest = p.max(largest, row.sequence);
  }
  SmallVector<Value> found =
      reduceBlock(p, {least, largest}, Combine::Max, subgroup, "sequence_parts");
  found = madeUniform(p, {p.sub(most, found[0]), found[1]}, "range_of_sequences");
  Value isMixed = p.named(p.cmp(Predicate::ne, found[0], found[1]), "is_mixed");
  return p.loop("sequence", found[0], p.add(found[1], 1), 1, carriedNames, init,
                [&](Value sequence, ValueRange carried) {
                  SmallVector<Value> next = body(keysOf(own, sequence, isMixed), carried);
                  p.barrier(); // before the next sequence's numbers
                  return next;
                });
}

Value AttentionTile::slot(const TileKeys &keys, Value key) {
  Value last = p.sub(p.max(keys.to, p.c(1)), 1);
  return p.named(seen.slot(keys.sequence, p.min(key, last), keys.firstSlot), "slot");
}

Value AttentionTile::isPartial(const TileKeys &keys, Value base, int64_t count) {
  Value isOutside =
      p.b.create<arith::OrIOp>(p.loc, p.lessThan(base, keys.commonFrom),
                               p.cmp(Predicate::ugt, p.add(base, count), keys.commonTo));
  if (keys.isMixed)
    isOutside = p.b.create<arith::OrIOp>(p.loc, isOutside, keys.isMixed);
  return p.named(isOutside, "is_partial");
}

Value AttentionTile::isSeen(const TileKeys &keys, Value key) {
  if (op.getWindow() == 0) // each row sees all keys before its end
    return {};
  // Where all rows have a key in common, they see all that lie between the first and the last one.
  Value isApart = p.cmp(Predicate::ugt, keys.commonFrom, keys.commonTo);
  Value count = p.ifElse(
      "seen_by", isApart,
      [&] {
        Value firsts = p.shared("row_firsts", p.i32, tileRows);
        Value lengths = p.shared("row_lengths", p.i32, tileRows);
        return p.loop("index", p.c(0), p.c(tileRows), 1, "seen", p.c(0),
                      [&](Value index, ValueRange carried) -> SmallVector<Value> {
                        Value place = p.sub(key, p.load(firsts, index));
                        Value sees = p.lessThan(place, p.load(lengths, index));
                        return {p.orBits(carried[0], p.select(sees, p.c(1), p.c(0)))};
                      })[0];
      },
      [&] { return p.c(1); }, p.i32);
  return p.named(p.cmp(Predicate::ne, count, p.c(0)), "is_seen");
}
