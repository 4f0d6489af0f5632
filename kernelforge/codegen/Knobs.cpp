#include "kernelforge/codegen/Knobs.h"

#include "kernelforge/support/Suggest.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

std::string kernelforge::kernelName(KernelOp kernel) { return "@" + kernel.getSymName().str(); }

ScheduleAttr kernelforge::scheduleAttr(MLIRContext *context, const KnobValues &values) {
  Builder builder(context);
  NamedAttrList attributes;
  for (const auto &[name, value] : values)
    attributes.set(name, builder.getI64IntegerAttr(value));
  return ScheduleAttr::get(context, attributes.getDictionary(context));
}

Expected<KnobValues> kernelforge::knobsOf(KernelOp kernel) {
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

Expected<int64_t> kernelforge::KnobReader::get(StringRef name, const KnobLimit &limit) const {
  const auto found = values.find(name.str());
  if (found == values.end())
    return tl::unexpected(limit.lacking(where, name.str()));
  KF_CHECK(limit.check(where, name.str(), found->second));
  return found->second;
}

Status kernelforge::KnobReader::checkNames(ArrayRef<StringRef> names) const {
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
