#include "KernelRunner.h"

#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/codegen/LowerToLLVM.h"
#include "kernelforge/codegen/cpu/Emit.h"
#include "kernelforge/codegen/cpu/ObjectEmitter.h"
#include "kernelforge/kernels/Layout.h"
#include "kernelforge/support/CounterRandom.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <sys/mman.h>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Parser/Parser.h"

namespace kernelforge {

namespace {

/// All ones is a NaN in f32, f16 and bf16, and -1 as an integer.
constexpr std::byte poison{0xff};
constexpr size_t page = 4096;

size_t roundUp(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// Memory whose end lies against a page that cannot be touched; what lies before it and between it
/// and that page is poisoned and looked at afterwards.
class GuardedBuffer {
public:
  GuardedBuffer(size_t bytes, size_t alignment, const Bytes *content = nullptr) : bytes(bytes) {
    mapped = roundUp(bytes + page, page) + page;
    void *memory =
        mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
      std::abort();
    base = static_cast<std::byte *>(memory);
    begin = base + (mapped - page - roundUp(bytes, alignment));
    std::fill(base, base + mapped - page, poison);
    if (mprotect(base + mapped - page, page, PROT_NONE) != 0)
      std::abort();
    if (content)
      std::copy(content->begin(), content->end(), begin);
  }
  ~GuardedBuffer() { munmap(base, mapped); }
  GuardedBuffer(const GuardedBuffer &) = delete;
  GuardedBuffer &operator=(const GuardedBuffer &) = delete;

  void *data() const { return begin; }
  Bytes content() const { return Bytes(begin, begin + bytes); }
  void fill() { std::fill(begin, begin + bytes, poison); }

  bool guardsAreIntact() const {
    auto intact = [](std::byte value) { return value == poison; };
    return std::all_of(base, begin, intact) &&
           std::all_of(begin + bytes, base + mapped - page, intact);
  }

private:
  size_t bytes, mapped;
  std::byte *base, *begin;
};

} // namespace

Expected<CompiledKernel> CompiledKernel::compile(const std::string &text, const std::string &level,
                                                 const Knobs &knobs, int64_t threads) {
  std::string orderClass;
  auto scheduler = [&](transformer::KernelOp kernel, const Target &target) -> Status {
    KF_TRY(ScheduleSpace space, cpu::scheduleSpace(KernelAnalysis(kernel), target, threads));
    const KnobValues given = space.complete(KnobValues(knobs.begin(), knobs.end()));
    kernel.setScheduleAttr(scheduleAttr(kernel.getContext(), given));
    KF_CHECK(space.check(given));
    orderClass = space.orderClass(given);
    return {};
  };
  auto emitter = [](mlir::ModuleOp module, transformer::KernelOp kernel, const Target &target,
                    llvm::StringRef entry) {
    return cpu::emitKernel(module, KernelAnalysis(kernel), target, entry);
  };
  KF_TRY(CompiledKernel result, compile(text, level, scheduler, emitter));
  result.orderClass = std::move(orderClass);
  return result;
}

Expected<CompiledKernel> CompiledKernel::compileWith(const Emitter &emitter,
                                                     const std::string &text,
                                                     const std::string &level) {
  auto none = [](transformer::KernelOp, const Target &) -> Status { return {}; };
  return compile(text, level, none, emitter);
}

Expected<CompiledKernel> CompiledKernel::compile(const std::string &text, const std::string &level,
                                                 const Scheduler &scheduler,
                                                 const Emitter &emitter) {
  CompiledKernel result;
  result.context = std::make_shared<mlir::MLIRContext>(mlir::MLIRContext::Threading::DISABLED);
  result.context->loadDialect<transformer::TransformerDialect, mlir::LLVM::LLVMDialect,
                              mlir::func::FuncDialect, mlir::arith::ArithDialect,
                              mlir::scf::SCFDialect, mlir::vector::VectorDialect>();
  std::string diagnostics;
  mlir::ScopedDiagnosticHandler handler(result.context.get(), [&](mlir::Diagnostic &diagnostic) {
    diagnostics += diagnostic.str() + "; ";
    return mlir::success();
  });
  auto parsed = mlir::parseSourceString<mlir::ModuleOp>(text, result.context.get());
  if (!parsed)
    return unusable("kernel does not parse", text, diagnostics);
  // The context must die last: the module's deleter holds it.
  result.module = std::shared_ptr<mlir::OwningOpRef<mlir::ModuleOp>>(
      new mlir::OwningOpRef<mlir::ModuleOp>(std::move(parsed)),
      [context = result.context](mlir::OwningOpRef<mlir::ModuleOp> *module) { delete module; });
  auto kernels = (*result.module)->getOps<transformer::KernelOp>();
  if (kernels.empty())
    return unusable("test is not usable", text, "it has no kernel");
  result.kernel = *kernels.begin();

  KF_TRY(Target target, parseTarget("", level));
  KF_CHECK(scheduler(result.kernel, target));
  llvm::raw_string_ostream(result.schedule) << result.kernel.getScheduleAttr();

  mlir::OwningOpRef<mlir::ModuleOp> emitted =
      mlir::ModuleOp::create(mlir::UnknownLoc::get(result.context.get()));
  KF_TRY(result.launching, emitter(*emitted, result.kernel, target, "entry"));
  if (std::getenv("KERNELFORGE_TEST_DUMP"))
    emitted->dump();
  KF_CHECK(lowerToLLVM(*emitted));
  KF_TRY(result.object, emitObject(*emitted, target, "entry"));
  Artifact artifact;
  artifact.kernel = artifact.entry = "entry";
  artifact.code = result.object;
  KF_TRY(std::unique_ptr<LoadedCode> code, LoadedCode::load({&artifact, 1}));
  result.code = std::move(code);
  return result;
}

KernelOutcome CompiledKernel::run(const std::vector<int64_t> &sizes,
                                  const std::vector<Bytes> &arguments, size_t alignment) const {
  KernelOutcome forward = runOnce(sizes, arguments, alignment, /*reverse=*/false);
  KernelOutcome backward = runOnce(sizes, arguments, alignment, /*reverse=*/true);
  EXPECT_TRUE(forward.results == backward.results && forward.arguments == backward.arguments)
      << "results depend on the order of tasks";
  return forward;
}

KernelOutcome CompiledKernel::runOnce(const std::vector<int64_t> &sizes,
                                      const std::vector<Bytes> &arguments, size_t alignment,
                                      bool reverse) const {
  transformer::KernelOp op = kernel; // MLIR's accessors are not const
  const unsigned numSizes = op.getNumSizes();
  auto bytesOfType = [&](mlir::Type type) -> size_t {
    auto tensor = llvm::cast<mlir::RankedTensorType>(type);
    auto sizeNamed = [&](llvm::StringRef name) {
      int64_t value = -1;
      for (unsigned i = 0; i < numSizes; ++i)
        if (op.getSize(i).getName().getValue() == name)
          value = sizes[i];
      return value;
    };
    const int64_t rows = sizeNamed(rowsSizeName(tensor));
    if (tensor.getRank() == 2 && tensor.isDynamicDim(1)) { // a block table
      auto names = llvm::cast<transformer::DimsAttr>(tensor.getEncoding()).getNames();
      return sizeof(int32_t) * rows * sizeNamed(names.back().getValue());
    }
    return weightBytes(tensor, rows).value();
  };
  if (sizes.size() != numSizes || arguments.size() + numSizes != op.getNumArguments()) {
    ADD_FAILURE() << "the kernel takes other sizes or arguments than the test gives";
    return {};
  }

  std::vector<std::unique_ptr<GuardedBuffer>> buffers;
  for (size_t i = 0; i < arguments.size(); ++i) {
    mlir::Type type = op.getArgumentTypes()[numSizes + i];
    if (llvm::isa<mlir::RankedTensorType>(type) && bytesOfType(type) != arguments[i].size()) {
      ADD_FAILURE() << "argument " << i << " has " << arguments[i].size() << " bytes, not "
                    << bytesOfType(type);
      return {};
    }
    buffers.push_back(
        std::make_unique<GuardedBuffer>(arguments[i].size(), alignment, &arguments[i]));
  }
  for (mlir::Type type : op.getResultTypes())
    buffers.push_back(std::make_unique<GuardedBuffer>(bytesOfType(type), alignment));
  for (const Workspace &workspace : launching.workspaces)
    buffers.push_back(std::make_unique<GuardedBuffer>(workspace.bytes.evaluate(sizes.data()), 64));

  std::vector<void *> pointers;
  for (const auto &buffer : buffers)
    pointers.push_back(buffer->data());
  for (size_t index = 0; index < launching.phases.size(); ++index) {
    const Phase &phase = launching.phases[index];
    const int64_t tasks = phase.grid.evaluate(sizes.data());
    GuardedBuffer scratch(phase.scratchBytes, 64);
    for (int64_t i = 0; i < tasks; ++i) {
      scratch.fill();
      code->entry(0)(pointers.data(), sizes.data(), int64_t(index), reverse ? tasks - 1 - i : i,
                     scratch.data());
    }
    EXPECT_TRUE(scratch.guardsAreIntact()) << "phase " << index << " wrote outside its scratch";
  }

  KernelOutcome outcome;
  for (size_t i = 0; i < buffers.size(); ++i)
    EXPECT_TRUE(buffers[i]->guardsAreIntact()) << "buffer " << i << " was written outside";
  for (size_t i = 0; i < arguments.size(); ++i) {
    outcome.arguments.push_back(buffers[i]->content());
    if (llvm::isa<mlir::RankedTensorType>(op.getArgumentTypes()[numSizes + i]))
      EXPECT_EQ(outcome.arguments[i], arguments[i]) << "argument " << i << " was written";
  }
  for (size_t i = 0; i < op.getNumResults(); ++i)
    outcome.results.push_back(buffers[arguments.size() + i]->content());
  return outcome;
}

std::vector<std::string> runnableLevels() {
  std::vector<std::string> levels{"native"};
  const auto native = parseTarget("native", ""), avx2 = parseTarget("avx2", "");
  if (native && avx2 && checkRunnable(*avx2) &&
      native->limits.vectorBits != avx2->limits.vectorBits)
    levels.push_back("avx2");
  return levels;
}

std::vector<std::string> everyRunnableLevel() {
  std::vector<std::string> levels = runnableLevels();
  if (auto target = parseTarget("avx512", ""); target && checkRunnable(*target))
    levels.push_back("avx512");
  return levels;
}

std::vector<std::string> bfloat16Levels() {
  std::vector<std::string> levels{"native"};
  std::string without = "native";
  for (const char *feature : {"amx-bf16", "avx512bf16"})
    if (parseTarget("native", "")->has(feature))
      levels.push_back(without += fmt::format(",-{}", feature));
  return levels;
}

CompiledKernel compileOrDie(const std::string &text, const std::string &level, const Knobs &knobs,
                            int64_t threads) {
  auto kernel = CompiledKernel::compile(text, level, knobs, threads);
  if (!kernel) {
    fmt::print(stderr, "{}\n", kernel.error().line());
    std::abort();
  }
  return std::move(*kernel);
}

std::vector<float> randomFloats(size_t count, uint64_t seed, float deviation) {
  // The sum of four uniform 16-bit numbers is near enough to normal, and cheap: its mean is 2 *
  // 65535 and its variance a third of 65536 squared.
  const float scale = deviation * std::sqrt(3.0f) / 65536;
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) {
    const uint64_t bits = randomBits(seed, i);
    const uint64_t sum =
        (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
    values[i] = (static_cast<float>(sum) - 2 * 65535) * scale;
  }
  return values;
}

std::vector<double> widened(const std::vector<float> &values) {
  return std::vector<double>(values.begin(), values.end());
}

std::string rowsText(int64_t width) {
  return fmt::format("tensor<?x{}xf32, #transformer.dims<\"tokens\">>", width);
}

std::string weightText(ElementType type, int64_t rows, int64_t width, bool interleaved) {
  const ElementTypeInfo &t = info(type);
  std::string element =
      t.isQuantized() ? fmt::format("!transformer.quant<{}>", t.name) : std::string(t.name);
  return fmt::format("tensor<{}x{}x{}{}>", rows, width, element,
                     interleaved ? ", #transformer.layout<interleaved, rows = 16>" : "");
}

Bytes randomWeight(ElementType type, int64_t rows, int64_t width, uint64_t seed) {
  std::vector<float> values = randomFloats(static_cast<size_t>(rows * width), seed);
  const size_t bytes = rowBytes(type, static_cast<uint64_t>(width)).value();
  Bytes weight(bytes * static_cast<size_t>(rows));
  for (int64_t r = 0; r < rows; ++r)
    quantizeRow(type, values.data() + r * width, static_cast<uint64_t>(width),
                weight.data() + static_cast<size_t>(r) * bytes);
  return weight;
}

Bytes packedWeight(ElementType type, const Bytes &weight, int64_t rows, int64_t width) {
  const int64_t groups = (rows + interleavedRows - 1) / interleavedRows;
  const size_t bytes = rowBytes(type, static_cast<uint64_t>(width)).value();
  Bytes result(bytes * static_cast<size_t>(groups * interleavedRows));
  packInterleaved(type, weight.data(), rows, width, result.data());
  return result;
}

void expectClose(const std::vector<float> &actual, const std::vector<double> &expected,
                 const std::string &what, double nmse) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  double error = 0, norm = 0, worst = -1;
  size_t worstIndex = 0, zeros = 0, expectedZeros = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double a = actual[i], e = expected[i];
    if (!std::isfinite(a) || !std::isfinite(e)) {
      ASSERT_TRUE(a == e || (std::isnan(a) && std::isnan(e)))
          << what << ": element " << i << " is " << a << ", not " << e;
      continue;
    }
    const double difference = std::fabs(a - e);
    if (difference > worst) {
      worst = difference;
      worstIndex = i;
    }
    error += difference * difference;
    norm += e * e;
    zeros += a == 0;
    expectedZeros += static_cast<float>(e) == 0;
  }
  EXPECT_LE(error, nmse * norm) << what << ": element " << worstIndex << " of " << actual.size()
                                << " is " << (actual.empty() ? 0.0f : actual[worstIndex])
                                << ", not " << (actual.empty() ? 0.0 : expected[worstIndex]);
  // A tenth more zeros than expected is no rounding but an element that was never computed.
  EXPECT_LE(zeros, expectedZeros + actual.size() / 10) << what << ": too many zeros";
}

} // namespace kernelforge
