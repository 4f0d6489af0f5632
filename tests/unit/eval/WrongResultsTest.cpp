// Wrong results do not pass the verdict: each mistake is made in a right result of each family.
#include "FunctionTrial.h"

#include "kernelforge/kernels/Reference.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

float half(float x) { return halfToFloat(floatToHalf(x)); }

std::span<float> floats(const TensorData &tensor) {
  return {reinterpret_cast<float *>(tensor.memory.data()), static_cast<size_t>(tensor.elements())};
}

/// A mistake spoils a right result of rows of `width`, or says that there is no room for it.
using Mistake = std::function<bool(std::span<float> out, int64_t width)>;

const std::map<std::string, Mistake> mistakes = {
    {"all zero",
     [](auto out, int64_t) {
       std::ranges::fill(out, 0.0f);
       return true;
     }},
    {"constant",
     [](auto out, int64_t) {
       std::ranges::fill(out, out[0]);
       return true;
     }},
    {"last element off by 1 %",
     [](auto out, int64_t) {
       out.back() *= 1.01f;
       return true;
     }},
    {"last element off by a thousandth",
     [](auto out, int64_t) {
       out.back() *= 1.001f;
       return true;
     }},
    {"every element off by a part in a hundred thousand",
     [](auto out, int64_t) {
       for (float &x : out)
         x *= 1.00001f;
       return true;
     }},
    {"a tile transposed",
     [](auto out, int64_t width) {
       if (width < 16 || static_cast<int64_t>(out.size()) < 16 * width)
         return false;
       for (int64_t r = 0; r < 16; ++r)
         for (int64_t c = 0; c < r; ++c)
           std::swap(out[static_cast<size_t>(r * width + c)],
                     out[static_cast<size_t>(c * width + r)]);
       return true;
     }},
    {"one NaN",
     [](auto out, int64_t) {
       out[out.size() / 2] = std::numeric_limits<float>::quiet_NaN();
       return true;
     }},
    {"last row not written",
     [](auto out, int64_t width) {
       poison(out.last(static_cast<size_t>(width)));
       return true;
     }},
    {"shifted by a row, or by an element of the only one",
     [](auto out, int64_t width) {
       const int64_t by = static_cast<int64_t>(out.size()) > width ? width : 1;
       std::ranges::rotate(out, out.begin() + by);
       return true;
     }},
};

FunctionCase rmsNorm(int64_t rows, int64_t width) {
  return rowwiseCase("rms_norm", rows, width,
                     "%y = transformer.rms_norm %x, %a {epsilon = 1.0e-5 : f64} : "
                     "(!rows, !vector) -> !rows");
}
FunctionCase softmax(int64_t rows, int64_t width) {
  return rowwiseCase("softmax", rows, width, "%y = transformer.softmax %x : !rows");
}

using Operation = RowwiseProblem::Operation;

/// Rows of every family as a suite makes them, named after it. The first of each has room for all
/// mistakes.
std::vector<SuiteRow> rowsOfEveryFamily() {
  const BlockProblem block{256, 4, 2, 64, 512, 1, ElementType::F32, 20, 5};
  BlockProblem decoded = block;
  decoded.rows = 1;
  return {{"matmul", "matmul", MatmulProblem{40, 99, 512}},
          {"matmul", "matmul", MatmulProblem{40, 99, 512, ElementType::Q4_K}},
          {"matmul", "matmul", MatmulProblem{1, 576, 576}},
          {"matmul", "matmul", MatmulProblem{17, 64, 16}},
          {"attention", "attention", AttentionProblem{4, 2, 32, ElementType::F32, 33, 0}},
          {"attention", "attention", AttentionProblem{4, 2, 32, ElementType::F32, 1, 300}},
          {"rms_norm", "rowwise", RowwiseProblem{Operation::RmsNorm, 20, 576}},
          {"layer_norm", "rowwise", RowwiseProblem{Operation::LayerNorm, 20, 576}},
          {"softmax", "rowwise", RowwiseProblem{Operation::Softmax, 20, 576}},
          {"softmax", "rowwise", RowwiseProblem{Operation::Softmax, 1, 576}},
          {"rope", "rowwise", RowwiseProblem{Operation::Rope, 20, 3 * 64, 64}},
          {"rope", "rowwise", RowwiseProblem{Operation::Rope, 1, 3 * 64, 64}},
          {"silu_mul", "rowwise", RowwiseProblem{Operation::SiluMul, 20, 576}},
          {"add", "rowwise", RowwiseProblem{Operation::Add, 20, 576}},
          {"block", "block", block},
          {"block", "block", decoded}};
}

/// Mistakes that any result has room for.
const char *const alwaysPossible[] = {"all zero", "constant", "last element off by 1 %",
                                      "last element off by a thousandth", "one NaN"};

/// Which mistakes were made in a family, and how often.
struct FamilyTrials {
  int runs = 0;
  std::map<std::string, int> made;
};

TEST(WrongResults, EveryMistakeIsSeenInEveryFamily) {
  std::map<std::string, FamilyTrials> families;
  for (const SuiteRow &row : rowsOfEveryFamily()) {
    const std::string where = row.name + " " + row.problemJson().dump();
    FamilyTrials &family = families[row.name];
    auto trial = FunctionTrial::compile(row, "native");
    for (uint64_t seed : {11, 12, 13}) {
      auto run = trial ? trial->run(seed) : nullptr;
      ASSERT_TRUE(run) << where;
      ++family.runs;
      const std::vector<float> right(run->result().begin(), run->result().end());
      EXPECT_TRUE(run->verdict().pass) << where << ": " << run->verdict().why;
      for (const auto &[name, spoil] : mistakes) {
        if (!spoil(run->result(), run->data.results[0].shape[1]))
          continue;
        ++family.made[name];
        const Accuracy accuracy = run->verdict();
        EXPECT_FALSE(accuracy.pass) << where << ", seed " << seed << ": " << name;
        EXPECT_FALSE(accuracy.why.empty());
        std::ranges::copy(right, run->result().begin());
      }
    }
  }
  // A mistake that found no room was not seen.
  EXPECT_EQ(families.size(), 9u);
  for (auto &[name, family] : families) {
    for (const auto &[mistake, spoil] : mistakes)
      EXPECT_GE(family.made[mistake], 3) << name << ": " << mistake;
    for (const char *mistake : alwaysPossible)
      EXPECT_EQ(family.made[mistake], family.runs) << name << ": " << mistake;
  }
}

TEST(WrongResults, RopeThatIgnoresPositionsIsSeen) {
  for (int64_t rows : {1, 20}) {
    auto trial = FunctionTrial::compile(
        SuiteRow{"rope", "rowwise", RowwiseProblem{Operation::Rope, rows, 3 * 64, 64}}, "native");
    auto run = trial ? trial->run(1) : nullptr;
    ASSERT_TRUE(run);
    const TensorData &table = run->argument("rope");
    auto turn = [&](std::span<const int32_t> positions) {
      reference::rope(
          reference::denseRows<const float>(floats(run->argument("x")).data(), rows, 3 * 64),
          positions,
          reference::denseRows<const float>(floats(table).data(), table.shape[0], table.shape[1]),
          64, RopePairing::HalfSplit,
          reference::denseRows<float>(run->result().data(), rows, 3 * 64));
      return run->verdict();
    };
    EXPECT_TRUE(turn(run->argument("positions").indices()).pass);
    EXPECT_FALSE(turn(std::vector<int32_t>(static_cast<size_t>(rows), 0)).pass) << rows << " rows";
  }
}

//===----------------------------------------------------------------------===//
// Sums in another precision or order
//===----------------------------------------------------------------------===//

/// Sum of `count` terms, each partial sum rounded to f16.
template <typename Term> float halfSum(int64_t count, const Term &term) {
  float sum = 0;
  for (int64_t i = 0; i < count; ++i)
    sum = half(sum + half(term(i)));
  return sum;
}

/// Sum of terms [first, end) in f32, by halves.
template <typename Term> float pairwiseSum(int64_t first, int64_t end, const Term &term) {
  if (end - first == 1)
    return term(first);
  const int64_t middle = (first + end) / 2;
  return pairwiseSum(first, middle, term) + pairwiseSum(middle, end, term);
}

/// Replaces the result of a matmul; `sum` makes an element of a number of terms.
template <typename Sum> void multiply(TrialRun &run, const Sum &sum) {
  const TensorData &x = run.argument("x"), &w = run.argument("weight");
  const int64_t k = x.shape[1], n = w.shape[0];
  const WeightView view{w.type, w.memory.data(), n, k, WeightLayout::RowMajor};
  std::vector<float> column(static_cast<size_t>(k));
  for (int64_t c = 0; c < n; ++c) {
    view.readRow(c, column.data());
    for (int64_t r = 0; r < x.shape[0]; ++r)
      run.result()[static_cast<size_t>(r * n + c)] = sum(k, [&](int64_t i) {
        return floats(x)[static_cast<size_t>(r * k + i)] * column[static_cast<size_t>(i)];
      });
  }
}

TEST(WrongResults, MatmulThatSumsInHalfIsSeenAndPairwiseSumsAreRight) {
  double least = INFINITY; // error in f16, as a multiple of what is allowed
  for (const MatmulProblem &problem :
       {MatmulProblem{5, 64, 16}, MatmulProblem{5, 64, 32, ElementType::Q8_0},
        MatmulProblem{1, 100, 64, ElementType::BF16}, MatmulProblem{3, 70, 576},
        MatmulProblem{2, 64, 4096}, MatmulProblem{3, 64, 1024, ElementType::Q4_K}}) {
    auto trial = FunctionTrial::compile(matmulCase(problem), "native");
    for (uint64_t seed : {1, 2, 3}) {
      auto run = trial ? trial->run(seed) : nullptr;
      ASSERT_TRUE(run);
      multiply(*run, [](int64_t k, auto term) { return halfSum(k, term); });
      const Accuracy wrong = run->verdict();
      EXPECT_FALSE(wrong.pass) << problem.name() << ", seed " << seed;
      least = std::min(least, wrong.maxAbs / (wrong.tolerance * wrong.maxReference));
      multiply(*run, [](int64_t k, auto term) { return pairwiseSum(0, k, term); });
      EXPECT_TRUE(run->verdict().pass) << problem.name() << ": " << run->verdict().why;
    }
  }
  fmt::print("[  MARGIN  ] sums in f16: at least {:.0f} times what is allowed\n", least);
}

/// Replaces the result of attention; `sum` makes an element of a number of terms. Values are taken
/// `lanes` positions at a time, as by a vector kernel: lanes beyond what a row sees have a share of
/// zero, and are left out, or, a mistake, multiplied by it.
template <typename Sum>
void attend(TrialRun &run, const Sum &sum, int64_t lanes = 1, bool weighsMasked = false) {
  reference::AttentionInputs in;
  const auto q = floats(run.argument("q"));
  auto view = [&](const char *name) {
    const TensorData &cache = run.argument(name);
    return reference::CacheView{ElementType::F32, cache.memory.data(), cache.shape[1],
                                cache.shape[2], 0};
  };
  in.keys = view("k");
  in.values = view("v");
  in.positions = run.argument("positions").indices();
  in.sequences = run.argument("sequences").indices();
  in.table = run.argument("table").indices();
  const int64_t dim = in.keys.dim, heads = 4, rows = static_cast<int64_t>(in.positions.size());
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t head = 0; head < heads; ++head) {
      const auto [first, end] = in.visible(r);
      const int64_t count = end - first, taken = (count + lanes - 1) / lanes * lanes;
      auto row = [&, sequence = in.sequences[r], h = head / 2](const reference::CacheView &cache,
                                                               int64_t position) {
        return reinterpret_cast<const float *>(cache.at(in.slot(sequence, position), h));
      };
      const float *query = q.data() + (r * heads + head) * dim;
      std::vector<float> shares;
      for (int64_t p = first; p < end; ++p)
        shares.push_back(0.5f * sum(dim, [&](int64_t i) { return query[i] * row(in.keys, p)[i]; }));
      const float highest = *std::ranges::max_element(shares);
      for (float &share : shares)
        share = std::exp(share - highest);
      shares.resize(static_cast<size_t>(taken));
      const float total = sum(taken, [&](int64_t i) { return shares[size_t(i)]; });
      for (int64_t d = 0; d < dim; ++d) {
        auto term = [&](int64_t i) {
          return i < count || weighsMasked ? shares[size_t(i)] * row(in.values, first + i)[d]
                                           : 0.0f;
        };
        run.result()[static_cast<size_t>((r * heads + head) * dim + d)] = sum(taken, term) / total;
      }
    }
}

TEST(WrongResults, AttentionAndRowsThatSumInHalfAreSeen) {
  for (const FunctionCase &tried :
       {attentionCase("prefill", 33, 0), attentionCase("decode", 1, 40)})
    for (uint64_t seed : {1, 2}) {
      auto trial = FunctionTrial::compile(tried, "native");
      auto run = trial ? trial->run(seed) : nullptr;
      ASSERT_TRUE(run);
      attend(*run, [](int64_t count, auto term) { return halfSum(count, term); });
      const Accuracy accuracy = run->verdict();
      EXPECT_FALSE(accuracy.pass) << tried.name;
      EXPECT_LT(accuracy.l2Rel, 0.01) << "it is attention all the same";
    }
  for (bool norm : {true, false})
    for (int64_t width : {16, 576}) {
      auto trial = FunctionTrial::compile(norm ? rmsNorm(20, width) : softmax(20, width), "native");
      auto run = trial ? trial->run(5) : nullptr;
      ASSERT_TRUE(run);
      const auto x = floats(run->argument("x")), a = floats(run->argument("a"));
      for (int64_t r = 0; r < 20; ++r) {
        const float *row = x.data() + r * width;
        auto term = [&](int64_t i) { return norm ? row[i] * row[i] : std::exp(row[i]); };
        const float sum = halfSum(width, term);
        for (int64_t i = 0; i < width; ++i)
          run->result()[static_cast<size_t>(r * width + i)] =
              norm ? row[i] / std::sqrt(sum / static_cast<float>(width) + 1e-5f) * a[size_t(i)]
                   : std::exp(row[i]) / sum;
      }
      EXPECT_FALSE(run->verdict().pass) << (norm ? "rms_norm" : "softmax") << " of " << width;
      EXPECT_LT(run->verdict().l2Rel, 0.01);
    }
}

//===----------------------------------------------------------------------===//
// Masked lanes
//===----------------------------------------------------------------------===//

constexpr float notANumber = std::numeric_limits<float>::quiet_NaN();

/// Gives the caches slots that no row sees, with what stale memory may hold.
void addStaleSlots(FunctionData &data) {
  for (TensorData &cache : data.arguments) {
    if (cache.name != "k" && cache.name != "v")
      continue;
    TensorData larger =
        std::move(TensorData::allocate(cache.name, cache.type,
                                       {cache.shape[0] + 16, cache.shape[1], cache.shape[2]})
                      .value());
    std::ranges::fill(floats(larger), notANumber);
    std::ranges::copy(floats(cache), floats(larger).begin());
    cache = std::move(larger);
  }
}

/// NaN in the last position's value: rows before it do not see it.
void spoilLastPosition(FunctionData &data) {
  const TensorData &values = *std::ranges::find(data.arguments, "v", &TensorData::name);
  std::ranges::fill(floats(values).last(size_t(values.shape[1] * values.shape[2])), notANumber);
}

TEST(WrongResults, NaNInAMaskedLaneIsSeen) {
  struct Masked {
    FunctionCase tried;
    DataChange change;
    int64_t rows; ///< that take lanes with NaN and must not
  };
  const Masked trials[] = {{attentionCase("33 rows", 33, 0), addStaleSlots, 1},
                           {attentionCase("1 after 40", 1, 40), addStaleSlots, 1},
                           {attentionCase("32 rows", 32, 0), spoilLastPosition, 15}};
  auto pairwise = [](int64_t count, auto term) { return pairwiseSum(0, count, term); };
  for (const auto &[tried, change, rows] : trials) {
    auto trial = FunctionTrial::compile(tried, "native");
    auto run = trial ? trial->run(1, change) : nullptr;
    ASSERT_TRUE(run);
    EXPECT_TRUE(run->verdict().pass) << tried.name << ": " << run->verdict().why;
    attend(*run, pairwise, 16);
    EXPECT_TRUE(run->verdict().pass) << tried.name << ": " << run->verdict().why;
    attend(*run, pairwise, 16, true);
    const Accuracy wrong = run->verdict();
    EXPECT_FALSE(wrong.pass) << tried.name;
    EXPECT_EQ(wrong.nan, rows * 4 * 32) << tried.name;
    EXPECT_THAT(wrong.why, HasSubstr("is nan where"));
  }
}

//===----------------------------------------------------------------------===//
// Several outputs
//===----------------------------------------------------------------------===//

TEST(WrongResults, CachesAreJudgedWhereTheyAreWrittenAndKeptElsewhere) {
  auto trial = FunctionTrial::compile(blockCase("block", true, ElementType::F32, 3, 5), "native");
  auto run = trial ? trial->run(1) : nullptr;
  ASSERT_TRUE(run);
  const std::vector<OutputAccuracy> right = run->verdicts();
  ASSERT_EQ(right.size(), 3u);
  EXPECT_EQ(right[1].name, "cache.0.k");
  EXPECT_EQ(right[1].accuracy.checked, 3 * 2 * 64);
  EXPECT_EQ(right[1].accuracy.outputs, 8 * 2 * 64);
  EXPECT_TRUE(combined(right).pass) << combined(right).why;
  EXPECT_EQ(combined(right).checked, 3 * 256 + 2 * 3 * 128);

  const auto cache = std::ranges::find(run->data.arguments, "cache.0.v", &TensorData::name);
  float &kept = reinterpret_cast<float *>(cache->memory.data())[2 * 128 + 7];
  kept = std::nextafter(kept, 2.0f);
  EXPECT_THAT(run->verdict().why, HasSubstr("cache.0.v: slot 2 "));
}

TEST(Bitwise, NamesTheFirstDifference) {
  auto trial = FunctionTrial::compile(matmulCase({4, 20, 64}), "native");
  auto first = trial->run(1), second = trial->run(1);
  ASSERT_TRUE(first && second);
  auto difference = [&] {
    return bitwiseDifference(outputsOf(first->signature, first->data),
                             outputsOf(second->signature, second->data));
  };
  EXPECT_FALSE(difference());
  second->result()[45] = 0.5f;
  EXPECT_THAT(difference().value_or(""), HasSubstr("result 0: row 2, column 5 (element 45) is "));
  second->result()[3] = -0.0f;
  first->result()[3] = 0.0f;
  EXPECT_THAT(difference().value_or(""), HasSubstr("(element 3) is 0, then -0"));
}

} // namespace
