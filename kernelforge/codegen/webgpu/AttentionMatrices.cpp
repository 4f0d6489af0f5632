// Attention for many rows by matrices of a subgroup. A subgroup owns some rows of a tile: scores go
// as matrices to its strip of workgroup memory, where lanes own rows of numbers, and the weights go
// back into the strip as f16 and are read as matrices. The outputs stay matrices: what they are
// scaled by follows a row's highest score only when this has grown by much, as single elements of a
// matrix can only be reached through the strip.
#include "kernelforge/codegen/webgpu/AttentionMatrices.h"

#include "kernelforge/codegen/simt/AttentionStage.h"
#include "kernelforge/codegen/simt/Elements.h"
#include "kernelforge/ir/Caches.h"

#include <cmath>
#include <fmt/format.h>
#include <numbers>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;
using namespace kernelforge::webgpu;
using namespace kernelforge::webgpu::matrices;

using Predicate = arith::CmpIPredicate;

namespace {

/// Highest score of a row that has seen no key, and that of a key that a row does not see: so far
/// apart that the key's weight is 0 even there.
constexpr double nothingSeen = -1e30, notSeen = -3e38;
/// Least factor of scores for which that holds after they were multiplied by it.
constexpr double leastFactor = 1e-6;
/// By how much, in powers of two, a highest score may grow before the outputs are scaled: weights
/// are up to two to that, which f16 holds.
constexpr double mostGrowth = 8;

class AttentionMatricesEmitter {
public:
  AttentionMatricesEmitter(ModuleOp module, const KernelAnalysis &kernel, const Shape &shape,
                           StringRef entry)
      : p(module, kernel.kernel(), entry, shape.threads()), op(kernel.attention()), shape(shape),
        keys(p, op, /*areValues=*/false, shape.blockKeys, piecesEach(shape.pieceOfKey)),
        values(p, op, /*areValues=*/true, shape.blockKeys, piecesEach(shape.pieceOfValue)) {}

  Phase emit();

private:
  /// Pieces that a thread stores at once: of 8 elements together.
  static int64_t piecesEach(int64_t piece) { return std::max<int64_t>(8 / piece, 1); }
  SmallVector<Value> zeros(ValueRange like);
  SmallVector<Value> load(AttentionStage &stage, const TileKeys &seen, Value base) {
    return stage.load(*tile, seen, base, cacheHead);
  }
  void put(AttentionStage &stage, const TileKeys &seen, Value base, ValueRange loaded);
  Value halves(Value low, Value high);
  void readQuery();
  void computeScores();
  SmallVector<Value> softmax(const TileKeys &seen, Value base, ValueRange state);
  void putWeights();
  SmallVector<Value> rescaled(ValueRange outputs);
  SmallVector<Value> addValues(ValueRange outputs);
  SmallVector<Value> attend(const TileKeys &seen, ValueRange carried);
  void store(ValueRange last);

  int64_t outputColumns() const { return shape.facts.valueDim / matrixSize; }
  int64_t rowMatrices() const { return shape.rowsOfSubgroup / matrixSize; }
  int64_t keyMatrices() const { return shape.blockKeys / matrixSize; }
  Type matrix(PhaseBuilder::Side side) {
    const bool isSum = side == PhaseBuilder::Side::Sum;
    return p.matrix(side, isSum ? Type(p.f32) : p.b.getF16Type(), matrixSize, matrixSize);
  }
  /// Where matrix (i, j) of a strip of f32 begins, or of f16 (8 elements to a vector).
  Value inStrip(int64_t i, int64_t j, int64_t perVector) {
    return p.add(strip, i * matrixSize * shape.stripStride() + j * matrixSize / perVector);
  }

  PhaseBuilder p;
  AttentionOp op;
  const Shape &shape;
  AttentionStage keys, values;
  std::unique_ptr<AttentionTile> tile;
  Value head, cacheHead, firstRow;
  Value lane, part;         ///< of the subgroup; of the row, where several threads share it
  TileRow row;              ///< the thread's
  Value strip, mine;        ///< where the subgroup's strip begins, and the thread's scores in it
  Value rowStrip;           ///< where the row begins in it
  Value memory, grown;      ///< workgroup memory
  SmallVector<Value> query; ///< matrices of rows and columns of the head
  SmallVector<Value> weights;
  Value fade, isGrown;
  double toPowersOfTwo = 1; ///< times a dot product
};

Value AttentionMatricesEmitter::halves(Value low, Value high) {
  Value one = p.floatsToHalves(low), other = p.floatsToHalves(high);
  return p.vector({p.extract(one, int64_t(0)), p.extract(one, 1), p.extract(other, int64_t(0)),
                   p.extract(other, 1)});
}

/// Stores what load() gave, as f16. Values that no row sees become 0.
void AttentionMatricesEmitter::put(AttentionStage &stage, const TileKeys &seen, Value base,
                                   ValueRange loaded) {
  const int64_t stride = &stage == &keys ? shape.keyStride() : shape.valueStride();
  CacheVectors &cache = stage.vectors();
  stage.put(*tile, seen, base, loaded,
            [&](Value key, Value unit, ArrayRef<CacheVectors::Loaded> pieces, Value isSeen) {
              SmallVector<Value> vectors, quads;
              if (cache.isHalves() && PhaseBuilder::lanes(pieces[0].words) == 4)
                vectors.push_back(pieces[0].words);
              else
                for (const CacheVectors::Loaded &piece : pieces)
                  llvm::append_range(quads, cache.expand(piece));
              for (size_t q = 0; q < quads.size(); q += 2)
                vectors.push_back(halves(quads[q], quads[q + 1]));
              Value at = p.add(p.mul(key, stride), p.mul(unit, int64_t(vectors.size())));
              for (auto [v, vector] : llvm::enumerate(vectors))
                p.storeVector(isSeen ? p.select(isSeen, vector, p.splat(p.c(0), 4)) : vector,
                              memory, p.add(at, int64_t(v)));
            });
}

/// The rows of the query as f16 through workgroup memory into matrices, which stay.
void AttentionMatricesEmitter::readQuery() {
  const int64_t units = shape.facts.keyDim / 8, stride = shape.keyStride();
  Value count = p.rows(op.getQuery().getType());
  p.loop("unit", p.thread(), p.c(shape.rows() * units), shape.threads(), [&](Value unit) {
    Value index = p.named(p.div(unit, units), "index"), column = p.mul(p.rem(unit, units), 8);
    Value own = p.min(p.add(firstRow, index), p.sub(count, 1));
    Value start = p.mul(p.add(p.mul(own, shape.facts.heads), head), shape.facts.keyDim);
    Value at = p.named(p.add(start, column), "query_at");
    Value low = readElement(p, op.getQuery(), at, 4);
    Value high = readElement(p, op.getQuery(), p.add(at, 4), 4);
    p.storeVector(halves(p.named(low, "low"), p.named(high, "high")), memory,
                  p.add(p.mul(index, stride), p.rem(unit, units)));
  });
  p.barrier();
  Value first = p.mul(p.div(p.thread(), lanes), shape.rowsOfSubgroup * stride);
  first = p.named(first, "query_rows");
  for (int64_t i = 0; i < rowMatrices(); ++i)
    for (int64_t k = 0; k < shape.facts.keyDim / matrixSize; ++k)
      query.push_back(p.named(p.loadMatrix(matrix(PhaseBuilder::Side::Left), memory,
                                           p.add(first, i * matrixSize * stride + 2 * k), stride),
                              fmt::format("q{}_{}", i, k)));
  p.barrier();
}

/// Dot products of the subgroup's rows with the keys in memory, into its strip.
void AttentionMatricesEmitter::computeScores() {
  const int64_t columns = shape.facts.keyDim / matrixSize;
  SmallVector<Value> sums(size_t(rowMatrices() * keyMatrices()),
                          p.zeroMatrix(matrix(PhaseBuilder::Side::Sum)));
  for (int64_t k = 0; k < columns; ++k) {
    SmallVector<Value> key;
    for (int64_t j = 0; j < keyMatrices(); ++j)
      key.push_back(p.named(p.loadMatrix(matrix(PhaseBuilder::Side::Right), memory,
                                         p.c(j * matrixSize * shape.keyStride() + 2 * k),
                                         shape.keyStride(), /*columnMajor=*/true),
                            "k"));
    for (int64_t i = 0; i < rowMatrices(); ++i)
      for (int64_t j = 0; j < keyMatrices(); ++j) {
        Value &sum = sums[size_t(i * keyMatrices() + j)];
        sum = p.named(p.multiplyMatrices(query[size_t(i * columns + k)], key[size_t(j)], sum), "s");
      }
  }
  for (int64_t i = 0; i < rowMatrices(); ++i)
    for (int64_t j = 0; j < keyMatrices(); ++j)
      p.storeMatrix(sums[size_t(i * keyMatrices() + j)], memory, inStrip(i, j, 4),
                    shape.stripStride());
}

/// The weights of a thread's scores, into the strip: from {highest, sum} to the next. Sets what the
/// row's outputs must be scaled by, and whether any row's must.
SmallVector<Value> AttentionMatricesEmitter::softmax(const TileKeys &seen, Value base,
                                                     ValueRange state) {
  SmallVector<Value> scores;
  for (int64_t i = 0; i < shape.scoreQuads(); ++i)
    scores.push_back(p.named(p.bitsToFloat(p.loadVector(memory, p.add(mine, i))), "score"));
  // What weights are powers of two of: scores times `factor`, by one operation with the difference
  // to the highest one.
  const double softcap = op.getSoftcap().convertToDouble();
  double factor = softcap > 0 ? std::numbers::log2e : toPowersOfTwo;
  for (Value &score : scores) {
    if (softcap > 0) {
      score = p.mulf(score, p.cf(op.getScale().convertToDouble()));
      score = p.named(emitSoftcap(p, softcap, p.named(score, "scaled")), "score");
    } else if (factor < leastFactor) {
      score = p.named(p.mulf(score, p.cf(factor)), "score");
    }
  }
  factor = factor < leastFactor ? 1 : factor;
  const double unseen = notSeen / std::max(factor, 1.0); // finite when it is multiplied, too
  SmallVector<Type> types(scores.size(), scores[0].getType());
  SmallVector<Value> places;
  for (int64_t i = 0; i < 4; ++i)
    places.push_back(p.c(i));
  scores = p.ifElse(
      "seen_score", tile->isPartial(seen, base, shape.blockKeys), types,
      [&] {
        SmallVector<Value> masked;
        Value first = p.add(base, p.mul(part, 4 * shape.scoreQuads()));
        first = p.named(p.sub(first, row.first), "place");
        for (auto [i, score] : llvm::enumerate(scores)) {
          Value place = p.add(p.add(first, 4 * int64_t(i)), p.vector(places));
          masked.push_back(p.select(p.lessThan(place, seen.lengths[0]), score, p.cf(unseen)));
        }
        return masked;
      },
      [&] { return scores; });
  Value quad = scores[0];
  for (Value score : llvm::drop_begin(scores))
    quad = p.maxf(quad, score);
  p.named(quad, "highest_quad");
  Value highest = p.maxf(p.maxf(p.extract(quad, int64_t(0)), p.extract(quad, 1)),
                         p.maxf(p.extract(quad, 2), p.extract(quad, 3)));
  highest = p.named(highest, "own_highest");
  if (shape.rowThreads() == 2)
    highest = p.named(p.maxf(highest, p.shuffleXor(highest, matrixSize, lanes)), "row_highest");
  highest = p.named(p.mulf(highest, p.cf(factor)), "highest");
  Value before = state[0];
  using Float = arith::CmpFPredicate;
  Value isFirst = p.cmpf(Float::OLE, before, p.cf(nothingSeen));
  Value hasGrown = p.cmpf(Float::OGT, highest, p.addf(before, p.cf(mostGrowth)));
  Value next = p.named(
      p.select(isFirst, p.maxf(highest, p.cf(nothingSeen)), p.select(hasGrown, highest, before)),
      "new_highest");
  Value mustScale =
      p.b.create<arith::AndIOp>(p.loc, hasGrown, p.cmpf(Float::OGT, before, p.cf(nothingSeen)));
  mustScale = p.named(mustScale, "must_scale");
  auto power = [&](Value x) { return Value(p.b.create<math::Exp2Op>(p.loc, x)); };
  fade = p.named(p.select(mustScale, power(p.subf(before, next)), p.cf(1)), "fade");
  isGrown = mustScale;
  Value sum = p.mulf(state[1], fade), quads;
  Value negative = p.named(p.negf(next), "negative_highest");
  for (Value &score : scores) {
    score = p.fma(score, p.splat(p.cf(factor), 4), p.splat(negative, 4));
    score = p.named(power(score), "weight");
    quads = quads ? p.addf(quads, score) : score;
  }
  sum = p.named(p.addf(sum, p.sumOfLanes(p.named(quads, "weights"))), "new_sum");
  weights.clear();
  for (size_t i = 0; i < scores.size(); i += 2)
    weights.push_back(p.named(halves(scores[i], scores[i + 1]), "w"));
  putWeights();
  return {next, sum};
}

void AttentionMatricesEmitter::putWeights() {
  for (auto [i, weight] : llvm::enumerate(weights))
    p.storeVector(weight, memory,
                  p.add(rowStrip, p.add(p.mul(part, shape.scoreQuads() / 2), int64_t(i))));
}

/// The outputs with each row times what it fades by, through the strip.
SmallVector<Value> AttentionMatricesEmitter::rescaled(ValueRange outputs) {
  SmallVector<Value> scaled(outputs);
  const int64_t columns = outputColumns(), together = keyMatrices();
  for (int64_t first = 0; first < columns; first += together) {
    const int64_t end = std::min(first + together, columns);
    p.barrier();
    for (int64_t i = 0; i < rowMatrices(); ++i)
      for (int64_t j = first; j < end; ++j)
        p.storeMatrix(outputs[size_t(i * columns + j)], memory, inStrip(i, j - first, 4),
                      shape.stripStride());
    p.barrier();
    for (int64_t i = 0; i < shape.scoreQuads(); ++i) {
      Value at = p.add(mine, i);
      Value faded = p.mulf(p.bitsToFloat(p.loadVector(memory, at)), fade);
      p.storeVector(p.floatToBits(faded), memory, at);
    }
    p.barrier();
    for (int64_t i = 0; i < rowMatrices(); ++i)
      for (int64_t j = first; j < end; ++j)
        scaled[size_t(i * columns + j)] =
            p.named(p.loadMatrix(matrix(PhaseBuilder::Side::Sum), memory, inStrip(i, j - first, 4),
                                 shape.stripStride()),
                    "o");
  }
  p.barrier();
  putWeights();
  p.barrier();
  return scaled;
}

SmallVector<Value> AttentionMatricesEmitter::addValues(ValueRange outputs) {
  SmallVector<Value> sums(outputs);
  for (int64_t k = 0; k < keyMatrices(); ++k) {
    SmallVector<Value> weight;
    for (int64_t i = 0; i < rowMatrices(); ++i)
      weight.push_back(p.named(p.loadMatrix(matrix(PhaseBuilder::Side::Left), memory,
                                            inStrip(i, k, 8), shape.stripStride()),
                               "a"));
    for (int64_t j = 0; j < outputColumns(); ++j) {
      Value value = p.named(p.loadMatrix(matrix(PhaseBuilder::Side::Right), memory,
                                         p.c(k * matrixSize * shape.valueStride() + 2 * j),
                                         shape.valueStride()),
                            "v");
      for (int64_t i = 0; i < rowMatrices(); ++i) {
        Value &sum = sums[size_t(i * outputColumns() + j)];
        sum = p.named(p.multiplyMatrices(weight[size_t(i)], value, sum), "o");
      }
    }
  }
  return sums;
}

/// Numbers of the types of others.
SmallVector<Value> AttentionMatricesEmitter::zeros(ValueRange like) {
  SmallVector<Value> made;
  for (Value value : like) {
    Value zero = getElementTypeOrSelf(value.getType()).isF32() ? p.cf(0) : p.c(0);
    const int64_t lanes = PhaseBuilder::lanes(value);
    made.push_back(lanes > 1 ? p.splat(zero, lanes) : zero);
  }
  return made;
}

/// All keys of a sequence. Carried: highest score and sum of weights of the thread's row, then the
/// outputs.
SmallVector<Value> AttentionMatricesEmitter::attend(const TileKeys &seen, ValueRange carried) {
  SmallVector<Value> k = load(keys, seen, seen.from);
  SmallVector<Value> v = load(values, seen, seen.from);
  put(keys, seen, seen.from, k);
  p.barrier();
  SmallVector<Value> init(v);
  llvm::append_range(init, carried);
  std::string names;
  for (size_t i = 0; i < v.size(); ++i)
    names += fmt::format("v{} ", i);
  SmallVector<Value> last = p.loop(
      "base", seen.from, seen.to, shape.blockKeys, names + "highest sum o", init,
      [&](Value base, ValueRange carried) {
        SmallVector<Value> own(carried.take_front(v.size()));
        ValueRange state = carried.slice(v.size(), 2), outputs = carried.drop_front(v.size() + 2);
        Value following = p.named(p.add(base, shape.blockKeys), "following");
        // In a branch: a load that stands alone may be made as late as what needs it.
        Value isMore = p.named(p.lessThan(following, seen.to), "is_more");
        const SmallVector<Value> nextKeys = p.ifElse(
            "next_k", isMore, TypeRange(ValueRange(k)), [&] { return load(keys, seen, following); },
            [&] { return zeros(k); });
        computeScores();
        p.barrier(); // all have read the keys; scores are there
        put(values, seen, base, own);
        SmallVector<Value> next = p.ifElse(
            "next_v", isMore, TypeRange(ValueRange(own)),
            [&] { return load(values, seen, following); }, [&] { return own; });
        SmallVector<Value> rowState = softmax(seen, base, state);
        // Any number that no block before had.
        p.ifThen(isGrown, [&] { p.store(following, grown, p.c(0)); });
        Value isAny = p.cmp(Predicate::eq, p.loadUniform(grown, 0), following); // a barrier, too
        SmallVector<Value> sums = p.ifElse(
            "o", isAny, outputs.getTypes(), [&] { return rescaled(outputs); },
            [&] { return SmallVector<Value>(outputs); });
        sums = addValues(sums);
        p.barrier();
        put(keys, seen, following, nextKeys);
        p.barrier();
        llvm::append_range(next, rowState);
        llvm::append_range(next, sums);
        return next;
      });
  return SmallVector<Value>(llvm::drop_begin(last, v.size()));
}

void AttentionMatricesEmitter::store(ValueRange last) {
  Value highest = last[0], sum = last[1];
  ValueRange outputs = last.drop_front(2);
  if (shape.rowThreads() == 2)
    sum = p.named(p.addf(sum, p.shuffleXor(sum, matrixSize, lanes)), "row_sum");
  Value own = p.cf(1);
  if (op.getSinks()) { // a key whose value is 0
    auto power = [&](Value x) { return Value(p.b.create<math::Exp2Op>(p.loc, x)); };
    Value sink =
        p.mulf(p.maxf(tile->keys().sink(head), p.cf(nothingSeen)), p.cf(std::numbers::log2e));
    Value both = p.named(p.maxf(highest, p.named(sink, "sink_score")), "highest_of_all");
    own = p.named(power(p.subf(highest, both)), "share");
    sum = p.fma(sum, own, power(p.subf(sink, both)));
  }
  // A row that sees no key gives 0.
  Value sees = p.cmp(Predicate::ne, row.length, p.c(0));
  Value factor = p.named(p.select(sees, p.divf(own, sum), p.cf(0)), "factor");
  const ElementType type = *elementTypeOf(op.getOutput().getType());
  const int64_t columns = outputColumns(), together = keyMatrices(), dim = shape.facts.valueDim;
  Value start = p.mul(p.add(p.mul(row.row, shape.facts.heads), head), dim);
  start = p.named(start, "output_start");
  for (int64_t first = 0; first < columns; first += together) {
    const int64_t end = std::min(first + together, columns);
    p.barrier();
    for (int64_t i = 0; i < rowMatrices(); ++i)
      for (int64_t j = first; j < end; ++j)
        p.storeMatrix(outputs[size_t(i * columns + j)], memory, inStrip(i, j - first, 4),
                      shape.stripStride());
    p.barrier();
    p.ifThen(row.isThere, [&] {
      for (int64_t i = 0; i < shape.scoreQuads(); ++i) {
        Value quad = p.add(p.mul(part, shape.scoreQuads()), i);
        auto put = [&] {
          Value mean = p.mulf(p.bitsToFloat(p.loadVector(memory, p.add(mine, i))), factor);
          Value at = p.add(start, p.add(p.mul(quad, 4), first * matrixSize));
          writeElement(p, mean, p.result(0, Access::Write, View::Quads), type, at);
        };
        if (end - first < together)
          p.ifThen(p.lessThan(quad, p.c((end - first) * matrixSize / 4)), put);
        else
          put();
      }
    });
  }
}

Phase AttentionMatricesEmitter::emit() {
  const int64_t heads = shape.facts.heads;
  Type rowType = op.getQuery().getType();
  const TileStart start = startOfTile(p, op, shape.facts, shape.rows());
  head = start.head, cacheHead = start.cacheHead, firstRow = start.firstRow;
  lane = p.named(p.rem(p.thread(), lanes), "place");
  part = shape.rowThreads() == 1 ? p.c(0) : p.named(p.div(lane, shape.rowsOfSubgroup), "part");
  Value subgroup = p.named(p.div(p.thread(), lanes), "subgroup");
  Value rowOfSubgroup = p.named(p.rem(lane, shape.rowsOfSubgroup), "row_of_subgroup");
  strip = p.add(p.mul(subgroup, shape.stripVectors()), shape.stripsBegin());
  strip = p.named(strip, "strip");
  rowStrip = p.named(p.add(strip, p.mul(rowOfSubgroup, shape.stripStride())), "row_strip");
  mine = p.named(p.add(rowStrip, p.mul(part, shape.scoreQuads())), "mine");
  memory = p.shared("tiles", p.vec(p.i32, 4), shape.memoryVectors());
  grown = p.shared("grown", p.i32, 1);
  toPowersOfTwo = op.getScale().convertToDouble() * std::numbers::log2e;
  p.ifThen(p.cmp(Predicate::eq, p.thread(), p.c(0)), [&] { p.store(p.c(0), grown, p.c(0)); });
  tile = std::make_unique<AttentionTile>(p, op, shape.facts.sequences, shape.subgroup, firstRow,
                                         shape.rows());
  row = tile->row(p.add(p.mul(subgroup, shape.rowsOfSubgroup), rowOfSubgroup));
  readQuery();
  SmallVector<Value> init{p.cf(nothingSeen), p.cf(0)};
  init.append(size_t(rowMatrices() * outputColumns()),
              p.zeroMatrix(matrix(PhaseBuilder::Side::Sum)));
  SmallVector<Value> last = tile->overSequences(
      row, "highest sum o", init,
      [&](const TileKeys &seen, ValueRange carried) { return attend(seen, carried); });
  store(last);
  return p.finish(p.rowsExtent(rowType, shape.rows()) * Extent(heads));
}

} // namespace

Phase matrices::emit(ModuleOp module, const KernelAnalysis &kernel, const Shape &shape,
                     StringRef entry) {
  return AttentionMatricesEmitter(module, kernel, shape, entry).emit();
}
