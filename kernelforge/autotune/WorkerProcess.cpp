#include "kernelforge/autotune/WorkerProcess.h"

#include "kernelforge/autotune/Worker.h"
#include "kernelforge/problem/Verification.h"
#include "kernelforge/support/ChildProcess.h"

#include <cerrno>
#include <cstring>

#include <fmt/format.h>

#include <fcntl.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

extern char **environ;

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
                                      {"tolerance", toleranceOf(outputs[i]->type)}});
    }
    result.json["sets"].push_back(std::move(described));
  }
  return result;
}

Status WorkerProcess::start() {
  if (running())
    return {};
  auto failed = [&](int error) {
    return makeError(ErrorKind::Failed, "tuning worker cannot be started",
                     options.executable.string(), std::strerror(error), "");
  };
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return failed(errno);
  // Out of the way of the numbers that the worker will know them by.
  const int far = ::fcntl(ends[1], F_DUPFD_CLOEXEC, 10);
  const int data = ::fcntl(problem.data().descriptor(), F_DUPFD_CLOEXEC, 10);
  ::close(ends[1]);

  const std::string path =
      options.executable.empty() ? "/proc/self/exe" : options.executable.string();
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, far, workerSocket);
  ::posix_spawn_file_actions_adddup2(&actions, data, workerData);
  std::string limit = std::to_string(options.memoryBytes);
  char name[] = "kernelforge", command[] = "tune-worker";
  char *arguments[] = {name, command, limit.data(), nullptr};
  const int error = ::posix_spawn(&process, path.c_str(), &actions, nullptr, arguments, environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(far);
  ::close(data);
  if (error != 0) {
    ::close(ends[0]);
    process = -1;
    return failed(error);
  }
  socket = ends[0];
  const WorkerAnswer answer = call({problem.description(), {}}, options.startSeconds);
  if (answer.outcome == WorkerOutcome::Answered)
    return {};
  stop(); // one that refused the problem is of no use
  return makeError(ErrorKind::Failed, "tuning worker cannot be started", path, answer.why, "");
}

WorkerAnswer WorkerProcess::call(const Message &message, double seconds) {
  WorkerAnswer answer;
  Message received;
  const Received got =
      sendMessage(socket, message) ? receiveMessage(socket, received, seconds) : Received::Closed;
  if (got == Received::Message) {
    answer.json = std::move(received.json);
    if (answer.json.contains("error")) {
      answer.outcome = WorkerOutcome::Refused;
      answer.why = answer.json["error"].get<std::string>();
    }
    return answer;
  }
  if (got == Received::Closed) {
    answer = fate();
  } else {
    answer.outcome = WorkerOutcome::TimedOut;
    answer.why = fmt::format("no answer in {:.3g} s", seconds);
  }
  stop();
  return answer;
}

WorkerAnswer WorkerProcess::fate() {
  const std::optional<ProcessEnd> end = waitForEnd(process, 5); // it closed its socket
  if (!end)
    return {WorkerOutcome::Crashed, {}, "it closed its connection"};
  process = -1;
  return {end->fromOutside() ? WorkerOutcome::Killed : WorkerOutcome::Crashed, {}, end->text()};
}

void WorkerProcess::stop() {
  if (socket >= 0)
    ::close(socket);
  socket = -1;
  if (process > 0)
    killChild(process);
  process = -1;
}
