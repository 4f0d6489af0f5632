// PTX on a processor: enough of it for the code that kernels are compiled to, thread by thread,
// with more checks than a GPU makes. For tests on machines without one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge::ptx {

struct Instruction;

/// One `.entry`.
struct Entry {
  std::string name;
  std::array<unsigned, 3> block{}; ///< of .reqntid; 0: any
  std::vector<unsigned> parameterBytes;
  std::vector<unsigned> parameterOffsets;
  unsigned sharedBytes = 0; ///< static
  unsigned registers = 0;   ///< of all types together
  bool hasRoles = false;    ///< threads meet in parts, or at barriers in shared memory
  std::vector<Instruction> code;
};

struct Module {
  std::string target; ///< "sm_90a"
  std::map<std::string, std::shared_ptr<const Entry>> entries;
};

/// Reads a module. Where it holds anything that is not emulated, `error` says what and in which
/// line, and there is no module.
std::unique_ptr<Module> parse(std::string_view text, std::string &error);

/// A tensor map as emulated bulk copies read it, in the 128 bytes of the parameter that it is.
struct TensorMap {
  uint64_t address = 0;
  uint64_t stride = 0;             ///< bytes from a row to the next
  std::array<uint64_t, 2> shape{}; ///< columns, rows
  std::array<uint32_t, 2> box{};   ///< the same of one copy
  uint32_t elementBytes = 0;
  uint32_t isSwizzled = 0; ///< by 128 bytes; else not at all
  std::array<uint64_t, 10> unused{};
};
constexpr size_t tensorMapBytes = 128;
static_assert(sizeof(TensorMap) == tensorMapBytes);

/// A piece of memory that a launch may touch.
struct Piece {
  uint64_t begin = 0, bytes = 0;
  bool isWritable = false;
  bool isConstant = false; ///< nothing that runs before writes to it
};

struct Launch {
  std::array<unsigned, 3> grid{1, 1, 1};
  std::array<unsigned, 3> block{1, 1, 1};
  unsigned cluster = 1; ///< blocks that follow one another and reach each other's shared memory
  unsigned dynamicSharedBytes = 0;
  /// It may start while what ran before still runs: until a thread has waited for that, or met one
  /// that has, it may touch only constant memory.
  bool startsEarly = false;
  std::span<void *const> parameters; ///< where the value of each lies
  /// Where given, all that may be touched. An access to one in part ends the launch.
  const std::vector<Piece> *memory = nullptr;
};

/// Runs all blocks, one cluster after another, the threads of a block one after another from
/// barrier to barrier. What went wrong, empty where nothing did: memory that is not the launch's,
/// an address that is not aligned, shared memory that two threads touch without a barrier between,
/// a barrier that some threads do not come to, another block than the entry was made for, memory
/// that is touched too early, a block that ends without waiting for what ran before. Where
/// threads meet at other barriers than those of all of them, races in shared memory are not found;
/// bulk copies to memory then happen as late, and those from memory as early as they can.
std::string run(const Entry &entry, const Launch &launch);

} // namespace kernelforge::ptx
