// Weights in planes on the device: packed as the reference packs them, and read by pieces as fast
// code does.
#include "../../support/WeightTypes.h"
#include "DeviceFixture.h"

#include "../../codegen/simt/Kernels.h"
#include "../../compiler/RunFunction.h"
#include "kernelforge/codegen/simt/Elements.h"
#include "kernelforge/codegen/simt/PlaneReader.h"
#include "kernelforge/compiler/Targets.h"
#include "kernelforge/kernels/Layout.h"

#include <cmath>
#include <cstring>
#include <random>

using namespace kernelforge;
using namespace kernelforge::simt;

namespace {

constexpr int64_t planeRows = 5;

/// Bytes as a file may have them: any, but scales and minima of ordinary size.
std::vector<std::byte> anyWeight(const ElementTypeInfo &type, int64_t width) {
  std::mt19937 random(static_cast<unsigned>(type.blockBytes));
  std::vector<std::byte> bytes(planeRows * *rowBytes(type.type, width));
  for (std::byte &byte : bytes)
    byte = static_cast<std::byte>(random());
  std::uniform_real_distribution<float> scale(-2.0f, 2.0f);
  for (size_t block = 0; block < bytes.size(); block += type.blockBytes) {
    for (int offset : {type.scaleOffset, type.minOffset})
      if (offset >= 0 && type.scaleFormat == ScaleFormat::F16) {
        const uint16_t half = floatToHalf(scale(random));
        std::memcpy(bytes.data() + block + offset, &half, 2);
      }
    const float single = scale(random);
    if (type.scaleFormat == ScaleFormat::F32)
      std::memcpy(bytes.data() + block + type.scaleOffset, &single, 4);
    if (type.scaleFormat == ScaleFormat::E8M0)
      bytes[block + type.scaleOffset] = static_cast<std::byte>(120 + random() % 12);
  }
  return bytes;
}

std::string planesText(ElementType type, int64_t width) {
  std::string text = weightText(type, planeRows, width);
  return text.insert(text.size() - 1, ", #transformer.layout<planes>");
}

class WeightPlanes : public DeviceTest, public testing::WithParamInterface<ElementType> {
protected:
  const ElementTypeInfo &type = info(GetParam());
  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;

  transformer::KernelOp parse(const std::string &text) {
    context.loadDialect<transformer::TransformerDialect, mlir::func::FuncDialect>();
    simt::loadDialects(context);
    module = mlir::parseSourceString<mlir::ModuleOp>(text, mlir::ParserConfig(&context));
    return module ? *module->getOps<transformer::KernelOp>().begin() : transformer::KernelOp();
  }

  Target target() { return *(*findGenerator("webgpu"))->parse("", "", &device->info()); }

  /// Runs a kernel of one size, which is `count`, on its arguments.
  std::vector<std::byte> outputOf(const webgpu::WgslKernel &kernel,
                                  const std::vector<BufferRef> &arguments, int64_t bytes,
                                  int64_t count) {
    ProgramMaker maker("f");
    const int n = maker.size("tokens", 1, 64);
    std::vector<int> buffers;
    for (const BufferRef &argument : arguments)
      buffers.push_back(
          maker.argument("in" + std::to_string(buffers.size()), Extent(argument.bytes)));
    buffers.push_back(maker.result("out", Extent(bytes)));
    const int made = maker.kernel("k", kernel.text, kernel.launching.phases, {"tokens"});
    maker.launch(made, buffers, {n});
    const auto program = maker.done();
    const auto executable = load(program);
    const BufferRef out = poisoned(bytes);
    const auto bound = executable ? bind(*executable, {arguments, {out}, {}}) : nullptr;
    if (!bound)
      return {};
    run(*bound, {count});
    return bytesOf(out);
  }
};

/// The phase of a look-up of rows, by pieces: elements at once, or by their signed bytes.
webgpu::WgslKernel lookUpByPieces(transformer::KernelOp kernel, const Target &target,
                                  bool bySignedBytes) {
  mlir::OwningOpRef<mlir::ModuleOp> module = mlir::ModuleOp::create(kernel.getLoc());
  auto lookUp = *kernel.getBody().getOps<transformer::EmbeddingOp>().begin();
  const int64_t width = llvm::cast<mlir::RankedTensorType>(lookUp.getType()).getDimSize(1);
  PhaseBuilder p(*module, kernel, "main");
  simt::PlaneReader reader(p, lookUp.getTable());
  mlir::Value row = p.block();
  mlir::Value id = p.load(p.argument(lookUp.getIds()), row);
  mlir::Value first = p.named(reader.firstPiece(id), "first_piece");
  mlir::Value out = p.result(0, Access::Write, View::Quads);
  p.loop("piece", p.thread(), p.c(reader.piecesOfRow()), simt::threads, [&](mlir::Value number) {
    const simt::PlaneReader::Piece piece = reader.load(p.named(p.add(first, number), "number"));
    const auto scales = reader.scales(piece);
    for (int64_t run = 0; run < reader.runs(); ++run) {
      llvm::SmallVector<mlir::Value> quads = reader.elements(piece, run, scales[run]);
      mlir::Value bytes = bySignedBytes ? reader.signedBytes(piece, run) : mlir::Value();
      for (int64_t i = 0; i < 4; ++i) {
        if (bySignedBytes) {
          llvm::SmallVector<mlir::Value> elements;
          for (int64_t e = 0; e < 4; ++e) {
            mlir::Value q = signedByteToFloat(p, p.shr(p.extract(bytes, i), 8 * e));
            q = p.mulf(q, scales[run].factor);
            elements.push_back(scales[run].minimum ? p.addf(q, scales[run].minimum) : q);
          }
          quads[i] = p.vector(elements);
        }
        mlir::Value at = p.add(p.mul(row, width), p.add(reader.column(number, run), 4 * i));
        writeElement(p, quads[i], out, ElementType::F32, at);
      }
    }
  });
  Launching launching;
  launching.phases.push_back(p.finish(p.rowsExtent(lookUp.getType())));
  auto text = webgpu::wgslText(*module, launching, KernelAnalysis(kernel), target);
  EXPECT_TRUE(text) << text.error().line();
  return {text ? *text : "", launching};
}

} // namespace

TEST_P(WeightPlanes, ArePackedAsTheReferencePacksThem) {
  for (int64_t blocks : {1, 3}) {
    const int64_t width = blocks * type.blockElements;
    const std::string planes = planesText(type.type, width);
    const std::string plain = weightText(type.type, planeRows, width);
    auto kernel = parse(kernelText("%w: " + plain, planes,
                                   fmt::format("%y = transformer.pack %w : {} to {}\n "
                                               "transformer.yield %y : {}",
                                               plain, planes, planes)));
    ASSERT_TRUE(kernel);
    auto code = webgpu::emitWgsl(KernelAnalysis(kernel), target(), "main");
    ASSERT_TRUE(code) << code.error().line();
    const std::vector<std::byte> weight = anyWeight(type, width);
    std::vector<std::byte> expected(
        *layoutBytes(WeightLayout::Planes, type.type, planeRows, width));
    packPlanes(type.type, weight.data(), planeRows, width, expected.data());
    EXPECT_EQ(outputOf(*code, {holding(weight)}, int64_t(expected.size()), 1), expected)
        << blocks << " blocks a row\n"
        << code->text;
  }
}

TEST_P(WeightPlanes, AreReadByPieces) {
  const int64_t width = 3 * type.blockElements;
  const std::string table = planesText(type.type, width), result = rowsText(width);
  auto kernel =
      parse(kernelText("%i: !indices, %t: " + table, result,
                       fmt::format("%y = transformer.embedding %i, %t : (!indices, {}) -> "
                                   "{}\n transformer.yield %y : {}",
                                   table, result, result)));
  ASSERT_TRUE(kernel);
  const std::vector<std::byte> weight = anyWeight(type, width);
  std::vector<std::byte> packed(*layoutBytes(WeightLayout::Planes, type.type, planeRows, width));
  packPlanes(type.type, weight.data(), planeRows, width, packed.data());
  const std::vector<int32_t> ids = {4, 0, 3, 1};
  for (bool bySignedBytes : {false, true}) {
    if (bySignedBytes && !type.hasIntegers())
      continue;
    const webgpu::WgslKernel code = lookUpByPieces(kernel, target(), bySignedBytes);
    const auto bytes = outputOf(code, {holding(ids), holding(packed)},
                                int64_t(ids.size()) * width * 4, int64_t(ids.size()));
    std::vector<float> actual(ids.size() * width), expected(width);
    ASSERT_EQ(bytes.size(), actual.size() * 4);
    std::memcpy(actual.data(), bytes.data(), bytes.size());
    for (size_t i = 0; i < ids.size(); ++i) {
      dequantizeRow(type.type, weight.data() + ids[i] * *rowBytes(type.type, width), width,
                    expected.data());
      float most = 0;
      for (float x : expected)
        most = std::isnan(x) ? most : std::max(most, std::abs(x));
      for (int64_t k = 0; k < width; ++k) {
        if (std::isnan(expected[k])) { // a number e4m3 that is none
          ASSERT_TRUE(std::isnan(actual[i * width + k])) << "row " << ids[i] << ", column " << k;
          continue;
        }
        ASSERT_NEAR(actual[i * width + k], expected[k], most * 1e-6f)
            << "row " << ids[i] << ", column " << k << "\n"
            << code.text;
      }
    }
  }
}

TEST_P(WeightPlanes, AreWhatASessionPacksATiedWeightInto) {
  const std::string table = weightText(type.type, 37, 256), rowsOf = rowsText(256);
  const std::string text = fmt::format(R"mlir(
!ids = tensor<?xi32, #transformer.dims<"tokens">>
func.func @f(%n: index {{transformer.size = #transformer.size<"tokens", 1 to 6>}}, %i: !ids,
             %t: {0} {{transformer.weight = "t"}}) -> {2} {{
  %x = transformer.embedding %i, %t : (!ids, {0}) -> {1}
  %y = transformer.matmul %x weights(%t) : ({1}, {0}) -> {2}
  return %y : {2}
}})mlir",
                                       table, rowsOf, rowsText(37));
  SessionOptions options = testOptions(target());
  options.openDevice = testTarget().createForKernels;
  auto outcome = runFunction(text, options);
  ASSERT_TRUE(outcome) << outcome.error().line();
  EXPECT_TRUE(outcome->isRight()) << outcome->why();

  auto session = Session::create(options);
  ASSERT_TRUE(session) << session.error().line();
  expectGood(
      (*session)->compile(mlir::parseSourceString<mlir::ModuleOp>(text, &(*session)->context())));
  const std::vector<std::byte> weight(37 * *rowBytes(type.type, 256));
  expectGood((*session)->bindWeight("t", type.type, weight));
  EXPECT_EQ((*session)->packedBytes(),
            int64_t(*layoutBytes(WeightLayout::Planes, type.type, 37, 256)));
}

INSTANTIATE_TEST_SUITE_P(All, WeightPlanes, testing::ValuesIn(quantizedWeightTypes()),
                         [](const auto &test) {
                           return std::string(kernelforge::info(test.param).name);
                         });
