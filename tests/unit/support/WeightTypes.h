// Types of weights, for tests that go through all that there are.
#pragma once

#include "kernelforge/support/ElementType.h"

#include <string>
#include <vector>

namespace kernelforge {

/// All but integers.
inline std::vector<ElementType> weightTypes() {
  std::vector<ElementType> types;
  for (const ElementTypeInfo &t : elementTypes())
    if (t.type != ElementType::I32)
      types.push_back(t.type);
  return types;
}

inline std::vector<ElementType> quantizedWeightTypes() {
  std::vector<ElementType> types;
  for (const ElementTypeInfo &t : elementTypes())
    if (t.isQuantized())
      types.push_back(t.type);
  return types;
}

/// The same by their names.
inline std::vector<std::string> quantizedTypeNames() {
  std::vector<std::string> names;
  for (const ElementType type : quantizedWeightTypes())
    names.emplace_back(info(type).name);
  return names;
}

/// Whether what scales are multiplied with are whole numbers, of a type by its name.
inline bool hasIntegers(const std::string &name) {
  const auto type = elementTypeByName(name);
  return type && info(*type).hasIntegers();
}

} // namespace kernelforge
