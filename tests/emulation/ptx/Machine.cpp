#include "Arithmetic.h"
#include "Asynchronous.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <span>

namespace kernelforge::ptx {

namespace {

/// More than any test needs: a loop without an end is one.
constexpr uint64_t mostSteps = uint64_t(1) << 33;
constexpr size_t warpThreads = 32;
/// Addresses in a cluster have the rank of the block, from 1 on, above these.
constexpr unsigned rankBits = 24;
constexpr const char *tooEarly = "memory is touched before what ran before is over";
constexpr unsigned nobody = ~0U, several = ~1U;

/// Who touched a word of shared memory since which barrier.
struct Touch {
  uint64_t epoch = 0;
  unsigned writer = nobody, reader = nobody;
};

class Block : Arithmetic {
public:
  Block(const Entry &entry, const Launch &launch, std::array<unsigned, 3> id,
        const std::vector<std::byte> &parameters, uint64_t &steps)
      : Arithmetic(launch, id), entry(entry), parameters(parameters), steps(steps),
        shared(entry.sharedBytes + launch.dynamicSharedBytes, std::byte{0xff}),
        touches((shared.size() + 3) / 4) {}

  /// Starts its threads; `all` blocks of its cluster, this one among them.
  void start(std::vector<std::unique_ptr<Block>> &all) {
    cluster = &all;
    for (unsigned z = 0; z < launch.block[2]; ++z)
      for (unsigned y = 0; y < launch.block[1]; ++y)
        for (unsigned x = 0; x < launch.block[0]; ++x) {
          Thread thread;
          thread.id = {x, y, z};
          thread.number = static_cast<unsigned>(threads.size());
          thread.registers.assign(entry.registers, 0xdeadbeefdeadbeef);
          threads.push_back(std::move(thread));
        }
  }

  bool isDone() const { return std::ranges::all_of(threads, &Thread::isDone); }
  bool hasWaited() const { return std::ranges::any_of(threads, &Thread::hasWaited); }

  /// Lets each thread go on to its next barrier: whether any did. What went wrong is in `why`.
  bool turn(std::string &why) {
    bool goesOn = false;
    for (Thread &each : threads) {
      thread = &each;
      if (each.isDone || (each.wait != Thread::Nothing && each.wait != Thread::Others))
        continue;
      const uint64_t before = steps;
      const bool waited = each.wait == Thread::Others;
      runToBarrier();
      if (!error.empty()) {
        why = "thread " + std::to_string(each.number) + ": " + error;
        return false;
      }
      // Who asks again and again for the same stands still: a branch back and the question.
      constexpr uint64_t ofQuestion = 4;
      goesOn = goesOn || !waited || each.wait != Thread::Others || steps - before > ofQuestion;
    }
    if (isDone()) {
      if (launch.startsEarly && std::ranges::none_of(threads, &Thread::hasWaited)) {
        why = "it ends without waiting for what ran before";
        return false;
      }
      return true;
    }
    goesOn = meet() || goesOn;
    why = error;
    return goesOn;
  }

  /// Arrivals at the cluster that each thread has made which goes on.
  uint64_t leastArrivals() const {
    uint64_t least = ~uint64_t(0);
    for (const Thread &each : threads)
      if (!each.isDone)
        least = std::min(least, each.clusterArrivals);
    return least;
  }

  /// Lets those go on who wait for so many arrivals: whether there are any.
  bool meetCluster(uint64_t arrivals) {
    bool goesOn = false;
    for (Thread &each : threads)
      if (each.wait == Thread::Cluster && each.clusterArrivals <= arrivals) {
        each.wait = Thread::Nothing;
        each.hasWaited = each.hasWaited || std::ranges::any_of(*cluster, &Block::hasWaited);
        goesOn = true;
      }
    return goesOn;
  }

private:
  /// Lets those go on who wait for others that have come; whether there are any.
  bool meet() {
    const auto waitsForAll = [](const Thread &each) { return each.wait == Thread::All; };
    const auto done = static_cast<size_t>(std::ranges::count_if(threads, &Thread::isDone));
    const auto ready = static_cast<size_t>(std::ranges::count_if(threads, waitsForAll));
    bool goesOn = false;
    if (ready > 0 && done + ready == threads.size()) {
      if (done > 0) {
        fail("some threads end while others wait at a barrier");
        return false;
      }
      ++epoch;
      const bool known = hasWaited();
      for (Thread &each : threads) {
        each.wait = Thread::Nothing;
        each.hasWaited = known;
      }
      return true;
    }
    std::map<uint64_t, std::vector<Thread *>> byBarrier;
    for (Thread &each : threads)
      if (each.wait == Thread::Some)
        byBarrier[each.barrier].push_back(&each);
    for (auto &[barrier, come] : byBarrier)
      if (come.size() >= come.front()->count) {
        const bool known = std::ranges::any_of(come, &Thread::hasWaited);
        for (Thread *each : come) {
          each->wait = Thread::Nothing;
          each->hasWaited = known;
        }
        goesOn = true;
      }
    for (size_t first = 0; first + warpThreads <= threads.size(); first += warpThreads) {
      const std::span<Thread> warp(&threads[first], warpThreads);
      const auto isThere = [&](const Thread &each) {
        return each.wait == Thread::Warp && each.at == warp.front().at;
      };
      if (!std::ranges::all_of(warp, isThere))
        continue;
      together(entry.code[warp.front().at - 1], warp);
      const bool known = std::ranges::any_of(warp, &Thread::hasWaited);
      for (Thread &each : warp) {
        each.wait = Thread::Nothing;
        each.hasWaited = known;
      }
      goesOn = true;
    }
    return goesOn;
  }

  /// An instruction that the threads of a warp execute as one.
  void together(const Instruction &i, std::span<Thread> warp) {
    if (i.op == Op::MeetWarp)
      return;
    if (i.op == Op::WarpProduct)
      return multiplyMatrices(i, warp);
    std::array<std::array<uint64_t, 5>, warpThreads> values{};
    for (size_t t = 0; t < warp.size(); ++t) {
      thread = &warp[t];
      for (unsigned n = 0; n < i.operands && n < 5; ++n)
        values[t][n] = operand(i, n);
    }
    if (i.op == Op::ProductOfRegisters)
      return multiply(i, warp, values);
    const bool any = std::ranges::any_of(values, [](const auto &own) { return own[0] & 1; });
    for (size_t t = 0; t < warp.size(); ++t) {
      thread = &warp[t];
      if (i.op == Op::AnyLane) {
        set(i.result[0], any ? 1 : 0);
        continue;
      }
      if (i.op == Op::Shuffle) {
        set(i.result[0], values[values[t][1] % warpThreads][0]);
        continue;
      }
      if (i.op == Op::ShuffleXor) {
        set(i.result[0], values[(t ^ values[t][1]) % warpThreads][0]);
        continue;
      }
      // Of matrix m a thread has two numbers, of row t / 4; thread 8 m + row has the row's address.
      for (size_t m = 0; m < 4; ++m) {
        const uint64_t row = low(values[8 * m + t / 4][0], 32), at = row + t % 4 * 4;
        if (row % 16 != 0 || at + 4 > shared.size())
          return fail("a matrix beyond the block's shared memory, or not aligned");
        const auto word = static_cast<uint32_t>(values[t][m + 1]);
        std::memcpy(shared.data() + at, &word, 4);
      }
    }
  }

  /// Of a row of the left operand each of four threads has two numbers of every eight; words are of
  /// the upper and the lower row, then the same of the next eight numbers.
  void multiply(const Instruction &i, std::span<Thread> warp,
                const std::array<std::array<uint64_t, 5>, warpThreads> &values) {
    for (size_t t = 0; t < warp.size(); ++t) {
      thread = &warp[t];
      auto left = [&](unsigned lower, uint64_t k) {
        const uint64_t word = values[t / 4 * 4 + k % 8 / 2][lower + k / 8 * 2];
        return static_cast<uint16_t>(word >> (k % 2 * 16));
      };
      addProduct(i, [&](std::vector<float> &sums) {
        return asynchronous.multiply(i, unsigned(t), left, values[t][4], sums);
      });
    }
  }

  void addProduct(const Instruction &i,
                  const std::function<std::string(std::vector<float> &)> &multiply) {
    std::vector<float> sums;
    for (const Operand &sum : i.sums)
      sums.push_back(floatOf(value(sum)));
    if (sums.size() != i.columns / 2)
      return fail("a product of another number of sums");
    fail(multiply(sums));
    for (size_t n = 0; n < sums.size(); ++n)
      set(i.sums[n], bitsOf(sums[n]));
  }

  /// left (16 x 16) * right (16 x 8) + sums of a warp, whose threads have pairs of numbers: of the
  /// left one four of two rows, of the right one two of a column.
  void multiplyMatrices(const Instruction &i, std::span<Thread> warp) {
    constexpr unsigned rows = 16, columns = 8, depth = 16;
    std::array<std::array<double, depth>, rows> left{};
    std::array<std::array<double, columns>, depth> right{};
    std::array<std::array<float, columns>, rows> sums{};
    for (unsigned t = 0; t < warpThreads; ++t) {
      thread = &warp[t];
      const unsigned row = t / 4, pair = t % 4 * 2;
      for (unsigned n = 0; n < 4; ++n) {
        sums.at(row + n / 2 * 8).at(pair + n % 2) = floatOf(value(i.sums.at(6 + n)));
        for (unsigned half = 0; half < 2; ++half) {
          left.at(row + n % 2 * 8).at(pair + n / 2 * 8 + half) =
              number(value(i.sums.at(n)) >> 16 * half, i.isBf16);
          if (n < 2)
            right.at(pair + n * 8 + half).at(row) =
                number(value(i.sums.at(4 + n)) >> 16 * half, i.isBf16);
        }
      }
    }
    for (unsigned t = 0; t < warpThreads; ++t) {
      thread = &warp[t];
      for (unsigned n = 0; n < 4; ++n) {
        const unsigned row = t / 4 + n / 2 * 8, column = t % 4 * 2 + n % 2;
        double sum = sums.at(row).at(column);
        for (unsigned k = 0; k < depth; ++k)
          sum += left.at(row).at(k) * right.at(k).at(column);
        set(i.result.at(n), bitsOf(static_cast<float>(sum)));
      }
    }
  }

  static double number(uint64_t bits, bool isBf16) {
    return isBf16 ? floatOf((bits & 0xffff) << 16) : halfOf(bits & 0xffff);
  }

  void runToBarrier() {
    thread->wait = Thread::Nothing;
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
        if (asynchronous.hasStores(thread->number))
          fail("it ends before a copy has read what it stores");
        return;
      } else if (i.op == Op::Barrier) {
        thread->wait = i.operands == 0 ? Thread::All : Thread::Some;
        if (i.operands == 2) {
          thread->barrier = low(operand(i, 0), 32);
          thread->count = operand(i, 1);
        }
        return;
      } else if (i.op == Op::Shuffle || i.op == Op::ShuffleXor || i.op == Op::StoreMatrices ||
                 i.op == Op::MeetWarp || i.op == Op::AnyLane || i.op == Op::ProductOfRegisters ||
                 i.op == Op::WarpProduct) {
        thread->wait = Thread::Warp;
        return;
      } else {
        execute(i);
        if (!error.empty()) {
          error = entry.name + ", line " + std::to_string(i.line) + ": " + error;
          return;
        }
        if (thread->wait == Thread::Others || thread->wait == Thread::Cluster)
          return;
      }
    }
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
      for (uint64_t word = address / 4; word * 4 < address + bytes && !entry.hasRoles; ++word)
        touch(touches[word], isWritten);
      return shared.data() + address;
    case Space::Cluster: {
      const uint64_t rank = address >> rankBits, own = low(address, rankBits);
      if (rank == 0 || rank > cluster->size() || own + bytes > shared.size()) {
        fail("access beyond the cluster's shared memory");
        return nullptr;
      }
      Block &other = *(*cluster)[rank - 1];
      if (&other != this && other.isDone()) {
        fail("access to the shared memory of a block that has ended");
        return nullptr;
      }
      return other.shared.data() + own;
    }
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
    if (isTooEarly(address)) {
      fail(tooEarly);
      return nullptr;
    }
    return reinterpret_cast<std::byte *>(address);
  }

  /// Whether what ran before may be at work on the memory there.
  bool isTooEarly(uint64_t address) const {
    const auto isThere = [&](const Piece &piece) {
      return piece.isConstant && address >= piece.begin && address < piece.begin + piece.bytes;
    };
    return launch.startsEarly && !thread->hasWaited && launch.memory &&
           !std::ranges::any_of(*launch.memory, isThere);
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
      const uint64_t stored = operand(i, n + 1), at = address + uint64_t(n) * bytes;
      if (i.space == Space::Shared && isThere(at, bytes, stored))
        continue;
      std::byte *to = locate(i, at, bytes, true);
      if (!to)
        return;
      std::memcpy(to, &stored, bytes);
    }
  }

  void atomicAdd(const Instruction &i) {
    const uint64_t address = addressOf(i), bytes = i.type.bits / 8;
    if (!locate(i, address, bytes, false))
      return;
    std::byte *at = locate(i, address, bytes, true);
    if (!at)
      return;
    uint64_t before = 0;
    std::memcpy(&before, at, bytes);
    const uint64_t after = before + operand(i, 1);
    std::memcpy(at, &after, bytes);
    set(i.result[0], before);
  }

  /// Whether a thread has written the same since the last barrier: several may.
  bool isThere(uint64_t address, unsigned bytes, uint64_t value) const {
    if (address % bytes != 0 || address + bytes > shared.size())
      return false;
    const Touch &word = touches[address / 4];
    return word.epoch == epoch && word.writer != nobody &&
           std::memcmp(shared.data() + address, &value, bytes) == 0;
  }

  uint64_t addressOf(const Instruction &i) const {
    const Operand &base = i.operand[0];
    return base.kind == Operand::Register ? thread->registers[base.index] + base.value : base.value;
  }

  //===--------------------------------------------------------------------===//
  // Instructions
  //===--------------------------------------------------------------------===//

  void execute(const Instruction &i) {
    switch (i.op) {
    case Op::Load:
      return load(i);
    case Op::AtomicAdd:
      return atomicAdd(i);
    case Op::Store:
      return store(i);
    case Op::InitBarrier:
    case Op::Arrive:
    case Op::ExpectBytes:
    case Op::TryWait:
    case Op::LoadBox:
    case Op::StoreBox:
    case Op::CommitStores:
    case Op::WaitStores:
    case Op::Product:
      return beside(i);
    case Op::ArriveCluster:
      ++thread->clusterArrivals;
      return;
    case Op::WaitCluster:
      thread->wait = Thread::Cluster;
      return;
    case Op::MapShared: {
      const uint64_t rank = operand(i, 1);
      if (rank >= cluster->size())
        return fail("a block that the cluster has not");
      return set(i.result[0], low(operand(i, 0), rankBits) | (rank + 1) << rankBits);
    }
    case Op::WaitPrevious:
      thread->hasWaited = true;
      return;
    case Op::Nothing:
      return;
    default:
      return compute(i);
    }
  }

  /// What works beside the threads.
  void beside(const Instruction &i) {
    auto value32 = [&](unsigned n) { return low(operand(i, n), 32); };
    const unsigned self = thread->number;
    switch (i.op) {
    case Op::InitBarrier:
      return fail(asynchronous.initBarrier(value32(0), operand(i, 1)));
    case Op::Arrive:
      return fail(asynchronous.arrive(value32(0)));
    case Op::ExpectBytes:
      return fail(asynchronous.expectBytes(value32(0), operand(i, 1)));
    case Op::TryWait: {
      bool isOver = false;
      fail(asynchronous.isOver(value32(0), operand(i, 1), isOver));
      set(i.result[0], isOver ? 1 : 0);
      thread->hasWaited = thread->hasWaited || (isOver && hasWaited());
      thread->wait = isOver ? Thread::Nothing : Thread::Others;
      return;
    }
    case Op::LoadBox:
      if (isTooEarly(asynchronous.addressOf(operand(i, 1))))
        return fail(tooEarly);
      return fail(
          asynchronous.loadBox(value32(0), operand(i, 1), value32(2), value32(3), value32(4)));
    case Op::StoreBox:
      if (isTooEarly(asynchronous.addressOf(operand(i, 0))))
        return fail(tooEarly);
      return fail(asynchronous.storeBox(self, operand(i, 0), value32(1), value32(2), value32(3)));
    case Op::CommitStores:
      return asynchronous.commitStores(self);
    case Op::WaitStores:
      return fail(asynchronous.waitStores(self, operand(i, 0)));
    default:
      break;
    }
    addProduct(i, [&](std::vector<float> &sums) {
      if (!(operand(i, 2) & 1))
        std::ranges::fill(sums, 0.0F);
      return asynchronous.multiply(i, self % 128, operand(i, 0), operand(i, 1), sums);
    });
  }

  const Entry &entry;
  const std::vector<std::byte> &parameters;
  uint64_t &steps;
  std::vector<Thread> threads;
  std::vector<std::unique_ptr<Block>> *cluster = nullptr; ///< by rank
  uint64_t epoch = 1;                                     ///< number of the barrier to come
  std::vector<std::byte> shared;
  std::vector<Touch> touches; ///< by word of shared memory
  Asynchronous asynchronous{shared, launch, parameters};
};

/// Runs blocks that are a cluster, in turns.
std::string runCluster(std::vector<std::unique_ptr<Block>> &blocks) {
  for (const auto &block : blocks)
    block->start(blocks);
  while (true) {
    bool goesOn = false;
    std::string why;
    uint64_t arrivals = ~uint64_t(0);
    for (const auto &block : blocks) {
      if (block->isDone())
        continue;
      goesOn = block->turn(why) || goesOn;
      if (!why.empty())
        return why;
      arrivals = std::min(arrivals, block->leastArrivals());
    }
    if (std::ranges::all_of(blocks, [](const auto &block) { return block->isDone(); }))
      return "";
    for (const auto &block : blocks)
      goesOn = block->meetCluster(arrivals) || goesOn;
    if (!goesOn)
      return "threads wait for each other";
  }
}

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
  if (launch.cluster == 0 || launch.grid[0] % launch.cluster != 0)
    return entry.name + ": launched with clusters that are not whole";
  uint64_t steps = 0;
  for (unsigned z = 0; z < launch.grid[2]; ++z)
    for (unsigned y = 0; y < launch.grid[1]; ++y)
      for (unsigned x = 0; x < launch.grid[0]; x += launch.cluster) {
        std::vector<std::unique_ptr<Block>> blocks;
        for (unsigned rank = 0; rank < launch.cluster; ++rank)
          blocks.push_back(std::make_unique<Block>(
              entry, launch, std::array<unsigned, 3>{x + rank, y, z}, parameters, steps));
        if (std::string why = runCluster(blocks); !why.empty())
          return "block " + std::to_string(x) + ", " + why;
      }
  return "";
}

} // namespace kernelforge::ptx
