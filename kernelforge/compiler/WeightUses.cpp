#include "kernelforge/compiler/WeightUses.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

WeightUses::WeightUses(ModuleOp module) {
  for (auto function : module.getOps<func::FuncOp>()) {
    if (function.isExternal())
      continue;
    function.walk([&](LaunchOp launch) { launches[launch.getKernel()].push_back(launch); });
    for (BlockArgument argument : function.getArguments())
      if (auto name =
              function.getArgAttrOfType<StringAttr>(argument.getArgNumber(), weightAttrName))
        weights[name.getValue()].push_back(argument);
  }
}

StringRef WeightUses::weightOf(LaunchOp launch, unsigned argument) {
  auto value = dyn_cast<BlockArgument>(launch.getOperands()[argument]);
  auto function = value ? dyn_cast<func::FuncOp>(value.getOwner()->getParentOp()) : func::FuncOp();
  auto name = function ? function.getArgAttrOfType<StringAttr>(value.getArgNumber(), weightAttrName)
                       : StringAttr();
  return name ? name.getValue() : StringRef();
}

std::optional<std::string>
WeightUses::obstacle(KernelOp kernel, unsigned argument,
                     function_ref<bool(KernelOp, unsigned)> readsRowMajor) const {
  const bool packed = layoutOf(kernel.getArgumentTypes()[argument]) != nullptr;
  for (LaunchOp launch : launches.lookup(kernel.getSymName())) {
    const StringRef name = weightOf(launch, argument);
    if (name.empty())
      return "what it multiplies by is no weight of the module";
    if (!packed)
      continue;
    for (BlockArgument weight : weights.lookup(name))
      for (OpOperand &use : weight.getUses()) {
        auto reader = dyn_cast<LaunchOp>(use.getOwner());
        auto other =
            reader ? SymbolTable::lookupNearestSymbolFrom<KernelOp>(reader, reader.getKernelAttr())
                   : KernelOp();
        if (!other || !readsRowMajor(other, use.getOperandNumber()))
          return fmt::format("{} reads weight '{}' packed, too",
                             reader ? "@" + reader.getKernel().str()
                                    : use.getOwner()->getName().getStringRef().str(),
                             name.str());
      }
  }
  return std::nullopt;
}

/// Leaves the type of a block's arguments to its function or kernel.
template <typename Op> static void updateType(Op op) {
  op.setFunctionType(FunctionType::get(op.getContext(), op.getBody().front().getArgumentTypes(),
                                       op.getFunctionType().getResults()));
}

void WeightUses::makeRowMajor(KernelOp kernel, unsigned argument) const {
  auto unpack = [](BlockArgument value) {
    value.setType(withLayout(cast<RankedTensorType>(value.getType()), {}));
  };
  for (LaunchOp launch : launches.lookup(kernel.getSymName()))
    for (BlockArgument weight : weights.lookup(weightOf(launch, argument))) {
      unpack(weight);
      updateType(cast<func::FuncOp>(weight.getOwner()->getParentOp()));
    }
  unpack(kernel.getArgument(argument));
  updateType(kernel);
}
