// The derived table: best.json holds the winning line of each key and what logs it was made from.
#include "kernelforge/ir/Hash.h"
#include "kernelforge/records/LogFile.h"
#include "kernelforge/records/RecordStore.h"
#include "kernelforge/support/AtomicFile.h"

#include <sys/stat.h>
#include <system_error>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace kernelforge {
namespace fs = std::filesystem;

namespace {

/// Raise it when the table's format or the rule of choose() changes: old tables are then rebuilt.
constexpr int64_t tableVersion = 1;

constexpr JsonLimits tableLimits{uint64_t(1) << 30, 4, 2'000'000, 2'000'000};

std::string checksumOf(std::string_view state, const Json &lines) {
  return sha256Hex(std::string(state) + "\n" + lines.dump());
}

} // namespace

std::optional<Record> BestTable::find(const RecordKey &key) const {
  auto found = lines.find(key.id());
  if (found == lines.end())
    return std::nullopt;
  Expected<Record> record = recordFromLine(found->second, "best.json");
  if (!record || !(record->key == key))
    return std::nullopt;
  return std::move(*record);
}

std::vector<Record> BestTable::records() const {
  std::vector<Record> all;
  for (const auto &[id, line] : lines)
    if (Expected<Record> record = recordFromLine(line, "best.json"))
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

std::optional<BestTable> RecordStore::readTable(std::string_view state) const {
  const fs::path file = directory / "best.json";
  std::error_code error;
  if (!fs::exists(file, error))
    return std::nullopt;
  // A table of other logs, of another version or damaged is rebuilt: the reason does not matter.
  Expected<JsonDocument> document =
      readJsonFile(file.string(), "table of best records is not usable", tableLimits);
  if (!document)
    return std::nullopt;
  const JsonView root = document->root();
  if (!root.integer("version", tableVersion, tableVersion) || !root.has("best"))
    return std::nullopt;
  Expected<std::string> logs = root.string("logs", tableLimits.maxBytes);
  Expected<std::string> checksum = root.string("checksum", 64);
  const Json &best = document->value()["best"];
  if (!logs || *logs != state || !checksum || !best.is_object() ||
      *checksum != checksumOf(state, best))
    return std::nullopt;
  BestTable table;
  for (const auto &[id, line] : best.items())
    if (line.is_string())
      table.lines.emplace(id, line.get<std::string>());
  return table;
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
  Json lines = Json::object();
  for (const auto &[text, records] : keys) {
    std::optional<Choice> choice = choose(records);
    if (!choice)
      continue;
    KF_TRY(std::string line, recordLine(choice->record));
    std::string id = choice->record.key.id();
    lines[id] = line;
    table.lines.emplace(std::move(id), std::move(line));
  }
  Json json = {{"version", tableVersion},
               {"logs", now},
               {"checksum", checksumOf(now, lines)},
               {"best", std::move(lines)}};
  // A folder that cannot be written has no table: the next reader derives it again. Without logs
  // there is nothing to derive, and perhaps no folder.
  if (!log.records.empty())
    if (Status status = writeFileAtomically(directory / "best.json", json.dump()); !status)
      spdlog::debug("{}", status.error().line());
  return table;
}

} // namespace kernelforge
