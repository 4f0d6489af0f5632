// `advance`, and which of the two a kernel holds. All rows are one task: there is little to do.
#include "kernelforge/codegen/cpu/Step.h"

#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/codegen/StepKernel.h"
#include "kernelforge/codegen/cpu/KernelBuilder.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;
using namespace kernelforge::transformer;

using Predicate = arith::CmpIPredicate;
using Result = AdvanceResult;

namespace {

class StepEmitter {
public:
  StepEmitter(KernelBuilder &k, AdvanceOp op) : k(k), op(op) {}

  void emit() {
    Value sequences = k.rows(op.getLengths().getType());
    k.loop(k.c(0), sequences, 1,
           [&](Value s) { put(get(k.argument(op.getLengths()), s), result(Result::Lengths), s); });
    k.loop(k.c(0), k.rows(op.getIds().getType()), 1, [&](Value row) { emitRow(row); });
  }

private:
  /// Element of a buffer of i32, as i64.
  Value get(Value buffer, Value index) {
    return k.widen(k.load(k.i32, k.at(buffer, k.mul(index, 4)), 4));
  }
  void put(Value value, Value buffer, Value index) {
    Value narrow = k.b.create<arith::TruncIOp>(k.loc, k.i32, value);
    k.store(narrow, k.at(buffer, k.mul(index, 4)), 4);
  }
  Value result(Result number) { return k.result(static_cast<unsigned>(number)); }
  Value isNegative(Value x) { return k.lessThan(x, k.c(0)); }
  void putSlot(Value sequence, Value position, Value row);
  void emitRow(Value row);
  void moveRecent(Value row, Value id, Value step);

  KernelBuilder &k;
  AdvanceOp op;
};

/// Stores the slot of a position of a sequence for the row; leaves what is there where it has none.
void StepEmitter::putSlot(Value sequence, Value position, Value row) {
  Value table = k.argument(op.getTable());
  auto store = [&](Value slot) {
    k.ifThen(k.not_(isNegative(slot)), [&] { put(slot, result(Result::Slots), row); });
  };
  const auto page = static_cast<int64_t>(op.getPage());
  if (page == 0)
    return store(k.add(get(table, sequence), position));
  Value pages = k.dimension(op.getTable().getType(), 1), column = k.div(position, page);
  k.ifThen(k.lessThan(column, pages), [&] {
    Value number = get(table, k.add(k.mul(sequence, pages), column));
    store(k.add(k.mul(number, page), k.rem(position, page)));
  });
}

void StepEmitter::emitRow(Value row) {
  Value id = get(k.argument(op.getIds()), row);
  Value sequence = get(k.argument(op.getSequences()), row);
  Value position = get(k.argument(op.getPositions()), row);
  Value next = k.add(position, k.c(1));
  put(k.c(-1), result(Result::Slots), row);
  Value isLive = k.not_(isNegative(k.min(get(k.argument(op.getSlots()), row), id)));
  k.ifThen(isLive, [&] {
    Value isWithin = k.lessThan(next, get(k.argument(op.getLimits()), sequence));
    k.ifThen(isWithin, [&] { putSlot(sequence, next, row); });
  });
  Value goesOn = k.not_(isNegative(get(result(Result::Slots), row)));
  Value step = k.select(goesOn, k.c(1), k.c(0));
  put(k.max(id, k.c(0)), result(Result::Ids), row);
  put(k.add(position, step), result(Result::Positions), row);
  Value length = get(result(Result::Lengths), sequence);
  put(k.add(length, step), result(Result::Lengths), sequence);
  if (op.getRecent())
    moveRecent(row, id, step);
}

void StepEmitter::moveRecent(Value row, Value id, Value step) {
  const int64_t window = cast<RankedTensorType>(op.getRecent().getType()).getDimSize(1);
  Value start = k.mul(row, window);
  k.loop(k.c(0), k.c(window), 1, [&](Value j) {
    Value from = k.add(j, step);
    Value old = get(k.argument(op.getRecent()), k.add(start, k.min(from, k.c(window - 1))));
    Value isNew = k.cmp(Predicate::eq, from, k.c(window));
    put(k.select(isNew, id, old), result(Result::Recent), k.add(start, j));
  });
}

} // namespace

Status step::supports(const KernelAnalysis &kernel) { return checkStep(kernel, "a CPU"); }

Expected<Launching> step::emit(ModuleOp module, const KernelAnalysis &kernel, const Target &target,
                               StringRef entry) {
  KF_TRY(KnobValues values, knobsOf(kernel.kernel()));
  KF_CHECK(KnobReader(kernel.name(), values).checkNames({}));
  Operation *op = stepOperation(kernel.kernel());
  if (auto sample = dyn_cast<SampleOp>(op))
    return emitSample(module, kernel.kernel(), sample, target, entry);
  KernelBuilder k(module, kernel.kernel(), target, entry);
  StepEmitter(k, cast<AdvanceOp>(op)).emit();
  k.finish();
  Launching launching;
  launching.phases.emplace_back();
  return launching;
}
