// main() of every unit test program. As GoogleTest's own, and a test that ends the program, by a
// signal or by a sanitizer's report, is named on standard error before the program ends as it would
// have.

#include <gmock/gmock.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstring>
#include <string_view>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/common_interface_defs.h>
#define KERNELFORGE_SANITIZED
#endif
#endif

namespace {

/// What runs now; null between tests.
std::atomic<const testing::TestInfo *> current = nullptr;

class Follower : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo &test) override { current = &test; }
  void OnTestEnd(const testing::TestInfo &) override { current = nullptr; }
};

/// All that may be called where a signal was caught.
void write(std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::write(STDERR_FILENO, text.data(), text.size());
    if (count <= 0)
      return;
    text.remove_prefix(static_cast<size_t>(count));
  }
}

void nameTest(std::string_view why) {
  write("\n[  KILLED  ] ");
  if (const testing::TestInfo *test = current) {
    write(test->test_suite_name());
    write(".");
    write(test->name());
  } else {
    write("no test is running");
  }
  write(": ");
  write(why);
  write("\n");
}

struct Caught {
  int number;
  const char *name;
  struct sigaction before = {};
};
std::array<Caught, 5> caught = {{{SIGSEGV, "SIGSEGV"},
                                 {SIGBUS, "SIGBUS"},
                                 {SIGFPE, "SIGFPE"},
                                 {SIGILL, "SIGILL"},
                                 {SIGABRT, "SIGABRT"}}};

void onSignal(int number, siginfo_t *info, void *) {
  for (const Caught &signal : caught)
    if (signal.number == number) {
      nameTest(signal.name);
      ::sigaction(number, &signal.before, nullptr);
    }
  // A fault comes again when its instruction does, with all that a sanitizer says of it. What was
  // sent must be sent again.
  if (info->si_code <= 0)
    ::raise(number);
}

void catchSignals() {
  // A stack that has run over has no room for a handler.
  static std::array<char, 64 << 10> stack;
  stack_t other = {};
  if (::sigaltstack(nullptr, &other) == 0 && (other.ss_flags & SS_DISABLE)) {
    other = {stack.data(), 0, stack.size()};
    ::sigaltstack(&other, nullptr);
  }
  for (Caught &signal : caught) {
    struct sigaction action = {};
    action.sa_sigaction = onSignal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    ::sigaction(signal.number, &action, &signal.before);
  }
#ifdef KERNELFORGE_SANITIZED
  __sanitizer_set_death_callback([] { nameTest("see the report"); });
#endif
}

} // namespace

int main(int argc, char **argv) {
  testing::InitGoogleMock(&argc, argv);
  testing::UnitTest::GetInstance()->listeners().Append(new Follower);
  catchSignals();
  return RUN_ALL_TESTS();
}
