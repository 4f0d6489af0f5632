// Programs of small kernels, and the processor's device that runs them on the host's memory.
#pragma once

#include "KernelFixture.h"

#include "kernelforge/backend/cpu/CpuDevice.h"
#include "kernelforge/backend/cpu/LoadedCode.h"
#include "kernelforge/backend/interpreter/Interpreter.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <numeric>
#include <thread>

namespace kernelforge {

/// out[task] = in[task] + 1 over f32.
inline const Artifact &addOne() {
  static const Artifact artifact = compileKernel("add_one", R"mlir(
    %p1 = llvm.getelementptr %args[1] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr
    %in = llvm.load %args : !llvm.ptr -> !llvm.ptr
    %out = llvm.load %p1 : !llvm.ptr -> !llvm.ptr
    %pin = llvm.getelementptr %in[%task] : (!llvm.ptr, i64) -> !llvm.ptr, f32
    %pout = llvm.getelementptr %out[%task] : (!llvm.ptr, i64) -> !llvm.ptr, f32
    %one = arith.constant 1.0 : f32
    %v = llvm.load %pin : !llvm.ptr -> f32
    %r = arith.addf %v, %one : f32
    llvm.store %r, %pout : f32, !llvm.ptr)mlir",
                                                 {{1, 0}}, 1);
  return artifact;
}

/// Phase 0: workspace[task] = in[task]. Phase 1, one task: out[0] = sum of workspace, in order.
inline const Artifact &sum() {
  static const Artifact artifact = compileKernel("sum", R"mlir(
    %p1 = llvm.getelementptr %args[1] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr
    %p2 = llvm.getelementptr %args[2] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr
    %in = llvm.load %args : !llvm.ptr -> !llvm.ptr
    %out = llvm.load %p1 : !llvm.ptr -> !llvm.ptr
    %work = llvm.load %p2 : !llvm.ptr -> !llvm.ptr
    %n = llvm.load %sizes : !llvm.ptr -> i64
    %zero = arith.constant 0 : i64
    %one = arith.constant 1 : i64
    %first = arith.cmpi eq, %phase, %zero : i64
    scf.if %first {
      %from = llvm.getelementptr %in[%task] : (!llvm.ptr, i64) -> !llvm.ptr, f32
      %to = llvm.getelementptr %work[%task] : (!llvm.ptr, i64) -> !llvm.ptr, f32
      %v = llvm.load %from : !llvm.ptr -> f32
      llvm.store %v, %to : f32, !llvm.ptr
    } else {
      %none = arith.constant 0.0 : f32
      %s = scf.for %i = %zero to %n step %one iter_args(%a = %none) -> (f32) : i64 {
        %from = llvm.getelementptr %work[%i] : (!llvm.ptr, i64) -> !llvm.ptr, f32
        %v = llvm.load %from : !llvm.ptr -> f32
        %b = arith.addf %a, %v : f32
        scf.yield %b : f32
      }
      llvm.store %s, %out : f32, !llvm.ptr
    })mlir",
                                                 {{1, 0}, 1}, 1);
  return artifact;
}

constexpr int64_t maxN = 1000;

/// in -> +1 -> ... -> +1 (`steps` times, through two intermediates in turn) -> sum -> out
inline std::shared_ptr<Program> chain(int steps) {
  auto program = std::make_shared<Program>();
  program->function = "chain";
  program->sizes = {{"n", 0, maxN}};
  Extent bytes{4, 0};
  program->buffers = {{"in", BufferKind::Argument, bytes, 0},
                      {"out", BufferKind::Argument, 4, 0},
                      {"even", BufferKind::Intermediate, bytes, 0},
                      {"odd", BufferKind::Intermediate, bytes, 4032},
                      {"workspace", BufferKind::Intermediate, bytes, 8064}};
  program->arenaBytes = 8064 + 4 * maxN;
  program->arguments = {0};
  program->results = {1};
  program->artifacts = {addOne(), sum()};
  int from = 0;
  for (int i = 0; i < steps; ++i) {
    int to = 2 + i % 2;
    program->launches.push_back({0, {from, to}, {0}, i});
    from = to;
  }
  program->launches.push_back({1, {from, 1, 4}, {0}, -1});
  return program;
}

/// A program on a device of its own, called with the host's memory.
class Loaded {
public:
  static Expected<std::unique_ptr<Loaded>> load(const CpuOptions &options,
                                                std::shared_ptr<const Program> program) {
    auto loaded = std::make_unique<Loaded>();
    KF_TRY(loaded->device, createCpuDevice(options));
    KF_TRY(auto executables, loaded->device->load({&program, 1}));
    loaded->executable = std::move(executables.front());
    KF_TRY(loaded->arena, loaded->device->allocate(program->arenaBytes, MemoryUse::Arena));
    return loaded;
  }

  Expected<std::unique_ptr<BoundProgram>> bind(const Bindings &bindings) {
    const Program &program = executable->program();
    auto import = [&](std::span<void *const> pointers, const std::vector<int> &indices) {
      std::vector<BufferRef> buffers;
      for (size_t i = 0; i < pointers.size(); ++i)
        buffers.push_back(device
                              ->import({static_cast<const std::byte *>(pointers[i]),
                                        size_t(program.buffers[indices[i]].bytes.evaluate(
                                            bindings.sizes.data()))},
                                       MemoryUse::Transfer, nullptr)
                              .value());
      return buffers;
    };
    return executable->bind({import(bindings.arguments, program.arguments),
                             import(bindings.results, program.results), arena});
  }

  Status run(const Bindings &bindings, const InterpreterOptions &options = {}) {
    KF_TRY(auto bound, bind(bindings));
    if (options.launchNanoseconds) {
      KF_TRY(*options.launchNanoseconds, bound->runTimed(bindings.sizes, {options.cancel}));
      return {};
    }
    KF_TRY(const Ticket ticket, bound->submit(bindings.sizes, {options.cancel}));
    return device->wait(ticket);
  }

  std::unique_ptr<Device> device;
  std::unique_ptr<Executable> executable;
  BufferRef arena;
};

inline std::unique_ptr<Loaded> load(int threads, std::shared_ptr<const Program> program,
                                    bool poison = false) {
  auto loaded = Loaded::load({threads, poison}, std::move(program));
  EXPECT_TRUE(loaded) << loaded.error().line();
  return std::move(*loaded);
}

} // namespace kernelforge
