#include "kernelforge/llm/Gguf.h"

#include "kernelforge/support/CheckedArithmetic.h"
#include "kernelforge/support/Utf8.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <limits>

namespace kernelforge {

namespace {

constexpr uint64_t maxKeyBytes = 65535;
constexpr uint64_t maxStringBytes = 64u << 20; // a whole tokenizer.json is the longest known
constexpr uint64_t maxTensorNameBytes = 64;
constexpr uint64_t maxEntries = 1u << 16;
constexpr uint64_t maxTensors = 1u << 20;
constexpr uint32_t minAlignment = 8, maxAlignment = 65536;
constexpr uint32_t maxDimensions = 4;
// The least that an entry takes: a key's length and a value type; a name's length, a dimension
// count, a type and an offset.
constexpr uint64_t minEntryBytes = 12, minTensorBytes = 24;

/// ggml's types that ElementType does not have: sizes are checked, computing is refused.
struct ForeignType {
  uint32_t id;
  std::string_view name;
  uint64_t blockElements, blockBytes;
};
constexpr std::array<ForeignType, 17> foreignTypes = {{
    {9, "Q8_1", 32, 36},
    {15, "Q8_K", 256, 292},
    {16, "IQ2_XXS", 256, 66},
    {17, "IQ2_XS", 256, 74},
    {18, "IQ3_XXS", 256, 98},
    {19, "IQ1_S", 256, 50},
    {21, "IQ3_S", 256, 110},
    {22, "IQ2_S", 256, 82},
    {24, "I8", 1, 1},
    {25, "I16", 1, 2},
    {27, "I64", 1, 8},
    {28, "F64", 1, 8},
    {29, "IQ1_M", 256, 56},
    {34, "TQ1_0", 256, 54},
    {35, "TQ2_0", 256, 66},
    {40, "NVFP4", 64, 36},
    {41, "Q1_0", 128, 18},
}};
constexpr std::array<uint32_t, 8> removedTypes = {4, 5, 31, 32, 33, 36, 37, 38};

std::string_view typeName(GgufType type) {
  constexpr std::array<std::string_view, 13> names = {
      "a u8",   "an i8",    "a u16",    "an i16", "a u32",  "an i32", "an f32",
      "a bool", "a string", "an array", "a u64",  "an i64", "an f64"};
  return names[static_cast<size_t>(type)];
}

/// Bytes of a scalar of the type; 0 for strings and arrays.
uint64_t scalarBytes(GgufType type) {
  constexpr std::array<uint8_t, 13> sizes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return sizes[static_cast<size_t>(type)];
}

template <typename T> T loadAt(const std::byte *from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

using Scalar = decltype(GgufEntry::value);

/// The scalar at `from`, whose bytes are known to be there. A bool byte is taken as it is.
Scalar loadScalar(GgufType type, const std::byte *from) {
  switch (type) {
  case GgufType::U8:
    return uint64_t{loadAt<uint8_t>(from)};
  case GgufType::I8:
    return int64_t{loadAt<int8_t>(from)};
  case GgufType::U16:
    return uint64_t{loadAt<uint16_t>(from)};
  case GgufType::I16:
    return int64_t{loadAt<int16_t>(from)};
  case GgufType::U32:
    return uint64_t{loadAt<uint32_t>(from)};
  case GgufType::I32:
    return int64_t{loadAt<int32_t>(from)};
  case GgufType::F32:
    return double{loadAt<float>(from)};
  case GgufType::U64:
    return loadAt<uint64_t>(from);
  case GgufType::I64:
    return loadAt<int64_t>(from);
  case GgufType::F64:
    return loadAt<double>(from);
  default:
    return loadAt<uint8_t>(from) != 0;
  }
}

/// The integer if `value` is one within the limits.
std::optional<int64_t> integerWithin(const Scalar &value, int64_t low, int64_t high) {
  int64_t result;
  if (auto *u = std::get_if<uint64_t>(&value)) {
    if (*u > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      return std::nullopt;
    result = static_cast<int64_t>(*u);
  } else if (auto *i = std::get_if<int64_t>(&value)) {
    result = *i;
  } else {
    return std::nullopt;
  }
  return result >= low && result <= high ? std::optional(result) : std::nullopt;
}

/// A number of any type; integers beyond 2^53 are rounded.
std::optional<double> numberOf(const Scalar &value) {
  if (auto *d = std::get_if<double>(&value))
    return *d;
  if (auto *u = std::get_if<uint64_t>(&value))
    return static_cast<double>(*u);
  if (auto *i = std::get_if<int64_t>(&value))
    return static_cast<double>(*i);
  return std::nullopt;
}

std::string show(const GgufEntry &entry) {
  if (auto *u = std::get_if<uint64_t>(&entry.value))
    return fmt::format("{}", *u);
  if (auto *i = std::get_if<int64_t>(&entry.value))
    return fmt::format("{}", *i);
  if (auto *d = std::get_if<double>(&entry.value))
    return fmt::format("{}", *d);
  if (auto *array = std::get_if<GgufArray>(&entry.value))
    return fmt::format("an array of {} values, each {}", array->count,
                       typeName(array->elementType));
  return std::string(typeName(entry.type));
}

/// Reads fields one after the other; each read says what it reads and fails with the offset.
class Cursor {
public:
  Cursor(std::span<const std::byte> file, const std::string &where) : file(file), where(where) {}

  uint64_t offset() const { return position; }
  uint64_t left() const { return file.size() - position; }

  tl::unexpected<Error> error(std::string_view field, std::string why,
                              std::string hint = "") const {
    return unusable(std::string(modelFileError),
                    fmt::format("{}, offset {}, {}", where, position, field), std::move(why),
                    std::move(hint));
  }

  Expected<std::span<const std::byte>> take(uint64_t count, std::string_view field) {
    if (count > left())
      return error(field, fmt::format("needs {} bytes, the file has {} left", count, left()),
                   "the file is truncated or damaged");
    auto taken = file.subspan(position, count);
    position += count;
    return taken;
  }

  template <typename T> Expected<T> number(std::string_view field) {
    KF_TRY(auto bytes, take(sizeof(T), field));
    return loadAt<T>(bytes.data());
  }

  Expected<std::string_view> text(std::string_view field, uint64_t maxBytes) {
    KF_TRY(uint64_t length, number<uint64_t>(field));
    if (length > maxBytes)
      return error(field,
                   fmt::format("is a text of {} bytes, at most {} are allowed", length, maxBytes));
    KF_TRY(auto bytes, take(length, field));
    return std::string_view(reinterpret_cast<const char *>(bytes.data()), bytes.size());
  }

  /// A text that names something: not empty, valid UTF-8, so that it can be printed.
  Expected<std::string_view> name(std::string_view field, uint64_t maxBytes) {
    KF_TRY(std::string_view name, text(field, maxBytes));
    if (name.empty() || !isValidUtf8(name))
      return error(field, name.empty() ? "is empty" : "is not valid UTF-8");
    return name;
  }

private:
  std::span<const std::byte> file;
  const std::string &where;
  uint64_t position = 0;
};

Expected<GgufType> readType(Cursor &cursor, const std::string &field) {
  KF_TRY(uint32_t id, cursor.number<uint32_t>(field));
  if (id > static_cast<uint32_t>(GgufType::F64))
    return cursor.error(field, fmt::format("has the value type {}, known are 0 to 12", id));
  return static_cast<GgufType>(id);
}

Expected<GgufArray> readArray(Cursor &cursor, const std::string &field) {
  KF_TRY(GgufType type, readType(cursor, field));
  if (type == GgufType::Array)
    return cursor.error(field, "is an array of arrays, which is not supported");
  KF_TRY(uint64_t count, cursor.number<uint64_t>(field));
  const uint64_t least = type == GgufType::String ? sizeof(uint64_t) : scalarBytes(type);
  if (count > cursor.left() / least)
    return cursor.error(field, fmt::format("is an array of {} elements, the file has {} bytes left",
                                           count, cursor.left()));
  if (type != GgufType::String) {
    KF_TRY(auto bytes, cursor.take(count * least, field));
    if (type == GgufType::Bool)
      for (std::byte b : bytes)
        if (std::to_integer<int>(b) > 1)
          return cursor.error(field, "has a bool that is neither 0 nor 1");
    return GgufArray{type, count, bytes};
  }
  const std::byte *begin = nullptr;
  uint64_t size = 0;
  for (uint64_t i = 0; i < count; ++i) {
    KF_TRY(std::string_view text, cursor.text(field, maxStringBytes));
    if (i == 0)
      begin = reinterpret_cast<const std::byte *>(text.data()) - sizeof(uint64_t);
    size += sizeof(uint64_t) + text.size(); // bounded by the file, which was just read that far
  }
  return GgufArray{type, count, {begin, size}};
}

Status readEntry(Cursor &cursor, uint64_t index, GgufMetadata &metadata) {
  std::string field = fmt::format("metadata entry {}", index);
  KF_TRY(std::string_view key, cursor.name(field, maxKeyBytes));
  field = fmt::format("key {}", key.substr(0, 80));
  GgufEntry entry;
  entry.name = key;
  KF_TRY(entry.type, readType(cursor, field));
  if (entry.type == GgufType::String) {
    KF_TRY(entry.value, cursor.text(field, maxStringBytes));
  } else if (entry.type == GgufType::Array) {
    KF_TRY(entry.value, readArray(cursor, field));
  } else {
    KF_TRY(auto bytes, cursor.take(scalarBytes(entry.type), field));
    if (entry.type == GgufType::Bool && std::to_integer<int>(bytes[0]) > 1)
      return cursor.error(field, fmt::format("is a bool with the value {}, must be 0 or 1",
                                             std::to_integer<int>(bytes[0])));
    entry.value = loadScalar(entry.type, bytes.data());
  }
  if (!metadata.add(std::move(entry)))
    return cursor.error(field, "is there twice");
  return {};
}

Expected<uint64_t> readAlignment(const GgufMetadata &metadata) {
  const GgufEntry *entry = metadata.find("general.alignment");
  if (!entry)
    return 32;
  const auto *value = std::get_if<uint64_t>(&entry->value);
  if (entry->type != GgufType::U32 || !std::has_single_bit(*value) || *value < minAlignment ||
      *value > maxAlignment)
    return metadata.error(entry->name, fmt::format("is {}, must be a u32, a power of two from {} "
                                                   "to {}",
                                                   show(*entry), minAlignment, maxAlignment));
  return *value;
}

struct TensorInfo {
  StoredTensor tensor;
  uint64_t offset = 0, size = 0;
};

/// Name, block and byte size of a ggml type id.
Expected<ForeignType> lookUpType(const Cursor &cursor, const std::string &field, uint32_t id) {
  if (auto type = elementTypeByGgmlId(id)) {
    const ElementTypeInfo &known = info(*type);
    return ForeignType{id, known.name, static_cast<uint64_t>(known.blockElements),
                       static_cast<uint64_t>(known.blockBytes)};
  }
  for (const ForeignType &type : foreignTypes)
    if (type.id == id)
      return type;
  const bool removed =
      std::find(removedTypes.begin(), removedTypes.end(), id) != removedTypes.end();
  return cursor.error(field,
                      fmt::format("has the {} type id {}", removed ? "removed" : "unknown", id));
}

Expected<TensorInfo> readTensorInfo(Cursor &cursor, uint64_t index) {
  std::string field = fmt::format("tensor {}", index);
  TensorInfo result;
  KF_TRY(std::string_view name, cursor.name(field, maxTensorNameBytes));
  field = fmt::format("tensor {}", name);
  KF_TRY(uint32_t rank, cursor.number<uint32_t>(field));
  if (rank < 1 || rank > maxDimensions)
    return cursor.error(field,
                        fmt::format("has {} dimensions, must be 1 to {}", rank, maxDimensions));
  std::array<uint64_t, maxDimensions> dims{1, 1, 1, 1};
  for (uint32_t i = 0; i < rank; ++i) {
    KF_TRY(dims[i], cursor.number<uint64_t>(field));
    if (dims[i] < 1 || dims[i] > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      return cursor.error(field,
                          fmt::format("has the dimension {}, must be 1 to 2^63 - 1", dims[i]));
  }
  KF_TRY(uint32_t id, cursor.number<uint32_t>(field));
  KF_TRY(ForeignType type, lookUpType(cursor, field, id));
  KF_TRY(result.offset, cursor.number<uint64_t>(field));

  if (dims[0] % type.blockElements != 0)
    return cursor.error(field, fmt::format("has rows of {} elements, {} is stored in blocks of {}",
                                           dims[0], type.name, type.blockElements));
  auto size =
      checkedProduct({dims[0] / type.blockElements, type.blockBytes, dims[1], dims[2], dims[3]});
  if (!size || !checkedProduct(dims))
    return cursor.error(field, "has a size that overflows 64 bits");
  result.size = *size;
  result.tensor.name = name;
  result.tensor.typeName = type.name;
  result.tensor.type = elementTypeByGgmlId(id);
  for (uint32_t i = rank; i-- > 0;) // the file's first dimension is the innermost
    result.tensor.shape.push_back(static_cast<int64_t>(dims[i]));
  return result;
}

/// Refuses tensors that share bytes; `infos` are sorted by offset.
Status checkOverlap(const std::vector<TensorInfo> &infos, const std::string &where) {
  for (size_t i = 1; i < infos.size(); ++i)
    if (infos[i].offset < infos[i - 1].offset + infos[i - 1].size)
      return unusable(std::string(modelFileError),
                      fmt::format("{}, tensor {}", where, infos[i].tensor.name),
                      fmt::format("its data at offset {} overlaps that of tensor {}",
                                  infos[i].offset, infos[i - 1].tensor.name));
  return {};
}

} // namespace

Expected<GgufContents> parseGguf(std::span<const std::byte> file, const std::string &where) {
  Cursor cursor(file, where);
  KF_TRY(auto magic, cursor.take(4, "magic"));
  if (std::memcmp(magic.data(), "GGUF", 4) != 0)
    return cursor.error("magic", "is not GGUF", "this is no GGUF file");
  GgufContents contents;
  contents.metadata = GgufMetadata(where);
  KF_TRY(contents.version, cursor.number<uint32_t>("version"));
  if (contents.version != 0 && (contents.version & 0xffffu) == 0)
    return cursor.error("version", "the file is big-endian, only little-endian is supported");
  if (contents.version != 2 && contents.version != 3)
    return cursor.error("version", fmt::format("is {}, supported are 2 and 3", contents.version));
  KF_TRY(uint64_t tensorCount, cursor.number<uint64_t>("tensor count"));
  KF_TRY(uint64_t entryCount, cursor.number<uint64_t>("metadata count"));
  if (const uint64_t most = std::min(maxTensors, cursor.left() / minTensorBytes);
      tensorCount > most)
    return cursor.error("tensor count", fmt::format("is {}, at most {} are possible in {} bytes",
                                                    tensorCount, most, file.size()));
  if (const uint64_t most = std::min(maxEntries, cursor.left() / minEntryBytes); entryCount > most)
    return cursor.error("metadata count", fmt::format("is {}, at most {} are possible in {} bytes",
                                                      entryCount, most, file.size()));

  for (uint64_t i = 0; i < entryCount; ++i)
    KF_CHECK(readEntry(cursor, i, contents.metadata));
  KF_TRY(contents.alignment, readAlignment(contents.metadata));

  std::vector<TensorInfo> infos;
  infos.reserve(tensorCount);
  for (uint64_t i = 0; i < tensorCount; ++i) {
    KF_TRY(infos.emplace_back(), readTensorInfo(cursor, i));
  }

  // Cannot overflow: offsets in a file are far below 2^63. A file without tensors may end early.
  const uint64_t dataStart =
      std::min<uint64_t>(*checkedRoundUp(cursor.offset(), contents.alignment), file.size());
  const auto data = file.subspan(dataStart);
  for (TensorInfo &info : infos) {
    const std::string field = fmt::format("tensor {}", info.tensor.name);
    if (info.offset % contents.alignment != 0)
      return cursor.error(field, fmt::format("its data offset {} is no multiple of the alignment "
                                             "{}",
                                             info.offset, contents.alignment));
    auto end = checkedAdd(info.offset, info.size);
    if (!end || *end > data.size())
      return cursor.error(field,
                          fmt::format("its {} bytes at data offset {} reach beyond the {} bytes "
                                      "of data",
                                      info.size, info.offset, data.size()),
                          "the file is truncated or damaged");
    info.tensor.bytes = data.subspan(info.offset, info.size);
    if (!contents.tensors.add(info.tensor))
      return cursor.error(field, "is there twice");
  }
  std::sort(infos.begin(), infos.end(),
            [](const TensorInfo &a, const TensorInfo &b) { return a.offset < b.offset; });
  KF_CHECK(checkOverlap(infos, where));
  return contents;
}

tl::unexpected<Error> GgufMetadata::error(std::string_view key, std::string why,
                                          std::string hint) const {
  return unusable(std::string(modelFileError), fmt::format("{}, key {}", where, key),
                  std::move(why), std::move(hint));
}

Expected<std::optional<int64_t>> GgufMetadata::integer(std::string_view key, int64_t low,
                                                       int64_t high) const {
  const GgufEntry *entry = find(key);
  if (!entry)
    return std::nullopt;
  auto value = integerWithin(entry->value, low, high);
  if (!value)
    return error(key,
                 fmt::format("is {}, must be an integer from {} to {}", show(*entry), low, high));
  return value;
}

Expected<std::optional<double>> GgufMetadata::number(std::string_view key, double low,
                                                     double high) const {
  const GgufEntry *entry = find(key);
  if (!entry)
    return std::nullopt;
  const std::optional<double> value = numberOf(entry->value);
  if (!value || !(*value >= low && *value <= high)) // NaN fails the comparison
    return error(key,
                 fmt::format("is {}, must be a number from {} to {}", show(*entry), low, high));
  return value;
}

Expected<std::optional<bool>> GgufMetadata::boolean(std::string_view key) const {
  const GgufEntry *entry = find(key);
  if (!entry)
    return std::nullopt;
  const auto *value = std::get_if<bool>(&entry->value);
  if (!value)
    return error(key, fmt::format("is {}, must be a bool", show(*entry)));
  return *value;
}

Expected<std::optional<std::string>> GgufMetadata::string(std::string_view key,
                                                          uint64_t maxBytes) const {
  const GgufEntry *entry = find(key);
  if (!entry)
    return std::nullopt;
  const auto *value = std::get_if<std::string_view>(&entry->value);
  if (!value)
    return error(key, fmt::format("is {}, must be a string", show(*entry)));
  if (value->size() > maxBytes)
    return error(key, fmt::format("has {} bytes, at most {} are allowed", value->size(), maxBytes));
  if (!isValidUtf8(*value))
    return error(key, "is not valid UTF-8");
  return std::string(*value);
}

Expected<std::optional<std::vector<std::string>>> GgufMetadata::strings(std::string_view key,
                                                                        uint64_t maxBytes) const {
  const GgufEntry *entry = find(key);
  if (!entry)
    return std::nullopt;
  const auto *array = std::get_if<GgufArray>(&entry->value);
  if (!array || array->elementType != GgufType::String)
    return error(key, fmt::format("is {}, must be an array of strings", show(*entry)));
  std::vector<std::string> texts;
  texts.reserve(array->count);
  const std::byte *at = array->bytes.data(); // lengths were checked when the file was parsed
  for (uint64_t i = 0; i < array->count; ++i) {
    const auto length = loadAt<uint64_t>(at);
    at += sizeof(uint64_t);
    std::string_view text(reinterpret_cast<const char *>(at), length);
    at += length;
    if (length > maxBytes)
      return error(
          key, fmt::format("element {} has {} bytes, at most {} are allowed", i, length, maxBytes));
    if (!isValidUtf8(text))
      return error(key, fmt::format("element {} is not valid UTF-8", i));
    texts.emplace_back(text);
  }
  return texts;
}

Expected<std::optional<std::vector<int64_t>>>
GgufMetadata::integers(std::string_view key, int64_t low, int64_t high) const {
  const GgufEntry *entry = find(key);
  if (!entry)
    return std::nullopt;
  const auto *array = std::get_if<GgufArray>(&entry->value);
  const auto type = array ? array->elementType : entry->type;
  if (!array || type == GgufType::String || type == GgufType::F32 || type == GgufType::F64)
    return error(key, fmt::format("is {}, must be an array of integers", show(*entry)));
  std::vector<int64_t> values;
  values.reserve(array->count);
  for (uint64_t i = 0; i < array->count; ++i) {
    Scalar element = loadScalar(type, array->bytes.data() + i * scalarBytes(type));
    if (const bool *truth = std::get_if<bool>(&element))
      element = uint64_t(*truth);
    auto value = integerWithin(element, low, high);
    if (!value)
      return error(key, fmt::format("element {} must be an integer from {} to {}", i, low, high));
    values.push_back(*value);
  }
  return values;
}

Expected<std::optional<std::vector<double>>> GgufMetadata::numbers(std::string_view key) const {
  const GgufEntry *entry = find(key);
  if (!entry)
    return std::nullopt;
  const auto *array = std::get_if<GgufArray>(&entry->value);
  const auto type = array ? array->elementType : entry->type;
  if (!array || type == GgufType::String || type == GgufType::Bool)
    return error(key, fmt::format("is {}, must be an array of numbers", show(*entry)));
  std::vector<double> values;
  values.reserve(array->count);
  for (uint64_t i = 0; i < array->count; ++i)
    values.push_back(*numberOf(loadScalar(type, array->bytes.data() + i * scalarBytes(type))));
  return values;
}

} // namespace kernelforge
