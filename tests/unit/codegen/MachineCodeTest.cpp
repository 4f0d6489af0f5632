// What is read of machine code: registers, and the stack within inner loops.
#include "kernelforge/codegen/cpu/MachineCode.h"
#include "kernelforge/codegen/CodeGenerator.h"
#include "kernelforge/codegen/LowerToLLVM.h"
#include "kernelforge/codegen/cpu/Generator.h"
#include "kernelforge/codegen/cpu/ObjectEmitter.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Parser/Parser.h"

using namespace kernelforge;
using testing::HasSubstr;
using testing::IsEmpty;

namespace {

/// A loop over i that carries `sums` vectors of 16 f32, each of which is added to by an element of
/// its own. With `isOuter` there is a loop of integers within it, which carries one number.
std::string loopText(int sums, bool isOuter) {
  std::string names, inits, types, sources, steps, results, stores;
  for (int s = 0; s < sums; ++s) {
    const char *comma = s == 0 ? "" : ", ";
    names += fmt::format("{}%s{} = %v{}", comma, s, s);
    types += fmt::format("{}vector<16xf32>", comma);
    results += fmt::format("{}%n{}", comma, s);
    inits +=
        fmt::format("  %p{0} = llvm.getelementptr %scratch[{1}] : (!llvm.ptr) -> !llvm.ptr, i8\n"
                    "  %v{0} = llvm.load %p{0} {{alignment = 4 : i64}} : !llvm.ptr -> "
                    "vector<16xf32>\n",
                    s, s * 64);
    steps += fmt::format("    %n{0} = vector.fma %x, %x, %s{0} : vector<16xf32>\n", s);
    stores += fmt::format("  llvm.store %all#{0}, %p{0} {{alignment = 4 : i64}} : vector<16xf32>, "
                          "!llvm.ptr\n",
                          s);
  }
  const char *inner = R"(
    %count = scf.for %j = %c0 to %many step %c1 iter_args(%c = %i) -> (index) {
      %r = arith.muli %c, %c : index
      %q = arith.addi %r, %j : index
      scf.yield %q : index
    }
    %at = arith.index_cast %count : index to i64
)";
  const char *plain = "    %at = arith.index_cast %i : index to i64\n";
  return fmt::format(R"(
func.func @entry(%args: !llvm.ptr, %sizes: !llvm.ptr, %phase: i64, %task: i64, %scratch: !llvm.ptr) {{
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %many = arith.index_cast %task : i64 to index
{}  %all:{} = scf.for %i = %c0 to %many step %c1 iter_args({}) -> ({}) {{
{}    %a = llvm.getelementptr %args[%at] : (!llvm.ptr, i64) -> !llvm.ptr, f32
    %e = llvm.load %a : !llvm.ptr -> f32
    %x = vector.broadcast %e : f32 to vector<16xf32>
{}    scf.yield {} : {}
  }}
{}  return
}})",
                     inits, sums, names, types, isOuter ? inner : plain, steps, results, types,
                     stores);
}

class Code : public testing::Test {
protected:
  Code() {
    mlir::DialectRegistry registry;
    cpu::createGenerator()->registerDialects(registry);
    context.appendDialectRegistry(registry);
    context.loadAllAvailableDialects();
  }

  MachineCode read(const std::string &text, const char *level) {
    const Target target = parseTarget(level, "").value();
    auto module = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
    if (!module || !lowerToLLVM(*module)) {
      ADD_FAILURE() << "the text is not usable:\n" << text;
      return {};
    }
    return readMachineCode(emitObject(*module, target, "entry").value(), target).value();
  }

  mlir::MLIRContext context;
};

TEST_F(Code, ALoopThatCarriesMoreThanThereIsSpills) {
  // A vector of 16 is two registers of AVX2, and 16 there are; with AVX-512 they are 32.
  const MachineCode few = read(loopText(6, false), "avx2");
  EXPECT_THAT(few.spillingLoops, IsEmpty());
  EXPECT_GE(few.vectorRegisters, 12);
  EXPECT_LE(few.vectorRegisters, 16);
  const MachineCode many = read(loopText(12, false), "avx2");
  EXPECT_EQ(many.vectorRegisters, 16);
  ASSERT_EQ(many.spillingLoops.size(), 1u);
  const SpillingLoop &loop = many.spillingLoops.front();
  EXPECT_THAT(loop.spills.front(), HasSubstr("(%rsp)"));
  EXPECT_GT(loop.instructions, int64_t(loop.spills.size()));
  EXPECT_THAT(read(loopText(12, false), "avx512").spillingLoops, IsEmpty());
  EXPECT_FALSE(read(loopText(40, false), "avx512").spillingLoops.empty());
}

TEST_F(Code, OnlyInnermostLoopsCount) {
  EXPECT_THAT(read(loopText(12, true), "avx2").spillingLoops, IsEmpty());
}

} // namespace
