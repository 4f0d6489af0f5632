// Which samples of a suite's rounds count: those taken while the machine was itself.
#pragma once

#include "kernelforge/support/Json.h"

#include <span>
#include <string>
#include <vector>

namespace kernelforge {

/// Nanoseconds, or units of an anchor, that no machine shows: a report of more is defective.
inline constexpr double mostReported = 1e15;

/// What the cores were like beside a sample. A virtual machine's cores are moved between and shared
/// on real ones, for seconds: then arithmetic, or passing a cache line between them, takes another
/// time, and rows do, too, each by an amount of its own. And someone else may have the other thread
/// of a core, for milliseconds or minutes. 0 where it is not known.
struct MachineState {
  double fma = 0;          ///< the anchor "fma_f32"
  double exchange = 0;     ///< the anchor "exchange"
  double writeFirst = 0;   ///< Writing, the median of some times beside the sample
  double writeSlowest = 0; ///< the same
  /// How often a thread of ours had to leave its core within the sample; -1 where it is not known.
  int64_t preemptions = -1;
};

/// As reports have it: {"fma_f32", "exchange", "write_first", "write_slowest", "preemptions"}.
Json machineJson(const MachineState &machine);
Expected<MachineState> readMachine(const JsonView &view);

/// One sample: nanoseconds of a call in a round, and what the row's anchor and the machine were
/// beside it.
struct RoundSample {
  int round = 0;
  double ns = 0;
  double anchor = 0;
  MachineState machine = {};
};

/// Samples of a row and of the vendors' variants of it, over the rounds so far.
struct RowSamples {
  std::string anchor;                       ///< of samples that were read: what judged them
  std::vector<RoundSample> own;             ///< by round; rounds may be missing
  std::vector<std::vector<double>> vendors; ///< as RowRun::vendors(); one a planned round

  /// Drops what is not of the first `rounds` rounds.
  void keepRounds(int rounds);
};

/// A row's samples in a report: those that count and those that were dropped. Unusable where the
/// row is not as reports are.
Expected<RowSamples> readRowSamples(const JsonView &row);

/// How far the f32 anchor (and that which judges a row) may be from what it should be, and how far
/// the exchange between cores may, which varies much and is a fraction where cores are far apart.
inline constexpr double mostAnchorOff = 0.10, mostExchangeOff = 0.50;

/// What a machine gives when nothing disturbs it: the value that one in ten surpasses. 0 where
/// there are none.
double undisturbed(std::vector<double> values);

/// Whether the machine was in the state `usual`, by arithmetic and exchange; what is 0 in either
/// says nothing. Writing decides nothing: on many machines a core is hardly ever one's own.
bool isUsual(const MachineState &machine, const MachineState &usual);

/// Whether each thread had its core for itself: at most one had to leave it once, and the slowest
/// wrote nearly as fast as ever (`bestSlowest`). No where either rate is 0. Medians of such samples
/// agree from run to run to 1 %, of others to 10 %.
bool isAlone(const MachineState &machine, double bestSlowest);

/// So many samples of cores of one's own say more than all.
inline constexpr size_t enoughAlone = 10;

/// How fast the slowest thread writes alone: the third best, as one or two may be odd. 0 where
/// nothing is known.
double aloneWriting(std::vector<double> writeSlowest);

/// For each sample whether it counts: the machine was in its usual state, and the row's anchor no
/// farther than mostAnchorOff from its median over the samples of that state.
std::vector<bool> countingSamples(std::span<const RoundSample> samples, const MachineState &usual);

/// What further rounds of a row are for.
struct SampleLack {
  bool usual; ///< too few samples of a machine in its usual state
  bool alone; ///< too few of unshared cores, which say more than all others
  bool any() const { return usual || alone; }
};

/// What a row lacks of which `rounds` rounds were planned: as many samples in the state `usual`,
/// half as many (enoughAlone at least, no more than the rounds) alone. Of cores nothing is lacking
/// where it is not known how fast they write.
SampleLack lacking(std::span<const RoundSample> samples, const MachineState &usual, int rounds);

} // namespace kernelforge
