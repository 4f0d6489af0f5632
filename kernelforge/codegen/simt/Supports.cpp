// What is computed: of each operation, which element types each operand may have, and what all
// kernels need. What the shape of a kernel must be is each family's own to say.
#include "kernelforge/codegen/StepKernel.h"
#include "kernelforge/codegen/simt/Emit.h"
#include "kernelforge/codegen/simt/Step.h"

#include "llvm/ADT/TypeSwitch.h"

#include <cmath>
#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;

namespace {

/// Element types that are read in the same place.
enum class Elements {
  F32,   ///< activations, what is added to them, caches
  Plain, ///< vectors of parameters: f32, f16 or bf16
  Any,   ///< weights: also the quantized ones
};

/// An operand or a result, and what it may hold. Indices are always i32.
struct Rule {
  StringRef name;
  Type type;
  Elements elements;
};

/// What is computed of an operation; empty where nothing is.
SmallVector<Rule> rulesOf(Operation *op) {
  SmallVector<Rule> rules;
  auto add = [&](StringRef name, Value value, Elements elements) {
    if (value)
      rules.push_back({name, value.getType(), elements});
  };
  auto rows = [&](StringRef name, Value value) { add(name, value, Elements::F32); };
  llvm::TypeSwitch<Operation *>(op)
      .Case([&](MatmulOp matmul) {
        rows("input", matmul.getInput());
        for (Value weight : matmul.getWeights())
          add("weight", weight, Elements::Any);
        for (Value bias : matmul.getBiases())
          add("bias", bias, Elements::Plain);
        for (Value output : matmul.getOutputs())
          rows("result", output);
      })
      .Case([&](AttentionOp attention) {
        rows("query", attention.getQuery());
        rows("cache of keys", attention.getKeys());
        rows("cache of values", attention.getValues());
        rows("result", attention.getOutput());
      })
      .Case([&](CacheAppendOp append) {
        rows("values", append.getValues());
        rows("cache", append.getCache());
      })
      .Case([&](EmbeddingOp embedding) {
        add("table", embedding.getTable(), Elements::Any);
        rows("result", embedding.getOutput());
      })
      .Case([&](RmsNormOp norm) {
        rows("input", norm.getInput());
        add("weight", norm.getWeight(), Elements::Plain);
      })
      .Case([&](LayerNormOp norm) {
        rows("input", norm.getInput());
        add("weight", norm.getWeight(), Elements::Plain);
        add("bias", norm.getBias(), Elements::Plain);
      })
      .Case([&](RopeOp rope) {
        rows("input", rope.getInput());
        rows("table", rope.getTable());
      })
      .Case([&](GatherRowsOp gather) {
        rows("input", gather.getInput());
        rows("result", gather.getOutput());
      })
      .Case([&](SampleOp sample) {
        rows("logits", sample.getLogits());
        rows("settings", sample.getSettings());
      })
      .Case<SoftmaxOp, ActivationOp, AddOp, MulOp, ScaleOp>([&](Operation *) {
        for (Value operand : op->getOperands())
          rows("input", operand);
      });
  return rules;
}

std::optional<ElementType> elementOf(Type type) {
  if (auto cache = dyn_cast<CacheType>(type))
    type = cache.getElementType();
  return elementTypeOf(type);
}

bool allows(Elements elements, Type type) {
  const std::optional<ElementType> element = elementOf(type);
  switch (elements) {
  case Elements::F32:
    return element == ElementType::F32;
  case Elements::Plain:
    return element == ElementType::F32 || element == ElementType::F16 ||
           element == ElementType::BF16;
  case Elements::Any:
    return element.has_value() && element != ElementType::I32;
  }
  llvm_unreachable("a rule without a meaning");
}

std::string elementText(Type type) {
  const std::optional<ElementType> element = elementOf(type);
  return element ? std::string(info(*element).name) : "another type";
}

Status checkOperands(KernelOp kernel, Operation *op) {
  auto refuse = [&](std::string why, std::string hint) {
    return unusable("kernel cannot be compiled for a GPU",
                    kernelName(kernel) + ", " + op->getName().getStringRef().str(), std::move(why),
                    std::move(hint));
  };
  if (isa<MlpOp>(op))
    return refuse("it is composite: more than one matmul",
                  "write it into a func.func, where it is taken apart");
  if (isa<PackOp>(op))
    return refuse("weights are read row-major, as they are", "use the weight without a layout");
  const SmallVector<Rule> rules = rulesOf(op);
  if (rules.empty() && !isa<AdvanceOp>(op)) // of indices alone
    return refuse("no code is generated for this operation", "");
  for (const Rule &rule : rules) {
    const char *allowed = rule.elements == Elements::F32     ? "f32"
                          : rule.elements == Elements::Plain ? "f32, f16 or bf16"
                                                             : "numbers and quantized blocks";
    if (!allows(rule.elements, rule.type))
      return refuse(fmt::format("its {} holds {}, and only {} is computed", rule.name.str(),
                                elementText(rule.type), allowed),
                    "use f32");
    auto type = dyn_cast<RankedTensorType>(rule.type);
    if (type && layoutOf(type))
      return refuse(
          fmt::format("its {} has a layout, and weights are read row-major", rule.name.str()),
          "use the weight without a layout");
    // The rest is about rows of activations.
    if (rule.elements != Elements::F32 || !type || type.getRank() != 2)
      continue;
    if (type.isDynamicDim(0) && rowsSizeName(type).empty())
      return refuse(
          fmt::format("its {} has a leading dimension that no size gives", rule.name.str()),
          namedRowsAdvice(type));
  }
  for (NamedAttribute attribute : op->getAttrs())
    if (auto number = dyn_cast<FloatAttr>(attribute.getValue());
        number && !std::isfinite(static_cast<float>(number.getValueAsDouble())))
      return refuse(fmt::format("its {} is no finite f32", attribute.getName().str()), "");
  if (endsStep(op)) // all of it stands in memory: step::supports()
    return {};
  // What is looked up in must stand in memory.
  const SmallVector<Value> inputs = isa<MatmulOp, AttentionOp>(op)
                                        ? llvm::to_vector(op->getOperands().take_front())
                                        : rowInputs(op);
  for (Value operand : op->getOperands())
    if (!llvm::is_contained(inputs, operand) && !isa<BlockArgument>(operand))
      return refuse("a parameter, table or index is computed in the same kernel",
                    "make it an argument of the kernel");
  return {};
}

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
  for (Operation &op : kernel.getBody().front().without_terminator())
    KF_CHECK(checkOperands(kernel, &op));
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
