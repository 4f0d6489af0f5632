// The default schedules of what the suites measure keep their inner loops in registers, on the
// processors that matter: a spill in an inner loop costs, silently.
#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/codegen/cpu/MachineCode.h"
#include "kernelforge/compiler/KernelCompiler.h"
#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/eval/RowModule.h"
#include "kernelforge/ir/Numerics.h"
#include "kernelforge/support/Json.h"

#include "mlir/IR/MLIRContext.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

using namespace kernelforge;

namespace {

/// A kind of kernel whose inner loops use the stack, and why that may stay. `most` is how many
/// instructions of one loop do: it may be lowered, never raised.
struct Known {
  std::string kind, reason;
  int64_t most = 0;
};

/// What the file beside this test says: rows of suites, and what is known of a processor.
struct List {
  std::vector<SuiteRow> rows;
  std::vector<Known> known;
};

Expected<List> readList(const std::string &processor, const Target &target) {
  KF_TRY(const JsonDocument document,
         readJsonFile(KERNELFORGE_TEST_DATA "/unit/eval/known_spills.json", "known spills"));
  List list;
  KF_TRY(const JsonView suites, document.root().object("suites"));
  KF_TRY(const auto numerics, suites.members());
  for (const auto &[choice, filters] : numerics) {
    KF_TRY(const Numerics chosen, parseNumerics(choice));
    if (chosen == Numerics::BF16 && !target.has("avx512bf16"))
      continue; // what is done there is right, not fast
    KF_TRY(const auto members, filters.members());
    for (const auto &[name, filter] : members) {
      KF_TRY(const std::string regex, filter.asString(1000));
      KF_TRY(Suite suite, findSuite(name));
      KF_TRY(suite, filterSuite(withNumerics(std::move(suite), chosen), regex));
      list.rows.insert(list.rows.end(), suite.rows.begin(), suite.rows.end());
    }
  }
  KF_TRY(const JsonView known, document.root().object("known"));
  KF_TRY(const auto entries, known.array(processor, 100));
  for (const JsonView &entry : entries) {
    Known one;
    KF_TRY(one.kind, entry.string("kind", 100));
    KF_TRY(one.reason, entry.string("reason", 1000));
    KF_TRY(one.most, entry.integer("most", 1, 10000));
    list.known.push_back(std::move(one));
  }
  return list;
}

/// The worst inner loop of a kind of kernel.
struct Worst {
  std::string kernel;
  SpillingLoop loop;
};

std::string asNumerics(Numerics numerics) {
  return numerics == Numerics::F32 ? "" : fmt::format(" as {}", numericsName(numerics));
}

/// "matmul q4_1 panel", "matmul q4_1 registers as i8", "attention one_row", "rowwise rms_norm".
std::string kindOf(transformer::KernelOp kernel) {
  const KernelAnalysis analysis(kernel);
  const KnobValues knobs = knobsOf(kernel).value();
  switch (analysis.family()) {
  case KernelFamily::Matmul:
    return fmt::format(
        "matmul {} {}{}", info(*elementTypeOf(analysis.matmul().getWeights()[0].getType())).name,
        knobs.at("panel") != 0 ? "panel" : "registers", asNumerics(numericsOf(analysis.matmul())));
  case KernelFamily::Attention:
    return (knobs.at("query_block") > 1 ? "attention rows" : "attention one_row") +
           asNumerics(numericsOf(analysis.attention()));
  default:
    return "rowwise " + analysis.root()->getName().stripDialect().str();
  }
}

class Spills : public testing::TestWithParam<const char *> {
protected:
  /// Compiles the kernels of a row with their default schedules.
  Status add(const SuiteRow &row) {
    mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
    loadStages(&context, target);
    KF_TRY(RowModule built, buildRowModule(&context, row));
    KernelAnalyses analyses;
    KF_CHECK(runToStage(*built.module, Stage::Scheduled, {target, 2, true, {}, {}}, analyses));
    // Many rows share kernels and schedules.
    for (auto kernel : llvm::make_early_inc_range(built.module->getOps<transformer::KernelOp>()))
      if (!seen.insert(entrySymbol(kernel)).second) {
        analyses.forget(kernel);
        kernel.erase();
      }
    KF_TRY(const auto artifacts,
           compileKernels(*built.module, target, ObjectCache::disabled(), analyses));
    for (const Artifact &artifact : artifacts) {
      KF_TRY(const MachineCode code, readMachineCode(artifact.code, target));
      const auto kernel = built.module->lookupSymbol<transformer::KernelOp>(artifact.kernel);
      for (const SpillingLoop &loop : code.spillingLoops) {
        Worst &worst = found[kindOf(kernel)];
        if (worst.loop.spills.size() < loop.spills.size())
          worst = {row.name + ", @" + artifact.kernel, loop};
      }
    }
    return {};
  }

  const Target target = parseTarget(GetParam(), "").value();
  std::set<std::string> seen;
  std::map<std::string, Worst> found; ///< by kind
};

TEST_P(Spills, AreNotInInnerLoops) {
  const auto list = readList(GetParam(), target);
  ASSERT_TRUE(list) << list.error().line();
  for (const SuiteRow &row : list->rows) {
    const Status added = add(row);
    ASSERT_TRUE(added) << row.name << ": " << added.error().line();
  }
  EXPECT_GT(seen.size(), 50u);
  for (const Known &entry : list->known) {
    EXPECT_FALSE(entry.reason.empty()) << entry.kind;
    const auto worst = found.find(entry.kind);
    const auto now =
        worst == found.end() ? 0 : static_cast<int64_t>(worst->second.loop.spills.size());
    EXPECT_GE(now, entry.most) << entry.kind << ": the list of what is known may only shrink";
    if (worst != found.end() && now <= entry.most)
      found.erase(worst);
  }
  for (const auto &[kind, worst] : found)
    ADD_FAILURE() << kind << " for " << GetParam() << " (" << worst.kernel
                  << "): " << worst.loop.spills.size() << " of " << worst.loop.instructions
                  << " instructions of an inner loop use the stack:\n  "
                  << fmt::format("{}", fmt::join(worst.loop.spills, "\n  "));
}

INSTANTIATE_TEST_SUITE_P(Processors, Spills,
                         testing::Values("avx2", "avx512", "sapphirerapids", "znver5"));

} // namespace
