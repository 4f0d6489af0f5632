#include "kernelforge/compiler/RecordKeys.h"

#include "kernelforge/compiler/KernelProblem.h"
#include "kernelforge/support/Host.h"

#include "llvm/Config/llvm-config.h"

using namespace kernelforge;

RecordKey kernelforge::recordKey(transformer::KernelOp kernel, const Target &target, int threads) {
  RecordKey key;
  key.family = kernel.getFamily().str();
  key.kernelHash = kernelHash(kernel);
  key.problem = problemText(kernel);
  key.target = (target.triple.empty() ? target.kind : target.triple) + " " + target.chip + " " +
               target.featureString();
  key.cpuModel = target.device.empty() ? host().cpuModel : target.device;
  key.toolchain = "LLVM " LLVM_VERSION_STRING;
  // A device of another name has no use for this processor's threads.
  key.threads = key.cpuModel == host().cpuModel ? threads : 1;
  key.affinity = "none";
  return key;
}

RecordResources kernelforge::recordResources(const Artifact &artifact,
                                             const KernelResources &resources) {
  return {resources.registers, resources.spillBytes, resources.sharedBytes,
          static_cast<int64_t>(artifact.code.size())};
}

static constexpr std::string_view baselinePrefix = "schedule ";

std::string kernelforge::baselineOf(std::string_view schedule) {
  return std::string(baselinePrefix) + std::string(schedule);
}

std::optional<std::string> kernelforge::scheduleOfBaseline(const Record &record) {
  if (!record.baseline.starts_with(baselinePrefix))
    return std::nullopt;
  return record.baseline.substr(baselinePrefix.size());
}
