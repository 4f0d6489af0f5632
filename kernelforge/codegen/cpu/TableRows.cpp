#include "kernelforge/codegen/cpu/TableRows.h"

#include "kernelforge/codegen/cpu/Numbers.h"
#include "kernelforge/codegen/cpu/QuantValues.h"

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
  /// From one unit of a part to the next.
  int64_t unitStride(BlockPart part) const { return type.unitBytes(part) * (lane ? lanes : 1); }
};

/// value(q) * scale + minimum with one rounding per operation, as dequantizeRow does it. `quants`
/// is a vector of i32, `minimum` null where the type has none.
Value expand(KernelBuilder &k, const ElementTypeInfo &type, Value quants, Value scale,
             Value minimum) {
  Value q;
  if (type.isE4M3)
    q = e4m3ToFloat(k, quants, 0);
  else if (type.values)
    q = signedByteToFloat(k, valuesOfBytes(k, *type.values, quants), 0);
  else if (type.zero != 0)
    quants = k.b.create<arith::SubIOp>(k.loc, quants, k.splatI(type.zero));
  if (!q)
    q = k.b.create<arith::SIToFPOp>(k.loc, k.vf32, quants);
  Value value = k.mulf(q, scale);
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
    first = k.at(first, k.mul(half, words * places.unitStride(BlockPart::Quants)));
  Value packed;
  if (places.lane) {
    packed = k.b.create<arith::ConstantOp>(k.loc, k.b.getZeroAttr(k.vec(k.i32, words)));
    for (int64_t w = 0; w < words; ++w)
      packed = k.b.create<vector::InsertOp>(
          k.loc, k.load(k.i32, k.at(first, w * places.unitStride(BlockPart::Quants)), wordBytes),
          packed, ArrayRef<int64_t>{w});
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
  Value scale = loadScale(k, type, k.at(block, places.begin(BlockPart::Scale)), /*isVector=*/false);
  Value minimum;
  if (type.hasMin())
    minimum = k.broadcast(k.halfToF32(k.load(k.f16, k.at(block, places.begin(BlockPart::Min)), 2)));
  Value quants = contiguousQuants(k, places, block, half);
  Value x = expand(k, type, quants, k.broadcast(scale), minimum);
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
    Value scale = scaleOfBits(k, type, unit(BlockPart::Scale, scaleBits(k, type))), minimum;
    if (type.hasMin())
      minimum = widened(k, ElementType::F16, unit(BlockPart::Min, k.i16));
    if (type.hasSubScales()) {
      scale = k.mulf(scale, toFloat(subScale(/*isMin=*/false)));
      if (minimum)
        minimum = k.subf(k.splat(0), k.mulf(minimum, toFloat(subScale(/*isMin=*/true))));
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

  /// The only unit of a part.
  Value unit(BlockPart part, Type bits) {
    return k.gatherBytes(bits, k.at(base, places.begin(part)), block, mask);
  }

  /// Bytes `index` (vector of i32) of a part, as i32.
  Value byte(BlockPart part, Value index, bool isSigned = false) {
    const int64_t unit = type.unitBytes(part);
    Value offset = plus(times(over(index, unit), places.unitStride(part)), modulo(index, unit));
    Value bytes = k.gatherBytes(k.i8, k.at(base, places.begin(part)), plus(block, offset), mask);
    return isSigned ? k.b.create<arith::ExtSIOp>(k.loc, k.vi32, bytes).getResult()
                    : k.b.create<arith::ExtUIOp>(k.loc, k.vi32, bytes).getResult();
  }

  /// The factor of the elements' sub-blocks.
  Value subScale(bool isMin) {
    Value sub = over(element, type.subElements);
    if (type.subScales == SubScales::Signed8)
      return byte(BlockPart::SubScales, sub, /*isSigned=*/true);
    auto place = [&](int64_t SubScalePlace::*member) {
      return sumOfBits(
          k,
          BitSum::of(type.blockElements / type.subElements,
                     [&](int64_t i) { return subScalePlace(type.subScales, i, isMin).*member; }),
          sub);
    };
    Value low = field(byte(BlockPart::SubScales, place(&SubScalePlace::low)),
                      place(&SubScalePlace::lowShift), place(&SubScalePlace::lowMask));
    Value high = field(byte(BlockPart::SubScales, place(&SubScalePlace::high)),
                       place(&SubScalePlace::highShift), place(&SubScalePlace::highMask));
    Value both = make<arith::OrIOp>(low, times(high, 16));
    return make<arith::SubIOp>(both, k.splatI(subScaleExcess(type.subScales)));
  }

  Value quants() {
    if (type.quantBits == 8)
      return byte(BlockPart::Quants, element, /*isSigned=*/true);
    const int64_t apart = type.fieldElements(), low = type.lowBits();
    Value within = modulo(element, type.chunkElements);
    Value index = plus(times(over(element, type.chunkElements), apart), modulo(within, apart));
    Value q = field(byte(BlockPart::Quants, index), times(over(within, apart), low),
                    k.splatI((1 << low) - 1));
    if (!type.hasHighs())
      return q;
    const int64_t together = type.highElements();
    Value high = byte(BlockPart::Highs, plus(times(over(element, together), type.highStep),
                                             modulo(element, type.highStep)));
    Value shift = times(over(modulo(element, together), type.highStep), type.highBits());
    high = field(high, shift, k.splatI((1 << type.highBits()) - 1));
    return make<arith::OrIOp>(q, times(high, 1 << low));
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
  // Neighbours in a row lie sixteen elements apart, or sixteen pairs.
  const int64_t run = interleavedRun(element.type, width);
  Value first = k.mul(lane, run);
  if (!columns)
    first = k.add(k.mul(col, lanes), first);
  Value offsets = columns ? columns : k.iota();
  if (run == 2) {
    Value odd = k.b.create<arith::AndIOp>(k.loc, offsets, k.splatI(1));
    Value pairs = k.b.create<arith::SubIOp>(k.loc, offsets, odd);
    offsets = k.b.create<arith::AddIOp>(
        k.loc, k.b.create<arith::MulIOp>(k.loc, pairs, k.splatI(lanes)).getResult(), odd);
  } else {
    offsets = k.b.create<arith::MulIOp>(k.loc, offsets, k.splatI(lanes));
  }
  return numbers.from(first).gather(offsets, mask);
}
