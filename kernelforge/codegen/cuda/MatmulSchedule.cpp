// Schedules of matmuls by matrix units: what is legal, what is taken without measuring, what a
// search tries, and how long a schedule may be expected to take.
#include "kernelforge/codegen/cuda/MatmulResults.h"

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
  double resultBytes = 4;                ///< of a number that is stored
  int64_t sharedBytes = 0;
  int64_t multiprocessors = 132;

  int64_t stages() const {
    return std::max<int64_t>(divideCeilSigned(depth, OperandTile::depth), 1);
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
  limits.columnUnit = std::lcm(matmul.getTranspose() ? OperandTile::panelElements : leastColumns,
                               limits.headColumns);
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
  KF_CHECK(reader.checkNames({"bm", "bn", "stages", "group", "resident", "blocks", "split"}));
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
  KF_TRY(knobs.split, reader.get("split", {1, std::min(mostOfCluster, limits.stages())}));
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
  // Beside the sums there are addresses and what follows, and a product needs some when a thread
  // starts: where it has fewer then, the assembler refuses it.
  constexpr int64_t besides = 40, besidesAtStart = 26;
  const int64_t sums = shape.sums();
  const int64_t atStart = Roles::registers(knobs.consumers(), knobs.resident);
  const int64_t later = Roles::registersOfConsumers(knobs.consumers(), knobs.resident);
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
// reads of its shared memory, of another block's and of the L2 cache, bytes of memory a second.
constexpr double cyclesPerSecond = 1.6e9, multiplyAdds = 2048, sharedBytesOfCycle = 128,
                 clusterBytesOfCycle = 24, cacheBytesOfCycle = 56, bytesPerSecond = 4e12;
/// Cycles of a stage beside its products; those that it waits where nobody multiplies meanwhile; of
/// a block from its start to its first products; of a tile's end beside what it stores; and of a
/// cluster's meetings.
constexpr double restOfStage = 64, waitOfStage = 150, startOfBlock = 2500, restOfTile = 1500,
                 meetings = 1500;
/// A launch.
constexpr double launch = 3e-6;

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
  const double copies =
      2 * OperandTile::depth * (std::min(rows, tileRows) + columns) / cacheBytesOfCycle;
  const bool overlaps = knobs.consumers() > 1 || knobs.resident > 1;
  const double stage =
      std::max({products + restOfStage, reads + restOfStage, copies / double(knobs.resident)}) +
      (overlaps ? 0 : waitOfStage);
  const double stages = std::ceil(double(limits.stages()) / split);
  const double store = tileRows * columns / split * limits.resultBytes / (sharedBytesOfCycle / 2);
  double tile = stage * stages + restOfTile + store;
  if (knobs.split > 1)
    tile += meetings + 4 * tileRows * columns * (1 / sharedBytesOfCycle + 1 / clusterBytesOfCycle);
  const double blocks = double(divideCeilSigned(limits.rows, knobs.bm)) * columnTiles * split;
  // Blocks that share a multiprocessor take turns with its matrix units.
  int64_t atOnce = knobs.resident * (limits.multiprocessors / knobs.split * knobs.split);
  if (knobs.split == 1)
    atOnce = std::min(atOnce, knobs.blocks);
  const double turns =
      std::ceil(blocks / double(std::max<int64_t>(atOnce, 1))) * double(knobs.resident);
  const double bytes = 2 * (rows * depth + depth * width) + limits.resultBytes * rows * width;
  const double start = startOfBlock * (knobs.split == 1 ? 1 : std::ceil(turns));
  return launch + std::max((turns * tile + start) / cyclesPerSecond,
                           startOfBlock / cyclesPerSecond + bytes / bytesPerSecond);
}

double predict(const KernelLimits &limits, const MatrixKnobs &knobs) {
  SmallVector<int64_t> kinds(limits.segments);
  llvm::sort(kinds);
  kinds.erase(std::unique(kinds.begin(), kinds.end()), kinds.end());
  double seconds = 0;
  for (const int64_t segments : kinds)
    seconds += predictPhase(limits, knobs, segments);
  return seconds;
}

/// Tiles of which one is taken without measuring: rows, columns of all segments, stages, and into
/// how many parts the depth may be split.
struct UsualTile {
  int64_t rows, columns, stages, mostParts;
};
constexpr std::array<UsualTile, 8> usualTiles = {{{128, 256, 4, 2},
                                                  {128, 192, 4, 2},
                                                  {128, 128, 6, 4},
                                                  {64, 256, 4, 8},
                                                  {64, 128, 8, 8},
                                                  {64, 64, 8, 4},
                                                  {64, 32, 12, 1},
                                                  {128, 64, 8, 4}}};

KnobValues complete(const KernelLimits &limits, const KnobValues &given) {
  KnobValues best;
  double least = std::numeric_limits<double>::infinity();
  for (const UsualTile &tile : usualTiles)
    for (int64_t split = 1; split <= tile.mostParts; split *= 2) {
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
      const auto knobs = read(limits, values);
      const double time = knobs ? predict(limits, *knobs) : least;
      if (best.empty() || time < least) {
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
      {"split", {1, 2, 4, 8}, "blocks that share the depth of a tile, and have one alone"}};
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
