// Attention over caches of every type, contiguous and paged, with rows and sinks of every type: the
// same bits as over f32 in contiguous slots, since all of it is widened exactly.
#include "AttentionCase.h"

#include <algorithm>
#include <array>
#include <map>
#include <random>

#include <fmt/format.h>
#include <gtest/gtest.h>

using namespace kernelforge;

namespace {

using Problem = AttentionCase;
using Data = AttentionData;
using enum ElementType;

/// The same problem in f32 and contiguous slots.
Problem plainOf(Problem p) {
  p.keys = p.values = p.type = F32;
  p.page = 0;
  if (p.sinks)
    p.sinks = F32;
  return p;
}

/// The slots of a cache as f32, each sequence's at `table` of the result.
Bytes plainCache(const reference::AttentionInputs &in, const reference::CacheView &cache,
                 const std::vector<int32_t> &table, int64_t slots) {
  const CacheSlot to{F32, cache.heads, cache.dim};
  Bytes plain(slots * to.bytes(), std::byte(0xff));
  std::vector<float> values(cache.dim);
  for (size_t s = 0; s < in.lengths.size(); ++s)
    for (int64_t position = 0; position < in.lengths[s]; ++position)
      for (int64_t head = 0; head < cache.heads; ++head) {
        cache.read(in.slot(int64_t(s), position), head, values.data());
        std::copy(values.begin(), values.end(),
                  reinterpret_cast<float *>(plain.data() + (table[s] + position) * to.bytes() +
                                            head * to.headBytes()));
      }
  return plain;
}

Data plainOf(const Problem &p, Data &data) {
  Data plain = data;
  plain.tableWidth = 1;
  plain.table.clear();
  int32_t slots = 1;
  for (int32_t length : p.lengths) {
    plain.table.push_back(slots);
    slots += length + 2;
  }
  const reference::AttentionInputs in = data.inputs(p);
  plain.keys = plainCache(in, in.keys, plain.table, slots);
  plain.values = plainCache(in, in.values, plain.table, slots);
  return plain;
}

/// Kernels in f32 and contiguous slots, of which many problems take the same.
const CompiledKernel &plainKernel(const Problem &plain, const std::string &level) {
  static std::map<std::string, CompiledKernel> known;
  std::string key = level + plain.text();
  for (const auto &[knob, value] : plain.knobs)
    key += fmt::format(" {}={}", knob, value);
  auto [entry, isNew] = known.try_emplace(key);
  if (isNew)
    entry->second = compileOrDie(plain.text(), level, plain.knobs, plain.threads);
  return entry->second;
}

/// Whether a problem gives what it gives in f32 and contiguous slots, and that what is right.
void checkPlain(const Problem &p, const std::string &level, uint64_t seed) {
  Data data = makeAttentionData(p, seed);
  const Problem plain = plainOf(p);
  Data plainData = plainOf(p, data);
  const CompiledKernel &reference = plainKernel(plain, level);
  checkAttention(reference, plain, plainData, plain.name(level));
  const std::vector<float> expected =
      decoded(p.type, encoded(p.type, runAttention(reference, plain, plainData)));
  const CompiledKernel kernel = compileOrDie(p.text(), level, p.knobs, p.threads);
  EXPECT_TRUE(runAttention(kernel, p, data) == expected) << p.name(level);
}

/// A schedule of each form.
std::array<Knobs, 3> forms() { return {oneRow, split, blocks}; }

/// The levels in turn: a kernel on each is more than a test has time for.
std::string levelOf(size_t turn) {
  const std::vector<std::string> levels = runnableLevels();
  return levels[turn % levels.size()];
}

} // namespace

TEST(AttentionCache, EveryType) {
  size_t turn = 0;
  for (auto [keys, values] : {std::pair{F16, BF16}, {Q8_0, Q8_0}, {F32, Q8_0}})
    for (const Knobs &knobs : forms())
      checkPlain({.heads = 6,
                  .kvHeads = 2,
                  .dim = 64,
                  .rows = 17,
                  .lengths = {100, 17},
                  .knobs = knobs,
                  .keys = keys,
                  .values = values},
                 levelOf(turn++ / 3), 3);
}

TEST(AttentionCache, PagesOfEverySize) {
  size_t turn = 0;
  for (int64_t page : {1, 16, 512})
    for (const Knobs &knobs : forms())
      checkPlain({.heads = 3,
                  .kvHeads = 1,
                  .dim = 32,
                  .rows = 12,
                  .lengths = {100, 1, 33},
                  .knobs = knobs,
                  .page = page},
                 levelOf(turn++ / 3), 5);
}

// Shapes, types, masks, pages and schedules drawn at random; each form with each type of keys.
TEST(AttentionCache, Combinations) {
  for (uint64_t seed = 0; seed < 12; ++seed) { // each form with each type of keys
    std::mt19937_64 generator(seed);
    auto oneOf = [&](auto... values) {
      const std::common_type_t<decltype(values)...> all[] = {values...};
      return all[generator() % sizeof...(values)];
    };
    Problem p;
    p.keys = std::array{F32, F16, BF16, Q8_0}[seed / 3 % 4];
    p.values = oneOf(F32, F16, BF16, Q8_0, Q8_0);
    p.type = oneOf(F32, F16, BF16);
    if (generator() % 2)
      p.sinks = oneOf(F32, F16, BF16);
    p.kvHeads = oneOf(1, 2, 3);
    p.heads = p.kvHeads * oneOf(1, 2, 3, 7);
    p.dim = p.keys == Q8_0 ? oneOf(32, 96, 128) : oneOf(1, 24, 33, 80);
    p.valueDim = p.values == Q8_0 ? oneOf(32, 64, 96) : oneOf(16, 40, 65);
    p.rows = oneOf(1, 5, 23);
    p.page = oneOf(0, 8, 32, 256);
    p.lengths = oneOf(0, 1) ? std::vector<int32_t>{150, 1, 40} : std::vector<int32_t>{77};
    p.window = oneOf(0, 0, 1, 30);
    p.causal = oneOf(0, 1);
    p.softcap = oneOf(0.0, 0.0, 2.5);
    p.knobs = forms()[seed % 3];
    // Panels of values of an even and an odd number of vectors.
    p.knobs.emplace_back("mr", 1);
    p.knobs.emplace_back("nr", oneOf(1, 2, 3));
    if (seed % 3 == 2)
      p.knobs[2].second = 96; // keys of a block: a multiple of any of these
    checkPlain(p, levelOf(generator() % 2), seed);
  }
}

// A sink takes part once, whichever schedule, and where a row sees nothing else the result is 0.
TEST(AttentionCache, Sinks) {
  for (const Knobs &knobs : forms())
    for (const std::string &level : everyRunnableLevel()) {
      Problem p{.heads = 6,
                .kvHeads = 2,
                .dim = 32,
                .rows = 24,
                .lengths = {130, 0, 9},
                .causal = false,
                .knobs = knobs,
                .sinks = F32};
      const CompiledKernel kernel = compileOrDie(p.text(), level, knobs);
      Data data = makeAttentionData(p, 4);
      for (size_t i = 0; i < data.sinks.size(); ++i) // far below, among and far above the scores
        data.sinks[i] = std::array{-100.0f, 0.5f, 30.0f}[i % 3];
      checkAttention(kernel, p, data, p.name(level));
      const std::vector<float> result = runAttention(kernel, p, data);
      for (int64_t r = 0; r < p.rows; ++r)
        if (p.lengths[data.sequences[r]] == 0)
          for (int64_t i = 0; i < p.heads * p.dim; ++i)
            ASSERT_EQ(result[r * p.heads * p.dim + i], 0.0f) << p.name(level) << ", row " << r;
    }
}

// Five sequences in one call, rows of prompts and single rows mixed: each has the bits that it has
// when it is run alone by the same kernel.
TEST(AttentionCache, RaggedBatchesGiveTheBitsOfEachSequenceAlone) {
  const std::vector<int32_t> lengths{1, 17, 64, 130, 300};
  const std::vector<int32_t> firstPosition{0, 0, 63, 100, 299};
  size_t turn = 0;
  for (ElementType type : {F32, F16, BF16, Q8_0})
    for (int64_t page : {0, 16})
      for (const Knobs &knobs : forms()) {
        Problem p{.heads = 6,
                  .kvHeads = 2,
                  .dim = 32,
                  .lengths = lengths,
                  .window = page ? 0 : 70,
                  .knobs = knobs,
                  .keys = type,
                  .values = type,
                  .page = page,
                  .sinks = F32};
        for (size_t s = 0; s < lengths.size(); ++s)
          p.rows += lengths[s] - firstPosition[s];
        --p.rows; // a problem has one to begin with
        Data data = makeAttentionData(p, 9);
        data.positions.clear();
        data.sequences.clear();
        // Rows of a sequence in order, but among those of others.
        std::vector<int32_t> next = firstPosition;
        std::mt19937_64 generator(2);
        while (int64_t(data.positions.size()) < p.rows) {
          const size_t s = generator() % lengths.size();
          const int32_t run = 1 + int32_t(generator() % 9);
          for (int32_t i = 0; i < run && next[s] < lengths[s]; ++i) {
            data.positions.push_back(next[s]++);
            data.sequences.push_back(int32_t(s));
          }
        }
        // The caches have values where these rows look.
        data = withSeenSlots(p, data, 9);
        // Three forms of a type by two levels: each form meets both.
        const std::string level = levelOf(turn++);
        const CompiledKernel kernel = compileOrDie(p.text(), level, knobs);
        checkAttention(kernel, p, data, p.name(level));
        const std::vector<float> together = runAttention(kernel, p, data);
        const int64_t width = p.heads * p.valueWidth();
        for (size_t s = 0; s < lengths.size(); ++s) {
          std::vector<int64_t> rows;
          for (int64_t r = 0; r < p.rows; ++r)
            if (data.sequences[r] == int64_t(s))
              rows.push_back(r);
          Problem own = p;
          Data alone = data.only(own, rows);
          own.lengths = {lengths[s]};
          alone.lengths = own.lengths;
          alone.sequences.assign(rows.size(), 0);
          alone.table.assign(data.table.begin() + int64_t(s) * data.tableWidth,
                             data.table.begin() + int64_t(s + 1) * data.tableWidth);
          const std::vector<float> result = runAttention(kernel, own, alone);
          for (size_t i = 0; i < rows.size(); ++i)
            ASSERT_TRUE(std::equal(result.begin() + int64_t(i) * width,
                                   result.begin() + int64_t(i + 1) * width,
                                   together.begin() + rows[i] * width))
                << p.name(level) << ", sequence " << s << ", its row " << i;
        }
      }
}
