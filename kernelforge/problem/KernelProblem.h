// One kernel by itself: sizes, data with what must come out, and code for any schedule. What
// tuning, records and evaluation measure.
#pragma once

#include "kernelforge/backend/Program.h"
#include "kernelforge/codegen/ScheduleSpace.h"
#include "kernelforge/codegen/Target.h"
#include "kernelforge/compiler/Targets.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/kernels/MatmulKernel.h"
#include "kernelforge/problem/FunctionData.h"
#include "kernelforge/records/Record.h"

#include "mlir/IR/OwningOpRef.h"

namespace kernelforge {

/// Inputs of one run, weights in the layout that the kernel reads, and what must come out.
struct ProblemData {
  FunctionData data;
  std::vector<PageMemory> packed;             ///< by argument; empty where it is read row-major
  std::vector<std::vector<float>> references; ///< of each output: results, then written caches
  std::vector<double> tolerances;             ///< of each, as tolerancesOf() says

  /// The bytes that argument `index` is passed as.
  std::span<const std::byte> argument(size_t index) const;

  /// The same as it lies in a file.
  std::span<const std::byte> rowMajor(size_t index) const;
};

struct ProblemOptions {
  Target target;
  int threads = 1;
  DeviceOptions device = {}; ///< of what runs it; its threads are those above
  SizeValues sizes;          ///< of the run; those not given are the largest of their range
  int64_t past = 0;          ///< positions in the caches before the rows of the run
  int dataSets = 2;  ///< independent inputs; 0: it is compiled only, and has no sizes nor costs
  uint64_t seed = 0; ///< of the inputs

  /// Bytes that other kernels of a model read between two runs of this one: whoever times it lets
  /// calls take turns on as many copies of its weights and caches, so that they come from as far as
  /// in the model. 0: all calls read the same, which then lies in the nearest cache that holds it.
  int64_t streamBytes = 0;
};

/// A kernel of some module as a problem of its own. The module may go; its context must stay.
class KernelProblem {
public:
  /// Unusable where the kernel cannot be run by itself or compiled for the target.
  static Expected<std::unique_ptr<KernelProblem>> create(transformer::KernelOp kernel,
                                                         const ProblemOptions &options);

  /// All schedules of the kernel for the target and threads.
  const ScheduleSpace &space() const { return schedules; }

  /// A program of one launch: the kernel with that schedule. Unusable where it is not legal.
  Expected<std::shared_ptr<const Program>> compile(const KnobValues &schedule) const;

  /// The kernel as a call of other variants, where it is one.
  const std::optional<LibraryCall> &library() const { return call; }

  /// A program of one launch by another variant, which reads ProblemData::rowMajor(). Unusable
  /// where it is no library call, or the variant does not take it.
  Expected<std::shared_ptr<const Program>> compile(const MatmulKernel &variant) const;

  const FunctionSignature &signature() const { return function; }
  const std::vector<ProblemData> &data() const { return sets; }
  const ProblemOptions &options() const { return settings; }
  const SizeValues &sizes() const { return sets.front().data.sizes; }

  const std::string &name() const { return kernelName; } ///< in its module
  const std::string &family() const { return kernelFamily; }
  const RecordKey &key() const { return recordsKey; }

  /// The kernel in a module of its own, as text; and how it is run, as a JSON object: what
  /// problemFromText() needs.
  std::string text() const;
  std::string runText() const;

  /// Operations and bytes of a run, at the least.
  double flops() const;
  double bytes() const;
  /// Of its products.
  Numerics numerics() const { return cost.numerics; }

private:
  KernelProblem() = default;
  Expected<std::shared_ptr<const Program>> compile(mlir::ModuleOp copy) const;

  ProblemOptions settings;
  mlir::OwningOpRef<mlir::ModuleOp> module; ///< the kernel and a function that launches it
  std::string kernelName, kernelFamily;
  RecordKey recordsKey;
  FunctionSignature function;
  ScheduleSpace schedules;
  std::optional<LibraryCall> call;
  KernelCost cost;
  std::vector<ProblemData> sets;
};

/// The options that runText() says: sizes, past, seed, streamed bytes. Target and threads are the
/// caller's.
Expected<ProblemOptions> problemOptionsFrom(std::string_view runText, ProblemOptions options);

} // namespace kernelforge
