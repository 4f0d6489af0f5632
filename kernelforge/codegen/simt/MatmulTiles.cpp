// Matmuls by tiles of results in registers: a stage of K of both operands lies in workgroup memory,
// and each thread multiplies some rows with some columns of it. Needs nothing of a device but that
// memory.
#include "kernelforge/codegen/simt/MatmulEmitter.h"
#include "kernelforge/codegen/simt/MatmulSchedule.h"
#include "kernelforge/codegen/simt/MatmulUnits.h"
#include "kernelforge/codegen/simt/Methods.h"
#include "kernelforge/ir/Numerics.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::simt::tiles;

namespace {

class MatmulTilesEmitter final : public TileEmitter {
public:
  MatmulTilesEmitter(ModuleOp module, const KernelAnalysis &kernel, ArrayRef<SegmentGroup> groups,
                     StringRef entry, const TileKnobs &knobs, int partialSums)
      : TileEmitter(module, kernel, groups, entry, knobs.cut, knobs.threads(), partialSums),
        knobs(knobs), isTransposed(kernel.matmul().getTranspose()) {
    memory = p.shared("tiles", p.vec(p.f32, 4), knobs.sharedVectors(segments, isTransposed));
    turnVectors = knobs.stages == 2 ? knobs.stageVectors(segments, isTransposed) : 0;
    strips = knobs.strip(segments);
    placeTiles();
    placeThread();
  }

private:
  void placeTiles() {
    transformer::MatmulOp matmul = kernel.matmul();
    const ElementType rounded = rows::roundedTo(numericsOf(matmul)).value_or(ElementType::F32);
    Operand rows = cut.pack ? Operand(p, Phases::inputWorkspace, ElementType::F32,
                                      Phases::inputColumns(matmul.getK()), rounded)
                            : Operand(p, matmul.getInput(), 4, rounded);
    if (cut.strict)
      rows.readOnly(grid.totalRows);
    const Way along = knobs.turn ? Way::Turned : Way::AlongK;
    const Way way = isTransposed ? Way::AcrossK : along;
    // Of columns along K a thread reads quads, each at four places that its neighbours' follow.
    const int64_t quads = way == Way::AlongK ? cut.bn / 4 : 0;
    makeTiles(tileOf(p, rows, along, cut.bm, cut.bk, {0, knobs.rowStride()}),
              [&](Value weight, int64_t segment) {
                return weightTile(p, weight, way, 4, cut.bn, cut.bk,
                                  {columnsBegin(segment), knobs.columnStride(isTransposed), quads},
                                  rounded, cut.strict);
              });
  }

  /// Where a segment's columns begin in a stage.
  int64_t columnsBegin(int64_t segment) const {
    return knobs.rowVectors() + segment * knobs.columnVectors(isTransposed);
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

  /// A vector of memory, `vectors` after `first`.
  Value load(Value first, int64_t vectors, StringRef name) {
    return p.named(p.loadVector(memory, p.add(first, vectors)), name);
  }

  /// Adds the products of rows and columns of one k: numbers of `a`, quads of `b`.
  void multiplyAll(MutableArrayRef<Value> sums, ArrayRef<Value> a, ArrayRef<Value> b) {
    for (auto [i, number] : llvm::enumerate(a))
      for (auto [j, quad] : llvm::enumerate(b)) {
        Value &sum = sums[i * b.size() + j];
        sum = p.fma(number, quad, sum);
      }
  }

  /// Quads of the thread's columns of all segments at one k, of columns that stand in order.
  SmallVector<Value> quadsAt(Value columns, int64_t k) {
    SmallVector<Value> quads;
    for (int64_t s = 0; s < segments; ++s)
      for (int64_t j = 0; j < held.across; ++j)
        quads.push_back(load(
            columns, columnsBegin(s) + k * knobs.columnStride(isTransposed) + nextColQuad(j), "b"));
    return quads;
  }

  void multiplyStage(MutableArrayRef<Value> sums, Value at) override {
    const bool isAlongK = !knobs.turn && !isTransposed;
    Value rows = knobs.turn ? rowQuad : p.named(p.mul(rowQuad, 4 * knobs.rowStride()), "rows_at");
    Value columns =
        isAlongK ? p.named(p.mul(held.quad, knobs.columnStride(false)), "cols_at") : held.quad;
    if (at) {
      rows = p.named(p.add(at, rows), "rows_at");
      columns = p.named(p.add(at, columns), "cols_at");
    }
    if (knobs.turn) {
      for (int64_t k = 0; k < cut.bk; ++k) {
        SmallVector<Value> a, numbers;
        for (int64_t i = 0; i < knobs.tm / 4; ++i)
          a.push_back(load(rows, k * knobs.rowStride() + nextRowQuad(i), "a"));
        const SmallVector<Value> b = quadsAt(columns, k);
        for (int64_t i = 0; i < knobs.tm; ++i)
          numbers.push_back(p.extract(a[static_cast<size_t>(i / 4)], i % 4));
        multiplyAll(sums, numbers, b);
      }
      return;
    }
    for (int64_t k = 0; k < cut.bk; k += 4) {
      SmallVector<Value> a;
      for (int64_t i = 0; i < knobs.tm; ++i)
        a.push_back(load(rows, rowOfThread(i) * knobs.rowStride() + k / 4, "a"));
      if (isAlongK)
        multiplyAlongK(sums, a, columns, k);
      for (int64_t e = 0; e < 4 && !isAlongK; ++e)
        multiplyAll(sums, numbersAt(a, e), quadsAt(columns, k + e));
    }
  }

  /// Number `e` of each vector.
  SmallVector<Value> numbersAt(ArrayRef<Value> vectors, int64_t e) {
    SmallVector<Value> numbers;
    for (Value vector : vectors)
      numbers.push_back(p.extract(vector, e));
    return numbers;
  }

  /// The products of four k, with `a` of the thread's rows, a quad of columns after the other.
  void multiplyAlongK(MutableArrayRef<Value> sums, ArrayRef<Value> a, Value columns, int64_t k) {
    const int64_t stride = knobs.columnStride(false), each = segments * held.across;
    for (int64_t s = 0; s < segments; ++s)
      for (int64_t j = 0; j < held.across; ++j) {
        SmallVector<Value> b;
        for (int64_t e = 0; e < 4; ++e)
          b.push_back(load(
              columns, columnsBegin(s) + (e * cut.bn / 4 + nextColQuad(j)) * stride + k / 4, "b"));
        for (int64_t e = 0; e < 4; ++e) {
          Value quad = p.named(p.vector(numbersAt(b, e)), "quad");
          for (auto [i, number] : llvm::enumerate(numbersAt(a, e))) {
            Value &sum =
                sums[i * static_cast<size_t>(each) + static_cast<size_t>(s * held.across + j)];
            sum = p.fma(number, quad, sum);
          }
        }
      }
  }

  /// Row `i` of the thread after its first one.
  int64_t rowOfThread(int64_t i) const { return nextRowQuad(i / 4) * 4 + i % 4; }

  Value rowOfTile(int64_t i) override { return p.add(p.mul(rowQuad, 4), rowOfThread(i)); }
  Value rowOfStrip(int64_t i) override { return p.add(p.mul(laneRow, 4), i); }

  void put(ArrayRef<Value> sums, int64_t i, int64_t segment, Value memory, Value at,
           int64_t) override {
    for (int64_t j = 0; j < held.across; ++j)
      p.storeVector(sumOf(sums, i, segment, j), memory, p.add(at, nextColQuad(j)));
  }

  void storeDirectly(ArrayRef<Value> sums, const SegmentGroup &group) override {
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
  bool isTransposed;
  Value laneRow, rowQuad;
};

class Tiles final : public Method {
public:
  std::string_view name() const override { return "tiles"; }

  Status supports(const KernelAnalysis &kernel, const Target &target) const override {
    KF_CHECK(tiles::supports(kernel, [](Operation *, Numerics numerics) {
      return numerics == Numerics::F16 || numerics == Numerics::BF16 ||
             multipliesIntegers(numerics);
    }));
    const ScheduleSpace space = tileSpace(kernel, target);
    KF_TRY(const TileKnobs knobs, tileKnobs(kernel, target, space.analytic));
    return checkFits(
        kernel, target,
        16 * knobs.sharedVectors(segmentsAtOnce(kernel), kernel.matmul().getTranspose()),
        knobs.threads());
  }

  ScheduleSpace space(const KernelAnalysis &kernel, const Target &target) const override {
    return tileSpace(kernel, target);
  }

  Expected<Launching> emit(ModuleOp module, const KernelAnalysis &kernel, const Target &target,
                           StringRef entry, const KnobValues &schedule) const override {
    KF_TRY(const TileKnobs knobs, tileKnobs(kernel, target, schedule));
    Phases phases(module, kernel, target, entry, knobs.cut, ElementType::F32);
    return phases.emit([&](ArrayRef<SegmentGroup> groups, StringRef name, int partialSums) {
      return MatmulTilesEmitter(module, kernel, groups, name, knobs, partialSums).emit();
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

const Method &simt::matmulTiles() {
  static const Tiles tiles;
  return tiles;
}
