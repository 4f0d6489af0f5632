#include "Instruction.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace kernelforge::ptx {

namespace {

/// More than any test needs: a loop without an end is one.
constexpr uint64_t mostSteps = uint64_t(1) << 33;
constexpr unsigned nobody = ~0U, several = ~1U;

uint64_t low(uint64_t value, unsigned bits) {
  return bits >= 64 ? value : value & ((uint64_t(1) << bits) - 1);
}
int64_t withSign(uint64_t value, unsigned bits) {
  const unsigned shift = 64 - bits;
  return static_cast<int64_t>(value << shift) >> shift;
}
float floatOf(uint64_t value) { return std::bit_cast<float>(static_cast<uint32_t>(value)); }
float halfOf(uint64_t value) {
  return static_cast<float>(std::bit_cast<_Float16>(static_cast<uint16_t>(value)));
}
uint64_t bitsOf(float value) { return std::bit_cast<uint32_t>(value); }

struct Thread {
  std::array<unsigned, 3> id{};
  unsigned number = 0;
  size_t at = 0; ///< next instruction
  bool isDone = false;
  std::vector<uint64_t> registers;
};

/// Who touched a word of shared memory since which barrier.
struct Touch {
  uint64_t epoch = 0;
  unsigned writer = nobody, reader = nobody;
};

class Block {
public:
  Block(const Entry &entry, const Launch &launch, std::array<unsigned, 3> id,
        const std::vector<std::byte> &parameters, uint64_t &steps)
      : entry(entry), launch(launch), id(id), parameters(parameters), steps(steps),
        shared(entry.sharedBytes + launch.dynamicSharedBytes, std::byte{0xff}),
        touches((shared.size() + 3) / 4) {}

  std::string run() {
    std::vector<Thread> threads;
    for (unsigned z = 0; z < launch.block[2]; ++z)
      for (unsigned y = 0; y < launch.block[1]; ++y)
        for (unsigned x = 0; x < launch.block[0]; ++x) {
          Thread thread;
          thread.id = {x, y, z};
          thread.number = static_cast<unsigned>(threads.size());
          thread.registers.assign(entry.registers, 0xdeadbeefdeadbeef);
          threads.push_back(std::move(thread));
        }
    for (;; ++epoch) {
      size_t done = 0;
      for (Thread &each : threads) {
        thread = &each;
        if (!each.isDone)
          runToBarrier();
        if (!error.empty())
          return "thread " + std::to_string(each.number) + ": " + error;
        done += each.isDone ? 1 : 0;
      }
      if (done == threads.size())
        return "";
      if (done > 0)
        return "some threads end while others wait at a barrier";
    }
  }

private:
  void runToBarrier() {
    while (true) {
      if (thread->at >= entry.code.size())
        return fail("it runs beyond its code");
      if (++steps > mostSteps)
        return fail("it does not end");
      const Instruction &i = entry.code[thread->at++];
      if (i.isGuarded && ((thread->registers[i.guard] & 1) != 0) == i.guardIsNegated)
        continue;
      if (i.op == Op::Branch) {
        thread->at = i.target;
      } else if (i.op == Op::Return) {
        thread->isDone = true;
        return;
      } else if (i.op == Op::Barrier) {
        return;
      } else {
        execute(i);
        if (!error.empty()) {
          error = entry.name + ", line " + std::to_string(i.line) + ": " + error;
          return;
        }
      }
    }
  }

  void fail(std::string why) { error = std::move(why); }

  uint64_t value(const Operand &operand) const {
    switch (operand.kind) {
    case Operand::Register:
      return thread->registers[operand.index];
    case Operand::Special: {
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

  //===--------------------------------------------------------------------===//
  // Memory
  //===--------------------------------------------------------------------===//

  std::byte *locate(const Instruction &i, uint64_t address, unsigned bytes, bool isWritten) {
    if (address % bytes != 0) {
      fail("address that is not aligned");
      return nullptr;
    }
    switch (i.space) {
    case Space::Parameter:
      if (address + bytes > parameters.size()) {
        fail("read beyond the parameters");
        return nullptr;
      }
      return const_cast<std::byte *>(parameters.data()) + address;
    case Space::Shared:
      if (address >= shared.size() || shared.size() - address < bytes) {
        fail("access beyond the block's shared memory");
        return nullptr;
      }
      for (uint64_t word = address / 4; word * 4 < address + bytes; ++word)
        touch(touches[word], isWritten);
      return shared.data() + address;
    case Space::Global:
      break;
    }
    const auto holds = [&](const Piece &piece) {
      return address >= piece.begin && address + bytes <= piece.begin + piece.bytes &&
             (piece.isWritable || !isWritten);
    };
    if (launch.memory && !std::ranges::any_of(*launch.memory, holds)) {
      fail(isWritten ? "write to memory that is not written" : "read of memory of nobody");
      return nullptr;
    }
    return reinterpret_cast<std::byte *>(address);
  }

  void touch(Touch &word, bool isWritten) {
    const unsigned self = thread->number;
    if (word.epoch != epoch)
      word = {epoch, nobody, nobody};
    const bool isRace = (word.writer != nobody && word.writer != self) ||
                        (isWritten && word.reader != nobody && word.reader != self);
    if (isRace)
      return fail("shared memory that another thread touches before the same barrier");
    if (isWritten)
      word.writer = self;
    else
      word.reader = word.reader == nobody || word.reader == self ? self : several;
  }

  void load(const Instruction &i) {
    const unsigned bytes = i.type.bits / 8;
    const uint64_t address = addressOf(i);
    if (address % (bytes * i.results) != 0)
      return fail("address that is not aligned");
    for (unsigned n = 0; n < i.results; ++n) {
      const std::byte *from = locate(i, address + uint64_t(n) * bytes, bytes, false);
      if (!from)
        return;
      uint64_t loaded = 0;
      std::memcpy(&loaded, from, bytes);
      if (i.type.kind == Type::Signed)
        loaded = static_cast<uint64_t>(withSign(loaded, i.type.bits));
      set(i.result[n], loaded);
    }
  }

  void store(const Instruction &i) {
    const unsigned bytes = i.type.bits / 8, count = i.operands - 1U;
    const uint64_t address = addressOf(i);
    if (address % (bytes * count) != 0)
      return fail("address that is not aligned");
    for (unsigned n = 0; n < count; ++n) {
      std::byte *to = locate(i, address + uint64_t(n) * bytes, bytes, true);
      if (!to)
        return;
      const uint64_t stored = operand(i, n + 1);
      std::memcpy(to, &stored, bytes);
    }
  }

  uint64_t addressOf(const Instruction &i) const {
    const Operand &base = i.operand[0];
    return base.kind == Operand::Register ? thread->registers[base.index] + base.value : base.value;
  }

  //===--------------------------------------------------------------------===//
  // Arithmetic
  //===--------------------------------------------------------------------===//

  void execute(const Instruction &i) {
    switch (i.op) {
    case Op::Load:
      return load(i);
    case Op::Store:
      return store(i);
    case Op::Move:
      return set(i.result[0], operand(i, 0));
    case Op::Pack: {
      uint64_t packed = 0;
      const unsigned bits = i.type.bits / i.operands;
      for (unsigned n = 0; n < i.operands; ++n)
        packed |= low(operand(i, n), bits) << (n * bits);
      return set(i.result[0], packed);
    }
    case Op::Unpack: {
      const unsigned bits = i.type.bits / i.results;
      for (unsigned n = 0; n < i.results; ++n)
        set(i.result[n], low(operand(i, 0) >> (n * bits), bits));
      return;
    }
    case Op::Convert:
      return convert(i);
    case Op::SetPredicate:
      return set(i.result[0], compare(i) ? 1 : 0);
    case Op::Select:
      return set(i.result[0], operand(i, 2) & 1 ? operand(i, 0) : operand(i, 1));
    default:
      return i.type.kind == Type::Float ? floats(i) : integers(i);
    }
  }

  /// Sums and products of f16: exact in f32, or in f64, and rounded once.
  void halves(const Instruction &i) {
    auto x = [&](unsigned n) { return static_cast<double>(halfOf(operand(i, n))); };
    auto give = [&](double result) {
      set(i.result[0], std::bit_cast<uint16_t>(static_cast<_Float16>(result)));
    };
    switch (i.op) {
    case Op::Add:
      return give(x(0) + x(1));
    case Op::Sub:
      return give(x(0) - x(1));
    case Op::Mul:
      return give(x(0) * x(1));
    default:
      return fail("an operation on f16 that is not emulated");
    }
  }

  void floats(const Instruction &i) {
    if (i.type.bits == 16)
      return halves(i);
    if (i.type.bits != 32)
      return fail("floats of another width");
    auto x = [&](unsigned n) { return floatOf(operand(i, n)); };
    auto give = [&](float result) { set(i.result[0], bitsOf(result)); };
    switch (i.op) {
    case Op::Add:
      return give(x(0) + x(1));
    case Op::Sub:
      return give(x(0) - x(1));
    case Op::Mul:
      return give(x(0) * x(1));
    case Op::Mad:
      return give(std::fma(x(0), x(1), x(2)));
    case Op::Div:
      return give(x(0) / x(1));
    case Op::Reciprocal:
      return give(1.0F / x(0));
    case Op::SquareRoot:
      return give(std::sqrt(x(0)));
    case Op::Min:
      return give(std::fmin(x(0), x(1)));
    case Op::Max:
      return give(std::fmax(x(0), x(1)));
    case Op::Neg:
      return set(i.result[0], operand(i, 0) ^ 0x80000000);
    case Op::Abs:
      return set(i.result[0], operand(i, 0) & 0x7fffffff);
    case Op::CopySign:
      return set(i.result[0], (operand(i, 0) & 0x80000000) | (operand(i, 1) & 0x7fffffff));
    default:
      return fail("an operation of integers on floats");
    }
  }

  void integers(const Instruction &i) {
    const unsigned bits = i.type.bits;
    const bool isSigned = i.type.kind == Type::Signed;
    const uint64_t a = low(operand(i, 0), bits), b = low(operand(i, 1), bits);
    const int64_t sa = withSign(a, bits), sb = withSign(b, bits);
    auto give = [&](uint64_t result) { set(i.result[0], low(result, bits)); };
    const auto shift = static_cast<unsigned>(std::min<uint64_t>(low(operand(i, 1), 32), 64));
    switch (i.op) {
    case Op::Add:
      return give(a + b);
    case Op::Sub:
      return give(a - b);
    case Op::Mul:
    case Op::Mad:
      return multiply(i);
    case Op::Div:
    case Op::Rem:
      if (b == 0)
        return fail("division by zero");
      if (i.op == Op::Div)
        return give(isSigned ? static_cast<uint64_t>(sa / sb) : a / b);
      return give(isSigned ? static_cast<uint64_t>(sa % sb) : a % b);
    case Op::Min:
      return give((isSigned ? sa < sb : a < b) ? a : b);
    case Op::Max:
      return give((isSigned ? sa > sb : a > b) ? a : b);
    case Op::Neg:
      return give(0 - a);
    case Op::Abs:
      return give(static_cast<uint64_t>(sa < 0 ? -sa : sa));
    case Op::Not:
      return give(~a);
    case Op::And:
      return give(a & b);
    case Op::Or:
      return give(a | b);
    case Op::Xor:
      return give(a ^ b);
    case Op::ShiftLeft:
      return give(shift >= bits ? 0 : a << shift);
    case Op::ShiftRight:
      if (isSigned)
        return give(static_cast<uint64_t>(sa >> std::min(shift, bits - 1)));
      return give(shift >= bits ? 0 : a >> shift);
    case Op::FunnelLeft:
    case Op::FunnelRight: {
      const uint64_t both = low(operand(i, 1), 32) << 32 | low(operand(i, 0), 32);
      const uint64_t by = operand(i, 2) & 31;
      return set(i.result[0], i.op == Op::FunnelLeft ? both << by >> 32 : both >> by);
    }
    case Op::ExtractBits: {
      const uint64_t from = operand(i, 1) & 255, count = operand(i, 2) & 255;
      if (count == 0 || from + count > bits)
        return fail("a field of bits that is not emulated");
      const uint64_t field = low(a >> from, static_cast<unsigned>(count));
      return give(isSigned ? static_cast<uint64_t>(withSign(field, static_cast<unsigned>(count)))
                           : field);
    }
    case Op::InsertBits: {
      const uint64_t from = operand(i, 2) & 255, count = operand(i, 3) & 255;
      if (from + count > bits)
        return fail("a field of bits that is not emulated");
      const uint64_t mask = low(~uint64_t(0), static_cast<unsigned>(count)) << from;
      return give((b & ~mask) | (a << from & mask));
    }
    case Op::Permute: {
      const uint64_t bytes = b << 32 | a, chosen = operand(i, 2);
      uint64_t result = 0;
      for (unsigned n = 0; n < 4; ++n) {
        const uint64_t pick = chosen >> (4 * n) & 15;
        if (pick > 7)
          return fail("a permutation that is not emulated");
        result |= (bytes >> (8 * pick) & 255) << (8 * n);
      }
      return give(result);
    }
    default:
      return fail("an operation of floats on integers");
    }
  }

  void multiply(const Instruction &i) {
    const unsigned bits = i.type.bits;
    __int128 product;
    if (i.type.kind == Type::Signed)
      product = __int128(withSign(operand(i, 0), bits)) * withSign(operand(i, 1), bits);
    else
      product = static_cast<__int128>(static_cast<unsigned __int128>(low(operand(i, 0), bits)) *
                                      low(operand(i, 1), bits));
    if (i.part == Part::High)
      product >>= bits;
    auto result = static_cast<uint64_t>(product);
    if (i.op == Op::Mad)
      result += operand(i, 2);
    set(i.result[0], low(result, i.part == Part::Wide ? 2 * bits : bits));
  }

  bool compare(const Instruction &i) const {
    const unsigned bits = i.type.bits;
    auto holds = [&](auto a, auto b) {
      switch (i.compare) {
      case Compare::Eq:
        return a == b;
      case Compare::Ne:
        return a != b;
      case Compare::Lt:
        return a < b;
      case Compare::Le:
        return a <= b;
      case Compare::Gt:
        return a > b;
      default:
        return a >= b;
      }
    };
    if (i.type.kind == Type::Float) {
      const bool isHalf = bits == 16;
      const float a = isHalf ? halfOf(operand(i, 0)) : floatOf(operand(i, 0));
      const float b = isHalf ? halfOf(operand(i, 1)) : floatOf(operand(i, 1));
      const bool isOrdered = !std::isnan(a) && !std::isnan(b);
      if (i.compare == Compare::Number || i.compare == Compare::NotNumber)
        return isOrdered == (i.compare == Compare::Number);
      return isOrdered ? holds(a, b) : i.isUnordered;
    }
    if (i.type.kind == Type::Signed)
      return holds(withSign(operand(i, 0), bits), withSign(operand(i, 1), bits));
    return holds(low(operand(i, 0), bits), low(operand(i, 1), bits));
  }

  void convert(const Instruction &i) {
    const uint64_t from = low(operand(i, 0), i.source.bits);
    const int64_t asSigned = withSign(from, i.source.bits);
    const bool isSigned = i.source.kind == Type::Signed;
    auto give = [&](uint64_t result) { set(i.result[0], low(result, i.type.bits)); };
    if (i.source.kind == Type::Float && i.type.kind == Type::Float) {
      if (i.source.bits == 16 && i.type.bits == 32)
        return give(bitsOf(halfOf(from)));
      if (i.source.bits == 32 && i.type.bits == 16)
        return give(std::bit_cast<uint16_t>(static_cast<_Float16>(floatOf(from))));
      return fail("a conversion that is not emulated");
    }
    if (i.type.kind == Type::Float)
      return i.type.bits == 32
                 ? give(bitsOf(isSigned ? static_cast<float>(asSigned) : static_cast<float>(from)))
                 : fail("a conversion that is not emulated");
    if (i.source.kind == Type::Float) {
      if (i.source.bits != 32 || i.type.bits != 32 || i.type.kind != Type::Unsigned)
        return fail("a conversion that is not emulated");
      // What is no number becomes 0, what is out of range its end.
      const auto value = static_cast<double>(floatOf(from));
      return give(value > 0 ? static_cast<uint64_t>(std::min<double>(value, UINT32_MAX)) : 0);
    }
    // A register may be wider than what it is converted to: a sign goes on to its end.
    const uint64_t widened = isSigned ? static_cast<uint64_t>(asSigned) : from;
    if (i.type.kind == Type::Signed)
      return set(i.result[0], static_cast<uint64_t>(withSign(widened, i.type.bits)));
    give(widened);
  }

  const Entry &entry;
  const Launch &launch;
  const std::array<unsigned, 3> id;
  const std::vector<std::byte> &parameters;
  uint64_t &steps;
  uint64_t epoch = 1; ///< number of the barrier to come
  Thread *thread = nullptr;
  std::vector<std::byte> shared;
  std::vector<Touch> touches; ///< by word of shared memory
  std::string error;
};

} // namespace

std::string run(const Entry &entry, const Launch &launch) {
  if (entry.block[0] != 0 && entry.block != launch.block)
    return entry.name + ": launched with another block than it is made for";
  if (launch.parameters.size() != entry.parameterBytes.size())
    return entry.name + ": launched with " + std::to_string(launch.parameters.size()) +
           " parameters, and it has " + std::to_string(entry.parameterBytes.size());
  std::vector<std::byte> parameters;
  for (size_t i = 0; i < entry.parameterBytes.size(); ++i) {
    parameters.resize(entry.parameterOffsets[i] + entry.parameterBytes[i]);
    std::memcpy(parameters.data() + entry.parameterOffsets[i], launch.parameters[i],
                entry.parameterBytes[i]);
  }
  uint64_t steps = 0;
  for (unsigned z = 0; z < launch.grid[2]; ++z)
    for (unsigned y = 0; y < launch.grid[1]; ++y)
      for (unsigned x = 0; x < launch.grid[0]; ++x)
        if (std::string why = Block(entry, launch, {x, y, z}, parameters, steps).run();
            !why.empty())
          return "block " + std::to_string(x) + ", " + why;
  return "";
}

} // namespace kernelforge::ptx
