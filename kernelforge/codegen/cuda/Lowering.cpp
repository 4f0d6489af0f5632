#include "kernelforge/codegen/cuda/Lowering.h"

#include "kernelforge/codegen/ElementaryFunctions.h"
#include "kernelforge/codegen/LowerToLLVM.h"
#include "kernelforge/codegen/cuda/Convention.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/NVVM/NVVMToLLVMIRTranslation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace kernelforge;

namespace {

/// NVPTX's numbers of memories.
enum AddressSpace : unsigned { GlobalMemory = 1, SharedMemory = 3 };

/// Of a thread. Where nothing is said, some are spilled so that more blocks fit a multiprocessor.
constexpr int mostRegisters = 128;

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
    SmallVector<Operation *> ops;
    function.walk([&](Operation *op) { ops.push_back(op); });
    for (Operation *op : ops) {
      b.setInsertionPoint(op);
      llvm::TypeSwitch<Operation *>(op)
          .Case([&](memref::GetGlobalOp global) { replace(op, addressOf(global)); })
          .Case([&](memref::LoadOp load) {
            replace(op, b.create<LLVM::LoadOp>(op->getLoc(), load.getType(), addressOf(load),
                                               bytesOf(load.getType())));
          })
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
          .Case([&](func::CallOp call) { replace(op, called(call)); })
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
    if (name == "dot4I8Packed") {
      Value zero = b.create<arith::ConstantIntOp>(loc, 0, 32);
      SmallVector<Value> operands(call.getOperands());
      operands.push_back(zero);
      return b
          .create<LLVM::CallIntrinsicOp>(loc, b.getI32Type(),
                                         b.getStringAttr("llvm.nvvm.idp4a.s.s"), operands)
          .getResult(0);
    }
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

  /// Shared memory, declared before the function where it is not yet.
  Value addressOf(memref::GetGlobalOp op) {
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
  llvm::DenseMap<Value, Type> elements; ///< of addresses
};

} // namespace

void cuda::markBlocks(ModuleOp module, const Launching &launching) {
  for (const Phase &phase : launching.phases) {
    const SmallVector<int32_t> block(phase.block.begin(), phase.block.end());
    if (Operation *function = module.lookupSymbol(phase.entry))
      function->setAttr(blockSizeName, DenseI32ArrayAttr::get(module.getContext(), block));
  }
}

Status cuda::lower(ModuleOp module) {
  for (auto function : llvm::make_early_inc_range(module.getOps<func::FuncOp>())) {
    if (function.isDeclaration())
      continue;
    allowContraction(function);
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
            IntegerAttr::get(IntegerType::get(module.getContext(), 32), mostRegisters));
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
