// Schedules that are given in part: open knobs suit those given, and what cannot be is said of a
// knob that was given.
#include "kernelforge/codegen/cpu/Emit.h"
#include "kernelforge/codegen/cpu/Target.h"
#include "kernelforge/ir/Transformer.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Parser/Parser.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using namespace kernelforge::transformer;
using testing::HasSubstr;

namespace {

/// The space of a kernel given as text; its context goes with it.
class Space {
public:
  Space(const std::string &text, const std::string &level, int64_t threads = 2) {
    context.loadDialect<TransformerDialect>();
    module = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
    EXPECT_TRUE(module) << text;
    auto made = cpu::scheduleSpace(KernelAnalysis(*module->getOps<KernelOp>().begin()),
                                   parseTarget(level, "").value(), threads);
    EXPECT_TRUE(made) << made.error().line();
    space = std::move(*made);
  }
  const ScheduleSpace *operator->() const { return &space; }

  /// The schedule that comes of these knobs as JSON, or the error.
  std::string completed(const KnobValues &given) const {
    const KnobValues all = space.complete(given);
    const Status legal = space.check(all);
    return legal ? knobsText(all) : legal.error().line();
  }

private:
  mlir::MLIRContext context{mlir::MLIRContext::Threading::DISABLED};
  mlir::OwningOpRef<mlir::ModuleOp> module;
  ScheduleSpace space;
};

std::string rowsOf(int64_t width) {
  return fmt::format("tensor<?x{}xf32, #transformer.dims<\"rows\">>", width);
}

std::string sizeOf(int64_t rows) {
  return fmt::format("%n: index {{transformer.size = #transformer.size<\"rows\", 1 to {}>}}", rows);
}

/// A matmul of rows of 512, as they come or after a norm.
std::string matmulText(int64_t rows, const std::string &type, bool norm,
                       const std::string &attributes = "") {
  const std::string in = rowsOf(512), out = rowsOf(160);
  const std::string weight =
      fmt::format("tensor<160x512x{}, #transformer.layout<interleaved, rows = 16>>", type);
  return fmt::format("transformer.kernel @k({0}, %x: {1}, %g: tensor<512xf32>, %w: {3}) -> {2} {{\n"
                     "{4}  %y = transformer.matmul %{5} weights(%w){6} : ({1}, {3}) -> {2}\n"
                     "  transformer.yield %y : {2}\n}}\n",
                     sizeOf(rows), in, out, weight,
                     norm ? fmt::format("  %z = transformer.rms_norm %x, %g {{epsilon = 1.0e-5 : "
                                        "f64}} : ({0}, tensor<512xf32>) -> {0}\n",
                                        in)
                          : "",
                     norm ? "z" : "x", attributes);
}

std::string attentionText(int64_t rows) {
  const std::string cache = "!transformer.cache<2, 64, f32>", q = rowsOf(256);
  const std::string perRow = "tensor<?xi32, #transformer.dims<\"rows\">>",
                    each = "tensor<?xi32, #transformer.dims<\"seqs\">>";
  return fmt::format(
      "transformer.kernel @k({0}, %s: index {{transformer.size = #transformer.size<\"seqs\", 1 to "
      "1>}}, %q: {1}, %k: {2}, %v: {2}, %p: {3}, %i: {3}, %t: {4}, %l: {4}) -> {1} {{\n"
      "  %y = transformer.attention %q, %k, %v positions(%p) sequences(%i) table(%t) lengths(%l) "
      "{{heads = 4 : i64, scale = 1.0 : f64, causal = true, window = 0 : i64, softcap = 0.0 : f64}}"
      " : ({1}, {2}, {2}, {3}, {3}, {4}, {4}) -> {1}\n"
      "  transformer.yield %y : {1}\n}}\n",
      sizeOf(rows), q, cache, perRow, each);
}

std::string softmaxText() {
  return fmt::format("transformer.kernel @k({0}, %x: {1}) -> {1} {{\n"
                     "  %y = transformer.softmax %x : {1}\n  transformer.yield %y : {1}\n}}\n",
                     sizeOf(33), rowsOf(96));
}

std::vector<std::string> kernels() {
  std::vector<std::string> texts{softmaxText(), attentionText(1), attentionText(64)};
  for (int64_t rows : {1, 200})
    for (const char *type : {"f32", "!transformer.quant<q4_1>"})
      for (bool norm : {false, true})
        texts.push_back(matmulText(rows, type, norm));
  return texts;
}

const std::vector<int64_t> &numbers() {
  static const std::vector<int64_t> some{INT64_MIN, -5, 0,  1,   2,   3,   4,   5,    6,        7,
                                         8,         12, 16, 30,  31,  32,  40,  48,   64,       80,
                                         100,       96, 97, 128, 256, 512, 513, 1024, INT64_MAX};
  return some;
}

/// Completes, keeps what is given, and blames nothing else where that is not legal.
void expectBlame(const Space &space, const KnobValues &given, const std::string &place) {
  const KnobValues all = space->complete(given);
  ASSERT_EQ(all.size(), space->analytic.size()) << place;
  std::string names;
  for (const auto &[name, value] : given) {
    ASSERT_EQ(all.at(name), value) << place;
    names += "knob " + name + ")|";
  }
  const Status legal = space->check(all);
  if (legal)
    return;
  const std::string line = legal.error().line();
  ASSERT_TRUE(std::ranges::any_of(given,
                                  [&](const auto &knob) {
                                    return line.find("knob " + knob.first + "): it is " +
                                                     std::to_string(knob.second)) !=
                                           std::string::npos;
                                  }))
      << place << knobsText(given) << "\n"
      << line;
}

TEST(ScheduleCompletion, BlamesNoKnobThatWasNotGiven) {
  for (const char *level : {"avx2", "avx512"})
    for (const std::string &text : kernels()) {
      const Space space(text, level);
      const std::string place = std::string(level) + "\n" + text;
      expectBlame(space, {}, place);
      for (const Knob &knob : space->knobs)
        for (int64_t value : numbers()) {
          expectBlame(space, {{knob.name, value}}, place);
          for (const Knob &other : space->knobs)
            if (knob.name < other.name)
              for (int64_t more : {-5, 0, 1, 3, 8, 48, 100, 4096})
                expectBlame(space, {{knob.name, value}, {other.name, more}}, place);
        }
    }
}

/// What a search may try of a knob can be asked for alone.
TEST(ScheduleCompletion, EveryValueOfALegalScheduleCanBeGivenAlone) {
  for (const char *level : {"avx2", "avx512"})
    for (const std::string &text : kernels()) {
      const Space space(text, level);
      for (const KnobValues &schedule : space->legal(400))
        for (const auto &[name, value] : schedule) {
          const KnobValues given{{name, value}};
          const Status legal = space->check(space->complete(given));
          ASSERT_TRUE(legal) << level << "\n" << text << legal.error().line();
        }
    }
}

/// Defaults are legal for any number of threads; many take AMX's tiles of 16 x 32 and small tasks.
TEST(ScheduleCompletion, DefaultsOfManyThreads) {
  const std::string bf16 = " {numerics = #transformer.numerics<multiply = bf16>}";
  for (const char *level : {"avx2", "avx512", "sapphirerapids"})
    for (int64_t rows : {1, 2, 17, 48, 200, 100000})
      for (const char *type : {"f32", "bf16", "!transformer.quant<q4_1>"})
        for (bool norm : {false, true})
          for (const std::string &attributes : {std::string(), bf16})
            for (int64_t threads : {1, 4, 5, 16, 255, 1024}) {
              const Space space(matmulText(rows, type, norm, attributes), level, threads);
              const Status legal = space->check(space->analytic);
              ASSERT_TRUE(legal) << level << ", " << rows << " rows of " << type << ", " << threads
                                 << " threads: " << legal.error().line();
            }
  auto tileOf = [&](int64_t threads) {
    const Space space(matmulText(200, "bf16", false, bf16), "sapphirerapids", threads);
    return std::pair(space->analytic.at("mr"), space->analytic.at("groups"));
  };
  EXPECT_EQ(tileOf(4), std::pair(int64_t(32), int64_t(2)));
  EXPECT_EQ(tileOf(5), std::pair(int64_t(16), int64_t(2)));
  auto tasksOf = [&](int64_t threads) {
    const Space space(matmulText(200, "f32", false), "avx512", threads);
    auto share = [&](int64_t all, const char *knob) {
      return (all + space->analytic.at(knob) - 1) / space->analytic.at(knob);
    };
    return share(200, "mc") * share(160, "nb");
  };
  EXPECT_GT(tasksOf(8), 8) << "a thread that is slower than others takes fewer";
}

TEST(ScheduleCompletion, SaysTheLimitOfTheKnobThatWasGiven) {
  const Space many(matmulText(200, "f32", false), "avx512");
  EXPECT_THAT(many.completed({{"mr", 4}}), HasSubstr("\"mr\":4,"));
  EXPECT_THAT(many.completed({{"mc", 100}}), HasSubstr("\"mc\":100,\"mr\":5,"));
  EXPECT_THAT(many.completed({{"groups", 8}}), HasSubstr("\"mr\":2,"));
  EXPECT_THAT(many.completed({{"splits", 16}}), HasSubstr("\"kc\":32,"));
  EXPECT_THAT(many.completed({{"mr", 40}}),
              HasSubstr("knob mr): it is 40, but must be from 1 to 30 with groups 1; the nearest "
                        "legal value is 30"));
  EXPECT_THAT(many.completed({{"mr", 8}, {"groups", 4}}),
              HasSubstr("it is 8, but must be from 1 to 6 with groups 4"));
  EXPECT_THAT(many.completed({{"kc", 256}, {"splits", 4}}),
              HasSubstr("it is 4, but must be from 1 to 2 with kc 256"));
  EXPECT_THAT(many.completed({{"prefetch", 8}}), HasSubstr("\"panel\":0,\"prefetch\":8"));
  EXPECT_THAT(many.completed({{"panel", 1}, {"prefetch", 8}}),
              HasSubstr("it is 8, but must be 0 with panel 1; the nearest legal value is 0"));
  // One row has no panels, unless they are asked for.
  const Space one(matmulText(1, "f32", false), "avx512");
  EXPECT_THAT(one.completed({{"mr", 4}}), HasSubstr("\"mr\":4,"));
  EXPECT_THAT(one.completed({{"panel", 0}, {"mr", 4}}), HasSubstr("it is 4, but must be 1 with"));

  const Space rows(attentionText(64), "avx512");
  EXPECT_THAT(rows.completed({{"mr", 8}}), HasSubstr("\"key_block\":48,\"mr\":8,\"nr\":3,"));
  EXPECT_THAT(rows.completed({{"key_block", 48}}), HasSubstr("\"nr\":3,"));
  EXPECT_THAT(rows.completed({{"key_block", 40}}),
              HasSubstr("it is 40, but must be a multiple of 16 from 16 to 512 with nr 1"));
  EXPECT_THAT(rows.completed({{"splits", 4}}), HasSubstr("\"query_block\":1,"));
}

} // namespace
