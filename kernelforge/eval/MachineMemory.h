// What this machine was like in its best moments of the last few runs: a run that begins while its
// cores are shared or far apart cannot know by itself that they are.
#pragma once

#include "kernelforge/eval/RoundSamples.h"

#include <filesystem>
#include <string>

namespace kernelforge {

/// A small JSON file. What is wrong with it is no error: then nothing is known.
class MachineMemory {
public:
  /// `machine` names the processor and how it is used; states of others are kept apart.
  MachineMemory(std::filesystem::path file, std::string machine)
      : file(std::move(file)), machine(std::move(machine)) {}

  /// The best of the last runs; zeros where none is known.
  MachineState recall() const;

  /// Adds a run and forgets the oldest: a machine that has become slower for good is known as such
  /// after `runs` of them. Failed where the file cannot be written. Of several at once the last
  /// wins.
  Status remember(const MachineState &state) const;

  static constexpr size_t runs = 8, machines = 64;

private:
  std::filesystem::path file;
  std::string machine;
};

} // namespace kernelforge
