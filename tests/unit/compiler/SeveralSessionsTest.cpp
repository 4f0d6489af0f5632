// Several sessions in one process, on every kind of device that is here: none is in another's way.
#include "DecoderFixture.h"

#include "kernelforge/compiler/Targets.h"

#include <atomic>
#include <gtest/gtest.h>
#include <thread>

using namespace kernelforge;

namespace {

/// A session's options for each kind of device that is here.
std::vector<SessionOptions> everyDevice() {
  std::vector<SessionOptions> all;
  for (const std::string &kind : targetKinds()) {
    const Expected<Target> target = parseTarget(kind, "native", "", {});
    if (!target && target.error().kind == ErrorKind::Missing)
      continue;
    EXPECT_TRUE(target) << target.error().line();
    SessionOptions options = TestDecoder::options();
    options.target = *target;
    all.push_back(options);
  }
  return all;
}

std::vector<float> conversation(const char *decoder, const SessionOptions &options) {
  auto test = TestDecoder::create(decoderCase(decoder), options);
  auto results = test ? (*test)->converse()
                      : Expected<std::vector<float>>(tl::unexpected<Error>(test.error()));
  EXPECT_TRUE(results) << results.error().line();
  return results.value_or(std::vector<float>());
}

constexpr const char *decoders[] = {"LlamaHalfSplit", "LlamaInterleavedMixedTypes"};

TEST(SeveralSessions, GiveWhatEachGivesAlone) {
  const std::vector<SessionOptions> devices = everyDevice();
  ASSERT_GE(devices.size(), 1U);
  std::vector<std::vector<float>> alone, together(2 * devices.size());
  for (const SessionOptions &options : devices)
    for (const char *decoder : decoders)
      alone.push_back(conversation(decoder, options));
  // Two of each kind, all at once, from building the module to the last result.
  std::vector<std::thread> threads;
  for (size_t i = 0; i < together.size(); ++i)
    threads.emplace_back([&, i] { together[i] = conversation(decoders[i % 2], devices[i / 2]); });
  for (std::thread &thread : threads)
    thread.join();
  for (size_t i = 0; i < together.size(); ++i) {
    EXPECT_FALSE(alone[i].empty());
    EXPECT_EQ(together[i], alone[i]) << devices[i / 2].target.kind << ", " << decoders[i % 2];
  }
}

TEST(SeveralSessions, AreStoppedOneByOne) {
  for (const SessionOptions &options : everyDevice()) {
    SCOPED_TRACE(options.target.kind);
    auto stopped = TestDecoder::create(decoderCase(decoders[0]), options);
    auto other = TestDecoder::create(decoderCase(decoders[0]), options);
    ASSERT_TRUE(stopped && other);
    const auto before = (*stopped)->append("prefill", {{4, 1, 30}});
    ASSERT_TRUE(before) << before.error().line();
    const std::atomic<bool> stop = true;
    const Program *program = (*stopped)->session().program("decode");
    ASSERT_TRUE(program);
    // The inputs of the prefill are still bound: a run of the same sizes.
    std::vector<int64_t> sizes;
    for (const ProgramSize &size : program->sizes)
      sizes.push_back(size.min);
    std::vector<std::byte> row(1 << 16);
    const std::span<std::byte> result(row);
    const Status run = (*stopped)->session().run("decode", sizes, {&result, 1}, {.cancel = &stop});
    ASSERT_FALSE(run);
    EXPECT_EQ(run.error().kind, ErrorKind::Interrupted) << run.error().line();
    // What was stopped goes on, and the other one has not seen it.
    for (auto *each : {&*stopped, &*other}) {
      (*each)->reset();
      const auto after = (*each)->append("prefill", {{4, 1, 30}});
      ASSERT_TRUE(after) << after.error().line();
      EXPECT_EQ(*after, *before);
    }
  }
}

} // namespace
