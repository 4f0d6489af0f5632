// The calling convention by itself: no device is needed.
#include "kernelforge/backend/webgpu/Convention.h"
#include "kernelforge/backend/webgpu/Context.h"

#include <gtest/gtest.h>

using namespace kernelforge::webgpu;

namespace {

TEST(WebGpuConvention, FoldsGrids) {
  for (uint64_t tasks : {uint64_t(1), uint64_t(9), uint64_t(10), uint64_t(11), uint64_t(99)}) {
    const auto grid = foldGrid(tasks, 10);
    ASSERT_TRUE(grid) << tasks;
    EXPECT_EQ(grid->tasks, tasks);
    EXPECT_LE(grid->width, 10U);
    EXPECT_LE(grid->height, 10U);
    EXPECT_GE(uint64_t(grid->width) * grid->height, tasks);
    EXPECT_LT(uint64_t(grid->width) * grid->height, tasks + grid->height);
  }
  EXPECT_EQ(foldGrid(0, 10)->height, 0U);
  EXPECT_FALSE(foldGrid(101, 10));
  EXPECT_FALSE(foldGrid(uint64_t(1) << 40, 65535));
  // The number of the last workgroup must not wrap.
  EXPECT_FALSE(foldGrid(UINT32_MAX, 65536));
}

TEST(WebGpuConvention, ReadsDeclarations) {
  const DeclaredAccess access(R"(
struct A { x: u32 }
@group(0) @binding(0) var<storage, read> a: array<f32>;
@binding( 1 ) @group( 0 )
  var < storage , read_write > b : array<f32>;
@group(0) @binding(2) var<storage> c: array<f32>;
// @group(0) @binding(3) var<storage, read_write> d: array<f32>;
/* @group(0) /* deep */ @binding(3) var<storage, read_write> d; */
@group(0) @binding(3) var<storage, read> d: array<f32>;
@group(1) @binding(4) var<storage, read> e: array<f32>;
@group(0) @binding(12) var<uniform> f: A;
@group(0) @binding(5) var<storage, read> g: array<f32>;
fn first() { var x = 1; }
@group(0) @binding(5) var<storage, read_write> h: array<f32>;
fn second() { var x = 1; }
)");
  EXPECT_EQ(access.isReadOnly(0, "first"), true);
  EXPECT_EQ(access.isReadOnly(1, "first"), false);
  EXPECT_EQ(access.isReadOnly(2, "first"), true);
  EXPECT_EQ(access.isReadOnly(3, "first"), true);
  // Declared both ways: each entry has the one before it.
  EXPECT_EQ(access.isReadOnly(5, "first"), true);
  EXPECT_EQ(access.isReadOnly(5, "second"), false);
  EXPECT_EQ(access.isReadOnly(5, "third"), std::nullopt);
  for (int binding : {4, 6, 12})
    EXPECT_EQ(access.isReadOnly(binding, "first"), std::nullopt) << binding;
  for (const char *broken :
       {"", ";", "@binding(", "@group(0) @binding(99999999999999999999) var<storage", "/*", "var<;",
        "@binding(0) @group(0) var<storage;"})
    EXPECT_EQ(DeclaredAccess(broken).isReadOnly(1, ""), std::nullopt);
}

TEST(WebGpuConvention, MessagesAreOneLine) {
  EXPECT_EQ(onOneLine("Validation Error\n\nCaused by:\n  In f\n    a:\n      b\n"), "In f, a: b");
  EXPECT_EQ(onOneLine("wrong\n  ┌─ wgsl:3:5\n  │\n3 │ let x;\n  │     ^ here\n"),
            "wrong, wgsl:3:5, 3 let x;, ^ here");
  EXPECT_EQ(onOneLine(" \n"), "no reason is given");
}

} // namespace
