// The other end of SuiteWorkerProcess: answers one JSON object a line with one a line.
#pragma once

#include "kernelforge/eval/SuiteRunner.h"

#include <iosfwd>

namespace kernelforge {

class SuiteService {
public:
  /// How rows are run; the command that opens a suite fills in the rest.
  SuiteOptions options;

  /// Answers until the input ends. Requests that fail are answered with their error; Failed where
  /// an answer cannot be written.
  Status serve(std::istream &in, std::ostream &out);

private:
  Expected<Json> answer(const std::string &line);
  Expected<Json> open(const JsonView &request);
  Expected<Json> measure(const JsonView &request);
  Expected<size_t> rowOf(const JsonView &request) const;

  std::unique_ptr<SuiteRunner> runner;
};

} // namespace kernelforge
