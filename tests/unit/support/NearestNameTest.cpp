#include "kernelforge/support/NearestName.h"

#include <gtest/gtest.h>

#include <vector>

namespace kernelforge {
namespace {

const std::vector<std::string> names = {"factor",  "softcap",  "weight",
                                        "epsilon", "rms_norm", "q8_0"};

TEST(NearestName, FindsWhatWasMeant) {
  for (auto [word, meant] : {std::pair("facter", "factor"), // a wrong letter
                             std::pair("weigth", "weight"), // swapped
                             std::pair("softcapp", "softcap"), std::pair("factr", "factor"),
                             std::pair("eps", "epsilon"), // cut short
                             std::pair("rmsnorm", "rms_norm"), std::pair("Factor", "factor"),
                             std::pair("q8_1", "q8_0"), std::pair("factor", "factor")})
    EXPECT_EQ(nearestName(word, names), meant) << word;
  EXPECT_EQ(didYouMean("facter", names), "did you mean 'factor'?");
}

TEST(NearestName, IsSilentWhereNothingIsNear) {
  for (const char *word : {"", "x", "colour", "fa", "weather", "norm"})
    EXPECT_EQ(nearestName(word, names), "") << word;
  EXPECT_EQ(nearestName(std::string(1 << 20, 'w'), names), "");
  EXPECT_EQ(nearestName("factor", {}), "");
  EXPECT_EQ(didYouMean("colour", names), "");
}

TEST(NearestName, TakesTheNearest) {
  const std::vector<std::string> close = {"silo", "silu", "gelu", "relu"};
  EXPECT_EQ(nearestName("silu", close), "silu");
  EXPECT_EQ(nearestName("rel", close), "relu");
}

} // namespace
} // namespace kernelforge
