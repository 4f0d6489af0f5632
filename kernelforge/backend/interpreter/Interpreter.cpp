#include "kernelforge/backend/interpreter/Interpreter.h"

#include "kernelforge/backend/interpreter/Operations.h"
#include "kernelforge/ir/Caches.h"
#include "kernelforge/ir/Numerics.h"
#include "kernelforge/kernels/ReferenceOperands.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Verifier.h"
#include "llvm/ADT/StringSet.h"

#include <fmt/format.h>

#include <chrono>
#include <cstring>
#include <new>

using namespace mlir;
using namespace kernelforge::transformer;

namespace kernelforge {

namespace {

//===----------------------------------------------------------------------===//
// Checks before the first run
//===----------------------------------------------------------------------===//

std::string printed(Type type) {
  std::string text;
  llvm::raw_string_ostream(text) << type;
  return text;
}

unsigned countSizes(FunctionOpInterface function) {
  unsigned count = 0;
  while (count < function.getNumArguments() && function.getArgument(count).getType().isIndex())
    ++count;
  return count;
}

/// Whether values of `type` can be held with sizes of these names: `where` says whose they are.
Status checkType(Type type, const llvm::StringSet<> &sizes, const std::string &where) {
  auto wrong = [&](const char *why) {
    return unusable("operation cannot be interpreted", where, printed(type) + " " + why);
  };
  if (isa<CacheType>(type))
    return {};
  auto tensor = dyn_cast<RankedTensorType>(type);
  if (!tensor || !elementTypeOf(type) || tensor.getRank() < 1 || tensor.getRank() > 2)
    return wrong("is no tensor of one or two dimensions and no cache");
  if (tensor.getRank() == 1 && info(*elementTypeOf(type)).isQuantized())
    return wrong("is a vector of quantized elements");
  if (tensor.getRank() == 2 && tensor.isDynamicDim(1) && !tensor.getElementType().isInteger(32))
    return wrong("has rows of dynamic width");
  auto dims = dyn_cast_or_null<DimsAttr>(tensor.getEncoding());
  if (unnamedDimension(tensor))
    return unusable("operation cannot be interpreted", where,
                    printed(type) + " has an unnamed dynamic dimension", namedRowsAdvice(tensor));
  if (dims)
    for (StringAttr name : dims.getNames())
      if (!sizes.contains(name.getValue()))
        return wrong("follows a size that the function does not take");
  return {};
}

/// Checks a function or kernel, and the kernels that it launches.
Status checkBody(FunctionOpInterface function) {
  const std::string where = "@" + function.getName().str();
  if (function.isExternal() || !function.getFunctionBody().hasOneBlock())
    return unusable("function cannot be interpreted", where, "it has no body of one block");
  llvm::StringSet<> sizes;
  const unsigned numSizes = countSizes(function);
  for (unsigned i = 0; i < numSizes; ++i) {
    auto size = function.getArgAttrOfType<SizeAttr>(i, sizeAttrName);
    if (!size)
      return unusable("function cannot be interpreted", where,
                      fmt::format("argument {} is an index without {}", i, sizeAttrName.str()));
    if (!sizes.insert(size.getName().getValue()).second)
      return unusable("function cannot be interpreted", where,
                      fmt::format("size '{}' is taken twice", size.getName().str()));
  }
  for (Type type : function.getArgumentTypes().drop_front(numSizes))
    KF_CHECK(checkType(type, sizes, where));
  Block &body = function.getFunctionBody().front();
  const llvm::DenseSet<Operation *> unneeded = unneededOperations(body);
  for (Operation &op : body) {
    if (unneeded.contains(&op) && !canExecute(&op))
      continue;
    if (isa<func::ReturnOp, YieldOp>(op)) {
      for (Type type : op.getOperandTypes())
        if (!isa<RankedTensorType>(type))
          return refused(&op, "it returns " + printed(type) + "; only tensors can be returned");
      continue;
    }
    for (Type type : op.getResultTypes())
      KF_CHECK(checkType(type, sizes, describeOp(&op)));
    if (auto launch = dyn_cast<LaunchOp>(op))
      KF_CHECK(checkBody(
          SymbolTable::lookupNearestSymbolFrom<KernelOp>(launch, launch.getKernelAttr())));
    else if (const Numerics numerics = numericsOf(&op);
             !reference::OperandRounding::isComputed(numerics))
      return refused(
          &op, fmt::format("numerics {} have no reference semantics", numericsName(numerics)));
    else if (!canExecute(&op))
      return refused(&op, "only operations of the transformer dialect can be run",
                     "pass what it computes as an argument of the function");
  }
  return {};
}

/// Verifies the module; what its verifiers say becomes the error.
Status checkModule(ModuleOp module) {
  std::string message;
  ScopedDiagnosticHandler handler(module.getContext(), [&](Diagnostic &diagnostic) {
    if (message.empty())
      message = diagnostic.str();
    return success();
  });
  if (mlir::failed(mlir::verify(module)))
    return unusable("module is not valid", module.getName().value_or("module").str(),
                    message.empty() ? "a verifier refused it" : message);
  return {};
}

//===----------------------------------------------------------------------===//
// Execution
//===----------------------------------------------------------------------===//

/// Runs the operations of a block up to its terminator, which is left to the caller.
Status executeBlock(Block &block, Frame &frame, const InterpreterOptions &options);

/// Runs a kernel on a frame of its own; its yielded values, as they leave it, become the launch's
/// results.
Status executeLaunch(LaunchOp launch, Frame &frame) {
  auto kernel = SymbolTable::lookupNearestSymbolFrom<KernelOp>(launch, launch.getKernelAttr());
  Frame inner(frame.precision, Held::InF32);
  Block &body = kernel.getBody().front();
  std::vector<int64_t> sizes;
  for (unsigned i = 0; i < kernel.getNumSizes(); ++i)
    sizes.push_back(std::get<int64_t>(frame.get(launch.getOperands()[i])));
  KF_CHECK(inner.bindSizes(kernel, sizes));
  for (unsigned i = kernel.getNumSizes(); i < kernel.getNumArguments(); ++i)
    inner.set(body.getArgument(i), frame.get(launch.getOperands()[i]));
  KF_CHECK(executeBlock(body, inner, {}));
  for (auto [yielded, result] :
       llvm::zip(body.getTerminator()->getOperands(), launch.getOutputs())) {
    if (frame.held == Held::InF32) {
      frame.set(result, inner.get(yielded));
      continue;
    }
    KF_TRY(Tensor tensor, inner.leaving(launch, yielded));
    frame.set(result, std::move(tensor));
  }
  return {};
}

Status executeBlock(Block &block, Frame &frame, const InterpreterOptions &options) {
  for (Operation &op : block.without_terminator()) {
    if (!isa<LaunchOp>(op) && !canExecute(&op))
      continue; // checkBody saw that nothing needs it
    if (options.cancel && *options.cancel)
      return makeError(ErrorKind::Interrupted, "run was stopped", describeOp(&op),
                       "it was cancelled before this operation");
    const auto begin = std::chrono::steady_clock::now();
    if (auto launch = dyn_cast<LaunchOp>(op)) {
      KF_CHECK(executeLaunch(launch, frame));
      if (options.launchNanoseconds)
        options.launchNanoseconds->push_back(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                                 std::chrono::steady_clock::now() - begin)
                                                 .count());
    } else {
      KF_CHECK(executeOp(&op, frame));
    }
    frame.release(&op);
  }
  return {};
}

/// Binds the caller's memory to one argument.
Status bindArgument(Frame &frame, BlockArgument argument, void *memory, const std::string &where) {
  auto *data = static_cast<std::byte *>(memory);
  auto missingPointer = [&] {
    return unusable("run is refused", where,
                    fmt::format("argument {} is not bound", argument.getArgNumber()));
  };
  if (auto cache = dyn_cast<CacheType>(argument.getType())) {
    if (!data)
      return missingPointer();
    const CacheSlot slot = slotOf(cache);
    frame.set(argument,
              reference::CacheView{slot.type, data, slot.heads, slot.dim, cache.getPage()});
    return {};
  }
  Tensor tensor = frame.describe(cast<RankedTensorType>(argument.getType()));
  auto bytes = Frame::bytes(tensor);
  if (!bytes)
    return unusable("run is refused", where,
                    fmt::format("the size of argument {} overflows", argument.getArgNumber()));
  if (!data && *bytes != 0)
    return missingPointer();
  tensor.data = data;
  frame.set(argument, std::move(tensor));
  return {};
}

} // namespace

Expected<Interpreter> Interpreter::create(ModuleOp module, llvm::StringRef name) {
  KF_CHECK(checkModule(module));
  auto function = module.lookupSymbol<func::FuncOp>(name);
  if (!function)
    return missing("function is not there", "@" + name.str(), "the module has no such function");
  KF_CHECK(checkBody(function));
  return Interpreter(function);
}

Status Interpreter::run(const Bindings &bindings, const InterpreterOptions &options,
                        reference::Precision precision) const {
  try {
    return runChecked(bindings, options, precision);
  } catch (const std::bad_alloc &) {
    return kernelforge::failed("out of memory", "@" + function.getSymName().str(),
                               "an operation's working memory cannot be had");
  }
}

Status Interpreter::runChecked(const Bindings &bindings, const InterpreterOptions &options,
                               reference::Precision precision) const {
  const std::string where = "@" + function.getSymName().str();
  const unsigned numSizes = countSizes(function);
  auto checkCount = [&](const char *what, size_t given, size_t needed) -> Status {
    if (given == needed)
      return {};
    return unusable("run is refused", where,
                    fmt::format("{} {} are given where {} are needed", given, what, needed));
  };
  KF_CHECK(checkCount("sizes", bindings.sizes.size(), numSizes));
  KF_CHECK(
      checkCount("arguments", bindings.arguments.size(), function.getNumArguments() - numSizes));
  KF_CHECK(checkCount("results", bindings.results.size(), function.getNumResults()));

  Frame frame(precision, precision == reference::Precision::Exact ? Held::InF32 : Held::InTypes);
  KF_CHECK(frame.bindSizes(function, bindings.sizes));
  for (size_t i = 0; i < bindings.arguments.size(); ++i)
    KF_CHECK(bindArgument(frame, function.getArgument(numSizes + i), bindings.arguments[i], where));
  for (size_t i = 0; i < bindings.results.size(); ++i)
    if (!bindings.results[i])
      return unusable("run is refused", where, fmt::format("result {} is not bound", i));
  if (options.launchNanoseconds)
    options.launchNanoseconds->clear();

  Block &body = function.getBody().front();
  KF_CHECK(executeBlock(body, frame, options));
  for (auto [value, result] : llvm::zip(body.getTerminator()->getOperands(), bindings.results)) {
    KF_TRY(const Tensor tensor, frame.leaving(body.getTerminator(), value));
    std::memmove(result, tensor.data, *Frame::bytes(tensor));
  }
  return {};
}

} // namespace kernelforge
