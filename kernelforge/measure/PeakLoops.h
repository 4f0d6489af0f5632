// The loops that measureCeilings times: nothing but the instruction in question.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace kernelforge {

/// A loop of one kind of arithmetic; `run` must only be called where the processor has it.
struct PeakLoop {
  const char *name;
  const char *instruction;
  double operationsPerIteration;
  void (*run)(int64_t iterations);
};

/// The loops that this processor and system can run, the widest of each kind.
std::span<const PeakLoop> peakLoops();

/// Reads `bytes` (a multiple of 512) at `data`, with the widest loads there are.
void readAll(const std::byte *data, int64_t bytes);

/// Writes as many, with the widest stores there are.
void writeAll(std::byte *data, int64_t bytes);

} // namespace kernelforge
