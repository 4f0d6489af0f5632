#include "kernelforge/codegen/cpu/Weights.h"

#include <numeric>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;

/// Plain numbers are read this many at a time, so that loops are unrolled.
static constexpr int64_t plainBlock = 8;

WeightReader::WeightReader(KernelBuilder &b, Value pointer, RankedTensorType type, bool transposed)
    : b(b), pointer(pointer), element(info(*elementTypeOf(type))), transposed(transposed),
      outputs(type.getDimSize(transposed ? 1 : 0)), depth(type.getDimSize(transposed ? 0 : 1)),
      block(blockK(element)) {
  if (element.quantBits == 4 && b.target.has("avx512f")) {
    // vpermps looks up sixteen floats by the low four bits of each lane: no mask, no conversion,
    // and the scheme's zero is already subtracted.
    SmallVector<float> values;
    for (int q = 0; q < 16; ++q)
      values.push_back(static_cast<float>(q - element.zero));
    table = b.b.create<arith::ConstantOp>(b.loc,
                                          DenseElementsAttr::get(b.vf32, ArrayRef<float>(values)));
  }
  if (element.hasHighs() && b.target.has("avx512f"))
    for (int64_t i = 0; i < 2; ++i) {
      const int64_t shift = 16 * i, power = 23 - shift;
      const int64_t mask = ((int64_t(1) << element.quantBits) - 1) << shift;
      const auto excess = static_cast<double>((int64_t(1) << power) + element.zero);
      mantissa[i] = {b.inRegister(b.splatI(mask)), b.inRegister(b.splatI((127 + power) << 23)),
                     b.inRegister(b.splat(excess))};
    }
}

int64_t WeightReader::blockK(const ElementTypeInfo &type) {
  return type.isQuantized() ? type.chunkElements : plainBlock;
}

int64_t WeightReader::sumElements() const { return element.hasMin() ? element.subElements : 0; }

int64_t WeightReader::chains(const ElementTypeInfo &type) {
  // Two hide the latency of fma. A word of high bits serves that many sub-blocks in turn.
  return type.hasSubScales() && type.hasHighs() ? 8 / type.highBits() : 2;
}

bool WeightReader::isPanel() const { return element.type == ElementType::F32 && !transposed; }

Value WeightReader::groupPointer(Value g) {
  int64_t bytes = transposed ? lanes * element.blockBytes
                             : depth / element.blockElements * element.blockBytes * lanes;
  return b.at(pointer, b.mul(g, bytes));
}

Value WeightReader::piecePointer(Value g, Value k0) {
  return b.at(groupPointer(g), b.mul(b.div(k0, block), blockStep()));
}

int64_t WeightReader::blockStep() const {
  if (element.isQuantized())
    return lanes * element.blockBytes / chunks();
  return block * (transposed ? outputs : lanes) * element.blockBytes;
}

Value WeightReader::blockPointer(Value g, Value index) {
  return b.at(groupPointer(g), b.mul(b.div(index, chunks()), blockStep() * chunks()));
}

Value WeightReader::partPointer(BlockPart part, Value g, Value index) {
  Value begin = b.at(blockPointer(g, index), lanes * element.bytesBefore(part));
  const bool isShared = part == BlockPart::Scale || part == BlockPart::Min ||
                        (part == BlockPart::SubScales && element.subScales == SubScales::Packed6);
  if (isShared)
    return begin;
  return b.at(begin, b.mul(b.rem(index, chunks()), lanes * element.bytes(part) / chunks()));
}

Value WeightReader::half(BlockPart part, Value g, Value index) {
  return b.halfToF32(b.load(b.vec(b.f16), partPointer(part, g, index), 2));
}

Value WeightReader::subScale(Value g, Value index, int64_t sub, bool isMin) {
  constexpr int64_t wordBytes = 4;
  Value part = partPointer(BlockPart::SubScales, g, index);
  if (element.subScales == SubScales::Signed8)
    return byteToFloat(b.load(b.vi32, b.at(part, sub / wordBytes * lanes * wordBytes), wordBytes),
                       sub % wordBytes);
  // Which bytes and bits depends on the block's number, the same in all lanes.
  const SixBits first = sixBits(sub, isMin), later = sixBits(sub + 4, isMin);
  Value number = b.rem(index, chunks());
  Value isLater = b.cmp(arith::CmpIPredicate::uge, number, b.c(chunks() / 2));
  auto pick = [&](int64_t ofFirst, int64_t ofLater) {
    return ofFirst == ofLater ? b.c(ofFirst) : b.select(isLater, b.c(ofLater), b.c(ofFirst));
  };
  auto splat = [&](Value x) {
    return b.broadcast(b.b.create<arith::TruncIOp>(b.loc, b.i32, x).getResult());
  };
  Value byteShift = b.add(b.mul(b.rem(number, chunks() / 2), 8 * subBlocks()), 8 * sub);
  auto field = [&](Value word, Value shift, Value mask) -> Value {
    Value words = b.load(b.vi32, b.at(part, b.mul(word, lanes * wordBytes)), wordBytes);
    Value shifted = b.b.create<arith::ShRUIOp>(b.loc, words, splat(b.add(byteShift, shift)));
    return b.b.create<arith::AndIOp>(b.loc, shifted, splat(mask));
  };
  Value low = field(pick(first.low / wordBytes, later.low / wordBytes),
                    pick(first.lowShift, later.lowShift), pick(first.lowMask, later.lowMask));
  Value high = field(b.c(first.high / wordBytes), b.c(2), pick(first.highMask, later.highMask));
  return b.b.create<arith::SIToFPOp>(b.loc, b.vf32,
                                     b.b.create<arith::OrIOp>(b.loc, low, high).getResult());
}

/// The outputs of a group that are there, where a row of a transposed weight ends within it: its
/// neighbours are not to be read.
static Value outputsOf(KernelBuilder &b, Value g, int64_t outputs, bool transposed) {
  return transposed && outputs % lanes != 0 ? b.firstLanes(b.sub(b.c(outputs), b.mul(g, lanes)))
                                            : Value();
}

Value WeightReader::loadBits(Value address, Value g) {
  Type type = element.type == ElementType::F16 ? b.f16 : b.i16;
  Value mask = outputsOf(b, g, outputs, transposed);
  if (!mask)
    return b.load(b.vec(type), address, 2);
  Value zero = b.b.create<arith::ConstantOp>(b.loc, b.b.getZeroAttr(b.vec(type)));
  return b.b.create<LLVM::MaskedLoadOp>(b.loc, b.vec(type), address, mask, ValueRange{zero},
                                        b.b.getI32IntegerAttr(2));
}

Value WeightReader::loadDense(Value address, Value g) {
  if (element.type == ElementType::F32)
    return b.loadVec(address, outputsOf(b, g, outputs, transposed));
  Value bits = loadBits(address, g);
  return element.type == ElementType::F16 ? b.halfToF32(bits) : b.bfloat16ToF32(bits);
}

Value WeightReader::loadBfloat16Pair(Value g, Value index, int64_t i, bool hasSecond) {
  const int64_t step = (transposed ? outputs : lanes) * element.blockBytes;
  Value from = b.at(blockPointer(g, index), i * step);
  if (hasSecond && !transposed) // they follow each other
    return b.load(b.vec(b.i16, 2 * lanes), from, 2);
  Value first = loadBits(from, g);
  Value second = hasSecond ? loadBits(b.at(from, step), g)
                           : b.b.create<arith::ConstantOp>(b.loc, b.b.getZeroAttr(b.vec(b.i16)));
  SmallVector<int64_t> order(2 * lanes);
  std::iota(order.begin(), order.end(), 0);
  return b.shuffle(first, second, order);
}

Value WeightReader::nibbleToFloat(Value words, int64_t nibble) {
  Value shifted = nibble == 0
                      ? words
                      : b.b.create<arith::ShRUIOp>(b.loc, words, b.splatI(4 * nibble)).getResult();
  if (table)
    return b.intrinsic("llvm.x86.avx512.permvar.sf.512", b.vf32, {table, shifted});
  return lowBitsToFloat(shifted);
}

Value WeightReader::lowBitsToFloat(Value words) {
  Value q = b.b.create<arith::AndIOp>(b.loc, words, b.splatI((1 << element.quantBits) - 1));
  if (element.zero)
    q = b.b.create<arith::SubIOp>(b.loc, q, b.splatI(element.zero));
  return b.b.create<arith::SIToFPOp>(b.loc, b.vf32, q);
}

Value WeightReader::byteToFloat(Value words, int64_t byte) {
  Value top = byte == 3
                  ? words
                  : b.b.create<arith::ShLIOp>(b.loc, words, b.splatI(24 - 8 * byte)).getResult();
  Value q = b.b.create<arith::ShRSIOp>(b.loc, top, b.splatI(24));
  return b.b.create<arith::SIToFPOp>(b.loc, b.vf32, q);
}

Value WeightReader::unsignedByteToFloat(Value words, int64_t byte) {
  if (!mantissa[0].mask)
    return lowBitsToFloat(
        byte ? b.b.create<arith::ShRUIOp>(b.loc, words, b.splatI(8 * byte)).getResult() : words);
  // The quant becomes low bits of a float's mantissa, where it stands: with an exponent such that
  // the lowest of its bits counts 1, the float is a power of two plus the quant, and what is
  // subtracted leaves the quant less its zero, exactly.
  if (byte % 2 != 0)
    words = b.b.create<arith::ShRUIOp>(b.loc, words, b.splatI(8));
  const MantissaPlace &place = mantissa[byte / 2];
  Value quant = b.b.create<arith::AndIOp>(b.loc, words, place.mask);
  Value bits = b.b.create<arith::OrIOp>(b.loc, quant, place.exponent);
  return b.subf(b.b.create<arith::BitcastOp>(b.loc, b.vf32, bits), place.excess);
}

/// Bit e of each word goes where its index e = (e4 e3 e2 e1 e0) becomes (e1 e0 e2 e4 e3): to byte
/// e mod 4, so that the bits of four consecutive elements stand at the same place in four bytes.
static Value spreadBits(KernelBuilder &b, Value words) {
  auto exchange = [&](Value x, int64_t distance, int64_t mask) -> Value {
    Value moved = b.b.create<arith::ShRUIOp>(b.loc, x, b.splatI(distance));
    Value differs = b.b.create<arith::XOrIOp>(b.loc, x, moved);
    differs = b.b.create<arith::AndIOp>(b.loc, differs, b.splatI(mask));
    Value back = b.b.create<arith::ShLIOp>(b.loc, differs, b.splatI(distance));
    return b.b.create<arith::XOrIOp>(b.loc, x,
                                     b.b.create<arith::XOrIOp>(b.loc, differs, back).getResult());
  };
  words = exchange(words, 16 - 2, 0x0000cccc); // index bits 4 and 1
  return exchange(words, 8 - 1, 0x00aa00aa);   // index bits 3 and 0
}

Value WeightReader::joinHighs(Value words, Value highs, int64_t word, bool highNibbles) {
  constexpr int64_t everyByte = 0x01010101;
  const int64_t bits = element.highBits();
  const int64_t first = 4 * word + (highNibbles ? block / 2 : 0);
  const int64_t slot = element.highStep == 1
                           ? (first >> 2 & 1) * 4 + (first >> 4 & 1) * 2 + (first >> 3 & 1)
                           : first / element.highStep % (8 / bits);
  // The quant's bits in the bottom of each byte; what is above them is cut off later.
  auto up = [&](Value x, int64_t count) -> Value {
    if (count > 0)
      return b.b.create<arith::ShLIOp>(b.loc, x, b.splatI(count));
    return count < 0 ? b.b.create<arith::ShRUIOp>(b.loc, x, b.splatI(-count)).getResult() : x;
  };
  constexpr int64_t mask = 15 * everyByte;
  Value low = b.b.create<arith::AndIOp>(b.loc, up(words, highNibbles ? -4 : 0), b.splatI(mask));
  Value high = b.b.create<arith::AndIOp>(b.loc, up(highs, 4 - slot * bits), b.splatI(~mask));
  return b.b.create<arith::OrIOp>(b.loc, low, high);
}

void WeightReader::visitBytes(ArrayRef<Value> groups, Value index,
                              llvm::function_ref<void(int64_t, size_t, Value)> visit) {
  const int64_t numWords = block * element.lowBits() / 32;
  const auto mask = ((int64_t(1) << element.quantBits) - 1) * 0x01010101;
  auto masked = [&](Value words) -> Value {
    return element.quantBits == 8
               ? words
               : b.b.create<arith::AndIOp>(b.loc, words, b.splatI(mask)).getResult();
  };
  const int64_t highWords = element.hasHighs() ? block * element.highBits() / 32 : 1;
  for (int64_t h = 0; h < highWords; ++h) {
    SmallVector<Value> highs;
    if (element.hasHighs())
      highs = loadWords(groups, index, BlockPart::Highs, h);
    if (element.highStep == 1)
      for (Value &words : highs)
        words = spreadBits(b, words);
    for (int64_t w = h; w < numWords; w += highWords) {
      SmallVector<Value> words = loadWords(groups, index, BlockPart::Quants, w);
      for (int64_t nibble = 0; nibble < (element.lowBits() == 4 ? 2 : 1); ++nibble)
        for (size_t g = 0; g < groups.size(); ++g) {
          Value quants = words[g];
          if (element.hasHighs())
            quants = joinHighs(words[g], highs[g], w, nibble != 0);
          else if (nibble != 0)
            quants = b.b.create<arith::ShRUIOp>(b.loc, words[g], b.splatI(4));
          visit(4 * w + nibble * block / 2, g, masked(quants));
        }
    }
  }
}

SmallVector<Value> WeightReader::loadWords(ArrayRef<Value> groups, Value index, BlockPart part,
                                           int64_t word) {
  SmallVector<Value> words;
  for (Value g : groups)
    words.push_back(b.load(b.vi32, b.at(partPointer(part, g, index), word * lanes * 4), 4));
  return words;
}

void WeightReader::visitQuants(ArrayRef<Value> groups, Value index, int64_t count,
                               llvm::function_ref<void(int64_t, size_t, Value)> visit,
                               llvm::function_ref<void()> between) {
  const size_t numGroups = groups.size();
  if (!element.isQuantized()) {
    SmallVector<Value> bases;
    for (Value g : groups)
      bases.push_back(blockPointer(g, index));
    int64_t step = (transposed ? outputs : lanes) * element.blockBytes;
    for (int64_t i = 0; i < count; ++i)
      for (size_t g = 0; g < numGroups; ++g)
        visit(i, g, loadDense(b.at(bases[g], i * step), groups[g]));
    return;
  }
  const int64_t numWords = block * element.lowBits() / 32;
  if (!element.hasHighs()) {
    const int64_t perWord = 32 / element.quantBits;
    for (int64_t w = 0; w < numWords; ++w) {
      SmallVector<Value> words = loadWords(groups, index, BlockPart::Quants, w);
      for (int64_t i = 0; i < perWord; ++i) {
        // Of 4-bit quants, byte j of a chunk holds element j in its low nibble and element j + half
        // a chunk in its high one.
        int64_t place = element.quantBits == 4 ? 4 * w + i / 2 + (i % 2) * block / 2 : 4 * w + i;
        for (size_t g = 0; g < numGroups; ++g)
          visit(place, g,
                element.quantBits == 4 ? nibbleToFloat(words[g], i) : byteToFloat(words[g], i));
      }
    }
    return;
  }
  // A word of high bits is loaded once and meets all words whose elements it has bits of.
  const int64_t highWords = block * element.highBits() / 32;
  for (int64_t h = 0; h < highWords; ++h) {
    SmallVector<Value> highs = loadWords(groups, index, BlockPart::Highs, h);
    if (element.highStep == 1)
      for (Value &words : highs)
        words = spreadBits(b, words);
    for (int64_t w = h; w < numWords; w += highWords) {
      for (bool highNibbles : {false, true}) {
        between();
        // Loaded again for the high nibbles: cheaper than keeping them in registers meanwhile.
        SmallVector<Value> words = loadWords(groups, index, BlockPart::Quants, w), quants;
        for (size_t g = 0; g < numGroups; ++g)
          quants.push_back(joinHighs(words[g], highs[g], w, highNibbles));
        for (int64_t i = 0; i < 4; ++i)
          for (size_t g = 0; g < numGroups; ++g)
            visit(4 * w + i + (highNibbles ? block / 2 : 0), g, unsignedByteToFloat(quants[g], i));
      }
    }
  }
}

void WeightReader::askAhead(ArrayRef<Value> groups, Value index, int64_t prefetch) {
  constexpr int64_t cacheLine = 64;
  if (prefetch > 0 && !transposed)
    for (Value g : groups)
      for (int64_t byte = 0; byte < blockStep(); byte += cacheLine)
        b.prefetch(
            b.at(b.at(groupPointer(g), b.mul(index, blockStep())), prefetch * blockStep() + byte));
}

void WeightReader::dotBlock(ArrayRef<Value> groups, Value index, int64_t count, Value x, Value sums,
                            MutableArrayRef<Value> accumulators, int64_t prefetch) {
  askAhead(groups, index, prefetch);
  // Plain numbers go straight to the accumulator; quants are summed first and scaled once, by
  // sub-blocks where these have scales. Where one sum is all that a block has, two chains for each
  // group hide the latency of fma.
  struct Chain {
    Value sum;
    int64_t count = 0;
  };
  const bool quantized = element.isQuantized(), hasSubs = element.hasSubScales();
  const size_t numChains = hasSubs ? subBlocks() : 2;
  SmallVector<SmallVector<Chain>> chains(groups.size(), SmallVector<Chain>(numChains));
  SmallVector<Value> totals(groups.size());
  SmallVector<int64_t> visited(groups.size(), 0);
  if (!quantized)
    for (size_t g = 0; g < groups.size(); ++g)
      chains[g][0].sum = accumulators[g];
  int64_t lastPlace = -1;
  Value activation;
  auto visit = [&](int64_t place, size_t g, Value value) {
    if (place != lastPlace)
      activation = b.broadcast(b.loadF32(b.at(x, 4 * place)));
    lastPlace = place;
    const int64_t sub = place / element.subElements;
    Chain &chain = chains[g][hasSubs ? sub : visited[g]++ % 2];
    chain.sum = chain.sum ? b.fma(value, activation, chain.sum) : b.mulf(value, activation);
    if (!hasSubs || ++chain.count < element.subElements)
      return;
    Value factor = subScale(groups[g], index, sub, /*isMin=*/false);
    totals[g] = totals[g] ? b.fma(factor, chain.sum, totals[g]) : b.mulf(factor, chain.sum);
    chain.sum = Value();
  };
  auto between = [&] {
    SmallVector<Value *> live;
    for (size_t g = 0; g < groups.size(); ++g) {
      for (Chain &chain : chains[g])
        if (chain.sum)
          live.push_back(&chain.sum);
      if (totals[g])
        live.push_back(&totals[g]);
    }
    b.fence(live);
  };
  visitQuants(groups, index, count, visit, between);
  for (auto [g, number] : llvm::enumerate(groups)) {
    if (!hasSubs) {
      Value even = chains[g][0].sum, odd = chains[g][1].sum;
      totals[g] = !odd ? even : even ? b.addf(even, odd) : odd;
    }
    if (!quantized) {
      accumulators[g] = totals[g];
      continue;
    }
    accumulators[g] = b.fma(half(BlockPart::Scale, number, index), totals[g], accumulators[g]);
    if (!element.hasMin())
      continue;
    Value m = half(BlockPart::Min, number, index);
    if (!hasSubs) {
      accumulators[g] = b.fma(m, b.broadcast(b.loadF32(sums)), accumulators[g]);
      continue;
    }
    Value minima;
    for (int64_t sub = 0; sub < subBlocks(); ++sub) {
      Value factor = subScale(number, index, sub, /*isMin=*/true);
      Value sum = b.broadcast(b.loadF32(b.at(sums, 4 * sub)));
      minima = minima ? b.fma(factor, sum, minima) : b.mulf(factor, sum);
    }
    accumulators[g] = b.fma(b.subf(b.splat(0), m), minima, accumulators[g]);
  }
}

void WeightReader::unpackBlock(Value g, Value index, int64_t count,
                               llvm::function_ref<void(int64_t, Value)> store) {
  SmallVector<Value> scales, minima;
  if (element.isQuantized()) {
    Value d = half(BlockPart::Scale, g, index);
    Value m = element.hasMin() ? half(BlockPart::Min, g, index) : Value();
    if (m && element.hasSubScales())
      m = b.subf(b.splat(0), m);
    for (int64_t sub = 0; sub < subBlocks(); ++sub) {
      auto factor = [&](Value of, bool isMin) {
        return element.hasSubScales() ? b.mulf(of, subScale(g, index, sub, isMin)) : of;
      };
      scales.push_back(factor(d, /*isMin=*/false));
      minima.push_back(m ? factor(m, /*isMin=*/true) : Value());
    }
  }
  auto visit = [&](int64_t place, size_t, Value q) {
    if (scales.empty())
      return store(place, q);
    const int64_t sub = place / element.subElements;
    store(place, minima[sub] ? b.fma(q, scales[sub], minima[sub]) : b.mulf(q, scales[sub]));
  };
  visitQuants(g, index, count, visit, [] {});
}
