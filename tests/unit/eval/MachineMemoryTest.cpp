#include "kernelforge/eval/MachineMemory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

using namespace kernelforge;
using testing::HasSubstr;

namespace fs = std::filesystem;

namespace {

class MachineMemoryTest : public testing::Test {
protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "kernelforge-memory-XXXXXX").string();
    ASSERT_TRUE(mkdtemp(pattern.data()));
    folder = pattern;
  }
  void TearDown() override { fs::remove_all(folder); }

  MachineMemory of(const std::string &machine) const { return {folder / "home/m.json", machine}; }

  fs::path folder;
};

MachineState state(double fma, double exchange) {
  MachineState made;
  made.fma = fma;
  made.exchange = exchange;
  return made;
}

TEST_F(MachineMemoryTest, TheBestOfTheLastRuns) {
  EXPECT_EQ(of("a").recall().fma, 0);
  ASSERT_TRUE(of("a").remember(state(200, 5)));
  ASSERT_TRUE(of("a").remember(state(100, 30)));
  ASSERT_TRUE(of("b").remember(state(700, 70)));
  EXPECT_EQ(of("a").recall().fma, 200);
  EXPECT_EQ(of("a").recall().exchange, 30);
  EXPECT_EQ(of("b").recall().fma, 700);
  // What was long ago is not known any more.
  for (size_t run = 0; run < MachineMemory::runs; ++run) {
    EXPECT_EQ(of("a").recall().exchange, 30) << run;
    ASSERT_TRUE(of("a").remember(state(150, run == 0 ? 30 : 20)));
  }
  EXPECT_EQ(of("a").recall().fma, 150);
  EXPECT_EQ(of("b").recall().fma, 700);
}

TEST_F(MachineMemoryTest, ManyMachinesAndABrokenFile) {
  for (size_t machine = 0; machine <= MachineMemory::machines; ++machine)
    ASSERT_TRUE(of("m" + std::to_string(1000 + machine)).remember(state(1, 1)));
  EXPECT_EQ(of("m1000").recall().fma, 0);
  EXPECT_EQ(of("m1001").recall().fma, 1);
  for (const char *text :
       {"{", "[]", R"({"a": 3})", R"({"a": [{"fma_f32": -1, "exchange": 1}]})"}) {
    std::ofstream(folder / "home/m.json") << text;
    EXPECT_EQ(of("a").recall().fma, 0) << text;
    ASSERT_TRUE(of("a").remember(state(5, 5))) << text;
    EXPECT_EQ(of("a").recall().fma, 5) << text;
  }
}

TEST_F(MachineMemoryTest, WhereNothingCanBeWritten) {
  const Status status = MachineMemory("/proc/none/m.json", "a").remember(state(1, 1));
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().kind, ErrorKind::Failed);
  EXPECT_THAT(status.error().line(), HasSubstr("/proc/none/m.json"));
}

} // namespace
