// Verifying and timing candidates of one problem in a worker, beside a baseline.
#pragma once

#include "kernelforge/autotune/Tuner.h"
#include "kernelforge/measure/Ceilings.h"

namespace kernelforge {

/// A worker with the baseline loaded, and what it takes to load it again after a candidate took the
/// worker down.
class Measurement {
public:
  /// Failed where the baseline does not run, or is wrong.
  static Expected<std::unique_ptr<Measurement>> create(const KernelProblem &problem,
                                                       const TuneOptions &options);

  /// Verifies, times and verifies again. `limit` is the ratio to the baseline beyond which a
  /// candidate is hopeless and gets few rounds only. The record lacks only what the search knows.
  Expected<Record> measure(const KnobValues &schedule, double limit, int rounds);

  /// The same for another variant of matmul, with the schedule that it chooses itself.
  Expected<Record> measure(const MatmulKernel &variant, double limit, int rounds);

  /// A compiled candidate's code hash without running it; nothing where it does not compile.
  std::optional<std::string> codeHash(const KnobValues &schedule);

  /// Record::mode of its records: "streamed" where weights come from as far as in a model.
  std::string mode() const { return problem.options().streamBytes > 0 ? "streamed" : "warm"; }

  const KnobValues &baseline() const { return baselineKnobs; }
  std::string baselineText() const; ///< as records name it

private:
  struct Compiled {
    std::shared_ptr<const Program> program;
    double milliseconds = 0;
  };

  Measurement(const KernelProblem &problem, const TuneOptions &options)
      : problem(problem), options(options) {}

  Expected<Compiled> compile(const KnobValues &schedule);
  Status startWorker();
  Record newRecord() const;
  Status attempt(const Program &candidate, double limit, int rounds, Record &record);
  Expected<bool> attemptOnce(const Program &candidate, double limit, int rounds, Record &record);
  bool answered(const WorkerAnswer &answer, Record &record);
  WorkerAnswer load(int slot, const Program &program);
  bool verify(int slot, int set, Record &record);
  bool time(int rounds, Record &record);
  Status raiseCeilings();
  void summarize(Record &record) const;

  const KernelProblem &problem;
  const TuneOptions &options;
  WorkerProblem shared;
  std::unique_ptr<WorkerProcess> worker;
  KernelCeilings ceilings; ///< what this kernel can reach; of a device of its own not known
  KnobValues baselineKnobs;
  std::shared_ptr<const Program> baselineProgram;
  std::string software;       ///< name of the device, where the processor emulates it
  bool ownClock = false;      ///< whether a device of its own is timed, and not this machine
  double baselineSeconds = 0; ///< of one call, about
  KnobValues lastSchedule;    ///< that lastCompiled is of
  Compiled lastCompiled;
  std::string lastBits;
  bool killed = false; ///< the worker was, during the last command
};

} // namespace kernelforge
