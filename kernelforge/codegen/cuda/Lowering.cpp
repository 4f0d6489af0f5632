#include "kernelforge/codegen/cuda/Lowering.h"

#include "kernelforge/codegen/ElementaryFunctions.h"
#include "kernelforge/codegen/LowerToLLVM.h"
#include "kernelforge/codegen/cuda/Assembly.h"
#include "kernelforge/codegen/cuda/Convention.h"
#include "kernelforge/codegen/cuda/OwnFunctions.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/NVVM/NVVMToLLVMIRTranslation.h"
#include "llvm/ADT/TypeSwitch.h"

#include <functional>
#include <map>

using namespace mlir;
using namespace kernelforge;

namespace {

/// NVPTX's numbers of memories.
enum AddressSpace : unsigned { GlobalMemory = 1, SharedMemory = 3 };

/// What WGSL calls it.
constexpr StringLiteral dotOfBytesName = "dot4I8Packed";

constexpr StringLiteral blockSizeName = "gpu.known_block_size";

/// `x * y + z` may be rounded once.
void allowContraction(func::FuncOp function) {
  auto contract =
      arith::FastMathFlagsAttr::get(function.getContext(), arith::FastMathFlags::contract);
  function.walk([&](Operation *op) {
    if (isa<arith::AddFOp, arith::SubFOp, arith::MulFOp>(op))
      op->setAttr("fastmath", contract);
  });
}

void expandElementaryFunctions(func::FuncOp function) {
  SmallVector<Operation *> calls;
  function.walk([&](Operation *op) {
    if (isa_and_nonnull<math::MathDialect>(op->getDialect()))
      calls.push_back(op);
  });
  for (Operation *op : calls) {
    OpBuilder b(op);
    ElementaryFunctions functions(b, op->getLoc(), op->getResult(0).getType());
    Value made = llvm::TypeSwitch<Operation *, Value>(op)
                     .Case([&](math::ExpOp exp) { return functions.exp(exp.getOperand()); })
                     .Case([&](math::TanhOp tanh) { return functions.tanh(tanh.getOperand()); })
                     .Case([&](math::ErfOp erf) { return functions.erf(erf.getOperand()); })
                     .Default([](Operation *) { return Value(); });
    if (!made)
      continue;
    op->replaceAllUsesWith(ValueRange(made));
    op->erase();
  }
}

/// Rewrites what the passes to the LLVM dialect do not know, or do with descriptors of memory.
class FunctionLowering {
public:
  FunctionLowering(ModuleOp module, func::FuncOp function)
      : module(module), function(function), b(function.getContext()) {}

  void run() {
    lowerParameters();
    addToDots();
    askForShared();
    declareShared();
    SmallVector<Operation *> ops;
    function.walk([&](Operation *op) { ops.push_back(op); });
    for (Operation *op : ops) {
      b.setInsertionPoint(op);
      llvm::TypeSwitch<Operation *>(op)
          .Case([&](memref::LoadOp load) { replace(op, loaded(load)); })
          .Case([&](memref::StoreOp store) {
            Value value = store.getValueToStore();
            b.create<LLVM::StoreOp>(op->getLoc(), value, addressOf(store),
                                    bytesOf(value.getType()));
            op->erase();
          })
          .Case([&](memref::AtomicRMWOp add) {
            if (add.getKind() == arith::AtomicRMWKind::addi)
              replace(op, b.create<LLVM::AtomicRMWOp>(op->getLoc(), LLVM::AtomicBinOp::add,
                                                      addressOf(add), add.getValue(),
                                                      LLVM::AtomicOrdering::monotonic));
          })
          .Case([&](gpu::BlockIdOp) { replace(op, number<NVVM::BlockIdXOp>(op)); })
          .Case([&](gpu::ThreadIdOp) { replace(op, number<NVVM::ThreadIdXOp>(op)); })
          .Case([&](gpu::LaneIdOp) { replace(op, number<NVVM::LaneIdOp>(op)); })
          .Case([&](gpu::ShuffleOp shuffle) {
            replace(op, exchanged(shuffle, shuffle.getValue(), shuffle.getOffset()));
          })
          .Case([&](gpu::SubgroupReduceOp reduce) { replace(op, reduced(reduce)); })
          .Case([&](func::CallOp call) {
            if (call.getCallee() != simt::waitForPreviousName)
              return replace(op, called(call));
            cuda::Assembly::letNextStart(b, op->getLoc());
            cuda::Assembly::waitForPrevious(b, op->getLoc());
            op->erase();
          })
          .Case([&](gpu::BarrierOp) {
            b.create<NVVM::Barrier0Op>(op->getLoc());
            op->erase();
          })
          .Case([&](math::SqrtOp sqrt) {
            replace(op, b.create<LLVM::SqrtOp>(op->getLoc(), sqrt.getOperand()));
          })
          // One instruction each: left to a pass they would be comparisons and choices.
          .Case([&](arith::MaxNumFOp max) {
            replace(op, b.create<LLVM::MaxNumOp>(op->getLoc(), max.getLhs(), max.getRhs()));
          })
          .Case([&](arith::MinNumFOp min) {
            replace(op, b.create<LLVM::MinNumOp>(op->getLoc(), min.getLhs(), min.getRhs()));
          })
          .Case([&](math::FmaOp fma) {
            replace(op, b.create<LLVM::FMAOp>(op->getLoc(), fma.getA(), fma.getB(), fma.getC()));
          });
    }
  }

private:
  /// Where there is nothing to replace it by, it stays, and lower() says so.
  static void replace(Operation *op, Value by) {
    if (!by)
      return;
    // Shuffles say besides whether the other lane is there.
    op->getResult(0).replaceAllUsesWith(by);
    op->erase();
  }

  /// Of an element or a vector of them, which is aligned to them.
  static unsigned bytesOf(Type element) {
    if (auto vector = dyn_cast<VectorType>(element))
      return static_cast<unsigned>(vector.getNumElements()) * bytesOf(vector.getElementType());
    return element.getIntOrFloatBitWidth() / 8;
  }

  /// What the lane has whose number differs in the bits of `mask`. Null where the shuffle is of
  /// another kind.
  Value exchanged(gpu::ShuffleOp op, Value value, Value mask) {
    if (op.getMode() != gpu::ShuffleMode::XOR || !op.getValid().use_empty())
      return {};
    return exchanged(op.getLoc(), value, mask);
  }

  Value exchanged(Location loc, Value value, Value mask) {
    Value all = b.create<arith::ConstantIntOp>(loc, -1, 32);
    Value last = b.create<arith::ConstantIntOp>(loc, 31, 32);
    return b.create<NVVM::ShflOp>(loc, value.getType(), all, value, mask, last,
                                  NVVM::ShflKind::bfly, UnitAttr());
  }

  /// The values of a warp combined, the same in all lanes.
  Value reduced(gpu::SubgroupReduceOp op) {
    Value value = op.getValue();
    for (int64_t distance = 16; distance > 0; distance /= 2) {
      Value mask = b.create<arith::ConstantIntOp>(op.getLoc(), distance, 32);
      value = combined(op, value, exchanged(op.getLoc(), value, mask));
      if (!value)
        return {};
    }
    return value;
  }

  Value combined(gpu::SubgroupReduceOp op, Value x, Value y) {
    const Location loc = op.getLoc();
    const bool isFloat = isa<FloatType>(x.getType());
    switch (op.getOp()) {
    case gpu::AllReduceOperation::ADD:
      return isFloat ? b.create<arith::AddFOp>(loc, x, y).getResult()
                     : b.create<arith::AddIOp>(loc, x, y).getResult();
    case gpu::AllReduceOperation::MAXNUMF:
      return b.create<LLVM::MaxNumOp>(loc, x, y);
    case gpu::AllReduceOperation::MAXIMUMF:
      return b.create<arith::MaximumFOp>(loc, x, y);
    case gpu::AllReduceOperation::MINNUMF:
      return b.create<LLVM::MinNumOp>(loc, x, y);
    case gpu::AllReduceOperation::MAXUI:
      return b.create<arith::MaxUIOp>(loc, x, y);
    default:
      return {};
    }
  }

  /// What functions of the target's language are here.
  Value called(func::CallOp call) {
    const StringRef name = call.getCallee();
    const Location loc = call.getLoc();
    if (name == dotOfBytesName)
      return cuda::Assembly::dotOfBytes(b, loc, call.getOperand(0), call.getOperand(1),
                                        b.create<arith::ConstantIntOp>(loc, 0, 32));
    if (name == simt::lookUpBytesName)
      return cuda::Assembly::lookUpBytes(b, loc, call.getOperands());
    if (name == "round") // to the nearest, ties to even
      return b.create<LLVM::RintOp>(loc, call.getOperand(0));
    return {};
  }

  void lowerParameters() {
    auto address = LLVM::LLVMPointerType::get(b.getContext(), GlobalMemory);
    for (BlockArgument argument : function.getArguments())
      if (auto memory = dyn_cast<MemRefType>(argument.getType())) {
        elements[argument] = memory.getElementType();
        argument.setType(address);
        function.setArgAttr(argument.getArgNumber(), "llvm.align",
                            b.getI64IntegerAttr(cuda::bufferAlignment));
      }
    function.setFunctionType(
        b.getFunctionType(function.getBody().getArgumentTypes(), function.getResultTypes()));
  }

  /// A dot of bytes adds what it is added to.
  void addToDots() {
    SmallVector<arith::AddIOp> adds;
    function.walk([&](arith::AddIOp add) { adds.push_back(add); });
    for (arith::AddIOp add : adds)
      for (auto [one, other] :
           {std::pair(add.getRhs(), add.getLhs()), std::pair(add.getLhs(), add.getRhs())}) {
        auto dot = one.getDefiningOp<func::CallOp>();
        if (!dot || dot.getCallee() != dotOfBytesName || !one.hasOneUse())
          continue;
        b.setInsertionPoint(add);
        add.replaceAllUsesWith(cuda::Assembly::dotOfBytes(b, add.getLoc(), dot.getOperand(0),
                                                          dot.getOperand(1), other));
        add.erase();
        dot.erase();
        break;
      }
  }

  /// Shared memory, that of the widest elements first: nothing is lost between.
  void declareShared() {
    std::multimap<unsigned, memref::GetGlobalOp, std::greater<>> byWidth;
    function.walk([&](memref::GetGlobalOp op) {
      byWidth.emplace(bytesOf(cast<MemRefType>(op.getType()).getElementType()), op);
    });
    for (auto &[width, op] : byWidth) {
      b.setInsertionPoint(op);
      replace(op, addressOf(op));
    }
  }

  Value loaded(memref::LoadOp load) {
    loadLanesAlone(load);
    auto vector = dyn_cast<VectorType>(load.getType());
    if (vector && load.getNontemporal())
      return cuda::Assembly::loadStreamed(b, load.getLoc(), vector, addressOf(load));
    return b.create<LLVM::LoadOp>(load.getLoc(), load.getType(), addressOf(load),
                                  bytesOf(load.getType()));
  }

  /// Loads lanes of a vector in memory alone that are chosen by numbers which only a run knows: out
  /// of registers they would be taken by way of the stack.
  void loadLanesAlone(memref::LoadOp load) {
    for (Operation *user : llvm::make_early_inc_range(load->getUsers())) {
      auto extract = dyn_cast<vector::ExtractOp>(user);
      if (!extract || !extract.hasDynamicPosition() || load->getBlock() != extract->getBlock())
        continue;
      bool isChanged = false; // what it loads, meanwhile
      for (Operation *op = load->getNextNode(); op != extract; op = op->getNextNode())
        isChanged = isChanged || (!isMemoryEffectFree(op) && !isa<memref::LoadOp>(op));
      if (isChanged)
        continue;
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPoint(extract);
      const Location loc = extract.getLoc();
      const Type element = extract.getType();
      Value base = addressOf(load);
      Value lane =
          b.create<arith::IndexCastUIOp>(loc, b.getI64Type(), extract.getDynamicPosition().front());
      Value address = b.create<LLVM::GEPOp>(loc, base.getType(), element, base,
                                            ArrayRef<LLVM::GEPArg>{lane}, /*inbounds=*/true);
      extract.replaceAllUsesWith(
          b.create<LLVM::LoadOp>(loc, element, address, bytesOf(element)).getResult());
    }
  }

  /// Shared memory of more bytes than a function can declare is what a launch gives it, one piece
  /// behind the other, those of the largest elements first.
  void askForShared() {
    SmallVector<memref::GetGlobalOp> pieces;
    function.walk([&](memref::GetGlobalOp op) { pieces.push_back(op); });
    auto elementBytes = [](memref::GetGlobalOp op) {
      return bytesOf(cast<MemRefType>(op.getType()).getElementType());
    };
    int64_t total = 0;
    for (unsigned bytes : {16, 8, 4, 2})
      for (memref::GetGlobalOp op : pieces)
        if (elementBytes(op) == bytes) {
          asked[op] = total;
          total += cast<MemRefType>(op.getType()).getNumElements() * bytes;
        }
    if (total <= cuda::mostStaticSharedBytes)
      asked.clear();
  }

  /// Where a piece lies of what a launch gives.
  Value addressOfAsked(memref::GetGlobalOp op) {
    const std::string name = (function.getSymName() + "_memory").str();
    auto global = module.lookupSymbol<LLVM::GlobalOp>(name);
    if (!global) {
      constexpr unsigned alignment = 16;
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPoint(function);
      global = b.create<LLVM::GlobalOp>(op.getLoc(), LLVM::LLVMArrayType::get(b.getI8Type(), 0),
                                        /*isConstant=*/false, LLVM::Linkage::External, name,
                                        Attribute(), alignment, SharedMemory);
    }
    if (Operation *before = module.lookupSymbol(op.getName()))
      before->erase();
    Value base = b.create<LLVM::AddressOfOp>(op.getLoc(), global);
    Value address = b.create<LLVM::GEPOp>(
        op.getLoc(), base.getType(), b.getI8Type(), base,
        ArrayRef<LLVM::GEPArg>{static_cast<int32_t>(asked.lookup(op))}, /*inbounds=*/true);
    elements[address] = cast<MemRefType>(op.getType()).getElementType();
    return address;
  }

  /// Shared memory, declared before the function where it is not yet.
  Value addressOf(memref::GetGlobalOp op) {
    if (asked.contains(op))
      return addressOfAsked(op);
    auto memory = cast<MemRefType>(op.getType());
    auto global = module.lookupSymbol<LLVM::GlobalOp>(op.getName());
    if (!global) {
      if (Operation *before = module.lookupSymbol(op.getName()))
        before->erase();
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPoint(function);
      global = b.create<LLVM::GlobalOp>(
          op.getLoc(), LLVM::LLVMArrayType::get(memory.getElementType(), memory.getNumElements()),
          /*isConstant=*/false, LLVM::Linkage::Internal, op.getName(), Attribute(),
          /*alignment=*/std::max(4U, bytesOf(memory.getElementType())), SharedMemory);
    }
    Value address = b.create<LLVM::AddressOfOp>(op.getLoc(), global);
    elements[address] = memory.getElementType();
    return address;
  }

  /// Of the element that a load or a store is of. Its index was widened without a sign.
  template <typename Access> Value addressOf(Access op) {
    Value base = op.getMemrefMutable().get();
    Value index = op.getIndices().front();
    Value wide = b.create<arith::IndexCastUIOp>(op.getLoc(), b.getI64Type(), index);
    return b.create<LLVM::GEPOp>(op.getLoc(), base.getType(), elements.lookup(base), base,
                                 ArrayRef<LLVM::GEPArg>{wide}, /*inbounds=*/true);
  }

  /// A special register, which is below 2^31.
  template <typename Register> Value number(Operation *op) {
    Value id = b.create<Register>(op->getLoc(), b.getI32Type());
    return b.create<arith::IndexCastUIOp>(op->getLoc(), b.getIndexType(), id);
  }

  ModuleOp module;
  func::FuncOp function;
  OpBuilder b;
  llvm::DenseMap<Value, Type> elements;       ///< of addresses
  llvm::DenseMap<Operation *, int64_t> asked; ///< first bytes of shared memory that a launch gives
};

} // namespace

void cuda::markBlocks(ModuleOp module, const Launching &launching) {
  for (const Phase &phase : launching.phases) {
    const SmallVector<int32_t> block(phase.block.begin(), phase.block.end());
    if (Operation *function = module.lookupSymbol(phase.entry))
      function->setAttr(blockSizeName, DenseI32ArrayAttr::get(module.getContext(), block));
  }
}

void cuda::letNextStart(ModuleOp module, const Launching &launching) {
  for (const Phase &phase : launching.phases)
    if (auto function = module.lookupSymbol<func::FuncOp>(phase.entry);
        function && !phase.startsEarly) {
      OpBuilder b = OpBuilder::atBlockBegin(&function.getBody().front());
      Assembly::letNextStart(b, function.getLoc());
    }
}

Status cuda::lower(ModuleOp module) {
  for (auto function : llvm::make_early_inc_range(module.getOps<func::FuncOp>())) {
    if (function.isDeclaration())
      continue;
    allowContraction(function);
    expandByOwnFunctions(function);
    expandElementaryFunctions(function);
    FunctionLowering(module, function).run();
  }
  // Functions of the language that were called are declared no more.
  for (auto function : llvm::make_early_inc_range(module.getOps<func::FuncOp>()))
    if (function.isDeclaration() && SymbolTable::symbolKnownUseEmpty(function, module))
      function.erase();
  KF_CHECK(lowerToLLVM(module, NVVM::NVVMDialect::getDialectNamespace()));
  for (auto function : module.getOps<LLVM::LLVMFuncOp>())
    if (auto block = function->removeAttr(blockSizeName)) {
      function->setAttr(NVVM::NVVMDialect::getKernelFuncAttrName(),
                        UnitAttr::get(module.getContext()));
      function->setAttr(NVVM::NVVMDialect::getReqntidAttrName(), block);
      if (!function->hasAttr(NVVM::NVVMDialect::getMaxnregAttrName()))
        function->setAttr(
            NVVM::NVVMDialect::getMaxnregAttrName(),
            IntegerAttr::get(IntegerType::get(module.getContext(), 32), usualRegisters));
      // A tensor map is read where the launch put it: without that LLVM copies it.
      for (unsigned i = 0; i < function.getNumArguments(); ++i)
        if (function.getArgAttr(i, LLVM::LLVMDialect::getByValAttrName()))
          function.setArgAttr(i, NVVM::NVVMDialect::getGridConstantAttrName(),
                              UnitAttr::get(module.getContext()));
    }
  return {};
}

void cuda::registerTranslations(DialectRegistry &registry) {
  registerBuiltinDialectTranslation(registry);
  registerLLVMDialectTranslation(registry);
  registerNVVMDialectTranslation(registry);
}

void cuda::registerLoweringDialects(DialectRegistry &registry) {
  registry.insert<arith::ArithDialect, cf::ControlFlowDialect, func::FuncDialect, LLVM::LLVMDialect,
                  NVVM::NVVMDialect>();
  // What the passes bring along, too: kernels are compiled in parallel, and loading a dialect while
  // another thread reads the context is a race.
  OpPassManager passes(ModuleOp::getOperationName());
  buildLowerToLLVM(passes);
  passes.getDependentDialects(registry);
  registerTranslations(registry);
}
