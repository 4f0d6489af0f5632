// Schedules of the attention family: what is legal, what is taken without measuring, what a search
// tries, and how long a schedule may be expected to take.
#include "kernelforge/codegen/cpu/AttentionSchedule.h"

#include "kernelforge/codegen/cpu/Emit.h"
#include "kernelforge/codegen/cpu/KernelBuilder.h"
#include "kernelforge/codegen/cpu/PanelForm.h"
#include "kernelforge/ir/Numerics.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;
using namespace kernelforge::cpu::attention;
using namespace kernelforge::transformer;

namespace {

/// Larger heads or groups than any model has; keeps scratch sizes far from overflow.
constexpr int64_t maxHeadDim = 1024, maxHeads = 4096;
constexpr int64_t maxQueryBlock = 512, maxKeyBlock = 512, maxSplits = 64, maxPrefetch = 256;

/// Registers that hold a vector of 16 f32, counting two of AVX2 as one.
int64_t vectorRegisters(const Target &target) { return target.limits.vectorBits == 512 ? 32 : 8; }

/// Rows of a register tile: an accumulator each, with one vector and one factor beside them.
int64_t maxTileRows(const Target &target) { return std::min(vectorRegisters(target) - 2, lanes); }

/// What bounds a kernel's schedules, as plain numbers.
struct KernelLimits {
  std::string name;
  int64_t tileRows = 1;   ///< most rows of a register tile
  int64_t registers = 32; ///< that hold 16 f32
  int64_t rows = 1, minRows = 1, sequences = 1;
  int64_t kvHeads = 1, group = 1, keyDim = 1, valueDim = 1, threads = 1;
  bool matrices = false; ///< packed keys and values are bf16: a register tile is 16 rows
  bool amx = false;

  /// Keys that a block of packed ones is made of.
  int64_t packedStep(int64_t nr) const { return matrices ? 2 * lanes : nr * lanes; }
  /// Most vectors of a register tile of `mr` rows.
  int64_t tileVectors(int64_t mr) const {
    return std::clamp<int64_t>((registers - 1) / (mr + 1), 1, 4);
  }
};

KernelLimits limitsOf(const KernelAnalysis &kernel, const Target &target, int64_t threads) {
  AttentionOp op = kernel.attention();
  KernelLimits limits;
  limits.name = kernel.name();
  limits.tileRows = maxTileRows(target);
  limits.registers = vectorRegisters(target);
  std::tie(limits.minRows, limits.rows) = kernel.plannedRows(op.getQuery().getType());
  limits.sequences = kernel.plannedRows(op.getLengths().getType()).second;
  limits.kvHeads = op.getKeys().getType().getHeads();
  limits.group = int64_t(op.getHeads()) / limits.kvHeads;
  limits.keyDim = op.getKeys().getType().getDim();
  limits.valueDim = op.getValues().getType().getDim();
  limits.threads = std::max<int64_t>(threads, 1);
  const PanelForm::Unit unit = PanelForm::of(numericsOf(op), target).unit;
  limits.matrices = unit != PanelForm::Unit::Floats;
  limits.amx = unit == PanelForm::Unit::Tiles;
  return limits;
}

Expected<Knobs> checkKnobs(const KernelLimits &limits, const KnobValues &values) {
  KnobReader read(limits.name, values);
  KF_CHECK(read.checkNames(
      {"query_block", "key_block", "mr", "nr", "splits", "split_keys", "prefetch"}));
  Knobs knobs;
  KF_TRY(knobs.queryBlock, read.get("query_block", {1, maxQueryBlock}));
  const bool packed = knobs.queryBlock > 1;
  if (packed && limits.matrices) {
    KF_TRY(knobs.mr, read.get("mr", {lanes, lanes}));
    KF_TRY(knobs.nr, read.get("nr", {1, 1}));
  } else {
    KF_TRY(knobs.mr, read.get("mr", {1, limits.tileRows}));
    KF_TRY(knobs.nr, read.get("nr", {1, limits.tileVectors(knobs.mr), 1, "mr", knobs.mr}));
  }
  const int64_t keyStep = packed ? limits.packedStep(knobs.nr) : lanes;
  KF_TRY(knobs.keyBlock,
         read.get("key_block", {keyStep, maxKeyBlock / keyStep * keyStep, keyStep,
                                packed && !limits.matrices ? "nr" : nullptr, knobs.nr}));
  KF_TRY(knobs.splits,
         read.get("splits", {1, packed ? 1 : maxSplits, 1, "query_block", knobs.queryBlock}));
  KF_TRY(knobs.splitKeys, read.get("split_keys", {lanes, int64_t(1) << 20, lanes}));
  KF_TRY(knobs.prefetch,
         read.get("prefetch", {0, packed ? 0 : maxPrefetch, 1, "query_block", knobs.queryBlock}));
  return knobs;
}

/// Whether rows are taken one at a time: each may be a sequence of its own (decoding), or they are
/// too few to be worth packing keys for.
bool takesOneRow(const KernelLimits &limits) {
  constexpr int64_t fewRows = 4, manySequences = 64;
  return limits.rows <= fewRows ||
         (limits.rows <= limits.sequences && limits.rows <= manySequences);
}

/// The analytic schedule of one of the two forms.
KnobValues analyticKnobs(const KernelLimits &limits, bool oneRow) {
  const int64_t wantedTasks = 4 * limits.threads;
  if (oneRow) {
    // The group in as few register tiles of at most six rows as it takes, all of one size.
    const int64_t rows = std::min<int64_t>(6, limits.tileRows), group = limits.group;
    const int64_t mr = (group + (group + rows - 1) / rows - 1) / ((group + rows - 1) / rows);
    const int64_t tasks = std::max<int64_t>(limits.minRows, 1) * limits.kvHeads;
    // Two parts for each thread: each costs another's work of putting parts together.
    const int64_t splits =
        limits.threads <= 1 ? 1 : std::min(ceilDiv(2 * limits.threads, tasks), maxSplits);
    return {
        {"query_block", 1}, {"key_block", 128},  {"mr", mr},       {"nr", limits.tileVectors(mr)},
        {"splits", splits}, {"split_keys", 128}, {"prefetch", 128}};
  }
  if (limits.matrices) {
    // Scores, weights, keys and values of a block stay in L1; many rows make what packing them
    // costs small.
    int64_t stacked = 384;
    while (stacked > 32 &&
           (limits.rows * limits.group + stacked - 1) / stacked * limits.kvHeads < wantedTasks)
      stacked /= 2;
    return {{"query_block", std::clamp<int64_t>(stacked / limits.group, 2, maxQueryBlock)},
            {"key_block", 64},
            {"mr", lanes},
            {"nr", 1},
            {"splits", 1},
            {"split_keys", 256},
            {"prefetch", 0}};
  }
  // 6 x 4 vectors fill AVX-512's registers, 6 x 1 (two registers each) AVX2's. About 96 stacked
  // rows pay for packing a block of keys; fewer where the rows would not give every thread tasks.
  const int64_t mr = 6;
  int64_t stacked = 96;
  while (stacked > 24 &&
         (limits.rows * limits.group + stacked - 1) / stacked * limits.kvHeads < wantedTasks)
    stacked /= 2;
  const int64_t queryBlock = std::clamp<int64_t>(stacked / limits.group, 2, maxQueryBlock);
  return {{"query_block", queryBlock},
          {"key_block", 64},
          {"mr", mr},
          {"nr", limits.tileVectors(mr)},
          {"splits", 1},
          {"split_keys", 256},
          {"prefetch", 0}};
}

/// The knobs given, with analytic values for the others that are brought to where the ones given
/// leave room: what is not legal then is so by the ones given.
KnobValues completeKnobs(const KernelLimits &limits, const KnobValues &given) {
  auto isOpen = [&](const char *name) { return !given.contains(name); };
  auto above = [&](const char *name, int64_t least) {
    return !isOpen(name) && given.at(name) > least;
  };
  const bool onlyOneRow = above("splits", 1) || above("prefetch", 0);
  const bool oneRow =
      isOpen("query_block") ? onlyOneRow || takesOneRow(limits) : given.at("query_block") == 1;
  KnobValues knobs = given;
  knobs.merge(analyticKnobs(limits, oneRow));
  // What is given may be any number.
  int64_t mr = std::clamp<int64_t>(knobs.at("mr"), 1, limits.tileRows);
  int64_t nr = std::clamp<int64_t>(knobs.at("nr"), 1, limits.tileVectors(1));
  if (isOpen("mr"))
    while (!isOpen("nr") && mr > 1 && limits.tileVectors(mr) < nr)
      --mr;
  const int64_t keyBlock = knobs.at("key_block");
  if (!oneRow && limits.matrices) {
    if (isOpen("mr"))
      mr = lanes;
    if (isOpen("nr"))
      nr = 1;
  } else if (isOpen("nr")) {
    nr = limits.tileVectors(mr);
    while (!oneRow && !isOpen("key_block") && nr > 1 && keyBlock % (nr * lanes) != 0)
      --nr;
  }
  const int64_t keyStep = oneRow ? lanes : limits.packedStep(nr);
  const KnobValues fitting = {
      {"mr", mr}, {"nr", nr}, {"key_block", std::max(keyBlock / keyStep, int64_t(1)) * keyStep}};
  for (const auto &[name, fit] : fitting)
    if (!given.contains(name))
      knobs[name] = fit;
  return knobs;
}

/// Cycles of the busiest thread for rows that see a thousand keys: multiply-adds, exponentials, the
/// packing of keys and values, and what tasks and phases cost.
double predictCycles(const KernelLimits &limits, const Knobs &knobs) {
  constexpr double keys = 1024, phase = 1500, perTask = 300;
  const double dims = static_cast<double>(limits.keyDim + limits.valueDim) / lanes;
  const double stacked = static_cast<double>(knobs.queryBlock * limits.group);
  const double tile = std::ceil(stacked / double(knobs.mr)) * double(knobs.mr);
  const double vectors = 32.0 / double(limits.registers);
  // A small tile waits for its sums or for loads.
  const double busy = double(knobs.mr * knobs.nr) * vectors / 2;
  const double loads = double(knobs.mr + knobs.nr) * vectors / 2;
  const double efficiency = busy / std::max({busy, loads, 4.0});
  const double steps = std::ceil(keys / double(knobs.keyBlock));
  // Of bf16 by AMX and by vectors, which take pairs: a row's products with a key.
  double products = dims * vectors / 2 / efficiency;
  if (limits.matrices && knobs.queryBlock > 1)
    products = limits.amx ? dims / 32 : dims / 2;
  double task = keys * (tile * (products + 12.0 / lanes));
  task += steps * (tile * (dims * vectors + 20) + 50);
  if (knobs.queryBlock > 1)
    task += keys * dims * 4; // packing
  else
    task /= double(knobs.splits);
  const int64_t tasks =
      (limits.rows + knobs.queryBlock - 1) / knobs.queryBlock * limits.kvHeads * knobs.splits;
  double cycles = double((tasks + limits.threads - 1) / limits.threads) * (task + perTask) + phase;
  if (knobs.splits > 1)
    cycles += phase + double(knobs.splits * limits.group) * dims * 8;
  return cycles;
}

} // namespace

Status attention::supports(const KernelAnalysis &kernel) {
  auto refuse = [&](std::string why, std::string hint) {
    return unusable("attention cannot be generated for the CPU", kernel.name(), std::move(why),
                    std::move(hint));
  };
  if (!kernel.isRootAlone())
    return refuse("an attention kernel holds one transformer.attention and yields its result",
                  "fuse nothing into it");
  AttentionOp op = kernel.attention();
  CacheType keys = op.getKeys().getType(), values = op.getValues().getType();
  for (int64_t dim : {keys.getDim(), values.getDim()})
    if (dim > maxHeadDim)
      return refuse(fmt::format("transformer.attention has heads of {} values", dim),
                    fmt::format("heads may have up to {}", maxHeadDim));
  if (int64_t(op.getHeads()) > maxHeads)
    return refuse(fmt::format("transformer.attention has {} heads", op.getHeads()),
                  fmt::format("there may be up to {}", maxHeads));
  return {};
}

Expected<Knobs> attention::readKnobs(const KernelAnalysis &kernel, const Target &target,
                                     const KnobValues &values) {
  return checkKnobs(limitsOf(kernel, target, 1), values);
}

Expected<ScheduleSpace> attention::scheduleSpace(const KernelAnalysis &kernel, const Target &target,
                                                 int64_t threads) {
  const KernelLimits limits = limitsOf(kernel, target, threads);
  ScheduleSpace space;
  space.analytic = analyticKnobs(limits, takesOneRow(limits));
  space.complete = [limits](const KnobValues &given) { return completeKnobs(limits, given); };
  const bool one = space.analytic.at("query_block") == 1;
  auto with = [&](const char *name, std::vector<int64_t> values) {
    values.push_back(space.analytic.at(name));
    std::sort(values.begin(), values.end());
    values.erase(std::unique(values.begin(), values.end()), values.end());
    return values;
  };
  std::vector<int64_t> tileRows{1, 2, 3, 4, 6, 8};
  if (limits.matrices)
    tileRows.push_back(lanes);
  std::vector<int64_t> queryBlocks;
  for (int64_t rows : {1, 2, 4, 8, 16, 24, 32, 48, 64, 96})
    if (rows <= std::max<int64_t>(limits.rows, 1))
      queryBlocks.push_back(rows);
  space.knobs = {
      {"query_block", with("query_block", queryBlocks), "rows of a task; 1: one row at a time"},
      {"key_block", with("key_block", {32, 64, 96, 128, 192, 256}), "keys of a softmax step"},
      {"mr", with("mr", tileRows), "rows of the register tile; 16 of bf16 that are packed"},
      {"nr", with("nr", {1, 2, 3, 4}), "vectors of the register tile; 1 of bf16 that are packed"},
      {"splits", one ? with("splits", {1, 2, 3, 4, 6, 8, 12, 16}) : with("splits", {1}),
       "tasks that share a row's keys"},
      {"split_keys", one ? with("split_keys", {64, 128, 256, 512}) : with("split_keys", {}),
       "fewer keys are not split"},
      {"prefetch", one ? with("prefetch", {0, 16, 32, 64, 128}) : with("prefetch", {0}),
       "rows of keys and values fetched ahead"},
  };
  setRule(
      space, [limits](const KnobValues &values) { return checkKnobs(limits, values); },
      [limits](const Knobs &knobs) { return predictCycles(limits, knobs); });
  // Each block of keys rescales what was summed up before it.
  space.orderClass = [](const KnobValues &values) {
    if (values.at("query_block") != 1)
      return fmt::format("rows key_block={}", values.at("key_block"));
    return fmt::format("one_row key_block={} splits={} split_keys={}", values.at("key_block"),
                       values.at("splits"), values.at("split_keys"));
  };
  return space;
}
