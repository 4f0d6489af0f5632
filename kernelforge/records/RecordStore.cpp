#include "kernelforge/records/RecordStore.h"

#include "kernelforge/records/LogFile.h"
#include "kernelforge/support/Log.h"
#include "kernelforge/support/MappedFile.h"
#include "kernelforge/support/OutputFile.h"

#include <algorithm>
#include <set>
#include <system_error>

#include <fmt/format.h>

namespace kernelforge {
namespace fs = std::filesystem;

namespace {

/// What a line of a log is.
enum class LineKind { Usable, Torn, Foreign };

/// Reads one line; `record` is set where it is usable.
LineKind readLine(std::string_view line, const std::string &where, Record &record) {
  if (line.size() > maxRecordBytes || !isWholeRecordLine(line))
    return LineKind::Torn;
  Expected<Record> read = recordFromLine(line, where);
  if (!read) {
    logger().debug("record skipped: {}", read.error().line());
    return LineKind::Foreign;
  }
  record = std::move(*read);
  return LineKind::Usable;
}

} // namespace

RecordStore::RecordStore(fs::path folder)
    : directory(std::move(folder)), warned(std::make_shared<std::atomic<bool>>(false)) {}

//===--------------------------------------------------------------------------------------------===
// The folder
//===--------------------------------------------------------------------------------------------===

Status RecordStore::makeFolder() const {
  std::error_code error;
  fs::create_directories(directory, error);
  if (!error && !fs::is_directory(directory, error) && !error)
    error = std::make_error_code(std::errc::not_a_directory);
  if (error)
    return failed("records cannot be kept", directory.string(), error.message(),
                  "set KERNELFORGE_HOME to a folder that can be written");
  return {};
}

Status RecordStore::writable() const {
  KF_CHECK(makeFolder());
  KF_TRY(FileLock lock, FileLock::acquire(directory / "records.lock"));
  return appendToLog(logFile(), "");
}

Expected<std::vector<fs::path>> RecordStore::logs() const {
  std::vector<fs::path> files;
  std::error_code error;
  fs::directory_iterator entries(directory, error), end;
  if (error == std::errc::no_such_file_or_directory)
    return files;
  for (; !error && entries != end; entries.increment(error))
    if (entries->path().extension() == ".jsonl")
      files.push_back(entries->path());
  if (error)
    return failed("records cannot be read", directory.string(), error.message());
  std::sort(files.begin(), files.end());
  return files;
}

//===--------------------------------------------------------------------------------------------===
// Records
//===--------------------------------------------------------------------------------------------===

Status RecordStore::append(Record record) const {
  if (record.created.empty())
    record.created = recordTimeNow();
  KF_TRY(std::string line, recordLine(record));
  KF_CHECK(makeFolder());
  KF_TRY(FileLock lock, FileLock::acquire(directory / "records.lock"));
  return appendToLog(logFile(), line + "\n");
}

Expected<RecordLog> RecordStore::load() const {
  KF_TRY(std::vector<fs::path> files, logs());
  RecordLog log;
  for (const fs::path &file : files) {
    KF_TRY(std::string text, readLog(file));
    forEachLine(text, [&](std::string_view line) {
      Record record;
      LineKind kind = readLine(line, file.string(), record);
      log.tornLines += kind == LineKind::Torn;
      log.foreignLines += kind == LineKind::Foreign;
      if (kind == LineKind::Usable)
        log.records.push_back(std::move(record));
    });
  }
  if (log.tornLines + log.foreignLines > 0 && !warned->exchange(true))
    logger().warn("records in {}: {} torn or damaged lines and {} of another version are skipped",
                  escapeControls(directory.string()), log.tornLines, log.foreignLines);
  return log;
}

Expected<uint64_t> RecordStore::exportTo(const fs::path &file, const RecordFilter &filter) const {
  KF_TRY(std::vector<fs::path> files, logs());
  std::string exported;
  uint64_t count = 0;
  for (const fs::path &log : files) {
    KF_TRY(std::string text, readLog(log));
    forEachLine(text, [&](std::string_view line) {
      Record record;
      if (readLine(line, log.string(), record) != LineKind::Usable || (filter && !filter(record)))
        return;
      exported.append(line).append("\n"); // as it is: fields of later versions stay
      ++count;
    });
  }
  KF_CHECK(writeOutput(file, exported));
  return count;
}

Expected<ImportCounts> RecordStore::importFrom(const fs::path &file) const {
  KF_TRY(std::string text, readText(file.string(), "records cannot be read", maxLogBytes));
  KF_CHECK(makeFolder());
  KF_TRY(FileLock lock, FileLock::acquire(directory / "records.lock"));
  std::set<std::string, std::less<>> known;
  KF_TRY(std::vector<fs::path> files, logs());
  for (const fs::path &log : files) {
    KF_TRY(std::string lines, readLog(log));
    forEachLine(lines, [&](std::string_view line) { known.emplace(line); });
  }
  ImportCounts counts;
  std::string added;
  forEachLine(text, [&](std::string_view line) {
    Record record;
    if (readLine(line, file.string(), record) != LineKind::Usable) {
      ++counts.damaged;
    } else if (!known.emplace(line).second) {
      ++counts.duplicates;
    } else {
      added.append(line).append("\n");
      ++counts.imported;
    }
  });
  if (!added.empty())
    KF_CHECK(appendToLog(logFile(), added));
  return counts;
}

Expected<PruneCounts> RecordStore::prune(const RecordFilter &remove) const {
  PruneCounts counts;
  std::error_code error;
  if (!fs::exists(directory, error) && !error)
    return counts;
  KF_TRY(FileLock lock, FileLock::acquire(directory / "records.lock"));
  KF_TRY(std::vector<fs::path> files, logs());
  for (const fs::path &file : files) {
    KF_TRY(std::string text, readLog(file));
    std::string kept;
    forEachLine(text, [&](std::string_view line) {
      Record record;
      LineKind kind = readLine(line, file.string(), record);
      const bool removed = kind == LineKind::Usable && remove(record);
      counts.damaged += kind == LineKind::Torn;
      counts.removed += removed;
      if (kind == LineKind::Torn || removed)
        return;
      counts.kept += kind == LineKind::Usable;
      kept.append(line).append("\n");
    });
    if (kept == text)
      continue;
    KF_CHECK(writeOutput(file, kept));
  }
  return counts;
}

} // namespace kernelforge
