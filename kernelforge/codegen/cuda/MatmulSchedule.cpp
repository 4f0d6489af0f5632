// Schedules of matmuls by matrix units: what is legal, what is taken without measuring, what a
// search tries, and how long a schedule may be expected to take.
#include "kernelforge/codegen/cuda/Matmul.h"

#include "kernelforge/codegen/Knobs.h"

#include "llvm/Support/MathExtras.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <limits>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cuda;
using namespace kernelforge::cuda::matmul;

using llvm::divideCeilSigned;

namespace {

/// Everything that bounds a kernel's schedules, as plain numbers.
struct KernelLimits {
  std::string name; ///< of the kernel, for errors
  int64_t rows = 1; ///< that are planned for
  int64_t depth = 1;
  SmallVector<int64_t> widths, segments; ///< of each group: columns, and how many segments
  double resultBytes = 4;                ///< of a number that is stored
  int64_t sharedBytes = 0;
  int64_t multiprocessors = 132;

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
  }
  for (const Sink &sink : kernel.sinks())
    limits.resultBytes = double(info(*elementTypeOf(sink.value.getType())).blockBytes);
  limits.sharedBytes = target.limits.sharedBytes;
  if (target.limits.workers > 0)
    limits.multiprocessors = target.limits.workers;
  return limits;
}

/// Columns of a product of the matrix units at most, and what tiles are multiples of.
constexpr int64_t mostColumns = 256, unit = 64;
/// A block's shared memory beside its own, that the system takes.
constexpr int64_t systemBytes = 1024;

Expected<MatrixKnobs> read(const KernelLimits &limits, const KnobValues &values) {
  const KnobReader reader(limits.name, values);
  KF_CHECK(reader.checkNames({"bm", "bn", "stages", "group", "resident", "blocks"}));
  MatrixKnobs knobs;
  const int64_t segments = limits.segmentsAtOnce();
  KF_TRY(knobs.bm, reader.get("bm", {unit, 2 * unit, unit}));
  KF_TRY(knobs.bn, reader.get("bn", {unit, mostColumns / segments / unit * unit, unit}));
  KF_TRY(knobs.stages, reader.get("stages", {2, 16}));
  KF_TRY(knobs.group, reader.get("group", {1, 256}));
  KF_TRY(knobs.resident, reader.get("resident", {1, 4}));
  KF_TRY(knobs.blocks, reader.get("blocks", {1, 1 << 20}));
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
  // Beside the sums there are addresses and what follows, and a product needs some when a thread
  // starts: where it has fewer then, the assembler refuses it.
  constexpr int64_t besides = 40, besidesAtStart = 26;
  const int64_t sums = MatrixShape{ElementType::BF16, segments * knobs.bn}.sums();
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

// Of an H200: cycles a second under load, multiply-adds and bytes of shared memory of a
// multiprocessor in one, bytes of memory a second, a launch.
constexpr double cyclesPerSecond = 1.6e9, multiplyAdds = 2048, sharedBytesOfCycle = 128,
                 bytesPerSecond = 4e12, launch = 3e-6;
/// Cycles of a stage beside its products; those that it waits where nobody multiplies meanwhile;
/// and those of a tile's start and end beside what it stores.
constexpr double restOfStage = 64, waitOfStage = 150, restOfTile = 1500;

double predict(const KernelLimits &limits, const MatrixKnobs &knobs) {
  double seconds = 0;
  const auto rows = double(limits.rows), depth = double(limits.depth);
  for (auto [width, segments] : llvm::zip(limits.widths, limits.segments)) {
    const auto columns = double(segments * knobs.bn), tileRows = double(knobs.bm);
    const double products = tileRows * columns * OperandTile::depth / multiplyAdds;
    const double reads = 2 * OperandTile::depth * (tileRows + columns * double(knobs.consumers())) /
                         sharedBytesOfCycle;
    const bool overlaps = knobs.consumers() > 1 || knobs.resident > 1;
    const double stage = std::max(products, reads) + restOfStage + (overlaps ? 0 : waitOfStage);
    const double store = tileRows * columns * limits.resultBytes / (sharedBytesOfCycle / 2);
    const double tile =
        stage * double(divideCeilSigned(limits.depth, OperandTile::depth)) + restOfTile + store;
    const auto tiles =
        double(divideCeilSigned(limits.rows, knobs.bm) * divideCeilSigned(width, knobs.bn));
    // Blocks that share a multiprocessor take turns with its matrix units.
    const auto atOnce = double(std::min(knobs.blocks, knobs.resident * limits.multiprocessors));
    const double turns = std::ceil(tiles / atOnce) * double(knobs.resident);
    const double weights = depth * double(width * segments);
    const double bytes =
        2 * (rows * depth + weights) + limits.resultBytes * rows * double(width * segments);
    seconds += launch + std::max(turns * tile / cyclesPerSecond, bytes / bytesPerSecond);
  }
  return seconds;
}

/// Tiles of which one is taken without measuring: rows, columns of all segments, stages, blocks
/// that share a multiprocessor.
constexpr std::array<std::array<int64_t, 4>, 6> usualTiles = {{
    {128, 256, 4, 1},
    {128, 192, 4, 1},
    {128, 128, 5, 1},
    {64, 256, 4, 1},
    {64, 128, 8, 1},
    {64, 64, 8, 1},
}};

KnobValues complete(const KernelLimits &limits, const KnobValues &given) {
  KnobValues best;
  double least = std::numeric_limits<double>::infinity();
  for (const auto &[bm, columns, stages, resident] : usualTiles) {
    KnobValues values = given;
    const int64_t bn = columns / limits.segmentsAtOnce() / unit * unit;
    values.try_emplace("bm", bm);
    values.try_emplace("bn", std::max(bn, unit));
    values.try_emplace("stages", stages);
    values.try_emplace("group", 16);
    values.try_emplace("resident", resident);
    values.try_emplace("blocks", values.at("resident") * limits.multiprocessors);
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
  space.knobs = {{"bm", {64, 128}, "rows of a block's tile: 64 of each warpgroup that multiplies"},
                 {"bn", {64, 128, 192, 256}, "columns of a block's tile, of each segment"},
                 {"stages", {3, 4, 5, 6, 8}, "stages of both operands in shared memory"},
                 {"group", {8, 16}, "tiles that follow one another downwards"},
                 {"resident", {1, 2}, "blocks that share a multiprocessor"},
                 {"blocks",
                  {limits->multiprocessors, 2 * limits->multiprocessors},
                  "blocks of the grid at most, which go on to further tiles"}};
  space.check = [limits](const KnobValues &values) -> Status {
    return read(*limits, values).transform([](const auto &) {});
  };
  space.predict = [limits](const KnobValues &values) {
    const auto knobs = read(*limits, values);
    return knobs ? predict(*limits, *knobs) : std::numeric_limits<double>::infinity();
  };
  space.orderClass = [](const KnobValues &) { return std::string(); };
  space.complete = [limits](const KnobValues &given) { return complete(*limits, given); };
  space.analytic = space.complete({});
  return space;
}
