#include "kernelforge/codegen/cpu/ObjectEmitter.h"
#include "kernelforge/codegen/LowerToLLVM.h"
#include "kernelforge/codegen/ObjectFile.h"
#include "kernelforge/codegen/cpu/MachineCode.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"

using namespace kernelforge;
using testing::HasSubstr;
using testing::Not;

namespace {

/// Phase 0: y[16 t .. 16 t + 15] += a * x[same], a in args[2]. Phase 1: scratch is filled and
/// copied, the sum of task 0's piece of y is left in args[3].
constexpr const char *axpy = R"mlir(
func.func @entry(%args: !llvm.ptr, %sizes: !llvm.ptr, %phase: i64, %task: i64,
                 %scratch: !llvm.ptr) {
  %c16 = arith.constant 16 : i64
  %p1 = llvm.getelementptr %args[1] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr
  %p2 = llvm.getelementptr %args[2] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr
  %p3 = llvm.getelementptr %args[3] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr
  %x = llvm.load %args : !llvm.ptr -> !llvm.ptr
  %y = llvm.load %p1 : !llvm.ptr -> !llvm.ptr
  %pa = llvm.load %p2 : !llvm.ptr -> !llvm.ptr
  %out = llvm.load %p3 : !llvm.ptr -> !llvm.ptr
  %which = arith.index_cast %phase : i64 to index
  scf.index_switch %which
  case 0 {
    %a = llvm.load %pa {alignment = 4 : i64} : !llvm.ptr -> f32
    %av = vector.broadcast %a : f32 to vector<16xf32>
    %begin = arith.muli %task, %c16 : i64
    %px = llvm.getelementptr %x[%begin] : (!llvm.ptr, i64) -> !llvm.ptr, f32
    %py = llvm.getelementptr %y[%begin] : (!llvm.ptr, i64) -> !llvm.ptr, f32
    %xv = llvm.load %px {alignment = 4 : i64} : !llvm.ptr -> vector<16xf32>
    %yv = llvm.load %py {alignment = 4 : i64} : !llvm.ptr -> vector<16xf32>
    %r = vector.fma %av, %xv, %yv : vector<16xf32>
    llvm.store %r, %py {alignment = 4 : i64} : vector<16xf32>, !llvm.ptr
    scf.yield
  }
  case 1 {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %count = arith.constant 16 : index
    %zero = arith.constant 0.0 : f32
    %sum = scf.for %i = %c0 to %count step %c1 iter_args(%s = %zero) -> (f32) {
      %i64 = arith.index_cast %i : index to i64
      %p = llvm.getelementptr %y[%i64] : (!llvm.ptr, i64) -> !llvm.ptr, f32
      %v = llvm.load %p : !llvm.ptr -> f32
      %n = arith.addf %s, %v : f32
      scf.yield %n : f32
    }
    %lanes = llvm.load %y {alignment = 4 : i64} : !llvm.ptr -> vector<16xf32>
    %folded = vector.shuffle %lanes, %lanes [8, 9, 10, 11, 12, 13, 14, 15]
      : vector<16xf32>, vector<16xf32>
    %max = vector.reduction <maximumf>, %folded : vector<8xf32> into f32
    %positive = arith.cmpf ogt, %max, %zero : f32
    scf.if %positive {
      llvm.store %sum, %out : f32, !llvm.ptr
    }
    scf.yield
  }
  default {
    scf.yield
  }
  return
}
)mlir";

class Emitter : public testing::Test {
protected:
  Emitter() {
    context.loadDialect<mlir::arith::ArithDialect, mlir::cf::ControlFlowDialect,
                        mlir::func::FuncDialect, mlir::LLVM::LLVMDialect, mlir::scf::SCFDialect,
                        mlir::vector::VectorDialect>();
  }

  mlir::OwningOpRef<mlir::ModuleOp> parse(const std::string &text) {
    auto module = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
    EXPECT_TRUE(module);
    return module;
  }
  mlir::OwningOpRef<mlir::ModuleOp> lowered(const std::string &text) {
    auto module = parse(text);
    Status status = lowerToLLVM(*module);
    EXPECT_TRUE(status) << status.error().line();
    return module;
  }
  std::string assembly(const std::string &text, const char *cpu, const char *features = "") {
    auto module = lowered(text);
    auto target = parseTarget(cpu, features);
    auto code = emitAssembly(*module, target.value(), "entry");
    EXPECT_TRUE(code) << code.error().line();
    return code.value_or("");
  }

  mlir::MLIRContext context;
};

TEST_F(Emitter, LowersEverythingToOneDialect) {
  auto module = lowered(axpy);
  EXPECT_TRUE(mlir::succeeded(mlir::verify(*module)));
  EXPECT_TRUE(module->lookupSymbol<mlir::LLVM::LLVMFuncOp>("entry"));
}

TEST_F(Emitter, WidthFollowsTheTargetAndNotTheHost) {
  std::string wide = assembly(axpy, "avx512");
  EXPECT_THAT(wide, HasSubstr("%zmm"));
  EXPECT_THAT(wide, HasSubstr("vfmadd"));
  std::string narrow = assembly(axpy, "avx2");
  EXPECT_THAT(narrow, Not(HasSubstr("%zmm")));
  EXPECT_THAT(narrow, HasSubstr("%ymm"));
  EXPECT_THAT(narrow, HasSubstr("vfmadd"));
  for (const char *cpu : {"sapphirerapids", "znver5"})
    EXPECT_THAT(assembly(axpy, cpu), HasSubstr("%zmm")) << cpu;
  EXPECT_THAT(assembly(axpy, "haswell"), Not(HasSubstr("%zmm")));
}

TEST_F(Emitter, WideTargetsAreWideWhateverTheyPrefer) {
  // LLVM would copy by halves here: it takes this processor to prefer 256 bits.
  std::string code = assembly(R"mlir(
    func.func @entry(%args: !llvm.ptr, %sizes: !llvm.ptr, %phase: i64, %task: i64,
                     %scratch: !llvm.ptr) {
      "llvm.intr.memcpy.inline"(%args, %scratch) <{isVolatile = false, len = 64 : i64}>
        : (!llvm.ptr, !llvm.ptr) -> ()
      return
    })mlir",
                              "skylake-avx512");
  EXPECT_THAT(code, HasSubstr("%zmm"));
}

TEST_F(Emitter, LoopsKeepTheirShape) {
  // The sum of phase 1 is in order: no fast-math was asked for, so it stays 16 scalar additions in
  // a loop that is not unrolled.
  std::string code = assembly(axpy, "avx512");
  size_t adds = 0;
  for (size_t at = code.find("vaddss"); at != std::string::npos; at = code.find("vaddss", at + 1))
    ++adds;
  EXPECT_EQ(adds, 1u) << code;
}

TEST_F(Emitter, ObjectsSayWhatTheyKeepOnTheStack) {
  auto target = parseTarget("avx2", "").value();
  auto frame = [&](const std::string &text) {
    auto module = lowered(text);
    auto object = emitObject(*module, target, "entry");
    EXPECT_TRUE(object) << object.error().line();
    return stackBytes(*object).value();
  };
  const std::string begin = "func.func @entry(%args: !llvm.ptr, %sizes: !llvm.ptr, %phase: i64, "
                            "%task: i64, %scratch: !llvm.ptr) {\n";
  EXPECT_LE(frame(begin + "return }"), 16);
  // 4 KB that the compiler may not leave out, less the red zone.
  constexpr int64_t redZone = 128;
  EXPECT_GE(frame(begin + R"mlir(
      %c1024 = arith.constant 1024 : i32
      %zero = arith.constant 0.0 : f32
      %kept = llvm.alloca %c1024 x f32 : (i32) -> !llvm.ptr
      %p = llvm.getelementptr %kept[%task] : (!llvm.ptr, i64) -> !llvm.ptr, f32
      llvm.store volatile %zero, %p : f32, !llvm.ptr
      return
    })mlir"),
            4096 - redZone);
}

TEST_F(Emitter, AnObjectThatCannotBeReadIsNoneWithoutSpills) {
  auto target = parseTarget("avx2", "").value();
  auto errorOf = [&](const std::string &object) {
    const Expected<int64_t> bytes = stackBytes(object);
    return bytes ? std::to_string(*bytes) + " bytes" : bytes.error().line();
  };
  EXPECT_THAT(errorOf("no object"), HasSubstr("object file is not usable"));
  EXPECT_FALSE(readMachineCode("no object", target));
  auto module = lowered(axpy);
  std::string object = emitObject(*module, target, "entry").value();
  EXPECT_TRUE(readMachineCode(object, target));
  EXPECT_THAT(errorOf(object), HasSubstr(" bytes"));
  // Its end holds the table of sections.
  EXPECT_FALSE(stackBytes(object.substr(0, object.size() / 2)));
  // One that says nothing of frames.
  const size_t name = object.find(".stack_sizes");
  ASSERT_NE(name, std::string::npos);
  object[name + 1] = 'S';
  EXPECT_THAT(errorOf(object), HasSubstr("no section .stack_sizes"));
}

TEST_F(Emitter, ObjectsAreSelfContainedAndTheSameEachTime) {
  auto module = lowered(axpy);
  auto target = parseTarget("avx512", "").value();
  auto object = emitObject(*module, target, "entry");
  ASSERT_TRUE(object) << object.error().line();
  EXPECT_EQ(object->substr(1, 3), "ELF");
  EXPECT_TRUE(undefinedSymbols(*object)->empty());
  auto again = emitObject(*module, target, "entry");
  ASSERT_TRUE(again);
  EXPECT_EQ(*object, *again);
}

TEST_F(Emitter, CallsToOtherFunctionsAreRefused) {
  auto module = lowered(R"mlir(
    func.func private @expf(f32) -> f32
    func.func @entry(%args: !llvm.ptr, %sizes: !llvm.ptr, %phase: i64, %task: i64,
                     %scratch: !llvm.ptr) {
      %x = llvm.load %args : !llvm.ptr -> f32
      %y = func.call @expf(%x) : (f32) -> f32
      llvm.store %y, %args : f32, !llvm.ptr
      return
    })mlir");
  auto object = emitObject(*module, parseTarget("avx2", "").value(), "entry");
  ASSERT_FALSE(object);
  EXPECT_THAT(object.error().line(), HasSubstr("expf"));
  EXPECT_THAT(object.error().where, HasSubstr("entry"));
}

TEST_F(Emitter, HiddenCallsAreRefused) {
  // Without AVX512-BF16 this is a call of the runtime library for each element.
  auto module = lowered(R"mlir(
    func.func @entry(%args: !llvm.ptr, %sizes: !llvm.ptr, %phase: i64, %task: i64,
                     %scratch: !llvm.ptr) {
      %x = llvm.load %args : !llvm.ptr -> f32
      %y = arith.truncf %x : f32 to bf16
      llvm.store %y, %args : bf16, !llvm.ptr
      return
    })mlir");
  auto object = emitObject(*module, parseTarget("avx2", "").value(), "entry");
  ASSERT_FALSE(object);
  EXPECT_THAT(object.error().why, HasSubstr("__truncsfbf2"));
}

TEST_F(Emitter, CopiesAndFillsMayBeCalls) {
  auto module = lowered(R"mlir(
    func.func @entry(%args: !llvm.ptr, %sizes: !llvm.ptr, %phase: i64, %task: i64,
                     %scratch: !llvm.ptr) {
      "llvm.intr.memcpy"(%args, %scratch, %task) <{isVolatile = false}>
        : (!llvm.ptr, !llvm.ptr, i64) -> ()
      %zero = arith.constant 0 : i8
      "llvm.intr.memset"(%scratch, %zero, %phase) <{isVolatile = false}>
        : (!llvm.ptr, i8, i64) -> ()
      return
    })mlir");
  auto object = emitObject(*module, parseTarget("avx2", "").value(), "entry");
  ASSERT_TRUE(object) << object.error().line();
  EXPECT_THAT(undefinedSymbols(*object).value(), testing::ElementsAre("memcpy", "memset"));
}

TEST_F(Emitter, IntrinsicsOfTheProcessor) {
  std::string code = assembly(R"mlir(
    func.func @entry(%args: !llvm.ptr, %sizes: !llvm.ptr, %phase: i64, %task: i64,
                     %scratch: !llvm.ptr) {
      %acc = llvm.load %args {alignment = 64 : i64} : !llvm.ptr -> vector<16xi32>
      %a = llvm.load %scratch {alignment = 64 : i64} : !llvm.ptr -> vector<16xi32>
      %r = llvm.call_intrinsic "llvm.x86.avx512.vpdpbusd.512"(%acc, %a, %a)
        : (vector<16xi32>, vector<16xi32>, vector<16xi32>) -> vector<16xi32>
      llvm.store %r, %args {alignment = 64 : i64} : vector<16xi32>, !llvm.ptr
      return
    })mlir",
                              "avx512", "+avx512vnni");
  EXPECT_THAT(code, HasSubstr("vpdpbusd"));
}

TEST_F(Emitter, WhatIsNotThereIsAnError) {
  auto module = lowered(axpy);
  auto object = emitObject(*module, parseTarget("avx2", "").value(), "other");
  ASSERT_FALSE(object);
  EXPECT_THAT(object.error().line(), HasSubstr("other"));
  EXPECT_FALSE(undefinedSymbols("not an object"));
  EXPECT_FALSE(undefinedSymbols(""));
}

TEST_F(Emitter, WhatCannotBeLoweredIsAnErrorThatNamesIt) {
  context.allowUnregisteredDialects();
  auto module = parse(R"mlir(
    func.func @entry(%args: !llvm.ptr) {
      "strange.op"() : () -> ()
      return
    })mlir");
  Status status = lowerToLLVM(*module);
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().line(), HasSubstr("strange.op"));
}

} // namespace
