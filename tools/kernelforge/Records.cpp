// records: what tuning measured, looked at, carried to another home, thrown away, replayed.
#include "Commands.h"
#include "Rows.h"

#include "kernelforge/records/RecordStore.h"
#include "kernelforge/support/Paths.h"

#include <fmt/format.h>

using namespace kernelforge;
using namespace kernelforge::cli;

namespace {

struct RecordsCommand {
  std::string key, file, status;
  bool best = false;
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
  if (command.best) {
    KF_TRY(BestTable best, store.best());
    records = best.records();
  }
  Json rows = Json::array();
  RowTable table{{"key", "kernel", "variant", "status", "us", "ratio", "strategy", "schedule"}, {}};
  for (const Record &record : records) {
    if (!command.status.empty() && statusName(record.status) != command.status)
      continue;
    rows.push_back(toJson(record));
    table.rows.push_back({record.key.id(), record.name, record.variant,
                          std::string(statusName(record.status)),
                          record.medianNs ? fmt::format("{:.1f}", *record.medianNs / 1e3) : "",
                          ratioText(record), record.strategy, record.schedule});
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
  CLI::App &lists = addAction(command, context, "list", "one line for each record", bind(list));
  lists.add_flag("--best", options->best, "the winners only");
  lists.add_option("--status", options->status, "of that status only");
  CLI::App &shows =
      addAction(command, context, "show", "all fields of a key's records", bind(show));
  shows.add_option("key", options->key, keyText)->required();
  CLI::App &exports =
      addAction(command, context, "export", "writes records to a file", bind(exportRecords));
  exports.add_option("file", options->file, "the file to write")->required();
  exports.add_option("--key", options->key, keyText);
  CLI::App &imports =
      addAction(command, context, "import", "adds the records of a file", bind(importRecords));
  imports.add_option("file", options->file, "what export wrote")->required();
  CLI::App &prunes = addAction(command, context, "prune", "removes records", bind(prune));
  prunes.add_option("--key", options->key, keyText);
  prunes.add_option("--status", options->status, "of that status only");
}
