// What the records say about kernels: read once, asked for each kernel of a module.
#pragma once

#include "kernelforge/kernels/MatmulRegistry.h"
#include "kernelforge/records/RecordStore.h"

#include <functional>
#include <optional>

namespace kernelforge {

class RecordedWinners {
public:
  /// Without a store, or where it cannot be read (a warning), there are no records.
  explicit RecordedWinners(const RecordStore *store);

  /// Whether there is nothing to find.
  bool empty() const { return table.size() == 0; }

  struct Found {
    Record record;
    bool first = true; ///< of all; otherwise those before it are not admitted
  };

  /// The winner of a key among those admitted, over all variants.
  std::optional<Found> find(const RecordKey &key,
                            const std::function<bool(const Record &)> &admits);

  /// The winner of a key among records of one variant.
  std::optional<Record> find(const RecordKey &key, const std::string &variant) const {
    return table.find(key, variant);
  }

  /// Whether the records of a key show no schedule of generated code that is better than the
  /// analytic default.
  bool defaultStays(const RecordKey &key) const { return table.defaultStays(key, "generated"); }

  /// The winner of the nearest problem with one that is admitted, among records of generated code.
  std::optional<Record> nearestGenerated(const RecordKey &key,
                                         const std::function<bool(const Record &)> &admits);

private:
  std::optional<RecordStore> store;
  BestTable table;
  std::optional<RecordLog> log;  ///< read where the table's winner will not do
  std::vector<Record> generated; ///< winners of all keys
};

/// Whether a record's variant is one of `variants`, can run `problem` here, and still has the
/// record's schedule.
bool canRun(const Record &record, const MatmulRegistry &variants, const MatmulProblem &problem,
            int threads);

/// The record's schedule as MatmulOptions take it: empty where the variant has none.
std::string scheduleOf(const Record &record);

} // namespace kernelforge
