#include "kernelforge/codegen/cpu/Weights.h"

#include "kernelforge/codegen/cpu/QuantValues.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;

/// Plain numbers are read this many at a time, so that loops are unrolled.
static constexpr int64_t plainBlock = 8;

WeightReader::WeightReader(KernelBuilder &b, Value pointer, RankedTensorType type, bool transposed)
    : b(b), pointer(pointer), element(info(*elementTypeOf(type))), transposed(transposed),
      outputs(type.getDimSize(transposed ? 1 : 0)), depth(type.getDimSize(transposed ? 0 : 1)),
      block(blockK(element)),
      isPairs(!transposed && !element.isQuantized() && interleavedRun(element.type, depth) == 2) {
  const bool isInNibbles = element.quantBits == 4 || element.quantBits == 2;
  if (isInNibbles && b.target.has("avx512f")) {
    // vpermps looks up sixteen floats by the low four bits of each lane: no mask, no conversion,
    // and the scheme's zero is already subtracted.
    SmallVector<float> values;
    for (int q = 0; q < 16; ++q)
      values.push_back(static_cast<float>(element.value(q % (1 << element.quantBits))));
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
  // Two hide the latency of fma. A word of high bits serves that many sub-blocks in turn, and so
  // does one of quants with many fields.
  if (!type.hasSubScales())
    return 2;
  const int64_t ofHighs =
      type.hasHighs() ? std::min(type.highElements(), type.chunkElements) / type.highStep : 2;
  return std::max(ofHighs, type.fields());
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
  const bool isOfChunk =
      part == BlockPart::Quants ||
      (part == BlockPart::Highs && element.highElements() <= element.chunkElements) ||
      (part == BlockPart::SubScales && element.subScales == SubScales::Signed8);
  if (!isOfChunk)
    return begin;
  return b.at(begin, b.mul(b.rem(index, chunks()), lanes * element.bytes(part) / chunks()));
}

Value WeightReader::scale(Value g, Value index) {
  return loadScale(b, element, partPointer(BlockPart::Scale, g, index), /*isVector=*/true);
}

Value WeightReader::minimum(Value g, Value index) {
  return b.halfToF32(b.load(b.vec(b.f16), partPointer(BlockPart::Min, g, index), 2));
}

Value WeightReader::subScale(Value g, Value index, int64_t sub, bool isMin) {
  const int64_t unit = element.unitBytes(BlockPart::SubScales);
  Value part = partPointer(BlockPart::SubScales, g, index);
  if (element.subScales == SubScales::Signed8)
    return signedByteToFloat(b, b.load(b.vi32, b.at(part, sub / unit * lanes * unit), unit),
                             sub % unit);
  // Which bytes and bits depends on the block's number, the same in all lanes.
  auto place = [&](int64_t chunk) {
    return subScalePlace(element.subScales, chunk * subBlocks() + sub, isMin);
  };
  Value number = b.rem(index, chunks());
  auto ofChunk = [&](auto function) {
    return sumOfScalarBits(b, BitSum::of(chunks(), function), number);
  };
  auto splat = [&](Value x) {
    return b.broadcast(b.b.create<arith::TruncIOp>(b.loc, b.i32, x).getResult());
  };
  auto field = [&](auto byte, auto shift, auto mask) -> Value {
    Value at = b.mul(ofChunk([&](int64_t i) { return place(i).*byte / unit; }), lanes * unit);
    Value units = b.load(b.vec(b.b.getIntegerType(static_cast<unsigned>(8 * unit))), b.at(part, at),
                         static_cast<unsigned>(unit));
    if (unit < 4)
      units = b.b.create<arith::ExtUIOp>(b.loc, b.vi32, units);
    Value by = ofChunk([&](int64_t i) { return place(i).*byte % unit * 8 + place(i).*shift; });
    Value shifted = b.b.create<arith::ShRUIOp>(b.loc, units, splat(by));
    Value bits = splat(ofChunk([&](int64_t i) { return place(i).*mask; }));
    return b.b.create<arith::AndIOp>(b.loc, shifted, bits);
  };
  Value q = field(&SubScalePlace::low, &SubScalePlace::lowShift, &SubScalePlace::lowMask);
  if (element.subScales != SubScales::Packed4) {
    Value high = field(&SubScalePlace::high, &SubScalePlace::highShift, &SubScalePlace::highMask);
    high = b.b.create<arith::ShLIOp>(b.loc, high, b.splatI(4));
    q = b.b.create<arith::OrIOp>(b.loc, q, high);
  }
  if (const int64_t excess = subScaleExcess(element.subScales); excess != 0)
    q = b.b.create<arith::SubIOp>(b.loc, q, b.splatI(excess));
  return b.b.create<arith::SIToFPOp>(b.loc, b.vf32, q);
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
  if (isPairs)
    return b.load(b.vec(b.i16, 2 * lanes), from, 4);
  Value first = loadBits(from, g);
  Value second = hasSecond ? loadBits(b.at(from, step), g)
                           : b.b.create<arith::ConstantOp>(b.loc, b.b.getZeroAttr(b.vec(b.i16)));
  SmallVector<int64_t> order; // of each output the two
  for (int64_t lane = 0; lane < lanes; ++lane)
    order.append({lane, lane + lanes});
  return b.shuffle(first, second, order);
}

Value WeightReader::ofPairs(Value pairs, bool odd) {
  Value bits =
      odd ? b.b.create<arith::AndIOp>(b.loc, pairs, b.splatI(int64_t(0xffff0000))).getResult()
          : b.b.create<arith::ShLIOp>(b.loc, pairs, b.splatI(16)).getResult();
  return b.b.create<arith::BitcastOp>(b.loc, b.vf32, bits);
}

Value WeightReader::lowBitsToFloat(Value words, int64_t field) {
  Value shifted =
      field == 0 ? words
                 : b.b.create<arith::ShRUIOp>(b.loc, words, b.splatI(element.lowBits() * field))
                       .getResult();
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
  return element.isE4M3 ? e4m3ToFloat(b, words, byte) : signedByteToFloat(b, words, byte);
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

SmallVector<Value> WeightReader::loadHighs(ArrayRef<Value> groups, Value index, int64_t word) {
  SmallVector<Value> highs = loadWords(groups, index, BlockPart::Highs, word);
  if (element.highStep == 1)
    for (Value &words : highs)
      words = spreadBits(b, words);
  if (element.highElements() <= block)
    return highs;
  // They are of all chunks: those of this one to the bottom.
  Value by = b.mul(b.rem(index, chunks()), block / element.highStep * element.highBits());
  Value shift = b.broadcast(b.b.create<arith::TruncIOp>(b.loc, b.i32, by).getResult());
  for (Value &words : highs)
    words = b.b.create<arith::ShRUIOp>(b.loc, words, shift);
  return highs;
}

int64_t WeightReader::highWords() const {
  return element.bytes(BlockPart::Highs) / 4 *
         std::min<int64_t>(std::max(element.highElements(), block), element.blockElements) /
         element.blockElements;
}

Value WeightReader::joinHighs(Value words, Value highs, int64_t word, int64_t field) {
  constexpr int64_t everyByte = 0x01010101;
  const int64_t bits = element.highBits(), low = element.lowBits();
  const int64_t first = 4 * word + field * element.fieldElements();
  const int64_t slot = element.highStep == 1
                           ? (first >> 2 & 1) * 4 + (first >> 4 & 1) * 2 + (first >> 3 & 1)
                           : first / element.highStep % (8 / bits);
  // The quant's bits in the bottom of each byte; what is above them is cut off later.
  auto up = [&](Value x, int64_t count) -> Value {
    if (count > 0)
      return b.b.create<arith::ShLIOp>(b.loc, x, b.splatI(count));
    return count < 0 ? b.b.create<arith::ShRUIOp>(b.loc, x, b.splatI(-count)).getResult() : x;
  };
  const int64_t mask = ((int64_t(1) << low) - 1) * everyByte;
  Value lower = b.b.create<arith::AndIOp>(b.loc, up(words, -field * low), b.splatI(mask));
  Value upper = b.b.create<arith::AndIOp>(b.loc, up(highs, low - slot * bits), b.splatI(~mask));
  return b.b.create<arith::OrIOp>(b.loc, lower, upper);
}

void WeightReader::visitBytes(ArrayRef<Value> groups, Value index,
                              llvm::function_ref<void(int64_t, size_t, Value)> visit) {
  const int64_t numWords = block * element.lowBits() / 32, fields = element.fields();
  const auto mask = ((int64_t(1) << element.quantBits) - 1) * 0x01010101;
  auto valueOf = [&](Value words) -> Value {
    if (element.quantBits == 8)
      return words;
    Value quants = b.b.create<arith::AndIOp>(b.loc, words, b.splatI(mask));
    return element.values ? valuesOfBytes(b, *element.values, quants) : quants;
  };
  auto visitWord = [&](ArrayRef<Value> words, ArrayRef<Value> highs, int64_t w, int64_t field) {
    for (size_t g = 0; g < groups.size(); ++g) {
      Value quants = words[g];
      if (element.hasHighs())
        quants = joinHighs(words[g], highs[g], w, field);
      else if (field != 0)
        quants = b.b.create<arith::ShRUIOp>(b.loc, words[g], b.splatI(element.lowBits() * field));
      visit(4 * w + field * element.fieldElements(), g, valueOf(quants));
    }
  };
  if (isByFields()) {
    for (int64_t field = 0; field < fields; ++field)
      for (int64_t w = 0; w < numWords; ++w) {
        SmallVector<Value> highs;
        if (element.hasHighs())
          highs = loadHighs(groups, index, w % highWords());
        visitWord(loadWords(groups, index, BlockPart::Quants, w), highs, w, field);
      }
    return;
  }
  const int64_t highs = element.hasHighs() ? highWords() : 1;
  for (int64_t h = 0; h < highs; ++h) {
    SmallVector<Value> own;
    if (element.hasHighs())
      own = loadHighs(groups, index, h);
    for (int64_t w = h; w < numWords; w += highs) {
      SmallVector<Value> words = loadWords(groups, index, BlockPart::Quants, w);
      for (int64_t field = 0; field < fields; ++field)
        visitWord(words, own, w, field);
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
                               llvm::function_ref<void()> between, bool byFields) {
  const size_t numGroups = groups.size();
  if (!element.isQuantized()) {
    SmallVector<Value> bases;
    for (Value g : groups)
      bases.push_back(blockPointer(g, index));
    int64_t step = (transposed ? outputs : lanes) * element.blockBytes;
    SmallVector<Value> pairs(numGroups);
    for (int64_t i = 0; i < count; ++i)
      for (size_t g = 0; g < numGroups; ++g) {
        if (isPairs && i % 2 == 0)
          pairs[g] = b.load(b.vi32, b.at(bases[g], i * step), 4);
        visit(i, g,
              isPairs ? ofPairs(pairs[g], i % 2 != 0)
                      : loadDense(b.at(bases[g], i * step), groups[g]));
      }
    return;
  }
  const int64_t numWords = block * element.lowBits() / 32, fields = element.fields();
  const int64_t apart = element.fieldElements();
  if (byFields || (element.values && !table)) {
    const bool looksUp = element.values && !table;
    for (int64_t w = 0; w < numWords * fields; ++w) {
      const int64_t word = byFields ? w % numWords : w / fields;
      const int64_t field = byFields ? w / numWords : w % fields;
      between();
      SmallVector<Value> words = loadWords(groups, index, BlockPart::Quants, word);
      if (element.hasHighs()) {
        const SmallVector<Value> highs = loadHighs(groups, index, word % highWords());
        for (size_t g = 0; g < numGroups; ++g)
          words[g] = joinHighs(words[g], highs[g], word, field);
      }
      if (looksUp)
        for (Value &own : words) {
          if (field != 0)
            own = b.b.create<arith::ShRUIOp>(b.loc, own, b.splatI(element.lowBits() * field));
          own = b.b.create<arith::AndIOp>(b.loc, own, b.splatI(0x0f0f0f0f));
          own = valuesOfBytes(b, *element.values, own);
        }
      for (int64_t i = 0; i < 4; ++i)
        for (size_t g = 0; g < numGroups; ++g)
          visit(4 * word + i + field * apart, g,
                looksUp              ? byteToFloat(words[g], i)
                : element.hasHighs() ? unsignedByteToFloat(words[g], i)
                                     : lowBitsToFloat(words[g], fields * i + field));
    }
    return;
  }
  if (!element.hasHighs()) {
    for (int64_t w = 0; w < numWords; ++w) {
      SmallVector<Value> words = loadWords(groups, index, BlockPart::Quants, w);
      for (int64_t i = 0; i < 4 * fields; ++i)
        for (size_t g = 0; g < numGroups; ++g)
          visit(4 * w + i / fields + i % fields * apart, g,
                fields == 1 ? byteToFloat(words[g], i) : lowBitsToFloat(words[g], i));
    }
    return;
  }
  // A word of high bits is loaded once and meets all words whose elements it has bits of.
  for (int64_t h = 0; h < highWords(); ++h) {
    SmallVector<Value> highs = loadHighs(groups, index, h);
    for (int64_t w = h; w < numWords; w += highWords()) {
      for (int64_t field = 0; field < fields; ++field) {
        between();
        // Loaded again for each field: cheaper than keeping them in registers meanwhile.
        SmallVector<Value> words = loadWords(groups, index, BlockPart::Quants, w), quants;
        for (size_t g = 0; g < numGroups; ++g)
          quants.push_back(joinHighs(words[g], highs[g], w, field));
        for (int64_t i = 0; i < 4; ++i)
          for (size_t g = 0; g < numGroups; ++g)
            visit(4 * w + i + field * apart, g, unsignedByteToFloat(quants[g], i));
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
                            int64_t sumBlock, MutableArrayRef<Value> accumulators,
                            int64_t prefetch) {
  askAhead(groups, index, prefetch);
  auto sumOf = [&](int64_t sub) {
    const int64_t parts = element.subElements / sumBlock;
    Value sum = b.loadF32(b.at(sums, 4 * sub * parts));
    for (int64_t i = 1; i < parts; ++i)
      sum = b.addf(sum, b.loadF32(b.at(sums, 4 * (sub * parts + i))));
    return b.broadcast(sum);
  };
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
  visitQuants(groups, index, count, visit, between, isByFields());
  for (auto [g, number] : llvm::enumerate(groups)) {
    if (!hasSubs) {
      Value even = chains[g][0].sum, odd = chains[g][1].sum;
      totals[g] = !odd ? even : even ? b.addf(even, odd) : odd;
    }
    if (!quantized) {
      accumulators[g] = totals[g];
      continue;
    }
    accumulators[g] = b.fma(scale(number, index), totals[g], accumulators[g]);
    if (!element.hasMin())
      continue;
    Value m = minimum(number, index);
    if (!hasSubs) {
      accumulators[g] = b.fma(m, sumOf(0), accumulators[g]);
      continue;
    }
    Value minima;
    for (int64_t sub = 0; sub < subBlocks(); ++sub) {
      Value factor = subScale(number, index, sub, /*isMin=*/true);
      Value sum = sumOf(sub);
      minima = minima ? b.fma(factor, sum, minima) : b.mulf(factor, sum);
    }
    accumulators[g] = b.fma(b.subf(b.splat(0), m), minima, accumulators[g]);
  }
}

void WeightReader::unpackBlock(Value g, Value index, int64_t count,
                               llvm::function_ref<void(int64_t, Value)> store) {
  Value d, m;
  if (element.isQuantized()) {
    d = scale(g, index);
    if (element.hasMin())
      m = minimum(g, index);
    if (m && element.hasSubScales())
      m = b.subf(b.splat(0), m);
  }
  SmallVector<Value> scales(static_cast<size_t>(subBlocks())), minima(scales.size());
  auto prepare = [&](size_t sub) {
    auto factor = [&](Value of, bool isMin) {
      return element.hasSubScales()
                 ? b.mulf(of, subScale(g, index, static_cast<int64_t>(sub), isMin))
                 : of;
    };
    scales[sub] = factor(d, /*isMin=*/false);
    if (m)
      minima[sub] = factor(m, /*isMin=*/true);
  };
  // Where there are sixteen registers, sub-blocks one after the other if that can be: their scales
  // are not needed at once.
  const bool byFields = isByFields() || (element.hasSubScales() && !b.target.has("avx512f"));
  for (size_t sub = 0; d && !byFields && sub < scales.size(); ++sub)
    prepare(sub);
  auto visit = [&](int64_t place, size_t, Value q) {
    if (!d)
      return store(place, q);
    const auto sub = static_cast<size_t>(place / element.subElements) % scales.size();
    if (!scales[sub])
      prepare(sub);
    store(place, m ? b.fma(q, scales[sub], minima[sub]) : b.mulf(q, scales[sub]));
  };
  visitQuants(g, index, count, visit, [] {}, byFields);
}
