// The kernel of a tuning record, and the code that its schedule gives now.
#pragma once

#include "kernelforge/problem/KernelProblem.h"
#include "kernelforge/records/Record.h"

#include "mlir/IR/MLIRContext.h"

#include <span>
#include <vector>

namespace kernelforge::cli {

struct RecordedKernel {
  mlir::OwningOpRef<mlir::ModuleOp> module;
  transformer::KernelOp kernel;
  ProblemOptions options; ///< target and threads of the record's key, and how it was run
};

/// Unusable where the record holds no kernel or no target, or they cannot be read; Missing where
/// the kernel has another key here, with the differences, that of the processor only where
/// `anyProcessor` is false.
Expected<RecordedKernel> openRecordedKernel(mlir::MLIRContext *context, const Record &record,
                                            bool anyProcessor, const DeviceOptions &device = {});

/// Whether a record's schedule gives the code that was timed.
struct CodeCheck {
  enum class State { Same, Stale, NoCode, Unknown };
  State state = State::Unknown;
  std::string why; ///< where it is not known

  /// "same", "stale", "none" of a variant without generated code, "unknown".
  std::string_view name() const;
};

/// Compiles each record's kernel for its target and compares. Nothing is run, so that records of
/// another processor can be checked, too. Unknown where there is no kernel, where the key is that
/// of another LLVM or kernel hash, or where it does not compile.
std::vector<CodeCheck> checkCode(std::span<const Record> records);

} // namespace kernelforge::cli
