#include "kernelforge/codegen/simt/Reduce.h"

#include "llvm/Support/MathExtras.h"

#include <limits>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;

using Predicate = arith::CmpIPredicate;

Value simt::combine(PhaseBuilder &p, Combine how, Value x, Value y) {
  if (getElementTypeOrSelf(x.getType()).isF32())
    return how == Combine::Sum ? p.addf(x, y) : p.maxf(x, y);
  return how == Combine::Sum ? p.add(x, y) : p.max(x, y);
}

/// Places in memory for each value: one for every subgroup, or one for every thread.
static int64_t partsOf(int64_t blockThreads, int64_t subgroupMin) {
  return subgroupMin > 0 ? std::max<int64_t>(blockThreads / subgroupMin, 1) : blockThreads;
}

int64_t simt::reduceBytes(int64_t values, int64_t blockThreads, int64_t subgroupMin) {
  return values * partsOf(blockThreads, subgroupMin) * 4;
}

SmallVector<Value> simt::reduceBlock(PhaseBuilder &p, ValueRange values, Combine how,
                                     int64_t subgroupMin, StringRef name) {
  const auto count = static_cast<int64_t>(values.size());
  const int64_t parts = partsOf(p.blockThreads(), subgroupMin);
  Type type = values[0].getType();
  Value memory = p.shared(name, type, count * parts);
  auto place = [&](int64_t value, Value part) { return p.add(part, value * parts); };
  if (subgroupMin > 0) {
    const bool isSum = how == Combine::Sum;
    Value neutral = !type.isF32() ? p.c(0) : p.cf(isSum ? 0 : std::numeric_limits<float>::lowest());
    const auto largest =
        type.isF32() ? gpu::AllReduceOperation::MAXNUMF : gpu::AllReduceOperation::MAXUI;
    SmallVector<Value> ofSubgroup;
    for (Value value : values)
      ofSubgroup.push_back(p.named(
          p.subgroupReduce(value, isSum ? gpu::AllReduceOperation::ADD : largest), "of_subgroup"));
    // A subgroup may be larger than the least there is: its first lane says what it has, and others
    // that stand where a smaller one would begin say nothing.
    Value isFirst = p.cmp(Predicate::eq, p.rem(p.thread(), subgroupMin), p.c(0));
    Value hasLaneZero = p.named(p.cmp(Predicate::eq, p.lane(), p.c(0)), "has_lane_zero");
    p.ifThen(isFirst, [&] {
      Value part = p.named(p.div(p.thread(), subgroupMin), "part");
      for (auto [i, value] : llvm::enumerate(ofSubgroup))
        p.store(p.select(hasLaneZero, value, neutral), memory,
                place(static_cast<int64_t>(i), part));
    });
    p.barrier();
  } else {
    for (auto [i, value] : llvm::enumerate(values))
      p.store(value, memory, place(static_cast<int64_t>(i), p.thread()));
    p.barrier();
    // Halves are added up until few enough are left that each thread can do the rest.
    constexpr int64_t fewParts = 8;
    for (int64_t half = parts / 2; half >= fewParts; half /= 2) {
      p.ifThen(p.lessThan(p.thread(), p.c(half)), [&] {
        for (int64_t i = 0; i < count; ++i) {
          Value mine = p.load(memory, place(i, p.thread()));
          Value other = p.load(memory, place(i, p.add(p.thread(), half)));
          p.store(combine(p, how, mine, other), memory, place(i, p.thread()));
        }
      });
      p.barrier();
    }
  }
  const int64_t left = subgroupMin > 0 ? parts : std::min<int64_t>(parts, 8);
  SmallVector<Value> combined;
  for (int64_t i = 0; i < count; ++i) {
    Value all = p.load(memory, p.c(i * parts));
    for (int64_t part = 1; part < left; ++part)
      all = combine(p, how, all, p.load(memory, p.c(i * parts + part)));
    combined.push_back(p.named(all, how == Combine::Sum ? "total" : "highest"));
  }
  return combined;
}

SmallVector<Value> simt::madeUniform(PhaseBuilder &p, ValueRange values, StringRef name) {
  // One load for all: each is two barriers.
  const auto count = static_cast<int64_t>(values.size());
  Value memory = p.shared(name, p.vec(p.i32, count), 1);
  p.ifThen(p.cmp(Predicate::eq, p.thread(), p.c(0)),
           [&] { p.storeVector(p.vector(values), memory, p.c(0)); });
  p.barrier();
  Value all = p.named(p.loadVector(memory, p.c(0)), name);
  all.getDefiningOp()->setAttr(uniformAttrName, p.b.getUnitAttr());
  SmallVector<Value> loaded;
  for (int64_t i = 0; i < count; ++i)
    loaded.push_back(p.extract(all, i));
  return loaded;
}
