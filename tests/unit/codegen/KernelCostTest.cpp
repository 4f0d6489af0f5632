// The floor under a kernel's time, against numbers worked out by hand.
#include "kernelforge/codegen/KernelCost.h"

#include "kernelforge/ir/Transformer.h"

#include "mlir/Parser/Parser.h"

#include <gtest/gtest.h>

using namespace kernelforge;

namespace {

/// Cost of the kernel of that body at these sizes.
class Cost {
public:
  explicit Cost(const std::string &kernel) {
    context.loadDialect<transformer::TransformerDialect>();
    module = mlir::parseSourceString<mlir::ModuleOp>(R"(
#size = #transformer.size<"tokens", 1 to 512>
#outputs = #transformer.size<"outputs", 1 to 8>
#context = #transformer.size<"context", 1 to 4096>
#cached = #transformer.size<"cached", 1 to 4096>
#pages = #transformer.size<"pages", 1 to 64>
#packed = #transformer.layout<interleaved, rows = 16>
!ids = tensor<?xi32, #transformer.dims<"tokens">>
!picks = tensor<?xi32, #transformer.dims<"outputs">>
!lengths = tensor<2xi32>
!row64 = tensor<?x64xf32, #transformer.dims<"tokens">>
!row128 = tensor<?x128xf32, #transformer.dims<"tokens">>
!out64 = tensor<?x64xf32, #transformer.dims<"outputs">>
!table = tensor<?x16xf32, #transformer.dims<"context">>
!cache = !transformer.cache<2, 16, f32>
)" + kernel,
                                                     &context);
    if (module)
      cost = costOf(*module->getOps<transformer::KernelOp>().begin());
    else
      ADD_FAILURE() << "it does not parse";
  }
  double flops(std::vector<int64_t> sizes) const { return cost.flops(sizes.data()); }
  double bytes(std::vector<int64_t> sizes) const { return cost.bytes(sizes.data()); }
  bool isWhole() const { return cost.isWhole; }
  Numerics numerics() const { return cost.numerics; }

private:
  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  KernelCost cost;
};

TEST(KernelCost, NumericsOfProducts) {
  for (const auto &[attribute, numerics] :
       {std::pair{"", Numerics::F32},
        {" {numerics = #transformer.numerics<multiply = bf16>}", Numerics::BF16}}) {
    const Cost cost(std::string(R"(transformer.kernel @k(%t: index {transformer.size = #size},
        %x: !row64, %w: tensor<128x64xf32, #packed>) -> !row128 {
      %y = transformer.matmul %x weights(%w))") +
                    attribute + R"( : (!row64, tensor<128x64xf32, #packed>) -> !row128
      transformer.yield %y : !row128
    })");
    EXPECT_EQ(cost.numerics(), numerics);
  }
}

TEST(KernelCost, MatmulWithNormAndResidual) {
  Cost cost(R"(transformer.kernel @k(%t: index {transformer.size = #size}, %x: !row64,
      %n: tensor<64xf32>, %w: tensor<128x64x!transformer.quant<q4_1>, #packed>, %r: !row128)
      -> !row128 {
    %h = transformer.rms_norm %x, %n {epsilon = 1.0e-5} : (!row64, tensor<64xf32>) -> !row64
    %y = transformer.matmul %h weights(%w)
        : (!row64, tensor<128x64x!transformer.quant<q4_1>, #packed>) -> !row128
    %z = transformer.add %y, %r : !row128
    transformer.yield %z : !row128
  })");
  // 2 M N K; a row of 64 is 2 blocks of 20 bytes; rows of 64, 128 (residual) and 128 (result).
  EXPECT_EQ(cost.flops({1}), 2 * 128 * 64);
  EXPECT_EQ(cost.flops({10}), 10 * 2 * 128 * 64);
  EXPECT_EQ(cost.bytes({1}), 128 * 40 + 64 * 4 + (64 + 128 + 128) * 4);
  EXPECT_EQ(cost.bytes({10}), 128 * 40 + 64 * 4 + 10 * (64 + 128 + 128) * 4);
  EXPECT_TRUE(cost.isWhole()) << "no cache is read";
}

TEST(KernelCost, SegmentsAddUp) {
  Cost cost(R"(transformer.kernel @k(%t: index {transformer.size = #size}, %x: !row64,
      %a: tensor<128x64xf16>, %b: tensor<64x64x!transformer.quant<q8_0>>, %c: tensor<128xf32>,
      %d: tensor<64xf32>) -> (!row128, !row64) {
    %y:2 = transformer.matmul %x weights(%a, %b) bias(%c, %d)
        : (!row64, tensor<128x64xf16>, tensor<64x64x!transformer.quant<q8_0>>, tensor<128xf32>,
           tensor<64xf32>) -> (!row128, !row64)
    transformer.yield %y#0, %y#1 : !row128, !row64
  })");
  EXPECT_EQ(cost.flops({3}), 3 * 2 * (128 + 64) * 64);
  EXPECT_EQ(cost.bytes({3}), 128 * 64 * 2 + 64 * 2 * 34 + (128 + 64) * 4 + 3 * (64 + 128 + 64) * 4);
}

/// A kernel of one attention with these sizes after the rows', caches, tables and attributes.
std::string attention(const std::string &sizes, const std::string &table,
                      const std::string &attributes, const std::string &keys = "!cache",
                      const std::string &values = "!cache", const std::string &result = "!row64") {
  std::string text = R"(transformer.kernel @k(%t: index {transformer.size = #size}, SIZES%q: !row64,
      %keys: KEYS, %values: VALUES, %p: !ids, %s: !ids, %table: TABLE, %lengths: !lengths)
      -> RESULT {
    %y = transformer.attention %q, %keys, %values positions(%p) sequences(%s) table(%table)
        lengths(%lengths) {heads = 4 : i64, scale = 0.25 : f64ATTRIBUTES}
        : (!row64, KEYS, VALUES, !ids, !ids, TABLE, !lengths) -> RESULT
    transformer.yield %y : RESULT
  })";
  const std::pair<std::string, std::string> words[] = {
      {"SIZES", sizes}, {"TABLE", table},   {"ATTRIBUTES", attributes},
      {"KEYS", keys},   {"VALUES", values}, {"RESULT", result}};
  for (const auto &[word, by] : words)
    for (size_t at = 0; (at = text.find(word)) != std::string::npos;)
      text.replace(at, word.size(), by);
  return text;
}

const std::string cachedSize = "%c: index {transformer.size = #cached}, ";
const std::string bounded = ", cached = \"cached\"";

TEST(KernelCost, AttentionReadsKeysAndValues) {
  Cost cost(attention(cachedSize, "!lengths", bounded));
  // 4 rows heads dim keys; 2 heads of 16 floats of keys and of values for each cached position.
  EXPECT_EQ(cost.flops({3, 100}), 4.0 * 3 * 4 * 16 * 100);
  EXPECT_EQ(cost.bytes({3, 100}), 100 * 2 * 2 * 16 * 4 + 3 * 2 * 64 * 4 + 2 * 3 * 4 + 2 * 2 * 4);
  EXPECT_EQ(cost.flops({3, 200}), 2 * cost.flops({3, 100}));
  EXPECT_TRUE(cost.isWhole());
}

TEST(KernelCost, KeysAndValuesMayDiffer) {
  Cost cost(attention(cachedSize, "!lengths", bounded, "!cache", "!transformer.cache<2, 32, bf16>",
                      "!row128"));
  EXPECT_EQ(cost.flops({3, 100}), 2.0 * 3 * 4 * (16 + 32) * 100);
  EXPECT_EQ(cost.bytes({3, 101}) - cost.bytes({3, 1}), 100 * 2 * (16 * 4 + 32 * 2));
}

TEST(KernelCost, WithoutABoundKeysAreWhatPagesHold) {
  const std::string paged = "!transformer.cache<2, 16, f32, page = 8>";
  Cost fixed(attention("", "tensor<2x5xi32>", "", paged, paged));
  EXPECT_EQ(fixed.flops({3}), 4.0 * 3 * 4 * 16 * (8 * 5));
  EXPECT_TRUE(fixed.isWhole());
  Cost sized(attention("%n: index {transformer.size = #pages}, ",
                       "tensor<2x?xi32, #transformer.dims<\"pages\">>", "", paged, paged));
  EXPECT_EQ(sized.flops({3, 7}), 4.0 * 3 * 4 * 16 * (8 * 7));
  EXPECT_TRUE(sized.isWhole());
  // A contiguous cache does not say how many there are.
  Cost unknown(attention("", "!lengths", ""));
  EXPECT_EQ(unknown.flops({3}), 0);
  EXPECT_EQ(unknown.bytes({3}), 3 * 2 * 64 * 4 + 2 * 3 * 4 + 2 * 2 * 4);
  EXPECT_FALSE(unknown.isWhole());
}

TEST(KernelCost, TablesCountTheRowsThatAreLookedUp) {
  Cost embedding(R"(transformer.kernel @k(%t: index {transformer.size = #size}, %i: !ids,
      %w: tensor<50000x64x!transformer.quant<q8_0>, #packed>) -> !row64 {
    %y = transformer.embedding %i, %w
        : (!ids, tensor<50000x64x!transformer.quant<q8_0>, #packed>) -> !row64
    transformer.yield %y : !row64
  })");
  EXPECT_EQ(embedding.flops({7}), 0);
  EXPECT_EQ(embedding.bytes({7}), 7 * (4 + 2 * 34 + 64 * 4));

  Cost gather(R"(transformer.kernel @k(%t: index {transformer.size = #size},
      %o: index {transformer.size = #outputs}, %x: !row64, %i: !picks) -> !out64 {
    %y = transformer.gather_rows %x, %i : (!row64, !picks) -> !out64
    transformer.yield %y : !out64
  })");
  EXPECT_EQ(gather.bytes({500, 2}), 2 * (64 * 4 + 4 + 64 * 4));
}

TEST(KernelCost, ATableThatTwoOperationsLookUpCountsItsRowsOnce) {
  Cost cost(R"(transformer.kernel @k(%t: index {transformer.size = #size},
      %n: index {transformer.size = #context}, %q: !row64, %k: !row64, %p: !ids, %table: !table,
      %cache: !transformer.cache<4, 16, f32>, %slots: !ids) -> !row64 {
    %a = transformer.rope %q, %p, %table <half_split> {headDim = 16 : i64}
        : (!row64, !ids, !table) -> !row64
    %b = transformer.rope %k, %p, %table <half_split> {headDim = 16 : i64}
        : (!row64, !ids, !table) -> !row64
    transformer.cache_append %b, %slots into %cache
        : !transformer.cache<4, 16, f32>, !row64, !ids
    transformer.yield %a : !row64
  })");
  // Two inputs, positions, slots, a row of the table, the rows in the cache, the result.
  EXPECT_EQ(cost.bytes({5, 4096}), 5 * (2 * 64 * 4 + 4 + 4 + 16 * 4 + 64 * 4 + 64 * 4));
  EXPECT_EQ(cost.bytes({5, 8}), cost.bytes({5, 4096}));
}

TEST(KernelCost, StaticShapes) {
  Cost add(R"(transformer.kernel @k(%x: tensor<6x64xf32>, %unused: tensor<f32>)
      -> tensor<6x64xf32> {
    %y = transformer.add %x, %x : tensor<6x64xf32>
    transformer.yield %y : tensor<6x64xf32>
  })");
  EXPECT_EQ(add.bytes({}), 2 * 6 * 64 * 4);

  Cost matmul(R"(transformer.kernel @k(%x: tensor<6x64xf32>, %w: tensor<10x64xbf16>)
      -> tensor<6x10xf32> {
    %y = transformer.matmul %x weights(%w) : (tensor<6x64xf32>, tensor<10x64xbf16>)
        -> tensor<6x10xf32>
    transformer.yield %y : tensor<6x10xf32>
  })");
  EXPECT_EQ(matmul.flops({}), 2 * 6 * 10 * 64);
  EXPECT_EQ(matmul.bytes({}), 6 * 64 * 4 + 10 * 64 * 2 + 6 * 10 * 4);

  // Packing reads ten rows and writes sixteen.
  Cost pack(R"(transformer.kernel @k(%w: tensor<10x64xf32>) -> tensor<10x64xf32, #packed> {
    %y = transformer.pack %w : tensor<10x64xf32> to tensor<10x64xf32, #packed>
    transformer.yield %y : tensor<10x64xf32, #packed>
  })");
  EXPECT_EQ(pack.bytes({}), (10 + 16) * 64 * 4);
}

} // namespace
