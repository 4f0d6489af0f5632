// Compiles and runs the one function of a module on random data, beside the reference semantics.
#pragma once

#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/ir/Numerics.h"
#include "kernelforge/problem/FunctionRun.h"

#include "mlir/Parser/Parser.h"

#include <functional>
#include <vector>

namespace kernelforge {

/// What a function gave, each result and written cache beside what it should be.
struct FunctionOutcome {
  std::vector<Accuracy> outputs;

  bool isRight() const { return why().empty(); }
  /// What is wrong with the first that is not right; empty where all are.
  std::string why() const {
    for (const Accuracy &output : outputs)
      if (!output.pass)
        return output.why;
    return "";
  }
};

/// What a function runs on besides random values.
struct FunctionInputs {
  SizeValues sizes = {};
  int64_t past = defaultPast; ///< positions before the rows, as of randomData()
  std::function<void(FunctionData &)> change = nullptr; ///< what it is made into before it is used
};

/// For a session on that target, of whose results nothing is left from other runs.
inline SessionOptions testOptions(Target target, bool fuse = true) {
  SessionOptions options;
  options.target = std::move(target);
  options.threads = 2;
  options.fuse = fuse;
  options.cache = false;
  options.poison = true;
  return options;
}

/// The outcome of the only function in `text`, or why it is refused. Operations that can have
/// `numerics` and do not say their own have them.
inline Expected<FunctionOutcome> runFunction(const std::string &text, SessionOptions options,
                                             uint64_t seed = 1, Numerics numerics = Numerics::F32,
                                             const FunctionInputs &inputs = {}) {
  KF_TRY(std::unique_ptr<Session> session, Session::create(std::move(options)));
  DiagnosticText diagnostics(&session->context());
  auto module = mlir::parseSourceString<mlir::ModuleOp>(text, &session->context());
  if (!module)
    return failed("module does not parse", "test", diagnostics.take("no diagnostics"));
  KF_CHECK(setNumerics(*module, numerics));
  KF_TRY(mlir::func::FuncOp function, findFunction(*module, ""));
  KF_TRY(FunctionSignature signature, readSignature(function));
  KF_TRY(SizeValues sizes, chooseSizes(signature, inputs.sizes, inputs.past));
  KF_TRY(FunctionData data, randomData(signature, sizes, seed, inputs.past));
  if (inputs.change)
    inputs.change(data);
  KF_TRY(std::vector<TensorData> wide, runReference(*module, signature, data));
  KF_TRY(std::vector<TensorData> plain,
         runReference(*module, signature, data, reference::Precision::Plain));
  KF_CHECK(session->compile(std::move(module)));
  KF_TRY(FunctionRun run, FunctionRun::create(*session, signature, data));
  run.poisonResults();
  KF_CHECK(run.run());
  FunctionOutcome outcome;
  const std::vector<const TensorData *> outputs = outputsOf(signature, data);
  for (size_t i = 0; i < outputs.size(); ++i)
    outcome.outputs.push_back(judge(outputs[i]->toFloats(), wide[i].toFloats(), plain[i].toFloats(),
                                    {.stored = coarsestOf(signature, *outputs[i])}));
  return outcome;
}

/// The same on this processor.
inline Expected<FunctionOutcome> runFunction(const std::string &text, bool fuse = true) {
  KF_TRY(Target target, parseTarget("cpu", "native", ""));
  return runFunction(text, testOptions(std::move(target), fuse));
}

} // namespace kernelforge
