#include "kernelforge/eval/Suite.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>

using namespace kernelforge;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

Expected<Suite> parse(const std::string &rows) {
  auto document = parseJson(R"({"name": "s", "rows": [)" + rows + "]}", "suite is not usable", "t");
  if (!document)
    return tl::unexpected(document.error());
  return parseSuite(document->root());
}

std::vector<std::string> names(const Suite &suite) {
  std::vector<std::string> result;
  for (const SuiteRow &row : suite.rows)
    result.push_back(row.name);
  return result;
}

TEST(Suite, AllThatComeWithTheProgramAreReadable) {
  for (const std::string &name : suiteNames()) {
    auto suite = findSuite(name);
    ASSERT_TRUE(suite) << suite.error().line();
    EXPECT_EQ(suite->name, name);
    EXPECT_FALSE(suite->summary.empty());
  }
}

TEST(Suite, ListsStandForAllCombinations) {
  auto suite = parse(R"({"name": "a", "family": "matmul", "m": [1, 2], "n": 3, "k": 32,
                         "weights": ["f16", "q8_0"]},
                        {"name": "b", "family": "attention", "heads": 2, "head_dim": 4,
                         "rows": 1, "past": [0, 7]})");
  ASSERT_TRUE(suite) << suite.error().line();
  EXPECT_THAT(names(*suite),
              ElementsAre("a/m1/f16", "a/m1/q8_0", "a/m2/f16", "a/m2/q8_0", "b/past0", "b/past7"));
  const auto &matmul = std::get<MatmulProblem>(suite->rows[3].problem);
  EXPECT_EQ(matmul.m, 2);
  EXPECT_EQ(matmul.weights, ElementType::Q8_0);
  EXPECT_EQ(std::get<AttentionProblem>(suite->rows[5].problem).past, 7);
  EXPECT_EQ(suite->rows[5].problemJson()["kv_heads"], 2);
}

TEST(Suite, NumericsAreOfRowsOrOfAllThatCanHaveThem) {
  auto suite = parse(R"({"name": "a", "family": "matmul", "m": 1, "n": 3, "k": 32,
                         "weights": ["f16", "q8_0"]},
                        {"name": "b", "family": "attention", "heads": 2, "head_dim": 4, "rows": 1},
                        {"name": "c", "family": "matmul", "m": 1, "n": 3, "k": 32,
                         "weights": "q4_0", "numerics": ["exact", "i8x2"]},
                        {"name": "d", "family": "block", "d_model": 64, "heads": 2, "d_ff": 64,
                         "rows": 1, "weights": "q8_0", "numerics": "f16"},
                        {"name": "e", "family": "add", "rows": 2, "width": 3})");
  ASSERT_TRUE(suite) << suite.error().line();
  EXPECT_THAT(names(*suite), ElementsAre("a/f16", "a/q8_0", "b", "c/exact", "c/i8x2", "d", "e"));
  const auto numerics = [](const Suite &suite) {
    std::vector<std::string> found;
    for (const SuiteRow &row : suite.rows)
      found.push_back(row.problemJson().value("numerics", "exact"));
    return found;
  };
  EXPECT_THAT(numerics(*suite),
              ElementsAre("exact", "exact", "exact", "exact", "i8x2", "f16", "exact"));
  const Suite i8 = withNumerics(*suite, Numerics::I8), f16 = withNumerics(*suite, Numerics::F16);
  EXPECT_THAT(numerics(i8), ElementsAre("exact", "i8", "exact", "i8", "i8x2", "f16", "exact"));
  EXPECT_THAT(numerics(f16), ElementsAre("f16", "f16", "f16", "f16", "i8x2", "f16", "exact"));
  EXPECT_EQ(withNumerics(*suite, Numerics::F32).hash, suite->hash);
  EXPECT_NE(f16.hash, suite->hash);
  const auto refused = [](const std::string &row) {
    auto suite = parse(row);
    return suite ? "" : suite.error().line();
  };
  EXPECT_THAT(refused(R"({"name": "a", "family": "matmul", "m": 1, "n": 3, "k": 32,
                          "numerics": "i8"})"),
              HasSubstr("f32 weights are none"));
  EXPECT_THAT(refused(R"({"name": "d", "family": "block", "d_model": 64, "heads": 2, "d_ff": 64,
                          "rows": 1, "numerics": "i8x2"})"),
              HasSubstr("f32 weights are none"));
  EXPECT_THAT(refused(R"({"name": "a", "family": "matmul", "m": 1, "n": 3, "k": 32,
                          "numerics": "fp8"})"),
              HasSubstr("no code for such numerics"));
}

TEST(Suite, HashIsOfWhatIsMeasured) {
  const std::string row = R"({"name": "a", "family": "add", "rows": 2, "width": 3})";
  auto one = parse(row), same = parse(row);
  auto other = parse(R"({"name": "a", "family": "add", "rows": 2, "width": 4})");
  ASSERT_TRUE(one && same && other);
  EXPECT_EQ(one->hash, same->hash);
  EXPECT_NE(one->hash, other->hash);
  // Heads of other sizes are another rope, though rows are as long.
  auto wide = parse(R"({"name": "r", "family": "rope", "rows": 1, "heads": 4, "head_dim": 64})");
  auto narrow = parse(R"({"name": "r", "family": "rope", "rows": 1, "heads": 8, "head_dim": 32})");
  ASSERT_TRUE(wide && narrow);
  EXPECT_NE(wide->hash, narrow->hash);
  // A module is what it says, not what its file is called.
  const std::string file = testing::TempDir() + "hash_of_module.mlir";
  const auto hash = [&](const std::string &text) {
    std::ofstream(file) << text;
    return parse(R"({"name": "m", "family": "module", "file": ")" + file + R"("})")->hash;
  };
  const std::string first = hash("module {}");
  EXPECT_EQ(hash("module {}"), first);
  EXPECT_NE(hash("module { }"), first);
  std::filesystem::remove(file);
}

TEST(Suite, DefectsNameTheField) {
  const auto why = [](const std::string &rows) {
    auto suite = parse(rows);
    return suite ? "" : suite.error().line();
  };
  EXPECT_THAT(why(R"({"name": "a", "family": "gemm"})"), HasSubstr("known are matmul"));
  EXPECT_THAT(why(R"({"name": "a", "family": "add", "rows": 0, "width": 1})"),
              HasSubstr("rows[0].rows"));
  EXPECT_THAT(why(R"({"name": "a", "family": "add", "rows": 1})"), HasSubstr("width"));
  EXPECT_THAT(why(R"({"name": "a", "family": "add", "rows": 1, "width": 1, "n": 2})"),
              HasSubstr("no such field"));
  EXPECT_THAT(why(R"({"name": "a", "family": "add", "rows": [], "width": 1})"), HasSubstr("empty"));
  EXPECT_THAT(why(R"({"name": "a", "family": "rope", "rows": 1, "heads": 1, "head_dim": 7})"),
              HasSubstr("odd"));
  EXPECT_THAT(why(R"({"name": "a", "family": "block", "d_model": 48, "heads": 3, "d_ff": 64,
                      "rows": 1, "weights": "q4_1"})"),
              HasSubstr("48"));
  EXPECT_THAT(why(""), HasSubstr("empty"));
  EXPECT_EQ(findSuite("/no/such/suite").error().kind, ErrorKind::Missing);
}

TEST(Suite, FilterKeepsRowsThatMatch) {
  const std::string rows = R"({"name": "a", "family": "add", "rows": [1, 12], "width": 3})";
  auto kept = filterSuite(*parse(rows), "m1$");
  ASSERT_TRUE(kept);
  EXPECT_THAT(names(*kept), ElementsAre("a/m1"));
  EXPECT_EQ(filterSuite(*parse(rows), "b").error().kind, ErrorKind::Unusable);
  EXPECT_EQ(filterSuite(*parse(rows), "(").error().kind, ErrorKind::Unusable);
}

} // namespace
