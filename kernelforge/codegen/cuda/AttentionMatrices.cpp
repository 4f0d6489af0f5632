// Attention by the matrix units of a warpgroup. A block goes from tile to tile, rows of one query
// head each. One warp fetches the query's tile and blocks of keys and values by bulk copies; each
// other warpgroup has 64 rows, multiplies them with the keys, turns the products into weights in
// registers, and these are the left operand of the product with the values. The next block's
// product with the keys, and this one's with the values, go on while weights are computed.
#include "kernelforge/codegen/cuda/AttentionSeen.h"
#include "kernelforge/codegen/cuda/AttentionWeights.h"

#include "kernelforge/codegen/simt/Elements.h"
#include "kernelforge/ir/Caches.h"

#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cuda;
using namespace kernelforge::cuda::attention;
using namespace kernelforge::transformer;

using Predicate = arith::CmpIPredicate;

namespace {

/// More slots than a cache has: maps go to its end.
constexpr int64_t mostSlots = int64_t(1) << 31;

/// What a consumer has in a tile.
struct State {
  SmallVector<Value> outputs; ///< sums of a product
  RunningRows rows;
  RingPlace keys, values;

  SmallVector<Value> flat() const {
    SmallVector<Value> all(outputs);
    all.append({rows.highest[0], rows.highest[1], rows.sum[0], rows.sum[1], keys.stage, keys.parity,
                values.stage, values.parity});
    return all;
  }
  static State from(ValueRange all) {
    State state;
    constexpr size_t others = 8;
    const ValueRange outputs = all.drop_back(others), rest = all.take_back(others);
    state.outputs.assign(outputs.begin(), outputs.end());
    state.rows = {{rest[0], rest[1]}, {rest[2], rest[3]}};
    state.keys = {rest[4], rest[5]};
    state.values = {rest[6], rest[7]};
    return state;
  }
};

class Emitter {
public:
  Emitter(ModuleOp module, const KernelAnalysis &kernel, const Shape &shape, StringRef entry)
      : p(module, kernel.kernel(), entry, Roles::threadsOf(shape.consumers())), memory(p),
        assembly(p), roles(p, shape.consumers()), op(kernel.attention()), shape(shape),
        query(p, memory, 1, shape.queryTile().bytes()),
        keys(p, memory, shape.stages, shape.keyTile().bytes()),
        values(p, memory, shape.stages, shape.valueTile().bytes()),
        panels(memory.reserve(shape.resultBytes(), Panel::alignment)), seen(p, op, shape, memory),
        weights(p, op, roles) {}

  Phase emit();

private:
  struct Place {
    Value head, firstRow;
  };
  Place placeOf(Value tile);
  SmallVector<Value> whileLoop(ValueRange init,
                               llvm::function_ref<SmallVector<Value>(ValueRange)> before,
                               llvm::function_ref<SmallVector<Value>(ValueRange)> body);

  // The producer.
  void produce();
  SmallVector<Value> produceTile(Value tile, ValueRange carried);
  SmallVector<Value> fetchSeen(const SeenKeys::Range &range, Value sequence, const Place &place,
                               Value isFirst, const RingPlace &queryPlace, ValueRange carried);
  void fetchQuery(const Place &place, const RingPlace &queryPlace);
  void fetch(Ring &ring, const RingPlace &place, const HeadTile &tile, Value map, Value head,
             Value slot);
  Value slotOfCopy(Value sequence, Value firstSlot, Value base, const SeenKeys::Range &range);

  // Consumers.
  void consume();
  SmallVector<Value> consumeTile(Value tile, ValueRange carried);
  State attend(Value record, State state, const RingPlace &queryPlace);
  SmallVector<Value> startScores(const RingPlace &place, const RingPlace &queryPlace);
  SmallVector<Value> startOutputs(ValueRange outputs, ValueRange words, const RingPlace &place);
  /// Blocks of a record that rows see in part: those before `first`, and from `second` on, which
  /// is null where all of those see all.
  using Partly = std::pair<Value, Value>;
  SmallVector<Value> seenScores(Value record, Value block, const Partly &partly,
                                ValueRange products, const RingPlace &valuePlace);
  void clearUnseen(Value record, Value base, const RingPlace &valuePlace);
  SmallVector<Value> packed(ValueRange values);
  SmallVector<Value> scaled(ValueRange outputs, const std::array<Value, 2> &by);
  void release(Ring &ring, const RingPlace &place) {
    assembly.arriveIf(isFirstLane, ring.empty(place.stage));
  }
  void store(const Place &place, const State &state);

  simt::PhaseBuilder p;
  PhaseMemory memory;
  Assembly assembly;
  Roles roles;
  AttentionOp op;
  const Shape &shape;
  Ring query, keys, values;
  Value panels;
  SeenKeys seen;
  Weights weights;
  Value queryMap, keyMap, valueMap;
  Value isFirstLane, rowTiles, tiles;
};

//===----------------------------------------------------------------------===//
// Tiles
//===----------------------------------------------------------------------===//

/// Heads that are taken together share keys, or their keys fit the cache of the device; their last
/// rows, which see most where attention is causal, come first.
Emitter::Place Emitter::placeOf(Value tile) {
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

/// Goes on as long as the first of what `before` gives holds; `body` gets the rest.
SmallVector<Value> Emitter::whileLoop(ValueRange init,
                                      llvm::function_ref<SmallVector<Value>(ValueRange)> before,
                                      llvm::function_ref<SmallVector<Value>(ValueRange)> body) {
  OpBuilder::InsertionGuard guard(p.b);
  auto loop = p.b.create<scf::WhileOp>(
      p.loc, init.getTypes(), init,
      [&](OpBuilder &, Location, ValueRange arguments) {
        const SmallVector<Value> all = before(arguments);
        p.b.create<scf::ConditionOp>(p.loc, all[0], ArrayRef(all).drop_front());
      },
      [&](OpBuilder &, Location, ValueRange arguments) {
        p.b.create<scf::YieldOp>(p.loc, body(arguments));
      });
  return SmallVector<Value>(loop.getResults());
}

//===----------------------------------------------------------------------===//
// The producer
//===----------------------------------------------------------------------===//

/// Tiles after a block's first one are taken as blocks come to them, by a counter in memory. Each
/// tile takes a number, so whoever takes the last one sets the counter back for the next launch.
void Emitter::produce() {
  Value counter = p.workspace(shape.counterWorkspace(), Access::ReadWrite, p.i32);
  Value blocks = p.b.create<NVVM::GridDimXOp>(p.loc, p.i32);
  const RingPlace s = seen.ring.producerStart(), q = query.producerStart(),
                  k = keys.producerStart(), v = values.producerStart();
  SmallVector<Value> last = whileLoop(
      {p.block(), s.stage, s.parity, q.stage, q.parity, k.stage, k.parity, v.stage, v.parity},
      [&](ValueRange carried) {
        SmallVector<Value> all{p.lessThan(carried[0], tiles)};
        llvm::append_range(all, carried);
        return all;
      },
      [&](ValueRange carried) {
        Value number = p.ifElse(
            "number", isFirstLane, [&] { return assembly.addAtomically(counter, p.c(0), p.c(1)); },
            [&] { return p.c(0); }, p.i32);
        SmallVector<Value> next = produceTile(carried[0], carried.drop_front());
        number = assembly.ofFirstLane(number);
        Value isLast = p.b.create<arith::AndIOp>(p.loc, isFirstLane,
                                                 p.cmp(Predicate::eq, number, p.sub(tiles, 1)));
        p.ifThen(isLast, [&] { p.store(p.c(0), counter, p.c(0)); });
        next.insert(next.begin(), p.add(blocks, number));
        return next;
      });
  seen.publishEnd({last[1], last[2]}, roles.lane);
}

SmallVector<Value> Emitter::produceTile(Value tile, ValueRange carried) {
  const Place place = placeOf(tile);
  const RingPlace queryPlace{carried[2], carried[3]};
  const SeenKeys::LaneRows rows = seen.lanesRows(roles.lane, place.firstRow);
  auto ofSequence = [&](Value sequence, Value sequences, Value isFirst, ValueRange carried) {
    const RingPlace record{carried[0], carried[1]};
    const SeenKeys::Range range =
        seen.publish(record, rows, roles.lane, tile, sequence, sequences, isFirst);
    const RingPlace after = seen.ring.next(record);
    SmallVector<Value> next{after.stage, after.parity};
    next.append(fetchSeen(range, sequence, place, isFirst, queryPlace, carried.drop_front(2)));
    return next;
  };
  SmallVector<Value> state(carried.take_front(2));
  llvm::append_range(state, carried.drop_front(4));
  if (shape.facts.sequences == 1) {
    Value always = p.cmp(Predicate::eq, p.c(0), p.c(0));
    state = ofSequence(p.c(0), p.c(1), always, state);
  } else {
    auto [least, greatest] = seen.sequencesOf(rows);
    Value count = p.add(p.sub(greatest, least), 1);
    state = p.loop("sequence", least, p.add(greatest, 1), 1, "stage", state,
                   [&, least = least](Value sequence, ValueRange carried) {
                     Value isFirst = p.cmp(Predicate::eq, sequence, least);
                     return ofSequence(sequence, count, isFirst, carried);
                   });
  }
  const RingPlace after = query.next(queryPlace);
  SmallVector<Value> next(ArrayRef(state).take_front(2));
  next.append({after.stage, after.parity});
  llvm::append_range(next, ArrayRef(state).drop_front(2));
  return next;
}

/// All blocks of one sequence that the tile's rows see; the query between the first one's keys and
/// values, as its place is free later than theirs.
SmallVector<Value> Emitter::fetchSeen(const SeenKeys::Range &range, Value sequence,
                                      const Place &place, Value isFirst,
                                      const RingPlace &queryPlace, ValueRange carried) {
  Value cacheHead = p.div(place.head, shape.facts.group());
  Value firstSlot = simt::AttentionKeys(p, op).firstSlot(sequence);
  return p.loop(
      "block", p.c(0), range.blocks, 1, "stage", carried, [&](Value block, ValueRange carried) {
        const RingPlace keyPlace{carried[0], carried[1]}, valuePlace{carried[2], carried[3]};
        Value before = p.sub(p.sub(range.blocks, 1), block);
        Value base = p.add(range.start, p.mul(before, shape.keys));
        Value slot = slotOfCopy(sequence, firstSlot, base, range);
        fetch(keys, keyPlace, shape.keyTile(), keyMap, cacheHead, slot);
        Value isQuerys =
            p.b.create<arith::AndIOp>(p.loc, isFirst, p.cmp(Predicate::eq, block, p.c(0)));
        p.ifThen(isQuerys, [&] { fetchQuery(place, queryPlace); });
        fetch(values, valuePlace, shape.valueTile(), valueMap, cacheHead, slot);
        const RingPlace k = keys.next(keyPlace), v = values.next(valuePlace);
        return SmallVector<Value>{k.stage, k.parity, v.stage, v.parity};
      });
}

void Emitter::fetchQuery(const Place &place, const RingPlace &queryPlace) {
  const HeadTile tile = shape.queryTile();
  assembly.waitBarrier(query.empty(queryPlace.stage), queryPlace.parity);
  p.ifThen(isFirstLane, [&] {
    Value full = query.full(queryPlace.stage), to = query.address(queryPlace.stage);
    assembly.expectBytes(full, tile.bytes());
    for (int64_t panel = 0; panel < tile.panels(); ++panel)
      assembly.loadBox(p.add(to, panel * tile.panel().bytes()), queryMap,
                       p.add(p.mul(place.head, shape.facts.keyDim), panel * HeadTile::panelNumbers),
                       place.firstRow, full);
  });
}

/// Where a lane's copy begins: keys past the last one that is seen are of the copy before, and
/// weigh nothing.
Value Emitter::slotOfCopy(Value sequence, Value firstSlot, Value base,
                          const SeenKeys::Range &range) {
  if (shape.page == 0)
    return p.add(firstSlot, base);
  const int64_t copied = shape.copiedKeys();
  Value key = p.add(base, p.mul(roles.lane, copied));
  Value last = p.sub(p.max(range.to, p.c(1)), 1);
  last = p.sub(last, p.rem(last, copied));
  return simt::AttentionKeys(p, op).slot(sequence, p.min(key, last));
}

/// A block of keys or values by one copy or several, a lane each.
void Emitter::fetch(Ring &ring, const RingPlace &place, const HeadTile &tile, Value map, Value head,
                    Value slot) {
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

//===----------------------------------------------------------------------===//
// Consumers
//===----------------------------------------------------------------------===//

void Emitter::consume() {
  const RingPlace s = seen.ring.consumerStart(), q = query.consumerStart(),
                  k = keys.consumerStart(), v = values.consumerStart();
  const Value tile = p.c(0);
  whileLoop(
      {s.stage, s.parity, q.stage, q.parity, k.stage, k.parity, v.stage, v.parity, tile},
      [&](ValueRange carried) {
        assembly.waitBarrier(seen.ring.full(carried[0]), carried[1]);
        Value tile = seen.word(seen.ring.address(carried[0]), Word::Tile);
        SmallVector<Value> all{p.cmp(Predicate::ne, tile, p.c(noTile))};
        llvm::append_range(all, carried.drop_back());
        all.push_back(tile);
        return all;
      },
      [&](ValueRange carried) {
        SmallVector<Value> next = consumeTile(carried.back(), carried.drop_back());
        next.push_back(carried.back());
        return next;
      });
}

SmallVector<Value> Emitter::consumeTile(Value tile, ValueRange carried) {
  const Place place = placeOf(tile);
  const RingPlace queryPlace{carried[2], carried[3]};
  State state;
  state.outputs.assign(size_t(shape.outputs().sums()), p.cf(0));
  state.rows = weights.start(place.head);
  state.keys = {carried[4], carried[5]};
  state.values = {carried[6], carried[7]};
  RingPlace record{carried[0], carried[1]};
  auto done = [&](const RingPlace &record) {
    assembly.meetWarp();
    release(seen.ring, record);
    return seen.ring.next(record);
  };
  assembly.waitBarrier(query.full(queryPlace.stage), queryPlace.parity);
  if (shape.facts.sequences == 1) {
    state = attend(seen.ring.address(record.stage), std::move(state), queryPlace);
    record = done(record);
  } else {
    SmallVector<Value> all = state.flat();
    all.append({record.stage, record.parity});
    Value count = seen.word(seen.ring.address(record.stage), Word::Sequences);
    all = p.loop("sequence", p.c(0), count, 1, "o", all, [&](Value, ValueRange carried) {
      const RingPlace record{carried[carried.size() - 2], carried.back()};
      assembly.waitBarrier(seen.ring.full(record.stage), record.parity);
      Value at = seen.ring.address(record.stage);
      Value isAny = p.cmp(Predicate::ne, seen.word(at, Word::Blocks), p.c(0));
      const ValueRange own = carried.drop_back(2);
      SmallVector<Value> next = p.ifElse(
          "o", isAny, own.getTypes(),
          [&] { return attend(at, State::from(own), queryPlace).flat(); },
          [&] { return SmallVector<Value>(own); });
      const RingPlace after = done(record);
      next.append({after.stage, after.parity});
      return next;
    });
    record = {all[all.size() - 2], all.back()};
    state = State::from(ValueRange(all).drop_back(2));
    release(query, queryPlace);
  }
  store(place, state);
  const RingPlace q = query.next(queryPlace);
  return {record.stage,       record.parity,      q.stage,
          q.parity,           state.keys.stage,   state.keys.parity,
          state.values.stage, state.values.parity};
}

SmallVector<Value> Emitter::startScores(const RingPlace &place, const RingPlace &queryPlace) {
  const HeadTile left = shape.queryTile(), right = shape.keyTile();
  Value own = p.add(query.address(queryPlace.stage),
                    p.mul(roles.group, MatrixShape::rows * Panel::rowBytes));
  return assembly.startProduct(shape.scores(), left.along(p, own), left.stepsAlong(),
                               right.along(p, keys.address(place.stage)), right.stepsAlong());
}

SmallVector<Value> Emitter::startOutputs(ValueRange outputs, ValueRange words,
                                         const RingPlace &place) {
  const HeadTile right = shape.valueTile();
  return assembly.startProduct(shape.outputs(), outputs, words,
                               right.across(p, values.address(place.stage)), right.stepsAcross());
}

SmallVector<Value> Emitter::packed(ValueRange values) {
  SmallVector<Value> words;
  for (size_t i = 0; i < values.size(); i += 2)
    words.push_back(assembly.packHalves(shape.element, values[i], values[i + 1]));
  return words;
}

SmallVector<Value> Emitter::scaled(ValueRange outputs, const std::array<Value, 2> &by) {
  SmallVector<Value> all(outputs);
  for (auto [i, output] : llvm::enumerate(all))
    output = p.mulf(output, by[i / 2 % 2]);
  return all;
}

/// All blocks of a record. The first block's scores come first; then a block's scores are
/// multiplied together with the outputs of the one before.
State Emitter::attend(Value record, State state, const RingPlace &queryPlace) {
  Value blocks = seen.word(record, Word::Blocks);
  const Partly partly = {seen.word(record, Word::MaskedFirst),
                         op.getWindow() ? seen.word(record, Word::ClearEnd) : Value()};
  auto fullScores = [&](const RingPlace &place) {
    assembly.waitBarrier(keys.full(place.stage), place.parity);
    return startScores(place, queryPlace);
  };
  SmallVector<Value> scores = assembly.waitProducts(0, fullScores(state.keys));
  release(keys, state.keys);
  state.keys = keys.next(state.keys);
  scores = seenScores(record, p.c(0), partly, scores, state.values);
  Weights::Step step = weights.step(scores, state.rows);
  state.rows = step.next;
  if (shape.facts.sequences > 1) // else there are none yet
    state.outputs = scaled(state.outputs, step.fade);
  SmallVector<Value> words = packed(step.weights);
  SmallVector<Value> all = state.flat();
  const size_t own = all.size();
  llvm::append_range(all, words);
  all = p.loop("block", p.c(1), blocks, 1, "o", all, [&](Value block, ValueRange carried) {
    State state = State::from(carried.take_front(own));
    SmallVector<Value> scores = fullScores(state.keys);
    assembly.waitBarrier(values.full(state.values.stage), state.values.parity);
    state.outputs = startOutputs(state.outputs, carried.drop_front(own), state.values);
    scores = assembly.waitProducts(1, scores);
    release(keys, state.keys);
    state.keys = keys.next(state.keys);
    const RingPlace nextValues = values.next(state.values);
    scores = seenScores(record, block, partly, scores, nextValues);
    Weights::Step step = weights.step(scores, state.rows);
    state.rows = step.next;
    // Weights of the block before are read until then: these are packed after it.
    SmallVector<Value> waited(state.outputs);
    llvm::append_range(waited, step.weights);
    waited = assembly.waitProducts(0, waited);
    release(values, state.values);
    state.values = nextValues;
    const auto outputs = ArrayRef(waited).take_front(state.outputs.size());
    SmallVector<Value> words = packed(ArrayRef(waited).drop_front(outputs.size()));
    state.outputs = scaled(outputs, step.fade);
    SmallVector<Value> next = state.flat();
    llvm::append_range(next, words);
    return next;
  });
  state = State::from(ValueRange(all).take_front(own));
  if (shape.facts.sequences == 1)
    release(query, queryPlace);
  assembly.waitBarrier(values.full(state.values.stage), state.values.parity);
  state.outputs = assembly.waitProducts(
      0, startOutputs(state.outputs, ValueRange(all).drop_front(own), state.values));
  release(values, state.values);
  state.values = values.next(state.values);
  return state;
}

/// The scores of a block, of those that a row does not see what weighs nothing. Values that no row
/// sees become zeros then: they may be anything, which times 0 may be no number.
SmallVector<Value> Emitter::seenScores(Value record, Value block, const Partly &partly,
                                       ValueRange products, const RingPlace &valuePlace) {
  SmallVector<Value> scores = weights.bounded(products);
  Value isPartly = p.lessThan(block, partly.first);
  const bool hasWindow = op.getWindow() != 0;
  if (hasWindow)
    isPartly =
        p.b.create<arith::OrIOp>(p.loc, isPartly, p.cmp(Predicate::uge, block, partly.second));
  return p.ifElse(
      "score", isPartly, ValueRange(scores).getTypes(),
      [&] {
        Value base = seen.baseOf(record, block);
        clearUnseen(record, base, valuePlace);
        Accumulators sums(p, roles, shape.scores());
        Value first = p.add(base, sums.firstColumn());
        SmallVector<Value> masked(scores);
        for (int64_t lower : {0, 1}) {
          Value row = p.add(p.mul(roles.group, MatrixShape::rows), sums.row(lower));
          auto [rowFirst, length] = seen.ofRow(record, row);
          // The first column of the block is that far beyond the row's first key.
          Value place = p.sub(first, rowFirst), left = p.sub(length, place);
          for (int64_t b = 0; b < sums.blocks(); ++b)
            for (int64_t second : {0, 1}) {
              Value &score = masked[size_t(Accumulators::numberOf(b, lower, second))];
              const int64_t column = b * Accumulators::blockColumns + second;
              Value isSeen = hasWindow ? p.lessThan(p.add(place, column), length)
                                       : p.cmp(Predicate::sgt, left, p.c(column));
              score = p.select(isSeen, score, weights.unseen());
            }
        }
        return masked;
      },
      [&] { return SmallVector<Value>(scores); });
}

/// Both warpgroups do all of it, so that neither waits for the other.
void Emitter::clearUnseen(Value record, Value base, const RingPlace &valuePlace) {
  const HeadTile tile = shape.valueTile();
  Value from = seen.word(record, Word::From), to = seen.word(record, Word::To);
  Value isApart = p.cmp(Predicate::ne, seen.word(record, Word::IsApart), p.c(0));
  auto either = [&](Value x, Value y) { return Value(p.b.create<arith::OrIOp>(p.loc, x, y)); };
  Value needed = p.cmp(Predicate::ugt, p.add(base, shape.keys), to);
  if (op.getWindow() != 0)
    needed = either(needed, either(isApart, p.lessThan(base, from)));
  p.ifThen(needed, [&] {
    assembly.waitBarrier(values.full(valuePlace.stage), valuePlace.parity);
    Value stage = values.address(valuePlace.stage);
    p.loop("key", roles.thread, p.c(shape.keys), warpgroup, [&](Value key) {
      Value position = p.add(base, key);
      Value isOutside = either(p.lessThan(position, from), p.cmp(Predicate::uge, position, to));
      if (op.getWindow() != 0) {
        Value sees = p.ifElse(
            "sees", isApart,
            [&] {
              return p.loop("row", p.c(0), p.c(shape.rows), 1, "sees", p.c(0),
                            [&](Value row, ValueRange carried) -> SmallVector<Value> {
                              auto [first, length] = seen.ofRow(record, row);
                              Value own = p.lessThan(p.sub(position, first), length);
                              return {p.select(own, p.c(1), carried[0])};
                            })[0];
            },
            [&] { return p.c(1); }, p.i32);
        isOutside = either(isOutside, p.cmp(Predicate::eq, sees, p.c(0)));
      }
      p.ifThen(isOutside, [&] {
        const SmallVector<Value> zeros(4, p.c(0));
        Value row = p.add(stage, p.mul(key, Panel::rowBytes));
        // Neighbours begin at other pieces, so that they write to other banks.
        for (int64_t panel = 0; panel < tile.panels(); ++panel)
          for (int64_t i = 0; i < Panel::rowBytes / Panel::pieceBytes; ++i) {
            Value piece = p.xorBits(p.andBits(key, 7), p.c(i));
            assembly.storeWords(
                p.add(p.add(row, panel * tile.panel().bytes()), p.mul(piece, Panel::pieceBytes)),
                zeros);
          }
      });
    });
    assembly.publishShared();
    assembly.meet(p.add(roles.group, 1), warpgroup);
  });
}

/// Outputs go through panels, so that threads that are neighbours store what is.
void Emitter::store(const Place &place, const State &state) {
  const ElementType type = *elementTypeOf(op.getOutput().getType());
  const SmallVector<Value> means = scaled(state.outputs, weights.factors(state.rows));
  ResultPanels panel(p, roles, panels, type, /*buffers=*/1);
  Accumulators sums(p, roles, shape.outputs());
  const int64_t dim = shape.facts.valueDim, columns = panel.columns();
  const int64_t perPiece = columns * Panel::pieceBytes / Panel::rowBytes;
  const int64_t pieces = Panel::rowBytes / Panel::pieceBytes;
  Value to = p.result(0, Access::Write, simt::View::Words4);
  Value count = p.rows(op.getQuery().getType());
  Value firstRow = p.add(place.firstRow, p.mul(roles.group, MatrixShape::rows));
  const int64_t panelCount = llvm::divideCeilSigned(dim, columns);
  for (int64_t number = 0; number < panelCount; ++number) {
    const int64_t firstBlock = number * columns / Accumulators::blockColumns;
    auto pairOf = [&](int64_t block, int64_t lower) -> std::array<Value, 2> {
      if (firstBlock + block >= sums.blocks()) // a panel may be wider than what is left
        return {p.cf(0), p.cf(0)};
      const auto at = size_t(Accumulators::numberOf(firstBlock + block, lower, 0));
      return {means[at], means[at + 1]};
    };
    panel.store(sums, number, panelCount % 2 != 0, pairOf, [&](Value from) {
      const int64_t there = std::min(pieces, (dim - number * columns) / perPiece);
      for (int64_t i = 0; i < MatrixShape::rows * pieces; i += warpgroup) {
        Value index = p.add(roles.thread, i);
        Value r = p.div(index, pieces), piece = p.rem(index, pieces);
        Value row = p.add(firstRow, r);
        Value isThere = p.lessThan(row, count);
        if (there < pieces)
          isThere = p.b.create<arith::AndIOp>(p.loc, isThere, p.lessThan(piece, p.c(there)));
        p.ifThen(isThere, [&] {
          Value at = p.add(from, Panel::offsetOf(p, r, p.mul(piece, Panel::pieceBytes)));
          Value start = p.mul(p.add(p.mul(row, shape.facts.heads), place.head), dim / perPiece);
          p.storeVector(p.vector(assembly.loadWords(at)), to,
                        p.add(p.add(start, number * pieces), piece));
        });
      }
    });
  }
}

Phase Emitter::emit() {
  Type rowType = op.getQuery().getType();
  const int64_t heads = shape.facts.heads, copied = shape.copiedKeys();
  const int64_t queryWidth = heads * shape.facts.keyDim;
  auto cacheMap = [&](Value cache, const HeadTile &tile) {
    TensorMap map = tile.map(shape.element, mostSlots, shape.facts.kvHeads * tile.dim, copied);
    map.toEnd = true;
    return memory.map(memory.bufferOf(cache), Access::Read, std::move(map));
  };
  queryMap = memory.map(
      shape.roundsQuery ? memory.bufferOfWorkspace(shape.queryWorkspace())
                        : memory.bufferOf(op.getQuery()),
      Access::Read,
      shape.queryTile().map(shape.element, p.rowsExtent(rowType), queryWidth, shape.rows));
  keyMap = cacheMap(op.getKeys(), shape.keyTile());
  valueMap = cacheMap(op.getValues(), shape.valueTile());
  p.ifThen(p.cmp(Predicate::eq, p.thread(), p.c(0)), [&] {
    for (Ring *ring : {&query, &keys, &values, &seen.ring})
      ring->initialise(shape.consumers() * warpgroup / warp);
    for (Value map : {queryMap, keyMap, valueMap})
      assembly.prefetchMap(map);
  });
  p.barrier();
  isFirstLane = p.cmp(Predicate::eq, roles.lane, p.c(0));
  rowTiles = p.named(p.div(p.add(p.rows(rowType), shape.rows - 1), shape.rows), "row_tiles");
  tiles = p.named(p.mul(rowTiles, heads), "tiles");
  constexpr int64_t alone = 1; // on its multiprocessor
  roles.split(alone, [&] { produce(); }, [&] { consume(); }, warp);
  Extent grid = p.rowsExtent(rowType, shape.rows) * Extent(heads);
  if (grid.isConstant())
    grid = Extent(std::min(grid.multiplier, shape.blocks));
  else
    grid.atMost = shape.blocks;
  return memory.finish(std::move(grid), Roles::registers(shape.consumers(), alone));
}

} // namespace

Phase attention::emitTiles(ModuleOp module, const KernelAnalysis &kernel, const Shape &shape,
                           StringRef entry) {
  return Emitter(module, kernel, shape, entry).emit();
}

Phase attention::emitQuery(ModuleOp module, const KernelAnalysis &kernel, const Shape &shape,
                           StringRef entry) {
  constexpr int64_t rowThreads = 256, atOnce = 4;
  simt::PhaseBuilder p(module, kernel.kernel(), entry, rowThreads);
  Assembly assembly(p);
  AttentionOp op = kernel.attention();
  const int64_t quads = shape.facts.heads * shape.facts.keyDim / atOnce;
  Value memory = p.workspace(shape.queryWorkspace(), Access::Write, p.vec(p.i32, 2));
  p.loop("quad", p.thread(), p.c(quads), rowThreads, [&](Value quad) {
    Value at = p.add(p.mul(p.block(), quads), quad);
    Value read = simt::readElement(p, op.getQuery(), p.mul(at, atOnce), atOnce);
    SmallVector<Value> words;
    for (int64_t i = 0; i < atOnce; i += 2)
      words.push_back(
          assembly.packHalves(shape.element, p.extract(read, i), p.extract(read, i + 1)));
    p.storeVector(p.vector(words), memory, at);
  });
  return p.finish(p.rowsExtent(op.getQuery().getType()));
}
