// `sample` where few are wanted: a list of what may be among them, in workgroup memory.
#include "kernelforge/codegen/simt/SampleEmitter.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::simt::step;
using namespace kernelforge::transformer;

using Predicate = arith::CmpIPredicate;

namespace {

/// Whether an entry ranks before another: by key, equal ones by id.
Value ranksBefore(PhaseBuilder &p, Value key, Value id, Value otherKey, Value otherId) {
  Value tied = p.select(p.lessThan(id, otherId), p.c(1), p.c(0));
  Value equal = p.select(p.cmp(Predicate::eq, key, otherKey), tied, p.c(0));
  return p.select(p.cmp(Predicate::ugt, key, otherKey), p.c(1), equal);
}

} // namespace

void SampleEmitter::makeList() {
  // Threads' best keys: the topK-th greatest of them is a bound from below of what is wanted, and
  // little is above it that is not.
  Value keys = p.shared("list_keys", p.i32, sampleListed);
  Value ids = p.shared("list_ids", p.i32, sampleListed);
  p.store(bestKey, keys, p.thread());
  p.barrier();
  Value rank =
      p.loop("j", p.c(0), p.c(sampleWorkers), 1, "rank", p.c(0), [&](Value j, ValueRange carried) {
        Value before = ranksBefore(p, p.load(keys, j), j, bestKey, p.thread());
        return SmallVector<Value>{p.add(carried[0], before)};
      })[0];
  p.ifThen(p.cmp(Predicate::eq, rank, p.sub(topK, 1)),
           [&] { p.store(p.max(bestKey, p.c(1)), plan, p.c(Cut)); }); // keys of 0 are never chosen
  p.barrier();
  Value cut = p.named(p.load(plan, p.c(Cut)), "cut");
  auto isListed = [&](Value key) {
    return p.select(p.cmp(Predicate::uge, key, cut), p.c(1), p.c(0));
  };
  Value mine = foldRow("count", {p.c(0)}, [&](Value, Value key, ValueRange carried) {
    return SmallVector<Value>{p.add(carried[0], isListed(key))};
  })[0];
  p.store(mine, ids, p.thread());
  p.barrier();
  // Where each thread's entries begin, and how many there are in all.
  auto places =
      p.loop("j", p.c(0), p.c(sampleWorkers), 1, "place listed", {p.c(0), p.c(0)},
             [&](Value j, ValueRange carried) {
               Value count = p.load(ids, j);
               Value before = p.select(p.lessThan(j, p.thread()), count, p.c(0));
               return SmallVector<Value>{p.add(carried[0], before), p.add(carried[1], count)};
             });
  p.barrier(); // before they are written again
  Value hasRoom = p.named(p.cmp(Predicate::ule, places[1], p.c(sampleListed)), "has_room");
  p.ifThen(hasRoom, [&] {
    foldRow("place", {places[0]}, [&](Value id, Value key, ValueRange carried) {
      Value isIn = isListed(key);
      p.ifThen(p.cmp(Predicate::ne, isIn, p.c(0)), [&] {
        p.store(key, keys, carried[0]);
        p.store(id, ids, carried[0]);
      });
      return SmallVector<Value>{p.add(carried[0], isIn)};
    });
  });
  p.ifThen(p.cmp(Predicate::eq, p.thread(), p.c(0)), [&] {
    p.store(places[1], plan, p.c(Listed));
    p.store(p.select(hasRoom, p.c(1), p.c(0)), plan, p.c(UsesList));
  });
  p.barrier();
}

Value SampleEmitter::drawFromList() {
  Value keys = p.shared("list_keys", p.i32, sampleListed);
  Value ids = p.shared("list_ids", p.i32, sampleListed);
  Value listed = p.named(p.load(plan, p.c(Listed)), "listed");
  // Those that are wanted, in order: an entry a thread.
  Value sortedKeys = p.shared("partial_low", p.i32, sampleWorkers);
  Value sortedIds = p.shared("partial_high", p.i32, sampleWorkers);
  Value wanted = p.named(p.min(topK, listed), "wanted");
  p.loop("entry", p.thread(), listed, sampleWorkers, [&](Value entry) {
    Value key = p.named(p.load(keys, entry), "entry_key");
    Value id = p.named(p.load(ids, entry), "entry_id");
    Value rank = p.loop("j", p.c(0), listed, 1, "rank", p.c(0), [&](Value j, ValueRange carried) {
      Value before = ranksBefore(p, p.load(keys, j), p.load(ids, j), key, id);
      return SmallVector<Value>{p.add(carried[0], before)};
    })[0];
    p.ifThen(p.lessThan(rank, wanted), [&] {
      p.store(key, sortedKeys, rank);
      p.store(id, sortedIds, rank);
    });
  });
  p.barrier();
  Value isEntry = p.named(p.lessThan(p.thread(), wanted), "is_entry");
  Value key = p.named(p.load(sortedKeys, p.thread()), "own_key");
  Value id = p.named(p.load(sortedIds, p.thread()), "own_id");
  Value weight = p.named(p.select(isEntry, weightOf(key, {}), p.c(0)), "weight");
  // The keys of the list are in order by now: its memory holds weights.
  p.store(weight, keys, p.thread());
  p.barrier();
  auto mass = p.loop("j", p.c(0), wanted, 1, "before_low before_high all_low all_high",
                     {p.c(0), p.c(0), p.c(0), p.c(0)}, [&](Value j, ValueRange carried) {
                       Wide other = wide(p.load(keys, j));
                       Wide all = sum({carried[2], carried[3]}, other);
                       Wide more = sum({carried[0], carried[1]}, other);
                       Wide before =
                           selectWide(p.lessThan(j, p.thread()), more, {carried[0], carried[1]});
                       return SmallVector<Value>{before.low, before.high, all.low, all.high};
                     });
  p.barrier(); // before they are written again
  Value isBeyond = isAtLeast({mass[0], mass[1]}, wantedMass({mass[2], mass[3]}));
  Value isWhole = p.cmp(Predicate::eq, p.load(plan, p.c(BitsOfP)), p.c(0));
  Value likely =
      p.select(p.cmp(Predicate::uge, weight, leastWeight()), weightOf(key, sharpness), p.c(0));
  Value kept = p.select(isWhole, likely, p.select(isBeyond, p.c(0), likely));
  Value chance = p.named(p.select(isEntry, kept, p.c(0)), "chance");
  p.store(chance, keys, p.thread());
  p.barrier();
  // The draw goes through them by id.
  auto chances = p.loop("j", p.c(0), wanted, 1, "below_low below_high sum_low sum_high",
                        {p.c(0), p.c(0), p.c(0), p.c(0)}, [&](Value j, ValueRange carried) {
                          Wide other = wide(p.load(keys, j));
                          Wide all = sum({carried[2], carried[3]}, other);
                          Wide more = sum({carried[0], carried[1]}, other);
                          Wide below = selectWide(p.lessThan(p.load(sortedIds, j), id), more,
                                                  {carried[0], carried[1]});
                          return SmallVector<Value>{below.low, below.high, all.low, all.high};
                        });
  Wide below = {chances[0], chances[1]};
  Wide enough = sum(share({chances[2], chances[3]}, randomWord()), wide(p.c(1)));
  Value reaches = p.select(isAtLeast(sum(below, wide(chance)), enough), p.c(1), p.c(0));
  Value isChosen = p.select(isAtLeast(below, enough), p.c(0), reaches);
  p.ifThen(p.cmp(Predicate::ne, isChosen, p.c(0)), [&] { p.store(id, plan, p.c(Choice)); });
  p.barrier();
  return p.load(plan, p.c(Choice));
}
