// What is computed, and what all kernels need. What the shape of a kernel must be is each family's
// own to say.
#include "kernelforge/codegen/Operands.h"
#include "kernelforge/codegen/StepKernel.h"
#include "kernelforge/codegen/simt/Emit.h"
#include "kernelforge/codegen/simt/Step.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;

namespace {

Status checkLimits(KernelOp kernel, ArrayRef<Needs> phases, const Limits &limits) {
  auto refuse = [&](const char *what, int64_t needed, int64_t limit) {
    return unusable("kernel cannot be compiled for this GPU", kernelName(kernel),
                    fmt::format("it takes {} {}, and the device allows {}", needed, what, limit),
                    "split the kernel");
  };
  for (const Needs &needs : phases) {
    if (limits.bindings > 0 && needs.buffers > limits.bindings)
      return refuse("buffers at once", needs.buffers, limits.bindings);
    if (limits.sharedBytes > 0 && needs.sharedBytes > limits.sharedBytes)
      return refuse("bytes of workgroup memory", needs.sharedBytes, limits.sharedBytes);
    if (limits.threadsPerBlock > 0 && limits.threadsPerBlock < needs.blockThreads)
      return refuse("threads in a workgroup", needs.blockThreads, limits.threadsPerBlock);
  }
  if (limits.bindingBytes > 0)
    for (Type type : kernel.getArgumentTypes())
      if (auto tensor = dyn_cast<RankedTensorType>(type); tensor && tensor.hasStaticShape())
        if (auto bytes = tensor.getRank() == 2 ? weightBytes(tensor) : std::nullopt;
            bytes && *bytes > static_cast<uint64_t>(limits.bindingBytes))
          return refuse("bytes in one buffer", static_cast<int64_t>(*bytes), limits.bindingBytes);
  return {};
}

void collectBuffers(Value value, llvm::DenseSet<Value> &visited, llvm::DenseSet<Value> &buffers) {
  if (!visited.insert(value).second)
    return;
  Operation *op = value.getDefiningOp();
  if (!op) {
    buffers.insert(value);
  } else if (auto matmul = dyn_cast<MatmulOp>(op)) {
    const unsigned segment = cast<OpResult>(value).getResultNumber();
    collectBuffers(matmul.getInput(), visited, buffers);
    buffers.insert(matmul.getWeights()[segment]);
    if (!matmul.getBiases().empty())
      buffers.insert(matmul.getBiases()[segment]);
  } else {
    for (Value operand : op->getOperands())
      collectBuffers(operand, visited, buffers);
  }
}

} // namespace

int64_t simt::countBuffers(ArrayRef<Sink> sinks) {
  llvm::DenseSet<Value> visited, buffers;
  int64_t results = 0;
  for (const Sink &sink : sinks) {
    collectBuffers(sink.value, visited, buffers);
    if (auto append = dyn_cast<CacheAppendOp>(sink.op)) {
      buffers.insert(append.getCache());
      buffers.insert(append.getSlots());
    } else {
      ++results;
    }
  }
  return static_cast<int64_t>(buffers.size()) + results;
}

std::string simt::sinkObstacle(const Sink &sink) {
  auto type = dyn_cast<RankedTensorType>(sink.value.getType());
  if (!type || type.getRank() != 2 || !type.getElementType().isF32())
    return "a result that is no f32 rows is not supported";
  if (type.isDynamicDim(1) || (type.isDynamicDim(0) && rowsSizeName(type).empty()))
    return "a result has a dimension that no size gives";
  return "";
}

std::string simt::phaseEntry(StringRef entry, size_t index, size_t count) {
  return count == 1 ? entry.str() : fmt::format("{}_{}", entry.str(), index);
}

void simt::registerDialects(DialectRegistry &registry) {
  registry.insert<arith::ArithDialect, func::FuncDialect, gpu::GPUDialect, math::MathDialect,
                  memref::MemRefDialect, scf::SCFDialect>();
}

void simt::loadDialects(MLIRContext &context) {
  DialectRegistry registry;
  registerDialects(registry);
  context.appendDialectRegistry(registry);
  for (StringRef dialect : registry.getDialectNames())
    context.getOrLoadDialect(dialect);
}

Status simt::supports(KernelOp kernel, const Limits &limits) {
  KF_CHECK(checkOperations(kernel, {.device = "a GPU",
                                    .hasCode = RowExpressions::hasCode,
                                    .readsLayouts = false,
                                    .convertsBiases = true,
                                    .needsFiniteF32 = true}));
  if (endsStep(kernel)) {
    KF_CHECK(step::supports(kernel));
    return checkLimits(kernel, step::needsOf(kernel), limits);
  }
  StringRef family = kernel.getFamily();
  if (family == "matmul") {
    KF_CHECK(matmul::supports(kernel));
    return checkLimits(kernel, matmul::needsOf(kernel), limits);
  }
  if (family == "attention") {
    KF_CHECK(attention::supports(kernel));
    return checkLimits(kernel, attention::needsOf(kernel), limits);
  }
  KF_CHECK(rowwise::supports(kernel));
  return checkLimits(kernel, rowwise::needsOf(kernel), limits);
}

Expected<Launching> simt::emit(ModuleOp module, KernelOp kernel, const Limits &limits,
                               StringRef entry) {
  KF_CHECK(simt::supports(kernel, limits));
  if (endsStep(kernel))
    return step::emit(module, kernel, entry);
  StringRef family = kernel.getFamily();
  return family == "matmul"      ? matmul::emit(module, kernel, entry)
         : family == "attention" ? attention::emit(module, kernel, entry)
                                 : rowwise::emit(module, kernel, entry);
}
