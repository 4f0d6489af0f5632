// What goes on beside a block's threads on capability 9.0: barriers in shared memory, bulk copies
// of tiles, matrix units.
#pragma once

#include "Instruction.h"

#include <functional>
#include <vector>

namespace kernelforge::ptx {

class Asynchronous {
public:
  /// Of one block, with its shared memory.
  Asynchronous(std::vector<std::byte> &shared, const Launch &launch,
               const std::vector<std::byte> &parameters)
      : shared(shared), launch(launch), parameters(parameters) {}

  // Each says what went wrong; empty where nothing did.
  std::string initBarrier(uint64_t at, uint64_t arrivals);
  std::string arrive(uint64_t at);
  std::string expectBytes(uint64_t at, uint64_t bytes);
  /// Whether the phase of that parity is over.
  std::string isOver(uint64_t at, uint64_t parity, bool &result);

  /// A box from memory, and its bytes to a barrier.
  std::string loadBox(uint64_t to, uint64_t map, uint64_t x, uint64_t y, uint64_t barrier);
  /// Stores of a thread: they are done when it waits for them.
  std::string storeBox(unsigned thread, uint64_t map, uint64_t x, uint64_t y, uint64_t from);
  void commitStores(unsigned thread);
  std::string waitStores(unsigned thread, uint64_t pending);
  /// Whether a thread may end.
  bool hasStores(unsigned thread) const;

  /// Of the memory that a tensor map is of; 0 where it is no parameter.
  uint64_t addressOf(uint64_t map) const;

  /// Adds a thread's part of a product to its sums, from descriptors of both operands;
  /// `thread` of its warpgroup.
  std::string multiply(const Instruction &i, unsigned thread, uint64_t left, uint64_t right,
                       std::vector<float> &sums);
  /// The same with numbers of the left operand from registers: `left` gives those of the thread's
  /// upper or lower row.
  using NumberOf = std::function<uint16_t(unsigned lower, uint64_t k)>;
  std::string multiply(const Instruction &i, unsigned thread, const NumberOf &left, uint64_t right,
                       std::vector<float> &sums);

private:
  struct Barrier {
    uint64_t arrivals = 0, pending = 0, phase = 0;
    int64_t bytes = 0; ///< that are still to come
  };
  struct Box {
    TensorMap map;
    uint64_t x = 0, y = 0, shared = 0;
  };

  /// 16 bits of a matrix in shared memory.
  uint16_t numberAt(uint64_t address, std::string &error) const;
  Barrier *find(uint64_t at);
  static void endPhase(Barrier &barrier);
  std::string readBox(Box &box, uint64_t map, uint64_t x, uint64_t y, uint64_t at);
  std::string move(const Box &box, bool toMemory);
  bool reaches(uint64_t address, uint64_t bytes, bool isWritten) const;
  /// Where a byte of swizzled memory lies.
  static uint64_t swizzled(uint64_t address) { return address ^ (address >> 7 & 7) << 4; }

  std::vector<std::byte> &shared;
  const Launch &launch;
  const std::vector<std::byte> &parameters;
  std::map<uint64_t, Barrier> barriers;
  /// By thread: groups of stores, the last one still open.
  std::map<unsigned, std::vector<std::vector<Box>>> stores;
};

} // namespace kernelforge::ptx
