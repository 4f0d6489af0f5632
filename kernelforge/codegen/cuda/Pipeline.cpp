#include "kernelforge/codegen/cuda/Pipeline.h"

#include "kernelforge/codegen/cuda/OwnFunctions.h"
#include "kernelforge/codegen/cuda/SharedLayout.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "llvm/Support/MathExtras.h"

#include <algorithm>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cuda;

//===----------------------------------------------------------------------===//
// Parameters and memory
//===----------------------------------------------------------------------===//

PhaseMemory::PhaseMemory(simt::PhaseBuilder &p)
    : p(p), function(cast<func::FuncOp>(p.b.getInsertionBlock()->getParentOp())) {}

int PhaseMemory::bufferOf(Value bodyArgument) const {
  return static_cast<int>(cast<BlockArgument>(bodyArgument).getArgNumber() -
                          p.kernel.getNumSizes());
}

int PhaseMemory::bufferOfResult(unsigned result) const {
  return static_cast<int>(p.kernel.getNumArguments() - p.kernel.getNumSizes() + result);
}

int PhaseMemory::bufferOfWorkspace(int workspace) const {
  return bufferOfResult(p.kernel.getNumResults()) + workspace;
}

Value PhaseMemory::map(int buffer, Access access, TensorMap map) {
  constexpr int64_t mapBytes = 128, mapAlignment = 64;
  maps.push_back({Parameter::Kind::Map, buffer, access, std::move(map)});
  auto bytesType = LLVM::LLVMArrayType::get(p.b.getI8Type(), mapBytes);
  const std::pair<StringRef, Attribute> attributes[] = {
      {LLVM::LLVMDialect::getByValAttrName(), TypeAttr::get(bytesType)},
      {LLVM::LLVMDialect::getAlignAttrName(), p.b.getI64IntegerAttr(mapAlignment)}};
  const unsigned number = function.getNumArguments();
  function.insertArgument(number, LLVM::LLVMPointerType::get(p.b.getContext()),
                          p.b.getDictionaryAttr({}), p.loc);
  for (auto [name, attribute] : attributes)
    function.setArgAttr(number, name, attribute);
  return function.getArgument(number);
}

/// The block's shared memory: as much as a launch gives it, from one symbol on.
static Value sharedBase(simt::PhaseBuilder &p, func::FuncOp function) {
  constexpr unsigned sharedSpace = 3;
  OpBuilder::InsertionGuard guard(p.b);
  p.b.setInsertionPoint(function);
  auto global = p.b.create<LLVM::GlobalOp>(p.loc, LLVM::LLVMArrayType::get(p.b.getI8Type(), 0),
                                           /*isConstant=*/false, LLVM::Linkage::External,
                                           (function.getSymName() + "_memory").str(), Attribute(),
                                           Panel::alignment, sharedSpace);
  p.b.setInsertionPointToStart(&function.getBody().front());
  Value address = p.b.create<LLVM::AddressOfOp>(p.loc, global);
  return p.b.create<LLVM::PtrToIntOp>(p.loc, p.i32, address);
}

Value PhaseMemory::reserve(int64_t count, int64_t alignment) {
  if (!base)
    base = sharedBase(p, function);
  bytes = llvm::alignTo(bytes, alignment);
  Value address = p.add(base, bytes);
  bytes += count;
  return address;
}

void PhaseMemory::useOwnFunctions() { function->setAttr(ownFunctionsName, p.b.getUnitAttr()); }

Phase PhaseMemory::finish(Extent grid, int64_t registers) {
  Phase phase = p.finish(std::move(grid));
  phase.parameters.insert(phase.parameters.end(), maps.begin(), maps.end());
  phase.sharedBytes += bytes;
  function->setAttr(NVVM::NVVMDialect::getMaxnregAttrName(),
                    p.b.getI32IntegerAttr(static_cast<int32_t>(registers)));
  return phase;
}

//===----------------------------------------------------------------------===//
// Rings
//===----------------------------------------------------------------------===//

Ring::Ring(simt::PhaseBuilder &p, PhaseMemory &memory, int64_t stages, int64_t stageBytes)
    : p(p), assembly(p), stages(stages), stageBytes(stageBytes),
      tiles(memory.reserve(stages * stageBytes, Panel::alignment)),
      barriers(memory.reserve(bytesOfBarriers(stages), barrierBytes)) {}

Ring::Ring(simt::PhaseBuilder &p, int64_t stages, int64_t stageBytes, Value tiles, Value barriers)
    : p(p), assembly(p), stages(stages), stageBytes(stageBytes), tiles(tiles), barriers(barriers) {}

void Ring::initialise(int64_t consumers, int64_t producers) {
  for (int64_t i = 0; i < stages; ++i) {
    assembly.initBarrier(full(p.c(i)), producers);
    assembly.initBarrier(empty(p.c(i)), consumers);
  }
  assembly.publishBarriers();
}

RingPlace Ring::next(const RingPlace &place) {
  Value after = p.add(place.stage, 1);
  Value wraps = p.cmp(arith::CmpIPredicate::eq, after, p.c(stages));
  Value turn = p.b.create<arith::ExtUIOp>(p.loc, p.i32, wraps);
  return {p.select(wraps, p.c(0), after), p.xorBits(place.parity, turn)};
}

RingPlace Ring::before(const RingPlace &place) {
  Value wraps = p.cmp(arith::CmpIPredicate::eq, place.stage, p.c(0));
  Value turn = p.b.create<arith::ExtUIOp>(p.loc, p.i32, wraps);
  return {p.select(wraps, p.c(stages - 1), p.sub(place.stage, 1)), p.xorBits(place.parity, turn)};
}

//===----------------------------------------------------------------------===//
// Roles
//===----------------------------------------------------------------------===//

/// Registers of a multiprocessor, and what is handed out at once to a thread.
static constexpr int64_t allRegisters = 65536, registerUnit = 8, mostRegisters = 255;

/// What the producer keeps: what it copies takes few, and beside other blocks or many consumers
/// there are few.
static int64_t registersOfProducer(int64_t consumers, int64_t blocks, bool expands) {
  return blocks > 1 ? 24 : expands ? 104 : consumers > 2 ? 32 : 40;
}

int64_t Roles::registers(int64_t consumers, int64_t blocks) {
  const int64_t each = allRegisters / (threadsOf(consumers) * blocks) / registerUnit * registerUnit;
  return std::min(each, mostRegisters);
}

int64_t Roles::registersOfConsumers(int64_t consumers, int64_t blocks, bool expands) {
  const int64_t started = registers(consumers, blocks);
  if (consumers == 1 || (expands && blocks > 1))
    return started;
  const int64_t given =
      std::max<int64_t>(started - registersOfProducer(consumers, blocks, expands), 0);
  const int64_t more = given / consumers / registerUnit * registerUnit;
  return std::min(started + more, mostRegisters / registerUnit * registerUnit);
}

Roles::Roles(simt::PhaseBuilder &p, int64_t consumers, bool expands)
    : p(p), assembly(p), consumers(consumers), expands(expands) {
  // Known to be the same in a warp, it stays in registers that a warp shares.
  Value number = p.div(p.thread(), warpgroup);
  group = p.named(p.b.create<NVVM::ShflOp>(p.loc, p.i32, p.c(-1), number, p.c(0), p.c(warp - 1),
                                           NVVM::ShflKind::idx, UnitAttr()),
                  "warpgroup");
  thread = p.named(p.andBits(p.thread(), warpgroup - 1), "thread_of_group");
  lane = p.named(p.andBits(p.thread(), warp - 1), "lane");
  warpNumber = p.named(p.div(thread, warp), "warp");
}

void Roles::split(int64_t blocks, llvm::function_ref<void()> produce,
                  llvm::function_ref<void()> consume, int64_t producers) {
  const int64_t needed = registersOfConsumers(consumers, blocks, expands);
  const bool moves = needed > registers(consumers, blocks);
  Value isProducer = p.cmp(arith::CmpIPredicate::eq, group, p.c(consumers));
  auto branch = p.b.create<scf::IfOp>(p.loc, isProducer, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(p.b);
  p.b.setInsertionPoint(branch.thenBlock()->getTerminator());
  if (moves)
    assembly.dropRegisters(registersOfProducer(consumers, blocks, expands));
  if (expands)
    produce();
  else
    p.ifThen(p.lessThan(p.thread(), p.c(consumers * warpgroup + producers)), produce);
  p.b.setInsertionPoint(branch.elseBlock()->getTerminator());
  if (moves)
    assembly.takeRegisters(needed);
  consume();
}

//===----------------------------------------------------------------------===//
// Tiles
//===----------------------------------------------------------------------===//

std::pair<int64_t, int64_t> TileSchedule::place(int64_t number, int64_t rowTiles,
                                                int64_t columnTiles, int64_t group) {
  const int64_t ofBand = group * columnTiles, band = number / ofBand, inBand = number % ofBand;
  const int64_t first = band * group, rows = std::min(group, rowTiles - first);
  return {first + inBand % rows, inBand / rows};
}

std::pair<Value, Value> TileSchedule::placeOf(Value number) {
  const int64_t ofBand = group * columnTiles;
  Value first = p.mul(p.div(number, ofBand), group), inBand = p.rem(number, ofBand);
  Value rows = p.named(p.min(p.c(group), p.sub(rowTiles, first)), "rows_of_band");
  Value row = p.add(first, p.b.create<arith::RemUIOp>(p.loc, inBand, rows));
  return {p.named(row, "tile_row"),
          p.named(p.b.create<arith::DivUIOp>(p.loc, inBand, rows), "tile_col")};
}

SmallVector<Value> TileSchedule::forEach(ValueRange init, Body body) {
  if (blocksOfTile > 1) {
    auto [row, column] = placeOf(p.named(p.div(p.block(), blocksOfTile), "tile"));
    return body(row, column, init);
  }
  Value blocks = p.b.create<NVVM::GridDimXOp>(p.loc, p.i32);
  Value count = p.named(p.mul(rowTiles, p.c(columnTiles)), "tiles");
  auto loop = p.b.create<scf::ForOp>(p.loc, p.block(), count, blocks, init);
  OpBuilder::InsertionGuard guard(p.b);
  p.b.setInsertionPointToEnd(loop.getBody());
  auto [row, column] = placeOf(loop.getInductionVar());
  p.b.create<scf::YieldOp>(p.loc, body(row, column, loop.getRegionIterArgs()));
  return SmallVector<Value>(loop.getResults());
}
