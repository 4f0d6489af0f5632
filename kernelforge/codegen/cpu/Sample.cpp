// `sample`: a task chooses the token of a row. Keys and weights of the row lie in scratch, zeros
// behind them up to whole vectors; a filter sets those to 0 that it drops. Nothing is sorted: the
// least key that is kept is found bit by bit, a pass over the row for each bit.
#include "kernelforge/codegen/cpu/KernelBuilder.h"
#include "kernelforge/codegen/cpu/Step.h"
#include "kernelforge/support/Sampling.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;
using namespace kernelforge::transformer;

using Predicate = arith::CmpIPredicate;

namespace {

constexpr int64_t signBit = 0x80000000, infinity = 0x7f800000;

class SampleRowsEmitter {
public:
  SampleRowsEmitter(KernelBuilder &k, SampleOp op)
      : k(k), op(op), vocabulary(cast<RankedTensorType>(op.getLogits().getType()).getDimSize(1)),
        padded((vocabulary + lanes - 1) / lanes * lanes) {}

  int64_t scratchBytes() const { return (2 * padded + lanes) * 4; }
  void emit(Value row);

private:
  using Term = llvm::function_ref<Value(Value key, Value weight)>; ///< of vectors of i32

  // Numbers or vectors of i32: what is said of one lane is said of all.
  Value number(int64_t value, Value like);
  template <typename Op> Value make(Value x, Value y) { return k.b.create<Op>(k.loc, x, y); }
  Value add(Value x, Value y) { return make<arith::AddIOp>(x, y); }
  Value sub(Value x, Value y) { return make<arith::SubIOp>(x, y); }
  Value mul(Value x, int64_t y) { return make<arith::MulIOp>(x, number(y, x)); }
  Value andBits(Value x, int64_t y) { return make<arith::AndIOp>(x, number(y, x)); }
  Value orBits(Value x, Value y) { return make<arith::OrIOp>(x, y); }
  Value xorBits(Value x, int64_t y) { return make<arith::XOrIOp>(x, number(y, x)); }
  Value shr(Value x, int64_t y) { return make<arith::ShRUIOp>(x, number(y, x)); }
  Value is(Predicate predicate, Value x, int64_t y) { return k.cmp(predicate, x, number(y, x)); }
  Value toInteger(Value x);

  // Keys and weights (support/Sampling.h), of numbers or vectors.
  Value keyOfBits(Value bits);
  Value keyOf(Value bits);
  Value logitOf(Value key);
  Value weightOf(Value key, Value sharpness);

  Value keyAt(Value id) { return k.at(k.scratch, k.mul(id, 4)); }
  Value weightAt(Value id) { return k.at(k.scratch, k.add(k.mul(id, 4), k.c(4 * padded))); }
  Value loadWords(Value pointer) { return k.load(k.vi32, pointer, 4); }
  Value wide(Value x) { return k.b.create<arith::ExtUIOp>(k.loc, k.i64, x); }
  Value narrow(Value x) { return k.b.create<arith::TruncIOp>(k.loc, k.i32, x); }

  void readSettings(Value row);
  void storeKeys(Value row);
  void penalise(Value row);
  void findGreatest();
  Value sum(Term term);
  Value lastId(Value before, Value wanted, Term term);
  void keep(Value wanted, Term measure);
  void changeWeights(llvm::function_ref<Value(Value key, Value weight)> change);
  Value share(Value total, Value fraction);
  Value randomWord(Value row);
  Value choose(Value row);

  KernelBuilder &k;
  SampleOp op;
  int64_t vocabulary, padded;
  Value logits; ///< of the row
  Value sharpness, topP, minP, positiveFactor, negativeFactor, topK;
  Value greatestKey, greatest, first;
};

Value SampleRowsEmitter::number(int64_t value, Value like) {
  if (isa<VectorType>(like.getType()))
    return k.splatI(value);
  return k.b.create<arith::ConstantIntOp>(k.loc, static_cast<int32_t>(value), 32);
}

//===----------------------------------------------------------------------===//
// Keys and weights
//===----------------------------------------------------------------------===//

/// Of numbers from 0 on, below 2^31.
Value SampleRowsEmitter::toInteger(Value x) {
  Type type = isa<VectorType>(x.getType()) ? Type(k.vi32) : k.i32;
  return k.b.create<arith::FPToSIOp>(k.loc, type, x);
}

Value SampleRowsEmitter::keyOfBits(Value bits) {
  Value magnitude = andBits(bits, ~signBit), sign = andBits(bits, signBit);
  bits = k.select(is(Predicate::uge, magnitude, infinity), orBits(sign, number(infinity - 1, bits)),
                  bits);
  bits = k.select(is(Predicate::ult, magnitude, sampling::leastKey), number(0, bits), bits);
  return k.select(is(Predicate::slt, bits, 0), xorBits(bits, -1),
                  orBits(bits, number(signBit, bits)));
}

Value SampleRowsEmitter::keyOf(Value bits) {
  Value zero = number(0, bits);
  Value key =
      k.select(is(Predicate::ugt, andBits(bits, ~signBit), infinity), zero, keyOfBits(bits));
  return k.select(is(Predicate::eq, bits, infinity | signBit), zero, key);
}

Value SampleRowsEmitter::logitOf(Value key) {
  Value bits = k.select(is(Predicate::slt, key, 0), xorBits(key, signBit), xorBits(key, -1));
  Type type = isa<VectorType>(key.getType()) ? Type(k.vf32) : k.f32;
  return k.b.create<arith::BitcastOp>(k.loc, type, bits);
}

/// Of a vector; 0 where the key is. Null sharpness: 1.
Value SampleRowsEmitter::weightOf(Value key, Value sharpness) {
  using namespace sampling;
  Value distance = k.subf(k.broadcast(greatest), logitOf(key));
  if (sharpness)
    distance = k.mulf(distance, k.broadcast(sharpness));
  distance = make<arith::MinNumFOp>(distance, k.splat(cutoff));
  Value n = toInteger(k.mulf(distance, k.splat(0x1p16)));
  Value high = shr(mul(shr(n, 10), log2eFraction), 6);
  Value low = shr(mul(andBits(n, 1023), log2eFraction), 16);
  Value z = add(add(n, high), low), f = andBits(z, 0xffff);
  Value power = k.splatI(fractionPowers[3]);
  for (size_t i = 3; i-- > 0;)
    power = sub(k.splatI(fractionPowers[i]), shr(make<arith::MulIOp>(f, power), 16));
  Value mantissa = sub(k.splatI(unitWeight), shr(make<arith::MulIOp>(f, power), 2));
  Value weight = make<arith::ShRUIOp>(mantissa, shr(z, 16));
  return k.select(is(Predicate::eq, key, 0), k.splatI(0), weight);
}

//===----------------------------------------------------------------------===//
// Passes over the row
//===----------------------------------------------------------------------===//

void SampleRowsEmitter::storeKeys(Value row) {
  logits = k.at(k.argument(op.getLogits()), k.mul(row, vocabulary * 4));
  auto bits = [&](Value id, Value mask) {
    return k.loadVec(k.i32, k.at(logits, k.mul(id, 4)), mask);
  };
  const int64_t whole = vocabulary / lanes * lanes;
  k.loop(k.c(0), k.c(whole), lanes, [&](Value id) { k.store(keyOf(bits(id, {})), keyAt(id), 4); });
  if (whole == vocabulary)
    return;
  Value mask = k.firstLanes(k.c(vocabulary - whole));
  k.store(k.select(mask, keyOf(bits(k.c(whole), mask)), k.splatI(0)), keyAt(k.c(whole)), 4);
}

/// From the logit itself: an id that occurs twice is penalised once.
void SampleRowsEmitter::penalise(Value row) {
  if (!op.getRecent())
    return;
  const int64_t window = cast<RankedTensorType>(op.getRecent().getType()).getDimSize(1);
  Value start = k.at(k.argument(op.getRecent()), k.mul(row, window * 4));
  k.loop(k.c(0), k.c(window), 1, [&](Value j) {
    Value id = k.widen(k.load(k.i32, k.at(start, k.mul(j, 4)), 4));
    k.ifThen(k.cmp(Predicate::ult, id, k.c(vocabulary)), [&] {
      Value key = keyOf(k.load(k.i32, k.at(logits, k.mul(id, 4)), 4));
      Value factor = k.select(is(Predicate::slt, key, 0), positiveFactor, negativeFactor);
      Value changed = k.b.create<arith::BitcastOp>(k.loc, k.i32, k.mulf(logitOf(key), factor));
      Value zero = number(0, key);
      k.store(k.select(k.cmp(Predicate::eq, key, zero), zero, keyOfBits(changed)), keyAt(id), 4);
    });
  });
}

void SampleRowsEmitter::findGreatest() {
  auto reduce = [&](vector::CombiningKind kind, Value x) -> Value {
    return k.b.create<vector::ReductionOp>(k.loc, kind, x);
  };
  Value best = k.loop(k.c(0), k.c(padded), lanes, k.splatI(0), [&](Value id, ValueRange carried) {
    return SmallVector<Value>{make<arith::MaxUIOp>(carried[0], loadWords(keyAt(id)))};
  })[0];
  greatestKey = reduce(vector::CombiningKind::MAXUI, best);
  greatest = logitOf(greatestKey);
  Value wanted = k.broadcast(greatestKey);
  Value ids = k.loop(k.c(0), k.c(padded), lanes, k.splatI(-1), [&](Value id, ValueRange carried) {
    Value own = add(k.broadcast(narrow(id)), k.iota());
    Value isGreatest = k.cmp(Predicate::eq, loadWords(keyAt(id)), wanted);
    return SmallVector<Value>{
        make<arith::MinUIOp>(carried[0], k.select(isGreatest, own, k.splatI(-1)))};
  })[0];
  first = reduce(vector::CombiningKind::MINUI, ids);
}

/// Sum of the terms of all ids, i64.
Value SampleRowsEmitter::sum(Term term) {
  VectorType type = k.vec(k.i64);
  Value zero = k.b.create<arith::ConstantOp>(k.loc, k.b.getZeroAttr(type));
  Value sums = k.loop(k.c(0), k.c(padded), lanes, zero, [&](Value id, ValueRange carried) {
    Value terms = term(loadWords(keyAt(id)), loadWords(weightAt(id)));
    return SmallVector<Value>{add(carried[0], k.b.create<arith::ExtUIOp>(k.loc, type, terms))};
  })[0];
  return k.b.create<vector::ReductionOp>(k.loc, vector::CombiningKind::ADD, sums);
}

/// The least id (i32) up to which `before` and the terms of all ids sum up to `wanted`; beyond the
/// row where they do not.
Value SampleRowsEmitter::lastId(Value before, Value wanted, Term term) {
  VectorType type = k.vec(k.i64);
  auto termsAt = [&](Value id) { return term(loadWords(keyAt(id)), loadWords(weightAt(id))); };
  // The vector in which it lies: sums before it are too small.
  auto found =
      k.loop(k.c(0), k.c(padded), lanes, ValueRange{before, before, k.c(0)},
             [&](Value id, ValueRange carried) {
               Value terms = k.b.create<arith::ExtUIOp>(k.loc, type, termsAt(id));
               Value total =
                   k.add(carried[0],
                         k.b.create<vector::ReductionOp>(k.loc, vector::CombiningKind::ADD, terms));
               Value isLess = k.cmp(Predicate::ult, total, wanted);
               return SmallVector<Value>{total, k.select(isLess, total, carried[1]),
                                         k.select(isLess, k.add(id, k.c(lanes)), carried[2])};
             });
  Value begin = k.min(found[2], k.c(padded - lanes));
  Value few = k.at(k.scratch, 8 * padded);
  k.store(termsAt(begin), few, 4);
  auto in = k.loop(
      k.c(0), k.c(lanes), 1, ValueRange{found[1], begin}, [&](Value lane, ValueRange carried) {
        Value term = wide(k.load(k.i32, k.at(few, k.mul(lane, 4)), 4));
        Value total = k.add(carried[0], term);
        Value isLess = k.cmp(Predicate::ult, total, wanted);
        return SmallVector<Value>{total, k.select(isLess, k.add(carried[1], k.c(1)), carried[1])};
      });
  return narrow(in[1]);
}

/// Keeps the fewest of greatest keys whose measures sum up to `wanted`.
void SampleRowsEmitter::keep(Value wanted, Term measure) {
  Value zero = k.splatI(0), none = number(0, greatestKey);
  Value key = k.loop(k.c(0), k.c(32), 1, none, [&](Value bit, ValueRange carried) {
    Value tried = orBits(carried[0], make<arith::ShRUIOp>(number(signBit, none), narrow(bit)));
    Value least = k.broadcast(tried);
    Value total = sum([&](Value key, Value weight) {
      return k.select(k.cmp(Predicate::uge, key, least), measure(key, weight), zero);
    });
    return SmallVector<Value>{k.select(k.cmp(Predicate::uge, total, wanted), tried, carried[0])};
  })[0];
  key = k.broadcast(make<arith::MaxUIOp>(key, number(1, none))); // 0 is never chosen
  Value above = sum([&](Value other, Value weight) {
    return k.select(k.cmp(Predicate::ugt, other, key), measure(other, weight), zero);
  });
  Value last = k.broadcast(lastId(above, wanted, [&](Value other, Value weight) {
    return k.select(k.cmp(Predicate::eq, other, key), measure(other, weight), zero);
  }));
  k.loop(k.c(0), k.c(padded), lanes, [&](Value id) {
    Value other = loadWords(keyAt(id)), own = add(k.broadcast(narrow(id)), k.iota());
    Value tied = k.select(k.cmp(Predicate::ule, own, last), other, zero);
    Value equal = k.select(k.cmp(Predicate::eq, other, key), tied, zero);
    Value kept = k.select(k.cmp(Predicate::ugt, other, key), other, equal);
    k.store(kept, keyAt(id), 4);
    Value isKept = k.cmp(Predicate::ne, kept, zero);
    k.store(k.select(isKept, loadWords(weightAt(id)), zero), weightAt(id), 4);
  });
}

void SampleRowsEmitter::changeWeights(llvm::function_ref<Value(Value key, Value weight)> change) {
  k.loop(k.c(0), k.c(padded), lanes, [&](Value id) {
    k.store(change(loadWords(keyAt(id)), loadWords(weightAt(id))), weightAt(id), 4);
  });
}

//===----------------------------------------------------------------------===//
// The choice
//===----------------------------------------------------------------------===//

void SampleRowsEmitter::readSettings(Value row) {
  Value settings = k.at(k.argument(op.getSettings()), k.mul(row, settingsWidth * 4));
  auto setting = [&](int64_t i) { return k.loadF32(k.at(settings, 4 * i)); };
  sharpness = setting(0);
  topP = setting(1);
  minP = setting(2);
  positiveFactor = setting(3);
  negativeFactor = setting(4);
  topK = k.load(k.i32, k.at(k.argument(op.getDraws()), k.mul(row, drawsWidth * 4)), 4);
}

/// total * fraction / 2^32, rounded down, of a fraction below 2^32; all i64.
Value SampleRowsEmitter::share(Value total, Value fraction) {
  auto shift = [&](Value x) { return make<arith::ShRUIOp>(x, k.c(32)); };
  Value low = make<arith::AndIOp>(total, k.c(0xffffffff));
  return k.add(k.mul(shift(total), fraction), shift(k.mul(low, fraction)));
}

/// The first word of Philox4x32-10, i64.
Value SampleRowsEmitter::randomWord(Value row) {
  auto word = [&](Value tensor, Value at) {
    return wide(k.load(k.i32, k.at(k.argument(tensor), k.mul(at, 4)), 4));
  };
  auto low = [&](Value x) { return make<arith::AndIOp>(x, k.c(0xffffffff)); };
  auto high = [&](Value x) { return make<arith::ShRUIOp>(x, k.c(32)); };
  auto mix = [&](Value x, Value y, Value z) {
    return make<arith::XOrIOp>(make<arith::XOrIOp>(x, y), z);
  };
  Value seed = k.mul(row, drawsWidth);
  SmallVector<Value> start{low(k.add(word(op.getPositions(), row), k.c(1))),
                           k.c(0),
                           k.c(0),
                           k.c(0),
                           word(op.getDraws(), k.add(seed, k.c(1))),
                           word(op.getDraws(), k.add(seed, k.c(2)))};
  return k.loop(k.c(0), k.c(10), 1, start, [&](Value, ValueRange x) {
    Value a = k.mul(x[0], k.c(0xD2511F53)), b = k.mul(x[2], k.c(0xCD9E8D57));
    return SmallVector<Value>{mix(high(b), x[1], x[4]),          low(b),
                              mix(high(a), x[3], x[5]),          low(a),
                              low(k.add(x[4], k.c(0x9E3779B9))), low(k.add(x[5], k.c(0xBB67AE85)))};
  })[0];
}

/// The id that is drawn, i32.
Value SampleRowsEmitter::choose(Value row) {
  changeWeights([&](Value key, Value) { return weightOf(key, {}); });
  // From 1 to one less than there are: else all are kept.
  Value isFew = k.cmp(Predicate::ult, make<arith::SubIOp>(topK, number(1, topK)),
                      number(vocabulary - 1, topK));
  k.ifThen(isFew, [&] { keep(wide(topK), [&](Value, Value) { return k.splatI(1); }); });
  k.ifThen(k.cmpf(arith::CmpFPredicate::OLT, topP, k.cf(1)), [&] {
    Value total = sum([](Value, Value weight) { return weight; });
    Value limited = make<arith::MaxNumFOp>(topP, k.cf(0));
    Value fraction = wide(toInteger(k.mulf(limited, k.cf(0x1p24))));
    Value wanted = share(total, k.mul(fraction, 256));
    keep(k.max(wanted, k.c(1)), [](Value, Value weight) { return weight; });
  });
  Value limited = make<arith::MinNumFOp>(make<arith::MaxNumFOp>(minP, k.cf(0)), k.cf(1));
  Value least = k.broadcast(toInteger(k.mulf(limited, k.cf(0x1p30))));
  changeWeights([&](Value key, Value weight) {
    Value isLikely = k.cmp(Predicate::uge, weight, least);
    return k.select(isLikely, weightOf(key, sharpness), k.splatI(0));
  });
  auto weightsOf = [](Value, Value weight) { return weight; };
  Value passed = share(sum(weightsOf), randomWord(row));
  return lastId(k.c(0), k.add(passed, k.c(1)), weightsOf);
}

void SampleRowsEmitter::emit(Value row) {
  readSettings(row);
  storeKeys(row);
  penalise(row);
  findGreatest();
  Value out = k.at(k.result(0), k.mul(row, 4));
  Value isAny = is(Predicate::ne, greatestKey, 0);
  k.store(k.select(isAny, first, number(-1, first)), out, 4);
  Value isDrawn = k.cmpf(arith::CmpFPredicate::OGT, sharpness, k.cf(0));
  k.ifThen(make<arith::AndIOp>(isAny, isDrawn), [&] { k.store(choose(row), out, 4); });
}

} // namespace

Launching step::emitSample(ModuleOp module, KernelOp kernel, SampleOp op, const Target &target,
                           StringRef entry) {
  KernelBuilder k(module, kernel, target, entry);
  SampleRowsEmitter emitter(k, op);
  emitter.emit(k.task);
  k.finish();
  Type rows = op.getLogits().getType();
  const int size = k.rowsIndex(rows);
  Phase phase;
  phase.grid = size < 0 ? Extent(cast<RankedTensorType>(rows).getDimSize(0)) : Extent(1, size);
  phase.scratchBytes = emitter.scratchBytes();
  Launching launching;
  launching.phases.push_back(std::move(phase));
  return launching;
}
