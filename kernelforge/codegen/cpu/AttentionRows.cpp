#include "kernelforge/codegen/cpu/AttentionRows.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;
using namespace kernelforge::cpu::attention;

constexpr int64_t cacheLine = 64;

/// Vectors that share a scale.
static int64_t vectorsPerBlock(const CacheSlot &slot) {
  return info(slot.type).blockElements / lanes;
}

HeadRows HeadRows::of(KernelBuilder &k, const CacheSlot &slot, Value cache, Value offset,
                      Value head) {
  HeadRows rows{slot, k.at(cache, k.add(offset, k.mul(head, slot.headBytes()))), {}};
  if (slot.isQuantized()) {
    const int64_t scales = slot.dim / info(slot.type).blockElements * CacheSlot::scaleBytes;
    rows.toScales = k.sub(k.c(slot.scalesBegin()), k.mul(head, slot.headBytes() - scales));
  }
  return rows;
}

BlockRows::BlockRows(KernelBuilder &k, const HeadRows &head, Value block, Value slots)
    : k(&k), slot(head.slot), rounds(head.rounds && slot.type != ElementType::BF16),
      base(slots ? head.base : k.at(head.base, k.mul(block, slot.bytes()))),
      toScales(head.toScales), block(block), sequence(head.base), slots(slots) {}

BlockRows BlockRows::fromColumn(Value from, int64_t vectors) const {
  BlockRows moved = *this;
  Value offset = k->mul(from, slot.elementBytes());
  moved.base = k->at(base, offset);
  moved.sequence = k->at(sequence, offset);
  if (!toScales)
    return moved;
  // Where the number of vectors is odd, the first may be the second half of a block.
  if (vectors % vectorsPerBlock(slot) != 0)
    moved.column = from;
  moved.toScales = k->sub(toScales, from);
  if (!moved.column)
    moved.toScales = k->add(
        moved.toScales, k->mul(k->div(from, info(slot.type).blockElements), CacheSlot::scaleBytes));
  return moved;
}

Value BlockRows::scaleOffset(int64_t v) const {
  if (!column)
    return k->add(toScales, v / vectorsPerBlock(slot) * CacheSlot::scaleBytes);
  Value number = k->div(k->add(column, v * lanes), info(slot.type).blockElements);
  return k->add(toScales, k->mul(number, CacheSlot::scaleBytes));
}

Value BlockRows::row(Value key) const {
  if (slots)
    return row(run(key), 0);
  return k->at(sequence, k->mul(k->add(block, key), slot.bytes()));
}

Value BlockRows::run(Value key) const {
  return slots ? k->at(slots, k->mul(key, 4)) : k->at(base, k->mul(key, slot.bytes()));
}

Value BlockRows::row(Value run, int64_t i) const {
  if (!slots)
    return k->at(run, i * slot.bytes());
  Value number = k->widen(k->load(k->i32, k->at(run, i * 4), 4));
  return k->at(base, k->mul(number, slot.bytes()));
}

void BlockRows::prefetch(Value run, int64_t i, int64_t vectors) const {
  Value ahead = row(run, i);
  for (int64_t offset = 0; offset < vectors * lanes * slot.elementBytes(); offset += cacheLine)
    k->prefetch(k->at(ahead, offset));
}

Value BlockRows::loadAt(Value row, Value at, Value mask) const {
  return Reader(fromColumn(at, 1), k->at(row, k->mul(at, slot.elementBytes()))).load(0, mask);
}

Value BlockRows::loadBfloat16At(Value row, Value at, Value mask) const {
  Reader reader(fromColumn(at, 1), k->at(row, k->mul(at, slot.elementBytes())));
  return reader.loadBfloat16(0, mask);
}

Value BlockRows::Reader::loadBfloat16(int64_t v, Value mask) {
  KernelBuilder &k = *rows.k;
  if (rows.slot.type == ElementType::BF16)
    return k.loadVec(k.i16, k.at(row, v * lanes * rows.slot.elementBytes()), mask);
  return bfloat16Bits(k, load(v, mask));
}

Value BlockRows::Reader::load(int64_t first, int64_t count, Value mask) {
  KernelBuilder &k = *rows.k;
  auto rounded = [&](Value x) { return rows.rounds ? roundTo(k, ElementType::BF16, x) : x; };
  if (!rows.toScales) {
    const Numbers numbers = Numbers(k, rows.slot.type, row).from(first);
    return rounded(count == lanes ? numbers.load(mask) : numbers.loadFirst(count));
  }
  // Exact: an 8-bit quant times an f16.
  const int64_t v = first / lanes, of = rows.column ? v : v / vectorsPerBlock(rows.slot);
  if (of != scaleOf) {
    Value bits = k.load(k.f16, k.at(row, rows.scaleOffset(v)), CacheSlot::scaleBytes);
    scale = k.halfToF32(bits);
    scaleOf = of;
  }
  Value quants = k.b.create<arith::ExtSIOp>(k.loc, k.vec(k.i32, count),
                                            k.load(k.vec(k.i8, count), k.at(row, first)));
  return rounded(k.mulf(k.b.create<arith::SIToFPOp>(k.loc, k.vec(k.f32, count), quants),
                        k.b.create<vector::BroadcastOp>(k.loc, k.vec(k.f32, count), scale)));
}

void attention::emitSlots(KernelBuilder &k, Value pages, int64_t page, Value block, Value count,
                          Value first, Value end, Value slots) {
  OpBuilder &b = k.b;
  const int64_t shift = llvm::Log2_64(static_cast<uint64_t>(page));
  auto splat = [&](Value x) { return k.broadcast(b.create<arith::TruncIOp>(k.loc, k.i32, x)); };
  Value low = splat(first), last = splat(k.sub(end, k.c(1)));
  k.loop(k.c(0), count, lanes, [&](Value key) {
    Value positions = b.create<arith::AddIOp>(k.loc, k.iota(), splat(k.add(block, key)));
    positions = b.create<arith::MinSIOp>(k.loc, positions, last);
    positions = b.create<arith::MaxSIOp>(k.loc, positions, low);
    Value numbers = b.create<arith::ShRUIOp>(k.loc, positions, k.splatI(shift));
    Value offsets = b.create<arith::ShLIOp>(k.loc, numbers, k.splatI(2));
    Value starts =
        b.create<arith::ShLIOp>(k.loc, k.gatherBytes(k.i32, pages, offsets), k.splatI(shift));
    Value inPage = b.create<arith::AndIOp>(k.loc, positions, k.splatI(page - 1));
    k.store(b.create<arith::OrIOp>(k.loc, starts, inPage), k.at(slots, k.mul(key, 4)), 4);
  });
}
