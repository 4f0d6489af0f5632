// Matmuls of few rows: their schedules, and how long one may be expected to take.
#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/codegen/simt/MatmulRows.h"
#include "kernelforge/codegen/simt/Reduce.h"

#include "llvm/ADT/bit.h"

#include <algorithm>
#include <fmt/format.h>

using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::simt::rows;

/// The largest power of two that is not above it; 1 at least.
static int64_t powerBelow(int64_t value) {
  return static_cast<int64_t>(llvm::bit_floor(static_cast<uint64_t>(std::max<int64_t>(1, value))));
}

//===----------------------------------------------------------------------===//
// What is legal
//===----------------------------------------------------------------------===//

/// Most sums of a thread: each is a register of four f32, or a few.
static constexpr int64_t mostRowSums = 32;

/// Bytes of a row as whole numbers.
static int64_t integerBytes(const Shape &shape) {
  return shape.k * shape.bytePlanes() + shape.k / runElements * 8;
}

/// Bytes of a row as numbers.
static int64_t stageBytes(const Shape &shape) {
  int64_t words = 0;
  for (const Unit &unit : shape.distinctUnits())
    words = std::max(words, shape.stagedWords(unit));
  return words * 4;
}

/// Bytes of workgroup memory of a schedule.
static int64_t sharedBytes(const Shape &shape, const Knobs &knobs) {
  int64_t bytes = shape.sums(knobs) * 4;
  if (shape.integers() && knobs.prepare)
    return bytes;
  if (shape.staged) // what statistics of the rows are combined in
    bytes += knobs.rows *
             (shape.rowBytes + 2 * reduceBytes(1, knobs.threads, sharingOf(shape).subgroup));
  if (shape.integers())
    bytes += knobs.rows * integerBytes(shape);
  else if (knobs.stage)
    bytes += knobs.rows * stageBytes(shape);
  return bytes;
}

std::string rows::obstacleTo(const Columns &group, int64_t columns, int64_t r) {
  if (columns % group.whole != 0)
    return fmt::format("a workgroup has {} columns, and heads have {}", columns, group.whole);
  if (group.apart == 0)
    return "";
  const int64_t run = columns / 2;
  if (columns % 2 != 0 || group.apart % run != 0 || run % r != 0)
    return fmt::format("a workgroup has {} columns, and halves of heads {}", columns, group.apart);
  return "";
}

static std::string obstacleOf(const Columns &group, const Knobs &knobs) {
  return obstacleTo(group, knobs.columns(), knobs.r);
}

/// Registers that a thread takes, or some more: for weights on their way (the assembler puts off
/// what is asked for ahead where there are none left), sums, what it has of the rows for a part of
/// a unit, and addresses.
static int64_t registersOf(const Shape &shape, const Knobs &knobs) {
  constexpr int64_t addresses = 24;
  int64_t most = 0;
  for (const Columns &group : shape.groups) {
    const Unit &unit = group.unit;
    const bool hasRuns = unit.runs > 0 && shape.numerics == Numerics::F32;
    const int64_t columns = knobs.r * group.segments;
    const int64_t sums =
        columns * knobs.rows *
        (hasRuns || shape.integers() || unit.elements == 1 ? 1 : shape.lanesOfSum(knobs));
    // Whole numbers are bytes, and some are multiplied together; else a run at a time is expanded.
    const int64_t together = shape.integers() ? std::min<int64_t>(unit.runs, 2) : 1;
    const int64_t row = shape.integers() ? together * (4 * shape.bytePlanes() + 2)
                                         : (unit.runs > 0 ? runElements + 1 : unit.elements);
    // The assembler begins to expand the next run while rows wait for this one.
    const int64_t ahead = knobs.rows > 1 ? 2 : 1;
    const int64_t expanded = unit.runs == 0     ? 0
                             : shape.integers() ? 4 * together
                                                : runElements * group.segments * ahead;
    most = std::max(most, columns * knobs.u * unit.words + sums + knobs.rows * row + expanded +
                              addresses);
  }
  return most;
}

static Status checkShares(const Shape &shape, const Knobs &knobs) {
  auto refuse = [&](const char *knob, int64_t value, std::string why, std::string hint) {
    return unusable("schedule is not legal", fmt::format("{}, knob {}", shape.name, knob),
                    fmt::format("it is {}, and {}", value, std::move(why)), std::move(hint));
  };
  for (auto [name, value] : {std::pair("r", knobs.r),
                             {"lanes", knobs.lanes},
                             {"ks", knobs.ks},
                             {"threads", knobs.threads}})
    if (!llvm::has_single_bit(static_cast<uint64_t>(value)))
      return refuse(name, value, "must be a power of two",
                    fmt::format("the nearest legal value is {}",
                                llvm::bit_floor(static_cast<uint64_t>(value))));
  for (const Columns &group : shape.groups)
    if (std::string why = obstacleOf(group, knobs); !why.empty())
      return refuse("pieces", knobs.pieces, why, "leave it out");
  if (const int64_t registers = registersOf(shape, knobs);
      shape.registers > 0 && registers > shape.registers)
    return refuse("r", knobs.r,
                  fmt::format("a thread takes {} registers or more, and there are {}", registers,
                              shape.registers),
                  "use fewer columns, rows or units");
  if (const int64_t bytes = sharedBytes(shape, knobs); bytes > shape.sharedBytes)
    return refuse("threads", knobs.threads,
                  fmt::format("{} bytes of workgroup memory are needed, and there are {}", bytes,
                              shape.sharedBytes),
                  "use fewer threads, columns or rows");
  return {};
}

Expected<Knobs> rows::readKnobs(const Shape &shape, const KnobValues &values) {
  KnobReader read(shape.name, values);
  KF_CHECK(shape.streams ? read.checkNames({"r", "lanes", "ks", "u", "threads", "pieces", "rows",
                                            "prepare", "stage", "early", "ahead"})
                         : read.checkNames({"r", "lanes", "ks", "u", "threads", "pieces", "rows",
                                            "prepare", "stage"}));
  Knobs knobs;
  KF_TRY(knobs.rows, read.get("rows", {1, std::min(shape.rows, mostTogether)}));
  const int64_t mostColumns = std::max<int64_t>(1, mostRowSums / (shape.segments() * knobs.rows));
  KF_TRY(knobs.r, read.get("r", {1, mostColumns, 1, "rows", knobs.rows}));
  KF_TRY(knobs.lanes, read.get("lanes", {1, shape.lanes}));
  KF_TRY(knobs.threads, read.get("threads", {std::max<int64_t>(4, knobs.lanes), shape.threads, 1,
                                             "lanes", knobs.lanes}));
  KF_TRY(knobs.ks, read.get("ks", {1, knobs.threads / knobs.lanes, 1, "threads", knobs.threads}));
  KF_TRY(const int64_t prepare, read.get("prepare", {0, shape.integers() ? 1 : 0}));
  knobs.prepare = prepare != 0;
  KF_TRY(const int64_t stage,
         read.get("stage", {shape.mustStage() ? 1 : 0, shape.integers() ? 0 : 1}));
  knobs.stage = stage != 0;
  KF_TRY(knobs.u, read.get("u", {1, 8}));
  KF_TRY(knobs.pieces, read.get("pieces", {1, 256}));
  if (shape.streams) {
    KF_TRY(const int64_t early, read.get("early", {0, shape.areMarked ? 1 : 0}));
    KF_TRY(const int64_t ahead, read.get("ahead", {0, 1}));
    knobs.early = early != 0;
    knobs.ahead = ahead != 0;
  }
  KF_CHECK(checkShares(shape, knobs));
  return knobs;
}

//===----------------------------------------------------------------------===//
// What is chosen
//===----------------------------------------------------------------------===//

/// Most threads that share out a column's K where nothing says otherwise: by shuffles, and where
/// all that they sum comes to workgroup memory; and threads of a workgroup.
static constexpr int64_t usualTeam = 128, usualTeamInMemory = 32, usualThreads = 256;

/// As many threads as an H200 runs at once: that keeps its memory busy.
static constexpr int64_t enoughThreads = 132 * 1024;

/// Fewer leave multiprocessors without work.
static constexpr int64_t fewWorkgroups = 128;

static int64_t columnsOf(const Shape &shape) {
  int64_t columns = 0;
  for (const Columns &group : shape.groups)
    columns += group.n;
  return columns;
}

/// Units of a column, of the group that has the fewest.
static int64_t leastUnits(const Shape &shape) {
  int64_t units = shape.k;
  for (const Unit &unit : shape.distinctUnits())
    units = std::min(units, shape.units(unit));
  return units;
}

/// Elements of a unit, of the group that has the least.
static int64_t leastElements(const Shape &shape) {
  int64_t elements = shape.groups[0].unit.elements;
  for (const Unit &unit : shape.distinctUnits())
    elements = std::min(elements, unit.elements);
  return elements;
}

/// The fewest pieces with which the columns can be shared out, or one.
static int64_t fewestPieces(const Shape &shape, Knobs knobs) {
  for (knobs.pieces = 1; knobs.pieces <= 256; ++knobs.pieces)
    if (llvm::all_of(shape.groups,
                     [&](const Columns &group) { return obstacleOf(group, knobs).empty(); }))
      return knobs.pieces;
  return 1;
}

/// More pieces where rows are made by each workgroup anew, as long as there are workgroups enough
/// for every multiprocessor.
static int64_t usualPieces(const Shape &shape, const Knobs &knobs) {
  constexpr int64_t mostPieces = 16;
  Knobs more = knobs;
  more.pieces = fewestPieces(shape, knobs);
  const bool isAnew = shape.integers() ? !knobs.prepare : knobs.stage;
  while (isAnew && more.pieces < mostPieces) {
    Knobs twice = more;
    twice.pieces *= 2;
    if (columnsOf(shape) / twice.columns() * twice.threads < enoughThreads ||
        !checkShares(shape, twice))
      break;
    more = twice;
  }
  return more.pieces;
}

/// Threads that share out K: so many that each has several units, and that units enough are asked
/// for at once.
static int64_t usualTeamOf(const Shape &shape) {
  const int64_t units = leastUnits(shape), columns = columnsOf(shape) * shape.segments();
  const int64_t most = shape.lanes > 1 ? usualTeam : usualTeamInMemory;
  constexpr int64_t enoughUnits = int64_t(1) << 18; // of 16 bytes
  int64_t team = std::min(powerBelow(units / 4), most);
  while (team < units && team < 2 * most && columns * team < enoughUnits)
    team *= 2;
  return team;
}

/// Rows that are summed together: where they come to workgroup memory as they must, no more than
/// that has room for.
static int64_t usualRows(const Shape &shape) {
  const int64_t rows = std::min(shape.rows, mostTogether);
  constexpr int64_t ofSums = 4096;
  return shape.mustStage()
             ? std::clamp<int64_t>((shape.sharedBytes - ofSums) / stageBytes(shape), 1, rows)
             : rows;
}

/// Workgroup memory that the rows take where each workgroup makes them.
static int64_t madeBytes(const Shape &shape, const Knobs &knobs) {
  return knobs.rows * (shape.integers() ? integerBytes(shape) : stageBytes(shape));
}

/// Columns that a team sums at a time. Several rows are worth several columns, as what is read of a
/// row serves all of them; so is the work that quants take, and reading rows where they lie, of
/// which neighbouring threads need numbers that are no neighbours.
static int64_t usualColumns(const Shape &shape, const Knobs &knobs) {
  constexpr int64_t manyColumns = 2048;
  int64_t r = powerBelow(std::min<int64_t>(knobs.rows, 4));
  if (shape.groups[0].unit.runs > 0 && columnsOf(shape) >= manyColumns) {
    const bool hasMore = columnsOf(shape) >= 2 * manyColumns;
    const bool readsFar = !shape.integers() && !knobs.stage;
    r = std::max<int64_t>(r, (readsFar ? 4 : 2) * (hasMore ? 2 : 1));
  }
  return std::min(r, powerBelow(mostRowSums / std::max<int64_t>(1, shape.segments() * knobs.rows)));
}

/// Threads of a workgroup: more where its memory leaves a multiprocessor no room for many others.
static int64_t usualThreadsOf(const Shape &shape, const Knobs &knobs) {
  constexpr int64_t most = 1024;
  int64_t threads = usualThreads;
  if (shape.integers() ? !knobs.prepare : knobs.stage) {
    const int64_t workgroups = std::max<int64_t>(1, shape.sharedBytes / madeBytes(shape, knobs));
    while (threads < most && threads * workgroups < most)
      threads *= 2;
  }
  return powerBelow(std::min(threads, shape.threads));
}

/// Whether a workgroup has room for its rows as it would make them, of several rows so much that
/// others are beside it: each makes them anew.
static bool hasRoom(const Shape &shape, const Knobs &knobs) {
  constexpr int64_t ofSums = 4096;
  const int64_t bytes = madeBytes(shape, knobs);
  return bytes <= (knobs.rows == 1 ? shape.sharedBytes - ofSums : shape.sharedBytes * 3 / 8);
}

KnobValues rows::usualKnobs(const Shape &shape, const KnobValues &given) {
  auto chosen = [&](const char *name, int64_t usual) {
    auto own = given.find(name);
    return own == given.end() ? usual : own->second;
  };
  auto positive = [](int64_t value) { return std::max<int64_t>(1, value); };
  Knobs knobs;
  knobs.rows = chosen("rows", usualRows(shape));
  const bool isQuantized = shape.groups[0].unit.runs > 0, makes = hasRoom(shape, knobs);
  knobs.prepare = chosen("prepare", shape.integers() && !makes) != 0;
  knobs.stage =
      chosen("stage", shape.mustStage() || (isQuantized && !shape.integers() && makes)) != 0;
  knobs.r = chosen("r", usualColumns(shape, knobs));
  knobs.threads = chosen("threads", usualThreadsOf(shape, knobs));
  const int64_t team = std::min(usualTeamOf(shape), positive(knobs.threads));
  knobs.lanes = chosen("lanes", std::min(team, shape.lanes));
  knobs.ks = chosen("ks", powerBelow(team / positive(knobs.lanes)));
  // Large workgroups are few, and so are their threads' registers: they have fewer columns each.
  auto areTooMany = [&] {
    const int64_t teams = positive(knobs.threads / positive(knobs.team()));
    return columnsOf(shape) / (teams * knobs.r) < fewWorkgroups ||
           (knobs.threads > 512 && !shape.integers() && knobs.r > 2);
  };
  while (knobs.threads > usualThreads && knobs.r > 1 && !given.contains("r") && areTooMany())
    knobs.r /= 2;
  const int64_t loads = leastUnits(shape) / positive(knobs.team());
  // Two rows take as many units as one, of two columns.
  const int64_t most = !isQuantized && knobs.rows == 2 ? 8 : 4;
  int64_t u = powerBelow(std::min(loads, positive(most / positive(knobs.r))));
  while (isQuantized && leastUnits(shape) % (positive(knobs.team()) * u) != 0 && u > 1)
    u /= 2; // no rest that is less than a round
  knobs.u = chosen("u", u);
  while (shape.registers > 0 && registersOf(shape, knobs) > shape.registers) {
    if (knobs.u > 1 && !given.contains("u"))
      knobs.u /= 2;
    else if (knobs.r > 1 && !given.contains("r"))
      knobs.r /= 2;
    else if (knobs.rows > 1 && !given.contains("rows"))
      knobs.rows = (knobs.rows + 1) / 2;
    else
      break;
  }
  knobs.early = chosen("early", shape.streams && shape.areMarked) != 0;
  knobs.ahead = chosen("ahead", 0) != 0;
  auto values = [&] {
    KnobValues all{{"r", knobs.r},       {"lanes", knobs.lanes},     {"ks", knobs.ks},
                   {"u", knobs.u},       {"threads", knobs.threads}, {"pieces", knobs.pieces},
                   {"rows", knobs.rows}, {"prepare", knobs.prepare}, {"stage", knobs.stage}};
    if (shape.streams)
      all.insert({{"early", knobs.early}, {"ahead", knobs.ahead}});
    return all;
  };
  // What is given may be any number, and whole heads may be more than a workgroup's memory holds.
  auto isPower = [](int64_t value) {
    return value > 0 && llvm::has_single_bit(static_cast<uint64_t>(value));
  };
  const bool sound = isPower(knobs.r) && isPower(knobs.lanes) && isPower(knobs.ks) &&
                     isPower(knobs.threads) && knobs.rows > 0 && knobs.threads >= knobs.team();
  knobs.pieces = chosen("pieces", sound ? usualPieces(shape, knobs) : 1);
  while (sound && knobs.threads > knobs.team() && !given.contains("threads") &&
         !given.contains("pieces") && !readKnobs(shape, values())) {
    knobs.threads /= 2;
    knobs.pieces = usualPieces(shape, knobs);
  }
  return values();
}

/// Seconds for a product, all threads of the device together: of whole numbers, of numbers, and of
/// numbers that are rounded to f16 by weights that are so when they have been unpacked.
static double productTime(const Shape &shape) {
  const bool roundsQuants = shape.numerics == Numerics::F16 && shape.groups[0].unit.runs > 0;
  return shape.integers() ? 1e-13 : roundsQuants ? 3.5e-13 : 1.4e-13;
}

/// The same for unpacking a weight, once for all rows.
static double unpackTime(const Shape &shape) {
  return shape.groups[0].unit.runs > 0 && !shape.integers() ? 1.4e-13 : 0;
}

/// Seconds on a GPU of the H200's kind: what must be read, what multiplying takes, and whether
/// loads enough are in flight.
static double predict(const Shape &shape, const Knobs &knobs) {
  constexpr double readRate = 4.1e12, cacheRate = 20e12, dispatch = 2e-6;
  constexpr double bytesInFlight = 3.3e6, residentThreads = 132 * 1024;
  const int64_t blocksOfRows = (shape.rows + knobs.rows - 1) / knobs.rows;
  const double columns = double(columnsOf(shape)) * double(shape.segments());
  const double products = columns * double(shape.k);
  const double threads = double(columnsOf(shape)) / double(knobs.r) * double(knobs.team());
  const double resident = std::min(threads, residentThreads);
  const double loads = double(std::min(
      knobs.u, std::max<int64_t>(1, leastUnits(shape) / std::max<int64_t>(1, knobs.team()))));
  const double inFlight = resident * double(knobs.r * shape.segments()) * loads * 16;
  // What several rows cost where weights are streamed, beside products.
  const double more = shape.streams ? 1 + 0.05 * double(knobs.rows - 1) : 1;
  const double reading =
      shape.weightBytes / readRate * more * std::max(1.0, bytesInFlight / std::max(inFlight, 1.0));
  const double multiplying =
      products * (double(knobs.rows) * productTime(shape) + unpackTime(shape));
  // Where rows lie, neighbouring threads read quads that are a unit apart.
  const double apart = shape.integers() || knobs.stage
                           ? 1
                           : double(std::clamp<int64_t>(leastElements(shape), 4, 32)) / 4;
  const double ofRows =
      products / double(knobs.r * shape.segments()) * double(knobs.rows) * 4 * apart / cacheRate;
  double staging = 0;
  if (shape.integers() ? !knobs.prepare : knobs.stage)
    staging = double(columnsOf(shape)) / double(knobs.columns()) * double(knobs.rows * shape.k) *
              8 / cacheRate;
  const double kinds = double(shape.distinctUnits().size());
  const double phases = (shape.separate ? double(shape.groups.size()) : kinds) +
                        (shape.integers() && knobs.prepare ? kinds : 0);
  return phases * dispatch +
         double(blocksOfRows) * (std::max({reading, multiplying, ofRows}) + staging);
}

ScheduleSpace rows::space(const Shape &shape) {
  ScheduleSpace space;
  space.analytic = usualKnobs(shape, {});
  auto with = [&](const char *name, std::vector<int64_t> values) {
    values.push_back(space.analytic.at(name));
    std::sort(values.begin(), values.end());
    values.erase(std::unique(values.begin(), values.end()), values.end());
    return values;
  };
  const int64_t together = std::min(shape.rows, mostTogether);
  space.knobs = {
      {"r", with("r", {1, 2, 4}), "columns that a team sums at a time"},
      {"lanes", with("lanes", {std::min<int64_t>(shape.lanes, 8), shape.lanes}),
       "threads that share out K and add up by shuffles"},
      {"ks", with("ks", {1, 2, 4, 8}), "as many times so many are a team"},
      {"u", with("u", {1, 2, 4}), "units of a column on their way"},
      {"threads", with("threads", {128, 256}), "threads of a workgroup"},
      {"pieces", with("pieces", {1, 2, 4, 8}), "how often a workgroup goes on to further columns"},
      {"rows", with("rows", {together}), "rows that are summed together"},
      {"prepare", with("prepare", {0, shape.integers() ? 1 : 0}),
       "who makes whole numbers of the rows: a phase (1), or each workgroup (0)"},
      {"stage", with("stage", {shape.mustStage() ? 1 : 0, shape.integers() ? 0 : 1}),
       "rows of numbers are read from workgroup memory (1), or where they lie (0)"},
  };
  if (shape.streams) {
    space.knobs.push_back({"early", with("early", {shape.areMarked ? 1 : 0}),
                           "it asks for its first weights before what ran before it is done"});
    space.knobs.push_back({"ahead", {0, 1}, "the next units are asked for before these are used"});
  }
  space.complete = [shape](const KnobValues &given) {
    KnobValues all = given;
    all.merge(usualKnobs(shape, given));
    return all;
  };
  space.check = [shape](const KnobValues &values) -> Status {
    return readKnobs(shape, values).transform([](const Knobs &) {});
  };
  space.predict = [shape](const KnobValues &values) {
    const auto knobs = readKnobs(shape, values);
    return knobs ? ::predict(shape, *knobs) : std::numeric_limits<double>::infinity();
  };
  // How many threads and words of them share a sum, and in which order.
  space.orderClass = [shape](const KnobValues &values) {
    const auto knobs = readKnobs(shape, values);
    if (!knobs)
      return std::string();
    std::string text = fmt::format("{}x{}", knobs->ks, knobs->lanes);
    if (shape.lanesOfSum(*knobs) == 1)
      text += "s";
    for (const Unit &unit : shape.distinctUnits())
      text += fmt::format("u{}", unit.elements);
    return text;
  };
  return space;
}
