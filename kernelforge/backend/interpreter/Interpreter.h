// Runs a function of transformer operations directly by their reference semantics: the oracle of
// whole models, and the proof that a module does not depend on the target that runs it.
#pragma once

#include "kernelforge/kernels/Reference.h"
#include "kernelforge/support/Error.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"

#include <atomic>
#include <span>
#include <vector>

namespace kernelforge {

/// What one run works on. All memory is the caller's, must hold the bytes that the arguments have
/// at these sizes, and is not kept after the run.
struct Bindings {
  std::span<const int64_t> sizes;   ///< leading arguments, in order
  std::span<void *const> arguments; ///< tensors and caches, in order; caches are written
  std::span<void *const> results;   ///< in order; written
};

struct InterpreterOptions {
  /// Where given, set to the nanoseconds of each launch, in order.
  std::vector<int64_t> *launchNanoseconds = nullptr;
  /// Where given, a true value ends the run between two launches with ErrorKind::Interrupted.
  const std::atomic<bool> *cancel = nullptr;
};

/// Interprets one function of a module: plain operations, or launches of kernels, before or after
/// layouts were assigned. An operation rounds its operands as its numerics say, computes in f64, or
/// in f32 where a run asks for plain precision, and gives f32. What a function's operations give is
/// rounded to its type once; within a kernel only what leaves it is, and by casts. In exact
/// precision nothing is rounded but results, caches and by casts: what is right, of which any run
/// that rounds falls short.
class Interpreter {
public:
  /// Checks that the module is valid and that every operation which `function` reaches can be
  /// interpreted. The module must outlive the interpreter and not change. Missing where there is no
  /// such function, Unusable where it cannot be interpreted; the error names the operation.
  static Expected<Interpreter> create(mlir::ModuleOp module, llvm::StringRef function);

  /// Runs the function: `sizes` are its leading index arguments, `arguments` its tensors and caches
  /// in order, each in the layout of its type and aligned for its elements; caches are written.
  /// Unusable where a binding is missing, a size is out of its range or an index (an id, a
  /// position, a page) points outside what it indexes; slots beyond a cache's memory are the
  /// caller's mistake. Failed where memory cannot be had. On an error, results are not written, but
  /// caches may be. InterpreterOptions::launchNanoseconds is filled by launch, in the order of the
  /// body.
  Status run(const Bindings &bindings, const InterpreterOptions &options = {},
             reference::Precision precision = reference::Precision::Wide) const;

private:
  explicit Interpreter(mlir::func::FuncOp function) : function(function) {}

  Status runChecked(const Bindings &bindings, const InterpreterOptions &options,
                    reference::Precision precision) const;

  mutable mlir::func::FuncOp function; ///< a handle; MLIR's accessors are not const
};

} // namespace kernelforge
