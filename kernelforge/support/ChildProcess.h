// Processes that this one starts and talks to: how they end, and one that answers lines by lines.
#pragma once

#include "kernelforge/support/Error.h"

#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

namespace kernelforge {

/// How a process ended.
struct ProcessEnd {
  int code = 0;   ///< its exit code, where no signal ended it
  int signal = 0; ///< the signal that ended it; 0: none did

  /// By a signal that no code raises by itself.
  bool fromOutside() const;
  /// "ended with code 3", "killed by signal 11 (Segmentation fault)".
  std::string text() const;
};

/// Waits `seconds` at most for a child to end and reaps it; nothing where it still runs or is no
/// child of this process.
std::optional<ProcessEnd> waitForEnd(pid_t child, double seconds);

/// Kills a child and reaps it.
void killChild(pid_t child);

/// To be called by a child at its start: it is killed when the thread that started it ends. False
/// where its parent has ended already.
bool endWithParent();

/// Names this process as `ps` and `top` show it, in 15 letters at most, which are kept. A worker
/// that is started by way of /proc/self/exe is "exe" otherwise.
void nameProcess(const char *name);

/// Starts `arguments[0]`, which is looked for as a shell does, with the arguments after it, no
/// input and the file `output` as its standard output and error; waits for its end. Missing where
/// there is no such program, Failed where it cannot be started for another reason.
Expected<ProcessEnd> runToEnd(const std::vector<std::string> &arguments, const std::string &output);

/// A program that reads lines from its standard input and answers each with a line on its standard
/// output; its standard error is ours. The end of its input is its sign to end.
class LineProcess {
public:
  /// Starts `arguments[0]` with the arguments after it. `environment` ("NAME=value") is added to
  /// that of this process. Unusable where there is no such program; Failed where it cannot be
  /// started for another reason. `name` is what errors call it.
  static Expected<LineProcess> start(const std::vector<std::string> &arguments, std::string name,
                                     const std::vector<std::string> &environment = {});

  LineProcess(LineProcess &&other) noexcept;
  LineProcess &operator=(LineProcess &&other) noexcept;
  ~LineProcess() { stop(1); }

  /// Sends `line`, which has no line feed, and waits for the line that answers it, `seconds` for
  /// both at most. Failed where the process ended, sent more than `mostBytes`, or was too slow; it
  /// is gone then.
  Expected<std::string> ask(const std::string &line, double seconds, size_t mostBytes = 16u << 20);

  /// Closes its input, waits `seconds` at most for it to end, then kills it.
  void stop(double seconds);

  pid_t pid() const { return process; } ///< -1 where it is gone

private:
  LineProcess(pid_t process, int input, int output, std::string name)
      : process(process), input(input), output(output), name(std::move(name)) {}
  tl::unexpected<Error> lost(const char *during);

  pid_t process = -1;
  int input = -1;  ///< socket that is its standard input
  int output = -1; ///< pipe that is its standard output
  std::string name;
};

} // namespace kernelforge
