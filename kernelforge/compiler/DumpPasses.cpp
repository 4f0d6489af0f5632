#include "kernelforge/compiler/DumpPasses.h"

#include "kernelforge/support/OutputFile.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/PassInstrumentation.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;

namespace {

/// Passes on functions may run in parallel; this manager is made single-threaded before.
class Dumper : public PassInstrumentation {
public:
  Dumper(std::filesystem::path folder, Status &written)
      : folder(std::move(folder)), written(written) {}

  void runBeforePass(Pass *, Operation *op) override {
    if (last.empty())
      last = moduleText(op);
  }

  void runAfterPass(Pass *pass, Operation *op) override {
    std::string text = moduleText(op);
    if (text == last)
      return;
    last = text;
    std::filesystem::path file =
        folder / fmt::format("{:02}-{}.mlir", ++count, std::string(pass->getArgument()));
    if (written)
      written = writeOutput(file, text);
  }

private:
  static std::string moduleText(Operation *op) {
    auto module = dyn_cast<ModuleOp>(op);
    if (!module)
      module = op->getParentOfType<ModuleOp>();
    std::string text;
    llvm::raw_string_ostream stream(text);
    module->print(stream);
    return text;
  }

  std::filesystem::path folder;
  Status &written;
  std::string last;
  int count = 0;
};

} // namespace

Status kernelforge::dumpPasses(PassManager &passes, const std::filesystem::path &folder,
                               Status &written) {
  std::error_code code;
  std::filesystem::create_directories(folder, code);
  if (code)
    return failed("cannot dump passes", folder.string(), code.message(), "give another folder");
  passes.getContext()->disableMultithreading();
  passes.addInstrumentation(std::make_unique<Dumper>(folder, written));
  return {};
}
