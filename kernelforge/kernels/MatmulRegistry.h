// The variants of matmul that this process has, by name.
#pragma once

#include "kernelforge/kernels/MatmulKernel.h"

#include <span>

namespace kernelforge {

/// Variants in the order in which they were added. Add before threads look. A copy shares them, and
/// may get more of its own.
class MatmulRegistry {
public:
  /// The process's registry: the built-in variants, then what has been added to it. A library call
  /// may name any of them, so what compiles is none of them.
  static MatmulRegistry &global();

  /// Unusable where a variant of that name is there already.
  Status add(std::unique_ptr<MatmulKernel> kernel);

  /// As add(), where nobody would see an error: a name that two claim is refused by find().
  void addBeforeMain(std::unique_ptr<MatmulKernel> kernel);

  /// The variant of a name. Unusable, with the names that there are, where there is none.
  Expected<const MatmulKernel *> find(std::string_view name) const;

  std::span<const std::shared_ptr<MatmulKernel>> all() const { return kernels; }

private:
  std::vector<std::shared_ptr<MatmulKernel>> kernels;
  std::vector<std::string> disputed; ///< names that addBeforeMain() found taken
};

/// Adds a variant to the global registry before main: `const RegisterMatmul<MyMatmul> added;` in a
/// source file of a program. (An object file of a static library is linked only where something
/// refers to it, so the built-in variants are a list: MatmulVariants.h.)
template <typename Kernel> struct RegisterMatmul {
  RegisterMatmul() { MatmulRegistry::global().addBeforeMain(std::make_unique<Kernel>()); }
};

} // namespace kernelforge
