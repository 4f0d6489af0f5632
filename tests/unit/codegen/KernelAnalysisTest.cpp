// What planner, schedules and emitters read of a kernel.
#include "kernelforge/codegen/KernelAnalysis.h"

#include "mlir/Parser/Parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using testing::ElementsAre;

namespace {

/// A module with one kernel @k.
class Parsed {
public:
  explicit Parsed(const std::string &kernel) {
    context.loadDialect<transformer::TransformerDialect>();
    module = mlir::parseSourceString<mlir::ModuleOp>(R"(
#size = #transformer.size<"tokens", 2 to 512>
#many = #transformer.size<"outputs", 1 to 8589934592>
#packed = #transformer.layout<interleaved, rows = 16>
!ids = tensor<?xi32, #transformer.dims<"tokens">>
!picks = tensor<?xi32, #transformer.dims<"outputs">>
!rows = tensor<?x64xf32, #transformer.dims<"tokens">>
!out = tensor<?x64xf32, #transformer.dims<"outputs">>
!weight = tensor<64x64xf32, #packed>
!cache = !transformer.cache<2, 32, f32>
)" + kernel,
                                                     &context);
    EXPECT_TRUE(module) << "it does not parse";
  }
  transformer::KernelOp kernel() { return *module->getOps<transformer::KernelOp>().begin(); }
  KernelAnalysis analysis() { return KernelAnalysis(kernel()); }
  /// The operation of that name: the first of its kind.
  mlir::Operation *operation(llvm::StringRef name) {
    for (mlir::Operation &op : kernel().getBody().front())
      if (op.getName().stripDialect() == name)
        return &op;
    return nullptr;
  }

private:
  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
};

/// Query with key, whose sum is stored; value, which goes to the cache; gate, which nobody needs.
const char *fourSegments = R"(
transformer.kernel @k(%t: index {transformer.size = #size}, %x: !rows, %n: tensor<64xf32>,
    %q: !weight, %k: !weight, %v: !weight, %g: !weight, %c: !cache, %s: !ids) -> !rows {
  %h = transformer.rms_norm %x, %n {epsilon = 1.0e-5} : (!rows, tensor<64xf32>) -> !rows
  %y:4 = transformer.matmul %h weights(%q, %v, %k, %g)
      : (!rows, !weight, !weight, !weight, !weight) -> (!rows, !rows, !rows, !rows)
  transformer.cache_append %y#1, %s into %c : !cache, !rows, !ids
  %a = transformer.add %y#2, %y#0 : !rows
  transformer.yield %a : !rows
})";

TEST(KernelAnalysis, SegmentsGoTogetherByWhatIsStoredOfThem) {
  Parsed parsed(fourSegments);
  const KernelAnalysis analysis = parsed.analysis();
  EXPECT_EQ(analysis.name(), "@k");
  EXPECT_EQ(analysis.family(), KernelFamily::Matmul);
  EXPECT_EQ(analysis.root(), parsed.operation("matmul"));
  EXPECT_FALSE(analysis.isRootAlone());
  ASSERT_EQ(analysis.sinks().size(), 2u);
  ASSERT_EQ(analysis.groups().size(), 2u);
  const SegmentGroup &value = analysis.groups()[0], &sum = analysis.groups()[1];
  EXPECT_THAT(value.segments, ElementsAre(1u));
  ASSERT_EQ(value.sinks.size(), 1u);
  EXPECT_EQ(value.sinks[0].op, parsed.operation("cache_append"));
  EXPECT_TRUE(value.ops.empty());
  EXPECT_THAT(sum.segments, ElementsAre(0u, 2u));
  ASSERT_EQ(sum.sinks.size(), 1u);
  EXPECT_EQ(sum.sinks[0].op, parsed.operation("yield"));
  EXPECT_THAT(sum.ops, ElementsAre(parsed.operation("add")));
  EXPECT_EQ(sum.n, 64);
  EXPECT_FALSE(analysis.followsRoot(parsed.operation("rms_norm")));
  EXPECT_TRUE(analysis.followsRoot(parsed.operation("add")));
  EXPECT_EQ(epilogueObstacle(analysis, true), "");
}

TEST(KernelAnalysis, RowsAreThoseOfTheirSize) {
  Parsed parsed(R"(
transformer.kernel @k(%t: index {transformer.size = #size}, %o: index {transformer.size = #many},
    %x: !rows, %p: !picks) -> !out {
  %y = transformer.gather_rows %x, %p : (!rows, !picks) -> !out
  transformer.yield %y : !out
})");
  const KernelAnalysis analysis = parsed.analysis();
  EXPECT_EQ(analysis.family(), KernelFamily::Rowwise);
  transformer::KernelOp kernel = parsed.kernel();
  const mlir::Type in = kernel.getArgumentTypes()[2], out = kernel.getResultTypes()[0];
  EXPECT_EQ(analysis.rows(in), std::pair(int64_t(2), int64_t(512)));
  EXPECT_EQ(analysis.rows(out).second, int64_t(1) << 33);
  EXPECT_EQ(analysis.plannedRows(out).second, int64_t(1) << 30);
  EXPECT_NE(rowCountOf(in), rowCountOf(out));
  // Bytes of 4 rows: in, picks and out; the table counts what is looked up.
  const std::vector<int64_t> sizes{512, 4};
  EXPECT_EQ(analysis.cost().bytes(sizes.data()), 4 * (64 * 4 + 4 + 64 * 4));
}

TEST(KernelAnalysis, StoresOfRowsShareLoopsByTheirRows) {
  Parsed parsed(R"(
transformer.kernel @k(%t: index {transformer.size = #size}, %o: index {transformer.size = #many},
    %x: !rows, %p: !picks, %w: tensor<64x64xf32>) -> (!rows, !out, !weight, !weight, !rows) {
  %a = transformer.add %x, %x : !rows
  %m = transformer.mul %x, %x : !rows
  %g = transformer.gather_rows %x, %p : (!rows, !picks) -> !out
  %u = transformer.pack %w : tensor<64x64xf32> to !weight
  %v = transformer.pack %w : tensor<64x64xf32> to !weight
  transformer.yield %a, %g, %u, %v, %m : !rows, !out, !weight, !weight, !rows
})");
  std::vector<std::vector<unsigned>> groups;
  const KernelAnalysis analysis = parsed.analysis();
  for (const auto &group : analysis.rowGroups()) {
    groups.emplace_back();
    for (const Sink &sink : group)
      groups.back().push_back(sink.resultIndex);
  }
  EXPECT_THAT(groups,
              ElementsAre(ElementsAre(0, 4), ElementsAre(1), ElementsAre(2), ElementsAre(3)));
}

TEST(KernelAnalysis, ARootMayStandAlone) {
  auto softmax = [](const std::string &result) {
    return "transformer.kernel @k(%t: index {transformer.size = #size}, %x: !rows) -> !rows {\n"
           "  %y = transformer.softmax %x : !rows\n  transformer.yield " +
           result + " : !rows\n}";
  };
  EXPECT_TRUE(Parsed(softmax("%y")).analysis().isRootAlone());
  EXPECT_FALSE(Parsed(softmax("%x")).analysis().isRootAlone());
}

TEST(KernelAnalyses, AreMadeOnceUntilTheyAreForgotten) {
  Parsed parsed(fourSegments);
  KernelAnalyses analyses;
  const KernelAnalysis *first = &analyses.of(parsed.kernel());
  EXPECT_EQ(&analyses.of(parsed.kernel()), first);
  EXPECT_EQ(analyses.made(), 1);
  analyses.forget(parsed.kernel());
  EXPECT_EQ(analyses.of(parsed.kernel()).name(), "@k");
  EXPECT_EQ(analyses.made(), 2);
}

} // namespace
