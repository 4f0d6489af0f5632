// GGUF files, versions 2 and 3, little-endian: metadata and tensors, every number checked before it
// is used. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include "kernelforge/llm/WeightFile.h"
#include "kernelforge/support/Error.h"
#include "kernelforge/support/MappedFile.h"

#include <variant>

namespace kernelforge {

/// Value types of the format, with its numbers.
enum class GgufType : uint32_t {
  U8 = 0,
  I8 = 1,
  U16 = 2,
  I16 = 3,
  U32 = 4,
  I32 = 5,
  F32 = 6,
  Bool = 7,
  String = 8,
  Array = 9,
  U64 = 10,
  I64 = 11,
  F64 = 12
};

/// An array as it lies in the file: `count` elements, for strings each with its length before it.
struct GgufArray {
  GgufType elementType;
  uint64_t count;
  std::span<const std::byte> bytes;
};

/// One metadata entry. Integers keep their sign; text and arrays belong to the mapping.
struct GgufEntry {
  std::string name;
  GgufType type;
  std::variant<uint64_t, int64_t, double, bool, std::string_view, GgufArray> value;
};

/// The metadata of a file, read by type: a value of another type than the one asked for is an
/// error, an absent key is an empty optional. Integers of any width serve an integer getter, and
/// all numbers one of numbers. Limits are inclusive. Errors are Unusable and name file, key, value
/// and limit.
class GgufMetadata {
public:
  GgufMetadata() = default;
  explicit GgufMetadata(std::string where) : where(std::move(where)) {}

  const GgufEntry *find(std::string_view key) const { return entries.find(key); }
  const NamedList<GgufEntry> &all() const { return entries; }
  bool add(GgufEntry entry) { return entries.add(std::move(entry)); }

  Expected<std::optional<int64_t>> integer(std::string_view key, int64_t low, int64_t high) const;
  Expected<std::optional<double>> number(std::string_view key, double low, double high) const;
  Expected<std::optional<bool>> boolean(std::string_view key) const;
  Expected<std::optional<std::string>> string(std::string_view key, uint64_t maxBytes) const;
  /// Each at most `maxBytes` bytes of valid UTF-8.
  Expected<std::optional<std::vector<std::string>>> strings(std::string_view key,
                                                            uint64_t maxBytes) const;
  /// Booleans are 0 and 1.
  Expected<std::optional<std::vector<int64_t>>> integers(std::string_view key, int64_t low,
                                                         int64_t high) const;
  /// Of any type, also such that are not finite.
  Expected<std::optional<std::vector<double>>> numbers(std::string_view key) const;

  /// An error about a key: "model file is not usable (FILE, key KEY): why".
  tl::unexpected<Error> error(std::string_view key, std::string why, std::string hint = "") const;

private:
  std::string where;
  NamedList<GgufEntry> entries;
};

/// One parsed file; its views point into the bytes that were parsed.
struct GgufContents {
  uint32_t version = 0;
  uint64_t alignment = 32;
  GgufMetadata metadata;
  NamedList<StoredTensor> tensors;
};

/// Parses the bytes of a whole file. `where` names it in errors, which are Unusable and carry the
/// offset. Tensors of types that exist in ggml but not in ElementType are listed without a type.
Expected<GgufContents> parseGguf(std::span<const std::byte> file, const std::string &where);

/// A model in one file or in the shards NAME-00001-of-0000N.gguf.
struct GgufModel {
  std::vector<MappedFile> files;
  GgufMetadata metadata; ///< of the first file
  NamedList<StoredTensor> tensors;
};

/// Maps and parses the file at `path`; where its metadata says that it is a shard of several, it
/// must be the first, and the others are opened from the same folder.
Expected<GgufModel> openGguf(const std::string &path);

} // namespace kernelforge
