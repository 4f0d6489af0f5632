#include "kernelforge/problem/DeviceCeilings.h"

#include "kernelforge/compiler/Targets.h"

#include <cstdlib>
#include <gtest/gtest.h>

using namespace kernelforge;

namespace {

/// On each device that is here: what no rate can be is noticed, not how fast the machine is.
TEST(DeviceCeilings, AreMeasuredOnEachDevice) {
  for (const std::string &kind : targetKinds()) {
    SCOPED_TRACE(kind);
    SessionOptions options;
    auto target = parseTarget(kind, "native", "", {});
    if (!target && target.error().kind == ErrorKind::Missing &&
        !(kind == "webgpu" && std::getenv("KERNELFORGE_REQUIRE_WEBGPU")))
      continue;
    ASSERT_TRUE(target) << target.error().line();
    options.target = *target;
    options.threads = 1;
    options.cache = false;
    auto ceilings = DeviceCeilings::create(options);
    ASSERT_TRUE(ceilings) << ceilings.error().line();
    const Expected<int64_t> bytes = (*ceilings)->uncached();
    ASSERT_TRUE(bytes) << bytes.error().line();
    EXPECT_GE(*bytes, 8192);
    EXPECT_LE(*bytes, (*ceilings)->mostBytes());
    const Expected<double> copy = (*ceilings)->copy(*bytes, 0);
    ASSERT_TRUE(copy) << copy.error().line();
    EXPECT_GT(*copy, 1e5);
    EXPECT_LT(*copy, 1e15);
    // The least that can be asked for, and more than there is.
    EXPECT_TRUE((*ceilings)->copy(1, 0));
    EXPECT_TRUE((*ceilings)->copy(8192, 0));
    const Expected<double> arithmetic = (*ceilings)->multiplyAdds(0);
    ASSERT_TRUE(arithmetic) << arithmetic.error().line();
    EXPECT_GT(*arithmetic, 1e5);
    EXPECT_LT(*arithmetic, 1e15);
    const Expected<double> launch = (*ceilings)->launch(0);
    ASSERT_TRUE(launch) << launch.error().line();
    EXPECT_GT(*launch, 0);
    EXPECT_LT(*launch, 10);
  }
}

} // namespace
