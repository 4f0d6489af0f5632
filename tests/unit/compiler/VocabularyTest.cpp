// One word for one thing: what tables, options and modules call activations.
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/kernels/Epilogue.h"

#include <gtest/gtest.h>

namespace kernelforge {
namespace {

TEST(Vocabulary, StepsOfEpiloguesAreCalledAsActivationsOfTheDialect) {
  uint32_t count = 0;
  for (; auto activation = transformer::symbolizeActivation(count); ++count) {
    const std::string word = transformer::stringifyActivation(*activation).str();
    auto steps = parseEpilogue(word);
    ASSERT_TRUE(steps) << word;
    EXPECT_EQ(epilogueText(*steps), word);
  }
  EXPECT_EQ(count, 4u);
}

} // namespace
} // namespace kernelforge
