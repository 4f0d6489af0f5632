// Sums of 64 bits, keys and weights of `sample` (support/Sampling.h).
#include "kernelforge/codegen/simt/SampleEmitter.h"
#include "kernelforge/support/Sampling.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::simt::step;
using namespace kernelforge::transformer;

using Predicate = arith::CmpIPredicate;

//===----------------------------------------------------------------------===//
// Sums of 64 bits
//===----------------------------------------------------------------------===//

Wide SampleEmitter::sum(const Wide &a, const Wide &b) {
  Value low = p.named(p.add(a.low, b.low), "sum_low");
  Value carry = p.select(p.lessThan(low, b.low), p.c(1), p.c(0));
  return {low, p.add(p.add(a.high, b.high), carry)};
}

Value SampleEmitter::isAtLeast(const Wide &a, const Wide &b) {
  return p.select(p.cmp(Predicate::eq, a.high, b.high), p.cmp(Predicate::uge, a.low, b.low),
                  p.cmp(Predicate::ugt, a.high, b.high));
}

Wide SampleEmitter::selectWide(Value condition, const Wide &a, const Wide &b) {
  return {p.select(condition, a.low, b.low), p.select(condition, a.high, b.high)};
}

/// In halves of 16 bits: shader languages have no other way to the upper half.
Wide SampleEmitter::product(Value a, Value b) {
  auto low = [&](Value x) { return p.andBits(x, 0xffff); };
  auto high = [&](Value x) { return p.shr(x, 16); };
  Value lows = p.mul(low(a), low(b)), highs = p.mul(high(a), high(b));
  Value cross = p.mul(low(a), high(b)), other = p.mul(high(a), low(b));
  Value middle = p.named(p.add(p.add(high(lows), low(cross)), low(other)), "middle");
  return {p.orBits(low(lows), p.shl(middle, 16)),
          p.add(p.add(highs, high(cross)), p.add(high(other), high(middle)))};
}

Wide SampleEmitter::share(const Wide &total, Value fraction) {
  return sum(product(total.high, fraction), wide(product(total.low, fraction).high));
}

/// Every thread's sum, in all threads.
Wide SampleEmitter::reduceWide(const Wide &mine) {
  Value lows = p.shared("partial_low", p.i32, sampleWorkers);
  Value highs = p.shared("partial_high", p.i32, sampleWorkers);
  auto at = [&](Value i) -> Wide { return {p.load(lows, i), p.load(highs, i)}; };
  auto store = [&](const Wide &value) {
    p.store(value.low, lows, p.thread());
    p.store(value.high, highs, p.thread());
  };
  store(mine);
  p.barrier();
  p.loop("step", p.c(0), p.c(llvm::Log2_64(sampleWorkers)), 1, [&](Value step) {
    Value half = p.named(p.shr(p.c(sampleWorkers / 2), step), "half");
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

Value SampleEmitter::keyOfBits(Value bits) {
  Value magnitude = p.andBits(bits, ~signBit), sign = p.andBits(bits, signBit);
  bits = p.select(p.cmp(Predicate::uge, magnitude, p.c(infinity)),
                  p.orBits(sign, p.c(infinity - 1)), bits);
  bits = p.select(p.lessThan(magnitude, p.c(sampling::leastKey)), p.c(0), bits);
  return p.select(p.cmp(Predicate::slt, bits, p.c(0)), p.xorBits(bits, p.c(-1)),
                  p.orBits(bits, p.c(signBit)));
}

Value SampleEmitter::logitOf(Value key) {
  return p.bitsToFloat(p.select(p.cmp(Predicate::slt, key, p.c(0)), p.xorBits(key, p.c(signBit)),
                                p.xorBits(key, p.c(-1))));
}

Value SampleEmitter::keyOf(Value id) {
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

Value SampleEmitter::penalised(Value key) {
  Value logit = logitOf(key);
  Value factor = p.select(p.cmp(Predicate::slt, key, p.c(0)), positiveFactor, negativeFactor);
  Value changed = keyOfBits(p.named(p.floatToBits(p.mulf(logit, factor)), "changed"));
  return p.select(p.cmp(Predicate::eq, key, p.c(0)), p.c(0), changed);
}

Value SampleEmitter::isRecent(Value id) {
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

Value SampleEmitter::weightOf(Value key, Value sharpness) {
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

/// The first word of Philox4x32-10.
Value SampleEmitter::randomWord() {
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

Wide SampleEmitter::wantedMass(const Wide &total) {
  Value limited = p.minf(p.maxf(topP, p.cf(0)), p.cf(1 - 0x1p-24));
  Wide wanted = share(total, p.shl(p.toInteger(p.mulf(limited, p.cf(0x1p24))), 8));
  Value isNothing = p.cmp(Predicate::eq, p.orBits(wanted.low, wanted.high), p.c(0));
  return selectWide(isNothing, wide(p.c(1)), wanted);
}

Value SampleEmitter::leastWeight() {
  Value share = p.minf(p.maxf(minP, p.cf(0)), p.cf(1));
  return p.named(p.toInteger(p.mulf(share, p.cf(0x1p30))), "least_weight");
}
