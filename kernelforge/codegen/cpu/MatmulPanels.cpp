// Panels of f32, multiplied by multiply-adds, and of pairs of bf16, by AVX512-BF16's. Both take 4
// bytes of each row and column at once, and so have one micro-kernel.
#include "kernelforge/codegen/cpu/MatmulPanels.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;
using namespace kernelforge::cpu::matmul;

//===----------------------------------------------------------------------===//
// Weights
//===----------------------------------------------------------------------===//

Value Panels::firstOf(Value x, int64_t count) {
  return count < lanes ? k.select(k.firstLanes(k.c(count)), x, k.splat(0)) : x;
}

void Panels::unpack(WeightReader &reader, Value group, Value k0, int64_t count, Value panel) {
  const int64_t block = reader.blockK(), columnBytes = form.elementBytes() * lanes;
  Value firstBlock = k.div(k0, block);
  auto unpackOne = [&](Value index, int64_t elements) {
    unpackBlock(reader, group, k.add(firstBlock, index), elements,
                k.at(panel, k.mul(index, block * columnBytes)));
  };
  k.loop(k.c(0), k.c(count / block), 1, [&](Value index) { unpackOne(index, block); });
  if (count % block != 0)
    unpackOne(k.c(count / block), count % block);
  for (int64_t i = roundUp(count, 2); i < roundUp(count, form.step()); i += 2)
    k.storeVec(k.splat(0), k.at(panel, i * columnBytes));
}

void Panels::unpackBlock(WeightReader &reader, Value group, Value block, int64_t count, Value to) {
  if (form.unit == PanelForm::Unit::Floats)
    return reader.unpackBlock(group, block, count, [&](int64_t i, Value values) {
      k.storeVec(form.rounds ? roundTo(k, ElementType::BF16, values) : values,
                 k.at(to, i * lanes * 4));
    });
  auto store = [&](int64_t pair, Value bits) { k.store(bits, k.at(to, pair * lanes * 4), 4); };
  if (reader.isBfloat16()) {
    for (int64_t i = 0; i < count; i += 2)
      store(i / 2, reader.loadBfloat16Pair(group, block, i, i + 1 < count));
    return;
  }
  SmallVector<Value> waiting(size_t(roundUp(count, 2)));
  auto visit = [&](int64_t i, Value values) {
    waiting[size_t(i)] = values;
    Value first = waiting[size_t(i) / 2 * 2], second = waiting[size_t(i) / 2 * 2 + 1];
    if (!first || !second)
      return;
    Value both = k.intrinsic("llvm.x86.avx512bf16.cvtne2ps2bf16.512",
                             k.vec(k.b.getBF16Type(), 2 * lanes), {second, first});
    SmallVector<int64_t> order; // of each column the two
    for (int64_t lane = 0; lane < lanes; ++lane)
      order.append({lane, lane + lanes});
    Value bits = k.b.create<vector::BitCastOp>(k.loc, k.vec(k.i16, 2 * lanes), both);
    store(i / 2, k.shuffle(bits, bits, order));
  };
  reader.unpackBlock(group, block, count, visit);
  if (count % 2 != 0)
    visit(count, k.splat(0));
}

//===----------------------------------------------------------------------===//
// Vectors
//===----------------------------------------------------------------------===//

namespace {

/// Rows lie side by side, 4 bytes after 4 bytes, so that the micro-kernel reads one stream.
class VectorPanels : public Panels {
public:
  VectorPanels(KernelBuilder &k, const Knobs &knobs, PanelForm form, int64_t depth)
      : Panels(k, knobs, form, depth), isPairs(form.unit == PanelForm::Unit::Pairs) {}

  void storeRow(Value tile, Value r, Value column, Value x, int64_t count) override {
    x = firstOf(x, count);
    if (isPairs)
      x = k.b.create<vector::BitCastOp>(
          k.loc, k.vec(k.i32, lanes / 2),
          k.intrinsic("llvm.x86.avx512bf16.cvtneps2bf16.512", k.vec(k.b.getBF16Type()), {x}));
    else if (form.rounds)
      x = roundTo(k, ElementType::BF16, x);
    Value to = k.at(k.at(tile, k.mul(r, 4)), k.mul(column, knobs.mr * form.elementBytes()));
    for (int64_t i = 0; i < (isPairs ? ceilDiv(count, 2) : count); ++i)
      k.store(k.b.create<vector::ExtractOp>(k.loc, x, ArrayRef<int64_t>{i}),
              k.at(to, i * knobs.mr * 4), 4);
  }

  void multiply(ArrayRef<Value> rows, ArrayRef<Value> panels, int64_t count, Value out,
                Value isFirst, WhereRoom whereRoom, const Ahead &ahead) override;

private:
  /// Asks in the loop's body that begins with step `i` for its share of the next panel's weights.
  void askAhead(Value i, int64_t bodies, const Ahead &ahead);
  /// sums += the products of all columns and rows of 4 bytes of K, the one after `i` others.
  void step(ArrayRef<Value> rows, ArrayRef<Value> panels, int64_t i, MutableArrayRef<Value> sums);

  const bool isPairs;
};

} // namespace

void VectorPanels::step(ArrayRef<Value> rows, ArrayRef<Value> panels, int64_t i,
                        MutableArrayRef<Value> sums) {
  const auto numGroups = int64_t(panels.size());
  const Type pairs = k.vec(k.b.getBF16Type(), 2 * lanes);
  SmallVector<Value> columns;
  for (Value panel : panels) {
    Value from = k.at(panel, i * lanes * 4);
    columns.push_back(isPairs ? k.load(pairs, from, 4) : k.loadVec(from));
  }
  for (int64_t r = 0; r < knobs.mr; ++r) {
    Value from = knobs.pack ? k.at(rows[0], (i * knobs.mr + r) * 4) : k.at(rows[size_t(r)], i * 4);
    Value x = k.broadcast(isPairs ? k.load(k.i32, from, 4) : k.loadF32(from));
    if (isPairs)
      x = k.b.create<vector::BitCastOp>(k.loc, cast<VectorType>(pairs), x);
    for (int64_t g = 0; g < numGroups; ++g) {
      Value &sum = sums[size_t(r * numGroups + g)];
      sum = isPairs ? k.intrinsic("llvm.x86.avx512bf16.dpbf16ps.512", k.vf32,
                                  {sum, columns[size_t(g)], x})
                    : k.fma(columns[size_t(g)], x, sum);
    }
  }
}

/// Few rows multiply a panel in less time than its weights take from memory, which is idle
/// meanwhile; of many rows the share would be less than a line.
void VectorPanels::askAhead(Value i, int64_t bodies, const Ahead &ahead) {
  constexpr int64_t line = 64;
  const int64_t lines = ceilDiv(ahead.bytes, line), askers = bodies * (knobs.mc / knobs.mr);
  if (askers > lines)
    return;
  const int64_t share = ceilDiv(lines, askers);
  Value body = k.add(k.mul(ahead.tile, bodies), k.div(i, knobs.unroll));
  for (Value weights : ahead.weights)
    for (int64_t l = 0; l < share; ++l)
      k.prefetch(k.at(weights, k.add(k.mul(body, share * line), l * line)));
}

void VectorPanels::multiply(ArrayRef<Value> rows, ArrayRef<Value> panels, int64_t count, Value out,
                            Value isFirst, WhereRoom whereRoom, const Ahead &ahead) {
  const int64_t unroll = knobs.unroll, mr = knobs.mr, numGroups = knobs.groups;
  const int64_t steps = ceilDiv(count, form.step());
  SmallVector<Value> sums(size_t(mr * numGroups), k.splat(0));
  const int64_t main = steps / unroll * unroll;
  if (main > 0)
    sums = k.loop(k.c(0), k.c(main), unroll, sums, [&](Value i, ValueRange carried) {
      SmallVector<Value> next(carried), fromPanels, fromRows;
      for (Value panel : panels)
        fromPanels.push_back(k.at(panel, k.mul(i, lanes * 4)));
      for (Value row : rows)
        fromRows.push_back(k.at(row, k.mul(i, knobs.pack ? mr * 4 : 4)));
      askAhead(i, main / unroll, ahead);
      for (int64_t j = 0; j < unroll; ++j)
        step(fromRows, fromPanels, j, next);
      return next;
    });
  for (int64_t i = main; i < steps; ++i)
    step(rows, panels, i, sums);

  auto storeAll = [&](bool accumulate) {
    for (int64_t r = 0; r < mr; ++r)
      for (int64_t g = 0; g < numGroups; ++g)
        whereRoom(g, [&] {
          Value to = k.at(out, (r * knobs.nb + g * lanes) * 4);
          Value sum = sums[size_t(r * numGroups + g)];
          k.storeVec(accumulate ? k.addf(k.loadVec(to), sum) : sum, to);
        });
  };
  if (!isFirst)
    return storeAll(false);
  k.ifThen(isFirst, [&] { storeAll(false); });
  k.ifThen(k.not_(isFirst), [&] { storeAll(true); });
}

std::unique_ptr<Panels> Panels::create(KernelBuilder &k, const Knobs &knobs, PanelForm form,
                                       int64_t depth) {
  if (form.unit == PanelForm::Unit::Tiles)
    return createMatrixPanels(k, knobs, form, depth);
  return std::make_unique<VectorPanels>(k, knobs, form, depth);
}
