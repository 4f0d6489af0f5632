#include "kernelforge/codegen/cuda/SharedLayout.h"

#include "kernelforge/codegen/cuda/Assembly.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cuda;

Value Panel::offsetOf(simt::PhaseBuilder &p, Value row, Value byte) {
  Value piece = p.xorBits(p.div(byte, pieceBytes), p.andBits(row, 7));
  return p.add(p.mul(row, rowBytes), p.add(p.mul(piece, pieceBytes), p.rem(byte, pieceBytes)));
}

TensorMap OperandTile::map(ElementType element, Extent rows, int64_t columns,
                           int64_t stride) const {
  TensorMap map;
  map.element = element == ElementType::F16 ? TensorMap::Element::F16 : TensorMap::Element::BF16;
  map.shape = {Extent(columns), std::move(rows)};
  map.strides = {stride * elementBytes};
  map.box = {panelElements, panel().rows};
  map.swizzle = TensorMap::Swizzle::Bytes128;
  return map;
}

int64_t OperandTile::offsetOf(int64_t along, int64_t deep) const {
  if (depthIsContiguous)
    return Panel::offsetOf(along, deep * elementBytes);
  return along / panelElements * panel().bytes() +
         Panel::offsetOf(deep, along % panelElements * elementBytes);
}

// Eight rows are one unit of the pattern, and follow one another. Where the depth is contiguous a
// row holds all of it, and there is nothing else to say; else panels follow one another along the
// length.
uint64_t OperandTile::descriptorBits() const {
  constexpr uint64_t swizzled128 = uint64_t(1) << 62;
  constexpr auto eightRows = uint64_t(8 * Panel::rowBytes / descriptorUnit);
  const uint64_t leading = depthIsContiguous ? 1 : uint64_t(panel().bytes() / descriptorUnit);
  return swizzled128 | eightRows << 32 | leading << 16;
}

int64_t OperandTile::descriptorStep() const {
  return MatrixShape::depth * (depthIsContiguous ? elementBytes : Panel::rowBytes) / descriptorUnit;
}

Value OperandTile::descriptor(simt::PhaseBuilder &p, Value address) const {
  Type i64 = p.b.getI64Type();
  Value units = p.b.create<arith::ExtUIOp>(p.loc, i64, p.div(address, descriptorUnit));
  Value bits = p.b.create<arith::ConstantIntOp>(p.loc, int64_t(descriptorBits()), 64);
  return p.b.create<arith::OrIOp>(p.loc, units, bits);
}
