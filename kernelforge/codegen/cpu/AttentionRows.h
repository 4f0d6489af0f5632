// Keys or values as attention reads them, where they lie in a cache: in contiguous slots or in
// pages, of any type that a cache may have. All of them are f32 in registers.
#pragma once

#include "kernelforge/codegen/cpu/Numbers.h"
#include "kernelforge/support/CacheSlot.h"

namespace kernelforge::cpu::attention {

/// One key/value head in a cache.
struct HeadRows {
  CacheSlot slot;
  /// The head's numbers (or quants) in the sequence's first slot, or in slot 0 of a paged cache.
  mlir::Value base;
  mlir::Value toScales; ///< bytes from there to the head's first scale; null of plain numbers
  bool rounds = false;  ///< what is read is rounded to bf16

  /// Those of head `head` (i64) from the slot on that lies `offset` (i64) bytes within `cache`.
  static HeadRows of(KernelBuilder &k, const CacheSlot &slot, mlir::Value cache, mlir::Value offset,
                     mlir::Value head);
};

/// The rows of one head for a block of keys, from some column on.
class BlockRows {
public:
  /// The block begins at position `block`; `slots` points at the slots of its keys (i32), null
  /// where the slots of a sequence are contiguous.
  BlockRows(KernelBuilder &k, const HeadRows &head, mlir::Value block, mlir::Value slots);

  /// From column `column` on, a multiple of 16, which is one of 32 where `vectors` is even.
  BlockRows fromColumn(mlir::Value column, int64_t vectors) const;

  /// Pointer to the row of key `key` (i64) of the block.
  mlir::Value row(mlir::Value key) const;

  /// Rows that follow each other: from that of key `key` on. row(run, i) is the one after i others.
  mlir::Value run(mlir::Value key) const;
  mlir::Value row(mlir::Value run, int64_t i) const;

  /// Asks for `vectors` vectors of row(run, i).
  void prefetch(mlir::Value run, int64_t i, int64_t vectors) const;

  /// Sixteen numbers of a row from column `at` (i64) on, a multiple of 16.
  mlir::Value loadAt(mlir::Value row, mlir::Value at, mlir::Value mask) const;
  /// The same rounded to bf16, as bits (i16).
  mlir::Value loadBfloat16At(mlir::Value row, mlir::Value at, mlir::Value mask) const;

  /// Vectors of a row, one after another.
  class Reader {
  public:
    Reader(const BlockRows &rows, mlir::Value row) : rows(rows), row(row) {}
    /// Vector `v`; lanes that `mask` turns off are 0.
    mlir::Value load(int64_t v, mlir::Value mask = {}) { return load(v * lanes, lanes, mask); }
    /// The same rounded to bf16, as bits (i16).
    mlir::Value loadBfloat16(int64_t v, mlir::Value mask = {});
    /// `count` numbers of a row from column `first` on, all within a vector.
    mlir::Value load(int64_t first, int64_t count, mlir::Value mask);

  private:
    const BlockRows &rows;
    mlir::Value row, scale;
    int64_t scaleOf = -1; ///< the vector, or pair of vectors, that the scale is of
  };

private:
  /// Bytes from a row's first quant here to the scale of its vector `v`.
  mlir::Value scaleOffset(int64_t v) const;

  KernelBuilder *k;
  CacheSlot slot;
  bool rounds;
  mlir::Value base;     ///< the row of the block's first key, or of slot 0
  mlir::Value toScales; ///< as HeadRows says, or of vector 0 where blocks begin at odd vectors, too
  mlir::Value block, sequence, slots;
  mlir::Value column; ///< null where blocks of 32 begin at even vectors
};

/// Stores the slots of positions from `block` on (i64), `count` (i64) of them in whole vectors, at
/// `slots` (i32). `pages` points at the sequence's row of the block table. What lies outside of
/// [first, end) repeats the nearest position inside.
void emitSlots(KernelBuilder &k, mlir::Value pages, int64_t page, mlir::Value block,
               mlir::Value count, mlir::Value first, mlir::Value end, mlir::Value slots);

} // namespace kernelforge::cpu::attention
