// Schedules of attention for few rows: what is legal, and what is taken without measuring.
#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/codegen/simt/AttentionSplit.h"
#include "kernelforge/codegen/simt/CacheVectors.h"
#include "kernelforge/codegen/simt/Methods.h"
#include "kernelforge/codegen/simt/Reduce.h"

#include "llvm/Support/MathExtras.h"

#include <algorithm>
#include <fmt/format.h>
#include <limits>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;
using namespace kernelforge::simt::split;

/// The largest power of two that divides `x`, at most `most`.
static int64_t powerOfTwoIn(int64_t x, int64_t most) { return std::min(x & -x, most); }

int64_t Shape::sharedBytes() const {
  // Also the range of keys, and what threads combine: highest scores and sums of each head.
  return poolFloats() * 4 + 8 + 2 * reduceBytes(knobs.heads, knobs.threads, facts.subgroup);
}

Shape split::shapeOf(const AttentionFacts &facts, const Knobs &knobs, int64_t pieceOfKey,
                     int64_t pieceOfValue) {
  Shape shape;
  shape.facts = facts;
  shape.facts.subgroup = std::min(facts.subgroup, knobs.threads);
  shape.knobs = knobs;
  shape.pieceOfKey = pieceOfKey;
  shape.pieceOfValue = pieceOfValue;
  constexpr int64_t mostAtOnce = 256, mostLanes = 32;
  shape.block = knobs.chunk > 0 ? knobs.chunk : mostAtOnce;
  const int64_t keyPieces = facts.keyDim / pieceOfKey, valuePieces = facts.valueDim / pieceOfValue;
  // Lanes that share a key exchange what they have; those that share a value need not.
  shape.keyLanes = powerOfTwoIn(keyPieces, std::clamp<int64_t>(facts.subgroup, 1, mostLanes));
  shape.keyPieces = keyPieces / shape.keyLanes;
  shape.keysAtOnce = knobs.threads / shape.keyLanes;
  shape.valueLanes = powerOfTwoIn(valuePieces, std::min(knobs.threads, mostLanes));
  shape.valuePieces = valuePieces / shape.valueLanes;
  shape.valuesAtOnce = knobs.threads / shape.valueLanes;
  shape.parts = knobs.threads / std::max(shape.valueLanes, shape.facts.subgroup);
  return shape;
}

namespace {

constexpr int64_t mostThreads = 512, mostUnroll = 16, mostChunk = 4096;
/// Vectors of four that a thread can keep of the query, or of outputs, and have on their way.
constexpr int64_t mostQuads = 24;
/// The same of both together where registers are counted: of 128, 40 vectors did not find place.
constexpr int64_t mostQuadsTogether = 36;

struct Problem {
  AttentionFacts facts;
  int64_t pieceOfKey, pieceOfValue;
  bool countsRegisters;

  Shape shape(const Knobs &knobs) const { return shapeOf(facts, knobs, pieceOfKey, pieceOfValue); }
};

Problem problemOf(const KernelAnalysis &kernel, const Target &target) {
  AttentionOp op = kernel.attention();
  return {attentionFacts(kernel, target), CacheVectors::pieceOf(op.getKeys().getType()),
          CacheVectors::pieceOf(op.getValues().getType()), target.limits.registers > 0};
}

/// Bytes of all partial results, at most.
double workspaceBytes(const Shape &shape) {
  const auto &facts = shape.facts;
  const int64_t chunks = (facts.keys + shape.knobs.chunk - 1) / shape.knobs.chunk;
  return double(facts.rows) * double(facts.heads * chunks * shape.partialQuads() * 16);
}

Expected<Knobs> readKnobs(const Problem &problem, const KnobValues &values) {
  const AttentionFacts &facts = problem.facts;
  KnobReader read(facts.name, values);
  KF_CHECK(read.checkNames({"chunk", "threads", "unroll", "heads"}));
  Knobs knobs;
  KF_TRY(knobs.chunk, read.get("chunk", {0, facts.cachedSize < 0 ? 0 : mostChunk}));
  KF_TRY(knobs.threads, read.get("threads", {32, std::min(facts.threads, mostThreads), 32}));
  KF_TRY(knobs.unroll, read.get("unroll", {1, mostUnroll}));
  KF_TRY(knobs.heads, read.get("heads", {1, facts.group()}));
  auto refuse = [&](std::string why, std::string hint) {
    return unusable("schedule is not legal", facts.name, std::move(why), std::move(hint));
  };
  if (facts.group() % knobs.heads != 0)
    return refuse(fmt::format("heads is {}, and {} query heads share one of the caches",
                              knobs.heads, facts.group()),
                  "use a divisor of these");
  if (!llvm::isPowerOf2_64(uint64_t(knobs.threads)))
    return refuse(fmt::format("threads is {}", knobs.threads), "use a power of two");
  const Shape shape = problem.shape(knobs);
  for (const int64_t atOnce : {shape.keysAtOnce, shape.valuesAtOnce})
    if (shape.block % (atOnce * knobs.unroll) != 0)
      return refuse(fmt::format("{} keys are read at once {} times, and there are {} to a block",
                                atOnce, knobs.unroll, shape.block),
                    "use a chunk that is a multiple of both, or a smaller unroll");
  if (shape.sharedBytes() > facts.sharedBytes)
    return refuse(fmt::format("it takes {} bytes of workgroup memory, and there are {}",
                              shape.sharedBytes(), facts.sharedBytes),
                  "use fewer heads, threads or keys to a chunk");
  if (knobs.chunk > 0 && facts.bindingBytes > 0 &&
      workspaceBytes(shape) > double(facts.bindingBytes))
    return refuse(fmt::format("partial results take {:.0f} bytes, and a buffer has at most {}",
                              workspaceBytes(shape), facts.bindingBytes),
                  "use larger chunks");
  return knobs;
}

KnobValues valuesOf(const Knobs &knobs) {
  return {{"chunk", knobs.chunk},
          {"threads", knobs.threads},
          {"unroll", knobs.unroll},
          {"heads", knobs.heads}};
}

bool isLegal(const Problem &problem, const Knobs &knobs) {
  return readKnobs(problem, valuesOf(knobs)).has_value();
}

/// As many keys on their way as a thread has registers for, and the block divides into.
int64_t unrollFor(const Problem &problem, Knobs knobs) {
  constexpr int64_t mostOnTheWay = 16; // loads of a thread
  constexpr int64_t mostKeys = 256;    // of a step
  for (knobs.unroll = mostOnTheWay; knobs.unroll > 1; knobs.unroll /= 2) {
    const Shape shape = problem.shape(knobs);
    const int64_t loads = knobs.unroll * std::max(shape.keyPieces, shape.valuePieces);
    const int64_t keys = knobs.unroll * std::max(shape.keysAtOnce, shape.valuesAtOnce);
    if (loads <= mostOnTheWay && keys <= mostKeys && isLegal(problem, knobs))
      break;
  }
  return knobs.unroll;
}

/// About two workgroups for each multiprocessor of a large device, and no chunk so small that
/// joining takes longer than reading: up to the least one there is one phase. Where heads share
/// keys, there is more to join for as many.
int64_t usualChunk(const AttentionFacts &facts) {
  constexpr int64_t wanted = 256, least = 256;
  const int64_t most = facts.group() > 1 && facts.rows == 1 ? 1024 : 512;
  if (facts.cachedSize < 0 || facts.keys <= least)
    return 0;
  const int64_t all = facts.keys * facts.kvHeads * facts.rows / wanted;
  return std::clamp(int64_t(llvm::bit_floor(uint64_t(std::max<int64_t>(all, 1)))), least, most);
}

/// The usual schedule with chunks of so many keys, as far as `given` leaves it open.
Knobs knobsFor(const Problem &problem, const KnobValues &given, int64_t chunk) {
  const AttentionFacts &facts = problem.facts;
  auto take = [&](const char *name, int64_t usual) {
    auto known = given.find(name);
    return known == given.end() ? usual : known->second;
  };
  Knobs knobs;
  knobs.chunk = chunk;
  const int64_t usualThreads = knobs.chunk == 0 || knobs.chunk > 128 ? 256 : 128;
  knobs.threads = take("threads", std::min(usualThreads, facts.threads));
  knobs.heads = take("heads", facts.group());
  knobs.unroll = take("unroll", 1);
  auto fits = [&] {
    const Shape shape = problem.shape(knobs);
    return shape.queryQuads() <= mostQuads && shape.outputQuads() <= mostQuads &&
           (!problem.countsRegisters ||
            shape.queryQuads() + shape.outputQuads() <= mostQuadsTogether) &&
           isLegal(problem, knobs);
  };
  // Fewer heads read keys more often, and are more workgroups where these are few; fewer threads
  // leave less in memory in the end.
  constexpr int64_t multiprocessors = 132;
  const int64_t chunks = chunk > 0 ? (facts.keys + chunk - 1) / chunk : 1;
  auto areEnough = [&] {
    return knobs.heads == 1 || facts.rows * chunks * facts.heads / knobs.heads >= multiprocessors;
  };
  if (!given.contains("heads"))
    for (int64_t heads = facts.group(); heads >= 1; --heads)
      if (facts.group() % heads == 0) {
        knobs.heads = heads;
        if (!areEnough())
          continue;
        const int64_t before = knobs.threads;
        while (!given.contains("threads") && knobs.threads > 64 && !fits())
          knobs.threads /= 2;
        if (fits())
          break;
        knobs.threads = before;
      }
  while (!given.contains("threads") && knobs.threads > 32 && !isLegal(problem, knobs))
    knobs.threads /= 2;
  return knobs;
}

Knobs usualKnobs(const Problem &problem, const KnobValues &given) {
  auto known = given.find("chunk");
  const int64_t usual = usualChunk(problem.facts);
  Knobs knobs = knobsFor(problem, given, known == given.end() ? usual : known->second);
  // Many rows have more partial results than a buffer holds, and workgroups enough without them.
  if (known == given.end() && usual > 0 && !isLegal(problem, knobs))
    knobs = knobsFor(problem, given, 0);
  if (!given.contains("unroll"))
    knobs.unroll = unrollFor(problem, knobs);
  return knobs;
}

/// Seconds on a large GPU.
double predict(const Problem &problem, const Knobs &knobs) {
  const AttentionFacts &facts = problem.facts;
  const Shape shape = problem.shape(knobs);
  const double rows = double(facts.rows), keys = double(facts.likelyKeys());
  const double bytes = rows * keys * double(shape.groups() * (facts.keyBytes + facts.valueBytes));
  const double flops = 2 * rows * keys * double(facts.heads * (facts.keyDim + facts.valueDim));
  constexpr double rate = 15e12, ofMultiprocessor = 60e9, most = 132;
  // Many rows of a prompt read the same keys, mostly from a cache, and half of them.
  constexpr int64_t fewRows = 16;
  const double bandwidth = facts.rowsOfSequence() > fewRows ? 10e12 : 3.3e12;
  // Where there are few workgroups, each has what one multiprocessor can read.
  const double chunks = knobs.chunk > 0 ? std::ceil(keys / double(knobs.chunk)) : 1;
  const double workgroups = rows * double(shape.groups()) * chunks;
  const double reach = std::min(bandwidth, ofMultiprocessor * std::min(workgroups, most));
  const double joining = chunks > 1 ? AttentionFacts::dispatch + chunks * 1e-8 : 0;
  // A loop over blocks waits for memory in each.
  const double waits = 1e-6 * std::ceil(keys / double(shape.block) / chunks);
  return AttentionFacts::dispatch + joining + waits + std::max(bytes / reach, flops / rate);
}

class Split final : public Method {
public:
  std::string_view name() const override { return "split"; }

  Status supports(const KernelAnalysis &kernel, const Target &target) const override {
    KF_CHECK(checkAttention(kernel, target, /*workspaces=*/0));
    const Problem problem = problemOf(kernel, target);
    return readKnobs(problem, valuesOf(usualKnobs(problem, {}))).transform([](const Knobs &) {});
  }

  ScheduleSpace space(const KernelAnalysis &kernel, const Target &target) const override {
    const Problem problem = problemOf(kernel, target);
    ScheduleSpace space;
    std::vector<int64_t> heads;
    for (int64_t count = 1; count <= problem.facts.group(); ++count)
      if (problem.facts.group() % count == 0)
        heads.push_back(count);
    std::vector<int64_t> chunks = {0};
    if (problem.facts.cachedSize >= 0)
      chunks = {0, 64, 128, 256, 512, 1024};
    space.knobs = {{"chunk", chunks, "keys of a workgroup; 0: all, in one phase"},
                   {"threads", {64, 128, 256}, "threads of a workgroup"},
                   {"unroll", {1, 2, 4, 8}, "keys that a thread reads before it needs any"},
                   {"heads", heads, "query heads of a workgroup"}};
    space.analytic = valuesOf(usualKnobs(problem, {}));
    space.complete = [problem](const KnobValues &values) {
      KnobValues all = values;
      all.merge(valuesOf(usualKnobs(problem, values)));
      return all;
    };
    space.check = [problem](const KnobValues &values) -> Status {
      return readKnobs(problem, values).transform([](const Knobs &) {});
    };
    space.predict = [problem](const KnobValues &values) {
      auto knobs = readKnobs(problem, values);
      return knobs ? ::predict(problem, *knobs) : std::numeric_limits<double>::infinity();
    };
    space.orderClass = [](const KnobValues &values) { return knobsText(values); };
    return space;
  }

  Expected<Launching> emit(ModuleOp module, const KernelAnalysis &kernel, const Target &target,
                           StringRef entry, const KnobValues &schedule) const override {
    const Problem problem = problemOf(kernel, target);
    KF_TRY(const Knobs knobs, readKnobs(problem, schedule));
    return split::emit(module, kernel, problem.shape(knobs), entry);
  }

  std::vector<std::string> describe(const KernelAnalysis &kernel,
                                    const KnobValues &schedule) const override {
    const int64_t chunk = schedule.at("chunk");
    return {simt::describe(kernel).front(),
            fmt::format("{} a workgroup of {} threads, {} query heads together",
                        chunk > 0 ? fmt::format("{} keys", chunk) : "all keys",
                        schedule.at("threads"), schedule.at("heads"))};
  }
};

} // namespace

const Method &simt::attentionSplit() {
  static const Split method;
  return method;
}
