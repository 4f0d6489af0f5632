// A program that uses the library and prints nothing: what comes out of it is the library's doing.
// With an argument it asks for the log: quiet-program warn.
#include "kernelforge/compiler/Session.h"
#include "kernelforge/compiler/Targets.h"
#include "kernelforge/ir/ModuleBuilder.h"
#include "kernelforge/support/Log.h"
#include "kernelforge/support/Paths.h"

using namespace kernelforge;

static Status run() {
  ModelDescription block;
  block.modelDim = 32;
  block.contextLength = 16;
  LayerDescription layer;
  layer.attention = {.heads = 2, .kvHeads = 2, .headDim = 16};
  layer.mlp.width = 64;
  block.layers.push_back(layer);
  SessionOptions options;
  KF_TRY(options.target, parseTarget("cpu", "native", ""));
  KF_TRY(std::filesystem::path records, recordsDirectory());
  options.records = RecordStore(records);
  KF_TRY(std::unique_ptr<Session> session, Session::create(options));
  const FunctionRange range{"forward", 2, 8, 1, 1};
  return session->compile(buildDecoder(&session->context(), block, range,
                                       [](llvm::StringRef) { return ElementType::F32; }));
}

int main(int count, char **arguments) {
  if (count > 1)
    logToStandardError(spdlog::level::from_str(arguments[1]));
  const Status status = run();
  return status ? 0 : static_cast<int>(status.error().kind);
}
