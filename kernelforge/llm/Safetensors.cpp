#include "kernelforge/llm/Safetensors.h"

#include "kernelforge/support/CheckedArithmetic.h"
#include "kernelforge/support/Json.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <fmt/format.h>
#include <limits>
#include <map>

namespace kernelforge {

namespace {

constexpr uint64_t maxHeaderBytes = 100'000'000; // the format's own limit
constexpr uint64_t maxDimensions = 16;
constexpr uint64_t maxShards = 4096;
constexpr uint64_t maxFileNameBytes = 255;
constexpr JsonLimits headerLimits{maxHeaderBytes, 8, 2'000'000, 8'000'000};
constexpr JsonLimits indexLimits{maxHeaderBytes, 8, 1'000'000, 2'000'000};

struct DataType {
  std::string_view name;
  uint64_t bits;
  std::optional<ElementType> type;
};
constexpr std::array<DataType, 21> dataTypes = {{
    {"F32", 32, ElementType::F32}, {"F16", 16, ElementType::F16}, {"BF16", 16, ElementType::BF16},
    {"I32", 32, ElementType::I32}, {"F64", 64, std::nullopt},     {"I64", 64, std::nullopt},
    {"U64", 64, std::nullopt},     {"U32", 32, std::nullopt},     {"I16", 16, std::nullopt},
    {"U16", 16, std::nullopt},     {"I8", 8, std::nullopt},       {"U8", 8, std::nullopt},
    {"BOOL", 8, std::nullopt},     {"F8_E5M2", 8, std::nullopt},  {"F8_E4M3", 8, std::nullopt},
    {"F8_E8M0", 8, std::nullopt},  {"F6_E2M3", 6, std::nullopt},  {"F6_E3M2", 6, std::nullopt},
    {"F4", 4, std::nullopt},       {"C64", 64, std::nullopt},     {"C128", 128, std::nullopt},
}};

struct HeaderEntry {
  StoredTensor tensor;
  uint64_t begin = 0, end = 0;
};

Expected<HeaderEntry> readHeaderEntry(const std::string &name, const JsonView &view,
                                      uint64_t bufferBytes) {
  constexpr int64_t most = std::numeric_limits<int64_t>::max();
  HeaderEntry entry;
  entry.tensor.name = name;
  KF_TRY(entry.tensor.typeName, view.string("dtype", 32));
  const auto *known = std::find_if(dataTypes.begin(), dataTypes.end(), [&](const DataType &t) {
    return t.name == entry.tensor.typeName;
  });
  if (known == dataTypes.end())
    return view.error(fmt::format("its dtype \"{}\" is unknown", entry.tensor.typeName));
  entry.tensor.type = known->type;

  KF_TRY(auto dims, view.array("shape", maxDimensions));
  uint64_t bits = known->bits;
  for (const JsonView &dim : dims) {
    KF_TRY(int64_t length, dim.asInteger(0, most));
    entry.tensor.shape.push_back(length);
    auto product = checkedMul(bits, static_cast<uint64_t>(length));
    if (!product)
      return view.error(
          fmt::format("its shape {} overflows 64 bits", printShape(entry.tensor.shape)));
    bits = *product;
  }
  if (bits % 8 != 0)
    return view.error(fmt::format("its {} bits are no whole number of bytes", bits));

  KF_TRY(auto offsets, view.array("data_offsets", 2));
  if (offsets.size() != 2)
    return view.error(fmt::format("data_offsets has {} elements, must have 2", offsets.size()));
  const auto limit = static_cast<int64_t>(std::min<uint64_t>(bufferBytes, most));
  KF_TRY(int64_t begin, offsets[0].asInteger(0, limit));
  KF_TRY(int64_t end, offsets[1].asInteger(begin, limit));
  entry.begin = static_cast<uint64_t>(begin);
  entry.end = static_cast<uint64_t>(end);
  if (entry.end - entry.begin != bits / 8)
    return view.error(fmt::format("its data_offsets span {} bytes, dtype {} and shape {} need {}",
                                  entry.end - entry.begin, known->name,
                                  printShape(entry.tensor.shape), bits / 8));
  return entry;
}

Status checkMetadata(const JsonView &view) {
  KF_TRY(auto members, view.members());
  for (const auto &[name, value] : members)
    KF_CHECK(value.asString(maxHeaderBytes));
  return {};
}

/// A shard's name must lead to a file beside the index and nowhere else.
Status checkPlainName(const JsonView &view, const std::string &name) {
  const bool plain = !name.empty() && name.find_first_of("/\\") == std::string::npos &&
                     name.find('\0') == std::string::npos && name != "." && name != ".." &&
                     name.find("..") == std::string::npos;
  if (!plain)
    return view.error(fmt::format("the shard name \"{}\" is no plain file name", name),
                      "shards lie in the folder of the index");
  if (!name.ends_with(".safetensors"))
    return view.error(fmt::format("the shard name \"{}\" does not end in .safetensors", name));
  return {};
}

} // namespace

Expected<NamedList<StoredTensor>> parseSafetensors(std::span<const std::byte> file,
                                                   const std::string &where) {
  auto error = [&](std::string why) {
    return unusable(std::string(modelFileError), where + ", header", std::move(why),
                    "the file is truncated or damaged");
  };
  uint64_t headerBytes;
  if (file.size() < sizeof(headerBytes))
    return error(fmt::format("the file has {} bytes, at least 8 are needed", file.size()));
  std::memcpy(&headerBytes, file.data(), sizeof(headerBytes));
  const auto rest = file.subspan(sizeof(headerBytes));
  if (headerBytes > maxHeaderBytes || headerBytes > rest.size())
    return error(fmt::format("its length is {}, at most {} is possible", headerBytes,
                             std::min<uint64_t>(maxHeaderBytes, rest.size())));
  const std::string_view text(reinterpret_cast<const char *>(rest.data()), headerBytes);
  if (!text.starts_with('{'))
    return error("it does not begin with {");
  const auto buffer = rest.subspan(headerBytes);

  KF_TRY(JsonDocument document, parseJson(text, modelFileError, where + ", header", headerLimits));
  KF_TRY(auto members, document.root().members());
  std::vector<HeaderEntry> entries;
  entries.reserve(members.size());
  for (const auto &[name, view] : members) {
    if (name == "__metadata__") {
      KF_CHECK(checkMetadata(view));
      continue;
    }
    if (name.empty())
      return error("a tensor has an empty name");
    KF_TRY(entries.emplace_back(), readHeaderEntry(name, view, buffer.size()));
  }

  std::sort(entries.begin(), entries.end(), [](const HeaderEntry &a, const HeaderEntry &b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  NamedList<StoredTensor> tensors;
  uint64_t covered = 0;
  for (HeaderEntry &entry : entries) {
    if (entry.begin != covered)
      return unusable(
          std::string(modelFileError), fmt::format("{}, tensor {}", where, entry.tensor.name),
          fmt::format("its data begins at {}, {} the end of the one before it at {}", entry.begin,
                      entry.begin > covered ? "leaving a hole after" : "overlapping", covered));
    covered = entry.end;
    entry.tensor.bytes = buffer.subspan(entry.begin, entry.end - entry.begin);
    tensors.add(std::move(entry.tensor)); // names are unique: they were keys of one object
  }
  if (covered != buffer.size())
    return error(fmt::format("its tensors cover {} of {} bytes of data", covered, buffer.size()));
  return tensors;
}

Expected<SafetensorsModel> openSafetensors(const std::string &path) {
  SafetensorsModel model;
  KF_TRY(MappedFile file, MappedFile::open(path, modelFileError));
  KF_TRY(model.tensors, parseSafetensors(file.bytes(), path));
  model.files.push_back(std::move(file));
  return model;
}

Expected<SafetensorsModel> openSafetensorsIndex(const std::string &path) {
  KF_TRY(JsonDocument document, readJsonFile(path, modelFileError, indexLimits));
  const JsonView root = document.root();
  KF_TRY(JsonView map, root.object("weight_map"));
  KF_TRY(auto members, map.members());
  if (members.empty())
    return map.error("names no tensor");
  std::map<std::string, std::string> shardOf;    // tensor -> file
  std::map<std::string, uint64_t> tensorsMapped; // file -> how many tensors it should have
  for (const auto &[tensor, view] : members) {
    KF_TRY(std::string shard, view.asString(maxFileNameBytes));
    KF_CHECK(checkPlainName(view, shard));
    ++tensorsMapped[shard];
    shardOf[tensor] = std::move(shard);
  }
  if (tensorsMapped.size() > maxShards)
    return map.error(
        fmt::format("names {} shards, at most {} are allowed", tensorsMapped.size(), maxShards));

  SafetensorsModel model;
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  uint64_t totalBytes = 0; // cannot overflow: spans of files that are mapped at the same time
  for (const auto &[shard, expected] : tensorsMapped) {
    const std::string shardPath = (folder / shard).string();
    KF_TRY(SafetensorsModel part, openSafetensors(shardPath));
    for (const StoredTensor &tensor : part.tensors) {
      auto mapped = shardOf.find(tensor.name);
      if (mapped == shardOf.end() || mapped->second != shard)
        return unusable(std::string(modelFileError),
                        fmt::format("{}, tensor {}", shardPath, tensor.name),
                        mapped == shardOf.end()
                            ? "the index does not name it"
                            : fmt::format("the index says that it is in {}", mapped->second));
      totalBytes += tensor.bytes.size();
      model.tensors.add(tensor); // unique: the index gives every name one file
    }
    if (part.tensors.size() != expected)
      for (const auto &[tensor, file] : shardOf)
        if (file == shard && !part.tensors.find(tensor))
          return unusable(std::string(modelFileError),
                          fmt::format("{}, tensor {}", shardPath, tensor),
                          "the index says that it is in this file, it is not");
    std::move(part.files.begin(), part.files.end(), std::back_inserter(model.files));
  }

  if (root.has("metadata")) {
    KF_TRY(JsonView metadata, root.object("metadata"));
    // Only compared, so that whatever it is does no harm; some writers use floats.
    const Json stated = metadata.has("total_size") ? metadata.value()["total_size"] : Json();
    if (!stated.is_null() && stated != Json(totalBytes))
      model.warnings.push_back(fmt::format("{}: total_size is {}, the tensors have {} bytes", path,
                                           stated.dump(), totalBytes));
  }
  return model;
}

} // namespace kernelforge
