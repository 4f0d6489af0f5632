#include "kernelforge/eval/SuiteReport.h"

#include "kernelforge/compiler/BuildId.h"
#include "kernelforge/eval/Report.h"
#include "kernelforge/support/Host.h"
#include "kernelforge/support/Version.h"

#include <random>

#include <fmt/format.h>

using namespace kernelforge;

static std::string newRunId() {
  std::random_device device;
  return fmt::format("{:08x}{:08x}", device(), device());
}

Json kernelforge::buildJson() {
  return {{"version", version().number},
          {"git_commit", version().gitCommit},
          {"build_id", buildId().value_or("unknown")},
          {"llvm", llvmBuild()},
          {"build_type", version().buildType}};
}

Json kernelforge::hostJson(const SessionOptions &session) {
  const Host &machine = host();
  return {{"cpu", machine.cpuModel},
          {"isa", session.target.enabled},
          {"cores_used", session.threads},
          {"caches",
           {{"l1d_bytes", machine.l1dBytes},
            {"l2_bytes", machine.l2Bytes},
            {"l3_bytes", machine.l3Bytes}}},
          {"memory_bytes", machine.memoryBytes},
          {"os", machine.os}};
}

SuiteReport::SuiteReport(const SuiteRunner &runner, const ReportSettings &settings) {
  const SuiteOptions &options = runner.options();
  const SessionOptions &session = options.rows.session;
  header = {{"schema_version", reportSchemaVersion},
            {"run_id", newRunId()},
            {"created", recordTimeNow()},
            {"suite", runner.suite().name},
            {"kernelforge", buildJson()},
            {"host", hostJson(session)},
            {"device",
             {{"target", session.target.kind},
              {"cpu", session.target.chip},
              {"features", settings.target},
              {"name", runner.device().name},
              {"driver", runner.device().driver},
              {"software", runner.device().software}}},
            {"settings",
             {{"threads", session.threads},
              {"affinity", runner.isBound() ? "cores" : "none"},
              {"seed", settings.seed},
              {"mode", options.cold ? "cold" : "warm"},
              {"rounds", settings.rounds},
              {"warmup", options.warmup},
              {"batch_s", options.batchSeconds},
              {"timed", options.timed},
              {"bitwise", options.bitwise},
              {"vendors", options.rows.vendors},
              {"records", session.records.has_value()},
              {"filter", settings.filter},
              {"suite_hash", runner.suite().hash}}}};
}

Json SuiteReport::toJson(const SuiteRounds &rounds) const {
  Json report = header;
  report["partial"] = !rounds.isComplete();
  report["anchors"] = rounds.anchorsJson();
  report["rows"] = rounds.rowsJson();
  return report;
}

/// Names the fields of `now` that the report has otherwise.
static void addDifferences(const Json &now, const Json &then, const std::string &path,
                           std::string &differences) {
  for (const auto &[name, value] : now.items()) {
    const Json other = then.is_object() && then.contains(name) ? then[name] : Json();
    if (value.is_object())
      addDifferences(value, other, path + name + ".", differences);
    else if (value != other)
      differences += fmt::format("{}{}{} is {} now and was {}", differences.empty() ? "" : ", ",
                                 path, name, value.dump(), other.dump());
  }
}

Status SuiteReport::resume(const JsonView &report) {
  KF_TRY(bool partial, report.boolean("partial"));
  if (!partial)
    return report.error("it is complete: nothing is left to measure", "leave out --resume");
  std::string differences;
  for (const char *part : {"schema_version", "suite", "kernelforge", "host", "device", "settings"})
    addDifferences({{part, header[part]}}, report.value(), "", differences);
  if (!differences.empty())
    return report.error("it was measured otherwise: " + differences,
                        "measure as it was, or leave out --resume");
  KF_TRY(std::string id, report.string("run_id", 64));
  KF_TRY(std::string created, report.string("created", 64));
  header["run_id"] = id;
  header["created"] = created;
  return {};
}
