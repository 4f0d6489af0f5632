#include "kernelforge/problem/Verification.h"

#include "kernelforge/backend/interpreter/Interpreter.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/ir/WeightLayouts.h"
#include "kernelforge/kernels/Layout.h"
#include "kernelforge/measure/Accuracy.h"

#include <algorithm>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

double kernelforge::toleranceOf(ElementType type) {
  switch (type) {
  case ElementType::F16:
    return 2e-3;
  case ElementType::BF16:
  case ElementType::Q8_0: // a cache's: a step between quants is a 127th of a block's largest
    return 1e-2;
  default:
    return 1e-4;
  }
}

ElementType kernelforge::coarsestOf(const FunctionSignature &signature, const TensorData &output) {
  const bool isPlain = output.type == ElementType::F32 || output.type == ElementType::F16;
  return isPlain && toleranceOf(signature.coarsest) > toleranceOf(output.type) ? signature.coarsest
                                                                               : output.type;
}

double kernelforge::toleranceOf(const FunctionSignature &signature, const TensorData &output) {
  return toleranceOf(coarsestOf(signature, output));
}

std::vector<const TensorData *> kernelforge::outputsOf(const FunctionSignature &signature,
                                                       const FunctionData &data) {
  std::vector<const TensorData *> outputs;
  for (const TensorData &result : data.results)
    outputs.push_back(&result);
  for (size_t i = 0; i < signature.arguments.size(); ++i)
    if (signature.arguments[i].written)
      outputs.push_back(&data.arguments[i]);
  return outputs;
}

std::vector<Type> kernelforge::declaredTypes(ModuleOp module, StringRef name) {
  std::vector<Type> types;
  for (Type type : module.lookupSymbol<func::FuncOp>(name).getArgumentTypes())
    if (!type.isIndex())
      types.push_back(type);
  return types;
}

Expected<PageMemory> kernelforge::packWeight(const TensorData &weight, WeightLayout layout) {
  const int64_t rows = weight.shape[0], width = weight.shape[1];
  // A byte at least: a weight without elements has an address, too.
  const uint64_t bytes = *layoutBytes(layout, weight.type, rows, width);
  KF_TRY(PageMemory memory, PageMemory::allocate(std::max<uint64_t>(bytes, 1)));
  packWeight(layout, weight.type, weight.memory.data(), rows, width, memory.data());
  return memory;
}

Expected<std::vector<TensorData>> kernelforge::runReference(ModuleOp module,
                                                            const FunctionSignature &signature,
                                                            const FunctionData &data,
                                                            reference::Precision precision) {
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
      KF_TRY(PageMemory memory, packWeight(argument, weightLayoutOf(types[i])));
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
  KF_CHECK(interpreter.run(Bindings{sizes, arguments, results}, {}, precision));
  for (TensorData &cache : written)
    outputs.push_back(std::move(cache));
  return outputs;
}

Expected<std::vector<double>> kernelforge::tolerancesOf(ModuleOp module,
                                                        const FunctionSignature &signature,
                                                        const FunctionData &data,
                                                        const std::vector<TensorData> &wide) {
  std::vector<double> tolerances;
  for (const TensorData &output : wide)
    tolerances.push_back(toleranceOf(signature, output));
  if (signature.coarsest == ElementType::F32 && !signature.roundsOperands)
    return tolerances;
  KF_TRY(const std::vector<TensorData> plain,
         runReference(module, signature, data, reference::Precision::Plain));
  for (size_t i = 0; i < wide.size(); ++i) {
    const Accuracy off = compareValues(plain[i].toFloats(), wide[i].toFloats(), 0);
    if (off.maxReference > 0)
      tolerances[i] = std::max(tolerances[i], 4 * off.maxAbs / off.maxReference);
  }
  return tolerances;
}
