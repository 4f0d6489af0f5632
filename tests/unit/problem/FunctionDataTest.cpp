#include "kernelforge/problem/FunctionData.h"
#include "kernelforge/codegen/cpu/Target.h"

#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/ir/ModuleBuilder.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/problem/Verification.h"

#include "mlir/Parser/Parser.h"

#include <gtest/gtest.h>

#include <cstring>
#include <set>

using namespace mlir;
using namespace kernelforge;

namespace {

class FunctionDataTest : public testing::Test {
protected:
  FunctionDataTest() : context(registry()) { context.loadAllAvailableDialects(); }

  static DialectRegistry registry() {
    DialectRegistry registry;
    registerAllStages(registry);
    return registry;
  }

  OwningOpRef<ModuleOp> parse(const std::string &text) {
    auto module = parseSourceString<ModuleOp>(text, &context);
    EXPECT_TRUE(module);
    return module;
  }

  /// Signature of the only function of `text`.
  FunctionSignature signatureOf(const std::string &text) {
    module = parse(text);
    return *readSignature(*findFunction(*module, ""));
  }

  OwningOpRef<ModuleOp> decoder(int64_t sequences) {
    ModelDescription d;
    d.modelDim = 32;
    d.vocabSize = 50;
    d.contextLength = 100;
    LayerDescription layer;
    layer.attention = {.heads = 4, .kvHeads = 2, .headDim = 8};
    layer.attention.rope = d.addRope({.rotaryDim = 8});
    layer.mlp.width = 64;
    d.layers.assign(2, layer);
    return buildDecoder(&context, d, FunctionRange{"prefill", 2, 64, 4, sequences},
                        [](llvm::StringRef) { return ElementType::Q8_0; });
  }

  static const TensorData &find(const FunctionData &data, const std::string &name) {
    for (const TensorData &tensor : data.arguments)
      if (tensor.name == name)
        return tensor;
    ADD_FAILURE() << "no argument " << name;
    return data.arguments.front();
  }

  MLIRContext context;
  OwningOpRef<ModuleOp> module;
};

/// Attention alone, over a cache with pages of four positions.
const char *const pagedText = R"mlir(
func.func @f(%tokens: index {transformer.size = #transformer.size<"tokens", 1 to 64>},
    %sequences: index {transformer.size = #transformer.size<"sequences", 1 to 8>},
    %pages: index {transformer.size = #transformer.size<"pages", 1 to 16>},
    %q: tensor<?x16xf32, #transformer.dims<"tokens">>,
    %k: !transformer.cache<1, 8, f32, page = 4>, %v: !transformer.cache<1, 8, f32, page = 4>,
    %pos: tensor<?xi32, #transformer.dims<"tokens">>,
    %seq: tensor<?xi32, #transformer.dims<"tokens">>,
    %table: tensor<?x?xi32, #transformer.dims<"sequences", "pages">>,
    %len: tensor<?xi32, #transformer.dims<"sequences">>)
    -> tensor<?x16xf32, #transformer.dims<"tokens">> {
  %0 = transformer.attention %q, %k, %v positions(%pos) sequences(%seq) table(%table) lengths(%len)
      {heads = 2 : i64, scale = 0.5 : f64}
      : (tensor<?x16xf32, #transformer.dims<"tokens">>, !transformer.cache<1, 8, f32, page = 4>,
         !transformer.cache<1, 8, f32, page = 4>, tensor<?xi32, #transformer.dims<"tokens">>,
         tensor<?xi32, #transformer.dims<"tokens">>,
         tensor<?x?xi32, #transformer.dims<"sequences", "pages">>,
         tensor<?xi32, #transformer.dims<"sequences">>)
      -> tensor<?x16xf32, #transformer.dims<"tokens">>
  return %0 : tensor<?x16xf32, #transformer.dims<"tokens">>
}
)mlir";

TEST_F(FunctionDataTest, FindsUsesInOperationsAndInKernels) {
  module = decoder(4);
  auto before = readSignature(*findFunction(*module, "prefill"));
  ASSERT_TRUE(before) << before.error().line();
  PipelineOptions options;
  options.target = *parseTarget("avx2", "");
  ASSERT_TRUE(runToStage(*module, Stage::Fused, options));
  auto after = readSignature(*findFunction(*module, "prefill"));
  ASSERT_TRUE(after) << after.error().line();
  for (const FunctionSignature &signature : {*before, *after}) {
    EXPECT_EQ(signature.attentions.size(), 2u);
    EXPECT_EQ(signature.appends.size(), 4u);
    std::set<std::string> written;
    for (const FunctionArgument &argument : signature.arguments) {
      if (argument.written)
        written.insert(argument.name);
      EXPECT_EQ(argument.use.position, argument.name == "positions") << argument.name;
      EXPECT_EQ(argument.use.slot, argument.name == "slots") << argument.name;
      EXPECT_EQ(argument.use.table, argument.name == "table") << argument.name;
      if (argument.name == "ids") {
        EXPECT_EQ(argument.use.limit.fixed, 50);
      }
      if (argument.name == "positions") {
        EXPECT_EQ(argument.use.limit.evaluate({{"context", 77}}), 77);
      }
      if (argument.name == "outputs") {
        EXPECT_EQ(argument.use.limit.evaluate({{"tokens", 5}}), 5);
      }
    }
    EXPECT_EQ(written, (std::set<std::string>{"cache.0.k", "cache.0.v", "cache.1.k", "cache.1.v"}));
  }
}

TEST_F(FunctionDataTest, RandomRowsFitTogether) {
  module = decoder(4);
  auto signature = readSignature(*findFunction(*module, ""));
  ASSERT_TRUE(signature);
  const SizeValues cases[] = {{{"tokens", 11}, {"sequences", 3}},
                              {{"tokens", 2}, {"sequences", 4}},
                              {{"tokens", 64}, {"sequences", 1}, {"context", 10}},
                              {{"tokens", 64}, {"sequences", 1}, {"context", 1}}};
  for (const SizeValues &given : cases) {
    auto sizes = chooseSizes(*signature, given);
    ASSERT_TRUE(sizes);
    auto data = randomData(*signature, *sizes, 1);
    ASSERT_TRUE(data) << data.error().line(); // checks all indices itself
    // No two rows are written to one slot, and a row sees itself.
    std::set<int32_t> slots;
    const auto positions = find(*data, "positions").indices();
    const auto sequences = find(*data, "sequences").indices();
    for (size_t r = 0; r < positions.size(); ++r) {
      const int32_t slot = find(*data, "slots").indices()[r];
      if (slot < 0)
        continue;
      EXPECT_TRUE(slots.insert(slot).second);
      EXPECT_EQ(slot, find(*data, "table").indices()[sequences[r]] + positions[r]);
      EXPECT_LT(positions[r], find(*data, "lengths").indices()[sequences[r]]);
    }
    EXPECT_FALSE(slots.empty());
  }
}

TEST_F(FunctionDataTest, RandomIsTheSameForTheSameSeed) {
  module = decoder(1);
  auto signature = readSignature(*findFunction(*module, ""));
  auto sizes = chooseSizes(*signature, {});
  auto one = randomData(*signature, *sizes, 1), again = randomData(*signature, *sizes, 1),
       other = randomData(*signature, *sizes, 2);
  ASSERT_TRUE(one && again && other);
  const TensorData &weight = find(*one, "blk.0.ffn_up.weight");
  EXPECT_EQ(weight.type, ElementType::Q8_0);
  EXPECT_EQ(weight.toFloats(), find(*again, "blk.0.ffn_up.weight").toFloats());
  EXPECT_NE(weight.toFloats(), find(*other, "blk.0.ffn_up.weight").toFloats());
  bool negative = false, positive = false;
  for (float value : weight.toFloats()) {
    negative |= value < 0;
    positive |= value > 0;
    EXPECT_LE(std::abs(value), 0.32f); // sqrt(3 / 32), and what quantization adds
  }
  EXPECT_TRUE(negative && positive);
}

TEST_F(FunctionDataTest, PagedCachesHaveRoom) {
  FunctionSignature signature = signatureOf(pagedText);
  auto sizes = chooseSizes(signature, {{"tokens", 30}, {"sequences", 2}, {"pages", 6}});
  ASSERT_TRUE(sizes);
  auto data = randomData(signature, *sizes, 3);
  ASSERT_TRUE(data) << data.error().line();
  EXPECT_EQ(data->arguments[1].shape, (std::vector<int64_t>{2 * 6 * 4, 1, 8}));
  // A page beyond the cache is seen, unless no row looks there.
  TensorData &table = data->arguments[5];
  table.indices()[0] = 12;
  EXPECT_FALSE(checkIndices(signature, *data));
  table.indices()[0] = 0;
  table.indices()[5] = 12; // positions 20 to 23: nobody has so many
  EXPECT_EQ(checkIndices(signature, *data).has_value(), data->arguments[6].indices()[0] <= 20);
}

TEST_F(FunctionDataTest, ChecksEveryIndex) {
  module = decoder(2);
  auto signature = readSignature(*findFunction(*module, ""));
  auto sizes = chooseSizes(*signature, {{"tokens", 6}, {"sequences", 2}});
  auto data = randomData(*signature, *sizes, 1);
  ASSERT_TRUE(data);
  auto refuses = [&](const std::string &name, int32_t value) {
    std::span<int32_t> values = find(*data, name).indices();
    const int32_t old = std::exchange(values.back(), value);
    Status status = checkIndices(*signature, *data);
    values.back() = old;
    return !status && status.error().kind == ErrorKind::Unusable;
  };
  EXPECT_TRUE(checkIndices(*signature, *data));
  for (auto [name, value] : {std::pair<const char *, int32_t>{"ids", 50},
                             {"ids", -1},
                             {"outputs", 6},
                             {"outputs", -1},
                             {"positions", 64},
                             {"positions", -1},
                             {"sequences", 2},
                             {"sequences", -1},
                             {"slots", 1000},
                             {"table", 1000},
                             {"table", -1},
                             {"table", INT32_MAX},
                             {"lengths", -1}})
    EXPECT_TRUE(refuses(name, value)) << name << " = " << value;
  EXPECT_FALSE(refuses("slots", -1)); // a row that is not written
}

TEST_F(FunctionDataTest, ChoosesSizesWithinTheirRanges) {
  FunctionSignature signature = signatureOf(pagedText);
  auto sizes = chooseSizes(signature, {});
  ASSERT_TRUE(sizes);
  EXPECT_EQ(sizes->at("tokens"), 8);
  EXPECT_EQ(sizes->at("pages"), 16);
  EXPECT_FALSE(chooseSizes(signature, {{"tokens", 0}}));
  EXPECT_FALSE(chooseSizes(signature, {{"tokens", 65}}));
  EXPECT_FALSE(chooseSizes(signature, {{"rows", 1}}));
}

TEST_F(FunctionDataTest, BoundsOfLengthsComeInBuckets) {
  EXPECT_EQ(cachedBucket(1, 4096), 64);
  EXPECT_EQ(cachedBucket(64, 4096), 64);
  EXPECT_EQ(cachedBucket(65, 4096), 128);
  EXPECT_EQ(cachedBucket(1024, 4096), 1024);
  EXPECT_EQ(cachedBucket(1025, 1500), 1500) << "no more than there are";
  EXPECT_EQ(cachedBucket(4096, 4096), 4096);
  EXPECT_EQ(cachedBucket(3, 40), 40);

  module = decoder(2); // of 100 positions
  auto signature = readSignature(*findFunction(*module, ""));
  ASSERT_TRUE(signature);
  EXPECT_TRUE(signature->boundsLengths("cached"));
  EXPECT_FALSE(signature->boundsLengths("context"));
  const SizeValues given{{"tokens", 30}, {"sequences", 2}, {"context", 100}};
  EXPECT_EQ(chooseSizes(*signature, given, 49)->at("cached"), 64); // 49 and 15 of each
  EXPECT_EQ(chooseSizes(*signature, given, 50)->at("cached"), 100);
  SizeValues sizes = *chooseSizes(*signature, given, 49);
  auto data = randomData(*signature, sizes, 1, 49);
  ASSERT_TRUE(data) << data.error().line();
  EXPECT_EQ(data->longest(*signature), 64);
  EXPECT_EQ(data->sizeList(*signature), (std::vector<int64_t>{30, sizes["outputs"], 2, 100, 64}));
  EXPECT_EQ(data->sizeList(*signature, 9), (std::vector<int64_t>{30, sizes["outputs"], 2, 100, 9}));
  ASSERT_TRUE(checkIndices(*signature, *data));
  data->arguments[signature->attentions[0].lengths].indices()[0] = 65;
  EXPECT_FALSE(checkIndices(*signature, *data)) << "a sequence is longer than its bound";

  // A bound that is given is kept: the past has to fit.
  sizes = *chooseSizes(*signature, {{"tokens", 30}, {"sequences", 2}, {"cached", 20}}, 49);
  EXPECT_EQ(sizes["cached"], 20);
  data = randomData(*signature, sizes, 1, 49);
  ASSERT_TRUE(data) << data.error().line();
  EXPECT_EQ(data->longest(*signature), 20);
}

TEST_F(FunctionDataTest, RefusesFunctionsThatCannotBeRun) {
  // A dynamic dimension without a name, an argument of another kind, two of one name.
  for (const char *text :
       {"func.func @f(%x: tensor<?x4xf32>) { return }", "func.func @f(%x: i64) { return }",
        "func.func @f(%x: tensor<2x2x2xf32>) { return }",
        "func.func @f(%x: tensor<4xf32> {transformer.input = \"a\"}, %y: tensor<4xf32> "
        "{transformer.input = \"a\"}) { return }"}) {
    module = parse(text);
    auto signature = readSignature(*module->getOps<func::FuncOp>().begin());
    ASSERT_FALSE(signature) << text;
    EXPECT_EQ(signature.error().kind, ErrorKind::Unusable);
  }
  module = parse("func.func @a() { return } func.func @b() { return }");
  EXPECT_TRUE(findFunction(*module, "a"));
  EXPECT_FALSE(findFunction(*module, ""));
  EXPECT_FALSE(findFunction(*module, "c"));
  EXPECT_FALSE(findFunction(*parse("module {}"), ""));
}

TEST_F(FunctionDataTest, RefusesWhatDoesNotFitInMemory) {
  FunctionSignature signature = signatureOf(R"mlir(
func.func @f(%rows: index {transformer.size = #transformer.size<"rows", 1 to 4000000000000000>},
    %x: tensor<?x1048576xf32, #transformer.dims<"rows">>)
    -> tensor<?x1048576xf32, #transformer.dims<"rows">> {
  %0 = transformer.softmax %x : tensor<?x1048576xf32, #transformer.dims<"rows">>
  return %0 : tensor<?x1048576xf32, #transformer.dims<"rows">>
}
)mlir");
  for (int64_t rows : {int64_t(4'000'000'000'000'000), int64_t(1) << 36}) {
    auto data = randomData(signature, {{"rows", rows}}, 1);
    ASSERT_FALSE(data);
    EXPECT_EQ(data.error().kind, ErrorKind::Unusable);
  }
}

} // namespace

TEST_F(FunctionDataTest, ResultsAreAsCoarseAsWhatTheyAreComputedFrom) {
  auto coarsest = [&](const std::string &text, ElementType output) {
    const FunctionSignature signature = signatureOf(text);
    TensorData tensor;
    tensor.type = output;
    return coarsestOf(signature, tensor);
  };
  const std::string plain = "func.func @f(%x: tensor<2x4xbf16>) -> tensor<2x4xf32> {\n"
                            "  %y = transformer.cast %x : tensor<2x4xbf16> to tensor<2x4xf32>\n"
                            "  return %y : tensor<2x4xf32>\n}";
  // Arguments are what they are: nothing is rounded.
  EXPECT_EQ(coarsest(plain, ElementType::F32), ElementType::F32);
  EXPECT_EQ(coarsest(plain, ElementType::BF16), ElementType::BF16);
  const std::string between = "func.func @f(%x: tensor<2x4xf32>) -> tensor<2x4xf32> {\n"
                              "  %h = transformer.cast %x : tensor<2x4xf32> to tensor<2x4xTYPE>\n"
                              "  %y = transformer.cast %h : tensor<2x4xTYPE> to tensor<2x4xf32>\n"
                              "  return %y : tensor<2x4xf32>\n}";
  auto with = [](std::string text, const std::string &type) {
    for (size_t at; (at = text.find("TYPE")) != std::string::npos;)
      text.replace(at, 4, type);
    return text;
  };
  EXPECT_EQ(coarsest(with(between, "f16"), ElementType::F32), ElementType::F16);
  EXPECT_EQ(coarsest(with(between, "bf16"), ElementType::F16), ElementType::BF16);
  EXPECT_EQ(coarsest(with(between, "bf16"), ElementType::I32), ElementType::I32);
  // A cast within a kernel rounds as well.
  const std::string launched =
      "transformer.kernel @k(%x: tensor<2x4xf32>) -> tensor<2x4xf32> {\n"
      "  %h = transformer.cast %x : tensor<2x4xf32> to tensor<2x4xbf16>\n"
      "  %y = transformer.cast %h : tensor<2x4xbf16> to tensor<2x4xf32>\n"
      "  transformer.yield %y : tensor<2x4xf32>\n}\n"
      "func.func @f(%x: tensor<2x4xf32>) -> tensor<2x4xf32> {\n"
      "  %y = transformer.launch @k(%x) : (tensor<2x4xf32>) -> tensor<2x4xf32>\n"
      "  return %y : tensor<2x4xf32>\n}";
  EXPECT_EQ(coarsest(launched, ElementType::F32), ElementType::BF16);
}

TEST_F(FunctionDataTest, TolerancesGrowWithWhatRoundingBetweenOperationsAmountsTo) {
  auto tolerance = [&](const std::string &type) {
    std::string text = "func.func @f(%x: tensor<5x37xTYPE>) -> tensor<5x37xTYPE> {\n"
                       "  %s = transformer.scale %x {factor = 30.0} : tensor<5x37xTYPE>\n"
                       "  %y = transformer.softmax %s : tensor<5x37xTYPE>\n"
                       "  return %y : tensor<5x37xTYPE>\n}";
    for (size_t at; (at = text.find("TYPE")) != std::string::npos;)
      text.replace(at, 4, type);
    const FunctionSignature signature = signatureOf(text);
    const FunctionData data = *randomData(signature, {}, 1);
    const std::vector<TensorData> wide = *runReference(*module, signature, data);
    return tolerancesOf(*module, signature, data, wide).value().front();
  };
  EXPECT_EQ(tolerance("f32"), toleranceOf(ElementType::F32));
  // 30 in bf16 is off by up to 1/16, and an exponential of it by as much of its value.
  EXPECT_GT(tolerance("bf16"), 2 * toleranceOf(ElementType::BF16));
  EXPECT_LT(tolerance("bf16"), 0.5);
}
