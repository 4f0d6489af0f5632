#include "kernelforge/records/Shipped.h"

#include "kernelforge/records/LogFile.h"
#include "kernelforge/support/EmbeddedFile.h"

#include <algorithm>
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

/// Whether a record of one key holds for the other, on whatever driver and by whatever LLVM.
static bool isForDevice(const RecordKey &record, const RecordKey &key) {
  RecordKey same = record;
  same.cpuModel = key.cpuModel;
  same.toolchain = key.toolchain;
  return same == key && deviceNameOf(record.cpuModel) == deviceNameOf(key.cpuModel);
}

bool ShippedRecords::cover(std::string_view identity) const {
  const std::string name = fmt::format(R"("cpu_model":"{})", deviceNameOf(identity));
  return !identity.empty() && std::ranges::any_of(texts, [&](std::string_view text) {
    return text.find(name) != text.npos;
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
          record && record->variant == "generated" && isForDevice(record->key, key))
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
