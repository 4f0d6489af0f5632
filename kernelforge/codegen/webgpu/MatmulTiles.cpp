// Matmuls by tiles of results in registers: a stage of K of both operands lies in workgroup memory,
// and each thread multiplies some rows with some columns of it. Needs nothing of a device but that
// memory.
#include "kernelforge/codegen/webgpu/MatmulEmitter.h"
#include "kernelforge/codegen/webgpu/MatmulSchedule.h"
#include "kernelforge/codegen/webgpu/Methods.h"
#include "kernelforge/ir/Numerics.h"

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
class Emitter final : public TileEmitter {
public:
  Emitter(ModuleOp module, const KernelAnalysis &kernel, const SegmentGroup &group, StringRef entry,
          const TileKnobs &knobs, int partialSums)
      : TileEmitter(module, kernel, group, entry, knobs.cut, knobs.threads(), partialSums),
        knobs(knobs) {
    memory = p.shared("tiles", p.vec(p.f32, 4), knobs.sharedVectors(segments));
    turnVectors = knobs.stages == 2 ? knobs.stageVectors(segments) : 0;
    strips = knobs.strip(segments);
    makeTiles();
    placeThread();
  }

private:
  void makeTiles() {
    transformer::MatmulOp matmul = kernel.matmul();
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
    return cut.bk * (knobs.rowStride() + segment * knobs.columnStride());
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
    rowQuad = p.named(p.add(p.mul(partRow, down * knobs.tm / 4), laneRow), "row_quad");
    held.down = knobs.tm;
    held.across = knobs.tn / 4;
    held.together = 4;
    held.part = partRow;
    held.quad =
        p.named(p.add(p.mul(partCol, across * knobs.tn / 4), p.rem(lane, across)), "col_quad");
    held.zero = p.splat(p.cf(0), 4);
  }
  /// Quad `i` of the thread's rows, and of its columns, after the first one.
  int64_t nextRowQuad(int64_t i) const { return i * knobs.lanesDown(); }
  int64_t nextColQuad(int64_t j) const { return j * knobs.lanesAcross(); }

  void multiplyStage(MutableArrayRef<Value> sums, Value at) override {
    Value rows = rowQuad, columns = held.quad;
    if (at) {
      rows = p.named(p.add(at, rows), "rows_at");
      columns = p.named(p.add(at, columns), "cols_at");
    }
    for (int64_t k = 0; k < cut.bk; ++k) {
      SmallVector<Value> a, b;
      for (int64_t i = 0; i < knobs.tm / 4; ++i)
        a.push_back(p.named(
            p.loadVector(memory, p.add(rows, k * knobs.rowStride() + nextRowQuad(i))), "a"));
      for (int64_t s = 0; s < segments; ++s)
        for (int64_t j = 0; j < held.across; ++j)
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

  Value rowOfTile(int64_t i) override {
    return p.add(p.mul(p.add(rowQuad, nextRowQuad(i / 4)), 4), i % 4);
  }
  Value rowOfStrip(int64_t i) override { return p.add(p.mul(laneRow, 4), i); }

  void put(ArrayRef<Value> sums, int64_t i, int64_t segment, Value memory, Value at,
           int64_t) override {
    for (int64_t j = 0; j < held.across; ++j)
      p.storeVector(sumOf(sums, i, segment, j), memory, p.add(at, nextColQuad(j)));
  }

  void storeDirectly(ArrayRef<Value> sums) override {
    Value output = p.result(group.sinks[0].resultIndex, Access::Write, View::Quads);
    const bool isWhole = group.n % cut.bn == 0;
    Value firstQuad = p.named(p.add(p.quarter(grid.firstCol), held.quad), "first_quad");
    for (int64_t i = 0; i < knobs.tm; ++i) {
      Value row = p.named(p.add(grid.firstRow, rowOfTile(i)), "row");
      p.ifThen(p.lessThan(row, grid.totalRows), [&] {
        Value at = p.named(p.add(p.mul(row, group.n / 4), firstQuad), "at");
        for (int64_t j = 0; j < held.across; ++j) {
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

  const TileKnobs &knobs;
  Value laneRow, rowQuad;
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
