// The derived table: best.json holds the winning line of each key and what logs it was made from.
#include "kernelforge/ir/Hash.h"
#include "kernelforge/records/LogFile.h"
#include "kernelforge/records/RecordStore.h"
#include "kernelforge/support/AtomicFile.h"
#include "kernelforge/support/Log.h"

#include <algorithm>
#include <set>
#include <sys/stat.h>
#include <system_error>

#include <fmt/format.h>

namespace kernelforge {
namespace fs = std::filesystem;

namespace {

/// Raise it when the table's format or the rule of choose() changes: old tables are then rebuilt.
constexpr int64_t tableVersion = 2;

constexpr JsonLimits tableLimits{uint64_t(1) << 30, 8, 2'000'000, 2'000'000};

constexpr const char *tableName = "best.json";

std::string checksumOf(std::string_view state, const Json &best) {
  return sha256Hex(std::string(state) + "\n" + best.dump());
}

} // namespace

const std::string *BestTable::Entry::line(const std::string &variant) const {
  auto found = lines.find(variant.empty() ? winner : variant);
  return found == lines.end() ? nullptr : &found->second;
}

std::optional<Record> BestTable::find(const RecordKey &key, const std::string &variant) const {
  auto entry = keys.find(key.id());
  const std::string *line = entry == keys.end() ? nullptr : entry->second.line(variant);
  if (!line)
    return std::nullopt;
  Expected<Record> record = recordFromLine(*line, tableName);
  if (!record || !(record->key == key))
    return std::nullopt;
  return std::move(*record);
}

bool BestTable::defaultStays(const RecordKey &key, const std::string &variant) const {
  auto entry = keys.find(key.id());
  const std::string *line = entry == keys.end() ? nullptr : entry->second.line(variant);
  return line && line->empty();
}

size_t BestTable::size() const {
  return static_cast<size_t>(
      std::ranges::count_if(keys, [](const auto &key) { return !key.second.winner.empty(); }));
}

std::vector<Record> BestTable::records(const std::string &variant) const {
  std::vector<Record> all;
  for (const auto &[id, entry] : keys)
    if (const std::string *line = entry.line(variant))
      if (Expected<Record> record = recordFromLine(*line, tableName))
        all.push_back(std::move(*record));
  return all;
}

/// The logs as they are now, as text. An inode's number may be used again after a prune, hence the
/// time as well.
Expected<std::string> RecordStore::state() const {
  KF_TRY(std::vector<fs::path> files, logs());
  Json state = Json::array();
  for (const fs::path &file : files) {
    struct stat status;
    if (::stat(file.c_str(), &status) != 0)
      return failed("records cannot be read", file.string(),
                    std::generic_category().message(errno));
    state.push_back({{"name", file.filename().string()},
                     {"inode", status.st_ino},
                     {"bytes", status.st_size},
                     {"seconds", status.st_mtim.tv_sec},
                     {"nanoseconds", status.st_mtim.tv_nsec}});
  }
  return state.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Expected<BestTable> RecordStore::tableFrom(const JsonView &best) {
  BestTable table;
  KF_TRY(auto entries, best.members());
  for (const auto &[id, view] : entries) {
    BestTable::Entry &entry = table.keys[id];
    KF_TRY(entry.winner, view.string("winner", maxRecordBytes));
    KF_TRY(JsonView lines, view.object("lines"));
    KF_TRY(auto members, lines.members());
    for (const auto &[variant, line] : members) {
      KF_TRY(entry.lines[variant], line.asString(maxRecordBytes));
    }
  }
  return table;
}

std::optional<BestTable> RecordStore::readTable(std::string_view state) const {
  const fs::path file = directory / tableName;
  std::error_code error;
  if (!fs::exists(file, error))
    return std::nullopt;
  // A table of other logs, of another version or damaged is rebuilt: the reason does not matter.
  Expected<JsonDocument> document =
      readJsonFile(file.string(), "table of best records is not usable", tableLimits);
  if (!document)
    return std::nullopt;
  const JsonView root = document->root();
  Expected<std::string> logs = root.string("logs", tableLimits.maxBytes);
  Expected<std::string> checksum = root.string("checksum", 64);
  Expected<JsonView> best = root.object("best");
  if (!root.integer("version", tableVersion, tableVersion) || !logs || *logs != state ||
      !checksum || !best || *checksum != checksumOf(state, best->value()))
    return std::nullopt;
  Expected<BestTable> table = tableFrom(*best);
  return table ? std::optional(std::move(*table)) : std::nullopt;
}

Expected<BestTable> RecordStore::best() const {
  // Looked at before the logs are read: what is appended meanwhile makes the table stale.
  KF_TRY(std::string now, state());
  if (std::optional<BestTable> table = readTable(now))
    return std::move(*table);

  KF_TRY(RecordLog log, load());
  std::map<std::string, std::vector<Record>> keys;
  for (Record &record : log.records)
    keys[record.key.text()].push_back(std::move(record));
  BestTable table;
  Json best = Json::object();
  for (const auto &[text, records] : keys) {
    const std::optional<Choice> winner = choose(records);
    BestTable::Entry entry{winner ? winner->record.variant : "", {}};
    std::set<std::string> variants; // that can be compared
    for (const Record &record : records)
      if (whyNotCompared(record).empty())
        variants.insert(record.variant);
    if (variants.empty())
      continue;
    for (const std::string &variant : variants) {
      ChoiceOptions options;
      options.admits = [&](const Record &record) { return record.variant == variant; };
      std::optional<Choice> choice = choose(records, options);
      // Where all variants compete, their common baseline may have another record on top.
      if (winner && variant == entry.winner)
        choice = winner;
      std::string &line = entry.lines[variant];
      if (choice) {
        KF_TRY(line, recordLine(choice->record));
      }
    }
    std::string id = records.front().key.id();
    best[id] = {{"winner", entry.winner}, {"lines", entry.lines}};
    table.keys.emplace(std::move(id), std::move(entry));
  }
  Json json = {{"version", tableVersion},
               {"logs", now},
               {"checksum", checksumOf(now, best)},
               {"best", std::move(best)}};
  // A folder that cannot be written has no table: the next reader derives it again. Without logs
  // there is nothing to derive, and perhaps no folder.
  if (!log.records.empty())
    if (Status status = writeFileAtomically(directory / tableName, json.dump()); !status)
      logger().debug("{}", status.error().line());
  return table;
}

} // namespace kernelforge
