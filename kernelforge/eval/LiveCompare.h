// Two builds compared in turns on one machine, which is what tells small changes from noise.
#pragma once

#include "kernelforge/eval/Comparison.h"

#include <atomic>
#include <functional>

namespace kernelforge {

struct LiveOptions {
  Json suite; ///< the suite's document
  std::string filter;
  int threads = 1;
  std::string folder;   ///< where files that the suite names are; empty: where this runs
  uint64_t seed = 0;    ///< of inputs, orders and intervals
  int rounds = 25;      ///< of all rows
  int moreRounds = 100; ///< of a suspect row at least
  int mostRounds = 400; ///< and at most
  int restarts = 4;     ///< pairs of processes, one after the other, that rounds are spread over;
                        ///< three times as many for suspects
  double threshold = 0.03;
  double alpha = 0.05;
  double batchSeconds = 0.01;
  double settleSeconds = 0.002; ///< idle time before a sample
  double openSeconds = 1200, answerSeconds = 120;
  const std::atomic<bool> *cancel = nullptr; ///< where true: Interrupted
  /// Told how many samples of how many were taken.
  std::function<void(int64_t done, int64_t total)> progress = {};
};

/// Compares the builds of two programs. In a round, each row is measured once by each of two worker
/// processes, one right after the other; rows come in a random order, and which of the two goes
/// first alternates. The ratio of a round cancels the machine's drift; its median over rounds is
/// the row's ratio.
///
/// Two processes of the same program differ, too: in how memory is placed, for as long as they
/// live. So the rounds are spread over several pairs of processes, and the interval is drawn by
/// pairs (groupedMedianInterval). p is of Wilcoxon's test on the logarithms of all ratios.
///
/// Adding rounds until a test finds something finds something sooner or later. Therefore two
/// stages. The first measures all rows and decides one thing only: a row whose interval lies within
/// the threshold is the same. The others are suspects and are measured in a second stage, with new
/// pairs of processes and a number of rounds that is set before it begins, from the width of their
/// first intervals. Its verdict is from the second stage's samples alone, with p adjusted by Holm
/// over all suspects: as they were chosen by other samples, the probability of any false change
/// stays below alpha. A suspect changed only where the first stage leaned to the same side.
///
/// Results that differ (status, accuracy) are those of the first pair, which alone verifies. Errors
/// are those of SuiteWorkerProcess; Unusable where no row is in both, Failed where a program's rows
/// change from one start to the next.
Expected<Comparison> compareLive(const std::string &oldBinary, const std::string &newBinary,
                                 const LiveOptions &options);

} // namespace kernelforge
