// The ways to compute the kernels of a family. Each can be chosen by a schedule, knob `method`, and
// tested alone; what a device lacks takes away the ways that need it, and never all.
#pragma once

#include "kernelforge/codegen/KernelAnalysis.h"
#include "kernelforge/codegen/Launching.h"
#include "kernelforge/codegen/ScheduleSpace.h"
#include "kernelforge/codegen/Target.h"
#include "kernelforge/support/Error.h"

#include "mlir/IR/BuiltinOps.h"

namespace kernelforge::simt {

/// One way to compute the kernels of a family.
class Method {
public:
  virtual ~Method() = default;

  /// One or two words, for people: "plain", "tiles".
  virtual std::string_view name() const = 0;

  /// Unusable, naming kernel, operation and operand, where it cannot compute a kernel on a target:
  /// the target lacks a feature, or there is no code for an operation or an element type.
  virtual Status supports(const KernelAnalysis &kernel, const Target &target) const = 0;

  /// The schedules of a supported kernel, without the knob `method`. What they predict is compared
  /// with what other methods predict.
  virtual ScheduleSpace space(const KernelAnalysis &kernel, const Target &target) const = 0;

  /// Code of a supported kernel with a schedule of its space, as simt::emit() makes it.
  virtual Expected<Launching> emit(mlir::ModuleOp module, const KernelAnalysis &kernel,
                                   const Target &target, llvm::StringRef entry,
                                   const KnobValues &schedule) const = 0;

  /// Lines for people: how the work is shared out.
  virtual std::vector<std::string> describe(const KernelAnalysis &kernel,
                                            const KnobValues &schedule) const = 0;
};

/// Scalar code, which any GPU runs (Emit.h), within limits that a target makes.
class Plain final : public Method {
public:
  explicit Plain(Limits (*limitsOf)(const Target &)) : limitsOf(limitsOf) {}

  std::string_view name() const override { return "plain"; }
  Status supports(const KernelAnalysis &kernel, const Target &target) const override;
  ScheduleSpace space(const KernelAnalysis &kernel, const Target &target) const override;
  Expected<Launching> emit(mlir::ModuleOp module, const KernelAnalysis &kernel,
                           const Target &target, llvm::StringRef entry,
                           const KnobValues &schedule) const override;
  std::vector<std::string> describe(const KernelAnalysis &kernel,
                                    const KnobValues &schedule) const override;

private:
  Limits (*limitsOf)(const Target &);
};

// Ways that need no more of a target than its limits and features say, a function for each file.
const Method &matmulTiles();    ///< tiles in workgroup memory and registers
const Method &matmulRows();     ///< few rows: threads share out K
const Method &attentionSplit(); ///< few rows: workgroups share out the keys
const Method &attentionTiles(); ///< many rows, f32: tiles in workgroup memory and registers
const Method &rowwiseQuads();   ///< four columns of a row at a time

/// All ways of one kind of target.
struct Methods {
  /// Those of a family, the knob's values in order: 0 is the plain one, which needs nothing of a
  /// device and may refuse what others compute. Empty: kernels of the family have no schedule, and
  /// are plain.
  llvm::ArrayRef<const Method *> (*ofFamily)(KernelFamily);
  const Plain &plain;
  /// Whether a target runs plain code where it can, whatever is expected of other ways; null: none
  /// does.
  bool (*prefersPlain)(const Target &) = nullptr;

  /// Unusable where no method computes the kernel: with what the plain one says.
  Status supports(const KernelAnalysis &kernel, const Target &target) const;

  /// The schedules of a kernel: of the method that is expected to be fastest, and by hand of any
  /// other that supports the kernel.
  Expected<ScheduleSpace> scheduleSpace(const KernelAnalysis &kernel, const Target &target) const;

  /// Code of a kernel with the schedule that it has, or else the one that is taken without
  /// measuring.
  Expected<Launching> emit(mlir::ModuleOp module, const KernelAnalysis &kernel,
                           const Target &target, llvm::StringRef entry) const;

  /// What a kernel is and how it is scheduled, for people.
  std::vector<std::string> describe(const KernelAnalysis &kernel, const Target &target) const;

private:
  Expected<KnobValues> scheduleOf(const KernelAnalysis &kernel, const Target &target) const;
};

} // namespace kernelforge::simt
