// What the loaders of weight files have in common: named tensors as they lie in a mapped file.
#pragma once

#include "kernelforge/support/ElementType.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace kernelforge {

/// Items with a `name`, in order of addition, found by name in constant time.
template <typename T> class NamedList {
public:
  /// False, and nothing is added, where the name is taken.
  bool add(T item) {
    if (!places.emplace(item.name, items.size()).second)
      return false;
    items.push_back(std::move(item));
    return true;
  }
  const T *find(std::string_view name) const {
    auto place = places.find(name);
    return place == places.end() ? nullptr : &items[place->second];
  }
  size_t size() const { return items.size(); }
  bool empty() const { return items.empty(); }
  auto begin() const { return items.begin(); }
  auto end() const { return items.end(); }
  const T &operator[](size_t index) const { return items[index]; }

private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  std::vector<T> items;
  std::unordered_map<std::string, size_t, Hash, std::equal_to<>> places;
};

/// A tensor of a file. Its byte count was checked against type and shape; the bytes belong to the
/// mapping, may begin at any address and are little-endian, row-major.
struct StoredTensor {
  std::string name;
  std::string typeName;            ///< as the file's format calls it: "Q6_K", "I64"
  std::optional<ElementType> type; ///< nothing: a type that we cannot compute with
  std::vector<int64_t> shape;      ///< outermost dimension first
  std::span<const std::byte> bytes;
};

/// A weight of a model under its canonical name (see ModelDescription), of a supported type and of
/// the shape that its place in the model asks for.
struct Weight {
  std::string name;
  ElementType type = ElementType::F32;
  std::vector<int64_t> shape; ///< outermost first: [out, in] for a matrix
  std::span<const std::byte> bytes;
  std::string fileName = {}; ///< what its file calls it; empty where it comes from none
};

/// "[49152, 576]"
std::string printShape(std::span<const int64_t> shape);

/// What the error lines of every loader begin with.
inline constexpr std::string_view modelFileError = "model file is not usable";

} // namespace kernelforge
