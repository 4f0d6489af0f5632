#include "kernelforge/codegen/cuda/AttentionGroupsCaches.h"

#include "kernelforge/codegen/cuda/Pipeline.h"
#include "kernelforge/ir/Caches.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::cuda;
using namespace kernelforge::cuda::groups;

/// Elements of 16 bytes.
static constexpr int64_t numbersOfVector = 8, quantsOfVector = 16;

static transformer::CacheType typeOf(transformer::AttentionOp op, bool areValues) {
  return areValues ? op.getValues().getType() : op.getKeys().getType();
}

StepCache::StepCache(PhaseBuilder &p, transformer::AttentionOp op, bool areValues,
                     const GroupsShape &shape, const WarpPlace &place)
    : p(p), matrices(p), slot(slotOf(typeOf(op, areValues))),
      factors(areValues ? shape.values : shape.keys), keys(shape.knobs.keys), place(place),
      buffer(p.argument(areValues ? op.getValues() : op.getKeys(), Access::Read, View::Words4)) {}

Value StepCache::vectorAt(Value number, Value piece) {
  const int64_t ofHead = slot.dim / (isQuantized() ? quantsOfVector : numbersOfVector);
  Value ofSlot = p.mul(number, slot.bytes() / 16);
  return p.add(p.add(ofSlot, p.mul(head, ofHead)), piece);
}

Value StepCache::loadVector(Value at, StringRef name) {
  return p.streamed(p.named(p.loadVector(buffer, at), name));
}

//===----------------------------------------------------------------------===//
// Scales
//===----------------------------------------------------------------------===//

int64_t StepCache::scaleLoads() const { return llvm::divideCeil(keys * scaleWords(), warp); }

SmallVector<Value> StepCache::loadScales(SlotOf slotOf) {
  SmallVector<Value> loaded;
  const int64_t words = scaleWords();
  for (int64_t i = 0; i < scaleLoads(); ++i) {
    const int64_t offset = i * warp / words;
    Value key = p.div(place.own, words);
    if (keys < offset + warp / words) // some threads have none, and read one again
      key = p.min(key, p.c(keys - offset - 1));
    Value begin = p.mul(slotOf(offset, key), slot.bytes() / 4);
    Value ofHead = p.add(p.mul(head, words), p.rem(place.own, words));
    Value at = p.add(p.add(begin, slot.scalesBegin() / 4), ofHead);
    loaded.push_back(p.named(p.load(buffer, at), "scales"));
  }
  return loaded;
}

SmallVector<Value> StepCache::scalesOf(ValueRange loaded) {
  SmallVector<Value> scales;
  for (bool isUpper : {false, true})
    for (Value words : loaded)
      scales.push_back(widened(p, ElementType::F16, words, isUpper));
  return scales;
}

Value StepCache::scaleOf(ArrayRef<Value> scales, int64_t offset, int64_t block) {
  const int64_t words = scaleWords(), number = offset * words + block / 2;
  Value lane = p.add(p.mul(place.pair, 2 * words), number % warp);
  const int64_t load = number / warp + block % 2 * scaleLoads();
  return p.named(matrices.ofLane(scales[size_t(load)], lane), "scale");
}

//===----------------------------------------------------------------------===//
// Keys
//===----------------------------------------------------------------------===//

int64_t StepKeys::loads() const {
  const int64_t vectors = slot.headBytes() / 64; // four threads have a key
  return keys / tileKeys * vectors + scaleLoads();
}

/// Four threads have a key, 16 bytes of every 64 each.
SmallVector<Value> StepKeys::load(SlotOf slotOf) {
  SmallVector<Value> loaded;
  for (int64_t tile = 0; tile < keys; tile += tileKeys) {
    Value first = vectorAt(slotOf(tile, place.row), place.pair);
    for (int64_t piece = 0; piece < slot.headBytes() / 16; piece += 4)
      loaded.push_back(loadVector(p.add(first, piece), "k"));
  }
  if (isQuantized())
    loaded.append(loadScales(slotOf));
  return loaded;
}

Value StepKeys::columnOf(Value number, Value pair) {
  if (!isQuantized())
    return p.add(p.mul(number, GroupsShape::keyUnit), p.mul(pair, numbersOfVector));
  Value ofVector = p.add(p.mul(pair, quantsOfVector), p.mul(p.rem(number, 2), numbersOfVector));
  return p.add(p.mul(p.div(number, 2), 2 * GroupsShape::keyUnit), ofVector);
}

SmallVector<Value> StepKeys::multiply(Value query, ValueRange loaded) {
  return isQuantized() ? multiplyQuants(query, loaded) : multiplyNumbers(query, loaded);
}

/// Products of the first two parts of the query are the upper and the lower half of one matrix.
SmallVector<Value> StepKeys::multiplyNumbers(Value query, ValueRange loaded) {
  const int64_t units = slot.dim / GroupsShape::keyUnit, parts = factors.parts;
  const size_t tiles = size_t(keys / tileKeys);
  SmallVector<WarpMatrices::Sums> products(2 * tiles); // two sums each: none waits for all
  for (auto &sums : products)
    sums.fill(p.cf(0));
  for (int64_t unit = 0; unit < units; ++unit)
    for (int64_t part = 0; part < parts; part += 2) {
      auto load = [&](int64_t which) {
        Value at = p.add(place.own, (which * units + unit) * warp);
        return which < parts ? p.loadVector(query, at) : Value();
      };
      Value upper = load(part), lower = load(part + 1);
      for (int64_t half : {0, 2}) {
        auto word = [&](Value words, int64_t i) {
          return words ? p.extract(words, half + i) : p.c(0);
        };
        const WarpMatrices::Left left{word(upper, 0), word(lower, 0), word(upper, 1),
                                      word(lower, 1)};
        for (size_t tile = 0; tile < tiles; ++tile) {
          Value key = loaded[tile * size_t(units) + size_t(unit)];
          WarpMatrices::Sums &sums = products[2 * tile + size_t(half / 2)];
          sums = matrices.multiply(factors.element, left,
                                   {p.extract(key, half), p.extract(key, half + 1)}, sums);
        }
      }
    }
  SmallVector<Value> scores;
  for (size_t tile = 0; tile < tiles; ++tile)
    for (size_t second : {0, 1}) {
      const auto &first = products[2 * tile], &other = products[2 * tile + 1];
      Value score = p.addf(first[second], other[second]);
      if (parts > 1)
        score = p.addf(score, p.addf(first[second + 2], other[second + 2]));
      scores.push_back(score);
    }
  return scores;
}

/// Of 64 columns the first two threads of a key have one block and the others the next: the upper
/// half of the left operand is the query in the first block's columns, the lower half in the
/// other's.
SmallVector<Value> StepKeys::multiplyQuants(Value query, ValueRange loaded) {
  const int64_t units = slot.dim / scaledUnit, parts = factors.parts;
  const size_t tiles = size_t(keys / tileKeys);
  const SmallVector<Value> scales = scalesOf(loaded.drop_front(tiles * size_t(units)));
  SmallVector<Value> scores(2 * tiles);
  Value isFirst = p.named(p.lessThan(place.pair, p.c(2)), "is_first_block");
  for (int64_t unit = 0; unit < units; ++unit) {
    SmallVector<WarpMatrices::Sums> products(tiles);
    for (auto &sums : products)
      sums.fill(p.cf(0));
    SmallVector<SmallVector<Value>> words; // by tile, pairs of f16
    for (size_t tile = 0; tile < tiles; ++tile) {
      words.emplace_back();
      for (int64_t i = 0; i < 4; ++i)
        llvm::append_range(words.back(), matrices.halvesOfBytes(p.extract(
                                             loaded[tile * size_t(units) + size_t(unit)], i)));
    }
    for (int64_t part = 0; part < parts; ++part)
      for (int64_t half = 0; half < 2; ++half) {
        const int64_t number = part * 2 * units + 2 * unit + half;
        Value four = p.loadVector(query, p.add(place.own, number * warp));
        for (int64_t step = 0; step < 2; ++step) {
          WarpMatrices::Left left;
          for (int64_t i : {0, 1}) {
            Value word = p.extract(four, 2 * step + i);
            left[size_t(2 * i)] = p.select(isFirst, word, p.c(0));
            left[size_t(2 * i + 1)] = p.select(isFirst, p.c(0), word);
          }
          for (size_t tile = 0; tile < tiles; ++tile) {
            const size_t at = size_t(4 * half + 2 * step);
            products[tile] = matrices.multiply(
                factors.element, left, {words[tile][at], words[tile][at + 1]}, products[tile]);
          }
        }
      }
    for (size_t tile = 0; tile < tiles; ++tile)
      for (size_t second : {0, 1}) {
        const int64_t key = int64_t(tile) * tileKeys + int64_t(second);
        Value &score = scores[2 * tile + second];
        Value first = scaleOf(scales, key, 2 * unit), other = scaleOf(scales, key, 2 * unit + 1);
        score = score ? p.fma(products[tile][second], first, score)
                      : p.mulf(products[tile][second], first);
        score = p.fma(products[tile][second + 2], other, score);
      }
  }
  return scores;
}

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

int64_t StepValues::loads() const {
  return keys / 4 * (slot.dim / (isQuantized() ? quantUnit : unit)) + scaleLoads();
}

/// Eight threads have four of 16 values: 16 bytes of every 128 each, of quants a word of 32 bytes.
SmallVector<Value> StepValues::load(SlotOf slotOf) {
  SmallVector<Value> loaded;
  Value pair = p.mul(place.pair, 2);
  for (int64_t block = 0; block < keys; block += blockKeys)
    for (int64_t key : {0, 1, 8, 9}) {
      Value number = slotOf(block + key, pair);
      if (!isQuantized()) {
        Value first = vectorAt(number, place.row);
        for (int64_t piece = 0; piece < slot.dim / numbersOfVector; piece += 8)
          loaded.push_back(loadVector(p.add(first, piece), "v"));
        continue;
      }
      Value begin = p.add(p.mul(number, slot.bytes() / 4), p.mul(head, slot.dim / 4));
      begin = p.add(begin, place.row);
      for (int64_t word = 0; word < slot.dim / 4; word += 8)
        loaded.push_back(p.named(p.load(buffer, p.add(begin, word)), "v"));
    }
  if (isQuantized())
    loaded.append(loadScales(slotOf));
  return loaded;
}

/// Of a unit of columns a thread has some side by side, two of each of several tiles.
WarpMatrices::Left StepValues::leftOf(ValueRange loaded, int64_t tile, int64_t block) {
  const int64_t tiles = isQuantized() ? 2 : 4, units = slot.dim / (16 * tiles);
  auto of = [&](int64_t key) { return loaded[size_t((4 * block + key) * units + tile / tiles)]; };
  if (!isQuantized()) {
    auto word = [&](int64_t key) { return p.extract(of(key), tile % tiles); };
    return {matrices.lowHalves(word(0), word(1)), matrices.highHalves(word(0), word(1)),
            matrices.lowHalves(word(2), word(3)), matrices.highHalves(word(2), word(3))};
  }
  const auto first = matrices.quantsOfBytes(matrices.pairsOfBytes(of(0), of(1), tile % tiles));
  const auto second = matrices.quantsOfBytes(matrices.pairsOfBytes(of(2), of(3), tile % tiles));
  return {first[0], first[1], second[0], second[1]};
}

void StepValues::add(MutableArrayRef<Value> sums, ArrayRef<Value> weights, ValueRange loaded) {
  const int64_t tiles = slot.dim / WarpMatrices::rows, parts = factors.parts;
  SmallVector<Value> scales;
  if (isQuantized())
    scales = scalesOf(loaded.take_back(size_t(scaleLoads())));
  for (int64_t block = 0; block < keys / blockKeys; ++block) {
    ArrayRef<Value> own = weights.slice(size_t(4 * block), 4);
    SmallVector<SmallVector<Value>> right;
    auto setRight = [&](ArrayRef<Value> four) {
      right.clear();
      for (size_t half : {0, 2})
        right.push_back(matrices.partsOf(factors.element, parts, four[half], four[half + 1]));
    };
    if (!isQuantized())
      setRight(own);
    for (int64_t tile = 0; tile < tiles; ++tile) {
      if (isQuantized() && tile % 2 == 0) { // of a block of columns
        SmallVector<Value> four;
        for (auto [weight, key] : llvm::zip(own, ArrayRef<int64_t>{0, 1, 8, 9}))
          four.push_back(p.mulf(weight, scaleOf(scales, block * blockKeys + key, tile / 2)));
        setRight(four);
      }
      const WarpMatrices::Left left = leftOf(loaded, tile, block);
      WarpMatrices::Sums tileSums;
      std::copy_n(sums.begin() + 4 * tile, 4, tileSums.begin());
      for (int64_t part = 0; part < parts; ++part)
        tileSums = matrices.multiply(factors.element, left,
                                     {right[0][size_t(part)], right[1][size_t(part)]}, tileSums);
      llvm::copy(tileSums, sums.begin() + 4 * tile);
    }
  }
}

Value StepValues::columnOf(int64_t tile, int64_t lower) {
  const int64_t tiles = isQuantized() ? 2 : 4; // of a unit
  const int64_t first = tile / tiles * 16 * tiles + tile % tiles * 2 + lower;
  return p.add(p.mul(place.row, 2 * tiles), first);
}
