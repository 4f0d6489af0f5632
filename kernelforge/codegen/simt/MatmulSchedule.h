// Schedules of matmuls of many rows: what is legal, what is taken without measuring, what a search
// tries, and how long a schedule may be expected to take.
#pragma once

#include "kernelforge/codegen/KernelAnalysis.h"
#include "kernelforge/codegen/ScheduleSpace.h"
#include "kernelforge/codegen/Target.h"
#include "kernelforge/codegen/simt/MatmulPhases.h"

namespace kernelforge::simt::tiles {

/// A checked schedule of the method `tiles`.
struct TileKnobs {
  Cut cut;
  int64_t tm = 0, tn = 0; ///< rows and columns of a thread, of each segment: multiples of four
  int64_t stages = 1;     ///< buffers: with two, a stage is written while another is read
  bool turn = true;       ///< operands whose rows run along K are turned round on their way
  int64_t lanes = 8;      ///< neighbouring threads that have neighbouring columns, at most

  int64_t threadsDown() const { return cut.bm / tm; }
  int64_t threadsAcross() const { return cut.bn / tn; }
  int64_t threads() const { return threadsDown() * threadsAcross(); }
  // Neighbouring threads, 32 of them where there are so many, read neighbouring vectors.
  int64_t lanesAcross() const;
  int64_t lanesDown() const;

  // Vectors of four f32. Rows of memory are one longer than they need be where neighbours write to
  // several of them, which lie in other banks so. `transposed`: of the weights.
  /// From a row of memory to the next, which is a k of the operand where it is turned round.
  int64_t rowStride() const { return (turn ? cut.bm : cut.bk) / 4 + 1; }
  int64_t columnStride(bool transposed) const {
    return (turn || transposed ? cut.bn : cut.bk) / 4 + (transposed ? 0 : 1);
  }
  /// Of all rows, and of a segment's columns.
  int64_t rowVectors() const { return (turn ? cut.bk : cut.bm) * rowStride(); }
  int64_t columnVectors(bool transposed) const {
    return (turn || transposed ? cut.bk : cut.bn) * columnStride(transposed);
  }
  /// Vectors of a stage, and of all that is in workgroup memory.
  int64_t stageVectors(int64_t segments, bool transposed) const {
    return rowVectors() + segments * columnVectors(transposed);
  }
  int64_t sharedVectors(int64_t segments, bool transposed) const;
  /// Rows of a strip: those of a subgroup's threads that four rows of each make up.
  StripShape strip(int64_t segments) const;
};

/// Rows, columns and depth of a subgroup's matrices of f16, and the threads that hold one.
constexpr int64_t matrixSize = 16, matrixThreads = 32;

/// A checked schedule of the method `matrices`.
struct MatrixKnobs {
  Cut cut;
  int64_t wm = 1, wn = 1; ///< subgroups of a workgroup, down and across

  int64_t threads() const { return wm * wn * matrixThreads; }
  int64_t rowsOfSubgroup() const { return cut.bm / wm; }
  int64_t columnsOfSubgroup() const { return cut.bn / wn; }

  // Vectors of eight f16. Rows are one longer than they need be, so that neighbouring rows lie in
  // other banks.
  int64_t rowStride() const { return cut.bk / 8 + 1; }
  int64_t rowVectors() const { return cut.bm * rowStride(); }
  /// Of a segment's columns; `transposed`: a row of memory has those of one k.
  int64_t columnStride(bool transposed) const { return (transposed ? cut.bn : cut.bk) / 8 + 1; }
  int64_t columnVectors(bool transposed) const {
    return (transposed ? cut.bk : cut.bn) * columnStride(transposed);
  }
  int64_t stageVectors(int64_t segments, bool transposed) const {
    return rowVectors() + segments * columnVectors(transposed);
  }
  int64_t sharedVectors(int64_t segments, bool transposed) const;
  /// As many rows of a subgroup's matrices as fit where stages were.
  StripShape strip(int64_t segments, bool transposed) const;
};

/// The schedules of the method `tiles`.
ScheduleSpace tileSpace(const KernelAnalysis &kernel, const Target &target);

/// A schedule of a space of tileSpace().
Expected<TileKnobs> tileKnobs(const KernelAnalysis &kernel, const Target &target,
                              const KnobValues &values);

/// The same of the method `matrices`.
ScheduleSpace matrixSpace(const KernelAnalysis &kernel, const Target &target);
Expected<MatrixKnobs> matrixKnobs(const KernelAnalysis &kernel, const Target &target,
                                  const KnobValues &values);

/// Whether a method's phases fit a device, with a schedule that takes so many bytes of workgroup
/// memory and threads.
Status checkFits(const KernelAnalysis &kernel, const Target &target, int64_t sharedBytes,
                 int64_t threads);

} // namespace kernelforge::simt::tiles
