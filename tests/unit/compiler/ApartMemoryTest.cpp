// Sessions on devices whose memory is not the host's: what the host writes gets there before each
// run, and what a run writes comes back, no more and no less.
#include "DecoderFixture.h"

#include "kernelforge/compiler/Targets.h"

#include "mlir/Parser/Parser.h"

#include <cmath>
#include <cstdlib>
#include <gtest/gtest.h>

using namespace kernelforge;

namespace {

std::span<std::byte> bytesOf(std::vector<float> &values) {
  return std::as_writable_bytes(std::span(values));
}
std::span<std::byte> bytesOf(std::vector<int32_t> &values) {
  return std::as_writable_bytes(std::span(values));
}

/// On each kind of device of this build that has memory of its own.
class ApartMemory : public testing::Test {
protected:
  void SetUp() override {
    for (const std::string &kind : targetKinds()) {
      auto device = createDevice(kind, {});
      if (!device) {
        ASSERT_EQ(device.error().kind, ErrorKind::Missing) << device.error().line();
        if (kind == "webgpu")
          ASSERT_EQ(std::getenv("KERNELFORGE_REQUIRE_WEBGPU"), nullptr) << device.error().line();
        continue;
      }
      if ((*device)->info().sharesHostMemory)
        continue;
      SessionOptions some;
      some.target = parseTarget(kind, "native", "", {}).value();
      some.cache = false;
      options.push_back(some);
    }
    if (options.empty())
      GTEST_SKIP() << "no device with memory of its own is here";
  }

  /// A session with the module compiled.
  static std::unique_ptr<Session> compiled(const SessionOptions &options, const char *text) {
    auto session = Session::create(options);
    EXPECT_TRUE(session) << session.error().line();
    if (!session)
      return nullptr;
    auto module = mlir::parseSourceString<mlir::ModuleOp>(text, &(*session)->context());
    const Status done = (*session)->compile(std::move(module));
    EXPECT_TRUE(done) << done.error().line();
    return done ? std::move(*session) : nullptr;
  }

  std::vector<SessionOptions> options;
};

constexpr const char *doubled = R"(
!t = tensor<?x3xf32, #transformer.dims<"rows">>
func.func @f(%rows: index {transformer.size = #transformer.size<"rows", 1 to 8>},
             %x: !t {transformer.input = "x"}) -> !t {
  %0 = transformer.add %x, %x : !t
  return %0 : !t
})";

TEST_F(ApartMemory, WhatTheHostWroteIsReadByTheNextRun) {
  for (const SessionOptions &each : options) {
    auto session = compiled(each, doubled);
    ASSERT_TRUE(session);
    std::vector<float> x(24, 1), out(6);
    ASSERT_TRUE(session->bind("x", bytesOf(x)));
    const std::vector<int64_t> sizes{2};
    const std::span<std::byte> result = bytesOf(out);
    for (float value : {1.0f, -2.5f, 7.0f}) {
      x.assign(24, value);
      const Status done = session->run("f", sizes, {&result, 1});
      ASSERT_TRUE(done) << done.error().line();
      EXPECT_EQ(out, std::vector<float>(6, 2 * value));
    }
    // Other memory under the same name.
    std::vector<float> y(24, 0.25f);
    ASSERT_TRUE(session->bind("x", bytesOf(y)));
    ASSERT_TRUE(session->run("f", sizes, {&result, 1}));
    EXPECT_EQ(out, std::vector<float>(6, 0.5f));
  }
}

TEST_F(ApartMemory, ResultsHaveTheSizesOfTheRun) {
  for (const SessionOptions &each : options) {
    auto session = compiled(each, doubled);
    ASSERT_TRUE(session);
    std::vector<float> x(24, 3);
    ASSERT_TRUE(session->bind("x", bytesOf(x)));
    // Into memory that has room for more, which stays as it was.
    std::vector<float> most(27);
    std::span<std::byte> result = bytesOf(most);
    for (int64_t rows : {1, 8, 3, 5}) {
      most.assign(27, static_cast<float>(-rows));
      std::vector<float> expected(most);
      std::fill_n(expected.begin(), rows * 3, 6.0f);
      const Status done = session->run("f", {&rows, 1}, {&result, 1});
      ASSERT_TRUE(done) << done.error().line();
      EXPECT_EQ(most, expected) << rows << " rows";
    }
    // Into memory of just that size.
    for (int64_t rows : {2, 7, 1}) {
      std::vector<float> exact(rows * 3);
      result = bytesOf(exact);
      ASSERT_TRUE(session->run("f", {&rows, 1}, {&result, 1}));
      EXPECT_EQ(exact, std::vector<float>(rows * 3, 6));
    }
    // Memory that is too small is refused, and the next run is none the worse.
    std::vector<float> small(5), right(6);
    const std::vector<int64_t> sizes{2};
    result = bytesOf(small);
    EXPECT_FALSE(session->run("f", sizes, {&result, 1}));
    result = bytesOf(right);
    ASSERT_TRUE(session->run("f", sizes, {&result, 1}));
    EXPECT_EQ(right, std::vector<float>(6, 6));
  }
}

TEST_F(ApartMemory, CachesOfTheHostComeBack) {
  for (const SessionOptions &each : options) {
    auto session = compiled(each, R"(
!t = tensor<4x2xf32>
!c = !transformer.cache<1, 2, f32>
func.func @f(%x: !t {transformer.input = "x"}, %slots: tensor<4xi32> {transformer.input = "slots"},
             %c: !c {transformer.input = "c"}) -> !t {
  transformer.cache_append %x, %slots into %c : !c, !t, tensor<4xi32>
  %0 = transformer.add %x, %x : !t
  return %0 : !t
})");
    ASSERT_TRUE(session);
    // Rows without a slot are not appended: the cache keeps what the host put there.
    std::vector<float> x{1, 2, 3, 4, 5, 6, 7, 8}, cache(12, -9), out(10, 77);
    std::vector<int32_t> slots{4, -1, 0, -1};
    ASSERT_TRUE(session->bind("x", bytesOf(x)));
    ASSERT_TRUE(session->bind("slots", bytesOf(slots)));
    ASSERT_TRUE(session->bind("c", bytesOf(cache)));
    const std::span<std::byte> result = bytesOf(out);
    const Status done = session->run("f", {}, {&result, 1});
    ASSERT_TRUE(done) << done.error().line();
    EXPECT_EQ(cache, (std::vector<float>{5, 6, -9, -9, -9, -9, -9, -9, 1, 2, -9, -9}));
    EXPECT_EQ(out, (std::vector<float>{2, 4, 6, 8, 10, 12, 14, 16, 77, 77}));
    // The host moves what lies in the cache; the next run begins with that.
    cache.assign(12, 0.5f);
    slots = {1, -1, -1, -1};
    ASSERT_TRUE(session->run("f", {}, {&result, 1}));
    EXPECT_EQ(cache, (std::vector<float>{0.5, 0.5, 1, 2, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5}));
  }
}

TEST_F(ApartMemory, DecodersGiveWhatTheReferenceGives) {
  for (SessionOptions each : options)
    for (const char *name : {"LlamaInterleavedMixedTypes", "GptTiedTanhF16"}) {
      SCOPED_TRACE(name);
      const DecoderCase decoder = decoderCase(name);
      each.poison = true;
      auto test = TestDecoder::create(decoder, each);
      ASSERT_TRUE(test) << test.error().line();
      // Quantized weights may have a layout of their own.
      if (decoder.name == std::string_view("GptTiedTanhF16"))
        EXPECT_EQ((*test)->session().packedBytes(), 0) << "weights are read as they are";
      SessionOptions exact = TestDecoder::options();
      exact.target = referenceTarget();
      auto reference = TestDecoder::create(decoder, exact);
      ASSERT_TRUE(reference) << reference.error().line();
      auto actual = (*test)->converse(), expected = (*reference)->converse();
      ASSERT_TRUE(actual) << actual.error().line();
      ASSERT_TRUE(expected) << expected.error().line();
      EXPECT_LT(relativeDistance(*actual, *expected), 1e-5);
    }
}

} // namespace
