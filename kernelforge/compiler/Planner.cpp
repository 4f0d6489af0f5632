#include "kernelforge/compiler/Planner.h"

#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/compiler/LibraryKernels.h"
#include "kernelforge/compiler/MatmulModule.h"
#include "kernelforge/compiler/RecordKeys.h"
#include "kernelforge/compiler/RecordedWinners.h"
#include "kernelforge/compiler/Targets.h"
#include "kernelforge/compiler/WeightUses.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/records/Shipped.h"
#include "kernelforge/support/Json.h"
#include "kernelforge/support/Log.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

static constexpr const char *pinnedReason = "written in the module or on the command line";

namespace {

/// What deciding on a kernel takes: found out once, when it is first asked for.
class Facts {
public:
  Facts(KernelOp kernel, const Target &target, int threads, KernelAnalyses &analyses)
      : kernel(kernel), target(target), threads(threads), analyses(analyses) {}

  /// The library call that the kernel is, where it is one.
  const std::optional<LibraryCall> &call() {
    if (!isRead) {
      foundCall = libraryCall(kernel);
      isRead = true;
    }
    return foundCall;
  }

  /// The schedules of generated code.
  const Expected<ScheduleSpace> &space() {
    if (!foundSpace)
      foundSpace = generatorOf(target).scheduleSpace(analyses.of(kernel), target, threads);
    return *foundSpace;
  }

  /// Keys of the records of the kernel: its own and, where it is a library call, that of the
  /// problem by itself, whose kernel differs in names and in the order of arguments at most.
  const std::vector<RecordKey> &keys() {
    if (!foundKeys.empty())
      return foundKeys;
    foundKeys = {recordKey(kernel, target, threads)};
    if (call()) {
      auto weight = cast<RankedTensorType>(kernel.getArgumentTypes()[call()->weight]);
      OwningOpRef<KernelOp> alone = buildMatmulKernel(call()->problem, weight);
      if (RecordKey key = recordKey(*alone, target, threads); !(key == foundKeys.front()))
        foundKeys.push_back(std::move(key));
    }
    return foundKeys;
  }

  KernelOp kernel;

private:
  const Target &target;
  const int threads;
  KernelAnalyses &analyses;
  bool isRead = false; ///< whether `foundCall` says it
  std::optional<LibraryCall> foundCall;
  std::optional<Expected<ScheduleSpace>> foundSpace;
  std::vector<RecordKey> foundKeys;
};

/// What a kernel gets.
struct Decision {
  std::string source, reason;       ///< empty: the kernel has all it needs
  KnobValues schedule = {};         ///< none where a library has no knobs
  const MatmulKernel *variant = {}; ///< null: code is generated
  std::string key = {};             ///< of the record that says so

  std::string variantName() const { return std::string(variant->name()); }
};

/// Decides for each kernel of a module by itself, then takes back what does not go together.
class Planner {
public:
  Planner(ModuleOp module, const Target &target, int64_t threads, const RecordStore *records,
          KernelAnalyses &analyses)
      : module(module), target(target), threads(static_cast<int>(threads)), analyses(analyses),
        recorded(records),
        takesShipped(records &&
                     ShippedRecords::ofProgram().cover(machineKey(target, this->threads))) {}

  Status run() {
    for (auto kernel : module.getOps<KernelOp>()) {
      Planned &one = all.emplace_back(Facts(kernel, target, threads, analyses));
      KF_TRY(one.decision, decide(one.facts));
    }
    KF_CHECK(settleWeights());
    for (Planned &one : all)
      attach(one.facts.kernel, one.decision);
    return {};
  }

private:
  struct Planned {
    explicit Planned(Facts facts) : facts(std::move(facts)) {}
    Facts facts;
    Decision decision;

    /// The argument that another variant reads as it lies in the file; nothing where code is
    /// generated.
    std::optional<unsigned> rowMajorWeight() {
      return decision.variant ? std::optional(facts.call()->weight) : std::nullopt;
    }
  };

  Expected<Decision> decide(Facts &facts);
  static Status completePinned(Facts &facts);
  Expected<Decision> decidePinned(Facts &facts) const;
  Expected<Decision> decideGenerated(Facts &facts);
  std::optional<Decision> ofOwnRecords(Facts &facts, const ScheduleSpace &space);
  static std::optional<Decision> ofShippedRecords(Facts &facts, const ScheduleSpace &space);
  std::optional<Decision> ofNearestRecord(Facts &facts, const ScheduleSpace &space);
  std::optional<Decision> recordedVariant(Facts &facts);
  Status settleWeights();
  static void attach(KernelOp kernel, const Decision &decision);

  ModuleOp module;
  const Target &target;
  int threads;
  KernelAnalyses &analyses;
  RecordedWinners recorded;
  bool takesShipped; ///< there are records of such a machine that come with the program
  std::vector<Planned> all;
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

Expected<Decision> Planner::decide(Facts &facts) {
  KernelOp kernel = facts.kernel;
  if (!kernel.isGenerated())
    return decidePinned(facts);
  if (kernel.getSchedule()) {
    if (!kernel.getScheduleSource()) {
      KF_CHECK(completePinned(facts));
      kernel.setScheduleSource("pinned");
      kernel.setScheduleReason(pinnedReason);
    }
    return Decision{"", ""};
  }
  if (!kernel.getVariant() && !recorded.empty() && facts.call())
    if (std::optional<Decision> decision = recordedVariant(facts))
      return std::move(*decision);
  return decideGenerated(facts);
}

/// A pinned schedule gets the knobs that its writer left open.
Status Planner::completePinned(Facts &facts) {
  KF_TRY(KnobValues pinned, knobsOf(facts.kernel));
  if (!facts.space())
    return tl::unexpected<Error>(facts.space().error());
  pinned = facts.space()->complete(pinned);
  KF_CHECK(facts.space()->check(pinned));
  facts.kernel.setScheduleAttr(scheduleAttr(facts.kernel.getContext(), pinned));
  return {};
}

/// A variant that the module names, or an error.
Expected<Decision> Planner::decidePinned(Facts &facts) const {
  KernelOp kernel = facts.kernel;
  const std::string name = kernel.getVariant()->str();
  const std::string where = kernelName(kernel) + ", variant '" + name + "'";
  Decision decision{kernel.getScheduleSource().value_or("pinned").str(),
                    kernel.getScheduleReason().value_or(pinnedReason).str()};
  if (!facts.call())
    return unusable("variant cannot run the kernel", where,
                    "the kernel is more than one matmul of f32 rows with bias, activation and "
                    "residual, or a dimension of it is 0",
                    "leave out the variant");
  const MatmulProblem &problem = facts.call()->problem;
  Expected<const MatmulKernel *> variant = MatmulRegistry::global().find(name);
  if (!variant)
    return unusable(variant.error().what, where, variant.error().why, variant.error().hint);
  decision.variant = *variant;
  if (Status can = decision.variant->check(problem); !can) {
    can.error().where = where;
    return tl::unexpected<Error>(std::move(can).error());
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
std::optional<Decision> Planner::recordedVariant(Facts &facts) {
  const Expected<ScheduleSpace> &space = facts.space();
  const MatmulRegistry &variants = MatmulRegistry::global();
  auto admits = [&](const Record &record) {
    return record.variant == "generated" ? space && legalSchedule(record, *space)
                                         : canRun(record, variants, facts.call()->problem, threads);
  };
  for (const RecordKey &key : facts.keys()) {
    const auto found = recorded.find(key, admits);
    if (!found)
      continue;
    const Record &record = found->record;
    if (record.variant == "generated")
      return std::nullopt;
    Decision decision{"record",
                      fmt::format("{} won in the record of key {}{}{}", record.variant, key.id(),
                                  found->first ? "" : ", of what can run here", ratioText(record))};
    decision.variant = *variants.find(record.variant);
    decision.key = key.id();
    if (const Expected<KnobValues> schedule = parseKnobs(record.schedule, "records"))
      decision.schedule = *schedule;
    return decision;
  }
  return std::nullopt;
}

/// What this user's records say of the kernel itself.
std::optional<Decision> Planner::ofOwnRecords(Facts &facts, const ScheduleSpace &space) {
  for (const RecordKey &key : facts.keys())
    if (const std::optional<Record> record = recorded.find(key, "generated"))
      if (std::optional<KnobValues> schedule = legalSchedule(*record, space))
        return Decision{"record", "won in the record of key " + key.id() + ratioText(*record),
                        std::move(*schedule)};
  for (const RecordKey &key : facts.keys())
    if (recorded.defaultStays(key))
      return Decision{"analytic", "the records of key " + key.id() + " show nothing better",
                      space.analytic};
  return std::nullopt;
}

/// What records that come with the program say of the kernel itself.
std::optional<Decision> Planner::ofShippedRecords(Facts &facts, const ScheduleSpace &space) {
  for (const RecordKey &key : facts.keys())
    if (const std::optional<Record> record = ShippedRecords::ofProgram().find(key))
      if (std::optional<KnobValues> schedule = legalSchedule(*record, space))
        return Decision{"record",
                        fmt::format("comes with the program, measured on {}{}",
                                    record->key.cpuModel, ratioText(*record)),
                        std::move(*schedule)};
  return std::nullopt;
}

/// What this user's records say of the nearest problem.
std::optional<Decision> Planner::ofNearestRecord(Facts &facts, const ScheduleSpace &space) {
  // The default of another problem is not this one's.
  auto isDefault = [](const Record &record) { return record.scheduleSource == "analytic"; };
  auto admits = [&](const Record &record) {
    return isDefault(record) || legalSchedule(record, space);
  };
  const std::optional<Record> near = recorded.nearestGenerated(facts.keys().front(), admits);
  if (!near)
    return std::nullopt;
  const std::string problem = "for the nearest problem, key " + near->key.id();
  if (isDefault(*near))
    return Decision{"analytic", "nothing better was found " + problem, space.analytic};
  return Decision{"transferred", "won " + problem + ratioText(*near), *legalSchedule(*near, space)};
}

/// A schedule for generated code.
Expected<Decision> Planner::decideGenerated(Facts &facts) {
  if (!facts.space())
    return tl::unexpected<Error>(facts.space().error());
  const ScheduleSpace &space = *facts.space();
  std::optional<Decision> decision;
  if (!recorded.empty())
    decision = ofOwnRecords(facts, space);
  if (!decision && takesShipped)
    decision = ofShippedRecords(facts, space);
  if (!decision && !recorded.empty())
    decision = ofNearestRecord(facts, space);
  return decision ? std::move(*decision) : Decision{"analytic", "no record fits", space.analytic};
}

/// A variant reads its weight as it lies in the file. Where someone else needs it packed, the
/// kernel is generated after all, which may take a weight from the next one.
Status Planner::settleWeights() {
  const WeightUses uses(module);
  auto readsRowMajor = [&](KernelOp kernel, unsigned argument) {
    return llvm::any_of(all, [&](Planned &one) {
      return one.facts.kernel == kernel && one.rowMajorWeight() == argument;
    });
  };
  for (bool changed = true; changed;) {
    changed = false;
    for (Planned &one : all) {
      const std::optional<unsigned> weight = one.rowMajorWeight();
      const std::optional<std::string> why =
          weight ? uses.obstacle(one.facts.kernel, *weight, readsRowMajor) : std::nullopt;
      if (!why)
        continue;
      const std::string name = one.decision.variantName(), key = one.decision.key;
      if (key.empty())
        return unusable("variant cannot run the kernel",
                        kernelName(one.facts.kernel) + ", variant '" + name + "'", *why,
                        "leave out the variant");
      KF_TRY(one.decision, decideGenerated(one.facts));
      one.decision.reason +=
          fmt::format("; {} won in the record of key {}, but {}", name, key, *why);
      changed = true;
    }
  }
  for (Planned &one : all)
    if (const std::optional<unsigned> weight = one.rowMajorWeight())
      if (layoutOf(one.facts.kernel.getArgumentTypes()[*weight])) {
        uses.makeRowMajor(one.facts.kernel, *weight);
        analyses.forget(one.facts.kernel);
      }
  return {};
}

void Planner::attach(KernelOp kernel, const Decision &decision) {
  if (decision.source.empty())
    return;
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
                                    const RecordStore *records, KernelAnalyses &analyses) {
  return Planner(module, target, threads, records, analyses).run();
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
