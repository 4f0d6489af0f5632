#include "Kernels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

namespace {

webgpu::WgslKernel emitOrDie(const std::string &text, const Limits &limits = leastLimits()) {
  auto made = ParsedKernel(text).emit(limits);
  if (!made)
    ADD_FAILURE() << made.error().line();
  return made ? *made : webgpu::WgslKernel{};
}

Parameter buffer(int index, Access access) { return {Parameter::Kind::Buffer, index, access}; }
Parameter size(int index) { return {Parameter::Kind::Size, index}; }

std::string normText() {
  const std::string rows = rowsText(100);
  return kernelText("%x: " + rows + ", %w: tensor<100xf32>", rows,
                    fmt::format("%y = transformer.rms_norm %x, %w {{epsilon = 1.0e-5}} : ({0}, "
                                "tensor<100xf32>) -> {0}\n transformer.yield %y : {0}",
                                rows));
}

} // namespace

TEST(Extent, ProductKeepsTermsAndIsMalformedAfterOverflow) {
  const Extent rows(3, 0, 4), columns(9);
  const Extent product = rows * columns;
  EXPECT_EQ(product, Extent(27, 0, 4));
  const int64_t sizes[] = {5};
  EXPECT_EQ(product.evaluate(sizes), 54);
  EXPECT_EQ((rows * Extent(1, 1)).product.size(), 2U);
  const Extent large(int64_t(1) << 40);
  EXPECT_EQ((large * large).multiplier, -1);
  EXPECT_EQ((large * large * large).multiplier, -1);
}

TEST(Wgsl, ANormIsReadable) {
  const webgpu::WgslKernel kernel = emitOrDie(normText());
  EXPECT_EQ(kernel.text, R"(// @k: rowwise (rms_norm)
// one row a workgroup of 64 threads

struct Launch {
  tasks: u32, // workgroups that have work
  width: u32, // workgroups in x
}

@group(0) @binding(0) var<storage, read_write> input: array<f32>;
@group(0) @binding(1) var<storage, read> norm_weight: array<f32>;
@group(0) @binding(2) var<storage, read_write> output: array<f32>;
@group(0) @binding(3) var<uniform> launch: Launch;
var<workgroup> partial: array<f32, 64>;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_id) local_id: vec3<u32>) {
  let block = workgroup_id.y * launch.width + workgroup_id.x;
  if (block >= launch.tasks) {
    return;
  }
  let thread = local_id.x;
  let row_start = block * 100u;
  var sum = 0.0;
  for (var col = thread; col < 100u; col += 64u) {
    let value = input[row_start + col];
    sum += value * value;
  }
  partial[thread] = sum;
  workgroupBarrier();
  for (var step = 0u; step < 6u; step++) {
    let half = 32u >> step;
    if (thread < half) {
      partial[thread] = partial[thread] + partial[thread + half];
    }
    workgroupBarrier();
  }
  let value_1 = partial[0u];
  workgroupBarrier();
  let norm_factor = 1.0 / sqrt(value_1 / 100.0 + 1e-05);
  for (var col_1 = thread; col_1 < 100u; col_1 += 64u) {
    output[row_start + col_1] = input[row_start + col_1] * norm_factor * norm_weight[col_1];
  }
}
)");
}

TEST(Wgsl, LaunchingSaysWhatIsReadAndWritten) {
  const webgpu::WgslKernel kernel = emitOrDie(normText());
  ASSERT_EQ(kernel.launching.phases.size(), 1U);
  const Phase &phase = kernel.launching.phases[0];
  EXPECT_EQ(phase.entry, "main");
  EXPECT_THAT(phase.parameters, ElementsAre(buffer(0, Access::Read), buffer(1, Access::Read),
                                            buffer(2, Access::Write)));
  EXPECT_EQ(phase.grid, Extent(1, 0));
  EXPECT_EQ(phase.block, (std::array<int64_t, 3>{64, 1, 1}));
  EXPECT_EQ(phase.sharedBytes, 256);
}

TEST(Wgsl, MatmulTakesFourRowsAThreadAndTheirNumber) {
  const std::string in = rowsText(64), out = rowsText(130);
  auto text = [&](int64_t most) {
    return kernelText("%x: " + in + ", %w: tensor<130x64xf32>", out,
                      fmt::format("%y = transformer.matmul %x weights(%w) : ({}, "
                                  "tensor<130x64xf32>) -> {}\n transformer.yield %y : {}",
                                  in, out, out),
                      most);
  };
  const Phase many = emitOrDie(text(64)).launching.phases[0];
  EXPECT_THAT(many.parameters, ElementsAre(buffer(0, Access::Read), buffer(1, Access::Read),
                                           buffer(2, Access::Write), size(0)));
  EXPECT_EQ(many.grid, Extent(3, 0, 4));
  const webgpu::WgslKernel one = emitOrDie(text(1));
  EXPECT_EQ(one.launching.phases[0].grid, Extent(3, 0, 1));
  EXPECT_THAT(one.text, AllOf(HasSubstr("64 columns x 1 rows"), Not(HasSubstr("launch.tokens")),
                              HasSubstr("if (col < 130u) {")));
}

TEST(Wgsl, AWeightThatCannotBeBoundAtOnceIsReadPieceByPiece) {
  Limits limits = leastLimits();
  limits.bindingBytes = 24000; // of 65,536 bytes
  const std::string in = rowsText(256), out = rowsText(64);
  const webgpu::WgslKernel kernel = emitOrDie(
      kernelText("%x: " + in + ", %w: tensor<64x256xf32> {transformer.weight = \"w\"}", out,
                 fmt::format("%y = transformer.matmul %x weights(%w) : ({}, tensor<64x256xf32>) -> "
                             "{}\n transformer.yield %y : {}",
                             in, out, out)),
      limits);
  EXPECT_THAT(kernel.text, HasSubstr(R"(
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read> w_1: array<f32>;
@group(0) @binding(3) var<storage, read> w_2: array<f32>;

fn w_at(i: u32) -> f32 {
  if (i < 5504u) {
    return w[i];
  }
  if (i < 11008u) {
    return w_1[i - 5504u];
  }
  return w_2[i - 11008u];
}
)"));
  EXPECT_THAT(kernel.text, AllOf(HasSubstr("= w_at("), Not(HasSubstr("= w["))));
  EXPECT_THAT(kernel.launching.phases.front().parameters,
              ElementsAre(buffer(0, Access::Read), buffer(1, Access::Read), buffer(1, Access::Read),
                          buffer(1, Access::Read), buffer(2, Access::Write), size(0)));
}

TEST(Wgsl, SegmentsThatAreNotUsedTogetherArePhases) {
  const std::string in = rowsText(64);
  const std::string text = kernelText(
      "%x: " + in + ", %a: tensor<64x64xf32>, %b: tensor<32x64xf32>", in + ", " + rowsText(32),
      fmt::format("%p, %q = transformer.matmul %x weights(%a, %b) : ({0}, tensor<64x64xf32>, "
                  "tensor<32x64xf32>) -> ({0}, {1})\n transformer.yield %p, %q : {0}, {1}",
                  in, rowsText(32)));
  const webgpu::WgslKernel kernel = emitOrDie(text);
  ASSERT_EQ(kernel.launching.phases.size(), 2U);
  EXPECT_TRUE(kernel.launching.phases[0].afterPrevious);
  EXPECT_FALSE(kernel.launching.phases[1].afterPrevious);
  EXPECT_EQ(kernel.launching.phases[1].entry, "main_1");
  EXPECT_THAT(kernel.text, AllOf(HasSubstr("fn main_0("), HasSubstr("fn main_1("),
                                 HasSubstr("var<uniform> main_1_launch: main_1_launch_sizes")));
}

TEST(Wgsl, CachesAreReadAndWritten) {
  const std::string rows = rowsText(64);
  const std::string text =
      kernelText("%c: !transformer.cache<1, 64, f32>, %x: " + rows + ", %s: !indices", "",
                 fmt::format("transformer.cache_append %x, %s into %c : "
                             "!transformer.cache<1, 64, f32>, {}, !indices\n transformer.yield",
                             rows));
  const webgpu::WgslKernel kernel = emitOrDie(text);
  EXPECT_THAT(
      kernel.launching.phases[0].parameters,
      ElementsAre(buffer(0, Access::ReadWrite), buffer(1, Access::Read), buffer(2, Access::Read)));
  EXPECT_THAT(kernel.text, HasSubstr("if (i32(slot) >= 0) {"));
}

TEST(Wgsl, HalvesOfAWordAreWrittenApart) {
  const std::string rows = rowsText(5, "f16");
  const webgpu::WgslKernel kernel =
      emitOrDie(kernelText("%x: " + rows, rows,
                           fmt::format("%y = transformer.add %x, %x : {0}\n transformer.yield %y : "
                                       "{0}",
                                       rows)));
  EXPECT_THAT(kernel.text, AllOf(HasSubstr("var<storage, read_write> input: array<u32>;"),
                                 HasSubstr("var<storage, read_write> output: array<atomic<u32>>;"),
                                 HasSubstr("fn round_to_f16(x: f32) -> u32 {"), HasSubstr(R"(
    let half_at = row_start + col;
    let shift = (half_at & 1u) << 4u;
    atomicAnd(&output[half_at >> 1u], ~(0xffffu << shift));
    atomicOr(&output[half_at >> 1u], (round_to_f16(value + value) & 0xffffu) << shift);
)")));
}

TEST(Wgsl, FunctionsThatItHasNotAreDeclaredOnce) {
  const std::string rows = rowsText(64);
  const std::string text = emitOrDie(kernelText("%x: " + rows, rows,
                                                fmt::format("%a = transformer.activation %x <gelu> "
                                                            ": {0}\n%b = transformer.activation %a "
                                                            "<gelu> : {0}\n transformer.yield %b : "
                                                            "{0}",
                                                            rows)))
                               .text;
  EXPECT_THAT(text, AllOf(HasSubstr("fn erf(x: f32) -> f32"), Not(HasSubstr("safe_tanh"))));
  EXPECT_EQ(text.find("fn erf("), text.rfind("fn erf("));
}

TEST(Wgsl, NamesOfKernelsCannotLeaveTheComment) {
  const std::string rows = rowsText(4);
  std::string text = kernelText("%x: " + rows, rows,
                                fmt::format("%y = transformer.softmax %x : {0}\n "
                                            "transformer.yield %y : {0}",
                                            rows));
  text.replace(text.find("@k("), 2, "@\"a\\0Afn b() {}\\E2\\80\\A8c\"");
  EXPECT_THAT(emitOrDie(text).text,
              testing::StartsWith("// @a\\nfn b() {}\\xe2\\x80\\xa8c: rowwise"));
}

TEST(Wgsl, TheLowestNumberIsNotRoundedBeyondItself) {
  const std::string rows = rowsText(4);
  EXPECT_THAT(emitOrDie(kernelText("%x: " + rows, rows,
                                   fmt::format("%y = transformer.softmax %x : {0}\n "
                                               "transformer.yield %y : {0}",
                                               rows)))
                  .text,
              HasSubstr("var highest = -3.4028234663852886e+38;"));
}

TEST(Wgsl, LinesAreNotLong) {
  const std::string in = rowsText(256);
  const std::string weight = weightText(ElementType::Q6_K, 256, 256);
  const std::string text =
      emitOrDie(kernelText("%x: " + in + ", %w: " + weight, in,
                           fmt::format("%y = transformer.matmul %x weights(%w) : ({0}, {1}) -> "
                                       "{0}\n transformer.yield %y : {0}",
                                       in, weight)))
          .text;
  for (size_t begin = 0, end = 0; begin < text.size(); begin = end + 1) {
    end = text.find('\n', begin);
    EXPECT_LE(end - begin, 100U) << text.substr(begin, end - begin);
  }
}
