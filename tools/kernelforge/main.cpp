// kernelforge: the command line. Parses, runs one command, turns its answer into an exit code.
#include "Commands.h"
#include "Usage.h"

#include "kernelforge/compiler/TargetFacts.h"
#include "kernelforge/llm/remote/HttpExchange.h"
#include "kernelforge/support/Version.h"

#include "llvm/Support/ErrorHandling.h"

#include <cstdio>
#include <cstring>
#include <new>
#include <unistd.h>

using namespace kernelforge;
using namespace kernelforge::cli;

static void addCommands(CLI::App &app, Context &context) {
  addEmitMlir(app, context);
  addCompile(app, context);
  addRun(app, context);
  addBenchmarkMatmul(app, context);
  addCompare(app, context);
  addBenchmarkSuite(app, context);
  addTokenize(app, context);
  addLlmInference(app, context);
  addLlmBench(app, context);
  addPerplexity(app, context);
  addTune(app, context);
  addRecords(app, context);
  addDiagnose(app, context);
  addPackage(app, context);
  addTuneWorker(app, context);
  addSuiteWorker(app, context);
}

/// Whether --json was given; asked before parsing is done, because parsing may fail.
static bool wantsJson(int argc, char **argv) {
  for (int i = 1; i < argc && std::strcmp(argv[i], "--") != 0; ++i)
    if (std::strcmp(argv[i], "--json") == 0)
      return true;
  return false;
}

/// How a program ends that could not write to standard output: `code` where the reader of a pipe
/// has gone, who wants no more, else with an error.
static int endWithoutOutput(int code) {
  if (!outputFailed() || errno == EPIPE)
    return code;
  return report(Error{ErrorKind::Failed, "output cannot be written", "standard output",
                      std::strerror(errno), "free space, or read all of the output"},
                false);
}

/// llama-bench has an option -pg, which CLI11 would take for -p with a value: it is --pg here, too.
static void acceptLlamaBenchOption(int argc, char **argv) {
  static char longName[] = "--pg";
  if (argc > 1 && std::strcmp(argv[1], "llm-bench") == 0)
    for (int i = 2; i < argc && std::strcmp(argv[i], "--") != 0; ++i)
      if (std::strcmp(argv[i], "-pg") == 0)
        argv[i] = longName;
}

static int run(int argc, char **argv) {
  acceptLlamaBenchOption(argc, argv);
  Context context;
  CLI::App app("KernelForgeML: a compiler for transformer kernels", "kernelforge");
  app.set_version_flag("--version", version().number);
  app.require_subcommand(1);
  app.formatter(std::make_shared<HelpFormatter>());
  app.get_formatter()->column_width(34);
  addCommands(app, context);
  refuseEmptyTexts(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success &help) {
    if (isOfNoCommand(app))
      return report(usageError(app, help), wantsJson(argc, argv));
    app.exit(help);
    print("");
    return endWithoutOutput(0);
  } catch (const CLI::ParseError &error) {
    return report(usageError(app, error), wantsJson(argc, argv));
  }
  if (Status started = startLogging(context); !started)
    return report(started.error(), context.json);
  Expected<int> code = context.action();
  if (!code)
    return report(code.error(), context.json);
  return endWithoutOutput(*code);
}

/// LLVM's fatal errors do not return: they get the same line and exit code as our own.
static void onFatalError(void *, const char *reason, bool) {
  _exit(report(
      Error{ErrorKind::Failed, "LLVM gave up", "code generation", reason, "report this as a bug"},
      false));
}

/// Ends the program without allocating.
static int outOfMemory(bool json) {
  std::fputs("kernelforge: error: out of memory (kernelforge): the system has no more; use a "
             "smaller model, context or problem\n",
             stderr);
  if (json)
    std::puts("{\"error\":{\"code\":4,\"what\":\"out of memory\",\"where\":\"kernelforge\","
              "\"why\":\"the system has no more\","
              "\"hint\":\"use a smaller model, context or problem\"}}");
  return static_cast<int>(ErrorKind::Failed);
}

/// Runs, and turns what is thrown into an exit code.
static int guarded(int argc, char **argv) {
  const bool json = wantsJson(argc, argv);
  try {
    return run(argc, argv);
  } catch (const std::bad_alloc &) {
    return outOfMemory(json);
  } catch (const std::exception &error) {
    return report(Error{ErrorKind::Failed, "unexpected failure", "kernelforge", error.what(),
                        "report this as a bug"},
                  json);
  }
}

int main(int argc, char **argv) {
  openStandardStreams();
  installSignalHandlers();
  prepareEnvironment();
  llvm::install_fatal_error_handler(onFatalError);
  const int code = guarded(argc, argv);
  if (isThreadLeft()) { // it may still use what exit() takes down
    std::fflush(nullptr);
    _exit(code);
  }
  return code;
}
