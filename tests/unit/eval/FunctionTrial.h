// A function of a module on random data: compiled and run, with what it must give.
#pragma once

#include "kernelforge/compiler/Session.h"
#include "kernelforge/eval/Fidelity.h"
#include "kernelforge/eval/Suite.h"

#include "mlir/IR/OwningOpRef.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace kernelforge {

using ModuleBuilderFn = std::function<mlir::OwningOpRef<mlir::ModuleOp>(mlir::MLIRContext *)>;

/// Changes data before anything is computed from it.
using DataChange = std::function<void(FunctionData &data)>;

/// A function to try. `build` makes its module.
struct FunctionCase {
  std::string name, function;
  ModuleBuilderFn build;
  SizeValues sizes;
  int64_t past = 7; ///< as randomData takes it
};

/// One data set of a trial after its run.
struct TrialRun {
  FunctionSignature signature;
  FunctionData data;
  FunctionFidelity fidelity;

  /// The first result, to look at or to spoil.
  std::span<float> result() {
    return {reinterpret_cast<float *>(data.results[0].memory.data()),
            static_cast<size_t>(data.results[0].elements())};
  }
  const TensorData &argument(const std::string &name) const;
  std::vector<OutputAccuracy> verdicts() const { return fidelity.judge(signature, data); }
  Accuracy verdict() const { return combined(verdicts()); }
};

/// A function compiled for one target, in this process.
class FunctionTrial {
public:
  /// The test fails, with the error, and gets null where it does not compile. `level` is what
  /// parseTarget takes.
  static std::unique_ptr<FunctionTrial> compile(const FunctionCase &tried,
                                                const std::string &level);
  /// The same of a row of a suite, built as benchmark-suite builds it.
  static std::unique_ptr<FunctionTrial> compile(const SuiteRow &row, const std::string &level);

  /// Runs on random data, into poisoned results. The test fails where that fails.
  std::unique_ptr<TrialRun> run(uint64_t seed, const DataChange &change = {});

private:
  static std::unique_ptr<FunctionTrial> open(const std::string &level);
  bool load(mlir::OwningOpRef<mlir::ModuleOp> module);

  FunctionCase tried;
  std::unique_ptr<Session> session;
  mlir::OwningOpRef<mlir::ModuleOp> original;
};

/// "avx2", and "avx512" where this machine has it.
std::vector<std::string> levels();

/// @f with rows of `width` and two vectors; `body` makes %y of %x, %a and %b.
FunctionCase rowwiseCase(const std::string &name, int64_t rows, int64_t width,
                         const std::string &body);

/// Attention alone, of 4 heads of 32 over 2 key heads.
FunctionCase attentionCase(const std::string &name, int64_t rows, int64_t past);

/// The function @matmul of a problem.
FunctionCase matmulCase(const MatmulProblem &problem);

/// A transformer block; `gated` is one like Llama's with RoPE, else one like GPT-2's.
FunctionCase blockCase(const std::string &name, bool gated, ElementType weights, int64_t tokens,
                       int64_t past);

} // namespace kernelforge
