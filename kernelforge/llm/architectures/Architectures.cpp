#include "kernelforge/llm/architectures/Architecture.h"

namespace kernelforge {

#define FAMILY(NAME) const Architecture &NAME##Architecture();
#include "kernelforge/llm/architectures/Architectures.def"
#undef FAMILY

std::span<const Architecture *const> architectures() {
  static const Architecture *const all[] = {
#define FAMILY(NAME) &NAME##Architecture(),
#include "kernelforge/llm/architectures/Architectures.def"
#undef FAMILY
  };
  return all;
}

const Architecture *findArchitecture(std::string_view name) {
  for (const Architecture *architecture : architectures())
    if (architecture->name() == name)
      return architecture;
  return nullptr;
}

} // namespace kernelforge
