// Rows of a matmul in parts, as sums of numbers of bf16.
#include "kernelforge/codegen/cuda/MatmulParts.h"
#include "kernelforge/codegen/cuda/WarpMatrices.h"

#include "kernelforge/codegen/simt/Epilogue.h"
#include "kernelforge/codegen/simt/PlaneReader.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;
using namespace kernelforge::cuda;
using namespace kernelforge::cuda::matmul;

int64_t cuda::matmul::partsOf(MatmulOp matmul) {
  const auto type = elementTypeOf(matmul.getInput().getType());
  if (!isa<BlockArgument>(matmul.getInput()) || !isHalf(*type))
    return 3;
  return type == ElementType::BF16 ? 1 : 2;
}

int64_t cuda::matmul::columnsOfProducts(int64_t rows, int64_t parts) {
  return static_cast<int64_t>(
      llvm::alignTo(static_cast<uint64_t>(rows * parts), WarpMatrices::columns));
}

namespace {

class PartsWriter {
public:
  PartsWriter(ModuleOp module, const KernelAnalysis &kernel, Value weight, int number,
              int64_t columns, StringRef entry)
      : p(module, kernel.kernel(), entry, rowThreads), units(p), matmul(kernel.matmul()),
        steps(weight.getType()), parts(partsOf(matmul)), columns(columns), reader(p, weight),
        words(p.workspace(2 * number, Access::Write, p.vec(p.i32, 4))),
        vectors(static_cast<int64_t>(matmul.getK()) / stepElements * threadsOfColumn) {
    if (steps.offset() > 0)
      begins = p.workspace(2 * number + 1, Access::Write, p.f32);
  }

  Phase emit() {
    p.waitForPrevious();
    row = p.block();
    RowExpressions expressions(
        p, {.lanes = 4, .subgroup = WarpMatrices::threads, .kept = {}, .keptWidth = 0});
    expressions.prepareRow(matmul.getInput(), row);
    const auto all = static_cast<int64_t>(llvm::alignTo(uint64_t(vectors), rowThreads));
    p.loop("vector", p.thread(), p.c(all), rowThreads, [&](Value number) {
      if (all == vectors) {
        write(expressions, number, {});
        return;
      }
      // All threads of a warp exchange values: some make again what others do.
      Value isThere = p.lessThan(number, p.c(vectors));
      Value last = p.add(p.rem(number, threadsOfColumn), vectors - threadsOfColumn);
      write(expressions, p.min(number, last), isThere);
    });
    return p.finish(p.rowsExtent(matmul.getInput().getType()));
  }

private:
  static constexpr int64_t rowThreads = 256;

  void write(RowExpressions &expressions, Value number, Value isThere) {
    number = p.named(number, "number");
    Value step = p.div(number, threadsOfColumn), quarter = p.rem(number, threadsOfColumn);
    SmallVector<SmallVector<Value>> pairs; // by run and pair, then part
    for (int64_t run : {0, 1}) {
      Value first = steps.columnOf(p, reader, step, run);
      Value col = p.named(p.add(first, p.mul(quarter, 4)), "col");
      Value x = p.named(expressions.evaluate(matmul.getInput(), {row, col, 4}), "x");
      for (int64_t i : {0, 2})
        pairs.push_back(
            units.partsOf(ElementType::BF16, parts, p.extract(x, i), p.extract(x, i + 1)));
    }
    for (int64_t part = 0; part < parts; ++part) {
      SmallVector<Value> four;
      for (const auto &pair : pairs)
        four.push_back(pair[static_cast<size_t>(part)]);
      Value column = p.add(p.mul(row, parts), part);
      auto store = [&] {
        p.storeVector(p.vector(four), words, p.add(p.mul(column, vectors), number));
      };
      if (isThere)
        p.ifThen(isThere, store);
      else
        store();
      if (begins)
        writeBegins(four, step, quarter, column, isThere);
    }
  }

  void writeBegins(ArrayRef<Value> four, Value step, Value quarter, Value column, Value isThere) {
    SmallVector<Value> sums;
    for (Value word : four) {
      Value low = widened(p, ElementType::BF16, word),
            high = widened(p, ElementType::BF16, word, /*high=*/true);
      sums.push_back(p.addf(low, high));
    }
    SmallVector<Value> ofGroups = {p.addf(sums[0], sums[1]), p.addf(sums[2], sums[3])};
    if (steps.groups() == 1)
      ofGroups = {p.addf(ofGroups[0], ofGroups[1])};
    for (Value &sum : ofGroups)
      for (int64_t mask : {1, 2}) {
        sum = p.named(sum, "sum");
        sum = p.addf(sum, p.shuffleXor(sum, mask, WarpMatrices::threads));
      }
    Value isFirst = p.cmp(arith::CmpIPredicate::eq, quarter, p.c(0));
    if (isThere)
      isFirst = p.b.create<arith::AndIOp>(p.loc, isFirst, isThere);
    p.ifThen(isFirst, [&] {
      for (auto [group, sum] : llvm::enumerate(ofGroups)) {
        Value number = p.add(p.mul(step, steps.groups()), static_cast<int64_t>(group));
        p.store(p.mulf(sum, p.cf(-static_cast<double>(steps.offset()))), begins,
                p.add(p.mul(number, columns), column));
      }
    });
  }

  PhaseBuilder p;
  WarpMatrices units;
  MatmulOp matmul;
  Steps steps;
  int64_t parts, columns; ///< of products
  PlaneReader reader;     ///< for the order of columns
  Value words, begins, row;
  int64_t vectors; ///< of 16 bytes, of a part of a row
};

} // namespace

Phase cuda::matmul::emitParts(ModuleOp module, const KernelAnalysis &kernel, Value weight,
                              int number, int64_t columns, StringRef entry) {
  return PartsWriter(module, kernel, weight, number, columns, entry).emit();
}
