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

/// Bits of a random byte e4m3: without the lowest one none is a NaN.
constexpr int withoutNan = 0xfe;

void putHalf(std::byte *at, float value) {
  const uint16_t bits = floatToHalf(value);
  std::memcpy(at, &bits, sizeof(bits));
}

/// Of a block of `type`. Where there are powers of two alone it is one of the two around it, by a
/// number of [0, 1), so that the mean of the squares is right.
void putScale(const ElementTypeInfo &type, std::byte *block, float scale, double uniform) {
  std::byte *at = block + type.scaleOffset;
  switch (type.scaleFormat) {
  case ScaleFormat::F16:
    return putHalf(at, scale);
  case ScaleFormat::F32:
    std::memcpy(at, &scale, sizeof(scale));
    return;
  case ScaleFormat::E8M0: {
    const int below = std::ilogb(scale);
    const double square = std::pow(std::ldexp(scale, -below), 2); // from 1 to 4
    *at =
        static_cast<std::byte>(std::clamp(below + (3 * uniform < square - 1 ? 129 : 128), 0, 254));
    return;
  }
  }
}

/// The fractions of multiples of the golden ratio, which fill [0, 1) evenly.
double evenly(uint64_t number) {
  const double multiple = static_cast<double>(number) * 0.6180339887498949;
  return multiple - std::floor(multiple);
}

struct Moments {
  float mean, square;
};

Moments uniform(int low, int high) {
  const float mean = static_cast<float>(low + high) / 2, count = static_cast<float>(high - low + 1);
  return {mean, mean * mean + (count * count - 1) / 12};
}

/// Of what random bits of a quant stand for.
Moments momentsOfQuants(const ElementTypeInfo &type) {
  if (!type.isE4M3 && !type.values)
    return type.quantBits == 8 ? uniform(-128, 127)
                               : uniform(-type.zero, (1 << type.quantBits) - 1 - type.zero);
  Moments sums{0, 0};
  const int count = 1 << type.quantBits;
  for (int q = 0; q < count; ++q) {
    const float value = type.isE4M3 ? e4m3ToFloat(static_cast<uint8_t>(q & withoutNan))
                                    : static_cast<float>(type.value(q));
    sums.mean += value / static_cast<float>(count);
    sums.square += value * value / static_cast<float>(count);
  }
  return sums;
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
  const Moments q = momentsOfQuants(type), one{1, 1};
  const Moments s = type.subScales == SubScales::None      ? one
                    : type.subScales == SubScales::Signed8 ? uniform(-128, 127)
                    : type.subScales == SubScales::Packed4 ? uniform(0, 15)
                    : type.hasMin()                        ? uniform(0, 63)
                                                           : uniform(-32, 31);
  const Moments t = type.hasSubScales() ? s : one;
  const float mean = s.mean * q.mean;
  float variance = s.square * q.square - mean * mean, ratio = 0; // of d, and m / d
  if (type.hasMin()) {
    ratio = mean / t.mean;
    variance += ratio * ratio * (t.square - t.mean * t.mean);
  }
  const float scale = deviation / std::sqrt(variance);
  for (uint64_t at = 0; at < out.size(); at += static_cast<uint64_t>(type.blockBytes)) {
    putScale(type, out.data() + at, scale, evenly(at / static_cast<uint64_t>(type.blockBytes)));
    for (int64_t i = 0; type.isE4M3 && i < type.blockElements; ++i)
      out[at + static_cast<uint64_t>(type.quantsOffset + i)] &= std::byte{withoutNan};
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
