// `sample` by passes over the row.
#include "kernelforge/codegen/simt/SampleEmitter.h"
#include "kernelforge/support/Sampling.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::simt::step;
using namespace kernelforge::transformer;

using Predicate = arith::CmpIPredicate;

namespace {

constexpr int64_t keyBits = 32;
/// Most words of the table of marks, half of the workgroup memory that there is at least.
constexpr int64_t mostMarkWords = 2048;
/// Logits that a thread reads before it needs any, where keys are made of them without branches.
constexpr int64_t loadsTogether = 4;

/// Words of a table with a bit for each id, or for several that share it.
int64_t markWordsOf(int64_t vocabulary) {
  const auto words = static_cast<uint64_t>((vocabulary + 31) / 32);
  return std::min(static_cast<int64_t>(llvm::PowerOf2Ceil(words)), mostMarkWords);
}

int64_t vocabularyOf(SampleOp op) {
  return cast<RankedTensorType>(op.getLogits().getType()).getDimSize(1);
}

} // namespace

SampleEmitter::SampleEmitter(ModuleOp module, KernelOp kernel, SampleOp op, StringRef entry)
    : p(module, kernel, entry, sampleWorkers), op(op), vocabulary(vocabularyOf(op)),
      markWords(markWordsOf(vocabulary)) {}

//===----------------------------------------------------------------------===//
// Sums over the row
//===----------------------------------------------------------------------===//

/// Sum of terms of ids [from, to): the same in all threads.
Wide SampleEmitter::sumOver(Value from, Value to, Term term) {
  auto mine = p.loop("id", p.add(from, p.thread()), to, sampleWorkers, "low high", {p.c(0), p.c(0)},
                     [&](Value id, ValueRange carried) {
                       Wide next = sum({carried[0], carried[1]}, wide(term(id)));
                       return SmallVector<Value>{next.low, next.high};
                     });
  return reduceWide({mine[0], mine[1]});
}

/// The least id up to which `before` and the terms of all ids sum up to `wanted`.
Value SampleEmitter::lastId(const Wide &before, const Wide &wanted, Term term) {
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
Value SampleEmitter::ifKept(const Kept &kept, Value key, Value id, Value value) {
  Value tied = p.select(p.cmp(Predicate::ule, id, kept.last), value, p.c(0));
  Value equal = p.select(p.cmp(Predicate::eq, key, kept.key), tied, p.c(0));
  return p.select(p.cmp(Predicate::ugt, key, kept.key), value, equal);
}

/// Of what is kept, the fewest of greatest keys whose measures sum up to `wanted`. `bits` says how
/// many bits of the key are looked for, the same in all threads: all, or none where all is kept.
SampleEmitter::Kept SampleEmitter::keep(StringRef name, const Kept &kept, Value bits,
                                        const Wide &wanted, Measure measure) {
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

void SampleEmitter::readSettings() {
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

void SampleEmitter::markRecent() {
  if (!op.getRecent())
    return;
  const int64_t window = cast<RankedTensorType>(op.getRecent().getType()).getDimSize(1);
  marks = p.shared("marks", p.i32, markWords);
  p.loop("word", p.thread(), p.c(markWords), sampleWorkers,
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

/// Folds the ids of each thread, in order, with their keys. Most go by in groups whose loads wait
/// for nothing.
SmallVector<Value> SampleEmitter::foldRow(StringRef carriedNames, SmallVector<Value> carried,
                                          Fold fold) {
  const int64_t together = marks ? 1 : loadsTogether;
  const int64_t step = sampleWorkers * together, grouped = vocabulary / step * step;
  auto go = [&](Value from, int64_t to, int64_t count) {
    carried = p.loop("id", from, p.c(to), sampleWorkers * count, carriedNames, carried,
                     [&](Value first, ValueRange values) {
                       SmallVector<Value> ids, keys, folded(values);
                       for (int64_t i = 0; i < count; ++i) {
                         ids.push_back(i == 0 ? first : p.add(first, i * sampleWorkers));
                         keys.push_back(keyOf(ids.back()));
                       }
                       for (int64_t i = 0; i < count; ++i)
                         folded = fold(ids[i], keys[i], folded);
                       return folded;
                     });
  };
  if (grouped > 0)
    go(p.thread(), grouped, together);
  if (grouped < vocabulary)
    go(p.add(p.thread(), grouped), vocabulary, 1);
  return carried;
}

void SampleEmitter::findGreatest() {
  auto mine =
      foldRow("best_key best_id", {p.c(0), p.c(-1)}, [&](Value id, Value key, ValueRange best) {
        Value isBetter = p.named(p.cmp(Predicate::ugt, key, best[0]), "is_better");
        return SmallVector<Value>{p.select(isBetter, key, best[0]),
                                  p.select(isBetter, id, best[1])};
      });
  bestKey = mine[0];
  greatestKey =
      p.named(p.reduce(mine[0], [&](Value x, Value y) { return p.max(x, y); }), "greatest_key");
  greatest = p.named(logitOf(greatestKey), "greatest");
  Value candidate = p.select(p.cmp(Predicate::eq, mine[0], greatestKey), mine[1], p.c(-1));
  // As unsigned numbers, -1 is the greatest: where nothing can be chosen, it stays.
  first = p.named(p.reduce(candidate, [&](Value x, Value y) { return p.min(x, y); }), "first_id");
}

Value SampleEmitter::drawn(const Kept &kept) {
  Value least = leastWeight();
  auto weight = [&](Value id) {
    Value key = keyOf(id);
    Value isLikely = p.cmp(Predicate::uge, weightOf(key, {}), least);
    return ifKept(kept, key, id, p.select(isLikely, weightOf(key, sharpness), p.c(0)));
  };
  Wide total = sumOver(p.c(0), p.c(vocabulary), weight);
  Wide passed = share(total, randomWord());
  return lastId(wide(p.c(0)), sum(passed, wide(p.c(1))), weight);
}

/// All threads take from one place whether they draw, and go through the passes of a filter.
void SampleEmitter::makePlan() {
  Value isDrawn = p.cmpf(arith::CmpFPredicate::OGT, sharpness, p.cf(0));
  plan = p.shared("plan", p.i32, PlanWords);
  p.ifThen(p.cmp(Predicate::eq, p.thread(), p.c(0)), [&] {
    auto put = [&](Plan word, Value condition, int64_t value) {
      p.store(p.select(condition, p.c(value), p.c(0)), plan, p.c(word));
    };
    put(BitsOfK, p.lessThan(p.sub(topK, 1), p.c(vocabulary - 1)), keyBits);
    put(BitsOfP, p.cmpf(arith::CmpFPredicate::OLT, topP, p.cf(1)), keyBits);
    put(Draws, isDrawn, 1);
    Value isShort = p.lessThan(p.sub(topK, 1), p.c(sampleWorkers));
    p.store(p.select(isDrawn, p.select(isShort, p.c(1), p.c(0)), p.c(0)), plan, p.c(Lists));
    p.store(p.c(0), plan, p.c(UsesList));
  });
  p.barrier();
}

Phase SampleEmitter::emit() {
  row = p.block();
  rowStart = p.named(p.mul(row, vocabulary), "row_start");
  readSettings();
  markRecent();
  findGreatest();
  makePlan();
  Value draws = p.named(p.loadUniform(plan, Draws), "draws");
  Value lists = p.named(p.loadUniform(plan, Lists), "lists");
  p.loop("listing", p.c(0), lists, 1, [&](Value) { makeList(); });
  Value usesList = p.named(p.loadUniform(plan, UsesList), "uses_list");
  auto choose = [&](StringRef name, Value times, Value before,
                    llvm::function_ref<Value()> choice) -> Value {
    return p.loop(name, p.c(0), times, 1, "chosen", before,
                  [&](Value, ValueRange) { return SmallVector<Value>{choice()}; })[0];
  };
  Value chosen = choose("from_list", usesList, p.c(-1), [&] { return drawFromList(); });
  chosen = choose("draw", p.sub(draws, usesList), chosen, [&] { return draw(); });

  p.ifThen(p.cmp(Predicate::eq, p.thread(), p.c(0)), [&] {
    Value isAny = p.cmp(Predicate::ne, greatestKey, p.c(0));
    Value id =
        p.select(p.cmp(Predicate::ne, draws, p.c(0)), p.select(isAny, chosen, p.c(-1)), first);
    p.store(id, p.result(0), row);
  });
  return p.finish(p.rowsExtent(op.getLogits().getType()));
}

/// What the filters keep of the whole row, and one of it.
Value SampleEmitter::draw() {
  Value bitsOfK = p.named(p.loadUniform(plan, BitsOfK), "bits_of_k");
  Value bitsOfP = p.named(p.loadUniform(plan, BitsOfP), "bits_of_p");
  const Kept all = {p.c(1), p.c(vocabulary - 1)};
  const Kept most = keep("k_bit", all, bitsOfK, wide(topK), [&](Value, Value) { return p.c(1); });
  auto mass = [&](Value key, Value id) { return ifKept(most, key, id, weightOf(key, {})); };
  Wide total = sumOver(p.c(0), p.c(vocabulary), [&](Value id) { return mass(keyOf(id), id); });
  return drawn(keep("p_bit", most, bitsOfP, wantedMass(total), mass));
}

Phase step::emitSample(ModuleOp module, KernelOp kernel, SampleOp op, StringRef entry) {
  return SampleEmitter(module, kernel, op, entry).emit();
}

Needs step::needsOfSample(SampleOp op) {
  // Partial keys and sums, the list, the plan, marks.
  const int64_t words = 3 * sampleWorkers + 2 * sampleListed + PlanWords +
                        (op.getRecent() ? markWordsOf(vocabularyOf(op)) : 0);
  return {static_cast<int64_t>(op->getNumOperands()) + 1, words * 4, sampleWorkers};
}
