// Weights in planes as WGSL: what is loaded for a piece, and how it becomes numbers.
#include "Kernels.h"

#include "kernelforge/codegen/simt/PlaneReader.h"
#include "kernelforge/codegen/webgpu/Wgsl.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using namespace mlir;
using testing::HasSubstr;
using testing::Not;

namespace {

/// The text of a phase that loads a piece of a 64 x 512 weight, and does something with it.
std::string textOf(ElementType type,
                   llvm::function_ref<void(simt::PhaseBuilder &, simt::PlaneReader &,
                                           const simt::PlaneReader::Piece &, Value out)>
                       body) {
  MLIRContext context;
  context.loadDialect<transformer::TransformerDialect>();
  simt::loadDialects(context);
  std::string weight = weightText(type, 64, 512);
  weight.insert(weight.size() - 1, ", #transformer.layout<planes>");
  auto parsed = parseSourceString<ModuleOp>(
      kernelText("%x: " + rowsText(512) + ", %w: " + weight, rowsText(64),
                 fmt::format("%y = transformer.matmul %x weights(%w) : ({0}, {1}) -> {2}\n "
                             "transformer.yield %y : {2}",
                             rowsText(512), weight, rowsText(64))),
      ParserConfig(&context));
  if (!parsed)
    return "the text cannot be parsed";
  auto kernel = *parsed->getOps<transformer::KernelOp>().begin();
  OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
  simt::PhaseBuilder p(*module, kernel, "main");
  simt::PlaneReader reader(p, kernel.getBody().getArgument(2));
  Value out = p.result(0, Access::Write, simt::View::Quads);
  body(p, reader, reader.load(p.thread()), out);
  Launching launching;
  launching.phases.push_back(p.finish(1));
  webgpu::WgslOptions options;
  options.isWeight = [](int buffer) { return buffer == 1; };
  auto text = webgpu::printWgsl(*module, launching, options);
  return text ? *text : text.error().line();
}

} // namespace

TEST(WgslPlanes, APieceIsSixteenBytesAndAWord) {
  const std::string text =
      textOf(ElementType::Q8_0, [](simt::PhaseBuilder &p, simt::PlaneReader &reader,
                                   const simt::PlaneReader::Piece &piece, Value out) {
        Value words = reader.bytes(piece, 0);
        Value sum = p.dotOfBytes(p.extract(words, int64_t(0)), p.extract(words, 3));
        Value x = p.mulf(p.signedToFloat(sum), reader.scales(piece)[0].factor);
        p.storeVector(p.splat(x, 4), out, p.thread());
      });
  EXPECT_THAT(text, HasSubstr("var<storage, read> weight: array<vec4<u32>>;"));
  // 64 x 512 bytes of quants, then halves: two blocks of two pieces a word.
  EXPECT_THAT(text, HasSubstr(R"(  let quants = weight[thread];
  let scale_word = weight[(thread >> 4u) + 2048u][(thread >> 2u) & 3u];
)"));
  EXPECT_THAT(text, HasSubstr("f32(dot4I8Packed(quants.x, quants.w))"));
}

TEST(WgslPlanes, NibblesAreTwoRunsOfFourQuads) {
  const std::string text =
      textOf(ElementType::Q4_1, [](simt::PhaseBuilder &p, simt::PlaneReader &reader,
                                   const simt::PlaneReader::Piece &piece, Value out) {
        ASSERT_EQ(reader.runs(), 2);
        ASSERT_EQ(reader.piecesOfRow(), 16);
        auto quads = reader.elements(piece, 1, reader.scales(piece)[1]);
        p.storeVector(quads[2], out, p.thread());
      });
  EXPECT_THAT(text, HasSubstr(R"(  let quants = weight[thread];
  let scale_word = weight[(thread >> 2u) + 1024u][thread & 3u];
  let scale_and_min = unpack2x16float(scale_word);
)"));
  // The high nibble of a byte, in the digits of an f16 above 64.
  EXPECT_THAT(text, HasSubstr("let halves = (quants & vec4<u32>(15728880u)) | "
                              "vec4<u32>(1409307648u);"));
  EXPECT_THAT(text, HasSubstr(R"(  let behind = fma(scale_and_min.x, -64.0, scale_and_min.y);
  output[thread] = fma(vec4<f32>(even.x, odd.x, even.y, odd.y), vec4<f32>(scale_and_min.x),
      vec4<f32>(behind));
)"));
}

TEST(WgslPlanes, AQuadIsAWordAndTheRunThatItIsOf) {
  const std::string text =
      textOf(ElementType::Q4_1, [](simt::PhaseBuilder &p, simt::PlaneReader &reader,
                                   const simt::PlaneReader::Piece &, Value out) {
        p.storeVector(reader.elementsOfQuad(reader.loadQuad(p.thread()), p.thread()), out,
                      p.thread());
      });
  // Eight quads a block, of four words.
  EXPECT_THAT(text, HasSubstr(R"(  let word = thread / 8u * 4u + thread % 4u;
)"));
  EXPECT_THAT(text, HasSubstr("let quants = weight[word >> 2u][word & 3u];")) << text;
  EXPECT_THAT(text, HasSubstr("let run = thread / 4u % 2u;")) << text;
}

TEST(WgslPlanes, WhatIsNotAskedForIsNotLoaded) {
  const std::string text =
      textOf(ElementType::Q6_K, [](simt::PhaseBuilder &p, simt::PlaneReader &reader,
                                   const simt::PlaneReader::Piece &piece, Value out) {
        p.storeVector(reader.offsetQuads(piece, 0)[0], out, p.thread());
      });
  EXPECT_THAT(text, HasSubstr("let high_bits = weight[")) << text;
  EXPECT_THAT(text, Not(HasSubstr("scale"))) << text;
}
