#include "kernelforge/llm/RandomModel.h"

#include "kernelforge/llm/ByteAlphabet.h"
#include "kernelforge/support/CheckedArithmetic.h"
#include "kernelforge/support/CounterRandom.h"
#include "kernelforge/support/Host.h"
#include "kernelforge/support/Suggest.h"
#include "kernelforge/support/Utf8.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fmt/format.h>
#include <thread>

namespace kernelforge {

namespace {

constexpr uint64_t weightAlignment = 64;

struct BuiltInShape {
  std::string_view name;
  int64_t layers, modelDim, heads, kvHeads, headDim, ffnDim, vocabSize, context;
  double ropeTheta;
  bool tied;
  void (*change)(ModelDescription &) = nullptr; ///< what is not like Llama's
};

/// Layers that look at a window of positions, rotated by tables of their own, and layers of other
/// heads that look at all of them, which do not rotate; every norm multiplies by 1 + weight.
void mixLayers(ModelDescription &d) {
  const NormDescription norm{.offset = 1};
  d.finalNorm = norm;
  for (size_t i = 0; i < d.layers.size(); ++i) {
    LayerDescription &layer = d.layers[i];
    layer.beforeAttention = layer.beforeMlp = layer.afterAttention = layer.afterMlp = norm;
    AttentionDescription &a = layer.attention;
    a.queryNorm = a.keyNorm = norm;
    a.sinks = true;
    if (i % 2 == 0) {
      a.window = 24;
      if (i % 4 == 2)
        a.rope = d.addRope({.theta = 100, .rotaryDim = a.headDim / 2});
    } else {
      a.heads = a.kvHeads = 2;
      a.headDim = 64;
      a.rope = std::nullopt;
      layer.mlp.width = 96;
    }
  }
}

constexpr BuiltInShape builtIn[] = {
    {"smollm2", 30, 576, 9, 3, 64, 1536, 49152, 8192, 100000, true},
    {"tinyllama", 22, 2048, 32, 4, 64, 5632, 32000, 2048, 10000, false},
    {"tiny", 2, 64, 4, 2, 16, 160, 512, 512, 10000, true},
    {"mixed", 4, 64, 4, 2, 32, 160, 512, 512, 10000, true, mixLayers},
};

ModelDescription describe(const BuiltInShape &shape) {
  ModelDescription d;
  d.modelDim = shape.modelDim;
  d.vocabSize = shape.vocabSize;
  d.contextLength = shape.context;
  d.tiedHead = shape.tied;
  LayerDescription layer;
  layer.attention.heads = shape.heads;
  layer.attention.kvHeads = shape.kvHeads;
  layer.attention.headDim = shape.headDim;
  layer.attention.rope = d.addRope({.theta = shape.ropeTheta, .rotaryDim = shape.headDim});
  layer.mlp.width = shape.ffnDim;
  d.layers.assign(static_cast<size_t>(shape.layers), layer);
  if (shape.change)
    shape.change(d);
  return d;
}

Expected<ModelFile> openShape(const std::string &config) {
  std::error_code ignored; // what cannot be looked at does not exist for us
  if (std::filesystem::exists(config, ignored))
    return openModelShape(config);
  for (const BuiltInShape &shape : builtIn)
    if (config == shape.name) {
      ModelFile model;
      model.path = model.name = config;
      model.description = describe(shape);
      return model;
    }
  std::vector<std::string> shapes;
  for (const BuiltInShape &shape : builtIn)
    shapes.emplace_back(shape.name);
  const std::string guess = didYouMean(config, shapes);
  return missing(
      "configuration is not here", config, "there is no such file or folder",
      guess + (guess.empty() ? "" : " Or ") +
          "name a config.json, a folder with one, a GGUF file, or a shape: " + builtInShapes());
}

/// One token for each byte; the rest of the vocabulary shows its number.
TokenizerData byteTokenizer(const ModelFile &model) {
  TokenizerData data;
  data.where = model.path;
  data.model = "gpt2";
  data.pre = "gpt-2";
  for (int64_t id = 0; id < model.description.vocabSize; ++id) {
    std::string text;
    if (id < 256)
      appendUtf8(text, byteCharacter(static_cast<uint8_t>(id)));
    else
      text = fmt::format("<{}>", id);
    data.tokens.push_back(std::move(text));
    data.types.push_back(id < 256 ? TokenType::Normal : TokenType::Unused);
  }
  data.special = model.special;
  return data;
}

/// Values of mean 0 and standard deviation `deviation`, whatever number of threads makes them: a
/// model of billions takes one of them minutes.
void fillPlain(ElementType type, std::span<std::byte> out, uint64_t seed, float deviation) {
  const float range = deviation * std::sqrt(12.0f); // of a uniform distribution
  const auto bytes = static_cast<uint64_t>(info(type).blockBytes);
  const uint64_t count = out.size() / bytes;
  auto fill = [&](uint64_t begin, uint64_t end) {
    for (uint64_t i = begin; i < end; ++i) {
      const float value = (static_cast<float>(randomUniform(seed, i)) - 0.5f) * range;
      quantizeRow(type, &value, 1, out.data() + i * bytes);
    }
  };
  constexpr uint64_t leastOfThread = 1 << 18;
  const uint64_t threads =
      std::min<uint64_t>(host().physicalCores, (count + leastOfThread - 1) / leastOfThread);
  std::vector<std::jthread> team;
  for (uint64_t i = 1; i < threads; ++i)
    team.emplace_back(fill, count * i / threads, count * (i + 1) / threads);
  fill(0, threads > 1 ? count / threads : count);
}

void putHalf(std::byte *at, float value) {
  const uint16_t bits = floatToHalf(value);
  std::memcpy(at, &bits, sizeof(bits));
}

/// The same for blocks: every bit random, then each block's scale and minimum set. Much faster than
/// quantizing random numbers, and as good to compute with.
void fillQuantized(const ElementTypeInfo &type, std::span<std::byte> out, uint64_t seed,
                   float deviation) {
  for (uint64_t at = 0; at < out.size() / sizeof(uint64_t) * sizeof(uint64_t);
       at += sizeof(uint64_t)) {
    const uint64_t bits = randomBits(seed, at);
    std::memcpy(out.data() + at, &bits, sizeof(bits));
  }
  const uint64_t tail = out.size() % sizeof(uint64_t), bits = randomBits(seed, out.size());
  std::memcpy(out.data() + out.size() - tail, &bits, tail);
  // A value is d s q - m t, with d and m set here and the others random integers.
  struct Moments {
    float mean, square;
  };
  auto uniform = [](int low, int high) {
    const float mean = static_cast<float>(low + high) / 2,
                count = static_cast<float>(high - low + 1);
    return Moments{mean, mean * mean + (count * count - 1) / 12};
  };
  const int levels = 1 << type.quantBits, zero = type.quantBits == 8 ? 128 : type.zero;
  const Moments q = uniform(-zero, levels - 1 - zero), one{1, 1};
  const Moments s = type.subScales == SubScales::Signed8   ? uniform(-128, 127)
                    : type.subScales == SubScales::Packed6 ? uniform(0, 63)
                                                           : one;
  const Moments t = type.subScales == SubScales::Packed6 ? s : one;
  const float mean = s.mean * q.mean;
  float variance = s.square * q.square - mean * mean, ratio = 0; // of d, and m / d
  if (type.hasMin()) {
    ratio = mean / t.mean;
    variance += ratio * ratio * (t.square - t.mean * t.mean);
  }
  const float scale = deviation / std::sqrt(variance);
  for (uint64_t at = 0; at < out.size(); at += static_cast<uint64_t>(type.blockBytes)) {
    putHalf(out.data() + at + type.scaleOffset, scale);
    if (type.hasMin()) // without sub-scales the minimum is added
      putHalf(out.data() + at + type.minOffset, (type.hasSubScales() ? ratio : -ratio) * scale);
  }
}

void fillWeight(const WeightSlot &slot, const Weight &weight, std::span<std::byte> out,
                uint64_t seed) {
  if (!slot.isMatrix()) {
    // A norm multiplies by 1; biases and the scores of sinks are 0.
    const float value = slot.kind == WeightKind::Norm ? static_cast<float>(1 - slot.offset) : 0.0f;
    for (uint64_t at = 0; at < out.size(); at += sizeof(float))
      std::memcpy(out.data() + at, &value, sizeof(float));
    return;
  }
  const float deviation = 1 / std::sqrt(static_cast<float>(weight.shape[1]));
  if (info(weight.type).isQuantized())
    fillQuantized(info(weight.type), out, seed, deviation);
  else
    fillPlain(weight.type, out, seed, deviation);
}

Status makeWeights(ModelFile &model, const RandomModelOptions &options) {
  const ElementType embedding = options.embeddingType.value_or(
      info(options.matrixType).isQuantized() ? ElementType::Q8_0 : options.matrixType);
  auto error = [&](std::string where, std::string why, std::string hint = "") {
    return unusable("random weights cannot be made", std::move(where), std::move(why),
                    std::move(hint));
  };
  std::vector<Weight> weights;
  std::vector<uint64_t> offsets;
  uint64_t total = 0;
  const std::vector<WeightSlot> slots = weightSlots(model.description);
  for (const WeightSlot &slot : slots) {
    const ElementType type = !slot.isMatrix()                 ? ElementType::F32
                             : slot.kind == WeightKind::Table ? embedding
                                                              : options.matrixType;
    const auto rows = static_cast<uint64_t>(slot.isMatrix() ? slot.shape[0] : 1);
    const auto row = rowBytes(type, static_cast<uint64_t>(slot.shape.back()));
    if (!row)
      return error(slot.name,
                   fmt::format("rows of {} elements are no whole number of {} blocks",
                               slot.shape.back(), info(type).name),
                   "choose --random-type f32, f16 or bf16");
    const auto bytes = checkedMul(rows, *row);
    const auto end = bytes ? checkedAdd(total, *bytes) : std::nullopt;
    const auto next = end ? checkedRoundUp(*end, weightAlignment) : std::nullopt;
    if (!next)
      return error(model.path, "the size of the weights overflows");
    weights.push_back({slot.name, type, slot.shape, {}});
    offsets.push_back(total);
    total = *next;
  }
  if (const auto memory = static_cast<uint64_t>(host().memoryBytes); memory && total > memory)
    return error(model.path, fmt::format("they take {} bytes, this machine has {}", total, memory),
                 "choose a smaller configuration or --random-type");
  KF_TRY(model.ownedWeights, PageMemory::allocate(total));
  for (size_t i = 0; i < weights.size(); ++i) {
    const auto rows = static_cast<uint64_t>(slots[i].isMatrix() ? slots[i].shape[0] : 1);
    const uint64_t bytes =
        rows * *rowBytes(weights[i].type, static_cast<uint64_t>(weights[i].shape.back()));
    const auto memory = model.ownedWeights.span().subspan(offsets[i], bytes);
    fillWeight(slots[i], weights[i], memory, randomBits(options.seed, i));
    weights[i].bytes = memory;
    model.weights.add(std::move(weights[i]));
  }
  return {};
}

} // namespace

std::string builtInShapes() {
  std::string names;
  for (const BuiltInShape &shape : builtIn)
    names += fmt::format("{}{}", names.empty() ? "" : ", ", shape.name);
  return names;
}

Expected<ModelFile> makeRandomModel(const std::string &config, const RandomModelOptions &options) {
  KF_TRY(ModelFile model, openShape(config));
  if (!model.tokenizer.present())
    model.tokenizer.data = byteTokenizer(model);
  model.tokenizer.vocabSize = model.description.vocabSize;
  KF_CHECK(makeWeights(model, options));
  model.name += " (random weights)";
  return model;
}

} // namespace kernelforge
