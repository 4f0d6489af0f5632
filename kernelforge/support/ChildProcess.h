// Processes that this one starts and talks to: what their end means, and both ends of the talk.
#pragma once

#include "kernelforge/support/Error.h"
#include "kernelforge/support/Messages.h"

#include <optional>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <utility>
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

/// How a child that was asked did not answer.
struct ChildFault {
  enum class Kind {
    Died,   ///< it ended by itself, or of what it did
    Killed, ///< it was ended from outside (ProcessEnd::fromOutside)
    Silent, ///< it did not answer in time
    Broken, ///< what it answered is no message
  };
  Kind kind = Kind::Died;
  Error error; ///< names the child, and says of what it died
};

struct ChildOptions {
  std::vector<std::string> arguments;        ///< the program, then what it gets
  std::string name;                          ///< what errors call it: "suite worker build/old"
  std::vector<std::string> environment = {}; ///< "NAME=value", added to that of this process
  /// Descriptors of this process that it inherits, and their numbers there (3 and more).
  std::vector<std::pair<int, int>> inherited = {};
  uint64_t mostBytes = 16u << 20; ///< of an answer
};

/// A process that this one starts and asks: messages go to its standard input, each is answered by
/// one on its standard output; its standard error is ours. The end of its input is its sign to end.
class ChildProcess {
public:
  /// Unusable where there is no such program; Failed where it cannot be started for another reason.
  static Expected<ChildProcess> start(const ChildOptions &options);

  ChildProcess(ChildProcess &&other) noexcept;
  ChildProcess &operator=(ChildProcess &&other) noexcept;
  ~ChildProcess() { stop(1); }

  /// Sends a message and waits for the one that answers it, `seconds` for both at most. After a
  /// fault the child is gone. What it says unasked, after an answer, is none.
  tl::expected<Message, ChildFault> ask(const Json &json, double seconds,
                                        std::string_view bytes = {});

  /// Closes its input, waits `seconds` at most for it to end, then kills it.
  void stop(double seconds);

  pid_t pid() const { return process; } ///< -1 where it is gone

private:
  ChildProcess(pid_t process, int input, int output, const ChildOptions &options)
      : process(process), input(input), output(output), name(options.name),
        mostBytes(options.mostBytes) {}
  ChildFault lost(const char *during);
  ChildFault fault(ChildFault::Kind kind, Error error);

  pid_t process = -1;
  int input = -1;  ///< socket that is its standard input
  int output = -1; ///< pipe that is its standard output
  std::string name;
  uint64_t mostBytes = 0;
};

/// The other end: how a child hears and answers who started it.
class ParentChannel {
public:
  /// Takes this process's standard input and output: who reads from there from now on finds its
  /// end, and what is printed goes to standard error, so that no library's words get between the
  /// messages. `name` is what errors call this end.
  static Expected<ParentChannel> take(std::string name);

  ParentChannel(ParentChannel &&other) noexcept;
  ParentChannel &operator=(ParentChannel &&) = delete;
  ~ParentChannel();

  /// Waits for the next message; nothing where there is nobody any more who sends one. Unusable
  /// where what came is no message, and the next may be one.
  Expected<std::optional<Message>> receive();

  /// Failed where there is nobody any more who reads.
  Status send(const Json &json);

private:
  ParentChannel(int input, int output, std::string name);

  int input = -1, output = -1;
  std::string name;
  MessageReader reader;
};

} // namespace kernelforge
