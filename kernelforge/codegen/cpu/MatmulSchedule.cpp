// Schedules of the matmul family: what is legal, what is taken without measuring, what a search
// tries, and how long a schedule may be expected to take.
#include "kernelforge/codegen/cpu/MatmulSchedule.h"

#include "kernelforge/codegen/cpu/Emit.h"
#include "kernelforge/codegen/cpu/MatmulLimits.h"

#include <algorithm>

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;
using namespace kernelforge::cpu::matmul;
using namespace kernelforge::transformer;

namespace {

/// Rows up to which the analytic schedule dequantizes weights in registers, and up to which a
/// search tries it.
constexpr int64_t maxRegisterRows = 4, maxSearchedRegisterRows = 16;

Expected<Knobs> checkKnobs(const KernelLimits &limits, const KnobValues &values) {
  KnobReader read(limits.name, values);
  KF_CHECK(read.checkNames({"panel", "mr", "groups", "mc", "kc", "nb", "unroll", "splits", "pack",
                            "order", "prefetch"}));
  Knobs knobs;
  // Without depth there is nothing to unpack.
  KF_TRY(int64_t panel,
         read.get("panel", {limits.onlyPanels, limits.depth > 0 && !limits.integers ? 1 : 0}));
  knobs.panel = panel != 0;
  KF_TRY(knobs.nb, read.get("nb", {limits.columns, maxBlock, limits.columns}));
  KF_TRY(knobs.groups, read.get("groups", {1, limits.mostGroups(knobs.panel)}));
  const int64_t mostRows =
      limits.integers ? limits.mostIntegerRows(knobs.groups) : limits.mostTileRows(knobs.groups);
  KF_TRY(knobs.mr, read.get("mr", knobs.panel || limits.integers
                                      ? KnobLimit{1, mostRows, 1, "groups", knobs.groups}
                                      : KnobLimit{1, 1, 1, "panel", panel}));
  const int64_t k = limits.depth, step = knobs.panel ? limits.panelStep() : limits.block;
  KF_TRY(knobs.kc, read.get("kc", {std::min(k, step), roundUp(k, step), knobs.panel ? step : 1}));
  KF_TRY(knobs.mc, read.get("mc", {knobs.mr, maxBlock, knobs.mr, "mr", knobs.mr}));
  KF_TRY(knobs.unroll, read.get("unroll", {1, knobs.panel ? 16 : 1, 1, "panel", panel}));
  const int64_t mostSplits = limits.mostSplits(knobs.panel, knobs.kc);
  KF_TRY(knobs.splits,
         read.get("splits", knobs.panel ? KnobLimit{1, mostSplits, 1, "kc", knobs.kc}
                                        : KnobLimit{1, mostSplits, 1, "panel", panel}));
  const int64_t leastPack = knobs.panel && !limits.plainInput;
  KF_TRY(int64_t pack, read.get("pack", {leastPack, knobs.panel, 1, "panel", panel}));
  knobs.pack = pack != 0;
  KF_TRY(int64_t order, read.get("order", {0, 1}));
  knobs.rowsFirst = order != 0;
  KF_TRY(knobs.prefetch, read.get("prefetch", {0, knobs.panel ? 0 : 64, 1, "panel", panel}));
  knobs.kc = std::min(knobs.kc, k);
  return knobs;
}

/// Rows up to which a schedule is made for few: tiles that fit them, panels that stay in L1.
constexpr int64_t fewRows = 48;

/// Threads up to which cores are taken to be as fast as one another and to have their caches for
/// themselves; of more some share theirs, and any may be slower than the rest.
constexpr int64_t fewThreads = 4;

/// Depth of a panel of 64 columns. In L1 where a panel is read once or twice after it was expanded,
/// or is read where the weights lie; otherwise in L2 with the rows that meet it, since each panel
/// more takes the sums to memory and back.
int64_t usualDepth(const KernelLimits &limits) {
  const int64_t depth = limits.depth, step = limits.panelStep();
  int64_t kc = depth <= 768 ? depth : ceilDiv(depth, ceilDiv(depth, 512));
  if (limits.isTiles())
    kc = depth <= 384 ? depth : ceilDiv(depth, ceilDiv(depth, 288));
  else if (limits.rows <= fewRows)
    kc = 64;
  else if (limits.inPlace && depth <= 1024)
    kc = 128;
  return std::min(roundUp(kc, std::max<int64_t>(32, step)), roundUp(depth, step));
}

/// A register tile: rows, groups of 16 columns, and its cost for each product beside the best
/// one's.
struct RegisterTile {
  int64_t mr, groups;
  double cost;
};

/// The register tiles worth considering. Panels: 6 x 64 on AVX-512 (24 accumulators, 4 weights, 1
/// broadcast of 32 registers) and 8 x 48, where 64 columns do not share out evenly; 6 x 16 on AVX2
/// (12, 2, 1 of 16); for few rows also those that fit them without waste. Of AMX's registers 2 x 2
/// hold sums, so that of each two that are loaded four products are made; with many threads 1 x 2,
/// whose rows and weights take 24 KiB of a first cache where the others take 32: with 16 it takes
/// 0.64 to 0.96 of the time, two threads that nobody disturbs 1.0 to 1.15. In registers: one row.
/// Of quantized weights on AVX-512 one group, so that a core reads one stream: several short ones
/// keep the hardware's prefetcher from it. On AVX2, too: the values of two groups are more than its
/// registers hold (q4_1, q8_0 and q4_k gain 2 to 5 %), but for quants with a zero to subtract,
/// which have little to do besides (q4_0 would lose 15 %). Otherwise about 8 sums of 16 at once on
/// AVX-512, 4 on AVX2.
SmallVector<RegisterTile> usualTiles(const KernelLimits &limits, bool panel) {
  const bool wide = limits.perVector == 1;
  if (limits.integers) {
    const int64_t most = std::min<int64_t>(limits.mostIntegerRows(1), wide ? 8 : 2);
    return {{std::min(most, limits.rows), 1, 1.0}};
  }
  if (!panel) {
    if (limits.quantized && (wide || !limits.shifts))
      return {{1, 1, 1.0}};
    const int64_t groups = std::max<int64_t>(1, (wide ? 8 : 4) / limits.chains);
    SmallVector<RegisterTile> tiles{{1, groups, 1.0}};
    if (wide && groups > 3)
      tiles.push_back({1, 3, 1.0});
    return tiles;
  }
  if (limits.isTiles()) {
    if (limits.rows <= lanes)
      return {{limits.rows, 4, 1.0}};
    if (limits.threads > fewThreads)
      return {{lanes, 2, 1.0}};
    return {{2 * lanes, 2, 1.0}, {lanes, 4, 1.1}};
  }
  constexpr int64_t most = 6;
  SmallVector<RegisterTile> tiles{{most, wide ? 4 : 1, 1.0}};
  // Few rows: a tile of just as many, or tiles of equal shares. With fewer sums at once they wait
  // for one another.
  if (const int64_t rows = ceilDiv(limits.rows, ceilDiv(limits.rows, most));
      limits.rows <= fewRows && rows < most) {
    const int64_t groups = wide ? 4 : rows <= 2 ? 2 : 1;
    const double busy = static_cast<double>(rows * groups * limits.perVector);
    tiles.push_back({rows, groups, std::max(wide ? 1.08 : 1.1, 8.0 / busy)});
  }
  if (wide)
    tiles.push_back({8, 3, 1.02});
  return tiles;
}

/// Columns of a task worth considering, the usual first: about 64; of weights that are read as one
/// stream more, as far as there are enough tasks for the threads.
SmallVector<int64_t> usualColumnBlocks(const KernelLimits &limits, const RegisterTile &tile,
                                       bool panel) {
  if (panel && limits.isTiles())
    return {64, 256, 192, 160, 128, 96, 32};
  if (tile.groups == 3)
    return {48, 96};
  if (panel || !limits.readsOneStream() || (limits.integers && limits.rows > maxRegisterRows))
    return {64, 128};
  constexpr int64_t longest = 256, plenty = 8; // tasks of each thread
  if (limits.widest() >= longest * plenty * limits.threads)
    return {longest};
  return {128, 96, 64, 48};
}

/// Steps of k written out in the micro-kernel's loop: about a hundred multiply-adds. With twice as
/// many, LLVM's scheduler moves so many loads ahead that the sums do not stay in AVX-512's
/// registers on x86-64-v4 (18 instructions of 294 go to the stack); on no processor was it faster.
int64_t usualUnroll(const KernelLimits &limits) {
  return limits.isTiles() ? 2 : limits.perVector == 1 ? 4 : 8;
}

/// Quants come in several short streams, one for each part of a block, which the hardware's
/// prefetcher follows less well than one of plain numbers.
int64_t usualPrefetch(const KernelLimits &limits, bool panel) {
  return !panel && limits.quantized ? 16 : 0;
}

/// Rows of a task worth considering: the usual ones, and those that share the rows out evenly.
SmallVector<int64_t> usualRowBlocks(const KernelLimits &limits, bool panel) {
  if (!panel && !limits.integers)
    return {std::min(limits.rows, maxRegisterRows)};
  int64_t most = panel && limits.isTiles() ? 256 : 192;
  // Tasks that follow one another often have the same rows, which stay in L2.
  constexpr int64_t rowBytesInL2 = 1 << 20;
  if (panel && limits.isTiles() && limits.threads > fewThreads)
    most = std::clamp(rowBytesInL2 / (2 * limits.depth) / lanes * lanes, int64_t(128), most);
  constexpr int64_t least = 48;
  SmallVector<int64_t> blocks;
  for (int64_t rows : {most, int64_t(192), int64_t(144), int64_t(128), int64_t(96), least})
    blocks.push_back(std::min({limits.rows, rows, most}));
  for (int64_t parts = ceilDiv(limits.rows, most); parts <= 8; ++parts)
    if (limits.rows / parts >= least)
      blocks.push_back(ceilDiv(limits.rows, parts));
  return blocks;
}

/// Work of a task of so many rows and columns, in multiply-adds for each element of K. Unpacking a
/// panel costs about as much as 8 rows of it, nothing where few rows meet one that is where the
/// weights lie; beside AMX as 64, of quants 128, and there it counts that weights, and half of the
/// time rows, come from a cache of all cores, at some 8 bytes a cycle in which 400 products are
/// made.
double taskWork(const KernelLimits &limits, double rows, double columns, bool panel) {
  if (!panel || !limits.isTiles())
    return columns * (rows + (panel && !(limits.inPlace && limits.rows <= fewRows) ? 8 : 0));
  constexpr double productsOfByte = 50;
  const double weightBytes = limits.weightBytes / static_cast<double>(limits.depth);
  const double unpacking = limits.inPlace ? 0 : limits.quantized ? 128 : 64;
  return columns * (rows + unpacking + productsOfByte * weightBytes) + productsOfByte * rows;
}

/// How many tasks the last thread ends its work with: where threads are alike those of the busiest;
/// of many its share and one that it may just have begun (128 x 576 x 576 of f32 with 16 threads:
/// 36 tasks take 0.66 of the time of 12).
double rounds(const KernelLimits &limits, int64_t tasks, bool panel) {
  if (panel && limits.threads > fewThreads)
    return static_cast<double>(tasks) / static_cast<double>(limits.threads) + 1;
  return static_cast<double>(ceilDiv(tasks, limits.threads));
}

/// Whether rows of plain f32 lie whole pages apart, where all of a tile's meet in one set of the
/// first cache: side by side they take 0.6 to 0.9 of the time, unless there are hardly any columns.
bool collide(const KernelLimits &limits) {
  constexpr int64_t page = 4096, fewColumns = 64;
  return limits.rows > 1 && limits.depth * 4 % page == 0 && limits.widest() >= fewColumns;
}

/// Rows up to which each is multiplied with weights in registers, one after the other. Where
/// nothing has to be unpacked, a tile of two is faster already.
int64_t usualRegisterRows(const KernelLimits &limits) {
  return limits.inPlace ? 1 : limits.quantized ? maxRegisterRows : maxRegisterRows - 1;
}

/// The analytic schedule: of the usual tiles and of tasks of about 64 columns, whole heads, and up
/// to 192 rows, those that leave the busiest thread the least work. Rows are read where they lie if
/// that is possible.
KnobValues analyticKnobs(const KernelLimits &limits, bool panel) {
  const int64_t narrowest = roundUp(limits.widest(), lanes) / lanes;
  RegisterTile tile{};
  int64_t nb = 0, mc = 0;
  double least = 0;
  auto consider = [&](const RegisterTile &candidate, int64_t blockColumns, int64_t blockRows) {
    const int64_t tasks = limits.blocks(blockColumns) * ceilDiv(limits.rows, blockRows);
    const double work =
        rounds(limits, tasks, panel) *
        taskWork(limits, static_cast<double>(blockRows) * candidate.cost,
                 static_cast<double>(roundUp(blockColumns, candidate.groups * lanes)), panel);
    // Only a clear gain is worth leaving the usual sizes.
    if (nb == 0 || work < 0.97 * least) {
      least = work;
      nb = blockColumns, mc = blockRows, tile = candidate;
    }
  };
  for (const RegisterTile &candidate : usualTiles(limits, panel))
    for (int64_t rows : usualRowBlocks(limits, panel))
      for (int64_t columns : usualColumnBlocks(limits, candidate, panel))
        consider(candidate, roundUp(columns, limits.columns), roundUp(rows, candidate.mr));
  nb = std::min(nb, roundUp(limits.widest(), limits.columns));

  const int64_t kc = panel ? usualDepth(limits) : limits.depth;
  // Too few tasks for the threads and a long K: share it.
  const int64_t tasks = limits.blocks(nb) * ceilDiv(limits.rows, mc);
  const int64_t pieces = panel ? ceilDiv(limits.depth, kc) : limits.depth / limits.block;
  int64_t splits = 1;
  constexpr int64_t leastDepth = 2048; // below this a phase more costs what is gained
  while (tasks * splits < limits.threads && 2 * splits <= pieces &&
         limits.depth / (2 * splits) >= leastDepth)
    splits *= 2;
  return {{"panel", panel},
          {"mr", tile.mr},
          {"groups", std::min(tile.groups, narrowest)},
          {"mc", mc},
          {"kc", kc},
          {"nb", nb},
          {"unroll", panel ? usualUnroll(limits) : 1},
          {"splits", splits},
          {"pack", panel && (!limits.plainInput || collide(limits))},
          {"order", 0},
          {"prefetch", usualPrefetch(limits, panel)}};
}

/// Whether a schedule that is given in part has panels: what only one form has decides, otherwise
/// the usual form.
bool hasPanel(const KernelLimits &limits, const KnobValues &given, bool usually) {
  auto above = [&](const char *name, int64_t least) {
    const auto found = given.find(name);
    return found != given.end() && found->second > least;
  };
  if (limits.depth == 0 || limits.integers)
    return false;
  if (given.contains("panel") || limits.onlyPanels)
    return limits.onlyPanels || given.at("panel") != 0;
  const bool needsPanel = above("mr", 1) || above("unroll", 1) || above("pack", 0);
  const bool readsPlain = given.contains("pack") && given.at("pack") == 0 && !limits.plainInput;
  const bool needsRegisters = above("prefetch", 0) || readsPlain;
  return needsPanel == needsRegisters ? usually : needsPanel;
}

/// The knobs given, with analytic values for the others that are brought to where the ones given
/// leave room: what is not legal then is so by the ones given.
KnobValues completeKnobs(const KernelLimits &limits, const KnobValues &given, bool usually) {
  const bool panel = hasPanel(limits, given, usually);
  KnobValues knobs = given;
  knobs.merge(analyticKnobs(limits, panel));
  auto isOpen = [&](const char *name) { return !given.contains(name); };
  // What is given may be any number.
  auto value = [&](const char *name, int64_t most) {
    return std::clamp<int64_t>(knobs.at(name), 1, most);
  };
  if (limits.integers) {
    int64_t mr = value("mr", limits.mostIntegerRows(1));
    if (isOpen("mr")) {
      mr = std::min(mr, limits.mostIntegerRows(value("groups", limits.mostGroups(false))));
      while (!isOpen("mc") && value("mc", maxBlock) % mr != 0)
        --mr;
      knobs["mr"] = mr;
    }
    if (isOpen("mc"))
      knobs["mc"] = roundUp(value("mc", maxBlock), mr);
    return knobs;
  }
  if (!panel)
    return knobs;
  int64_t groups = value("groups", limits.mostGroups(true));
  int64_t mr = value("mr", limits.mostTileRows(1));
  if (isOpen("groups"))
    while (groups > 1 && limits.mostTileRows(groups) < mr)
      --groups;
  if (isOpen("mr")) {
    mr = std::min(mr, limits.mostTileRows(groups));
    while (!isOpen("mc") && value("mc", maxBlock) % mr != 0)
      --mr;
  }
  const int64_t step = limits.panelStep();
  int64_t kc = value("kc", roundUp(limits.depth, step));
  const int64_t splits = value("splits", maxSplits);
  if (isOpen("kc") && splits > 1)
    kc = std::clamp((limits.depth - 1) / (splits - 1) / step * step, step, std::max(kc, step));
  const KnobValues fitting = {{"groups", groups},
                              {"mr", mr},
                              {"mc", roundUp(value("mc", maxBlock), mr)},
                              {"kc", kc},
                              {"splits", std::min(splits, limits.mostSplits(panel, kc))}};
  for (const auto &[name, fit] : fitting)
    if (!given.contains(name))
      knobs[name] = fit;
  return knobs;
}

/// Cycles that the busiest thread takes, by counting what bounds each loop: multiply-adds, loads,
/// bytes from beyond L2, and what tasks and phases cost. The constants are those of no processor in
/// particular: 2 vector operations and 2 loads a cycle, 96 bytes a cycle from L1, 48 from L2, 12
/// from beyond.
double predictCycles(const KernelLimits &limits, const Knobs &knobs) {
  const double vector = static_cast<double>(limits.perVector);
  const double depth = static_cast<double>(limits.depth) / static_cast<double>(knobs.splits);
  const double rows = static_cast<double>(std::min(knobs.mc, roundUp(limits.rows, knobs.mr)));
  const double tiles = static_cast<double>(ceilDiv(std::min(knobs.nb, limits.widest()),
                                                   knobs.groups * lanes)); // of a task
  const double groups = static_cast<double>(knobs.groups), mr = static_cast<double>(knobs.mr);
  const bool asIs = limits.inPlace && (knobs.panel || limits.form.unit == PanelForm::Unit::Floats);
  const double unpack = limits.quantized ? 2.5 : asIs ? 0.0 : 1.5;
  double task = 0;
  if (knobs.panel) {
    const double panels = std::max(1.0, depth / static_cast<double>(knobs.kc));
    const double perPair = limits.form.unit == PanelForm::Unit::Pairs ? 2.0 : 1.0;
    double fmas = std::max(mr * groups * vector / 2, 4.0) / perPair;
    if (limits.isTiles()) // 16 cycles for 32 elements of K
      fmas = std::ceil(mr / lanes) * groups / 2;
    const auto elementBytes = static_cast<double>(limits.form.elementBytes());
    const double loads = limits.isTiles() ? (groups + std::ceil(mr / lanes)) / 4
                                          : (groups * vector + mr) / 2 / perPair;
    const double panelBytes = static_cast<double>(knobs.kc * knobs.groups * lanes) * elementBytes;
    const double stream = groups * 16 * elementBytes /
                          (panelBytes < 3.3e4 ? 96.0
                           : panelBytes < 6e5 ? 48.0
                                              : 12.0);
    const double perStep =
        std::max({fmas, loads, stream}) + 1.0 / static_cast<double>(knobs.unroll);
    const double repeats = std::ceil(rows / mr);
    task = tiles * depth * (groups * vector * unpack + repeats * perStep);
    task += tiles * (panels - 1) * repeats * mr * groups * vector * 2; // sums go to memory and back
    if (!knobs.pack)
      task *= 1.03;
  } else if (limits.integers) {
    // Of four elements of each lane: a weight is taken apart once for all rows of a tile, products
    // and sums are about two operations, and each block of 32 has some to be scaled.
    const double perWord = groups * vector * (unpack + mr * 2.0) / 2;
    const double scaling = groups * vector * mr * 4.0 / 8.0;
    task = tiles * std::ceil(rows / mr) * depth / 4 * (perWord + scaling);
  } else {
    // A row of a group per block: chains of two sums for quants, one for plain numbers.
    const double chains = groups * (limits.quantized ? 2.0 : 1.0) * vector;
    const double perStep =
        std::max(groups * vector * (1.0 + unpack) / 2, 4.0 * groups * vector / chains);
    task = tiles * rows * depth * perStep;
  }
  const double weightBytes = limits.weightBytes / static_cast<double>(knobs.splits);
  const double bytes = static_cast<double>(std::min(knobs.nb, limits.widest())) * weightBytes;
  const double share = 12.0 / std::min(2.0, static_cast<double>(limits.threads));
  task = std::max(task, bytes / share) * static_cast<double>(limits.segments()) + 200;

  const int64_t tasks = limits.blocks(knobs.nb) * ceilDiv(limits.rows, knobs.mc) * knobs.splits;
  double cycles = static_cast<double>(ceilDiv(tasks, limits.threads)) * task;
  constexpr double phase = 1500;
  const double threads = static_cast<double>(limits.threads);
  if (knobs.panel ? knobs.pack : limits.integers || limits.needsSums || !limits.plainInput)
    cycles += phase + static_cast<double>(limits.rows * limits.depth) * (knobs.panel ? 1.0 : 0.1) /
                          std::min(threads, std::ceil(static_cast<double>(limits.rows) / mr));
  if (knobs.splits > 1)
    cycles +=
        phase + static_cast<double>(limits.rows * limits.widest() * knobs.splits) / 4 / threads;
  return cycles + phase;
}

/// `values` that are multiples of `multipleOf` and at most `most`, ascending, without repeats;
/// `always` is among them.
std::vector<int64_t> choices(ArrayRef<int64_t> values, int64_t multipleOf, int64_t most,
                             int64_t always) {
  std::vector<int64_t> result{always};
  for (int64_t value : values)
    if (value % multipleOf == 0 && value <= most)
      result.push_back(value);
  std::sort(result.begin(), result.end());
  result.erase(std::unique(result.begin(), result.end()), result.end());
  return result;
}

} // namespace

Expected<Knobs> cpu::matmul::readKnobs(const KernelAnalysis &kernel, const Target &target,
                                       const KnobValues &values) {
  return checkKnobs(limitsOf(kernel, target, 1), values);
}

Expected<ScheduleSpace> cpu::matmul::scheduleSpace(const KernelAnalysis &kernel,
                                                   const Target &target, int64_t threads) {
  const KernelLimits limits = limitsOf(kernel, target, threads);
  ScheduleSpace space;
  const bool usualForm = limits.onlyPanels || (limits.rows > usualRegisterRows(limits) &&
                                               limits.depth > 0 && !limits.integers);
  space.analytic = analyticKnobs(limits, usualForm);
  space.complete = [limits, usualForm](const KnobValues &given) {
    return completeKnobs(limits, given, usualForm);
  };
  const KnobValues &usual = space.analytic;
  auto value = [&](const char *name) { return usual.at(name); };
  const int64_t widest = roundUp(limits.widest(), limits.columns);
  const bool many = limits.rows > maxSearchedRegisterRows;
  const bool fewTasks =
      limits.blocks(64) * ceilDiv(limits.rows, 48) < 4 * limits.threads && limits.depth >= 1024;
  std::vector<int64_t> forms{0, 1};
  if (many || limits.onlyPanels)
    forms = {1};
  if (limits.depth == 0 || limits.integers || (limits.rows == 1 && !limits.onlyPanels))
    forms = {0};
  const bool anyPanel = forms.back() == 1;
  space.knobs = {
      {"panel", forms, "1: weights are expanded to a panel in L2; 0: in registers"},
      {"mr",
       anyPanel || limits.integers
           ? choices({1, 2, 4, 6, 8, 12, 16, 32}, 1, roundUp(limits.rows, 2), value("mr"))
           : std::vector<int64_t>{1},
       "rows of the register tile"},
      {"groups", choices({1, 2, 3, 4}, 1, widest / lanes, value("groups")),
       "columns of the register tile, in 16"},
      {"mc",
       choices({4, 12, 24, 48, 96, 128, 144, 192, 256, 384, 512}, 1, roundUp(limits.rows, 48),
               value("mc")),
       "rows of a task"},
      {"kc",
       choices({64, 128, 256, 512, 1024, 2048}, limits.panelStep(), limits.depth, value("kc")),
       "depth of a panel"},
      {"nb", choices({16, 32, 48, 64, 96, 128, 192, 256}, limits.columns, widest, value("nb")),
       "columns of a task"},
      {"unroll", anyPanel ? choices({1, 2, 4, 8}, 1, 8, value("unroll")) : std::vector<int64_t>{1},
       "steps of k in the inner loop's body"},
      {"splits",
       fewTasks ? choices({1, 2, 4, 8}, 1, 8, value("splits")) : choices({}, 1, 1, value("splits")),
       "tasks that share K"},
      {"pack",
       !anyPanel            ? std::vector<int64_t>{0}
       : !limits.plainInput ? std::vector<int64_t>{value("pack"), 1}
                            : std::vector<int64_t>{0, 1},
       "1: rows are brought side by side first"},
      {"order", limits.rows > 48 ? std::vector<int64_t>{0, 1} : std::vector<int64_t>{0},
       "neighbouring tasks have the same rows (0) or columns (1)"},
      {"prefetch", many && anyPanel ? std::vector<int64_t>{0} : std::vector<int64_t>{0, 8, 16, 32},
       "blocks of weights asked for ahead"},
  };
  for (Knob &knob : space.knobs) {
    std::sort(knob.values.begin(), knob.values.end());
    knob.values.erase(std::unique(knob.values.begin(), knob.values.end()), knob.values.end());
  }
  setRule(
      space, [limits](const KnobValues &values) { return checkKnobs(limits, values); },
      [limits](const Knobs &knobs) { return predictCycles(limits, knobs); });
  // A panel's sums are added to those of the panels before it.
  space.orderClass = [](const KnobValues &values) {
    return values.at("panel") != 0
               ? fmt::format("panel kc={} splits={}", values.at("kc"), values.at("splits"))
               : fmt::format("registers splits={}", values.at("splits"));
  };
  return space;
}
