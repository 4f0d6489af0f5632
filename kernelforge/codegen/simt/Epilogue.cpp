#include "kernelforge/codegen/simt/Epilogue.h"

#include "kernelforge/codegen/simt/Cache.h"
#include "kernelforge/codegen/simt/Reduce.h"
#include "kernelforge/codegen/simt/Weights.h"
#include "kernelforge/ir/OpCases.h"

#include "llvm/Support/MathExtras.h"

#include <cmath>
#include <fmt/format.h>
#include <limits>
#include <numbers>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;

using Predicate = arith::CmpIPredicate;

//===----------------------------------------------------------------------===//
// Functions of an element
//===----------------------------------------------------------------------===//

// Shader languages promise nothing for infinities: what would overflow is kept in range before.

/// x / (1 + exp(-y)); 0 where that is below all normal numbers, at -inf, too.
static Value gated(PhaseBuilder &p, Value x, Value y) {
  Value power = p.exp(p.minf(p.negf(y), p.cf(88)));
  Value value = p.divf(x, p.addf(p.cf(1), power));
  return p.select(p.cmpf(arith::CmpFPredicate::OLT, y, p.cf(-104)), p.cf(0), value);
}

Value simt::emitActivation(PhaseBuilder &p, Activation function, Value x) {
  switch (function) {
  case Activation::Silu:
    return gated(p, x, x);
  case Activation::Gelu: {
    Value erf = p.b.create<math::ErfOp>(p.loc, p.mulf(x, p.cf(std::numbers::sqrt2 / 2)));
    Value value = p.mulf(p.mulf(p.cf(0.5), x), p.addf(p.cf(1), erf));
    return p.select(p.cmpf(arith::CmpFPredicate::OLT, x, p.cf(-14)), p.cf(0), value);
  }
  case Activation::GeluTanh: {
    // (1 + tanh(u)) / 2 is the logistic function of 2u, u = sqrt(2 / pi) (x + 0.044715 x^3). Beyond
    // 100 it is 0 or 1, and the cube would overflow.
    Value inner = p.maxf(p.minf(x, p.cf(100)), p.cf(-100));
    Value square = p.mulf(inner, inner);
    Value sum = p.addf(p.mulf(square, p.cf(0.044715)), p.cf(1));
    Value u = p.mulf(p.mulf(inner, p.cf(2 * std::sqrt(2 * std::numbers::inv_pi))), sum);
    return gated(p, x, p.named(u, "twice_u"));
  }
  case Activation::Relu:
    // NaN is not below and stays.
    return p.select(p.cmpf(arith::CmpFPredicate::OLE, x, p.cf(0)), p.cf(0), x);
  }
  llvm_unreachable("an activation function without code");
}

Value simt::emitSoftcap(PhaseBuilder &p, double softcap, Value x) {
  if (softcap == 0)
    return x;
  Value tanh = p.b.create<math::TanhOp>(p.loc, p.divf(x, p.cf(softcap)));
  return p.mulf(tanh, p.cf(softcap));
}

//===----------------------------------------------------------------------===//
// Whole rows
//===----------------------------------------------------------------------===//

/// Heads of a row that an operation works on one by one.
static int64_t headsOf(Operation *op) {
  auto compute = dyn_cast<ComputeOp>(op);
  return compute ? compute.getSeparateHeads() : 1;
}

/// What a whole row is read for, by operation; statistic() of Element gives it again. All threads
/// read a row together, where it has several heads each by a thread alone, or by lanes side by
/// side.
struct RowExpressions::Statistics {
  using Values = SmallVector<Value>;
  RowExpressions &rows;
  Value input, row;
  int64_t width;                       ///< of a row or a head
  Value start;                         ///< column of the head; null where all threads have the row
  const OwnColumns *columns = nullptr; ///< of the head that this lane has
  PhaseBuilder &p = rows.p;

  using Body = llvm::function_ref<Value(Value x, Value carried)>;
  Value overRow(StringRef name, Value init, Combine how, Body body) {
    if (columns)
      return combineLanes(how, body(rows.evaluate(input, {row, columns->first, 4}), init));
    if (!start && rows.sharing && rows.sharing->lanes > 1 && width % 4 == 0)
      return overQuads(name, init, how, body);
    return p.loop("col", start ? p.c(0) : p.thread(), p.c(width), start ? 1 : p.blockThreads(),
                  name, init, [&](Value col, ValueRange carried) {
                    if (start)
                      col = p.add(start, col);
                    return Values{body(rows.evaluate(input, {row, col}), carried[0])};
                  })[0];
  }
  Value combineLanes(Combine how, Value x) {
    if (how == Combine::Sum)
      return p.sumOfLanes(x);
    Value all = p.extract(x, int64_t(0));
    for (int64_t i = 1; i < PhaseBuilder::lanes(x); ++i)
      all = p.maxf(all, p.extract(x, i));
    return all;
  }
  /// The same four columns at a time: those that are kept, or in a loop.
  Value overQuads(StringRef name, Value init, Combine how, Body body) {
    Value all = p.splat(init, 4);
    if (!rows.keepsRow() || rows.sharing->keptWidth != width) {
      all = p.loop("col", p.mul(p.thread(), 4), p.c(width), p.blockThreads() * 4, name, all,
                   [&](Value col, ValueRange carried) {
                     return Values{body(rows.evaluate(input, {row, col, 4}), carried[0])};
                   })[0];
      return combineLanes(how, all);
    }
    Values quads; // all are on their way before any is needed
    for (const OwnColumns &own : rows.sharing->kept)
      quads.push_back(p.named(rows.evaluate(input, {row, own.first, 4}), "x"));
    for (auto [quad, own] : llvm::zip(quads, rows.sharing->kept)) {
      Value next = body(quad, all);
      all = own.isThere ? p.select(own.isThere, next, all) : next;
    }
    return p.named(combineLanes(how, p.named(all, name)), name);
  }
  Value reduce(Value own, Combine how) {
    auto join = [&](Value x, Value y) { return combine(p, how, x, y); };
    if (columns) {
      const int64_t subgroup = rows.sharing->subgroup;
      for (int64_t mask = width / 8; mask > 0; mask /= 2)
        own = p.named(join(own, p.shuffleXor(own, mask, subgroup)), "of_head");
      return own;
    }
    if (start)
      return own;
    if (rows.sharing)
      return reduceBlock(p, own, how, rows.sharing->subgroup,
                         fmt::format("row_parts{}", rows.reductions++))[0];
    return p.reduce(own, join);
  }
  Value sum(llvm::function_ref<Value(Value x)> term) {
    return reduce(overRow("sum", p.cf(0), Combine::Sum,
                          [&](Value x, Value carried) { return p.addf(carried, term(x)); }),
                  Combine::Sum);
  }
  Value inverseRoot(Value total, const APFloat &epsilon) {
    Value mean = p.divf(total, p.cf(static_cast<double>(width)));
    Value root = p.sqrt(p.addf(mean, p.cf(epsilon.convertToDouble())));
    return p.named(p.divf(p.cf(1), root), "norm_factor");
  }
  Value square(Value x) { return p.mulf(x, x); }

  Values operator()(RmsNormOp norm) {
    return {inverseRoot(sum([&](Value x) { return square(x); }), norm.getEpsilon())};
  }

  Values operator()(LayerNormOp norm) {
    // Two passes: the difference of the mean square and the squared mean would cancel. And of the
    // distances from the first element: a mean that is large beside the spread would be rounded by
    // as much as matters.
    Value origin = p.named(rows.evaluate(input, {row, start ? start : p.c(0)}), "origin");
    auto distance = [&](Value x) { return p.subf(x, origin); };
    Value mean = p.named(p.divf(sum(distance), p.cf(static_cast<double>(width))), "mean");
    Value total = sum([&](Value x) { return square(p.subf(distance(x), mean)); });
    return {origin, mean, inverseRoot(total, norm.getEpsilon())};
  }

  Values operator()(SoftmaxOp) {
    Value own = overRow("highest", p.cf(std::numeric_limits<float>::lowest()), Combine::Max,
                        [&](Value x, Value carried) { return p.maxf(carried, x); });
    Value highest = p.named(reduce(own, Combine::Max), "row_highest");
    Value total = sum([&](Value x) { return p.exp(p.subf(x, highest)); });
    return {highest, p.named(p.divf(p.cf(1), total), "share")};
  }
};

void RowExpressions::prepareRow(ValueRange values, Value row) {
  Visited visited;
  for (Value value : values) {
    const std::pair key(row, widthOf(value));
    if (!rowStarts.contains(key))
      rowStarts[key] = p.named(p.mul(row, widthOf(value)), "row_start");
    prepare(value, row, visited);
  }
}

Value RowExpressions::rowStart(Value row, int64_t width) {
  auto known = rowStarts.find({row, width});
  return known != rowStarts.end() ? known->second : p.mul(row, width);
}

void RowExpressions::prepare(Value value, Value row, Visited &visited) {
  if (loaders.count(value) || !visited.insert({value, row}).second)
    return;
  Operation *op = value.getDefiningOp();
  if (!op) {
    const std::pair key(row, widthOf(value));
    if (!rowStarts.contains(key))
      rowStarts[key] = p.named(p.mul(row, widthOf(value)), "row_start");
    return;
  }
  Value inputRow = row;
  if (auto gather = dyn_cast<GatherRowsOp>(op)) {
    inputRow = p.named(index(gather.getRows(), row), "gathered_row");
    indices[{gather.getRows(), row}] = inputRow;
  } else if (auto embedding = dyn_cast<EmbeddingOp>(op)) {
    indices[{embedding.getIds(), row}] = p.named(index(embedding.getIds(), row), "id");
  } else if (auto rope = dyn_cast<RopeOp>(op)) {
    indices[{rope.getPositions(), row}] = p.named(index(rope.getPositions(), row), "position");
  }
  for (Value input : rowInputs(op))
    prepare(input, inputRow, visited);
  if (kindOf(op) == OpKind::Statistics && !statistics.contains({op, inputRow}))
    statistics[{op, inputRow}] = statisticsOf(op, inputRow);
}

/// Whether four lanes of an operation's result are computed at once: their columns lie in one head,
/// and what they need of its operands is four columns side by side.
static bool isWideAt(Operation *op) {
  if (isa<EmbeddingOp>(op))
    return false;
  if (auto rope = dyn_cast<RopeOp>(op))
    return rope.getPairing() == Pairing::HalfSplit && rope.getRotaryDim() % 8 == 0 &&
           rope.getHeadDim() % 4 == 0;
  return widthOf(op->getResult(0)) / headsOf(op) % 4 == 0;
}

/// Whether each head of what an operation reads is a quad each of lanes side by side, so that these
/// combine it, and what else is asked of a head stands in the same one.
bool RowExpressions::lanesShareHeads(Operation *op) const {
  if (!keepsRow() || widthOf(op->getOperand(0)) != sharing->keptWidth)
    return false;
  const int64_t width = sharing->keptWidth / headsOf(op), lanes = width / 4;
  for (auto rope : p.kernel.getBody().getOps<RopeOp>())
    if (width % static_cast<int64_t>(rope.getHeadDim()) != 0 || !isWideAt(rope))
      return false;
  // A block of a quantized cache is of columns that other lanes have.
  for (auto append : p.kernel.getBody().getOps<CacheAppendOp>())
    if (slotOf(append.getCache().getType()).isQuantized())
      return false;
  return width % 4 == 0 && llvm::isPowerOf2_64(static_cast<uint64_t>(lanes)) &&
         lanes <= sharing->subgroup;
}

/// Of a row with several heads they lie in workgroup memory, by head, or where lanes have a head
/// together in these.
SmallVector<Value> RowExpressions::statisticsOf(Operation *op, Value row) {
  Value input = op->getOperand(0);
  const int64_t heads = headsOf(op), width = widthOf(input) / heads;
  auto compute = [&](Value start, const OwnColumns *columns = nullptr) {
    return *callCase<SmallVector<Value>>(Statistics{*this, input, row, width, start, columns}, op);
  };
  if (heads == 1)
    return compute({});
  if (lanesShareHeads(op)) {
    for (const OwnColumns &own : sharing->kept) {
      Value start = p.named(p.sub(own.first, p.rem(own.first, width)), "head_start");
      ofColumns[{op, own.first}] = compute(start, &own);
    }
    return {};
  }
  SmallVector<Value> byHead;
  p.loop("head", p.thread(), p.c(heads), p.blockThreads(), [&](Value head) {
    for (Value value : compute(p.named(p.mul(head, width), "head_start"))) {
      byHead.push_back(p.shared(fmt::format("of_heads{}", ofHeads++), p.f32, heads));
      p.store(value, byHead.back(), head);
    }
  });
  p.barrier();
  return byHead;
}

int64_t RowExpressions::sharedBytesOfRow(KernelOp kernel) {
  int64_t values = 0;
  for (Operation &op : kernel.getBody().front())
    if (const int64_t heads = headsOf(&op); heads > 1)
      values += heads * (isa<LayerNormOp>(op) ? 3 : 1);
  return values * 4;
}

//===----------------------------------------------------------------------===//
// Elements
//===----------------------------------------------------------------------===//

Value RowExpressions::evaluate(Value value, const Position &position) {
  if (depth == 0 && !keepsRow())
    evaluated.clear();
  ++depth;
  Value result = evaluateOnce(value, position);
  --depth;
  return result;
}

/// What the value was evaluated to, if it can be used here: in this block, or for a row that is
/// kept in one around it, too.
Value RowExpressions::known(Value value, const Position &position) {
  for (Block *block = p.b.getInsertionBlock(); block; block = block->getParentOp()->getBlock()) {
    const Key key{value.getAsOpaquePointer(), position.row.getAsOpaquePointer(),
                  position.col.getAsOpaquePointer(), block,
                  reinterpret_cast<const void *>(position.lanes)};
    if (auto found = evaluated.find(key); found != evaluated.end())
      return found->second;
    if (!keepsRow() || isa<func::FuncOp>(block->getParentOp()))
      break;
  }
  return {};
}

Value RowExpressions::evaluateOnce(Value value, const Position &position) {
  if (Value before = known(value, position))
    return before;
  Value result;
  if (auto loader = loaders.find(value); loader != loaders.end())
    result = loader->second(position);
  else if (isa<BlockArgument>(value))
    result = readElement(p, value, p.add(rowStart(position.row, widthOf(value)), position.col),
                         position.lanes);
  else
    result = evaluateOp(value.getDefiningOp(), position);
  evaluated[{value.getAsOpaquePointer(), position.row.getAsOpaquePointer(),
             position.col.getAsOpaquePointer(), p.b.getInsertionBlock(),
             reinterpret_cast<const void *>(position.lanes)}] = result;
  return result;
}

Value RowExpressions::index(Value argument, Value row) {
  if (auto known = indices.find({argument, row}); known != indices.end())
    return known->second;
  return p.load(p.argument(argument), row);
}

/// An element of the result, by operation: those that have a case here are computed.
struct RowExpressions::Element {
  RowExpressions &rows;
  Operation *op;
  const Position &position;
  PhaseBuilder &p = rows.p;

  Value input(unsigned i) { return rows.evaluate(op->getOperand(i), position); }
  int64_t heads = headsOf(op), headWidth = widthOf(op->getResult(0)) / heads;
  /// One for each column of a head.
  Value parameter(Value argument) {
    return readParameter(p, argument, heads == 1 ? position.col : p.rem(position.col, headWidth),
                         position.lanes);
  }
  /// offset + weight, of a norm.
  template <typename Norm> Value weight(Norm norm) {
    Value weight = parameter(norm.getWeight());
    const double offset = norm.getOffset().convertToDouble();
    return offset == 0 ? weight : p.addf(p.cf(offset), weight);
  }
  Value statistic(unsigned i) {
    if (heads > 1 && rows.keepsRow()) {
      auto partner = rows.partnerOf.find(position.col);
      Value col = partner == rows.partnerOf.end() ? position.col : partner->second;
      if (auto own = rows.ofColumns.find({op, col}); own != rows.ofColumns.end())
        return own->second[i];
    }
    auto found = rows.statistics.find({op, position.row});
    assert(found != rows.statistics.end() && "prepareRow comes before evaluate");
    Value value = found->second[i];
    return heads == 1 ? value : p.load(value, p.div(position.col, headWidth));
  }

  Value operator()(GatherRowsOp gather) {
    return rows.evaluate(gather.getInput(), {rows.index(gather.getRows(), position.row),
                                             position.col, position.lanes});
  }
  Value operator()(EmbeddingOp embedding) {
    Value table = embedding.getTable();
    WeightReader reader(p, p.argument(table), cast<RankedTensorType>(table.getType()));
    Value x = reader.element(rows.index(embedding.getIds(), position.row), position.col);
    const double factor = embedding.getScale().convertToDouble();
    return factor == 1 ? x : p.mulf(x, p.cf(factor));
  }
  Value operator()(RmsNormOp norm) { return p.mulf(p.mulf(input(0), statistic(0)), weight(norm)); }
  Value operator()(LayerNormOp norm) {
    Value x = p.subf(p.subf(input(0), statistic(0)), statistic(1));
    x = p.mulf(p.mulf(x, statistic(2)), weight(norm));
    return norm.getBias() ? p.addf(x, parameter(norm.getBias())) : x;
  }
  Value operator()(SoftmaxOp) {
    return p.mulf(p.exp(p.subf(input(0), statistic(0))), statistic(1));
  }
  Value operator()(CastOp cast) {
    return rounded(p, *elementTypeOf(cast.getOutput().getType()), input(0));
  }
  Value operator()(ActivationOp activation) {
    return emitActivation(p, activation.getFunction(), p.named(input(0), "x"));
  }
  Value operator()(AddOp) { return p.addf(input(0), input(1)); }
  Value operator()(MulOp) { return p.mulf(input(0), input(1)); }
  Value operator()(ScaleOp scale) {
    const double factor = scale.getFactor().convertToDouble();
    Value x = factor == 1 ? input(0) : p.mulf(input(0), p.cf(factor));
    return emitSoftcap(p, scale.getSoftcap().convertToDouble(), x);
  }
  Value operator()(RopeOp rope) { return rows.rope(rope, position); }
};

Value RowExpressions::evaluateOp(Operation *op, const Position &position) {
  if (position.lanes > 1 && !isWideAt(op)) {
    SmallVector<Value> elements;
    for (int64_t i = 0; i < position.lanes; ++i)
      elements.push_back(evaluateOnce(op->getResult(0), {position.row, p.add(position.col, i)}));
    return p.vector(elements);
  }
  return *callCase<Value>(Element{*this, op, position}, op); // checkOperations refuses others
}

bool RowExpressions::hasCode(Operation *op) {
  if (kindOf(op) == OpKind::Stores)
    return isa<CacheAppendOp>(op);
  return hasCase<Element>(op) && (kindOf(op) != OpKind::Statistics || hasCase<Statistics>(op));
}

RowExpressions::Angle RowExpressions::angleOf(RopeOp op, const Position &position) {
  const int64_t rotaryDim = op.getRotaryDim(), half = rotaryDim / 2;
  Value pair = p.rem(position.col, static_cast<int64_t>(op.getHeadDim()));
  if (op.getPairing() != Pairing::HalfSplit)
    pair = p.div(pair, 2);
  Value row = index(op.getPositions(), position.row), table = op.getTable();
  Value at = p.named(p.add(p.mul(row, rotaryDim), p.rem(pair, half)), "angle");
  return {readElement(p, table, at, position.lanes),
          readElement(p, table, p.add(at, half), position.lanes)};
}

void RowExpressions::readAngle(RopeOp op, const Position &position) {
  if (op.getRotaryDim() > 0 && (position.lanes == 1 || isWideAt(op)))
    angles[op] = angleOf(op, position);
}

Value RowExpressions::rope(RopeOp op, const Position &position) {
  const int64_t rotaryDim = op.getRotaryDim(), half = rotaryDim / 2;
  const auto headDim = static_cast<int64_t>(op.getHeadDim());
  Value x = p.named(evaluate(op.getInput(), position), "x");
  if (half == 0)
    return x;
  if (findPartner) {
    const Partner found = findPartner(op, position.col);
    if (!found.col)
      return x;
    Value partner = evaluate(op.getInput(), {position.row, found.col, position.lanes});
    const auto [cosine, sine] = angleOf(op, position);
    return p.addf(p.mulf(x, cosine), p.mulf(found.isFirst ? p.negf(partner) : partner, sine));
  }
  const bool halfSplit = op.getPairing() == Pairing::HalfSplit;
  Value inHead = p.named(p.rem(position.col, headDim), "in_head"), isFirst;
  isFirst =
      halfSplit ? p.lessThan(inHead, p.c(half)) : p.cmp(Predicate::eq, p.rem(inHead, 2), p.c(0));
  isFirst = p.named(isFirst, "is_first");
  const int64_t apart = halfSplit ? half : 1;
  Value partnerCol = p.select(isFirst, p.add(position.col, apart), p.sub(position.col, apart));
  // Columns that do not rotate are their own partners.
  Value rotates;
  if (rotaryDim < headDim) {
    rotates = p.named(p.lessThan(inHead, p.c(rotaryDim)), "rotates");
    partnerCol = p.select(rotates, partnerCol, position.col);
  }
  partnerCol = p.named(partnerCol, "partner_col");
  partnerOf[partnerCol] = position.col;
  Value partner =
      p.named(evaluate(op.getInput(), {position.row, partnerCol, position.lanes}), "partner");
  const auto known = angles.find(op);
  const auto [cosine, sine] = known != angles.end() ? known->second : angleOf(op, position);
  Value turned = p.mulf(p.select(isFirst, p.negf(partner), partner), sine);
  Value rotated = p.addf(p.mulf(x, cosine), turned);
  return rotates ? p.select(rotates, rotated, x) : rotated;
}

//===----------------------------------------------------------------------===//
// Stores
//===----------------------------------------------------------------------===//

int64_t RowExpressions::lanesOf(ArrayRef<Sink> sinks) {
  return widthOf(sinks[0].value) % 4 == 0 ? 4 : 1;
}

void RowExpressions::store(ArrayRef<Sink> sinks, const Position &position) {
  put(sinks, evaluateAll(sinks, position), position);
}

SmallVector<Value> RowExpressions::evaluateAll(ArrayRef<Sink> sinks, const Position &position) {
  SmallVector<Value> values;
  if (!keepsRow())
    evaluated.clear();
  ++depth;
  for (const Sink &sink : sinks)
    values.push_back(evaluate(sink.value, position));
  --depth;
  return values;
}

void RowExpressions::put(ArrayRef<Sink> sinks, ValueRange values, const Position &position) {
  const View view = position.lanes > 1 ? View::Quads : View::Elements;
  for (auto [sink, value] : llvm::zip(sinks, values)) {
    const int64_t width = widthOf(sink.value);
    auto storeAt = [&, value = value](Value buffer, Type element, Value row) {
      writeElement(p, value, buffer, *elementTypeOf(element),
                   p.add(rowStart(row, width), position.col));
    };
    if (auto append = dyn_cast<CacheAppendOp>(sink.op)) {
      Type element = append.getCache().getType().getElementType();
      ifStored(append, position.row, [&](Value slot) {
        storeAt(p.argument(append.getCache(), Access::ReadWrite, view), element, slot);
      });
    } else {
      storeAt(p.result(sink.resultIndex, Access::Write, view), sink.value.getType(), position.row);
    }
  }
}

/// In the slot of a row, where it has one.
void RowExpressions::ifStored(CacheAppendOp append, Value row,
                              llvm::function_ref<void(Value slot)> then) {
  Value slot = p.named(index(append.getSlots(), row), "slot");
  p.ifThen(p.cmp(Predicate::sge, slot, p.c(0)), [&] { then(slot); });
}

void RowExpressions::appendBlock(CacheAppendOp append, Value row, Value block) {
  ifStored(append, row, [&](Value slot) {
    writeCacheBlock(p, p.argument(append.getCache(), Access::ReadWrite),
                    append.getCache().getType(), slot, block,
                    [&](Value col) { return evaluate(append.getValues(), {row, col}); });
  });
}
