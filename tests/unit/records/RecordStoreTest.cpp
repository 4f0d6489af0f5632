#include "Records.h"

#include "kernelforge/ir/Hash.h"
#include "kernelforge/records/RecordStore.h"
#include "kernelforge/support/Log.h"

#include <gmock/gmock.h>
#include <set>
#include <sstream>
#include <sys/stat.h>
#include <unistd.h>

#include <spdlog/logger.h>
#include <spdlog/sinks/ostream_sink.h>

using namespace kernelforge;
using testing::ElementsAre;
using testing::HasSubstr;
namespace fs = std::filesystem;

namespace {

class Store : public FolderTest {
protected:
  void SetUp() override {
    FolderTest::SetUp();
    auto logger = std::make_shared<spdlog::logger>(
        "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(log));
    logger->set_pattern("%l: %v");
    before = setLogger(logger);
  }
  void TearDown() override {
    setLogger(before);
    FolderTest::TearDown();
  }

  RecordStore store() const { return RecordStore(folder / "home" / "records"); }

  void append(int64_t trial) const {
    Status status = store().append(recordOf(trial));
    EXPECT_TRUE(status) << status.error().line();
  }
  static RecordLog load(const RecordStore &store) {
    Expected<RecordLog> log = store.load();
    EXPECT_TRUE(log) << log.error().line();
    return log.value_or(RecordLog());
  }
  static std::vector<int64_t> trials(const RecordStore &store) {
    std::vector<int64_t> trials;
    for (const Record &record : load(store).records)
      trials.push_back(record.trial);
    return trials;
  }
  /// Rewrites the log with a line's field `trial` renamed: whole JSON, wrong checksum.
  void damage(const RecordStore &store, int64_t trial) const {
    std::string text = read(store.logFile());
    const size_t at = text.find("\"trial\":" + std::to_string(trial) + ",");
    ASSERT_NE(at, std::string::npos);
    text[at + 1] = 'T';
    write(store.logFile(), text);
  }

  std::ostringstream log;
  std::shared_ptr<spdlog::logger> before;
};

TEST_F(Store, KeepsRecordsInOrder) {
  EXPECT_TRUE(load(store()).records.empty()) << "a folder that is not there has none";
  EXPECT_FALSE(fs::exists(store().folder()));
  for (int trial : {3, 1, 2})
    append(trial);
  RecordLog log = load(store());
  ASSERT_EQ(log.records.size(), 3u);
  EXPECT_EQ(toJson(log.records[0]), toJson(recordOf(3)));
  EXPECT_THAT(trials(store()), ElementsAre(3, 1, 2));
  EXPECT_EQ(log.tornLines, 0u);
  EXPECT_EQ(log.foreignLines, 0u);
  EXPECT_EQ(this->log.str(), "");
}

TEST_F(Store, SetsTheTimeWhereThereIsNone) {
  Record record = recordOf(1);
  record.created = "";
  ASSERT_TRUE(store().append(record));
  EXPECT_THAT(load(store()).records.at(0).created, testing::EndsWith("Z"));
}

TEST_F(Store, RefusesWhatCannotBeRead) {
  append(1);
  Record record = recordOf(2);
  record.key.problem = "none";
  Status status = store().append(record);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().kind, ErrorKind::Unusable);
  append(3);
  EXPECT_THAT(trials(store()), ElementsAre(1, 3));
}

TEST_F(Store, ReadsAllLogsOfTheFolder) {
  append(1);
  std::string line = read(store().logFile());
  fs::rename(store().logFile(), store().folder() / "a.jsonl");
  append(2);
  write(store().folder() / "z.jsonl", line);
  write(store().folder() / "notes.txt", "not a log\n");
  EXPECT_THAT(trials(store()), ElementsAre(1, 2, 1));
  EXPECT_EQ(load(store()).tornLines, 0u);
}

TEST_F(Store, LastLineTornAtEveryByteCostsOnlyItself) {
  append(1);
  const std::string first = read(store().logFile());
  append(2);
  const std::string both = read(store().logFile());
  append(3);
  const std::string third = read(store().logFile()).substr(both.size());
  for (size_t length = first.size(); length <= both.size(); ++length) {
    write(store().logFile(), both.substr(0, length));
    const bool nothing = length == first.size();  // cut away as a whole
    const bool whole = length + 1 >= both.size(); // at most the line break is missing
    RecordLog log = load(store());
    ASSERT_EQ(log.records.size(), whole ? 2u : 1u) << length;
    ASSERT_EQ(log.tornLines, nothing || whole ? 0u : 1u) << length;
    // As append() does, without its wait for the disk; some lengths go through append() itself.
    if (length % 101 == 0 || length + 3 >= both.size()) {
      append(3);
    } else {
      write(store().logFile(), both.substr(0, length) + (nothing ? "" : "\n") + third);
    }
    log = load(store());
    ASSERT_EQ(log.records.size(), whole ? 3u : 2u) << length;
    ASSERT_EQ(log.records.front().trial, 1) << length;
    ASSERT_EQ(log.records.back().trial, 3) << length;
    ASSERT_EQ(log.tornLines, nothing || whole ? 0u : 1u) << length;
  }
}

TEST_F(Store, SkipsAndCountsDamageInTheMiddleAndWarnsOnce) {
  for (int trial : {1, 2, 3})
    append(trial);
  damage(store(), 2);
  const RecordStore one = store();
  EXPECT_THAT(trials(one), ElementsAre(1, 3));
  EXPECT_EQ(load(one).tornLines, 1u);
  const std::string text = log.str();
  EXPECT_THAT(text, HasSubstr("warning: "));
  EXPECT_THAT(text, HasSubstr("1 torn or damaged lines"));
  EXPECT_EQ(text.find("warning: ", text.find("warning: ") + 1), std::string::npos) << text;
}

TEST_F(Store, SkipsGarbage) {
  append(1);
  const std::string line = read(store().logFile());
  write(store().logFile(),
        std::string("\0\xff\n\n\r\n{}\n", 9) + std::string(3 << 20, 'x') + "\n" + line + "[1,2");
  RecordLog log = load(store());
  EXPECT_EQ(log.records.size(), 1u);
  EXPECT_EQ(log.tornLines, 5u); // an empty line is none
}

/// A line as another version of the program might write it: other fields, the right checksum as
/// docs/records.md says it.
std::string lineOfVersion(int version, const std::string &more) {
  Json json = toJson(recordOf(77));
  json["schema_version"] = version;
  std::string body = json.dump();
  body.pop_back();
  body += more;
  return body + ",\"checksum\":\"" + sha256Hex(body).substr(0, 16) + "\"}";
}

TEST_F(Store, KeepsLinesOfOtherVersions) {
  append(1);
  std::string foreign = lineOfVersion(2, "");
  std::string newer = lineOfVersion(1, R"(,"new":[1])");
  write(store().logFile(), read(store().logFile()) + foreign + "\n" + newer + "\n");
  RecordLog log = load(store());
  EXPECT_EQ(log.records.size(), 2u);
  EXPECT_EQ(log.foreignLines, 1u);
  EXPECT_EQ(log.tornLines, 0u);
  // Rewritten, they are the same: also the field that this version does not know.
  ASSERT_TRUE(store().prune([](const Record &record) { return record.trial == 1; }));
  EXPECT_EQ(read(store().logFile()), foreign + "\n" + newer + "\n");
}

//===--------------------------------------------------------------------------------------------===
// Folders that do not work
//===--------------------------------------------------------------------------------------------===

TEST_F(Store, FolderThatIsNoneIsAnError) {
  write(folder / "file", "x");
  for (const fs::path &path : {folder / "file", folder / "file" / "records"}) {
    RecordStore store(path);
    for (const Status &status : {store.append(recordOf(1)), store.writable()}) {
      ASSERT_FALSE(status);
      EXPECT_EQ(status.error().kind, ErrorKind::Failed);
      EXPECT_THAT(status.error().line(), HasSubstr("Not a directory"));
    }
    EXPECT_FALSE(store.load());
    EXPECT_FALSE(store.best());
  }
  EXPECT_EQ(read(folder / "file"), "x");
}

TEST_F(Store, LogThatIsNoFileIsAnError) {
  fs::create_directories(store().folder());
  fs::create_symlink("/dev/full", store().logFile());
  Status status = store().append(recordOf(1));
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().why, HasSubstr("no regular file"));
  EXPECT_FALSE(store().writable());
  fs::remove(store().logFile());
  fs::create_directory(store().logFile());
  EXPECT_FALSE(store().append(recordOf(1)));
  EXPECT_FALSE(store().load());
}

TEST_F(Store, WritableLeavesRecordsAlone) {
  EXPECT_TRUE(store().writable());
  append(1);
  const std::string text = read(store().logFile());
  EXPECT_TRUE(store().writable());
  EXPECT_EQ(read(store().logFile()), text);
}

//===--------------------------------------------------------------------------------------------===
// Export, import, prune
//===--------------------------------------------------------------------------------------------===

TEST_F(Store, ExportsAndImports) {
  for (int trial : {1, 2, 3, 4})
    append(trial);
  damage(store(), 4);
  const fs::path file = folder / "export.jsonl";
  auto odd = [](const Record &record) { return record.trial % 2 == 1; };
  EXPECT_EQ(store().exportTo(file, odd), 2u);
  EXPECT_EQ(store().exportTo(folder / "all", nullptr), 3u);

  RecordStore other(folder / "other");
  ASSERT_TRUE(other.append(recordOf(3)));
  write(file, read(file) + *recordLine(recordOf(1)) + "\n{\"torn");
  Expected<ImportCounts> counts = other.importFrom(file);
  ASSERT_TRUE(counts) << counts.error().line();
  EXPECT_EQ(counts->imported, 1u);
  EXPECT_EQ(counts->duplicates, 2u); // 3 was there, 1 is twice in the file
  EXPECT_EQ(counts->damaged, 1u);
  EXPECT_THAT(trials(other), ElementsAre(3, 1));
  EXPECT_EQ(load(other).records[1].key.id(), recordOf(1).key.id());
  EXPECT_EQ(load(other).tornLines, 0u) << "damage was imported";

  counts = other.importFrom(file);
  EXPECT_EQ(counts->imported, 0u);
  EXPECT_EQ(counts->duplicates, 3u);
  EXPECT_THAT(trials(other), ElementsAre(3, 1));
}

TEST_F(Store, ImportIsIsolatedFromATornLine) {
  append(1);
  write(folder / "in", *recordLine(recordOf(2))); // without line break
  write(store().logFile(), read(store().logFile()) + "{\"half");
  ASSERT_TRUE(store().importFrom(folder / "in"));
  EXPECT_THAT(trials(store()), ElementsAre(1, 2));
}

TEST_F(Store, ImportOfNothingIsAnError) {
  Expected<ImportCounts> counts = store().importFrom(folder / "none");
  ASSERT_FALSE(counts);
  EXPECT_EQ(counts.error().kind, ErrorKind::Unusable);
  EXPECT_FALSE(store().importFrom("/dev/zero"));
  EXPECT_FALSE(fs::exists(store().folder()));
}

TEST_F(Store, ExportThatCannotBeWrittenIsAnError) {
  append(1);
  EXPECT_FALSE(store().exportTo(folder / "no" / "file", nullptr));
}

TEST_F(Store, Prunes) {
  for (int trial : {1, 2, 3, 4, 5})
    append(trial);
  damage(store(), 3);
  Expected<PruneCounts> counts =
      store().prune([](const Record &record) { return record.trial < 3; });
  ASSERT_TRUE(counts) << counts.error().line();
  EXPECT_EQ(counts->removed, 2u);
  EXPECT_EQ(counts->kept, 2u);
  EXPECT_EQ(counts->damaged, 1u);
  EXPECT_THAT(trials(store()), ElementsAre(4, 5));
  EXPECT_EQ(load(store()).tornLines, 0u);
  append(6);
  EXPECT_THAT(trials(store()), ElementsAre(4, 5, 6));
  EXPECT_TRUE(RecordStore(folder / "none").prune([](const Record &) { return true; }));
  EXPECT_FALSE(fs::exists(folder / "none"));
}

TEST_F(Store, PruneKeepsPermissionsAndLinks) {
  append(1);
  append(2);
  fs::rename(store().logFile(), folder / "elsewhere");
  fs::create_symlink(folder / "elsewhere", store().logFile());
  ASSERT_EQ(::chmod((folder / "elsewhere").c_str(), 0640), 0);
  ASSERT_TRUE(store().prune([](const Record &record) { return record.trial == 1; }));
  EXPECT_TRUE(fs::is_symlink(store().logFile()));
  struct stat status;
  ASSERT_EQ(::stat((folder / "elsewhere").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0640u);
  EXPECT_THAT(trials(store()), ElementsAre(2));
}

//===--------------------------------------------------------------------------------------------===
// The table of winners
//===--------------------------------------------------------------------------------------------===

/// A record of kernel `kernel` whose schedule takes `ratio` of the baseline.
Record timed(const std::string &kernel, int schedule, double ratio) {
  Record record = recordOf(schedule);
  record.key.kernelHash = kernel;
  record.schedule = "{\"mr\":" + std::to_string(schedule) + "}";
  record.codeHash = std::to_string(schedule);
  record.baselineNs = {1000};
  record.samplesNs = {1000 * ratio};
  return record;
}

int64_t bestTrial(const RecordStore &store, const std::string &kernel) {
  Expected<BestTable> table = store.best();
  EXPECT_TRUE(table) << table.error().line();
  std::optional<Record> record = table->find(timed(kernel, 0, 1).key);
  return record ? record->trial : -1;
}

TEST_F(Store, BestFollowsTheLog) {
  EXPECT_EQ(bestTrial(store(), "a"), -1);
  EXPECT_FALSE(fs::exists(store().folder()));
  ASSERT_TRUE(store().append(timed("a", 1, 0.9)));
  ASSERT_TRUE(store().append(timed("b", 2, 0.9)));
  EXPECT_EQ(bestTrial(store(), "a"), 1);
  ASSERT_TRUE(store().append(timed("a", 3, 0.5)));
  EXPECT_EQ(bestTrial(store(), "a"), 3);
  EXPECT_EQ(bestTrial(store(), "b"), 2);
  EXPECT_EQ(bestTrial(store(), "c"), -1);
  EXPECT_EQ(store().best()->size(), 2u);
  EXPECT_EQ(store().best()->records().size(), 2u);
  ASSERT_TRUE(store().prune([](const Record &record) { return record.trial == 3; }));
  EXPECT_EQ(bestTrial(store(), "a"), 1);
}

TEST_F(Store, BestKnowsEachVariant) {
  Record vendor = timed("a", 1, 0.2), ours = timed("a", 2, 0.5), slower = timed("a", 3, 0.8);
  vendor.variant = "vendor:openblas";
  for (const Record &record : {slower, vendor, ours})
    ASSERT_TRUE(store().append(record));
  for (bool derived : {true, false}) {
    EXPECT_EQ(fs::exists(store().folder() / "best.json"), !derived);
    Expected<BestTable> table = store().best();
    ASSERT_TRUE(table) << table.error().line();
    EXPECT_EQ(table->size(), 1u);
    EXPECT_EQ(table->find(ours.key)->trial, 1);
    EXPECT_EQ(table->find(ours.key, "vendor:openblas")->trial, 1);
    EXPECT_EQ(table->find(ours.key, "generated")->trial, 2);
    EXPECT_FALSE(table->find(ours.key, "blocked"));
    EXPECT_EQ(table->records().at(0).trial, 1);
    EXPECT_EQ(table->records("generated").at(0).trial, 2);
    EXPECT_TRUE(table->records("blocked").empty());
  }
}

TEST_F(Store, BestKnowsWhereTheDefaultStays) {
  Record untrusted = timed("b", 3, 0.5);
  untrusted.trusted = false;
  for (const Record &record : {timed("a", 1, 0.99), untrusted, timed("c", 2, 0.5)})
    ASSERT_TRUE(store().append(record));
  for (int i = 0; i < 2; ++i) { // derived, then read
    Expected<BestTable> table = store().best();
    ASSERT_TRUE(table) << table.error().line();
    EXPECT_EQ(table->size(), 1u);
    EXPECT_TRUE(table->defaultStays(timed("a", 1, 1).key, "generated"));
    EXPECT_FALSE(table->find(timed("a", 1, 1).key));
    EXPECT_FALSE(table->find(timed("a", 1, 1).key, "generated"));
    EXPECT_FALSE(table->defaultStays(timed("b", 1, 1).key, "generated")) << "nothing is known";
    EXPECT_FALSE(table->defaultStays(timed("c", 1, 1).key, "generated"));
    EXPECT_EQ(table->records("generated").size(), 1u);
  }
}

TEST_F(Store, FreshTableIsUsedAndDamagedOneRebuilt) {
  ASSERT_TRUE(store().append(timed("a", 1, 0.9)));
  ASSERT_EQ(bestTrial(store(), "a"), 1);
  const fs::path file = store().folder() / "best.json";
  struct stat before, after;
  ASSERT_EQ(::stat(file.c_str(), &before), 0);
  ASSERT_EQ(bestTrial(store(), "a"), 1);
  ASSERT_EQ(::stat(file.c_str(), &after), 0);
  EXPECT_EQ(before.st_ino, after.st_ino) << "derived again without need";
  const std::string good = read(file);
  for (const std::string &bad : {std::string(), std::string("[]"), good.substr(0, good.size() / 2),
                                 std::string(good).replace(good.find("matmul"), 1, "M")}) {
    write(file, bad);
    EXPECT_EQ(bestTrial(store(), "a"), 1);
    EXPECT_EQ(read(file), good);
  }
  fs::remove(file);
  EXPECT_EQ(bestTrial(store(), "a"), 1);
}

TEST_F(Store, TableOfOtherLogsIsStale) {
  ASSERT_TRUE(store().append(timed("a", 1, 0.9)));
  ASSERT_EQ(bestTrial(store(), "a"), 1);
  // A log of the same size in the place of the old one.
  const size_t size = fs::file_size(store().logFile());
  fs::remove(store().logFile());
  ASSERT_TRUE(store().append(timed("a", 2, 0.9)));
  ASSERT_EQ(fs::file_size(store().logFile()), size);
  EXPECT_EQ(bestTrial(store(), "a"), 2);
  // One more log.
  write(store().folder() / "imported.jsonl", *recordLine(timed("a", 3, 0.1)));
  EXPECT_EQ(bestTrial(store(), "a"), 3);
}

TEST_F(Store, BestIsFoundWithoutATableFile) {
  ASSERT_TRUE(store().append(timed("a", 1, 0.9)));
  fs::create_directory(store().folder() / "best.json"); // cannot be published
  EXPECT_EQ(bestTrial(store(), "a"), 1);
}

} // namespace
