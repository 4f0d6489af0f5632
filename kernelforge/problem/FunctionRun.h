// Running one function of a module: compiled, and interpreted to verify it.
#pragma once

#include "kernelforge/compiler/Session.h"
#include "kernelforge/measure/Accuracy.h"
#include "kernelforge/problem/FunctionData.h"
#include "kernelforge/problem/Verification.h"

namespace kernelforge {

/// A function of a session with the data that it runs on.
class FunctionRun {
public:
  /// Binds `data` to the session's function; both must outlive the run. Weights are packed now.
  static Expected<FunctionRun> create(Session &session, const FunctionSignature &signature,
                                      FunctionData &data);

  /// Runs once. Results and caches in the data are written.
  Status run(const RunOptions &options = {});

  /// Runs to be timed, as Session::timed says.
  Expected<TimedCalls> timed() { return session->timed(signature->name, sizes, results); }

  /// Fills the results so that what the next run leaves unwritten shows, on any device.
  void poisonResults();

private:
  FunctionRun(Session &session, const FunctionSignature &signature, FunctionData &data)
      : session(&session), signature(&signature), data(&data) {}

  Session *session;
  const FunctionSignature *signature;
  FunctionData *data;
  std::vector<int64_t> sizes;
  std::vector<std::span<std::byte>> results;
  bool isPoisoned = false; ///< and not run since
};

} // namespace kernelforge
