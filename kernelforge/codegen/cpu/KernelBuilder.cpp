#include "kernelforge/codegen/cpu/KernelBuilder.h"

#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;
using namespace kernelforge::transformer;

static std::optional<int64_t> constantOf(Value value) {
  APInt constant;
  if (matchPattern(value, m_ConstantInt(&constant)))
    return constant.getSExtValue();
  return std::nullopt;
}

KernelBuilder::KernelBuilder(ModuleOp module, KernelOp kernel, const Target &target,
                             StringRef entry)
    : kernel(kernel), target(target), b(module.getContext()), loc(kernel.getLoc()) {
  MLIRContext *context = module.getContext();
  i1 = b.getI1Type();
  i8 = b.getI8Type();
  i16 = b.getI16Type();
  i32 = b.getI32Type();
  i64 = b.getI64Type();
  f16 = b.getF16Type();
  f32 = b.getF32Type();
  ptr = LLVM::LLVMPointerType::get(context);
  vf32 = vec(f32);
  vi32 = vec(i32);
  b.setInsertionPointToEnd(module.getBody());
  function =
      b.create<func::FuncOp>(loc, entry, b.getFunctionType({ptr, ptr, i64, i64, ptr}, TypeRange{}));
  Block *body = function.addEntryBlock();
  args = body->getArgument(0);
  sizes = body->getArgument(1);
  phase = body->getArgument(2);
  task = body->getArgument(3);
  scratch = body->getArgument(4);
  b.setInsertionPointToStart(body);
}

void KernelBuilder::finish() { b.create<func::ReturnOp>(loc); }

VectorType KernelBuilder::vec(Type element, int64_t n) { return VectorType::get({n}, element); }

Value KernelBuilder::buffer(unsigned index) {
  Value &pointer = buffers[index];
  if (!pointer) {
    // Loaded once, at the start, where it dominates every use.
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(&function.getBody().front());
    auto address =
        b.create<LLVM::GEPOp>(loc, ptr, i8, args, ArrayRef<LLVM::GEPArg>{LLVM::GEPArg(8 * index)});
    pointer = b.create<LLVM::LoadOp>(loc, ptr, address, 8);
  }
  return pointer;
}

Value KernelBuilder::argument(Value bodyArgument) {
  return buffer(cast<BlockArgument>(bodyArgument).getArgNumber() - kernel.getNumSizes());
}
Value KernelBuilder::result(unsigned i) {
  return buffer(kernel.getNumArguments() - kernel.getNumSizes() + i);
}
Value KernelBuilder::workspace() { return result(kernel.getNumResults()); }

Value KernelBuilder::onStack(int64_t count) {
  // At the start: in a loop it would take more at each turn.
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(&function.getBody().front());
  Value length = b.create<arith::ConstantOp>(loc, b.getI64IntegerAttr(count));
  return b.create<LLVM::AllocaOp>(loc, ptr, f32, length, /*alignment=*/4);
}

static int sizeIndex(KernelOp kernel, StringRef name) {
  for (unsigned i = 0; i < kernel.getNumSizes(); ++i)
    if (kernel.getSize(i).getName().getValue() == name)
      return static_cast<int>(i);
  return -1;
}

int KernelBuilder::rowsIndex(Type type) {
  return sizeIndex(kernel, rowsSizeName(cast<RankedTensorType>(type)));
}

Value KernelBuilder::rows(Type type) { return dimension(type, 0); }

Value KernelBuilder::dimension(Type type, unsigned index) {
  auto tensor = cast<RankedTensorType>(type);
  if (!tensor.isDynamicDim(index))
    return c(tensor.getDimSize(index));
  auto names = cast<DimsAttr>(tensor.getEncoding()).getNames();
  const bool isSecond = index > 0 && tensor.isDynamicDim(0);
  return load(i64, at(sizes, 8 * sizeIndex(kernel, names[isSecond ? 1 : 0].getValue())), 8);
}

//===----------------------------------------------------------------------===//
// Integers
//===----------------------------------------------------------------------===//

Value KernelBuilder::c(int64_t value) {
  Value &constant = constants[value];
  if (!constant) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(&function.getBody().front());
    constant = b.create<arith::ConstantOp>(loc, b.getI64IntegerAttr(value));
  }
  return constant;
}

Value KernelBuilder::add(Value x, Value y) {
  auto cx = constantOf(x), cy = constantOf(y);
  if (cx && cy)
    return c(*cx + *cy);
  if (cx == 0)
    return y;
  if (cy == 0)
    return x;
  return b.create<arith::AddIOp>(loc, x, y);
}
Value KernelBuilder::sub(Value x, Value y) {
  auto cx = constantOf(x), cy = constantOf(y);
  if (cx && cy)
    return c(*cx - *cy);
  return cy == 0 ? x : b.create<arith::SubIOp>(loc, x, y).getResult();
}
Value KernelBuilder::mul(Value x, Value y) {
  auto cx = constantOf(x), cy = constantOf(y);
  if (cx && cy)
    return c(*cx * *cy);
  if (cx == 1)
    return y;
  if (cy == 1)
    return x;
  return b.create<arith::MulIOp>(loc, x, y);
}
Value KernelBuilder::div(Value x, Value y) { return b.create<arith::DivUIOp>(loc, x, y); }
Value KernelBuilder::div(Value x, int64_t y) {
  if (auto cx = constantOf(x))
    return c(*cx / y);
  return y == 1 ? x : b.create<arith::DivUIOp>(loc, x, c(y)).getResult();
}
Value KernelBuilder::rem(Value x, int64_t y) {
  if (auto cx = constantOf(x))
    return c(*cx % y);
  return y == 1 ? c(0) : b.create<arith::RemUIOp>(loc, x, c(y)).getResult();
}
Value KernelBuilder::min(Value x, Value y) {
  auto cx = constantOf(x), cy = constantOf(y);
  if (cx && cy)
    return c(std::min(*cx, *cy));
  return b.create<arith::MinSIOp>(loc, x, y);
}
Value KernelBuilder::max(Value x, Value y) {
  auto cx = constantOf(x), cy = constantOf(y);
  if (cx && cy)
    return c(std::max(*cx, *cy));
  return b.create<arith::MaxSIOp>(loc, x, y);
}
Value KernelBuilder::ceilDiv(Value x, int64_t y) { return div(add(x, y - 1), y); }
Value KernelBuilder::cmp(arith::CmpIPredicate predicate, Value x, Value y) {
  return b.create<arith::CmpIOp>(loc, predicate, x, y);
}
Value KernelBuilder::not_(Value condition) {
  return b.create<arith::XOrIOp>(loc, condition,
                                 b.create<arith::ConstantOp>(loc, b.getBoolAttr(true)));
}
Value KernelBuilder::select(Value condition, Value x, Value y) {
  return b.create<arith::SelectOp>(loc, condition, x, y);
}
Value KernelBuilder::widen(Value x) { return b.create<arith::ExtSIOp>(loc, i64, x); }

//===----------------------------------------------------------------------===//
// Pointers, loads and stores
//===----------------------------------------------------------------------===//

Value KernelBuilder::at(Value pointer, Value byteOffset) {
  if (auto constant = constantOf(byteOffset))
    return at(pointer, *constant);
  return b.create<LLVM::GEPOp>(loc, ptr, i8, pointer, ValueRange{byteOffset});
}
Value KernelBuilder::at(Value pointer, int64_t byteOffset) {
  if (byteOffset == 0)
    return pointer;
  if (!llvm::isInt<32>(byteOffset)) // beyond what a constant index can be
    return b.create<LLVM::GEPOp>(loc, ptr, i8, pointer, ValueRange{c(byteOffset)});
  return b.create<LLVM::GEPOp>(loc, ptr, i8, pointer,
                               ArrayRef<LLVM::GEPArg>{LLVM::GEPArg(byteOffset)});
}
Value KernelBuilder::load(Type type, Value pointer, unsigned alignment) {
  return b.create<LLVM::LoadOp>(loc, type, pointer, alignment);
}
void KernelBuilder::store(Value value, Value pointer, unsigned alignment) {
  b.create<LLVM::StoreOp>(loc, value, pointer, alignment);
}
Value KernelBuilder::loadVec(Value pointer, Value mask) {
  if (!mask)
    return loadVec(pointer);
  return b.create<LLVM::MaskedLoadOp>(loc, vf32, pointer, mask, ValueRange{splat(0)},
                                      b.getI32IntegerAttr(4));
}
/// Bytes of an element, to which it is aligned.
static unsigned alignmentOf(Type element) {
  return std::max(1u, element.getIntOrFloatBitWidth() / 8);
}
void KernelBuilder::storeVec(Value value, Value pointer, Value mask) {
  const unsigned alignment = alignmentOf(cast<VectorType>(value.getType()).getElementType());
  if (mask)
    b.create<LLVM::MaskedStoreOp>(loc, value, pointer, mask, b.getI32IntegerAttr(alignment));
  else
    store(value, pointer, alignment);
}
Value KernelBuilder::loadVec(Type element, Value pointer, Value mask) {
  const unsigned alignment = alignmentOf(element);
  if (!mask)
    return load(vec(element), pointer, alignment);
  Value zero = b.create<arith::ConstantOp>(loc, b.getZeroAttr(vec(element)));
  return b.create<LLVM::MaskedLoadOp>(loc, vec(element), pointer, mask, ValueRange{zero},
                                      b.getI32IntegerAttr(alignment));
}

/// Gathers elements from vectors of addresses; lanes that are off are 0.
static Value gatherFrom(KernelBuilder &k, Type element, Value addresses, Value mask,
                        unsigned alignment) {
  if (!mask)
    mask = k.b.create<arith::ConstantOp>(k.loc, DenseElementsAttr::get(k.vec(k.i1), true));
  Value zero = k.b.create<arith::ConstantOp>(k.loc, k.b.getZeroAttr(k.vec(element)));
  return k.b.create<LLVM::masked_gather>(k.loc, k.vec(element), addresses, mask, ValueRange{zero},
                                         k.b.getI32IntegerAttr(alignment));
}

void KernelBuilder::prefetch(Value pointer) {
  // To L2, which has room for far more lines on their way than L1.
  constexpr unsigned secondLevel = 2;
  b.create<LLVM::Prefetch>(loc, pointer, /*rw=*/0u, secondLevel, /*cache=*/1u);
}
Value KernelBuilder::gather(Value base, Value offsets, Value mask) {
  auto pointers = LLVM::getFixedVectorType(ptr, lanes);
  Value addresses = b.create<LLVM::GEPOp>(loc, pointers, f32, base, ValueRange{offsets});
  return gatherFrom(*this, f32, addresses, mask, 4);
}
Value KernelBuilder::gatherBytes(Type element, Value base, Value byteOffsets, Value mask) {
  auto pointers = LLVM::getFixedVectorType(ptr, lanes);
  Value addresses = b.create<LLVM::GEPOp>(loc, pointers, i8, base, ValueRange{byteOffsets});
  return gatherFrom(*this, element, addresses, mask, 1);
}

//===----------------------------------------------------------------------===//
// Floats and vectors
//===----------------------------------------------------------------------===//

Value KernelBuilder::cf(double value) {
  return b.create<arith::ConstantOp>(loc, b.getF32FloatAttr(static_cast<float>(value)));
}
Value KernelBuilder::splat(double value) {
  return b.create<arith::ConstantOp>(loc, DenseElementsAttr::get(vf32, static_cast<float>(value)));
}
Value KernelBuilder::splatI(int64_t value) {
  return b.create<arith::ConstantOp>(loc,
                                     DenseElementsAttr::get(vi32, static_cast<int32_t>(value)));
}
Value KernelBuilder::iota() {
  SmallVector<int32_t> values;
  for (int32_t i = 0; i < lanes; ++i)
    values.push_back(i);
  return b.create<arith::ConstantOp>(loc, DenseElementsAttr::get(vi32, ArrayRef<int32_t>(values)));
}
Value KernelBuilder::broadcast(Value scalar) {
  return b.create<vector::BroadcastOp>(loc, vec(scalar.getType()), scalar);
}
Value KernelBuilder::fma(Value x, Value y, Value z) {
  return b.create<vector::FMAOp>(loc, x, y, z);
}
Value KernelBuilder::addf(Value x, Value y) { return b.create<arith::AddFOp>(loc, x, y); }
Value KernelBuilder::subf(Value x, Value y) { return b.create<arith::SubFOp>(loc, x, y); }
Value KernelBuilder::mulf(Value x, Value y) { return b.create<arith::MulFOp>(loc, x, y); }
Value KernelBuilder::divf(Value x, Value y) { return b.create<arith::DivFOp>(loc, x, y); }
Value KernelBuilder::maxf(Value x, Value y) { return b.create<arith::MaximumFOp>(loc, x, y); }
Value KernelBuilder::cmpf(arith::CmpFPredicate predicate, Value x, Value y) {
  return b.create<arith::CmpFOp>(loc, predicate, x, y);
}
Value KernelBuilder::sqrtf(Value x) { return b.create<LLVM::SqrtOp>(loc, x); }
Value KernelBuilder::shuffle(Value x, Value y, ArrayRef<int64_t> indices) {
  return b.create<vector::ShuffleOp>(loc, x, y, indices);
}

/// Folds a vector in halves with `combine` and gives the last lane.
static Value reduceByHalves(KernelBuilder &k, Value x,
                            llvm::function_ref<Value(Value, Value)> combine) {
  for (int64_t half = lanes / 2; half >= 1; half /= 2) {
    SmallVector<int64_t> low, high;
    for (int64_t i = 0; i < half; ++i) {
      low.push_back(i);
      high.push_back(i + half);
    }
    x = combine(k.shuffle(x, x, low), k.shuffle(x, x, high));
  }
  return k.b.create<vector::ExtractOp>(k.loc, x, ArrayRef<int64_t>{0});
}

Value KernelBuilder::reduceAdd(Value x) {
  return reduceByHalves(*this, x, [&](Value p, Value q) { return addf(p, q); });
}
Value KernelBuilder::reduceMax(Value x) {
  return reduceByHalves(*this, x, [&](Value p, Value q) { return maxf(p, q); });
}
Value KernelBuilder::firstLanes(Value count) {
  Value limit = b.create<arith::TruncIOp>(loc, i32, min(count, c(lanes)));
  return b.create<arith::CmpIOp>(loc, arith::CmpIPredicate::slt, iota(), broadcast(limit));
}
Value KernelBuilder::halfToF32(Value x) {
  auto vector = dyn_cast<VectorType>(x.getType());
  return b.create<arith::ExtFOp>(loc, vector ? Type(vec(f32, vector.getNumElements())) : f32, x);
}
Value KernelBuilder::bfloat16ToF32(Value x) {
  const int64_t count = cast<VectorType>(x.getType()).getNumElements();
  const VectorType words = vec(i32, count);
  Value wide = b.create<arith::ExtUIOp>(loc, words, x);
  Value sixteen = b.create<arith::ConstantOp>(loc, DenseElementsAttr::get(words, int32_t(16)));
  Value bits = b.create<arith::ShLIOp>(loc, wide, sixteen);
  return b.create<arith::BitcastOp>(loc, vec(f32, count), bits);
}

Value KernelBuilder::intrinsic(StringRef name, Type result, ValueRange operands) {
  auto op =
      b.create<LLVM::CallIntrinsicOp>(loc, result ? TypeRange(result) : TypeRange(),
                                      b.getStringAttr(name), operands, LLVM::FastmathFlagsAttr());
  return result ? op.getResult(0) : Value();
}

//===----------------------------------------------------------------------===//
// Instructions that do nothing
//===----------------------------------------------------------------------===//

/// Inline assembly without text: its result is `type`, null for none.
static Value emptyAssembly(KernelBuilder &k, Type type, ValueRange operands,
                           const std::string &constraints, bool hasSideEffects) {
  auto op = k.b.create<LLVM::InlineAsmOp>(k.loc, type ? TypeRange(type) : TypeRange(), operands, "",
                                          constraints, hasSideEffects, /*is_align_stack=*/false,
                                          LLVM::AsmDialectAttr(), ArrayAttr());
  return type ? op.getResult(0) : Value();
}

/// Makes each register an operand and a result of an instruction that does nothing.
static void tie(KernelBuilder &k, MutableArrayRef<Value> registers) {
  std::string results, ties;
  for (size_t i = 0; i < registers.size(); ++i) {
    results += "=v,";
    ties += std::to_string(i) + ",";
  }
  const SmallVector<Type> types(ValueRange(registers).getTypes());
  Value all = emptyAssembly(k, LLVM::LLVMStructType::getLiteral(k.b.getContext(), types), registers,
                            results + ties + "~{memory}", /*hasSideEffects=*/true);
  for (auto [i, value] : llvm::enumerate(registers))
    value = k.b.create<LLVM::ExtractValueOp>(k.loc, all, ArrayRef<int64_t>{int64_t(i)});
}

void KernelBuilder::fenceRegisters(ArrayRef<Value *> values) {
  constexpr size_t most = 14; // that are operands and results
  if (values.size() < 2 || values.size() > most)
    return;
  SmallVector<Value> registers;
  for (Value *value : values)
    registers.push_back(*value);
  tie(*this, registers);
  for (auto [value, tied] : llvm::zip(values, registers))
    *value = tied;
}

void KernelBuilder::fence(ArrayRef<Value *> values) {
  // Not all of them might be had at once.
  const bool isWide = target.has("avx512f");
  const size_t count = values.size() * (isWide ? 1 : 2);
  if (count < 2 || count > (isWide ? 16 : 10))
    return;
  SmallVector<int64_t> low, high, both;
  for (int64_t i = 0; i < lanes; ++i) {
    (i < lanes / 2 ? low : high).push_back(i);
    both.push_back(i);
  }
  SmallVector<Value> registers;
  for (Value *value : values)
    for (const SmallVector<int64_t> &half : {low, high}) {
      registers.push_back(isWide ? *value : shuffle(*value, *value, half));
      if (isWide)
        break;
    }
  tie(*this, registers);
  const Value *next = registers.begin();
  for (Value *value : values) {
    Value first = *next++;
    *value = isWide ? first : shuffle(first, *next++, both);
  }
}

Value KernelBuilder::inRegister(Value constant) {
  assert(target.has("avx512f") && "a vector is one register");
  return emptyAssembly(*this, constant.getType(), constant, "=v,0", /*hasSideEffects=*/false);
}

//===----------------------------------------------------------------------===//
// Control flow
//===----------------------------------------------------------------------===//

void KernelBuilder::loop(Value from, Value to, int64_t step, LoopBody body) {
  loop(from, to, step, ValueRange{}, [&](Value iv, ValueRange) {
    body(iv);
    return SmallVector<Value>();
  });
}

SmallVector<Value> KernelBuilder::loop(Value from, Value to, int64_t step, ValueRange init,
                                       CarryBody body) {
  auto op = b.create<scf::ForOp>(
      loc, from, to, c(step), init, [&](OpBuilder &nested, Location, Value iv, ValueRange carried) {
        OpBuilder::InsertionGuard guard(b);
        b.setInsertionPoint(nested.getInsertionBlock(), nested.getInsertionPoint());
        SmallVector<Value> next = body(iv, carried);
        b.create<scf::YieldOp>(loc, next);
      });
  return op.getResults();
}

void KernelBuilder::ifThen(Value condition, llvm::function_ref<void()> then) {
  b.create<scf::IfOp>(loc, condition, [&](OpBuilder &nested, Location) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPoint(nested.getInsertionBlock(), nested.getInsertionPoint());
    then();
    b.create<scf::YieldOp>(loc);
  });
}

void KernelBuilder::switchOn(Value index, unsigned count, llvm::function_ref<void(unsigned)> body) {
  if (count == 1)
    return body(0);
  for (unsigned i = 0; i < count; ++i)
    ifThen(cmp(arith::CmpIPredicate::eq, index, c(i)), [&] { body(i); });
}
