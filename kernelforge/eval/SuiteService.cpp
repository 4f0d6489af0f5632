#include "kernelforge/eval/SuiteService.h"

#include "kernelforge/eval/SuiteReport.h"
#include "kernelforge/eval/SuiteWorkerProcess.h"
#include "kernelforge/measure/AccuracyJson.h"

using namespace kernelforge;

static Json rowJson(const PreparedRow &row) {
  Json json = {
      {"name", row.row->name}, {"family", row.row->family}, {"status", statusName(row.status)}};
  if (!row.error.empty())
    json["error"] = row.error;
  if (row.accuracy)
    json["accuracy"] = accuracyJson(*row.accuracy);
  if (row.run)
    json.update({{"flops", row.run->flops()}, {"bytes", row.run->bytes()}});
  if (row.timed)
    json.update({{"bound", row.computeBound ? "compute" : "memory"}, {"anchor", row.anchor}});
  return json;
}

Expected<Json> SuiteService::open(const JsonView &request) {
  KF_TRY(int64_t protocol, request.integer("protocol", 0, 1'000'000));
  if (protocol != suiteProtocol)
    return request.error("this program speaks another protocol");
  KF_TRY(JsonView document, request.object("suite"));
  KF_TRY(std::string folder, request.stringOr("folder", 4096, ""));
  KF_TRY(Suite suite, parseSuite(document, folder));
  KF_TRY(std::string filter, request.stringOr("filter", 4096, ""));
  KF_TRY(suite, filterSuite(std::move(suite), filter));
  KF_TRY(int64_t threads, request.integer("threads", 1, 4096));
  KF_TRY(int64_t seed, request.integer("seed", 0, INT64_MAX));
  KF_TRY(std::string mode, request.stringOr("mode", 16, "warm"));
  KF_TRY(options.batchSeconds, request.number("batch_s", 1e-6, 10));
  KF_TRY(options.rows.verified, request.booleanOr("verify", true));
  options.cold = mode == "cold";
  options.rows.session.threads = static_cast<int>(threads);
  options.rows.seed = static_cast<uint64_t>(seed);
  KF_TRY(runner, SuiteRunner::create(std::move(suite), options));
  Json rows = Json::array();
  for (size_t row = 0; row < runner->rows().size(); ++row) {
    KF_CHECK(runner->prepare(row));
    rows.push_back(rowJson(runner->rows()[row]));
  }
  return Json{{"protocol", suiteProtocol},
              {"kernelforge", buildJson()},
              {"host", hostJson(options.rows.session)},
              {"rows", std::move(rows)}};
}

Expected<size_t> SuiteService::rowOf(const JsonView &request) const {
  if (!runner)
    return request.error("no suite is open");
  const auto count = static_cast<int64_t>(runner->rows().size());
  KF_TRY(int64_t row, request.integer("row", 0, count - 1));
  if (!runner->rows()[static_cast<size_t>(row)].isOk())
    return request.error("the row did not come up");
  return static_cast<size_t>(row);
}

Expected<Json> SuiteService::measure(const JsonView &request) {
  KF_TRY(size_t row, rowOf(request));
  KF_TRY(double ns, runner->sample(row));
  return Json{{"ns", ns}};
}

Expected<Json> SuiteService::answer(const JsonView &request) {
  KF_TRY(std::string command, request.string("command", 64));
  if (command == "open")
    return open(request);
  if (command == "measure")
    return measure(request);
  if (command == "verify") {
    KF_TRY(size_t row, rowOf(request));
    if (!options.rows.verified)
      return request.error("the suite was opened without verifying");
    KF_CHECK(runner->verifyAgain(row));
    return Json{{"accuracy", accuracyJson(*runner->rows()[row].accuracy)}};
  }
  if (command == "anchors" && runner) {
    Json values = Json::object();
    for (const std::string &name : runner->anchors().names())
      values[name] = runner->anchor(name);
    return Json{{"values", std::move(values)}};
  }
  return request.error("there is no command '" + command + "', or no suite is open");
}

Status SuiteService::serve(ParentChannel &channel) {
  for (;;) {
    const Expected<std::optional<Message>> request = channel.receive();
    if (request && !*request)
      return {};
    const Expected<Json> answered =
        request ? answer((*request)->document.root()) : tl::unexpected<Error>(request.error());
    Json json;
    if (answered) {
      json = *answered;
      json["ok"] = true;
    } else {
      json = {{"ok", false}, {"error", errorJson(answered.error())}};
      if (answered.error().kind == ErrorKind::Interrupted)
        return tl::unexpected(answered.error());
    }
    KF_CHECK(channel.send(json));
  }
}
