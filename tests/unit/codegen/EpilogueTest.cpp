#include "../support/WeightTypes.h"
#include "KernelRunner.h"

#include "kernelforge/codegen/cpu/Epilogue.h"
#include "kernelforge/kernels/Reference.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using cpu::Position;
using cpu::RowExpressions;

namespace {

struct RopeCase {
  int64_t heads, headDim, rotaryDim;
  RopePairing pairing;
};

/// Fast ways, the general one, partial rotation, heads that begin at odd columns.
std::vector<RopeCase> ropeCases() {
  std::vector<RopeCase> cases;
  for (RopePairing pairing : {RopePairing::HalfSplit, RopePairing::Interleaved})
    for (auto [heads, headDim, rotaryDim] :
         std::vector<std::tuple<int64_t, int64_t, int64_t>>{{3, 64, 64},
                                                            {2, 32, 32},
                                                            {3, 16, 16},
                                                            {1, 8, 8},
                                                            {3, 6, 6},
                                                            {3, 64, 32},
                                                            {3, 7, 4},
                                                            {2, 80, 80},
                                                            {5, 20, 10},
                                                            {1, 2, 2}})
      cases.push_back({heads, headDim, rotaryDim, pairing});
  return cases;
}

const char *name(RopePairing pairing) {
  return pairing == RopePairing::HalfSplit ? "half_split" : "interleaved";
}

/// Types of rows of `width`, and a matmul %t of %x that stands for a root.
std::string rootKernel(int64_t width, const std::string &arguments, const std::string &results,
                       const std::string &body) {
  return fmt::format(R"mlir(
!rows = tensor<?x{0}xf32, #transformer.dims<"tokens">>
!indices = tensor<?xi32, #transformer.dims<"tokens">>
transformer.kernel @k(%n: index {{transformer.size = #transformer.size<"tokens", 1 to 64>}},
                      %x: !rows, %w: tensor<{0}x{0}xf32>{1}) {2} {{
  {3}
}})mlir",
                     width, arguments, results, body);
}

/// Stores all sinks of a kernel whose root's result is simply its input: what an emitter with a
/// tile does, row by row.
Expected<Launching> emitWithBoundRoot(mlir::ModuleOp module, transformer::KernelOp kernel,
                                      const Target &target, llvm::StringRef entry) {
  KF_CHECK(cpu::checkRowwise(kernel));
  cpu::KernelBuilder k(module, kernel, target, entry);
  RowExpressions rows(k);
  const KernelAnalysis analysis(kernel);
  transformer::MatmulOp matmul = analysis.matmul();
  mlir::Value input = matmul.getInput();
  // Through a second instance: the input is evaluated as a prologue is.
  RowExpressions prologue(k);
  rows.bind(matmul.getOutputs()[0], [&](const Position &p) { return prologue.evaluate(input, p); });
  mlir::Type type = matmul.getOutputs()[0].getType();
  k.loop(k.c(0), k.rows(type), 1, [&](mlir::Value row) {
    prologue.prepareRow(input, row);
    for (const Sink &sink : analysis.sinks()) {
      rows.prepareRow(sink.value, row);
      int64_t width = llvm::cast<mlir::RankedTensorType>(sink.value.getType()).getDimSize(1);
      rows.forEachVector(row, width, [&](const Position &p) { rows.store(sink, p); });
    }
  });
  k.finish();
  Launching launching;
  launching.phases.push_back(Phase{});
  return launching;
}

/// Stores what the kernel yields with each sixteen columns in reverse order, read by `columns`.
Expected<Launching> emitReversed(mlir::ModuleOp module, transformer::KernelOp kernel,
                                 const Target &target, llvm::StringRef entry) {
  KF_CHECK(cpu::checkRowwise(kernel));
  cpu::KernelBuilder k(module, kernel, target, entry);
  RowExpressions rows(k);
  const Sink sink = KernelAnalysis(kernel).sinks().front();
  auto type = llvm::cast<mlir::RankedTensorType>(sink.value.getType());
  k.loop(k.c(0), k.rows(type), 1, [&](mlir::Value row) {
    rows.prepareRow(sink.value, row);
    rows.forEachVector(row, type.getDimSize(1), [&](const Position &p) {
      mlir::Value last = k.b.create<mlir::arith::TruncIOp>(
          k.loc, k.i32, k.min(k.add(p.col, 15), k.c(type.getDimSize(1) - 1)));
      mlir::Value columns = k.b.create<mlir::arith::SubIOp>(k.loc, k.broadcast(last), k.iota());
      mlir::Value x = rows.evaluate(sink.value, {row, {}, columns, p.mask});
      mlir::Value offset = k.add(k.mul(row, type.getDimSize(1)), p.col);
      k.storeVec(x, k.at(k.result(0), k.mul(offset, 4)), p.mask);
    });
  });
  k.finish();
  Launching launching;
  launching.phases.push_back(Phase{});
  return launching;
}

/// Each sixteen columns of each row in reverse order.
std::vector<double> reversed(const std::vector<float> &values, int64_t width) {
  std::vector<double> result(values.begin(), values.end());
  for (size_t row = 0; row < result.size(); row += width)
    for (int64_t col = 0; col < width; col += 16)
      std::reverse(result.begin() + row + col, result.begin() + row + std::min(col + 16, width));
  return result;
}

CompiledKernel compileWith(const CompiledKernel::Emitter &emitter, const std::string &text,
                           const std::string &level) {
  auto kernel = CompiledKernel::compileWith(emitter, text, level);
  if (!kernel)
    ADD_FAILURE() << kernel.error().line();
  return std::move(kernel.value());
}

} // namespace

TEST(Epilogue, RopeOfARootAndOfReversedColumns) {
  const int64_t rows = 3, context = 11;
  const std::vector<int32_t> positions{10, 0, 4};
  for (const RopeCase &test : ropeCases()) {
    const int64_t width = test.heads * test.headDim;
    std::string what = fmt::format("{} heads of {}, {} rotate, {}", test.heads, test.headDim,
                                   test.rotaryDim, name(test.pairing));
    std::string rope = fmt::format(
        "%y = transformer.rope %t, %p, %table <{0}> {{headDim = {1} : i64}} : "
        "(!rows, !indices, tensor<11x{2}xf32>) -> !rows\n  transformer.yield %y : !rows",
        name(test.pairing), test.headDim, test.rotaryDim);
    std::string arguments =
        fmt::format(", %p: !indices, %table: tensor<11x{}xf32>", test.rotaryDim);
    std::string rooted = rootKernel(
        width, arguments, "-> !rows",
        fmt::format("%t = transformer.matmul %x weights(%w) : (!rows, tensor<{0}x{0}xf32>) "
                    "-> !rows\n",
                    width) +
            rope);
    std::string plain =
        rootKernel(width, arguments, "-> !rows",
                   "%t = transformer.scale %x {factor = 1.0 : f64} : !rows\n" + rope);
    std::vector<float> x = randomFloats(rows * width, 1),
                       table = randomFloats(context * test.rotaryDim, 2);
    std::vector<float> expected(x.size());
    reference::rope(reference::denseRows<const float>(x.data(), rows, width), positions,
                    reference::denseRows<const float>(table.data(), context, test.rotaryDim),
                    test.headDim, test.pairing, reference::denseRows(expected.data(), rows, width));
    std::vector<Bytes> given{bytesOf(x), Bytes(width * width * 4), bytesOf(positions),
                             bytesOf(table)};
    for (const std::string &level : runnableLevels()) {
      auto direct = compileWith(emitWithBoundRoot, rooted, level).run({rows}, given);
      expectClose(valuesOf<float>(direct.results[0]), widened(expected), what + " on " + level);
      auto backwards = compileWith(emitReversed, plain, level).run({rows}, given);
      expectClose(valuesOf<float>(backwards.results[0]), reversed(expected, width),
                  what + ", reversed, on " + level);
    }
  }
}

TEST(Epilogue, PrologueAndEpilogueWithCacheAppend) {
  // As in a decoder: norm of picked rows, root, bias-like add, rope, append, and the sum as result.
  const int64_t rows = 4, width = 48, dim = 16, context = 7, slots = 6;
  std::string text = rootKernel(
      width,
      ", %norm: tensor<48xf32>, %picked: !indices, %r: !rows, %p: !indices, "
      "%table: tensor<7x16xf32>, %slots: !indices, %cache: !transformer.cache<3, 16, f32>",
      "-> !rows", R"mlir(
  %g = transformer.gather_rows %x, %picked : (!rows, !indices) -> !rows
  %in = transformer.rms_norm %g, %norm {epsilon = 1.0e-6 : f64} : (!rows, tensor<48xf32>) -> !rows
  %t = transformer.matmul %in weights(%w) : (!rows, tensor<48x48xf32>) -> !rows
  %sum = transformer.add %t, %r : !rows
  %key = transformer.rope %sum, %p, %table <half_split> {headDim = 16 : i64}
      : (!rows, !indices, tensor<7x16xf32>) -> !rows
  transformer.cache_append %key, %slots into %cache
      : !transformer.cache<3, 16, f32>, !rows, !indices
  transformer.yield %sum : !rows)mlir");
  auto dense = [&](auto &values) {
    return reference::denseRows(values.data(), static_cast<int64_t>(values.size()) / width, width);
  };
  std::vector<float> x = randomFloats(rows * width, 1), norm = randomFloats(width, 2),
                     r = randomFloats(rows * width, 3), table = randomFloats(context * dim, 4),
                     cache = randomFloats(slots * width, 5);
  std::vector<int32_t> picked{3, 3, 0, 1}, positions{6, 0, 2, 3}, places{5, -1, 0, 2};
  std::vector<float> g(x.size()), in(x.size()), sum(x.size()), key(x.size()), cached = cache;
  reference::gatherRows(dense(x), picked, dense(g));
  reference::rmsNorm(dense(g), norm, 1e-6, dense(in));
  reference::add(dense(in), dense(r), dense(sum));
  reference::rope(dense(sum), positions,
                  reference::denseRows<const float>(table.data(), context, dim), dim,
                  RopePairing::HalfSplit, dense(key));
  reference::cacheAppend(dense(key), places,
                         {ElementType::F32, reinterpret_cast<std::byte *>(cached.data()), 3, dim});
  for (const std::string &level : runnableLevels()) {
    auto outcome = compileWith(emitWithBoundRoot, text, level)
                       .run({rows}, {bytesOf(x), Bytes(width * width * 4), bytesOf(norm),
                                     bytesOf(picked), bytesOf(r), bytesOf(positions),
                                     bytesOf(table), bytesOf(places), bytesOf(cache)});
    expectClose(valuesOf<float>(outcome.results[0]), widened(sum), "sum on " + level);
    expectClose(valuesOf<float>(outcome.arguments[8]), widened(cached), "cache on " + level);
  }
}

TEST(Epilogue, ParametersOfEveryTypeReadByColumns) {
  for (ElementType type : {ElementType::F32, ElementType::F16, ElementType::BF16})
    for (int64_t width : {7, 16, 33}) {
      std::string vector = fmt::format("tensor<{}x{}>", width, info(type).name);
      std::string text = rootKernel(
          width, ", %a: " + vector, "-> !rows",
          fmt::format("%y = transformer.layer_norm %x, %a, %a {{epsilon = 1.0e-5 : f64}} : "
                      "(!rows, {0}, {0}) -> !rows\n  transformer.yield %y : !rows",
                      vector));
      std::vector<float> x = randomFloats(2 * width, 1), a = randomFloats(width, 2);
      Bytes stored(*rowBytes(type, width));
      quantizeRow(type, a.data(), width, stored.data());
      dequantizeRow(type, stored.data(), width, a.data());
      std::vector<float> expected(x.size());
      reference::layerNorm(reference::denseRows<const float>(x.data(), 2, width), a, a, 1e-5,
                           reference::denseRows(expected.data(), 2, width));
      for (const std::string &level : runnableLevels()) {
        std::string what = fmt::format("{} {} on {}", info(type).name, width, level);
        std::vector<Bytes> given{bytesOf(x), Bytes(width * width * 4), stored};
        auto straight = compileOrDie(text, level).run({2}, given, 2);
        expectClose(valuesOf<float>(straight.results[0]), widened(expected), what);
        auto backwards = compileWith(emitReversed, text, level).run({2}, given, 2);
        expectClose(valuesOf<float>(backwards.results[0]), reversed(expected, width), what);
      }
    }
}

TEST(Epilogue, EmbeddingReadByColumns) {
  const int64_t rows = 3, vocabulary = 20, width = 256;
  const std::vector<int32_t> ids{19, 0, 16};
  for (ElementType type : weightTypes())
    for (bool interleaved : {false, true}) {
      std::string table = weightText(type, vocabulary, width, interleaved);
      std::string text =
          rootKernel(width, ", %ids: !indices, %table: " + table, "-> !rows",
                     fmt::format("%y = transformer.embedding %ids, %table {{scale = 0.5 : f64}} : "
                                 "(!indices, {}) -> !rows\n  transformer.yield %y : !rows",
                                 table));
      Bytes weight = randomWeight(type, vocabulary, width, 3);
      const size_t bytes = *rowBytes(type, width);
      std::vector<float> expected(rows * width);
      for (int64_t r = 0; r < rows; ++r)
        dequantizeRow(type, weight.data() + ids[r] * bytes, width, &expected[r * width]);
      for (float &value : expected)
        value *= 0.5f;
      if (interleaved)
        weight = packedWeight(type, weight, vocabulary, width);
      for (const char *level : {"native", "avx2"}) {
        auto outcome =
            compileWith(emitReversed, text, level)
                .run({rows},
                     {Bytes(rows * width * 4), Bytes(width * width * 4), bytesOf(ids), weight}, 4);
        EXPECT_EQ(widened(valuesOf<float>(outcome.results[0])), reversed(expected, width))
            << table << " on " << level;
      }
    }
}
