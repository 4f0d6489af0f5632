// A model whose layers differ in all that layers can: prefill and decode give the same logits on
// each target, those of the reference, whatever type keys and values have in the cache.
#include "kernelforge/llm/runtime/Decoder.h"
#include "kernelforge/compiler/Targets.h"
#include "kernelforge/llm/RandomModel.h"
#include "kernelforge/measure/Accuracy.h"

#include <algorithm>
#include <gmock/gmock.h>
#include <limits>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

class Decoders : public testing::Test {
protected:
  static void SetUpTestSuite() {
    auto made = makeRandomModel("mixed", {ElementType::F32, {}, 0});
    ASSERT_TRUE(made) << made.error().line();
    model = std::make_unique<ModelFile>(std::move(*made));
  }
  static void TearDownTestSuite() { model.reset(); }

  static Expected<std::unique_ptr<Decoder>> create(const Target &target, ElementType cacheType) {
    DecoderOptions options;
    options.context = 64;
    options.prefillChunk = 64;
    options.allLogits = true;
    options.cacheType = cacheType;
    options.session.cache = false;
    options.session.threads = 2;
    options.session.target = target;
    return Decoder::create(*model, options);
  }

  /// Logits of all positions of a text that is longer than the windows: at once, and token by
  /// token.
  struct Logits {
    std::vector<float> prefill, decode;
  };
  static Expected<Logits> run(const Target &target, ElementType cacheType) {
    std::vector<int32_t> tokens;
    for (int32_t i = 0; i < 41; ++i)
      tokens.push_back((7 + i * i * 31) % 512);
    KF_TRY(auto decoder, create(target, cacheType));
    Logits logits;
    KF_CHECK(decoder->score(tokens, [&](int64_t, std::span<const float> row) {
      logits.prefill.insert(logits.prefill.end(), row.begin(), row.end());
    }));
    decoder->truncate(0);
    for (int32_t token : tokens) {
      KF_TRY(std::span<const float> row, decoder->append({&token, 1}));
      logits.decode.insert(logits.decode.end(), row.begin(), row.end());
    }
    return logits;
  }
  /// The same; none, and a failed test, where there are none.
  static Logits logitsOf(const Target &target, ElementType cacheType) {
    auto logits = run(target, cacheType);
    if (!logits)
      ADD_FAILURE() << logits.error().line();
    return logits.value_or(Logits());
  }

  static inline std::unique_ptr<ModelFile> model;
};

/// Euclidean distance relative to the second's norm; infinite where not all are numbers.
double distance(const std::vector<float> &actual, const std::vector<float> &expected) {
  if (actual.size() != expected.size())
    return std::numeric_limits<double>::infinity();
  const Accuracy accuracy = compareValues(actual, expected, 1);
  return accuracy.pass && accuracy.nanInBoth == 0 && !actual.empty()
             ? accuracy.l2Rel
             : std::numeric_limits<double>::infinity();
}

TEST_F(Decoders, TellHowManyWeightsAreBound) {
  int64_t all = 0;
  for (const Weight &weight : model->weights)
    all += static_cast<int64_t>(weight.bytes.size());
  std::vector<int64_t> told;
  DecoderOptions options;
  options.context = 64;
  options.session.target = referenceTarget();
  options.onWeights = [&](int64_t done, int64_t of) {
    told.push_back(done);
    EXPECT_EQ(of, all);
  };
  ASSERT_TRUE(Decoder::create(*model, options));
  ASSERT_EQ(told.size(), model->weights.size() + 1);
  EXPECT_EQ(told.front(), 0);
  EXPECT_EQ(told.back(), all);
  EXPECT_TRUE(std::ranges::is_sorted(told));
}

TEST_F(Decoders, PrefillAndDecodeGiveTheReferencesLogits) {
  for (ElementType type : {ElementType::F32, ElementType::Q8_0}) {
    const Logits expected = logitsOf(referenceTarget(), type);
    EXPECT_EQ(expected.decode, expected.prefill); // the reference has one way to sum
    // What is written to a cache may be rounded the other way where sums differ in their last bit.
    const double band = type == ElementType::F32 ? 1e-5 : 5e-3;
    for (const std::string &kind : targetKinds()) {
      // Both on the first target; elsewhere the one that has more to it.
      const bool isTried = kind == targetKinds().front() || type == ElementType::Q8_0;
      if (!isTried || kind == referenceTarget().kind || !createDevice(kind))
        continue;
      SCOPED_TRACE(testing::Message() << info(type).name << " on " << kind);
      const Logits actual = logitsOf(parseTarget(kind, "native", "").value(), type);
      EXPECT_LT(distance(actual.prefill, expected.prefill), band);
      EXPECT_LT(distance(actual.decode, actual.prefill), band);
    }
  }
}

TEST_F(Decoders, TypesOfCachesAreAsFarFromF32AsTheyRound) {
  auto logits = [](ElementType type) { return logitsOf(referenceTarget(), type).prefill; };
  const std::vector<float> exact = logits(ElementType::F32);
  const double half = distance(logits(ElementType::F16), exact),
               brain = distance(logits(ElementType::BF16), exact),
               blocks = distance(logits(ElementType::Q8_0), exact);
  EXPECT_GT(half, 1e-6);
  EXPECT_LT(half, 1e-3);
  EXPECT_GT(brain, half);
  EXPECT_LT(brain, 1e-2);
  EXPECT_GT(blocks, half);
  EXPECT_LT(blocks, 2e-2);
}

TEST_F(Decoders, MemoryIsCountedByType) {
  int64_t numbers = 0, blocks = 0; // keys and values of a position, in all layers
  for (const LayerDescription &layer : model->description.layers) {
    numbers += 2 * layer.attention.kvDim();
    blocks += 2 * layer.attention.kvDim() / 32;
  }
  for (ElementType type :
       {ElementType::F32, ElementType::F16, ElementType::BF16, ElementType::Q8_0}) {
    auto decoder = create(referenceTarget(), type);
    ASSERT_TRUE(decoder) << decoder.error().line();
    const int64_t bytes = type == ElementType::F32    ? 4 * numbers
                          : type == ElementType::Q8_0 ? numbers + 2 * blocks
                                                      : 2 * numbers;
    EXPECT_EQ((*decoder)->memory().kvCacheBytes, 64 * bytes) << info(type).name;
    EXPECT_EQ((*decoder)->cacheType(), type);
  }
}

TEST(CacheTypes, ThatCannotBeKeptAreRefused) {
  auto tiny = makeRandomModel("tiny", {}); // heads of 16
  ASSERT_TRUE(tiny) << tiny.error().line();
  auto errorOf = [&](ElementType type) {
    const Status status = checkCacheType(*tiny, type);
    return status ? "accepted" : status.error().line();
  };
  EXPECT_EQ(errorOf(ElementType::F16), "accepted");
  EXPECT_THAT(errorOf(ElementType::Q8_0),
              HasSubstr("heads of layer 0 have 16 dimensions, which are "
                        "no whole number of q8_0's blocks of 32"));
  EXPECT_THAT(errorOf(ElementType::Q4_0), HasSubstr("keys and values are not kept in q4_0"));
}

} // namespace
