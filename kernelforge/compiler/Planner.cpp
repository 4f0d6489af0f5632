#include "kernelforge/compiler/Planner.h"

#include "kernelforge/codegen/cpu/Emit.h"
#include "kernelforge/ir/Transformer.h"

#include <nlohmann/json.hpp>

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
      if (auto integer = dyn_cast<IntegerAttr>(knob.getValue()))
        json[name] = integer.getInt();
      else if (auto text = dyn_cast<StringAttr>(knob.getValue()))
        json[name] = text.getValue().str();
    }
  return json.dump();
}
