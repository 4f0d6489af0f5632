// How tiles lie in shared memory: panels of rows of 128 bytes, the eight pieces of 16 of a row
// swapped by its number, as bulk copies write and read them and matrix units take them. One object
// gives the box of a tensor map, the descriptor of a matrix and addresses of elements, so that they
// cannot differ.
#pragma once

#include "kernelforge/codegen/Launching.h"
#include "kernelforge/codegen/simt/Builder.h"
#include "kernelforge/support/ElementType.h"

namespace kernelforge::cuda {

/// Rows of 128 bytes, of which eight repeat a pattern of 1024: where panels begin.
struct Panel {
  static constexpr int64_t rowBytes = 128, pieceBytes = 16, alignment = 1024;

  int64_t rows = 0;
  constexpr int64_t bytes() const { return rows * rowBytes; }

  /// Where byte `byte` of a row lies.
  static constexpr int64_t offsetOf(int64_t row, int64_t byte) {
    return row * rowBytes + (byte / pieceBytes ^ (row % 8)) * pieceBytes + byte % pieceBytes;
  }
  /// The same of values: `row` and `byte` are i32.
  static mlir::Value offsetOf(simt::PhaseBuilder &p, mlir::Value row, mlir::Value byte);
};

/// A stage of one operand of a product of 16-bit numbers: `length` rows of the left one or columns
/// of the right one, by a depth of 64.
class OperandTile {
public:
  static constexpr int64_t depth = 64, elementBytes = 2;

  /// `depthIsContiguous`: in memory; else neighbours in length lie side by side.
  OperandTile(int64_t length, bool depthIsContiguous)
      : length(length), depthIsContiguous(depthIsContiguous) {}

  int64_t length;
  bool depthIsContiguous;

  /// Of one panel: all of the tile, or 64 elements of its length.
  Panel panel() const { return {depthIsContiguous ? length : depth}; }
  int64_t panels() const { return depthIsContiguous ? 1 : length / panelElements; }
  int64_t bytes() const { return length * depth * elementBytes; }

  /// The map of a matrix of `rows` rows and `columns` columns whose boxes are panels; `stride`
  /// columns from a row to the next.
  TensorMap map(ElementType element, Extent rows, int64_t columns, int64_t stride) const;

  /// Where an element lies in the tile, in bytes.
  int64_t offsetOf(int64_t along, int64_t deep) const;

  /// What a descriptor has beside the address, and the address's unit.
  uint64_t descriptorBits() const;
  static constexpr int64_t descriptorUnit = 16;
  /// Units from a product of depth 16 to the next.
  int64_t descriptorStep() const;
  /// Descriptor (i64) of a tile at an address (i32).
  mlir::Value descriptor(simt::PhaseBuilder &p, mlir::Value address) const;

  static constexpr int64_t panelElements = Panel::rowBytes / elementBytes;
};

/// A head of some rows or keys, 16-bit numbers: panels of 64 of its numbers, each of all rows.
/// Matrix units go through it along the numbers of a head, or from row to row.
class HeadTile {
public:
  static constexpr int64_t numberBytes = 2, panelNumbers = Panel::rowBytes / numberBytes;

  /// `dim` numbers of a head, a multiple of 16.
  HeadTile(int64_t rows, int64_t dim) : rows(rows), dim(dim) {}

  int64_t rows, dim;

  int64_t panels() const { return (dim + panelNumbers - 1) / panelNumbers; }
  Panel panel() const { return {rows}; }
  int64_t bytes() const { return panels() * panel().bytes(); }
  /// Where number `number` of a row lies, in bytes.
  int64_t offsetOf(int64_t row, int64_t number) const;

  /// The map of a matrix of `width` columns, heads side by side, whose boxes are some rows of a
  /// panel. Past the last number of a head there are those of the next one, or zeros.
  TensorMap map(ElementType element, Extent matrixRows, int64_t width, int64_t boxRows) const;

  // What a descriptor has beside the address, and where products of depth 16 begin, in units of 16
  // bytes: with the depth along a head, or with its numbers as columns and the rows as depth.
  uint64_t alongBits() const;
  uint64_t acrossBits() const;
  llvm::SmallVector<int64_t> stepsAlong() const;
  llvm::SmallVector<int64_t> stepsAcross() const;
  mlir::Value along(simt::PhaseBuilder &p, mlir::Value address) const;
  mlir::Value across(simt::PhaseBuilder &p, mlir::Value address) const;
};

} // namespace kernelforge::cuda
