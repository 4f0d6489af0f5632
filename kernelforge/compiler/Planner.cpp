#include "kernelforge/compiler/Planner.h"

#include "kernelforge/codegen/cpu/Emit.h"
#include "kernelforge/codegen/cpu/Knobs.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/support/Json.h"

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

Status kernelforge::scheduleKernels(ModuleOp module, const CpuTarget &target, int64_t threads) {
  for (auto kernel : module.getOps<KernelOp>()) {
    if (kernel.getSchedule()) {
      if (!kernel.getScheduleSource()) {
        KF_CHECK(completePinned(kernel, target, threads));
        kernel.setScheduleSource("pinned");
      }
      continue;
    }
    KF_TRY(ScheduleSpace space, cpu::scheduleSpace(kernel, target, threads));
    kernel.setScheduleAttr(cpu::scheduleAttr(kernel.getContext(), space.analytic));
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
  KF_TRY(KnobValues values, parseKnobs(text, where));
  return cpu::scheduleAttr(context, values);
}
