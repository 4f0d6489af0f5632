#include "kernelforge/compiler/Planner.h"

#include "kernelforge/codegen/cpu/Emit.h"
#include "kernelforge/codegen/cpu/Knobs.h"
#include "kernelforge/compiler/RecordKeys.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/support/Json.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

/// A pinned schedule with the knobs that its writer left open.
static Status completePinned(KernelOp kernel, const CpuTarget &target, int64_t threads) {
  KF_TRY(KnobValues pinned, cpu::knobsOf(kernel));
  KF_TRY(ScheduleSpace space, cpu::scheduleSpace(kernel, target, threads));
  pinned = space.complete(pinned);
  KF_CHECK(space.check(pinned));
  kernel.setScheduleAttr(cpu::scheduleAttr(kernel.getContext(), pinned));
  return {};
}

namespace {

/// What the records say about the kernels of one module.
class RecordedSchedules {
public:
  explicit RecordedSchedules(const RecordStore *store) {
    if (!store)
      return;
    if (Expected<BestTable> best = store->best())
      table = std::move(*best);
    else
      spdlog::warn("{}; going on without records", best.error().line());
  }

  struct Found {
    KnobValues schedule;
    std::string source, reason;
  };

  /// A legal schedule from the records of `key`, or of the nearest problem.
  std::optional<Found> find(const RecordKey &key, const ScheduleSpace &space) {
    if (table.size() == 0)
      return std::nullopt;
    if (std::optional<Record> record = table.find(key, "generated"))
      if (auto found = legal(*record, space, "record", "won in the record of key " + key.id()))
        return found;
    if (winners.empty())
      winners = table.records("generated");
    if (std::optional<Choice> near = nearest(winners, key))
      return legal(near->record, space, "transferred",
                   "won for the nearest problem, key " + near->record.key.id());
    return std::nullopt;
  }

private:
  static std::optional<Found> legal(const Record &record, const ScheduleSpace &space,
                                    std::string source, std::string reason) {
    Expected<KnobValues> schedule = parseKnobs(record.schedule, "records");
    if (!schedule || !space.check(*schedule))
      return std::nullopt;
    if (record.ratio)
      reason += fmt::format(": {:.3f} of its baseline's time", *record.ratio);
    return Found{std::move(*schedule), std::move(source), std::move(reason)};
  }

  BestTable table;
  std::vector<Record> winners;
};

} // namespace

Status kernelforge::scheduleKernels(ModuleOp module, const CpuTarget &target, int64_t threads,
                                    const RecordStore *records) {
  RecordedSchedules recorded(records);
  for (auto kernel : module.getOps<KernelOp>()) {
    if (kernel.getSchedule()) {
      if (!kernel.getScheduleSource()) {
        KF_CHECK(completePinned(kernel, target, threads));
        kernel.setScheduleSource("pinned");
        kernel.setScheduleReason("written in the module or on the command line");
      }
      continue;
    }
    KF_TRY(ScheduleSpace space, cpu::scheduleSpace(kernel, target, threads));
    RecordedSchedules::Found chosen{space.analytic, "analytic", "no record fits"};
    if (auto found = recorded.find(recordKey(kernel, target, static_cast<int>(threads)), space))
      chosen = std::move(*found);
    kernel.setScheduleAttr(cpu::scheduleAttr(kernel.getContext(), chosen.schedule));
    kernel.setScheduleSource(chosen.source);
    kernel.setScheduleReason(chosen.reason);
    spdlog::info("kernel @{}: {} schedule ({})", kernel.getSymName().str(), chosen.source,
                 chosen.reason);
  }
  return {};
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
  return cpu::scheduleAttr(context, values);
}
