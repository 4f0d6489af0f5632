// Matmuls by matrices of a subgroup: a stage of K of both operands lies in workgroup memory as f16,
// and each subgroup multiplies matrices of some rows with those of some columns of it. For matmuls
// whose operands are rounded to f16.
#include "kernelforge/codegen/webgpu/MatmulSchedule.h"
#include "kernelforge/codegen/webgpu/MatmulStages.h"
#include "kernelforge/codegen/webgpu/Methods.h"
#include "kernelforge/ir/Numerics.h"

#include "llvm/ADT/StringExtras.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::webgpu;
using namespace kernelforge::webgpu::matmul;

namespace {

/// Emits the tiles of one group.
class Emitter {
public:
  Emitter(ModuleOp module, const KernelAnalysis &kernel, const SegmentGroup &group, StringRef entry,
          const MatrixKnobs &knobs, int partialSums)
      : p(module, kernel.kernel(), entry, knobs.threads()), kernel(kernel), group(group),
        knobs(knobs), partialSums(partialSums), grid(p, kernel, group, knobs.cut),
        segments(static_cast<int64_t>(group.segments.size())),
        isTransposed(kernel.matmul().getTranspose()) {
    memory = p.shared("tiles", p.vec(p.i32, 4), knobs.sharedVectors(segments, isTransposed));
    makeTiles();
    placeSubgroup();
  }

  Phase emit() {
    const SmallVector<Value> sums = multiply();
    if (partialSums >= 0)
      storePartial(sums);
    else
      storeInStrips(sums);
    return p.finish(grid.grid());
  }

private:
  void makeTiles() {
    transformer::MatmulOp matmul = kernel.matmul();
    const Cut &cut = knobs.cut;
    constexpr ElementType f16 = ElementType::F16;
    Operand rows =
        cut.pack ? Operand(p, Phases::inputWorkspace, f16, Phases::inputColumns(matmul.getK()), f16)
                 : Operand(p, matmul.getInput(), 8, f16);
    tiles.push_back(tileOf(p, rows, Way::AlongK, cut.bm, cut.bk, {0, knobs.rowStride()}));
    const Way way = isTransposed ? Way::AcrossK : Way::AlongK;
    for (int64_t s = 0; s < segments; ++s) {
      tiles.push_back(weightTile(p, matmul.getWeights()[group.segments[s]], way, 8, cut.bn, cut.bk,
                                 {columnsBegin(s), knobs.columnStride(isTransposed)}, f16));
    }
  }

  int64_t columnsBegin(int64_t segment) const {
    return knobs.rowVectors() + segment * knobs.columnVectors(isTransposed);
  }

  void placeSubgroup() {
    Value subgroup = p.named(p.div(p.thread(), matrixThreads), "subgroup");
    down = p.named(p.div(subgroup, knobs.wn), "subgroup_row");
    across = p.named(p.rem(subgroup, knobs.wn), "subgroup_col");
    rowsAt = p.named(p.mul(down, knobs.rowsOfSubgroup() * knobs.rowStride()), "rows_at");
    const int64_t apart = isTransposed
                              ? knobs.columnsOfSubgroup() / 8
                              : knobs.columnsOfSubgroup() * knobs.columnStride(isTransposed);
    colsAt = p.named(p.mul(across, apart), "cols_at");
  }
  int64_t matricesDown() const { return knobs.rowsOfSubgroup() / matrixSize; }
  int64_t matricesAcross() const { return knobs.columnsOfSubgroup() / matrixSize; }

  /// Adds the products of a stage.
  void multiplyStage(MutableArrayRef<Value> sums) {
    Type left = p.matrix(PhaseBuilder::Side::Left, p.b.getF16Type(), matrixSize, matrixSize);
    Type right = p.matrix(PhaseBuilder::Side::Right, p.b.getF16Type(), matrixSize, matrixSize);
    const int64_t columnStride = knobs.columnStride(isTransposed);
    for (int64_t k = 0; k < knobs.cut.bk; k += matrixSize) {
      SmallVector<Value> a, b;
      for (int64_t i = 0; i < matricesDown(); ++i)
        a.push_back(p.named(p.loadMatrix(left, memory,
                                         p.add(rowsAt, i * matrixSize * knobs.rowStride() + k / 8),
                                         knobs.rowStride()),
                            "a"));
      for (int64_t s = 0; s < segments; ++s)
        for (int64_t j = 0; j < matricesAcross(); ++j) {
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

  /// The sums of the subgroup: for each of its matrices of rows those of columns of each segment.
  SmallVector<Value> multiply() {
    Type sum = p.matrix(PhaseBuilder::Side::Sum, p.f32, matrixSize, matrixSize);
    const int64_t each = matricesAcross() * segments;
    SmallVector<Value> zeros(static_cast<size_t>(matricesDown() * each), p.zeroMatrix(sum));
    SmallVector<std::string> names;
    for (int64_t i = 0; i < matricesDown(); ++i)
      for (int64_t j = 0; j < each; ++j)
        names.push_back(fmt::format("c{}_{}", i, j));
    StageLoop loop{p, kernel.matmul().getK(), grid, knobs.cut, tiles, memory};
    return loop.run(zeros, llvm::join(names, " "),
                    [&](MutableArrayRef<Value> sums, Value) { multiplyStage(sums); });
  }

  Value sumOf(ArrayRef<Value> sums, int64_t i, int64_t s, int64_t j) const {
    return sums[static_cast<size_t>((i * segments + s) * matricesAcross() + j)];
  }

  void storePartial(ArrayRef<Value> sums) {
    Value partial = p.workspace(partialSums, Access::Write, p.vec(p.f32, 4));
    Value quad = p.mul(across, knobs.columnsOfSubgroup() / 4);
    for (int64_t s = 0; s < segments; ++s)
      for (int64_t i = 0; i < matricesDown(); ++i) {
        Value row = p.add(p.mul(down, knobs.rowsOfSubgroup()), i * matrixSize);
        Value at = partialQuad(p, knobs.cut, grid.stages.slices, segments, grid.tile, grid.slice, s,
                               row, quad);
        at = p.named(at, "sums_at");
        for (int64_t j = 0; j < matricesAcross(); ++j)
          p.storeMatrix(sumOf(sums, i, s, j), partial, p.add(at, j * matrixSize / 4),
                        knobs.cut.bn / 4);
      }
  }

  void storeInStrips(ArrayRef<Value> sums) {
    const StripShape shape = knobs.strip(segments, isTransposed);
    const int64_t together = shape.rows / matrixSize, strips = matricesDown() / together;
    storeStrips(p, kernel, group, grid, shape, memory, [&](Value strip) {
      for (int64_t q = 0; q < strips; ++q) {
        Value mine = p.add(p.mul(down, strips), q);
        p.ifThen(p.cmp(arith::CmpIPredicate::eq, strip, mine), [&] {
          Value col = p.named(p.mul(across, knobs.columnsOfSubgroup() / 4), "col");
          for (int64_t i = 0; i < together; ++i)
            for (int64_t s = 0; s < segments; ++s)
              for (int64_t j = 0; j < matricesAcross(); ++j)
                p.storeMatrix(sumOf(sums, q * together + i, s, j), memory,
                              p.add(col, (i * matrixSize * shape.stride + s * shape.segmentStride +
                                          j * matrixSize) /
                                             4),
                              shape.stride / 4);
        });
      }
    });
  }

  PhaseBuilder p;
  const KernelAnalysis &kernel;
  const SegmentGroup &group;
  const MatrixKnobs &knobs;
  int partialSums;
  TileGrid grid;
  int64_t segments;
  bool isTransposed;
  Value memory;
  SmallVector<std::unique_ptr<Tile>> tiles; ///< of the rows, then of each segment
  Value down, across;                       ///< the subgroup's place in the tile
  Value rowsAt, colsAt;                     ///< where its rows and columns begin in memory
};

class Matrices final : public Method {
public:
  std::string_view name() const override { return "matrices"; }

  Status supports(const KernelAnalysis &kernel, const Target &target) const override {
    KF_CHECK(checkMatrices(target, kernel.name()));
    KF_CHECK(webgpu::matmul::supports(kernel, [](Operation *op, Numerics numerics) {
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
    Phases phases(module, kernel, entry, knobs.cut, ElementType::F16);
    return phases.emit([&](const SegmentGroup &group, StringRef name, int partialSums) {
      return Emitter(module, kernel, group, name, knobs, partialSums).emit();
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
  static const Matrices matrices;
  return matrices;
}
