// Schedules of attention by matrix units, and where it can be computed so.
#include "kernelforge/codegen/cuda/AttentionWeights.h"
#include "kernelforge/codegen/cuda/Methods.h"

#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/codegen/simt/CacheVectors.h"
#include "kernelforge/ir/Caches.h"

#include <fmt/format.h>
#include <numeric>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;
using namespace kernelforge::cuda;
using namespace kernelforge::cuda::attention;

using llvm::divideCeilSigned;

int64_t Shape::copiedKeys() const { return page == 0 ? keys : std::gcd(page, keys); }

int64_t Shape::smallBytes() const {
  return Ring::bytes(recordStages, recordBytes()) + Ring::barrierBytes + Ring::bytesOfBarriers(1) +
         2 * Ring::bytesOfBarriers(stages);
}

int64_t Shape::sharedBytes() const {
  return int64_t(llvm::alignTo(uint64_t(smallBytes()), Panel::alignment)) + queryTile().bytes() +
         stages * (keyTile().bytes() + valueTile().bytes()) + resultBytes();
}

namespace {

/// Products of 16 in depth, rows of eight that the pattern of shared memory repeats after.
constexpr int64_t unit = MatrixShape::depth, patternRows = 8;

Shape baseOf(const KernelAnalysis &kernel, const Target &target) {
  AttentionOp op = kernel.attention();
  Shape shape;
  shape.facts = attentionFacts(kernel, target);
  shape.element = factorType(op);
  shape.page = static_cast<int64_t>(op.getKeys().getType().getPage());
  shape.hasWindow = op.getWindow() != 0;
  shape.roundsQuery = elementTypeOf(op.getQuery().getType()) != shape.element;
  if (target.limits.workers > 0)
    shape.blocks = target.limits.workers;
  return shape;
}

Expected<Shape> readShape(const Shape &base, const KnobValues &values) {
  const AttentionFacts &facts = base.facts;
  const KnobReader read(facts.name, values);
  KF_CHECK(read.checkNames({"rows", "keys", "stages", "heads", "blocks"}));
  Shape shape = base;
  constexpr int64_t tileUnit = MatrixShape::rows, mostKeys = 256;
  KF_TRY(shape.rows, read.get("rows", {tileUnit, 3 * tileUnit, tileUnit}));
  KF_TRY(shape.keys, read.get("keys", {unit, mostKeys, unit}));
  KF_TRY(shape.stages, read.get("stages", {2, 8}));
  KF_TRY(shape.heads, read.get("heads", {1, facts.heads}));
  KF_TRY(shape.blocks, read.get("blocks", {1, 1 << 20}));
  auto refuse = [&](std::string why, std::string hint) {
    return unusable("schedule is not legal", facts.name, std::move(why), std::move(hint));
  };
  if (shape.copiedKeys() % patternRows != 0 || shape.keys / shape.copiedKeys() > warp)
    return refuse(fmt::format("{} keys are fetched {} at a time", shape.keys, shape.copiedKeys()),
                  "use a multiple of the page or a divisor of it");
  if (shape.sharedBytes() > facts.sharedBytes)
    return refuse(fmt::format("it takes {} bytes of shared memory, and there are {}",
                              shape.sharedBytes(), facts.sharedBytes),
                  "use fewer rows, keys or stages");
  // Scores, their weights as they are multiplied, outputs; and beside them rows, addresses and what
  // is under way.
  const bool isMany = shape.consumers() > 2, masksMuch = shape.hasWindow || facts.sequences > 1;
  const int64_t besides = !isMany ? 40 : masksMuch ? 56 : 32;
  const int64_t needed = shape.scores().sums() + shape.scores().sums() / 2 + shape.outputs().sums();
  const int64_t registers = Roles::registersOfConsumers(shape.consumers(), 1);
  if (needed + besides > registers)
    return refuse(fmt::format("a thread keeps {} numbers, and has {} registers", needed, registers),
                  "use fewer keys or rows");
  return shape;
}

KnobValues valuesOf(const Shape &shape) {
  return {{"rows", shape.rows},
          {"keys", shape.keys},
          {"stages", shape.stages},
          {"heads", shape.heads},
          {"blocks", shape.blocks}};
}

/// Heads whose keys and values fit the device's cache together: all that share a cache's head.
int64_t headsTogether(const AttentionFacts &facts) {
  constexpr int64_t cacheBytes = 16 << 20;
  const int64_t bytes = facts.likelyKeys() * (facts.keyBytes + facts.valueBytes);
  const int64_t fit = std::max<int64_t>(cacheBytes / std::max<int64_t>(bytes, 1), 1);
  return std::min(fit, facts.kvHeads) * facts.group();
}

/// Narrow heads are done with a block sooner than the next one comes, so that more must be under
/// way; wide ones leave room for fewer keys.
Shape usualShape(const Shape &base) {
  Shape shape = base;
  const int64_t dim = std::max(base.facts.keyDim, base.facts.valueDim);
  shape.rows = base.facts.rowsOfSequence() <= MatrixShape::rows ? MatrixShape::rows : 128;
  shape.heads = headsTogether(base.facts);
  auto fits = [&] { return readShape(base, valuesOf(shape)).has_value(); };
  shape.keys = dim <= 128 ? 128 : 64;
  shape.stages = dim <= 64 ? 4 : 2;
  while (shape.keys > unit && !fits())
    shape.keys /= 2;
  return shape;
}

/// Seconds on a large GPU: of the blocks of keys that tiles see, products and weights side by side.
double predict(const Shape &shape) {
  const AttentionFacts &facts = shape.facts;
  constexpr double cyclesPerSecond = 1.6e9, multiplyAdds = 2048, powers = 16;
  constexpr double ofBlock = 400, restOfBlock = 150, restOfTile = 4000;
  const auto rows = double(shape.rows), keys = double(shape.keys);
  const double products = rows * keys * double(facts.keyDim + facts.valueDim) / multiplyAdds;
  // Of one warpgroup products wait for weights.
  const double ofWeights = rows * keys / powers + ofBlock;
  const double block = shape.consumers() > 1 ? std::max(products, ofWeights) + restOfBlock
                                             : products + ofWeights + restOfBlock;
  const double blocks = std::ceil(double(facts.likelyKeys()) / keys);
  const double tiles = double(facts.heads * std::min(facts.rows, facts.sequences)) *
                       std::ceil(double(facts.rowsOfSequence()) / rows);
  const double turns = std::max(1.0, tiles / double(shape.blocks));
  return AttentionFacts::dispatch + turns * (blocks * block + restOfTile) / cyclesPerSecond;
}

class Matrices final : public Method {
public:
  std::string_view name() const override { return "matrices"; }

  Status supports(const KernelAnalysis &kernel, const Target &target) const override {
    auto refuse = [&](std::string why, std::string hint) {
      return unusable("attention cannot be computed by matrices", kernel.name(), std::move(why),
                      std::move(hint));
    };
    if (!target.has("sm_90a"))
      return refuse("the target is not sm_90a", "use another method");
    KF_CHECK(checkAttention(kernel, target, /*workspaces=*/2));
    AttentionOp op = kernel.attention();
    const ElementType element = factorType(op);
    for (CacheType cache : {op.getKeys().getType(), op.getValues().getType()}) {
      if (element == ElementType::F32 || slotOf(cache).type != element)
        return refuse("its caches are not of f16 or bf16 as its operands are rounded",
                      "say so by its numerics, or use another method");
      if (cache.getDim() % unit != 0)
        return refuse(fmt::format("it has heads of {} values", cache.getDim()),
                      fmt::format("multiples of {} can be", unit));
    }
    const Shape base = baseOf(kernel, target);
    if (base.page % patternRows != 0)
      return refuse(fmt::format("a page has {} slots", base.page),
                    fmt::format("use pages of a multiple of {}", patternRows));
    if (std::string why = Weights::obstacle(op); !why.empty())
      return refuse(why, "use another method");
    return readShape(base, valuesOf(usualShape(base))).transform([](const Shape &) {});
  }

  ScheduleSpace space(const KernelAnalysis &kernel, const Target &target) const override {
    const Shape base = baseOf(kernel, target);
    ScheduleSpace space;
    space.analytic = valuesOf(usualShape(base));
    space.knobs = {{"rows", {64, 128, 192}, "of a tile: 64 of each warpgroup that multiplies"},
                   {"keys", {64, 96, 128, 160}, "of a block"},
                   {"stages", {2, 3, 4}, "blocks of keys, and of values, in shared memory"},
                   {"heads", {space.analytic.at("heads")}, "whose tiles are taken together"},
                   {"blocks", {base.blocks}, "of the grid at most, which go on to further tiles"}};
    setBlockRules(
        space, [base](const KnobValues &values) { return readShape(base, values); },
        [](const Shape &shape) { return ::predict(shape); });
    return space;
  }

  Expected<Launching> emit(ModuleOp module, const KernelAnalysis &kernel, const Target &target,
                           StringRef entry, const KnobValues &schedule) const override {
    KF_TRY(const Shape shape, readShape(baseOf(kernel, target), schedule));
    Launching launching;
    const size_t count = shape.roundsQuery ? 2 : 1;
    if (shape.roundsQuery) {
      launching.phases.push_back(emitQuery(module, kernel, shape, phaseEntry(entry, 0, count)));
      const int64_t rowBytes = shape.facts.heads * shape.facts.keyDim * HeadTile::numberBytes;
      launching.workspaces.push_back({launching.phases.back().grid * Extent(rowBytes), 128});
    }
    launching.phases.push_back(
        emitTiles(module, kernel, shape, phaseEntry(entry, count - 1, count)));
    launching.workspaces.push_back({4, 64, Workspace::Contents::ZeroedOnce});
    return launching;
  }

  std::vector<std::string> describe(const KernelAnalysis &kernel,
                                    const KnobValues &schedule) const override {
    return {simt::describe(kernel).front(),
            fmt::format("matrices: {} rows of a query head a block, {} keys at a time, {} stages",
                        schedule.at("rows"), schedule.at("keys"), schedule.at("stages"))};
  }
};

} // namespace

const Method &cuda::attentionMatrices() {
  static const Matrices method;
  return method;
}
