// Tuning records on disk: a folder of append-only logs, one JSON object a line, and a table of the
// winners derived from them. Any number of processes may use one folder at once, and any of them
// may be killed at any point: a record whose append returned is never lost, a half-written one is
// skipped, counted and harmless.
//
// How: whoever changes a log holds an exclusive lock on the file `records.lock`, which is never
// renamed nor removed; a log is opened only after the lock is held. A log is appended to, or
// replaced as a whole by a rename (prune). An appender therefore never writes into a file that was
// renamed away, and prune sees every finished append. Readers take no lock: they see a log before
// or after a change, or the beginning of a line, which its checksum tells. The lock is the
// kernel's (flock): it goes with the process that holds it.
#pragma once

#include "kernelforge/records/Choice.h"
#include "kernelforge/records/Record.h"

#include <atomic>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

namespace kernelforge {

/// What was in the logs.
struct RecordLog {
  std::vector<Record> records; ///< in the order of file names, then of lines
  uint64_t tornLines = 0;      ///< torn or damaged: no right checksum
  uint64_t foreignLines = 0;   ///< whole, but not for this version of the program
};

/// What an import did.
struct ImportCounts {
  uint64_t imported = 0;
  uint64_t duplicates = 0; ///< there already, or twice in the file
  uint64_t damaged = 0;    ///< torn, damaged or not for this version
};

/// What a prune did.
struct PruneCounts {
  uint64_t removed = 0;
  uint64_t kept = 0;
  uint64_t damaged = 0; ///< torn or damaged lines, removed too
};

using RecordFilter = std::function<bool(const Record &)>;

/// The winner of each key and, for a caller that can only use some, of each of its variants, as
/// choose() finds them.
class BestTable {
public:
  /// The winner's record of a key, of all variants where `variant` is empty; nothing where none is
  /// known or its line is damaged.
  std::optional<Record> find(const RecordKey &key, const std::string &variant = "") const;

  /// Whether records of a key and variant could be compared and none was shown to be better than
  /// the analytic default: it is to be taken.
  bool defaultStays(const RecordKey &key, const std::string &variant) const;

  /// The winners of all keys, in the order of their ids: what nearest() looks at.
  std::vector<Record> records(const std::string &variant = "") const;

  /// How many keys have a winner.
  size_t size() const;

private:
  friend class RecordStore;
  struct Entry {
    std::string winner; ///< the variant that won; empty: none did

    /// Each variant's winner, as a record's line; empty where the default stays.
    std::map<std::string, std::string> lines;

    /// Null where there is none.
    const std::string *line(const std::string &variant) const;
  };
  std::map<std::string, Entry> keys; ///< by id
};

/// One folder of records. Cheap to make and to copy; opens nothing before it is used. May be used
/// from several threads and processes. An error of one call says nothing about the next: a caller
/// whose records cannot be kept may go on without.
class RecordStore {
public:
  explicit RecordStore(std::filesystem::path folder);

  const std::filesystem::path &folder() const { return directory; }

  /// The log that append() writes.
  std::filesystem::path logFile() const { return directory / "records.jsonl"; }

  /// Nothing wrong, or the error that append() would meet: the folder cannot be made, is no folder,
  /// is read-only, ... A full disk shows only when written to. Creates folder,
  /// lock and an empty log where they are not there.
  Status writable() const;

  /// Adds a record at the end of the log, durably; sets `created` where it is empty. Where it
  /// cannot, the log is as before: what was written of the line is taken back or, if that fails
  /// too, set apart by the next append. Where a limit on file sizes is set, SIGXFSZ must be ignored
  /// by the process to get the error.
  Status append(Record record) const;

  /// All records of all logs (*.jsonl). A folder that is not there has none. The first time that
  /// lines are skipped, a warning says how many; a line that is being written right now counts as
  /// torn.
  Expected<RecordLog> load() const;

  /// The winners. Taken from best.json where that was derived from the logs as they are now (same
  /// names, inodes, sizes and times); else derived anew and published by a rename. Loading 20,000
  /// records takes more than a second, the table of their winners some milliseconds: hence a table.
  Expected<BestTable> best() const;

  /// Writes the records that pass the filter (empty: all) to a file of their own, which is
  /// replaced. Returns how many.
  Expected<uint64_t> exportTo(const std::filesystem::path &file, const RecordFilter &filter) const;

  /// Adds the records of a file, as they are: with their key, hence of no use to another processor,
  /// and with their checksum. Lines that are in a log already are left out.
  Expected<ImportCounts> importFrom(const std::filesystem::path &file) const;

  /// Removes the records for which `remove` is true, and torn lines. Records of other versions
  /// stay.
  Expected<PruneCounts> prune(const RecordFilter &remove) const;

private:
  Status appendLines(std::string_view lines) const;
  Status makeFolder() const;
  Expected<std::vector<std::filesystem::path>> logs() const;
  Expected<std::string> state() const;
  static Expected<BestTable> tableFrom(const JsonView &best);
  std::optional<BestTable> readTable(std::string_view state) const;

  std::filesystem::path directory;
  std::shared_ptr<std::atomic<bool>> warned;
};

} // namespace kernelforge
