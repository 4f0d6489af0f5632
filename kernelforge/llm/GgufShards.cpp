// Opens a GGUF model from one file or from its shards.
#include "kernelforge/llm/Gguf.h"

#include <filesystem>
#include <fmt/format.h>

namespace kernelforge {

namespace {

constexpr int64_t maxShards = 1024;

std::string shardSuffix(int64_t number, int64_t count) {
  return fmt::format("-{:05}-of-{:05}.gguf", number + 1, count);
}

/// Adds a parsed file's tensors to the model's; none may be in two files.
Status addTensors(GgufModel &model, const GgufContents &contents, const std::string &path) {
  for (const StoredTensor &tensor : contents.tensors)
    if (!model.tensors.add(tensor))
      return unusable(std::string(modelFileError), fmt::format("{}, tensor {}", path, tensor.name),
                      "is in two shards");
  return {};
}

/// Opens the shards after the first. Their names are made from the first one's, so they are plain
/// names in its folder.
Status openOtherShards(GgufModel &model, const std::string &path, int64_t count) {
  const GgufMetadata &metadata = model.metadata;
  KF_TRY(auto number, metadata.integer("split.no", 0, maxShards - 1));
  if (number.value_or(0) != 0)
    return metadata.error("split.no", fmt::format("this is shard {} of {}", *number + 1, count),
                          "open the first shard");
  const std::string name = std::filesystem::path(path).filename().string();
  const std::string suffix = shardSuffix(0, count);
  if (!name.ends_with(suffix))
    return metadata.error("split.count",
                          fmt::format("is {}, so the file's name must end in {}", count, suffix));
  const std::string stem = path.substr(0, path.size() - suffix.size());
  for (int64_t i = 1; i < count; ++i) {
    const std::string shardPath = stem + shardSuffix(i, count);
    KF_TRY(MappedFile file, MappedFile::open(shardPath, modelFileError));
    KF_TRY(GgufContents shard, parseGguf(file.bytes(), shardPath));
    KF_TRY(auto shardNumber, shard.metadata.integer("split.no", i, i));
    KF_TRY(auto shardCount, shard.metadata.integer("split.count", count, count));
    if (!shardNumber || !shardCount)
      return shard.metadata.error(shardNumber ? "split.count" : "split.no", "is missing");
    KF_CHECK(addTensors(model, shard, shardPath));
    model.files.push_back(std::move(file));
  }
  KF_TRY(auto total, metadata.integer("split.tensors.count", 0, INT64_MAX));
  if (total && static_cast<uint64_t>(*total) != model.tensors.size())
    return metadata.error("split.tensors.count", fmt::format("is {}, the shards have {} tensors",
                                                             *total, model.tensors.size()));
  return {};
}

} // namespace

Expected<GgufModel> openGguf(const std::string &path) {
  KF_TRY(MappedFile file, MappedFile::open(path, modelFileError));
  KF_TRY(GgufContents contents, parseGguf(file.bytes(), path));
  GgufModel model;
  KF_CHECK(addTensors(model, contents, path));
  model.metadata = std::move(contents.metadata);
  model.files.push_back(std::move(file));
  KF_TRY(auto count, model.metadata.integer("split.count", 0, maxShards));
  if (count.value_or(0) > 1)
    KF_CHECK(openOtherShards(model, path, *count));
  return model;
}

} // namespace kernelforge
