#include "kernelforge/support/ChildProcess.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <unistd.h>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

/// A shell that runs `script`.
LineProcess shell(const std::string &script, const std::vector<std::string> &environment = {}) {
  Expected<LineProcess> process =
      LineProcess::start({"/bin/sh", "-c", script}, "the shell", environment);
  EXPECT_TRUE(process) << process.error().line();
  return std::move(*process);
}

std::string errorOf(const Expected<std::string> &answer) {
  return answer ? "answered " + *answer : answer.error().line();
}

bool isAlive(pid_t process) { return ::kill(process, 0) == 0; }

TEST(LineProcess, AnswersLines) {
  LineProcess echo = shell("while read -r line; do echo \"$NAME $line\"; done", {"NAME=hello"});
  EXPECT_EQ(echo.ask("one", 5).value_or(""), "hello one");
  EXPECT_EQ(echo.ask("two", 5).value_or(""), "hello two");
  LineProcess moved = std::move(echo);
  EXPECT_EQ(moved.ask("three", 5).value_or(""), "hello three");
  EXPECT_EQ(echo.pid(), -1);
  const pid_t process = moved.pid();
  moved.stop(5);
  EXPECT_FALSE(isAlive(process));
}

TEST(LineProcess, LongLinesBothWays) {
  LineProcess cat = shell("exec cat");
  const std::string line(3'000'000, 'x');
  EXPECT_EQ(cat.ask(line, 20).value_or(""), line);
  EXPECT_THAT(errorOf(cat.ask(line, 20, 100'000)), HasSubstr("more than 100000 bytes"));
  EXPECT_EQ(cat.pid(), -1);
}

TEST(LineProcess, SaysHowItDied) {
  EXPECT_THAT(errorOf(shell("read -r line; exit 3").ask("x", 5)),
              HasSubstr("the shell died (before it answered): it ended with code 3"));
  EXPECT_THAT(errorOf(shell("read -r line; kill -SEGV $$").ask("x", 5)),
              HasSubstr("killed by signal 11"));
  LineProcess gone = shell("exit 0");
  ::usleep(100'000);
  EXPECT_THAT(errorOf(gone.ask(std::string(1'000'000, 'x'), 5)), HasSubstr("ended with code 0"));
  EXPECT_THAT(errorOf(gone.ask("x", 5)), HasSubstr("it is not running"));
}

TEST(LineProcess, DoesNotWaitForEver) {
  const auto start = std::chrono::steady_clock::now();
  LineProcess silent = shell("exec sleep 60");
  const pid_t process = silent.pid();
  EXPECT_THAT(errorOf(silent.ask("x", 0.1)), HasSubstr("it did not answer in 0.1 s"));
  EXPECT_FALSE(isAlive(process));
  // One that does not read either.
  EXPECT_THAT(errorOf(shell("exec sleep 60").ask(std::string(3'000'000, 'x'), 0.1)),
              HasSubstr("did not answer"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST(LineProcess, WhatCannotBeStarted) {
  Expected<LineProcess> none = LineProcess::start({"/nowhere/program"}, "worker");
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().kind, ErrorKind::Unusable);
  EXPECT_THAT(none.error().line(), HasSubstr("worker cannot be started (/nowhere/program)"));
}

TEST(ProcessEnd, TellsSignalsApart) {
  EXPECT_TRUE((ProcessEnd{0, SIGKILL}.fromOutside()));
  EXPECT_FALSE((ProcessEnd{0, SIGSEGV}.fromOutside()));
  EXPECT_EQ((ProcessEnd{4, 0}.text()), "ended with code 4");
  EXPECT_FALSE(waitForEnd(::getpid(), 0.01)); // no child
}

} // namespace
