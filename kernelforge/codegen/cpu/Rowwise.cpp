// Kernels without a root: every row is computed by itself, so tasks are runs of rows.
#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/codegen/cpu/Emit.h"
#include "kernelforge/codegen/cpu/Epilogue.h"
#include "kernelforge/codegen/cpu/Pack.h"

#include <algorithm>
#include <limits>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;
using namespace kernelforge::transformer;

namespace {

constexpr StringLiteral rowsPerTask = "rows_per_task", unrollName = "unroll";
constexpr int64_t maxRowsPerTask = 1 << 20, maxUnroll = 8;

PackOp packOf(const Sink &sink) { return sink.value.getDefiningOp<PackOp>(); }

/// What one phase computes: all stores whose rows follow one size, or one packed weight.
using Stores = SmallVector<Sink>;

} // namespace

Status rowwise::supports(const KernelAnalysis &kernel) {
  auto refuse = [&](StringRef op, std::string why, std::string hint) {
    return unusable("kernel cannot be compiled for a CPU", kernel.name() + ", " + op.str(),
                    std::move(why), std::move(hint));
  };
  for (auto pack : kernel.kernel().getBody().getOps<PackOp>()) {
    if (!isa<BlockArgument>(pack.getInput()) ||
        !llvm::all_of(pack->getUsers(), [](Operation *user) { return isa<YieldOp>(user); }))
      return refuse("transformer.pack", "a packed weight is used in the kernel that packs it",
                    "yield it and pass it to another kernel");
    auto type = cast<RankedTensorType>(pack.getOutput().getType());
    if (!type.hasStaticShape() || !weightBytes(type))
      return refuse("transformer.pack", "the weight's shape is not static or too large", "");
  }
  for (const Sink &sink : kernel.sinks()) {
    if (packOf(sink))
      continue;
    if (std::string why = sinkObstacle(sink); !why.empty())
      return refuse(sink.op->getName().getStringRef(), why,
                    "name the leading dimension with #transformer.dims");
  }
  return {};
}

namespace {

/// The largest number of rows that a phase can have, and what one row takes: elements.
std::pair<int64_t, int64_t> extentOf(const KernelAnalysis &kernel, const Stores &stores) {
  auto type = cast<RankedTensorType>(stores[0].value.getType());
  int64_t rows = kernel.plannedRows(type).second, width = 0;
  for (const Sink &sink : stores)
    width += widthOf(sink.value);
  return {rows, width};
}

bool packs(const KernelAnalysis &kernel) {
  return !kernel.kernel().getBody().getOps<PackOp>().empty();
}

struct Knobs {
  int64_t rowsPerTask; ///< whole vectors of rows where a weight is packed
  int64_t unroll;      ///< vectors of a row that a step of the loop over it computes
};

Expected<Knobs> readKnobs(const std::string &name, const KnobValues &values, bool packs) {
  const int64_t unit = packs ? lanes : 1;
  KnobReader read(name, values);
  KF_CHECK(read.checkNames({rowsPerTask, unrollName}));
  Knobs knobs{};
  KF_TRY(knobs.rowsPerTask, read.get(rowsPerTask, {unit, maxRowsPerTask, unit}));
  KF_TRY(knobs.unroll, read.get(unrollName, {1, packs ? 1 : maxUnroll}));
  return knobs;
}

/// Computes one row. Stores of one width, of as much at once, share a loop and with it what they
/// read.
void emitRow(RowExpressions &rows, Value row, ArrayRef<Sink> stores, int64_t unroll) {
  SmallVector<Value> values;
  for (const Sink &sink : stores)
    values.push_back(sink.value);
  rows.prepareRow(ValueRange(values), row);
  llvm::MapVector<std::pair<int64_t, int64_t>, Stores> alike;
  for (const Sink &sink : stores)
    alike[{widthOf(sink.value), RowExpressions::storedAtOnce(sink)}].push_back(sink);
  for (auto &[extents, together] : alike)
    rows.forEachStore(
        row, extents.first, extents.second,
        [&, &sinks = together](const Position &position) { rows.store(sinks, position); }, unroll);
}

} // namespace

Expected<ScheduleSpace> rowwise::scheduleSpace(const KernelAnalysis &kernel, const Target &target,
                                               int64_t threads) {
  // Enough tasks for every thread to take some, none of less work than its hand-out costs.
  constexpr int64_t tasksPerThread = 4, leastElements = 4096;
  const int64_t unit = packs(kernel) ? lanes : 1;
  threads = std::max<int64_t>(threads, 1);
  int64_t usual = 1, mostRows = 1;
  double elements = 0;
  for (const Stores &stores : kernel.rowGroups()) {
    auto [rows, width] = extentOf(kernel, stores);
    int64_t shared = rows / (threads * tasksPerThread);
    usual = std::max({usual, shared, leastElements / std::max<int64_t>(width, 1)});
    mostRows = std::max(mostRows, rows);
    elements = std::max(elements, double(rows) * double(width));
  }
  usual = std::min((usual + unit - 1) / unit * unit, maxRowsPerTask);

  ScheduleSpace space;
  space.analytic = {{rowsPerTask.str(), usual}, {unrollName.str(), 1}};
  space.complete = [analytic = space.analytic](KnobValues given) {
    given.insert(analytic.begin(), analytic.end());
    return given;
  };
  std::vector<int64_t> values{usual};
  for (int64_t value = unit; value < 2 * mostRows && value <= maxRowsPerTask; value *= 2)
    values.push_back(value);
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  space.knobs = {
      {rowsPerTask.str(), std::move(values), "rows of a task"},
      {unrollName.str(),
       packs(kernel) ? std::vector<int64_t>{1} : std::vector<int64_t>{1, 2, 4, maxUnroll},
       "vectors of a row in a step of its loop"}};
  space.check = [name = kernel.name(), packed = packs(kernel)](const KnobValues &values) -> Status {
    return readKnobs(name, values, packed).transform([](const Knobs &) {});
  };
  space.predict = [mostRows, elements, threads](const KnobValues &values) {
    const int64_t perTask = values.at(rowsPerTask.str());
    const int64_t tasks = (mostRows + perTask - 1) / perTask;
    const double loop = 1 + 0.25 / double(values.at(unrollName.str())); // a step counts and jumps
    const double task = elements * double(perTask) / double(mostRows) / 4 * loop + 200;
    return double((tasks + threads - 1) / threads) * task / 3e9;
  };
  space.orderClass = [](const KnobValues &) { return std::string("row"); };
  return space;
}

Expected<Launching> rowwise::emit(ModuleOp module, const KernelAnalysis &kernel,
                                  const Target &target, StringRef entry) {
  KF_TRY(KnobValues values, knobsOf(kernel.kernel()));
  KF_TRY(const Knobs knobs, readKnobs(kernel.name(), values, packs(kernel)));
  const int64_t perTask = knobs.rowsPerTask;

  KernelBuilder k(module, kernel.kernel(), target, entry);
  RowExpressions rows(k);
  const ArrayRef<Stores> phases = kernel.rowGroups();
  Launching launching;
  for (const Stores &stores : phases) {
    Type type = stores[0].value.getType();
    const int size = k.rowsIndex(type);
    Phase phase;
    if (size < 0)
      phase.grid = (kernel.rows(type).second + perTask - 1) / perTask;
    else
      phase.grid = {1, size, perTask};
    launching.phases.push_back(phase);
  }
  k.switchOn(k.phase, static_cast<unsigned>(phases.size()), [&](unsigned index) {
    const Stores &stores = phases[index];
    Value first = k.mul(k.task, perTask);
    if (PackOp pack = packOf(stores[0]))
      return emitPackRows(k, pack, k.argument(pack.getInput()), k.result(stores[0].resultIndex),
                          first, perTask);
    Value last = k.min(k.add(first, perTask), k.rows(stores[0].value.getType()));
    k.loop(first, last, 1, [&](Value row) { emitRow(rows, row, stores, knobs.unroll); });
  });
  for (Phase &phase : launching.phases)
    phase.scratchBytes = rows.scratchBytes();
  k.finish();
  return launching;
}
