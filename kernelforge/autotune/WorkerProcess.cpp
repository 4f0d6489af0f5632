#include "kernelforge/autotune/WorkerProcess.h"

#include "kernelforge/autotune/Worker.h"
#include "kernelforge/problem/Verification.h"

#include <cstring>

using namespace kernelforge;

static uint64_t aligned(uint64_t bytes) { return (bytes + 4095) / 4096 * 4096; }

/// Whether an argument is read from far in a model: a weight, or a cache that is only read.
static bool isStreamed(const FunctionArgument &argument, const ProblemData &set, size_t index) {
  return !argument.written && (argument.isCache() || set.packed[index].size() > 0);
}

Expected<WorkerProblem> WorkerProblem::create(const KernelProblem &problem) {
  uint64_t total = 0;
  for (const ProblemData &set : problem.data()) {
    for (size_t i = 0; i < set.data.arguments.size(); ++i)
      total += aligned(set.argument(i).size()) +
               (problem.library() ? aligned(set.rowMajor(i).size()) : 0);
    for (const std::vector<float> &reference : set.references)
      total += aligned(reference.size() * sizeof(float));
  }
  WorkerProblem result;
  KF_TRY(result.shared, SharedData::create(total));
  uint64_t offset = 0;
  auto place = [&](std::span<const std::byte> bytes) {
    const uint64_t at = offset;
    if (!bytes.empty())
      std::memcpy(result.shared.data() + at, bytes.data(), bytes.size());
    offset += aligned(bytes.size());
    return at;
  };
  const FunctionSignature &signature = problem.signature();
  result.json = {{"command", "problem"},
                 {"device", problem.options().target.kind},
                 {"device_words", problem.options().device.words},
                 {"threads", problem.options().threads},
                 {"stream_bytes", problem.options().streamBytes},
                 {"sizes", problem.data().front().data.sizeList(signature)}};
  for (const ProblemData &set : problem.data()) {
    Json described = {
        {"arguments", Json::array()}, {"results", Json::array()}, {"outputs", Json::array()}};
    for (size_t i = 0; i < set.data.arguments.size(); ++i) {
      const std::span<const std::byte> bytes = set.argument(i);
      const uint64_t offset = place(bytes);
      // Other variants read the weight as it lies in a file.
      const bool both = problem.library() && bytes.data() != set.rowMajor(i).data();
      described["arguments"].push_back({{"offset", offset},
                                        {"row_major", both ? place(set.rowMajor(i)) : offset},
                                        {"bytes", bytes.size()},
                                        {"row_major_bytes", set.rowMajor(i).size()},
                                        {"streamed", isStreamed(signature.arguments[i], set, i)},
                                        {"written", signature.arguments[i].written}});
    }
    for (const TensorData &output : set.data.results)
      described["results"].push_back(output.bytes());
    const std::vector<const TensorData *> outputs = outputsOf(signature, set.data);
    for (size_t i = 0; i < outputs.size(); ++i) {
      const bool isResult = i < set.data.results.size();
      const int argument = isResult ? -1 : static_cast<int>(outputs[i] - set.data.arguments.data());
      const std::vector<float> &reference = set.references[i];
      described["outputs"].push_back({{"argument", argument},
                                      {"result", isResult ? static_cast<int>(i) : -1},
                                      {"type", static_cast<int>(outputs[i]->type)},
                                      {"offset", place(std::as_bytes(std::span(reference)))},
                                      {"elements", reference.size()},
                                      {"tolerance", set.tolerances[i]}});
    }
    result.json["sets"].push_back(std::move(described));
  }
  return result;
}

Status WorkerProcess::start() {
  if (running())
    return {};
  const std::string path =
      options.executable.empty() ? "/proc/self/exe" : options.executable.string();
  Expected<ChildProcess> started =
      ChildProcess::start({.arguments = {path, "tune-worker", std::to_string(options.memoryBytes)},
                           .name = "tuning worker",
                           .inherited = {{problem.data().descriptor(), workerData}}});
  if (!started)
    return tl::unexpected<Error>(std::move(started).error());
  process = std::move(*started);
  const WorkerAnswer answer = call(problem.description(), options.startSeconds);
  if (answer.outcome == WorkerOutcome::Answered)
    return {};
  stop(); // one that refused the problem is of no use
  return makeError(ErrorKind::Failed, "tuning worker cannot be started", path, answer.why, "");
}

/// What a fault of the worker is to a candidate.
static WorkerOutcome outcomeOf(ChildFault::Kind kind) {
  switch (kind) {
  case ChildFault::Kind::Died:
  case ChildFault::Kind::Broken:
    return WorkerOutcome::Crashed;
  case ChildFault::Kind::Killed:
    return WorkerOutcome::Killed;
  case ChildFault::Kind::Silent:
    return WorkerOutcome::TimedOut;
  }
  return WorkerOutcome::Crashed;
}

WorkerAnswer WorkerProcess::call(const Json &command, double seconds, std::string_view bytes) {
  if (!process)
    return {WorkerOutcome::Crashed, {}, "it is not running"};
  auto answer = process->ask(command, seconds, bytes);
  if (!answer) {
    stop();
    return {outcomeOf(answer.error().kind), {}, answer.error().error.why};
  }
  WorkerAnswer given{WorkerOutcome::Answered, answer->json(), ""};
  if (given.json.contains("error")) {
    given.outcome = WorkerOutcome::Refused;
    given.why = given.json["error"].get<std::string>();
  }
  return given;
}

void WorkerProcess::stop() {
  if (process)
    process->stop(0);
  process.reset();
}
