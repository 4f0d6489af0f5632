#include "Command.h"

#include "NumberOptions.h"

#include "kernelforge/compiler/Targets.h"
#include "kernelforge/support/Host.h"
#include "kernelforge/support/Log.h"
#include "kernelforge/support/Paths.h"
#include "kernelforge/support/Threads.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

using namespace kernelforge;
using namespace kernelforge::cli;

//===----------------------------------------------------------------------===//
// Options
//===----------------------------------------------------------------------===//

CLI::App &cli::addCommand(CLI::App &app, Context &context, const CommandText &text,
                          std::function<Expected<int>()> run) {
  CLI::App *command = app.add_subcommand(text.name, text.summary);
  const bool several = text.example.find('\n') != std::string::npos;
  command->footer((several ? "Examples:\n  kernelforge " : "Example:\n  kernelforge ") +
                  text.example);
  command->add_flag("--json", context.json, "machine-readable output, nothing else on stdout");
  command->add_flag("-v", context.verbosity, "say what is done; -vv and -vvv say more");
  command->callback([&context, name = text.name, run = std::move(run)] {
    context.command = name;
    context.action = run;
  });
  return *command;
}

void cli::addTargetOptions(CLI::App &command, Context &context) {
  command
      .add_option("--target", context.target,
                  fmt::format("what to make code for: {}", fmt::join(targetKinds(), " or ")))
      ->capture_default_str();
  command.add_option("--target-cpu", context.targetCpu,
                     "native (default), a level (avx2, avx512), a processor that LLVM knows, or "
                     "portable: code for any device of a GPU target");
  command.add_option("--target-features", context.targetFeatures,
                     "of a processor, a level and features: avx512,+amx-bf16,-avx512vnni");
  addDeviceOptions(command, context);
  addThreadsOption(command, context);
  command.add_flag("--no-cache", context.noCache, "neither read nor write compiled kernels");
  command.add_flag("--no-records", context.noRecords,
                   "schedules without tuning records: pinned or analytic");
}

void cli::addDeviceOptions(CLI::App &command, Context &context) {
  for (const TargetOption &option : targetOptions())
    command.add_option_function<std::string>(
        "--" + option.name,
        [&context, name = option.name](const std::string &word) {
          context.device.words[name] = word;
        },
        option.text);
}

CLI::Option *cli::addThreadsOption(CLI::App &command, Context &context) {
  return addInteger(command, "-t,--threads", context.threads,
                    "threads (default: the physical cores this process may use)", 1, maxThreads);
}

void cli::addSeedOption(CLI::App &command, Context &context) {
  addInteger(command, "--seed", context.seed, "seed of random numbers", 0, UINT64_MAX)
      ->capture_default_str();
}

Expected<Target> cli::requestedTarget(const Context &context) {
  return parseTarget(context.target, context.targetCpu, context.targetFeatures, context.device);
}

std::string cli::targetText(const Target &target) {
  const std::string features = target.featureString();
  // A processor's name says what it is.
  const bool isPlain = target.kind == targetKinds().front() && !target.chip.empty();
  const std::string kind = isPlain ? "" : target.kind;
  return kind + (kind.empty() || target.chip.empty() ? "" : " ") + target.chip +
         (features.empty() ? "" : " " + features);
}

Expected<SessionOptions> cli::requestedSession(const Context &context) {
  SessionOptions options;
  KF_TRY(options.target, requestedTarget(context));
  options.device = context.device;
  options.threads = context.threads;
  options.cache = !context.noCache;
  options.records = requestedRecords(context);
  return options;
}

std::optional<RecordStore> cli::requestedRecords(const Context &context) {
  if (context.noRecords)
    return std::nullopt;
  Expected<std::filesystem::path> folder = recordsDirectory();
  if (!folder)
    return std::nullopt;
  return RecordStore(*folder);
}

int cli::requestedThreads(const Context &context) {
  return context.threads > 0 ? context.threads : host().physicalCores;
}

//===----------------------------------------------------------------------===//
// Output
//===----------------------------------------------------------------------===//

/// errno of the first write to standard output that failed; 0: none did.
static int outputError = 0;

void cli::print(std::string_view text) {
  if (!outputError &&
      (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0))
    outputError = errno;
}

bool cli::outputFailed() {
  if (!outputError && (std::fflush(stdout) != 0 || std::ferror(stdout)))
    outputError = errno ? errno : EIO;
  errno = outputError;
  return outputError != 0;
}

void cli::printJson(const Json &value) {
  print(value.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

int cli::report(const Error &error, bool json) {
  const Json answer = errorJson(error);
  std::fprintf(stderr, "kernelforge: error: %s\n", error.line().c_str());
  if (json)
    printJson({{"error", answer}});
  return answer["code"].get<int>();
}

Status cli::startLogging(const Context &context) {
  if (context.verbosity > 0) {
    logToStandardError(context.verbosity == 1   ? spdlog::level::info
                       : context.verbosity == 2 ? spdlog::level::debug
                                                : spdlog::level::trace);
    return {};
  }
  KF_TRY(const spdlog::level::level_enum level, logLevelFromEnvironment(spdlog::level::warn));
  logToStandardError(level);
  return {};
}

//===----------------------------------------------------------------------===//
// Signals
//===----------------------------------------------------------------------===//

static std::atomic<bool> interrupted{false};
static std::atomic<bool> polled{false};
static_assert(std::atomic<bool>::is_always_lock_free, "signal handlers set them");

static void onInterrupt(int) {
  if (polled && !interrupted.exchange(true))
    return;
  static constexpr char line[] = "kernelforge: error: interrupted (kernelforge): stopped by user\n";
  [[maybe_unused]] ssize_t written = write(STDERR_FILENO, line, sizeof(line) - 1);
  _exit(static_cast<int>(ErrorKind::Interrupted));
}

const std::atomic<bool> *cli::interruptFlag() {
  polled = true;
  return &interrupted;
}

void cli::installSignalHandlers() {
  struct sigaction action = {};
  action.sa_handler = onInterrupt;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
}

void cli::openStandardStreams() {
  for (int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(stream, F_GETFD) < 0 && ::open("/dev/null", O_RDWR) < 0)
      return; // there is no such device: what is opened first takes its place
}
