// What a module of a decoder has of its description, layer by layer.
#include "DecoderFixture.h"

#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/ir/Transformer.h"

#include "mlir/Parser/Parser.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using namespace kernelforge::transformer;
using testing::ElementsAre;

namespace {

/// The module of the decoder whose layers differ, with one function.
class BuiltDecoder : public testing::Test {
protected:
  BuiltDecoder() { loadAllStages(&context); }

  mlir::OwningOpRef<mlir::ModuleOp> build(const CacheDescription &cache = {}) {
    return buildDecoder(
        &context, normedHeads(), {FunctionRange{"prefill", 1, 8, 8, 3}},
        [](llvm::StringRef) { return ElementType::F32; }, cache);
  }

  /// What `text` says of each operation of a kind, in order; "" where it says nothing.
  template <typename Op>
  std::vector<std::string> textsOf(mlir::ModuleOp module,
                                   const std::function<std::string(Op)> &text) {
    std::vector<std::string> texts;
    module.walk([&](Op op) {
      if (std::string said = text(op); !said.empty())
        texts.push_back(std::move(said));
    });
    return texts;
  }

  mlir::MLIRContext context;
};

std::string nameOf(mlir::Value argument) {
  if (!argument)
    return "none";
  auto block = llvm::cast<mlir::BlockArgument>(argument);
  auto function = llvm::cast<mlir::func::FuncOp>(block.getOwner()->getParentOp());
  return argumentName(function, block.getArgNumber());
}

TEST_F(BuiltDecoder, HasEachLayersAttention) {
  auto module = build();
  EXPECT_THAT(textsOf<AttentionOp>(*module,
                                   [](AttentionOp op) {
                                     return fmt::format("{} heads, window {}, {}", op.getHeads(),
                                                        op.getWindow(), nameOf(op.getSinks()));
                                   }),
              ElementsAre("4 heads, window 5, blk.0.attn_sinks.weight",
                          "2 heads, window 0, blk.1.attn_sinks.weight", "6 heads, window 9, none"));
  EXPECT_THAT(textsOf<RopeOp>(*module,
                              [](RopeOp op) {
                                return fmt::format("{} {} {}", placeOf(op).layer, placeOf(op).role,
                                                   nameOf(op.getTable()));
                              }),
              ElementsAre("0 attn_q_rope rope", "0 attn_k_rope rope", "2 attn_q_rope rope.1",
                          "2 attn_k_rope rope.1"));
}

TEST_F(BuiltDecoder, NormsHeadsOfQueriesAndKeys) {
  auto module = build();
  EXPECT_THAT(
      textsOf<RmsNormOp>(*module,
                         [](RmsNormOp op) {
                           return fmt::format("{} {} x{} + {}", placeOf(op).layer, placeOf(op).role,
                                              op.getHeads(), op.getOffset().convertToDouble());
                         }),
      ElementsAre("0 attn_norm x1 + 1", "0 attn_q_norm x4 + 1", "0 attn_k_norm x2 + 1",
                  "0 post_attention_norm x1 + 1", "0 ffn_norm x1 + 1", "1 attn_norm x1 + 1",
                  "1 attn_q_norm x2 + 0", "1 attn_k_norm x1 + 0", "1 post_attention_norm x1 + 1",
                  "1 ffn_norm x1 + 1", "2 attn_norm x1 + 1", "2 post_attention_norm x1 + 1",
                  "2 ffn_norm x1 + 1", "-1 output_norm x1 + 1"));
  EXPECT_THAT(textsOf<LayerNormOp>(*module,
                                   [](LayerNormOp op) {
                                     return fmt::format("{} x{}, {}", placeOf(op).role,
                                                        op.getHeads(), nameOf(op.getBias()));
                                   }),
              ElementsAre("attn_q_norm x6, blk.2.attn_q_norm.bias",
                          "attn_k_norm x2, blk.2.attn_k_norm.bias"));
}

TEST_F(BuiltDecoder, KeepsKeysAndValuesAsAsked) {
  auto caches = [&](const CacheDescription &cache) {
    auto module = build(cache);
    return textsOf<AttentionOp>(*module, [](AttentionOp op) {
      const CacheType type = op.getKeys().getType();
      return fmt::format("{} x {} {} page {}, table of rank {}", type.getHeads(), type.getDim(),
                         info(*elementTypeOf(type.getElementType())).name, type.getPage(),
                         llvm::cast<mlir::RankedTensorType>(op.getTable().getType()).getRank());
    });
  };
  EXPECT_THAT(caches({}), ElementsAre("2 x 16 f32 page 0, table of rank 1",
                                      "1 x 32 f32 page 0, table of rank 1",
                                      "2 x 12 f32 page 0, table of rank 1"));
  EXPECT_THAT(caches({.type = ElementType::F16, .page = 8}),
              ElementsAre("2 x 16 f16 page 8, table of rank 2",
                          "1 x 32 f16 page 8, table of rank 2",
                          "2 x 12 f16 page 8, table of rank 2"));
}

TEST(KernelIdentity, OfNormsIsWhatItWasBeforeTheyKnewHeads) {
  mlir::MLIRContext context;
  loadAllStages(&context);
  auto hashOf = [&](const std::string &attributes) {
    auto module = mlir::parseSourceString<mlir::ModuleOp>(
        "transformer.kernel @k(%x: tensor<2x8xf32>, %w: tensor<8xf32>) -> tensor<2x8xf32> {\n"
        "%y = transformer.rms_norm %x, %w {epsilon = 1.0e-5" +
            attributes +
            "} : (tensor<2x8xf32>, tensor<8xf32>) -> tensor<2x8xf32>\n"
            "transformer.yield %y : tensor<2x8xf32>\n}",
        &context);
    return kernelHash(*module->getOps<KernelOp>().begin());
  };
  EXPECT_EQ(hashOf(""), "a59081f6511211c0abae03f9ee0b143dd7622ace569bf2ec0ef848fadfbebbca");
  EXPECT_EQ(hashOf(", heads = 1, offset = 0.0"), hashOf(""));
  EXPECT_NE(hashOf(", offset = 1.0"), hashOf(""));
}

} // namespace
