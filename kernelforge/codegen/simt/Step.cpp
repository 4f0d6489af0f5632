// `advance`, and which of the two a kernel holds. A thread has a row or a sequence; what the rows'
// next slots decide waits for them in a phase of its own, which also keeps buffers of a phase few.
#include "kernelforge/codegen/simt/Step.h"

#include "kernelforge/codegen/StepKernel.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;

using Predicate = arith::CmpIPredicate;
using Result = AdvanceResult;

namespace {

/// Buffer of a result of `advance`.
Value resultOf(PhaseBuilder &p, AdvanceResult number, Access access = Access::Write) {
  return p.result(static_cast<unsigned>(number), access);
}

/// Emits the phases of an advance.
class StepEmitter {
public:
  StepEmitter(ModuleOp module, KernelOp kernel, AdvanceOp op, StringRef entry)
      : module(module), kernel(kernel), op(op), entry(entry) {}

  Launching emit() {
    Launching launching;
    launching.phases = {slots(), rows(), lengths()};
    return launching;
  }

private:
  Phase slots();
  Phase rows();
  Phase lengths();
  /// A phase with a thread for each row of `type`.
  Phase forRows(size_t number, Type type, llvm::function_ref<void(PhaseBuilder &, Value)> body);
  /// Slot of the position in the table of the sequence; -1 where there is none.
  Value slotAt(PhaseBuilder &p, Value sequence, Value position);

  ModuleOp module;
  KernelOp kernel;
  AdvanceOp op;
  StringRef entry;
};

Phase StepEmitter::forRows(size_t number, Type type,
                           llvm::function_ref<void(PhaseBuilder &, Value)> body) {
  PhaseBuilder p(module, kernel, phaseEntry(entry, number, 3));
  Value row = p.named(p.add(p.mul(p.block(), threads), p.thread()), "row");
  p.ifThen(p.lessThan(row, p.rows(type)), [&] { body(p, row); });
  return p.finish(p.rowsExtent(type, threads));
}

Value StepEmitter::slotAt(PhaseBuilder &p, Value sequence, Value position) {
  Value table = p.argument(op.getTable());
  const auto page = static_cast<int64_t>(op.getPage());
  if (page == 0)
    return p.add(p.load(table, sequence), position);
  Value pages = p.dimension(op.getTable().getType(), 1);
  Value column = p.named(p.div(position, page), "column");
  return p.ifElse(
      "paged_slot", p.lessThan(column, pages),
      [&] {
        Value number = p.named(p.load(table, p.add(p.mul(sequence, pages), column)), "page");
        Value slot = p.add(p.mul(number, page), p.rem(position, page));
        return p.select(p.cmp(Predicate::slt, number, p.c(0)), p.c(-1), slot);
      },
      [&] { return p.c(-1); }, p.i32);
}

Phase StepEmitter::slots() {
  return forRows(0, op.getIds().getType(), [&](PhaseBuilder &p, Value row) {
    Value sequence = p.named(p.load(p.argument(op.getSequences()), row), "sequence");
    Value position = p.named(p.add(p.load(p.argument(op.getPositions()), row), 1), "next_position");
    // Negative where one of them is.
    Value live =
        p.orBits(p.load(p.argument(op.getSlots()), row), p.load(p.argument(op.getIds()), row));
    Value limit = p.load(p.argument(op.getLimits()), sequence);
    Value isWithin = p.select(p.cmp(Predicate::slt, position, limit), live, p.c(-1));
    Value goesOn = p.cmp(Predicate::sge, isWithin, p.c(0));
    Value slot = p.ifElse(
        "slot", goesOn, [&] { return slotAt(p, sequence, position); }, [&] { return p.c(-1); },
        p.i32);
    p.store(p.maxSigned(slot, p.c(-1)), resultOf(p, Result::Slots), row);
  });
}

Phase StepEmitter::rows() {
  return forRows(1, op.getIds().getType(), [&](PhaseBuilder &p, Value row) {
    Value slot = p.load(resultOf(p, Result::Slots, Access::Read), row);
    Value goesOn = p.named(p.cmp(Predicate::sge, slot, p.c(0)), "goes_on");
    Value one = p.named(p.select(goesOn, p.c(1), p.c(0)), "step");
    Value id = p.named(p.load(p.argument(op.getIds()), row), "id");
    p.store(p.maxSigned(id, p.c(0)), resultOf(p, Result::Ids), row);
    Value position = p.load(p.argument(op.getPositions()), row);
    p.store(p.add(position, one), resultOf(p, Result::Positions), row);
    if (!op.getRecent())
      return;
    const int64_t window = cast<RankedTensorType>(op.getRecent().getType()).getDimSize(1);
    Value start = p.named(p.mul(row, window), "recent_start");
    p.loop("j", p.c(0), p.c(window), 1, [&](Value j) {
      Value from = p.named(p.add(j, one), "from");
      Value old = p.load(p.argument(op.getRecent()), p.add(start, p.min(from, p.c(window - 1))));
      Value isNew = p.cmp(Predicate::eq, from, p.c(window));
      p.store(p.select(isNew, id, old), resultOf(p, Result::Recent), p.add(start, j));
    });
  });
}

Phase StepEmitter::lengths() {
  return forRows(2, op.getLengths().getType(), [&](PhaseBuilder &p, Value sequence) {
    Value old = p.load(p.argument(op.getLengths()), sequence);
    Value length =
        p.loop("other", p.c(0), p.rows(op.getIds().getType()), 1, "length", old,
               [&](Value row, ValueRange carried) {
                 Value slot = p.load(resultOf(p, Result::Slots, Access::Read), row);
                 Value own =
                     p.cmp(Predicate::eq, p.load(p.argument(op.getSequences()), row), sequence);
                 Value isOne = p.select(p.cmp(Predicate::sge, slot, p.c(0)), p.c(1), p.c(0));
                 return SmallVector<Value>{p.add(carried[0], p.select(own, isOne, p.c(0)))};
               })[0];
    p.store(length, resultOf(p, Result::Lengths), sequence);
  });
}

} // namespace

Status step::supports(const KernelAnalysis &kernel) { return checkStep(kernel, "a GPU"); }

SmallVector<Needs> step::needsOf(const KernelAnalysis &kernel) {
  Operation *op = stepOperation(kernel.kernel());
  if (auto sample = dyn_cast<SampleOp>(op))
    return {needsOfSample(sample)};
  const bool hasRecent = static_cast<bool>(cast<AdvanceOp>(op).getRecent());
  return {{7, 0}, {hasRecent ? 7 : 5, 0}, {4, 0}};
}

std::string step::scheduleText(const KernelAnalysis &kernel) {
  if (auto sample = dyn_cast<SampleOp>(stepOperation(kernel.kernel())))
    return fmt::format("one row a workgroup of {} threads", needsOfSample(sample).blockThreads);
  return "one row or sequence a thread";
}

Launching step::emit(ModuleOp module, const KernelAnalysis &kernel, StringRef entry) {
  Operation *op = stepOperation(kernel.kernel());
  if (auto advance = dyn_cast<AdvanceOp>(op))
    return StepEmitter(module, kernel.kernel(), advance, entry).emit();
  Launching launching;
  launching.phases = {emitSample(module, kernel.kernel(), cast<SampleOp>(op), entry)};
  return launching;
}
