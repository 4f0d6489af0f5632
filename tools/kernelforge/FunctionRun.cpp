#include "FunctionRun.h"

#include "kernelforge/backend/reference/Interpreter.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/kernels/Layout.h"

#include <algorithm>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cli;
using namespace kernelforge::transformer;

double cli::toleranceOf(ElementType type) {
  switch (type) {
  case ElementType::F16:
    return 2e-3;
  case ElementType::BF16:
    return 1e-2;
  default:
    return 1e-4;
  }
}

std::vector<const TensorData *> cli::outputsOf(const FunctionSignature &signature,
                                               const FunctionData &data) {
  std::vector<const TensorData *> outputs;
  for (const TensorData &result : data.results)
    outputs.push_back(&result);
  for (size_t i = 0; i < signature.arguments.size(); ++i)
    if (signature.arguments[i].written)
      outputs.push_back(&data.arguments[i]);
  return outputs;
}

/// Types of a function's tensor and cache arguments as `module` declares them, layouts included.
static std::vector<Type> declaredTypes(ModuleOp module, StringRef name) {
  std::vector<Type> types;
  for (Type type : module.lookupSymbol<func::FuncOp>(name).getArgumentTypes())
    if (!type.isIndex())
      types.push_back(type);
  return types;
}

Expected<FunctionRun> FunctionRun::create(Session &session, const FunctionSignature &signature,
                                          FunctionData &data) {
  FunctionRun run(session, signature, data);
  const std::vector<Type> types = declaredTypes(session.module(), signature.name);
  for (size_t i = 0; i < data.arguments.size(); ++i) {
    TensorData &argument = data.arguments[i];
    if (layoutOf(types[i]))
      KF_CHECK(session.bindWeight(argument.name, argument.type,
                                  argument.memory.span().first(argument.bytes())));
    else
      session.bind(argument.name, argument.memory.data());
  }
  run.sizes = data.sizeList(signature);
  for (TensorData &result : data.results)
    run.results.push_back(result.memory.data());
  return run;
}

Status FunctionRun::run(const RunOptions &options) {
  return session->run(signature->name, sizes, results, options);
}

void FunctionRun::poisonResults() {
  for (TensorData &result : data->results) {
    if (result.type == ElementType::F32)
      poison({reinterpret_cast<float *>(result.memory.data()),
              static_cast<size_t>(result.elements())});
    else // every narrower float reads all ones as NaN
      std::fill_n(result.memory.data(), result.bytes(), std::byte(0xff));
  }
}

Expected<std::vector<TensorData>>
cli::runReference(ModuleOp module, const FunctionSignature &signature, const FunctionData &data) {
  KF_TRY(Interpreter interpreter, Interpreter::create(module, signature.name));
  const std::vector<Type> types = declaredTypes(module, signature.name);
  std::vector<TensorData> written;
  std::vector<PageMemory> packed;
  std::vector<void *> arguments, results;
  for (size_t i = 0; i < data.arguments.size(); ++i) {
    const TensorData &argument = data.arguments[i];
    if (signature.arguments[i].written) {
      KF_TRY(TensorData copy, argument.clone());
      arguments.push_back(copy.memory.data());
      written.push_back(std::move(copy));
    } else if (layoutOf(types[i])) {
      KF_TRY(PageMemory memory,
             PageMemory::allocate(*weightBytes(cast<RankedTensorType>(types[i]))));
      packInterleaved(argument.type, argument.memory.data(), argument.shape[0], argument.shape[1],
                      memory.data());
      arguments.push_back(memory.data());
      packed.push_back(std::move(memory));
    } else {
      arguments.push_back(argument.memory.data());
    }
  }
  KF_TRY(std::vector<TensorData> outputs, allocateResults(signature, data.sizes));
  for (TensorData &result : outputs)
    results.push_back(result.memory.data());
  const std::vector<int64_t> sizes = data.sizeList(signature);
  KF_CHECK(interpreter.run(Bindings{sizes, arguments, results}));
  for (TensorData &cache : written)
    outputs.push_back(std::move(cache));
  return outputs;
}
