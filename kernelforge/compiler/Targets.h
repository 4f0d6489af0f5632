// The targets of this build: the one place that names them.
#pragma once

#include "kernelforge/backend/Device.h"
#include "kernelforge/codegen/CodeGenerator.h"

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge {

/// What devices are made with; each takes what concerns it.
struct DeviceOptions {
  int threads = 0;     ///< of runs on the processor; 0: the physical cores this process may use
  bool poison = false; ///< for tests: fill with NaN what a kernel must write before it reads
  /// By name of a TargetOption, what was given; an option that was not given is left out.
  std::map<std::string, std::string> words = {};
};

/// An option of one kind of target, as a command line offers it.
struct TargetOption {
  std::string name; ///< "webgpu-library"
  std::string text; ///< one line, for people
};

/// The options of this build's targets.
std::vector<TargetOption> targetOptions();

/// Kinds of targets that this build has code generators and devices for, the default first.
std::vector<std::string> targetKinds();

/// The code generator of a kind of target. Missing where this build has none, Unusable where there
/// is no such kind.
Expected<const CodeGenerator *> findGenerator(std::string_view kind);

/// The code generator of a target that a generator made.
const CodeGenerator &generatorOf(const Target &target);

/// A device that runs targets of a kind. Errors as findGenerator's, and Missing where the machine
/// has no such device.
Expected<std::unique_ptr<Device>> createDevice(std::string_view kind,
                                               const DeviceOptions &options = {});

/// The target that a user asked for by words, as CodeGenerator::parse says.
Expected<Target> parseTarget(std::string_view kind, std::string_view chip,
                             std::string_view features, const DeviceOptions &options = {});

/// The target that runs anything by its definition, and makes no code.
Target referenceTarget();

/// The target with the device of this machine that runs it. Missing where there is none that can.
Expected<Target> targetHere(Target target, const DeviceOptions &options = {});

} // namespace kernelforge
