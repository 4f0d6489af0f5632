// Which schedule a kernel of generated code gets: pinned in part, of its records, of the nearest
// problem's, or the default.
#include "kernelforge/compiler/Planner.h"
#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/codegen/cpu/Emit.h"
#include "kernelforge/compiler/MatmulModule.h"
#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/compiler/RecordKeys.h"
#include "kernelforge/problem/MatmulChoice.h"
#include "kernelforge/support/Host.h"

#include <filesystem>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using namespace kernelforge::transformer;
using mlir::ModuleOp;
using mlir::OwningOpRef;
using testing::HasSubstr;

namespace {

constexpr int threadCount = 2;

class Planning : public testing::Test {
protected:
  Planning() : context(mlir::MLIRContext::Threading::DISABLED), store(newFolder()) {
    loadAllStages(&context);
    target = parseTarget("avx2", "").value(); // the same defaults on all machines
  }
  ~Planning() override { std::filesystem::remove_all(store.folder()); }

  static std::filesystem::path newFolder() {
    std::string name = testing::TempDir() + "planning-XXXXXX";
    return ::mkdtemp(name.data());
  }

  /// A matmul, as it is before the planner sees it.
  KernelOp kernelOf(const MatmulProblem &problem) {
    module = std::move(buildMatmulModule(&context, problem).value());
    const Status fused = runToStage(*module, Stage::Fused, {target, threadCount, true, {}, {}});
    EXPECT_TRUE(fused) << fused.error().line();
    return *module->getOps<KernelOp>().begin();
  }

  ScheduleSpace spaceOf(const MatmulProblem &problem) {
    return cpu::scheduleSpace(KernelAnalysis(kernelOf(problem)), target, threadCount).value();
  }

  /// The analytic schedule of a problem with other values for some knobs.
  KnobValues changed(const MatmulProblem &problem, const KnobValues &changes) {
    KnobValues knobs = spaceOf(problem).analytic;
    for (const auto &[name, value] : changes)
      knobs[name] = value;
    return knobs;
  }

  /// A record that says that a schedule takes `ratio` of the default's time.
  void measured(const MatmulProblem &problem, const KnobValues &schedule, double ratio,
                bool trusted = true) {
    const bool isDefault = schedule == spaceOf(problem).analytic;
    Record record;
    record.key = matmulKey(problem, target, threadCount).value();
    record.schedule = knobsText(schedule);
    record.scheduleSource = isDefault ? "analytic" : "";
    record.samplesNs = {100 * ratio};
    record.baselineNs = {100};
    record.baseline = "schedule {}";
    record.ratio = ratio;
    record.trusted = trusted;
    record.accuracy = RecordAccuracy{"f64", 0, 0, 0, 0, 0, 0, 1e-5, true};
    const Status kept = store.append(record);
    ASSERT_TRUE(kept) << kept.error().line();
  }

  /// Where the schedule of a problem is from, and the schedule.
  std::pair<std::string, KnobValues> planned(const MatmulProblem &problem) {
    KernelOp kernel = kernelOf(problem);
    KernelAnalyses analyses;
    const Status done = scheduleKernels(*module, target, threadCount, &store, analyses);
    EXPECT_TRUE(done) << done.error().line();
    reason = kernel.getScheduleReason()->str();
    return {kernel.getScheduleSource()->str(), knobsOf(kernel).value()};
  }

  mlir::MLIRContext context;
  Target target;
  RecordStore store;
  OwningOpRef<ModuleOp> module;
  std::string reason;
};

const MatmulProblem wide{64, 96, 256};

TEST_F(Planning, IllegalRecordedScheduleIsNotTaken) {
  const auto illegal = changed(wide, {{"nb", 20}}), legal = changed(wide, {{"nb", 32}});
  ASSERT_FALSE(spaceOf(wide).check(illegal));
  measured(wide, illegal, 0.5);
  auto [source, schedule] = planned(wide);
  EXPECT_EQ(source, "analytic");
  EXPECT_EQ(schedule, spaceOf(wide).analytic);
  // The same where it is another problem's.
  const MatmulProblem near{64, 96, 512};
  EXPECT_EQ(planned(near).first, "analytic");
  // What is legal is taken.
  measured(wide, legal, 0.25);
  EXPECT_EQ(planned(wide), std::pair(std::string("record"), legal));
  EXPECT_EQ(planned(near).first, "transferred");
}

TEST_F(Planning, RecordsAreOfTheDeviceThatTheyWereMeasuredOn) {
  const KnobValues chosen = changed(wide, {{"nb", 32}});
  measured(wide, chosen, 0.5);
  EXPECT_EQ(planned(wide).first, "record");
  const RecordKey here = matmulKey(wide, target, threadCount).value();
  EXPECT_EQ(here.threads, threadCount);
  target.device = host().cpuModel; // as where no device was asked
  EXPECT_TRUE(matmulKey(wide, target, threadCount).value() == here);
  target.device = "a device, driver 1";
  const RecordKey there = matmulKey(wide, target, threadCount).value();
  EXPECT_FALSE(there == here);
  EXPECT_EQ(there.threads, 1) << "threads are this processor's";
  EXPECT_EQ(planned(wide).first, "analytic");
  measured(wide, chosen, 0.5);
  EXPECT_EQ(planned(wide).first, "record");
  target.device = "a device, driver 2"; // which makes other code of it
  EXPECT_EQ(planned(wide).first, "analytic");
}

TEST_F(Planning, RecordsOfOtherNumericsAreOfOtherProblems) {
  std::set<std::string> hashes, problems;
  auto weight = mlir::RankedTensorType::get({96, 256}, QuantType::get(&context, "q8_0"));
  for (Numerics numerics : {Numerics::F32, Numerics::F16, Numerics::I8, Numerics::I8x2}) {
    const MatmulProblem problem{64, 96, 256, ElementType::Q8_0, false, {}, numerics};
    const RecordKey key = recordKey(*buildMatmulKernel(problem, weight), target, threadCount);
    hashes.insert(key.kernelHash);
    problems.insert(key.problem);
  }
  EXPECT_EQ(hashes.size(), 4);
  EXPECT_EQ(problems.size(), 4) << "a schedule would be transferred to where it may have no code";
}

TEST_F(Planning, TheNextNearestProposesWhereTheNearestIsNotLegal) {
  const MatmulProblem near{64, 96, 512}, far{64, 96, 2048};
  measured(near, changed(near, {{"mr", 99}}), 0.5);
  measured(far, changed(far, {{"nb", 32}, {"kc", 64}}), 0.5);
  auto [source, schedule] = planned(wide);
  EXPECT_EQ(source, "transferred");
  EXPECT_EQ(schedule.at("nb"), 32);
}

TEST_F(Planning, TheDefaultStaysWhereRecordsShowNothingBetter) {
  const MatmulProblem near{64, 96, 512};
  measured(near, changed(near, {{"nb", 32}}), 0.5);
  EXPECT_EQ(planned(wide).first, "transferred");
  // Its own records go before another problem's.
  measured(wide, changed(wide, {{"nb", 16}}), 0.99);
  auto [source, schedule] = planned(wide);
  EXPECT_EQ(source, "analytic");
  EXPECT_EQ(schedule, spaceOf(wide).analytic);
  EXPECT_THAT(reason, HasSubstr("show nothing better"));
}

TEST_F(Planning, TheDefaultOfAnotherProblemIsNotTransferred) {
  const MatmulProblem near{8, 96, 512};
  ASSERT_NE(spaceOf(near).analytic, spaceOf(wide).analytic);
  measured(near, spaceOf(near).analytic, 1);
  auto [source, schedule] = planned(wide);
  EXPECT_EQ(source, "analytic");
  EXPECT_EQ(schedule, spaceOf(wide).analytic);
  EXPECT_THAT(reason, HasSubstr("nothing better was found for the nearest problem"));
}

TEST_F(Planning, APinnedScheduleIsCompletedAroundItsKnobs) {
  auto pinned = [&](const KnobValues &knobs, const char *variant) {
    KernelOp kernel = kernelOf(wide);
    kernel.setVariant(variant);
    kernel.setScheduleAttr(scheduleAttr(&context, knobs));
    KernelAnalyses analyses;
    const Status done = scheduleKernels(*module, target, threadCount, nullptr, analyses);
    return done ? knobsText(knobsOf(kernel).value()) : done.error().line();
  };
  EXPECT_THAT(pinned({{"groups", 3}}, "generated"), HasSubstr("\"groups\":3,"));
  EXPECT_THAT(pinned({{"mc", 10}}, "generated"), HasSubstr("\"mc\":10,"));
  EXPECT_THAT(pinned({{"mr", 99}}, "generated"), HasSubstr("knob mr): it is 99, but must be from"));
  EXPECT_THAT(pinned({{"mc", 16}}, "blocked"), HasSubstr("\"mc\":16,"));
  EXPECT_THAT(pinned({{"split_m", 2}}, "parallel"), HasSubstr("\"split_m\":2,"));
  EXPECT_THAT(pinned({{"mc", 9}}, "blocked"), HasSubstr("knob mc): it is 9, but must be"));
}

} // namespace
