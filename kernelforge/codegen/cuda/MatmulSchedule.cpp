// Schedules of matmuls by matrix units: what is legal, what is taken without measuring, what a
// search tries, and how long a schedule may be expected to take.
#include "kernelforge/codegen/cuda/MatmulResults.h"
#include "kernelforge/codegen/cuda/WeightExpander.h"

#include "kernelforge/codegen/Knobs.h"

#include "llvm/Support/MathExtras.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <limits>
#include <numeric>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cuda;
using namespace kernelforge::cuda::matmul;

using llvm::divideCeilSigned;

namespace {

/// What the columns of a tile are multiples of.
constexpr int64_t leastColumns = 32;

/// Everything that bounds a kernel's schedules, as plain numbers.
struct KernelLimits {
  std::string name; ///< of the kernel, for errors
  int64_t rows = 1; ///< that are planned for
  int64_t depth = 1;
  SmallVector<int64_t> widths, segments; ///< of each group: columns, and how many segments
  int64_t columnUnit = 1;                ///< what the columns of a tile are multiples of
  int64_t headColumns = 1;               ///< and those that a block of it stores
  bool areMarked = false;                ///< weights: nothing that runs before writes them
  bool writesRows = false;               ///< before they are multiplied
  bool expands = false;                  ///< weights are quantized
  int64_t registersOfUnit = 0;           ///< of 128 columns, in a thread that expands
  int64_t stagesOfUnit = 1;              ///< that are filled together
  double weightBytes = 0;                ///< of all weights
  double resultBytes = 4;                ///< of a number that is stored
  int64_t sharedBytes = 0;
  int64_t multiprocessors = 132;

  int64_t stages() const {
    return std::max<int64_t>(divideCeilSigned(depth, OperandTile::depth), 1);
  }
  double allColumns() const {
    double all = 0;
    for (auto [width, ofGroup] : llvm::zip(widths, segments))
      all += double(width * ofGroup);
    return all;
  }
  int64_t segmentsAtOnce() const { return *std::max_element(segments.begin(), segments.end()); }
};

KernelLimits limitsOf(const KernelAnalysis &kernel, const Target &target) {
  transformer::MatmulOp matmul = kernel.matmul();
  KernelLimits limits;
  limits.name = kernel.name();
  limits.rows = std::max<int64_t>(kernel.plannedRows(matmul.getInput().getType()).second, 1);
  limits.depth = matmul.getK();
  for (const SegmentGroup &group : kernel.groups()) {
    limits.widths.push_back(group.n);
    limits.segments.push_back(static_cast<int64_t>(group.segments.size()));
    limits.headColumns = std::lcm(limits.headColumns, GroupResults::headColumns(group));
  }
  limits.areMarked =
      !expandsWeights(matmul) && llvm::all_of(matmul.getWeights(), [&](Value weight) {
        return kernel.isWeight(cast<BlockArgument>(weight));
      });
  limits.writesRows = !hasMatrixRows(matmul);
  limits.expands = expandsWeights(matmul);
  limits.stagesOfUnit = stagesOfUnit(matmul);
  limits.registersOfUnit = limits.expands ? registersOfUnit(kernel, warpgroup) : 0;
  const int64_t unit = limits.expands          ? WeightExpander::columnUnit
                       : matmul.getTranspose() ? OperandTile::panelElements
                                               : leastColumns;
  limits.columnUnit = std::lcm(unit, limits.headColumns);
  for (Value weight : matmul.getWeights())
    limits.weightBytes += double(weightBytes(cast<RankedTensorType>(weight.getType())).value_or(0));
  for (const Sink &sink : kernel.sinks())
    limits.resultBytes = double(info(*elementTypeOf(sink.value.getType())).blockBytes);
  limits.sharedBytes = target.limits.sharedBytes;
  if (target.limits.workers > 0)
    limits.multiprocessors = target.limits.workers;
  return limits;
}

/// A block's shared memory beside its own, that the system takes.
constexpr int64_t systemBytes = 1024;
/// Blocks of a cluster that any GPU takes.
constexpr int64_t mostOfCluster = 8;

Expected<MatrixKnobs> read(const KernelLimits &limits, const KnobValues &values) {
  const KnobReader reader(limits.name, values);
  KF_CHECK(
      reader.checkNames({"bm", "bn", "stages", "group", "resident", "blocks", "split", "early"}));
  MatrixKnobs knobs;
  const int64_t segments = limits.segmentsAtOnce();
  constexpr int64_t rows = MatrixShape::rows;
  const int64_t unit = limits.columnUnit;
  KF_TRY(knobs.bm, reader.get("bm", {rows, 2 * rows, rows}));
  KF_TRY(knobs.bn, reader.get("bn", {unit, mostColumns / segments / unit * unit, unit}));
  KF_TRY(knobs.stages, reader.get("stages", {2, 16}));
  KF_TRY(knobs.group, reader.get("group", {1, 256}));
  KF_TRY(knobs.resident, reader.get("resident", {1, 4}));
  KF_TRY(knobs.blocks, reader.get("blocks", {1, 1 << 20}));
  KF_TRY(knobs.split,
         reader.get("split", {1, std::min(mostOfCluster, limits.stages() / limits.stagesOfUnit)}));
  KF_TRY(const int64_t early, reader.get("early", {0, limits.areMarked ? 1 : 0}));
  knobs.early = early != 0;
  const int64_t all = limits.sharedBytes + systemBytes;
  const int64_t each = knobs.sharedBytes(segments) + systemBytes;
  auto refuse = [&](std::string why, std::string hint) {
    return unusable("schedule is not legal", limits.name, std::move(why), std::move(hint));
  };
  if (each * knobs.resident > all)
    return refuse(fmt::format("{} blocks of {} bytes of shared memory do not fit a multiprocessor, "
                              "which has {}",
                              knobs.resident, each - systemBytes, all - systemBytes),
                  "use fewer stages or a smaller tile");
  if (const int64_t piece = std::lcm(Accumulators::blockColumns, limits.headColumns);
      knobs.bn % (knobs.split * piece) != 0)
    return refuse(fmt::format("{} columns are shared out among {} blocks in pieces of {}", knobs.bn,
                              knobs.split, piece),
                  "use another tile or split");
  const MatrixShape shape{ElementType::BF16, segments * knobs.bn};
  if (const int64_t parts = ClusterSums::bytesOf(shape, knobs.consumers());
      knobs.split > 1 && parts > knobs.stages * knobs.stageBytes(segments))
    return refuse(
        fmt::format("{} bytes of sums do not fit where {} stages were", parts, knobs.stages),
        "use more stages");
  if (const int64_t kept = limits.registersOfUnit * knobs.bn / warpgroup;
      kept > registersOnTheirWay)
    return refuse(fmt::format("a thread that expands weights has {} registers of them", kept),
                  "use fewer columns");
  if (knobs.stages < 2 * limits.stagesOfUnit)
    return refuse(fmt::format("{} stages are filled together, and others multiplied meanwhile",
                              limits.stagesOfUnit),
                  fmt::format("use {} stages or more", 2 * limits.stagesOfUnit));
  // Beside the sums there are addresses and what follows, and a product needs some when a thread
  // starts: where it has fewer then, the assembler refuses it.
  constexpr int64_t besides = 40, besidesAtStart = 26;
  const int64_t sums = shape.sums();
  const int64_t atStart = Roles::registers(knobs.consumers(), knobs.resident);
  const int64_t later =
      Roles::registersOfConsumers(knobs.consumers(), knobs.resident, limits.expands);
  if (sums + besides > later || sums + besidesAtStart > atStart)
    return refuse(fmt::format("a thread keeps {} sums, and {} blocks leave it {} registers", sums,
                              knobs.resident, atStart),
                  "use a smaller tile or fewer blocks");
  return knobs;
}

//===----------------------------------------------------------------------===//
// Prediction
//===----------------------------------------------------------------------===//

// Of an H200: cycles a second under load, multiply-adds of a multiprocessor in one, bytes that it
// reads of its shared memory, of another block's and of the L2 cache, by itself and where all do,
// bytes of memory a second.
constexpr double cyclesPerSecond = 1.6e9, multiplyAdds = 2048, sharedBytesOfCycle = 128,
                 clusterBytesOfCycle = 24, cacheBytesOfCycle = 110, cacheBytesOfAll = 64,
                 bytesPerSecond = 4e12;
/// Cycles of a stage beside its products; those that it waits where nobody multiplies meanwhile; of
/// a block from its start to its first products; of a tile's end beside what it stores; and of a
/// cluster's meetings.
constexpr double restOfStage = 50, waitOfStage = 60, startOfBlock = 2500, restOfTile = 1500,
                 meetings = 1500;
/// Instructions of a thread by which it expands a weight.
constexpr double instructionsOfWeight = 4;
/// A launch.
constexpr double launch = 2e-6;

/// What groups of as many segments, which are one phase, are expected to take together.
double predictPhase(const KernelLimits &limits, const MatrixKnobs &knobs, int64_t segments) {
  double width = 0, columnTiles = 0;
  for (auto [own, ofGroup] : llvm::zip(limits.widths, limits.segments))
    if (ofGroup == segments) {
      width += double(own * segments);
      columnTiles += double(divideCeilSigned(own, knobs.bn));
    }
  const auto rows = double(limits.rows), depth = double(limits.depth);
  const auto columns = double(segments * knobs.bn), tileRows = double(knobs.bm);
  const auto split = double(knobs.split);
  const double products = tileRows * columns * OperandTile::depth / multiplyAdds;
  const double reads = 2 * OperandTile::depth * (tileRows + columns * double(knobs.consumers())) /
                       sharedBytesOfCycle;
  const double blocks = double(divideCeilSigned(limits.rows, knobs.bm)) * columnTiles * split;
  const double stageBytes = 2 * OperandTile::depth * (std::min(rows, tileRows) + columns);
  const double busy = std::min(blocks / double(limits.multiprocessors), double(knobs.resident));
  const double copies =
      std::max(stageBytes / cacheBytesOfCycle, stageBytes * std::min(busy, 1.0) / cacheBytesOfAll);
  // A weight takes so many instructions of a thread.
  const double expansion =
      limits.expands ? columns * OperandTile::depth * instructionsOfWeight / warpgroup : 0;
  const bool overlaps =
      (knobs.consumers() > 1 && limits.rows > MatrixShape::rows) || knobs.resident > 1;
  const double multiplied = std::max(products, reads) + restOfStage + (overlaps ? 0 : waitOfStage);
  const double stage = std::max({multiplied, copies, expansion});
  const double stages = std::ceil(double(limits.stages()) / split);
  const double store = tileRows * columns / split * limits.resultBytes / (sharedBytesOfCycle / 2);
  double tile = stage * stages + restOfTile + store;
  if (knobs.split > 1)
    tile += meetings + 4 * tileRows * columns * (1 / sharedBytesOfCycle + 1 / clusterBytesOfCycle);
  // Blocks that share a multiprocessor take turns with its matrix units.
  int64_t atOnce = knobs.resident * (limits.multiprocessors / knobs.split * knobs.split);
  if (knobs.split == 1)
    atOnce = std::min(atOnce, knobs.blocks);
  const double turns =
      std::ceil(blocks / double(std::max<int64_t>(atOnce, 1))) * double(knobs.resident);
  const double bytes = 2 * rows * depth + limits.resultBytes * rows * width +
                       limits.weightBytes * width / limits.allColumns();
  const double start = startOfBlock * (knobs.split == 1 ? 1 : std::ceil(turns));
  return launch + std::max((turns * tile + start) / cyclesPerSecond,
                           startOfBlock / cyclesPerSecond + bytes / bytesPerSecond);
}

double predict(const KernelLimits &limits, const MatrixKnobs &knobs) {
  SmallVector<int64_t> kinds(limits.segments);
  llvm::sort(kinds);
  kinds.erase(std::unique(kinds.begin(), kinds.end()), kinds.end());
  double seconds = 0;
  if (limits.writesRows) // f32 are read, and half as much written
    seconds += launch + 6 * double(limits.rows) * double(limits.depth) / bytesPerSecond;
  for (const int64_t segments : kinds)
    seconds += predictPhase(limits, knobs, segments);
  return seconds;
}

/// Tiles of which one is taken without measuring: rows, columns of all segments, stages, blocks
/// that may share the depth. More than two do not all find room at once, and of large tiles the
/// sums take longer to add up than two blocks save.
struct UsualTile {
  int64_t rows, columns, stages, mostParts;
};
constexpr std::array<UsualTile, 10> usualTiles = {{{128, 256, 4, 1},
                                                   {128, 224, 4, 1},
                                                   {128, 192, 4, 1},
                                                   {128, 128, 6, 1},
                                                   {64, 256, 4, 1},
                                                   {64, 128, 8, 1},
                                                   {128, 64, 8, 1},
                                                   {64, 64, 8, 2},
                                                   {128, 32, 8, 1},
                                                   {64, 32, 12, 1}}};

/// What a later one must take of the time of one before it: those are expected too coarsely for
/// less to mean anything.
constexpr double atLeastFaster = 0.97;

KnobValues complete(const KernelLimits &limits, const KnobValues &given) {
  KnobValues best;
  double least = std::numeric_limits<double>::infinity();
  for (const UsualTile &tile : usualTiles)
    for (int64_t split = 1; split <= tile.mostParts; ++split) {
      KnobValues values = given;
      const int64_t unit = limits.columnUnit;
      const int64_t bn = tile.columns / limits.segmentsAtOnce() / unit * unit;
      values.try_emplace("bm", tile.rows);
      values.try_emplace("bn", std::max(bn, unit));
      values.try_emplace("stages", tile.stages);
      values.try_emplace("group", 16);
      values.try_emplace("resident", 1);
      values.try_emplace("blocks", values.at("resident") * limits.multiprocessors);
      values.try_emplace("split", split);
      values.try_emplace("early", limits.areMarked ? 1 : 0);
      const auto knobs = read(limits, values);
      const double time = knobs ? predict(limits, *knobs) : least;
      if (best.empty() || time < least * atLeastFaster) {
        best = values;
        least = time;
      }
    }
  return best;
}

} // namespace

Expected<MatrixKnobs> cuda::matmul::matrixKnobs(const KernelAnalysis &kernel, const Target &target,
                                                const KnobValues &values) {
  return read(limitsOf(kernel, target), values);
}

ScheduleSpace cuda::matmul::matrixSpace(const KernelAnalysis &kernel, const Target &target) {
  const auto limits = std::make_shared<const KernelLimits>(limitsOf(kernel, target));
  ScheduleSpace space;
  space.knobs = {
      {"bm", {64, 128}, "rows of a block's tile: 64 of each warpgroup that multiplies"},
      {"bn", {32, 64, 128, 192, 256}, "columns of a block's tile, of each segment"},
      {"stages", {3, 4, 5, 6, 8}, "stages of both operands in shared memory"},
      {"group", {8, 16}, "tiles that follow one another downwards"},
      {"resident", {1, 2}, "blocks that share a multiprocessor"},
      {"blocks",
       {limits->multiprocessors, 2 * limits->multiprocessors},
       "blocks of the grid at most, which go on to further tiles"},
      {"split", {1, 2}, "blocks that share the depth of a tile, and have one alone"},
      {"early", {limits->areMarked ? 1 : 0}, "weights are copied before what ran before is done"}};
  space.check = [limits](const KnobValues &values) -> Status {
    return read(*limits, values).transform([](const auto &) {});
  };
  space.predict = [limits](const KnobValues &values) {
    const auto knobs = read(*limits, values);
    return knobs ? predict(*limits, *knobs) : std::numeric_limits<double>::infinity();
  };
  space.orderClass = [](const KnobValues &values) {
    const auto split = values.find("split");
    return split == values.end() || split->second == 1 ? std::string()
                                                       : fmt::format(" split {}", split->second);
  };
  space.complete = [limits](const KnobValues &given) { return complete(*limits, given); };
  space.analytic = space.complete({});
  return space;
}
