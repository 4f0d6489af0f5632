#include "kernelforge/codegen/cuda/SharedLayout.h"

#include "kernelforge/codegen/cuda/Assembly.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cuda;

Value Panel::offsetOf(simt::PhaseBuilder &p, Value row, Value byte) {
  Value piece = p.xorBits(p.div(byte, pieceBytes), p.andBits(row, 7));
  return p.add(p.mul(row, rowBytes), p.add(p.mul(piece, pieceBytes), p.rem(byte, pieceBytes)));
}

/// The map of a matrix of 16-bit numbers, `stride` of them from a row to the next, whose boxes are
/// rows of a panel.
static TensorMap panelMap(ElementType element, Extent rows, int64_t columns, int64_t stride,
                          int64_t boxRows) {
  constexpr int64_t elementBytes = 2;
  TensorMap map;
  map.element = element == ElementType::F16 ? TensorMap::Element::F16 : TensorMap::Element::BF16;
  map.shape = {Extent(columns), std::move(rows)};
  map.strides = {stride * elementBytes};
  map.box = {Panel::rowBytes / elementBytes, boxRows};
  map.swizzle = TensorMap::Swizzle::Bytes128;
  return map;
}

TensorMap OperandTile::map(ElementType element, Extent rows, int64_t columns,
                           int64_t stride) const {
  return panelMap(element, std::move(rows), columns, stride, panel().rows);
}

int64_t OperandTile::offsetOf(int64_t along, int64_t deep) const {
  if (depthIsContiguous)
    return Panel::offsetOf(along, deep * elementBytes);
  return along / panelElements * panel().bytes() +
         Panel::offsetOf(deep, along % panelElements * elementBytes);
}

/// Eight rows are one unit of the pattern, and follow one another. Where the depth is contiguous a
/// row holds all of it, and there is nothing else to say (`leading` 16); else panels follow one
/// another along the length, `leading` bytes apart.
static uint64_t bitsOf(int64_t leading) {
  constexpr uint64_t swizzled128 = uint64_t(1) << 62;
  constexpr auto eightRows = uint64_t(8 * Panel::rowBytes / OperandTile::descriptorUnit);
  return swizzled128 | eightRows << 32 | uint64_t(leading / OperandTile::descriptorUnit) << 16;
}

/// The descriptor (i64) of a matrix at an address (i32).
static Value descriptorOf(simt::PhaseBuilder &p, Value address, uint64_t bits) {
  Value units = p.b.create<arith::ExtUIOp>(p.loc, p.b.getI64Type(),
                                           p.div(address, OperandTile::descriptorUnit));
  return p.b.create<arith::OrIOp>(p.loc, units,
                                  p.b.create<arith::ConstantIntOp>(p.loc, int64_t(bits), 64));
}

uint64_t OperandTile::descriptorBits() const {
  return bitsOf(depthIsContiguous ? descriptorUnit : panel().bytes());
}

int64_t OperandTile::descriptorStep() const {
  return MatrixShape::depth * (depthIsContiguous ? elementBytes : Panel::rowBytes) / descriptorUnit;
}

Value OperandTile::descriptor(simt::PhaseBuilder &p, Value address) const {
  return descriptorOf(p, address, descriptorBits());
}

//===----------------------------------------------------------------------===//
// Heads
//===----------------------------------------------------------------------===//

int64_t HeadTile::offsetOf(int64_t row, int64_t number) const {
  return number / panelNumbers * panel().bytes() + Panel::offsetOf(row, number % panelNumbers * 2);
}

TensorMap HeadTile::map(ElementType element, Extent matrixRows, int64_t width,
                        int64_t boxRows) const {
  return panelMap(element, std::move(matrixRows), width, width, boxRows);
}

uint64_t HeadTile::alongBits() const { return bitsOf(OperandTile::descriptorUnit); }

uint64_t HeadTile::acrossBits() const { return bitsOf(panel().bytes()); }

SmallVector<int64_t> HeadTile::stepsAlong() const {
  SmallVector<int64_t> steps;
  for (int64_t number = 0; number < dim; number += MatrixShape::depth)
    steps.push_back((number / panelNumbers * panel().bytes() + number % panelNumbers * 2) /
                    OperandTile::descriptorUnit);
  return steps;
}

SmallVector<int64_t> HeadTile::stepsAcross() const {
  SmallVector<int64_t> steps;
  for (int64_t row = 0; row < rows; row += MatrixShape::depth)
    steps.push_back(row * Panel::rowBytes / OperandTile::descriptorUnit);
  return steps;
}

Value HeadTile::along(simt::PhaseBuilder &p, Value address) const {
  return descriptorOf(p, address, alongBits());
}

Value HeadTile::across(simt::PhaseBuilder &p, Value address) const {
  return descriptorOf(p, address, acrossBits());
}
