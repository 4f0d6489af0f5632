#include "kernelforge/problem/FunctionRun.h"

#include "kernelforge/ir/Transformer.h"

#include <algorithm>
#include <utility>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge;
using namespace kernelforge::transformer;

Expected<FunctionRun> FunctionRun::create(Session &session, const FunctionSignature &signature,
                                          FunctionData &data) {
  FunctionRun run(session, signature, data);
  const std::vector<Type> types = declaredTypes(session.module(), signature.name);
  // By the compiled module's names: compiling may have made a weight of a plain argument.
  const std::vector<std::string> names = session.arguments(signature.name);
  for (size_t i = 0; i < data.arguments.size(); ++i) {
    TensorData &argument = data.arguments[i];
    if (layoutOf(types[i]))
      KF_CHECK(session.bindWeight(names[i], argument.type,
                                  argument.memory.span().first(argument.bytes())));
    else
      KF_CHECK(session.bind(names[i], argument.memory.span()));
  }
  run.sizes = data.sizeList(signature);
  for (TensorData &result : data.results)
    run.results.push_back(result.memory.span());
  return run;
}

Status FunctionRun::run(const RunOptions &options) {
  RunOptions own = options;
  own.keepResults |= std::exchange(isPoisoned, false);
  return session->run(signature->name, sizes, results, own);
}

void FunctionRun::poisonResults() {
  isPoisoned = true;
  for (TensorData &result : data->results) {
    if (result.type == ElementType::F32)
      poison({reinterpret_cast<float *>(result.memory.data()),
              static_cast<size_t>(result.elements())});
    else // every narrower float reads all ones as NaN
      std::fill_n(result.memory.data(), result.bytes(), std::byte(0xff));
  }
}
