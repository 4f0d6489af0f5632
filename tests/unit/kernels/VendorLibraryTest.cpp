// Libraries that are not here, and one that is on every system.
#include "kernelforge/kernels/VendorLibrary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace kernelforge {
namespace {

using testing::HasSubstr;

TEST(VendorLibrary, SaysWhatIsNotHere) {
  auto library = VendorLibrary::open("NoBLAS", {"libnoblas.so.1", "libnoblas.so"}, "get it");
  ASSERT_FALSE(library);
  EXPECT_EQ(library.error().kind, ErrorKind::Missing);
  EXPECT_THAT(library.error().line(), HasSubstr("NoBLAS is not here"));
  EXPECT_THAT(library.error().line(), HasSubstr("none of libnoblas.so.1, libnoblas.so is in"));
  EXPECT_THAT(library.error().line(), HasSubstr("lib/kernelforge/vendor"));
  EXPECT_THAT(library.error().line(), HasSubstr("; get it"));
}

TEST(VendorLibrary, FindsWhatTheSystemHas) {
  auto library = VendorLibrary::open("libm", {"libnoblas.so", "libm.so.6"}, "");
  ASSERT_TRUE(library) << library.error().line();
  EXPECT_EQ(library->path(), "libm.so.6");
  auto *cosine = library->function<double(double)>("cos");
  ASSERT_TRUE(cosine);
  EXPECT_EQ(cosine(0), 1);
  EXPECT_FALSE(library->function<void()>("no_such_function"));
}

TEST(VendorLibrary, HasAFolderBesideThePrograms) {
  EXPECT_TRUE(vendorFolder().is_absolute());
  EXPECT_THAT(vendorFolder().string(), testing::EndsWith("/lib/kernelforge/vendor"));
}

} // namespace
} // namespace kernelforge
