#include "kernelforge/codegen/simt/MatmulPhases.h"

#include "kernelforge/codegen/Operands.h"
#include "kernelforge/codegen/simt/Cache.h"
#include "kernelforge/codegen/simt/Weights.h"
#include "kernelforge/ir/Numerics.h"

#include "llvm/ADT/SetVector.h"
#include "llvm/Support/MathExtras.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;
using namespace kernelforge::simt::tiles;

using llvm::divideCeilSigned;

//===----------------------------------------------------------------------===//
// What is computed
//===----------------------------------------------------------------------===//

Status tiles::supports(const KernelAnalysis &kernel, bool (*multipliesIn)(Operation *, Numerics)) {
  KF_CHECK(checkOperations(kernel.kernel(), {.device = "a GPU",
                                             .hasCode = RowExpressions::hasCode,
                                             .readsLayouts = true,
                                             .needsFiniteF32 = true,
                                             .multipliesIn = multipliesIn,
                                             .layout = WeightLayout::Planes}));
  auto refuse = [&](const std::string &why, const std::string &hint) {
    return unusable("kernel cannot be compiled for a GPU", kernel.name() + ", transformer.matmul",
                    why, hint);
  };
  for (Value operand : kernel.matmul().getOperands().drop_front())
    if (!isa<BlockArgument>(operand))
      return refuse("a weight or bias is computed inside the kernel", "pass it as an argument");
  if (llvm::range_size(kernel.kernel().getBody().getOps<MatmulOp>()) > 1)
    return refuse("there are two of them", "make a kernel of each");
  if (kernel.groups().empty() || kernel.matmul().getK() == 0)
    return refuse("there is nothing to multiply", "");
  if (std::string why = epilogueObstacle(kernel, /*hasTile=*/true); !why.empty())
    return refuse(why, "compute it in a kernel of its own");
  for (const SegmentGroup &group : kernel.groups())
    for (Operation *op : group.ops)
      if (kindOf(op) == OpKind::Statistics)
        return refuse((op->getName().getStringRef() + " needs whole heads, and follows it").str(),
                      "compute it in a kernel of its own");
  for (const Sink &sink : kernel.sinks())
    if (isInBlocks(sink))
      return refuse("transformer.cache_append into q8_0 follows it",
                    "append in a kernel of its own");
  return {};
}

bool tiles::hasPlainInput(const KernelAnalysis &kernel) {
  return isa<BlockArgument>(kernel.matmul().getInput());
}

int64_t tiles::segmentsAtOnce(const KernelAnalysis &kernel) {
  size_t most = 1;
  for (const SegmentGroup &group : kernel.groups())
    most = std::max(most, group.segments.size());
  return static_cast<int64_t>(most);
}

/// Arguments that values are computed of, the operands of a matmul left out.
static int64_t countArguments(ArrayRef<Value> values) {
  llvm::SetVector<Value> reached(values.begin(), values.end());
  int64_t count = 0;
  for (size_t i = 0; i < reached.size(); ++i) {
    Operation *op = reached[i].getDefiningOp();
    count += op ? 0 : 1;
    if (op && !isa<MatmulOp>(op))
      reached.insert(op->operand_begin(), op->operand_end());
  }
  return count;
}

int64_t tiles::buffersOf(const KernelAnalysis &kernel, ArrayRef<SegmentGroup> groups) {
  MatmulOp matmul = kernel.matmul();
  SmallVector<Value> stored;
  int64_t results = 0, segments = 0;
  for (const SegmentGroup &group : groups) {
    segments += static_cast<int64_t>(group.segments.size());
    for (const Sink &sink : group.sinks) {
      stored.push_back(sink.value);
      if (auto append = dyn_cast<CacheAppendOp>(sink.op))
        stored.append({append.getCache(), append.getSlots()});
      else
        ++results;
    }
  }
  const int64_t ofSegment = matmul.getBiases().empty() ? 1 : 2;
  // The rows, or the workspace that they are written to from what they are computed of.
  const int64_t whole = countArguments(stored) + results + segments * ofSegment + 1;
  return std::max(whole, countArguments(matmul.getInput()) + 1);
}

bool tiles::isOnePhase(const KernelAnalysis &kernel, const Target &target) {
  const ArrayRef<SegmentGroup> groups = kernel.groups();
  if (groups.size() < 2 ||
      llvm::any_of(groups, [](const SegmentGroup &group) { return group.segments.size() > 1; }))
    return false;
  auto typeOf = [](Value weight) { return cast<RankedTensorType>(weight.getType()); };
  ValueRange weights = kernel.matmul().getWeights();
  RankedTensorType first = typeOf(weights[0]);
  const bool areAlike = llvm::all_of(weights, [&](Value weight) {
    return typeOf(weight).getElementType() == first.getElementType() &&
           typeOf(weight).getEncoding() == first.getEncoding() &&
           static_cast<int64_t>(weightBytes(typeOf(weight)).value_or(0)) <=
               target.limits.bindingBytes;
  });
  // Rows of a transposed weight are as long as it has columns.
  return areAlike && !kernel.matmul().getTranspose() &&
         buffersOf(kernel, groups) <= target.limits.bindings;
}

bool tiles::storesSums(const KernelAnalysis &kernel, const SegmentGroup &group) {
  MatmulOp matmul = kernel.matmul();
  return group.segments.size() == 1 && group.ops.empty() && matmul.getBiases().empty() &&
         group.sinks.size() == 1 && isa<YieldOp>(group.sinks[0].op) && group.n % 4 == 0 &&
         group.sinks[0].value == matmul.getOutputs()[group.segments[0]] &&
         elementTypeOf(group.sinks[0].value.getType()) == ElementType::F32;
}

//===----------------------------------------------------------------------===//
// Tiles
//===----------------------------------------------------------------------===//

Stages::Stages(int64_t depth, const Cut &cut)
    : all(divideCeilSigned(depth, cut.bk)), whole(depth / cut.bk),
      perSlice(divideCeilSigned(all, cut.ksplit)), slices(divideCeilSigned(all, perSlice)) {}

int64_t tiles::storedColumns(const SegmentGroup &group, const Cut &cut) {
  const int64_t whole = wholeColumns(group);
  return cut.bn / whole * whole;
}

/// Columns of tiles that neighbouring workgroups compute before they go on to the next rows, so
/// that what runs at once shares rows as well as columns.
static constexpr int64_t tilesAcross = 16;

int64_t tiles::firstColumnTile(ArrayRef<SegmentGroup> groups, size_t number, const Cut &cut) {
  int64_t tiles = 0;
  for (const SegmentGroup &group : groups.take_front(number))
    tiles += divideCeilSigned(group.n, storedColumns(group, cut));
  return tiles;
}

TileGrid::TileGrid(PhaseBuilder &p, const KernelAnalysis &kernel, ArrayRef<SegmentGroup> groups,
                   const Cut &cut)
    : stages(kernel.matmul().getK(), cut), columnTiles(firstColumnTile(groups, groups.size(), cut)),
      p(p) {
  Type input = kernel.matmul().getInput().getType();
  totalRows = p.rows(input);
  rowTiles = p.rowsExtent(input, cut.bm);
  const int64_t slices = stages.slices;
  slice = slices > 1 ? p.named(p.rem(p.block(), slices), "slice") : p.c(0);
  Value number = p.named(p.div(p.block(), slices), "tile");
  Value down;
  if (columnTiles <= tilesAcross) {
    down = p.div(number, columnTiles);
    across = p.rem(number, columnTiles);
  } else {
    auto divide = [&](Value x, Value y) -> Value {
      return p.b.create<arith::DivUIOp>(p.loc, x, y);
    };
    auto remainder = [&](Value x, Value y) -> Value {
      return p.b.create<arith::RemUIOp>(p.loc, x, y);
    };
    Value tilesDown = p.div(p.add(totalRows, cut.bm - 1), cut.bm);
    Value ofBand = p.named(p.mul(tilesDown, tilesAcross), "tiles_of_band");
    Value band = p.named(divide(number, ofBand), "band");
    Value inBand = p.named(remainder(number, ofBand), "in_band");
    Value width = p.c(tilesAcross);
    if (columnTiles % tilesAcross != 0)
      width = p.named(p.min(width, p.sub(p.c(columnTiles), p.mul(band, tilesAcross))), "width");
    down = divide(inBand, width);
    across = p.add(p.mul(band, tilesAcross), remainder(inBand, width));
  }
  down = p.named(down, "tile_row");
  across = p.named(across, "tile_col");
  tile = p.add(p.mul(down, columnTiles), across);
  firstRow = p.named(p.mul(down, cut.bm), "first_row");
  for (size_t i = groups.size(); i-- > 0;) {
    const int64_t begin = firstColumnTile(groups, i, cut);
    Value first =
        p.mul(begin > 0 ? p.sub(across, p.c(begin)) : across, storedColumns(groups[i], cut));
    ends.insert(ends.begin(), firstColumnTile(groups, i + 1, cut));
    firstCol = firstCol ? p.select(p.lessThan(across, p.c(ends[0])), first, firstCol) : first;
  }
  firstCol = p.named(firstCol, "first_col");
  firstStage = slices > 1 ? p.named(p.mul(slice, stages.perSlice), "first_stage") : p.c(0);
  stageCount = p.c(stages.perSlice);
  if (stages.perSlice * slices != stages.all)
    stageCount = p.named(p.min(stageCount, p.sub(p.c(stages.all), firstStage)), "stages");
}

SmallVector<Value> TileGrid::choose(size_t group, TypeRange types,
                                    llvm::function_ref<SmallVector<Value>(size_t)> each) const {
  if (group + 1 == ends.size())
    return each(group);
  return p.ifElse(
      "group", p.lessThan(across, p.c(ends[group])), types, [&] { return each(group); },
      [&] { return choose(group + 1, types, each); });
}

Extent TileGrid::grid() const { return rowTiles * Extent(columnTiles * stages.slices); }

Value tiles::partialQuad(PhaseBuilder &p, const Cut &cut, int64_t slices, int64_t segments,
                         Value tile, Value slice, int64_t segment, Value row, Value quad) {
  const int64_t quads = cut.bm * cut.bn / 4;
  Value part = p.add(p.mul(p.add(p.mul(tile, slices), slice), segments), segment);
  return p.add(p.mul(part, quads), p.add(p.mul(row, cut.bn / 4), quad));
}

//===----------------------------------------------------------------------===//
// What follows the matmul
//===----------------------------------------------------------------------===//

void tiles::storeStrips(PhaseBuilder &p, const KernelAnalysis &kernel, const SegmentGroup &group,
                        const TileGrid &grid, const Cut &cut, const StripShape &shape, Value memory,
                        llvm::function_ref<void(Value strip)> put) {
  auto one = [&](Value number) {
    p.barrier(); // what was there has been read
    put(number);
    p.barrier();
    Strip strip;
    strip.memory = memory;
    strip.begin = p.c(0);
    strip.rows = shape.rows;
    strip.cols = storedColumns(group, cut);
    strip.rowStride = shape.stride;
    strip.segmentStride = shape.segmentStride;
    strip.firstRow = p.named(p.add(grid.firstRow, p.mul(number, shape.rows)), "strip_row");
    strip.firstCol = grid.firstCol;
    RowExpressions rows(p);
    storeStrip(p, rows, kernel.matmul(), group, strip, grid.totalRows);
  };
  if (shape.count == 1)
    one(p.c(0));
  else
    p.loop("strip", p.c(0), p.c(shape.count), 1, one);
}

//===----------------------------------------------------------------------===//
// Phases
//===----------------------------------------------------------------------===//

Phases::Phases(ModuleOp module, const KernelAnalysis &kernel, const Target &target, StringRef entry,
               const Cut &cut, ElementType inputType)
    : module(module), kernel(kernel), together(isOnePhase(kernel, target)), entry(entry), cut(cut),
      inputType(inputType) {}

/// As many rows as whole tiles have.
static Extent inTiles(Extent rows, int64_t rowsOfTile) {
  if (rows.isConstant())
    return {divideCeilSigned(rows.multiplier, rowsOfTile) * rowsOfTile};
  rows.multiplier *= rowsOfTile;
  rows.product.front().divisor = rowsOfTile;
  return rows;
}

/// The whole multiples of a scale that are nearest to numbers, the largest of which is `limit` of
/// them; still f32.
static void roundToIntegers(PhaseBuilder &p, MutableArrayRef<Value> quads, float limit) {
  Value most = p.absf(quads[0]);
  for (Value quad : quads.drop_front())
    most = p.maxf(most, p.absf(quad));
  most = p.named(most, "most");
  Value largest = p.extract(most, int64_t(0));
  for (int64_t lane = 1; lane < 4; ++lane)
    largest = p.maxf(largest, p.extract(most, lane));
  Value scale = p.named(p.divf(largest, p.cf(limit)), "scale");
  Value isThere = p.cmpf(arith::CmpFPredicate::OGT, scale, p.cf(0));
  Value divisor = p.named(p.select(isThere, scale, p.cf(1)), "divisor");
  for (Value &quad : quads) {
    Value scaled = p.named(p.divf(quad, divisor), "scaled");
    SmallVector<Value> whole;
    for (int64_t lane = 0; lane < 4; ++lane)
      whole.push_back(p.call("round", p.f32, p.extract(scaled, lane)));
    Value inRange = p.maxf(p.minf(p.vector(whole), p.cf(limit)), p.cf(-limit));
    quad = p.named(p.mulf(inRange, scale), "rounded");
  }
}

/// A workgroup writes a row.
Phase Phases::emitInput(StringRef name) {
  PhaseBuilder p(module, kernel.kernel(), name);
  Value input = kernel.matmul().getInput();
  const int64_t depth = widthOf(input), cols = inputColumns(depth);
  const bool inHalves = inputType == ElementType::F16;
  const int64_t each = inHalves ? 8 : 4;
  Value memory = p.workspace(inputWorkspace, Access::Write, p.vec(inHalves ? p.i32 : p.f32, 4));
  RowExpressions rows(p);
  Value row = p.named(p.block(), "row");
  rows.prepareRow(input, row);
  auto quad = [&](Value col) -> Value {
    if (depth % 4 == 0) {
      if (cols == depth)
        return rows.evaluate(input, {row, col, 4});
      return p.ifElse(
          "quad", p.lessThan(col, p.c(depth)), [&] { return rows.evaluate(input, {row, col, 4}); },
          [&] { return p.splat(p.cf(0), 4); }, p.vec(p.f32, 4));
    }
    SmallVector<Value> numbers;
    for (int64_t i = 0; i < 4; ++i) {
      Value at = p.add(col, i);
      numbers.push_back(p.ifElse(
          "number", p.lessThan(at, p.c(depth)), [&] { return rows.evaluate(input, {row, at}); },
          [&] { return p.cf(0); }));
    }
    return p.vector(numbers);
  };
  const Numerics numerics = numericsOf(kernel.matmul());
  if (multipliesIntegers(numerics)) {
    p.loop("block_index", p.thread(), p.c(cols / integerBlock), p.blockThreads(), [&](Value block) {
      Value at = p.named(p.mul(block, integerBlock), "first_col");
      SmallVector<Value> quads;
      for (int64_t i = 0; i < integerBlock; i += 4)
        quads.push_back(p.named(rows.evaluate(input, {row, p.add(at, i), 4}), "x"));
      roundToIntegers(p, quads, numerics == Numerics::I8 ? 127 : 127 * 256);
      for (auto [i, rounded] : llvm::enumerate(quads))
        p.storeVector(rounded, memory,
                      p.add(p.quarter(p.add(p.mul(row, cols), at)), static_cast<int64_t>(i)));
    });
    return p.finish(p.rowsExtent(input.getType()));
  }
  p.loop("piece", p.thread(), p.c(cols / each), p.blockThreads(), [&](Value piece) {
    Value col = p.named(p.mul(piece, each), "col");
    Value value = p.named(quad(col), "x");
    if (inHalves) {
      Value low = p.named(p.floatsToHalves(value), "low");
      Value high = p.named(p.floatsToHalves(p.named(quad(p.add(col, 4)), "x")), "high");
      value = p.vector({p.extract(low, int64_t(0)), p.extract(low, 1), p.extract(high, int64_t(0)),
                        p.extract(high, 1)});
    }
    p.storeVector(value, memory, p.add(p.mul(row, cols / each), piece));
  });
  return p.finish(p.rowsExtent(input.getType()));
}

/// A thread adds up the slices of a quad of columns and computes what follows.
Phase Phases::emitSums(ArrayRef<SegmentGroup> groups, size_t number, StringRef name,
                       int partialSums) {
  constexpr int64_t rowsAtOnce = 4, acrossAtOnce = 64;
  PhaseBuilder p(module, kernel.kernel(), name, rowsAtOnce * acrossAtOnce);
  MatmulOp matmul = kernel.matmul();
  Type input = matmul.getInput().getType();
  const Stages stages(matmul.getK(), cut);
  const SegmentGroup &group = groups[number];
  const int64_t columns = storedColumns(group, cut);
  const int64_t columnTiles = firstColumnTile(groups, groups.size(), cut);
  const int64_t firstTile = firstColumnTile(groups, number, cut);
  const auto segments = static_cast<int64_t>(group.segments.size());
  const int64_t lanes = RowExpressions::lanesOf(group.sinks);
  const int64_t blocksAcross = divideCeilSigned(group.n, lanes * acrossAtOnce);
  Value memory = p.workspace(partialSums, Access::Read, p.vec(p.f32, 4));
  Value row =
      p.add(p.mul(p.div(p.block(), blocksAcross), rowsAtOnce), p.div(p.thread(), acrossAtOnce));
  Value col =
      p.add(p.mul(p.rem(p.block(), blocksAcross), acrossAtOnce), p.rem(p.thread(), acrossAtOnce));
  row = p.named(row, "row");
  col = p.named(p.mul(col, lanes), "col");
  RowExpressions rows(p);
  for (auto [s, segment] : llvm::enumerate(group.segments)) {
    auto sum = [&, s = static_cast<int64_t>(s), segment = segment](const Position &at) {
      Value inTile = p.named(p.rem(at.col, columns), "in_tile");
      Value across = p.add(p.div(at.col, columns), firstTile);
      Value tile = p.named(p.add(p.mul(p.div(at.row, cut.bm), columnTiles), across), "tile");
      Value rowOfTile = p.rem(at.row, cut.bm), total;
      Value first = p.named(partialQuad(p, cut, stages.slices, segments, tile, p.c(0), s, rowOfTile,
                                        p.shr(inTile, 2)),
                            "first");
      const int64_t apart = segments * cut.bm * cut.bn / 4;
      for (int64_t slice = 0; slice < stages.slices; ++slice) {
        Value quad = p.loadVector(memory, p.add(first, slice * apart));
        total = total ? p.addf(total, quad) : quad;
      }
      total = p.named(total, "sum");
      if (at.lanes == 1)
        total = p.extract(total, p.andBits(inTile, 3));
      if (matmul.getBiases().empty())
        return total;
      return p.addf(total, readParameter(p, matmul.getBiases()[segment], at.col, at.lanes));
    };
    rows.bind(matmul.getOutputs()[segment], sum);
  }
  SmallVector<Value> values;
  for (const Sink &sink : group.sinks)
    values.push_back(sink.value);
  Value isThere = p.b.create<arith::AndIOp>(p.loc, p.lessThan(row, p.rows(input)),
                                            p.lessThan(col, p.c(group.n)));
  p.ifThen(isThere, [&] {
    rows.prepareRow(values, row);
    rows.store(group.sinks, {row, col, lanes});
  });
  return p.finish(p.rowsExtent(input, rowsAtOnce) * Extent(blocksAcross));
}

Launching Phases::emit(EmitTiles tiles) {
  Launching launching;
  const int64_t depth = kernel.matmul().getK();
  const Stages stages(depth, cut);
  const bool isSplit = stages.slices > 1;
  const ArrayRef<SegmentGroup> all = kernel.groups();
  const size_t each = together ? all.size() : 1; // groups of a phase
  const size_t count = (cut.pack ? 1 : 0) + all.size() / each + (isSplit ? all.size() : 0);
  auto next = [&] { return phaseEntry(entry, launching.phases.size(), count); };
  if (cut.pack) {
    launching.phases.push_back(emitInput(next()));
    const int64_t bytes = inputType == ElementType::F16 ? 2 : 4;
    launching.workspaces.push_back(
        {inTiles(launching.phases[0].grid, cut.bm) * Extent(inputColumns(depth) * bytes)});
  }
  const size_t first = launching.phases.size();
  for (size_t i = 0; i < all.size(); i += each) {
    const ArrayRef<SegmentGroup> groups = all.slice(i, each);
    const int partialSums = isSplit ? static_cast<int>(launching.workspaces.size()) : -1;
    launching.phases.push_back(tiles(groups, next(), partialSums));
    // Groups do not wait for each other.
    launching.phases.back().afterPrevious = cut.pack || launching.phases.size() == first + 1;
    if (!isSplit)
      continue;
    const auto sums = static_cast<int64_t>(groups[0].segments.size()) * cut.bm * cut.bn;
    launching.workspaces.push_back({launching.phases.back().grid * Extent(sums * 4)});
    for (size_t number = 0; number < each; ++number)
      launching.phases.push_back(emitSums(groups, number, next(), partialSums));
  }
  return launching;
}
