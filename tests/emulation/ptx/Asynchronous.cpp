#include "Asynchronous.h"

#include <bit>
#include <cstring>

namespace kernelforge::ptx {

//===----------------------------------------------------------------------===//
// Barriers
//===----------------------------------------------------------------------===//

Asynchronous::Barrier *Asynchronous::find(uint64_t at) {
  const auto found = barriers.find(at);
  return found == barriers.end() ? nullptr : &found->second;
}

void Asynchronous::endPhase(Barrier &barrier) {
  if (barrier.pending > 0 || barrier.bytes != 0)
    return;
  barrier.pending = barrier.arrivals;
  ++barrier.phase;
}

std::string Asynchronous::initBarrier(uint64_t at, uint64_t arrivals) {
  if (at % 8 != 0 || at + 8 > shared.size())
    return "a barrier beyond the block's shared memory, or not aligned";
  barriers[at] = {arrivals, arrivals, 0, 0};
  return "";
}

std::string Asynchronous::arrive(uint64_t at) {
  Barrier *barrier = find(at);
  if (!barrier || barrier->pending == 0)
    return "an arrival at no barrier, or one too many";
  --barrier->pending;
  endPhase(*barrier);
  return "";
}

std::string Asynchronous::expectBytes(uint64_t at, uint64_t bytes) {
  if (Barrier *barrier = find(at))
    barrier->bytes += static_cast<int64_t>(bytes);
  return arrive(at);
}

std::string Asynchronous::isOver(uint64_t at, uint64_t parity, bool &result) {
  const Barrier *barrier = find(at);
  if (!barrier)
    return "a wait at no barrier";
  result = (barrier->phase & 1) != (parity & 1);
  return "";
}

//===----------------------------------------------------------------------===//
// Bulk copies
//===----------------------------------------------------------------------===//

bool Asynchronous::reaches(uint64_t address, uint64_t bytes, bool isWritten) const {
  if (!launch.memory)
    return true;
  for (const Piece &piece : *launch.memory)
    if (address >= piece.begin && address + bytes <= piece.begin + piece.bytes &&
        (piece.isWritable || !isWritten))
      return true;
  return false;
}

uint64_t Asynchronous::addressOf(uint64_t map) const {
  TensorMap found;
  if (map + tensorMapBytes <= parameters.size())
    std::memcpy(&found, parameters.data() + map, sizeof(TensorMap));
  return found.address;
}

std::string Asynchronous::readBox(Box &box, uint64_t map, uint64_t x, uint64_t y, uint64_t at) {
  if (map + tensorMapBytes > parameters.size())
    return "a tensor map that is no parameter";
  std::memcpy(&box.map, parameters.data() + map, sizeof(TensorMap));
  box.x = static_cast<uint32_t>(x);
  box.y = static_cast<uint32_t>(y);
  box.shared = at;
  const uint64_t row = uint64_t(box.map.box[0]) * box.map.elementBytes;
  if (box.map.isSwizzled ? row != 128 || at % 1024 != 0 : row % 16 != 0 || at % 128 != 0)
    return "a box that lies where the copy cannot put it";
  if (at + row * box.map.box[1] > shared.size())
    return "a box beyond the block's shared memory";
  return "";
}

/// What lies outside of the map is zeros, and not written.
std::string Asynchronous::move(const Box &box, bool toMemory) {
  const TensorMap &map = box.map;
  const uint64_t bytes = map.elementBytes;
  for (uint64_t row = 0; row < map.box[1]; ++row)
    for (uint64_t column = 0; column < map.box[0]; ++column) {
      uint64_t at = box.shared + (row * map.box[0] + column) * bytes;
      std::byte *here = shared.data() + (map.isSwizzled ? swizzled(at) : at);
      const bool isThere = box.x + column < map.shape[0] && box.y + row < map.shape[1];
      const uint64_t there = map.address + (box.y + row) * map.stride + (box.x + column) * bytes;
      if (!isThere) {
        if (!toMemory)
          std::memset(here, 0, bytes);
        continue;
      }
      if (toMemory) {
        if (!reaches(there, bytes, true))
          return "a copy to memory that is not written";
        std::memcpy(reinterpret_cast<void *>(there), here, bytes);
      } else if (reaches(there, bytes, false)) {
        std::memcpy(here, reinterpret_cast<const void *>(there), bytes);
      } else { // rows behind those that there are now: anything
        std::memset(here, 0xff, bytes);
      }
    }
  return "";
}

std::string Asynchronous::loadBox(uint64_t to, uint64_t map, uint64_t x, uint64_t y, uint64_t at) {
  Box box;
  if (std::string why = readBox(box, map, x, y, to); !why.empty())
    return why;
  if (std::string why = move(box, false); !why.empty())
    return why;
  Barrier *barrier = find(at);
  if (!barrier)
    return "a copy with no barrier";
  barrier->bytes -= int64_t(box.map.box[0]) * box.map.box[1] * box.map.elementBytes;
  endPhase(*barrier);
  return "";
}

std::string Asynchronous::storeBox(unsigned thread, uint64_t map, uint64_t x, uint64_t y,
                                   uint64_t from) {
  Box box;
  std::string why = readBox(box, map, x, y, from);
  auto &groups = stores[thread];
  if (groups.empty())
    groups.emplace_back();
  groups.back().push_back(box);
  return why;
}

void Asynchronous::commitStores(unsigned thread) { stores[thread].emplace_back(); }

std::string Asynchronous::waitStores(unsigned thread, uint64_t pending) {
  auto &groups = stores[thread];
  while (groups.size() > pending + 1) {
    for (const Box &box : groups.front())
      if (std::string why = move(box, true); !why.empty())
        return why;
    groups.erase(groups.begin());
  }
  return "";
}

bool Asynchronous::hasStores(unsigned thread) const {
  const auto found = stores.find(thread);
  if (found == stores.end())
    return false;
  for (const auto &group : found->second)
    if (!group.empty())
      return true;
  return false;
}

//===----------------------------------------------------------------------===//
// Matrix units
//===----------------------------------------------------------------------===//

uint16_t Asynchronous::numberAt(uint64_t address, std::string &error) const {
  address = swizzled(address);
  uint16_t bits = 0;
  if (address + 2 > shared.size())
    error = "a product of what is beyond the block's shared memory";
  else
    std::memcpy(&bits, shared.data() + address, 2);
  return bits;
}

namespace {

/// Where a matrix in shared memory begins, and how it goes on; in bytes.
struct Descriptor {
  uint64_t start, leading, stride;
  explicit Descriptor(uint64_t bits)
      : start((bits & 0x3fff) << 4), leading((bits >> 16 & 0x3fff) << 4),
        stride((bits >> 32 & 0x3fff) << 4) {}
  static bool isSwizzled(uint64_t bits) { return bits >> 62 == 1; }
};

constexpr const char *notSwizzled = "a product of matrices that are not swizzled by 128 bytes";

} // namespace

std::string Asynchronous::multiply(const Instruction &i, unsigned thread, uint64_t left,
                                   uint64_t right, std::vector<float> &sums) {
  if (!Descriptor::isSwizzled(left))
    return notSwizzled;
  const Descriptor a(left);
  std::string error;
  auto number = [&](unsigned lower, uint64_t k) {
    const uint64_t row = thread / 32 * 16 + thread % 32 / 4 + 8 * lower;
    return numberAt(a.start + row / 8 * a.stride + row % 8 * 128 + k * 2, error);
  };
  const std::string why = multiply(i, thread, number, right, sums);
  return error.empty() ? why : error;
}

std::string Asynchronous::multiply(const Instruction &i, unsigned thread, const NumberOf &left,
                                   uint64_t right, std::vector<float> &sums) {
  if (!Descriptor::isSwizzled(right))
    return notSwizzled;
  const Descriptor b(right);
  constexpr uint64_t depth = 16;
  auto wide = [&](uint16_t bits) -> double {
    return i.isBf16 ? std::bit_cast<float>(uint32_t(bits) << 16)
                    : static_cast<float>(std::bit_cast<_Float16>(bits));
  };
  std::string error;
  std::array<std::array<double, depth>, 2> rows{};
  for (unsigned lower = 0; lower < 2; ++lower)
    for (uint64_t k = 0; k < depth; ++k)
      rows.at(lower).at(k) = wide(left(lower, k));
  for (unsigned pair = 0; pair < sums.size() / 2; ++pair) {
    const uint64_t column = pair / 2 * 8 + thread % 4 * 2 + pair % 2;
    std::array<double, 2> added{};
    for (uint64_t k = 0; k < depth; ++k) {
      const uint64_t at =
          i.isOfColumns
              ? b.start + column / 64 * b.leading + k / 8 * b.stride + k % 8 * 128 + column % 64 * 2
              : b.start + column / 8 * b.stride + column % 8 * 128 + k * 2;
      const double number = wide(numberAt(at, error));
      added[0] += rows[0].at(k) * number;
      added[1] += rows[1].at(k) * number;
    }
    for (unsigned lower = 0; lower < 2; ++lower) {
      float &sum = sums[pair / 2 * 4 + lower * 2 + pair % 2];
      sum = static_cast<float>(sum + added.at(lower));
    }
  }
  return error;
}

} // namespace kernelforge::ptx
