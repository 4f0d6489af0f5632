#include "RecordedKernel.h"

#include "ModuleText.h"

#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/compiler/RecordKeys.h"
#include "kernelforge/compiler/Targets.h"
#include "kernelforge/records/Choice.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;
using namespace kernelforge::cli;

/// The target that gives the record's text, whatever kind it is of.
static Expected<Target> targetOfRecord(const Record &record, const DeviceOptions &device) {
  const std::string &text = record.key.target; // triple or kind, chip, features
  const size_t cpu = text.find(' ') + 1, features = text.find(' ', cpu) + 1;
  if (cpu == 0 || features == 0)
    return unusable("record is not usable", record.key.id(), "its target cannot be read");
  const std::string first = text.substr(0, cpu - 1);
  std::optional<Error> error;
  for (const std::string &kind : targetKinds()) {
    Expected<Target> target =
        parseTarget(kind, text.substr(cpu, features - 1 - cpu), text.substr(features), device);
    if (target && (target->triple.empty() ? target->kind : target->triple) == first)
      return target;
    if (!target && !error)
      error = target.error();
  }
  if (error)
    return tl::unexpected(std::move(*error));
  return missing("record cannot be replayed here", record.key.id(),
                 "this build makes no code for " + first);
}

Expected<RecordedKernel> cli::openRecordedKernel(MLIRContext *context, const Record &record,
                                                 bool anyProcessor, const DeviceOptions &device) {
  RecordedKernel opened;
  if (record.kernel.empty())
    return unusable("record is not usable", record.key.id(), "it holds no kernel");
  KF_TRY(opened.module, parseModuleText(context, record.kernel, "record " + record.key.id()));
  auto kernels = opened.module->getOps<KernelOp>();
  if (kernels.empty())
    return unusable("record is not usable", record.key.id(), "it holds no kernel");
  opened.kernel = *kernels.begin();
  KF_TRY(opened.options.target, targetOfRecord(record, device));
  opened.options.device = device;
  opened.options.threads = record.key.threads;
  RecordKey here = recordKey(opened.kernel, opened.options.target, opened.options.threads);
  if (anyProcessor)
    here.cpuModel = record.key.cpuModel;
  const std::vector<std::string> differences = keyDifferences(here, record.key);
  if (!differences.empty())
    return makeError(ErrorKind::Missing, "record cannot be replayed here", record.key.id(),
                     fmt::format("{}", fmt::join(differences, "; ")),
                     "replay it on the machine that it is from");
  KF_TRY(opened.options, problemOptionsFrom(record.run, opened.options));
  return opened;
}

std::string_view CodeCheck::name() const {
  switch (state) {
  case State::Same:
    return "same";
  case State::Stale:
    return "stale";
  case State::NoCode:
    return "none";
  case State::Unknown:
    break;
  }
  return "unknown";
}

static Expected<std::string> codeHashNow(MLIRContext *context, const Record &record) {
  KF_TRY(RecordedKernel opened, openRecordedKernel(context, record, /*anyProcessor=*/true));
  opened.options.dataSets = 0;
  KF_TRY(std::unique_ptr<KernelProblem> problem,
         KernelProblem::create(opened.kernel, opened.options));
  KF_TRY(KnobValues schedule, parseKnobs(record.schedule, "records"));
  KF_TRY(std::shared_ptr<const Program> program, problem->compile(schedule));
  return program->artifacts.front().codeHash;
}

static CodeCheck checkCode(MLIRContext *context, const Record &record) {
  if (record.variant != "generated")
    return {CodeCheck::State::NoCode, ""};
  const Expected<std::string> now = codeHashNow(context, record);
  if (!now)
    return {CodeCheck::State::Unknown, now.error().line()};
  return {isStale(record, *now) ? CodeCheck::State::Stale : CodeCheck::State::Same, ""};
}

std::vector<CodeCheck> cli::checkCode(std::span<const Record> records) {
  DialectRegistry registry;
  registerAllStages(registry);
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  context.loadAllAvailableDialects();
  std::vector<CodeCheck> checks;
  for (const Record &record : records)
    checks.push_back(::checkCode(&context, record));
  return checks;
}
