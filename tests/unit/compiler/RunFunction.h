// Compiles and runs the one function of a module on random data, beside the reference semantics.
#pragma once

#include "kernelforge/codegen/cpu/Target.h"
#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/problem/FunctionRun.h"

#include "mlir/Parser/Parser.h"

#include <vector>

namespace kernelforge {

/// What a function gave, each result and written cache beside what it should be.
struct FunctionOutcome {
  std::vector<Accuracy> outputs;

  bool isRight() const {
    return std::ranges::all_of(outputs, [](const Accuracy &output) { return output.pass; });
  }
};

/// The outcome of the only function in `text`, or why it is refused.
inline Expected<FunctionOutcome> runFunction(const std::string &text, bool fuse = true) {
  SessionOptions options;
  options.target = *parseTarget("native", "");
  options.threads = 2;
  options.fuse = fuse;
  options.cache = false;
  options.poison = true;
  KF_TRY(std::unique_ptr<Session> session, Session::create(options));
  DiagnosticText diagnostics(&session->context());
  auto module = mlir::parseSourceString<mlir::ModuleOp>(text, &session->context());
  if (!module)
    return failed("module does not parse", "test", diagnostics.take("no diagnostics"));
  KF_TRY(mlir::func::FuncOp function, findFunction(*module, ""));
  KF_TRY(FunctionSignature signature, readSignature(function));
  KF_TRY(SizeValues sizes, chooseSizes(signature, {}));
  KF_TRY(FunctionData data, randomData(signature, sizes, 1));
  KF_TRY(std::vector<TensorData> reference, runReference(*module, signature, data));
  KF_CHECK(session->compile(std::move(module)));
  KF_TRY(FunctionRun run, FunctionRun::create(*session, signature, data));
  run.poisonResults();
  KF_CHECK(run.run());
  FunctionOutcome outcome;
  const std::vector<const TensorData *> outputs = outputsOf(signature, data);
  for (size_t i = 0; i < outputs.size(); ++i)
    outcome.outputs.push_back(compareValues(outputs[i]->toFloats(), reference[i].toFloats(),
                                            toleranceOf(outputs[i]->type)));
  return outcome;
}

} // namespace kernelforge
