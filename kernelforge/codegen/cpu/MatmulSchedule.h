// What the matmul family's emitter and its schedules share: the knobs and their limits.
#pragma once

#include "kernelforge/codegen/KernelAnalysis.h"
#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/codegen/cpu/PanelForm.h"
#include "kernelforge/codegen/cpu/Target.h"

namespace kernelforge::cpu::matmul {

/// Most rows or columns of a task.
constexpr int64_t maxBlock = int64_t(1) << 20;

/// Knobs of a matmul's schedule.
struct Knobs {
  bool panel;       ///< unpack = panel (1) or registers (0)
  int64_t mr;       ///< rows of the register tile; in registers one, or several of whole numbers
  int64_t groups;   ///< groups of 16 columns of the register tile
  int64_t mc;       ///< rows of a task, which share an unpacked panel; a multiple of mr
  int64_t kc;       ///< depth of a panel
  int64_t nb;       ///< columns of a task; whole heads where the epilogue rotates
  int64_t unroll;   ///< panel: steps of k written out in the inner loop
  int64_t splits;   ///< tasks that share K; a phase more adds their sums up, in order
  bool pack;        ///< panel: rows are first brought side by side (1), or read where they lie (0)
  bool rowsFirst;   ///< order: neighbouring tasks have the same rows (0) or the same columns (1)
  int64_t prefetch; ///< registers: blocks of each group that are asked for ahead
};

/// Columns of all groups, in blocks of `nb`.
int64_t countBlocks(llvm::ArrayRef<SegmentGroup> groups, int64_t nb);

/// Columns that a tile must hold whole: a multiple of a vector and of every rotated head; nothing
/// where no tile is that wide.
std::optional<int64_t> wholeColumns(const KernelAnalysis &kernel);

/// Whether the rows can be multiplied where they lie: they are an argument of the kernel, of f32.
/// All others are first brought side by side as f32.
bool readsInPlace(transformer::MatmulOp matmul);

/// The knobs of `values`, checked against what kernel and target allow.
Expected<Knobs> readKnobs(const KernelAnalysis &kernel, const Target &target,
                          const KnobValues &values);

} // namespace kernelforge::cpu::matmul
