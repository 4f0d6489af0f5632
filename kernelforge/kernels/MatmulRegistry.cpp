#include "kernelforge/kernels/MatmulRegistry.h"

#include "kernelforge/kernels/MatmulVariants.h"
#include "kernelforge/support/Suggest.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>

using namespace kernelforge;

MatmulRegistry &MatmulRegistry::global() {
  static MatmulRegistry registry = [] {
    MatmulRegistry builtin;
    for (auto make : {makeReferenceMatmul, makeBlockedMatmul, makeParallelMatmul,
                      makeOpenBlasMatmul, makeMklMatmul, makeOneDnnMatmul})
      builtin.kernels.push_back(make());
    return builtin;
  }();
  return registry;
}

Status MatmulRegistry::add(std::unique_ptr<MatmulKernel> kernel) {
  if (std::ranges::any_of(kernels, [&](const auto &k) { return k->name() == kernel->name(); }))
    return unusable("variant cannot be added", std::string(kernel->name()),
                    "there is one of that name already", "give it a name of its own");
  kernels.push_back(std::move(kernel));
  return {};
}

void MatmulRegistry::addBeforeMain(std::unique_ptr<MatmulKernel> kernel) {
  std::string name(kernel->name());
  if (!add(std::move(kernel)))
    disputed.push_back(std::move(name));
}

Expected<const MatmulKernel *> MatmulRegistry::find(std::string_view name) const {
  if (std::ranges::find(disputed, name) != disputed.end())
    return unusable("variant is not known", std::string(name), "two variants claim this name",
                    "give one of them another");
  std::vector<std::string> names;
  for (const auto &kernel : kernels) {
    if (kernel->name() == name)
      return kernel.get();
    names.emplace_back(kernel->name());
  }
  const std::string guess = didYouMean(name, names);
  return unusable(
      "variant is not known", std::string(name), "there is none of that name",
      fmt::format("{}there are {}", guess.empty() ? "" : guess + " ", fmt::join(names, ", ")));
}
