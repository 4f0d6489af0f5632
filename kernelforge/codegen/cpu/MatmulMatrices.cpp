// Panels of bf16 that AMX multiplies, tile registers of 16 rows of 64 bytes: sums of 16 x 16 f32,
// rows of 16 x 32 elements of K, weights of 16 pairs of elements of K by 16 columns.
#include "kernelforge/codegen/cpu/MatmulPanels.h"
#include "kernelforge/codegen/cpu/MatrixRegisters.h"
#include "kernelforge/codegen/cpu/Numbers.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;
using namespace kernelforge::cpu::matmul;

namespace {

/// A tile of `mr` rows, up to 32, has K in blocks of 32, in each block row after row: 64 bytes
/// each, so that the rows of a tile register are one block of memory.
class MatrixPanels : public Panels {
public:
  MatrixPanels(KernelBuilder &k, const Knobs &knobs, PanelForm form, int64_t depth)
      : Panels(k, knobs, form, depth), rowTiles(ceilDiv(knobs.mr, lanes)), matrix(k) {
    assert(ofWeights(0) < MatrixRegisters::count && "sums, rows and weights have registers");
  }

  void storeRow(Value tile, Value r, Value column, Value x, int64_t count) override {
    Value block = k.div(column, blockK);
    Value inBlock = k.sub(column, k.mul(block, blockK));
    Value to = k.at(tile, k.add(k.mul(block, knobs.mr * rowBytesOfTile),
                                k.add(k.mul(r, rowBytesOfTile), k.mul(inBlock, 2))));
    k.store(bfloat16Bits(k, firstOf(x, count)), to, 2);
    // What is left of the last block.
    const int64_t last = roundUp(depth, lanes);
    if (last % blockK == 0)
      return;
    Value isLast = k.cmp(arith::CmpIPredicate::eq, column, k.c(last - lanes));
    k.ifThen(isLast, [&] {
      Value zeros = k.b.create<arith::ConstantOp>(k.loc, k.b.getZeroAttr(k.vec(k.i16)));
      k.store(zeros, k.at(to, lanes * 2), 2);
    });
  }

  void beginTask() override;
  void endTask() override { matrix.release(); }

  void multiply(ArrayRef<Value> rows, ArrayRef<Value> panels, int64_t count, Value out,
                Value isFirst, WhereRoom whereRoom, const Ahead &ahead) override;

private:
  static constexpr int64_t blockK = MatrixRegisters::depth,
                           rowBytesOfTile = MatrixRegisters::rowBytes;

  // What the registers hold.
  int64_t ofSums(int64_t rowTile, int64_t group) const { return rowTile * knobs.groups + group; }
  int64_t ofRows(int64_t rowTile) const { return rowTiles * knobs.groups + rowTile; }
  /// Those left over, in turns.
  int64_t ofWeights(int64_t group) const {
    const int64_t first = rowTiles * (knobs.groups + 1);
    return first + group % (MatrixRegisters::count - first);
  }
  int64_t rowsOf(int64_t rowTile) const { return std::min(lanes, knobs.mr - rowTile * lanes); }

  void step(Value rows, ArrayRef<Value> panels, int64_t i);
  void multiplySteps(Value rows, ArrayRef<Value> panels, int64_t steps, const Ahead &ahead,
                     bool fetchesRows);

  const int64_t rowTiles;
  MatrixRegisters matrix;
};

} // namespace

void MatrixPanels::beginTask() {
  SmallVector<int64_t> rows(MatrixRegisters::count, lanes);
  for (int64_t t = 0; t < rowTiles; ++t) {
    rows[size_t(ofRows(t))] = rowsOf(t);
    for (int64_t g = 0; g < knobs.groups; ++g)
      rows[size_t(ofSums(t, g))] = rowsOf(t);
  }
  matrix.configure(rows);
}

/// Products of the block of K that comes after `i` others.
void MatrixPanels::step(Value rows, ArrayRef<Value> panels, int64_t i) {
  for (int64_t t = 0; t < rowTiles; ++t)
    matrix.load(ofRows(t), k.at(rows, (i * knobs.mr + t * lanes) * rowBytesOfTile), rowBytesOfTile);
  for (auto [g, panel] : llvm::enumerate(panels)) {
    matrix.load(ofWeights(int64_t(g)), k.at(panel, i * lanes * rowBytesOfTile), rowBytesOfTile);
    for (int64_t t = 0; t < rowTiles; ++t)
      matrix.multiply(ofSums(t, int64_t(g)), ofRows(t), ofWeights(int64_t(g)));
  }
}

/// All blocks of K. Reading from a cache of all cores, line after line as it is needed, takes
/// longer than the products: so in each block lines are asked for that come next, of the next tile
/// of rows as many as this one has, of the next panel's weights a share.
void MatrixPanels::multiplySteps(Value rows, ArrayRef<Value> panels, int64_t steps,
                                 const Ahead &ahead, bool fetchesRows) {
  constexpr int64_t line = 64;
  const int64_t tileBytes = knobs.mr * rowBytesOfTile; // of a block of K
  const int64_t share = ceilDiv(ahead.bytes, line * steps * (knobs.mc / knobs.mr)) * line;
  auto fetch = [&](Value block, Value fromRows) {
    for (Value weights : ahead.weights)
      for (int64_t offset = 0; offset < share; offset += line)
        k.prefetch(
            k.at(weights, k.add(k.mul(k.add(k.mul(ahead.tile, steps), block), share), offset)));
    for (int64_t offset = 0; fetchesRows && offset < tileBytes; offset += line)
      k.prefetch(k.at(fromRows, knobs.mr * rowBytes() + offset));
  };
  const int64_t main = steps / knobs.unroll * knobs.unroll;
  k.loop(k.c(0), k.c(main), knobs.unroll, [&](Value i) {
    SmallVector<Value> from;
    for (Value panel : panels)
      from.push_back(k.at(panel, k.mul(i, lanes * rowBytesOfTile)));
    Value fromRows = k.at(rows, k.mul(i, tileBytes));
    for (int64_t j = 0; j < knobs.unroll; ++j) {
      fetch(k.add(i, j), k.at(fromRows, j * tileBytes));
      step(fromRows, from, j);
    }
  });
  for (int64_t i = main; i < steps; ++i)
    step(rows, panels, i);
}

void MatrixPanels::multiply(ArrayRef<Value> rows, ArrayRef<Value> panels, int64_t count, Value out,
                            Value isFirst, WhereRoom whereRoom, const Ahead &ahead) {
  const int64_t stride = knobs.nb * 4;
  auto sumsAt = [&](int64_t t, int64_t g) { return k.at(out, t * lanes * stride + g * lanes * 4); };
  auto forEachSum = [&](llvm::function_ref<void(int64_t t, int64_t g)> body) {
    for (int64_t t = 0; t < rowTiles; ++t)
      for (int64_t g = 0; g < knobs.groups; ++g)
        body(t, g);
  };
  auto zero = [&] { forEachSum([&](int64_t t, int64_t g) { matrix.zero(ofSums(t, g)); }); };
  if (isFirst) {
    k.ifThen(isFirst, zero);
    k.ifThen(k.not_(isFirst), [&] {
      forEachSum([&](int64_t t, int64_t g) {
        whereRoom(g, [&] { matrix.load(ofSums(t, g), sumsAt(t, g), stride); });
      });
    });
  } else {
    zero();
  }
  const int64_t steps = ceilDiv(count, blockK);
  if (ahead.rows) {
    k.ifThen(ahead.rows, [&] { multiplySteps(rows[0], panels, steps, ahead, true); });
    k.ifThen(k.not_(ahead.rows), [&] { multiplySteps(rows[0], panels, steps, ahead, false); });
  } else {
    multiplySteps(rows[0], panels, steps, ahead, false);
  }
  forEachSum([&](int64_t t, int64_t g) {
    whereRoom(g, [&] { matrix.store(ofSums(t, g), sumsAt(t, g), stride); });
  });
}

std::unique_ptr<Panels> matmul::createMatrixPanels(KernelBuilder &k, const Knobs &knobs,
                                                   PanelForm form, int64_t depth) {
  return std::make_unique<MatrixPanels>(k, knobs, form, depth);
}
