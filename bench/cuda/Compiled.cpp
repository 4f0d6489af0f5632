#include "Compiled.h"

#include "kernelforge/compiler/KernelCompiler.h"
#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/compiler/ProgramBuilder.h"
#include "kernelforge/problem/FunctionSignature.h"
#include "kernelforge/problem/ModuleText.h"

using namespace mlir;
using namespace kernelforge;

Expected<Program> bench::compileText(const std::string &text, const std::string &where,
                                     const Target &target,
                                     const std::optional<RecordStore> &records) {
  DialectRegistry registry;
  registerAllStages(registry);
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  context.loadAllAvailableDialects();
  KF_TRY(OwningOpRef<ModuleOp> module, parseModuleText(&context, text, where));
  PipelineOptions pipeline;
  pipeline.target = target;
  pipeline.records = records;
  KernelAnalyses analyses;
  KF_CHECK(runToStage(*module, Stage::Scheduled, pipeline, analyses));
  KF_TRY(const std::vector<Artifact> artifacts,
         compileKernels(*module, target, ObjectCache::disabled(), analyses));
  KF_TRY(func::FuncOp function, findFunction(*module, ""));
  KF_TRY(Program program, buildProgram(function, artifacts, target.limits));
  KF_CHECK(checkProgram(program));
  return program;
}

Program bench::repeated(const Program &once, int sets, int runs) {
  Program program = once;
  program.buffers.clear();
  program.arguments.clear();
  program.results.clear();
  program.launches.clear();
  program.copies.clear();
  // By set: where each buffer of `once` is in `program`.
  std::vector<std::vector<int>> places(static_cast<size_t>(sets));
  for (int set = 0; set < sets; ++set)
    for (size_t i = 0; i < once.buffers.size(); ++i) {
      const bool isShared = once.buffers[i].kind == BufferKind::Intermediate && set > 0;
      if (!isShared)
        program.buffers.push_back(once.buffers[i]);
      places[size_t(set)].push_back(isShared ? places[0][i] : int(program.buffers.size()) - 1);
    }
  for (const std::vector<int> &place : places) {
    for (int buffer : once.arguments)
      program.arguments.push_back(place[size_t(buffer)]);
    for (int buffer : once.results)
      program.results.push_back(place[size_t(buffer)]);
    for (ResultCopy copy : once.copies) {
      copy.from = place[size_t(copy.from)];
      copy.to = place[size_t(copy.to)];
      program.copies.push_back(std::move(copy));
    }
  }
  for (int run = 0; run < runs; ++run)
    for (Launch launch : once.launches) {
      for (int &buffer : launch.buffers)
        if (buffer >= 0) // a workspace that is zeroed once is no buffer of the program
          buffer = places[size_t(run % sets)][size_t(buffer)];
      program.launches.push_back(std::move(launch));
    }
  return program;
}
