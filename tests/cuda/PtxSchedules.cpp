// The PTX of a module's kernels with the schedule that is taken without measuring and others that
// are spread over their spaces, for those who assemble it: a file each, and a line of JSON on
// standard output. Equal code is written once.
//
//     ptx-schedules FOLDER COUNT [CHIP] < module.mlir
//
// COUNT: of each kernel's legal schedules, at most; 0: all of them.
#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/compiler/KernelCompiler.h"
#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/compiler/Targets.h"
#include "kernelforge/ir/Hash.h"
#include "kernelforge/support/Json.h"
#include "kernelforge/support/Numbers.h"

#include "mlir/Parser/Parser.h"

#include <fmt/format.h>

#include <climits>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <set>

using namespace kernelforge;
using kernelforge::transformer::KernelOp;

namespace {

Status writeKernel(KernelOp kernel, const Target &target, uint64_t count,
                   const std::filesystem::path &folder, std::set<std::string> &written) {
  KF_TRY(const ScheduleSpace space,
         generatorOf(target).scheduleSpace(KernelAnalysis(kernel), target, target.limits.workers));
  std::vector<KnobValues> schedules = {space.analytic};
  for (KnobValues &schedule : space.legal(count))
    schedules.push_back(std::move(schedule));
  for (const KnobValues &schedule : schedules) {
    kernel.setScheduleAttr(scheduleAttr(kernel.getContext(), schedule));
    const KernelAnalysis analysis(kernel);
    KF_TRY(const EmittedKernel emitted, emitKernelModule(analysis, target));
    KF_TRY(const std::string code, generatorOf(target).compile(emitted, analysis, target));
    const std::string hash = sha256Hex(code);
    if (!written.insert(hash).second)
      continue;
    const std::string file = fmt::format("{}.ptx", hash.substr(0, 16));
    std::ofstream(folder / file) << code;
    std::cout << Json{{"kernel", kernel.getSymName().str()},
                      {"schedule", knobsText(schedule)},
                      {"default", schedule == space.analytic},
                      {"file", file}}
                     .dump()
              << "\n";
  }
  return {};
}

Status run(const std::filesystem::path &folder, uint64_t count, const std::string &chip,
           const std::string &text) {
  KF_TRY(const Target target, parseTarget("cuda", chip, ""));
  mlir::DialectRegistry registry;
  registerAllStages(registry);
  mlir::MLIRContext context(registry, mlir::MLIRContext::Threading::DISABLED);
  loadStages(&context, target);
  DiagnosticText diagnostics(&context);
  auto module = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
  if (!module)
    return unusable("module does not parse", "standard input", diagnostics.take("no diagnostics"));
  PipelineOptions options;
  options.target = target;
  KF_CHECK(runToStage(*module, Stage::Scheduled, options));
  std::set<std::string> written;
  for (KernelOp kernel : llvm::to_vector(module->getOps<KernelOp>()))
    KF_CHECK(writeKernel(kernel, target, count, folder, written));
  return {};
}

} // namespace

int main(int count, char **words) {
  const auto most = parseInteger<int64_t>(count > 2 ? words[2] : "", 0, INT_MAX);
  if (count < 3 || count > 4 || !most) {
    std::cerr << "usage: ptx-schedules FOLDER COUNT [CHIP] < module.mlir\n";
    return 2;
  }
  const std::string text(std::istreambuf_iterator<char>(std::cin), {});
  const Status status = run(words[1], *most > 0 ? uint64_t(*most) : UINT64_MAX,
                            count > 3 ? words[3] : "sm_90a", text);
  if (status)
    return 0;
  std::cerr << "kernelforge: error: " << status.error().line() << "\n";
  return static_cast<int>(status.error().kind);
}
