#include "kernelforge/llm/ModelNames.h"

#include "tests/unit/llm/ModelWriters.h"

#include <cstdlib>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

class ModelNamesTest : public test::FolderTest {
protected:
  ModelNamesTest() { setenv("KERNELFORGE_HOME", folder.c_str(), 1); }
  ~ModelNamesTest() override { unsetenv("KERNELFORGE_HOME"); }
};

TEST_F(ModelNamesTest, NamesAreLookedUpAtHome) {
  std::filesystem::create_directories(folder / "models");
  const std::string file = write("models/some.gguf", "");
  EXPECT_EQ(*resolveModel("some"), file);
}

TEST_F(ModelNamesTest, PathsStayAsTheyAre) {
  EXPECT_EQ(*resolveModel(folder.string()), folder.string());
  EXPECT_EQ(*resolveModel("./nosuch"), "./nosuch");
  EXPECT_EQ(*resolveModel("nosuch.gguf"), "nosuch.gguf");
}

TEST_F(ModelNamesTest, UnknownNamesAreMissingAndSayWhatToDo) {
  auto path = resolveModel("nosuch");
  ASSERT_FALSE(path);
  EXPECT_EQ(path.error().kind, ErrorKind::Missing);
  EXPECT_THAT(path.error().line(), HasSubstr("nosuch.gguf"));
  EXPECT_THAT(path.error().hint, HasSubstr("fetch.py NAME` with one of smollm2, gemma3-270m"));
}

TEST_F(ModelNamesTest, NamesThatCanBeFetchedSayHow) {
  for (const char *name : {"smollm2", "gemma3-270m"}) {
    auto path = resolveModel(name);
    ASSERT_FALSE(path);
    EXPECT_EQ(path.error().kind, ErrorKind::Missing);
    EXPECT_THAT(path.error().hint, HasSubstr(std::string("fetch.py ") + name + "`"));
  }
  EXPECT_THAT(resolveModel("gemma3-270").error().hint, HasSubstr("gemma3-270m"));
}

} // namespace
