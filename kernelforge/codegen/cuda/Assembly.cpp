#include "kernelforge/codegen/cuda/Assembly.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cuda;

/// What an operand is in a register, by its type.
static StringRef registerOf(Type type) {
  if (isa<LLVM::LLVMPointerType>(type) || type.isInteger(64))
    return "l";
  return type.isF32() ? "f" : type.isInteger(16) ? "h" : "r";
}

/// "$4, $5" and so on, so many from that one on.
static std::string operandList(int64_t first, int64_t count) {
  std::string list;
  for (int64_t i = 0; i < count; ++i)
    list += fmt::format("{}${}", i == 0 ? "" : ", ", first + i);
  return list;
}

static std::string registersOf(ValueRange operands) {
  std::string text;
  for (Value operand : operands)
    text += fmt::format("{},", registerOf(operand.getType()).str());
  return text;
}

void Assembly::effect(StringRef text, ValueRange operands) {
  p.b.create<LLVM::InlineAsmOp>(p.loc, TypeRange(), operands, text,
                                registersOf(operands) + "~{memory}", /*has_side_effects=*/true,
                                /*is_align_stack=*/false, LLVM::AsmDialectAttr(), ArrayAttr());
}

SmallVector<Value> Assembly::effect(StringRef text, Type type, int64_t results, int64_t tied,
                                    ValueRange operands) {
  std::string constraints;
  for (int64_t i = 0; i < results; ++i)
    constraints += fmt::format("={},", registerOf(type).str());
  for (int64_t i = 0; i < tied; ++i)
    constraints += fmt::format("{},", i);
  constraints += registersOf(operands.drop_front(size_t(tied))) + "~{memory}";
  Type given = type;
  if (results > 1)
    given = LLVM::LLVMStructType::getLiteral(p.b.getContext(),
                                             SmallVector<Type>(size_t(results), type));
  Value all = p.b.create<LLVM::InlineAsmOp>(p.loc, TypeRange(given), operands, text, constraints,
                                            /*has_side_effects=*/true, /*is_align_stack=*/false,
                                            LLVM::AsmDialectAttr(), ArrayAttr())
                  .getResult(0);
  if (results == 1)
    return {all};
  SmallVector<Value> each;
  for (int64_t i = 0; i < results; ++i)
    each.push_back(p.b.create<LLVM::ExtractValueOp>(p.loc, all, i));
  return each;
}

Value Assembly::pure(StringRef text, Type type, StringRef result, ValueRange operands) {
  std::string constraints = result.str() + "," + registersOf(operands);
  constraints.pop_back();
  auto made = p.b.create<LLVM::InlineAsmOp>(
      p.loc, TypeRange(type), operands, text, constraints, /*has_side_effects=*/false,
      /*is_align_stack=*/false, LLVM::AsmDialectAttr(), ArrayAttr());
  return made.getResult(0);
}

//===----------------------------------------------------------------------===//
// Barriers
//===----------------------------------------------------------------------===//

void Assembly::initBarrier(Value barrier, int64_t arrivals) {
  effect(fmt::format("mbarrier.init.shared::cta.b64 [$0], {};", arrivals), barrier);
}

void Assembly::publishBarriers() { effect("fence.mbarrier_init.release.cluster;"); }

void Assembly::waitBarrier(Value barrier, Value parity) {
  effect("{\n.reg .pred done;\nagain:\n"
         "mbarrier.try_wait.parity.shared::cta.b64 done, [$0], $1;\n"
         "@!done bra again;\n}",
         {barrier, parity});
}

// Of the block alone: released to a cluster it would be a fence for the whole GPU.
void Assembly::arriveIf(Value condition, Value barrier) {
  Value chosen = p.b.create<arith::ExtUIOp>(p.loc, p.i32, condition);
  effect("{\n.reg .pred chosen;\nsetp.ne.b32 chosen, $1, 0;\n"
         "@chosen mbarrier.arrive.shared::cta.b64 _, [$0];\n}",
         {barrier, chosen});
}

void Assembly::arrive(Value barrier) {
  effect("mbarrier.arrive.shared::cta.b64 _, [$0];", barrier);
}

void Assembly::expectBytes(Value barrier, int64_t bytes) {
  effect(fmt::format("mbarrier.arrive.expect_tx.shared::cta.b64 _, [$0], {};", bytes), barrier);
}

void Assembly::meet(Value number, int64_t threads) {
  effect(fmt::format("bar.sync $0, {};", threads), number);
}

void Assembly::meetWarp() { effect("bar.warp.sync -1;"); }

Value Assembly::anyLane(Value condition) {
  Value own = p.b.create<arith::ExtUIOp>(p.loc, p.i32, condition);
  Value any = effect("{\n.reg .pred own, any;\nsetp.ne.b32 own, $1, 0;\n"
                     "vote.sync.any.pred any, own, -1;\nselp.b32 $0, 1, 0, any;\n}",
                     p.i32, 1, 0, own)[0];
  return p.cmp(arith::CmpIPredicate::ne, any, p.c(0));
}

Value Assembly::ofFirstLane(Value value) {
  constexpr int64_t all = -1, lastLane = 31;
  return p.b.create<NVVM::ShflOp>(p.loc, value.getType(), p.c(all), value, p.c(0), p.c(lastLane),
                                  NVVM::ShflKind::idx, UnitAttr());
}

//===----------------------------------------------------------------------===//
// Bulk copies
//===----------------------------------------------------------------------===//

void Assembly::prefetchMap(Value map) { effect("prefetch.tensormap [$0];", map); }

void Assembly::loadBox(Value to, Value map, Value x, Value y, Value barrier) {
  effect("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
         " [$0], [$1, {$2, $3}], [$4];",
         {to, map, x, y, barrier});
}

void Assembly::prefetchBox(Value map, Value x, Value y) {
  effect("cp.async.bulk.prefetch.tensor.2d.L2.global [$0, {$1, $2}];", {map, x, y});
}

void Assembly::storeBox(Value map, Value x, Value y, Value from) {
  effect("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [$0, {$1, $2}], [$3];",
         {map, x, y, from});
}

void Assembly::commitStores() { effect("cp.async.bulk.commit_group;"); }

void Assembly::waitUntilRead(int64_t pending) {
  effect(fmt::format("cp.async.bulk.wait_group.read {};", pending));
}

void Assembly::waitStores() { effect("cp.async.bulk.wait_group 0;"); }

void Assembly::publishShared() { effect("fence.proxy.async.shared::cta;"); }

//===----------------------------------------------------------------------===//
// Warpgroups and launches
//===----------------------------------------------------------------------===//

void Assembly::takeRegisters(int64_t count) {
  effect(fmt::format("setmaxnreg.inc.sync.aligned.u32 {};", count));
}

void Assembly::dropRegisters(int64_t count) {
  effect(fmt::format("setmaxnreg.dec.sync.aligned.u32 {};", count));
}

void Assembly::arriveCluster() { effect("barrier.cluster.arrive.release;"); }

void Assembly::waitCluster() { effect("barrier.cluster.wait.acquire;"); }

Value Assembly::addressInBlock(Value address, Value rank) {
  return pure("mapa.shared::cluster.u32 $0, $1, $2;", p.i32, "=r", {address, rank});
}

std::array<Value, 4> Assembly::loadClusterQuad(Value address) {
  const SmallVector<Value> values =
      effect("ld.shared::cluster.v4.f32 {$0, $1, $2, $3}, [$4];", p.f32, 4, 0, address);
  return {values[0], values[1], values[2], values[3]};
}

static void statement(OpBuilder &b, Location loc, StringRef text) {
  b.create<LLVM::InlineAsmOp>(loc, TypeRange(), ValueRange(), text, "~{memory}",
                              /*has_side_effects=*/true, /*is_align_stack=*/false,
                              LLVM::AsmDialectAttr(), ArrayAttr());
}

void Assembly::letNextStart(OpBuilder &b, Location loc) {
  statement(b, loc, "griddepcontrol.launch_dependents;");
}

void Assembly::waitForPrevious(OpBuilder &b, Location loc) {
  statement(b, loc, "griddepcontrol.wait;");
}

Value Assembly::dotOfBytes(OpBuilder &b, Location loc, Value x, Value y, Value sum) {
  return b
      .create<LLVM::InlineAsmOp>(loc, TypeRange(b.getI32Type()), ValueRange{x, y, sum},
                                 "dp4a.s32.s32 $0, $1, $2, $3;", "=r,r,r,r",
                                 /*has_side_effects=*/false, /*is_align_stack=*/false,
                                 LLVM::AsmDialectAttr(), ArrayAttr())
      .getResult(0);
}

// A permutation of bytes picks four of eight by nibbles, whose highest bit must be 0: once of each
// half of the table, then of what these gave.
Value Assembly::lookUpBytes(OpBuilder &b, Location loc, ValueRange wordAndTable) {
  auto constant = [&](int64_t value) -> Value {
    return b.create<arith::ConstantIntOp>(loc, static_cast<int32_t>(value), 32);
  };
  auto permute = [&](Value first, Value second, Value selector) {
    return b
        .create<LLVM::CallIntrinsicOp>(loc, b.getI32Type(), b.getStringAttr("llvm.nvvm.prmt"),
                                       ValueRange{first, second, selector})
        .getResult(0);
  };
  auto masked = [&](Value x, int64_t mask) -> Value {
    return b.create<arith::AndIOp>(loc, x, constant(mask));
  };
  auto shifted = [&](Value x, int64_t by) -> Value {
    return b.create<arith::ShRUIOp>(loc, x, constant(by));
  };
  Value word = wordAndTable[0];
  Value pairs = b.create<arith::OrIOp>(loc, word, shifted(word, 4)); // in bytes 0 and 2
  Value nibbles = permute(pairs, pairs, constant(0x2020));
  Value within = masked(nibbles, 0x7777);
  Value low = permute(wordAndTable[1], wordAndTable[2], within);
  Value high = permute(wordAndTable[3], wordAndTable[4], within);
  Value sides = masked(shifted(nibbles, 1), 0x4444);
  return permute(low, high, b.create<arith::OrIOp>(loc, sides, constant(0x3210)));
}

// With effects, so that loads stay where they were written: without, each sinks to its use.
Value Assembly::loadStreamed(OpBuilder &b, Location loc, VectorType type, Value address) {
  const int64_t count = type.getNumElements();
  const Type element = type.getElementType();
  std::string constraints;
  for (int64_t i = 0; i < count; ++i)
    constraints += fmt::format("={},", registerOf(element).str());
  const Type result = LLVM::LLVMStructType::getLiteral(
      b.getContext(), SmallVector<Type>(static_cast<size_t>(count), element));
  Value all = b.create<LLVM::InlineAsmOp>(
                   loc, TypeRange(result), address,
                   fmt::format("ld.global.nc.L1::no_allocate.L2::256B.v{}.b32 {{{}}}, [${}];",
                               count, operandList(0, count), count),
                   constraints + "l", /*has_side_effects=*/true, /*is_align_stack=*/false,
                   LLVM::AsmDialectAttr(), ArrayAttr())
                  .getResult(0);
  Value vector = b.create<LLVM::UndefOp>(loc, type);
  for (int64_t i = 0; i < count; ++i) {
    Value lane = b.create<LLVM::ConstantOp>(loc, b.getI32IntegerAttr(static_cast<int32_t>(i)));
    vector = b.create<LLVM::InsertElementOp>(loc, vector,
                                             b.create<LLVM::ExtractValueOp>(loc, all, i), lane);
  }
  return vector;
}

//===----------------------------------------------------------------------===//
// Matrix units
//===----------------------------------------------------------------------===//

static std::string productName(const MatrixShape &shape) {
  return fmt::format("wgmma.mma_async.sync.aligned.m64n{0}k16.f32.{1}.{1}", shape.columns,
                     shape.element == ElementType::F16 ? "f16" : "bf16");
}

// All products of a stage are one piece, so that nothing can come between them; sums are tied to
// what comes out, so that whatever needs them comes after the wait.
SmallVector<Value> Assembly::multiply(const MatrixShape &shape, ValueRange sums, Value left,
                                      Value right, int64_t steps, int64_t leftStep,
                                      int64_t rightStep) {
  const int64_t count = shape.sums();
  std::string text = "{\n.reg .b64 left, right;\nwgmma.fence.sync.aligned;\n";
  for (int64_t i = 0; i < steps; ++i)
    text += fmt::format("add.s64 left, ${}, {};\nadd.s64 right, ${}, {};\n"
                        "{} {{{}}}, left, right, 1, 1, 1, 0, {};\n",
                        2 * count, i * leftStep, 2 * count + 1, i * rightStep, productName(shape),
                        operandList(0, count), shape.columnsAreContiguous ? 1 : 0);
  text += "wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n}";
  SmallVector<Value> operands(sums);
  operands.append({left, right});
  return effect(text, p.f32, count, count, operands);
}

SmallVector<Value> Assembly::startProduct(const MatrixShape &shape, Value left,
                                          ArrayRef<int64_t> leftSteps, Value right,
                                          ArrayRef<int64_t> rightSteps) {
  const int64_t count = shape.sums();
  // The first one does not add.
  std::string text = "{\n.reg .b64 left, right;\n.reg .pred adds;\nsetp.ne.b32 adds, 0, 0;\n"
                     "wgmma.fence.sync.aligned;\n";
  for (auto [i, leftStep, rightStep] : llvm::enumerate(leftSteps, rightSteps))
    text += fmt::format("add.s64 left, ${}, {};\nadd.s64 right, ${}, {};\n"
                        "{} {{{}}}, left, right, {}, 1, 1, 0, {};\n",
                        count, leftStep, count + 1, rightStep, productName(shape),
                        operandList(0, count), i == 0 ? "adds" : "1",
                        shape.columnsAreContiguous ? 1 : 0);
  text += "wgmma.commit_group.sync.aligned;\n}";
  return effect(text, p.f32, count, 0, {left, right});
}

SmallVector<Value> Assembly::startProduct(const MatrixShape &shape, ValueRange sums,
                                          ValueRange left, Value right,
                                          ArrayRef<int64_t> rightSteps) {
  const int64_t count = shape.sums(), words = 4;
  std::string text = "{\n.reg .b64 right;\nwgmma.fence.sync.aligned;\n";
  for (auto [i, step] : llvm::enumerate(rightSteps))
    text += fmt::format("add.s64 right, ${}, {};\n{} {{{}}}, {{{}}}, right, 1, 1, 1, {};\n",
                        2 * count + int64_t(left.size()), step, productName(shape),
                        operandList(0, count), operandList(2 * count + int64_t(i) * words, words),
                        shape.columnsAreContiguous ? 1 : 0);
  text += "wgmma.commit_group.sync.aligned;\n}";
  SmallVector<Value> operands(sums);
  llvm::append_range(operands, left);
  operands.push_back(right);
  return effect(text, p.f32, count, count, operands);
}

SmallVector<Value> Assembly::waitProducts(int64_t pending, ValueRange values) {
  const auto count = static_cast<int64_t>(values.size());
  return effect(fmt::format("wgmma.wait_group.sync.aligned {};", pending), p.f32, count, count,
                values);
}

Value Assembly::powerOfTwo(Value x) { return pure("ex2.approx.ftz.f32 $0, $1;", p.f32, "=f", x); }

Value Assembly::reciprocal(Value x) { return pure("rcp.approx.ftz.f32 $0, $1;", p.f32, "=f", x); }

//===----------------------------------------------------------------------===//
// Results
//===----------------------------------------------------------------------===//

Value Assembly::packHalves(ElementType element, Value low, Value high) {
  return pure(
      fmt::format("cvt.rn.{}x2.f32 $0, $1, $2;", element == ElementType::F16 ? "f16" : "bf16"),
      p.i32, "=r", {high, low});
}

void Assembly::storeMatrices(Value address, ValueRange words) {
  SmallVector<Value> operands{address};
  llvm::append_range(operands, words);
  effect("stmatrix.sync.aligned.m8n8.x4.shared::cta.b16 [$0], {$1, $2, $3, $4};", operands);
}

void Assembly::storePair(Value address, Value first, Value second) {
  effect("st.shared.v2.f32 [$0], {$1, $2};", {address, first, second});
}

void Assembly::storeQuad(Value address, ValueRange values) {
  SmallVector<Value> operands{address};
  llvm::append_range(operands, values);
  effect("st.shared.v4.b32 [$0], {$1, $2, $3, $4};", operands);
}

Value Assembly::loadShared(Value address, int64_t bytes) {
  Type type = bytes == 2 ? Type(p.b.getI16Type()) : p.i32;
  return effect(fmt::format("ld.shared.b{} $0, [$1];", 8 * bytes), type, 1, 0, address)[0];
}

SmallVector<Value> Assembly::loadWords(Value address) {
  return effect("ld.shared.v4.b32 {$0, $1, $2, $3}, [$4];", p.i32, 4, 0, address);
}

void Assembly::storeWord(Value address, Value word) {
  effect("st.shared.b32 [$0], $1;", {address, word});
}

void Assembly::storeWords(Value address, ValueRange words) {
  SmallVector<Value> operands{address};
  llvm::append_range(operands, words);
  effect("st.shared.v4.b32 [$0], {$1, $2, $3, $4};", operands);
}

Value Assembly::addAtomically(Value buffer, Value index, Value word) {
  Value at = p.b.create<arith::IndexCastUIOp>(p.loc, p.b.getIndexType(), index);
  return p.b.create<memref::AtomicRMWOp>(p.loc, arith::AtomicRMWKind::addi, word, buffer, at);
}
