// Attention tiles of f32: rows meet packed keys and values as a matmul's rows meet a panel, or, few
// of them, keys and values where they lie.
#include "kernelforge/codegen/cpu/AttentionLanes.h"
#include "kernelforge/codegen/cpu/AttentionTile.h"
#include "kernelforge/codegen/cpu/VectorMath.h"

#include <cmath>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;
using namespace kernelforge::cpu::attention;

using Predicate = arith::CmpIPredicate;

namespace {

class VectorTile : public Tile {
public:
  VectorTile(KernelBuilder &k, const Shape &shape);

  Value outputAt(Value stacked, Value byteOffset) override {
    return k.at(output(stacked), byteOffset);
  }

private:
  void storeQuery(Value stacked, int64_t v, Value x) override {
    k.storeVec(rounded(x),
               k.at(k.at(base, offset(queryArea, stacked, queryStride)), v * lanes * 4));
  }
  void clearOutput(Value stacked) override {
    for (int64_t v = 0; v < shape.valueVectors(); ++v)
      k.storeVec(k.splat(0), k.at(output(stacked), v * lanes * 4));
  }
  void attendBlock(Value block, const BlockRows &keys, const BlockRows &values) override;

  Value rounded(Value x) { return shape.rounds() ? roundTo(k, ElementType::BF16, x) : x; }
  Value output(Value stacked) { return k.at(base, offset(outputArea, stacked, outputStride)); }
  Value scoreRow(Value stacked) { return k.at(base, offset(scoresArea, stacked, scoreStride)); }

  /// Where vector `v` of the packed values of a block's column lies.
  Value packedValue(Value v, Value column) {
    return k.at(base, k.add(offset(valuesArea, v, valueStride), k.mul(column, lanes * 4)));
  }

  void packKeys(const BlockRows &keys, Value block);
  void packSquare(const BlockRows &keys, ArrayRef<Value> rows, Value dim, Value key, int64_t width);
  void packValues(const BlockRows &values, Value block);
  void scorePacked(Value stacked, Value column);
  void scoreInPlace(Value stacked, const View &view, const BlockRows &keys);
  void scoreFour(Value query, int64_t rows, const BlockRows &keys, Value run, Value out);
  SmallVector<Value> dots(ArrayRef<Value> queries, const BlockRows &keys, Value row);
  void maskScores(Value stacked, Value block, Value from, Value to);
  void softmax(Value stacked, Value block, const View &view);
  /// The vectors of row `i` of a product's right side.
  using RowLoader = llvm::function_ref<SmallVector<Value>(Value i)>;
  void addInPlace(Value stacked, const View &view, const BlockRows &values);
  void addPackedValues(Value block);
  /// Vectors of a key's values: `width` from a column on, of the last those that `lastMask` turns
  /// on (null: all).
  using ValueLoader = llvm::function_ref<SmallVector<Value>(Value key, Value column, int64_t width,
                                                            Value lastMask)>;
  void addValues(Value stacked, int64_t rows, int64_t vectors, Value from, Value to,
                 ValueLoader load);
  void addPanel(Value stacked, int64_t rows, Value column, int64_t width, Value from, Value to,
                RowLoader load);
  SmallVector<Value> multiply(Value a, int64_t strideA, Value from, Value to, int64_t rows,
                              int64_t vectors, ValueRange init, RowLoader load);

  const int64_t queryStride, outputStride, scoreStride;
  const int64_t panelStride; ///< of packed keys: all numbers of as many as a register tile meets
  const int64_t valueStride; ///< of packed values: a vector of each key, and a line that keeps the
                             ///< vectors of one key out of each other's way in the cache
  int64_t queryArea, outputArea, scoresArea, keysArea, valuesArea, alphaArea;
};

} // namespace

VectorTile::VectorTile(KernelBuilder &k, const Shape &shape)
    : Tile(k, shape), queryStride(shape.keyVectors() * lanes * 4),
      outputStride(shape.valueVectors() * lanes * 4), scoreStride(shape.keyBlock * 4),
      panelStride(shape.keyDim * shape.nr * lanes * 4),
      valueStride((shape.keyBlock + 1) * lanes * 4) {
  const int64_t rows = shape.stackedRows();
  queryArea = areas.take(rows * queryStride);
  outputArea = areas.take(rows * outputStride);
  scoresArea = areas.take(rows * scoreStride);
  keysArea = areas.take(shape.packed ? shape.keyDim * scoreStride : 0);
  valuesArea = areas.take(shape.packed ? shape.valueVectors() * valueStride : 0);
  alphaArea = areas.take(rows * 4 + lanes * 4); // as the highest
}

std::unique_ptr<Tile> attention::createVectorTile(KernelBuilder &k, const Shape &shape) {
  return std::make_unique<VectorTile>(k, shape);
}

void VectorTile::attendBlock(Value block, const BlockRows &keys, const BlockRows &values) {
  if (!shape.packed)
    return forEachTile(block, [&](Value stacked, const View &view) {
      scoreInPlace(stacked, view, keys);
      softmax(stacked, block, view);
      addInPlace(stacked, view, values);
    });
  packKeys(keys, block);
  packValues(values, block);
  // One panel of keys, which stays in the first cache, meets all rows.
  const int64_t panel = shape.nr * lanes;
  k.loop(k.c(0), k.c(shape.keyBlock), panel, [&](Value column) {
    forEachTile(block, [&](Value stacked, const View &view) {
      Value isSeen = k.b.create<arith::AndIOp>(k.loc, k.lessThan(column, view.to),
                                               k.lessThan(view.from, k.add(column, panel)));
      k.ifThen(isSeen, [&] { scorePacked(stacked, column); });
    });
  });
  forEachTile(block, [&](Value stacked, const View &view) { softmax(stacked, block, view); });
  addPackedValues(block);
}

//===----------------------------------------------------------------------===//
// Scores
//===----------------------------------------------------------------------===//

void VectorTile::packKeys(const BlockRows &keys, Value block) {
  // Sixteen keys at a time, of which those that nobody sees repeat a neighbour that somebody does.
  const Range seen = seenOf(block);
  k.loop(k.mul(k.div(seen.first, lanes), lanes), seen.second, lanes, [&](Value key) {
    SmallVector<Value> rows;
    for (int64_t i = 0; i < lanes; ++i)
      rows.push_back(seenRow(keys, k.add(key, i), seen));
    const int64_t whole = shape.keyDim / lanes * lanes;
    k.loop(k.c(0), k.c(whole), lanes, [&](Value dim) { packSquare(keys, rows, dim, key, lanes); });
    if (whole != shape.keyDim)
      packSquare(keys, rows, k.c(whole), key, shape.keyDim - whole);
  });
}

void VectorTile::packSquare(const BlockRows &keys, ArrayRef<Value> rows, Value dim, Value key,
                            int64_t width) {
  Value mask = width == lanes ? Value() : k.firstLanes(k.c(width));
  SmallVector<Value> x;
  for (Value row : rows)
    x.push_back(keys.loadAt(row, dim, mask));
  x = transpose(k, x);
  const int64_t panel = shape.nr * lanes;
  Value out = k.at(
      base, k.add(offset(keysArea, k.div(key, panel), panelStride), k.mul(k.rem(key, panel), 4)));
  for (int64_t i = 0; i < width; ++i)
    k.storeVec(x[i], k.at(out, k.mul(k.add(dim, i), panel * 4)));
}

void VectorTile::packValues(const BlockRows &values, Value block) {
  const Range seen = seenOf(block);
  const Value mask = shape.valueDim % lanes ? k.firstLanes(k.c(shape.valueDim % lanes)) : Value();
  k.loop(seen.first, seen.second, 1, [&](Value key) {
    BlockRows::Reader reader(values, values.row(key));
    for (int64_t v = 0; v < shape.valueVectors(); ++v)
      k.storeVec(reader.load(v, v + 1 == shape.valueVectors() ? mask : Value()),
                 packedValue(k.c(v), key));
  });
}

/// Scores of a register tile and the panel of keys from `column` on.
void VectorTile::scorePacked(Value stacked, Value column) {
  const int64_t panel = shape.nr * lanes;
  Value query = k.at(base, offset(queryArea, stacked, queryStride));
  SmallVector<Value> zeros(shape.mr * shape.nr, k.splat(0));
  Value keys = k.at(base, offset(keysArea, k.div(column, panel), panelStride));
  auto scores = multiply(query, queryStride, k.c(0), k.c(shape.keyDim), shape.mr, shape.nr, zeros,
                         [&](Value dim) {
                           Value row = k.at(keys, k.mul(dim, panel * 4));
                           SmallVector<Value> parts;
                           for (int64_t v = 0; v < shape.nr; ++v)
                             parts.push_back(k.loadVec(k.at(row, v * lanes * 4)));
                           return parts;
                         });
  Value out = k.at(scoreRow(stacked), k.mul(column, 4));
  for (int64_t r = 0; r < shape.mr; ++r)
    for (int64_t v = 0; v < shape.nr; ++v)
      k.storeVec(scores[r * shape.nr + v], k.at(out, r * scoreStride + v * lanes * 4));
}

SmallVector<Value> VectorTile::dots(ArrayRef<Value> queries, const BlockRows &keys, Value row) {
  const int64_t vectors = shape.keyVectors(), rows = int64_t(queries.size()) / vectors;
  SmallVector<Value> sums(rows);
  BlockRows::Reader reader(keys, row);
  for (int64_t v = 0; v < vectors; ++v) {
    const bool tail = v + 1 == vectors && shape.keyDim % lanes;
    Value part = reader.load(v, tail ? k.firstLanes(k.c(shape.keyDim % lanes)) : Value());
    for (int64_t r = 0; r < rows; ++r) {
      Value query = queries[r * vectors + v];
      sums[r] = v == 0 ? k.mulf(query, part) : k.fma(query, part, sums[r]);
    }
  }
  return sums;
}

/// Scores of four keys that follow each other, of up to three rows, on AVX2: two keys at a time, so
/// that their sums stay in registers beside 8 numbers of each query.
void VectorTile::scoreFour(Value query, int64_t rows, const BlockRows &keys, Value run, Value out) {
  constexpr int64_t half = lanes / 2;
  auto partOf = [&](BlockRows::Reader &reader, int64_t first) { // zeros past a head's last number
    if (first + half <= shape.keyDim)
      return reader.load(first, half, {});
    Value whole = reader.load(first / lanes, k.firstLanes(k.c(shape.keyDim % lanes)));
    return Value(k.b.create<vector::ExtractStridedSliceOp>(k.loc, whole, first % lanes, half, 1));
  };
  SmallVector<Value> pairs; // row after row of the first two keys, then of the others
  for (int64_t i = 0; i < 4; i += 2) {
    BlockRows::Reader left(keys, keys.row(run, i)), right(keys, keys.row(run, i + 1));
    SmallVector<Value> sums(size_t(2 * rows));
    for (int64_t first = 0; first < shape.keyDim; first += half) {
      const Value parts[] = {partOf(left, first), partOf(right, first)};
      SmallVector<Value *> growing;
      for (int64_t r = 0; r < rows; ++r) {
        Value own = k.load(k.vec(k.f32, half), k.at(query, r * queryStride + first * 4), 4);
        for (size_t j = 0; j < 2; ++j) {
          Value &sum = sums[size_t(2 * r) + j];
          sum = sum ? k.fma(own, parts[j], sum) : k.mulf(own, parts[j]);
          growing.push_back(&sum);
        }
      }
      k.fenceRegisters(growing); // or LLVM loads far ahead, and sums go to the stack
    }
    for (int64_t r = 0; r < rows; ++r)
      pairs.push_back(addPairs(k, sums[size_t(2 * r)], sums[size_t(2 * r) + 1], /*isFirst=*/true));
  }
  for (int64_t r = 0; r < rows; ++r) {
    Value all = addPairs(k, pairs[size_t(r)], pairs[size_t(rows + r)], /*isFirst=*/false);
    k.store(k.addf(k.shuffle(all, all, {0, 1, 2, 3}), k.shuffle(all, all, {4, 5, 6, 7})),
            k.at(out, r * scoreStride), 4);
  }
}

void VectorTile::scoreInPlace(Value stacked, const View &view, const BlockRows &keys) {
  // Rows whose half-reduced sums stay in registers together, of AVX-512 with their queries: up to
  // three, in even shares.
  constexpr int64_t most = 3;
  const bool wide = k.target.limits.vectorBits == 512;
  const int64_t keysAtOnce = wide ? lanes : 4;
  const int64_t chunks = (shape.mr + most - 1) / most;
  const int64_t together = (shape.mr + chunks - 1) / chunks;
  const int64_t vectors = shape.keyVectors();
  auto addf = [&](Value x, Value y) { return k.addf(x, y); };
  for (int64_t begin = 0; begin < shape.mr; begin += together) {
    const int64_t rows = std::min(together, shape.mr - begin);
    SmallVector<Value> queries;
    Value query = k.at(base, offset(queryArea, k.add(stacked, begin), queryStride));
    for (int64_t i = 0; wide && i < rows * vectors; ++i)
      queries.push_back(k.loadVec(k.at(query, i * lanes * 4)));
    Value out = scoreRow(k.add(stacked, begin));
    Value whole = k.mul(k.div(view.to, keysAtOnce), keysAtOnce);
    k.loop(k.c(0), whole, keysAtOnce, [&](Value column) {
      Value run = keys.run(column);
      if (!wide) {
        for (int64_t i = 0; begin == 0 && shape.prefetch > 0 && i < keysAtOnce; ++i)
          keys.prefetch(run, i + shape.prefetch, vectors);
        return scoreFour(query, rows, keys, run, k.at(out, k.mul(column, 4)));
      }
      SmallVector<SmallVector<Value>> sums(rows, SmallVector<Value>(lanes));
      for (int64_t w = 0; w < 4; ++w) // in the order in which reduceEach takes them
        for (int64_t i = w; i < lanes; i += 4) {
          if (begin == 0 && shape.prefetch > 0)
            keys.prefetch(run, i + shape.prefetch, vectors);
          for (auto [r, sum] : llvm::enumerate(dots(queries, keys, keys.row(run, i))))
            sums[r][i] = sum;
        }
      for (int64_t r = 0; r < rows; ++r)
        k.storeVec(reduceEach(k, sums[r], addf),
                   k.at(out, k.add(k.mul(column, 4), k.c(r * scoreStride))));
    });
    k.loop(whole, view.to, 1, [&](Value column) {
      Value row = keys.row(keys.run(column), 0);
      for (int64_t i = 0; !wide && i < rows * vectors; ++i)
        queries.push_back(k.loadVec(k.at(query, i * lanes * 4)));
      for (auto [r, sum] : llvm::enumerate(dots(queries, keys, row)))
        k.store(k.reduceAdd(sum), k.at(out, k.add(k.mul(column, 4), k.c(r * scoreStride))), 4);
    });
  }
}

//===----------------------------------------------------------------------===//
// Online softmax
//===----------------------------------------------------------------------===//

void VectorTile::maskScores(Value stacked, Value block, Value from, Value to) {
  // Bounds within the block, as 32-bit lanes.
  auto bound = [&](Value position) {
    Value inside = k.min(k.max(k.sub(position, block), k.c(0)), k.c(shape.keyBlock));
    return k.broadcast(k.b.create<arith::TruncIOp>(k.loc, k.i32, inside));
  };
  SmallVector<Value> firsts, ends;
  for (int64_t r = 0; r < (shape.packed ? shape.mr : 1); ++r) {
    Range range = shape.packed ? rowRange(k.add(stacked, r)) : Range{first, end};
    firsts.push_back(bound(range.first));
    ends.push_back(bound(range.second));
  }
  k.loop(from, to, lanes, [&](Value column) {
    Value index = k.b.create<arith::AddIOp>(
        k.loc, k.iota(), k.broadcast(k.b.create<arith::TruncIOp>(k.loc, k.i32, column)));
    for (int64_t r = 0; r < shape.mr; ++r) {
      const int64_t own = shape.packed ? r : 0;
      Value seen = k.b.create<arith::AndIOp>(k.loc, k.cmp(Predicate::sge, index, firsts[own]),
                                             k.cmp(Predicate::slt, index, ends[own]));
      Value at = k.at(scoreRow(k.add(stacked, r)), k.mul(column, 4));
      k.storeVec(k.select(seen, k.loadVec(at), k.splat(-INFINITY)), at);
    }
  });
}

void VectorTile::softmax(Value stacked, Value block, const View &view) {
  Value from = k.mul(k.div(view.from, lanes), lanes), to = k.mul(k.ceilDiv(view.to, lanes), lanes);
  auto scoreAt = [&](int64_t r, Value column) {
    return k.at(scoreRow(stacked), k.add(k.mul(column, 4), k.c(r * scoreStride)));
  };
  auto max = [&](Value x, Value y) { return larger(k, x, y); };
  if (shape.softcap > 0)
    k.loop(from, to, lanes, [&](Value column) {
      for (int64_t r = 0; r < shape.mr; ++r)
        k.storeVec(emitSoftcap(k, shape.softcap, k.loadVec(scoreAt(r, column))),
                   scoreAt(r, column));
    });
  k.ifThen(view.masked, [&] { maskScores(stacked, block, from, to); });

  SmallVector<Value> lowest(shape.mr, k.splat(-INFINITY));
  auto tops = k.loop(from, to, lanes, lowest, [&](Value column, ValueRange carried) {
    SmallVector<Value> next;
    for (int64_t r = 0; r < shape.mr; ++r)
      next.push_back(max(k.loadVec(scoreAt(r, column)), carried[r]));
    return next;
  });
  // From here on lane r is row r. A row that has seen no key yet is measured against 0, not
  // against -inf.
  Value rowsMask = k.firstLanes(k.c(shape.mr));
  Value before = k.loadVec(highest(stacked));
  Value after = max(before, reduceEach(k, tops, max));
  Value nothing = k.cmpf(arith::CmpFPredicate::OEQ, after, k.splat(-INFINITY));
  Value against = k.select(nothing, k.splat(0), after);
  Value rescale = emitExpOfNonPositive(k, k.subf(before, against));
  k.storeVec(after, highest(stacked), rowsMask);
  k.storeVec(rescale, k.at(base, offset(alphaArea, stacked, 4)), rowsMask);

  SmallVector<Value> levels, zeros(shape.mr, k.splat(0));
  for (int64_t r = 0; r < shape.mr; ++r)
    levels.push_back(k.shuffle(against, against, SmallVector<int64_t>(lanes, r)));
  auto sums = k.loop(from, to, lanes, zeros, [&](Value column, ValueRange carried) {
    SmallVector<Value> next;
    for (int64_t r = 0; r < shape.mr; ++r) {
      Value share = emitExpOfNonPositive(k, k.subf(k.loadVec(scoreAt(r, column)), levels[r]));
      k.storeVec(rounded(share), scoreAt(r, column));
      next.push_back(k.addf(carried[r], share));
    }
    return next;
  });
  Value added = reduceEach(k, sums, [&](Value x, Value y) { return k.addf(x, y); });
  k.storeVec(k.fma(k.loadVec(sum(stacked)), rescale, added), sum(stacked), rowsMask);
}

//===----------------------------------------------------------------------===//
// Weighted sums of values
//===----------------------------------------------------------------------===//

void VectorTile::addInPlace(Value stacked, const View &view, const BlockRows &values) {
  addValues(stacked, shape.mr, shape.nr, view.from, view.to, // all rows see the same keys
            [&](Value key, Value column, int64_t width, Value lastMask) {
              const BlockRows part = values.fromColumn(column, width);
              Value run = part.run(key);
              if (shape.prefetch > 0)
                part.prefetch(run, shape.prefetch, width);
              SmallVector<Value> parts;
              BlockRows::Reader reader(part, part.row(run, 0));
              for (int64_t v = 0; v < width; ++v)
                parts.push_back(reader.load(v, v + 1 == width ? lastMask : Value()));
              return parts;
            });
}

void VectorTile::addPackedValues(Value block) {
  auto load = [&](Value key, Value column, int64_t width, Value) {
    Value from = packedValue(k.div(column, lanes), key);
    SmallVector<Value> parts;
    for (int64_t v = 0; v < width; ++v)
      parts.push_back(k.loadVec(k.at(from, v * valueStride)));
    return parts;
  };
  // One panel of values, which stays in the first cache, meets all rows that see the whole block.
  const int64_t vectors = shape.valueVectors(), step = shape.nr * lanes;
  auto panel = [&](Value column, int64_t width) {
    forEachTile(block, [&](Value stacked, const View &view) {
      Value seesAll = k.not_(view.masked);
      k.ifThen(seesAll, [&] {
        addPanel(stacked, shape.mr, column, width, k.c(0), k.c(shape.keyBlock),
                 [&](Value key) { return load(key, column, width, Value()); });
      });
    });
  };
  const int64_t whole = vectors / shape.nr * step;
  k.loop(k.c(0), k.c(whole), step, [&](Value column) { panel(column, shape.nr); });
  if (vectors % shape.nr)
    panel(k.c(whole), vectors % shape.nr);
  // Others row by row over just the keys that each sees: 0 times a value that it must not see might
  // be NaN.
  forEachTile(block, [&](Value stacked, const View &view) {
    k.ifThen(view.masked, [&] {
      k.loop(stacked, k.add(stacked, shape.mr), 1, [&](Value row) {
        Range range = rowRange(row);
        addValues(row, 1, 4, k.sub(k.max(range.first, block), block),
                  k.sub(k.min(range.second, k.add(block, shape.keyBlock)), block), load);
      });
    });
  });
}

/// Adds the columns [from, to) of a block to the outputs of `rows` rows, `vectors` vectors at a
/// time.
void VectorTile::addValues(Value stacked, int64_t rows, int64_t vectors, Value from, Value to,
                           ValueLoader load) {
  auto panel = [&](Value column, int64_t width, Value lastMask) {
    addPanel(stacked, rows, column, width, from, to,
             [&](Value key) { return load(key, column, width, lastMask); });
  };
  const int64_t step = vectors * lanes, whole = shape.valueDim / step * step;
  k.loop(k.c(0), k.c(whole), step, [&](Value column) { panel(column, vectors, Value()); });
  if (whole != shape.valueDim)
    panel(k.c(whole), shape.valueVectors() - whole / lanes,
          shape.valueDim % lanes ? k.firstLanes(k.c(shape.valueDim % lanes)) : Value());
}

/// The same for `width` vectors from number `column` of the outputs on.
void VectorTile::addPanel(Value stacked, int64_t rows, Value column, int64_t width, Value from,
                          Value to, RowLoader load) {
  Value out = k.at(output(stacked), k.mul(column, 4));
  SmallVector<Value> init;
  for (int64_t r = 0; r < rows; ++r) {
    Value rescale = k.broadcast(k.loadF32(k.at(base, offset(alphaArea, k.add(stacked, r), 4))));
    for (int64_t v = 0; v < width; ++v)
      init.push_back(k.mulf(k.loadVec(k.at(out, r * outputStride + v * lanes * 4)), rescale));
  }
  auto sums = multiply(scoreRow(stacked), scoreStride, from, to, rows, width, init, load);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t v = 0; v < width; ++v)
      k.storeVec(sums[r * width + v], k.at(out, r * outputStride + v * lanes * 4));
}

/// init + a * b: `rows` x (to - from) scalars times (to - from) x `vectors` vectors, in registers.
SmallVector<Value> VectorTile::multiply(Value a, int64_t strideA, Value from, Value to,
                                        int64_t rows, int64_t vectors, ValueRange init,
                                        RowLoader load) {
  return k.loop(from, to, 1, init, [&](Value i, ValueRange carried) {
    Value column = k.at(a, k.mul(i, 4));
    const SmallVector<Value> parts = load(i);
    SmallVector<Value> next;
    for (int64_t r = 0; r < rows; ++r) {
      Value factor = k.broadcast(k.loadF32(k.at(column, r * strideA)));
      for (int64_t v = 0; v < vectors; ++v)
        next.push_back(k.fma(factor, parts[v], carried[r * vectors + v]));
    }
    return next;
  });
}
