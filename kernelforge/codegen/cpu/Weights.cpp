#include "kernelforge/codegen/cpu/Weights.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;

/// Plain numbers are read this many at a time, so that loops are unrolled.
static constexpr int64_t plainBlock = 8;

WeightReader::WeightReader(KernelBuilder &b, Value pointer, RankedTensorType type, bool transposed)
    : b(b), pointer(pointer), element(info(*elementTypeOf(type))), transposed(transposed),
      outputs(type.getDimSize(transposed ? 1 : 0)), depth(type.getDimSize(transposed ? 0 : 1)),
      block(element.isQuantized() ? element.blockElements : plainBlock) {
  if (element.quantBits == 4 && b.target.has("avx512f")) {
    // vpermps looks up sixteen floats by the low four bits of each lane: no mask, no conversion,
    // and the scheme's zero is already subtracted.
    SmallVector<float> values;
    for (int q = 0; q < 16; ++q)
      values.push_back(static_cast<float>(q - element.zero));
    table = b.b.create<arith::ConstantOp>(b.loc,
                                          DenseElementsAttr::get(b.vf32, ArrayRef<float>(values)));
  }
}

bool WeightReader::needsBlockSums() const { return element.hasMin(); }

bool WeightReader::isPanel() const { return element.type == ElementType::F32 && !transposed; }

Value WeightReader::groupPointer(Value g) {
  int64_t bytes = transposed ? lanes * element.blockBytes
                             : depth / element.blockElements * element.blockBytes * lanes;
  return b.at(pointer, b.mul(g, bytes));
}

int64_t WeightReader::blockStep() const {
  if (element.isQuantized())
    return lanes * element.blockBytes;
  return block * (transposed ? outputs : lanes) * element.blockBytes;
}

Value WeightReader::blockPointer(Value g, Value index) {
  return b.at(groupPointer(g), b.mul(index, blockStep()));
}

Value WeightReader::scale(Value blockPointer) {
  return b.halfToF32(b.load(b.vec(b.f16), blockPointer, 2));
}

Value WeightReader::minimum(Value blockPointer) {
  return b.halfToF32(b.load(b.vec(b.f16), b.at(blockPointer, lanes * 2), 2));
}

Value WeightReader::loadDense(Value address, Value g) {
  // A row of a transposed weight ends within the last group; its neighbours are not to be read.
  Value mask;
  if (transposed && outputs % lanes != 0)
    mask = b.firstLanes(b.sub(b.c(outputs), b.mul(g, lanes)));
  if (element.type == ElementType::F32)
    return b.loadVec(address, mask);
  Type type = element.type == ElementType::F16 ? b.f16 : b.i16;
  Value raw;
  if (mask) {
    Value zero = b.b.create<arith::ConstantOp>(b.loc, b.b.getZeroAttr(b.vec(type)));
    raw = b.b.create<LLVM::MaskedLoadOp>(b.loc, b.vec(type), address, mask, ValueRange{zero},
                                         b.b.getI32IntegerAttr(2));
  } else {
    raw = b.load(b.vec(type), address, 2);
  }
  return element.type == ElementType::F16 ? b.halfToF32(raw) : b.bfloat16ToF32(raw);
}

Value WeightReader::nibbleToFloat(Value words, int64_t nibble) {
  Value shifted = nibble == 0
                      ? words
                      : b.b.create<arith::ShRUIOp>(b.loc, words, b.splatI(4 * nibble)).getResult();
  if (table)
    return b.b
        .create<LLVM::CallIntrinsicOp>(b.loc, TypeRange{b.vf32},
                                       b.b.getStringAttr("llvm.x86.avx512.permvar.sf.512"),
                                       ValueRange{table, shifted}, LLVM::FastmathFlagsAttr())
        .getResult(0);
  Value q = b.b.create<arith::AndIOp>(b.loc, shifted, b.splatI(15));
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

void WeightReader::visitQuants(ArrayRef<Value> groups, Value index, int64_t count,
                               llvm::function_ref<void(int64_t, size_t, Value)> visit) {
  SmallVector<Value> bases;
  for (Value g : groups)
    bases.push_back(blockPointer(g, index));
  if (!element.isQuantized()) {
    int64_t step = (transposed ? outputs : lanes) * element.blockBytes;
    for (int64_t i = 0; i < count; ++i)
      for (size_t g = 0; g < groups.size(); ++g)
        visit(i, g, loadDense(b.at(bases[g], i * step), groups[g]));
    return;
  }
  // 32-bit words of the 16 outputs side by side; see the layout's description.
  int64_t header = lanes * (element.hasMin() ? 4 : 2);
  int64_t numWords = element.blockElements * element.quantBits / 32;
  for (int64_t w = 0; w < numWords; ++w) {
    SmallVector<Value> words;
    for (Value base : bases)
      words.push_back(b.load(b.vi32, b.at(base, header + w * lanes * 4), 4));
    int64_t perWord = 32 / element.quantBits;
    for (int64_t i = 0; i < perWord; ++i) {
      // Of 4-bit quants, byte j of a row holds element j in its low nibble and element j + half a
      // block in its high one.
      int64_t place =
          element.quantBits == 4 ? 4 * w + i / 2 + (i % 2) * element.blockElements / 2 : 4 * w + i;
      for (size_t g = 0; g < groups.size(); ++g)
        visit(place, g,
              element.quantBits == 4 ? nibbleToFloat(words[g], i) : byteToFloat(words[g], i));
    }
  }
}

void WeightReader::dotBlock(ArrayRef<Value> groups, Value index, int64_t count, Value x,
                            Value blockSum, MutableArrayRef<Value> accumulators, int64_t prefetch) {
  constexpr int64_t cacheLine = 64;
  if (prefetch > 0 && !transposed)
    for (Value g : groups)
      for (int64_t byte = 0; byte < blockStep(); byte += cacheLine)
        b.prefetch(b.at(blockPointer(g, index), prefetch * blockStep() + byte));
  // Two chains for each group hide the latency of fma. Plain numbers go straight to the
  // accumulator; quants are summed first and scaled once.
  bool quantized = element.isQuantized();
  SmallVector<std::array<Value, 2>> chains(groups.size());
  SmallVector<int64_t> visited(groups.size(), 0);
  if (!quantized)
    for (size_t g = 0; g < groups.size(); ++g)
      chains[g][0] = accumulators[g];
  int64_t lastPlace = -1;
  Value activation;
  visitQuants(groups, index, count, [&](int64_t place, size_t g, Value value) {
    if (place != lastPlace)
      activation = b.broadcast(b.loadF32(b.at(x, 4 * place)));
    lastPlace = place;
    Value &chain = chains[g][visited[g]++ % 2];
    chain = chain ? b.fma(value, activation, chain) : b.mulf(value, activation);
  });
  for (auto [g, number] : llvm::enumerate(groups)) {
    auto [even, odd] = chains[g];
    Value sum = !odd ? even : even ? b.addf(even, odd) : odd;
    if (!quantized) {
      accumulators[g] = sum;
      continue;
    }
    Value base = blockPointer(number, index);
    accumulators[g] = b.fma(scale(base), sum, accumulators[g]);
    if (element.hasMin())
      accumulators[g] = b.fma(minimum(base), b.broadcast(blockSum), accumulators[g]);
  }
}

void WeightReader::unpackBlock(Value g, Value index, int64_t count,
                               llvm::function_ref<void(int64_t, Value)> store) {
  Value base = blockPointer(g, index);
  Value d = element.isQuantized() ? scale(base) : Value();
  Value m = element.hasMin() ? minimum(base) : Value();
  visitQuants(g, index, count, [&](int64_t place, size_t, Value q) {
    store(place, m ? b.fma(q, d, m) : d ? b.mulf(q, d) : q);
  });
}
