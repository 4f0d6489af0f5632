// From kernels to code, for one kind of target. Nobody above it asks which one it is.
#pragma once

#include "kernelforge/codegen/KernelAnalysis.h"
#include "kernelforge/codegen/Launching.h"
#include "kernelforge/codegen/Resources.h"
#include "kernelforge/codegen/ScheduleSpace.h"
#include "kernelforge/codegen/Target.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/support/Error.h"
#include "kernelforge/support/Numerics.h"
#include "kernelforge/support/WeightLayout.h"

#include "mlir/IR/BuiltinOps.h"

#include <span>
#include <string>
#include <string_view>

namespace kernelforge {

/// One kernel's functions in a module of their own, and how they are launched.
struct EmittedKernel {
  mlir::OwningOpRef<mlir::ModuleOp> module;
  std::string entry; ///< what its symbols begin with
  Launching launching;
};

class CodeGenerator {
public:
  virtual ~CodeGenerator() = default;

  /// The kind of its targets: "cpu".
  virtual std::string_view kind() const = 0;

  /// The target that a user asked for by words. Empty words, and `native`, are `device` itself;
  /// where there is none (null), what any device of the kind can run, or the machine that compiles
  /// where that is one. Unusable, naming near names, where a word is not known; Missing where a
  /// device is needed.
  virtual Expected<Target> parse(std::string_view chip, std::string_view features,
                                 const DeviceInfo *device) const = 0;

  /// Missing, naming what is lacking, where a device cannot run the target's code.
  virtual Status checkRunnable(const Target &target, const DeviceInfo &device) const = 0;

  /// Unusable, naming kernel, operation and operand, where no code can be generated for a kernel.
  /// Fusion asks before it forms one.
  virtual Status supports(const KernelAnalysis &kernel, const Target &target) const = 0;

  /// The layout that a weight is packed into which matmuls read, by its row-major type: one for all
  /// that read it. RowMajor: it stays as it lies in the file.
  virtual WeightLayout layoutFor(mlir::RankedTensorType weight) const {
    return WeightLayout::RowMajor;
  }

  /// Whether its matmuls read weights in that layout alone: what cannot be packed once, when it is
  /// bound, is then packed in each run.
  virtual bool needsLayouts() const { return false; }

  /// The numerics that a product is fast with, near enough to f32 for a language model.
  virtual Numerics fastNumerics(const Target &target, const ProductTraits &product) const {
    return Numerics::F32;
  }

  /// How many rows a long prompt is cut into: of more its products are hardly faster.
  virtual int64_t usualPrefillRows() const { return 512; }

  /// Whether it takes kernels that were scheduled or emitted for another target: what they compute
  /// is in their bodies, and the rest is left out.
  virtual bool takesAnyStage() const { return false; }

  /// The schedules that a kernel can have with so many workers. Unusable where the kernel is not
  /// supported. Needs the kernel no more.
  virtual Expected<ScheduleSpace> scheduleSpace(const KernelAnalysis &kernel, const Target &target,
                                                int64_t workers) const = 0;

  /// Stage target: emits the functions of a scheduled kernel at the end of `module`, with names
  /// that begin with `entry`, and says how they are launched. Unusable, naming the knob, where the
  /// schedule is not legal.
  virtual Expected<Launching> emit(mlir::ModuleOp module, const KernelAnalysis &kernel,
                                   const Target &target, llvm::StringRef entry) const = 0;

  /// Stage llvm, where the target has one: lowers emitted functions in place.
  virtual Status lower(mlir::ModuleOp module) const { return {}; }

  /// What a device loads. `kernel` is what was emitted and lowered.
  virtual Expected<std::string> compile(const EmittedKernel &emitted, const KernelAnalysis &kernel,
                                        const Target &target) const = 0;

  /// What code that compile() made takes, as far as the code itself says it: what a driver is yet
  /// to finish, the device tells (Executable::resources). Unusable where it cannot be read.
  virtual Expected<KernelResources> resources(std::string_view code, const Target &target) const {
    return KernelResources{};
  }

  /// Text of the last stage, for people.
  virtual Expected<std::string> print(const EmittedKernel &emitted, const KernelAnalysis &kernel,
                                      const Target &target) const = 0;

  /// What a line of that text begins with where it is a comment.
  virtual std::string_view commentLeader() const { return "//"; }

  /// Names of the stages after `scheduled`, in order: that of emit(), that of lower() where there
  /// is one, that of print().
  virtual std::span<const std::string_view> stages() const = 0;

  /// What emitted modules are made of.
  virtual void registerDialects(mlir::DialectRegistry &registry) const = 0;
};

/// Schedules of kernels that have no knobs.
ScheduleSpace fixedSchedule();

} // namespace kernelforge
