// What a search learns from the records of other kernels.
#pragma once

#include "kernelforge/autotune/Strategy.h"
#include "kernelforge/records/Record.h"

namespace kernelforge {

/// StrategyOptions::priors of a search for `key`, from `records` in the order of the log: of keys
/// that differ in nothing but kernel and problem, the candidates of generated code that are ok and
/// trusted and have a ratio to their baseline and a prediction. One list a kernel and baseline, in
/// the order in which schedules were first tried, with the last ratio of each; the kernels in the
/// order of kernelsNear().
///
/// Of the log, what comes after the first record that a search of this strategy and seed made of
/// `key` is not looked at: an interrupted search that goes on, or one that is made once more, is
/// told the same as it was when it began.
std::vector<std::vector<PriorTrial>> recordPriors(std::span<const Record> records,
                                                  const RecordKey &key, std::string_view strategy,
                                                  uint64_t seed);

} // namespace kernelforge
