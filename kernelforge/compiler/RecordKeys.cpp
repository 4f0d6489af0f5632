#include "kernelforge/compiler/RecordKeys.h"

#include "kernelforge/ir/Numerics.h"
#include "kernelforge/ir/WeightLayouts.h"
#include "kernelforge/support/Host.h"
#include "kernelforge/support/Json.h"

#include "mlir/IR/OwningOpRef.h"
#include "llvm/Config/llvm-config.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

std::string kernelforge::problemText(KernelOp kernel) {
  Json json = Json::object();
  for (unsigned i = 0; i < kernel.getNumSizes(); ++i)
    json["max_" + kernel.getSize(i).getName().str()] = kernel.getSize(i).getMax();
  std::string types, operations;
  int number = 0;
  for (Type type : kernel.getArgumentTypes()) {
    if (auto cache = dyn_cast<CacheType>(type)) {
      json["heads"] = cache.getHeads();
      json["dim"] = cache.getDim();
      const ElementType element = *elementTypeOf(cache.getElementType());
      types += "cache ";
      if (element != ElementType::F32)
        types += std::string(info(element).name) + " ";
    }
    auto tensor = dyn_cast<RankedTensorType>(type);
    if (!tensor)
      continue;
    if (std::optional<ElementType> element = elementTypeOf(tensor))
      types += std::string(info(*element).name);
    const WeightLayout layout = weightLayoutOf(tensor);
    types += layout == WeightLayout::RowMajor      ? " "
             : layout == WeightLayout::Interleaved ? " packed " // as records on disk have it
                                                   : fmt::format(" {} ", nameOf(layout));
    for (int64_t extent : tensor.getShape())
      if (!ShapedType::isDynamic(extent))
        json["extent" + std::to_string(number++)] = std::max<int64_t>(extent, 1);
  }
  for (Operation &op : kernel.getBody().front().without_terminator()) {
    operations += op.getName().stripDialect().str() + " ";
    if (const Numerics numerics = numericsOf(&op); numerics != Numerics::F32)
      operations.append("in ").append(numericsName(numerics)).append(" ");
    if (auto attention = dyn_cast<AttentionOp>(op))
      json["query_heads"] = static_cast<int64_t>(attention.getHeads());
  }
  json["types"] = types;
  json["operations"] = operations;
  return json.dump();
}

/// The hash of what a kernel computes: whether it says by itself which arguments are weights, or
/// the functions that launch it do, is no difference.
static std::string hashWithoutMarks(KernelOp kernel) {
  OwningOpRef<KernelOp> copy = kernel.clone();
  for (unsigned i = 0; i < copy->getNumArguments(); ++i)
    copy->removeArgAttr(i, weightAttrName);
  return kernelHash(*copy);
}

RecordKey kernelforge::machineKey(const Target &target, int threads) {
  RecordKey key;
  key.target = (target.triple.empty() ? target.kind : target.triple) + " " + target.chip + " " +
               target.featureString();
  key.cpuModel = target.device.empty() ? host().cpuModel : target.device;
  key.toolchain = "LLVM " LLVM_VERSION_STRING;
  // A device of another name has no use for this processor's threads.
  key.threads = key.cpuModel == host().cpuModel ? threads : 1;
  key.affinity = "none";
  return key;
}

RecordKey kernelforge::recordKey(KernelOp kernel, const Target &target, int threads) {
  RecordKey key = machineKey(target, threads);
  key.family = kernel.getFamily().str();
  key.kernelHash = hashWithoutMarks(kernel);
  key.problem = problemText(kernel);
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
