// Attention tiles of bf16, multiplied by AMX or by AVX512-BF16. A register tile is sixteen stacked
// rows, one in each lane: scores are keys times the query's columns, so that a key's are one
// vector, the softmax reduces nothing across lanes, and its weights are at once the right side of
// the second product, whose left side is values with columns and rows exchanged:
//     scores[key][row] = keys[key][:] query[:][row]
//     output[column][row] += values^T[column][:] weights[:][row]
// A right side has pairs of elements of K side by side, as the instructions of both want it.
#include "kernelforge/codegen/cpu/AttentionLanes.h"
#include "kernelforge/codegen/cpu/AttentionTile.h"
#include "kernelforge/codegen/cpu/MatrixRegisters.h"
#include "kernelforge/codegen/cpu/VectorMath.h"

#include <cmath>
#include <numbers>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;
using namespace kernelforge::cpu::attention;

using Predicate = arith::CmpIPredicate;

namespace {

/// Elements of K that a step of a product takes, and bytes of a vector, or of a row of a step.
constexpr int64_t stepK = MatrixRegisters::depth, line = MatrixRegisters::rowBytes;
/// Bytes of sixteen rows of a step, and of 16 x 16 f32.
constexpr int64_t squareBytes = lanes * line;

class MatrixTile : public Tile {
public:
  MatrixTile(KernelBuilder &k, const Shape &shape);

  void beginTask() override {
    if (isAmx())
      matrix.configure(SmallVector<int64_t>(MatrixRegisters::count, lanes));
  }
  void endTask() override {
    if (isAmx())
      matrix.release();
  }
  /// What is below sixteen rows is in squares of 16 columns, row after row.
  Value outputAt(Value stacked, Value byteOffset) override {
    Value tile = k.div(stacked, lanes), row = k.sub(stacked, k.mul(tile, lanes));
    return k.at(outputOf(k.mul(tile, lanes)), k.add(k.mul(byteOffset, lanes), k.mul(row, line)));
  }

private:
  void storeQuery(Value stacked, int64_t v, Value x) override;
  void clearOutput(Value stacked) override {
    Value own = k.at(base, offset(outputArea, stacked, shape.valueVectors() * line));
    for (int64_t v = 0; v < shape.valueVectors(); ++v)
      k.storeVec(k.splat(0), k.at(own, v * line));
  }
  void attendBlock(Value block, const BlockRows &keys, const BlockRows &values) override;
  void finish() override;

  /// A register tile before a block of keys, of which it sees `view`: in whole steps [from, to).
  struct Part {
    Value stacked;
    View view;
    Value from, to;
  };

  bool isAmx() const { return shape.form.unit == PanelForm::Unit::Tiles; }
  int64_t keySteps() const { return ceilDiv(shape.keyDim, stepK); }
  int64_t keyBytes() const { return keySteps() * line; }
  /// Of a tile, whose first stacked row is `stacked`.
  Value queryOf(Value stacked) {
    return k.at(base, offset(queryArea, k.div(stacked, lanes), keySteps() * squareBytes));
  }
  Value outputOf(Value stacked) {
    return k.at(base, offset(outputArea, stacked, shape.valueVectors() * line));
  }
  Value scoresOf(Value key) { return k.at(base, offset(scoresArea, key, line)); }
  /// Of the pair of keys that begins with `key`.
  Value weightsOf(Value key) { return k.at(base, offset(weightsArea, k.div(key, 2), line)); }
  /// Sixteen columns of values (`v`), keys from `column` on, a multiple of 32.
  Value valuesAt(Value v, Value column) {
    Value square = k.add(k.mul(v, shape.keyBlock / stepK), k.div(column, stepK));
    return k.at(base, offset(valuesArea, square, squareBytes));
  }
  Value floats(Value x) { return k.b.create<arith::BitcastOp>(k.loc, k.vf32, x); }
  Value any(Value lanesTrue) {
    return k.b.create<vector::ReductionOp>(k.loc, vector::CombiningKind::OR, lanesTrue);
  }

  void packKeys(const BlockRows &keys, const Range &seen);
  Value packValues(const BlockRows &values, const Range &seen);
  Value packSquare(const BlockRows &values, ArrayRef<Value> rows, Value column, int64_t width,
                   Value key, Value finite);
  void dropSpecialValues(const Range &seen);
  void score(const Part &part);
  Range rangesOf(Value stacked);
  Value seenBy(const Range &ranges, Value position);
  void maskScores(const Part &part, Value block);
  void softmax(const Part &part, Value block);
  void rescale(Value stacked, Value factors);
  void addValues(const Part &part);
  void addSpecialValues(const Part &part, Value block, const BlockRows &values);

  /// Sixteen rows of a left side, `stride` bytes apart, and their sums, 64 bytes apart.
  struct Rows {
    Value left;
    int64_t stride;
    Value sums;
  };
  /// sums (+)= left * right over the steps of which there are `steps` (i64); `rows` are up to four.
  /// From step to step `leftStep` bytes of left sides.
  void multiply(ArrayRef<Rows> rows, int64_t leftStep, Value right, Value steps, bool fromZero);

  MatrixRegisters matrix;
  int64_t queryArea, outputArea, scoresArea, weightsArea, keysArea, valuesArea;
};

} // namespace

MatrixTile::MatrixTile(KernelBuilder &k, const Shape &shape) : Tile(k, shape), matrix(k) {
  assert(shape.mr == lanes && shape.keyBlock % stepK == 0 && "a lane for each row, whole steps");
  const int64_t rows = shape.stackedRows();
  queryArea = areas.take(rows * keyBytes());
  outputArea = areas.take(rows * shape.valueVectors() * line);
  scoresArea = areas.take(shape.keyBlock * line);
  weightsArea = areas.take(shape.keyBlock / 2 * line);
  keysArea = areas.take(shape.keyBlock * keyBytes());
  valuesArea = areas.take(shape.valueVectors() * shape.keyBlock / stepK * squareBytes);
}

std::unique_ptr<Tile> attention::createMatrixTile(KernelBuilder &k, const Shape &shape) {
  return std::make_unique<MatrixTile>(k, shape);
}

void MatrixTile::storeQuery(Value stacked, int64_t v, Value x) {
  Value row = k.rem(stacked, lanes);
  Value pairs = k.b.create<vector::BitCastOp>(k.loc, k.vec(k.i32, lanes / 2), bfloat16Bits(k, x));
  Value to = k.at(k.at(queryOf(stacked), k.mul(row, 4)), v * lanes / 2 * line);
  for (int64_t i = 0; i < lanes / 2; ++i)
    k.store(k.b.create<vector::ExtractOp>(k.loc, pairs, ArrayRef<int64_t>{i}), k.at(to, i * line),
            4);
  if (v + 1 == shape.keyVectors() && shape.keyVectors() % 2 != 0) // of the last step what is left
    for (int64_t i = 0; i < lanes / 2; ++i)
      k.store(k.b.create<arith::ConstantOp>(k.loc, k.b.getI32IntegerAttr(0)),
              k.at(to, (lanes / 2 + i) * line), 4);
}

void MatrixTile::attendBlock(Value block, const BlockRows &keys, const BlockRows &values) {
  const Range seen = seenOf(block);
  packKeys(keys, seen);
  Value hasSpecial = packValues(values, seen);
  k.ifThen(hasSpecial, [&] { dropSpecialValues(seen); });
  // Tile by tile, so that scores and weights stay in L1.
  forEachTile(block, [&](Value stacked, const View &view) {
    const Part part = {stacked, view, k.mul(k.div(view.from, stepK), stepK),
                       k.mul(k.ceilDiv(view.to, stepK), stepK)};
    score(part);
    softmax(part, block);
    addValues(part);
    k.ifThen(hasSpecial, [&] { addSpecialValues(part, block, values); });
  });
}

void MatrixTile::finish() {
  k.loop(k.c(0), k.mul(tiles, shape.valueVectors()), 1, [&](Value square) {
    Value at = k.at(base, offset(outputArea, square, squareBytes));
    SmallVector<Value> x;
    for (int64_t i = 0; i < lanes; ++i)
      x.push_back(k.loadVec(k.at(at, i * line)));
    x = transpose(k, x);
    for (int64_t i = 0; i < lanes; ++i)
      k.storeVec(x[size_t(i)], k.at(at, i * line));
  });
}

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

void MatrixTile::multiply(ArrayRef<Rows> rows, int64_t leftStep, Value right, Value steps,
                          bool fromZero) {
  constexpr int64_t most = 4; // sums, one right side, and the others take turns as left sides
  assert(int64_t(rows.size()) <= most);
  if (isAmx()) {
    for (auto [i, own] : llvm::enumerate(rows))
      if (fromZero)
        matrix.zero(int64_t(i));
      else
        matrix.load(int64_t(i), own.sums, line);
    k.loop(k.c(0), steps, 1, [&](Value step) {
      matrix.load(most, k.at(right, k.mul(step, squareBytes)), line);
      for (auto [i, own] : llvm::enumerate(rows)) {
        const int64_t left = most + 1 + int64_t(i) % (MatrixRegisters::count - most - 1);
        matrix.load(left, k.at(own.left, k.mul(step, leftStep)), own.stride);
        matrix.multiply(int64_t(i), left, most);
      }
    });
    for (auto [i, own] : llvm::enumerate(rows))
      matrix.store(int64_t(i), own.sums, line);
    return;
  }
  const VectorType pairs = k.vec(k.b.getBF16Type(), 2 * lanes);
  for (const Rows &own : rows) {
    SmallVector<Value> init;
    for (int64_t r = 0; r < lanes; ++r)
      init.push_back(fromZero ? k.splat(0) : k.loadVec(k.at(own.sums, r * line)));
    auto sums = k.loop(k.c(0), steps, 1, init, [&](Value step, ValueRange carried) {
      Value left = k.at(own.left, k.mul(step, leftStep));
      Value from = k.at(right, k.mul(step, squareBytes));
      return k.loop(k.c(0), k.c(lanes), 1, carried, [&](Value pair, ValueRange inner) {
        Value columns = k.load(pairs, k.at(from, k.mul(pair, line)), 4);
        Value ofPair = k.at(left, k.mul(pair, 4));
        SmallVector<Value> next;
        for (int64_t r = 0; r < lanes; ++r) {
          Value x = k.broadcast(k.load(k.i32, k.at(ofPair, r * own.stride), 4));
          x = k.b.create<vector::BitCastOp>(k.loc, pairs, x);
          next.push_back(
              k.intrinsic("llvm.x86.avx512bf16.dpbf16ps.512", k.vf32, {inner[r], columns, x}));
        }
        return next;
      });
    });
    for (int64_t r = 0; r < lanes; ++r)
      k.storeVec(sums[size_t(r)], k.at(own.sums, r * line));
  }
}

//===----------------------------------------------------------------------===//
// Scores
//===----------------------------------------------------------------------===//

/// Keys that nobody sees repeat a neighbour that somebody does, here and in packValues().
void MatrixTile::packKeys(const BlockRows &keys, const Range &seen) {
  Value from = k.mul(k.div(seen.first, stepK), stepK), to = k.ceilDiv(seen.second, stepK);
  k.loop(from, k.mul(to, stepK), 1, [&](Value key) {
    BlockRows::Reader reader(keys, seenRow(keys, key, seen));
    Value at = k.at(base, offset(keysArea, key, keyBytes()));
    for (int64_t v = 0; v < 2 * keySteps(); ++v) {
      const int64_t left = shape.keyDim - v * lanes;
      Value mask = left >= lanes ? Value() : k.firstLanes(k.c(left));
      Value x = left > 0 ? reader.loadBfloat16(v, mask)
                         : k.b.create<arith::ConstantOp>(k.loc, k.b.getZeroAttr(k.vec(k.i16)));
      k.store(x, k.at(at, v * lanes * 2), 2);
    }
  });
}

void MatrixTile::score(const Part &part) {
  auto emit = [&](Value column, int64_t squares) {
    SmallVector<Rows> rows;
    for (int64_t i = 0; i < squares; ++i) {
      Value key = k.add(column, i * lanes);
      rows.push_back({k.at(base, offset(keysArea, key, keyBytes())), keyBytes(), scoresOf(key)});
    }
    multiply(rows, line, queryOf(part.stacked), k.c(keySteps()), /*fromZero=*/true);
  };
  k.loop(part.from, part.to, 2 * stepK, [&](Value column) {
    Value whole = k.lessThan(k.add(column, stepK), part.to);
    k.ifThen(whole, [&] { emit(column, 4); });
    k.ifThen(k.not_(whole), [&] { emit(column, 2); });
  });
}

//===----------------------------------------------------------------------===//
// Online softmax
//===----------------------------------------------------------------------===//

/// First positions and ends of a tile's rows, lane by lane (i32). Where a row sees nothing its end
/// is 0.
MatrixTile::Range MatrixTile::rangesOf(Value stacked) {
  Value ranges = k.at(base, offset(rangesArea, stacked, 16));
  Value offsets = k.b.create<arith::ShLIOp>(k.loc, k.iota(), k.splatI(4));
  return {k.gatherBytes(k.i32, ranges, offsets), k.gatherBytes(k.i32, k.at(ranges, 8), offsets)};
}

/// Which rows see the key at `position` (i64).
Value MatrixTile::seenBy(const Range &ranges, Value position) {
  Value all = k.broadcast(k.b.create<arith::TruncIOp>(k.loc, k.i32, position));
  return k.b.create<arith::AndIOp>(k.loc, k.cmp(Predicate::sge, all, ranges.first),
                                   k.cmp(Predicate::slt, all, ranges.second));
}

void MatrixTile::maskScores(const Part &part, Value block) {
  const Range ranges = rangesOf(part.stacked);
  k.loop(part.from, part.to, 1, [&](Value column) {
    Value seen = seenBy(ranges, k.add(block, column));
    Value at = scoresOf(column);
    k.storeVec(k.select(seen, k.loadVec(at), k.splat(-INFINITY)), at);
  });
}

/// Turns scores into weights, and brings sums of earlier blocks to what is the highest score now.
void MatrixTile::softmax(const Part &part, Value block) {
  constexpr int64_t chains = 4; // independent maxima and sums
  Value stacked = part.stacked, from = part.from, to = part.to;
  if (shape.softcap > 0)
    k.loop(from, to, 1, [&](Value column) {
      Value at = scoresOf(column);
      k.storeVec(emitSoftcap(k, shape.softcap, k.loadVec(at)), at);
    });
  k.ifThen(part.view.masked, [&] { maskScores(part, block); });

  auto tops = k.loop(from, to, 2 * chains, SmallVector<Value>(chains, k.splat(-INFINITY)),
                     [&](Value column, ValueRange carried) {
                       SmallVector<Value> next(carried);
                       for (int64_t i = 0; i < 2 * chains; ++i) {
                         Value &top = next[size_t(i % chains)];
                         top = larger(k, k.loadVec(scoresOf(k.add(column, i))), top);
                       }
                       return next;
                     });
  Value top = larger(k, larger(k, tops[0], tops[1]), larger(k, tops[2], tops[3]));
  Value before = k.loadVec(highest(stacked));
  Value after = larger(k, before, top);
  // A row that has seen no key yet is measured against 0, not against -inf.
  Value nothing = k.cmpf(arith::CmpFPredicate::OEQ, after, k.splat(-INFINITY));
  Value against = k.select(nothing, k.splat(0), after);
  Value factors = emitExpOfNonPositive(k, k.subf(before, against));
  k.storeVec(after, highest(stacked));

  // exp(score - against) as a power of 2; the difference first, which of the highest score is 0
  // however large it is.
  Value log2e = k.splat(std::numbers::log2e);
  const VectorType wide = k.vec(k.i16, 2 * lanes);
  SmallVector<int64_t> order; // the two of a pair side by side, from the first's and the second's
  for (int64_t lane = 0; lane < lanes; ++lane)
    order.append({lane, lane + lanes});
  auto sums = k.loop(from, to, chains, SmallVector<Value>(chains, k.splat(0)),
                     [&](Value column, ValueRange carried) {
                       SmallVector<Value> next, shares;
                       for (int64_t i = 0; i < chains; ++i) {
                         Value score = k.loadVec(scoresOf(k.add(column, i)));
                         shares.push_back(emitRoughExp2(k, k.mulf(k.subf(score, against), log2e)));
                         next.push_back(k.addf(carried[i], shares.back()));
                       }
                       for (int64_t i = 0; i < chains; i += 2) {
                         Value both = k.intrinsic("llvm.x86.avx512bf16.cvtne2ps2bf16.512",
                                                  k.vec(k.b.getBF16Type(), 2 * lanes),
                                                  {shares[i + 1], shares[i]});
                         both = k.b.create<vector::BitCastOp>(k.loc, wide, both);
                         k.store(k.shuffle(both, both, order), weightsOf(k.add(column, i)), 4);
                       }
                       return next;
                     });
  Value added = k.addf(k.addf(sums[0], sums[1]), k.addf(sums[2], sums[3]));
  k.storeVec(k.fma(k.loadVec(sum(stacked)), factors, added), sum(stacked));
  // What a factor of 1 would leave as it is is mostly left alone.
  Value changes = k.cmpf(arith::CmpFPredicate::UNE, factors, k.splat(1));
  k.ifThen(any(changes), [&] { rescale(stacked, factors); });
}

//===----------------------------------------------------------------------===//
// Weighted sums of values
//===----------------------------------------------------------------------===//

/// Returns whether an infinity or a NaN is among the values (i1).
Value MatrixTile::packValues(const BlockRows &values, const Range &seen) {
  Value from = k.mul(k.div(seen.first, stepK), stepK);
  auto finite = k.loop(from, seen.second, stepK, {k.splat(0)}, [&](Value key, ValueRange outer) {
    SmallVector<Value> rows;
    for (int64_t i = 0; i < stepK; ++i)
      rows.push_back(seenRow(values, k.add(key, i), seen));
    const int64_t whole = shape.valueDim / lanes * lanes;
    SmallVector<Value> state(outer);
    state = k.loop(k.c(0), k.c(whole), lanes, state, [&](Value column, ValueRange carried) {
      return SmallVector<Value>{packSquare(values, rows, column, lanes, key, carried[0])};
    });
    if (whole != shape.valueDim)
      state = {packSquare(values, rows, k.c(whole), shape.valueDim - whole, key, state[0])};
    return state;
  });
  return any(k.cmpf(arith::CmpFPredicate::UNO, finite[0], finite[0]));
}

/// Columns [column, column + width) of 32 values, exchanged: a row for each column. `finite` is 0
/// in each lane; where a value is not finite, it becomes NaN.
Value MatrixTile::packSquare(const BlockRows &values, ArrayRef<Value> rows, Value column,
                             int64_t width, Value key, Value finite) {
  Value mask = width == lanes ? Value() : k.firstLanes(k.c(width));
  auto wide = [&](Value row) -> Value {
    return k.b.create<arith::ExtUIOp>(k.loc, k.vi32, values.loadBfloat16At(row, column, mask));
  };
  SmallVector<Value> x, checks(4, k.splat(0)); // several, so that none waits for another
  auto check = [&](Value numbers) {
    Value &own = checks[x.size() % checks.size()];
    own = k.fma(numbers, k.splat(0), own);
  };
  for (int64_t i = 0; i < stepK; i += 2) {
    Value upper = k.b.create<arith::ShLIOp>(k.loc, wide(rows[size_t(i + 1)]), k.splatI(16));
    Value pair = k.b.create<arith::OrIOp>(k.loc, wide(rows[size_t(i)]), upper);
    Value lower = k.b.create<arith::ShLIOp>(k.loc, pair, k.splatI(16));
    // The lower number is no more to the upper one than digits far behind, which make no finite
    // number infinite.
    check(floats(pair));
    check(floats(lower));
    x.push_back(floats(pair));
  }
  x = transpose(k, x);
  Value to = valuesAt(k.div(column, lanes), key);
  for (int64_t i = 0; i < lanes; ++i)
    k.storeVec(x[size_t(i)], k.at(to, i * line));
  for (Value own : checks)
    finite = k.addf(finite, own);
  return finite;
}

/// A row that does not see a value has a weight of 0 for it, and 0 times infinity would be NaN: so
/// products have 0 in place of what is not finite, and addSpecialValues() adds it.
void MatrixTile::dropSpecialValues(const Range &seen) {
  const VectorType half = k.vec(k.i16, 2 * lanes);
  auto all = [&](int16_t value) -> Value {
    return k.b.create<arith::ConstantOp>(k.loc, DenseElementsAttr::get(half, value));
  };
  Value from = k.mul(k.div(seen.first, stepK), stepK);
  k.loop(k.c(0), k.c(shape.valueVectors()), 1, [&](Value v) {
    k.loop(from, seen.second, stepK, [&](Value key) {
      k.loop(k.c(0), k.c(squareBytes), line, [&](Value offset) {
        Value at = k.at(valuesAt(v, key), offset);
        Value x = k.load(half, at, 2);
        Value exponent = k.b.create<arith::AndIOp>(k.loc, x, all(0x7f80));
        Value isSpecial = k.cmp(Predicate::eq, exponent, all(0x7f80));
        k.store(k.select(isSpecial, all(0), x), at, 2);
      });
    });
  });
}

void MatrixTile::rescale(Value stacked, Value factors) {
  Value output = outputOf(stacked);
  k.loop(k.c(0), k.c(shape.valueVectors() * squareBytes), 4 * line, [&](Value offset) {
    for (int64_t i = 0; i < 4; ++i) {
      Value at = k.at(output, k.add(offset, i * line));
      k.storeVec(k.mulf(k.loadVec(at), factors), at);
    }
  });
}

void MatrixTile::addValues(const Part &part) {
  Value weights = weightsOf(part.from);
  Value steps = k.div(k.sub(part.to, part.from), stepK);
  auto emit = [&](Value v, int64_t squares) {
    SmallVector<Rows> rows;
    for (int64_t i = 0; i < squares; ++i)
      rows.push_back({valuesAt(k.add(v, i), part.from), line,
                      k.at(outputOf(part.stacked), k.mul(k.add(v, i), squareBytes))});
    multiply(rows, squareBytes, weights, steps, /*fromZero=*/false);
  };
  const int64_t vectors = shape.valueVectors(), whole = vectors / 4 * 4;
  k.loop(k.c(0), k.c(whole), 4, [&](Value v) { emit(v, 4); });
  if (whole != vectors)
    emit(k.c(whole), vectors - whole);
}

/// Rare, so in the shortest way: key by key and column by column, to the rows that see the key.
void MatrixTile::addSpecialValues(const Part &part, Value block, const BlockRows &values) {
  const Range ranges = rangesOf(part.stacked);
  Value column16 = k.onStack(lanes);
  k.loop(part.view.from, part.view.to, 1, [&](Value key) {
    Value seen = seenBy(ranges, k.add(block, key));
    Value isUpper = k.cmp(Predicate::ne, k.rem(key, 2), k.c(0));
    Value both = k.loadVec(k.i32, weightsOf(key));
    Value upper = k.b.create<arith::AndIOp>(k.loc, both, k.splatI(int32_t(0xffff0000)));
    Value lower = k.b.create<arith::ShLIOp>(k.loc, both, k.splatI(16));
    Value weight = floats(k.select(isUpper, upper, lower));
    k.loop(k.c(0), k.c(shape.valueVectors()), 1, [&](Value v) {
      Value column = k.mul(v, lanes);
      Value mask =
          shape.valueDim % lanes ? k.firstLanes(k.sub(k.c(shape.valueDim), column)) : Value();
      k.storeVec(k.bfloat16ToF32(values.loadBfloat16At(values.row(key), column, mask)), column16);
      k.loop(k.c(0), k.c(lanes), 1, [&](Value i) {
        Value x = k.broadcast(k.loadF32(k.at(column16, k.mul(i, 4))));
        Value none = k.mulf(x, k.splat(0));
        Value add =
            k.b.create<arith::AndIOp>(k.loc, seen, k.cmpf(arith::CmpFPredicate::UNO, none, none));
        Value at = k.at(outputOf(part.stacked), k.mul(k.add(column, i), line));
        Value old = k.loadVec(at);
        k.storeVec(k.select(add, k.fma(weight, x, old), old), at);
      });
    });
  });
}
