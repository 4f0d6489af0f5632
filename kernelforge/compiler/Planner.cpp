#include "kernelforge/compiler/Planner.h"

#include "kernelforge/codegen/cpu/Emit.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/support/Json.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

Status kernelforge::scheduleKernels(ModuleOp module, const CpuTarget &target, int64_t threads) {
  Builder builder(module.getContext());
  for (auto kernel : module.getOps<KernelOp>()) {
    if (kernel.getSchedule()) {
      if (!kernel.getScheduleSource())
        kernel.setScheduleSource("pinned");
      continue;
    }
    KF_TRY(ScheduleAttr schedule, cpu::defaultSchedule(kernel, target, threads));
    kernel.setScheduleAttr(schedule);
    kernel.setScheduleSource("analytic");
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
  KF_TRY(JsonDocument document,
         parseJson(text, "schedule is not usable", where, JsonLimits{64 << 10, 4, 256, 1024}));
  KF_TRY(auto members, document.root().members());
  std::vector<std::pair<std::string, int64_t>> knobs;
  for (const auto &[name, value] : members) {
    KF_TRY(int64_t number, value.asInteger(INT32_MIN, INT32_MAX));
    knobs.emplace_back(name, number);
  }
  return cpu::makeSchedule(context, llvm::map_to_vector(knobs, [](const auto &knob) {
                             return std::pair<StringRef, int64_t>(knob.first, knob.second);
                           }));
}
