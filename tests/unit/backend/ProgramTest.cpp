#include "kernelforge/backend/Device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

/// in -> (kernel) -> arena -> (kernel) -> out, one size n of 1 to 100.
Program twoLaunches() {
  Program program;
  program.function = "f";
  program.sizes = {{"n", 1, 100}};
  program.buffers = {{"in", BufferKind::Argument, {4, 0}, 0},
                     {"middle", BufferKind::Intermediate, {4, 0}, 64},
                     {"out", BufferKind::Argument, {4, 0}, 0}};
  program.arguments = {0};
  program.results = {2};
  program.arenaBytes = 64 + 400;
  Artifact artifact;
  artifact.kernel = artifact.entry = "k";
  artifact.sizeNames = {"n"};
  artifact.launching.phases = {{.entry = "k", .grid = {2, 0, 16}}};
  program.artifacts = {artifact};
  program.launches = {{0, {0, 1}, {0}, 0}, {0, {1, 2}, {0}, 0}};
  return program;
}

TEST(Program, ExtentsFollowSizes) {
  int64_t sizes[] = {33, 5};
  EXPECT_EQ((Extent{2, 0, 16}.evaluate(sizes)), 6);
  EXPECT_EQ((Extent{3, 1}.evaluate(sizes)), 15);
  EXPECT_EQ(Extent(7).evaluate(sizes), 7);
  Extent both = Extent(2, 0, 16) * Extent(3, 1, 2) * 5;
  EXPECT_EQ(both.evaluate(sizes), 2 * 3 * 3 * 3 * 5);
  both.atMost = 132;
  EXPECT_EQ(both.evaluate(sizes), 132);
  // Nothing up to a size, and from there on what is beyond it.
  Extent beyond(2, 0, 16);
  for (const auto &[threshold, value] : {std::pair{32, 2}, {33, 0}, {40, 0}, {1, 4}}) {
    beyond.product[0].beyond = threshold;
    EXPECT_EQ(beyond.evaluate(sizes), value) << threshold;
    EXPECT_EQ(checkedExtent(beyond, sizes), uint64_t(value)) << threshold;
  }
  beyond.product[0].beyond = -1;
  EXPECT_FALSE(checkedExtent(beyond, sizes));
}

TEST(Program, ConsistentOnePasses) {
  Status status = checkProgram(twoLaunches());
  EXPECT_TRUE(status) << status.error().line();
}

/// Each defect alone is found and named.
TEST(Program, DefectsAreFound) {
  struct Defect {
    void (*make)(Program &);
    const char *message;
  };
  const Defect defects[] = {
      {[](Program &p) { p.artifacts[0].variant = "blocked"; },
       "'k' is of another variant, and no library call"},
      {[](Program &p) { p.artifacts[0].library = LibraryCall(); },
       "'k' is generated, and a library call"},
      {[](Program &p) {
         p.artifacts[0].variant = "blocked";
         p.artifacts[0].library = LibraryCall();
       },
       "'k' is a library call, and has code or phases"},
      {[](Program &p) { p.artifacts[0].cost.byteTerms = {{1, 7}}; }, "cost of 'k'"},
      {[](Program &p) { p.artifacts[0].cost.flopTerms = {{INT64_MAX, 0}}; }, "cost of 'k'"},
      {[](Program &p) { p.artifacts[0].launching.phases[0].grid = {1, 0, INT64_MAX}; },
       "grid of 'k'"},
      {[](Program &p) { p.arenaBytes = 463; }, "'middle' does not lie in the arena"},
      {[](Program &p) { p.copies = {{0, 0, 4}}; }, "a copy from buffer 0 to 0"},
      {[](Program &p) { p.copies = {{1, 2, 4}}; }, "a copy from buffer 1 to 2"},
      {[](Program &p) { p.copies = {{0, 1, 4}}; }, "a copy from buffer 0 to 1"},
      {[](Program &p) { p.copies = {{2, 0, 4}}; }, "a copy from buffer 2 to 0"},
      {[](Program &p) { p.copies = {{7, 2, 4}}; }, "a copy from buffer 7 to 2"},
      {[](Program &p) { p.copies = {{0, 2, {INT64_MAX, 0}}}; }, "copied result overflows"},
      {[](Program &p) { p.copies = {{0, 2, {1, 1}}}; }, "copied result overflows"},
      {[](Program &p) { p.buffers[1].offset = 8; }, "'middle' does not lie in the arena"},
      {[](Program &p) { p.buffers[1].offset = -64; }, "'middle' does not lie in the arena"},
      {[](Program &p) { p.buffers[0].bytes = {INT64_MAX, 0, 1}; }, "'in' overflows"},
      {[](Program &p) { p.buffers[0].bytes = {4, 1, 1}; }, "'in' overflows"},
      {[](Program &p) { p.buffers[0].bytes = {4, 0, 0}; }, "'in' overflows"},
      {[](Program &p) { p.arguments = {}; }, "'in' is bound nowhere"},
      {[](Program &p) { p.results = {2, 0}; }, "'in' is bound twice"},
      {[](Program &p) { p.arguments = {0, 1}; }, "'middle' is an intermediate and bound"},
      {[](Program &p) { p.arguments = {3}; }, "no buffer 3"},
      {[](Program &p) { p.results = {-1}; }, "no buffer -1"},
      {[](Program &p) { p.launches[0].artifact = 1; }, "no artifact 1"},
      {[](Program &p) { p.launches[1].buffers = {1, 3}; }, "buffer 3"},
      {[](Program &p) { p.launches[1].sizes = {1}; }, "size 1"},
      {[](Program &p) { p.launches[1].sizes = {}; }, "0 sizes of 1"},
      {[](Program &p) { p.artifacts[0].launching.phases[0].grid = {INT64_MAX, 0}; }, "grid of 'k'"},
      {[](Program &p) {
         p.artifacts[0].launching.phases[0].grid = Extent(int64_t(1) << 40) * (int64_t(1) << 40);
       },
       "'k': a grid overflows"},
      {[](Program &p) { p.artifacts[0].launching.phases[0].scratchBytes = -1; },
       "negative scratch"},
      {[](Program &p) { p.sizes[0].max = 0; }, "empty range"},
  };
  for (const Defect &defect : defects) {
    Program program = twoLaunches();
    defect.make(program);
    Status status = checkProgram(program);
    ASSERT_FALSE(status) << defect.message;
    EXPECT_EQ(status.error().kind, ErrorKind::Unusable);
    EXPECT_THAT(status.error().line(), HasSubstr(defect.message));
  }
}

/// out = in * weight^T + bias, by a library: rows of 8 to rows of 4, one size n of 1 to 100.
Program libraryCall() {
  Program program;
  program.function = "f";
  program.sizes = {{"other", 0, 9}, {"n", 1, 100}};
  program.buffers = {{"in", BufferKind::Argument, {32, 1}, 0},
                     {"weight", BufferKind::Weight, 128, 0},
                     {"bias", BufferKind::Weight, 16, 0},
                     {"out", BufferKind::Argument, {16, 1}, 0}};
  program.arguments = {0, 1, 2};
  program.results = {3};
  Artifact artifact;
  artifact.kernel = artifact.entry = "k";
  artifact.variant = "blocked";
  artifact.sizeNames = {"n"};
  artifact.library =
      LibraryCall{.problem = {.m = 100, .n = 4, .k = 8, .epilogue = {EpilogueStep::Bias}},
                  .rowsSize = 0,
                  .input = 1,
                  .weight = 2,
                  .bias = 3,
                  .sizes = 1,
                  .arguments = 4};
  program.artifacts = {artifact};
  program.launches = {{0, {0, 1, 2, 3}, {1}, 0}};
  return program;
}

TEST(Program, DefectsOfLibraryCallsAreFound) {
  const Status fine = checkProgram(libraryCall());
  ASSERT_TRUE(fine) << fine.error().line();
  const std::pair<void (*)(Program &, LibraryCall &), const char *> defects[] = {
      {[](Program &p, LibraryCall &) { p.buffers[0].bytes = {31, 1}; }, "'in' has fewer than"},
      {[](Program &p, LibraryCall &) { p.buffers[0].bytes = {999, 0}; }, "'in' has fewer than"},
      {[](Program &p, LibraryCall &) { p.buffers[1].bytes = 127; }, "'weight' has fewer than"},
      {[](Program &p, LibraryCall &) { p.buffers[2].bytes = 15; }, "'bias' has fewer than"},
      {[](Program &p, LibraryCall &) { p.buffers[3].bytes = {15, 1}; }, "'out' has fewer than"},
      {[](Program &, LibraryCall &c) { c.problem.k = 9; }, "'in' has fewer than"},
      {[](Program &, LibraryCall &c) { c.problem.m = 99; }, "100 rows"},
      {[](Program &, LibraryCall &c) { c.problem.m = -1; }, "m is -1"},
      {[](Program &, LibraryCall &c) { c.rowsSize = 1; }, "rows follow size 1 of 1"},
      {[](Program &, LibraryCall &c) { c.rowsSize = -2; }, "rows follow size -2"},
      {[](Program &, LibraryCall &c) { c.bias = {}; }, "bias do not fit together"},
      {[](Program &, LibraryCall &c) { c.residual = 3; }, "residual do not fit together"},
      {[](Program &, LibraryCall &c) { c.input = 0; }, "argument 0 is no tensor"},
      {[](Program &, LibraryCall &c) { c.weight = 4; }, "argument 4 is no tensor"},
      {[](Program &, LibraryCall &c) { c.arguments = 5; }, "4 buffers of 5"},
      {[](Program &, LibraryCall &c) { c.sizes = 2; }, "other sizes than the kernel's"},
      {[](Program &p, LibraryCall &) { p.launches[0].buffers.pop_back(); }, "3 buffers of 4"}};
  for (const auto &[make, message] : defects) {
    Program program = libraryCall();
    make(program, *program.artifacts[0].library);
    const Status status = checkProgram(program);
    ASSERT_FALSE(status) << message;
    EXPECT_EQ(status.error().kind, ErrorKind::Unusable);
    EXPECT_THAT(status.error().line(), HasSubstr(message));
  }
}

TEST(Program, WhatIsCopiedMustBeBound) {
  Program program = twoLaunches();
  const int64_t n = 100;
  const ProgramBuffers none{{{}}, {{}}, {}};
  auto line = [&] {
    Status status = checkRun(program, none, {&n, 1});
    return status ? std::string("fine") : status.error().line();
  };
  EXPECT_THAT(line(), HasSubstr("'in'"));
  // A block table's bytes are the caller's, until they are copied.
  program.buffers[0].bytes = program.buffers[2].bytes = 0;
  EXPECT_EQ(line(), "fine");
  program.copies = {{0, 2, {4, 0}}};
  EXPECT_THAT(line(), HasSubstr("'in'"));
  program.copies = {{2, 2, {4, 0}}};
  EXPECT_THAT(line(), HasSubstr("'out'"));
}

} // namespace
