#include "kernelforge/compiler/Planner.h"

#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/compiler/AutoMatmul.h"
#include "kernelforge/compiler/LibraryProblem.h"
#include "kernelforge/compiler/RecordKeys.h"
#include "kernelforge/compiler/RecordedWinners.h"
#include "kernelforge/compiler/Targets.h"
#include "kernelforge/compiler/WeightUses.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/support/Json.h"
#include "kernelforge/support/Log.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

/// A pinned schedule with the knobs that its writer left open.
static Status completePinned(KernelOp kernel, const Target &target, int64_t threads) {
  KF_TRY(KnobValues pinned, knobsOf(kernel));
  KF_TRY(ScheduleSpace space, generatorOf(target).scheduleSpace(kernel, target, threads));
  pinned = space.complete(pinned);
  KF_CHECK(space.check(pinned));
  kernel.setScheduleAttr(scheduleAttr(kernel.getContext(), pinned));
  return {};
}

static constexpr const char *pinnedReason = "written in the module or on the command line";

namespace {

/// What a kernel gets.
struct Decision {
  KernelOp kernel;
  std::string source, reason;       ///< empty: the kernel has all it needs
  KnobValues schedule = {};         ///< none where a library has no knobs
  const MatmulKernel *variant = {}; ///< null: code is generated
  LibraryProblem library = {};      ///< that the variant runs
  std::string key = {};             ///< of the record that says so

  std::string variantName() const { return std::string(variant->name()); }
};

/// Decides for each kernel of a module by itself, then takes back what does not go together.
class Planner {
public:
  Planner(ModuleOp module, const Target &target, int64_t threads, const RecordStore *records)
      : module(module), target(target), threads(static_cast<int>(threads)), recorded(records) {}

  Status run() {
    for (auto kernel : module.getOps<KernelOp>()) {
      KF_TRY(Decision decision, decide(kernel));
      decisions.push_back(std::move(decision));
    }
    KF_CHECK(settleWeights());
    for (const Decision &decision : decisions)
      attach(decision);
    return {};
  }

private:
  Expected<Decision> decide(KernelOp kernel);
  Expected<Decision> decidePinned(KernelOp kernel) const;
  Expected<Decision> decideGenerated(KernelOp kernel);
  std::optional<Decision> recordedVariant(KernelOp kernel, const LibraryProblem &library);
  std::vector<RecordKey> keysOf(KernelOp kernel) const;
  Status settleWeights();
  static void attach(const Decision &decision);

  ModuleOp module;
  const Target &target;
  int threads;
  RecordedWinners recorded;
  std::vector<Decision> decisions;
};

std::string ratioText(const Record &record) {
  return record.ratio ? fmt::format(": {:.3f} of its baseline's time", *record.ratio) : "";
}

/// The schedule of a record of generated code, where it is legal for a kernel.
std::optional<KnobValues> legalSchedule(const Record &record, const ScheduleSpace &space) {
  Expected<KnobValues> schedule = parseKnobs(record.schedule, "records");
  if (!schedule || !space.check(*schedule))
    return std::nullopt;
  return std::move(*schedule);
}

} // namespace

/// Keys of the records of a kernel: its own and, where it is a library problem, that of the problem
/// by itself, whose kernel differs in names and in the order of arguments at most.
std::vector<RecordKey> Planner::keysOf(KernelOp kernel) const {
  std::vector<RecordKey> keys = {recordKey(kernel, target, threads)};
  if (const std::optional<LibraryProblem> library = libraryProblem(kernel))
    if (Expected<RecordKey> key = matmulKey(kernel.getContext(), library->problem, target, threads))
      if (!(*key == keys.front()))
        keys.push_back(std::move(*key));
  return keys;
}

Expected<Decision> Planner::decide(KernelOp kernel) {
  if (!kernel.isGenerated())
    return decidePinned(kernel);
  if (kernel.getSchedule()) {
    if (!kernel.getScheduleSource()) {
      KF_CHECK(completePinned(kernel, target, threads));
      kernel.setScheduleSource("pinned");
      kernel.setScheduleReason(pinnedReason);
    }
    return Decision{kernel, "", ""};
  }
  if (!kernel.getVariant() && !recorded.empty())
    if (const std::optional<LibraryProblem> library = libraryProblem(kernel))
      if (std::optional<Decision> decision = recordedVariant(kernel, *library))
        return std::move(*decision);
  return decideGenerated(kernel);
}

/// A variant that the module names, or an error.
Expected<Decision> Planner::decidePinned(KernelOp kernel) const {
  const std::string name = kernel.getVariant()->str();
  const std::string where = kernelName(kernel) + ", variant '" + name + "'";
  Decision decision{kernel, kernel.getScheduleSource().value_or("pinned").str(),
                    kernel.getScheduleReason().value_or(pinnedReason).str()};
  std::optional<LibraryProblem> library = libraryProblem(kernel);
  if (!library)
    return unusable("variant cannot run the kernel", where,
                    "the kernel is more than one matmul of f32 rows with bias, activation and "
                    "residual, or a dimension of it is 0",
                    "leave out the variant");
  decision.library = std::move(*library);
  const MatmulProblem &problem = decision.library.problem;
  Expected<const MatmulKernel *> variant = MatmulRegistry::global().find(name);
  if (!variant)
    return unusable(variant.error().what, where, variant.error().why, variant.error().hint);
  decision.variant = *variant;
  if (const MatmulSupport support = decision.variant->supports(problem); !support) {
    if (support.kind == MatmulSupport::Kind::Unavailable)
      return missing("variant is unavailable", where, support.why);
    return unusable("variant cannot run the kernel", where, support.why);
  }
  const std::optional<ScheduleSpace> space = decision.variant->scheduleSpace(problem, threads);
  if (!kernel.getSchedule()) {
    if (space)
      decision.schedule = space->analytic;
    return decision;
  }
  KF_TRY(decision.schedule, knobsOf(kernel));
  if (space) {
    decision.schedule = space->complete(decision.schedule);
    KF_CHECK(space->check(decision.schedule));
  } else if (!decision.schedule.empty()) {
    return unusable("schedule is not usable", where, "this variant has no schedule",
                    "leave out the schedule");
  }
  return decision;
}

/// The variant that won, where it is another than generated and can run here. Who is left out: what
/// is not here, and schedules that are no longer legal.
std::optional<Decision> Planner::recordedVariant(KernelOp kernel, const LibraryProblem &library) {
  const Expected<ScheduleSpace> space = generatorOf(target).scheduleSpace(kernel, target, threads);
  const MatmulRegistry &variants = MatmulRegistry::global();
  auto admits = [&](const Record &record) {
    return record.variant == "generated" ? space && legalSchedule(record, *space)
                                         : canRun(record, variants, library.problem, threads);
  };
  for (const RecordKey &key : keysOf(kernel)) {
    const auto found = recorded.find(key, admits);
    if (!found)
      continue;
    const Record &record = found->record;
    if (record.variant == "generated")
      return std::nullopt;
    Decision decision{kernel, "record",
                      fmt::format("{} won in the record of key {}{}{}", record.variant, key.id(),
                                  found->first ? "" : ", of what can run here", ratioText(record))};
    decision.variant = *variants.find(record.variant);
    decision.library = library;
    decision.key = key.id();
    if (const Expected<KnobValues> schedule = parseKnobs(record.schedule, "records"))
      decision.schedule = *schedule;
    return decision;
  }
  return std::nullopt;
}

/// A schedule for generated code.
Expected<Decision> Planner::decideGenerated(KernelOp kernel) {
  KF_TRY(ScheduleSpace space, generatorOf(target).scheduleSpace(kernel, target, threads));
  if (!recorded.empty()) {
    const std::vector<RecordKey> keys = keysOf(kernel);
    for (const RecordKey &key : keys)
      if (const std::optional<Record> record = recorded.find(key, "generated"))
        if (std::optional<KnobValues> schedule = legalSchedule(*record, space))
          return Decision{kernel, "record",
                          "won in the record of key " + key.id() + ratioText(*record),
                          std::move(*schedule)};
    for (const RecordKey &key : keys)
      if (recorded.defaultStays(key))
        return Decision{kernel, "analytic",
                        "the records of key " + key.id() + " show nothing better", space.analytic};
    // The default of another problem is not this one's.
    auto isDefault = [](const Record &record) { return record.scheduleSource == "analytic"; };
    auto admits = [&](const Record &record) {
      return isDefault(record) || legalSchedule(record, space);
    };
    if (const std::optional<Record> near = recorded.nearestGenerated(keys.front(), admits)) {
      const std::string problem = "for the nearest problem, key " + near->key.id();
      if (isDefault(*near))
        return Decision{kernel, "analytic", "nothing better was found " + problem, space.analytic};
      return Decision{kernel, "transferred", "won " + problem + ratioText(*near),
                      *legalSchedule(*near, space)};
    }
  }
  return Decision{kernel, "analytic", "no record fits", space.analytic};
}

/// A variant reads its weight as it lies in the file. Where someone else needs it packed, the
/// kernel is generated after all, which may take a weight from the next one.
Status Planner::settleWeights() {
  const WeightUses uses(module);
  auto readsRowMajor = [&](KernelOp kernel, unsigned argument) {
    return llvm::any_of(decisions, [&](const Decision &decision) {
      return decision.kernel == kernel && decision.variant && decision.library.weight == argument;
    });
  };
  for (bool changed = true; changed;) {
    changed = false;
    for (Decision &decision : decisions) {
      const std::optional<std::string> why =
          decision.variant ? uses.obstacle(decision.kernel, decision.library.weight, readsRowMajor)
                           : std::nullopt;
      if (!why)
        continue;
      const std::string name = decision.variantName();
      if (decision.key.empty())
        return unusable("variant cannot run the kernel",
                        kernelName(decision.kernel) + ", variant '" + name + "'", *why,
                        "leave out the variant");
      const std::string key = decision.key;
      KF_TRY(decision, decideGenerated(decision.kernel));
      decision.reason += fmt::format("; {} won in the record of key {}, but {}", name, key, *why);
      changed = true;
    }
  }
  for (Decision &decision : decisions)
    if (decision.variant && layoutOf(decision.kernel.getArgumentTypes()[decision.library.weight]))
      uses.makeRowMajor(decision.kernel, decision.library.weight);
  return {};
}

void Planner::attach(const Decision &decision) {
  if (decision.source.empty())
    return;
  KernelOp kernel = decision.kernel;
  if (decision.variant)
    kernel.setVariant(decision.variantName());
  if (!decision.variant || !decision.schedule.empty())
    kernel.setScheduleAttr(scheduleAttr(kernel.getContext(), decision.schedule));
  kernel.setScheduleSource(decision.source);
  kernel.setScheduleReason(decision.reason);
  logger().info("kernel @{}: {} {} ({})", kernel.getSymName().str(), decision.source,
                decision.variant ? "variant " + decision.variantName() : "schedule",
                decision.reason);
}

Status kernelforge::scheduleKernels(ModuleOp module, const Target &target, int64_t threads,
                                    const RecordStore *records) {
  return Planner(module, target, threads, records).run();
}

std::string kernelforge::scheduleJson(Operation *op) {
  nlohmann::json json = nlohmann::json::object();
  if (ScheduleAttr schedule = cast<KernelOp>(op).getScheduleAttr())
    for (NamedAttribute knob : schedule.getKnobs()) {
      std::string name = knob.getName().str();
      auto integer = dyn_cast<IntegerAttr>(knob.getValue());
      if (integer && integer.getValue().isSignedIntN(64)) {
        json[name] = integer.getValue().getSExtValue();
        continue;
      }
      // Never legal, but it must not look like a schedule that is.
      std::string printed;
      llvm::raw_string_ostream(printed) << knob.getValue();
      json[name] = printed;
    }
  return json.dump();
}

Expected<ScheduleAttr> kernelforge::scheduleFromJson(MLIRContext *context, std::string_view text,
                                                     std::string_view where) {
  KF_TRY(KnobValues values, parseKnobs(text, where));
  return scheduleAttr(context, values);
}
