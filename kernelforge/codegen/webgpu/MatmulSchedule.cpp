#include "kernelforge/codegen/webgpu/MatmulSchedule.h"

#include "kernelforge/codegen/Knobs.h"

#include "llvm/Support/MathExtras.h"

#include <algorithm>
#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::webgpu::matmul;

using llvm::divideCeilSigned;

//===----------------------------------------------------------------------===//
// The shape of a schedule
//===----------------------------------------------------------------------===//

/// Threads that run in step on the devices that schedules are made for. Others only read
/// workgroup memory less well.
static constexpr int64_t lanes = 32;

int64_t TileKnobs::lanesAcross() const {
  const int64_t usual = std::min<int64_t>(8, threadsAcross());
  const int64_t down = std::min(lanes / usual, threadsDown());
  return std::min(threadsAcross(), lanes / down);
}

int64_t TileKnobs::lanesDown() const { return std::min(threadsDown(), lanes / lanesAcross()); }

StripShape TileKnobs::strip(int64_t segments) const {
  const int64_t rows = 4 * lanesDown();
  return {rows, cut.bm / rows, segments * cut.bn + 4, cut.bn};
}

int64_t TileKnobs::sharedVectors(int64_t segments) const {
  const StripShape shape = strip(segments);
  return std::max(stages * stageVectors(segments), shape.rows * shape.stride / 4);
}

//===----------------------------------------------------------------------===//
// What bounds them
//===----------------------------------------------------------------------===//

namespace {

/// Everything that bounds a kernel's schedules, as plain numbers.
struct KernelLimits {
  std::string name;                      ///< of the kernel, for errors
  int64_t rows = 1;                      ///< that are planned for
  int64_t depth = 1;                     ///< K
  int64_t columns = 1;                   ///< that a tile must hold whole: heads that are rotated
  SmallVector<int64_t> widths, segments; ///< of each group: columns, and how many segments
  int64_t inputBytes = 4;                ///< of a number of the rows
  double weightBytes = 4;                ///< of a number of a weight
  bool plainInput = true;
  int64_t sharedBytes = 16384, threads = 256;

  int64_t segmentsAtOnce() const { return *std::max_element(segments.begin(), segments.end()); }
};

/// More rows change no choice, and predicted times stay below those of a device that is lost.
constexpr int64_t mostPlannedRows = 4096;

KernelLimits limitsOf(const KernelAnalysis &kernel, const Target &target) {
  transformer::MatmulOp matmul = kernel.matmul();
  KernelLimits limits;
  limits.name = kernel.name();
  Type input = matmul.getInput().getType();
  limits.rows = std::clamp<int64_t>(kernel.plannedRows(input).second, 1, mostPlannedRows);
  limits.depth = matmul.getK();
  limits.plainInput = hasPlainInput(kernel);
  const auto bytesOf = [](Type type) {
    const ElementTypeInfo &element = info(*elementTypeOf(type));
    return static_cast<double>(element.blockBytes) / static_cast<double>(element.blockElements);
  };
  limits.inputBytes = limits.plainInput ? static_cast<int64_t>(bytesOf(input)) : 4;
  limits.weightBytes = bytesOf(matmul.getWeights()[0].getType());
  for (const SegmentGroup &group : kernel.groups()) {
    limits.columns = std::max(limits.columns, webgpu::wholeColumns(group));
    limits.widths.push_back(group.n);
    limits.segments.push_back(static_cast<int64_t>(group.segments.size()));
  }
  if (target.limits.sharedBytes > 0)
    limits.sharedBytes = target.limits.sharedBytes;
  if (target.limits.threadsPerBlock > 0)
    limits.threads = target.limits.threadsPerBlock;
  return limits;
}

} // namespace

Status webgpu::matmul::checkFits(const KernelAnalysis &kernel, const Target &target,
                                 int64_t sharedBytes, int64_t threads) {
  SmallVector<simt::Needs> needs;
  for (const SegmentGroup &group : kernel.groups())
    needs.push_back({buffersOf(kernel, group), sharedBytes, threads});
  if (!hasPlainInput(kernel))
    needs.push_back({0, simt::threads * 4 + simt::RowExpressions::sharedBytesOfRow(kernel.kernel()),
                     simt::threads});
  return simt::checkLimits(kernel.kernel(), needs, target.limits);
}

//===----------------------------------------------------------------------===//
// Checking
//===----------------------------------------------------------------------===//

/// Sums that a thread keeps in registers at most, of all segments.
static constexpr int64_t mostSums = 128;
static constexpr int64_t mostSlices = 64;

namespace {

/// Reads knobs that are powers of two, too.
class TileReader {
public:
  TileReader(const KernelLimits &limits, const KnobValues &values)
      : limits(limits), reader(limits.name, values) {}

  Expected<TileKnobs> read() const {
    KF_CHECK(reader.checkNames({"bm", "bn", "bk", "tm", "tn", "stages", "ksplit"}));
    TileKnobs knobs;
    KF_TRY(knobs.tm, powerOfTwo("tm", 4, 16));
    KF_TRY(knobs.tn, powerOfTwo("tn", 4, 16));
    KF_TRY(knobs.cut.bm, powerOfTwo("bm", 4 * knobs.tm, 256));
    const auto whole = static_cast<int64_t>(llvm::PowerOf2Ceil(uint64_t(limits.columns)));
    KF_TRY(knobs.cut.bn,
           powerOfTwo("bn", std::max(4 * knobs.tn, whole), std::max(whole, int64_t(256))));
    KF_TRY(knobs.cut.bk, powerOfTwo("bk", 8, 32));
    KF_TRY(knobs.stages, reader.get("stages", {1, 2}));
    KF_TRY(knobs.cut.ksplit, reader.get("ksplit", {1, mostSlices}));
    const int64_t segments = limits.segmentsAtOnce();
    KF_CHECK(atMost("tm * tn of all segments", knobs.tm * knobs.tn * segments, mostSums));
    KF_CHECK(atMost("the threads, bm / tm * bn / tn", knobs.threads(), limits.threads));
    KF_CHECK(atMost("bytes of workgroup memory, of bk, bm, bn and stages",
                    16 * knobs.sharedVectors(segments), limits.sharedBytes));
    if (knobs.threads() < lanes)
      return unusable("schedule is not legal", limits.name,
                      fmt::format("the threads, bm / tm * bn / tn, are {}", knobs.threads()),
                      fmt::format("make them {} or more", lanes));
    return knobs;
  }

private:
  Expected<int64_t> powerOfTwo(StringRef name, int64_t least, int64_t most) const {
    KF_TRY(const int64_t value, reader.get(name, {least, most, least}));
    if (!llvm::isPowerOf2_64(static_cast<uint64_t>(value)))
      return unusable(
          "schedule is not legal", fmt::format("{}, knob {}", limits.name, name.str()),
          fmt::format("it is {}, but must be a power of two", value),
          fmt::format("the next one is {}", llvm::PowerOf2Ceil(static_cast<uint64_t>(value))));
    return value;
  }

  Status atMost(const char *what, int64_t value, int64_t most) const {
    if (value <= most)
      return {};
    return unusable("schedule is not legal", limits.name,
                    fmt::format("{} is {}, but must be at most {}", what, value, most),
                    "make the tile smaller");
  }

  const KernelLimits &limits;
  KnobReader reader;
};

//===----------------------------------------------------------------------===//
// Prediction
//===----------------------------------------------------------------------===//

// What was measured on an H200: a multiprocessor's multiply-adds, bytes of memory, a dispatch.
constexpr double multiprocessors = 132, flopsEach = 65.8e12 / multiprocessors,
                 bytesPerSecond = 3.5e12, dispatch = 2e-6, sharedOfMultiprocessor = 49152,
                 registersOfMultiprocessor = 65536;

double predictTiles(const KernelLimits &limits, const TileKnobs &knobs) {
  const Stages stages(limits.depth, knobs.cut);
  const auto rows = static_cast<double>(limits.rows), depth = static_cast<double>(limits.depth);
  double total = 0;
  if (!limits.plainInput)
    total += dispatch + rows * depth * 8 / bytesPerSecond;
  for (auto [width, segments] : llvm::zip(limits.widths, limits.segments)) {
    const int64_t columns = knobs.cut.bn / limits.columns * limits.columns;
    const double blocks = static_cast<double>(divideCeilSigned(limits.rows, knobs.cut.bm) *
                                              divideCeilSigned(width, columns) * stages.slices);
    // Reads of workgroup memory stand beside multiply-adds, and a few threads alone do not keep a
    // multiprocessor busy.
    const double sums = static_cast<double>(knobs.tm * knobs.tn * segments);
    const double reads = static_cast<double>(knobs.tm + knobs.tn * segments);
    const double each = std::ceil(blocks / multiprocessors);
    const auto threads = static_cast<double>(knobs.threads());
    const double resident =
        std::max(1.0, std::min({each,
                                std::floor(sharedOfMultiprocessor / 16 /
                                           static_cast<double>(knobs.sharedVectors(segments))),
                                std::floor(registersOfMultiprocessor / threads / (sums + 50))}));
    const double busy = 0.75 + 0.25 * std::min(1.0, resident * threads / 256);
    const double perTile = 2.0 * static_cast<double>(knobs.cut.bm * knobs.cut.bn * segments) *
                           static_cast<double>(stages.perSlice * knobs.cut.bk);
    const double compute = each * perTile / (flopsEach * busy / (1 + 1.68 * reads / sums));
    const auto results = rows * static_cast<double>(width * segments);
    const double move =
        (rows * depth * static_cast<double>(limits.inputBytes) +
         depth * static_cast<double>(width * segments) * limits.weightBytes + results * 4) /
        bytesPerSecond;
    total += dispatch + std::max(compute, move);
    if (stages.slices > 1)
      total += dispatch + 8 * static_cast<double>(stages.slices) * results / bytesPerSecond;
  }
  return total;
}

/// Schedules of which one is taken without measuring, with each way to share out K.
constexpr std::array<std::array<int64_t, 6>, 9> usualTiles = {{
    // bm, bn, bk, tm, tn, stages
    {128, 256, 16, 8, 16, 1},
    {128, 128, 16, 8, 8, 1},
    {128, 128, 8, 8, 8, 1},
    {64, 128, 16, 8, 8, 2},
    {64, 128, 16, 8, 8, 1},
    {64, 64, 16, 4, 8, 1},
    {32, 64, 16, 4, 4, 1},
    {16, 128, 16, 4, 4, 1},
    {16, 256, 16, 4, 4, 1},
}};

} // namespace

Expected<TileKnobs> webgpu::matmul::tileKnobs(const KernelAnalysis &kernel, const Target &target,
                                              const KnobValues &values) {
  return TileReader(limitsOf(kernel, target), values).read();
}

ScheduleSpace webgpu::matmul::tileSpace(const KernelAnalysis &kernel, const Target &target) {
  const auto limits = std::make_shared<const KernelLimits>(limitsOf(kernel, target));
  ScheduleSpace space;
  space.knobs = {{"bm", {16, 32, 64, 128}, "rows of a workgroup's tile"},
                 {"bn", {64, 128, 256}, "columns of a workgroup's tile, of each segment"},
                 {"bk", {8, 16, 32}, "depth of a stage"},
                 {"tm", {4, 8}, "rows of a thread"},
                 {"tn", {4, 8, 16}, "columns of a thread, of each segment"},
                 {"stages", {1, 2}, "buffers of a stage"},
                 {"ksplit", {1, 2, 4, 8, 16}, "workgroups that share out K"}};
  space.check = [limits](const KnobValues &values) -> Status {
    return TileReader(*limits, values).read().transform([](const auto &) {});
  };
  space.predict = [limits](const KnobValues &values) {
    const auto knobs = TileReader(*limits, values).read();
    return knobs ? predictTiles(*limits, *knobs) : std::numeric_limits<double>::infinity();
  };
  space.complete = [predict = space.predict](const KnobValues &given) {
    KnobValues best;
    double least = std::numeric_limits<double>::infinity();
    for (const auto &tile : usualTiles)
      for (int64_t ksplit : {1, 2, 4, 8, 16}) {
        KnobValues values = given;
        const std::pair<const char *, int64_t> usual[] = {
            {"bm", tile[0]}, {"bn", tile[1]},     {"bk", tile[2]},   {"tm", tile[3]},
            {"tn", tile[4]}, {"stages", tile[5]}, {"ksplit", ksplit}};
        values.insert(std::begin(usual), std::end(usual));
        if (const double time = predict(values); best.empty() || time < least) {
          best = values;
          least = time;
        }
      }
    return best;
  };
  space.orderClass = [limits](const KnobValues &values) -> std::string {
    const auto knobs = TileReader(*limits, values).read();
    const Stages stages(limits->depth, knobs ? knobs->cut : Cut{.bk = 1});
    return stages.slices == 1 ? "" : fmt::format("_{}", stages.perSlice * knobs->cut.bk);
  };
  space.analytic = space.complete({});
  return space;
}
