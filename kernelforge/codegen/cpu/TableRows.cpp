#include "kernelforge/codegen/cpu/TableRows.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;

namespace {

/// Bytes of an f16, the type of all scales and minima.
constexpr int64_t halfBytes = 2;
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
  Value scale() const { return lane ? k.mul(lane, halfBytes) : k.c(type.scaleOffset); }
  Value minimum() const {
    return lane ? k.add(k.mul(lane, halfBytes), lanes * halfBytes) : k.c(type.minOffset);
  }
  /// Of the quants' first word.
  Value quants() const {
    const int64_t halves = type.hasMin() ? 2 : 1;
    return lane ? k.add(k.mul(lane, wordBytes), halves * lanes * halfBytes)
                : k.c(type.quantsOffset);
  }
  /// From one word of quants to the next.
  int64_t wordStride() const { return wordBytes * (lane ? lanes : 1); }
};

/// Bits of f16 or bf16 (vector of i16) as f32.
Value fromBits(KernelBuilder &k, ElementType type, Value bits) {
  if (type == ElementType::BF16)
    return k.bfloat16ToF32(bits);
  return k.halfToF32(k.b.create<arith::BitcastOp>(k.loc, k.vec(k.f16), bits));
}

/// (q - zero) * d + m with one rounding per operation, as dequantizeRow does it. `quants` is a
/// vector of i32, `m` null where the type has none.
Value expand(KernelBuilder &k, const ElementTypeInfo &type, Value quants, Value d, Value m) {
  if (type.zero != 0)
    quants = k.b.create<arith::SubIOp>(k.loc, quants, k.splatI(type.zero));
  Value value = k.mulf(k.b.create<arith::SIToFPOp>(k.loc, k.vf32, quants), d);
  return m ? k.addf(value, m) : value;
}

/// Quants of the contiguous columns col .. col + 15 of a block, as a vector of i32.
Value contiguousQuants(KernelBuilder &k, const BlockPlaces &places, Value block, Value half) {
  const bool bytes = places.type.quantBits == 8;
  // Sixteen columns are the bytes of four words: of 8-bit quants those of the half, of 4-bit quants
  // the low or the high nibbles of all.
  const int64_t words = lanes / wordBytes;
  Value first = k.at(block, places.quants());
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
  auto number = [&](Value offset) {
    return k.broadcast(k.halfToF32(k.load(k.f16, k.at(block, offset), halfBytes)));
  };
  Value quants = contiguousQuants(k, places, block, half);
  Value x = expand(k, type, quants, number(places.scale()),
                   type.hasMin() ? number(places.minimum()) : Value());
  return mask ? k.select(mask, x, k.splat(0)) : x;
}

Value gatherQuantized(KernelBuilder &k, const BlockPlaces &places, Value base, Value columns,
                      Value mask) {
  const ElementTypeInfo &type = places.type;
  OpBuilder &b = k.b;
  auto times = [&](Value x, int64_t factor) -> Value {
    return b.create<arith::MulIOp>(k.loc, x, k.splatI(factor));
  };
  auto plus = [&](Value x, Value y) -> Value { return b.create<arith::AddIOp>(k.loc, x, y); };
  auto over = [&](Value x, int64_t divisor) -> Value {
    return b.create<arith::DivUIOp>(k.loc, x, k.splatI(divisor));
  };
  auto modulo = [&](Value x, int64_t divisor) -> Value {
    return b.create<arith::RemUIOp>(k.loc, x, k.splatI(divisor));
  };
  Value block = times(over(columns, type.blockElements), places.stride());
  auto number = [&](Value offset) {
    return fromBits(k, ElementType::F16, k.gatherBytes(k.i16, k.at(base, offset), block, mask));
  };
  Value within = modulo(columns, type.blockElements);
  Value byte = type.quantBits == 8 ? within : modulo(within, type.blockElements / 2);
  Value offset = plus(times(over(byte, wordBytes), places.wordStride()), modulo(byte, wordBytes));
  Value quants = k.gatherBytes(k.i8, k.at(base, places.quants()), plus(block, offset), mask);
  if (type.quantBits == 8) {
    quants = b.create<arith::ExtSIOp>(k.loc, k.vi32, quants);
  } else {
    quants = b.create<arith::ExtUIOp>(k.loc, k.vi32, quants);
    Value shift = times(over(within, type.blockElements / 2), 4);
    quants = b.create<arith::AndIOp>(
        k.loc, b.create<arith::ShRUIOp>(k.loc, quants, shift).getResult(), k.splatI(15));
  }
  Value x = expand(k, type, quants, number(places.scale()),
                   type.hasMin() ? number(places.minimum()) : Value());
  return mask ? k.select(mask, x, k.splat(0)) : x;
}

} // namespace

Value cpu::loadNumbers(KernelBuilder &k, ElementType type, Value pointer, Value first,
                       Value offsets, Value mask) {
  const int64_t bytes = info(type).blockBytes;
  Value begin = first ? k.at(pointer, k.mul(first, bytes)) : pointer;
  if (type == ElementType::F32)
    return offsets ? k.gather(begin, offsets, mask) : k.loadVec(begin, mask);
  if (!offsets)
    return fromBits(k, type, k.loadVec(k.i16, begin, mask));
  Value byteOffsets = k.b.create<arith::MulIOp>(k.loc, offsets, k.splatI(bytes));
  return fromBits(k, type, k.gatherBytes(k.i16, begin, byteOffsets, mask));
}

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
    return columns ? gatherQuantized(k, places, base, columns, mask)
                   : loadContiguousQuantized(k, places, base, col, mask);
  }
  if (!interleaved)
    return columns ? loadNumbers(k, element.type, base, {}, columns, mask)
                   : loadNumbers(k, element.type, base, col, {}, mask);
  // Neighbours in a row lie sixteen elements apart.
  Value first = columns ? lane : k.add(k.mul(col, lanes), lane);
  Value offsets = k.b.create<arith::MulIOp>(k.loc, columns ? columns : k.iota(), k.splatI(lanes));
  return loadNumbers(k, element.type, base, first, offsets, mask);
}
