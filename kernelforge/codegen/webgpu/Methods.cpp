#include "kernelforge/codegen/webgpu/Methods.h"

#include "kernelforge/codegen/CodeGenerator.h"
#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/codegen/simt/Emit.h"

#include <fmt/format.h>
#include <limits>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::webgpu;

/// The knob that says which method a schedule is of.
static constexpr const char *methodKnob = "method";

namespace {

/// Scalar code, which any GPU runs (codegen/simt).
class Plain final : public Method {
public:
  std::string_view name() const override { return "plain"; }

  Status supports(const KernelAnalysis &kernel, const Target &target) const override {
    return simt::supports(kernel, target.limits);
  }

  ScheduleSpace space(const KernelAnalysis &, const Target &) const override {
    ScheduleSpace space = fixedSchedule();
    // A second, which is more than any other method expects: it is taken where no other can be.
    space.predict = [](const KnobValues &) { return 1.0; };
    return space;
  }

  Expected<Launching> emit(ModuleOp module, const KernelAnalysis &kernel, const Target &target,
                           StringRef entry, const KnobValues &) const override {
    return simt::emit(module, kernel, target.limits, entry);
  }

  std::vector<std::string> describe(const KernelAnalysis &kernel,
                                    const KnobValues &) const override {
    return simt::describe(kernel);
  }
};

const Plain plain;

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

std::vector<Choice> choicesFor(const KernelAnalysis &kernel, const Target &target) {
  std::vector<Choice> choices;
  for (auto [i, method] : llvm::enumerate(methodsOf(kernel.family())))
    if (method->supports(kernel, target))
      choices.push_back({int64_t(i), method, method->space(kernel, target)});
  return choices;
}

/// The number of the method whose usual schedule is expected to take the least time. A processor in
/// the place of a GPU, which is what says how many workers it has, runs plain code where it can: it
/// pays for each barrier, and for compiling what is written out.
int64_t usualMethod(llvm::ArrayRef<Choice> choices, const Target &target) {
  if (target.limits.workers > 0 && choices.front().method == &plain)
    return choices.front().number;
  const auto *best =
      std::min_element(choices.begin(), choices.end(), [](const Choice &one, const Choice &other) {
        return one.space.predict(one.space.analytic) < other.space.predict(other.space.analytic);
      });
  return best->number;
}

} // namespace

ArrayRef<const Method *> webgpu::methodsOf(KernelFamily family) {
  static const Method *const matmuls[] = {&plain, &matmulTiles(), &matmulMatrices(), &matmulRows()};
  static const Method *const attentions[] = {&plain, &attentionSplit(), &attentionTiles(),
                                             &attentionMatrices()};
  static const Method *const rowwises[] = {&plain, &rowwiseQuads()};
  switch (family) {
  case KernelFamily::Matmul:
    return matmuls;
  case KernelFamily::Attention:
    return attentions;
  case KernelFamily::Rowwise:
    return rowwises;
  case KernelFamily::Step:
    return {};
  }
  llvm_unreachable("a family without methods");
}

Status webgpu::supports(const KernelAnalysis &kernel, const Target &target) {
  Status first = plain.supports(kernel, target);
  if (first)
    return first;
  for (const Method *method : methodsOf(kernel.family()))
    if (method != &plain && method->supports(kernel, target))
      return {};
  return first;
}

Expected<ScheduleSpace> webgpu::scheduleSpace(const KernelAnalysis &kernel, const Target &target) {
  KF_CHECK(webgpu::supports(kernel, target));
  if (methodsOf(kernel.family()).empty())
    return fixedSchedule();
  const auto choices = std::make_shared<const std::vector<Choice>>(choicesFor(kernel, target));
  const int64_t usual = usualMethod(*choices, target);
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
static Expected<KnobValues> scheduleOf(const KernelAnalysis &kernel, const Target &target) {
  KF_TRY(KnobValues values, knobsOf(kernel.kernel()));
  KF_TRY(const ScheduleSpace space, webgpu::scheduleSpace(kernel, target));
  if (values.empty())
    return space.analytic;
  KF_CHECK(space.check(values));
  return values;
}

Expected<Launching> webgpu::emit(ModuleOp module, const KernelAnalysis &kernel,
                                 const Target &target, StringRef entry) {
  const auto methods = methodsOf(kernel.family());
  if (methods.empty())
    return simt::emit(module, kernel, target.limits, entry);
  KF_TRY(const KnobValues values, scheduleOf(kernel, target));
  const Method &method = *methods[static_cast<size_t>(values.at(methodKnob))];
  return method.emit(module, kernel, target, entry, ownKnobs(values));
}

std::vector<std::string> webgpu::describe(const KernelAnalysis &kernel, const Target &target) {
  const auto methods = methodsOf(kernel.family());
  const auto values =
      methods.empty() ? KnobValues() : scheduleOf(kernel, target).value_or(KnobValues());
  if (values.empty())
    return simt::describe(kernel);
  return methods[static_cast<size_t>(values.at(methodKnob))]->describe(kernel, ownKnobs(values));
}
