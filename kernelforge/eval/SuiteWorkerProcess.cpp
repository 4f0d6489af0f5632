#include "kernelforge/eval/SuiteWorkerProcess.h"

#include <fmt/format.h>

using namespace kernelforge;

/// The error that a worker answered with.
static Error errorIn(const JsonView &answer, const std::string &binary) {
  auto read = [&]() -> Expected<Error> {
    KF_TRY(JsonView view, answer.object("error"));
    Error error;
    KF_TRY(int64_t code, view.integerOr("code", 0, 255, static_cast<int>(ErrorKind::Failed)));
    for (ErrorKind kind : {ErrorKind::No, ErrorKind::Unusable, ErrorKind::Missing})
      if (code == static_cast<int>(kind))
        error.kind = kind;
    KF_TRY(error.what, view.string("what", 4096));
    KF_TRY(error.where, view.stringOr("where", 4096, ""));
    KF_TRY(error.why, view.string("why", 4096));
    KF_TRY(error.hint, view.stringOr("hint", 4096, ""));
    error.where = binary + (error.where.empty() ? "" : ", " + error.where);
    return error;
  };
  Expected<Error> error = read();
  return error ? *error : error.error();
}

Expected<JsonDocument> SuiteWorkerProcess::ask(const Json &command, double seconds) {
  auto answer = process.ask(command, seconds);
  if (!answer)
    return tl::unexpected<Error>(std::move(answer).error().error);
  KF_TRY(bool ok, answer->document.root().boolean("ok"));
  if (!ok)
    return tl::unexpected<Error>(errorIn(answer->document.root(), binary));
  return std::move(answer->document);
}

static Expected<std::vector<ReportRow>> readRows(const JsonView &answer) {
  std::vector<ReportRow> rows;
  KF_TRY(auto views, answer.array("rows", 10'000));
  for (const JsonView &view : views) {
    ReportRow row;
    KF_TRY(row.name, view.string("name", 4096));
    KF_TRY(row.status, view.string("status", 64));
    KF_TRY(row.error, view.stringOr("error", 65'536, ""));
    KF_TRY(row.accuracy, readAccuracy(view));
    rows.push_back(std::move(row));
  }
  return rows;
}

Expected<SuiteWorkerProcess> SuiteWorkerProcess::open(const std::string &binary,
                                                      const SuiteWorkerOptions &options) {
  KF_TRY(ChildProcess process,
         ChildProcess::start({.arguments = {binary, "suite-worker"},
                              .name = "suite worker " + binary,
                              .environment = {"KMP_BLOCKTIME=1"}})); // ms, of LLVM's OpenMP
  SuiteWorkerProcess worker(std::move(process), binary, options.answerSeconds);
  KF_TRY(JsonDocument answer, worker.ask({{"command", "open"},
                                          {"protocol", suiteProtocol},
                                          {"suite", options.suite},
                                          {"folder", options.folder},
                                          {"filter", options.filter},
                                          {"threads", options.threads},
                                          {"seed", options.seed},
                                          {"mode", "warm"},
                                          {"batch_s", options.batchSeconds},
                                          {"verify", options.verify}},
                                         options.openSeconds));
  const JsonView root = answer.root();
  KF_TRY(int64_t protocol, root.integer("protocol", 0, INT32_MAX));
  if (protocol != suiteProtocol)
    return root.error(fmt::format("it speaks protocol {}, not {}", protocol, suiteProtocol));
  if (root.has("kernelforge")) {
    KF_TRY(JsonView build, root.object("kernelforge"));
    KF_TRY(worker.commit, build.stringOr("git_commit", 256, ""));
  }
  KF_TRY(worker.list, readRows(root));
  return worker;
}

Expected<double> SuiteWorkerProcess::measure(size_t row) {
  KF_TRY(JsonDocument answer, ask({{"command", "measure"}, {"row", row}}, answerSeconds));
  return answer.root().number("ns", 1e-9, 1e15);
}
