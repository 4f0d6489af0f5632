// Running a program from a file on the device that is here; nothing is compiled.
#pragma once

#include "kernelforge/backend/Device.h"
#include "kernelforge/compiler/Targets.h"
#include "kernelforge/problem/ProgramFile.h"

#include <atomic>
#include <memory>
#include <vector>

namespace kernelforge {

/// A program with the device that it runs on and the data that it runs with.
class ProgramRun {
public:
  /// Opens a device of the file's target and loads the program. Missing where there is none, this
  /// build does not know the target, its device calls code in another way than the file's, or it
  /// lacks what the code needs; Unusable where module and program of the file do not fit together.
  static Expected<std::unique_ptr<ProgramRun>> create(ProgramFile file,
                                                      const DeviceOptions &options);
  ~ProgramRun();

  /// What was read, but its program, which is program().
  const ProgramFile &file() const;
  const Program &program() const;
  const FunctionSignature &signature() const;
  const DeviceInfo &device() const;

  /// Brings data to the device: the arguments of the next runs. They are kept as they are, so that
  /// each run of run() begins with them.
  Status bind(FunctionData data);
  const FunctionData &data() const;

  /// Runs once on the arguments as they were bound, with results and intermediates that hold NaN
  /// before, and brings results and written caches back into data().
  Status run(const std::atomic<bool> *cancel);

  /// The nanoseconds of each launch of a run, by the device's clock, by index in Program::launches.
  Expected<std::vector<int64_t>> runTimed(const std::atomic<bool> *cancel);

  /// Nanoseconds of so many whole runs, one after another, by the device's clock.
  Expected<std::vector<double>> time(int rounds);

private:
  struct Implementation;
  explicit ProgramRun(std::unique_ptr<Implementation> implementation);
  std::unique_ptr<Implementation> implementation;
};

} // namespace kernelforge
