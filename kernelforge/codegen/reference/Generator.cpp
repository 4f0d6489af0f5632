#include "kernelforge/codegen/reference/Generator.h"

#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/codegen/Parameters.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

namespace {

class Generator final : public CodeGenerator {
public:
  std::string_view kind() const override { return "reference"; }

  Expected<Target> parse(std::string_view chip, std::string_view features,
                         const DeviceInfo *device) const override {
    if ((!chip.empty() && chip != "native") || !features.empty())
      return unusable("target is not usable", std::string(chip.empty() ? features : chip),
                      "the target reference makes code for no processor",
                      "leave out the processor and its features");
    Target target;
    target.kind = kind();
    return target;
  }

  Status checkRunnable(const Target &target, const DeviceInfo &device) const override { return {}; }
  Status supports(const KernelAnalysis &kernel, const Target &target) const override { return {}; }
  bool takesAnyStage() const override { return true; }

  Expected<ScheduleSpace> scheduleSpace(const KernelAnalysis &kernel, const Target &target,
                                        int64_t workers) const override {
    return fixedSchedule();
  }

  /// The kernel, and the function `entry` that launches it with what it is given.
  Expected<Launching> emit(ModuleOp module, const KernelAnalysis &analysis, const Target &target,
                           StringRef entry) const override {
    KernelOp kernel = analysis.kernel();
    OpBuilder b = OpBuilder::atBlockEnd(module.getBody());
    auto copy = cast<KernelOp>(b.clone(*kernel));
    copy.setSymName((entry + "_kernel").str());
    copy.dropChoices();
    auto function = b.create<func::FuncOp>(
        kernel.getLoc(), entry,
        b.getFunctionType(kernel.getArgumentTypes(), kernel.getResultTypes()));
    for (unsigned i = 0; i < kernel.getNumSizes(); ++i)
      function.setArgAttr(i, sizeAttrName, kernel.getSize(i));
    Block *body = function.addEntryBlock();
    b.setInsertionPointToStart(body);
    auto launch = b.create<LaunchOp>(kernel.getLoc(), kernel.getResultTypes(),
                                     FlatSymbolRefAttr::get(copy.getSymNameAttr()),
                                     body->getArguments(), IntegerAttr(), StringAttr());
    b.create<func::ReturnOp>(kernel.getLoc(), launch.getResults());
    Launching launching;
    launching.phases.push_back({.entry = entry.str(), .parameters = allParameters(kernel, 0)});
    return launching;
  }

  Expected<std::string> compile(const EmittedKernel &emitted, const KernelAnalysis &kernel,
                                const Target &target) const override {
    std::string text;
    llvm::raw_string_ostream stream(text);
    emitted.module.get()->print(stream, OpPrintingFlags().useLocalScope());
    return text;
  }

  Expected<std::string> print(const EmittedKernel &emitted, const KernelAnalysis &kernel,
                              const Target &target) const override {
    return compile(emitted, kernel, target);
  }

  std::span<const std::string_view> stages() const override {
    static constexpr std::string_view names[] = {"target", "text"};
    return names;
  }

  void registerDialects(DialectRegistry &registry) const override {
    registry.insert<TransformerDialect, func::FuncDialect>();
  }
};

} // namespace

std::unique_ptr<CodeGenerator> reference::createGenerator() {
  return std::make_unique<Generator>();
}
