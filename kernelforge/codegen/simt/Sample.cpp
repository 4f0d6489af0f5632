// `sample`: a workgroup chooses the token of a row. Nothing is sorted: a greatest key or a last id
// up to which something sums up to enough is found bit by bit, a pass over the row for each bit.
#include "kernelforge/codegen/simt/Step.h"
#include "kernelforge/support/Sampling.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;

using Predicate = arith::CmpIPredicate;

namespace {

constexpr int64_t signBit = 0x80000000, infinity = 0x7f800000, keyBits = 32;
/// Threads of a workgroup: a row is long, and read in many passes.
constexpr int64_t workers = 256;
/// Most words of the table of marks, half of the workgroup memory that there is at least.
constexpr int64_t mostMarkWords = 2048;
/// Logits that a thread reads before it needs any.
constexpr int64_t loadsTogether = 8;
/// What threads agree on: bits of both filters, whether there is a draw.
constexpr int64_t planWords = 3;

/// Words of a table with a bit for each id, or for several that share it.
int64_t markWordsOf(int64_t vocabulary) {
  const auto words = static_cast<uint64_t>((vocabulary + 31) / 32);
  return std::min(static_cast<int64_t>(llvm::PowerOf2Ceil(words)), mostMarkWords);
}

/// A sum of 64 bits.
struct Wide {
  Value low, high;
};

int64_t vocabularyOf(SampleOp op) {
  return cast<RankedTensorType>(op.getLogits().getType()).getDimSize(1);
}

class Emitter {
public:
  Emitter(ModuleOp module, KernelOp kernel, SampleOp op, StringRef entry)
      : p(module, kernel, entry, workers), op(op), vocabulary(vocabularyOf(op)),
        markWords(markWordsOf(vocabulary)) {}

  Phase emit();

private:
  /// What is chosen from: keys above `key`, and of those equal to it ids up to `last`.
  struct Kept {
    Value key, last;
  };
  using Measure = llvm::function_ref<Value(Value key, Value id)>; ///< i32
  using Term = llvm::function_ref<Value(Value id)>;               ///< i32

  // Sums of 64 bits.
  Wide wide(Value low) { return {low, p.c(0)}; }
  Wide sum(const Wide &a, const Wide &b);
  Value isAtLeast(const Wide &a, const Wide &b);
  Wide selectWide(Value condition, const Wide &a, const Wide &b);
  Wide product(Value a, Value b);
  Wide share(const Wide &total, Value fraction);
  Wide reduceWide(const Wide &mine);

  // Keys and weights (support/Sampling.h).
  Value keyOfBits(Value bits);
  Value keyOf(Value id);
  Value penalised(Value key);
  Value isRecent(Value id);
  Value logitOf(Value key);
  Value weightOf(Value key, Value sharpness);

  void readSettings();
  void markRecent();
  void findGreatest();
  Value ifKept(const Kept &kept, Value key, Value id, Value value);
  Wide sumOver(Value from, Value to, Term term);
  Value lastId(const Wide &before, const Wide &wanted, Term term);
  Kept keep(StringRef name, const Kept &kept, Value bits, const Wide &wanted, Measure measure);
  Value randomWord();
  Value drawn(const Kept &kept);
  Value draw(Value bitsOfK, Value bitsOfP);

  PhaseBuilder p;
  SampleOp op;
  int64_t vocabulary, markWords;
  Value row, rowStart;
  Value sharpness, topP, minP, positiveFactor, negativeFactor, topK;
  Value marks; ///< workgroup memory; null where no ids are recent
  Value greatestKey, greatest, first;
};

//===----------------------------------------------------------------------===//
// Sums of 64 bits
//===----------------------------------------------------------------------===//

Wide Emitter::sum(const Wide &a, const Wide &b) {
  Value low = p.named(p.add(a.low, b.low), "sum_low");
  Value carry = p.select(p.lessThan(low, b.low), p.c(1), p.c(0));
  return {low, p.add(p.add(a.high, b.high), carry)};
}

Value Emitter::isAtLeast(const Wide &a, const Wide &b) {
  return p.select(p.cmp(Predicate::eq, a.high, b.high), p.cmp(Predicate::uge, a.low, b.low),
                  p.cmp(Predicate::ugt, a.high, b.high));
}

Wide Emitter::selectWide(Value condition, const Wide &a, const Wide &b) {
  return {p.select(condition, a.low, b.low), p.select(condition, a.high, b.high)};
}

/// In halves of 16 bits: shader languages have no other way to the upper half.
Wide Emitter::product(Value a, Value b) {
  auto low = [&](Value x) { return p.andBits(x, 0xffff); };
  auto high = [&](Value x) { return p.shr(x, 16); };
  Value lows = p.mul(low(a), low(b)), highs = p.mul(high(a), high(b));
  Value cross = p.mul(low(a), high(b)), other = p.mul(high(a), low(b));
  Value middle = p.named(p.add(p.add(high(lows), low(cross)), low(other)), "middle");
  return {p.orBits(low(lows), p.shl(middle, 16)),
          p.add(p.add(highs, high(cross)), p.add(high(other), high(middle)))};
}

Wide Emitter::share(const Wide &total, Value fraction) {
  return sum(product(total.high, fraction), wide(product(total.low, fraction).high));
}

/// Every thread's sum, in all threads.
Wide Emitter::reduceWide(const Wide &mine) {
  Value lows = p.shared("partial_low", p.i32, workers);
  Value highs = p.shared("partial_high", p.i32, workers);
  auto at = [&](Value i) -> Wide { return {p.load(lows, i), p.load(highs, i)}; };
  auto store = [&](const Wide &value) {
    p.store(value.low, lows, p.thread());
    p.store(value.high, highs, p.thread());
  };
  store(mine);
  p.barrier();
  p.loop("step", p.c(0), p.c(llvm::Log2_64(workers)), 1, [&](Value step) {
    Value half = p.named(p.shr(p.c(workers / 2), step), "half");
    p.ifThen(p.lessThan(p.thread(), half),
             [&] { store(sum(at(p.thread()), at(p.add(p.thread(), half)))); });
    p.barrier();
  });
  Wide all = at(p.c(0));
  p.named(all.low, "total_low");
  p.named(all.high, "total_high");
  p.barrier(); // before they are written again
  return all;
}

//===----------------------------------------------------------------------===//
// Keys and weights
//===----------------------------------------------------------------------===//

Value Emitter::keyOfBits(Value bits) {
  Value magnitude = p.andBits(bits, ~signBit), sign = p.andBits(bits, signBit);
  bits = p.select(p.cmp(Predicate::uge, magnitude, p.c(infinity)),
                  p.orBits(sign, p.c(infinity - 1)), bits);
  bits = p.select(p.lessThan(magnitude, p.c(sampling::leastKey)), p.c(0), bits);
  return p.select(p.cmp(Predicate::slt, bits, p.c(0)), p.xorBits(bits, p.c(-1)),
                  p.orBits(bits, p.c(signBit)));
}

Value Emitter::logitOf(Value key) {
  return p.bitsToFloat(p.select(p.cmp(Predicate::slt, key, p.c(0)), p.xorBits(key, p.c(signBit)),
                                p.xorBits(key, p.c(-1))));
}

Value Emitter::keyOf(Value id) {
  Value bits =
      p.named(p.floatToBits(p.load(p.argument(op.getLogits()), p.add(rowStart, id))), "bits");
  Value key = p.select(p.cmp(Predicate::ugt, p.andBits(bits, ~signBit), p.c(infinity)), p.c(0),
                       keyOfBits(bits));
  key = p.named(p.select(p.cmp(Predicate::eq, bits, p.c(infinity | signBit)), p.c(0), key), "key");
  if (!marks)
    return key;
  Value word = p.load(marks, p.andBits(p.shr(id, 5), markWords - 1));
  Value mark = p.andBits(p.shr(word, p.andBits(id, 31)), 1);
  return p.ifElse(
      "key", p.cmp(Predicate::ne, mark, p.c(0)),
      [&] {
        // Ids that share a mark are told apart.
        const bool isShared = vocabulary > 32 * markWords;
        return isShared ? p.select(isRecent(id), penalised(key), key) : penalised(key);
      },
      [&] { return key; }, p.i32);
}

Value Emitter::penalised(Value key) {
  Value logit = logitOf(key);
  Value factor = p.select(p.cmp(Predicate::slt, key, p.c(0)), positiveFactor, negativeFactor);
  Value changed = keyOfBits(p.named(p.floatToBits(p.mulf(logit, factor)), "changed"));
  return p.select(p.cmp(Predicate::eq, key, p.c(0)), p.c(0), changed);
}

Value Emitter::isRecent(Value id) {
  const int64_t window = cast<RankedTensorType>(op.getRecent().getType()).getDimSize(1);
  Value start = p.mul(row, window);
  Value found =
      p.loop("j", p.c(0), p.c(window), 1, "found", p.c(0), [&](Value j, ValueRange carried) {
        Value other = p.load(p.argument(op.getRecent()), p.add(start, j));
        Value same = p.cmp(Predicate::eq, other, id);
        return SmallVector<Value>{p.select(same, p.c(1), carried[0])};
      })[0];
  return p.cmp(Predicate::ne, found, p.c(0));
}

Value Emitter::weightOf(Value key, Value sharpness) {
  using namespace sampling;
  Value distance = p.subf(greatest, logitOf(key));
  if (sharpness)
    distance = p.mulf(distance, sharpness);
  distance = p.minf(distance, p.cf(cutoff));
  Value n = p.named(p.toInteger(p.mulf(distance, p.cf(0x1p16))), "n");
  Value high = p.shr(p.mul(p.shr(n, 10), log2eFraction), 6);
  Value low = p.shr(p.mul(p.andBits(n, 1023), log2eFraction), 16);
  Value z = p.named(p.add(p.add(n, high), low), "z");
  Value f = p.named(p.andBits(z, 0xffff), "f");
  Value power = p.c(fractionPowers[3]);
  for (size_t i = 3; i-- > 0;)
    power = p.sub(p.c(fractionPowers[i]), p.shr(p.mul(f, power), 16));
  return p.shr(p.sub(p.c(unitWeight), p.shr(p.mul(f, power), 2)), p.shr(z, 16));
}

//===----------------------------------------------------------------------===//
// Sums over the row
//===----------------------------------------------------------------------===//

/// Sum of terms of ids [from, to): the same in all threads.
Wide Emitter::sumOver(Value from, Value to, Term term) {
  auto mine = p.loop("id", p.add(from, p.thread()), to, workers, "low high", {p.c(0), p.c(0)},
                     [&](Value id, ValueRange carried) {
                       Wide next = sum({carried[0], carried[1]}, wide(term(id)));
                       return SmallVector<Value>{next.low, next.high};
                     });
  return reduceWide({mine[0], mine[1]});
}

/// The least id up to which `before` and the terms of all ids sum up to `wanted`.
Value Emitter::lastId(const Wide &before, const Wide &wanted, Term term) {
  const unsigned steps = llvm::Log2_64_Ceil(static_cast<uint64_t>(vocabulary));
  if (steps == 0)
    return p.c(0);
  return p.loop("narrowing", p.c(0), p.c(steps), 1, "begin before_low before_high",
                {p.c(0), before.low, before.high}, [&](Value step, ValueRange carried) {
                  Value half = p.named(p.shr(p.c(int64_t(1) << (steps - 1)), step), "half_range");
                  Value middle = p.named(p.add(carried[0], half), "middle_id");
                  Wide until = {carried[1], carried[2]};
                  Wide sums = sum(until, sumOver(carried[0], p.min(middle, p.c(vocabulary)), term));
                  Value isEnough = p.named(isAtLeast(sums, wanted), "is_enough");
                  Wide next = selectWide(isEnough, until, sums);
                  return SmallVector<Value>{p.select(isEnough, carried[0], middle), next.low,
                                            next.high};
                })[0];
}

/// `value` where an id is among those that are chosen from, else 0.
Value Emitter::ifKept(const Kept &kept, Value key, Value id, Value value) {
  Value tied = p.select(p.cmp(Predicate::ule, id, kept.last), value, p.c(0));
  Value equal = p.select(p.cmp(Predicate::eq, key, kept.key), tied, p.c(0));
  return p.select(p.cmp(Predicate::ugt, key, kept.key), value, equal);
}

/// Of what is kept, the fewest of greatest keys whose measures sum up to `wanted`. `bits` says how
/// many bits of the key are looked for, the same in all threads: all, or none where all is kept.
Emitter::Kept Emitter::keep(StringRef name, const Kept &kept, Value bits, const Wide &wanted,
                            Measure measure) {
  Value whole = p.c(vocabulary);
  Value key =
      p.loop(name, p.c(0), bits, 1, "threshold", p.c(0), [&](Value bit, ValueRange carried) {
        Value wider = p.named(p.orBits(carried[0], p.shr(p.c(signBit), bit)), "candidate");
        Wide sums = sumOver(p.c(0), whole, [&](Value id) {
          Value key = keyOf(id);
          return p.select(p.cmp(Predicate::uge, key, wider), measure(key, id), p.c(0));
        });
        return SmallVector<Value>{p.select(isAtLeast(sums, wanted), wider, carried[0])};
      })[0];
  key = p.named(p.max(key, p.c(1)), "least_key"); // keys of 0 are never chosen
  Wide above = sumOver(p.c(0), whole, [&](Value id) {
    Value other = keyOf(id);
    return p.select(p.cmp(Predicate::ugt, other, key), measure(other, id), p.c(0));
  });
  Value last = lastId(above, wanted, [&](Value id) {
    Value other = keyOf(id);
    return p.select(p.cmp(Predicate::eq, other, key), measure(other, id), p.c(0));
  });
  Value isAll = p.cmp(Predicate::eq, bits, p.c(0));
  return {p.named(p.select(isAll, kept.key, key), "kept_key"),
          p.named(p.select(isAll, kept.last, last), "kept_last")};
}

//===----------------------------------------------------------------------===//
// The choice
//===----------------------------------------------------------------------===//

void Emitter::readSettings() {
  Value start = p.mul(row, settingsWidth);
  auto setting = [&](int64_t i, StringRef name) {
    return p.named(p.load(p.argument(op.getSettings()), p.add(start, i)), name);
  };
  sharpness = setting(0, "sharpness");
  topP = setting(1, "top_p");
  minP = setting(2, "min_p");
  positiveFactor = setting(3, "positive_factor");
  negativeFactor = setting(4, "negative_factor");
  topK = p.named(p.load(p.argument(op.getDraws()), p.mul(row, drawsWidth)), "top_k");
}

void Emitter::markRecent() {
  if (!op.getRecent())
    return;
  const int64_t window = cast<RankedTensorType>(op.getRecent().getType()).getDimSize(1);
  marks = p.shared("marks", p.i32, markWords);
  p.loop("word", p.thread(), p.c(markWords), workers,
         [&](Value word) { p.store(p.c(0), marks, word); });
  p.barrier();
  p.ifThen(p.cmp(Predicate::eq, p.thread(), p.c(0)), [&] {
    p.loop("j", p.c(0), p.c(window), 1, [&](Value j) {
      Value id =
          p.named(p.load(p.argument(op.getRecent()), p.add(p.mul(row, window), j)), "recent_id");
      p.ifThen(p.lessThan(id, p.c(vocabulary)), [&] {
        Value word = p.named(p.andBits(p.shr(id, 5), markWords - 1), "mark_word");
        Value mark = p.shl(p.c(1), p.andBits(id, 31));
        p.store(p.orBits(p.load(marks, word), mark), marks, word);
      });
    });
  });
  p.barrier();
}

void Emitter::findGreatest() {
  // Most go by in groups whose loads wait for nothing: where all is greedy, this is all there is.
  const int64_t step = workers * loadsTogether, grouped = vocabulary / step * step;
  SmallVector<Value> mine = {p.c(0), p.c(-1)};
  auto search = [&](Value from, int64_t to, int64_t count) {
    mine = p.loop(
        "id", from, p.c(to), workers * count, "best_key best_id", mine,
        [&](Value first, ValueRange carried) {
          SmallVector<Value> ids, keys;
          for (int64_t i = 0; i < count; ++i) {
            ids.push_back(i == 0 ? first : p.add(first, i * workers));
            keys.push_back(keyOf(ids.back()));
          }
          SmallVector<Value> best(carried);
          for (int64_t i = 0; i < count; ++i) {
            Value isBetter = p.named(p.cmp(Predicate::ugt, keys[i], best[0]), "is_better");
            best = {p.select(isBetter, keys[i], best[0]), p.select(isBetter, ids[i], best[1])};
          }
          return best;
        });
  };
  if (grouped > 0)
    search(p.thread(), grouped, loadsTogether);
  if (grouped < vocabulary)
    search(p.add(p.thread(), grouped), vocabulary, 1);
  greatestKey =
      p.named(p.reduce(mine[0], [&](Value x, Value y) { return p.max(x, y); }), "greatest_key");
  greatest = p.named(logitOf(greatestKey), "greatest");
  Value candidate = p.select(p.cmp(Predicate::eq, mine[0], greatestKey), mine[1], p.c(-1));
  // As unsigned numbers, -1 is the greatest: where nothing can be chosen, it stays.
  first = p.named(p.reduce(candidate, [&](Value x, Value y) { return p.min(x, y); }), "first_id");
}

/// The first word of Philox4x32-10.
Value Emitter::randomWord() {
  Value start = p.mul(row, drawsWidth);
  Value low = p.load(p.argument(op.getDraws()), p.add(start, 1));
  Value high = p.load(p.argument(op.getDraws()), p.add(start, 2));
  Value position = p.add(p.load(p.argument(op.getPositions()), row), 1);
  // Four words of the counter, two of the key.
  return p.loop("round", p.c(0), p.c(10), 1, "word", {position, p.c(0), p.c(0), p.c(0), low, high},
                [&](Value, ValueRange x) {
                  Wide a = product(p.c(0xD2511F53), x[0]), b = product(p.c(0xCD9E8D57), x[2]);
                  return SmallVector<Value>{p.xorBits(p.xorBits(b.high, x[1]), x[4]),
                                            b.low,
                                            p.xorBits(p.xorBits(a.high, x[3]), x[5]),
                                            a.low,
                                            p.add(x[4], 0x9E3779B9),
                                            p.add(x[5], 0xBB67AE85)};
                })[0];
}

Value Emitter::drawn(const Kept &kept) {
  Value share1 = p.minf(p.maxf(minP, p.cf(0)), p.cf(1));
  Value least = p.named(p.toInteger(p.mulf(share1, p.cf(0x1p30))), "least_weight");
  auto weight = [&](Value id) {
    Value key = keyOf(id);
    Value isLikely = p.cmp(Predicate::uge, weightOf(key, {}), least);
    return ifKept(kept, key, id, p.select(isLikely, weightOf(key, sharpness), p.c(0)));
  };
  Wide total = sumOver(p.c(0), p.c(vocabulary), weight);
  Wide passed = share(total, randomWord());
  return lastId(wide(p.c(0)), sum(passed, wide(p.c(1))), weight);
}

Phase Emitter::emit() {
  row = p.block();
  rowStart = p.named(p.mul(row, vocabulary), "row_start");
  readSettings();
  markRecent();
  findGreatest();

  // All threads take from one place whether they draw, and go through the passes of a filter.
  Value isDrawn = p.named(p.cmpf(arith::CmpFPredicate::OGT, sharpness, p.cf(0)), "is_drawn");
  Value plan = p.shared("plan", p.i32, planWords);
  p.ifThen(p.cmp(Predicate::eq, p.thread(), p.c(0)), [&] {
    Value isFew = p.lessThan(p.sub(topK, 1), p.c(vocabulary - 1));
    p.store(p.select(isFew, p.c(keyBits), p.c(0)), plan, p.c(0));
    Value isPart = p.cmpf(arith::CmpFPredicate::OLT, topP, p.cf(1));
    p.store(p.select(isPart, p.c(keyBits), p.c(0)), plan, p.c(1));
    p.store(p.select(isDrawn, p.c(1), p.c(0)), plan, p.c(2));
  });
  p.barrier();
  Value bitsOfK = p.named(p.loadUniform(plan, 0), "bits_of_k");
  Value bitsOfP = p.named(p.loadUniform(plan, 1), "bits_of_p");
  Value draws = p.named(p.loadUniform(plan, 2), "draws");
  Value chosen = p.loop("draw", p.c(0), draws, 1, "chosen", p.c(-1), [&](Value, ValueRange) {
    return SmallVector<Value>{draw(bitsOfK, bitsOfP)};
  })[0];

  p.ifThen(p.cmp(Predicate::eq, p.thread(), p.c(0)), [&] {
    Value isAny = p.cmp(Predicate::ne, greatestKey, p.c(0));
    Value id = p.select(isDrawn, p.select(isAny, chosen, p.c(-1)), first);
    p.store(id, p.result(0), row);
  });
  return p.finish(p.rowsExtent(op.getLogits().getType()));
}

/// What the filters keep, and one of it.
Value Emitter::draw(Value bitsOfK, Value bitsOfP) {
  const Kept all = {p.c(1), p.c(vocabulary - 1)};
  const Kept most = keep("k_bit", all, bitsOfK, wide(topK), [&](Value, Value) { return p.c(1); });
  auto mass = [&](Value key, Value id) { return ifKept(most, key, id, weightOf(key, {})); };
  Wide total = sumOver(p.c(0), p.c(vocabulary), [&](Value id) { return mass(keyOf(id), id); });
  Value limited = p.minf(p.maxf(topP, p.cf(0)), p.cf(1 - 0x1p-24));
  Wide wanted = share(total, p.shl(p.toInteger(p.mulf(limited, p.cf(0x1p24))), 8));
  Value isNothing = p.cmp(Predicate::eq, p.orBits(wanted.low, wanted.high), p.c(0));
  wanted = selectWide(isNothing, wide(p.c(1)), wanted);
  return drawn(keep("p_bit", most, bitsOfP, wanted, mass));
}

} // namespace

Phase step::emitSample(ModuleOp module, KernelOp kernel, SampleOp op, StringRef entry) {
  return Emitter(module, kernel, op, entry).emit();
}

Needs step::needsOfSample(SampleOp op) {
  // Partial keys and sums, the plan, marks.
  return {static_cast<int64_t>(op->getNumOperands()) + 1,
          (3 * workers + planWords + (op.getRecent() ? markWordsOf(vocabularyOf(op)) : 0)) * 4,
          workers};
}
