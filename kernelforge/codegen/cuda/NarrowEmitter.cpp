#include "kernelforge/codegen/cuda/NarrowEmitter.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::cuda;
using namespace kernelforge::cuda::matmul;

NarrowEmitter::NarrowEmitter(ModuleOp module, const KernelAnalysis &kernel,
                             const rows::Shape &shape, size_t number, StringRef entry,
                             const NarrowKnobs &knobs, int64_t parts)
    : p(module, kernel.kernel(), entry, knobs.warps * WarpMatrices::threads), units(p),
      matmul(kernel.matmul()), group(kernel.groups()[number]), columns(shape.groups[number]),
      knobs(knobs), parts(parts), rowsHeld(std::min(knobs.rows, shape.rows)),
      isOneBlock(shape.rows <= knobs.rows) {}

Phase NarrowEmitter::emit() {
  Type input = matmul.getInput().getType();
  const int64_t blocks = (columns.n + knobs.columns() - 1) / knobs.columns();
  total = p.rows(input);
  // Blocks that need the same weights are neighbours.
  Value rowBlock = p.c(0), block = p.block();
  if (!isOneBlock) {
    Value count = p.div(p.add(total, knobs.rows - 1), knobs.rows);
    rowBlock = p.b.create<arith::RemUIOp>(p.loc, p.block(), count);
    block = p.b.create<arith::DivUIOp>(p.loc, p.block(), count);
  }
  firstRow = p.named(p.mul(rowBlock, knobs.rows), "first_row");
  const rows::ColumnPlace place(p, columns, block, knobs.columns());
  placeThread(place);
  placeOperands();
  const Strip strip = stripOf(place);
  Values first;
  if (rounds() > 0)
    first = load(pieceOf(p.c(0)), knobs.u);
  if (knobs.early)
    p.waitForPrevious();
  RowExpressions after(p,
                       {.lanes = 4, .subgroup = WarpMatrices::threads, .kept = {}, .keptWidth = 0});
  if (const auto position = readAhead(p, after, matmul, group, strip, total))
    readAngles(after, group, *position);
  put(multiply(std::move(first)), strip);
  p.barrier();
  storeStrip(p, after, matmul, group, strip, total);
  return p.finish(p.rowsExtent(input, knobs.rows) * Extent(blocks));
}

void NarrowEmitter::placeThread(const rows::ColumnPlace &place) {
  lane = p.named(p.rem(p.thread(), WarpMatrices::threads), "in_warp");
  Value warp = p.named(p.div(p.thread(), WarpMatrices::threads), "warp");
  part = p.named(p.rem(warp, knobs.ks), "part");
  local = p.mul(p.div(warp, knobs.ks), NarrowKnobs::columnsOfWarp);
  local = p.named(p.add(local, p.div(lane, 4)), "local_col");
  quarter = p.named(p.rem(lane, 4), "quarter");
  for (int64_t half : {0, 1}) {
    Value col = place.column(p, p.add(local, half * 8));
    if (columns.n % knobs.columns() != 0)
      col = p.min(col, p.c(columns.n - 1));
    cols[static_cast<size_t>(half)] = p.named(col, "col");
  }
}

Value NarrowEmitter::rowOf(Value productColumn) {
  productColumn = p.min(productColumn, p.c(productsHeld() - 1));
  Value row = p.min(p.add(firstRow, p.div(productColumn, parts)), p.sub(total, 1));
  return p.add(p.mul(row, parts), p.rem(productColumn, parts));
}

Strip NarrowEmitter::stripOf(const rows::ColumnPlace &place) {
  Strip strip;
  strip.rows = rowsHeld;
  strip.cols = knobs.columns();
  strip.rowStride = strip.cols + 4; // threads of a warp write to banks of their own
  strip.segmentStride = strip.rows * strip.rowStride;
  strip.parts = knobs.ks * parts;
  strip.partStride = segments() * strip.segmentStride;
  strip.memory = p.shared("sums", p.f32, strip.parts * strip.partStride);
  strip.begin = p.c(0);
  strip.firstRow = firstRow;
  strip.firstCol = place.first;
  strip.apart = place.apart;
  return strip;
}

/// This warp's first piece of a round, from its number.
Value NarrowEmitter::pieceOf(Value roundNumber) {
  return p.add(p.mul(roundNumber, round()), p.mul(part, knobs.u));
}

NarrowEmitter::Values NarrowEmitter::multiply(Values loads) {
  Values sums(static_cast<size_t>(segments() * tiles() * 4), p.cf(0));
  if (rounds() > 0)
    sums = knobs.ahead ? multiplyAhead(std::move(loads), sums) : multiplyRounds(loads, sums);
  const int64_t done = rounds() * round();
  if (done < pieces)
    sums = p.loop(
        "k", p.add(part, done), p.c(pieces), knobs.ks, "sum", sums,
        [&](Value piece, ValueRange carried) { return add(load(piece, 1), piece, 1, carried); });
  return sums;
}

NarrowEmitter::Values NarrowEmitter::multiplyRounds(const Values &first, const Values &zeros) {
  Values sums = add(first, pieceOf(p.c(0)), knobs.u, zeros);
  if (rounds() == 1)
    return sums;
  return p.loop("round", p.c(1), p.c(rounds()), 1, "sum", sums,
                [&](Value number, ValueRange carried) {
                  Value piece = pieceOf(number);
                  return add(load(piece, knobs.u), piece, knobs.u, carried);
                });
}

/// The same with the next round asked for before one is multiplied.
NarrowEmitter::Values NarrowEmitter::multiplyAhead(Values loads, Values sums) {
  const size_t count = sums.size();
  auto turn = [&](Value number) {
    Values next = load(pieceOf(p.add(number, 1)), knobs.u);
    sums = add(loads, pieceOf(number), knobs.u, sums);
    loads = std::move(next);
  };
  constexpr int64_t fewRounds = 4; // which are written out
  if (rounds() <= fewRounds) {
    for (int64_t i = 0; i + 1 < rounds(); ++i)
      turn(p.c(i));
  } else {
    llvm::append_range(sums, loads);
    const Values carried = p.loop("round", p.c(0), p.c(rounds() - 1), 1, "sum", sums,
                                  [&](Value number, ValueRange values) {
                                    sums.assign(values.begin(), values.begin() + count);
                                    loads.assign(values.begin() + count, values.end());
                                    turn(number);
                                    Values next = sums;
                                    llvm::append_range(next, loads);
                                    return next;
                                  });
    sums.assign(carried.begin(), carried.begin() + count);
    loads.assign(carried.begin() + count, carried.end());
  }
  return add(loads, pieceOf(p.c(rounds() - 1)), knobs.u, sums);
}

void NarrowEmitter::put(const Values &sums, const Strip &strip) {
  for (int64_t j = 0; j < tiles(); ++j)
    for (int64_t second : {0, 1}) {
      Value column = p.add(p.mul(quarter, 2), j * productColumns + second);
      Value ofPart = p.add(p.mul(part, parts), p.rem(column, parts));
      Value at = p.add(p.mul(ofPart, strip.partStride),
                       p.add(p.mul(p.div(column, parts), strip.rowStride), local));
      auto store = [&] {
        for (int64_t s = 0; s < segments(); ++s)
          for (int64_t half : {0, 1})
            p.store(sums[static_cast<size_t>((s * tiles() + j) * 4 + 2 * half + second)],
                    strip.memory, p.add(at, s * strip.segmentStride + 8 * half));
      };
      if ((j + 1) * productColumns <= productsHeld())
        store();
      else
        p.ifThen(p.lessThan(column, p.c(productsHeld())), store);
    }
}
