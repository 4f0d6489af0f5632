// records: what tuning measured, looked at, carried to another home, thrown away, replayed.
#include "Commands.h"
#include "RecordedKernel.h"
#include "Rows.h"
#include "Usage.h"

#include "kernelforge/autotune/Tuner.h"
#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/compiler/RecordKeys.h"
#include "kernelforge/compiler/Targets.h"
#include "kernelforge/measure/Timing.h"
#include "kernelforge/records/RecordStore.h"
#include "kernelforge/support/Log.h"
#include "kernelforge/support/Paths.h"

#include <map>
#include <set>

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cli;

namespace {

struct RecordsCommand {
  std::string key, file, status;
  bool best = false, check = false, full = false;
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

static constexpr const char *untrusted = "untrusted";

/// What became of a record, in a word: what --status asks for.
static std::string stateText(const Record &record) {
  return record.status == RecordStatus::Ok && !record.trusted
             ? untrusted
             : std::string(statusName(record.status));
}

/// Why it takes no part in a choice, in a cell of a table.
static std::string whyText(const Record &record) {
  constexpr size_t most = 70;
  const std::string why = escapeControls(whyNotCompared(record));
  return why.size() <= most ? why : why.substr(0, most - 3) + "...";
}

static std::string microseconds(const Record &record) {
  return record.medianNs ? fmt::format("{:.1f}", *record.medianNs / 1e3) : "";
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
    std::erase_if(records,
                  [&](const Record &record) { return stateText(record) != command.status; });
  const std::vector<CodeCheck> codes =
      command.check ? checkCode(records) : std::vector<CodeCheck>();
  Json rows = Json::array();
  RowTable table{{"key", "kernel", "variant", "status", "us", "ratio", "strategy"}, {}};
  if (command.check)
    table.columns.push_back("code");
  table.columns.insert(table.columns.end(), {"schedule", "why it does not compete"});
  for (size_t i = 0; i < records.size(); ++i) {
    const Record &record = records[i];
    rows.push_back(toJson(record));
    std::vector<std::string> &row = table.rows.emplace_back();
    row = {record.key.id(),      record.name,       record.variant, stateText(record),
           microseconds(record), ratioText(record), record.strategy};
    if (command.check) {
      row.emplace_back(codes[i].name());
      rows.back()["code"] = codes[i].name();
      if (!codes[i].why.empty()) {
        rows.back()["code_why"] = codes[i].why;
        logger().warn("key {}: its code is not known: {}", record.key.id(), codes[i].why);
      }
    }
    row.insert(row.end(), {record.schedule, whyText(record)});
  }
  if (context.json)
    printJson({{"records", rows}, {"torn_lines", torn}});
  else
    printRows(table, {}, "table");
  return 0;
}

/// One key: what it is, what wins, and a line for each record.
static void showKey(const std::vector<Record> &records) {
  const RecordKey &key = records.front().key;
  print(escapeControls(fmt::format("key {}: {} {}", key.id(), key.family, records.front().name)) +
        "\n");
  for (const auto &[name, value] : {std::pair("problem", key.problem),
                                    {"target", key.target},
                                    {"processor", key.cpuModel},
                                    {"threads", std::to_string(key.threads)},
                                    {"toolchain", key.toolchain}})
    print(escapeControls(fmt::format("  {:<10} {}", name, value)) + "\n");
  const std::optional<Choice> choice = choose(records);
  print(escapeControls(
            choice ? fmt::format("  {:<10} {} {}: {}", "chosen", choice->record.variant,
                                 choice->record.schedule, choice->reason)
                   : fmt::format("  {:<10} the analytic default: no record is better", "chosen")) +
        "\n");
  RowTable table{{"variant", "status", "us", "ratio", "strategy", "trial", "created", "schedule",
                  "why it does not compete"},
                 {}};
  for (const Record &record : records)
    table.rows.push_back({record.variant, stateText(record), microseconds(record),
                          ratioText(record), record.strategy, std::to_string(record.trial),
                          record.created, record.schedule, whyText(record)});
  printRows(table, {}, "table");
}

static Expected<int> show(const RecordsCommand &command, const Context &context) {
  KF_TRY(RecordStore store, userStore());
  KF_TRY(std::vector<Record> records, recordsOf(store, command.key));
  if (context.json) {
    for (const Record &record : records)
      printJson(toJson(record));
    return 0;
  }
  if (command.full) {
    for (const Record &record : records)
      print(toJson(record).dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
    return 0;
  }
  std::map<std::string, std::vector<Record>> keys;
  for (Record &record : records)
    keys[record.key.id()].push_back(std::move(record));
  for (const auto &[id, ofKey] : keys)
    showKey(ofKey);
  return 0;
}

static Expected<int> exportRecords(const RecordsCommand &command, const Context &context) {
  KF_TRY(RecordStore store, userStore());
  KF_CHECK(recordsOf(store, command.key)); // an unknown key writes no file
  std::set<std::string> winners;
  if (command.best) {
    KF_TRY(const BestTable best, store.best());
    for (const Record &record : best.records("generated")) {
      KF_TRY(std::string line, recordLine(record));
      if (record.scheduleSource != "analytic")
        winners.insert(std::move(line));
    }
  }
  KF_TRY(uint64_t count, store.exportTo(command.file, [&](const Record &record) {
    return record.key.id().starts_with(command.key) &&
           (!command.best || winners.contains(recordLine(record).value_or("")));
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
  if (counts.damaged > 0 && counts.imported + counts.duplicates == 0)
    return unusable(
        "records cannot be imported", command.file,
        fmt::format("none of its {} lines is a whole record of this version", counts.damaged),
        "give a file that records export or benchmark-matmul --profile wrote");
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
    return unusable("wrong usage", "kernelforge records prune", "what to remove is not said",
                    "give --key or --status");
  KF_TRY(RecordStore store, userStore());
  KF_TRY(PruneCounts counts, store.prune([&](const Record &record) {
    return record.key.id().starts_with(command.key) &&
           (command.status.empty() || stateText(record) == command.status);
  }));
  if (context.json)
    printJson({{"removed", counts.removed}, {"kept", counts.kept}, {"damaged", counts.damaged}});
  else
    print(fmt::format("{} records removed, {} kept, {} damaged lines removed\n", counts.removed,
                      counts.kept, counts.damaged));
  return 0;
}

/// The record of generated code that a key stands for: the winner or, where none is better than the
/// default, the default's newest one.
static std::optional<Choice> replayed(const std::vector<Record> &records, const RecordKey &key) {
  ChoiceOptions choosing; // what others' code does is not ours to replay
  choosing.admits = [](const Record &record) { return record.variant == "generated"; };
  std::optional<Choice> choice = choose(records, key, choosing);
  if (choice)
    return choice;
  for (const Record &record : records)
    if (record.key == key && choosing.admits(record) && record.status == RecordStatus::Ok &&
        record.scheduleSource == "analytic" && !record.kernel.empty() && record.medianNs &&
        !record.baselineNs.empty() && (!choice || record.created >= choice->record.created))
      choice = Choice{record, ratioOf(record.samplesNs, record.baselineNs),
                      "the analytic default: no record is better"};
  return choice;
}

/// Compiles and measures a key's schedule again and says what is the same.
static Expected<int> replay(const RecordsCommand &command, const Context &context) {
  KF_TRY(RecordStore store, userStore());
  KF_TRY(std::vector<Record> records, recordsOf(store, command.key));
  const std::optional<Choice> choice = replayed(records, records.front().key);
  if (!choice)
    return makeError(ErrorKind::No, "nothing to replay", command.key,
                     "no record of generated code of this key was shown to be better than the "
                     "default, and the default has none that is ok",
                     "see kernelforge records show " + records.front().key.id());
  const Record &old = choice->record;
  DialectRegistry registry;
  registerAllStages(registry);
  MLIRContext mlirContext(registry, MLIRContext::Threading::DISABLED);
  mlirContext.loadAllAvailableDialects();
  KF_TRY(RecordedKernel opened,
         openRecordedKernel(&mlirContext, old, /*anyProcessor=*/false, context.device));
  KF_TRY(opened.options.target, targetHere(std::move(opened.options.target), context.device));
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
  print(fmt::format("of the default's time: {:.3f} then, {:.3f} now\n", choice->ratio.median,
                    *now.ratio));
  print(
      fmt::format("time: {:.1f} us then, {:.1f} us now; the default beside it takes {:.3f} of its "
                  "time then, corrected for that it is {:.1f} us\n",
                  *old.medianNs / 1e3, *now.medianNs / 1e3, drift, corrected / 1e3));
  return 0;
}

/// A command of the command, with --json and -v. The example begins with its name.
static CLI::App &addAction(CLI::App &command, Context &context, const CommandText &text,
                           std::function<Expected<int>()> run) {
  const std::string &name = text.name;
  CLI::App *action = command.add_subcommand(name, text.summary);
  action->footer("Example:\n  kernelforge records " + text.example);
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
  std::vector<std::string> states = allStatusNames();
  states.emplace_back(untrusted);
  const CLI::Validator isStatus = oneOf(states);
  CLI::App &lists =
      addAction(command, context, {"list", "one line for each record", "list --best"}, bind(list));
  lists.add_flag("--best", options->best, "the winners only");
  lists.add_flag("--check", options->check,
                 "the winners only, compiled again: whether their code is still the same");
  lists.add_option("--status", options->status, "of that status only")->check(isStatus);
  CLI::App &shows =
      addAction(command, context,
                {"show", "a key, and a line for each of its records", "show 5f3a"}, bind(show));
  shows.add_option("key", options->key, keyText)->required();
  shows.add_flag("--full", options->full, "all fields of the records");
  CLI::App &replays =
      addAction(command, context,
                {"replay", "compiles and measures the best schedule of a key again", "replay 5f3a"},
                bind(replay));
  replays.alias("explain"); // as it was called
  replays.add_option("key", options->key, keyText)->required();
  CLI::App &exports = addAction(
      command, context, {"export", "writes records to a file", "export records.jsonl --key 5f3a"},
      bind(exportRecords));
  exports.add_option("file", options->file, "the file to write")->required();
  exports.add_option("--key", options->key, keyText);
  exports.add_flag("--best", options->best,
                   "of generated code the winners that are better than the default only");
  CLI::App &imports =
      addAction(command, context, {"import", "adds the records of a file", "import records.jsonl"},
                bind(importRecords));
  imports.add_option("file", options->file, "what export wrote")->required();
  CLI::App &prunes = addAction(command, context,
                               {"prune", "removes records", "prune --status crash"}, bind(prune));
  prunes.add_option("--key", options->key, keyText);
  prunes.add_option("--status", options->status, "of that status only")->check(isStatus);
}
