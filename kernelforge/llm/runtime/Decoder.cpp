#include "kernelforge/llm/runtime/Decoder.h"

#include "kernelforge/backend/FreeMemory.h"
#include "kernelforge/ir/ModuleBuilder.h"
#include "kernelforge/ir/Numerics.h"
#include "kernelforge/llm/runtime/KernelTimes.h"
#include "kernelforge/llm/runtime/RopeTable.h"
#include "kernelforge/problem/FunctionSignature.h"
#include "kernelforge/support/CacheSlot.h"
#include "kernelforge/support/CheckedArithmetic.h"
#include "kernelforge/support/Log.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>

using namespace kernelforge;

/// Context that a user gets without asking: models advertise far more than most machines hold.
static constexpr int64_t defaultContext = 4096;

static constexpr const char *stepFunction = "step";

namespace {

double secondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Rows of one run, as the compiled functions take them.
struct Rows {
  std::vector<int32_t> ids, positions, slots, sequences;
  std::vector<int32_t> table{0}, lengths{0}, outputs;

  void resize(int64_t rows) {
    for (std::vector<int32_t> *column : {&ids, &positions, &slots, &sequences, &outputs})
      column->assign(rows, 0);
  }
};

} // namespace

struct Decoder::Implementation {
  const ModelFile *model = nullptr;
  DecoderOptions options;
  int64_t context = 0;
  int64_t length = 0;
  std::unique_ptr<Session> session;
  std::vector<PageMemory> floats;        ///< weights that are read as f32
  std::vector<std::vector<float>> ropes; ///< as the description's
  std::vector<int32_t> history;          ///< the tokens of the sequence
  PageMemory logits;
  Rows rows;
  DecoderMemory memory;
  double loadSeconds = 0;
  int64_t weightBytesPerToken = 0;
  bool timed = false;
  KernelTimer timer;
  /// Of beginSteps(): what the next step that nobody took begins with, and how many may follow.
  struct {
    TokenRules rules;
    int32_t token = 0;
    int64_t left = 0, taken = 0;
  } stepping;
  std::unique_ptr<DeviceSteps> steps; ///< null where there are none, or not yet

  std::string numerics; ///< of the module's operations

  const ModelDescription &description() const { return model->description; }
  int64_t chunk() const { return std::min(options.prefillChunk, context); }
  /// Rows whose logits one run gives at most.
  int64_t maxOutputs() const { return options.allLogits ? chunk() : 1; }

  /// Bytes of the keys (or of the values) of one layer.
  std::optional<uint64_t> cacheBytes(const LayerDescription &layer) const;
  Status planMemory();
  Status compile();
  Status bindWeights();
  Status bindCaches();
  Status bindRopes();
  Status bindBuffers();
  std::vector<int64_t> sizesOf(int64_t tokens, std::optional<int64_t> outputs,
                               int64_t longest) const;
  Status startSteps();
  Expected<int32_t> takeToken(const std::atomic<bool> *cancel);
  Status reload(const Error &lost, const std::atomic<bool> *cancel);
  Status run(std::span<const int32_t> tokens, bool everyLogit, const std::atomic<bool> *cancel);
  Status checkTokens(std::span<const int32_t> tokens) const;
  Status runRows(std::span<const int32_t> tokens, bool everyLogit, const std::atomic<bool> *cancel);
};

Decoder::Decoder(std::unique_ptr<Implementation> implementation)
    : implementation(std::move(implementation)) {}
Decoder::~Decoder() = default;

const ModelDescription &Decoder::description() const { return implementation->description(); }
int64_t Decoder::context() const { return implementation->context; }
ElementType Decoder::cacheType() const { return implementation->options.cacheType; }
const std::string &Decoder::numerics() const { return implementation->numerics; }
int64_t Decoder::length() const { return implementation->length; }
const Session &Decoder::session() const { return *implementation->session; }
double Decoder::loadSeconds() const { return implementation->loadSeconds; }
int64_t Decoder::weightBytesPerToken() const { return implementation->weightBytesPerToken; }
const CompileStatistics &Decoder::compileStatistics() const {
  return implementation->session->statistics();
}

void Decoder::truncate(int64_t length) {
  implementation->length = std::clamp<int64_t>(length, 0, implementation->length);
}

DecoderMemory Decoder::memory() const {
  DecoderMemory memory = implementation->memory;
  memory.packedBytes = implementation->session->packedBytes();
  memory.scratchBytes += implementation->session->scratchBytes();
  if (implementation->steps)
    memory.scratchBytes += implementation->steps->bytes();
  return memory;
}

void Decoder::enableKernelTimes() { implementation->timed = true; }
std::vector<KernelTime> Decoder::kernelTimes() const { return implementation->timer.times(); }

Expected<std::unique_ptr<Decoder>> Decoder::create(const ModelFile &model, DecoderOptions options) {
  auto implementation = std::make_unique<Implementation>();
  Implementation &s = *implementation;
  s.model = &model;
  int64_t advertised = std::max<int64_t>(model.description.contextLength, 1);
  if (options.context < 0 || options.prefillChunk < 1)
    return unusable("context cannot be used", model.path,
                    "context and prefill chunk must be positive");
  s.context = options.context > 0 ? options.context : std::min(advertised, defaultContext);
  if (s.context > advertised)
    return unusable("context does not fit the model", model.path,
                    fmt::format("{} positions were asked for, the model was made for {}", s.context,
                                advertised),
                    "ask for fewer tokens, or for a smaller --context where there is one");
  s.options = std::move(options);
  KF_CHECK(checkCacheType(model, s.options.cacheType));
  KF_TRY(s.session, Session::create(s.options.session));
  KF_CHECK(s.planMemory());
  KF_CHECK(s.compile());
  auto start = std::chrono::steady_clock::now();
  KF_CHECK(s.bindBuffers());
  KF_CHECK(s.bindWeights());
  s.loadSeconds = secondsSince(start);
  return std::unique_ptr<Decoder>(new Decoder(std::move(implementation)));
}

std::optional<uint64_t> Decoder::Implementation::cacheBytes(const LayerDescription &layer) const {
  const CacheSlot slot{options.cacheType, layer.attention.kvHeads, layer.attention.headDim};
  return slot.checkedBytes(static_cast<uint64_t>(context));
}

/// Everything is counted before anything is allocated.
Status Decoder::Implementation::planMemory() {
  const ModelDescription &d = description();
  std::optional<uint64_t> kv = 0;
  int64_t widest = 0;
  for (const LayerDescription &layer : d.layers) {
    const auto bytes = cacheBytes(layer);
    const auto both = bytes ? checkedMul(*bytes, uint64_t(2)) : std::nullopt;
    kv = kv && both ? checkedAdd(*kv, *both) : std::nullopt;
    widest = std::max(
        {widest, layer.mlp.width, layer.attention.queryDim() + 2 * layer.attention.kvDim()});
  }
  auto logitBytes = checkedProduct(
      {static_cast<uint64_t>(maxOutputs()), static_cast<uint64_t>(d.vocabSize), sizeof(float)});
  uint64_t weights = 0, largest = 0;
  for (const Weight &weight : model->weights) {
    weights += weight.bytes.size();
    largest = std::max<uint64_t>(largest, weight.bytes.size());
  }
  // Rows of the widest intermediates, twice: an estimate that only guards against the absurd.
  auto arena = checkedProduct({static_cast<uint64_t>(chunk()),
                               static_cast<uint64_t>(widest + 4 * d.modelDim), 2 * sizeof(float)});
  auto total = kv && logitBytes && arena ? checkedAdd(*kv, *logitBytes) : std::nullopt;
  total = total ? checkedAdd(*total, *arena) : total;
  // A device with memory of its own has a weight twice while it is brought into a layout.
  if (!session->device().info().sharesHostMemory)
    weights += largest;
  total = total ? checkedAdd(*total, weights) : total;
  KF_TRY(const FreeMemory free, freeMemory(session->device()));
  if (!total || *total > static_cast<uint64_t>(free.bytes))
    return unusable(
        "model does not fit in memory", model->path,
        fmt::format("it needs {} bytes: {} for packed weights, {} for a key/value cache of {} "
                    "positions and {} for rows and logits; {}",
                    total.value_or(UINT64_MAX), weights, kv.value_or(UINT64_MAX), context,
                    arena.value_or(0) + logitBytes.value_or(0), free.text),
        "ask for a smaller --context, or take a model of smaller weights");
  memory.mappedBytes = static_cast<int64_t>(model->mappedBytes());
  memory.kvCacheBytes = static_cast<int64_t>(*kv);
  return {};
}

Status kernelforge::checkCacheType(const ModelFile &model, ElementType type) {
  const bool isKnown = type == ElementType::F32 || type == ElementType::F16 ||
                       type == ElementType::BF16 || type == ElementType::Q8_0;
  if (!isKnown)
    return unusable("cache cannot be made", model.path,
                    fmt::format("keys and values are not kept in {}", info(type).name),
                    "choose f32, f16, bf16 or q8_0");
  const auto &layers = model.description.layers;
  for (size_t i = 0; i < layers.size(); ++i)
    if (const int64_t dim = layers[i].attention.headDim; dim % info(type).blockElements != 0)
      return unusable("cache type does not fit the model", model.path,
                      fmt::format("heads of layer {} have {} dimensions, which are no whole number "
                                  "of {}'s blocks of {}",
                                  i, dim, info(type).name, info(type).blockElements),
                      "keep keys and values in f32, f16 or bf16");
  return {};
}

Expected<mlir::OwningOpRef<mlir::ModuleOp>>
kernelforge::buildDecoderModule(mlir::MLIRContext *context, const ModelFile &model, int64_t chunk,
                                int64_t outputs, ElementType cacheType,
                                const ChosenNumerics &numerics, bool step) {
  std::vector<FunctionRange> ranges;
  if (chunk > 1)
    ranges.push_back({"prefill", 2, chunk, outputs, 1});
  ranges.push_back({"decode", 1, 1, 1, 1});
  if (step)
    ranges.push_back({.name = stepFunction, .step = true});
  auto weightType = [&](llvm::StringRef name) {
    const Weight *weight = model.weights.find(std::string_view(name.data(), name.size()));
    return weight ? weight->type : ElementType::F32;
  };
  mlir::OwningOpRef<mlir::ModuleOp> module =
      buildDecoder(context, model.description, ranges, weightType, {.type = cacheType});
  KF_CHECK(setNumerics(*module, numerics));
  return module;
}

Status Decoder::Implementation::compile() {
  const bool step = options.deviceSteps && !session->device().info().sharesHostMemory;
  KF_TRY(auto module, buildDecoderModule(&session->context(), *model, chunk(), maxOutputs(),
                                         options.cacheType, options.numerics, step));
  numerics = numericsOf(*module);
  return session->compile(std::move(module));
}

Status Decoder::Implementation::bindCaches() {
  const ModelDescription &d = description();
  for (size_t layer = 0; layer < d.layers.size(); ++layer)
    for (const char *kind : {"k", "v"}) {
      const auto bytes = static_cast<int64_t>(*cacheBytes(d.layers[layer]));
      KF_TRY(const BufferRef cache, session->device().allocate(bytes, MemoryUse::Cache));
      session->bind(fmt::format("cache.{}.{}", layer, kind), cache);
    }
  return {};
}

/// The device has them for good: what is bound of the host's memory is copied at each run.
Status Decoder::Implementation::bindRopes() {
  for (size_t i = 0; i < ropes.size(); ++i) {
    KF_TRY(const BufferRef rope, session->device().import(std::as_bytes(std::span(ropes[i])),
                                                          MemoryUse::Weights, nullptr));
    session->bind(ropeInputName(i), rope);
  }
  return {};
}

Status Decoder::Implementation::bindBuffers() {
  const ModelDescription &d = description();
  KF_CHECK(bindCaches());
  uint64_t ropeBytes = 0;
  for (size_t i = 0; i < d.ropes.size(); ++i) {
    ropes.push_back(makeRopeTable(d.ropes[i], context));
    ropeBytes += ropes[i].size() * sizeof(float);
  }
  KF_CHECK(bindRopes());
  KF_TRY(logits,
         PageMemory::allocate(static_cast<uint64_t>(maxOutputs() * d.vocabSize) * sizeof(float)));
  rows.resize(chunk());
  for (auto [name, column] : {std::pair("ids", &rows.ids),
                              {"positions", &rows.positions},
                              {"slots", &rows.slots},
                              {"sequences", &rows.sequences},
                              {"table", &rows.table},
                              {"lengths", &rows.lengths},
                              {"outputs", &rows.outputs}})
    KF_CHECK(session->bind(name, std::as_writable_bytes(std::span(*column))));
  memory.scratchBytes =
      static_cast<int64_t>(logits.size() + ropeBytes + 5 * rows.ids.size() * sizeof(int32_t));
  return {};
}

/// Vectors are read as f32 whatever the file holds; matrices stay as they are.
Status Decoder::Implementation::bindWeights() {
  int64_t done = 0, all = 0;
  for (const Weight &weight : model->weights)
    all += static_cast<int64_t>(weight.bytes.size());
  auto tell = [&](int64_t done) {
    if (options.onWeights)
      options.onWeights(done, all);
  };
  for (const Weight &weight : model->weights) {
    tell(done);
    done += static_cast<int64_t>(weight.bytes.size());
    if (weight.shape.size() != 1 || weight.type == ElementType::F32) {
      KF_CHECK(session->bindWeight(weight.name, weight.type, weight.bytes));
      continue;
    }
    KF_TRY(PageMemory copy, PageMemory::allocate(weight.shape[0] * sizeof(float)));
    dequantizeRow(weight.type, weight.bytes.data(), weight.shape[0],
                  reinterpret_cast<float *>(copy.data()));
    KF_CHECK(session->bindWeight(weight.name, ElementType::F32, copy.span()));
    floats.push_back(std::move(copy));
  }
  tell(all);
  options.onWeights = {}; // what it refers to is the caller's
  // A step of decoding reads every matrix once; a table gives one row, unless it is the head.
  for (const WeightSlot &slot : weightSlots(description()))
    if (slot.kind != WeightKind::Table || (slot.part == "token_embd" && description().tiedHead))
      weightBytesPerToken += static_cast<int64_t>(model->weights.find(slot.name)->bytes.size());
  return {};
}

Status Decoder::Implementation::checkTokens(std::span<const int32_t> tokens) const {
  if (tokens.empty())
    return unusable("tokens cannot be appended", model->path, "there are none");
  if (static_cast<int64_t>(tokens.size()) > context - length)
    return unusable("tokens do not fit in the context", model->path,
                    fmt::format("{} more on top of {} exceed the context of {}", tokens.size(),
                                length, context),
                    "shorten the text or ask for a larger --context");
  for (size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] < 0 || tokens[i] >= description().vocabSize)
      return unusable("token is not in the vocabulary", model->path,
                      fmt::format("token {} is {}, the vocabulary has {}", i, tokens[i],
                                  description().vocabSize));
  return {};
}

/// One run of prefill or decode over `tokens`; the logits of the last row, or of every row.
Status Decoder::Implementation::runRows(std::span<const int32_t> tokens, bool everyLogit,
                                        const std::atomic<bool> *cancel) {
  auto count = static_cast<int64_t>(tokens.size());
  for (int64_t i = 0; i < count; ++i) {
    rows.ids[i] = tokens[i];
    rows.positions[i] = rows.slots[i] = static_cast<int32_t>(length + i);
    rows.outputs[i] = static_cast<int32_t>(i);
  }
  int64_t outputs = everyLogit ? count : 1;
  if (!everyLogit)
    rows.outputs[0] = static_cast<int32_t>(count - 1);
  rows.lengths[0] = static_cast<int32_t>(length + count);
  std::vector<int64_t> sizes = sizesOf(count, outputs, length + count);
  const char *function = count == 1 ? "decode" : "prefill";
  const std::span<std::byte> result = logits.span();
  std::vector<int64_t> nanoseconds;
  RunOptions run;
  run.cancel = cancel;
  run.launchNanoseconds = timed ? &nanoseconds : nullptr;
  KF_CHECK(session->run(function, sizes, {&result, 1}, run));
  if (const Program *program = timed ? session->program(function) : nullptr) {
    sizes.back() = length + count;
    timer.add(*program, sizes, nanoseconds);
  }
  history.resize(static_cast<size_t>(length));
  history.insert(history.end(), tokens.begin(), tokens.end());
  length += count;
  return {};
}

/// The sizes of a function for rows of one sequence that is `longest` positions long then.
std::vector<int64_t> Decoder::Implementation::sizesOf(int64_t tokens,
                                                      std::optional<int64_t> outputs,
                                                      int64_t longest) const {
  std::vector<int64_t> sizes{tokens};
  if (outputs)
    sizes.push_back(*outputs);
  sizes.push_back(1);
  if (!description().ropes.empty())
    sizes.push_back(context);
  sizes.push_back(cachedBucket(longest, context));
  return sizes;
}

/// After the device was lost: everything is loaded again, and what was in the caches computed.
Status Decoder::Implementation::reload(const Error &lost, const std::atomic<bool> *cancel) {
  logger().warn("{}; the model is loaded again, and {} tokens are computed again", lost.line(),
                length);
  steps.reset();
  KF_CHECK(session->reopen());
  KF_CHECK(bindCaches());
  KF_CHECK(bindRopes());
  const std::vector<int32_t> tokens(history.begin(), history.begin() + length);
  length = 0;
  for (size_t done = 0; done < tokens.size();) {
    const size_t count = std::min(tokens.size() - done, static_cast<size_t>(chunk()));
    KF_CHECK(runRows(std::span(tokens).subspan(done, count), false, cancel));
    done += count;
  }
  return {};
}

/// The same as runRows(), on another device where this one is lost meanwhile. Once: a device that
/// is lost at once again is an error.
Status Decoder::Implementation::run(std::span<const int32_t> tokens, bool everyLogit,
                                    const std::atomic<bool> *cancel) {
  Status status = runRows(tokens, everyLogit, cancel);
  if (status || status.error().kind != ErrorKind::Lost)
    return status;
  KF_CHECK(reload(status.error(), cancel));
  return runRows(tokens, everyLogit, cancel);
}

Expected<std::span<const float>> Decoder::append(std::span<const int32_t> tokens,
                                                 const std::atomic<bool> *cancel,
                                                 const std::function<void(int64_t)> &progress) {
  Implementation &s = *implementation;
  KF_CHECK(s.checkTokens(tokens));
  for (size_t done = 0; done < tokens.size();) {
    size_t count = std::min(tokens.size() - done, static_cast<size_t>(s.chunk()));
    KF_CHECK(s.run(tokens.subspan(done, count), false, cancel));
    done += count;
    if (progress)
      progress(static_cast<int64_t>(done));
  }
  return std::span(reinterpret_cast<const float *>(s.logits.data()),
                   static_cast<size_t>(s.description().vocabSize));
}

bool Decoder::hasDeviceSteps() const {
  return implementation->session->program(stepFunction) && !implementation->timed;
}

/// Steps begin where the sequence ends.
Status Decoder::Implementation::startSteps() {
  if (!steps) {
    KF_TRY(steps, DeviceSteps::create(*session, stepFunction, description().vocabSize));
  }
  return steps->begin(stepping.token, length, context, stepping.rules);
}

Status Decoder::beginSteps(int32_t token, const TokenRules &rules, int64_t most) {
  Implementation &s = *implementation;
  KF_CHECK(s.checkTokens({&token, 1}));
  s.stepping = {rules, token, std::min(most, s.context - s.length), 0};
  s.history.resize(static_cast<size_t>(s.length));
  Status status = s.startSteps();
  if (!status && status.error().kind == ErrorKind::Lost)
    return {}; // the next step finds it
  return status;
}

/// The token of the next step, while one more is under way.
Expected<int32_t> Decoder::Implementation::takeToken(const std::atomic<bool> *cancel) {
  if (!steps)
    KF_CHECK(startSteps());
  while (steps->underWay() < std::min<int64_t>(2, stepping.left))
    KF_CHECK(steps->submit(sizesOf(1, std::nullopt, length + steps->underWay() + 1), cancel));
  KF_TRY(const int32_t id, steps->take());
  history.push_back(stepping.token);
  ++length;
  stepping.token = id;
  --stepping.left;
  ++stepping.taken;
  return id;
}

Expected<int32_t> Decoder::nextToken(const std::atomic<bool> *cancel) {
  Implementation &s = *implementation;
  if (s.stepping.left <= 0)
    return unusable("step cannot be run", s.model->path, "all that were asked for are over");
  Expected<int32_t> id = s.takeToken(cancel);
  if (id || id.error().kind != ErrorKind::Lost)
    return id;
  KF_CHECK(s.reload(id.error(), cancel));
  return s.takeToken(cancel);
}

Expected<std::span<const float>> Decoder::endSteps() {
  Implementation &s = *implementation;
  const bool isAny = s.steps && s.stepping.taken > 0;
  s.stepping.left = s.stepping.taken = 0;
  if (!isAny)
    return unusable("there are no logits", s.model->path, "no step has chosen a token");
  const std::span<float> row(reinterpret_cast<float *>(s.logits.data()),
                             static_cast<size_t>(s.description().vocabSize));
  Status status = s.steps->logits(row);
  // Computing all tokens again ends with these logits.
  if (!status && status.error().kind == ErrorKind::Lost)
    status = s.reload(status.error(), nullptr);
  KF_CHECK(status);
  return std::span<const float>(row);
}

Status Decoder::score(std::span<const int32_t> tokens,
                      const std::function<void(int64_t, std::span<const float>)> &visit,
                      const std::atomic<bool> *cancel) {
  Implementation &s = *implementation;
  if (!s.options.allLogits)
    return unusable("logits were not asked for", s.model->path,
                    "the decoder was made without allLogits");
  KF_CHECK(s.checkTokens(tokens));
  auto vocabulary = static_cast<size_t>(s.description().vocabSize);
  for (size_t done = 0; done < tokens.size();) {
    size_t count = std::min(tokens.size() - done, static_cast<size_t>(s.chunk()));
    KF_CHECK(s.run(tokens.subspan(done, count), true, cancel));
    const float *first = reinterpret_cast<const float *>(s.logits.data());
    for (size_t i = 0; i < count; ++i)
      visit(static_cast<int64_t>(done + i), std::span(first + i * vocabulary, vocabulary));
    done += count;
  }
  return {};
}
