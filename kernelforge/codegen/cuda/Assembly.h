// What a GPU of capability 9.0 does and no dialect says: barriers in shared memory, bulk copies of
// tiles, matrix units of a warpgroup. Each function is one small operation and becomes one piece of
// PTX, and no other file writes any.
//
// What has effects is not moved across other such pieces: all of them clobber memory, and the
// printer marks them as convergent. Addresses of shared memory are i32, maps are pointers
// (MapParameters).
#pragma once

#include "kernelforge/codegen/simt/Builder.h"
#include "kernelforge/support/ElementType.h"

#include <array>

namespace kernelforge::cuda {

/// A product that the matrix units take: 64 rows of a warpgroup, `columns` columns.
struct MatrixShape {
  ElementType element = ElementType::BF16; ///< of both operands: bf16 or f16
  int64_t columns = 0;                     ///< a multiple of 8 up to 256
  bool columnsAreContiguous = false;       ///< of the right operand in memory; else its depth is

  static constexpr int64_t rows = 64, depth = 16;
  /// f32 of a thread.
  int64_t sums() const { return rows * columns / 128; }
};

class Assembly {
public:
  explicit Assembly(simt::PhaseBuilder &p) : p(p) {}

  // Barriers in shared memory: a phase ends with so many arrivals, and the bytes that were
  // expected. The parity of the first phase is 0.
  void initBarrier(mlir::Value barrier, int64_t arrivals);
  /// Barriers that were initialised are seen by bulk copies.
  void publishBarriers();
  /// Until the phase of that parity (i32) has ended.
  void waitBarrier(mlir::Value barrier, mlir::Value parity);
  void arrive(mlir::Value barrier);
  /// Arrives where `condition` (i1) holds, without a branch.
  void arriveIf(mlir::Value condition, mlir::Value barrier);
  /// Arrives, and so many bytes are still to come.
  void expectBytes(mlir::Value barrier, int64_t bytes);

  // Bulk copies of a map's box, by one thread; coordinates are i32 elements, the innermost first.
  void prefetchMap(mlir::Value map);
  void loadBox(mlir::Value to, mlir::Value map, mlir::Value x, mlir::Value y, mlir::Value barrier);
  /// Asks for a box, so that the L2 cache has it when it is loaded: it may still be written.
  void prefetchBox(mlir::Value map, mlir::Value x, mlir::Value y);
  void storeBox(mlir::Value map, mlir::Value x, mlir::Value y, mlir::Value from);
  /// The stores of this thread so far are a group.
  void commitStores();
  /// Until all groups but the last `pending` have read what they store.
  void waitUntilRead(int64_t pending);
  /// Until all groups are written.
  void waitStores();
  /// What threads wrote to shared memory is seen by bulk copies.
  void publishShared();

  /// A barrier of the block's threads with its number (i32, not 0); `threads` of them meet.
  void meet(mlir::Value number, int64_t threads);
  /// A barrier of the warp; what its threads wrote before is seen by all of them.
  void meetWarp();
  /// Whether any thread of the warp has a condition (i1).
  mlir::Value anyLane(mlir::Value condition);
  /// What the warp's first thread has.
  mlir::Value ofFirstLane(mlir::Value value);
  /// Registers of this warpgroup's threads from here on: a multiple of 8.
  void takeRegisters(int64_t count);
  void dropRegisters(int64_t count);

  // Blocks of a cluster, which reach each other's shared memory.
  /// Arrives with what was written and read before, of all threads of the cluster that go on.
  void arriveCluster();
  /// Until all have arrived.
  void waitCluster();
  /// Where the block of that rank (i32) has what this one has at an address (i32): for
  /// loadClusterQuad().
  mlir::Value addressInBlock(mlir::Value address, mlir::Value rank);
  /// 16 bytes of four f32.
  std::array<mlir::Value, 4> loadClusterQuad(mlir::Value address);

  /// sums + left * right over `steps` products of depth 16, from descriptors (i64) on that go on by
  /// so many units of 16 bytes each; waits for them. Operands in shared memory must be there.
  llvm::SmallVector<mlir::Value> multiply(const MatrixShape &shape, mlir::ValueRange sums,
                                          mlir::Value left, mlir::Value right, int64_t steps,
                                          int64_t leftStep, int64_t rightStep);

  // Products that go on beside other code. What they give is there after waitProducts(), which
  // gives it again: nothing else may read it, or write what is multiplied, before.
  /// left * right over as many products of depth 16 as there are steps: units of 16 bytes from the
  /// descriptors (i64) on.
  llvm::SmallVector<mlir::Value> startProduct(const MatrixShape &shape, mlir::Value left,
                                              llvm::ArrayRef<int64_t> leftSteps, mlir::Value right,
                                              llvm::ArrayRef<int64_t> rightSteps);
  /// sums + left * right, the left operand in registers: four words of each product, pairs of the
  /// upper and the lower row as sums have them in eight columns, then in the next eight.
  llvm::SmallVector<mlir::Value> startProduct(const MatrixShape &shape, mlir::ValueRange sums,
                                              mlir::ValueRange left, mlir::Value right,
                                              llvm::ArrayRef<int64_t> rightSteps);
  /// Until all products but the last `pending` started ones are done; f32 that came of them, or
  /// that they are made of, as they are then.
  llvm::SmallVector<mlir::Value> waitProducts(int64_t pending, mlir::ValueRange values);

  /// 2^x and 1/x to about 22 bits; what is below the normal numbers is 0.
  mlir::Value powerOfTwo(mlir::Value x);
  mlir::Value reciprocal(mlir::Value x);

  /// Two f32 as a word of two numbers of `element`, `low` in the low half.
  mlir::Value packHalves(ElementType element, mlir::Value low, mlir::Value high);
  /// Four 8 x 8 matrices of 16-bit numbers, of which a thread has two neighbours each, to rows of
  /// 16 bytes: thread i gives the address of row i % 8 of matrix i / 8.
  void storeMatrices(mlir::Value address, mlir::ValueRange words);
  /// 8 bytes of two f32, 16 of four f32 or words.
  void storePair(mlir::Value address, mlir::Value first, mlir::Value second);
  void storeQuad(mlir::Value address, mlir::ValueRange values);
  /// A number of `bytes` 2 or 4: i16 or i32.
  mlir::Value loadShared(mlir::Value address, int64_t bytes);
  /// 16 bytes as four words (i32).
  llvm::SmallVector<mlir::Value> loadWords(mlir::Value address);
  void storeWord(mlir::Value address, mlir::Value word);
  void storeWords(mlir::Value address, mlir::ValueRange words);

  /// Adds to a word of a buffer of words: what was there before.
  mlir::Value addAtomically(mlir::Value buffer, mlir::Value index, mlir::Value word);

  // What plain SIMT code says and lowering writes (Lowering.h).
  /// The launch after this one may start, if it starts early.
  static void letNextStart(mlir::OpBuilder &b, mlir::Location loc);
  /// Until all that ran before is done and seen.
  static void waitForPrevious(mlir::OpBuilder &b, mlir::Location loc);
  /// Every byte of a word, from 0 to 15, as the byte that a table has for it: the word, then the
  /// table's four.
  static mlir::Value lookUpBytes(mlir::OpBuilder &b, mlir::Location loc,
                                 mlir::ValueRange wordAndTable);
  /// sum + the four products of signed bytes of two words.
  static mlir::Value dotOfBytes(mlir::OpBuilder &b, mlir::Location loc, mlir::Value x,
                                mlir::Value y, mlir::Value sum);
  /// 8 or 16 bytes of global memory, a vector, that are read once and that nobody writes meanwhile.
  static mlir::Value loadStreamed(mlir::OpBuilder &b, mlir::Location loc, mlir::VectorType type,
                                  mlir::Value address);

private:
  /// A piece of PTX with effects.
  void effect(llvm::StringRef text, mlir::ValueRange operands = {});
  /// The same that gives values of a type, of which the first operands are some as they were
  /// before: `tied` of them.
  llvm::SmallVector<mlir::Value> effect(llvm::StringRef text, mlir::Type type, int64_t results,
                                        int64_t tied, mlir::ValueRange operands);
  mlir::Value pure(llvm::StringRef text, mlir::Type type, llvm::StringRef result,
                   mlir::ValueRange operands);

  simt::PhaseBuilder &p;
};

} // namespace kernelforge::cuda
