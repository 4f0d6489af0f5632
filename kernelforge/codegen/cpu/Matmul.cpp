// The matmul family: rows times one or more weights with what stands before and after them.
//
// Phase 0 brings the rows into the form that phase 1 reads (and computes the prologue once); it is
// left out where rows can be read as they are. Phase 1 computes tiles of columns; its epilogue runs
// over a tile while it is in the core's cache. Two ways to read weights:
//   unpack = registers: few rows; a weight is dequantized where it is multiplied, once per row;
//   unpack = panel: many rows; a panel of weights is expanded to f32 in scratch that fits in L2 and
//                   used for `mc` rows by a register-tiled micro-kernel.
#include "kernelforge/codegen/cpu/Emit.h"
#include "kernelforge/codegen/cpu/Epilogue.h"
#include "kernelforge/codegen/cpu/KernelBuilder.h"
#include "kernelforge/codegen/cpu/Weights.h"

#include "llvm/ADT/EquivalenceClasses.h"
#include "llvm/ADT/SmallSet.h"

#include <numeric>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;
using namespace kernelforge::transformer;

namespace {

/// Rows up to which weights are dequantized in registers.
constexpr int64_t maxRegisterRows = 4;

int64_t roundUp(int64_t x, int64_t to) { return (x + to - 1) / to * to; }
int64_t ceilDiv(int64_t x, int64_t y) { return (x + y - 1) / y; }

/// Knobs of a matmul's schedule.
struct Knobs {
  bool panel;       ///< unpack = panel (1) or registers (0)
  int64_t mr;       ///< rows of the register tile
  int64_t groups;   ///< groups of 16 columns of the register tile
  int64_t mc;       ///< rows that share an unpacked panel; a multiple of mr
  int64_t kc;       ///< depth of a panel
  int64_t nb;       ///< columns of a task; whole heads where the epilogue rotates
  int64_t prefetch; ///< registers: blocks of each group that are asked for ahead
};

/// Segments whose tiles an epilogue needs together (gate and up), with the sinks they feed.
struct SegmentGroup {
  SmallVector<unsigned> segments;
  SmallVector<RowExpressions::Sink> sinks;
  int64_t n = 0;
};

/// Segments of `matmul` that `value` is computed from.
void collectSegments(MatmulOp matmul, Value value, llvm::SmallSet<unsigned, 4> &segments) {
  Operation *op = value.getDefiningOp();
  if (!op)
    return;
  if (op == matmul) {
    segments.insert(cast<OpResult>(value).getResultNumber());
    return;
  }
  for (Value operand : op->getOperands())
    collectSegments(matmul, operand, segments);
}

/// Columns that a tile must hold whole for the epilogue of `kernel`: a multiple of every rotated
/// head.
int64_t headColumns(KernelOp kernel) {
  int64_t columns = lanes;
  kernel.walk(
      [&](RopeOp rope) { columns = std::lcm(columns, static_cast<int64_t>(rope.getHeadDim())); });
  return columns;
}

Expected<MatmulOp> supportedMatmul(KernelOp kernel) {
  auto matmul = cast<MatmulOp>(kernel.getRoot());
  auto refuse = [&](const std::string &why, const std::string &hint) {
    return unusable("matmul cannot be compiled for the CPU", kernelName(kernel), why, hint);
  };
  for (Value weight : matmul.getWeights()) {
    if (!isa<BlockArgument>(weight))
      return refuse("a weight is computed inside the kernel", "pass weights as arguments");
    if (!matmul.getTranspose() && !layoutOf(weight.getType()))
      return refuse("a weight has no layout", "run kernelforge-assign-layouts first");
  }
  for (Value bias : matmul.getBiases())
    if (!cast<RankedTensorType>(bias.getType()).getElementType().isF32())
      return refuse("a bias is not f32", "convert vectors to f32 at load");
  return matmul;
}

class MatmulEmitter {
public:
  MatmulEmitter(ModuleOp module, KernelOp kernel, MatmulOp matmul, const CpuTarget &target,
                StringRef entry, Knobs knobs)
      : k(module, kernel, target, entry), kernel(kernel), matmul(matmul), knobs(knobs),
        expressions(k), depth(matmul.getK()) {
    for (auto [s, weight] : llvm::enumerate(matmul.getWeights()))
      readers.emplace_back(k, k.argument(weight), cast<RankedTensorType>(weight.getType()),
                           matmul.getTranspose());
    formGroups();
    auto inputArgument = dyn_cast<BlockArgument>(matmul.getInput());
    for (WeightReader &reader : readers)
      sumBlock = std::max(sumBlock, reader.sumElements());
    prepares = knobs.panel || !inputArgument || sumBlock > 0;
  }

  Launching emit() {
    Launching launching;
    int rowsIndex = k.rowsIndex(matmul.getInput().getType());
    auto rowTiles = [&](int64_t multiplier, int64_t divisor) {
      if (rowsIndex < 0)
        return Extent{multiplier * ceilDiv(staticRows(), divisor)};
      return Extent{multiplier, rowsIndex, divisor};
    };
    m = k.rows(matmul.getInput().getType());

    auto emitMain = [&] { knobs.panel ? emitPanelTask() : emitRegisterTask(); };
    if (prepares) {
      k.ifThen(k.cmp(arith::CmpIPredicate::eq, k.phase, k.c(0)),
               [&] { knobs.panel ? emitPackRows() : emitPrepareRows(); });
      k.ifThen(k.cmp(arith::CmpIPredicate::eq, k.phase, k.c(1)), emitMain);
      launching.phases.push_back(Phase{{rowTiles(1, rowTile())}});
      launching.workspaceBytes = rowTiles(rowTile() * preparedRowBytes(), rowTile());
    } else {
      emitMain();
    }
    k.finish();
    Phase main{{Extent{numBlocks()}, rowTiles(1, taskRows())}};
    main.scratchBytes = panelOffset() + (knobs.panel ? knobs.kc * knobs.groups * lanes * 4 : 0);
    launching.phases.push_back(main);
    return launching;
  }

private:
  //===--------------------------------------------------------------------===//
  // Shapes
  //===--------------------------------------------------------------------===//

  int64_t staticRows() { return cast<RankedTensorType>(matmul.getInput().getType()).getDimSize(0); }
  int64_t rowTile() const { return knobs.panel ? knobs.mr : 1; }
  int64_t taskRows() const { return knobs.panel ? knobs.mc : maxRegisterRows; }
  int64_t sumsPerRow() const { return sumBlock ? ceilDiv(depth, sumBlock) : 0; }
  /// A prepared row: its K values, then (registers) the sums of its blocks; whole cache lines.
  int64_t preparedRowBytes() const {
    return knobs.panel ? depth * 4 : roundUp(depth + sumsPerRow(), lanes) * 4;
  }
  int64_t tileBytes() const { return taskRows() * knobs.nb * 4; }
  int64_t panelOffset() const {
    size_t most = 0;
    for (const SegmentGroup &group : groups)
      most = std::max(most, group.segments.size());
    return static_cast<int64_t>(most) * tileBytes();
  }
  int64_t numBlocks() const {
    int64_t count = 0;
    for (const SegmentGroup &group : groups)
      count += ceilDiv(group.n, knobs.nb);
    return count;
  }

  void formGroups() {
    llvm::EquivalenceClasses<unsigned> classes;
    auto sinks = RowExpressions::sinks(kernel);
    SmallVector<unsigned> owner;
    for (unsigned s = 0; s < readers.size(); ++s)
      classes.insert(s);
    for (const RowExpressions::Sink &sink : sinks) {
      llvm::SmallSet<unsigned, 4> segments;
      collectSegments(matmul, sink.value, segments);
      unsigned first = segments.empty() ? 0 : *segments.begin();
      for (unsigned s : segments)
        classes.unionSets(first, s);
      owner.push_back(first);
    }
    for (unsigned s = 0; s < readers.size(); ++s) {
      if (covered(s))
        continue;
      SegmentGroup group;
      for (unsigned t = s; t < readers.size(); ++t)
        if (classes.isEquivalent(s, t))
          group.segments.push_back(t);
      for (auto [sink, first] : llvm::zip(sinks, owner))
        if (classes.isEquivalent(s, first))
          group.sinks.push_back(sink);
      group.n = readers[s].n();
      if (!group.sinks.empty())
        groups.push_back(std::move(group));
    }
  }
  bool covered(unsigned segment) const {
    return llvm::any_of(groups, [&](const SegmentGroup &group) {
      return llvm::is_contained(group.segments, segment);
    });
  }

  //===--------------------------------------------------------------------===//
  // Phase 0
  //===--------------------------------------------------------------------===//

  /// Registers: row `task` as it is multiplied, then the sums of its blocks.
  void emitPrepareRows() {
    Value row = k.task, input = matmul.getInput();
    Value out = k.at(k.workspace(), k.mul(row, preparedRowBytes()));
    expressions.prepareRow(input, row);
    expressions.forEachVector(row, depth, [&](const Position &position) {
      k.storeVec(expressions.evaluate(input, position), k.at(out, k.mul(position.col, 4)),
                 position.mask);
    });
    if (!sumBlock)
      return;
    Value sums = k.at(out, depth * 4);
    k.loop(k.c(0), k.c(depth / sumBlock), 1, [&](Value index) {
      Value base = k.at(out, k.mul(index, sumBlock * 4));
      Value sum = k.loadVec(base);
      for (int64_t i = lanes; i < sumBlock; i += lanes)
        sum = k.addf(sum, k.loadVec(k.at(base, i * 4)));
      k.store(k.reduceAdd(sum), k.at(sums, k.mul(index, 4)), 4);
    });
  }

  /// Panel: mr rows side by side, k after k, so that the micro-kernel reads one stream. Rows past
  /// the last repeat it; what comes of them is not stored.
  void emitPackRows() {
    Value input = matmul.getInput();
    Value out = k.at(k.workspace(), k.mul(k.task, knobs.mr * depth * 4));
    k.loop(k.c(0), k.c(knobs.mr), 1, [&](Value r) {
      Value row = k.min(k.add(k.mul(k.task, knobs.mr), r), k.sub(m, k.c(1)));
      Value lane = k.at(out, k.mul(r, 4));
      expressions.prepareRow(input, row);
      expressions.forEachVector(row, depth, [&](const Position &position) {
        Value x = expressions.evaluate(input, position);
        Value to = k.at(lane, k.mul(position.col, knobs.mr * 4));
        int64_t count = position.mask ? depth % lanes : lanes;
        for (int64_t i = 0; i < count; ++i)
          k.store(k.b.create<vector::ExtractOp>(k.loc, x, ArrayRef<int64_t>{i}),
                  k.at(to, i * knobs.mr * 4), 4);
      });
    });
  }

  //===--------------------------------------------------------------------===//
  // Phase 1
  //===--------------------------------------------------------------------===//

  /// Splits the task into a block of columns of a segment group and a block of rows, and calls
  /// `body` with the group, its first column and the first row.
  void forTask(llvm::function_ref<void(const SegmentGroup &, Value n0, Value row0)> body) {
    Value block = k.rem(k.task, numBlocks());
    Value row0 = k.mul(k.div(k.task, numBlocks()), taskRows());
    int64_t first = 0;
    for (const SegmentGroup &group : groups) {
      int64_t count = ceilDiv(group.n, knobs.nb);
      auto emitGroup = [&] { body(group, k.mul(k.sub(block, k.c(first)), knobs.nb), row0); };
      if (groups.size() == 1) {
        emitGroup();
      } else {
        Value after = k.cmp(arith::CmpIPredicate::sge, block, k.c(first));
        Value before = k.lessThan(block, k.c(first + count));
        k.ifThen(k.b.create<arith::AndIOp>(k.loc, after, before), emitGroup);
      }
      first += count;
    }
  }

  Value tile(size_t indexInGroup) {
    return k.at(k.scratch, static_cast<int64_t>(indexInGroup) * tileBytes());
  }

  void emitRegisterTask() {
    forTask([&](const SegmentGroup &group, Value n0, Value row0) {
      Value numRows = k.min(k.sub(m, row0), k.c(taskRows()));
      for (auto [i, s] : llvm::enumerate(group.segments)) {
        Value out = tile(i);
        WeightReader &reader = readers[s];
        Value first = k.div(n0, lanes);
        Value columns = k.min(k.sub(k.c(group.n), n0), k.c(knobs.nb));
        Value rowsFrom = prepares ? k.workspace() : k.argument(matmul.getInput());
        int64_t rowBytes = prepares ? preparedRowBytes() : depth * 4;
        k.loop(k.c(0), k.ceilDiv(columns, lanes), knobs.groups, [&](Value g0) {
          k.loop(k.c(0), numRows, 1, [&](Value r) {
            Value x = k.at(rowsFrom, k.mul(k.add(row0, r), rowBytes));
            SmallVector<Value> sums = dotRow(reader, k.add(first, g0), x);
            Value to = k.at(out, k.mul(k.add(k.mul(r, knobs.nb), k.mul(g0, lanes)), 4));
            for (auto [g, sum] : llvm::enumerate(sums))
              storeGroup(sum, to, g0, g);
          });
        });
      }
      emitEpilogue(group, n0, row0, numRows);
    });
  }

  /// Stores a group of a register tile unless the tile has no room for it: the last register tile
  /// of a task may reach past its columns.
  void storeGroup(Value sum, Value to, Value g0, int64_t g) {
    Value address = k.at(to, g * lanes * 4);
    if (knobs.nb / lanes % knobs.groups == 0)
      return k.storeVec(sum, address);
    k.ifThen(k.lessThan(k.add(g0, g), k.c(knobs.nb / lanes)), [&] { k.storeVec(sum, address); });
  }

  /// Products of one row with `knobs.groups` groups from `firstGroup` on.
  SmallVector<Value> dotRow(WeightReader &reader, Value firstGroup, Value x) {
    SmallVector<Value> groupNumbers, accumulators;
    for (int64_t g = 0; g < knobs.groups; ++g) {
      groupNumbers.push_back(k.min(k.add(firstGroup, g), k.c(reader.groups() - 1)));
      accumulators.push_back(k.splat(0));
    }
    auto step = [&](Value index, int64_t count, ValueRange carried) {
      SmallVector<Value> next(carried);
      Value sums;
      if (reader.sumElements() > 0)
        sums = k.at(x, k.add(k.mul(index, reader.blockK() / sumBlock * 4), depth * 4));
      reader.dotBlock(groupNumbers, index, count, k.at(x, k.mul(index, reader.blockK() * 4)), sums,
                      next, knobs.prefetch);
      return next;
    };
    if (reader.wholeBlocks() > 0)
      accumulators = k.loop(
          k.c(0), k.c(reader.wholeBlocks()), 1, accumulators,
          [&](Value index, ValueRange carried) { return step(index, reader.blockK(), carried); });
    if (reader.lastBlock() > 0)
      accumulators = step(k.c(reader.wholeBlocks()), reader.lastBlock(), accumulators);
    return accumulators;
  }

  void emitPanelTask() {
    forTask([&](const SegmentGroup &group, Value n0, Value row0) {
      Value numRows = k.min(k.sub(m, row0), k.c(taskRows()));
      Value columns = k.min(k.sub(k.c(group.n), n0), k.c(knobs.nb));
      int64_t whole = depth / knobs.kc, rest = depth % knobs.kc;
      bool onePanel = whole + (rest > 0) == 1;
      for (auto [i, s] : llvm::enumerate(group.segments)) {
        Value out = tile(i);
        WeightReader &reader = readers[s];
        k.loop(k.c(0), k.ceilDiv(columns, lanes), knobs.groups, [&](Value g0) {
          Value first = k.add(k.div(n0, lanes), g0);
          auto panel = [&](Value k0, int64_t count) {
            emitPanel(reader, first, k0, count, row0, numRows, k.at(out, k.mul(g0, lanes * 4)), g0,
                      onePanel);
          };
          if (whole == 1)
            panel(k.c(0), knobs.kc);
          else if (whole > 1)
            k.loop(k.c(0), k.c(whole), 1,
                   [&](Value block) { panel(k.mul(block, knobs.kc), knobs.kc); });
          if (rest > 0)
            panel(k.c(whole * knobs.kc), rest);
        });
      }
      emitEpilogue(group, n0, row0, numRows);
    });
  }

  /// Unpacks K rows [k0, k0 + count) of the register tile's groups and multiplies all rows of the
  /// task with them.
  void emitPanel(WeightReader &reader, Value firstGroup, Value k0, int64_t count, Value row0,
                 Value numRows, Value out, Value g0, bool onePanel) {
    SmallVector<Value> panels;
    for (int64_t g = 0; g < knobs.groups; ++g) {
      Value number = k.min(k.add(firstGroup, g), k.c(reader.groups() - 1));
      if (reader.isPanel()) {
        panels.push_back(k.at(reader.groupPointer(number), k.mul(k0, lanes * 4)));
        continue;
      }
      Value panel = k.at(k.scratch, panelOffset() + g * knobs.kc * lanes * 4);
      panels.push_back(panel);
      int64_t block = reader.blockK();
      Value firstBlock = k.div(k0, block);
      auto unpack = [&](Value index, int64_t elements) {
        Value to = k.at(panel, k.mul(index, block * lanes * 4));
        reader.unpackBlock(
            number, k.add(firstBlock, index), elements,
            [&](int64_t i, Value values) { k.storeVec(values, k.at(to, i * lanes * 4)); });
      };
      k.loop(k.c(0), k.c(count / block), 1, [&](Value index) { unpack(index, block); });
      if (count % block != 0)
        unpack(k.c(count / block), count % block);
    }
    k.loop(k.c(0), k.ceilDiv(numRows, knobs.mr), 1, [&](Value t) {
      Value a = k.add(k.div(row0, knobs.mr), t);
      Value rows = k.at(k.workspace(), k.mul(k.add(k.mul(a, depth), k0), knobs.mr * 4));
      emitMicroKernel(rows, panels, count, k.at(out, k.mul(t, knobs.mr * knobs.nb * 4)), g0,
                      onePanel ? Value() : k0);
    });
  }

  /// mr rows times the panels: sums in registers over the whole depth. `k0` is null where this is
  /// the only panel, otherwise all but the first (k0 = 0) add to what the tile holds.
  void emitMicroKernel(Value rows, ArrayRef<Value> panels, int64_t count, Value out, Value g0,
                       Value k0) {
    constexpr int64_t unroll = 4;
    int64_t mr = knobs.mr, numGroups = knobs.groups;
    auto step = [&](Value aBase, ArrayRef<Value> bBases, int64_t i, SmallVector<Value> &sums) {
      SmallVector<Value> columns;
      for (Value base : bBases)
        columns.push_back(k.loadVec(k.at(base, i * lanes * 4)));
      for (int64_t r = 0; r < mr; ++r) {
        Value x = k.broadcast(k.loadF32(k.at(aBase, (i * mr + r) * 4)));
        for (int64_t g = 0; g < numGroups; ++g)
          sums[r * numGroups + g] = k.fma(columns[g], x, sums[r * numGroups + g]);
      }
    };
    SmallVector<Value> sums(mr * numGroups, k.splat(0));
    int64_t main = count / unroll * unroll;
    if (main > 0)
      sums = k.loop(k.c(0), k.c(main), unroll, sums, [&](Value kk, ValueRange carried) {
        SmallVector<Value> next(carried), bases;
        for (Value panel : panels)
          bases.push_back(k.at(panel, k.mul(kk, lanes * 4)));
        Value a = k.at(rows, k.mul(kk, mr * 4));
        for (int64_t i = 0; i < unroll; ++i)
          step(a, bases, i, next);
        return next;
      });
    for (int64_t i = main; i < count; ++i)
      step(rows, panels, i, sums);

    auto storeAll = [&](bool accumulate) {
      for (int64_t r = 0; r < mr; ++r)
        for (int64_t g = 0; g < numGroups; ++g) {
          Value to = k.at(out, (r * knobs.nb + g * lanes) * 4);
          auto storeOne = [&] {
            Value sum = sums[r * numGroups + g];
            k.storeVec(accumulate ? k.addf(k.loadVec(to), sum) : sum, to);
          };
          if (knobs.nb / lanes % numGroups == 0)
            storeOne();
          else
            k.ifThen(k.lessThan(k.add(g0, g), k.c(knobs.nb / lanes)), storeOne);
        }
    };
    if (!k0)
      return storeAll(false);
    Value isFirst = k.cmp(arith::CmpIPredicate::eq, k0, k.c(0));
    k.ifThen(isFirst, [&] { storeAll(false); });
    k.ifThen(k.cmp(arith::CmpIPredicate::ne, k0, k.c(0)), [&] { storeAll(true); });
  }

  /// Everything after the matmul, over the columns [n0, n0 + nb) of the task's rows.
  void emitEpilogue(const SegmentGroup &group, Value n0, Value row0, Value numRows) {
    for (auto [i, s] : llvm::enumerate(group.segments)) {
      Value from = tile(i);
      Value bias = matmul.getBiases().empty() ? Value() : k.argument(matmul.getBiases()[s]);
      expressions.bind(matmul.getOutputs()[s], [this, from, bias, n0, row0](const Position &p) {
        Value rowStart = k.mul(k.sub(p.row, row0), knobs.nb);
        if (p.columns) {
          Value shift = k.b.create<arith::TruncIOp>(k.loc, k.i32, k.sub(rowStart, n0));
          Value offsets = k.b.create<arith::AddIOp>(k.loc, p.columns, k.broadcast(shift));
          Value x = k.gather(from, offsets, p.mask);
          return bias ? k.addf(x, k.gather(bias, p.columns, p.mask)) : x;
        }
        Value x = k.loadVec(k.at(from, k.mul(k.add(rowStart, k.sub(p.col, n0)), 4)));
        return bias ? k.addf(x, k.loadVec(k.at(bias, k.mul(p.col, 4)), p.mask)) : x;
      });
    }
    Value columns = k.min(k.sub(k.c(group.n), n0), k.c(knobs.nb));
    k.loop(k.c(0), numRows, 1, [&](Value r) {
      Value row = k.add(row0, r);
      k.loop(k.c(0), columns, lanes, [&](Value c) {
        Value col = k.add(n0, c);
        Value mask;
        if (group.n % lanes != 0)
          mask = k.firstLanes(k.sub(k.c(group.n), col));
        for (const RowExpressions::Sink &sink : group.sinks)
          expressions.store(sink, Position{row, col, Value(), mask});
      });
    });
  }

  KernelBuilder k;
  KernelOp kernel;
  MatmulOp matmul;
  Knobs knobs;
  RowExpressions expressions;
  SmallVector<WeightReader> readers;
  SmallVector<SegmentGroup> groups;
  int64_t depth;
  bool prepares;        ///< whether there is a phase 0
  int64_t sumBlock = 0; ///< elements of x whose sums weights with minima need; 0: none does
  Value m;
};

Expected<Knobs> readKnobs(KernelOp kernel, MatmulOp matmul, const CpuTarget &target) {
  Knobs knobs;
  KF_CHECK(checkKnobNames(kernel, {"panel", "mr", "groups", "mc", "kc", "nb", "prefetch"}));
  int64_t k = matmul.getK();
  KF_TRY(int64_t panel, knob(kernel, "panel", 0, 1));
  knobs.panel = panel != 0;
  int64_t columns = headColumns(kernel);
  KF_TRY(knobs.nb, knob(kernel, "nb", columns, int64_t(1) << 20, columns));
  int64_t registers = target.vectorBits() == 512 ? 32 : 16;
  int64_t perVector = target.vectorBits() == 512 ? 1 : 2;
  // Accumulators, one row of weights and one broadcast must fit in the registers.
  KF_TRY(knobs.groups, knob(kernel, "groups", 1, (registers - 1) / (2 * perVector)));
  int64_t mostRows = (registers - 1 - knobs.groups * perVector) / (knobs.groups * perVector);
  KF_TRY(knobs.mr, knob(kernel, "mr", 1, knobs.panel ? mostRows : 1));
  int64_t block = 8;
  for (Value weight : matmul.getWeights())
    block = std::max(block, WeightReader::blockK(info(*elementTypeOf(weight.getType()))));
  KF_TRY(knobs.kc,
         knob(kernel, "kc", std::min(k, block), roundUp(k, block), knobs.panel ? block : 1));
  KF_TRY(knobs.mc, knob(kernel, "mc", knobs.mr, int64_t(1) << 20, knobs.mr));
  KF_TRY(knobs.prefetch, knob(kernel, "prefetch", 0, 64));
  return knobs;
}

} // namespace

Expected<ScheduleAttr> cpu::matmul::defaultSchedule(KernelOp kernel, const CpuTarget &target,
                                                    int64_t threads) {
  KF_TRY(MatmulOp matmul, supportedMatmul(kernel));
  bool wide = target.vectorBits() == 512;
  int64_t maxRows = cast<RankedTensorType>(matmul.getInput().getType()).getDimSize(0);
  for (unsigned i = 0; i < kernel.getNumSizes(); ++i)
    if (kernel.getSize(i).getName().getValue() ==
        rowsSizeName(cast<RankedTensorType>(matmul.getInput().getType())))
      maxRows = kernel.getSize(i).getMax();
  bool panel = maxRows > maxRegisterRows;
  int64_t k = matmul.getK(), columns = headColumns(kernel);

  // Columns of a task: about 64, whole heads. Register tile: 6 x 64 on AVX-512 (24 accumulators, 4
  // weights, 1 broadcast of 32), 6 x 16 on AVX2 (12, 2, 1 of 16).
  int64_t nb = roundUp(64, columns);
  int64_t mr = panel ? 6 : 1;
  // In registers: about 8 sums of 16 at once on AVX-512, 4 on AVX2.
  int64_t chains = 2, block = 32;
  for (Value weight : matmul.getWeights()) {
    const ElementTypeInfo &type = info(*elementTypeOf(weight.getType()));
    chains = std::max(chains, WeightReader::chains(type));
    block = std::max(block, WeightReader::blockK(type));
  }
  int64_t groups = panel ? (wide ? 4 : 1) : (wide ? 8 : 4) / chains;
  // A panel (kc x 64 f32) and the rows that meet it stay in L2 together.
  int64_t kc = panel ? (k <= 768 ? k : ceilDiv(k, ceilDiv(k, 512))) : k;
  kc = std::min(roundUp(kc, block), roundUp(k, 8));
  int64_t mc = panel ? roundUp(std::min<int64_t>(maxRows, 192), mr) : mr;
  if (!panel)
    kc = k;
  return makeSchedule(kernel.getContext(), {{"panel", panel},
                                            {"mr", mr},
                                            {"groups", groups},
                                            {"mc", mc},
                                            {"kc", kc},
                                            {"nb", nb},
                                            {"prefetch", 0}});
}

Expected<Launching> cpu::matmul::emit(ModuleOp module, KernelOp kernel, const CpuTarget &target,
                                      StringRef entry) {
  KF_TRY(MatmulOp matmul, supportedMatmul(kernel));
  KF_TRY(Knobs knobs, readKnobs(kernel, matmul, target));
  knobs.kc = std::min(knobs.kc, matmul.getK());
  return MatmulEmitter(module, kernel, matmul, target, entry, knobs).emit();
}
