#include "kernelforge/eval/Report.h"

#include "kernelforge/measure/Timing.h"

#include <fmt/format.h>
#include <limits>
#include <set>

using namespace kernelforge;

static constexpr std::string_view purpose = "report is not usable";
static constexpr uint64_t mostText = 4096;
static constexpr uint64_t mostRows = 10'000;
static constexpr double mostNs = 1e15; // 11 days; more is a defect of the file
static constexpr double least = 1e-9;  // a time or a speed is positive

static Expected<std::vector<double>> readNumbers(const JsonView &row, std::string_view field,
                                                 double most) {
  std::vector<double> numbers;
  KF_TRY(auto views, row.array(field, maxSamples));
  for (const JsonView &view : views) {
    KF_TRY(double number, view.asNumber(least, most));
    numbers.push_back(number);
  }
  return numbers;
}

Expected<std::optional<RowAccuracy>> kernelforge::readAccuracy(const JsonView &row) {
  if (!row.has("accuracy"))
    return std::nullopt;
  RowAccuracy accuracy;
  KF_TRY(JsonView view, row.object("accuracy"));
  KF_TRY(accuracy.pass, view.boolean("pass"));
  KF_TRY(accuracy.l2Rel, view.numberOr("l2_rel", 0, std::numeric_limits<double>::max(), 0));
  return accuracy;
}

static Expected<ReportRow> readRow(const JsonView &view) {
  ReportRow row;
  KF_TRY(row.name, view.string("name", mostText));
  if (row.name.empty())
    return view.error("\"name\" is empty");
  KF_TRY(row.status, view.string("status", 64));
  KF_TRY(row.error, view.stringOr("error", 65'536, ""));
  KF_TRY(row.accuracy, readAccuracy(view));
  if (!row.ok())
    return row;
  KF_TRY(row.trusted, view.boolean("trusted"));
  KF_TRY(row.samples, readNumbers(view, "samples_ns", mostNs));
  KF_TRY(row.anchor, view.string("anchor", 256));
  KF_TRY(row.anchorSamples, readNumbers(view, "anchor_samples", 1e15));
  if (row.samples.size() != row.anchorSamples.size())
    return view.error(fmt::format("{} samples have {} samples of their anchor", row.samples.size(),
                                  row.anchorSamples.size()));
  row.medianNs = median(row.samples);
  KF_TRY(double percent, view.numberOr("pct_roofline", 0, 1e6, 50));
  row.roofline = percent / 100;
  if (view.has("machine_samples")) {
    KF_TRY(auto machines, view.array("machine_samples", maxSamples));
    if (machines.size() != row.samples.size())
      return view.error(
          fmt::format("{} samples have {} of the machine", row.samples.size(), machines.size()));
    for (const JsonView &machine : machines) {
      KF_TRY(MachineState state, readMachine(machine));
      row.machineSamples.push_back(state);
    }
  }
  return row;
}

static Expected<Report> readDocument(const JsonView &root) {
  Report report;
  KF_TRY(int64_t version, root.integer("schema_version", 0, INT32_MAX));
  if (version != reportSchemaVersion)
    return root.error(
        fmt::format("its schema version is {}, {} is read", version, reportSchemaVersion),
        "compare it with the version of kernelforge that wrote it, or measure anew");
  KF_TRY(report.runId, root.stringOr("run_id", 256, ""));
  KF_TRY(report.created, root.stringOr("created", 256, ""));
  KF_TRY(report.suite, root.string("suite", mostText));
  KF_TRY(report.partial, root.booleanOr("partial", false));
  if (root.has("kernelforge")) {
    KF_TRY(JsonView build, root.object("kernelforge"));
    KF_TRY(report.gitCommit, build.stringOr("git_commit", 256, ""));
  }
  KF_TRY(JsonView machine, root.object("host"));
  KF_TRY(report.cpu, machine.string("cpu", mostText));
  KF_TRY(report.cores, machine.integer("cores_used", 0, 1 << 20));
  KF_TRY(report.memoryBytes, machine.integer("memory_bytes", 0, INT64_MAX));
  KF_TRY(JsonView device, root.object("device"));
  KF_TRY(report.target, device.string("target", mostText));
  KF_TRY(report.targetCpu, device.stringOr("cpu", mostText, ""));
  KF_TRY(report.features, device.stringOr("features", mostText, ""));
  KF_TRY(report.deviceName, device.stringOr("name", mostText, ""));
  KF_TRY(report.driver, device.stringOr("driver", mostText, ""));
  KF_TRY(JsonView settings, root.object("settings"));
  KF_TRY(report.threads, settings.integer("threads", 1, 1 << 20));
  KF_TRY(report.mode, settings.string("mode", 64));
  KF_TRY(report.affinity, settings.stringOr("affinity", 64, ""));
  KF_TRY(report.timed, settings.booleanOr("timed", true));
  KF_TRY(report.records, settings.booleanOr("records", true));
  KF_TRY(report.batchSeconds, settings.numberOr("batch_s", 0, 1e6, 0));
  KF_TRY(report.suiteHash, settings.string("suite_hash", 256));
  std::set<std::string> names;
  KF_TRY(auto rows, root.array("rows", mostRows));
  for (const JsonView &view : rows) {
    KF_TRY(ReportRow row, readRow(view));
    if (!names.insert(row.name).second)
      return view.error(fmt::format("the row \"{}\" is there twice", row.name));
    report.rows.push_back(std::move(row));
  }
  return report;
}

static Expected<Report> readChecked(const JsonDocument &document) {
  KF_TRY(Report report, readDocument(document.root()));
  report.where = document.where();
  report.document = document.value();
  return report;
}

Expected<Report> kernelforge::parseReport(std::string_view text, std::string_view where) {
  KF_TRY(JsonDocument document, parseJson(text, purpose, where));
  return readChecked(document);
}

Expected<Report> kernelforge::readReport(const std::string &path) {
  KF_TRY(JsonDocument document, readJsonText(path, purpose));
  return readChecked(document);
}
