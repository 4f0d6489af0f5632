// All commands; main.cpp lists them in the order in which --help shows them.
#pragma once

#include "Command.h"

namespace kernelforge::cli {

void addEmitMlir(CLI::App &app, Context &context);
void addCompile(CLI::App &app, Context &context);
void addRun(CLI::App &app, Context &context);
void addBenchmarkMatmul(CLI::App &app, Context &context);
void addBenchmarkSuite(CLI::App &app, Context &context);
void addSuiteWorker(CLI::App &app, Context &context);
void addTokenize(CLI::App &app, Context &context);
void addLlmInference(CLI::App &app, Context &context);
void addLlmBench(CLI::App &app, Context &context);
void addPerplexity(CLI::App &app, Context &context);
void addDiagnose(CLI::App &app, Context &context);
void addCompare(CLI::App &app, Context &context);
void addTune(CLI::App &app, Context &context);
void addTuneWorker(CLI::App &app, Context &context);
void addRecords(CLI::App &app, Context &context);
void addPackage(CLI::App &app, Context &context);

} // namespace kernelforge::cli
