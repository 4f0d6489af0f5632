// Matmuls by tiles of results in registers: a stage of K of both operands lies in workgroup memory,
// and each thread multiplies some rows with some columns of it. Needs nothing of a device but that
// memory.
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

/// What a method that multiplies f32 rounds operands to before.
ElementType roundedTo(Numerics numerics) {
  return numerics == Numerics::F16    ? ElementType::F16
         : numerics == Numerics::BF16 ? ElementType::BF16
                                      : ElementType::F32;
}

/// Emits the tiles of one group.
class Emitter {
public:
  Emitter(ModuleOp module, const KernelAnalysis &kernel, const SegmentGroup &group, StringRef entry,
          const TileKnobs &knobs, int partialSums)
      : p(module, kernel.kernel(), entry, knobs.threads()), kernel(kernel), group(group),
        knobs(knobs), partialSums(partialSums), grid(p, kernel, group, knobs.cut),
        segments(static_cast<int64_t>(group.segments.size())) {
    memory = p.shared("tiles", p.vec(p.f32, 4), knobs.sharedVectors(segments));
    makeTiles();
    placeThread();
  }

  Phase emit() {
    const SmallVector<Value> sums = multiply();
    if (partialSums >= 0)
      storePartial(sums);
    else if (storesSums(kernel, group))
      storeDirectly(sums);
    else
      storeInStrips(sums);
    return p.finish(grid.grid());
  }

private:
  void makeTiles() {
    transformer::MatmulOp matmul = kernel.matmul();
    const Cut &cut = knobs.cut;
    const ElementType rounded = roundedTo(numericsOf(matmul));
    Operand rows = cut.pack ? Operand(p, Phases::inputWorkspace, ElementType::F32,
                                      Phases::inputColumns(matmul.getK()), rounded)
                            : Operand(p, matmul.getInput(), 4, rounded);
    tiles.push_back(tileOf(p, rows, Way::Turned, cut.bm, cut.bk, {0, knobs.rowStride()}));
    const Way way = matmul.getTranspose() ? Way::AcrossK : Way::Turned;
    for (int64_t s = 0; s < segments; ++s) {
      tiles.push_back(weightTile(p, matmul.getWeights()[group.segments[s]], way, 4, cut.bn, cut.bk,
                                 {columnsBegin(s), knobs.columnStride()}, rounded));
    }
  }

  /// Where a segment's columns begin in a stage.
  int64_t columnsBegin(int64_t segment) const {
    return knobs.cut.bk * (knobs.rowStride() + segment * knobs.columnStride());
  }

  /// Which rows and columns are this thread's: quads of rows `lanesDown` quads apart, and of
  /// columns.
  void placeThread() {
    const int64_t down = knobs.lanesDown(), across = knobs.lanesAcross(), lanes = down * across;
    const int64_t groupsAcross = knobs.threadsAcross() / across;
    Value lane = p.named(p.rem(p.thread(), lanes), "in_part");
    Value part = p.named(p.div(p.thread(), lanes), "part");
    Value partRow = p.named(p.div(part, groupsAcross), "part_row");
    Value partCol = p.named(p.rem(part, groupsAcross), "part_col");
    laneRow = p.named(p.div(lane, across), "lane_row");
    rowsPart = partRow;
    rowQuad = p.named(p.add(p.mul(partRow, down * knobs.tm / 4), laneRow), "row_quad");
    colQuad =
        p.named(p.add(p.mul(partCol, across * knobs.tn / 4), p.rem(lane, across)), "col_quad");
  }
  int64_t quadsDown() const { return knobs.tm / 4; }
  int64_t quadsAcross() const { return knobs.tn / 4; }
  /// Quad `i` of the thread's rows, and of its columns, after the first one.
  int64_t nextRowQuad(int64_t i) const { return i * knobs.lanesDown(); }
  int64_t nextColQuad(int64_t j) const { return j * knobs.lanesAcross(); }

  /// Adds the products of a stage that lies in memory from vector `at` (null: 0) on.
  void multiplyStage(MutableArrayRef<Value> sums, Value at) {
    Value rows = rowQuad, columns = colQuad;
    if (at) {
      rows = p.named(p.add(at, rows), "rows_at");
      columns = p.named(p.add(at, columns), "cols_at");
    }
    for (int64_t k = 0; k < knobs.cut.bk; ++k) {
      SmallVector<Value> a, b;
      for (int64_t i = 0; i < quadsDown(); ++i)
        a.push_back(p.named(
            p.loadVector(memory, p.add(rows, k * knobs.rowStride() + nextRowQuad(i))), "a"));
      for (int64_t s = 0; s < segments; ++s)
        for (int64_t j = 0; j < quadsAcross(); ++j)
          b.push_back(p.named(
              p.loadVector(memory, p.add(columns, columnsBegin(s) + k * knobs.columnStride() +
                                                      nextColQuad(j))),
              "b"));
      for (int64_t i = 0; i < knobs.tm; ++i)
        for (auto [j, quad] : llvm::enumerate(b)) {
          Value &sum = sums[static_cast<size_t>(i) * b.size() + j];
          sum = p.fma(p.extract(a[static_cast<size_t>(i / 4)], i % 4), quad, sum);
        }
    }
  }

  /// The sums of the tile: for each row of the thread the quads of its columns of each segment.
  SmallVector<Value> multiply() {
    const int64_t each = quadsAcross() * segments;
    SmallVector<Value> zeros(static_cast<size_t>(knobs.tm * each), p.splat(p.cf(0), 4));
    SmallVector<std::string> names;
    for (int64_t i = 0; i < knobs.tm; ++i)
      for (int64_t j = 0; j < each; ++j)
        names.push_back(fmt::format("c{}_{}", i, j));
    StageLoop loop{p,
                   kernel.matmul().getK(),
                   grid,
                   knobs.cut,
                   tiles,
                   memory,
                   knobs.stages == 2 ? knobs.stageVectors(segments) : 0};
    return loop.run(zeros, llvm::join(names, " "),
                    [&](MutableArrayRef<Value> sums, Value at) { multiplyStage(sums, at); });
  }

  /// Row of the tile that is row `i` of the thread.
  Value rowOfTile(int64_t i) { return p.add(p.mul(p.add(rowQuad, nextRowQuad(i / 4)), 4), i % 4); }
  Value sumOf(ArrayRef<Value> sums, int64_t i, int64_t s, int64_t j) const {
    return sums[static_cast<size_t>((i * segments + s) * quadsAcross() + j)];
  }

  void storePartial(ArrayRef<Value> sums) {
    Value partial = p.workspace(partialSums, Access::Write, p.vec(p.f32, 4));
    for (int64_t s = 0; s < segments; ++s)
      for (int64_t i = 0; i < knobs.tm; ++i) {
        Value at = partialQuad(p, knobs.cut, grid.stages.slices, segments, grid.tile, grid.slice, s,
                               rowOfTile(i), colQuad);
        at = p.named(at, "sums_at");
        for (int64_t j = 0; j < quadsAcross(); ++j)
          p.storeVector(sumOf(sums, i, s, j), partial, p.add(at, nextColQuad(j)));
      }
  }

  void storeDirectly(ArrayRef<Value> sums) {
    Value output = p.result(group.sinks[0].resultIndex, Access::Write, View::Quads);
    const bool isWhole = group.n % knobs.cut.bn == 0;
    Value firstQuad = p.named(p.add(p.quarter(grid.firstCol), colQuad), "first_quad");
    for (int64_t i = 0; i < knobs.tm; ++i) {
      Value row = p.named(p.add(grid.firstRow, rowOfTile(i)), "row");
      p.ifThen(p.lessThan(row, grid.totalRows), [&] {
        Value at = p.named(p.add(p.mul(row, group.n / 4), firstQuad), "at");
        for (int64_t j = 0; j < quadsAcross(); ++j) {
          auto store = [&] {
            p.storeVector(sumOf(sums, i, 0, j), output, p.add(at, nextColQuad(j)));
          };
          if (isWhole)
            store();
          else
            p.ifThen(p.lessThan(p.add(firstQuad, nextColQuad(j)), p.c(group.n / 4)), store);
        }
      });
    }
  }

  void storeInStrips(ArrayRef<Value> sums) {
    const StripShape shape = knobs.strip(segments);
    storeStrips(p, kernel, group, grid, shape, memory, [&](Value strip) {
      for (int64_t q = 0; q < quadsDown(); ++q) {
        Value mine = p.add(p.mul(rowsPart, quadsDown()), q);
        p.ifThen(p.cmp(arith::CmpIPredicate::eq, strip, mine), [&] {
          for (int64_t e = 0; e < 4; ++e) {
            Value at = p.add(p.mul(laneRow, shape.stride), e * shape.stride / 4);
            at = p.named(p.add(at, colQuad), "put");
            for (int64_t s = 0; s < segments; ++s)
              for (int64_t j = 0; j < quadsAcross(); ++j)
                p.storeVector(sumOf(sums, 4 * q + e, s, j), memory,
                              p.add(at, s * shape.segmentStride / 4 + nextColQuad(j)));
          }
        });
      }
    });
  }

  PhaseBuilder p;
  const KernelAnalysis &kernel;
  const SegmentGroup &group;
  const TileKnobs &knobs;
  int partialSums;
  TileGrid grid;
  int64_t segments;
  Value memory;
  SmallVector<std::unique_ptr<Tile>> tiles; ///< of the rows, then of each segment
  Value laneRow, rowsPart, rowQuad, colQuad;
};

class Tiles final : public Method {
public:
  std::string_view name() const override { return "tiles"; }

  Status supports(const KernelAnalysis &kernel, const Target &target) const override {
    KF_CHECK(webgpu::matmul::supports(kernel, [](Operation *, Numerics numerics) {
      return numerics == Numerics::F16 || numerics == Numerics::BF16 ||
             multipliesIntegers(numerics);
    }));
    const ScheduleSpace space = tileSpace(kernel, target);
    KF_TRY(const TileKnobs knobs, tileKnobs(kernel, target, space.analytic));
    return checkFits(kernel, target, 16 * knobs.sharedVectors(segmentsAtOnce(kernel)),
                     knobs.threads());
  }

  ScheduleSpace space(const KernelAnalysis &kernel, const Target &target) const override {
    return tileSpace(kernel, target);
  }

  Expected<Launching> emit(ModuleOp module, const KernelAnalysis &kernel, const Target &target,
                           StringRef entry, const KnobValues &schedule) const override {
    KF_TRY(const TileKnobs knobs, tileKnobs(kernel, target, schedule));
    Phases phases(module, kernel, entry, knobs.cut, ElementType::F32);
    return phases.emit([&](const SegmentGroup &group, StringRef name, int partialSums) {
      return Emitter(module, kernel, group, name, knobs, partialSums).emit();
    });
  }

  std::vector<std::string> describe(const KernelAnalysis &kernel,
                                    const KnobValues &schedule) const override {
    std::vector<std::string> lines = simt::describe(kernel);
    lines.back() = fmt::format("{} x {} results a workgroup, {} x {} a thread, stages of {}",
                               schedule.at("bm"), schedule.at("bn"), schedule.at("tm"),
                               schedule.at("tn"), schedule.at("bk"));
    if (schedule.at("ksplit") > 1)
      lines.back() += fmt::format(", K shared out among {}", schedule.at("ksplit"));
    return lines;
  }
};

} // namespace

const Method &webgpu::matmulTiles() {
  static const Tiles tiles;
  return tiles;
}
