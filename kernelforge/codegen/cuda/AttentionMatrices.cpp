// Attention by the matrix units of a warpgroup. A block goes from tile to tile, rows of one query
// head each. One warp finds out what a tile's rows see, another one fetches the query's tile and
// blocks of keys and values by bulk copies. Each other warpgroup has 64 rows, multiplies them with
// the keys, turns the products into weights in registers, and these are the left operand of the
// product with the values. The next block's product with the keys, and this one's with the values,
// go on while weights are computed.
#include "kernelforge/codegen/cuda/AttentionBlock.h"
#include "kernelforge/codegen/cuda/AttentionWeights.h"

#include "kernelforge/codegen/simt/Elements.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cuda;
using namespace kernelforge::cuda::attention;
using namespace kernelforge::transformer;

using Predicate = arith::CmpIPredicate;

namespace {

/// What a consumer has in a tile.
struct State {
  SmallVector<Value> outputs; ///< sums of a product
  RunningRows rows;
  RingPlace next; ///< of keys and values of the next block

  SmallVector<Value> flat() const {
    SmallVector<Value> all(outputs);
    all.append(
        {rows.highest[0], rows.highest[1], rows.sum[0], rows.sum[1], next.stage, next.parity});
    return all;
  }
  static State from(ValueRange all) {
    State state;
    constexpr size_t others = 6;
    const ValueRange outputs = all.drop_back(others), rest = all.take_back(others);
    state.outputs.assign(outputs.begin(), outputs.end());
    state.rows = {{rest[0], rest[1]}, {rest[2], rest[3]}};
    state.next = {rest[4], rest[5]};
    return state;
  }
};

class AttentionMatricesEmitter {
public:
  AttentionMatricesEmitter(ModuleOp module, const KernelAnalysis &kernel, const Shape &shape,
                           StringRef entry)
      : block(module, kernel, shape, entry), p(block.p), assembly(block.assembly),
        roles(block.roles), shape(shape), query(block.query), keys(block.keys),
        values(block.values), seen(block.seen), weights(p, block.op, roles),
        hasWindow(block.op.getWindow() != 0) {}

  Phase emit() {
    return block.emit([&] { consume(); });
  }

private:
  void consume();
  SmallVector<Value> consumeTile(Value head, ValueRange carried);
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
    assembly.arriveIf(block.isFirstLane, ring.empty(place.stage));
  }
  void store(Value head, Value firstRow, const State &state);

  TileBlock block;
  simt::PhaseBuilder &p;
  Assembly &assembly;
  Roles &roles;
  const Shape &shape;
  Ring &query, &keys, &values;
  SeenKeys &seen;
  Weights weights;
  bool hasWindow;
};

void AttentionMatricesEmitter::consume() {
  const RingPlace s = seen.ring.consumerStart(), q = query.consumerStart(),
                  k = keys.consumerStart();
  block.whileLoop(
      {s.stage, s.parity, q.stage, q.parity, k.stage, k.parity, p.c(0)},
      [&](ValueRange carried) { return seen.nextTile(carried); },
      [&](ValueRange carried) {
        SmallVector<Value> next = consumeTile(carried.back(), carried.drop_back());
        next.push_back(carried.back());
        return next;
      });
}

SmallVector<Value> AttentionMatricesEmitter::consumeTile(Value head, ValueRange carried) {
  const RingPlace queryPlace{carried[2], carried[3]};
  State state;
  state.outputs.assign(size_t(shape.outputs().sums()), p.cf(0));
  state.rows = weights.start(head);
  state.next = {carried[4], carried[5]};
  RingPlace record{carried[0], carried[1]};
  Value firstRow;
  auto done = [&](const RingPlace &record) {
    assembly.meetWarp();
    release(seen.ring, record);
    return seen.ring.next(record);
  };
  assembly.waitBarrier(query.full(queryPlace.stage), queryPlace.parity);
  if (shape.facts.sequences == 1) {
    Value at = seen.ring.address(record.stage);
    state = attend(at, std::move(state), queryPlace);
    firstRow = seen.word(at, Word::FirstRow);
    record = done(record);
  } else {
    SmallVector<Value> all = state.flat();
    all.append({record.stage, record.parity});
    Value first = seen.ring.address(record.stage);
    firstRow = seen.word(first, Word::FirstRow);
    Value count = seen.word(first, Word::Sequences);
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
  store(head, firstRow, state);
  const RingPlace q = query.next(queryPlace);
  return {record.stage, record.parity, q.stage, q.parity, state.next.stage, state.next.parity};
}

SmallVector<Value> AttentionMatricesEmitter::startScores(const RingPlace &place,
                                                         const RingPlace &queryPlace) {
  const HeadTile left = shape.queryTile(), right = shape.keyTile();
  Value own = p.add(query.address(queryPlace.stage),
                    p.mul(roles.group, MatrixShape::rows * Panel::rowBytes));
  return assembly.startProduct(shape.scores(), left.along(p, own), left.stepsAlong(),
                               right.along(p, keys.address(place.stage)), right.stepsAlong());
}

SmallVector<Value> AttentionMatricesEmitter::startOutputs(ValueRange outputs, ValueRange words,
                                                          const RingPlace &place) {
  const HeadTile right = shape.valueTile();
  return assembly.startProduct(shape.outputs(), outputs, words,
                               right.across(p, values.address(place.stage)), right.stepsAcross());
}

SmallVector<Value> AttentionMatricesEmitter::packed(ValueRange values) {
  SmallVector<Value> words;
  for (size_t i = 0; i < values.size(); i += 2)
    words.push_back(assembly.packHalves(shape.element, values[i], values[i + 1]));
  return words;
}

SmallVector<Value> AttentionMatricesEmitter::scaled(ValueRange outputs,
                                                    const std::array<Value, 2> &by) {
  SmallVector<Value> all(outputs);
  for (auto [i, output] : llvm::enumerate(all))
    output = p.mulf(output, by[i / 2 % 2]);
  return all;
}

/// All blocks of a record. The first block's scores come first; then a block's scores are
/// multiplied together with the outputs of the one before.
State AttentionMatricesEmitter::attend(Value record, State state, const RingPlace &queryPlace) {
  Value blocks = seen.word(record, Word::Blocks);
  const Partly partly = {seen.word(record, Word::MaskedFirst),
                         hasWindow ? seen.word(record, Word::ClearEnd) : Value()};
  auto fullScores = [&](const RingPlace &place) {
    assembly.waitBarrier(keys.full(place.stage), place.parity);
    return startScores(place, queryPlace);
  };
  SmallVector<Value> scores = assembly.waitProducts(0, fullScores(state.next));
  release(keys, state.next);
  scores = seenScores(record, p.c(0), partly, scores, state.next);
  state.next = keys.next(state.next);
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
    const RingPlace place = state.next, before = values.before(place);
    SmallVector<Value> scores = fullScores(place);
    assembly.waitBarrier(values.full(before.stage), before.parity);
    state.outputs = startOutputs(state.outputs, carried.drop_front(own), before);
    scores = assembly.waitProducts(1, scores);
    release(keys, place);
    scores = seenScores(record, block, partly, scores, place);
    Weights::Step step = weights.step(scores, state.rows);
    state.rows = step.next;
    // Weights of the block before are read until then: these are packed after it.
    SmallVector<Value> waited(state.outputs);
    llvm::append_range(waited, step.weights);
    waited = assembly.waitProducts(0, waited);
    release(values, before);
    state.next = keys.next(place);
    const auto outputs = ArrayRef(waited).take_front(state.outputs.size());
    SmallVector<Value> words = packed(ArrayRef(waited).drop_front(outputs.size()));
    // Highest scores seldom grow by much after the first blocks.
    state.outputs = p.ifElse(
        "o", assembly.anyLane(step.fades), ValueRange(outputs).getTypes(),
        [&] { return scaled(outputs, step.fade); }, [&] { return SmallVector<Value>(outputs); });
    SmallVector<Value> next = state.flat();
    llvm::append_range(next, words);
    return next;
  });
  state = State::from(ValueRange(all).take_front(own));
  if (shape.facts.sequences == 1)
    release(query, queryPlace);
  const RingPlace last = values.before(state.next);
  assembly.waitBarrier(values.full(last.stage), last.parity);
  state.outputs =
      assembly.waitProducts(0, startOutputs(state.outputs, ValueRange(all).drop_front(own), last));
  release(values, last);
  return state;
}

/// The scores of a block, of those that a row does not see what weighs nothing. Values that no row
/// sees become zeros then: they may be anything, which times 0 may be no number.
SmallVector<Value> AttentionMatricesEmitter::seenScores(Value record, Value block,
                                                        const Partly &partly, ValueRange products,
                                                        const RingPlace &valuePlace) {
  SmallVector<Value> scores = weights.bounded(products);
  Value isPartly = p.lessThan(block, partly.first);
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
void AttentionMatricesEmitter::clearUnseen(Value record, Value base, const RingPlace &valuePlace) {
  const HeadTile tile = shape.valueTile();
  Value from = seen.word(record, Word::From), to = seen.word(record, Word::To);
  Value isApart = p.cmp(Predicate::ne, seen.word(record, Word::IsApart), p.c(0));
  auto either = [&](Value x, Value y) { return Value(p.b.create<arith::OrIOp>(p.loc, x, y)); };
  Value needed = p.cmp(Predicate::ugt, p.add(base, shape.keys), to);
  if (hasWindow)
    needed = either(needed, either(isApart, p.lessThan(base, from)));
  p.ifThen(needed, [&] {
    assembly.waitBarrier(values.full(valuePlace.stage), valuePlace.parity);
    Value stage = values.address(valuePlace.stage);
    p.loop("key", roles.thread, p.c(shape.keys), warpgroup, [&](Value key) {
      Value position = p.add(base, key);
      Value isOutside = either(p.lessThan(position, from), p.cmp(Predicate::uge, position, to));
      if (hasWindow) {
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
void AttentionMatricesEmitter::store(Value head, Value firstRow, const State &state) {
  const ElementType type = *elementTypeOf(block.op.getOutput().getType());
  const SmallVector<Value> means = scaled(state.outputs, weights.factors(state.rows));
  ResultPanels panel(p, roles, block.panels, type, /*buffers=*/1);
  Accumulators sums(p, roles, shape.outputs());
  const int64_t dim = shape.facts.valueDim, columns = panel.columns();
  const int64_t perPiece = columns * Panel::pieceBytes / Panel::rowBytes;
  const int64_t pieces = Panel::rowBytes / Panel::pieceBytes;
  Value to = p.result(0, Access::Write, simt::View::Words4);
  Value count = p.rows(block.op.getQuery().getType());
  firstRow = p.add(firstRow, p.mul(roles.group, MatrixShape::rows));
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
          Value start = p.mul(p.add(p.mul(row, shape.facts.heads), head), dim / perPiece);
          p.storeVector(p.vector(assembly.loadWords(at)), to,
                        p.add(p.add(start, number * pieces), piece));
        });
      }
    });
  }
}

} // namespace

Phase cuda::attention::emitTiles(ModuleOp module, const KernelAnalysis &kernel, const Shape &shape,
                                 StringRef entry) {
  return AttentionMatricesEmitter(module, kernel, shape, entry).emit();
}

Phase cuda::attention::emitQuery(ModuleOp module, const KernelAnalysis &kernel, const Shape &shape,
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
