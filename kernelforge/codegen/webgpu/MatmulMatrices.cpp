// Matmuls by matrices of a subgroup: a stage of K of both operands lies in workgroup memory as f16,
// and each subgroup multiplies matrices of some rows with those of some columns of it. For matmuls
// whose operands are rounded to f16.
#include "kernelforge/codegen/simt/MatmulEmitter.h"
#include "kernelforge/codegen/simt/MatmulSchedule.h"
#include "kernelforge/codegen/webgpu/Methods.h"
#include "kernelforge/ir/Numerics.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::webgpu;
using namespace kernelforge::simt::tiles;

namespace {

class MatmulMatricesEmitter final : public TileEmitter {
public:
  MatmulMatricesEmitter(ModuleOp module, const KernelAnalysis &kernel,
                        ArrayRef<SegmentGroup> groups, StringRef entry, const MatrixKnobs &knobs,
                        int partialSums)
      : TileEmitter(module, kernel, groups, entry, knobs.cut, knobs.threads(), partialSums),
        knobs(knobs), isTransposed(kernel.matmul().getTranspose()) {
    memory = p.shared("tiles", p.vec(p.i32, 4), knobs.sharedVectors(segments, isTransposed));
    strips = knobs.strip(segments, isTransposed);
    placeTiles();
    placeSubgroup();
  }

private:
  void placeTiles() {
    transformer::MatmulOp matmul = kernel.matmul();
    constexpr ElementType f16 = ElementType::F16;
    Operand rows =
        cut.pack ? Operand(p, Phases::inputWorkspace, f16, Phases::inputColumns(matmul.getK()), f16)
                 : Operand(p, matmul.getInput(), 8, f16);
    const Way way = isTransposed ? Way::AcrossK : Way::AlongK;
    makeTiles(tileOf(p, rows, Way::AlongK, cut.bm, cut.bk, {0, knobs.rowStride()}),
              [&](Value weight, int64_t segment) {
                return weightTile(p, weight, way, 8, cut.bn, cut.bk,
                                  {columnsBegin(segment), knobs.columnStride(isTransposed)}, f16,
                                  cut.strict);
              });
  }

  int64_t columnsBegin(int64_t segment) const {
    return knobs.rowVectors() + segment * knobs.columnVectors(isTransposed);
  }

  void placeSubgroup() {
    Value subgroup = p.named(p.div(p.thread(), matrixThreads), "subgroup");
    down = p.named(p.div(subgroup, knobs.wn), "subgroup_row");
    Value across = p.named(p.rem(subgroup, knobs.wn), "subgroup_col");
    rowsAt = p.named(p.mul(down, knobs.rowsOfSubgroup() * knobs.rowStride()), "rows_at");
    const int64_t apart = isTransposed
                              ? knobs.columnsOfSubgroup() / 8
                              : knobs.columnsOfSubgroup() * knobs.columnStride(isTransposed);
    colsAt = p.named(p.mul(across, apart), "cols_at");
    held.down = knobs.rowsOfSubgroup() / matrixSize;
    held.across = knobs.columnsOfSubgroup() / matrixSize;
    held.together = strips.rows / matrixSize;
    held.part = down;
    held.quad = p.named(p.mul(across, knobs.columnsOfSubgroup() / 4), "col_quad");
    held.zero = p.zeroMatrix(p.matrix(PhaseBuilder::Side::Sum, p.f32, matrixSize, matrixSize));
  }

  void multiplyStage(MutableArrayRef<Value> sums, Value) override {
    Type left = p.matrix(PhaseBuilder::Side::Left, p.b.getF16Type(), matrixSize, matrixSize);
    Type right = p.matrix(PhaseBuilder::Side::Right, p.b.getF16Type(), matrixSize, matrixSize);
    const int64_t columnStride = knobs.columnStride(isTransposed);
    for (int64_t k = 0; k < cut.bk; k += matrixSize) {
      SmallVector<Value> a, b;
      for (int64_t i = 0; i < held.down; ++i)
        a.push_back(p.named(p.loadMatrix(left, memory,
                                         p.add(rowsAt, i * matrixSize * knobs.rowStride() + k / 8),
                                         knobs.rowStride()),
                            "a"));
      for (int64_t s = 0; s < segments; ++s)
        for (int64_t j = 0; j < held.across; ++j) {
          const int64_t at = isTransposed ? k * columnStride + j * matrixSize / 8
                                          : j * matrixSize * columnStride + k / 8;
          b.push_back(p.named(p.loadMatrix(right, memory, p.add(colsAt, columnsBegin(s) + at),
                                           columnStride, /*columnMajor=*/!isTransposed),
                              "b"));
        }
      for (size_t i = 0; i < a.size(); ++i)
        for (size_t j = 0; j < b.size(); ++j) {
          Value &sum = sums[i * b.size() + j];
          sum = p.multiplyMatrices(a[i], b[j], sum);
        }
    }
  }

  Value rowOfTile(int64_t i) override {
    return p.add(p.mul(down, knobs.rowsOfSubgroup()), i * matrixSize);
  }
  Value rowOfStrip(int64_t i) override { return p.c(i * matrixSize); }

  void put(ArrayRef<Value> sums, int64_t i, int64_t segment, Value memory, Value at,
           int64_t stride) override {
    for (int64_t j = 0; j < held.across; ++j)
      p.storeMatrix(sumOf(sums, i, segment, j), memory, p.add(at, j * matrixSize / 4), stride);
  }

  /// Matrices are stored as a whole, which a tile must be for that: rows and columns that are not
  /// there are left out in strips.
  void storeDirectly(ArrayRef<Value> sums, const SegmentGroup &group) override {
    Value isWhole;
    auto input = cast<RankedTensorType>(kernel.matmul().getInput().getType());
    if (input.isDynamicDim(0) || input.getDimSize(0) % cut.bm != 0)
      isWhole = p.lessThan(p.add(grid.firstRow, cut.bm - 1), grid.totalRows);
    if (group.n % cut.bn != 0) {
      Value across = p.lessThan(p.add(grid.firstCol, cut.bn - 1), p.c(group.n));
      isWhole = isWhole ? p.b.create<arith::AndIOp>(p.loc, isWhole, across) : across;
    }
    if (!isWhole) {
      storeMatrices(sums, group);
      return;
    }
    auto whole = [&] {
      storeMatrices(sums, group);
      return SmallVector<Value>();
    };
    auto inParts = [&] {
      storeInStrips(sums, group);
      return SmallVector<Value>();
    };
    p.ifElse("tile", isWhole, TypeRange(), whole, inParts);
  }

  void storeMatrices(ArrayRef<Value> sums, const SegmentGroup &group) {
    Value output = p.result(group.sinks[0].resultIndex, Access::Write, View::Quads);
    Value quad = p.named(p.add(p.quarter(grid.firstCol), held.quad), "first_quad");
    for (int64_t i = 0; i < held.down; ++i) {
      Value row = p.named(p.add(grid.firstRow, rowOfTile(i)), "row");
      Value at = p.named(p.add(p.mul(row, group.n / 4), quad), "at");
      put(sums, i, 0, output, at, group.n / 4);
    }
  }

  const MatrixKnobs &knobs;
  bool isTransposed;
  Value down;           ///< the subgroup's place in the tile, from above
  Value rowsAt, colsAt; ///< where its rows and columns begin in memory
};

/// Unusable, naming the kernel, where a target has no matrices of that size, or subgroups of which
/// it is not known that they are of `matrixThreads`.
Status checkMatrices(const Target &target, const std::string &name) {
  const std::string feature = fmt::format("subgroup-matrix-f16-{0}x{0}x{0}", matrixSize);
  auto refuse = [&](const std::string &why) {
    return unusable("kernel cannot be compiled by matrices", name, why, "use another method");
  };
  if (!target.has(feature))
    return refuse("the target does not have " + feature);
  if (!target.has(emulatedMatrices) &&
      (target.limits.subgroupMin != matrixThreads || target.limits.subgroupMax != matrixThreads))
    return refuse(fmt::format("its subgroups have {} to {} threads, and must have {}",
                              target.limits.subgroupMin, target.limits.subgroupMax, matrixThreads));
  return {};
}

class MatmulMatricesMethod final : public Method {
public:
  std::string_view name() const override { return "matrices"; }

  Status supports(const KernelAnalysis &kernel, const Target &target) const override {
    KF_CHECK(checkMatrices(target, kernel.name()));
    KF_CHECK(tiles::supports(kernel, [](Operation *op, Numerics numerics) {
      return numerics == Numerics::F16 && isa<transformer::MatmulOp>(op);
    }));
    if (numericsOf(kernel.matmul()) != Numerics::F16)
      return unusable("kernel cannot be compiled by matrices", kernel.name(),
                      "its operands are not rounded to f16",
                      "say so by its numerics, or use another method");
    const ScheduleSpace space = matrixSpace(kernel, target);
    KF_TRY(const MatrixKnobs knobs, matrixKnobs(kernel, target, space.analytic));
    return checkFits(
        kernel, target,
        16 * knobs.sharedVectors(segmentsAtOnce(kernel), kernel.matmul().getTranspose()),
        knobs.threads());
  }

  ScheduleSpace space(const KernelAnalysis &kernel, const Target &target) const override {
    return matrixSpace(kernel, target);
  }

  Expected<Launching> emit(ModuleOp module, const KernelAnalysis &kernel, const Target &target,
                           StringRef entry, const KnobValues &schedule) const override {
    KF_TRY(const MatrixKnobs knobs, matrixKnobs(kernel, target, schedule));
    Phases phases(module, kernel, target, entry, knobs.cut, ElementType::F16);
    return phases.emit([&](ArrayRef<SegmentGroup> groups, StringRef name, int partialSums) {
      return MatmulMatricesEmitter(module, kernel, groups, name, knobs, partialSums).emit();
    });
  }

  std::vector<std::string> describe(const KernelAnalysis &kernel,
                                    const KnobValues &schedule) const override {
    std::vector<std::string> lines = simt::describe(kernel);
    lines.back() = fmt::format(
        "{} x {} results a workgroup, {} x {} subgroups with matrices of 16 x 16, stages of {}",
        schedule.at("bm"), schedule.at("bn"), schedule.at("wm"), schedule.at("wn"),
        schedule.at("bk"));
    if (schedule.at("ksplit") > 1)
      lines.back() += fmt::format(", K shared out among {}", schedule.at("ksplit"));
    return lines;
  }
};

} // namespace

const Method &webgpu::matmulMatrices() {
  static const MatmulMatricesMethod matrices;
  return matrices;
}
