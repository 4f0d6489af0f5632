// What bounds the schedules of a matmul kernel, as plain numbers.
#pragma once

#include "kernelforge/codegen/cpu/KernelBuilder.h"
#include "kernelforge/codegen/cpu/MatmulSchedule.h"

#include <algorithm>
#include <numeric>

namespace kernelforge::cpu::matmul {

constexpr int64_t maxSplits = 64;

/// Everything that bounds a kernel's schedules, as plain numbers.
struct KernelLimits {
  std::string name;        ///< of the kernel, for errors
  int64_t rows = 1;        ///< the most that a launch has
  int64_t depth = 1;       ///< K
  int64_t columns = lanes; ///< that a tile must hold whole: a multiple of every rotated head
  int64_t block = 8;       ///< elements of K that weights are read in
  int64_t chains = 2;      ///< sums that a group of columns keeps at once, in registers
  int64_t registers = 32;  ///< vector registers
  int64_t perVector = 1;   ///< registers of 16 f32
  bool plainInput = false; ///< rows can be multiplied where they lie
  bool quantized = false, needsSums = false;
  bool inPlace = false;    ///< panels are where the weights lie: nothing is unpacked
  bool shifts = false;     ///< quants have a zero that is subtracted from each
  PanelForm form;          ///< of panels
  bool onlyPanels = false; ///< weights have to be rounded before they are multiplied
  bool integers = false;   ///< rows are whole numbers: several at once meet weights in registers
  double weightBytes = 0;  ///< of one column
  int64_t threads = 1;
  llvm::SmallVector<int64_t> widths;      ///< columns of each group of segments
  llvm::SmallVector<int64_t> groupCounts; ///< segments of each

  bool isTiles() const { return form.unit == PanelForm::Unit::Tiles; }
  /// Elements of K that panels are made of: whole blocks and whole steps.
  int64_t panelStep() const { return std::lcm(block, form.step()); }
  int64_t blocks(int64_t nb) const {
    int64_t count = 0;
    for (int64_t n : widths)
      count += ceilDiv(n, nb);
    return count;
  }
  /// Whether a row is multiplied with one group of columns at a time, where that is the usual.
  bool readsOneStream() const { return quantized && perVector == 1; }
  int64_t widest() const { return *std::max_element(widths.begin(), widths.end()); }
  /// Accumulators, one row of weights and one broadcast must fit in the registers: the most groups
  /// of one row, and the most rows of so many groups.
  int64_t mostGroups(bool panel) const {
    return panel && isTiles() ? 6 : (registers - 1) / (2 * perVector);
  }
  int64_t mostTileRows(int64_t groups) const {
    if (isTiles()) // of eight registers: sums, rows and one for weights
      return groups <= 2 ? 2 * lanes : lanes;
    return (registers - 1 - groups * perVector) / (groups * perVector);
  }
  /// A split has at least one panel, or block, of its own.
  int64_t mostSplits(bool panel, int64_t kc) const {
    return std::min(maxSplits, panel ? ceilDiv(depth, kc) : std::max<int64_t>(1, depth / block));
  }
  /// Whole numbers: a sum of each row and group, in whole numbers and in f32, and two weights.
  int64_t mostIntegerRows(int64_t groups) const {
    return std::max<int64_t>(1, (registers - 4 * perVector) / (2 * perVector * groups));
  }
  int64_t segments() const { return *std::max_element(groupCounts.begin(), groupCounts.end()); }
};

/// Those of a kernel on so many threads.
KernelLimits limitsOf(const KernelAnalysis &kernel, const Target &target, int64_t threads);

} // namespace kernelforge::cpu::matmul
