// What the code generator computes: of each operation, which element types each operand may have.
// What the shape of a kernel must be is each family's own to say.
#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/codegen/StepKernel.h"
#include "kernelforge/codegen/cpu/AttentionSchedule.h"
#include "kernelforge/codegen/cpu/Emit.h"
#include "kernelforge/codegen/cpu/Epilogue.h"
#include "kernelforge/codegen/cpu/MatmulSchedule.h"
#include "kernelforge/codegen/cpu/Step.h"

#include "llvm/ADT/TypeSwitch.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;
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
          add("bias", bias, Elements::F32);
        for (Value output : matmul.getOutputs())
          rows("result", output);
      })
      .Case([&](AttentionOp attention) {
        rows("query", attention.getQuery());
        add("cache of keys", attention.getKeys(), Elements::F32);
        add("cache of values", attention.getValues(), Elements::F32);
        rows("result", attention.getOutput());
      })
      .Case([&](CacheAppendOp append) {
        rows("values", append.getValues());
        add("cache", append.getCache(), Elements::F32);
      })
      .Case([&](EmbeddingOp embedding) {
        add("table", embedding.getTable(), Elements::Any);
        rows("result", embedding.getOutput());
      })
      .Case([&](PackOp pack) {
        add("input", pack.getInput(), Elements::Any);
        add("result", pack.getOutput(), Elements::Any);
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

bool allows(Elements elements, Type type) {
  if (auto cache = dyn_cast<CacheType>(type))
    type = cache.getElementType();
  const std::optional<ElementType> element = elementTypeOf(type);
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

/// f32, or the scheme of a quantized type.
std::string elementText(Type type) {
  if (auto cache = dyn_cast<CacheType>(type))
    type = cache.getElementType();
  type = getElementTypeOrSelf(type);
  std::string text;
  if (auto quant = dyn_cast<QuantType>(type))
    text = quant.getScheme().str();
  else
    llvm::raw_string_ostream(text) << type;
  return text;
}

Status checkOperands(KernelOp kernel, Operation *op) {
  auto refuse = [&](std::string why, std::string hint) {
    return unusable("kernel cannot be compiled for a CPU",
                    kernelName(kernel) + ", " + op->getName().getStringRef().str(), std::move(why),
                    std::move(hint));
  };
  // Functions have theirs taken apart before kernels are formed; a kernel that a user wrote is left
  // as it is.
  if (isa<MlpOp>(op))
    return refuse("it is composite: more than one matmul",
                  "write it into a func.func, where it is taken apart");
  const SmallVector<Rule> rules = rulesOf(op);
  if (rules.empty() && !isa<AdvanceOp>(op)) // of indices alone
    return refuse("no code is generated for this operation", "");
  for (const Rule &rule : rules) {
    if (!allows(rule.elements, rule.type))
      return refuse(fmt::format("its {} holds {}, and only {} is computed", rule.name.str(),
                                elementText(rule.type),
                                rule.elements == Elements::F32 ? "f32" : "f32, f16 or bf16"),
                    "use f32");
    // The rest is about rows of activations.
    auto type = dyn_cast<RankedTensorType>(rule.type);
    if (rule.elements != Elements::F32 || !type || type.getRank() != 2)
      continue;
    if (type.isDynamicDim(0) && rowsSizeName(type).empty())
      return refuse(
          fmt::format("its {} has a leading dimension that no size gives", rule.name.str()),
          namedRowsAdvice(type));
  }
  return {};
}

} // namespace

Status cpu::supports(KernelOp kernel) {
  for (Operation &op : kernel.getBody().front().without_terminator())
    KF_CHECK(checkOperands(kernel, &op));
  if (endsStep(kernel))
    return step::supports(kernel);
  KF_CHECK(checkRowwise(kernel));
  StringRef family = kernel.getFamily();
  if (family == "matmul")
    return matmul::supportedMatmul(kernel).transform([](MatmulOp) {});
  if (family == "attention")
    return attention::supportedAttention(kernel).transform([](AttentionOp) {});
  return rowwise::supports(kernel);
}
