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
  record.key.target = "nvptx64-nvidia-cuda sm_90a +ptx80";
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
  RecordKey key = measured(1).key;
  key.cpuModel = "Some GPU, CUDA 14.2";
  EXPECT_TRUE(shipped.cover(key));
  EXPECT_FALSE(ShippedRecords({}).cover(key));
  key.cpuModel = "Another GPU, CUDA 13.0";
  EXPECT_FALSE(shipped.cover(key));
  key.cpuModel = "";
  EXPECT_FALSE(shipped.cover(key)) << "no device was asked";
}

/// A processor is sold under many names, and what a virtual machine hides of it is mostly of no
/// importance.
TEST(Shipped, ProcessorsAreKnownByMicroarchitectureAndVectors) {
  Record record = measured(1);
  record.key.cpuModel = "GenuineIntel family 6 model 143 stepping 8, Some Xeon";
  record.key.target = "x86_64-pc-linux-gnu sapphirerapids -enqcmd,-ptwrite,-avx512fp16";
  record.key.threads = 16;
  const std::string text = *recordLine(record) + "\n";
  const ShippedRecords shipped({text});
  RecordKey key = record.key;
  key.cpuModel = "GenuineIntel family 6 model 207 stepping 2, Another Xeon";
  key.target = "x86_64-pc-linux-gnu sapphirerapids -avx512fp16,-wbnoinvd";
  EXPECT_TRUE(shipped.cover(key));
  ASSERT_TRUE(shipped.find(key));
  EXPECT_EQ(shipped.find(key)->schedule, record.schedule);
  for (const char *target :
       {"x86_64-pc-linux-gnu sapphirerapids ", "x86_64-pc-linux-gnu sapphirerapids -amx-bf16",
        "x86_64-pc-linux-gnu sapphirerapids -avx512fp16,-amx-bf16",
        "x86_64-pc-linux-gnu sapphirerapids +avx512fp16",
        "x86_64-pc-linux-gnu sapphirerapids -avx512fp16,-evex512",
        "x86_64-pc-linux-gnu graniterapids -avx512fp16"}) {
    key.target = target;
    EXPECT_FALSE(shipped.find(key)) << target;
  }
  EXPECT_FALSE(shipped.cover(key)) << "of another microarchitecture there are none";
  key = record.key;
  key.threads = 2;
  EXPECT_FALSE(shipped.find(key)) << "other threads";
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
    EXPECT_TRUE(ShippedRecords::ofProgram().cover(record.key)) << record.name;
    ASSERT_TRUE(ShippedRecords::ofProgram().find(record.key)) << record.name;
    EXPECT_EQ(ShippedRecords::ofProgram().find(record.key)->schedule, record.schedule)
        << record.name << ": two records of one kernel";
  }
}

} // namespace
