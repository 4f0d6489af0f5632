#include "kernelforge/support/ChildProcess.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <sstream>
#include <unistd.h>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

/// A shell that runs `script`.
ChildProcess shell(const std::string &script, ChildOptions options = {}) {
  options.arguments = {"/bin/sh", "-c", script};
  options.name = "the shell";
  Expected<ChildProcess> process = ChildProcess::start(options);
  EXPECT_TRUE(process) << process.error().line();
  return std::move(*process);
}

using Answer = tl::expected<Message, ChildFault>;
using Kind = ChildFault::Kind;

const Json nothing = Json::object();

/// The field "x" of an answer.
Json valueOf(const Answer &answer) {
  return answer ? answer->json().value("x", Json()) : Json(answer.error().error.line());
}

std::string errorOf(const Answer &answer, Kind kind) {
  if (answer)
    return "answered " + answer->json().dump();
  EXPECT_EQ(answer.error().kind, kind) << answer.error().error.line();
  EXPECT_EQ(answer.error().error.kind == ErrorKind::Failed, kind != Kind::Broken);
  return answer.error().error.line();
}

bool isAlive(pid_t process) { return ::kill(process, 0) == 0; }

TEST(ChildProcess, AnswersMessages) {
  ChildOptions options;
  options.environment = {"NAME=hello"};
  ChildProcess echo =
      shell("while read -r line; do echo \"{\\\"x\\\": \\\"$NAME ${#line}\\\"}\"; done", options);
  EXPECT_EQ(valueOf(echo.ask({{"a", 1}}, 5)), "hello 7");
  EXPECT_EQ(valueOf(echo.ask({{"a", 22}}, 5)), "hello 8");
  ChildProcess moved = std::move(echo);
  EXPECT_EQ(valueOf(moved.ask({{"a", 333}}, 5)), "hello 9");
  EXPECT_EQ(echo.pid(), -1);
  const pid_t process = moved.pid();
  moved.stop(5);
  EXPECT_FALSE(isAlive(process));
}

TEST(ChildProcess, LongMessagesBothWays) {
  ChildProcess cat = shell("exec cat");
  const std::string text(3'000'000, 'x');
  EXPECT_EQ(valueOf(cat.ask({{"x", text}}, 20)), text);
  std::string bytes(3'000'000, '\n');
  bytes[1000] = '\0';
  const Answer answer = cat.ask({{"x", 1}}, 20, bytes);
  ASSERT_TRUE(answer) << answer.error().error.line();
  EXPECT_EQ(answer->bytes, bytes);
  EXPECT_EQ(answer->json()["x"], 1);
  ChildOptions small;
  small.mostBytes = 100'000;
  ChildProcess other = shell("exec cat", small);
  EXPECT_THAT(errorOf(other.ask({{"x", text}}, 20), Kind::Broken),
              HasSubstr("more than 100000 bytes"));
  EXPECT_EQ(other.pid(), -1);
  other = shell("exec cat", small);
  EXPECT_THAT(errorOf(other.ask({{"x", 1}}, 20, bytes), Kind::Broken),
              HasSubstr("more than 100000 bytes"));
}

TEST(ChildProcess, SaysHowItDied) {
  EXPECT_THAT(errorOf(shell("read -r line; exit 3").ask(nothing, 5), Kind::Died),
              HasSubstr("the shell died (before it answered): it ended with code 3"));
  EXPECT_THAT(errorOf(shell("read -r line; kill -SEGV $$").ask(nothing, 5), Kind::Died),
              HasSubstr("killed by signal 11"));
  EXPECT_THAT(errorOf(shell("read -r line; kill -KILL $$").ask(nothing, 5), Kind::Killed),
              HasSubstr("killed by signal 9"));
  ChildProcess gone = shell("exit 0");
  ::usleep(100'000);
  EXPECT_THAT(errorOf(gone.ask({{"x", std::string(1'000'000, 'x')}}, 5), Kind::Died),
              HasSubstr("ended with code 0"));
  EXPECT_THAT(errorOf(gone.ask(nothing, 5), Kind::Died), HasSubstr("it is not running"));
}

TEST(ChildProcess, WhatIsNoMessageEndsIt) {
  for (const char *said : {"ready", "[1]", "{\"x\": 1", "{\"bytes_behind\": -1}"}) {
    ChildProcess child = shell(std::string("read -r line; echo '") + said + "'; exec sleep 60");
    EXPECT_THAT(errorOf(child.ask(nothing, 5), Kind::Broken), HasSubstr("the shell is not usable"))
        << said;
    EXPECT_EQ(child.pid(), -1);
  }
}

TEST(ChildProcess, DoesNotWaitForEver) {
  const auto start = std::chrono::steady_clock::now();
  ChildProcess silent = shell("exec sleep 60");
  const pid_t process = silent.pid();
  EXPECT_THAT(errorOf(silent.ask(nothing, 0.1), Kind::Silent),
              HasSubstr("it did not answer in 0.1 s"));
  EXPECT_FALSE(isAlive(process));
  // One that does not read either, and one whose answer has no end.
  EXPECT_THAT(
      errorOf(shell("exec sleep 60").ask({{"x", std::string(3'000'000, 'x')}}, 0.1), Kind::Silent),
      HasSubstr("did not answer"));
  EXPECT_THAT(
      errorOf(shell("echo '{\"bytes_behind\": 9}'; exec sleep 60").ask(nothing, 0.1), Kind::Silent),
      HasSubstr("did not answer"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST(ChildProcess, InheritsDescriptorsByTheNumbersThatItKnows) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  ASSERT_EQ(::write(ends[1], "7\n", 2), 2);
  ChildOptions options;
  // What one is called here is what the other is called there.
  options.inherited = {{ends[0], ends[1]}, {ends[1], ends[0]}};
  ChildProcess child = shell("read -r number < /proc/self/fd/" + std::to_string(ends[1]) +
                                 "; read -r line; echo \"{\\\"x\\\": $number}\"",
                             options);
  EXPECT_EQ(valueOf(child.ask(nothing, 5)), 7);
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST(ChildProcess, WhatCannotBeStarted) {
  Expected<ChildProcess> none =
      ChildProcess::start({.arguments = {"/nowhere/program"}, .name = "worker"});
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().kind, ErrorKind::Unusable);
  EXPECT_THAT(none.error().line(), HasSubstr("worker cannot be started (/nowhere/program)"));
}

TEST(ParentChannel, HearsAndAnswersApartFromWhatIsPrinted) {
  int in[2], out[2];
  ASSERT_EQ(::pipe(in), 0);
  ASSERT_EQ(::pipe(out), 0);
  const std::string requests = encodeMessage({{"a", 1}}, "x\ny") + "nonsense\n" + "{\"a\":2}\n";
  ASSERT_EQ(::write(in[1], requests.data(), requests.size()), ssize_t(requests.size()));
  ::close(in[1]);
  std::fflush(stdout);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(in[0], STDIN_FILENO);
    ::dup2(out[1], STDOUT_FILENO);
    Expected<ParentChannel> channel = ParentChannel::take("child");
    if (!channel)
      ::_exit(1);
    std::printf("words of a library\n");
    std::fflush(stdout);
    for (int i = 0;; ++i) {
      auto message = channel->receive();
      if (message && !*message)
        ::_exit(i);
      const Json answer = message ? Json{{"got", (*message)->json()}, {"bytes", (*message)->bytes}}
                                  : Json{{"error", message.error().line()}};
      if (!channel->send(answer))
        ::_exit(2);
    }
  }
  ::close(in[0]);
  ::close(out[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t got; (got = ::read(out[0], buffer, sizeof(buffer))) > 0;)
    text.append(buffer, static_cast<size_t>(got));
  ::close(out[0]);
  const auto end = waitForEnd(child, 10);
  ASSERT_TRUE(end);
  EXPECT_EQ(end->code, 3) << "three messages";
  std::istringstream lines(text);
  std::string line;
  ASSERT_TRUE(std::getline(lines, line));
  EXPECT_EQ(Json::parse(line)["bytes"], "x\ny");
  ASSERT_TRUE(std::getline(lines, line));
  EXPECT_THAT(line, HasSubstr("request is not usable (child"));
  ASSERT_TRUE(std::getline(lines, line));
  EXPECT_EQ(Json::parse(line)["got"]["a"], 2);
  EXPECT_FALSE(std::getline(lines, line));
}

TEST(ProcessEnd, TellsSignalsApart) {
  EXPECT_TRUE((ProcessEnd{0, SIGKILL}.fromOutside()));
  EXPECT_FALSE((ProcessEnd{0, SIGSEGV}.fromOutside()));
  EXPECT_EQ((ProcessEnd{4, 0}.text()), "ended with code 4");
  EXPECT_FALSE(waitForEnd(::getpid(), 0.01)); // no child
}

} // namespace
