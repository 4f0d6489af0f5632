#include "kernelforge/codegen/cpu/Knobs.h"

#include "kernelforge/support/Suggest.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;
using namespace kernelforge::transformer;

/// The multiple of `multipleOf` in [min, max] nearest to `value`.
static int64_t nearestLegal(int64_t value, int64_t min, int64_t max, int64_t multipleOf) {
  const int64_t low = (min + multipleOf - 1) / multipleOf * multipleOf;
  const int64_t high = std::max(low, max / multipleOf * multipleOf);
  const int64_t inside = std::clamp(value, low, high);
  const int64_t down = inside / multipleOf * multipleOf;
  return inside - down <= multipleOf / 2 || down + multipleOf > high ? std::max(down, low)
                                                                     : down + multipleOf;
}

std::string cpu::kernelName(KernelOp kernel) { return "@" + kernel.getSymName().str(); }

ScheduleAttr cpu::scheduleAttr(MLIRContext *context, const KnobValues &values) {
  Builder builder(context);
  NamedAttrList attributes;
  for (const auto &[name, value] : values)
    attributes.set(name, builder.getI64IntegerAttr(value));
  return ScheduleAttr::get(context, attributes.getDictionary(context));
}

Expected<KnobValues> cpu::knobsOf(KernelOp kernel) {
  KnobValues values;
  ScheduleAttr schedule = kernel.getScheduleAttr();
  if (!schedule)
    return values;
  for (NamedAttribute knob : schedule.getKnobs()) {
    auto integer = dyn_cast<IntegerAttr>(knob.getValue());
    if (!integer || !integer.getValue().isSignedIntN(64)) {
      std::string printed;
      llvm::raw_string_ostream(printed) << knob.getValue();
      return unusable("schedule is not legal",
                      kernelName(kernel) + ", knob " + knob.getName().str(),
                      printed + " is no integer", "give an integer");
    }
    values[knob.getName().str()] = integer.getValue().getSExtValue();
  }
  return values;
}

Expected<int64_t> KnobReader::get(StringRef name, int64_t min, int64_t max,
                                  int64_t multipleOf) const {
  const std::string place = where + ", knob " + name.str();
  const std::string limit =
      multipleOf == 1 ? fmt::format("from {} to {}", min, max)
                      : fmt::format("a multiple of {} from {} to {}", multipleOf, min, max);
  const auto found = values.find(name.str());
  if (found == values.end())
    return unusable("schedule is not legal", place, "the schedule does not give it",
                    "give an integer " + limit);
  const int64_t value = found->second;
  if (value < min || value > max || value % multipleOf != 0)
    return unusable(
        "schedule is not legal", place, fmt::format("it is {}, but must be {}", value, limit),
        fmt::format("the nearest legal value is {}", nearestLegal(value, min, max, multipleOf)));
  return value;
}

Status KnobReader::checkNames(ArrayRef<StringRef> names) const {
  for (const auto &[name, value] : values)
    if (!llvm::is_contained(names, name)) {
      std::vector<std::string> known;
      for (StringRef each : names)
        known.push_back(each.str());
      return unusable("schedule is not legal", where + ", knob " + name,
                      "kernels of this family have no such knob", namesHint(name, known));
    }
  return {};
}

std::pair<int64_t, int64_t> cpu::rowsRange(KernelOp kernel, Type type) {
  auto tensor = cast<RankedTensorType>(type);
  for (unsigned i = 0; i < kernel.getNumSizes(); ++i)
    if (kernel.getSize(i).getName().getValue() == rowsSizeName(tensor))
      return {kernel.getSize(i).getMin(), kernel.getSize(i).getMax()};
  return {tensor.getDimSize(0), tensor.getDimSize(0)};
}

std::pair<int64_t, int64_t> cpu::plannedRows(KernelOp kernel, Type type) {
  constexpr int64_t most = int64_t(1) << 30;
  const auto [least, largest] = rowsRange(kernel, type);
  return {std::min(least, most), std::min(largest, most)};
}
