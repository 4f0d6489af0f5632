// Schedules of attention for few rows by a warp's matrix units: what is legal, and what is taken
// without measuring.
#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/codegen/cuda/AttentionGroups.h"
#include "kernelforge/codegen/cuda/Methods.h"
#include "kernelforge/codegen/simt/AttentionSplit.h"
#include "kernelforge/codegen/simt/CacheVectors.h"
#include "kernelforge/codegen/simt/Reduce.h"
#include "kernelforge/ir/Caches.h"

#include "llvm/Support/MathExtras.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <limits>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;
using namespace kernelforge::cuda;
using namespace kernelforge::cuda::groups;

int64_t GroupsShape::heads() const {
  for (int64_t count = std::min(mostHeads, facts.group()); count > 1; --count)
    if (facts.group() % count == 0)
      return count;
  return 1;
}

int64_t GroupsShape::registers() const {
  constexpr int64_t ofMultiprocessor = 65536, most = 255, unit = 8;
  return std::min(most, ofMultiprocessor / (threads() * knobs.resident) / unit * unit);
}

int64_t GroupsShape::sharedBytes() const {
  const int64_t ofWarps = knobs.warps * WarpMatrices::columns * 4;
  return keys.parts * facts.keyDim * 16 + 2 * ofWarps + knobs.warps * heads() * facts.valueDim * 4 +
         reduceBytes(1, threads(), WarpMatrices::threads);
}

namespace {

constexpr int64_t multiprocessors = 132, mostChunk = 65536, mostWarps = 16, mostKeys = 64;

/// What the numbers of a cache are multiplied as; nothing where matrix units cannot take them.
/// Quants are multiplied as they are: keys with a query that f16 has after it was scaled, values
/// with weights times scales, which may be of any size.
std::optional<Factors> factorsOf(AttentionOp op, bool areValues) {
  const CacheType cache = areValues ? op.getValues().getType() : op.getKeys().getType();
  const CacheSlot slot = slotOf(cache);
  const ElementType factor = factorType(op);
  constexpr int64_t ofBf16 = 3, ofF16 = 2;
  if (slot.isQuantized()) {
    constexpr int64_t unit = 64, vector = 16;
    const bool isWhole = slot.dim % unit == 0 && llvm::isPowerOf2_64(uint64_t(slot.dim)) &&
                         slot.bytes() % vector == 0;
    if (slot.type != ElementType::Q8_0 || factor != ElementType::F32 || !isWhole)
      return std::nullopt;
    return areValues ? Factors{ElementType::BF16, ofBf16} : Factors{ElementType::F16, ofF16};
  }
  if (!isHalf(slot.type) || (factor != ElementType::F32 && factor != slot.type))
    return std::nullopt;
  const int64_t all = slot.type == ElementType::BF16 ? ofBf16 : ofF16;
  return Factors{slot.type, factor == slot.type ? 1 : all};
}

GroupsShape groupsBaseOf(const KernelAnalysis &kernel, const Target &target) {
  AttentionOp op = kernel.attention();
  GroupsShape shape;
  shape.facts = attentionFacts(kernel, target);
  shape.keys = *factorsOf(op, /*areValues=*/false);
  shape.values = *factorsOf(op, /*areValues=*/true);
  shape.isPaged = op.getKeys().getType().getPage() > 0;
  return shape;
}

/// Registers that a thread needs: what is under way and summed up, and as many as were seen beside
/// that, more of them where slots are on their way, too.
int64_t registersNeeded(const GroupsShape &shape) {
  constexpr int64_t besides = 64, ofSlots = 8;
  return shape.wordsUnderWay() + shape.outputs() + besides + (shape.isPaged ? ofSlots : 0);
}

Expected<GroupsShape> readShape(const GroupsShape &base, const KnobValues &values) {
  const AttentionFacts &facts = base.facts;
  KnobReader read(facts.name, values);
  KF_CHECK(read.checkNames({"chunk", "warps", "keys", "resident"}));
  GroupsShape shape = base;
  Knobs &knobs = shape.knobs;
  KF_TRY(knobs.chunk, read.get("chunk", {0, facts.cachedSize < 0 ? 0 : mostChunk}));
  KF_TRY(knobs.warps, read.get("warps", {1, std::min(mostWarps, facts.threads / 32)}));
  KF_TRY(knobs.keys, read.get("keys", {16, mostKeys, 16}));
  KF_TRY(knobs.resident, read.get("resident", {1, 16}));
  auto refuse = [&](std::string why, std::string hint) {
    return unusable("schedule is not legal", facts.name, std::move(why), std::move(hint));
  };
  if (!llvm::isPowerOf2_64(uint64_t(knobs.warps)))
    return refuse(fmt::format("warps is {}", knobs.warps), "use a power of two");
  if (knobs.chunk % knobs.keys != 0)
    return refuse(
        fmt::format("chunks of {} keys are no whole steps of {}", knobs.chunk, knobs.keys),
        "use a multiple");
  if (shape.registers() < registersNeeded(shape))
    return refuse(fmt::format("a thread needs about {} registers and has {}",
                              registersNeeded(shape), shape.registers()),
                  "use fewer warps, resident blocks or keys of a step");
  if (shape.sharedBytes() > facts.sharedBytes)
    return refuse(fmt::format("it takes {} bytes of workgroup memory, and there are {}",
                              shape.sharedBytes(), facts.sharedBytes),
                  "use fewer warps");
  return shape;
}

KnobValues valuesOf(const Knobs &knobs) {
  return {{"chunk", knobs.chunk},
          {"warps", knobs.warps},
          {"keys", knobs.keys},
          {"resident", knobs.resident}};
}

/// No chunk is so small that joining takes longer than reading.
constexpr int64_t leastChunk = 256;

/// As many blocks as multiprocessors hold at once: fewer are not shared out evenly, as some
/// multiprocessors take as many as they can.
int64_t usualChunk(const GroupsShape &shape) {
  const AttentionFacts &facts = shape.facts;
  if (facts.cachedSize < 0 || facts.keys <= leastChunk)
    return 0;
  const int64_t wanted =
      std::max<int64_t>(shape.knobs.resident * multiprocessors / (facts.rows * shape.blocks()), 1);
  const int64_t round = shape.knobs.warps * shape.knobs.keys; // of all warps
  return std::clamp(int64_t(llvm::alignTo(llvm::divideCeil(facts.keys, wanted), round)), leastChunk,
                    mostChunk);
}

GroupsShape usualShape(const GroupsShape &base, const KnobValues &given) {
  GroupsShape shape = base;
  auto take = [&](const char *name, int64_t usual) {
    auto known = given.find(name);
    return known == given.end() ? usual : known->second;
  };
  Knobs &knobs = shape.knobs;
  // Few keys are gone through by more warps: then what counts is how long one takes.
  const AttentionFacts &facts = base.facts;
  const int64_t leastBlocks =
      facts.rows * base.blocks() * int64_t(llvm::divideCeil(facts.keys, leastChunk));
  knobs.warps = take("warps", leastBlocks <= multiprocessors ? 8 : 4);
  knobs.keys = take("keys", 16);
  if (!given.contains("warps") && shape.sharedBytes() > facts.sharedBytes)
    knobs.warps = 4;
  knobs.resident = take("resident", 4);
  while (!given.contains("resident") && knobs.resident > 1 &&
         shape.registers() < registersNeeded(shape))
    --knobs.resident;
  knobs.chunk = take("chunk", usualChunk(shape));
  return shape;
}

/// Seconds on a large GPU.
double predict(const GroupsShape &shape) {
  const AttentionFacts &facts = shape.facts;
  const double rows = double(facts.rows), keys = double(facts.likelyKeys());
  const double bytes = rows * keys * double(shape.blocks() * (facts.keyBytes + facts.valueBytes));
  // Many rows of a prompt read the same keys, mostly from a cache, and half of them.
  constexpr int64_t fewRows = 16;
  constexpr double ofMultiprocessor = 60e9, secondsOfColumn = 0.13e-12; // of a key, instructions
  const double bandwidth = facts.rowsOfSequence() > fewRows ? 5e12 : 3.8e12;
  const double chunks = shape.knobs.chunk > 0 ? std::ceil(keys / double(shape.knobs.chunk)) : 1;
  const double blocks = rows * double(shape.blocks()) * chunks;
  const double reach =
      std::min(bandwidth, ofMultiprocessor * std::min(blocks, double(multiprocessors)));
  const double joining = chunks > 1 ? AttentionFacts::dispatch + chunks * 1e-8 : 0;
  const double computing =
      blocks / chunks * keys * double(facts.keyDim + facts.valueDim) * secondsOfColumn;
  return AttentionFacts::dispatch + joining + std::max(bytes / reach, computing);
}

class Groups final : public Method {
public:
  std::string_view name() const override { return "groups"; }

  Status supports(const KernelAnalysis &kernel, const Target &target) const override {
    KF_CHECK(checkAttention(kernel, target, /*workspaces=*/0));
    AttentionOp op = kernel.attention();
    auto refuse = [&](std::string why) {
      return unusable("attention cannot be computed so", kernel.name() + ", transformer.attention",
                      std::move(why), "use another method");
    };
    if (!startsEarly(target))
      return refuse("the target is not of capability 9.0");
    const CacheSlot keys = slotOf(op.getKeys().getType()),
                    values = slotOf(op.getValues().getType());
    if (!factorsOf(op, /*areValues=*/false) || !factorsOf(op, /*areValues=*/true))
      return refuse(
          "its caches are not of numbers that matrix units multiply as the attention says");
    if (keys.dim % GroupsShape::keyUnit != 0 || values.dim % GroupsShape::valueUnit != 0)
      return refuse(fmt::format("heads of {} and {} values are no multiples of {} and {}", keys.dim,
                                values.dim, GroupsShape::keyUnit, GroupsShape::valueUnit));
    const GroupsShape base = groupsBaseOf(kernel, target);
    return readShape(base, valuesOf(usualShape(base, {}).knobs)).transform([](const GroupsShape &) {
    });
  }

  ScheduleSpace space(const KernelAnalysis &kernel, const Target &target) const override {
    const GroupsShape base = groupsBaseOf(kernel, target);
    ScheduleSpace space;
    std::vector<int64_t> chunks = {0};
    if (base.facts.cachedSize >= 0)
      chunks = {0, 128, 256, 512, 1024, 2048, 4096};
    const Knobs usual = usualShape(base, {}).knobs;
    if (!llvm::is_contained(chunks, usual.chunk))
      chunks.push_back(usual.chunk);
    space.knobs = {{"chunk", chunks, "keys of a block; 0: all, in one phase"},
                   {"warps", {2, 4, 8}, "warps of a block"},
                   {"keys", {16, 32}, "keys that a warp takes at once"},
                   {"resident", {1, 2, 3, 4}, "blocks that share a multiprocessor"}};
    space.analytic = valuesOf(usual);
    space.complete = [base](const KnobValues &values) {
      KnobValues all = values;
      all.merge(valuesOf(usualShape(base, values).knobs));
      return all;
    };
    space.check = [base](const KnobValues &values) -> Status {
      return readShape(base, values).transform([](const GroupsShape &) {});
    };
    space.predict = [base](const KnobValues &values) {
      auto shape = readShape(base, values);
      return shape ? ::predict(*shape) : std::numeric_limits<double>::infinity();
    };
    space.orderClass = [](const KnobValues &values) { return knobsText(values); };
    return space;
  }

  Expected<Launching> emit(ModuleOp module, const KernelAnalysis &kernel, const Target &target,
                           StringRef entry, const KnobValues &schedule) const override {
    KF_TRY(const GroupsShape shape, readShape(groupsBaseOf(kernel, target), schedule));
    return groups::emit(module, kernel, shape, entry);
  }

  std::vector<std::string> describe(const KernelAnalysis &kernel,
                                    const KnobValues &schedule) const override {
    const int64_t chunk = schedule.at("chunk");
    return {simt::describe(kernel).front(),
            fmt::format("{} a block of {} warps, {} at once each, by matrices of a warp",
                        chunk > 0 ? fmt::format("{} keys", chunk) : "all keys",
                        schedule.at("warps"), schedule.at("keys"))};
  }
};

} // namespace

const Method &cuda::attentionGroups() {
  static const Groups method;
  return method;
}
