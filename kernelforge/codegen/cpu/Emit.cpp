#include "kernelforge/codegen/cpu/Emit.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

namespace {

std::string text(StringRef name) { return name.str(); }

/// The multiple of `multipleOf` in [min, max] nearest to `value`.
int64_t nearestLegal(int64_t value, int64_t min, int64_t max, int64_t multipleOf) {
  const int64_t low = (min + multipleOf - 1) / multipleOf * multipleOf;
  const int64_t high = std::max(low, max / multipleOf * multipleOf);
  const int64_t inside = std::clamp(value, low, high);
  const int64_t down = inside / multipleOf * multipleOf;
  return inside - down <= multipleOf / 2 || down + multipleOf > high ? std::max(down, low)
                                                                     : down + multipleOf;
}

} // namespace

std::string cpu::kernelName(KernelOp kernel) { return "@" + kernel.getSymName().str(); }

ScheduleAttr cpu::makeSchedule(MLIRContext *context,
                               ArrayRef<std::pair<StringRef, int64_t>> knobs) {
  Builder builder(context);
  NamedAttrList attributes;
  for (const auto &[name, value] : knobs)
    attributes.set(name, builder.getI64IntegerAttr(value));
  return ScheduleAttr::get(context, attributes.getDictionary(context));
}

Expected<int64_t> cpu::knob(KernelOp kernel, StringRef name, int64_t min, int64_t max,
                            int64_t multipleOf) {
  const std::string where = kernelName(kernel) + ", knob " + text(name);
  auto refuse = [&](std::string why, std::string hint) {
    return unusable("schedule is not legal", where, std::move(why), std::move(hint));
  };
  const std::string limit =
      multipleOf == 1 ? fmt::format("from {} to {}", min, max)
                      : fmt::format("a multiple of {} from {} to {}", multipleOf, min, max);
  ScheduleAttr schedule = kernel.getScheduleAttr();
  Attribute attribute = schedule ? schedule.getKnobs().get(name) : Attribute();
  if (!attribute)
    return refuse("the schedule does not give it", "give an integer " + limit);
  auto integer = dyn_cast<IntegerAttr>(attribute);
  if (!integer || !integer.getValue().isSignedIntN(64)) {
    std::string printed;
    llvm::raw_string_ostream(printed) << attribute;
    return refuse(printed + " is no integer", "give an integer " + limit);
  }
  const int64_t value = integer.getValue().getSExtValue();
  if (value < min || value > max || value % multipleOf != 0)
    return refuse(
        fmt::format("it is {}, but must be {}", value, limit),
        fmt::format("the nearest legal value is {}", nearestLegal(value, min, max, multipleOf)));
  return value;
}

Status cpu::checkKnobNames(KernelOp kernel, ArrayRef<StringRef> names) {
  ScheduleAttr schedule = kernel.getScheduleAttr();
  if (!schedule)
    return {};
  for (NamedAttribute entry : schedule.getKnobs())
    if (!llvm::is_contained(names, entry.getName().getValue())) {
      std::vector<std::string> known(names.size());
      llvm::transform(names, known.begin(), text);
      return unusable("schedule is not legal",
                      kernelName(kernel) + ", knob " + text(entry.getName().getValue()),
                      "kernels of this family have no such knob",
                      fmt::format("known: {}", fmt::join(known, ", ")));
    }
  return {};
}

Expected<ScheduleAttr> cpu::defaultSchedule(KernelOp kernel, const CpuTarget &target,
                                            int64_t threads) {
  StringRef family = kernel.getFamily();
  if (family == "matmul")
    return matmul::defaultSchedule(kernel, target, threads);
  if (family == "attention")
    return attention::defaultSchedule(kernel, target, threads);
  return rowwise::defaultSchedule(kernel, target, threads);
}

Expected<Launching> cpu::emitKernel(ModuleOp module, KernelOp kernel, const CpuTarget &target,
                                    StringRef entry) {
  StringRef family = kernel.getFamily();
  if (family == "matmul")
    return matmul::emit(module, kernel, target, entry);
  if (family == "attention")
    return attention::emit(module, kernel, target, entry);
  return rowwise::emit(module, kernel, target, entry);
}
