// Whole decoders: the compiled ones give what the reference gives, however they were compiled.
#include "DecoderFixture.h"

#include "kernelforge/compiler/Targets.h"
#include <cmath>
#include <gtest/gtest.h>

using namespace kernelforge;

namespace {

/// The results of a conversation; the test fails, with the error, where there are none.
std::vector<float> conversation(const DecoderCase &decoder, const SessionOptions &options) {
  auto test = TestDecoder::create(decoder, options);
  auto results = test ? (*test)->converse()
                      : Expected<std::vector<float>>(tl::unexpected<Error>(test.error()));
  if (results)
    return *results;
  ADD_FAILURE() << results.error().line();
  return {};
}

class SessionNumerics : public testing::TestWithParam<DecoderCase> {
protected:
  // Tests compile the same decoders: one cache for all of them saves most of their time.
  static void SetUpTestSuite() { home = std::make_unique<TemporaryHome>(); }
  static void TearDownTestSuite() { home.reset(); }
  static SessionOptions options(const std::string &level = "native") {
    SessionOptions options = TestDecoder::options(level);
    options.cache = true;
    return options;
  }
  static inline std::unique_ptr<TemporaryHome> home;
};

TEST_P(SessionNumerics, CompiledEqualsReference) {
  SessionOptions options = this->options();
  options.target = referenceTarget();
  std::vector<float> expected = conversation(GetParam(), options);
  ASSERT_FALSE(expected.empty());
  double norm = 0;
  for (float value : expected)
    norm = std::max(norm, std::abs(double(value)));
  EXPECT_GT(norm, 0.01) << "a result of zeros proves nothing";
  EXPECT_LT(norm, 1000) << "a result that explodes proves nothing";

  options.target = TestDecoder::options().target;
  std::vector<float> native = conversation(GetParam(), options);
  EXPECT_LT(relativeDistance(native, expected), 1e-5);

  options.threads = 1;
  EXPECT_EQ(conversation(GetParam(), options), native) << "threads must not change a bit";
}

TEST_P(SessionNumerics, UnfusedEqualsFused) {
  SessionOptions options = this->options();
  std::vector<float> fused = conversation(GetParam(), options);
  options.fuse = false;
  EXPECT_LT(relativeDistance(conversation(GetParam(), options), fused), 1e-5);
}

TEST_P(SessionNumerics, Avx2EqualsNative) {
  if (parseTarget("native", "")->limits.vectorBits == parseTarget("avx2", "")->limits.vectorBits)
    GTEST_SKIP() << "AVX2 is all that this machine has";
  std::vector<float> native = conversation(GetParam(), options());
  std::vector<float> avx2 = conversation(GetParam(), options("avx2"));
  EXPECT_LT(relativeDistance(avx2, native), 1e-5);
}

TEST_P(SessionNumerics, PrefillEqualsDecodes) {
  auto decoder = TestDecoder::create(GetParam(), options());
  ASSERT_TRUE(decoder) << decoder.error().line();
  std::vector<int32_t> tokens{4, 1, 30, 2, 2, 17, 9, 25, 6, 11, 13};
  auto atOnce = (*decoder)->append("prefill", {tokens});
  ASSERT_TRUE(atOnce) << atOnce.error().line();
  (*decoder)->reset();
  std::vector<float> oneByOne;
  for (int32_t token : tokens) {
    auto logits = (*decoder)->append("decode", {{token}});
    ASSERT_TRUE(logits) << logits.error().line();
    oneByOne.insert(oneByOne.end(), logits->begin(), logits->end());
  }
  EXPECT_LT(relativeDistance(*atOnce, oneByOne), 1e-5);
}

TEST_P(SessionNumerics, SequencesDoNotSeeEachOther) {
  auto decoder = TestDecoder::create(GetParam(), options());
  ASSERT_TRUE(decoder) << decoder.error().line();
  std::vector<int32_t> tokens{4, 1, 30, 2, 2, 17, 9};
  auto alone = (*decoder)->append("prefill", {tokens});
  ASSERT_TRUE(alone) << alone.error().line();
  (*decoder)->reset();
  auto among = (*decoder)->append("prefill", {tokens, {8, 9, 10}, {22}});
  ASSERT_TRUE(among) << among.error().line();
  ASSERT_GT(among->size(), alone->size());
  among->resize(alone->size());
  EXPECT_LT(relativeDistance(*among, *alone), 1e-6);
}

INSTANTIATE_TEST_SUITE_P(Decoders, SessionNumerics, testing::ValuesIn(decoderCases()),
                         [](const auto &info) { return info.param.name; });

TEST(SessionWeights, BindingAgainReplaces) {
  DecoderCase decoder = decoderCase("LlamaInterleavedMixedTypes");
  auto test = TestDecoder::create(decoder, TestDecoder::options());
  ASSERT_TRUE(test) << test.error().line();
  Session &session = (*test)->session();
  auto before = (*test)->converse();
  ASSERT_TRUE(before);
  int64_t packed = session.packedBytes();
  EXPECT_GT(packed, 0);

  // Zeros in the head's place give logits of zero; the old bytes give the old logits.
  for (const WeightSlot &slot : weightSlots(decoder.description)) {
    if (slot.name != "output.weight")
      continue;
    auto [type, data] = (*test)->weight(slot);
    std::vector<std::byte> zeros(data.size());
    ASSERT_TRUE(session.bindWeight(slot.name, type, zeros));
    EXPECT_EQ(session.packedBytes(), packed);
    (*test)->reset();
    auto without = (*test)->converse();
    ASSERT_TRUE(without);
    EXPECT_EQ(*without, std::vector<float>(before->size(), 0.0f));

    ASSERT_TRUE(session.bindWeight(slot.name, type, data));
    std::fill(data.begin(), data.end(), std::byte(0xff)); // packed: the session has its own copy
    EXPECT_EQ(session.packedBytes(), packed);
  }
  (*test)->reset();
  EXPECT_EQ((*test)->converse().value_or(std::vector<float>()), *before);
}

TEST(SessionProgram, SaysWhatItTakes) {
  auto test = TestDecoder::create(decoderCase("LlamaHalfSplit"), TestDecoder::options());
  ASSERT_TRUE(test) << test.error().line();
  const Session &session = (*test)->session();
  const Program *program = session.program("decode");
  ASSERT_TRUE(program);
  std::vector<std::string> sizes;
  for (const ProgramSize &size : program->sizes)
    sizes.push_back(size.name);
  EXPECT_EQ(sizes,
            (std::vector<std::string>{"tokens", "outputs", "sequences", "context", "cached"}));
  EXPECT_EQ(program->sizes[0].max, TestDecoder::sequences);
  std::vector<std::string> names = session.arguments("decode");
  ASSERT_EQ(names.size(), program->arguments.size());
  for (size_t i = 0; i < names.size(); ++i)
    EXPECT_EQ(program->buffers[program->arguments[i]].name, names[i]);
  EXPECT_EQ(names.front(), "ids");
  // Layers share their kernels, and their intermediates share the arena.
  EXPECT_LT(program->artifacts.size(), program->launches.size());
  int64_t separately = 0;
  for (const Buffer &buffer : program->buffers)
    if (buffer.kind == BufferKind::Intermediate)
      separately += buffer.bytes.multiplier;
  EXPECT_LT(program->arenaBytes, separately * TestDecoder::sequences);
  EXPECT_GE(session.scratchBytes(), program->arenaBytes);
  EXPECT_FALSE(session.program("nothing"));
  EXPECT_TRUE(session.arguments("nothing").empty());
}

} // namespace
