// Schedules of matmuls of many rows: what is legal, what is taken without measuring, what a search
// tries, and how long a schedule may be expected to take.
#pragma once

#include "kernelforge/codegen/KernelAnalysis.h"
#include "kernelforge/codegen/ScheduleSpace.h"
#include "kernelforge/codegen/Target.h"
#include "kernelforge/codegen/webgpu/Matmul.h"

namespace kernelforge::webgpu::matmul {

/// A checked schedule of the method `tiles`.
struct TileKnobs {
  Cut cut;
  int64_t tm = 0, tn = 0; ///< rows and columns of a thread, of each segment: multiples of four
  int64_t stages = 1;     ///< buffers: with two, a stage is written while another is read

  int64_t threadsDown() const { return cut.bm / tm; }
  int64_t threadsAcross() const { return cut.bn / tn; }
  int64_t threads() const { return threadsDown() * threadsAcross(); }
  // Neighbouring threads, 32 of them where there are so many, read neighbouring vectors.
  int64_t lanesAcross() const;
  int64_t lanesDown() const;

  /// Vectors of four f32 from a k of a stage to the next: of the rows, and of a segment's columns.
  int64_t rowStride() const { return cut.bm / 4 + 1; }
  int64_t columnStride() const { return cut.bn / 4 + 1; }
  /// Vectors of a stage, and of all that is in workgroup memory.
  int64_t stageVectors(int64_t segments) const {
    return cut.bk * (rowStride() + segments * columnStride());
  }
  int64_t sharedVectors(int64_t segments) const;
  /// Rows of a strip: those of a subgroup's threads that four rows of each make up.
  StripShape strip(int64_t segments) const;
};

/// The schedules of the method `tiles`.
ScheduleSpace tileSpace(const KernelAnalysis &kernel, const Target &target);

/// A schedule of a space of tileSpace().
Expected<TileKnobs> tileKnobs(const KernelAnalysis &kernel, const Target &target,
                              const KnobValues &values);

/// Whether a method's phases fit a device, with a schedule that takes so many bytes of workgroup
/// memory and threads.
Status checkFits(const KernelAnalysis &kernel, const Target &target, int64_t sharedBytes,
                 int64_t threads);

} // namespace kernelforge::webgpu::matmul
