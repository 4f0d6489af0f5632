// What is computed, and what all kernels need. What the shape of a kernel must be is each family's
// own to say.
#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/codegen/Operands.h"
#include "kernelforge/codegen/StepKernel.h"
#include "kernelforge/codegen/simt/Emit.h"
#include "kernelforge/codegen/simt/Step.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;

bool simt::isMatrix(BlockArgument argument) {
  return llvm::any_of(argument.getUses(), [](OpOperand &use) {
    return isa<MatmulOp, EmbeddingOp>(use.getOwner()) && use.getOperandNumber() > 0;
  });
}

Status simt::checkLimits(KernelOp kernel, ArrayRef<Needs> phases, const Limits &limits) {
  auto refuse = [&](const std::string &what, int64_t needed, int64_t limit) {
    return unusable("kernel cannot be compiled for this GPU", kernelName(kernel),
                    fmt::format("it takes {} {}, and the device allows {}", needed, what, limit),
                    "split the kernel");
  };
  int64_t pieces = 0; // more than one for each weight
  auto isTooLarge = [&](Type type) {
    auto tensor = dyn_cast<RankedTensorType>(type);
    const auto bytes = tensor && tensor.hasStaticShape() && tensor.getRank() == 2
                           ? weightBytes(tensor).value_or(0)
                           : 0;
    return limits.bindingBytes > 0 && bytes > static_cast<uint64_t>(limits.bindingBytes) ? bytes
                                                                                         : 0;
  };
  auto refuseBytes = [&](uint64_t bytes) {
    return refuse("bytes in one buffer", static_cast<int64_t>(bytes), limits.bindingBytes);
  };
  for (auto [i, type] : llvm::enumerate(kernel.getArgumentTypes()))
    if (const uint64_t bytes = isTooLarge(type)) {
      // Where buffers are bound by number, a weight can be bound in pieces.
      if (limits.bindings == 0 || !isMatrix(kernel.getBody().getArgument(unsigned(i))))
        return refuseBytes(bytes);
      pieces += static_cast<int64_t>((bytes - 1) / static_cast<uint64_t>(limits.bindingBytes));
    }
  for (Type type : kernel.getResultTypes())
    if (const uint64_t bytes = isTooLarge(type))
      return refuseBytes(bytes);
  for (const Needs &needs : phases) {
    if (limits.bindings > 0 && needs.buffers + pieces > limits.bindings)
      return refuse(pieces > 0
                        ? fmt::format("buffers at once, of at most {} bytes", limits.bindingBytes)
                        : "buffers at once",
                    needs.buffers + pieces, limits.bindings);
    if (limits.sharedBytes > 0 && needs.sharedBytes > limits.sharedBytes)
      return refuse("bytes of workgroup memory", needs.sharedBytes, limits.sharedBytes);
    if (limits.threadsPerBlock > 0 && limits.threadsPerBlock < needs.blockThreads)
      return refuse("threads in a workgroup", needs.blockThreads, limits.threadsPerBlock);
  }
  return {};
}

namespace {

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

std::string simt::phaseEntry(StringRef entry, size_t index, size_t count) {
  return count == 1 ? entry.str() : fmt::format("{}_{}", entry.str(), index);
}

void simt::registerDialects(DialectRegistry &registry) {
  registry.insert<arith::ArithDialect, func::FuncDialect, gpu::GPUDialect, math::MathDialect,
                  memref::MemRefDialect, scf::SCFDialect, vector::VectorDialect>();
}

void simt::loadDialects(MLIRContext &context) {
  DialectRegistry registry;
  registerDialects(registry);
  context.appendDialectRegistry(registry);
  for (StringRef dialect : registry.getDialectNames())
    context.getOrLoadDialect(dialect);
}

namespace {

/// What a family's emitter consists of.
struct Emitter {
  Status (*supports)(const KernelAnalysis &);
  SmallVector<Needs> (*needsOf)(const KernelAnalysis &);
  Launching (*emit)(ModuleOp, const KernelAnalysis &, StringRef entry);
};

Emitter emitterOf(KernelFamily family) {
  switch (family) {
  case KernelFamily::Matmul:
    return {matmul::supports, matmul::needsOf, matmul::emit};
  case KernelFamily::Attention:
    return {attention::supports, attention::needsOf, attention::emit};
  case KernelFamily::Rowwise:
    return {rowwise::supports, rowwise::needsOf, rowwise::emit};
  case KernelFamily::Step:
    return {step::supports, step::needsOf, step::emit};
  }
  llvm_unreachable("a family without an emitter");
}

} // namespace

Status simt::supports(const KernelAnalysis &kernel, const Limits &limits) {
  KF_CHECK(checkOperations(kernel.kernel(), {.device = "a GPU",
                                             .hasCode = RowExpressions::hasCode,
                                             .readsLayouts = true,
                                             .needsFiniteF32 = true,
                                             .layout = WeightLayout::Planes}));
  const Emitter emitter = emitterOf(kernel.family());
  KF_CHECK(emitter.supports(kernel));
  return checkLimits(kernel.kernel(), emitter.needsOf(kernel), limits);
}

Expected<Launching> simt::emit(ModuleOp module, const KernelAnalysis &kernel, const Limits &limits,
                               StringRef entry) {
  KF_CHECK(simt::supports(kernel, limits));
  return emitterOf(kernel.family()).emit(module, kernel, entry);
}
