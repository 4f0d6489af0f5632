#include "kernelforge/codegen/cuda/AttentionBlock.h"

#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cuda;
using namespace kernelforge::cuda::attention;

using Predicate = arith::CmpIPredicate;

/// More slots than a cache has: maps go to its end.
static constexpr int64_t mostSlots = int64_t(1) << 31;

TileBlock::TileBlock(ModuleOp module, const KernelAnalysis &kernel, const Shape &shape,
                     StringRef entry)
    : p(module, kernel.kernel(), entry, Roles::threadsOf(shape.consumers())), memory(p),
      assembly(p), roles(p, shape.consumers()), op(kernel.attention()), shape(shape),
      small(memory.reserve(shape.smallBytes(), Panel::alignment)),
      records(takeSmall(Shape::recordStages * shape.recordBytes())),
      wanted(takeSmall(Ring::barrierBytes)), query(ringOf(1, shape.queryTile())),
      keys(ringOf(shape.stages, shape.keyTile())), values(ringOf(shape.stages, shape.valueTile())),
      panels(memory.reserve(shape.resultBytes(), Panel::alignment)),
      seen(p, op, shape, records, takeSmall(Ring::bytesOfBarriers(Shape::recordStages))) {}

Value TileBlock::takeSmall(int64_t bytes) {
  Value address = p.add(small, smallTaken);
  smallTaken += bytes;
  return address;
}

Ring TileBlock::ringOf(int64_t stages, const HeadTile &tile) {
  Value tiles = memory.reserve(stages * tile.bytes(), Panel::alignment);
  return {p, stages, tile.bytes(), tiles, takeSmall(Ring::bytesOfBarriers(stages))};
}

/// Heads that are taken together share keys, or their keys fit the cache of the device; their last
/// rows, which see most where attention is causal, come first.
TileBlock::Place TileBlock::placeOf(Value tile) {
  auto div = [&](Value x, Value y) { return Value(p.b.create<arith::DivUIOp>(p.loc, x, y)); };
  Value ofBand = p.mul(rowTiles, shape.heads);
  Value band = div(tile, ofBand), inBand = p.sub(tile, p.mul(band, ofBand));
  Value firstHead = p.mul(band, shape.heads);
  Value heads = p.c(shape.heads);
  if (shape.facts.heads % shape.heads != 0)
    heads = p.min(heads, p.sub(p.c(shape.facts.heads), firstHead));
  Value number = div(inBand, heads);
  Place place;
  place.head = p.named(p.add(firstHead, p.sub(inBand, p.mul(number, heads))), "head");
  place.firstRow = p.named(p.mul(p.sub(p.sub(rowTiles, 1), number), shape.rows), "first_row");
  return place;
}

TileBlock::Values TileBlock::whileLoop(ValueRange init,
                                       llvm::function_ref<Values(ValueRange)> before,
                                       llvm::function_ref<Values(ValueRange)> body) {
  OpBuilder::InsertionGuard guard(p.b);
  auto loop = p.b.create<scf::WhileOp>(
      p.loc, init.getTypes(), init,
      [&](OpBuilder &, Location, ValueRange arguments) {
        const Values all = before(arguments);
        p.b.create<scf::ConditionOp>(p.loc, all[0], ArrayRef(all).drop_front());
      },
      [&](OpBuilder &, Location, ValueRange arguments) {
        p.b.create<scf::YieldOp>(p.loc, body(arguments));
      });
  return Values(loop.getResults());
}

void TileBlock::makeMaps() {
  const int64_t queryWidth = shape.facts.heads * shape.facts.keyDim;
  auto cacheMap = [&](Value cache, const HeadTile &tile) {
    TensorMap map =
        tile.map(shape.element, mostSlots, shape.facts.kvHeads * tile.dim, shape.copiedKeys());
    map.toEnd = true;
    return memory.map(memory.bufferOf(cache), Access::Read, std::move(map));
  };
  queryMap = memory.map(shape.roundsQuery ? memory.bufferOfWorkspace(shape.queryWorkspace())
                                          : memory.bufferOf(op.getQuery()),
                        Access::Read,
                        shape.queryTile().map(shape.element, p.rowsExtent(op.getQuery().getType()),
                                              queryWidth, shape.rows));
  keyMap = cacheMap(op.getKeys(), shape.keyTile());
  valueMap = cacheMap(op.getValues(), shape.valueTile());
}

Phase TileBlock::emit(llvm::function_ref<void()> consume) {
  Type rowType = op.getQuery().getType();
  makeMaps();
  p.ifThen(p.cmp(Predicate::eq, p.thread(), p.c(0)), [&] {
    const int64_t consumerWarps = shape.consumers() * warpgroup / warp;
    for (Ring *ring : {&query, &keys, &values})
      ring->initialise(consumerWarps);
    seen.ring.initialise(consumerWarps + 1); // and the warp that copies
    assembly.initBarrier(wanted, 1);
    assembly.publishBarriers();
    for (Value map : {queryMap, keyMap, valueMap})
      assembly.prefetchMap(map);
  });
  p.barrier();
  isFirstLane = p.cmp(Predicate::eq, roles.lane, p.c(0));
  rowTiles = p.named(p.div(p.add(p.rows(rowType), shape.rows - 1), shape.rows), "row_tiles");
  tiles = p.named(p.mul(rowTiles, shape.facts.heads), "tiles");
  auto produce = [&] {
    p.ifElse(
        "role", p.cmp(Predicate::eq, roles.warpNumber, p.c(0)), {},
        [&] {
          plan();
          return Values();
        },
        [&] {
          copy();
          return Values();
        });
  };
  constexpr int64_t alone = 1, producers = 2; // on its multiprocessor; warps
  roles.split(alone, produce, consume, producers * warp);
  Extent grid = p.rowsExtent(rowType, shape.rows) * Extent(shape.facts.heads);
  if (grid.isConstant())
    grid = Extent(std::min(grid.multiplier, shape.blocks));
  else
    grid.atMost = shape.blocks;
  return memory.finish(std::move(grid), Roles::registers(shape.consumers(), alone));
}

//===----------------------------------------------------------------------===//
// Planning
//===----------------------------------------------------------------------===//

/// Tiles after a block's first one are taken as blocks come to them, by a counter in memory: when
/// the last copies of the tile before are about to be made, and no earlier, as another block may be
/// done before. Each tile takes a number, so whoever takes the last one sets the counter back for
/// the next launch.
void TileBlock::plan() {
  Value counter = p.workspace(shape.counterWorkspace(), Access::ReadWrite, p.i32);
  Value blocks = p.b.create<NVVM::GridDimXOp>(p.loc, p.i32);
  const RingPlace start = seen.ring.producerStart();
  const Values last = whileLoop(
      {p.block(), start.stage, start.parity, p.c(0)},
      [&](ValueRange carried) {
        Values all{p.lessThan(carried[0], tiles)};
        llvm::append_range(all, carried);
        return all;
      },
      [&](ValueRange carried) -> Values {
        const RingPlace next = planTile(carried[0], {carried[1], carried[2]});
        assembly.waitBarrier(wanted, carried[3]);
        Value number = p.ifElse(
            "number", isFirstLane, [&] { return assembly.addAtomically(counter, p.c(0), p.c(1)); },
            [&] { return p.c(0); }, p.i32);
        number = assembly.ofFirstLane(number);
        Value isLast = p.b.create<arith::AndIOp>(p.loc, isFirstLane,
                                                 p.cmp(Predicate::eq, number, p.sub(tiles, 1)));
        p.ifThen(isLast, [&] { p.store(p.c(0), counter, p.c(0)); });
        return {p.add(blocks, number), next.stage, next.parity, p.xorBits(carried[3], p.c(1))};
      });
  seen.publishEnd({last[1], last[2]}, roles.lane);
}

/// A record for each sequence that a tile has rows of, or may have.
RingPlace TileBlock::planTile(Value tile, const RingPlace &place) {
  const auto [head, firstRow] = placeOf(tile);
  if (shape.facts.sequences == 1) {
    Value always = p.cmp(Predicate::eq, p.c(0), p.c(0));
    seen.publish(place, roles.lane, {head, firstRow, p.c(0), p.c(1), always, always});
    return seen.ring.next(place);
  }
  auto [least, greatest] = seen.sequencesOf(roles.lane, firstRow);
  Value count = p.add(p.sub(greatest, least), 1);
  const Values last =
      p.loop("sequence", least, p.add(greatest, 1), 1, "stage parity", {place.stage, place.parity},
             [&, head = head, firstRow = firstRow, least = least,
              greatest = greatest](Value sequence, ValueRange carried) -> Values {
               const RingPlace own{carried[0], carried[1]};
               Value isFirst = p.cmp(Predicate::eq, sequence, least);
               Value isLast = p.cmp(Predicate::eq, sequence, greatest);
               seen.publish(own, roles.lane, {head, firstRow, sequence, count, isFirst, isLast});
               const RingPlace next = seen.ring.next(own);
               return {next.stage, next.parity};
             });
  return {last[0], last[1]};
}

//===----------------------------------------------------------------------===//
// Copying
//===----------------------------------------------------------------------===//

void TileBlock::copy() {
  const RingPlace s = seen.ring.consumerStart(), q = query.producerStart(),
                  k = keys.producerStart();
  whileLoop(
      {s.stage, s.parity, q.stage, q.parity, k.stage, k.parity, p.c(0)},
      [&](ValueRange carried) { return seen.nextTile(carried); },
      [&](ValueRange carried) -> Values {
        Value record = seen.ring.address(carried[0]);
        Values next = copyRecord(record, carried.back(), carried.slice(2, 4));
        assembly.meetWarp();
        assembly.arriveIf(isFirstLane, seen.ring.empty(carried[0]));
        const RingPlace after = seen.ring.next({carried[0], carried[1]});
        next.insert(next.begin(), {after.stage, after.parity});
        next.push_back(carried.back());
        return next;
      });
}

/// All blocks of a record; where it is a tile's first one the query between its first keys and
/// values, as its place is free later than theirs.
TileBlock::Values TileBlock::copyRecord(Value record, Value head, ValueRange carried) {
  const RingPlace queryPlace{carried[0], carried[1]};
  Value isFirst = p.cmp(Predicate::ne, seen.word(record, Word::IsFirst), p.c(0));
  Value sequence = shape.facts.sequences == 1 ? p.c(0) : seen.word(record, Word::Sequence);
  Value blocks = seen.word(record, Word::Blocks), start = seen.word(record, Word::Start);
  auto both = [&](Value x, Value y) { return Value(p.b.create<arith::AndIOp>(p.loc, x, y)); };
  Value isLeadersLast = isFirstLane;
  if (shape.facts.sequences > 1) {
    isLeadersLast =
        both(isFirstLane, p.cmp(Predicate::ne, seen.word(record, Word::IsLast), p.c(0)));
    assembly.arriveIf(both(isLeadersLast, p.cmp(Predicate::eq, blocks, p.c(0))), wanted);
  }
  Value cacheHead = p.div(head, shape.facts.group());
  simt::AttentionKeys slots(p, op);
  Value firstSlot = slots.firstSlot(sequence);
  const int64_t copied = shape.copiedKeys();
  Value last; // copy that has keys; those after it are it again, and weigh nothing
  if (shape.page != 0) {
    last = p.sub(p.max(seen.word(record, Word::To), p.c(1)), 1);
    last = p.sub(last, p.rem(last, copied));
  }
  Values next =
      p.loop("block", p.c(0), blocks, 1, "stage", carried.drop_front(2),
             [&](Value block, ValueRange carried) -> Values {
               const RingPlace own{carried[0], carried[1]};
               Value after = p.sub(p.sub(blocks, 1), block); // blocks that come after it
               Value base = p.add(start, p.mul(after, shape.keys));
               assembly.arriveIf(both(isLeadersLast, p.cmp(Predicate::eq, after, p.c(0))), wanted);
               Value key = p.add(base, p.mul(roles.lane, copied));
               Value slot = last ? slots.slot(sequence, p.min(key, last)) : p.add(firstSlot, base);
               copyBlock(keys, own, shape.keyTile(), keyMap, cacheHead, slot);
               Value isQuerys = both(isFirst, p.cmp(Predicate::eq, block, p.c(0)));
               p.ifThen(isQuerys, [&] { copyQuery(record, head, queryPlace); });
               copyBlock(values, own, shape.valueTile(), valueMap, cacheHead, slot);
               const RingPlace next = keys.next(own);
               return {next.stage, next.parity};
             });
  const RingPlace after = query.next(queryPlace);
  next.insert(next.begin(), {p.select(isFirst, after.stage, queryPlace.stage),
                             p.select(isFirst, after.parity, queryPlace.parity)});
  return next;
}

void TileBlock::copyQuery(Value record, Value head, const RingPlace &queryPlace) {
  const HeadTile tile = shape.queryTile();
  assembly.waitBarrier(query.empty(queryPlace.stage), queryPlace.parity);
  p.ifThen(isFirstLane, [&] {
    Value full = query.full(queryPlace.stage), to = query.address(queryPlace.stage);
    Value firstRow = seen.word(record, Word::FirstRow);
    assembly.expectBytes(full, tile.bytes());
    for (int64_t panel = 0; panel < tile.panels(); ++panel)
      assembly.loadBox(p.add(to, panel * tile.panel().bytes()), queryMap,
                       p.add(p.mul(head, shape.facts.keyDim), panel * HeadTile::panelNumbers),
                       firstRow, full);
  });
}

/// A block of keys or values by one copy or several, a lane each.
void TileBlock::copyBlock(Ring &ring, const RingPlace &place, const HeadTile &tile, Value map,
                          Value head, Value slot) {
  const int64_t copied = shape.copiedKeys();
  assembly.waitBarrier(ring.empty(place.stage), place.parity);
  Value full = ring.full(place.stage);
  p.ifThen(isFirstLane, [&] { assembly.expectBytes(full, tile.bytes()); });
  p.ifThen(p.lessThan(roles.lane, p.c(shape.keys / copied)), [&] {
    Value to = p.add(ring.address(place.stage), p.mul(roles.lane, copied * Panel::rowBytes));
    for (int64_t panel = 0; panel < tile.panels(); ++panel)
      assembly.loadBox(p.add(to, panel * tile.panel().bytes()), map,
                       p.add(p.mul(head, tile.dim), panel * HeadTile::panelNumbers), slot, full);
  });
}
