// Who writes a module by hand need not know that weights are marked.
#include "kernelforge/passes/Passes.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

namespace kernelforge {
#define GEN_PASS_DEF_MARKWEIGHTS
#include "kernelforge/passes/Passes.h.inc"
} // namespace kernelforge

namespace {

struct MarkWeights : kernelforge::impl::MarkWeightsBase<MarkWeights> {
  void runOnOperation() override {
    // Named before any is marked: a name must not depend on the order of functions.
    SmallVector<std::tuple<func::FuncOp, unsigned, std::string>> weights;
    for (auto function : getOperation().getOps<func::FuncOp>())
      if (!function.isExternal())
        for (BlockArgument argument : function.getBody().getArguments())
          if (isPlain(function, argument.getArgNumber()) && isMultipliedOnly(argument))
            weights.emplace_back(function, argument.getArgNumber(), nameOf(function, argument));
    for (auto &[function, index, name] : weights)
      function.setArgAttr(index, kernelforge::weightAttrName, StringAttr::get(&getContext(), name));
  }

private:
  /// Neither a size, a weight nor what the user calls an input.
  static bool isPlain(func::FuncOp function, unsigned index) {
    return llvm::none_of(
        ArrayRef<StringRef>{kernelforge::sizeAttrName, kernelforge::weightAttrName,
                            kernelforge::inputAttrName},
        [&](StringRef name) { return function.getArgAttr(index, name) != nullptr; });
  }

  /// Whether something multiplies by the value, and nothing reads it but as a weight.
  static bool isMultipliedOnly(Value value) {
    auto multiplies = [](OpOperand &use) { return useOf(use) == Use::Multiplied; };
    auto otherwise = [](OpOperand &use) { return useOf(use) == Use::Other; };
    return llvm::any_of(value.getUses(), multiplies) && llvm::none_of(value.getUses(), otherwise);
  }

  enum class Use { Multiplied, Gathered, Other };

  static Use useOf(OpOperand &use) {
    if (auto op = dyn_cast<ComputeOp>(use.getOwner())) {
      const OperandRole role = op.getRole(use);
      if (role == OperandRole::WeightTable)
        return Use::Gathered;
      return role == OperandRole::Weight && op.getKind() != OpKind::Packs ? Use::Multiplied
                                                                          : Use::Other;
    }
    auto launch = dyn_cast<LaunchOp>(use.getOwner());
    if (!launch)
      return Use::Other;
    auto kernel = SymbolTable::lookupNearestSymbolFrom<KernelOp>(launch, launch.getKernelAttr());
    return isMultipliedOnly(kernel.getBody().getArgument(use.getOperandNumber())) ? Use::Multiplied
                                                                                  : Use::Other;
  }

  /// The name that the argument has without a mark. A weight's name means the same in all functions
  /// of a module: where another function has an argument of that name, this one's is told apart.
  std::string nameOf(func::FuncOp function, BlockArgument argument) {
    const std::string name = kernelforge::argumentName(function, argument.getArgNumber());
    for (auto other : getOperation().getOps<func::FuncOp>())
      if (other != function && !other.isExternal())
        for (unsigned i = 0; i < other.getNumArguments(); ++i)
          if (!other.getArgumentTypes()[i].isIndex() && kernelforge::argumentName(other, i) == name)
            return function.getSymName().str() + "." + name;
    return name;
  }
};

} // namespace
