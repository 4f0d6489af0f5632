// suite-worker: the rows of a suite at the service of another process, one sample at a time: what
// compare --live starts of each build. Of no use to people.
#include "Commands.h"
#include "SuiteOptions.h"

#include "kernelforge/eval/SuiteService.h"
#include "kernelforge/support/ChildProcess.h"

using namespace kernelforge;
using namespace kernelforge::cli;

void cli::addSuiteWorker(CLI::App &app, Context &context) {
  auto slow = std::make_shared<std::vector<std::string>>();
  CLI::App &command =
      addCommand(app, context,
                 {"suite-worker", "measures rows of a suite for compare --live", "compare --help"},
                 [slow, &context]() -> Expected<int> {
                   nameProcess("kf-suite-worker");
                   endWithParent();
                   SuiteService service;
                   KF_TRY(service.options.rows.session, requestedSession(context));
                   KF_TRY(service.options.slow, parseSlow(*slow));
                   service.options.cancel = interruptFlag();
                   KF_TRY(ParentChannel channel, ParentChannel::take("suite-worker"));
                   KF_CHECK(service.serve(channel));
                   return 0;
                 });
  command.group(""); // not listed
  addTargetOptions(command, context);
  addSlowOption(command, *slow);
}
