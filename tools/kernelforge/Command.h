// What all commands share: options, how a command is added and answers, output, interruption.
//
// A command is one file with one function `void addXxx(CLI::App &app, Context &context)`, declared
// in Commands.h and listed in main.cpp:
//
//     void addGreet(CLI::App &app, Context &context) {
//       auto name = std::make_shared<std::string>();
//       CLI::App &command = addCommand(app, context, {"greet", "says hello", "greet --name Ada"},
//                                      [=, &context] { return greet(*name, context); });
//       addTargetOptions(command, context);
//       command.add_option("--name", *name, "whom to greet")->required();
//     }
//
// `greet` returns Expected<int>: an exit code, or an error that the frame prints. Options that take
// numbers or lists are added by NumberOptions.h, those that take one of some words check oneOf of
// Usage.h, and what a user names as an output is written by writeOutput.
#pragma once

#include "kernelforge/compiler/Session.h"
#include "kernelforge/records/RecordStore.h"
#include "kernelforge/support/Error.h"
#include "kernelforge/support/Json.h"

#include <CLI/CLI.hpp>

#include <atomic>
#include <functional>
#include <string>
#include <string_view>

namespace kernelforge::cli {

/// Values of the options that commands share, as the user gave them.
struct Context {
  bool json = false;
  int verbosity = 0; ///< how many -v
  std::string target = targetKinds().front();
  std::string targetCpu;      ///< empty: this machine
  std::string targetFeatures; ///< "+a,-b" or a level
  DeviceOptions device;       ///< options of single targets
  int threads = 0;            ///< 0: the physical cores that this process may use
  uint64_t seed = 0;
  bool noCache = false;
  bool noRecords = false;

  /// The chosen command; set while the command line is parsed.
  std::function<Expected<int>()> action;
  std::string command; ///< its name
};

/// Name, summary, and an example without the program's name: "compile block.mlir --run". Further
/// ones follow on lines of their own, as they are shown.
struct CommandText {
  std::string name, summary, example;
};

/// Adds a command with --json and -v. `run` is called after parsing; it returns the exit code. The
/// frame prints its error, and Failed where standard output could not be written (unless it is a
/// pipe whose reader has gone).
CLI::App &addCommand(CLI::App &app, Context &context, const CommandText &text,
                     std::function<Expected<int>()> run);

/// Adds --target, --target-cpu, --target-features, --threads, --no-cache and --no-records.
void addTargetOptions(CLI::App &command, Context &context);

/// Adds the options of single targets' devices (targetOptions()); addTargetOptions has them.
void addDeviceOptions(CLI::App &command, Context &context);

/// Adds --threads alone, for a command that has no target.
CLI::Option *addThreadsOption(CLI::App &command, Context &context);

/// Adds --seed.
void addSeedOption(CLI::App &command, Context &context);

/// The target that was asked for, validated. Unusable where a name is not known, Missing for a
/// target that this build has no code generator for.
Expected<Target> requestedTarget(const Context &context);

/// A target as answers name it: "znver4 -rdpru".
std::string targetText(const Target &target);

/// Options of a session for that target, with threads and cache as asked for.
Expected<SessionOptions> requestedSession(const Context &context);

/// The tuning records of this user; nothing with --no-records or where there is no home directory.
std::optional<RecordStore> requestedRecords(const Context &context);

/// Threads that were asked for, or the physical cores that this process may use.
int requestedThreads(const Context &context);

/// Writes to standard output. A failure is kept and ends the program with exit code 4 later, unless
/// it is a reader that has gone (EPIPE), which is no error. Commands that print for long ask
/// outputFailed() now and then, and stop. It leaves the reason in errno.
void print(std::string_view text);
bool outputFailed();

/// Prints a value as one line; text that is not UTF-8 is made so.
void printJson(const Json &value);

/// The flag that Ctrl-C sets. A command that calls this promises to look at it and to return 130
/// (or ErrorKind::Interrupted) soon after; before the first call, Ctrl-C ends the program at once
/// with 130. A second Ctrl-C always does.
const std::atomic<bool> *interruptFlag();

/// Makes a standard stream that the caller has closed the null device; a file that is opened later
/// would be in its place, and get what is printed.
void openStandardStreams();

/// Installs the handlers of SIGINT; ignores SIGPIPE and SIGXFSZ, so that writing returns errors.
void installSignalHandlers();

/// Prints the error's line to standard error and, with `json`, its object to standard output. The
/// error's exit code.
int report(const Error &error, bool json);

/// Sends the log to standard error at the level of -v, or of $KERNELFORGE_LOG where no -v is given.
/// Unusable where that names no level.
Status startLogging(const Context &context);

} // namespace kernelforge::cli
