// Rows appended to caches of every type, by kernels of their own and by the epilogue of a matmul.
#include "KernelRunner.h"

#include "kernelforge/kernels/Reference.h"

#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <gtest/gtest.h>

using namespace kernelforge;

namespace {

using enum ElementType;

std::string cacheText(const CacheSlot &slot) {
  const std::string name(info(slot.type).name);
  return fmt::format("!transformer.cache<{}, {}, {}>", slot.heads, slot.dim,
                     slot.isQuantized() ? "!transformer.quant<" + name + ">" : name);
}

/// `slots` slots of random bytes.
Bytes anyCache(const CacheSlot &slot, int64_t slots) {
  const std::vector<float> noise = randomFloats(slots * slot.bytes() / 4 + 1, 22);
  Bytes bytes = bytesOf(noise);
  bytes.resize(slots * slot.bytes());
  return bytes;
}

/// What the reference makes of `cache`, filling of quantized slots as the kernel leaves it.
Bytes appended(const std::vector<float> &rows, const std::vector<int32_t> &places,
               const CacheSlot &slot, const Bytes &cache) {
  Bytes expected = cache;
  for (size_t r = 0; r < places.size(); ++r) {
    if (places[r] < 0)
      continue;
    std::byte *to = expected.data() + places[r] * slot.bytes();
    const int64_t used = slot.isQuantized()
                             ? slot.scalesBegin() + slot.elements() / 32 * CacheSlot::scaleBytes
                             : slot.bytes();
    const Bytes filling(to + used, to + slot.bytes());
    slot.write(rows.data() + r * slot.elements(), to);
    std::copy(filling.begin(), filling.end(), to + used);
  }
  return expected;
}

/// Blocks in which rounding is not usual: equal numbers, none but zeros, ties, subnormals, numbers
/// beyond f16, infinities and NaN.
std::vector<float> unusualRows(int64_t width) {
  std::vector<float> x = randomFloats(8 * width, 21);
  const float inf = std::numeric_limits<float>::infinity(),
              nan = std::numeric_limits<float>::quiet_NaN();
  auto row = [&](int64_t r, auto value) {
    for (int64_t i = 0; i < width; ++i)
      x[r * width + i] = value(i);
  };
  row(1, [](int64_t) { return 0.0f; });
  row(2, [](int64_t i) { return i == 0 ? -127.0f : float(i % 60) - 29.5f; }); // ties of q8_0
  row(3, [](int64_t i) { return std::ldexp(float(i % 7) - 3, -140); });
  row(4, [](int64_t i) { return 1e5f * float(i % 5 - 2); });
  row(5, [&](int64_t i) { return i % 11 == 3 ? nan : float(i); });
  row(6, [&](int64_t i) { return i % 40 == 3 ? -inf : float(i); });
  row(7, [](int64_t i) { return 1 + std::ldexp(float(i % 9), -12); }); // ties of f16
  return x;
}

} // namespace

TEST(CacheAppend, EveryTypeRoundsAsTheReference) {
  for (ElementType type : {F32, F16, BF16, Q8_0})
    for (int64_t dim : {11, 32, 96}) {
      const CacheSlot slot{type, 3, dim};
      if (!slot.checkedBytes(1))
        continue;
      const int64_t width = slot.elements();
      const std::string rows =
          fmt::format("tensor<?x{}xf32, #transformer.dims<\"tokens\">>", width);
      const std::string text = fmt::format(R"mlir(
!cache = {0}
!rows = {1}
!indices = tensor<?xi32, #transformer.dims<"tokens">>
transformer.kernel @k(%n: index {{transformer.size = #transformer.size<"tokens", 1 to 64>}},
    %c: !cache, %x: !rows, %s: !indices) -> !rows {{
  transformer.cache_append %x, %s into %c : !cache, !rows, !indices
  %y = transformer.add %x, %x : !rows
  transformer.yield %y : !rows
}})mlir",
                                           cacheText(slot), rows);
      const std::vector<float> x = unusualRows(width);
      const std::vector<int32_t> places{8, 0, 3, 11, 5, 10, 1, -1};
      const Bytes cache = anyCache(slot, 12);
      for (const std::string &level : everyRunnableLevel()) {
        const KernelOutcome outcome =
            compileOrDie(text, level).run({8}, {cache, bytesOf(x), bytesOf(places)});
        EXPECT_EQ(outcome.arguments[0], appended(x, places, slot, cache))
            << info(type).name << ", heads of " << dim << " on " << level;
        EXPECT_EQ(valuesOf<float>(outcome.results[0])[0], 2 * x[0]);
      }
    }
}

TEST(CacheAppend, TheEpilogueOfAMatmulAppendsToEveryType) {
  const int64_t rows = 5, depth = 24, width = 96;
  for (ElementType type : {F16, BF16, Q8_0}) {
    const CacheSlot slot{type, 3, 32};
    const std::string text = fmt::format(R"mlir(
!cache = {}
!rows = tensor<?x96xf32, #transformer.dims<"tokens">>
!indices = tensor<?xi32, #transformer.dims<"tokens">>
!weight = tensor<96x24xf32, #transformer.layout<interleaved, rows = 16>>
transformer.kernel @k(%n: index {{transformer.size = #transformer.size<"tokens", 1 to 64>}},
    %x: tensor<?x24xf32, #transformer.dims<"tokens">>, %w: !weight, %p: !indices,
    %t: tensor<7x16xf32>, %c: !cache, %s: !indices) -> !rows {{
  %m = transformer.matmul %x weights(%w)
      : (tensor<?x24xf32, #transformer.dims<"tokens">>, !weight) -> !rows
  %k = transformer.rope %m, %p, %t <half_split> {{headDim = 32 : i64}}
      : (!rows, !indices, tensor<7x16xf32>) -> !rows
  transformer.cache_append %k, %s into %c : !cache, !rows, !indices
  transformer.yield %k : !rows
}})mlir",
                                         cacheText(slot));
    const Bytes weight = randomWeight(F32, width, depth, 3), cache = anyCache(slot, 6);
    const std::vector<float> x = randomFloats(rows * depth, 1), table = randomFloats(7 * 16, 2);
    const std::vector<int32_t> positions{6, 0, 2, 3, 1}, places{5, -1, 0, 2, 3};
    for (const std::string &level : runnableLevels())
      for (int64_t panel : {0, 1}) {
        const KernelOutcome outcome =
            compileOrDie(text, level, {{"panel", panel}})
                .run({rows}, {bytesOf(x), packedWeight(F32, weight, width, depth),
                              bytesOf(positions), bytesOf(table), cache, bytesOf(places)});
        // What it appends is what it gives, rounded.
        EXPECT_EQ(outcome.arguments[4],
                  appended(valuesOf<float>(outcome.results[0]), places, slot, cache))
            << info(type).name << ", panel " << panel << " on " << level;
      }
  }
}
