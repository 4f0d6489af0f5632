// Kernels without a root, four columns of a row at a time. Rows that are read as a whole for
// statistics have a workgroup each, which keeps them in registers where they fit; all else is
// spread over the grid element by element, whatever row it is of.
#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/codegen/Operands.h"
#include "kernelforge/codegen/simt/AttentionFacts.h"
#include "kernelforge/codegen/simt/Cache.h"
#include "kernelforge/codegen/simt/Emit.h"
#include "kernelforge/codegen/simt/Methods.h"
#include "kernelforge/codegen/simt/Reduce.h"

#include "llvm/ADT/MapVector.h"
#include "llvm/Support/MathExtras.h"

#include <fmt/format.h>
#include <limits>
#include <numeric>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;

namespace {

/// What one phase computes: all stores whose rows follow one size.
using Stores = SmallVector<Sink>;

/// Quads of a row that a thread keeps at most.
constexpr int64_t mostKept = 8;
constexpr int64_t mostThreads = 1024, mostQuads = 8;

struct Knobs {
  int64_t threads = 64; ///< of a workgroup
  int64_t quads = 1;    ///< that a thread computes, where there are no statistics
};

/// The operations that a value is computed by, without what `visited` has.
void collect(Value value, llvm::SmallPtrSetImpl<Operation *> &visited) {
  Operation *op = value.getDefiningOp();
  if (!op || !visited.insert(op).second)
    return;
  for (Value operand : op->getOperands())
    collect(operand, visited);
}

/// Rows that are read as a whole.
struct WholeRows {
  int64_t width = 0; ///< columns
  int64_t bits = 0;  ///< of an element
};

/// The widest rows that the stores need statistics of, if any.
std::optional<WholeRows> statisticsOf(const Stores &stores) {
  llvm::SmallPtrSet<Operation *, 8> ops;
  for (const Sink &sink : stores)
    collect(sink.value, ops);
  WholeRows widest;
  for (Operation *op : ops)
    if (kindOf(op) == OpKind::Statistics) {
      auto type = cast<RankedTensorType>(op->getOperand(0).getType());
      if (const int64_t width = widthOf(op->getOperand(0)); width >= widest.width)
        widest = {width, std::max<int64_t>(widest.width == width ? widest.bits : 0,
                                           type.getElementTypeBitWidth())};
    }
  return widest.width > 0 ? std::optional(widest) : std::nullopt;
}

/// The stores of one phase by how they are written: by columns, all of one width together, or in
/// blocks of a quantized cache.
struct Work {
  SmallVector<Value> values;
  llvm::MapVector<int64_t, Stores> byWidth;
  SmallVector<CacheAppendOp> inBlocks;

  explicit Work(const Stores &stores) {
    for (const Sink &sink : stores) {
      values.push_back(sink.value);
      if (isInBlocks(sink))
        inBlocks.push_back(cast<CacheAppendOp>(sink.op));
      else
        byWidth[widthOf(sink.value)].push_back(sink);
    }
  }
};

/// A workgroup a row.
Phase emitRows(ModuleOp module, KernelOp kernel, const Stores &stores, int64_t width,
               const Knobs &knobs, const Target &target, StringRef entry) {
  PhaseBuilder p(module, kernel, entry, knobs.threads);
  if (startsEarly(target))
    p.waitForPrevious();
  Value row = p.block();
  RowSharing sharing{4, std::min(subgroupOf(target), knobs.threads), {}, width};
  const int64_t quads = width / 4, each = llvm::divideCeil(quads, knobs.threads);
  if (width % 4 == 0 && each <= mostKept)
    for (int64_t i = 0; i < each; ++i) {
      OwnColumns own;
      Value quad = p.add(p.thread(), i * knobs.threads);
      if ((i + 1) * knobs.threads > quads) {
        own.isThere = p.named(p.lessThan(quad, p.c(quads)), "is_there");
        quad = p.min(quad, p.c(quads - 1)); // the last one is read again
      }
      own.first = p.named(p.mul(quad, 4), "col");
      sharing.kept.push_back(own);
    }
  const SmallVector<OwnColumns> kept = sharing.kept;
  RowExpressions rows(p, std::move(sharing));
  Work work(stores);
  rows.prepareRow(work.values, row);
  for (auto &[storedWidth, together] : work.byWidth) {
    if (storedWidth == width && !kept.empty()) {
      for (const OwnColumns &own : kept) {
        const Position position{row, own.first, 4};
        for (const Sink &sink : together)
          rows.evaluate(sink.value, position);
        auto store = [&, &sinks = together] { rows.store(sinks, position); };
        if (own.isThere)
          p.ifThen(own.isThere, store);
        else
          store();
      }
      continue;
    }
    const int64_t lanes = RowExpressions::lanesOf(together);
    p.loop("col", p.mul(p.thread(), lanes), p.c(storedWidth), knobs.threads * lanes,
           [&, &sinks = together](Value col) { rows.store(sinks, {row, col, lanes}); });
  }
  for (CacheAppendOp append : work.inBlocks)
    p.loop("block_index", p.thread(), p.c(blocksOf(append.getCache().getType())), knobs.threads,
           [&](Value block) { rows.appendBlock(append, row, block); });
  return p.finish(p.rowsExtent(stores[0].value.getType()));
}

/// How tasks, so many to each row, are shared out among workgroups.
struct Flat {
  int64_t tasks = 0;  ///< of a row
  int64_t each = 0;   ///< tasks of a workgroup
  bool byRow = false; ///< a workgroup has tasks of one row only
  Extent grid;
  bool isExact = false; ///< there is a task for every thread
};

Flat flatOf(const KernelAnalysis &kernel, PhaseBuilder &p, Type rowType, int64_t tasks,
            const Knobs &knobs) {
  Flat flat;
  flat.tasks = std::max<int64_t>(tasks, 1);
  flat.each = knobs.threads * knobs.quads;
  const auto [least, most] = kernel.plannedRows(rowType);
  // Workgroups that hold whole rows together.
  const int64_t unit = flat.each / std::gcd(flat.each, flat.tasks);
  if (least == most && !cast<RankedTensorType>(rowType).isDynamicDim(0)) {
    flat.grid = Extent(int64_t(llvm::divideCeil(most * flat.tasks, flat.each)));
    flat.isExact = most * flat.tasks % flat.each == 0;
  } else if (most < unit) {
    flat.byRow = true;
    flat.grid = p.rowsExtent(rowType) * Extent(int64_t(llvm::divideCeil(flat.tasks, flat.each)));
    flat.isExact = flat.tasks % flat.each == 0;
  } else {
    flat.grid = p.rowsExtent(rowType, unit) * Extent(flat.tasks * unit / flat.each);
    flat.isExact = unit == 1;
  }
  return flat;
}

/// Elements of any row to a thread.
Phase emitElements(ModuleOp module, const KernelAnalysis &kernel, const Stores &stores,
                   const Knobs &knobs, const Target &target, StringRef entry) {
  PhaseBuilder p(module, kernel.kernel(), entry, knobs.threads);
  if (startsEarly(target))
    p.waitForPrevious();
  RowExpressions rows(p);
  Work work(stores);
  // The tasks of a row: what each computes gets the number of a task of its kind.
  SmallVector<std::pair<int64_t, std::function<void(Value row, Value task)>>> kinds;
  for (auto &[width, together] : work.byWidth) {
    const int64_t lanes = RowExpressions::lanesOf(together);
    kinds.push_back({width / lanes, [&rows, &p, lanes, &sinks = together](Value row, Value task) {
                       Value col = p.named(p.mul(task, lanes), "col");
                       rows.store(sinks, {row, col, lanes});
                     }});
  }
  for (CacheAppendOp append : work.inBlocks)
    kinds.push_back({blocksOf(append.getCache().getType()), [&rows, append](Value row, Value task) {
                       rows.appendBlock(append, row, task);
                     }});
  int64_t tasks = 0;
  for (const auto &[count, compute] : kinds)
    tasks += count;
  Type rowType = stores[0].value.getType();
  const Flat flat = flatOf(kernel, p, rowType, tasks, knobs);

  auto compute = [&](Value row, Value task) {
    rows.prepareRow(work.values, row);
    int64_t before = 0;
    for (auto &[count, compute] : kinds) {
      Value own = p.sub(task, before);
      if (kinds.size() == 1)
        compute(row, own);
      else // unsigned: what is of a kind before is beyond all others
        p.ifThen(p.lessThan(own, p.c(count)), [&, &compute = compute] { compute(row, own); });
      before += count;
    }
  };
  Value inRow, firstRow;
  if (flat.byRow) {
    const int64_t blocks = llvm::divideCeil(flat.tasks, flat.each);
    firstRow = p.named(p.div(p.block(), blocks), "row");
    inRow = p.mul(p.rem(p.block(), blocks), flat.each);
  }
  // Row and task of a thread's i-th, and whether it is there.
  struct Own {
    Value row, task, isThere;
  };
  auto ownOf = [&](int64_t i) {
    Own own;
    Value number = p.add(p.thread(), i * knobs.threads);
    if (flat.byRow) {
      own = {firstRow, p.named(p.add(inRow, number), "task"), {}};
    } else {
      Value all = p.named(p.add(p.mul(p.block(), flat.each), number), "task");
      own = {p.named(p.div(all, flat.tasks), "row"),
             p.named(p.rem(all, flat.tasks), "task_of_row"),
             {}};
    }
    if (!flat.isExact)
      own.isThere =
          flat.byRow ? p.lessThan(own.task, p.c(flat.tasks)) : p.lessThan(own.row, p.rows(rowType));
    return own;
  };
  if (knobs.quads > 1 && work.inBlocks.empty() && work.byWidth.size() == 1) {
    // All that a thread reads is on its way before it needs any.
    const Stores &sinks = work.byWidth.front().second;
    const int64_t lanes = RowExpressions::lanesOf(sinks);
    SmallVector<Own> owns;
    SmallVector<Position> positions;
    SmallVector<SmallVector<Value>> values;
    for (int64_t i = 0; i < knobs.quads; ++i) {
      Own own = ownOf(i);
      owns.push_back(own);
      if (own.isThere && flat.byRow) // the last one is read again
        own.task = p.min(own.task, p.c(flat.tasks - 1));
      else if (own.isThere)
        own.row = p.min(own.row, p.sub(p.rows(rowType), 1));
      rows.prepareRow(work.values, own.row);
      positions.push_back({own.row, p.named(p.mul(own.task, lanes), "col"), lanes});
      values.push_back(rows.evaluateAll(sinks, positions.back()));
    }
    for (auto [own, position, value] : llvm::zip(owns, positions, values)) {
      auto put = [&, &position = position, &value = value] { rows.put(sinks, value, position); };
      if (own.isThere)
        p.ifThen(own.isThere, put);
      else
        put();
    }
    return p.finish(flat.grid);
  }
  for (int64_t i = 0; i < knobs.quads; ++i) {
    const Own own = ownOf(i);
    if (own.isThere)
      p.ifThen(own.isThere, [&] { compute(own.row, own.task); });
    else
      compute(own.row, own.task);
  }
  return p.finish(flat.grid);
}

Expected<Knobs> readKnobs(const std::string &where, const Target &target,
                          const KnobValues &values) {
  const int64_t limit = target.limits.threadsPerBlock > 0 ? target.limits.threadsPerBlock : 256;
  KnobReader read(where, values);
  KF_CHECK(read.checkNames({"threads", "quads"}));
  Knobs knobs;
  KF_TRY(knobs.threads, read.get("threads", {32, std::min(limit, mostThreads), 32}));
  KF_TRY(knobs.quads, read.get("quads", {1, mostQuads}));
  if (!llvm::isPowerOf2_64(uint64_t(knobs.threads)))
    return unusable("schedule is not legal", where, fmt::format("threads is {}", knobs.threads),
                    "use a power of two");
  return knobs;
}

/// 32 bytes of a row to a thread, so that enough of memory is on its way, or two quads of whatever
/// row, and one quad where few rows leave multiprocessors without work.
Knobs usualKnobs(const KernelAnalysis &kernel, const Target &target) {
  const int64_t limit = target.limits.threadsPerBlock > 0 ? target.limits.threadsPerBlock : 256;
  Knobs knobs{std::min<int64_t>(256, limit), 1};
  constexpr int64_t fewRows = 132, least = 64, most = 512, manyBlocks = 1024, usualQuads = 2;
  for (const Stores &stores : kernel.rowGroups()) {
    Value stored = stores[0].value;
    const int64_t quads = kernel.plannedRows(stored.getType()).second * (widthOf(stored) / 4);
    if (quads >= manyBlocks * usualQuads * knobs.threads)
      knobs.quads = usualQuads;
    if (auto read = statisticsOf(stores)) {
      const int64_t rows = kernel.plannedRows(stores[0].value.getType()).second;
      const int64_t wanted = llvm::divideCeil(read->width, rows > fewRows ? 256 / read->bits : 4);
      const auto whole = int64_t(llvm::PowerOf2Ceil(uint64_t(std::max<int64_t>(wanted, 1))));
      knobs.threads = std::min(std::clamp(whole, least, most), limit);
    }
  }
  return knobs;
}

KnobValues valuesOf(const Knobs &knobs) {
  return {{"threads", knobs.threads}, {"quads", knobs.quads}};
}

class Quads final : public Method {
public:
  std::string_view name() const override { return "quads"; }

  Status supports(const KernelAnalysis &kernel, const Target &target) const override {
    KF_CHECK(checkOperations(kernel.kernel(), {.device = "a GPU",
                                               .hasCode = RowExpressions::hasCode,
                                               .readsLayouts = false,
                                               .needsFiniteF32 = true}));
    KF_CHECK(rowwise::supports(kernel));
    SmallVector<Needs> needs = rowwise::needsOf(kernel);
    for (Needs &phase : needs) {
      phase.blockThreads = usualKnobs(kernel, target).threads;
      // Each statistic is at most two reductions.
      int64_t reductions = 0;
      for (Operation &op : kernel.kernel().getBody().front())
        reductions += kindOf(&op) == OpKind::Statistics ? 2 : 0;
      phase.sharedBytes +=
          reductions * reduceBytes(1, phase.blockThreads, subgroupOf(target)) - threads * 4;
    }
    return checkLimits(kernel.kernel(), needs, target.limits);
  }

  ScheduleSpace space(const KernelAnalysis &kernel, const Target &target) const override {
    ScheduleSpace space;
    space.knobs = {{"threads", {64, 128, 256, 512}, "threads of a workgroup"}};
    bool hasStatistics = false;
    for (const Stores &stores : kernel.rowGroups())
      hasStatistics |= statisticsOf(stores).has_value();
    const Knobs usual = usualKnobs(kernel, target);
    space.knobs.push_back(
        {"quads", hasStatistics ? std::vector<int64_t>{usual.quads} : std::vector<int64_t>{1, 2, 4},
         "quads that a thread computes where no row is read as a whole"});
    space.analytic = valuesOf(usual);
    space.complete = [usual](const KnobValues &values) {
      KnobValues all = values;
      all.merge(valuesOf(usual));
      return all;
    };
    auto read = [name = kernel.name(), target](const KnobValues &values) {
      return readKnobs(name, target, values);
    };
    space.check = [read](const KnobValues &values) -> Status {
      return read(values).transform([](const Knobs &) {});
    };
    space.predict = [read, usual](const KnobValues &values) {
      auto knobs = read(values);
      if (!knobs)
        return std::numeric_limits<double>::infinity();
      // What it moves takes as long with all; the usual one first.
      const double distance = std::abs(std::log2(double(knobs->threads) / double(usual.threads))) +
                              double(knobs->quads - usual.quads);
      return AttentionFacts::dispatch * (1 + 0.05 * distance);
    };
    space.orderClass = [](const KnobValues &values) {
      return fmt::format(":{}", values.at("threads"));
    };
    return space;
  }

  Expected<Launching> emit(ModuleOp module, const KernelAnalysis &kernel, const Target &target,
                           StringRef entry, const KnobValues &schedule) const override {
    KF_TRY(const Knobs knobs, readKnobs(kernel.name(), target, schedule));
    Launching launching;
    const ArrayRef<Stores> phases = kernel.rowGroups();
    for (const auto &[i, stores] : llvm::enumerate(phases)) {
      const std::string name = phaseEntry(entry, i, phases.size());
      const auto read = statisticsOf(stores);
      launching.phases.push_back(
          read ? emitRows(module, kernel.kernel(), stores, read->width, knobs, target, name)
               : emitElements(module, kernel, stores, knobs, target, name));
      launching.phases.back().afterPrevious = i == 0; // they do not wait for each other
    }
    return launching;
  }

  std::vector<std::string> describe(const KernelAnalysis &kernel,
                                    const KnobValues &schedule) const override {
    return {simt::describe(kernel).front(),
            fmt::format("a workgroup of {} threads a row, or {} quads a thread",
                        schedule.at("threads"), schedule.at("quads"))};
  }
};

} // namespace

const Method &simt::rowwiseQuads() {
  static const Quads method;
  return method;
}
