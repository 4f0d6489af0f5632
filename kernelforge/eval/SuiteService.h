// The other end of SuiteWorkerProcess: answers its messages.
#pragma once

#include "kernelforge/eval/SuiteRunner.h"
#include "kernelforge/support/ChildProcess.h"

namespace kernelforge {

class SuiteService {
public:
  /// How rows are run; the command that opens a suite fills in the rest.
  SuiteOptions options;

  /// Answers until the other side goes away. Requests that fail are answered with their error;
  /// Failed where an answer cannot be written.
  Status serve(ParentChannel &channel);

private:
  Expected<Json> answer(const JsonView &request);
  Expected<Json> open(const JsonView &request);
  Expected<Json> measure(const JsonView &request);
  Expected<size_t> rowOf(const JsonView &request) const;

  std::unique_ptr<SuiteRunner> runner;
};

} // namespace kernelforge
