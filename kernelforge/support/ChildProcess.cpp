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
// The end of who starts
//===----------------------------------------------------------------------===//

namespace {

/// Descriptors from here on are out of the way of the numbers that a child knows its own by.
constexpr int firstFar = 10;

/// A descriptor of ours, closed where it is left.
class Descriptor {
public:
  explicit Descriptor(int number) : number(number) {}
  Descriptor(Descriptor &&other) noexcept : number(other.release()) {}
  Descriptor &operator=(Descriptor &&) = delete;
  ~Descriptor() {
    if (number >= 0)
      ::close(number);
  }
  int get() const { return number; }
  int release() { return std::exchange(number, -1); }

private:
  int number;
};

tl::unexpected<Error> notStarted(const ChildOptions &options, int error) {
  const bool isPath = error == ENOENT || error == EACCES || error == ENOEXEC;
  const ErrorKind kind = isPath ? ErrorKind::Unusable : ErrorKind::Failed;
  return makeError(kind, options.name + " cannot be started", options.arguments.front(),
                   std::strerror(error));
}

/// This process's environment with `own` in place of what it has of those names; pointers to both.
std::vector<char *> environmentWith(const std::vector<std::string> &own) {
  std::vector<char *> all = pointersTo(own);
  for (char **variable = environ; *variable; ++variable) {
    const std::string_view text = *variable;
    const std::string_view assigned = text.substr(0, text.find('=') + 1);
    if (std::ranges::none_of(own, [&](const auto &one) { return one.starts_with(assigned); }))
      all.push_back(*variable);
  }
  all.push_back(nullptr);
  return all;
}

/// Waits until one of `ends` is ready. False where the time is over.
bool waitFor(std::span<pollfd> ends, Clock::time_point deadline) {
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

} // namespace

Expected<ChildProcess> ChildProcess::start(const ChildOptions &options) {
  // A socket, because writing to it after its end has gone raises no signal.
  int in[2], out[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in) != 0)
    return notStarted(options, errno);
  Descriptor input(in[0]), itsInput(in[1]);
  if (::pipe2(out, O_CLOEXEC) != 0)
    return notStarted(options, errno);
  Descriptor output(out[0]), itsOutput(out[1]);
  for (int ours : {in[0], out[0]})
    ::fcntl(ours, F_SETFL, ::fcntl(ours, F_GETFL) | O_NONBLOCK);

  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, in[1], STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
  std::vector<Descriptor> far;
  for (const auto &[ours, its] : options.inherited) {
    far.emplace_back(::fcntl(ours, F_DUPFD_CLOEXEC, firstFar));
    ::posix_spawn_file_actions_adddup2(&actions, far.back().get(), its);
  }
  std::vector<char *> argv = pointersTo(options.arguments);
  argv.push_back(nullptr);
  std::vector<char *> envp = environmentWith(options.environment);
  pid_t process = -1;
  const int error =
      ::posix_spawnp(&process, argv.front(), &actions, nullptr, argv.data(), envp.data());
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0)
    return notStarted(options, error);
  return ChildProcess(process, input.release(), output.release(), options);
}

ChildProcess::ChildProcess(ChildProcess &&other) noexcept
    : process(std::exchange(other.process, -1)), input(std::exchange(other.input, -1)),
      output(std::exchange(other.output, -1)), name(std::move(other.name)),
      mostBytes(other.mostBytes) {}

ChildProcess &ChildProcess::operator=(ChildProcess &&other) noexcept {
  if (this != &other) {
    stop(0);
    process = std::exchange(other.process, -1);
    input = std::exchange(other.input, -1);
    output = std::exchange(other.output, -1);
    name = std::move(other.name);
    mostBytes = other.mostBytes;
  }
  return *this;
}

ChildFault ChildProcess::fault(ChildFault::Kind kind, Error error) {
  stop(0);
  return {kind, std::move(error)};
}

/// The fault of a child that closed its end: with how it ended, where it does within some seconds.
ChildFault ChildProcess::lost(const char *during) {
  const std::optional<ProcessEnd> end = process > 0 ? waitForEnd(process, 5) : std::nullopt;
  if (end)
    process = -1;
  const bool isKilled = end && end->fromOutside();
  return fault(isKilled ? ChildFault::Kind::Killed : ChildFault::Kind::Died,
               {ErrorKind::Failed, name + " died", during,
                end ? "it " + end->text() : "it closed its connection", "its messages are above"});
}

tl::expected<Message, ChildFault> ChildProcess::ask(const Json &json, double seconds,
                                                    std::string_view bytes) {
  const auto deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                           std::chrono::duration<double>(std::min(seconds, 1e6)));
  const std::string message = encodeMessage(json, bytes);
  const std::string command = message.substr(0, std::min<size_t>(message.find('\n'), 60));
  if (process <= 0)
    return tl::unexpected(fault(ChildFault::Kind::Died, {ErrorKind::Failed, name + " died", command,
                                                         "it is not running", ""}));
  MessageReader answers(name + " is not usable", command, mostBytes);
  // It may answer while it still reads: what it writes is taken meanwhile, or both would wait.
  for (size_t sent = 0;;) {
    pollfd ends[2] = {{output, POLLIN, 0}, {input, POLLOUT, 0}};
    if (!waitFor({ends, sent < message.size() ? 2u : 1u}, deadline))
      return tl::unexpected(fault(ChildFault::Kind::Silent,
                                  {ErrorKind::Failed, name + " hangs", command,
                                   fmt::format("it did not answer in {:.3g} s", seconds), ""}));
    if (ends[1].revents != 0) {
      const ssize_t some =
          ::send(input, message.data() + sent, message.size() - sent, MSG_NOSIGNAL);
      if (some < 0 && errno != EAGAIN && errno != EINTR)
        return tl::unexpected(lost("while it was sent a command"));
      sent += static_cast<size_t>(std::max<ssize_t>(some, 0));
    }
    if (ends[0].revents == 0)
      continue;
    char buffer[65536];
    const ssize_t some = ::read(output, buffer, sizeof(buffer));
    if (some < 0 && (errno == EINTR || errno == EAGAIN))
      continue;
    if (some <= 0)
      return tl::unexpected(lost("before it answered"));
    answers.add({buffer, static_cast<size_t>(some)});
    Expected<std::optional<Message>> answer = answers.next();
    if (!answer)
      return tl::unexpected(fault(ChildFault::Kind::Broken, std::move(answer).error()));
    if (*answer)
      return std::move(**answer);
  }
}

void ChildProcess::stop(double seconds) {
  for (int *end : {&input, &output})
    if (*end >= 0)
      ::close(std::exchange(*end, -1));
  if (process > 0 && !waitForEnd(process, seconds))
    killChild(process);
  process = -1;
}

//===----------------------------------------------------------------------===//
// The end of who was started
//===----------------------------------------------------------------------===//

/// A request may carry the code and constants of a whole program.
static constexpr uint64_t mostRequestBytes = uint64_t(1) << 30;

ParentChannel::ParentChannel(int input, int output, std::string name)
    : input(input), output(output), name(std::move(name)),
      reader("request is not usable", this->name, mostRequestBytes) {}

ParentChannel::ParentChannel(ParentChannel &&other) noexcept
    : input(std::exchange(other.input, -1)), output(std::exchange(other.output, -1)),
      name(std::move(other.name)), reader(std::move(other.reader)) {}

ParentChannel::~ParentChannel() {
  for (int end : {input, output})
    if (end >= 0)
      ::close(end);
}

Expected<ParentChannel> ParentChannel::take(std::string name) {
  Descriptor input(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, firstFar));
  Descriptor output(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, firstFar));
  Descriptor nothing(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (input.get() < 0 || output.get() < 0 || nothing.get() < 0 ||
      ::dup2(nothing.get(), STDIN_FILENO) < 0 || ::dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
    return failed("requests cannot be read", name, std::strerror(errno));
  return ParentChannel(input.release(), output.release(), std::move(name));
}

Expected<std::optional<Message>> ParentChannel::receive() {
  for (;;) {
    KF_TRY(std::optional<Message> message, reader.next());
    if (message)
      return message;
    char buffer[65536];
    const ssize_t some = ::read(input, buffer, sizeof(buffer));
    if (some < 0 && errno == EINTR)
      continue;
    if (some <= 0)
      return std::optional<Message>();
    reader.add({buffer, static_cast<size_t>(some)});
  }
}

Status ParentChannel::send(const Json &json) {
  const std::string message = encodeMessage(json);
  for (size_t sent = 0; sent < message.size();) {
    const ssize_t some = ::write(output, message.data() + sent, message.size() - sent);
    if (some < 0 && errno == EINTR)
      continue;
    if (some < 0)
      return failed("answer cannot be written", name, std::strerror(errno));
    sent += static_cast<size_t>(some);
  }
  return {};
}

} // namespace kernelforge
