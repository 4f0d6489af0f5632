// tune-worker: the process in which tuning candidates run. Started by tune, of no use to people.
#include "Commands.h"
#include "NumberOptions.h"

#include "kernelforge/autotune/Worker.h"
#include "kernelforge/support/ChildProcess.h"

#include <sys/resource.h>

using namespace kernelforge;
using namespace kernelforge::cli;

void cli::addTuneWorker(CLI::App &app, Context &context) {
  auto memory = std::make_shared<uint64_t>(0);
  CLI::App &command =
      addCommand(app, context, {"tune-worker", "runs tuning candidates for tune", "tune --help"},
                 [memory]() -> Expected<int> {
                   nameProcess("kf-tune-worker");
                   if (*memory > 0) {
                     const rlimit most{*memory, *memory};
                     ::setrlimit(RLIMIT_DATA, &most);
                   }
                   KF_CHECK(runWorker());
                   return 0;
                 });
  command.group(""); // not listed
  addInteger(command, "memory", *memory, "bytes of its data at most; 0: no limit", 0, UINT64_MAX);
}
