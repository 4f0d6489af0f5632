// The matmul family: rows times one or more weights with what stands before and after them.
//
// Phase 0 brings the rows into the form that phase 1 reads (and computes the prologue once); it is
// left out where rows can be read as they are. Phase 1 computes tiles of columns; its epilogue runs
// over a tile while it is in the core's cache. Two ways to read weights:
//   unpack = registers: few rows; a weight is dequantized where it is multiplied, once per row;
//                   of rows of whole numbers (numerics i8) it is multiplied as it is, by `mr` rows;
//   unpack = panel: many rows; a panel of weights is expanded in scratch that fits in L2 to what is
//                   multiplied, and used for `mc` rows by a register-tiled micro-kernel.
#include "kernelforge/codegen/cpu/Emit.h"
#include "kernelforge/codegen/cpu/Epilogue.h"
#include "kernelforge/codegen/cpu/IntegerRows.h"
#include "kernelforge/codegen/cpu/KernelBuilder.h"
#include "kernelforge/codegen/cpu/MatmulPanels.h"
#include "kernelforge/codegen/cpu/MatmulSchedule.h"
#include "kernelforge/codegen/cpu/Weights.h"
#include "kernelforge/ir/Numerics.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;
using namespace kernelforge::cpu::matmul;
using namespace kernelforge::transformer;

namespace {

class MatmulEmitter {
public:
  MatmulEmitter(ModuleOp module, const KernelAnalysis &kernel, const Target &target,
                StringRef entry, Knobs knobs)
      : k(module, kernel.kernel(), target, entry), matmul(kernel.matmul()), knobs(knobs),
        expressions(k), groups(kernel.groups()), depth(matmul.getK()),
        integers(multipliesIntegers(numericsOf(matmul))), integerRow{depth},
        form(PanelForm::of(numericsOf(matmul), target)),
        panels(knobs.panel ? Panels::create(k, knobs, form, depth) : nullptr) {
    for (auto [s, weight] : llvm::enumerate(matmul.getWeights()))
      readers.emplace_back(k, k.argument(weight), cast<RankedTensorType>(weight.getType()),
                           matmul.getTranspose());
    for (WeightReader &reader : readers)
      if (const int64_t own = reader.sumElements()) // the smallest: sizes divide one another
        sumBlock = sumBlock ? std::min(sumBlock, own) : own;
    prepares = knobs.panel ? knobs.pack
                           : integers || roundsRows() || !readsInPlace(matmul) || sumBlock > 0;
  }

  Launching emit() {
    Launching launching;
    if (groups.empty() || staticRows() == 0) { // nothing is stored: one phase without tasks
      k.finish();
      launching.phases.push_back({.grid = 0});
      return launching;
    }
    int rowsIndex = k.rowsIndex(matmul.getInput().getType());
    auto rowTiles = [&](int64_t multiplier, int64_t divisor) {
      if (rowsIndex < 0)
        return Extent{multiplier * ceilDiv(staticRows(), divisor)};
      return Extent{multiplier, rowsIndex, divisor};
    };
    m = k.rows(matmul.getInput().getType());
    rowBlocks = k.ceilDiv(m, taskRows());

    int64_t phase = 0;
    auto inPhase = [&](llvm::function_ref<void()> body) {
      if (numPhases() == 1)
        return body();
      k.ifThen(k.cmp(arith::CmpIPredicate::eq, k.phase, k.c(phase++)), body);
    };
    if (prepares) {
      inPhase([&] { knobs.panel ? emitPackRows() : emitPrepareRows(); });
      launching.phases.push_back(
          {.grid = rowTiles(1, rowTile()), .scratchBytes = expressions.scratchBytes()});
    }
    inPhase([&] { knobs.panel ? emitPanelTask() : emitRegisterTask(); });
    if (knobs.splits > 1)
      inPhase([&] { emitMergeTask(); });
    k.finish();

    // Prepared rows, then the sums of tasks that share K.
    const int64_t prepared = prepares ? preparedRowBytes() : 0;
    if (knobs.splits > 1)
      launching.workspaces.push_back(
          {.bytes = rowTiles(taskRows() * prepared + numBlocks() * knobs.splits * tilesBytes(),
                             taskRows())});
    else if (prepares)
      launching.workspaces.push_back({.bytes = rowTiles(rowTile() * prepared, rowTile())});
    Phase main{.grid = Extent(numBlocks()) * rowTiles(1, taskRows()) * knobs.splits};
    main.scratchBytes = panelOffset() + knobs.groups * (knobs.panel    ? panels->panelBytes()
                                                        : takesApart() ? apartBytes()
                                                                       : 0);
    launching.phases.push_back(main);
    if (knobs.splits > 1) {
      Phase merge{.grid = Extent(numBlocks()) * rowTiles(1, taskRows())};
      merge.scratchBytes = panelOffset();
      launching.phases.push_back(merge);
    }
    return launching;
  }

private:
  //===--------------------------------------------------------------------===//
  // Shapes
  //===--------------------------------------------------------------------===//

  int64_t staticRows() { return cast<RankedTensorType>(matmul.getInput().getType()).getDimSize(0); }
  int64_t rowTile() const { return knobs.panel ? knobs.mr : 1; }
  int64_t taskRows() const { return knobs.mc; }
  int64_t numPhases() const { return 1 + (prepares ? 1 : 0) + (knobs.splits > 1 ? 1 : 0); }
  bool roundsRows() const { return numericsOf(matmul) == Numerics::BF16; }
  int64_t sumsPerRow() const { return sumBlock ? ceilDiv(depth, sumBlock) : 0; }
  /// A prepared row: its K values, then (registers) the sums of its blocks; whole cache lines.
  int64_t preparedRowBytes() const {
    if (integers)
      return integerRow.bytes();
    return knobs.panel ? panels->rowBytes()
                       : roundUp(std::max<int64_t>(depth + sumsPerRow(), 1), lanes) * 4;
  }
  int64_t tileBytes() const { return taskRows() * knobs.nb * 4; }
  int64_t tilesBytes() const {
    size_t most = 0;
    for (const SegmentGroup &group : groups)
      most = std::max(most, group.segments.size());
    return static_cast<int64_t>(most) * tileBytes();
  }
  int64_t panelOffset() const { return tilesBytes(); }
  /// Whether a task has so many tiles of rows that weights are taken apart once for all of them, to
  /// bytes in scratch, and not for each.
  bool takesApart() const {
    constexpr int64_t fewTiles = 4;
    return integers && knobs.mc >= fewTiles * knobs.mr;
  }
  /// Of one group, all blocks of K, of the type that takes the most.
  int64_t apartBytes() const {
    int64_t most = 0;
    for (const WeightReader &reader : readers)
      most = std::max(most, reader.wholeBlocks() * reader.integersBytes());
    return most;
  }
  Value apart(int64_t g, WeightReader &reader, Value index) {
    return k.at(k.at(k.scratch, panelOffset() + g * apartBytes()),
                k.mul(index, reader.integersBytes()));
  }
  int64_t numBlocks() const { return countBlocks(groups, knobs.nb); }

  //===--------------------------------------------------------------------===//
  // Phase 0
  //===--------------------------------------------------------------------===//

  /// Registers: row `task` as it is multiplied, then the sums of its blocks.
  void emitPrepareRows() {
    Value row = k.task, input = matmul.getInput();
    Value out = k.at(k.workspace(), k.mul(row, preparedRowBytes()));
    if (integers)
      return emitIntegerRow(k, expressions, input, row, out, integerRow);
    expressions.prepareRow(input, row);
    expressions.forEachVector(row, depth, [&](const Position &position) {
      Value x = expressions.evaluate(input, position);
      k.storeVec(roundsRows() ? roundTo(k, ElementType::BF16, x) : x,
                 k.at(out, k.mul(position.col, 4)), position.mask);
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

  /// Panel: mr rows side by side, as the micro-kernel reads them. Rows past the last repeat it;
  /// what comes of them is not stored.
  void emitPackRows() {
    Value input = matmul.getInput();
    Value tile = panels->tileAt(k.workspace(), k.task);
    k.loop(k.c(0), k.c(knobs.mr), 1, [&](Value r) {
      Value row = k.min(k.add(k.mul(k.task, knobs.mr), r), k.sub(m, k.c(1)));
      expressions.prepareRow(input, row);
      expressions.forEachVector(row, depth, [&](const Position &position) {
        panels->storeRow(tile, r, position.col, expressions.evaluate(input, position),
                         position.mask ? depth % lanes : lanes);
      });
    });
  }

  //===--------------------------------------------------------------------===//
  // Phase 1
  //===--------------------------------------------------------------------===//

  /// What a task computes: a block of columns of a segment group, a block of rows, a part of K.
  struct Task {
    const SegmentGroup &group;
    Value n0, row0, numRows, split;
  };

  /// Takes the task's number apart and calls `body` for it.
  void forTask(llvm::function_ref<void(const Task &)> body) {
    Value split = k.c(0), place = k.task;
    if (knobs.splits > 1) {
      Value tiles = k.mul(rowBlocks, numBlocks());
      split = k.div(k.task, tiles);
      place = k.sub(k.task, k.mul(split, tiles));
    }
    Value block, rowBlock;
    if (knobs.rowsFirst) {
      block = k.div(place, rowBlocks);
      rowBlock = k.sub(place, k.mul(block, rowBlocks));
    } else {
      block = k.rem(place, numBlocks());
      rowBlock = k.div(place, numBlocks());
    }
    Value row0 = k.mul(rowBlock, taskRows());
    Value numRows = k.min(k.sub(m, row0), k.c(taskRows()));
    sumsPlace = k.add(k.mul(rowBlock, numBlocks()), block);
    int64_t first = 0;
    for (const SegmentGroup &group : groups) {
      int64_t count = ceilDiv(group.n, knobs.nb);
      auto emitGroup = [&] {
        body(Task{group, k.mul(k.sub(block, k.c(first)), knobs.nb), row0, numRows, split});
      };
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

  /// Where a task's products of a segment go: scratch, or where the merging phase finds them.
  Value tile(size_t indexInGroup) {
    return k.at(k.scratch, static_cast<int64_t>(indexInGroup) * tileBytes());
  }
  Value partialTile(size_t indexInGroup, Value split) {
    const int64_t prepared = prepares ? taskRows() * preparedRowBytes() : 0;
    Value tiles = k.at(k.workspace(), k.mul(rowBlocks, prepared));
    Value place = k.add(k.mul(sumsPlace, knobs.splits), split);
    return k.at(k.at(tiles, k.mul(place, tilesBytes())),
                static_cast<int64_t>(indexInGroup) * tileBytes());
  }
  Value productsOf(const Task &task, size_t indexInGroup) {
    return knobs.splits > 1 ? partialTile(indexInGroup, task.split) : tile(indexInGroup);
  }

  /// The part [first, second) of `pieces` that belongs to a split; none is empty.
  std::pair<Value, Value> share(Value split, int64_t pieces) {
    if (knobs.splits == 1)
      return {k.c(0), k.c(pieces)};
    return {k.div(k.mul(split, pieces), knobs.splits),
            k.div(k.mul(k.add(split, 1), pieces), knobs.splits)};
  }
  Value isLast(Value split) {
    return k.cmp(arith::CmpIPredicate::eq, split, k.c(knobs.splits - 1));
  }

  /// Adds up what the splits of a task found, in their order.
  void emitMergeTask() {
    forTask([&](const Task &task) {
      for (size_t i = 0; i < task.group.segments.size(); ++i)
        k.loop(k.c(0), k.mul(task.numRows, knobs.nb * 4), lanes * 4, [&](Value offset) {
          Value sum = k.loadVec(k.at(partialTile(i, k.c(0)), offset));
          for (int64_t split = 1; split < knobs.splits; ++split)
            sum = k.addf(sum, k.loadVec(k.at(partialTile(i, k.c(split)), offset)));
          k.storeVec(sum, k.at(tile(i), offset));
        });
      emitEpilogue(task.group, task.n0, task.row0, task.numRows);
    });
  }

  void emitRegisterTask() {
    forTask([&](const Task &task) {
      for (auto [i, s] : llvm::enumerate(task.group.segments)) {
        Value out = productsOf(task, i);
        WeightReader &reader = readers[s];
        Value first = k.div(task.n0, lanes);
        Value columns = k.min(k.sub(k.c(task.group.n), task.n0), k.c(knobs.nb));
        Value rowsFrom = prepares ? k.workspace() : k.argument(matmul.getInput());
        int64_t rowBytes = prepares ? preparedRowBytes() : depth * 4;
        k.loop(k.c(0), k.ceilDiv(columns, lanes), knobs.groups, [&](Value g0) {
          if (takesApart()) {
            auto [begin, end] = share(task.split, reader.wholeBlocks());
            k.loop(begin, end, 1, [&](Value index) {
              for (auto [g, number] : llvm::enumerate(groupNumbers(reader, k.add(first, g0))))
                reader.unpackIntegers(number, index, apart(int64_t(g), reader, index));
            });
          }
          k.loop(k.c(0), task.numRows, knobs.mr, [&](Value r) {
            SmallVector<Value> rows; // those past the last repeat it
            for (int64_t i = 0; i < knobs.mr; ++i) {
              Value row = k.add(k.add(task.row0, r), i);
              row = i > 0 ? k.min(row, k.sub(m, k.c(1))) : row;
              rows.push_back(k.at(rowsFrom, k.mul(row, rowBytes)));
            }
            SmallVector<Value> sums = dotRows(reader, k.add(first, g0), rows, task.split);
            Value to = k.at(out, k.mul(k.add(k.mul(r, knobs.nb), k.mul(g0, lanes)), 4));
            for (auto [i, sum] : llvm::enumerate(sums)) {
              const int64_t row = int64_t(i) / knobs.groups, g = int64_t(i) % knobs.groups;
              whereRoom(g0, g, [&, &sum = sum] {
                k.storeVec(sum, k.at(to, (row * knobs.nb + g * lanes) * 4));
              });
            }
          });
        });
      }
      if (knobs.splits == 1)
        emitEpilogue(task.group, task.n0, task.row0, task.numRows);
    });
  }

  /// Runs `store` where the task's tile has room for group `g` of a register tile from `g0` on: the
  /// last register tile may reach past the tile's columns.
  void whereRoom(Value g0, int64_t g, llvm::function_ref<void()> store) {
    if (knobs.nb / lanes % knobs.groups == 0)
      return store();
    k.ifThen(k.lessThan(k.add(g0, g), k.c(knobs.nb / lanes)), store);
  }

  /// The groups of a register tile from one on; those past the last repeat it.
  SmallVector<Value> groupNumbers(WeightReader &reader, Value first) {
    SmallVector<Value> numbers;
    for (int64_t g = 0; g < knobs.groups; ++g)
      numbers.push_back(k.min(k.add(first, g), k.c(reader.groups() - 1)));
    return numbers;
  }

  /// Products of rows with `knobs.groups` groups from `firstGroup` on, over a part of K: those of
  /// the first row, then of the next.
  SmallVector<Value> dotRows(WeightReader &reader, Value firstGroup, ArrayRef<Value> rows,
                             Value split) {
    const SmallVector<Value> numbers = groupNumbers(reader, firstGroup);
    SmallVector<Value> accumulators(rows.size() * numbers.size(), k.splat(0));
    auto step = [&](Value index, int64_t count, ValueRange carried) {
      SmallVector<Value> next(carried);
      if (integers) {
        SmallVector<IntegerRow> from;
        for (Value row : rows)
          from.push_back(IntegerRow::at(k, integerRow, row, k.mul(index, reader.blockK())));
        SmallVector<Value> ready;
        for (int64_t g = 0; takesApart() && g < knobs.groups; ++g)
          ready.push_back(apart(g, reader, index));
        reader.dotIntegers(numbers, index, from, next, knobs.prefetch, ready);
        return next;
      }
      Value x = rows[0];
      Value sums;
      if (reader.sumElements() > 0)
        sums = k.at(x, k.add(k.mul(index, reader.blockK() / sumBlock * 4), depth * 4));
      reader.dotBlock(numbers, index, count, k.at(x, k.mul(index, reader.blockK() * 4)), sums,
                      sumBlock, next, knobs.prefetch);
      return next;
    };
    auto [begin, end] = share(split, reader.wholeBlocks());
    if (reader.wholeBlocks() > 0)
      accumulators = k.loop(begin, end, 1, accumulators, [&](Value index, ValueRange carried) {
        return step(index, reader.blockK(), carried);
      });
    if (reader.lastBlock() > 0) {
      auto lastStep = [&](ValueRange carried) {
        return step(k.c(reader.wholeBlocks()), reader.lastBlock(), carried);
      };
      if (knobs.splits == 1)
        return lastStep(accumulators);
      Value times = k.select(isLast(split), k.c(1), k.c(0));
      accumulators = k.loop(k.c(0), times, 1, accumulators,
                            [&](Value, ValueRange carried) { return lastStep(carried); });
    }
    return accumulators;
  }

  void emitPanelTask() {
    forTask([&](const Task &task) {
      Value columns = k.min(k.sub(k.c(task.group.n), task.n0), k.c(knobs.nb));
      const int64_t whole = depth / knobs.kc, rest = depth % knobs.kc;
      const int64_t pieces = whole + (rest > 0);
      auto [begin, end] = share(task.split, pieces);
      panels->beginTask();
      // A part of K of all columns after another, so that the rows' share of it stays in L2.
      auto piece = [&, begin = begin](Value number, int64_t count) {
        // Only the first panel of a task may write over what the tile holds.
        Value isFirst =
            pieces == knobs.splits ? Value() : k.cmp(arith::CmpIPredicate::eq, number, begin);
        for (auto [i, s] : llvm::enumerate(task.group.segments)) {
          Value out = productsOf(task, i);
          WeightReader &reader = readers[s];
          k.loop(k.c(0), k.ceilDiv(columns, lanes), knobs.groups, [&](Value g0) {
            emitPanel(reader, k.add(k.div(task.n0, lanes), g0), k.mul(number, knobs.kc), count,
                      task.row0, task.numRows, k.at(out, k.mul(g0, lanes * 4)), g0, isFirst,
                      i == 0 ? k.cmp(arith::CmpIPredicate::eq, g0, k.c(0)) : Value());
          });
        }
      };
      if (rest == 0) {
        k.loop(begin, end, 1, [&](Value number) { piece(number, knobs.kc); });
      } else {
        if (whole > 0)
          k.loop(begin, k.min(end, k.c(whole)), 1, [&](Value number) { piece(number, knobs.kc); });
        if (knobs.splits == 1)
          piece(k.c(whole), rest);
        else
          k.ifThen(isLast(task.split), [&] { piece(k.c(whole), rest); });
      }
      panels->endTask();
      if (knobs.splits == 1)
        emitEpilogue(task.group, task.n0, task.row0, task.numRows);
    });
  }

  /// Unpacks K rows [k0, k0 + count) of the register tile's groups and multiplies all rows of the
  /// task with them.
  void emitPanel(WeightReader &reader, Value firstGroup, Value k0, int64_t count, Value row0,
                 Value numRows, Value out, Value g0, Value isFirst, Value meetsRowsFirst) {
    SmallVector<Value> unpacked;
    Panels::Ahead ahead{.rows = meetsRowsFirst};
    for (int64_t g = 0; g < knobs.groups; ++g) {
      Value number = k.min(k.add(firstGroup, g), k.c(reader.groups() - 1));
      const bool inPlace = panels->readsInPlace(reader);
      if (inPlace) {
        unpacked.push_back(
            k.at(reader.groupPointer(number), k.mul(k0, lanes * form.elementBytes())));
      } else {
        unpacked.push_back(k.at(k.scratch, panelOffset() + g * panels->panelBytes()));
        panels->unpack(reader, number, k0, count, unpacked.back());
      }
      // What the micro-kernel reads itself, the hardware asks for; but for tiles, in short lines.
      if (reader.isTransposed() || (inPlace && form.unit != PanelForm::Unit::Tiles))
        continue;
      Value next = k.min(k.add(number, knobs.groups), k.c(reader.groups() - 1));
      ahead.weights.push_back(reader.piecePointer(next, k0));
      ahead.bytes = reader.pieceBytes(count);
    }
    k.loop(k.c(0), k.ceilDiv(numRows, knobs.mr), 1, [&](Value t) {
      ahead.tile = t;
      panels->multiply(
          rowsOfTile(k.add(k.div(row0, knobs.mr), t), k0), unpacked, count,
          k.at(out, k.mul(t, knobs.mr * knobs.nb * 4)), isFirst,
          [&](int64_t g, llvm::function_ref<void()> store) { whereRoom(g0, g, store); }, ahead);
    });
  }

  /// Where the rows of a register tile lie from `k0` on: packed, all of them; otherwise each, and
  /// those past the last repeat it.
  SmallVector<Value> rowsOfTile(Value tileNumber, Value k0) {
    if (knobs.pack)
      return {panels->rowsAt(k.workspace(), tileNumber, k0)};
    SmallVector<Value> rows;
    Value input = k.at(k.argument(matmul.getInput()), k.mul(k0, 4));
    for (int64_t r = 0; r < knobs.mr; ++r) {
      Value row = k.min(k.add(k.mul(tileNumber, knobs.mr), r), k.sub(m, k.c(1)));
      rows.push_back(k.at(input, k.mul(row, depth * 4)));
    }
    return rows;
  }

  /// Everything after the matmul, over the columns [n0, n0 + nb) of the task's rows.
  void emitEpilogue(const SegmentGroup &group, Value n0, Value row0, Value numRows) {
    for (auto [i, s] : llvm::enumerate(group.segments)) {
      Value from = tile(i);
      Value bias = matmul.getBiases().empty() ? Value() : matmul.getBiases()[s];
      expressions.bind(matmul.getOutputs()[s], [this, from, bias, n0, row0](const Position &p) {
        Value rowStart = k.mul(k.sub(p.row, row0), knobs.nb);
        if (p.columns) {
          Value shift = k.b.create<arith::TruncIOp>(k.loc, k.i32, k.sub(rowStart, n0));
          Value offsets = k.b.create<arith::AddIOp>(k.loc, p.columns, k.broadcast(shift));
          Value x = k.gather(from, offsets, p.mask);
          return bias ? k.addf(x, expressions.loadParameter(bias, p)) : x;
        }
        Value x = k.loadVec(k.at(from, k.mul(k.add(rowStart, k.sub(p.col, n0)), 4)));
        return bias ? k.addf(x, expressions.loadParameter(bias, p)) : x;
      });
    }
    SmallVector<Value> stored;
    for (const Sink &sink : group.sinks)
      stored.push_back(sink.value);
    const bool normsHeads =
        llvm::any_of(group.ops, [](Operation *op) { return kindOf(op) == OpKind::Statistics; });
    Value columns = k.min(k.sub(k.c(group.n), n0), k.c(knobs.nb));
    llvm::MapVector<int64_t, SmallVector<Sink>> alike; // by what is stored at once
    for (const Sink &sink : group.sinks)
      alike[RowExpressions::storedAtOnce(sink)].push_back(sink);
    k.loop(k.c(0), numRows, 1, [&](Value r) {
      Value row = k.add(row0, r);
      if (normsHeads)
        expressions.prepareRow(stored, row, n0, k.add(n0, columns));
      for (auto &[step, sinks] : alike)
        k.loop(k.c(0), columns, step, [&, &sinks = sinks](Value c) {
          Value col = k.add(n0, c);
          Value mask;
          if (group.n % lanes != 0)
            mask = k.firstLanes(k.sub(k.c(group.n), col));
          for (const Sink &sink : sinks)
            expressions.store(sink, Position{row, col, Value(), mask});
        });
    });
  }

  KernelBuilder k;
  MatmulOp matmul;
  Knobs knobs;
  RowExpressions expressions;
  SmallVector<WeightReader> readers;
  ArrayRef<SegmentGroup> groups;
  int64_t depth;
  bool integers; ///< rows are rounded to whole numbers
  IntegerRowLayout integerRow;
  const PanelForm form;
  std::unique_ptr<Panels> panels; ///< null where weights are unpacked in registers
  bool prepares;                  ///< whether there is a phase 0
  int64_t sumBlock = 0; ///< elements of x whose sums weights with minima need; 0: none does
  Value m, rowBlocks;   ///< rows, and blocks of them
  Value sumsPlace;      ///< of the current task: its place among the tasks of one split
};

} // namespace

Expected<Launching> cpu::matmul::emit(ModuleOp module, const KernelAnalysis &kernel,
                                      const Target &target, StringRef entry) {
  KF_TRY(KnobValues values, knobsOf(kernel.kernel()));
  KF_TRY(Knobs knobs, readKnobs(kernel, target, values));
  return MatmulEmitter(module, kernel, target, entry, knobs).emit();
}
