#include "BenchRows.h"

#include "Rows.h"

#include "kernelforge/support/Host.h"
#include "kernelforge/support/Version.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <map>
#include <numeric>

using namespace kernelforge;
using namespace kernelforge::cli;

std::string BenchTest::name() const {
  std::string text = prompt > 0 ? fmt::format("pp{}", prompt) : "";
  if (generate > 0)
    text += fmt::format("{}tg{}", text.empty() ? "" : "+", generate);
  return depth > 0 ? text + fmt::format("@d{}", depth) : text;
}

std::vector<double> BenchRow::rates() const {
  std::vector<double> out;
  for (int64_t time : nanoseconds)
    out.push_back(1e9 * static_cast<double>(test.tokens()) / static_cast<double>(time));
  return out;
}

std::string cli::timeOfNow() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

namespace {

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
}

/// Mean and sample standard deviation (0 of a single value).
struct Moments {
  double mean = 0, deviation = 0;
};

template <typename T> Moments momentsOf(const std::vector<T> &values) {
  const auto count = static_cast<double>(values.size());
  Moments out;
  out.mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  double squares = 0;
  for (T value : values)
    squares += std::pow(static_cast<double>(value) - out.mean, 2);
  if (values.size() > 1)
    out.deviation = std::sqrt(squares / (count - 1));
  return out;
}

/// What weights a model has, counted.
struct ModelSize {
  int64_t bytes = 0;                   ///< as they lie in its files
  int64_t parameters = 0;              ///< numbers in them
  ElementType type = ElementType::F32; ///< of most of these
};

ModelSize sizeOf(const ModelFile &file) {
  ModelSize size;
  std::map<ElementType, int64_t> byType;
  for (const Weight &weight : file.weights) {
    int64_t count = 1;
    for (int64_t dimension : weight.shape)
      count *= dimension;
    size.bytes += static_cast<int64_t>(weight.bytes.size());
    size.parameters += count;
    byType[weight.type] += count;
  }
  int64_t most = 0;
  for (const auto &[type, count] : byType)
    if (count > most) {
      most = count;
      size.type = type;
    }
  return size;
}

/// "134.52 M"
std::string printCount(int64_t count) {
  const auto value = static_cast<double>(count);
  return value < 1e9 ? fmt::format("{:.2f} M", value / 1e6) : fmt::format("{:.2f} B", value / 1e9);
}

/// "llama 134.52 M q4_1"
std::string modelType(const ModelFile &file, const ModelSize &size) {
  return fmt::format("{} {} {}", file.description.architecture, printCount(size.parameters),
                     info(size.type).name);
}

/// Names and values in the order of columns.
using Fields = std::vector<std::pair<std::string, Json>>;

/// llama-bench's fields, then what it has no name for.
Fields fieldsOf(const BenchRow &row, const LoadedModel &model, int64_t prefillChunk,
                const Context &context) {
  const Decoder &decoder = *model.decoder;
  const DeviceInfo &device = decoder.session().device().info();
  const ModelSize size = sizeOf(*model.file);
  const std::string cacheType(info(decoder.cacheType()).name);
  const Moments time = momentsOf(row.nanoseconds), rate = momentsOf(row.rates());
  return {{"build_commit", version().gitCommit},
          {"cpu_info", host().cpu},
          {"gpu_info", device.hasOwnClock() ? device.name : ""},
          {"backends", decoder.session().options().target.kind},
          {"model_filename", model.file->files.empty() ? model.file->name : model.file->path},
          {"model_type", modelType(*model.file, size)},
          {"model_size", size.bytes},
          {"model_n_params", size.parameters},
          {"n_ubatch", prefillChunk},
          {"n_threads", requestedThreads(context)},
          {"type_k", cacheType},
          {"type_v", cacheType},
          {"n_prompt", row.test.prompt},
          {"n_gen", row.test.generate},
          {"n_depth", row.test.depth},
          {"test_time", row.time},
          {"avg_ns", std::llround(time.mean)},
          {"stddev_ns", std::llround(time.deviation)},
          {"avg_ts", rate.mean},
          {"stddev_ts", rate.deviation},
          {"test", row.test.name()},
          {"target", targetName(decoder)},
          {"numerics", numericsText(decoder)},
          {"software", device.software}};
}

std::string cellOf(const Json &value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

/// A literal of SQL: numbers as they are, truth values as 1 and 0.
std::string sqlLiteral(const Json &value) {
  if (value.is_boolean())
    return value.get<bool>() ? "1" : "0";
  if (!value.is_string())
    return value.dump();
  std::string quoted = "'";
  for (char c : value.get<std::string>())
    quoted += c == '\'' ? "''" : std::string(1, c);
  return quoted + "'";
}

std::string sqlType(const Json &value) {
  return value.is_string() ? "TEXT" : value.is_number_float() ? "REAL" : "INTEGER";
}

/// Statements that make a table, where it is not there yet, and add the rows to it.
void printSql(const std::vector<Fields> &rows) {
  std::string columns, names;
  for (const auto &[name, value] : rows.front()) {
    columns += fmt::format("{}  {} {}", columns.empty() ? "" : ",\n", name, sqlType(value));
    names += (names.empty() ? "" : ", ") + name;
  }
  print(fmt::format("CREATE TABLE IF NOT EXISTS llama_bench (\n{}\n);\n", columns));
  for (const Fields &row : rows) {
    std::string values;
    for (const auto &[name, value] : row)
      values += (values.empty() ? "" : ", ") + sqlLiteral(value);
    print(fmt::format("INSERT INTO llama_bench ({}) VALUES ({});\n", names, values));
  }
}

RowTable toCsv(const std::vector<Fields> &rows) {
  RowTable table;
  for (const auto &[name, value] : rows.front())
    table.columns.push_back(name);
  for (const Fields &row : rows) {
    std::vector<std::string> &cells = table.rows.emplace_back();
    for (const auto &[name, value] : row)
      cells.push_back(cellOf(value));
  }
  return table;
}

RowTable toMarkdown(const std::vector<BenchRow> &rows, const LoadedModel &model,
                    const Context &context) {
  const Decoder &decoder = *model.decoder;
  const ModelSize size = sizeOf(*model.file);
  RowTable table{
      {"model", "size", "params", "backend", "threads", "kv cache", "numerics", "test", "t/s"}, {}};
  for (const BenchRow &row : rows) {
    const Moments rate = momentsOf(row.rates());
    table.rows.push_back({modelType(*model.file, size), printBytes(size.bytes),
                          printCount(size.parameters), decoder.session().options().target.kind,
                          std::to_string(requestedThreads(context)), cacheName(decoder),
                          numericsText(decoder), row.test.name(),
                          fmt::format("{:.2f} ± {:.2f}", rate.mean, rate.deviation)});
  }
  return table;
}

RowTable toTable(const std::vector<BenchRow> &rows, const LoadedModel &model,
                 const Context &context) {
  RowTable table{
      {"test", "tokens/s", "lowest", "highest", "model", "kv cache", "numerics", "threads"}, {}};
  for (const BenchRow &row : rows) {
    const std::vector<double> rates = row.rates();
    const auto [low, high] = std::minmax_element(rates.begin(), rates.end());
    table.rows.push_back({row.test.name(), fmt::format("{:.2f}", median(rates)),
                          fmt::format("{:.2f}", *low), fmt::format("{:.2f}", *high),
                          model.file->name, cacheName(*model.decoder), numericsText(*model.decoder),
                          std::to_string(requestedThreads(context))});
  }
  return table;
}

Json rowJson(const BenchRow &row, const LoadedModel &model, const Context &context) {
  return {{"test", row.test.name()},
          {"median_tokens_per_s", median(row.rates())},
          {"samples", row.rates()},
          {"model", model.file->name},
          {"target", targetName(*model.decoder)},
          {"kv_cache", cacheName(*model.decoder)},
          {"numerics", numericsText(*model.decoder)},
          {"software", model.decoder->session().device().info().software},
          {"threads", requestedThreads(context)}};
}

} // namespace

void cli::printBenchRows(const std::vector<BenchRow> &rows, const LoadedModel &model,
                         int64_t prefillChunk, const std::string &format, const Context &context) {
  if (context.json) {
    Json list = Json::array();
    for (const BenchRow &row : rows)
      list.push_back(rowJson(row, model, context));
    return printJson({{"rows", std::move(list)}});
  }
  if (format == "table")
    return printRows(toTable(rows, model, context), {}, format);
  if (format == "md")
    return printRows(toMarkdown(rows, model, context), {}, format);
  std::vector<Fields> fields;
  std::vector<Json> lines;
  for (const BenchRow &row : rows) {
    fields.push_back(fieldsOf(row, model, prefillChunk, context));
    Json &line = lines.emplace_back(Json::object());
    for (const auto &[name, value] : fields.back())
      line[name] = value;
    line["samples_ns"] = row.nanoseconds;
    line["samples_ts"] = row.rates();
  }
  if (format == "sql")
    printSql(fields);
  else
    printRows(toCsv(fields), lines, format);
}
