#include "InterpreterFixture.h"

#include "kernelforge/ir/WeightLayouts.h"
#include "kernelforge/kernels/Layout.h"
#include "kernelforge/passes/Passes.h"

#include "mlir/Pass/PassManager.h"

#include <cmath>
#include <numeric>
#include <random>

using namespace mlir;

namespace kernelforge {

namespace {

constexpr int64_t mostTokens = 16, contextLength = 48;
/// The conversation's first slot: not the cache's first, so that a forgotten table is noticed.
constexpr int32_t firstSlot = 5;

ElementType weightType(llvm::StringRef name) {
  if (name.contains("attn_q") || name.contains("ffn_down"))
    return ElementType::Q4_1;
  if (name.contains("attn_k") || name.contains("token_embd"))
    return ElementType::Q8_0;
  if (name.contains("attn_v"))
    return ElementType::F16;
  return name.contains("ffn_up") ? ElementType::Q4_0 : ElementType::BF16;
}

void compile(ModuleOp module, Stage stage) {
  PassManager passes(module.getContext());
  if (stage >= Stage::Decomposed)
    passes.addPass(createDecompose());
  if (stage >= Stage::Merged)
    passes.addNestedPass<func::FuncOp>(createMergeMatmuls());
  if (stage >= Stage::LaidOut)
    passes.addPass(createAssignLayouts());
  if (stage == Stage::Fused)
    passes.addPass(createFuse());
  if (stage == Stage::OneKernelEach)
    passes.addPass(createFuse(FuseOptions{.fuse = false}));
  ASSERT_TRUE(succeeded(passes.run(module)));
}

/// Random values of a weight in the layout of `type`; the same for the same name.
std::vector<std::byte> makeWeight(const std::string &name, RankedTensorType type) {
  std::seed_seq seed(name.begin(), name.end());
  std::mt19937 random(seed);
  const int64_t width = type.getShape().back(), rows = type.getNumElements() / width;
  // Norms scale by about one; rows of matrices keep the size of what they multiply.
  const bool norm = name.find("norm.weight") != std::string::npos;
  const float spread = norm ? 0.1f : 1.0f / std::sqrt(static_cast<float>(width));
  std::normal_distribution<float> normal(norm ? 1.0f : 0.0f, spread);
  const ElementType element = *elementTypeOf(type);
  const uint64_t bytesOfRow = *rowBytes(element, width);
  std::vector<std::byte> bytes(rows * bytesOfRow);
  std::vector<float> row(width);
  for (int64_t r = 0; r < rows; ++r) {
    for (float &value : row)
      value = normal(random);
    quantizeRow(element, row.data(), width, bytes.data() + r * bytesOfRow);
  }
  if (!layoutOf(type))
    return bytes;
  std::vector<std::byte> packed(*weightBytes(type));
  packWeight(weightLayoutOf(type), element, bytes.data(), rows, width, packed.data());
  return packed;
}

} // namespace

ModelDescription smallLlama() {
  ModelDescription d;
  d.modelDim = 64;
  d.vocabSize = 41;
  d.contextLength = kernelforge::contextLength;
  d.tiedHead = true;
  LayerDescription layer;
  layer.attention = {.heads = 4, .kvHeads = 2, .headDim = 16};
  layer.attention.rope = d.addRope({.rotaryDim = 16});
  layer.mlp.width = 96;
  d.layers.assign(2, layer);
  return d;
}

SmallDecoder::SmallDecoder(ModelDescription d, Stage stage) : description(std::move(d)) {
  owned =
      buildDecoder(&context, description,
                   {{"prefill", 1, mostTokens, mostTokens, 1}, {"decode", 1, 1, 1, 1}}, weightType);
  compile(*owned, stage);
  const RopeDescription table =
      description.ropes.empty() ? RopeDescription{} : description.ropes[0];
  const int64_t pairs = table.rotaryDim / 2;
  for (int64_t p = 0; p < contextLength; ++p)
    for (bool sine : {false, true})
      for (int64_t i = 0; i < pairs; ++i) {
        const double angle =
            static_cast<double>(p) * std::pow(table.theta, -double(i) / double(pairs));
        rope.push_back(static_cast<float>(sine ? std::sin(angle) : std::cos(angle)));
      }
  reset();
}

void SmallDecoder::reset() {
  length = 0;
  caches.clear();
}

void *SmallDecoder::argument(func::FuncOp function, unsigned index) {
  Type type = function.getArgument(index).getType();
  if (auto name = function.getArgAttrOfType<StringAttr>(index, weightAttrName)) {
    auto [slot, isNew] = weights.try_emplace(name.str());
    if (isNew)
      slot->second = makeWeight(name.str(), cast<RankedTensorType>(type));
    return slot->second.data();
  }
  const std::string name = function.getArgAttrOfType<StringAttr>(index, inputAttrName).str();
  if (auto cache = dyn_cast<transformer::CacheType>(type)) {
    auto [slot, isNew] = caches.try_emplace(name);
    if (isNew) // what was never written must never be read
      slot->second.assign((firstSlot + contextLength) * cache.getHeads() * cache.getDim(), NAN);
    return slot->second.data();
  }
  return name == "rope" ? static_cast<void *>(rope.data()) : inputs[name].data();
}

std::vector<float> SmallDecoder::feed(const std::string &name, const std::vector<int32_t> &ids,
                                      int64_t outputs) {
  auto tokens = static_cast<int64_t>(ids.size());
  inputs["ids"] = ids;
  inputs["positions"].resize(tokens);
  std::iota(inputs["positions"].begin(), inputs["positions"].end(), length);
  inputs["slots"] = inputs["positions"];
  for (int32_t &slot : inputs["slots"])
    slot += firstSlot;
  inputs["sequences"].assign(tokens, 0);
  inputs["table"] = {firstSlot};
  inputs["lengths"] = {static_cast<int32_t>(length + tokens)};
  inputs["outputs"].resize(outputs);
  std::iota(inputs["outputs"].begin(), inputs["outputs"].end(),
            static_cast<int32_t>(tokens - outputs));
  for (const auto &[input, values] : override)
    inputs[input] = values;
  length += static_cast<int32_t>(tokens);

  std::vector<int64_t> sizes = {tokens, outputs, 1};
  if (!description.ropes.empty())
    sizes.push_back(contextLength);
  sizes.push_back(contextLength);
  std::vector<void *> arguments;
  auto function = owned->lookupSymbol<func::FuncOp>(name);
  for (unsigned i = sizes.size(); i < function.getNumArguments(); ++i)
    arguments.push_back(argument(function, i));
  std::vector<float> logits(outputs * description.vocabSize, NAN);
  std::vector<void *> results = {logits.data()};

  auto interpreter = Interpreter::create(*owned, name);
  last = interpreter ? interpreter->run({sizes, arguments, results})
                     : Status(tl::unexpected<Error>(interpreter.error()));
  return logits;
}

} // namespace kernelforge
