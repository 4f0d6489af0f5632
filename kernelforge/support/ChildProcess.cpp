#include "kernelforge/support/ChildProcess.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <span>
#include <utility>

#include <fmt/format.h>

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

namespace kernelforge {

using Clock = std::chrono::steady_clock;

//===----------------------------------------------------------------------===//
// How processes end
//===----------------------------------------------------------------------===//

bool ProcessEnd::fromOutside() const {
  return signal == SIGKILL || signal == SIGTERM || signal == SIGINT || signal == SIGHUP;
}

std::string ProcessEnd::text() const {
  return signal == 0 ? fmt::format("ended with code {}", code)
                     : fmt::format("killed by signal {} ({})", signal, ::strsignal(signal));
}

std::optional<ProcessEnd> waitForEnd(pid_t child, double seconds) {
  const auto deadline = Clock::now() + std::chrono::duration<double>(seconds);
  for (;;) {
    int status = 0;
    const pid_t ended = ::waitpid(child, &status, WNOHANG);
    if (ended == child)
      return WIFSIGNALED(status) ? ProcessEnd{0, WTERMSIG(status)}
                                 : ProcessEnd{WEXITSTATUS(status), 0};
    if ((ended < 0 && errno != EINTR) || Clock::now() >= deadline)
      return std::nullopt;
    ::usleep(5'000);
  }
}

void killChild(pid_t child) {
  ::kill(child, SIGKILL);
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
}

bool endWithParent() {
  const pid_t parent = ::getppid();
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  return ::getppid() == parent;
}

void nameProcess(const char *name) { ::prctl(PR_SET_NAME, name); }

static std::vector<char *> pointersTo(const std::vector<std::string> &texts) {
  std::vector<char *> pointers;
  for (const std::string &text : texts)
    pointers.push_back(const_cast<char *>(text.c_str()));
  return pointers;
}

Expected<ProcessEnd> runToEnd(const std::vector<std::string> &arguments,
                              const std::string &output) {
  const std::string &program = arguments.front();
  std::vector<char *> argv = pointersTo(arguments);
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output.c_str(),
                                     O_WRONLY | O_CREAT | O_TRUNC, 0600);
  ::posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  pid_t process = -1;
  const int error =
      ::posix_spawnp(&process, program.c_str(), &actions, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error == ENOENT)
    return missing("program cannot be started", program, "it is not installed here",
                   fmt::format("install {}", program));
  if (error != 0)
    return failed("program cannot be started", program, std::strerror(error));
  int status = 0;
  while (::waitpid(process, &status, 0) < 0)
    if (errno != EINTR)
      return failed("program was lost", program, std::strerror(errno));
  return WIFSIGNALED(status) ? ProcessEnd{0, WTERMSIG(status)} : ProcessEnd{WEXITSTATUS(status), 0};
}

//===----------------------------------------------------------------------===//
// LineProcess
//===----------------------------------------------------------------------===//

static tl::unexpected<Error> notStarted(const std::string &program, const std::string &name,
                                        int error) {
  const bool isPath = error == ENOENT || error == EACCES || error == ENOEXEC;
  const ErrorKind kind = isPath ? ErrorKind::Unusable : ErrorKind::Failed;
  return makeError(kind, name + " cannot be started", program, std::strerror(error));
}

Expected<LineProcess> LineProcess::start(const std::vector<std::string> &arguments,
                                         std::string name,
                                         const std::vector<std::string> &environment) {
  const std::string &program = arguments.front();
  // A socket, because writing to it after its end has gone raises no signal.
  int in[2], out[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in) != 0)
    return notStarted(program, name, errno);
  if (::pipe2(out, O_CLOEXEC) != 0) {
    const int error = errno;
    ::close(in[0]);
    ::close(in[1]);
    return notStarted(program, name, error);
  }
  for (int ours : {in[0], out[0]})
    ::fcntl(ours, F_SETFL, ::fcntl(ours, F_GETFL) | O_NONBLOCK);

  std::vector<char *> argv = pointersTo(arguments);
  argv.push_back(nullptr);
  std::vector<char *> envp = pointersTo(environment);
  for (char **variable = environ; *variable; ++variable) {
    const std::string_view text = *variable;
    const std::string_view assigned = text.substr(0, text.find('=') + 1);
    if (std::ranges::none_of(environment,
                             [&](const auto &own) { return own.starts_with(assigned); }))
      envp.push_back(*variable);
  }
  envp.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, in[1], STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
  pid_t process = -1;
  const int error =
      ::posix_spawnp(&process, program.c_str(), &actions, nullptr, argv.data(), envp.data());
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(in[1]);
  ::close(out[1]);
  if (error != 0) {
    ::close(in[0]);
    ::close(out[0]);
    return notStarted(program, name, error);
  }
  return LineProcess(process, in[0], out[0], std::move(name));
}

LineProcess::LineProcess(LineProcess &&other) noexcept
    : process(std::exchange(other.process, -1)), input(std::exchange(other.input, -1)),
      output(std::exchange(other.output, -1)), name(std::move(other.name)) {}

LineProcess &LineProcess::operator=(LineProcess &&other) noexcept {
  if (this != &other) {
    stop(0);
    process = std::exchange(other.process, -1);
    input = std::exchange(other.input, -1);
    output = std::exchange(other.output, -1);
    name = std::move(other.name);
  }
  return *this;
}

/// The error of a process that closed its end: with how it ended, where it does within a second.
tl::unexpected<Error> LineProcess::lost(const char *during) {
  const std::optional<ProcessEnd> end = process > 0 ? waitForEnd(process, 1) : std::nullopt;
  if (end)
    process = -1;
  stop(0);
  return failed(name + " died", during, end ? "it " + end->text() : "it closed its connection",
                "its messages are above");
}

/// Waits until one of `ends` is ready. False where the time is over.
static bool waitFor(std::span<pollfd> ends, Clock::time_point deadline) {
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    const int wait = static_cast<int>(std::clamp<int64_t>(left + 1, 0, 1'000'000));
    const int ready = ::poll(ends.data(), ends.size(), wait);
    if (ready > 0)
      return true;
    if (ready == 0 && left <= 0)
      return false;
  }
}

Expected<std::string> LineProcess::ask(const std::string &line, double seconds, size_t mostBytes) {
  const auto deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                           std::chrono::duration<double>(std::min(seconds, 1e6)));
  auto unusable = [&](const char *what, std::string why) {
    stop(0);
    return failed(name + what, line.substr(0, 60), std::move(why));
  };
  if (process <= 0)
    return unusable(" died", "it is not running");
  const std::string message = line + "\n";
  std::string answer;
  // It may answer while it still reads: what it writes is taken meanwhile, or both would wait.
  for (size_t sent = 0;;) {
    pollfd ends[2] = {{output, POLLIN, 0}, {input, POLLOUT, 0}};
    if (!waitFor({ends, sent < message.size() ? 2u : 1u}, deadline))
      return unusable(" hangs", fmt::format("it did not answer in {:.3g} s", seconds));
    if (ends[1].revents != 0) {
      const ssize_t some =
          ::send(input, message.data() + sent, message.size() - sent, MSG_NOSIGNAL);
      if (some < 0 && errno != EAGAIN && errno != EINTR)
        return lost("while it was sent a command");
      sent += static_cast<size_t>(std::max<ssize_t>(some, 0));
    }
    if (ends[0].revents == 0)
      continue;
    char buffer[65536];
    const ssize_t some = ::read(output, buffer, sizeof(buffer));
    if (some < 0 && (errno == EINTR || errno == EAGAIN))
      continue;
    if (some <= 0)
      return lost("before it answered");
    const std::string_view more(buffer, static_cast<size_t>(some));
    const size_t end = more.find('\n');
    answer += more.substr(0, end);
    if (answer.size() > mostBytes)
      return unusable(" is not usable",
                      fmt::format("its answer has more than {} bytes", mostBytes));
    if (end != more.npos)
      return answer; // what it says unasked, after its answer, is none
  }
}

void LineProcess::stop(double seconds) {
  for (int *end : {&input, &output})
    if (*end >= 0)
      ::close(std::exchange(*end, -1));
  if (process > 0 && !waitForEnd(process, seconds))
    killChild(process);
  process = -1;
}

} // namespace kernelforge
