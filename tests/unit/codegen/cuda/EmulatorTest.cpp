// The emulation that PTX is tested on finds what it is there to find.
#include "ptx/Ptx.h"

#include <bit>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

/// What running `body` by 64 threads ends with; its parameters are two buffers of 64 words (%rd1,
/// which is read, and %rd2, which is written), %rd3 is the thread's word in each and in `memory`.
/// One that starts early knows of the first buffer that nothing writes to it.
std::string outcome(const std::string &body, std::vector<uint32_t> *output = nullptr,
                    unsigned cluster = 1, bool startsEarly = false) {
  const std::string text =
      ".version 8.0\n.target sm_90\n.address_size 64\n.visible .entry k(\n.param "
      ".u64 in,\n.param .u64 out\n)\n.reqntid 64, 1, 1\n{\n.reg .pred "
      "%p<4>;\n.reg .b32 %r<9>;\n.reg .f32 %f<9>;\n.reg .b64 %rd<9>;\n.shared "
      ".align 4 .b8 memory[256];\nld.param.u64 %rd1, [in];\nld.param.u64 %rd2, "
      "[out];\nmov.u32 %r1, %tid.x;\nmul.wide.u32 %rd3, %r1, 4;\nadd.s64 %rd4, "
      "%rd1, %rd3;\nadd.s64 %rd5, %rd2, %rd3;\nmov.u64 %rd6, memory;\nadd.s64 "
      "%rd7, %rd6, %rd3;\n" +
      body + "\nret;\n}\n";
  std::string error;
  const auto module = ptx::parse(text, error);
  if (!module)
    return error;
  std::vector<uint32_t> in(64), out(64, ~0U);
  for (unsigned i = 0; i < 64; ++i)
    in[i] = i * i;
  const void *pointers[] = {in.data(), out.data()};
  void *parameters[] = {static_cast<void *>(&pointers[0]), static_cast<void *>(&pointers[1])};
  const std::vector<ptx::Piece> memory = {
      {reinterpret_cast<uint64_t>(in.data()), 256, false, /*isConstant=*/true},
      {reinterpret_cast<uint64_t>(out.data()), 256, true}};
  ptx::Launch launch;
  launch.block[0] = 64;
  launch.grid[0] = launch.cluster = cluster;
  launch.startsEarly = startsEarly;
  launch.parameters = parameters;
  launch.memory = &memory;
  std::string why = ptx::run(*module->entries.at("k"), launch);
  if (output)
    *output = out;
  return why;
}

} // namespace

TEST(PtxEmulation, ThreadsMeetAtBarriers) {
  std::vector<uint32_t> out;
  // Each thread gives what its neighbour read.
  EXPECT_EQ(outcome("ld.global.u32 %r2, [%rd4];\nst.shared.u32 [%rd7], %r2;\nbar.sync 0;\nxor.b32 "
                    "%r3, %r1, 1;\nmul.wide.u32 %rd8, %r3, 4;\nadd.s64 %rd8, %rd6, "
                    "%rd8;\nld.shared.u32 %r4, [%rd8];\nst.global.u32 [%rd5], %r4;",
                    &out),
            "");
  for (unsigned i = 0; i < 64; ++i)
    EXPECT_EQ(out[i], (i ^ 1U) * (i ^ 1U));
}

TEST(PtxEmulation, RacesInSharedMemoryAreFound) {
  const std::string late = "xor.b32 %r3, %r1, 1;\nmul.wide.u32 %rd8, %r3, 4;\nadd.s64 %rd8, %rd6, "
                           "%rd8;\nld.shared.u32 %r4, [%rd8];";
  EXPECT_THAT(outcome("st.shared.u32 [%rd7], %r1;\n" + late), HasSubstr("another thread touches"));
  EXPECT_THAT(outcome("st.shared.u32 [memory], %r1;"), HasSubstr("another thread touches"));
  EXPECT_EQ(outcome("mov.u32 %r2, 7;\nst.shared.u32 [memory], %r2;"), ""); // all say the same
}

TEST(PtxEmulation, WhatIsTouchedTooEarlyIsFound) {
  auto early = [](const std::string &body) { return outcome(body, nullptr, 1, true); };
  const std::string weight = "ld.global.u32 %r2, [%rd4];\n", wait = "griddepcontrol.wait;\n",
                    write = "st.global.u32 [%rd5], %r2;\n", first = "setp.eq.u32 %p1, %r1, 0;\n";
  EXPECT_EQ(early(weight + wait + write), "");
  EXPECT_THAT(early(weight + write + wait), HasSubstr("before what ran before is over"));
  EXPECT_THAT(early("ld.global.u32 %r2, [%rd5];\n" + wait), HasSubstr("before what ran before"));
  EXPECT_THAT(early(weight), HasSubstr("ends without waiting"));
  EXPECT_EQ(outcome(weight + write), "");
  // One thread waits for all that meet it then, and for nobody else.
  const std::string one = first + "@%p1 griddepcontrol.wait;\n" + weight;
  EXPECT_EQ(early(one + "bar.sync 0;\n" + write), "");
  EXPECT_THAT(early(one + write), HasSubstr("thread 1: k, line"));
}

TEST(PtxEmulation, MemoryThatIsNotTheLaunchsIsFound) {
  EXPECT_THAT(outcome("ld.global.u32 %r2, [%rd4+256];"), HasSubstr("read of memory of nobody"));
  EXPECT_THAT(outcome("st.global.u32 [%rd4], %r1;"), HasSubstr("memory that is not written"));
  EXPECT_THAT(outcome("ld.global.u32 %r2, [%rd4+2];"), HasSubstr("not aligned"));
  EXPECT_THAT(outcome("ld.shared.u32 %r2, [%rd7+4];"),
              HasSubstr("beyond the block's shared memory"));
  EXPECT_THAT(outcome("ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%rd4];"), HasSubstr("not aligned"));
}

TEST(PtxEmulation, BarriersThatNotAllComeToAreFound) {
  EXPECT_THAT(outcome("setp.eq.s32 %p1, %r1, 3;\n@%p1 bra $end;\nbar.sync 0;\n$end:"),
              HasSubstr("some threads end while others wait at a barrier"));
}

TEST(PtxEmulation, BarriersInSharedMemoryEndByArrivalsAndBytes) {
  // Half of the threads arrive and the others wait for them.
  const std::string init = "setp.ne.s32 %p1, %r1, 0;\n@%p1 bra $made;\n"
                           "mbarrier.init.shared::cta.b64 [memory], 32;\n$made:\nbar.sync 0;\n"
                           "setp.lt.u32 %p2, %r1, 32;\n";
  const std::string wait = "{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 "
                           "done, [memory], 0;\n@!done bra again;\n}\n";
  EXPECT_EQ(outcome(init + "@%p2 mbarrier.arrive.shared::cta.b64 _, [memory];\n" + wait), "");
  EXPECT_THAT(outcome(init + wait), HasSubstr("threads wait for each other"));
  EXPECT_THAT(
      outcome(init + "@%p2 mbarrier.arrive.expect_tx.shared::cta.b64 _, [memory], 16;\n" + wait),
      HasSubstr("threads wait for each other"));
  EXPECT_THAT(outcome("mbarrier.arrive.shared::cta.b64 _, [memory];"),
              HasSubstr("an arrival at no barrier"));
}

TEST(PtxEmulation, SomeThreadsMeetAtBarriersOfTheirOwn) {
  EXPECT_EQ(outcome("shr.u32 %r2, %r1, 5;\nadd.s32 %r2, %r2, 1;\nbar.sync %r2, 32;"), "");
  EXPECT_THAT(outcome("bar.sync 1, 65;"), HasSubstr("threads wait for each other"));
}

TEST(PtxEmulation, BlocksOfAClusterReadEachOthersSharedMemory) {
  // Each block writes its number, and the second one gives what the first one has.
  const std::string write = "mov.u32 %r2, %ctaid.x;\nadd.s32 %r2, %r2, 7;\n"
                            "st.shared.u32 [%rd7], %r2;\n";
  const std::string meet = "barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;\n";
  const std::string read = "cvt.u32.u64 %r3, %rd7;\nmapa.shared::cluster.u32 %r4, %r3, 0;\n"
                           "ld.shared::cluster.u32 %r5, [%r4];\n";
  const std::string store = "setp.eq.s32 %p1, %r2, 8;\n@%p1 st.global.u32 [%rd5], %r5;\n";
  std::vector<uint32_t> out;
  EXPECT_EQ(outcome(write + meet + read + meet + store, &out, 2), "");
  EXPECT_EQ(out, std::vector<uint32_t>(64, 7));
  EXPECT_THAT(outcome(write + meet + read + store, &out, 2),
              HasSubstr("shared memory of a block that has ended"));
  EXPECT_THAT(outcome(write + read + store, &out, 2), HasSubstr("block that has ended"));
  EXPECT_THAT(outcome("mapa.shared::cluster.u32 %r4, %r1, 1;", &out, 1),
              HasSubstr("a block that the cluster has not"));
  EXPECT_THAT(outcome("barrier.cluster.wait.acquire;\n" + meet, &out, 1), "");
  EXPECT_THAT(outcome("setp.eq.s32 %p1, %r1, 3;\n@%p1 bar.sync 1, 64;\n" + meet, &out, 2),
              HasSubstr("threads wait for each other"));
}

TEST(PtxEmulation, WarpsMultiplyMatrices) {
  // Rows of the left operand are their numbers and one, columns of the right one theirs.
  auto pairOf = [](const std::string &number, const std::string &pair) {
    return "cvt.rn.f32.u32 %f1, " + number + ";\nmov.b32 " + pair + ", %f1;\nprmt.b32 " + pair +
           ", " + pair + ", 0, 0x3232;\n";
  };
  std::vector<uint32_t> out;
  EXPECT_EQ(outcome("shr.u32 %r2, %r1, 2;\nand.b32 %r2, %r2, 7;\n" + pairOf("%r2", "%r3") +
                        "add.s32 %r4, %r2, 1;\n" + pairOf("%r4", "%r4") + "add.s32 %r5, %r2, 9;\n" +
                        pairOf("%r5", "%r5") +
                        "mov.f32 %f6, 0f40000000;\nmma.sync.aligned.m16n8k16.row.col.f32.bf16."
                        "bf16.f32 {%f2, %f3, %f4, %f5}, {%r4, %r5, %r4, %r5}, {%r3, %r3}, {%f6, "
                        "%f6, %f6, %f6};\nsub.f32 %f3, %f3, %f2;\nadd.f32 %f2, %f3, %f4;\n"
                        "st.global.f32 [%rd5], %f2;",
                    &out),
            "");
  for (unsigned i = 0; i < 64; ++i) {
    const unsigned row = i / 4 % 8, column = i % 4 * 2;
    EXPECT_EQ(std::bit_cast<float>(out[i]), float(16 * (row + 1) + 2 + 16 * (row + 9) * column));
  }
}

TEST(PtxEmulation, AtomicSumsGiveWhatWasThere) {
  std::vector<uint32_t> out;
  // Words of the output are all ones, and so the first one counts from there.
  EXPECT_EQ(outcome("bar.warp.sync -1;\natom.global.add.u32 %r2, [%rd2], 1;\nadd.s32 %r2, %r2, "
                    "1;\nbar.sync 0;\nsetp.eq.s32 %p1, %r1, 0;\n@%p1 bra $end;\nst.global.u32 "
                    "[%rd5], %r2;\n$end:",
                    &out),
            "");
  EXPECT_EQ(out[0], 63U);
  for (unsigned i = 1; i < 64; ++i)
    EXPECT_EQ(out[i], i);
  EXPECT_THAT(outcome("atom.global.add.u32 %r2, [%rd1], 1;"),
              HasSubstr("memory that is not written"));
}

TEST(PtxEmulation, PowersAndReciprocals) {
  std::vector<uint32_t> out;
  EXPECT_EQ(outcome("mov.f32 %f1, 0fC0000000;\nex2.approx.ftz.f32 %f2, %f1;\nrcp.approx.ftz.f32 "
                    "%f3, %f1;\nadd.f32 %f3, %f3, %f2;\nst.global.f32 [%rd5], %f3;",
                    &out),
            "");
  EXPECT_EQ(out[5], 0xbe800000U); // 1/4 - 1/2
}

TEST(PtxEmulation, WhatItDoesNotKnowItRefuses) {
  EXPECT_THAT(outcome("tanh.approx.f32 %f1, %f2;"), HasSubstr("line 23: instruction that is not"));
  EXPECT_THAT(outcome("mov.u32 %r9, 1;"), HasSubstr("register beyond its bank"));
  EXPECT_THAT(outcome("add.rz.f32 %f1, %f2, %f3;"), HasSubstr("not emulated: add.rz.f32"));
}

TEST(PtxEmulation, ALaunchIsWhatTheEntryIsMadeFor) {
  std::string error;
  const auto module =
      ptx::parse(".visible .entry k(\n.param .u32 n\n)\n.reqntid 64, 1, 1\n{\nret;\n}\n", error);
  ASSERT_TRUE(module) << error;
  ptx::Launch launch;
  EXPECT_THAT(ptx::run(*module->entries.at("k"), launch), HasSubstr("another block"));
  launch.block[0] = 64;
  EXPECT_THAT(ptx::run(*module->entries.at("k"), launch), HasSubstr("0 parameters, and it has 1"));
}
