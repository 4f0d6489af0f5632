// From launches to programs: sizes of kernels are not those of functions.
#include "DecoderFixture.h"

#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/compiler/ProgramBuilder.h"
#include "kernelforge/problem/ModuleText.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

/// A kernel for `kernel` rows, launched by a function that takes `function` rows as its second
/// size.
class ProgramBuilding : public testing::Test {
protected:
  Expected<Program> build(const std::string &kernel, const std::string &function,
                          const Extent &workspace = Extent{0}) {
    loadAllStages(context.get());
    module = parseModuleText(context.get(),
                             R"(
!rows = tensor<?x8xf32, #transformer.dims<"rows">>
transformer.kernel @k(%n: index {transformer.size = #transformer.size<"rows", )" +
                                 kernel + R"(>}, %x: !rows) -> !rows {
  %y = transformer.softmax %x : !rows
  transformer.yield %y : !rows
}
func.func @f(%others: index {transformer.size = #transformer.size<"others", 1 to 1000>},
             %rows: index {transformer.size = #transformer.size<"rows", )" +
                                 function + R"(>}, %x: !rows) -> !rows {
  %y = transformer.launch @k(%rows, %x) : (index, !rows) -> !rows
  return %y : !rows
})",
                             "test")
                 .value();
    Artifact artifact;
    artifact.kernel = artifact.entry = "k";
    artifact.sizeNames = {"rows"};
    artifact.launching.workspaces = {{.bytes = workspace}};
    return buildProgram(*module->getOps<mlir::func::FuncOp>().begin(), {artifact});
  }

  std::unique_ptr<mlir::MLIRContext> context = std::make_unique<mlir::MLIRContext>();
  mlir::OwningOpRef<mlir::ModuleOp> module;
};

TEST_F(ProgramBuilding, SizesMustLieInTheKernelsRange) {
  for (const char *fits : {"2 to 8", "2 to 2", "8 to 8", "3 to 7"})
    EXPECT_TRUE(build("2 to 8", fits)) << fits;
  for (const char *misfits : {"1 to 8", "2 to 9", "1 to 1", "9 to 9", "1 to 9"}) {
    auto program = build("2 to 8", misfits);
    ASSERT_FALSE(program) << misfits;
    EXPECT_EQ(program.error().kind, ErrorKind::Unusable);
    EXPECT_THAT(program.error().line(), HasSubstr("takes size 'rows' (2 to 8)"));
    EXPECT_THAT(program.error().line(), HasSubstr("given 'rows' (" + std::string(misfits)));
  }
}

/// The kernel's first size is the function's second.
TEST_F(ProgramBuilding, AWorkspaceFollowsTheFunctionsSize) {
  auto program = build("1 to 64", "1 to 64", Extent{128, 0, 16});
  ASSERT_TRUE(program) << program.error().line();
  const Launch &launch = program->launches.front();
  EXPECT_EQ(launch.sizes, std::vector<int>{1});
  const Buffer &workspace = program->buffers[launch.buffers.back()];
  EXPECT_EQ(workspace.name, "workspace");
  const int64_t sizes[] = {1000, 33};
  EXPECT_EQ(workspace.bytes.evaluate(sizes), 128 * 3);
  EXPECT_EQ(program->arenaBytes, 128 * 4);
}

} // namespace
