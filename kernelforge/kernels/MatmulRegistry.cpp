#include "kernelforge/kernels/MatmulRegistry.h"

#include "kernelforge/kernels/MatmulVariants.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
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
  if (find(kernel->name()))
    return unusable("variant cannot be added", std::string(kernel->name()),
                    "there is one of that name already", "give it a name of its own");
  kernels.push_back(std::move(kernel));
  return {};
}

Expected<const MatmulKernel *> MatmulRegistry::find(std::string_view name) const {
  std::vector<std::string_view> names;
  for (const auto &kernel : kernels) {
    if (kernel->name() == name)
      return kernel.get();
    names.push_back(kernel->name());
  }
  return unusable("variant is not known", std::string(name), "there is none of that name",
                  fmt::format("there are {}", fmt::join(names, ", ")));
}

void kernelforge::registerMatmulOrExit(std::unique_ptr<MatmulKernel> kernel) {
  if (Status added = MatmulRegistry::global().add(std::move(kernel)); !added) {
    std::fprintf(stderr, "kernelforge: error: %s\n", added.error().line().c_str());
    std::exit(static_cast<int>(added.error().kind));
  }
}
