#include "kernelforge/autotune/RecordPriors.h"

#include "kernelforge/records/Choice.h"

#include <algorithm>
#include <map>

using namespace kernelforge;

namespace {

/// Trials of one kernel beside one baseline.
struct PriorList {
  std::vector<PriorTrial> trials;
  std::map<std::string, size_t> places; ///< of schedules

  void add(const Record &record) {
    Expected<KnobValues> knobs = parseKnobs(record.schedule, "records");
    if (!knobs) // of another version, perhaps
      return;
    auto [place, isNew] = places.emplace(record.schedule, trials.size());
    if (isNew)
      trials.push_back({std::move(*knobs), *record.predictedNs / 1e9, *record.ratio});
    else
      trials[place->second].seconds = *record.ratio;
  }
};

bool teaches(const Record &record) {
  return record.variant == "generated" && record.status == RecordStatus::Ok && record.trusted &&
         record.ratio && *record.ratio > 0 && record.predictedNs;
}

} // namespace

std::vector<std::vector<PriorTrial>> kernelforge::recordPriors(std::span<const Record> records,
                                                               const RecordKey &key,
                                                               std::string_view strategy,
                                                               uint64_t seed) {
  const auto begin = std::ranges::find_if(records, [&](const Record &record) {
    return record.strategy == strategy && record.seed == static_cast<int64_t>(seed) &&
           record.key.kernelHash == key.kernelHash && record.key == key;
  });
  std::vector<std::vector<PriorTrial>> priors;
  for (const NearKernel &kernel : kernelsNear({records.begin(), begin}, key)) {
    // Only ratios to the same baseline can be compared.
    std::map<std::pair<std::string, std::string>, PriorList> lists;
    for (const Record *record : kernel.records)
      if (teaches(*record))
        lists[{record->baseline, record->mode}].add(*record);
    for (auto &[baseline, list] : lists)
      if (!list.trials.empty())
        priors.push_back(std::move(list.trials));
  }
  return priors;
}
