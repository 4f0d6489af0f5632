#include "kernelforge/codegen/cpu/TableRows.h"

#include "kernelforge/codegen/cpu/Numbers.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;

namespace {

/// Bytes of a word, the unit in which quants are interleaved.
constexpr int64_t wordBytes = 4;

/// Where the parts of one block of one row lie, as byte offsets from a pointer to the block.
/// Row-major: as in the file. Interleaved: the pointer is to the group's block, and offsets are
/// those of the row's lane.
struct BlockPlaces {
  KernelBuilder &k;
  const ElementTypeInfo &type;
  Value lane; ///< i64; null: row-major

  int64_t stride() const { return type.blockBytes * (lane ? lanes : 1); }
  /// Of the part's first unit.
  Value begin(BlockPart part) const {
    return lane ? k.add(k.mul(lane, type.unitBytes(part)), lanes * type.bytesBefore(part))
                : k.c(type.offset(part));
  }
  /// From one word of a part to the next.
  int64_t wordStride() const { return wordBytes * (lane ? lanes : 1); }
};

/// (q - zero) * scale + minimum with one rounding per operation, as dequantizeRow does it. `quants`
/// is a vector of i32, `minimum` null where the type has none.
Value expand(KernelBuilder &k, const ElementTypeInfo &type, Value quants, Value scale,
             Value minimum) {
  if (type.zero != 0)
    quants = k.b.create<arith::SubIOp>(k.loc, quants, k.splatI(type.zero));
  Value value = k.mulf(k.b.create<arith::SIToFPOp>(k.loc, k.vf32, quants), scale);
  return minimum ? k.addf(value, minimum) : value;
}

/// Whether sixteen columns are sixteen bytes, or the low or the high nibbles of sixteen bytes, with
/// one scale.
bool isContiguous(const ElementTypeInfo &type) {
  return !type.hasSubScales() && !type.hasHighs() &&
         (type.quantBits == 8 || type.chunkElements == 2 * lanes);
}

/// Quants of the contiguous columns col .. col + 15 of a block, as a vector of i32.
Value contiguousQuants(KernelBuilder &k, const BlockPlaces &places, Value block, Value half) {
  const bool bytes = places.type.quantBits == 8;
  // Sixteen columns are the bytes of four words: of 8-bit quants those of the half, of 4-bit quants
  // the low or the high nibbles of all.
  const int64_t words = lanes / wordBytes;
  Value first = k.at(block, places.begin(BlockPart::Quants));
  if (bytes)
    first = k.at(first, k.mul(half, words * places.wordStride()));
  Value packed;
  if (places.lane) {
    packed = k.b.create<arith::ConstantOp>(k.loc, k.b.getZeroAttr(k.vec(k.i32, words)));
    for (int64_t w = 0; w < words; ++w)
      packed = k.b.create<vector::InsertOp>(
          k.loc, k.load(k.i32, k.at(first, w * places.wordStride()), wordBytes), packed,
          ArrayRef<int64_t>{w});
    packed = k.b.create<vector::BitCastOp>(k.loc, k.vec(k.i8), packed);
  } else {
    packed = k.load(k.vec(k.i8), first);
  }
  if (bytes)
    return k.b.create<arith::ExtSIOp>(k.loc, k.vi32, packed);
  Value pairs = k.b.create<arith::ExtUIOp>(k.loc, k.vi32, packed);
  Value shift = k.b.create<arith::TruncIOp>(k.loc, k.i32, k.mul(half, 4));
  Value nibbles = k.b.create<arith::ShRUIOp>(k.loc, pairs, k.broadcast(shift));
  return k.b.create<arith::AndIOp>(k.loc, nibbles, k.splatI(15));
}

Value loadContiguousQuantized(KernelBuilder &k, const BlockPlaces &places, Value base, Value col,
                              Value mask) {
  const ElementTypeInfo &type = places.type;
  Value block = k.at(base, k.mul(k.div(col, type.blockElements), places.stride()));
  Value half = k.rem(k.div(col, lanes), type.blockElements / lanes);
  auto number = [&](BlockPart part) {
    return k.broadcast(k.halfToF32(k.load(k.f16, k.at(block, places.begin(part)), 2)));
  };
  Value quants = contiguousQuants(k, places, block, half);
  Value x = expand(k, type, quants, number(BlockPart::Scale),
                   type.hasMin() ? number(BlockPart::Min) : Value());
  return mask ? k.select(mask, x, k.splat(0)) : x;
}

/// Reads elements of any columns of a row, each lane by itself.
class ColumnGatherer {
public:
  /// `columns` is a vector of i32, not negative.
  ColumnGatherer(KernelBuilder &k, const BlockPlaces &places, Value base, Value columns, Value mask)
      : k(k), places(places), type(places.type), base(base), mask(mask),
        block(times(over(columns, type.blockElements), places.stride())),
        element(modulo(columns, type.blockElements)) {}

  Value gather() {
    Value scale = half(BlockPart::Scale), minimum;
    if (type.hasMin())
      minimum = half(BlockPart::Min);
    if (type.subScales == SubScales::Signed8) {
      Value factor = byte(BlockPart::SubScales, over(element, type.subElements), /*isSigned=*/true);
      scale = k.mulf(scale, toFloat(factor));
    } else if (type.subScales == SubScales::Packed6) {
      scale = k.mulf(scale, toFloat(packed(/*isMin=*/false)));
      minimum = k.subf(k.splat(0), k.mulf(minimum, toFloat(packed(/*isMin=*/true))));
    }
    Value x = expand(k, type, quants(), scale, minimum);
    return mask ? k.select(mask, x, k.splat(0)) : x;
  }

private:
  // Arithmetic of vectors of i32, unsigned.
  template <typename Op> Value make(Value x, Value y) { return k.b.create<Op>(k.loc, x, y); }
  Value plus(Value x, Value y) { return make<arith::AddIOp>(x, y); }
  Value times(Value x, int64_t factor) { return make<arith::MulIOp>(x, k.splatI(factor)); }
  Value over(Value x, int64_t divisor) { return make<arith::DivUIOp>(x, k.splatI(divisor)); }
  Value modulo(Value x, int64_t divisor) { return make<arith::RemUIOp>(x, k.splatI(divisor)); }
  /// (x >> shift) & mask.
  Value field(Value x, Value shift, Value mask) {
    return make<arith::AndIOp>(make<arith::ShRUIOp>(x, shift), mask);
  }
  Value toFloat(Value x) { return k.b.create<arith::SIToFPOp>(k.loc, k.vf32, x); }

  Value half(BlockPart part) {
    Value begin = k.at(base, places.begin(part));
    return widened(k, ElementType::F16, k.gatherBytes(k.i16, begin, block, mask));
  }

  /// Bytes `index` (vector of i32) of a part of words, as i32.
  Value byte(BlockPart part, Value index, bool isSigned = false) {
    Value offset =
        plus(times(over(index, wordBytes), places.wordStride()), modulo(index, wordBytes));
    Value bytes = k.gatherBytes(k.i8, k.at(base, places.begin(part)), plus(block, offset), mask);
    return isSigned ? k.b.create<arith::ExtSIOp>(k.loc, k.vi32, bytes).getResult()
                    : k.b.create<arith::ExtUIOp>(k.loc, k.vi32, bytes).getResult();
  }

  /// The six bits of the elements' sub-blocks; see sixBits().
  Value packed(bool isMin) {
    const SixBits first = sixBits(0, isMin), later = sixBits(4, isMin);
    Value sub = over(element, type.subElements), within = modulo(sub, 4);
    Value isLater = k.cmp(arith::CmpIPredicate::uge, sub, k.splatI(4));
    auto pick = [&](int64_t ofFirst, int64_t ofLater) {
      return k.select(isLater, k.splatI(ofLater), k.splatI(ofFirst));
    };
    Value low = byte(BlockPart::SubScales, plus(within, pick(first.low, later.low)));
    Value high = byte(BlockPart::SubScales, plus(within, pick(first.high, later.high)));
    return make<arith::OrIOp>(
        field(low, pick(first.lowShift, later.lowShift), pick(first.lowMask, later.lowMask)),
        field(high, k.splatI(2), pick(first.highMask, later.highMask)));
  }

  Value quants() {
    if (type.quantBits == 8)
      return byte(BlockPart::Quants, element, /*isSigned=*/true);
    const int64_t pairs = type.chunkElements / 2;
    Value within = modulo(element, type.chunkElements);
    Value index = plus(times(over(element, type.chunkElements), pairs), modulo(within, pairs));
    Value q = field(byte(BlockPart::Quants, index), times(over(within, pairs), 4), k.splatI(15));
    if (!type.hasHighs())
      return q;
    const int64_t together = 8 / type.highBits() * type.highStep;
    Value high = byte(BlockPart::Highs, plus(times(over(element, together), type.highStep),
                                             modulo(element, type.highStep)));
    Value shift = times(over(modulo(element, together), type.highStep), type.highBits());
    high = field(high, shift, k.splatI((1 << type.highBits()) - 1));
    return make<arith::OrIOp>(q, times(high, 16));
  }

  KernelBuilder &k;
  const BlockPlaces &places;
  const ElementTypeInfo &type;
  Value base, mask;
  Value block;   ///< byte offset of each lane's block
  Value element; ///< of each lane within it
};

} // namespace

Value cpu::loadTableRow(KernelBuilder &k, Value table, RankedTensorType type, Value row, Value col,
                        Value columns, Value mask) {
  const ElementTypeInfo &element = info(*elementTypeOf(type));
  const int64_t width = type.getDimSize(1);
  const int64_t rowBytes = width / element.blockElements * element.blockBytes;
  const bool interleaved = static_cast<bool>(layoutOf(type));
  Value base = interleaved ? k.at(table, k.mul(k.div(row, lanes), lanes * rowBytes))
                           : k.at(table, k.mul(row, rowBytes));
  Value lane = interleaved ? k.rem(row, lanes) : Value();
  if (element.isQuantized()) {
    BlockPlaces places{k, element, lane};
    if (!columns && isContiguous(element))
      return loadContiguousQuantized(k, places, base, col, mask);
    if (!columns)
      columns = k.b.create<arith::AddIOp>(
          k.loc, k.broadcast(k.b.create<arith::TruncIOp>(k.loc, k.i32, col)), k.iota());
    return ColumnGatherer(k, places, base, columns, mask).gather();
  }
  const Numbers numbers(k, element.type, base);
  if (!interleaved)
    return columns ? numbers.gather(columns, mask) : numbers.from(col).load(mask);
  // Neighbours in a row lie sixteen elements apart.
  Value first = columns ? lane : k.add(k.mul(col, lanes), lane);
  Value offsets = k.b.create<arith::MulIOp>(k.loc, columns ? columns : k.iota(), k.splatI(lanes));
  return numbers.from(first).gather(offsets, mask);
}
