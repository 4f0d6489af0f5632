// Vectors, subgroups and matrices as WGSL.
#include "Kernels.h"

#include "kernelforge/codegen/simt/Builder.h"
#include "kernelforge/codegen/simt/Elements.h"
#include "kernelforge/codegen/webgpu/Wgsl.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using namespace mlir;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

namespace {

/// A phase of a kernel of two rows of numbers, written by hand.
class WgslValues : public testing::Test {
protected:
  WgslValues() {
    context.loadDialect<transformer::TransformerDialect>();
    simt::loadDialects(context);
    const std::string rows = rowsText(64);
    parsed = parseSourceString<ModuleOp>(
        kernelText("%x: " + rows + ", %h: " + rowsText(64, "f16"), rows,
                   "%y = transformer.add %x, %x : " + rows + "\n transformer.yield %y : " + rows),
        ParserConfig(&context));
    kernel = *parsed->getOps<transformer::KernelOp>().begin();
    module = ModuleOp::create(UnknownLoc::get(&context));
    p.emplace(*module, kernel, "main");
  }

  Value argument(unsigned i, simt::View view) {
    return p->argument(kernel.getBody().getArgument(kernel.getNumSizes() + i), Access::Read, view);
  }

  std::string print(const webgpu::WgslOptions &options = {}) {
    Launching launching;
    launching.phases.push_back(p->finish(1));
    auto text = webgpu::printWgsl(*module, launching, options);
    return text ? *text : text.error().line();
  }

  MLIRContext context;
  OwningOpRef<ModuleOp> parsed, module;
  transformer::KernelOp kernel;
  std::optional<simt::PhaseBuilder> p;
};

} // namespace

TEST_F(WgslValues, WhatIsAddedToACarriedValueIsAddedInPlace) {
  Value in = argument(0, simt::View::Quads), out = p->result(0, Access::Write, simt::View::Quads);
  auto sums = p->loop("k", p->c(0), p->c(16), 2, "sum", {p->splat(p->cf(0), 4)},
                      [&](Value k, ValueRange carried) {
                        Value sum = carried[0];
                        for (int64_t i = 0; i < 2; ++i) {
                          Value x = p->named(p->loadVector(in, p->add(k, i)), "x");
                          sum = p->fma(p->extract(x, i), x, sum);
                        }
                        return SmallVector<Value>{sum};
                      });
  p->storeVector(p->addf(sums[0], p->cf(1)), out, p->thread());
  EXPECT_THAT(print(), HasSubstr(R"(  var sum = vec4<f32>(0.0);
  for (var k = 0u; k < 16u; k += 2u) {
    let x = input[k];
    sum = fma(vec4<f32>(x.x), x, sum);
    let x_1 = input[k + 1u];
    sum = fma(vec4<f32>(x_1.y), x_1, sum);
  }
  output[thread] = sum + 1.0;
)"));
}

TEST_F(WgslValues, HalvesWithTheFeature) {
  Value halves = argument(1, simt::View::Quads),
        out = p->result(0, Access::Write, simt::View::Quads);
  Value x = p->named(p->halvesToFloats(p->loadVector(halves, p->thread())), "x");
  Value words = p->floatsToHalves(p->mulf(x, x));
  p->storeVector(p->halvesToFloats(words), out, p->thread());
  webgpu::WgslOptions options;
  options.f16 = true;
  EXPECT_THAT(print(options), AllOf(HasSubstr("enable f16;\n"), HasSubstr("array<vec2<u32>>"),
                                    HasSubstr("let x = unpack_halves(unused[thread]);"),
                                    HasSubstr("unpack_halves(to_halves_4(x * x))")));
}

TEST_F(WgslValues, HalvesWithoutTheFeature) {
  Value halves = argument(1, simt::View::Quads),
        out = p->result(0, Access::Write, simt::View::Quads);
  Value words = p->named(p->loadVector(halves, p->thread()), "words");
  Value x = p->named(p->halvesToFloats(words), "x");
  p->storeVector(p->halvesToFloats(p->named(p->floatsToHalves(p->mulf(x, x)), "y")), out,
                 p->thread());
  EXPECT_THAT(print(), AllOf(Not(HasSubstr("enable")), HasSubstr("let x = unpack_halves(words);"),
                             HasSubstr("let y = pair_halves_4(round_to_f16_4(x * x));"),
                             HasSubstr("fn round_to_f16_4(x: vec4<f32>) -> vec4<u32> {")));
}

TEST_F(WgslValues, SubgroupsAndDotProductsSayWhatTheyNeed) {
  Value words = argument(1, simt::View::Words4), out = p->result(0);
  Value four = p->named(p->loadVector(words, p->lane()), "four");
  Value dot = p->dotOfBytes(p->extract(four, int64_t(0)), p->extract(four, 1));
  Value sum = p->subgroupReduce(p->signedToFloat(dot), gpu::AllReduceOperation::ADD);
  p->store(p->addf(sum, p->shuffleXor(sum, 4, 8)), out, p->thread());
  EXPECT_THAT(print(),
              AllOf(HasSubstr("enable subgroups;\nrequires packed_4x8_integer_dot_product;\n"),
                    HasSubstr("@builtin(subgroup_invocation_id) lane: u32"),
                    HasSubstr("subgroupAdd(f32(dot4I8Packed(four.x, four.y)))"),
                    HasSubstr("subgroupShuffleXor(")));
}

TEST_F(WgslValues, MatricesAreLoadedFromWordsAndMultipliedInPlace) {
  Value shared = p->shared("tile", p->vec(p->i32, 4), 128), out = p->result(0);
  using Side = simt::PhaseBuilder::Side;
  Type left = p->matrix(Side::Left, p->b.getF16Type(), 16, 32);
  Type right = p->matrix(Side::Right, p->b.getF16Type(), 32, 8);
  auto sums =
      p->loop("k", p->c(0), p->c(4), 1, "sum", {p->zeroMatrix(p->matrix(Side::Sum, p->f32, 16, 8))},
              [&](Value k, ValueRange carried) {
                Value a = p->named(p->loadMatrix(left, shared, k, 5), "a");
                Value b = p->named(p->loadMatrix(right, shared, p->c(64), 5, true), "b");
                return SmallVector<Value>{p->multiplyMatrices(a, b, carried[0])};
              });
  p->storeMatrix(p->scaleMatrix(sums[0], p->cf(0.5)), shared, p->c(0), 4);
  p->barrier();
  p->store(simt::readElement(*p, shared, ElementType::F32, p->thread()), out, p->thread());
  EXPECT_THAT(print(), AllOf(HasSubstr("enable f16;\nenable subgroups;\n"
                                       "enable chromium_experimental_subgroup_matrix;\n"),
                             HasSubstr("var<workgroup> tile: array<vec4<u32>, 128>;"),
                             HasSubstr(R"(  var sum = subgroup_matrix_result<f32, 8, 16>();
  for (var k = 0u; k < 4u; k++) {
    let a = subgroupMatrixLoad<subgroup_matrix_left<f16, 32, 16>, row_major>(&tile, k, 5u);
    let b = subgroupMatrixLoad<subgroup_matrix_right<f16, 8, 32>, col_major>(&tile, 64u, 5u);
    sum = subgroupMatrixMultiplyAccumulate(a, b, sum);
  }
)"),
                             HasSubstr("subgroupMatrixScalarMultiply(sum, 0.5)"),
                             HasSubstr("bitcast<f32>(tile[thread >> 2u][thread & 3u])")));
}

// What a branch made of a carried matrix or left as it was is multiplied in place; and what
// compiles matrices is told that threads come together, for one barrier instead of two.
TEST_F(WgslValues, ABranchChangesTheMatrixThatIsAddedTo) {
  Value shared = p->shared("tile", p->vec(p->i32, 4), 128), flag = p->shared("flag", p->i32, 1);
  using Side = simt::PhaseBuilder::Side;
  Type left = p->matrix(Side::Left, p->b.getF16Type(), 16, 16);
  Type right = p->matrix(Side::Right, p->b.getF16Type(), 16, 16);
  Type sum = p->matrix(Side::Sum, p->f32, 16, 16);
  auto sums = p->loop(
      "k", p->c(0), p->c(4), 1, "sum", {p->zeroMatrix(sum)}, [&](Value k, ValueRange carried) {
        p->store(k, flag, p->c(0));
        Value isSet = p->cmp(arith::CmpIPredicate::eq, p->loadUniform(flag, 0), p->c(2));
        Value scaled = p->ifElse(
            "scaled", isSet, TypeRange(sum),
            [&] {
              p->storeMatrix(carried[0], shared, p->c(64), 4);
              p->barrier();
              return SmallVector<Value>{p->named(p->loadMatrix(sum, shared, p->c(64), 4), "again")};
            },
            [&] { return SmallVector<Value>{carried[0]}; })[0];
        Value a = p->named(p->loadMatrix(left, shared, k, 2), "a");
        Value b = p->named(p->loadMatrix(right, shared, k, 2), "b");
        return SmallVector<Value>{p->multiplyMatrices(a, b, scaled)};
      });
  p->storeMatrix(sums[0], shared, p->c(0), 4);
  EXPECT_THAT(print(),
              AllOf(HasSubstr("enable chromium_disable_uniformity_analysis;\n"),
                    HasSubstr(R"(    workgroupBarrier();
    let at = flag[0u];
    if (at == 2u) {
      subgroupMatrixStore<row_major>(&tile, 64u, sum, 4u);
      workgroupBarrier();
      let again = subgroupMatrixLoad<subgroup_matrix_result<f32, 16, 16>, row_major>(&tile, 64u,
          4u);
      sum = again;
    }
)"),
                    HasSubstr("    sum = subgroupMatrixMultiplyAccumulate(a, b, sum);\n")));
}

TEST_F(WgslValues, ABranchChangesTheVariableThatItIsCarriedIn) {
  Value in = argument(0, simt::View::Quads), out = p->result(0, Access::Write, simt::View::Quads);
  auto fetched = [&](Value k, Value piece) {
    return p->ifElse(
        "next", p->lessThan(k, p->c(7)), TypeRange(piece.getType()),
        [&] { return SmallVector<Value>{p->loadVector(in, k)}; },
        [&] { return SmallVector<Value>{piece}; })[0];
  };
  // Nothing reads the first one's old value afterwards; the second one's is stored behind.
  Value first = p->loadVector(in, p->c(0));
  p->loop("k", p->c(0), p->c(8), 1, "piece kept", {first, first}, [&](Value k, ValueRange carried) {
    p->storeVector(carried[0], out, k);
    SmallVector<Value> next{fetched(k, carried[0]), fetched(k, carried[1])};
    p->storeVector(carried[1], out, p->add(k, 8));
    return next;
  });
  EXPECT_THAT(print(), HasSubstr(R"(    output[k] = piece;
    if (k < 7u) {
      piece = input[k];
    }
    var next = vec4<f32>();
    if (k < 7u) {
      next = input[k];
    } else {
      next = kept;
    }
    output[k + 8u] = kept;
    kept = next;
)"));
}

// Branches within a branch change it, too, on both sides; not where something else reads it there.
TEST_F(WgslValues, BranchesWithinABranchChangeTheVariable) {
  Value in = argument(0, simt::View::Quads), out = p->result(0, Access::Write, simt::View::Quads);
  Value first = p->loadVector(in, p->c(0));
  auto few = [&](Value k, Value piece) {
    return p->ifElse(
        "share", p->lessThan(p->thread(), p->c(4)), TypeRange(piece.getType()),
        [&] { return SmallVector<Value>{p->loadVector(in, k)}; },
        [&] { return SmallVector<Value>{piece}; });
  };
  p->loop("k", p->c(0), p->c(8), 1, "piece", {first}, [&](Value k, ValueRange carried) {
    p->storeVector(carried[0], out, k);
    return p->ifElse(
        "next", p->lessThan(k, p->c(7)), carried.getTypes(), [&] { return few(k, carried[0]); },
        [&] { return SmallVector<Value>{p->loadVector(in, p->c(9))}; });
  });
  p->loop("k", p->c(0), p->c(8), 1, "kept", {first}, [&](Value k, ValueRange carried) {
    return p->ifElse(
        "next", p->lessThan(k, p->c(7)), carried.getTypes(),
        [&] {
          const SmallVector<Value> changed = few(k, carried[0]);
          p->storeVector(carried[0], out, k);
          return changed;
        },
        [&] { return SmallVector<Value>(carried); });
  });
  EXPECT_THAT(print(), AllOf(HasSubstr(R"(    if (k < 7u) {
      if (thread < 4u) {
        piece = input[k];
      }
    } else {
      piece = input[9u];
    }
)"),
                             HasSubstr("      output[k_1] = kept;\n      next = share;\n")));
}
