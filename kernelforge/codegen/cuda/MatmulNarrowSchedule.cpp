// Schedules of matmuls of few rows by the matrix units of a warp.
#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/codegen/cuda/Matmul.h"

#include "llvm/ADT/bit.h"

#include <algorithm>
#include <fmt/format.h>
#include <limits>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cuda::matmul;
using kernelforge::simt::rows::Columns;
using kernelforge::simt::rows::Shape;

static int64_t sharedBytes(const Shape &shape, const NarrowNeeds &needs, const NarrowKnobs &knobs) {
  const int64_t rows = std::min(knobs.rows, shape.rows) * needs.parts;
  return knobs.ks * shape.segments() * rows * (knobs.columns() + 4) * 4;
}

/// Registers of a thread for weights on their way, sums and rows.
static int64_t registersOf(const Shape &shape, const NarrowNeeds &needs, const NarrowKnobs &knobs) {
  const int64_t tiles = (std::min(knobs.rows, shape.rows) * needs.parts + 7) / 8;
  return needs.words * (knobs.ahead ? knobs.u * 3 / 2 : knobs.u) + needs.besides +
         shape.segments() * tiles * 4 + tiles * 8;
}

Expected<NarrowKnobs> cuda::matmul::narrowKnobs(const Shape &shape, const NarrowNeeds &needs,
                                                const KnobValues &values) {
  const KnobReader read(shape.name, values);
  KF_CHECK(read.checkNames({"warps", "ks", "u", "rows", "early", "ahead"}));
  NarrowKnobs knobs;
  KF_TRY(knobs.warps, read.get("warps", {1, 16}));
  KF_TRY(knobs.ks, read.get("ks", {1, knobs.warps, 1, "warps", knobs.warps}));
  KF_TRY(knobs.u, read.get("u", {1, needs.mostAtOnce}));
  KF_TRY(knobs.rows, read.get("rows", {(needs.rows + 7) / 8 * 8, 32, 8}));
  KF_TRY(const int64_t early, read.get("early", {0, shape.areMarked ? 1 : 0}));
  KF_TRY(const int64_t ahead, read.get("ahead", {0, 1}));
  knobs.early = early != 0;
  knobs.ahead = ahead != 0;
  auto refuse = [&](const char *knob, int64_t value, std::string why, std::string hint) {
    return unusable("schedule is not legal", fmt::format("{}, knob {}", shape.name, knob),
                    fmt::format("it is {}, and {}", value, std::move(why)), std::move(hint));
  };
  for (auto [name, value] : {std::pair("warps", knobs.warps), {"ks", knobs.ks}})
    if (!llvm::has_single_bit(static_cast<uint64_t>(value)))
      return refuse(name, value, "must be a power of two", "use 1, 2, 4, 8 or 16");
  const int64_t rounds = shape.k / needs.elements / (knobs.ks * knobs.u);
  if (needs.loopsOften && rounds == 2)
    return refuse("ks", knobs.ks, "K is two rounds, whose loads spill registers together",
                  "use more or fewer");
  constexpr int64_t warpThreads = 32, registersOfBlock = 65536;
  if (knobs.warps * warpThreads * needs.registers > registersOfBlock)
    return refuse("warps", knobs.warps,
                  fmt::format("their threads have {} registers each", needs.registers),
                  "use fewer warps");
  for (const Columns &group : shape.groups)
    if (std::string why = simt::rows::obstacleTo(group, knobs.columns(), 1); !why.empty())
      return refuse("ks", knobs.ks, why, "use other numbers of warps");
  if (const int64_t bytes = sharedBytes(shape, needs, knobs); bytes > shape.sharedBytes)
    return refuse("warps", knobs.warps,
                  fmt::format("{} bytes of shared memory are needed, and there are {}", bytes,
                              shape.sharedBytes),
                  "use fewer warps or rows");
  // Beside these there are addresses.
  constexpr int64_t addresses = 41;
  const int64_t most = needs.registers - addresses;
  if (const int64_t registers = registersOf(shape, needs, knobs); registers > most)
    return refuse("u", knobs.u,
                  fmt::format("a thread keeps {} words, and {} can be", registers, most),
                  "ask for less at once");
  return knobs;
}

namespace {

int64_t columnsOf(const Shape &shape) {
  int64_t columns = 0;
  for (const Columns &group : shape.groups)
    columns += group.n;
  return columns;
}

/// Seconds on an H200: what must be read, as far as enough is on its way, what takes work, and
/// launches.
double predict(const Shape &shape, const NarrowNeeds &needs, const NarrowKnobs &knobs) {
  constexpr double readRate = 4.1e12, launch = 1.5e-6, rowsPhase = 2.5e-6, bytesInFlight = 4e6,
                   residentWarps = 132 * 16;
  const auto blocksOfRows = double((shape.rows + knobs.rows - 1) / knobs.rows);
  const double warps = double(columnsOf(shape)) / 16 * double(knobs.ks) * blocksOfRows;
  const int64_t pieces = shape.k / needs.elements;
  const auto loads = double(std::min(knobs.u, std::max<int64_t>(1, pieces / knobs.ks)));
  const double inFlight =
      std::min(warps, residentWarps) * 32 * 2 * 16 * loads * double(shape.segments());
  const double reading =
      shape.weightBytes / readRate * std::max(1.0, bytesInFlight / std::max(inFlight, 1.0));
  const double working =
      double(columnsOf(shape)) * double(shape.segments() * shape.k) * needs.secondsPerWeight;
  // Rows take their share of what caches give.
  constexpr double least = 1.01, ofRow = 0.001;
  return launch * double(shape.groups.size()) + (needs.writesRows ? rowsPhase : 0) +
         std::max(reading, working) * (blocksOfRows * least + ofRow * double(shape.rows));
}

} // namespace

ScheduleSpace cuda::matmul::narrowSpace(const Shape &shape, const NarrowNeeds &needs) {
  ScheduleSpace space;
  space.complete = [shape, needs](const KnobValues &given) {
    KnobValues best;
    double least = std::numeric_limits<double>::infinity();
    // Small blocks where threads have many registers.
    const bool hasMany = needs.registers > 128;
    const std::array<int64_t, 3> usualWarps = {hasMany ? 4 : 8, 16, hasMany ? 8 : 4};
    for (int64_t warps : usualWarps)
      for (int64_t ks : {8, 4, 2, 1, 16})
        for (int64_t u : {8, 4, 2, 1}) {
          KnobValues values = given;
          values.try_emplace("warps", warps);
          values.try_emplace("ks", ks);
          values.try_emplace("u", u);
          values.try_emplace("rows", std::min<int64_t>((shape.rows + 7) / 8 * 8, 32));
          values.try_emplace("early", shape.areMarked ? 1 : 0);
          values.try_emplace("ahead", 0);
          const auto knobs = narrowKnobs(shape, needs, values);
          const double time = knobs ? predict(shape, needs, *knobs) : least;
          if (best.empty() || time < least) {
            best = values;
            least = time;
          }
        }
    return best;
  };
  space.analytic = space.complete({});
  space.knobs = {{"warps", {4, 8, 16}, "warps of a block"},
                 {"ks", {1, 2, 4, 8, 16}, "warps that share out K"},
                 {"u", {2, 4, 8}, "pieces of K that a warp asks for at once"},
                 {"rows", {space.analytic.at("rows")}, "rows of a block"},
                 {"early",
                  {space.analytic.at("early")},
                  "it asks for its first weights before what ran before it is done"},
                 {"ahead", {0, 1}, "the next pieces are asked for before these are multiplied"}};
  space.check = [shape, needs](const KnobValues &values) -> Status {
    return narrowKnobs(shape, needs, values).transform([](const auto &) {});
  };
  space.predict = [shape, needs](const KnobValues &values) {
    const auto knobs = narrowKnobs(shape, needs, values);
    return knobs ? predict(shape, needs, *knobs) : std::numeric_limits<double>::infinity();
  };
  space.orderClass = [shape, needs](const KnobValues &values) {
    const auto knobs = narrowKnobs(shape, needs, values);
    return knobs ? fmt::format("{}x{}", knobs->ks, knobs->u) : std::string();
  };
  return space;
}
