#include "kernelforge/codegen/cuda/Accumulators.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cuda;

Value Accumulators::row(int64_t lower) {
  Value first = p.add(p.mul(roles.warpNumber, 16), p.div(roles.lane, 4));
  return p.add(first, 8 * lower);
}

Value Accumulators::firstColumn() { return p.mul(p.andBits(roles.lane, 3), 2); }

ResultPanels::ResultPanels(simt::PhaseBuilder &p, const Roles &roles, Value memory,
                           ElementType element, int64_t buffers)
    : p(p), roles(roles), assembly(p),
      memory(p.add(memory, p.mul(roles.group, buffers * panel.bytes()))),
      barrier(p.add(roles.group, 1)), element(element),
      elementBytes(element == ElementType::F32 ? 4 : 2), buffers(buffers) {
  isLeader = p.cmp(arith::CmpIPredicate::eq, roles.thread, p.c(0));
}

TensorMap ResultPanels::map(ElementType element, Extent rows, int64_t columns) {
  TensorMap map;
  map.element = element == ElementType::F32   ? TensorMap::Element::F32
                : element == ElementType::F16 ? TensorMap::Element::F16
                                              : TensorMap::Element::BF16;
  map.shape = {Extent(columns), std::move(rows)};
  map.strides = {columns * (element == ElementType::F32 ? 4 : 2)};
  map.box = {columnsOf(element), panel.rows};
  map.swizzle = TensorMap::Swizzle::Bytes128;
  return map;
}

/// A warp stores 16 rows x 16 columns at once; 16 rows of 16 bytes each side by side.
void ResultPanels::putHalves(Value address,
                             llvm::function_ref<std::array<Value, 2>(int64_t, int64_t)> pairOf) {
  constexpr int64_t atOnce = 2, rowsOfWarp = 16;
  Value row = p.add(p.mul(roles.warpNumber, rowsOfWarp), p.andBits(roles.lane, rowsOfWarp - 1));
  Value side = p.div(roles.lane, rowsOfWarp);
  for (int64_t block = 0; block < columns() / Accumulators::blockColumns; block += atOnce) {
    SmallVector<Value> words;
    for (int64_t right = 0; right < atOnce; ++right)
      for (int64_t lower = 0; lower < 2; ++lower) {
        const auto [first, second] = pairOf(block + right, lower);
        words.push_back(assembly.packHalves(element, first, second));
      }
    Value byte = p.mul(p.add(side, block), Panel::pieceBytes);
    assembly.storeMatrices(p.add(address, Panel::offsetOf(p, row, byte)), words);
  }
}

void ResultPanels::putFloats(Accumulators &sums, Value address, PairOf pairOf) {
  for (int64_t block = 0; block < columns() / Accumulators::blockColumns; ++block)
    for (int64_t lower = 0; lower < 2; ++lower) {
      const auto [first, second] = pairOf(block, lower);
      Value column = p.add(sums.firstColumn(), block * Accumulators::blockColumns);
      Value offset = Panel::offsetOf(p, sums.row(lower), p.mul(column, elementBytes));
      assembly.storePair(p.add(address, offset), first, second);
    }
}

void ResultPanels::store(Accumulators &sums, int64_t number, bool isOdd, PairOf pairOf,
                         llvm::function_ref<void(Value)> copy) {
  Value address = p.add(memory, number % buffers * panel.bytes());
  // The copy before this one may go on in the other buffer; the last one of an odd number, from the
  // tile before, was in the same.
  const int64_t pending = number == 0 && isOdd ? 0 : buffers - 1;
  if (buffers > 1)
    p.ifThen(isLeader, [&] { assembly.waitUntilRead(pending); });
  meet(); // what was there has been read
  if (element == ElementType::F32)
    putFloats(sums, address, pairOf);
  else
    putHalves(address, pairOf);
  assembly.publishShared();
  meet();
  copy(address);
}
