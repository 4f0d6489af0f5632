// Running one function of a module: compiled, and interpreted to verify it.
#pragma once

#include "kernelforge/compiler/FunctionData.h"
#include "kernelforge/compiler/Session.h"
#include "kernelforge/measure/Accuracy.h"

namespace kernelforge::cli {

/// One compared tensor: a result, or a cache that was written.
struct Comparison {
  std::string name;
  Accuracy accuracy;
};

/// A function of a session with the data that it runs on.
class FunctionRun {
public:
  /// Binds `data` to the session's function; both must outlive the run. Weights are packed now.
  static Expected<FunctionRun> create(Session &session, const FunctionSignature &signature,
                                      FunctionData &data);

  /// Runs once. Results and caches in the data are written.
  Status run(const RunOptions &options = {});

  /// Fills the results so that what a run leaves unwritten shows.
  void poisonResults();

private:
  FunctionRun(Session &session, const FunctionSignature &signature, FunctionData &data)
      : session(&session), signature(&signature), data(&data) {}

  Session *session;
  const FunctionSignature *signature;
  FunctionData *data;
  std::vector<int64_t> sizes;
  std::vector<void *> results;
};

/// Runs the function of `module` by the operations' reference semantics on a copy of `data` as it
/// is before a run; gives the results and written caches, in that order.
Expected<std::vector<TensorData>>
runReference(mlir::ModuleOp module, const FunctionSignature &signature, const FunctionData &data);

/// The results and the caches that the function writes, in that order.
std::vector<const TensorData *> outputsOf(const FunctionSignature &signature,
                                          const FunctionData &data);

/// What a result of that type may differ from its reference, as a multiple of the largest value.
double toleranceOf(ElementType type);

} // namespace kernelforge::cli
