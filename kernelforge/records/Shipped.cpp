#include "kernelforge/records/Shipped.h"

#include "kernelforge/records/LogFile.h"
#include "kernelforge/support/EmbeddedFile.h"

#include <algorithm>
#include <ranges>
#include <span>

#include <fmt/format.h>

namespace kernelforge {

/// Made by kf_embed.
std::span<const EmbeddedFile> shippedFiles();

static constexpr const char *where = "records of the program";

const ShippedRecords &ShippedRecords::ofProgram() {
  static const ShippedRecords all = [] {
    std::vector<std::string_view> texts;
    for (const EmbeddedFile &file : shippedFiles())
      texts.push_back(file.bytes);
    return ShippedRecords(std::move(texts));
  }();
  return all;
}

std::string_view deviceNameOf(std::string_view identity) {
  return identity.substr(0, identity.find(", "));
}

/// A processor's kind, of a key's target "x86_64-pc-linux-gnu znver4 -avx512f,-gfni": triple,
/// microarchitecture, and of the features that differ from it those which schedules depend on.
/// Nothing where a device runs the code.
static std::optional<std::string> processorKind(const RecordKey &key) {
  if (!key.target.starts_with("x86_64"))
    return std::nullopt;
  const size_t features = key.target.rfind(' ') + 1;
  std::string kind = key.target.substr(0, features);
  for (const auto part : std::views::split(std::string_view(key.target).substr(features), ',')) {
    const std::string_view feature(part.begin(), part.end());
    const std::string_view name = feature.substr(std::min<size_t>(1, feature.size())); // no sign
    if (name.starts_with("avx") || name.starts_with("amx") || name.starts_with("evex"))
      kind.append(feature).append(",");
  }
  return kind;
}

/// The text by which a line of records may be of the same kind of machine, as toJson() has it;
/// empty where no device was asked.
static std::string markOf(const RecordKey &key) {
  if (const auto kind = processorKind(key))
    return fmt::format(R"("target":"{})", kind->substr(0, kind->rfind(' ') + 1));
  if (key.cpuModel.empty())
    return "";
  return fmt::format(R"("cpu_model":"{})", deviceNameOf(key.cpuModel));
}

/// Whether a record of one key holds for the other.
static bool isForSameKind(const RecordKey &record, const RecordKey &key) {
  const auto kind = processorKind(key);
  if (kind ? kind != processorKind(record)
           : deviceNameOf(record.cpuModel) != deviceNameOf(key.cpuModel))
    return false;
  RecordKey same = record;
  same.cpuModel = key.cpuModel;
  same.toolchain = key.toolchain;
  if (kind)
    same.target = key.target;
  return same == key;
}

bool ShippedRecords::cover(const RecordKey &key) const {
  const std::string mark = markOf(key);
  return !mark.empty() && std::ranges::any_of(texts, [&](std::string_view text) {
    return text.find(mark) != text.npos;
  });
}

std::optional<Record> ShippedRecords::find(const RecordKey &key) const {
  // As toJson() has it: lines without it are not read.
  const std::string hash = fmt::format(R"("kernel_hash":"{}")", key.kernelHash);
  std::optional<Record> found;
  for (std::string_view text : texts)
    forEachLine(text, [&](std::string_view line) {
      if (line.find(hash) == line.npos)
        return;
      if (Expected<Record> record = recordFromLine(line, where);
          record && record->variant == "generated" && isForSameKind(record->key, key))
        found = std::move(*record);
    });
  return found;
}

std::vector<Record> ShippedRecords::all() const {
  std::vector<Record> records;
  for (std::string_view text : texts)
    forEachLine(text, [&](std::string_view line) {
      if (Expected<Record> record = recordFromLine(line, where))
        records.push_back(std::move(*record));
    });
  return records;
}

} // namespace kernelforge
