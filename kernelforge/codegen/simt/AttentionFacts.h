// What the schedules of all methods for attention are chosen by.
#pragma once

#include "kernelforge/codegen/KernelAnalysis.h"
#include "kernelforge/codegen/ScheduleSpace.h"
#include "kernelforge/codegen/Target.h"
#include "kernelforge/codegen/simt/Emit.h"

#include <algorithm>
#include <limits>
#include <string>

namespace kernelforge::simt {

/// How fast a large GPU goes through tiles of rows.
struct TileSpeed {
  double rate;     ///< operations a second, all multiprocessors together
  double wait;     ///< seconds that a block of keys takes at least
  double resident; ///< tiles of a multiprocessor at once
};

/// An attention and a target in plain numbers.
struct AttentionFacts {
  std::string name;                      ///< of the kernel, for errors
  int64_t minRows = 1, rows = 1;         ///< least and most that are planned for
  int64_t sequences = 1;                 ///< most
  int64_t heads = 1, kvHeads = 1;        ///< of the query, of the caches
  int64_t keyDim = 1, valueDim = 1;      ///< of a head
  int64_t keys = 1;                      ///< most that a row sees, as far as anything says
  int cachedSize = -1;                   ///< the size that bounds them; -1: none
  int64_t keyBytes = 1, valueBytes = 1;  ///< of a head of a slot
  int64_t subgroup = 0;                  ///< threads of every subgroup at least; 0: none are used
  int64_t sharedBytes = 0, threads = 64; ///< of a workgroup, at most
  int64_t bindingBytes = 0;              ///< of a buffer at most; 0: no limit
  bool startsEarly = false;              ///< phases wait themselves for what ran before

  /// Query heads that share a head of the caches.
  int64_t group() const { return heads / kvHeads; }
  /// Rows of one sequence, where all have as many.
  int64_t rowsOfSequence() const { return std::max<int64_t>(rows / sequences, 1); }
  /// Keys that a row may see, where times are compared: prompts of many rows mostly begin at
  /// position 0.
  int64_t likelyKeys() const {
    constexpr int64_t fewRows = 16, shortPrompt = 512;
    return rowsOfSequence() > fewRows ? std::min(keys, std::max(rowsOfSequence(), shortPrompt))
                                      : keys;
  }
  /// Seconds that a dispatch takes by itself.
  static constexpr double dispatch = 2e-6;
  /// Seconds that tiles of `tileRows` rows of one query head take which go through their keys by
  /// blocks. Rows of one sequence fill tiles of their own.
  double secondsOfTiles(int64_t tileRows, int64_t blockKeys, const TileSpeed &speed) const;
};

/// Whether phases start while what ran before is still running: PhaseBuilder::waitForPrevious().
bool startsEarly(const Target &target);

AttentionFacts attentionFacts(const KernelAnalysis &kernel, const Target &target);

/// Threads that every subgroup of a target has at least, a power of two; 0 where operations of
/// subgroups are not to be used.
int64_t subgroupOf(const Target &target);

/// Unusable where no method but the plain one computes the kernel: an operation without code, a
/// head of more than 256 values or of no whole pieces, or more buffers in a phase than the target
/// allows. `workspaces`: of a phase besides the kernel's own buffers.
Status checkAttention(const KernelAnalysis &kernel, const Target &target, int64_t workspaces);

/// A quad of a query head, rounded as the attention's numerics say (f32). `start`: the head's first
/// element.
mlir::Value readQuery(PhaseBuilder &p, transformer::AttentionOp op, mlir::Value start,
                      mlir::Value element);

/// The rules of a space whose knob `keys` says of how many keys a block is: `read` gives a checked
/// schedule in a form of its own or the error, `seconds` the time that it may take.
template <typename Read, typename Seconds>
void setBlockRules(ScheduleSpace &space, const Read &read, Seconds seconds) {
  space.complete = [usual = space.analytic](const KnobValues &values) {
    KnobValues all = values;
    all.merge(KnobValues(usual));
    return all;
  };
  space.check = [read](const KnobValues &values) -> Status {
    return read(values).transform([](const auto &) {});
  };
  space.predict = [read, seconds](const KnobValues &values) {
    const auto shape = read(values);
    return shape ? seconds(*shape) : std::numeric_limits<double>::infinity();
  };
  // Which blocks the running sums go through.
  space.orderClass = [](const KnobValues &values) {
    return ":" + std::to_string(values.at("keys"));
  };
}

} // namespace kernelforge::simt
