#include "kernelforge/codegen/cpu/AttentionTile.h"

#include <cmath>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;
using namespace kernelforge::cpu::attention;

using Predicate = arith::CmpIPredicate;

/// First position of a row that sees none: beyond all that 32 bits can say.
constexpr int64_t nowhere = int64_t(1) << 32;

//===----------------------------------------------------------------------===//
// Rows of a tile
//===----------------------------------------------------------------------===//

Tile::Tile(KernelBuilder &k, const Shape &shape) : k(k), shape(shape), base(k.scratch) {
  const int64_t rows = shape.stackedRows(), vectorBytes = lanes * 4;
  slotsArea = areas.take(shape.page > 0 ? (shape.keyBlock + shape.prefetch + lanes) * 4 : 0);
  rangesArea = areas.take(shape.packed ? rows * 16 : 0);
  tileRangesArea = areas.take(shape.packed ? rows / shape.mr * 32 : 0);
  // Read as whole vectors from any row.
  highestArea = areas.take(rows * 4 + vectorBytes);
  sumArea = areas.take(rows * 4 + vectorBytes);
}

std::unique_ptr<Tile> Tile::create(KernelBuilder &k, const Shape &shape) {
  return shape.isMatrices() ? createMatrixTile(k, shape) : createVectorTile(k, shape);
}

void Tile::begin(Value query, Value rows, llvm::function_ref<Range(Value row)> visible,
                 const std::optional<Sinks> &sinks) {
  count = k.mul(rows, shape.group);
  tiles = k.ceilDiv(count, shape.mr);
  Range shared;
  if (!shape.packed)
    shared = visible(k.c(0));
  const Value mask = shape.keyDim % lanes ? k.firstLanes(k.c(shape.keyDim % lanes)) : Value();
  // The filling of the last register tile repeats the last row.
  k.loop(k.c(0), k.mul(tiles, shape.mr), 1, [&](Value stacked) {
    Value source = k.min(stacked, k.sub(count, k.c(1)));
    Value row = k.div(source, shape.group), head = k.rem(source, shape.group);
    const int64_t headBytes = shape.keyDim * shape.queryBytes();
    Value from = k.at(query, k.add(k.mul(row, shape.heads * headBytes), k.mul(head, headBytes)));
    for (int64_t v = 0; v < shape.keyVectors(); ++v) {
      Value part = Numbers(k, shape.query, from)
                       .from(v * lanes)
                       .load(v + 1 == shape.keyVectors() ? mask : Value());
      storeQuery(stacked, v, k.mulf(part, k.splat(shape.scale)));
    }
    // A sink is a key that was seen before all others; its value is 0.
    Value top = k.cf(-INFINITY), total = k.cf(0);
    if (sinks) {
      Value score = k.b.create<vector::ExtractOp>(k.loc, sinks->scores.from(head).loadFirst(1),
                                                  ArrayRef<int64_t>{0});
      top = sinks->takePart ? k.select(sinks->takePart, score, top) : score;
      total = sinks->takePart ? k.select(sinks->takePart, k.cf(1), total) : k.cf(1);
    }
    k.store(top, highest(stacked), 4);
    k.store(total, sum(stacked), 4);
    clearOutput(stacked);
    if (shape.packed) {
      auto [from, to] = visible(row);
      Value none = k.cmp(Predicate::sge, from, to);
      Value range = k.at(base, offset(rangesArea, stacked, 16));
      k.store(k.select(none, k.c(nowhere), from), range, 8);
      k.store(k.select(none, k.c(0), to), k.at(range, 8), 8);
    }
  });
  if (!shape.packed) {
    std::tie(first, end) = shared;
    return;
  }
  // What a register tile's rows see: lowest and highest first position, lowest and highest end.
  auto seen = k.loop(k.c(0), tiles, 1, {k.c(nowhere), k.c(0)}, [&](Value tile, ValueRange carried) {
    Value stacked = k.mul(tile, shape.mr);
    Range range = rowRange(stacked);
    Value lowFirst = range.first, highFirst = range.first;
    Value lowEnd = range.second, highEnd = range.second;
    for (int64_t r = 1; r < shape.mr; ++r) {
      range = rowRange(k.add(stacked, r));
      lowFirst = k.min(lowFirst, range.first);
      highFirst = k.max(highFirst, range.first);
      lowEnd = k.min(lowEnd, range.second);
      highEnd = k.max(highEnd, range.second);
    }
    Value entry = k.at(base, offset(tileRangesArea, tile, 32));
    k.store(lowFirst, entry, 8);
    k.store(highFirst, k.at(entry, 8), 8);
    k.store(lowEnd, k.at(entry, 16), 8);
    k.store(highEnd, k.at(entry, 24), 8);
    return SmallVector<Value>{k.min(carried[0], lowFirst), k.max(carried[1], highEnd)};
  });
  first = seen[0];
  end = seen[1];
}

Tile::Range Tile::rowRange(Value stacked) {
  Value range = k.at(base, offset(rangesArea, stacked, 16));
  return {k.load(k.i64, range, 8), k.load(k.i64, k.at(range, 8), 8)};
}

void Tile::forEachRow(llvm::function_ref<void(Value, Value, Value)> body) {
  k.loop(k.c(0), count, 1, [&](Value stacked) {
    body(stacked, k.div(stacked, shape.group), k.rem(stacked, shape.group));
  });
}

//===----------------------------------------------------------------------===//
// Blocks of keys
//===----------------------------------------------------------------------===//

void Tile::forEachTile(Value block,
                       llvm::function_ref<void(Value stacked, const View &view)> body) {
  Value blockEnd = k.add(block, shape.keyBlock);
  k.loop(k.c(0), tiles, 1, [&](Value tile) {
    Value stacked = k.mul(tile, shape.mr);
    View view;
    if (shape.packed) {
      Value entry = k.at(base, offset(tileRangesArea, tile, 32));
      auto field = [&](int64_t i) { return k.load(k.i64, k.at(entry, 8 * i), 8); };
      Value highFirst = field(1), lowEnd = field(2);
      view.from = k.sub(k.max(field(0), block), block);
      view.to = k.sub(k.min(field(3), blockEnd), block);
      view.masked = k.b.create<arith::OrIOp>(k.loc, k.cmp(Predicate::sgt, highFirst, block),
                                             k.cmp(Predicate::slt, lowEnd, blockEnd));
      k.ifThen(k.lessThan(view.from, view.to), [&] { body(stacked, view); });
    } else {
      view.from = k.c(0);
      view.to = k.sub(k.min(end, blockEnd), block);
      view.masked = k.lessThan(end, blockEnd);
      body(stacked, view);
    }
  });
}

void Tile::attend(const HeadRows &keys, const HeadRows &values, Value pages) {
  // Packed blocks begin at multiples of their size, so that which rows a task holds changes no sum.
  Value start = shape.packed ? k.mul(k.div(first, shape.keyBlock), shape.keyBlock) : first;
  k.loop(start, end, shape.keyBlock, [&](Value block) {
    Value slots;
    if (pages) {
      slots = k.at(base, slotsArea);
      Value count = k.add(k.min(k.sub(end, block), k.c(shape.keyBlock)), shape.prefetch);
      emitSlots(k, pages, shape.page, block, count, first, end, slots);
    }
    attendBlock(block, BlockRows(k, keys, block, slots), BlockRows(k, values, block, slots));
  });
  finish();
}
