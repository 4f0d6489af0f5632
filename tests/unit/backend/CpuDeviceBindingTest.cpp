// What programs of the processor's device are bound to.
#include "CpuDeviceFixture.h"

using namespace kernelforge;
using testing::HasSubstr;

namespace {

TEST(CpuDevice, WhatIsBoundFollowsMemoryAndSizes) {
  std::vector<float> first(8, 1), second(8, 2);
  float a = 0, b = 0;
  auto loaded = load(2, chain(3));
  const int64_t eight = 8;
  auto bind = [&](std::vector<float> &in, float &out) {
    void *arguments[] = {in.data()}, *results[] = {&out};
    return loaded->bind({{&eight, 1}, arguments, results}).value();
  };
  auto one = bind(first, a), other = bind(second, b);
  auto run = [](BoundProgram &bound, int64_t n) { return bool(bound.submit({&n, 1})); };
  for (int repeat = 0; repeat < 2; ++repeat) {
    EXPECT_TRUE(run(*one, 8));
    EXPECT_EQ(a, 32);
  }
  first[0] = 5; // the same memory, with other values in it
  EXPECT_TRUE(run(*one, 8));
  EXPECT_EQ(a, 36);
  EXPECT_TRUE(run(*other, 8));
  EXPECT_EQ(b, 40);
  EXPECT_FALSE(run(*other, 9)) << "more than is bound";
  EXPECT_FALSE(run(*other, maxN + 1));
  EXPECT_TRUE(run(*other, 3));
  EXPECT_EQ(b, 15);
  EXPECT_EQ(a, 36);
}

TEST(CpuDevice, BadRunsAreRefused) {
  auto executable = load(1, chain(1));
  int64_t n = maxN + 1;
  std::vector<float> in(n);
  float out = 0;
  void *arguments[] = {in.data()}, *results[] = {&out};
  Status status = executable->run({{&n, 1}, arguments, results});
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().kind, ErrorKind::Unusable);
  EXPECT_THAT(status.error().line(), HasSubstr("1001"));
}

Artifact whereArena() {
  return compileKernel("where_arena", R"mlir(
    %p1 = llvm.getelementptr %args[1] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr
    %out = llvm.load %args : !llvm.ptr -> !llvm.ptr
    %middle = llvm.load %p1 : !llvm.ptr -> !llvm.ptr
    %address = llvm.ptrtoint %middle : !llvm.ptr to i64
    llvm.store %address, %out : i64, !llvm.ptr)mlir",
                       {{}});
}

TEST(CpuDevice, WhatIsBoundStaysWhereItIs) {
  auto program = [](int64_t arenaBytes) {
    auto program = std::make_shared<Program>();
    program->function = "where";
    program->buffers = {{"out", BufferKind::Argument, 8, 0},
                        {"middle", BufferKind::Intermediate, 4, 0}};
    program->arenaBytes = arenaBytes;
    program->results = {0};
    program->artifacts = {whereArena()};
    program->launches = {{0, {0, 1}, {}, -1}};
    return program;
  };
  auto small = load(1, program(64));
  int64_t address = 0;
  void *results[] = {&address};
  auto bound = small->bind({{}, {}, results}).value();
  ASSERT_TRUE(bound->submit({}));
  EXPECT_EQ(address, int64_t(small->arena.hostAddress()));
  const std::shared_ptr<const Program> larger = program(64 << 20);
  ASSERT_TRUE(small->device->load({&larger, 1}));
  address = 0;
  ASSERT_TRUE(bound->submit({}));
  EXPECT_EQ(address, int64_t(small->arena.hostAddress()));
}

TEST(CpuDevice, BuffersAreChecked) {
  auto loaded = load(1, chain(1));
  Device &device = *loaded->device;
  auto buffer = [&](int64_t bytes) { return device.allocate(bytes, MemoryUse::Transfer).value(); };
  const BufferRef in = buffer(4 * maxN), out = buffer(4), arena = loaded->arena;
  auto line = [&](ProgramBuffers buffers) {
    auto bound = loaded->executable->bind(std::move(buffers));
    return bound ? std::string("fine") : bound.error().line();
  };
  EXPECT_EQ(line({{in}, {out}, arena}), "fine");
  EXPECT_THAT(line({{}, {out}, arena}), HasSubstr("0 arguments"));
  EXPECT_THAT(line({{in}, {out, out}, arena}), HasSubstr("2 results"));
  EXPECT_THAT(line({{in}, {out}, {}}), HasSubstr("arena has 0 bytes"));
  BufferRef beyond = in;
  beyond.offset = 4;
  EXPECT_THAT(line({{beyond}, {out}, arena}), HasSubstr("'in') lies beyond its memory"));
  auto run = [&](ProgramBuffers buffers, int64_t n) {
    auto bound = loaded->executable->bind(std::move(buffers)).value();
    auto ticket = bound->submit({&n, 1});
    return ticket ? std::string("fine") : ticket.error().line();
  };
  EXPECT_EQ(run({{in}, {out}, arena}, maxN), "fine");
  EXPECT_THAT(run({{{}}, {out}, arena}, 1), HasSubstr("'in') is not bound"));
  EXPECT_EQ(run({{{}}, {out}, arena}, 0), "fine");
  EXPECT_THAT(run({{buffer(8)}, {out}, arena}, 3), HasSubstr("8 bytes where 12 are needed"));
  EXPECT_THAT(run({{in}, {buffer(3)}, arena}, 1), HasSubstr("'out') has 3 bytes where 4"));

  std::vector<std::byte> bytes(8, std::byte(7)), back(8);
  const BufferRef eight = buffer(8);
  ASSERT_TRUE(device.upload(bytes, eight));
  ASSERT_TRUE(device.download(eight, back));
  EXPECT_EQ(back, bytes);
  EXPECT_FALSE(device.upload(std::span(bytes).first(7), eight));
  EXPECT_FALSE(device.download({eight.memory, 4, 8}, back));
}

TEST(CpuDevice, TimesWholeRunsInTurns) {
  auto loaded = load(2, chain(3));
  const int64_t n = 100;
  std::vector<float> in(n);
  float out = 0;
  void *arguments[] = {in.data()}, *results[] = {&out};
  auto one = loaded->bind({{&n, 1}, arguments, results}).value();
  auto other = loaded->bind({{&n, 1}, arguments, results}).value();
  BoundProgram *const programs[] = {one.get(), other.get()};
  auto seconds = loaded->device->time(programs, {&n, 1}, 5);
  ASSERT_TRUE(seconds);
  ASSERT_EQ(seconds->size(), 2u);
  for (const auto &rounds : *seconds) {
    ASSERT_EQ(rounds.size(), 5u);
    for (double time : rounds)
      EXPECT_GT(time, 0);
  }
}

} // namespace
