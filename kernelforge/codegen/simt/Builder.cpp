#include "kernelforge/codegen/simt/Builder.h"

#include "mlir/IR/Matchers.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/MathExtras.h"

#include <algorithm>
#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;

//===----------------------------------------------------------------------===//
// Names
//===----------------------------------------------------------------------===//

/// What an operation reads `operand` as.
static StringRef roleOf(OpOperand &operand) {
  Operation *op = operand.getOwner();
  auto is = [&](Value value) { return value == operand.get(); };
  return llvm::TypeSwitch<Operation *, StringRef>(op)
      .Case([&](MatmulOp matmul) {
        return is(matmul.getInput())                                    ? "input"
               : llvm::is_contained(matmul.getWeights(), operand.get()) ? "weight"
                                                                        : "bias";
      })
      .Case([&](AttentionOp attention) {
        return is(attention.getQuery())       ? "query"
               : is(attention.getKeys())      ? "keys"
               : is(attention.getValues())    ? "cached_values"
               : is(attention.getPositions()) ? "positions"
               : is(attention.getSequences()) ? "sequences"
               : is(attention.getTable())     ? "slot_table"
               : is(attention.getSinks())     ? "sinks"
                                              : "lengths";
      })
      .Case([&](CacheAppendOp append) {
        return is(append.getCache()) ? "cache" : is(append.getSlots()) ? "slots" : "appended";
      })
      .Case([&](EmbeddingOp embedding) { return is(embedding.getTable()) ? "embedding" : "ids"; })
      .Case([&](GatherRowsOp gather) { return is(gather.getRows()) ? "row_numbers" : "input"; })
      .Case([&](RopeOp rope) {
        return is(rope.getPositions()) ? "positions" : is(rope.getTable()) ? "angles" : "input";
      })
      .Case([&](RmsNormOp norm) { return is(norm.getWeight()) ? "norm_weight" : "input"; })
      .Case([&](LayerNormOp norm) {
        return is(norm.getWeight()) ? "norm_weight" : is(norm.getInput()) ? "input" : "norm_bias";
      })
      .Case([&](SampleOp sample) {
        return is(sample.getLogits())      ? "logits"
               : is(sample.getSettings())  ? "settings"
               : is(sample.getDraws())     ? "draws"
               : is(sample.getPositions()) ? "positions"
                                           : "recent";
      })
      .Case([&](AdvanceOp advance) {
        return is(advance.getIds())         ? "ids"
               : is(advance.getPositions()) ? "positions"
               : is(advance.getSlots())     ? "slots"
               : is(advance.getSequences()) ? "sequences"
               : is(advance.getTable())     ? "slot_table"
               : is(advance.getLengths())   ? "lengths"
               : is(advance.getLimits())    ? "limits"
                                            : "recent";
      })
      .Case([&](AddOp add) { return is(add.getLhs()) ? "input" : "addend"; })
      .Case([&](MulOp mul) { return is(mul.getLhs()) ? "input" : "factor"; })
      .Case([&](ComputeOp other) {
        return other.describeOperands()[operand.getOperandNumber()].name;
      })
      .Default([](Operation *) { return "input"; });
}

std::string simt::roleOf(KernelOp kernel, unsigned argument) {
  for (StringRef attribute : {StringRef(weightAttrName), StringRef(inputAttrName)})
    if (auto name = kernel.getArgAttrOfType<StringAttr>(argument, attribute))
      return name.getValue().str();
  for (OpOperand &use : kernel.getBody().getArgument(argument).getUses())
    return ::roleOf(use).str();
  return "unused";
}

Location PhaseBuilder::nameLocation(StringRef name) {
  return NameLoc::get(b.getStringAttr(name), loc);
}

Value PhaseBuilder::named(Value value, StringRef name) {
  Operation *op = value.getDefiningOp();
  if (op && !op->hasTrait<OpTrait::ConstantLike>() && !isa<NameLoc>(op->getLoc()))
    op->setLoc(nameLocation(name));
  return value;
}

//===----------------------------------------------------------------------===//
// The function and its parameters
//===----------------------------------------------------------------------===//

PhaseBuilder::PhaseBuilder(ModuleOp module, KernelOp kernel, StringRef entry, int64_t blockThreads)
    : kernel(kernel), b(module.getContext()), loc(kernel.getLoc()), module(module) {
  i1 = b.getI1Type();
  i32 = b.getI32Type();
  f32 = b.getF32Type();
  if (isa<NameLoc>(loc)) // names of values are names of code
    loc = cast<NameLoc>(loc).getChildLoc();
  b.setInsertionPointToEnd(module.getBody());
  function = b.create<func::FuncOp>(loc, entry, b.getFunctionType({}, {}));
  b.setInsertionPointToStart(function.addEntryBlock());
  phase.entry = entry.str();
  phase.block = {blockThreads, 1, 1};
}

Phase PhaseBuilder::finish(Extent grid) {
  b.create<func::ReturnOp>(loc);
  dropUnused();
  phase.grid = std::move(grid);
  phase.sharedBytes = sharedBytes;
  return phase;
}

/// Values that nothing needs, and then parameters: a binding that is declared and not used is none.
void PhaseBuilder::dropUnused() {
  SmallVector<Operation *> candidates;
  function.walk([&](Operation *op) {
    if (isa<memref::LoadOp>(op) ||
        isa_and_nonnull<arith::ArithDialect, math::MathDialect, vector::VectorDialect>(
            op->getDialect()))
      candidates.push_back(op);
  });
  // Users come after what they use, or around it.
  for (Operation *op : llvm::reverse(candidates))
    if (op->use_empty())
      op->erase();
  for (size_t i = phase.parameters.size(); i-- > 0;)
    if (function.getArgument(static_cast<unsigned>(i)).use_empty()) {
      function.eraseArgument(static_cast<unsigned>(i));
      phase.parameters.erase(phase.parameters.begin() + static_cast<std::ptrdiff_t>(i));
    }
}

Value PhaseBuilder::parameter(Parameter::Kind kind, int index, Access access, Type type,
                              StringRef name) {
  // Buffers come before sizes, each by number, whatever is used first.
  auto place =
      std::find_if(phase.parameters.begin(), phase.parameters.end(), [&](const Parameter &p) {
        return std::pair(p.kind, p.index) >= std::pair(kind, index);
      });
  const auto number = static_cast<unsigned>(place - phase.parameters.begin());
  if (place != phase.parameters.end() && place->kind == kind && place->index == index) {
    if (place->access != access)
      place->access = Access::ReadWrite;
    return function.getArgument(number);
  }
  phase.parameters.insert(place, {kind, index, access});
  function.insertArgument(number, type, b.getDictionaryAttr({}), nameLocation(name));
  return function.getArgument(number);
}

/// Element type of a tensor or cache.
static std::optional<ElementType> elementOf(Type type) {
  if (auto cache = dyn_cast<CacheType>(type))
    type = cache.getElementType();
  return elementTypeOf(type);
}

Value PhaseBuilder::buffer(int index, Type tensor, Access access, View view, StringRef name) {
  const std::optional<ElementType> type = elementOf(tensor);
  const bool isWeight = isa<RankedTensorType>(tensor) && info(*type).isQuantized();
  const bool isWhole = type == ElementType::F32 || type == ElementType::I32 || isWeight;
  Type element = type == ElementType::F32            ? f32
                 : access == Access::Read || isWhole ? i32
                                                     : b.getI16Type();
  if (view == View::Words4)
    element = vec(i32, 4);
  else if (view == View::Quads)
    element = isWhole ? vec(type == ElementType::F32 ? f32 : i32, 4) : vec(i32, 2);
  return parameter(Parameter::Kind::Buffer, index, access,
                   MemRefType::get({ShapedType::kDynamic}, element), name);
}

Value PhaseBuilder::argument(Value bodyArgument, Access access, View view) {
  const unsigned number = cast<BlockArgument>(bodyArgument).getArgNumber();
  return buffer(static_cast<int>(number - kernel.getNumSizes()), bodyArgument.getType(), access,
                view, roleOf(kernel, number));
}

Value PhaseBuilder::result(unsigned i, Access access, View view) {
  const unsigned index = kernel.getNumArguments() - kernel.getNumSizes() + i;
  return buffer(static_cast<int>(index), kernel.getResultTypes()[i], access, view,
                kernel.getNumResults() == 1 ? std::string("output") : fmt::format("output{}", i));
}

Value PhaseBuilder::workspace(int i, Access access, Type element) {
  return parameter(Parameter::Kind::Workspace, i, access,
                   MemRefType::get({ShapedType::kDynamic}, element),
                   i == 0 ? std::string("workspace") : fmt::format("workspace{}", i));
}

int PhaseBuilder::sizeIndex(StringRef name) {
  for (unsigned i = 0; i < kernel.getNumSizes(); ++i)
    if (kernel.getSize(i).getName().getValue() == name)
      return static_cast<int>(i);
  return -1;
}

Value PhaseBuilder::size(int index) {
  return parameter(Parameter::Kind::Size, index, Access::Read, i32,
                   kernel.getSize(static_cast<unsigned>(index)).getName().getValue());
}

Value PhaseBuilder::dimension(Type type, unsigned index) {
  auto tensor = cast<RankedTensorType>(type);
  if (!tensor.isDynamicDim(index))
    return c(tensor.getDimSize(index));
  auto dims = cast<DimsAttr>(tensor.getEncoding());
  unsigned dynamic = 0;
  for (unsigned i = 0; i < index; ++i)
    dynamic += tensor.isDynamicDim(i) ? 1 : 0;
  return size(sizeIndex(dims.getNames()[dynamic].getValue()));
}

Extent PhaseBuilder::rowsExtent(Type type, int64_t divisor) {
  auto tensor = cast<RankedTensorType>(type);
  if (!tensor.isDynamicDim(0))
    return Extent((tensor.getDimSize(0) + divisor - 1) / divisor);
  return Extent(1, sizeIndex(rowsSizeName(tensor)), divisor);
}

Value PhaseBuilder::shared(StringRef name, Type element, int64_t count) {
  Value &memory = sharedMemory[name.str()];
  if (memory)
    return memory;
  OpBuilder::InsertionGuard guard(b);
  auto space = gpu::AddressSpaceAttr::get(b.getContext(), gpu::AddressSpace::Workgroup);
  auto type = MemRefType::get({count}, element, MemRefLayoutAttrInterface(), space);
  const std::string symbol = (function.getSymName() + "_" + name).str();
  b.setInsertionPoint(function);
  b.create<memref::GlobalOp>(loc, symbol, b.getStringAttr("private"), type, b.getUnitAttr(),
                             /*constant=*/false, /*alignment=*/IntegerAttr());
  b.setInsertionPointToStart(&function.getBody().front());
  memory = b.create<memref::GetGlobalOp>(nameLocation(name), type, symbol);
  auto wide = dyn_cast<VectorType>(element);
  sharedBytes += count * (wide ? wide.getNumElements() * wide.getElementTypeBitWidth() / 8 : 4);
  return memory;
}

Value PhaseBuilder::block() {
  if (!blockId) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(&function.getBody().front());
    Value id = b.create<gpu::BlockIdOp>(nameLocation("block"), gpu::Dimension::x);
    blockId = b.create<arith::IndexCastUIOp>(loc, i32, id);
  }
  return blockId;
}

Value PhaseBuilder::lane() {
  if (!laneId) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(&function.getBody().front());
    Value id = b.create<gpu::LaneIdOp>(nameLocation("lane"), b.getIndexType(), IntegerAttr());
    laneId = b.create<arith::IndexCastUIOp>(loc, i32, id);
  }
  return laneId;
}

Value PhaseBuilder::shuffleXor(Value value, int64_t mask, int64_t subgroupSize) {
  return b.create<gpu::ShuffleOp>(loc, value, c(mask), c(subgroupSize), gpu::ShuffleMode::XOR)
      .getShuffleResult();
}

Value PhaseBuilder::subgroupReduce(Value value, gpu::AllReduceOperation operation) {
  return b.create<gpu::SubgroupReduceOp>(loc, value, operation, /*uniform=*/true);
}

Value PhaseBuilder::thread() {
  if (!threadId) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(&function.getBody().front());
    Value id = b.create<gpu::ThreadIdOp>(nameLocation("thread"), gpu::Dimension::x);
    threadId = b.create<arith::IndexCastUIOp>(loc, i32, id);
  }
  return threadId;
}

void PhaseBuilder::barrier() { b.create<gpu::BarrierOp>(loc); }

void PhaseBuilder::waitForPrevious() {
  b.create<func::CallOp>(loc, declared(waitForPreviousName, {}, {}), ValueRange());
  phase.startsEarly = true;
}

//===----------------------------------------------------------------------===//
// Memory and control flow
//===----------------------------------------------------------------------===//

/// Lanes of a memory's elements.
static int64_t lanesOf(Value memory) {
  auto vector = dyn_cast<VectorType>(cast<MemRefType>(memory.getType()).getElementType());
  return vector ? vector.getNumElements() : 1;
}

bool PhaseBuilder::isWide(Value memory) { return lanesOf(memory) > 1; }

Value PhaseBuilder::load(Value buffer, Value index) {
  const int64_t count = lanesOf(buffer);
  if (count == 1)
    return loadVector(buffer, index);
  Value vector = loadVector(buffer, shr(index, count == 4 ? 2 : 1));
  return extract(vector, andBits(index, count - 1));
}

Value PhaseBuilder::loadVector(Value buffer, Value index) {
  Value at = b.create<arith::IndexCastUIOp>(loc, b.getIndexType(), index);
  return b.create<memref::LoadOp>(loc, buffer, at);
}

Value PhaseBuilder::streamed(Value loaded) {
  if (auto load = loaded.getDefiningOp<memref::LoadOp>())
    load.setNontemporal(true);
  return loaded;
}

Value PhaseBuilder::loadUniform(Value buffer, int64_t index) {
  Value loaded = load(buffer, c(index));
  loaded.getDefiningOp()->setAttr(uniformAttrName, b.getUnitAttr());
  return loaded;
}

void PhaseBuilder::store(Value value, Value buffer, Value index) {
  Value at = b.create<arith::IndexCastUIOp>(loc, b.getIndexType(), index);
  b.create<memref::StoreOp>(loc, value, buffer, at);
}

void PhaseBuilder::loop(StringRef name, Value from, Value to, int64_t step, LoopBody body) {
  loop(name, from, to, step, "", {}, [&](Value iv, ValueRange) {
    body(iv);
    return SmallVector<Value>{};
  });
}

/// Gives values the names that `names` lists; those beyond take the last one with a number.
void PhaseBuilder::nameValues(ValueRange values, StringRef listed) {
  SmallVector<StringRef> names;
  listed.split(names, ' ');
  for (auto [i, value] : llvm::enumerate(values)) {
    const bool isOwn = i + 1 < names.size() || values.size() == names.size();
    value.setLoc(nameLocation(
        isOwn ? names[i].str() : fmt::format("{}{}", names.back().str(), i + 1 - names.size())));
  }
}

SmallVector<Value> PhaseBuilder::loop(StringRef name, Value from, Value to, int64_t step,
                                      StringRef carriedNames, ValueRange init, CarryBody body) {
  auto loop = b.create<scf::ForOp>(loc, from, to, c(step), init);
  loop.getInductionVar().setLoc(nameLocation(name));
  SmallVector<Value> carried(loop.getRegionIterArgs());
  nameValues(carried, carriedNames);
  OpBuilder::InsertionGuard guard(b);
  if (init.empty()) {
    b.setInsertionPoint(loop.getBody()->getTerminator());
    body(loop.getInductionVar(), {});
    return {};
  }
  b.setInsertionPointToEnd(loop.getBody());
  SmallVector<Value> next = body(loop.getInductionVar(), loop.getRegionIterArgs());
  b.create<scf::YieldOp>(loc, next);
  return SmallVector<Value>(loop.getResults());
}

void PhaseBuilder::ifThen(Value condition, llvm::function_ref<void()> then) {
  auto branch = b.create<scf::IfOp>(loc, condition, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPoint(branch.thenBlock()->getTerminator());
  then();
}

SmallVector<Value> PhaseBuilder::ifElse(StringRef name, Value condition, TypeRange types,
                                        llvm::function_ref<SmallVector<Value>()> then,
                                        llvm::function_ref<SmallVector<Value>()> otherwise) {
  auto branch = b.create<scf::IfOp>(nameLocation(name), types, condition, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  auto side = [&](Block *block, llvm::function_ref<SmallVector<Value>()> values) {
    b.setInsertionPointToStart(block); // without values there is a terminator already
    const SmallVector<Value> yielded = values();
    if (!types.empty())
      b.create<scf::YieldOp>(loc, yielded);
  };
  side(branch.thenBlock(), then);
  side(branch.elseBlock(), otherwise);
  return SmallVector<Value>(branch.getResults());
}

Value PhaseBuilder::ifElse(StringRef name, Value condition, llvm::function_ref<Value()> then,
                           llvm::function_ref<Value()> otherwise, Type type) {
  auto branch = b.create<scf::IfOp>(nameLocation(name), type ? type : f32, condition,
                                    /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToEnd(branch.thenBlock());
  b.create<scf::YieldOp>(loc, then());
  b.setInsertionPointToEnd(branch.elseBlock());
  b.create<scf::YieldOp>(loc, otherwise());
  return branch.getResult(0);
}

Value PhaseBuilder::reduce(Value value, llvm::function_ref<Value(Value, Value)> combine) {
  const int64_t count = phase.block[0];
  Value partial =
      shared(value.getType().isF32() ? "partial" : "partial_words", value.getType(), count);
  store(value, partial, thread());
  barrier();
  loop("step", c(0), c(llvm::Log2_64(static_cast<uint64_t>(count))), 1, [&](Value step) {
    Value half = named(shr(c(count / 2), step), "half");
    ifThen(lessThan(thread(), half), [&] {
      Value mine = load(partial, thread());
      store(combine(mine, load(partial, add(thread(), half))), partial, thread());
    });
    barrier();
  });
  Value combined = load(partial, c(0));
  // Before it is written again.
  barrier();
  return combined;
}
