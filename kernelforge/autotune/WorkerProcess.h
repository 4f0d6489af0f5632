// The tuner's end of a worker: starts it, talks to it with time limits, and finds out how it ended.
#pragma once

#include "kernelforge/autotune/SharedData.h"
#include "kernelforge/problem/KernelProblem.h"
#include "kernelforge/support/ChildProcess.h"

#include <filesystem>
#include <optional>
#include <string_view>

namespace kernelforge {

struct WorkerOptions {
  std::filesystem::path executable; ///< the kernelforge program; empty: the one that runs
  uint64_t memoryBytes = 0;         ///< a worker's data segment at most; 0: no limit
  double startSeconds = 30;         ///< it must have taken the problem by then
  double answerSeconds = 10;        ///< for a command, beside a multiple of the time it should take
};

/// How a command to a worker ended.
enum class WorkerOutcome {
  Answered,
  Refused,  ///< it answered that it could not: the text says why
  Crashed,  ///< it died: the text says of what
  Killed,   ///< it was ended from outside, by a signal that no code raises by itself
  TimedOut, ///< it did not answer in time, and was killed
};

struct WorkerAnswer {
  WorkerOutcome outcome = WorkerOutcome::Answered;
  Json json;
  std::string why;
};

/// The data of a problem as its workers see it.
class WorkerProblem {
public:
  static Expected<WorkerProblem> create(const KernelProblem &problem);

  const SharedData &data() const { return shared; }
  const Json &description() const { return json; }

private:
  SharedData shared;
  Json json;
};

/// One worker process; started anew by the next command after it died.
class WorkerProcess {
public:
  WorkerProcess(const WorkerProblem &problem, WorkerOptions options)
      : problem(problem), options(std::move(options)) {}
  ~WorkerProcess() { stop(); }
  WorkerProcess(const WorkerProcess &) = delete;
  WorkerProcess &operator=(const WorkerProcess &) = delete;

  /// Starts the worker where none runs. Failed where it cannot be started.
  Status start();

  /// True while a worker runs that holds what was loaded, as far as is known.
  bool running() const { return process.has_value(); }

  /// Ends the worker, if one runs.
  void stop();

  /// Sends a command, with bytes of code behind it where it needs them, and waits for its answer. A
  /// worker that crashes or does not answer in `seconds` is gone afterwards, with all that was
  /// loaded.
  WorkerAnswer call(const Json &command, double seconds, std::string_view bytes = {});

private:
  const WorkerProblem &problem;
  WorkerOptions options;
  std::optional<ChildProcess> process;
};

} // namespace kernelforge
