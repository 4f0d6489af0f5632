#include "../../support/WeightTypes.h"
#include "Kernels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using testing::AllOf;
using testing::HasSubstr;

namespace {

/// A kernel of one operation on rows of 64, of which `%x` holds `element`.
std::string oneOp(const std::string &op, const std::string &element = "f32",
                  const std::string &arguments = "") {
  const std::string rows = rowsText(64, element);
  return kernelText("%x: " + rows + arguments, rows,
                    op + " : " + rows + "\n transformer.yield %y : " + rows);
}

std::string matmulText(const std::string &input, const std::string &weight, int64_t n = 64,
                       int64_t k = 256) {
  return kernelText(
      fmt::format("%x: {}, %w: {}", rowsText(k, input), weight), rowsText(n),
      fmt::format("%y = transformer.matmul %x weights(%w) : ({0}, {1}) -> {2}\n transformer.yield "
                  "%y : {2}",
                  rowsText(k, input), weight, rowsText(n)));
}

const std::vector<ElementType> weights = weightTypes();

} // namespace

TEST(SimtSupports, EveryWeightTypeOfAMatmul) {
  for (ElementType type : weights)
    EXPECT_EQ(ParsedKernel(matmulText("f32", weightText(type, 64, 256))).obstacle(), "")
        << info(type).name;
}

TEST(SimtSupports, EveryTableTypeOfAnEmbedding) {
  for (ElementType type : weights) {
    const std::string table = weightText(type, 100, 256), rows = rowsText(256);
    EXPECT_EQ(ParsedKernel(
                  kernelText("%i: !indices, %t: " + table, rows,
                             fmt::format("%y = transformer.embedding %i, %t : (!indices, {0}) -> "
                                         "{1}\n transformer.yield %y : {1}",
                                         table, rows)))
                  .obstacle(),
              "")
        << info(type).name;
  }
}

TEST(SimtSupports, RowsOfHalves) {
  for (const char *element : {"f16", "bf16"}) {
    for (const char *op :
         {"transformer.activation %x <silu>", "transformer.add %x, %x", "transformer.mul %x, %x",
          "transformer.scale %x {factor = 2.0}", "transformer.softmax %x"})
      EXPECT_EQ(ParsedKernel(oneOp(std::string("%y = ") + op, element)).obstacle(), "") << op;
    EXPECT_EQ(ParsedKernel(matmulText(element, weightText(ElementType::F32, 64, 256))).obstacle(),
              "");
  }
}

TEST(SimtSupports, NumericsOtherThanF32AreRefused) {
  std::string text = matmulText("f32", weightText(ElementType::F32, 64, 256));
  text.insert(text.find(" : (", text.find("transformer.matmul")),
              " {numerics = #transformer.numerics<multiply = bf16, accumulate = f32>}");
  EXPECT_THAT(ParsedKernel(text).obstacle(),
              AllOf(HasSubstr("@k, transformer.matmul"), HasSubstr("to multiply in bf16")));
}

TEST(SimtSupports, QuantizedCachesAreAppendedToBlockByBlock) {
  auto text = [](const std::string &element, bool isMatmul) {
    const std::string rows = rowsText(64), cache = "!transformer.cache<2, 32, " + element + ">";
    const std::string values = isMatmul ? "transformer.matmul %x weights(%w) : (" + rows +
                                              ", tensor<64x64xf32>) -> " + rows
                                        : "transformer.softmax %x : " + rows;
    return kernelText("%x: " + rows + ", %w: tensor<64x64xf32>, %s: !indices, %c: " + cache, "",
                      fmt::format("%y = {}\ntransformer.cache_append %y, %s into %c : {}, {}, "
                                  "!indices\n transformer.yield",
                                  values, cache, rows));
  };
  const std::string q8 = "!transformer.quant<q8_0>";
  for (const std::string &element : {std::string("f32"), std::string("f16"), std::string("bf16")})
    EXPECT_EQ(ParsedKernel(text(element, true)).obstacle(), "") << element;
  EXPECT_EQ(ParsedKernel(text(q8, false)).obstacle(), "");
  EXPECT_THAT(ParsedKernel(text(q8, true)).obstacle(),
              HasSubstr("transformer.cache_append into q8_0 needs a block of a row"));
}

std::string packText(const std::string &from, const std::string &to) {
  return kernelText(
      "%w: " + from, to,
      fmt::format("%y = transformer.pack %w : {0} to {1}\n transformer.yield %y : {1}", from, to));
}

TEST(SimtSupports, WeightsInPlanesAreReadAndPackedAndNoOtherLayout) {
  for (ElementType type : weights) {
    if (!info(type).isQuantized())
      continue;
    const std::string plain = weightText(type, 64, 256);
    std::string planes = plain;
    planes.insert(planes.size() - 1, ", #transformer.layout<planes>");
    EXPECT_EQ(ParsedKernel(matmulText("f32", planes)).obstacle(), "") << info(type).name;
    EXPECT_EQ(ParsedKernel(packText(plain, planes)).obstacle(), "") << info(type).name;
  }
  const std::string plain = weightText(ElementType::Q8_0, 64, 256);
  std::string packed = plain, planes = plain;
  packed.insert(packed.size() - 1, ", #transformer.layout<interleaved, rows = 16>");
  planes.insert(planes.size() - 1, ", #transformer.layout<planes>");
  EXPECT_THAT(ParsedKernel(matmulText("f32", packed)).obstacle(),
              HasSubstr("its operand 'weights' has the layout interleaved, and weights are read in "
                        "planes alone"));
  EXPECT_THAT(ParsedKernel(packText(plain, packed)).obstacle(),
              AllOf(HasSubstr("@k, transformer.pack"), HasSubstr("its result has the layout")));
  EXPECT_THAT(ParsedKernel(packText(plain, plain)).obstacle(),
              AllOf(HasSubstr("@k, transformer.pack"), HasSubstr("into planes alone")));
  const std::string x = rowsText(256), y = rowsText(64);
  EXPECT_THAT(
      ParsedKernel(
          kernelText(
              "%x: " + x + ", %w: " + plain, y,
              fmt::format("%p = transformer.pack %w : {0} to {1}\n%y = transformer.matmul %x "
                          "weights(%p) : ({2}, {1}) -> {3}\n transformer.yield %y : {3}",
                          plain, planes, x, y)))
          .obstacle(),
      HasSubstr("computed"));
}

TEST(SimtSupports, WhatFollowsAMatmulIsComputedElementByElement) {
  const std::string rows = rowsText(64);
  auto text = [&](const std::string &op, const std::string &arguments = "") {
    return kernelText("%x: " + rows + ", %w: tensor<64x64xf32>" + arguments, rows,
                      fmt::format("%m = transformer.matmul %x weights(%w) : ({0}, "
                                  "tensor<64x64xf32>) -> {0}\n{1}\n transformer.yield %y : {0}",
                                  rows, op));
  };
  EXPECT_EQ(ParsedKernel(text("%y = transformer.add %m, %x : " + rows)).obstacle(), "");
  EXPECT_THAT(ParsedKernel(text("%y = transformer.softmax %m : " + rows)).obstacle(),
              HasSubstr("transformer.softmax needs whole rows, and follows the matmul"));
  EXPECT_THAT(
      ParsedKernel(text("%y = transformer.rope %m, %p, %t <half_split> {headDim = 64 : i64} "
                        ": (" +
                            rows + ", !indices, tensor<9x64xf32>) -> " + rows,
                        ", %p: !indices, %t: tensor<9x64xf32>"))
          .obstacle(),
      HasSubstr("transformer.rope needs other elements of the matmul's result"));
}

TEST(SimtSupports, LimitsOfTheDeviceAreKept) {
  // One input, eight more addends, one result.
  const std::string rows = rowsText(64);
  std::string arguments = "%x: " + rows, body, last = "%x";
  for (int i = 0; i < 8; ++i) {
    arguments += fmt::format(", %a{}: {}", i, rows);
    body += fmt::format("%s{0} = transformer.add {1}, %a{0} : {2}\n", i, last, rows);
    last = fmt::format("%s{}", i);
  }
  const std::string text =
      kernelText(arguments, rows, body + "transformer.yield " + last + " : " + rows);
  EXPECT_THAT(ParsedKernel(text).obstacle(),
              HasSubstr("it takes 10 buffers at once, and the device allows 8"));
  EXPECT_EQ(ParsedKernel(text).obstacle(Limits{}), "");

  Limits small = leastLimits();
  small.sharedBytes = 128;
  EXPECT_THAT(ParsedKernel(oneOp("%y = transformer.softmax %x")).obstacle(small),
              HasSubstr("256 bytes of workgroup memory, and the device allows 128"));
  const std::string ofHeads =
      kernelText("%x: " + rows + ", %w: tensor<16xf32>", rows,
                 fmt::format("%y = transformer.layer_norm %x, %w {{epsilon = 1.0e-5, heads = 4}} : "
                             "({0}, tensor<16xf32>) -> {0}\n transformer.yield %y : {0}",
                             rows));
  EXPECT_THAT(ParsedKernel(ofHeads).obstacle(small), HasSubstr("304 bytes of workgroup memory"));
  small = leastLimits();
  // A weight of 17,408 bytes counts as several buffers, where buffers are counted.
  const std::string matmul = matmulText("f32", weightText(ElementType::Q8_0, 64, 256));
  small.bindingBytes = 3000;
  EXPECT_EQ(ParsedKernel(matmul).obstacle(small), "");
  small.bindingBytes = 1000;
  EXPECT_THAT(ParsedKernel(matmul).obstacle(small),
              HasSubstr("20 buffers at once, of at most 1000 bytes, and the device allows 8"));
  small.bindings = 0;
  EXPECT_THAT(ParsedKernel(matmul).obstacle(small),
              HasSubstr("17408 bytes in one buffer, and the device allows 1000"));
}

TEST(SimtSupports, NumbersBeyondF32AreRefused) {
  EXPECT_THAT(ParsedKernel(oneOp("%y = transformer.scale %x {factor = 1.0e300}")).obstacle(),
              AllOf(HasSubstr("transformer.scale"), HasSubstr("its factor is no finite f32")));
}

TEST(SimtSupports, ErrorsAreOneLineAndEmissionGivesThem) {
  ParsedKernel kernel(oneOp("%y = transformer.scale %x {factor = 1.0e300}"));
  auto made = kernel.emit();
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().line(), kernel.obstacle());
  EXPECT_EQ(made.error().line().find('\n'), std::string::npos);
}
