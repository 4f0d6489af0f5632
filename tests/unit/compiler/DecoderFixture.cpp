#include "DecoderFixture.h"

#include "kernelforge/codegen/cpu/Target.h"
#include "kernelforge/support/CacheSlot.h"
#include "kernelforge/support/CounterRandom.h"

#include "mlir/Parser/Parser.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <unistd.h>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace kernelforge {

ModelDescription llamaLike() {
  ModelDescription d;
  d.modelDim = 64;
  d.vocabSize = 80;
  d.contextLength = TestDecoder::context;
  d.tiedHead = true;
  LayerDescription layer;
  layer.attention = {.heads = 4, .kvHeads = 2, .headDim = 16};
  layer.attention.rope = d.addRope({.rotaryDim = 16});
  layer.mlp.width = 96;
  d.layers.assign(2, layer);
  return d;
}

ModelDescription gptLike() {
  ModelDescription d;
  d.architecture = "gpt2";
  d.modelDim = 48;
  d.vocabSize = 51;
  d.contextLength = TestDecoder::context;
  d.learnedPositions = true;
  d.finalNorm.kind = NormKind::Layer;
  LayerDescription layer;
  layer.beforeAttention = layer.beforeMlp = d.finalNorm;
  layer.attention = {.heads = 2, .kvHeads = 2, .headDim = 24, .bias = true, .outputBias = true};
  layer.mlp = {.width = 72, .activation = ActivationKind::Gelu, .gated = false, .bias = true};
  d.layers.assign(2, layer);
  return d;
}

ModelDescription normedHeads() {
  ModelDescription d = llamaLike();
  const NormDescription shifted{.offset = 1};
  d.layers.resize(3, d.layers.front());
  d.finalNorm = shifted;
  for (LayerDescription &layer : d.layers) {
    layer.beforeAttention = layer.beforeMlp = layer.afterAttention = shifted;
    layer.attention.queryNorm = layer.attention.keyNorm = shifted;
    layer.attention.sinks = true;
  }
  d.layers[0].attention.window = 5;
  // All positions, not rotated; heads of other widths, one of them for all queries.
  AttentionDescription &full = d.layers[1].attention;
  full = {.heads = 2, .kvHeads = 1, .headDim = 32, .sinks = true};
  full.queryNorm = full.keyNorm = NormDescription{};
  AttentionDescription &odd = d.layers[2].attention;
  odd = {.heads = 6, .kvHeads = 2, .headDim = 12, .window = 9};
  odd.queryNorm = odd.keyNorm = NormDescription{.kind = NormKind::Layer};
  odd.rope = d.addRope({.pairing = RopePairing::Interleaved, .theta = 100, .rotaryDim = 8});
  d.layers[2].mlp.width = 40;
  return d;
}

void changeLayers(ModelDescription &d, const std::function<void(LayerDescription &)> &change) {
  for (LayerDescription &layer : d.layers)
    change(layer);
}

/// A type for every matrix of a layer, so that the segments of one matmul differ.
static ElementType mixedType(llvm::StringRef name) {
  static constexpr std::pair<const char *, ElementType> types[] = {
      {"token_embd", ElementType::Q8_0}, {"attn_q.", ElementType::Q4_0},
      {"attn_k.", ElementType::Q8_0},    {"attn_v.", ElementType::BF16},
      {"attn_output", ElementType::F16}, {"ffn_gate", ElementType::Q4_1},
      {"ffn_up", ElementType::Q4_0},     {"ffn_down", ElementType::Q4_1},
      {"output.", ElementType::F16}};
  for (auto [part, type] : types)
    if (name.contains(part))
      return type;
  return ElementType::F32;
}

std::vector<DecoderCase> decoderCases() {
  std::vector<DecoderCase> cases;
  auto add = [&](const char *name, ModelDescription description,
                 std::function<ElementType(llvm::StringRef)> weightType = {}) {
    cases.push_back({name, std::move(description), std::move(weightType)});
  };
  auto every = [](ElementType type) { return [type](llvm::StringRef) { return type; }; };

  add("LlamaHalfSplit", llamaLike());
  ModelDescription d = llamaLike();
  d.ropes[0].pairing = RopePairing::Interleaved;
  d.tiedHead = false;
  d.vocabSize = 77;
  add("LlamaInterleavedMixedTypes", d, mixedType);
  d = llamaLike();
  changeLayers(d, [](LayerDescription &layer) { layer.attention.kvHeads = 1; });
  add("LlamaOneKeyHeadQ4_1", d, [](llvm::StringRef name) {
    return name == "token_embd.weight" ? ElementType::Q8_0 : ElementType::Q4_1;
  });
  add("GptF32", gptLike());
  d = gptLike();
  changeLayers(d, [](LayerDescription &layer) { layer.mlp.activation = ActivationKind::GeluTanh; });
  d.tiedHead = true;
  add("GptTiedTanhF16", d, every(ElementType::F16));
  d = gptLike();
  changeLayers(d, [](LayerDescription &layer) {
    layer.mlp.activation = ActivationKind::Relu;
    layer.mlp.gated = true;
  });
  add("GptGatedReluBF16", d, every(ElementType::BF16));

  d = llamaLike(); // odd head, part of it rotated, everything capped and windowed
  changeLayers(d, [](LayerDescription &layer) {
    layer.attention = {.heads = 3,
                       .kvHeads = 1,
                       .headDim = 24,
                       .window = 5,
                       .scale = 0.3,
                       .softcap = 2,
                       .rope = 0};
  });
  d.ropes[0].rotaryDim = 10;
  d.logitSoftcap = 1.5;
  d.vocabSize = 33;
  add("WindowSoftcapOddHead", d);
  d.ropes[0].pairing = RopePairing::Interleaved;
  d.modelDim = 50; // no multiple of the vectors' width anywhere
  changeLayers(d, [](LayerDescription &layer) {
    layer.mlp.width = 35;
    layer.attention.headDim = 6;
    layer.attention.bias = true;
  });
  d.ropes[0].rotaryDim = 6;
  add("OddEverything", d, every(ElementType::F16));
  // Layers that have nothing in common, norms behind as well as in front, a scaled embedding.
  d = llamaLike();
  d.embeddingScale = 8;
  d.layers[0].afterAttention = d.layers[0].afterMlp = NormDescription{};
  d.layers[0].attention.window = 4;
  d.layers[1].beforeMlp = std::nullopt;
  d.layers[1].attention = {.heads = 2, .kvHeads = 2, .headDim = 24, .outputBias = true};
  d.layers[1].attention.rope = d.addRope({.theta = 100, .rotaryDim = 12});
  d.layers[1].mlp = {.width = 64, .activation = ActivationKind::Relu, .gated = false};
  add("LayersThatDiffer", d);
  add("NormedHeads", normedHeads());
  d = llamaLike();
  d.vocabSize = 0;
  d.layers.resize(1);
  add("BlockWithoutVocabulary", d, every(ElementType::Q8_0));
  return cases;
}

DecoderCase decoderCase(const std::string &name) {
  for (DecoderCase &decoder : decoderCases())
    if (decoder.name == name)
      return decoder;
  ADD_FAILURE() << "no case " << name;
  return {};
}

//===----------------------------------------------------------------------===//
// A decoder in a session
//===----------------------------------------------------------------------===//

/// Uniform in [-1, 1), a function of the name and the index.
static float noise(const std::string &name, uint64_t index) {
  return static_cast<float>(2 * randomUniform(std::hash<std::string>()(name), index) - 1);
}

mlir::OwningOpRef<mlir::ModuleOp> TestDecoder::build(mlir::MLIRContext &context,
                                                     const DecoderCase &decoder) {
  auto types =
      decoder.weightType ? decoder.weightType : [](llvm::StringRef) { return ElementType::F32; };
  const int64_t n = decoder.sequences;
  return buildDecoder(
      &context, decoder.description,
      {FunctionRange{"prefill", 1, maxRows, maxRows, n}, FunctionRange{"decode", 1, n, n, n}},
      types, decoder.cache);
}

SessionOptions TestDecoder::options(const std::string &level) {
  SessionOptions options;
  options.target = parseTarget(level, "").value();
  options.threads = 2;
  options.cache = false;
  options.poison = true;
  return options;
}

Expected<std::unique_ptr<TestDecoder>>
TestDecoder::create(const DecoderCase &decoder, SessionOptions options, const std::string &text) {
  auto test = std::make_unique<TestDecoder>();
  test->decoder = decoder;
  KF_TRY(test->handle, Session::create(std::move(options)));
  mlir::MLIRContext &context = test->handle->context();
  mlir::OwningOpRef<mlir::ModuleOp> module =
      text.empty() ? build(context, decoder)
                   : mlir::parseSourceString<mlir::ModuleOp>(text, &context);
  if (!module)
    return unusable("text does not parse", decoder.name, "see the diagnostics");
  KF_CHECK(test->handle->compile(std::move(module)));
  KF_CHECK(test->bindAll());
  return test;
}

std::pair<ElementType, std::vector<std::byte>> TestDecoder::weight(const WeightSlot &slot) const {
  const bool vector = !slot.isMatrix();
  const int64_t rows = vector ? 1 : slot.shape[0], width = slot.shape.back();
  const ElementType type =
      vector || !decoder.weightType ? ElementType::F32 : decoder.weightType(slot.name);
  const bool norm = slot.kind == WeightKind::Norm;
  const float scale = vector ? 0.3f : 2 / std::sqrt(static_cast<float>(width));
  const uint64_t bytes = rowBytes(type, width).value();
  std::vector<std::byte> data(rows * bytes);
  std::vector<float> row(width);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < width; ++i)
      row[i] = scale * noise(slot.name, r * width + i) + (norm ? 1.0f : 0.0f);
    quantizeRow(type, row.data(), width, data.data() + r * bytes);
  }
  return {type, std::move(data)};
}

Status TestDecoder::bindAll() {
  const ModelDescription &d = decoder.description;
  for (const WeightSlot &slot : weightSlots(d)) {
    auto [type, data] = weight(slot);
    weights[slot.name] = std::move(data);
    KF_CHECK(handle->bindWeight(slot.name, type, weights[slot.name]));
  }
  const int64_t n = decoder.sequences;
  for (size_t layer = 0; layer < d.layers.size(); ++layer) {
    const AttentionDescription &a = d.layers[layer].attention;
    const CacheSlot slot{decoder.cache.type, a.kvHeads, a.headDim};
    const int64_t slots = n * (pages() ? pages() * decoder.cache.page : context);
    for (const char *kind : {"k", "v"})
      caches[fmt::format("cache.{}.{}", layer, kind)].resize(
          slot.checkedBytes(static_cast<uint64_t>(slots)).value());
  }
  for (auto &[name, bytes] : caches)
    KF_CHECK(handle->bind(name, bytes));
  for (size_t index = 0; index < d.ropes.size(); ++index) {
    const RopeDescription &rope = d.ropes[index];
    const int64_t half = rope.rotaryDim / 2;
    std::vector<float> &table = buffers[ropeInputName(index)];
    for (int64_t p = 0; p < context; ++p)
      for (int64_t i = 0; i < 2 * half; ++i) {
        double angle =
            static_cast<double>(p) *
            std::pow(rope.theta, -static_cast<double>(i % half) / static_cast<double>(half));
        table.push_back(static_cast<float>(i < half ? std::cos(angle) : std::sin(angle)));
      }
  }
  buffers["x"].resize(maxRows * d.modelDim);
  for (auto &[name, values] : buffers)
    KF_CHECK(handle->bind(name, std::as_writable_bytes(std::span(values))));
  for (const char *name : {"ids", "positions", "slots", "sequences", "outputs"})
    inputs[name].resize(maxRows);
  inputs["lengths"].resize(n);
  fillTable();
  for (auto &[name, values] : inputs)
    KF_CHECK(handle->bind(name, std::as_writable_bytes(std::span(values))));
  reset();
  return {};
}

int64_t TestDecoder::pages() const {
  const int64_t page = decoder.cache.page;
  return page == 0 ? 0 : (context + page - 1) / page;
}

/// Sequences lie in the cache in reverse, so that no number is right by accident; pages anyhow.
void TestDecoder::fillTable() {
  std::vector<int32_t> &table = inputs["table"];
  for (int64_t s = decoder.sequences - 1; pages() == 0 && s >= 0; --s)
    table.push_back(static_cast<int32_t>(s * context));
  if (pages() == 0)
    return;
  table.resize(decoder.sequences * pages());
  std::iota(table.begin(), table.end(), 0);
  std::shuffle(table.begin(), table.end(), std::mt19937(7));
}

int32_t TestDecoder::slotOf(size_t sequence, int32_t position) const {
  const std::vector<int32_t> &table = inputs.at("table");
  const auto page = static_cast<int32_t>(decoder.cache.page);
  if (page == 0)
    return table[sequence] + position;
  return table[sequence * pages() + position / page] * page + position % page;
}

void TestDecoder::reset() {
  lengths.assign(decoder.sequences, 0);
  // What was never written must never be read: NaN in every type, scales of blocks included.
  for (auto &[name, bytes] : caches)
    std::fill(bytes.begin(), bytes.end(), std::byte(0xff));
}

int64_t TestDecoder::width() const {
  return decoder.description.vocabSize ? decoder.description.vocabSize
                                       : decoder.description.modelDim;
}

Expected<std::vector<float>> TestDecoder::append(const std::string &function, const Batch &tokens,
                                                 bool all) {
  const ModelDescription &d = decoder.description;
  int64_t rows = 0, outputs = 0;
  for (size_t s = 0; s < tokens.size(); ++s) {
    for (size_t i = 0; i < tokens[s].size(); ++i, ++rows) {
      const int32_t position = lengths[s]++;
      inputs["ids"][rows] = tokens[s][i];
      inputs["positions"][rows] = position;
      inputs["sequences"][rows] = static_cast<int32_t>(s);
      inputs["slots"][rows] = slotOf(s, position);
      for (int64_t j = 0; j < d.modelDim; ++j)
        buffers["x"][rows * d.modelDim + j] = noise("x", tokens[s][i] * d.modelDim + j);
      if (all || i + 1 == tokens[s].size())
        inputs["outputs"][outputs++] = static_cast<int32_t>(rows);
    }
    inputs["lengths"][s] = lengths[s];
  }
  std::vector<int64_t> sizes{rows};
  if (d.vocabSize)
    sizes.push_back(outputs);
  sizes.push_back(static_cast<int64_t>(tokens.size()));
  if (!d.ropes.empty())
    sizes.push_back(context);
  sizes.push_back(context);
  std::vector<float> result((d.vocabSize ? outputs : rows) * width());
  const std::span<std::byte> bytes = std::as_writable_bytes(std::span(result));
  KF_CHECK(handle->run(function, sizes, {&bytes, 1}));
  return result;
}

Expected<std::vector<float>> TestDecoder::converse() {
  std::vector<float> everything;
  auto add = [&](const char *function, const Batch &tokens, bool all = true) -> Status {
    KF_TRY(std::vector<float> result, append(function, tokens, all));
    everything.insert(everything.end(), result.begin(), result.end());
    return {};
  };
  KF_CHECK(add("prefill", {{1, 7, 30, 2, 9, 4, 11}, {5}, {8, 8, 12}}));
  KF_CHECK(add("prefill", {{3, 3, 29}, {6, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {}},
               /*all=*/false));
  KF_CHECK(add("decode", {{20}, {21}, {22}}));
  KF_CHECK(add("decode", {{0}}));
  KF_CHECK(add("decode", {{19}, {}, {18}}));
  return everything;
}

//===----------------------------------------------------------------------===//
// Helpers
//===----------------------------------------------------------------------===//

double relativeDistance(const std::vector<float> &actual, const std::vector<float> &expected) {
  if (actual.size() != expected.size() || actual.empty())
    return std::numeric_limits<double>::infinity();
  double difference = 0, norm = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    difference += std::pow(double(actual[i]) - double(expected[i]), 2);
    norm += std::pow(double(expected[i]), 2);
  }
  double distance = std::sqrt(difference / norm);
  return std::isfinite(distance) ? distance : std::numeric_limits<double>::infinity();
}

std::string printModule(mlir::ModuleOp module) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  module->print(stream);
  return text;
}

TemporaryHome::TemporaryHome() {
  const char *old = std::getenv("KERNELFORGE_HOME");
  hadBefore = old != nullptr;
  before = old ? old : "";
  std::string pattern =
      (std::filesystem::temp_directory_path() / "kernelforge-home-XXXXXX").string();
  if (!mkdtemp(pattern.data()))
    ADD_FAILURE() << "no temporary folder";
  folder = pattern;
  setenv("KERNELFORGE_HOME", folder.c_str(), 1);
}

TemporaryHome::~TemporaryHome() {
  if (hadBefore)
    setenv("KERNELFORGE_HOME", before.c_str(), 1);
  else
    unsetenv("KERNELFORGE_HOME");
  std::filesystem::remove_all(folder);
}

} // namespace kernelforge
