// Records and their keys as JSON, and records as lines.
#include "kernelforge/records/Record.h"

#include "kernelforge/ir/Hash.h"
#include "kernelforge/support/Utf8.h"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

namespace kernelforge {

namespace {

constexpr JsonLimits recordLimits{maxRecordBytes, 16, 4096, 100'000};
constexpr std::string_view purpose = "tuning record is not usable";

constexpr uint64_t maxName = 1024;
constexpr uint64_t maxText = 16 << 10; ///< a target lists its features; a problem its sizes
constexpr uint64_t maxErrorText = 4096;
constexpr uint64_t maxSamples = 10'000;

constexpr double leastNs = 1e-3, mostNs = 1e18; ///< what a time can be
constexpr double largest = std::numeric_limits<double>::max();
constexpr int64_t mostBytes = int64_t(1) << 62;

constexpr std::string_view checksumField = ",\"checksum\":\"";
constexpr size_t hashDigits = 16; ///< of a checksum and of a key's id

std::string shortHash(std::string_view text) { return sha256Hex(text).substr(0, hashDigits); }

//===--------------------------------------------------------------------------------------------===
// Writing
//===--------------------------------------------------------------------------------------------===

std::string compact(const Json &json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// The object in a text; where it is none the text itself, which no reader takes for one.
Json objectOrText(const std::string &text) {
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  return json.is_object() ? json : Json(text);
}

/// What a failed candidate said: any bytes, of any length.
std::string errorText(std::string_view bytes) {
  std::string text = replaceInvalidUtf8(bytes.substr(0, maxErrorText));
  text.resize(std::min<size_t>(text.size(), maxErrorText));
  text.resize(text.size() - incompleteUtf8Suffix(text));
  return text;
}

Json toJson(const RecordKey &key) {
  return {{"family", key.family},      {"kernel_hash", key.kernelHash},
          {"target", key.target},      {"problem", objectOrText(key.problem)},
          {"cpu_model", key.cpuModel}, {"toolchain", key.toolchain},
          {"threads", key.threads},    {"affinity", key.affinity}};
}

void setText(Json &json, const char *field, const std::string &value) {
  if (!value.empty())
    json[field] = value;
}

void setNumber(Json &json, const char *field, const std::optional<double> &value) {
  if (value)
    json[field] = *value;
}

Json toJson(const RecordAccuracy &accuracy) {
  return {{"reference", accuracy.reference},
          {"max_abs", accuracy.maxAbs},
          {"max_rel", accuracy.maxRel},
          {"l2_rel", accuracy.l2Rel},
          {"cosine_diff", accuracy.cosineDiff},
          {"nan", accuracy.nan},
          {"poisoned_left", accuracy.poisonedLeft},
          {"tolerance", accuracy.tolerance},
          {"pass", accuracy.pass}};
}

//===--------------------------------------------------------------------------------------------===
// Reading
//===--------------------------------------------------------------------------------------------===

/// An object as canonical text.
Expected<std::string> objectText(const JsonView &json, std::string_view field) {
  KF_TRY(JsonView view, json.object(field));
  std::string text = view.value().dump();
  if (text.size() > maxText)
    return view.error(fmt::format("has {} bytes, at most {} are allowed", text.size(), maxText));
  return text;
}

Expected<std::optional<double>> optionalNumber(const JsonView &json, std::string_view field,
                                               double low, double high) {
  if (!json.has(field))
    return std::nullopt;
  return json.number(field, low, high);
}

Expected<std::vector<double>> samples(const JsonView &json, std::string_view field) {
  std::vector<double> values;
  if (!json.has(field))
    return values;
  KF_TRY(std::vector<JsonView> elements, json.array(field, maxSamples));
  for (const JsonView &element : elements) {
    KF_TRY(double value, element.asNumber(leastNs, mostNs));
    values.push_back(value);
  }
  return values;
}

Expected<RecordAccuracy> accuracyFrom(const JsonView &json) {
  RecordAccuracy accuracy;
  KF_TRY(accuracy.reference, json.stringOr("reference", maxName, ""));
  KF_TRY(accuracy.maxAbs, json.number("max_abs", 0, largest));
  KF_TRY(accuracy.maxRel, json.number("max_rel", 0, largest));
  KF_TRY(accuracy.l2Rel, json.number("l2_rel", 0, largest));
  KF_TRY(accuracy.cosineDiff, json.number("cosine_diff", -largest, largest));
  KF_TRY(accuracy.nan, json.integer("nan", 0, mostBytes));
  KF_TRY(accuracy.poisonedLeft, json.integer("poisoned_left", 0, mostBytes));
  KF_TRY(accuracy.tolerance, json.number("tolerance", 0, largest));
  KF_TRY(accuracy.pass, json.boolean("pass"));
  return accuracy;
}

Expected<RecordResources> resourcesFrom(const JsonView &json) {
  RecordResources resources;
  KF_TRY(resources.registers, json.integerOr("registers", 0, mostBytes, -1));
  KF_TRY(resources.spillBytes, json.integerOr("spill_bytes", 0, mostBytes, -1));
  KF_TRY(resources.sharedBytes, json.integerOr("shared_bytes", 0, mostBytes, -1));
  KF_TRY(resources.codeBytes, json.integerOr("code_bytes", 0, mostBytes, 0));
  return resources;
}

Expected<RecordKey> keyFrom(const JsonView &json) {
  RecordKey key;
  KF_TRY(key.family, json.string("family", maxName));
  KF_TRY(key.kernelHash, json.string("kernel_hash", maxName));
  KF_TRY(key.problem, objectText(json, "problem"));
  KF_TRY(key.target, json.string("target", maxText));
  KF_TRY(key.cpuModel, json.string("cpu_model", maxName));
  KF_TRY(key.toolchain, json.string("toolchain", maxName));
  KF_TRY(key.threads, json.integer("threads", 1, 1 << 20));
  KF_TRY(key.affinity, json.string("affinity", maxName));
  KF_TRY(std::string id, json.string("key", maxName));
  if (id != key.id()) {
    KF_TRY(JsonView view, json.at("key"));
    return view.error(fmt::format("is {}, but the fields of the key give {}", id, key.id()));
  }
  return key;
}

Expected<RecordStatus> statusFrom(const JsonView &json) {
  KF_TRY(std::string name, json.string("status", maxName));
  if (std::optional<RecordStatus> status = statusFromName(name))
    return *status;
  KF_TRY(JsonView view, json.at("status"));
  return view.error(fmt::format("\"{}\" is no status", name));
}

Status readFigures(const JsonView &json, Record &record) {
  KF_TRY(record.samplesNs, samples(json, "samples_ns"));
  KF_TRY(record.medianNs, optionalNumber(json, "median_ns", leastNs, mostNs));
  KF_TRY(record.madNs, optionalNumber(json, "mad_ns", 0, mostNs));
  KF_TRY(record.baseline, json.stringOr("baseline", maxName, ""));
  KF_TRY(record.baselineNs, samples(json, "baseline_ns"));
  KF_TRY(record.ratio, optionalNumber(json, "ratio", 1e-9, 1e9));
  KF_TRY(record.gflops, optionalNumber(json, "gflops", 0, largest));
  KF_TRY(record.gbPerS, optionalNumber(json, "gb_per_s", 0, largest));
  KF_TRY(record.pctOfCeiling, optionalNumber(json, "pct_roofline", 0, largest));
  KF_TRY(record.vendorRatio, optionalNumber(json, "vendor_ratio", 0, largest));
  KF_TRY(record.compileMs, optionalNumber(json, "compile_ms", 0, largest));
  KF_TRY(record.predictedNs, optionalNumber(json, "predicted_ns", 0, largest));
  if (json.has("accuracy")) {
    KF_TRY(JsonView accuracy, json.object("accuracy"));
    KF_TRY(record.accuracy, accuracyFrom(accuracy));
  }
  if (json.has("resources")) {
    KF_TRY(JsonView resources, json.object("resources"));
    KF_TRY(record.resources, resourcesFrom(resources));
  }
  return {};
}

} // namespace

std::string RecordKey::text() const { return compact(toJson(*this)); }

std::string RecordKey::id() const { return shortHash(text()); }

std::vector<std::string> keyDifferences(const RecordKey &here, const RecordKey &record) {
  auto show = [](const Json &value) {
    return value.is_string() ? value.get<std::string>() : compact(value);
  };
  const Json ours = toJson(here), theirs = toJson(record);
  std::vector<std::string> lines;
  for (const auto &[field, value] : ours.items())
    if (const Json &other = theirs.at(field); value != other)
      lines.push_back(
          fmt::format("{}: {} here, {} in the record", field, show(value), show(other)));
  return lines;
}

Json toJson(const RecordResources &resources) {
  Json json = {{"code_bytes", resources.codeBytes}};
  for (const auto &[name, value] :
       {std::pair("registers", resources.registers), std::pair("spill_bytes", resources.spillBytes),
        std::pair("shared_bytes", resources.sharedBytes)})
    if (value >= 0)
      json[name] = value;
  return json;
}

Json toJson(const Record &record) {
  Json json = toJson(record.key);
  json["schema_version"] = recordSchemaVersion;
  json["key"] = record.key.id();
  setText(json, "name", record.name);
  json["variant"] = record.variant;
  json["schedule"] = objectOrText(record.schedule);
  setText(json, "schedule_source", record.scheduleSource);
  json["status"] = statusName(record.status);
  setText(json, "error", errorText(record.error));
  json["mode"] = record.mode;
  json["samples_ns"] = record.samplesNs;
  setNumber(json, "median_ns", record.medianNs);
  setNumber(json, "mad_ns", record.madNs);
  setText(json, "baseline", record.baseline);
  if (!record.baselineNs.empty())
    json["baseline_ns"] = record.baselineNs;
  setNumber(json, "ratio", record.ratio);
  setNumber(json, "gflops", record.gflops);
  setNumber(json, "gb_per_s", record.gbPerS);
  setNumber(json, "pct_roofline", record.pctOfCeiling);
  setText(json, "bound", record.bound);
  setNumber(json, "vendor_ratio", record.vendorRatio);
  if (record.software)
    json["software"] = true;
  json["trusted"] = record.trusted;
  setText(json, "why_untrusted", record.whyUntrusted);
  if (record.accuracy)
    json["accuracy"] = toJson(*record.accuracy);
  setText(json, "code_hash", record.codeHash);
  json["resources"] = toJson(record.resources);
  setNumber(json, "compile_ms", record.compileMs);
  setNumber(json, "predicted_ns", record.predictedNs);
  setText(json, "kernel", record.kernel);
  json["run"] = objectOrText(record.run);
  setText(json, "output_bits", record.outputBits);
  setText(json, "strategy", record.strategy);
  json["seed"] = record.seed;
  json["trial"] = record.trial;
  setText(json, "created", record.created);
  setText(json, "order_class", record.orderClass);
  setText(json, "inputs", record.inputs);
  return json;
}

Expected<Record> recordFromJson(const JsonView &json) {
  KF_CHECK(json.integer("schema_version", recordSchemaVersion, recordSchemaVersion));
  Record record;
  KF_TRY(record.key, keyFrom(json));
  KF_TRY(record.name, json.stringOr("name", maxName, ""));
  KF_TRY(record.variant, json.string("variant", maxName));
  KF_TRY(record.schedule, objectText(json, "schedule"));
  KF_TRY(record.scheduleSource, json.stringOr("schedule_source", maxName, ""));
  KF_TRY(record.status, statusFrom(json));
  KF_TRY(record.error, json.stringOr("error", maxErrorText, ""));
  KF_TRY(record.mode, json.stringOr("mode", maxName, "warm"));
  KF_CHECK(readFigures(json, record));
  KF_TRY(record.bound, json.stringOr("bound", maxName, ""));
  KF_TRY(record.software, json.booleanOr("software", false));
  KF_TRY(record.trusted, json.booleanOr("trusted", true));
  KF_TRY(record.whyUntrusted, json.stringOr("why_untrusted", maxName, ""));
  KF_TRY(record.codeHash, json.stringOr("code_hash", maxName, ""));
  KF_TRY(record.kernel, json.stringOr("kernel", maxRecordBytes, ""));
  if (json.has("run")) {
    KF_TRY(record.run, objectText(json, "run"));
  }
  KF_TRY(record.outputBits, json.stringOr("output_bits", maxName, ""));
  KF_TRY(record.strategy, json.stringOr("strategy", maxName, ""));
  KF_TRY(record.seed, json.integerOr("seed", INT64_MIN, INT64_MAX, 0));
  KF_TRY(record.trial, json.integerOr("trial", INT64_MIN, INT64_MAX, 0));
  KF_TRY(record.created, json.stringOr("created", maxName, ""));
  KF_TRY(record.orderClass, json.stringOr("order_class", maxName, ""));
  KF_TRY(record.inputs, json.stringOr("inputs", maxName, ""));
  return record;
}

Expected<std::string> recordLine(const Record &record) {
  const Json json = toJson(record);
  std::string line = compact(json);
  line.pop_back(); // the closing brace comes after the checksum
  const std::string checksum = shortHash(line);
  line += checksumField;
  line += checksum;
  line += "\"}";
  // Both what is refused and what is not the same afterwards: a number that is not finite became
  // null, bytes that are no UTF-8 became U+FFFD.
  KF_TRY(Record back, recordFromLine(line, "record to be written"));
  const Json again = toJson(back);
  for (const auto &[field, value] : json.items())
    if (!again.contains(field) || again[field] != value)
      return unusable(std::string(purpose), fmt::format("record to be written, field {}", field),
                      "it would not read the same again");
  return line;
}

bool isWholeRecordLine(std::string_view line) {
  const size_t tail = checksumField.size() + hashDigits + 2;
  if (line.size() < tail || !line.ends_with("\"}"))
    return false;
  std::string_view body = line.substr(0, line.size() - tail);
  std::string_view rest = line.substr(body.size());
  return rest.starts_with(checksumField) &&
         rest.substr(checksumField.size(), hashDigits) == shortHash(body);
}

Expected<Record> recordFromLine(std::string_view line, std::string_view where) {
  if (!isWholeRecordLine(line))
    return unusable(std::string(purpose), std::string(where), "its checksum is wrong");
  KF_TRY(JsonDocument document, parseJson(line, purpose, where, recordLimits));
  return recordFromJson(document.root());
}

} // namespace kernelforge
