// records: what tuning measured, looked at, carried to another home, thrown away, replayed.
#include "Commands.h"
#include "RecordedKernel.h"
#include "Rows.h"
#include "Usage.h"

#include "kernelforge/autotune/Tuner.h"
#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/compiler/RecordKeys.h"
#include "kernelforge/measure/Timing.h"
#include "kernelforge/records/RecordStore.h"
#include "kernelforge/support/Log.h"
#include "kernelforge/support/Paths.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cli;

namespace {

struct RecordsCommand {
  std::string key, file, status;
  bool best = false, check = false;
};

} // namespace

static Expected<RecordStore> userStore() {
  KF_TRY(std::filesystem::path folder, recordsDirectory());
  return RecordStore(folder);
}

/// Records whose key's id begins with `key`; all for an empty one.
static Expected<std::vector<Record>> recordsOf(const RecordStore &store, const std::string &key,
                                               uint64_t *torn = nullptr) {
  KF_TRY(RecordLog log, store.load());
  if (torn)
    *torn = log.tornLines;
  std::vector<Record> chosen;
  for (Record &record : log.records)
    if (record.key.id().starts_with(key))
      chosen.push_back(std::move(record));
  if (chosen.empty() && !key.empty())
    return makeError(ErrorKind::Missing, "no such record", key,
                     "no record in " + store.folder().string() + " has a key that begins so",
                     "see kernelforge records list");
  return chosen;
}

static std::string ratioText(const Record &record) {
  return record.ratio ? fmt::format("{:.3f}", *record.ratio) : "";
}

static Expected<int> list(const RecordsCommand &command, const Context &context) {
  KF_TRY(RecordStore store, userStore());
  uint64_t torn = 0;
  KF_TRY(std::vector<Record> records, recordsOf(store, "", &torn));
  if (command.best || command.check) {
    KF_TRY(BestTable best, store.best());
    records = best.records();
  }
  if (!command.status.empty())
    std::erase_if(
        records, [&](const Record &record) { return statusName(record.status) != command.status; });
  const std::vector<CodeCheck> codes =
      command.check ? checkCode(records) : std::vector<CodeCheck>();
  Json rows = Json::array();
  RowTable table{{"key", "kernel", "variant", "status", "us", "ratio", "strategy"}, {}};
  if (command.check)
    table.columns.push_back("code");
  table.columns.push_back("schedule");
  for (size_t i = 0; i < records.size(); ++i) {
    const Record &record = records[i];
    const std::string us = record.medianNs ? fmt::format("{:.1f}", *record.medianNs / 1e3) : "";
    rows.push_back(toJson(record));
    std::vector<std::string> &row = table.rows.emplace_back();
    row = {record.key.id(),
           record.name,
           record.variant,
           std::string(statusName(record.status)),
           us,
           ratioText(record),
           record.strategy};
    if (command.check) {
      row.emplace_back(codes[i].name());
      rows.back()["code"] = codes[i].name();
      if (!codes[i].why.empty()) {
        rows.back()["code_why"] = codes[i].why;
        logger().warn("key {}: its code is not known: {}", record.key.id(), codes[i].why);
      }
    }
    row.push_back(record.schedule);
  }
  if (context.json)
    printJson({{"records", rows}, {"torn_lines", torn}});
  else
    printRows(table, {}, "table");
  return 0;
}

static Expected<int> show(const RecordsCommand &command, const Context &context) {
  KF_TRY(RecordStore store, userStore());
  KF_TRY(std::vector<Record> records, recordsOf(store, command.key));
  if (context.json) {
    for (const Record &record : records)
      printJson(toJson(record));
    return 0;
  }
  for (const Record &record : records)
    print(toJson(record).dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  return 0;
}

static Expected<int> exportRecords(const RecordsCommand &command, const Context &context) {
  KF_TRY(RecordStore store, userStore());
  KF_CHECK(recordsOf(store, command.key)); // an unknown key writes no file
  KF_TRY(uint64_t count, store.exportTo(command.file, [&](const Record &record) {
    return record.key.id().starts_with(command.key);
  }));
  if (context.json)
    printJson({{"exported", count}, {"file", command.file}});
  else
    print(fmt::format("{} records written to {}\n", count, command.file));
  return 0;
}

static Expected<int> importRecords(const RecordsCommand &command, const Context &context) {
  KF_TRY(RecordStore store, userStore());
  KF_TRY(ImportCounts counts, store.importFrom(command.file));
  if (context.json)
    printJson({{"imported", counts.imported},
               {"duplicates", counts.duplicates},
               {"damaged", counts.damaged}});
  else
    print(fmt::format("{} records imported, {} were there already, {} lines are damaged\n",
                      counts.imported, counts.duplicates, counts.damaged));
  return 0;
}

static Expected<int> prune(const RecordsCommand &command, const Context &context) {
  if (command.key.empty() && command.status.empty())
    return unusable("wrong usage", "records prune", "what to remove is not said",
                    "give --key or --status");
  KF_TRY(RecordStore store, userStore());
  KF_TRY(PruneCounts counts, store.prune([&](const Record &record) {
    return record.key.id().starts_with(command.key) &&
           (command.status.empty() || statusName(record.status) == command.status);
  }));
  if (context.json)
    printJson({{"removed", counts.removed}, {"kept", counts.kept}, {"damaged", counts.damaged}});
  else
    print(fmt::format("{} records removed, {} kept, {} damaged lines removed\n", counts.removed,
                      counts.kept, counts.damaged));
  return 0;
}

/// Replays the winner of a key: compiles and measures it again and says what is the same.
static Expected<int> explain(const RecordsCommand &command, const Context &context) {
  KF_TRY(RecordStore store, userStore());
  KF_TRY(std::vector<Record> records, recordsOf(store, command.key));
  ChoiceOptions choosing; // what others' code does is not ours to replay
  choosing.admits = [](const Record &record) { return record.variant == "generated"; };
  std::optional<Choice> choice = choose(records, records.front().key, choosing);
  if (!choice)
    return makeError(
        ErrorKind::No, "nothing to replay", command.key,
        "no record of generated code of this key is ok and measured beside a baseline");
  const Record &old = choice->record;
  DialectRegistry registry;
  registerAllStages(registry);
  MLIRContext mlirContext(registry, MLIRContext::Threading::DISABLED);
  mlirContext.loadAllAvailableDialects();
  KF_TRY(RecordedKernel opened, openRecordedKernel(&mlirContext, old, /*anyProcessor=*/false));
  KF_CHECK(checkRunnable(opened.options.target));
  KF_TRY(std::unique_ptr<KernelProblem> problem,
         KernelProblem::create(opened.kernel, opened.options));
  KF_TRY(KnobValues schedule, parseKnobs(old.schedule, "records"));
  TuneOptions tuning;
  if (const std::optional<std::string> baseline = scheduleOfBaseline(old)) {
    KF_TRY(tuning.start, parseKnobs(*baseline, "records"));
  }
  KF_TRY(Record now, measureSchedule(*problem, schedule, tuning));
  if (now.status != RecordStatus::Ok)
    return makeError(ErrorKind::No, "replay failed", old.key.id(), now.error);
  // The machine's speed now and then, by the baseline that was measured beside both.
  const double drift = median(now.baselineNs) / median(old.baselineNs);
  const double corrected = *now.medianNs / drift;
  const bool stale = isStale(old, now.codeHash), sameBits = old.outputBits == now.outputBits;
  Json json = {{"key", old.key.id()},
               {"kernel", old.name},
               {"schedule", Json::parse(old.schedule)},
               {"reason", choice->reason},
               {"stale", stale},
               {"code_hash", {{"then", old.codeHash}, {"now", now.codeHash}}},
               {"output_bits_equal", sameBits},
               {"median_ns",
                {{"then", *old.medianNs}, {"now", *now.medianNs}, {"now_corrected", corrected}}},
               {"drift", drift},
               {"ratio", {{"then", choice->ratio.median}, {"now", *now.ratio}}},
               {"predicted_ns", *now.predictedNs}};
  if (context.json) {
    printJson(json);
    return 0;
  }
  print(fmt::format("kernel {} of key {}\nschedule {}\nchosen: {}\n", old.name, old.key.id(),
                    old.schedule, choice->reason));
  print(fmt::format("code: {}\noutput: {}\n",
                    stale ? "changed since (stale)" : "the same, " + now.codeHash.substr(0, 16),
                    sameBits ? "the same bits" : "other bits"));
  print(fmt::format("time: {:.1f} us then, {:.1f} us now, {:.1f} us corrected for the machine's "
                    "drift ({:+.1f} %)\n",
                    *old.medianNs / 1e3, *now.medianNs / 1e3, corrected / 1e3,
                    (corrected / *old.medianNs - 1) * 100));
  return 0;
}

/// A command of the command, with --json and -v.
static CLI::App &addAction(CLI::App &command, Context &context, const std::string &name,
                           const std::string &summary, std::function<Expected<int>()> run) {
  CLI::App *action = command.add_subcommand(name, summary);
  action->add_flag("--json", context.json, "machine-readable output, nothing else on stdout");
  action->add_flag("-v", context.verbosity, "say what is done; -vv and -vvv say more");
  action->callback([&context, name, run = std::move(run)] {
    context.command = "records " + name;
    context.action = run;
  });
  return *action;
}

void cli::addRecords(CLI::App &app, Context &context) {
  auto options = std::make_shared<RecordsCommand>();
  CLI::App &command =
      *app.add_subcommand("records", "lists, shows, replays and carries tuning records");
  command.footer("Example:\n  kernelforge records list --best");
  command.require_subcommand(1);
  auto bind = [&](Expected<int> (*run)(const RecordsCommand &, const Context &)) {
    return [options, run, &context] { return run(*options, context); };
  };
  const char *keyText = "id of a key, or its first digits";
  const CLI::Validator isStatus = oneOf(allStatusNames());
  CLI::App &lists = addAction(command, context, "list", "one line for each record", bind(list));
  lists.add_flag("--best", options->best, "the winners only");
  lists.add_flag("--check", options->check,
                 "the winners only, compiled again: whether their code is still the same");
  lists.add_option("--status", options->status, "of that status only")->check(isStatus);
  CLI::App &shows =
      addAction(command, context, "show", "all fields of a key's records", bind(show));
  shows.add_option("key", options->key, keyText)->required();
  CLI::App &explains =
      addAction(command, context, "explain", "replays the best schedule of a key", bind(explain));
  explains.add_option("key", options->key, keyText)->required();
  CLI::App &exports =
      addAction(command, context, "export", "writes records to a file", bind(exportRecords));
  exports.add_option("file", options->file, "the file to write")->required();
  exports.add_option("--key", options->key, keyText);
  CLI::App &imports =
      addAction(command, context, "import", "adds the records of a file", bind(importRecords));
  imports.add_option("file", options->file, "what export wrote")->required();
  CLI::App &prunes = addAction(command, context, "prune", "removes records", bind(prune));
  prunes.add_option("--key", options->key, keyText);
  prunes.add_option("--status", options->status, "of that status only")->check(isStatus);
}
