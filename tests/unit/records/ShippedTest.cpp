// Records that come with the program: which one is found for a kernel on a device, and what the
// file is made of.
#include "Records.h"

#include "kernelforge/records/Choice.h"
#include "kernelforge/records/Shipped.h"

using namespace kernelforge;

namespace {

Record measured(int64_t trial) {
  Record record = fullRecord();
  record.key.cpuModel = "Some GPU, CUDA 13.0";
  record.key.threads = 1;
  record.error.clear();
  record.trial = trial;
  return record;
}

TEST(Shipped, IsFoundWhateverDriverAndLlvm) {
  Record other = measured(3);
  other.key.kernelHash = "other";
  Record library = measured(4);
  library.variant = "blocked";
  const std::string text = *recordLine(measured(1)) + "\n" + *recordLine(measured(2)) + "\n" +
                           *recordLine(other) + "\n" + *recordLine(library) + "\n";
  const std::string none;
  const ShippedRecords shipped({none, text});
  RecordKey key = measured(1).key;
  ASSERT_TRUE(shipped.find(key));
  EXPECT_EQ(shipped.find(key)->trial, 2) << "the last one counts";
  key.cpuModel = "Some GPU, CUDA 14.2";
  key.toolchain = "LLVM 30";
  ASSERT_TRUE(shipped.find(key));
  EXPECT_EQ(shipped.find(key)->trial, 2);
  const std::vector<std::function<void(RecordKey &)>> changes = {
      [](RecordKey &k) { k.cpuModel = "Some GPU 2, CUDA 13.0"; },
      [](RecordKey &k) { k.cpuModel = "Some"; },
      [](RecordKey &k) { k.target += " +ptx83"; },
      [](RecordKey &k) { k.kernelHash = "0123"; },
      [](RecordKey &k) { k.problem = R"({"m":2})"; },
      [](RecordKey &k) { k.family = "attention"; }};
  for (const auto &change : changes) {
    RecordKey changed = key;
    change(changed);
    EXPECT_FALSE(shipped.find(changed)) << changed.text();
  }
  EXPECT_EQ(shipped.all().size(), 4U);
}

TEST(Shipped, CoversDevicesByName) {
  const std::string text = *recordLine(measured(1)) + "\n";
  const ShippedRecords shipped({text});
  EXPECT_TRUE(shipped.cover("Some GPU, CUDA 14.2"));
  EXPECT_FALSE(shipped.cover("Another GPU, CUDA 13.0"));
  EXPECT_FALSE(shipped.cover("")) << "no device was asked";
  EXPECT_FALSE(ShippedRecords({}).cover("Some GPU"));
}

TEST(Shipped, DamagedLinesAreNone) {
  std::string text = *recordLine(measured(1)) + "\n";
  text[40] ^= 1;
  const ShippedRecords shipped({text});
  EXPECT_FALSE(shipped.find(measured(1).key));
  EXPECT_TRUE(shipped.all().empty());
}

/// Those of this build: winners that were right, faster than the default beside them, and that can
/// be measured again.
TEST(Shipped, TheProgramsAreWinners) {
  for (const Record &record : ShippedRecords::ofProgram().all()) {
    EXPECT_EQ(whyNotCompared(record), "") << record.name;
    EXPECT_EQ(record.variant, "generated") << record.name;
    EXPECT_NE(record.scheduleSource, "analytic") << record.name << ": the default needs no record";
    ASSERT_TRUE(record.ratio) << record.name;
    EXPECT_LT(*record.ratio, 1) << record.name;
    EXPECT_FALSE(record.kernel.empty()) << record.name;
    EXPECT_TRUE(ShippedRecords::ofProgram().cover(record.key.cpuModel)) << record.name;
    EXPECT_EQ(ShippedRecords::ofProgram().find(record.key)->schedule, record.schedule)
        << record.name << ": two records of one kernel";
  }
}

} // namespace
