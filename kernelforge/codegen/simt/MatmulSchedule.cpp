#include "kernelforge/codegen/simt/MatmulSchedule.h"

#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/codegen/simt/MatmulTile.h"
#include "kernelforge/codegen/simt/Methods.h"
#include "kernelforge/ir/Numerics.h"

#include "llvm/Support/MathExtras.h"

#include <algorithm>
#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::simt::tiles;

using llvm::divideCeilSigned;

//===----------------------------------------------------------------------===//
// The shape of a schedule
//===----------------------------------------------------------------------===//

/// Threads that run in step on the devices that schedules are made for. Others only read
/// workgroup memory less well.
static constexpr int64_t inStep = 32;

int64_t TileKnobs::lanesAcross() const {
  const int64_t usual = std::min(lanes, threadsAcross());
  const int64_t down = std::min(inStep / usual, threadsDown());
  return std::min(threadsAcross(), inStep / down);
}

int64_t TileKnobs::lanesDown() const { return std::min(threadsDown(), inStep / lanesAcross()); }

StripShape TileKnobs::strip(int64_t segments) const {
  const int64_t rows = 4 * lanesDown();
  return {rows, cut.bm / rows, segments * cut.bn + 4, cut.bn};
}

int64_t TileKnobs::sharedVectors(int64_t segments, bool transposed) const {
  const StripShape shape = strip(segments);
  return std::max(stages * stageVectors(segments, transposed), shape.rows * shape.stride / 4);
}

int64_t MatrixKnobs::sharedVectors(int64_t segments, bool transposed) const {
  const StripShape shape = strip(segments, transposed);
  return std::max(stageVectors(segments, transposed), shape.rows * shape.stride / 4);
}

StripShape MatrixKnobs::strip(int64_t segments, bool transposed) const {
  const int64_t stride = segments * cut.bn + 4;
  int64_t rows = matrixSize;
  while (2 * rows <= rowsOfSubgroup() &&
         2 * rows * stride / 4 <= stageVectors(segments, transposed))
    rows *= 2;
  return {rows, cut.bm / rows, stride, cut.bn};
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
  double inputBytes = 4;                 ///< of a number of the rows
  double weightBytes = 4;                ///< of a number of a weight
  int64_t wholeDepth = 1;                ///< stages of such a multiple are read piece by piece
  bool mustPack = false, transposed = false;
  bool isQuantized = false; ///< the weights are
  bool strict = false;      ///< memory that is not an operand's must not be read
  bool isOnePhase = false;  ///< of all groups, each of one segment
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
  limits.mustPack = !hasPlainInput(kernel) || multipliesIntegers(numericsOf(matmul));
  limits.transposed = matmul.getTranspose();
  const auto bytesOf = [](Type type) {
    const ElementTypeInfo &element = info(*elementTypeOf(type));
    return static_cast<double>(element.blockBytes) / static_cast<double>(element.blockElements);
  };
  limits.inputBytes = bytesOf(input);
  limits.weightBytes = bytesOf(matmul.getWeights()[0].getType());
  limits.isQuantized = info(*elementTypeOf(matmul.getWeights()[0].getType())).isQuantized();
  for (Value weight : matmul.getWeights())
    limits.wholeDepth = std::max(limits.wholeDepth, wholeDepth(weight.getType()));
  for (const SegmentGroup &group : kernel.groups()) {
    limits.columns = std::max(limits.columns, wholeColumns(group));
    limits.widths.push_back(group.n);
    limits.segments.push_back(static_cast<int64_t>(group.segments.size()));
  }
  limits.isOnePhase = isOnePhase(kernel, target);
  limits.strict = target.has("strict-memory");
  if (target.limits.sharedBytes > 0)
    limits.sharedBytes = target.limits.sharedBytes;
  if (target.limits.threadsPerBlock > 0)
    limits.threads = target.limits.threadsPerBlock;
  return limits;
}

} // namespace

Status tiles::checkFits(const KernelAnalysis &kernel, const Target &target, int64_t sharedBytes,
                        int64_t threads) {
  SmallVector<Needs> needs;
  for (const SegmentGroup &group : kernel.groups())
    needs.push_back({buffersOf(kernel, group), sharedBytes, threads});
  if (!hasPlainInput(kernel))
    needs.push_back({0, threads * 4 + RowExpressions::sharedBytesOfRow(kernel.kernel()), threads});
  return checkLimits(kernel.kernel(), needs, target.limits);
}

//===----------------------------------------------------------------------===//
// Checking
//===----------------------------------------------------------------------===//

/// Sums that a thread keeps in registers at most, of all segments.
static constexpr int64_t mostSums = 128;
static constexpr int64_t mostSlices = 64;

namespace {

/// Reads knobs, with the rules that both methods have.
class TileReader {
public:
  TileReader(const KernelLimits &limits, const KnobValues &values)
      : limits(limits), reader(limits.name, values) {}

  Expected<TileKnobs> tiles() const {
    KF_CHECK(reader.checkNames(
        {"bm", "bn", "bk", "tm", "tn", "stages", "turn", "lanes", "ksplit", "pack"}));
    TileKnobs knobs;
    KF_TRY(knobs.tm, powerOfTwo("tm", 4, 16));
    KF_TRY(knobs.tn, powerOfTwo("tn", 4, 16));
    KF_TRY(knobs.cut, cut(4 * knobs.tm, 4 * knobs.tn, 8, 64));
    KF_TRY(knobs.stages, reader.get("stages", {1, 2}));
    KF_TRY(const int64_t turn, reader.get("turn", {0, 1}));
    knobs.turn = turn != 0;
    KF_TRY(knobs.lanes, powerOfTwo("lanes", 4, 8));
    const int64_t segments = limits.segmentsAtOnce();
    KF_CHECK(atMost("tm * tn of all segments", knobs.tm * knobs.tn * segments, mostSums));
    KF_CHECK(checkWorkgroup(knobs.threads(), knobs.sharedVectors(segments, limits.transposed)));
    return knobs;
  }

  Expected<MatrixKnobs> matrices() const {
    KF_CHECK(reader.checkNames({"bm", "bn", "bk", "wm", "wn", "ksplit", "pack"}));
    MatrixKnobs knobs;
    KF_TRY(knobs.wm, powerOfTwo("wm", 1, 8));
    KF_TRY(knobs.wn, powerOfTwo("wn", 1, 8));
    KF_TRY(knobs.cut, cut(matrixSize * knobs.wm, matrixSize * knobs.wn, matrixSize, 64));
    const int64_t segments = limits.segmentsAtOnce();
    KF_CHECK(atMost("bm / wm * bn / wn / 32 of all segments",
                    knobs.rowsOfSubgroup() * knobs.columnsOfSubgroup() * segments / matrixThreads,
                    mostSums));
    KF_CHECK(checkWorkgroup(knobs.threads(), knobs.sharedVectors(segments, limits.transposed)));
    return knobs;
  }

private:
  Expected<Cut> cut(int64_t leastRows, int64_t leastColumns, int64_t leastDepth,
                    int64_t mostDepth) const {
    Cut cut;
    cut.strict = limits.strict;
    KF_TRY(cut.bm, powerOfTwo("bm", leastRows, 256));
    const auto whole = static_cast<int64_t>(llvm::PowerOf2Ceil(uint64_t(limits.columns)));
    KF_TRY(cut.bn, powerOfTwo("bn", std::max(leastColumns, whole), std::max<int64_t>(whole, 256)));
    KF_TRY(cut.bk, powerOfTwo("bk", leastDepth, mostDepth));
    KF_TRY(cut.ksplit, reader.get("ksplit", {1, mostSlices}));
    KF_TRY(const int64_t pack, reader.get("pack", {limits.mustPack ? 1 : 0, 1}));
    cut.pack = pack != 0;
    return cut;
  }

  Status checkWorkgroup(int64_t threads, int64_t sharedVectors) const {
    KF_CHECK(atMost("the number of threads", threads, limits.threads));
    KF_CHECK(atMost("bytes of workgroup memory", 16 * sharedVectors, limits.sharedBytes));
    if (threads < inStep)
      return unusable("schedule is not legal", limits.name,
                      fmt::format("a workgroup has {} threads", threads),
                      fmt::format("make the tile larger: {} are the least", inStep));
    return {};
  }

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
                    fmt::format("{} is {}, and at most {} can be", what, value, most),
                    "make the tile smaller");
  }

  const KernelLimits &limits;
  KnobReader reader;
};

//===----------------------------------------------------------------------===//
// Prediction
//===----------------------------------------------------------------------===//

// What was measured on an H200: a multiprocessor's multiply-adds and cycles, bytes of memory, a
// dispatch, and how long a stage takes at least, whatever it has to do: it waits for memory, or
// for the cache where all operands fit into that.
constexpr double multiprocessors = 132, flopsEach = 65.8e12 / multiprocessors,
                 cyclesPerSecond = 1.755e9, bytesPerSecond = 3.5e12, dispatch = 2e-6,
                 sharedOfMultiprocessor = 49152, registersOfMultiprocessor = 65536,
                 bytesOfCache = 3e7, stageFromMemory = 1.0e-6, stageFromCache = 0.45e-6;

/// Threads of a multiprocessor that keep it busy, and what one does with half of them and less.
constexpr double busyThreads = 256, leastBusy = 0.9;

/// Cycles of a multiprocessor to expand a quantized number.
constexpr double cyclesToExpand = 0.05;

/// A workgroup to be predicted.
struct Work {
  int64_t threads, sharedVectors;
  double registers; ///< of a thread
  double seconds;   ///< that a busy multiprocessor takes for a stage of it
};

/// Workgroups that a multiprocessor has at once.
double workgroupsAtOnce(const Work &work) {
  const auto threads = static_cast<double>(work.threads);
  const double fit =
      std::min(std::floor(sharedOfMultiprocessor / 16 / static_cast<double>(work.sharedVectors)),
               std::floor(registersOfMultiprocessor / threads / work.registers));
  return std::max(1.0, fit);
}

/// Seconds that a multiprocessor takes for `each` workgroups of so many stages, all at once.
double roundSeconds(const Work &work, double each, double stages, double leastStage) {
  if (each <= 0)
    return 0;
  const double there = each * static_cast<double>(work.threads);
  const double busy = leastBusy + (1 - leastBusy) * std::min(1.0, there / busyThreads);
  return stages * std::max(each * work.seconds / busy, leastStage);
}

/// `workOf(segments)`: a workgroup's work on a tile of so many. `reads`: how much longer a weight
/// takes that is read number by number.
double predict(const KernelLimits &limits, const Cut &cut, double packedBytes, double reads,
               llvm::function_ref<Work(int64_t segments)> workOf) {
  const Stages stages(limits.depth, cut);
  const auto rows = static_cast<double>(limits.rows), depth = static_cast<double>(limits.depth);
  double total = 0;
  if (cut.pack)
    total += dispatch + rows * depth * (limits.inputBytes + packedBytes) / bytesPerSecond;
  const double inputBytes = cut.pack ? packedBytes : limits.inputBytes;
  // Column tiles and results of a phase, of which all groups may be one.
  SmallVector<std::pair<int64_t, int64_t>> phases;
  for (auto [width, segments] : llvm::zip(limits.widths, limits.segments)) {
    const int64_t columns = cut.bn / limits.columns * limits.columns;
    if (phases.empty() || !limits.isOnePhase)
      phases.emplace_back(0, 0);
    phases.back().first += divideCeilSigned(width, columns);
    phases.back().second += width * segments;
  }
  for (auto [i, phase] : llvm::enumerate(phases)) {
    const int64_t segments = limits.segments[i];
    const auto tiles =
        static_cast<double>(divideCeilSigned(limits.rows, cut.bm) * phase.first * stages.slices);
    const double width = static_cast<double>(phase.second), results = rows * width;
    const double operands = rows * depth * inputBytes + depth * width * limits.weightBytes;
    Work work = workOf(segments);
    if (limits.isQuantized)
      work.seconds +=
          cyclesToExpand * static_cast<double>(cut.bn * segments * cut.bk) / cyclesPerSecond;
    const double leastStage = operands > bytesOfCache ? stageFromMemory : stageFromCache;
    const double atOnce = workgroupsAtOnce(work), inRound = multiprocessors * atOnce;
    const double rounds = std::floor(tiles / inRound), left = tiles - rounds * inRound;
    auto round = [&](double each) {
      return roundSeconds(work, each, static_cast<double>(stages.perSlice), leastStage);
    };
    const double compute = rounds * round(atOnce) + round(std::ceil(left / multiprocessors));
    total += dispatch + std::max(reads * compute, (operands + 4 * results) / bytesPerSecond);
    if (stages.slices > 1)
      total += 8 * static_cast<double>(stages.slices) * results / bytesPerSecond;
  }
  if (stages.slices > 1)
    total += static_cast<double>(limits.widths.size()) * dispatch;
  return total;
}

double predictTiles(const KernelLimits &limits, const TileKnobs &knobs) {
  return predict(limits, knobs.cut, 4, 1, [&](int64_t segments) -> Work {
    // Reads of workgroup memory stand beside multiply-adds, and few sums are few that do not wait
    // for each other.
    const auto sums = static_cast<double>(knobs.tm * knobs.tn * segments);
    const auto reads = static_cast<double>(knobs.tm + knobs.tn * segments);
    const double flops =
        2.0 * static_cast<double>(knobs.cut.bm * knobs.cut.bn * segments * knobs.cut.bk);
    // Turning round takes time, and vectors along k take registers: large sums have none left.
    const bool turns = limits.transposed || sums >= mostSums;
    const double way = knobs.turn == turns ? 1 : 1.1;
    return {knobs.threads(), knobs.sharedVectors(segments, limits.transposed), sums + 50,
            way * flops * (1 + reads / sums) * (1 + 16 / sums) / flopsEach};
  });
}

double predictMatrices(const KernelLimits &limits, const MatrixKnobs &knobs) {
  // Everything passes a multiprocessor's nearest memory, 128 bytes a cycle: what is fetched three
  // times (it arrives, is read, and is written to workgroup memory), and what subgroups read from
  // there.
  constexpr double bytesOfCycle = 128, overBound = 1.27;
  const double inputBytes = knobs.cut.pack ? 2 : limits.inputBytes;
  const double reads = knobs.cut.bk % limits.wholeDepth == 0 ? 1 : 3;
  return predict(limits, knobs.cut, 2, reads, [&](int64_t segments) -> Work {
    const double fetched =
        static_cast<double>(knobs.cut.bm) * (2 * inputBytes + 2) +
        static_cast<double>(segments * knobs.cut.bn) * (2 * limits.weightBytes + 2);
    const int64_t read =
        knobs.wm * knobs.wn * (knobs.rowsOfSubgroup() + segments * knobs.columnsOfSubgroup());
    const double sums =
        static_cast<double>(knobs.rowsOfSubgroup() * knobs.columnsOfSubgroup() * segments) /
        matrixThreads;
    const double bytes =
        (fetched + 2 * static_cast<double>(read)) * static_cast<double>(knobs.cut.bk);
    return {knobs.threads(), knobs.sharedVectors(segments, limits.transposed), sums + 100,
            overBound * bytes / (bytesOfCycle * cyclesPerSecond)};
  });
}

/// Schedules of which one is taken without measuring, with each way to share out K.
constexpr std::array<std::array<int64_t, 8>, 15> usualTiles = {{
    // bm, bn, bk, tm, tn, stages, turn, lanes
    {128, 256, 16, 8, 16, 1, 1, 8},
    {128, 128, 16, 8, 8, 1, 0, 8},
    {128, 128, 16, 8, 8, 1, 1, 8},
    {128, 128, 8, 8, 8, 1, 1, 8},
    {64, 128, 16, 8, 8, 2, 0, 8},
    {64, 128, 16, 8, 8, 2, 1, 8},
    {64, 128, 16, 8, 8, 1, 0, 8},
    {64, 128, 32, 8, 8, 1, 1, 8},
    {64, 64, 32, 4, 8, 1, 1, 8},
    {64, 64, 64, 4, 8, 1, 1, 8},
    {32, 64, 64, 4, 4, 1, 1, 8},
    {64, 64, 16, 4, 8, 1, 1, 8},
    {32, 64, 16, 4, 4, 1, 1, 8},
    {16, 128, 16, 4, 4, 1, 1, 8},
    {16, 256, 16, 4, 4, 1, 1, 8},
}};
constexpr std::array<std::array<int64_t, 5>, 8> usualMatrices = {{
    // bm, bn, bk, wm, wn
    {128, 128, 32, 2, 2},
    {128, 64, 64, 2, 2},
    {128, 64, 32, 2, 2},
    {64, 64, 64, 2, 2},
    {64, 64, 32, 2, 2},
    {32, 128, 64, 1, 4},
    {32, 64, 32, 1, 4},
    {16, 64, 64, 1, 4},
}};
constexpr std::array<int64_t, 5> usualSplits = {1, 2, 4, 8, 16};

/// The rest of a space, of which `read` gives checked knobs with their cut, and `predict` their
/// time. `usual` are schedules to choose from, of the knobs by name in order.
template <typename Read, typename Predict, typename Usual>
ScheduleSpace spaceOf(std::vector<Knob> knobs, int64_t depth, const Read &read,
                      const Predict &predict, const Usual &usual) {
  ScheduleSpace space;
  space.knobs = std::move(knobs);
  space.check = [read](const KnobValues &values) -> Status {
    return read(values).transform([](const auto &) {});
  };
  space.predict = [read, predict](const KnobValues &values) {
    const auto checked = read(values);
    return checked ? predict(*checked) : std::numeric_limits<double>::infinity();
  };
  space.orderClass = [read, depth](const KnobValues &values) -> std::string {
    const auto checked = read(values);
    if (!checked)
      return {};
    const Stages stages(depth, checked->cut);
    return stages.slices == 1 ? "" : fmt::format("_{}", stages.perSlice * checked->cut.bk);
  };
  space.complete = [names = space.knobs, predict = space.predict, usual](const KnobValues &given) {
    KnobValues best;
    double least = std::numeric_limits<double>::infinity();
    for (const auto &one : usual)
      for (int64_t ksplit : usualSplits) {
        KnobValues values = given;
        for (auto [knob, value] : llvm::zip(names, one))
          values.try_emplace(knob.name, value);
        values.try_emplace("ksplit", ksplit);
        for (int64_t pack : {0, 1}) {
          KnobValues packed = values;
          packed.try_emplace("pack", pack);
          if (const double time = predict(packed); best.empty() || time < least) {
            best = packed;
            least = time;
          }
        }
      }
    return best;
  };
  space.analytic = space.complete({});
  return space;
}

} // namespace

Expected<TileKnobs> tiles::tileKnobs(const KernelAnalysis &kernel, const Target &target,
                                     const KnobValues &values) {
  const KernelLimits limits = limitsOf(kernel, target);
  return TileReader(limits, values).tiles();
}

ScheduleSpace tiles::tileSpace(const KernelAnalysis &kernel, const Target &target) {
  const auto limits = std::make_shared<const KernelLimits>(limitsOf(kernel, target));
  const auto packs = limits->mustPack ? std::vector<int64_t>{1} : std::vector<int64_t>{0, 1};
  return spaceOf(
      {{"bm", {16, 32, 64, 128}, "rows of a workgroup's tile"},
       {"bn", {64, 128, 256}, "columns of a workgroup's tile, of each segment"},
       {"bk", {8, 16, 32, 64}, "depth of a stage"},
       {"tm", {4, 8}, "rows of a thread"},
       {"tn", {4, 8, 16}, "columns of a thread, of each segment"},
       {"stages", {1, 2}, "buffers of a stage"},
       {"turn", {0, 1}, "1: vectors of workgroup memory are of rows at one k, 0: of a row along k"},
       {"lanes", {4, 8}, "neighbouring threads that have neighbouring columns"},
       {"ksplit", {1, 2, 4, 8, 16}, "workgroups that share out K"},
       {"pack", packs, "1: rows are written into a workspace first, as they are multiplied"}},
      limits->depth,
      [limits](const KnobValues &values) { return TileReader(*limits, values).tiles(); },
      [limits](const TileKnobs &knobs) { return predictTiles(*limits, knobs); }, usualTiles);
}

Expected<MatrixKnobs> tiles::matrixKnobs(const KernelAnalysis &kernel, const Target &target,
                                         const KnobValues &values) {
  const KernelLimits limits = limitsOf(kernel, target);
  return TileReader(limits, values).matrices();
}

ScheduleSpace tiles::matrixSpace(const KernelAnalysis &kernel, const Target &target) {
  const auto limits = std::make_shared<const KernelLimits>(limitsOf(kernel, target));
  const auto packs = limits->mustPack ? std::vector<int64_t>{1} : std::vector<int64_t>{0, 1};
  return spaceOf(
      {{"bm", {16, 32, 64, 128}, "rows of a workgroup's tile"},
       {"bn", {64, 128, 256}, "columns of a workgroup's tile, of each segment"},
       {"bk", {16, 32, 64}, "depth of a stage"},
       {"wm", {1, 2, 4}, "subgroups, down a tile"},
       {"wn", {1, 2, 4}, "subgroups, across a tile"},
       {"ksplit", {1, 2, 4, 8, 16}, "workgroups that share out K"},
       {"pack", packs, "1: rows are written into a workspace first, as they are multiplied"}},
      limits->depth,
      [limits](const KnobValues &values) { return TileReader(*limits, values).matrices(); },
      [limits](const MatrixKnobs &knobs) { return predictMatrices(*limits, knobs); },
      usualMatrices);
}
