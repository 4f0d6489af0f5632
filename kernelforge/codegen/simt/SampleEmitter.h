// What emits `sample`: a workgroup chooses the token of a row (support/Sampling.h). Where few of
// the greatest logits are wanted, those that may be among them are listed in workgroup memory, and
// the rest is done there (SampleList.cpp). Else nothing is sorted: a greatest key or a last id up
// to which something sums up to enough is found bit by bit, a pass over the row for each bit
// (Sample.cpp).
#pragma once

#include "kernelforge/codegen/simt/Step.h"

namespace kernelforge::simt::step {

/// Threads of a workgroup: a row is long, and read in many passes.
constexpr int64_t sampleWorkers = 256;
/// Entries of the list: room for ties, and for what is not as great as it seemed at first.
constexpr int64_t sampleListed = 2 * sampleWorkers;

/// Bits of an f32.
constexpr int64_t signBit = 0x80000000, infinity = 0x7f800000;

/// A sum of 64 bits.
struct Wide {
  mlir::Value low, high;
};

class SampleEmitter {
public:
  SampleEmitter(mlir::ModuleOp module, transformer::KernelOp kernel, transformer::SampleOp op,
                llvm::StringRef entry);

  Phase emit();

private:
  using Value = mlir::Value;
  /// What is chosen from: keys above `key`, and of those equal to it ids up to `last`.
  struct Kept {
    Value key, last;
  };
  using Measure = llvm::function_ref<Value(Value key, Value id)>; ///< i32
  using Term = llvm::function_ref<Value(Value id)>;               ///< i32
  using Fold =
      llvm::function_ref<llvm::SmallVector<Value>(Value id, Value key, mlir::ValueRange carried)>;

  // SampleArithmetic.cpp: sums of 64 bits, keys and weights (support/Sampling.h).
  Wide wide(Value low) { return {low, p.c(0)}; }
  Wide sum(const Wide &a, const Wide &b);
  Value isAtLeast(const Wide &a, const Wide &b);
  Wide selectWide(Value condition, const Wide &a, const Wide &b);
  Wide product(Value a, Value b);
  Wide share(const Wide &total, Value fraction);
  Wide reduceWide(const Wide &mine);
  Value keyOfBits(Value bits);
  Value keyOf(Value id);
  Value penalised(Value key);
  Value isRecent(Value id);
  Value logitOf(Value key);
  Value weightOf(Value key, Value sharpness);
  /// Of the mass `total`, what the fewest that are kept have at least.
  Wide wantedMass(const Wide &total);
  Value leastWeight();
  Value randomWord();

  // Sample.cpp.
  void readSettings();
  void markRecent();
  llvm::SmallVector<Value> foldRow(llvm::StringRef carriedNames, llvm::SmallVector<Value> carried,
                                   Fold fold);
  void findGreatest();
  void makePlan();
  Value ifKept(const Kept &kept, Value key, Value id, Value value);
  Wide sumOver(Value from, Value to, Term term);
  Value lastId(const Wide &before, const Wide &wanted, Term term);
  Kept keep(llvm::StringRef name, const Kept &kept, Value bits, const Wide &wanted,
            Measure measure);
  Value drawn(const Kept &kept);
  Value draw();

  // SampleList.cpp.
  /// Lists what may be among the topK greatest, where there is room for it: the plan says so then.
  void makeList();
  /// What the filters keep of the list, and one of it.
  Value drawFromList();

  PhaseBuilder p;
  transformer::SampleOp op;
  int64_t vocabulary, markWords;
  Value row, rowStart;
  Value sharpness, topP, minP, positiveFactor, negativeFactor, topK;
  Value marks;   ///< workgroup memory; null where no ids are recent
  Value bestKey; ///< of the thread's own ids
  Value greatestKey, greatest, first;
  Value plan; ///< workgroup memory: what all threads agree on, by Plan
};

/// Words of the plan.
enum Plan : int64_t {
  BitsOfK,   ///< how many bits of the threshold of top-k are looked for; 0: all is kept
  BitsOfP,   ///< likewise of top-p
  Draws,     ///< 1: something is drawn
  Lists,     ///< 1: so few are wanted that a list may do
  Cut,       ///< least key that is listed
  Listed,    ///< entries of the list; 0: there is none
  Choice,    ///< id that was drawn from the list
  UsesList,  ///< 1: there is a list
  PlanWords, ///< how many words these are
};

} // namespace kernelforge::simt::step
