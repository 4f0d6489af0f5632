// Records that come with the program, and what the planner makes of them: each must still be of a
// kernel that this build makes, with a schedule that it takes. One that is not is to be measured
// again (docs/records.md), or taken out.
#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/compiler/Planner.h"
#include "kernelforge/compiler/RecordKeys.h"
#include "kernelforge/compiler/Targets.h"
#include "kernelforge/records/Shipped.h"

#include "mlir/Parser/Parser.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using namespace kernelforge::transformer;
using mlir::ModuleOp;
using mlir::OwningOpRef;
using testing::HasSubstr;

namespace {

bool isOfProcessor(const Record &record) { return record.key.target.starts_with("x86_64"); }

/// The target of a record's key: "nvptx64-nvidia-cuda sm_90a +ptx80".
Expected<Target> targetOf(const Record &record) {
  const std::string &text = record.key.target;
  const size_t chip = text.find(' ') + 1, features = text.find(' ', chip) + 1;
  const bool processor = isOfProcessor(record);
  KF_TRY(Target target, parseTarget(processor ? "cpu" : "cuda",
                                    text.substr(chip, features - 1 - chip), text.substr(features)));
  if (!processor)
    target.device = record.key.cpuModel;
  return target;
}

class ShippedPlanning : public testing::Test {
protected:
  ShippedPlanning() : context(mlir::MLIRContext::Threading::DISABLED) {
    registerAllStages(registry);
    context.appendDialectRegistry(registry);
    context.loadAllAvailableDialects();
  }

  /// Those whose target is built.
  static std::vector<Record> shipped() {
    std::vector<Record> records = ShippedRecords::ofProgram().all();
    const std::vector<std::string> kinds = targetKinds();
    if (std::ranges::find(kinds, "cuda") == kinds.end())
      std::erase_if(records, [](const Record &record) { return !isOfProcessor(record); });
    return records;
  }

  /// One of a device, where its target is built.
  static std::optional<Record> shippedOfDevice() {
    for (Record &record : shipped())
      if (!isOfProcessor(record))
        return std::move(record);
    return std::nullopt;
  }

  /// The record's kernel after it was planned for that target.
  KernelOp planned(const Record &record, const Target &target, const RecordStore *store) {
    module = mlir::parseSourceString<ModuleOp>(record.kernel, &context);
    EXPECT_TRUE(module) << record.name;
    KernelOp kernel = *module->getOps<KernelOp>().begin();
    KernelAnalyses analyses;
    const Status done = scheduleKernels(*module, target, record.key.threads, store, analyses);
    EXPECT_TRUE(done) << done.error().line();
    return kernel;
  }

  mlir::DialectRegistry registry;
  mlir::MLIRContext context;
  OwningOpRef<ModuleOp> module;
  const RecordStore noRecords{std::filesystem::path(testing::TempDir()) / "no records"};
};

TEST_F(ShippedPlanning, EachGivesItsKernelItsSchedule) {
  const std::vector<Record> all = shipped();
  EXPECT_FALSE(all.empty());
  for (const Record &record : all) {
    auto target = targetOf(record);
    ASSERT_TRUE(target) << target.error().line();
    if (!isOfProcessor(record))
      target->device = std::string(deviceNameOf(target->device)) + ", another driver";
    KernelOp kernel = planned(record, *target, &noRecords);
    EXPECT_EQ(recordKey(kernel, *target, 1).kernelHash, record.key.kernelHash) << record.name;
    EXPECT_EQ(kernel.getScheduleSource(), "record") << record.name;
    EXPECT_THAT(kernel.getScheduleReason()->str(), HasSubstr("comes with the program"));
    EXPECT_EQ(knobsText(knobsOf(kernel).value()), record.schedule) << record.name;
  }
}

TEST_F(ShippedPlanning, TheyAreOfTheirDeviceAlone) {
  const std::optional<Record> record = shippedOfDevice();
  if (!record)
    GTEST_SKIP() << "their target is not built";
  auto target = targetOf(*record);
  ASSERT_TRUE(target);
  target->device = "Another GPU, CUDA 13.0";
  EXPECT_EQ(planned(*record, *target, &noRecords).getScheduleSource(), "analytic");
  target->device.clear();
  EXPECT_EQ(planned(*record, *target, &noRecords).getScheduleSource(), "analytic");
}

TEST_F(ShippedPlanning, ThoseOfAProcessorAreForAsManyThreads) {
  for (Record &record : shipped()) {
    if (!isOfProcessor(record))
      continue;
    auto target = targetOf(record);
    ASSERT_TRUE(target);
    record.key.threads = 3;
    EXPECT_EQ(planned(record, *target, &noRecords).getScheduleSource(), "analytic");
    return;
  }
  FAIL() << "none is of a processor";
}

TEST_F(ShippedPlanning, WithoutRecordsThereAreNone) {
  const std::vector<Record> all = shipped();
  ASSERT_FALSE(all.empty());
  auto target = targetOf(all.front());
  ASSERT_TRUE(target);
  EXPECT_EQ(planned(all.front(), *target, nullptr).getScheduleSource(), "analytic");
}

TEST_F(ShippedPlanning, ThisUsersRecordsGoFirst) {
  const std::vector<Record> all = shipped();
  ASSERT_FALSE(all.empty());
  auto target = targetOf(all.front());
  ASSERT_TRUE(target);
  std::string name = testing::TempDir() + "shipped-XXXXXX";
  const RecordStore store(std::filesystem::path(::mkdtemp(name.data())));
  // Here nothing better than the default was found.
  Record own = all.front();
  KernelOp kernel = planned(own, *target, nullptr);
  own.key = recordKey(kernel, *target, own.key.threads);
  own.schedule = knobsText(knobsOf(kernel).value());
  own.scheduleSource = "analytic";
  own.samplesNs = own.baselineNs;
  own.ratio = 1;
  ASSERT_TRUE(store.append(own));
  kernel = planned(own, *target, &store);
  EXPECT_EQ(knobsText(knobsOf(kernel).value()), own.schedule);
  EXPECT_THAT(kernel.getScheduleReason()->str(), HasSubstr("won in the record of key"));
  std::filesystem::remove_all(store.folder());
}

} // namespace
