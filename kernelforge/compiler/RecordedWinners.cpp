#include "kernelforge/compiler/RecordedWinners.h"

#include "kernelforge/support/Log.h"

using namespace kernelforge;

RecordedWinners::RecordedWinners(const RecordStore *from) {
  if (!from)
    return;
  if (Expected<BestTable> best = from->best()) {
    table = std::move(*best);
    store = *from;
  } else {
    logger().warn("{}; going on without records", best.error().line());
  }
}

std::optional<RecordedWinners::Found>
RecordedWinners::find(const RecordKey &key, const std::function<bool(const Record &)> &admits) {
  std::optional<Record> best = table.find(key);
  if (!best)
    return std::nullopt;
  if (admits(*best))
    return Found{std::move(*best), true};
  // The table knows the winner only. The next ones are in the logs.
  if (!log) {
    Expected<RecordLog> read = store->load();
    if (!read)
      logger().warn("{}; going on without records", read.error().line());
    log = read ? std::move(*read) : RecordLog();
  }
  ChoiceOptions options;
  options.admits = admits;
  if (std::optional<Choice> next = choose(log->records, key, options))
    return Found{std::move(next->record), false};
  return std::nullopt;
}

std::optional<Record>
RecordedWinners::nearestGenerated(const RecordKey &key,
                                  const std::function<bool(const Record &)> &admits) {
  if (empty())
    return std::nullopt;
  if (generated.empty())
    generated = table.records("generated");
  return nearest(generated, key, admits);
}

bool kernelforge::canRun(const Record &record, const MatmulRegistry &variants,
                         const MatmulProblem &problem, int threads) {
  const auto kernel = variants.find(record.variant);
  if (!kernel || !(*kernel)->supports(problem))
    return false;
  const std::string schedule = scheduleOf(record);
  if (schedule.empty())
    return true;
  const std::optional<ScheduleSpace> space = (*kernel)->scheduleSpace(problem, threads);
  const Expected<KnobValues> knobs = parseKnobs(schedule, "records");
  return space && knobs && space->check(*knobs);
}

std::string kernelforge::scheduleOf(const Record &record) {
  return record.schedule == "{}" ? "" : record.schedule;
}
