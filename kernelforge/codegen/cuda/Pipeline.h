// Blocks whose warpgroups have roles: one fetches tiles, the others compute, and stages of shared
// memory go round between them.
#pragma once

#include "kernelforge/codegen/cuda/Assembly.h"

namespace kernelforge::cuda {

/// Threads of a warpgroup, and of a warp.
constexpr int64_t warpgroup = 128, warp = 32;

/// What a phase has beside what simt::PhaseBuilder gives it: tensor maps behind its other
/// parameters, and shared memory that the launch asks for.
class PhaseMemory {
public:
  explicit PhaseMemory(simt::PhaseBuilder &p);

  /// A map of a buffer, by its number in the launch: a pointer.
  mlir::Value map(int buffer, Access access, TensorMap map);
  /// Numbers of buffers: of an argument of the kernel's body, of a result, of a workspace.
  int bufferOf(mlir::Value bodyArgument) const;
  int bufferOfResult(unsigned result) const;
  int bufferOfWorkspace(int workspace) const;

  /// `bytes` of shared memory behind what was reserved before: an address (i32).
  mlir::Value reserve(int64_t bytes, int64_t alignment);
  int64_t reserved() const { return bytes; }

  /// What the phase computes besides products may be right to 20 bits (OwnFunctions.h).
  void useOwnFunctions();

  /// Ends the phase: simt::PhaseBuilder::finish() with all of that. `registers` of a thread when it
  /// starts; at most so many times the threads of a block fit a multiprocessor.
  Phase finish(Extent grid, int64_t registers);

private:
  simt::PhaseBuilder &p;
  mlir::func::FuncOp function;
  mlir::Value base;
  int64_t bytes = 0;
  std::vector<Parameter> maps;
};

/// Where a ring is: number of the stage and the parity of its turn, i32, carried by loops.
struct RingPlace {
  mlir::Value stage, parity;
};

/// Stages that a producer fills and consumers empty, each guarded by two barriers.
class Ring {
public:
  /// `consumers`: arrivals that make a stage empty again.
  Ring(simt::PhaseBuilder &p, PhaseMemory &memory, int64_t stages, int64_t stageBytes);
  /// The same with shared memory of its own: stages, and bytesOfBarriers().
  Ring(simt::PhaseBuilder &p, int64_t stages, int64_t stageBytes, mlir::Value tiles,
       mlir::Value barriers);

  /// One thread of the block, before all meet. `producers`: arrivals that make a stage full.
  void initialise(int64_t consumers, int64_t producers = 1);

  RingPlace producerStart() { return {p.c(0), p.c(1)}; }
  RingPlace consumerStart() { return {p.c(0), p.c(0)}; }
  RingPlace next(const RingPlace &place);
  RingPlace before(const RingPlace &place);

  mlir::Value address(mlir::Value stage) { return p.add(tiles, p.mul(stage, stageBytes)); }
  mlir::Value full(mlir::Value stage) { return p.add(barriers, p.mul(stage, barrierBytes)); }
  mlir::Value empty(mlir::Value stage) { return p.add(full(stage), stages * barrierBytes); }

  static constexpr int64_t barrierBytes = 8;
  static constexpr int64_t bytesOfBarriers(int64_t stages) { return 2 * stages * barrierBytes; }
  static int64_t bytes(int64_t stages, int64_t stageBytes) {
    return stages * stageBytes + bytesOfBarriers(stages);
  }

private:
  simt::PhaseBuilder &p;
  Assembly assembly;
  int64_t stages, stageBytes;
  mlir::Value tiles, barriers;
};

/// What threads of a block are: `consumers` warpgroups, then a producer.
class Roles {
public:
  /// `expands`: all threads of the producer's warpgroup work, on values.
  Roles(simt::PhaseBuilder &p, int64_t consumers, bool expands = false);

  int64_t threads() const { return (consumers + 1) * warpgroup; }
  static int64_t threadsOf(int64_t consumers) { return (consumers + 1) * warpgroup; }
  /// Registers of a thread when the kernel starts, where `blocks` of them share a multiprocessor.
  static int64_t registers(int64_t consumers, int64_t blocks);
  /// And what those of a consumer have from then on.
  static int64_t registersOfConsumers(int64_t consumers, int64_t blocks, bool expands = false);

  mlir::Value group;  ///< i32: number of the warpgroup, the same in a warp
  mlir::Value thread; ///< i32: in the warpgroup
  mlir::Value lane;   ///< i32: in the warp
  /// i32: of the warp in the warpgroup
  mlir::Value warpNumber;

  /// Emits both roles; `produce` is run by so many threads, or by the warpgroup where it expands.
  /// Where there are several consumers, most of the producer's registers go to them.
  void split(int64_t blocks, llvm::function_ref<void()> produce, llvm::function_ref<void()> consume,
             int64_t producers = 1);

private:
  simt::PhaseBuilder &p;
  Assembly assembly;
  int64_t consumers;
  bool expands;
};

/// The tiles of a matrix, dealt to blocks that stay: each takes every so many-th one. Neighbours in
/// time share rows and columns: `group` tiles down, then the next column.
class TileSchedule {
public:
  /// `blocksOfTile`: that follow one another and have a tile together, one tile only.
  TileSchedule(simt::PhaseBuilder &p, mlir::Value rowTiles, int64_t columnTiles, int64_t group,
               int64_t blocksOfTile = 1)
      : p(p), rowTiles(rowTiles), columnTiles(columnTiles), group(group),
        blocksOfTile(blocksOfTile) {}

  /// For each tile of this block: `body` gets its row and column, counted in tiles, and what is
  /// carried from one to the next, which must be something.
  using Body = llvm::function_ref<llvm::SmallVector<mlir::Value>(
      mlir::Value row, mlir::Value column, mlir::ValueRange carried)>;
  llvm::SmallVector<mlir::Value> forEach(mlir::ValueRange init, Body body);

  /// Row and column of this block's first tile.
  std::pair<mlir::Value, mlir::Value> first() { return placeOf(p.div(p.block(), blocksOfTile)); }

  /// Row and column of tile `number` among so many rows: what forEach() computes.
  static std::pair<int64_t, int64_t> place(int64_t number, int64_t rowTiles, int64_t columnTiles,
                                           int64_t group);

private:
  std::pair<mlir::Value, mlir::Value> placeOf(mlir::Value number);

  simt::PhaseBuilder &p;
  mlir::Value rowTiles;
  int64_t columnTiles, group, blocksOfTile;
};

} // namespace kernelforge::cuda
