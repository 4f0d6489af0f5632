// NumPy's .npy files: how tensors come from and go to whoever wants to check us.
#pragma once

#include "kernelforge/support/Error.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge {

enum class NpyType : uint8_t { F16, F32, F64, U8, U16, I32, I64 };

/// Bytes of one element, and its name as users know it ("float32").
uint64_t elementBytes(NpyType type);
std::string_view npyTypeName(NpyType type);

/// An array in C order, little-endian.
struct NpyArray {
  NpyType type = NpyType::F32;
  std::vector<uint64_t> shape; ///< outermost first; empty: one element
  std::vector<std::byte> data; ///< exactly as many bytes as type and shape say

  /// Product of the shape; it cannot overflow in an array that was read.
  uint64_t elements() const;
};

/// Limits of what is read; beyond them a file is taken for damaged.
namespace npyLimits {
inline constexpr uint64_t dimensions = 8;
inline constexpr uint64_t headerBytes = 1u << 16;
} // namespace npyLimits

/// Reads a file's bytes; `where` names it. Unusable, saying what is wrong, where they are no .npy
/// of version 1 to 3 with a type above, in C order, with exactly the bytes that its shape asks for.
Expected<NpyArray> parseNpy(std::span<const std::byte> bytes, const std::string &where);

/// The same from a file.
Expected<NpyArray> readNpy(const std::string &path);

/// Writes a file, whole or not at all. `data` holds the array's bytes. Failed where it cannot be
/// written.
Status writeNpy(const std::filesystem::path &path, NpyType type, std::span<const uint64_t> shape,
                std::span<const std::byte> data);

} // namespace kernelforge
