// A thread of an emulated block, and what it computes in registers.
#pragma once

#include "Instruction.h"

#include <bit>
#include <vector>

namespace kernelforge::ptx {

inline uint64_t low(uint64_t value, unsigned bits) {
  return bits >= 64 ? value : value & ((uint64_t(1) << bits) - 1);
}
inline int64_t withSign(uint64_t value, unsigned bits) {
  const unsigned shift = 64 - bits;
  return static_cast<int64_t>(value << shift) >> shift;
}
inline float floatOf(uint64_t value) { return std::bit_cast<float>(static_cast<uint32_t>(value)); }
inline float halfOf(uint64_t value) {
  return static_cast<float>(std::bit_cast<_Float16>(static_cast<uint16_t>(value)));
}
inline uint64_t bitsOf(float value) { return std::bit_cast<uint32_t>(value); }

struct Thread {
  std::array<unsigned, 3> id{};
  unsigned number = 0;
  size_t at = 0; ///< next instruction
  bool isDone = false;
  /// What it waits for: all threads, some of the block's (barrier `barrier`, `count` of them), its
  /// warp at this instruction, all of the cluster; or that something else goes on.
  enum Wait { Nothing, All, Some, Warp, Cluster, Others } wait = Nothing;
  uint64_t barrier = 0, count = 0;
  uint64_t clusterArrivals = 0;
  bool hasWaited = false; ///< for what ran before, or for a thread that has
  std::vector<uint64_t> registers;
};

/// What one thread after another computes.
class Arithmetic {
protected:
  Arithmetic(const Launch &launch, std::array<unsigned, 3> id) : launch(launch), id(id) {}

  void fail(std::string why) { error = std::move(why); }

  uint64_t value(const Operand &operand) const {
    switch (operand.kind) {
    case Operand::Register:
      return thread->registers[operand.index];
    case Operand::Special: {
      if (operand.index == Lane)
        return thread->number % 32;
      const std::array<unsigned, 3> *const values[] = {&thread->id, &launch.block, &id,
                                                       &launch.grid};
      return (*values[operand.index / 3])[operand.index % 3];
    }
    default:
      return operand.value;
    }
  }
  uint64_t operand(const Instruction &i, unsigned n) const { return value(i.operand[n]); }
  void set(const Operand &result, uint64_t value) {
    thread->registers[result.index] = low(value, result.bits);
  }

  /// An instruction that touches registers alone.
  void compute(const Instruction &i);

  const Launch &launch;
  const std::array<unsigned, 3> id; ///< of the block
  Thread *thread = nullptr;
  std::string error;

private:
  void halves(const Instruction &i);
  void floats(const Instruction &i);
  void integers(const Instruction &i);
  void multiply(const Instruction &i);
  bool compare(const Instruction &i) const;
  void convert(const Instruction &i);
};

} // namespace kernelforge::ptx
