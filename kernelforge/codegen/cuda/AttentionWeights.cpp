#include "kernelforge/codegen/cuda/AttentionWeights.h"

#include "kernelforge/codegen/simt/AttentionKeys.h"

#include <fmt/format.h>
#include <numbers>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cuda;
using namespace kernelforge::cuda::attention;

/// Highest score of a row that has seen no key: a power of two, so that its product with a factor
/// is exact, and the difference to itself 0. The score of a key that a row does not see lies so far
/// below that its weight is 0 even there.
static constexpr double nothingSeen = -0x1p100, notSeen = -3e38;
/// By how much, in powers of two, a row's highest score may grow before what was summed up is
/// scaled: weights are up to two to that, which f16 holds, too.
static constexpr double mostGrowth = 8;
/// Factors for which scores that are not seen weigh nothing.
static constexpr double leastFactor = 0x1p-20, mostFactor = 0x1p20;

static double factorOf(transformer::AttentionOp op) {
  const double softcap = op.getSoftcap().convertToDouble();
  return std::numbers::log2e * (softcap > 0 ? softcap : op.getScale().convertToDouble());
}

std::string Weights::obstacle(transformer::AttentionOp op) {
  if (factorOf(op) < leastFactor || factorOf(op) > mostFactor)
    return fmt::format("its scores are multiplied by {:.3g}, and can be by {:.3g} to {:.3g}",
                       factorOf(op), leastFactor, mostFactor);
  return "";
}

Weights::Weights(simt::PhaseBuilder &p, transformer::AttentionOp op, const Roles &roles)
    : p(p), assembly(p), op(op), roles(roles), softcap(op.getSoftcap().convertToDouble()),
      scale(op.getScale().convertToDouble()), factor(factorOf(op)) {}

RunningRows Weights::start(Value head) {
  if (!op.getSinks())
    return {{p.cf(nothingSeen), p.cf(nothingSeen)}, {p.cf(0), p.cf(0)}};
  // In units of bounded scores; one of a row's four threads has its weight.
  Value sink = simt::AttentionKeys(p, op).sink(head);
  sink = p.maxf(p.mulf(sink, p.cf(std::numbers::log2e / factor)), p.cf(nothingSeen));
  Value isOwn = p.cmp(arith::CmpIPredicate::eq, p.andBits(roles.lane, 3), p.c(0));
  Value weight = p.select(isOwn, p.cf(1), p.cf(0));
  return {{sink, sink}, {weight, weight}};
}

SmallVector<Value> Weights::bounded(ValueRange products) {
  SmallVector<Value> scores(products);
  if (softcap == 0)
    return scores;
  // tanh(x) = 1 - 2 / (exp(2 x) + 1), which is right at both ends, too.
  Value toPower = p.cf(2 * std::numbers::log2e * scale / softcap);
  for (Value &score : scores) {
    Value power = assembly.powerOfTwo(p.mulf(score, toPower));
    score = p.fma(assembly.reciprocal(p.addf(power, p.cf(1))), p.cf(-2), p.cf(1));
  }
  return scores;
}

Value Weights::unseen() { return p.cf(notSeen); }

/// All values of one of a thread's rows, combined two by two.
static Value combineRow(ValueRange values, int64_t lower,
                        llvm::function_ref<Value(Value, Value)> combine) {
  SmallVector<Value> left;
  for (size_t block = 0; block < values.size() / 4; ++block)
    for (int64_t second : {0, 1})
      left.push_back(values[size_t(Accumulators::numberOf(int64_t(block), lower, second))]);
  while (left.size() > 1) {
    const size_t pairs = left.size() / 2;
    for (size_t i = 0; i < pairs; ++i)
      left[i] = combine(left[2 * i], left[2 * i + 1]);
    if (left.size() % 2 != 0)
      left[pairs] = left.back();
    left.resize((left.size() + 1) / 2);
  }
  return left[0];
}

Value Weights::acrossRow(Value value, llvm::function_ref<Value(Value, Value)> combine) {
  for (const int64_t mask : {1, 2})
    value = combine(value, p.shuffleXor(value, mask, warp));
  return value;
}

Weights::Step Weights::step(ValueRange scores, const RunningRows &before) {
  Step step;
  step.weights.assign(scores.begin(), scores.end());
  auto larger = [&](Value x, Value y) { return p.maxf(x, y); };
  Value scaled = p.cf(factor);
  for (const size_t lower : {0, 1}) {
    Value highest = combineRow(scores, int64_t(lower), larger);
    highest = acrossRow(highest, larger);
    Value limit = p.addf(before.highest[lower], p.cf(mostGrowth / factor));
    Value grows = p.cmpf(arith::CmpFPredicate::OGT, highest, limit);
    highest = p.select(grows, highest, before.highest[lower]);
    step.fades = lower == 0 ? grows : Value(p.b.create<arith::OrIOp>(p.loc, step.fades, grows));
    Value negative = p.negf(p.mulf(highest, scaled));
    step.next.highest[lower] = highest;
    step.fade[lower] = assembly.powerOfTwo(p.fma(before.highest[lower], scaled, negative));
    for (size_t block = 0; block < scores.size() / 4; ++block)
      for (int64_t second : {0, 1}) {
        Value &weight =
            step.weights[size_t(Accumulators::numberOf(int64_t(block), int64_t(lower), second))];
        weight = assembly.powerOfTwo(p.fma(weight, scaled, negative));
      }
    Value sum =
        combineRow(step.weights, int64_t(lower), [&](Value x, Value y) { return p.addf(x, y); });
    step.next.sum[lower] = p.fma(before.sum[lower], step.fade[lower], sum);
  }
  return step;
}

std::array<Value, 2> Weights::factors(const RunningRows &last) {
  std::array<Value, 2> factors;
  for (const size_t lower : {0, 1}) {
    Value sum = acrossRow(last.sum[lower], [&](Value x, Value y) { return p.addf(x, y); });
    Value isAny = p.cmpf(arith::CmpFPredicate::OGT, last.highest[lower], p.cf(nothingSeen));
    factors[lower] = p.select(isAny, assembly.reciprocal(sum), p.cf(0));
  }
  return factors;
}
