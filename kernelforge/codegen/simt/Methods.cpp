#include "kernelforge/codegen/simt/Methods.h"

#include "kernelforge/codegen/CodeGenerator.h"
#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/codegen/simt/Emit.h"

#include <algorithm>
#include <fmt/format.h>
#include <limits>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;

/// The knob that says which method a schedule is of.
static constexpr const char *methodKnob = "method";

Status Plain::supports(const KernelAnalysis &kernel, const Target &target) const {
  return simt::supports(kernel, limitsOf(target));
}

ScheduleSpace Plain::space(const KernelAnalysis &, const Target &) const {
  ScheduleSpace space = fixedSchedule();
  // A second, which is more than any other method expects: it is taken where no other can be.
  space.predict = [](const KnobValues &) { return 1.0; };
  return space;
}

Expected<Launching> Plain::emit(ModuleOp module, const KernelAnalysis &kernel, const Target &target,
                                StringRef entry, const KnobValues &) const {
  return simt::emit(module, kernel, limitsOf(target), entry);
}

std::vector<std::string> Plain::describe(const KernelAnalysis &kernel, const KnobValues &) const {
  return simt::describe(kernel);
}

namespace {

/// A schedule without the knob that says whose it is.
KnobValues ownKnobs(KnobValues schedule) {
  schedule.erase(methodKnob);
  return schedule;
}

/// The methods that support a kernel, with their spaces, by number.
struct Choice {
  int64_t number;
  const Method *method;
  ScheduleSpace space;
};

std::vector<Choice> choicesFor(ArrayRef<const Method *> methods, const KernelAnalysis &kernel,
                               const Target &target) {
  std::vector<Choice> choices;
  for (auto [i, method] : llvm::enumerate(methods))
    if (method->supports(kernel, target))
      choices.push_back({int64_t(i), method, method->space(kernel, target)});
  return choices;
}

/// The number of the method whose usual schedule is expected to take the least time.
int64_t usualMethod(llvm::ArrayRef<Choice> choices) {
  const auto *best =
      std::min_element(choices.begin(), choices.end(), [](const Choice &one, const Choice &other) {
        return one.space.predict(one.space.analytic) < other.space.predict(other.space.analytic);
      });
  return best->number;
}

} // namespace

Status Methods::supports(const KernelAnalysis &kernel, const Target &target) const {
  Status first = plain.supports(kernel, target);
  if (first)
    return first;
  for (const Method *method : ofFamily(kernel.family()))
    if (method != &plain && method->supports(kernel, target))
      return {};
  return first;
}

Expected<ScheduleSpace> Methods::scheduleSpace(const KernelAnalysis &kernel,
                                               const Target &target) const {
  KF_CHECK(supports(kernel, target));
  if (ofFamily(kernel.family()).empty())
    return fixedSchedule();
  const auto choices = std::make_shared<const std::vector<Choice>>(
      choicesFor(ofFamily(kernel.family()), kernel, target));
  const bool isPlain = prefersPlain && prefersPlain(target) && choices->front().method == &plain;
  const int64_t usual = isPlain ? choices->front().number : usualMethod(*choices);
  auto choiceOf = [choices, usual](const KnobValues &values) -> const Choice * {
    auto named = values.find(methodKnob);
    const int64_t number = named == values.end() ? usual : named->second;
    auto found = llvm::find_if(*choices, [&](const Choice &one) { return one.number == number; });
    return found == choices->end() ? nullptr : &*found;
  };
  ScheduleSpace space;
  const Choice &mine = *choiceOf({});
  space.knobs = {{methodKnob, {usual}, fmt::format("how it is computed: {}", mine.method->name())}};
  llvm::append_range(space.knobs, mine.space.knobs);
  space.analytic = mine.space.analytic;
  space.analytic[methodKnob] = usual;
  space.complete = [choiceOf](const KnobValues &values) {
    const Choice *choice = choiceOf(values);
    if (!choice) // check() says what is wrong with it
      return values;
    KnobValues all = choice->space.complete(ownKnobs(values));
    all[methodKnob] = choice->number;
    return all;
  };
  space.check = [choices, choiceOf, where = kernel.name()](const KnobValues &values) -> Status {
    const Choice *choice = values.contains(methodKnob) ? choiceOf(values) : nullptr;
    if (choice)
      return choice->space.check(ownKnobs(values));
    std::string names;
    for (const Choice &one : *choices)
      names += fmt::format("{}{} ({})", names.empty() ? "" : ", ", one.number, one.method->name());
    return unusable("schedule is not legal", where,
                    values.contains(methodKnob)
                        ? fmt::format("{} is {}, which this kernel has not on this target",
                                      methodKnob, values.at(methodKnob))
                        : fmt::format("knob '{}' is missing", methodKnob),
                    "use one of " + names);
  };
  space.predict = [choiceOf](const KnobValues &values) {
    const Choice *choice = choiceOf(values);
    return choice ? choice->space.predict(ownKnobs(values))
                  : std::numeric_limits<double>::infinity();
  };
  space.orderClass = [choiceOf](const KnobValues &values) {
    const Choice *choice = choiceOf(values);
    return choice ? fmt::format("{}{}", choice->method->name(),
                                choice->space.orderClass(ownKnobs(values)))
                  : std::string();
  };
  return space;
}

/// The schedule that a kernel has, or else the usual one, checked.
Expected<KnobValues> Methods::scheduleOf(const KernelAnalysis &kernel, const Target &target) const {
  KF_TRY(KnobValues values, knobsOf(kernel.kernel()));
  KF_TRY(const ScheduleSpace space, scheduleSpace(kernel, target));
  if (values.empty())
    return space.analytic;
  KF_CHECK(space.check(values));
  return values;
}

Expected<Launching> Methods::emit(ModuleOp module, const KernelAnalysis &kernel,
                                  const Target &target, StringRef entry) const {
  const auto methods = ofFamily(kernel.family());
  if (methods.empty())
    return plain.emit(module, kernel, target, entry, {});
  KF_TRY(const KnobValues values, scheduleOf(kernel, target));
  const Method &method = *methods[static_cast<size_t>(values.at(methodKnob))];
  return method.emit(module, kernel, target, entry, ownKnobs(values));
}

std::vector<std::string> Methods::describe(const KernelAnalysis &kernel,
                                           const Target &target) const {
  const auto methods = ofFamily(kernel.family());
  const auto values =
      methods.empty() ? KnobValues() : scheduleOf(kernel, target).value_or(KnobValues());
  if (values.empty())
    return simt::describe(kernel);
  return methods[static_cast<size_t>(values.at(methodKnob))]->describe(kernel, ownKnobs(values));
}
