// oneDNN by its C interface, of version 2 or 3. As its users do, the weight is brought into the
// layout that the library prefers once, ahead of all runs.
#include "kernelforge/kernels/MatmulVariants.h"
#include "kernelforge/kernels/VendorMatmul.h"
#include "kernelforge/support/PageMemory.h"

#include <array>
#include <fmt/format.h>
#include <omp.h>

using namespace kernelforge;

namespace {

// The few declarations that are needed, so that the build does not ask for the library's headers.
// All objects are handles; a memory descriptor is a handle in version 3 and a struct in version 2.
using Handle = void *;
using Dims = std::array<int64_t, 12>;
using Success = int; ///< 0
struct Argument {
  int which;
  Handle memory;
};
struct Version {
  int major, minor, patch;
  const char *hash;
  unsigned cpuRuntime, gpuRuntime;
};
constexpr int f32 = 3, anyLayout = 1, cpuEngine = 1, inOrder = 1, weightsQuery = 131;
constexpr int argumentSource = 1, argumentResult = 17, argumentWeights = 33;

/// Enough for any descriptor of version 2 (the largest has 2,800 bytes in 2.6).
struct alignas(64) Opaque {
  std::array<std::byte, 16384> bytes{};
};

struct OneDnn {
  bool handles = false; ///< version 3
  std::string version;
  Handle engine = nullptr;
  void (*setThreads)(int) = nullptr; ///< of the OpenMP runtime that came with it, if any

  Success (*engineCreate)(Handle *, int, size_t) = nullptr;
  Success (*streamCreate)(Handle *, Handle, unsigned) = nullptr;
  Success (*streamWait)(Handle) = nullptr;
  Success (*streamDestroy)(Handle) = nullptr;
  Success (*memoryCreate)(Handle *, const void *, Handle, void *) = nullptr;
  Success (*memorySetHandle)(Handle, void *) = nullptr;
  Success (*memoryDestroy)(Handle) = nullptr;
  size_t (*descSize)(const void *) = nullptr;
  Success (*primitiveCreate)(Handle *, Handle) = nullptr;
  Success (*primitiveExecute)(Handle, Handle, int, const Argument *) = nullptr;
  Success (*primitiveDestroy)(Handle) = nullptr;
  Success (*primitiveDescDestroy)(Handle) = nullptr;
  const void *(*queryMemory)(Handle, int, int) = nullptr;
  Success (*reorderDesc)(Handle *, const void *, Handle, const void *, Handle, Handle) = nullptr;
  // Version 2.
  Success (*descByTag2)(void *, int, const int64_t *, int, int) = nullptr;
  Success (*descByStrides2)(void *, int, const int64_t *, int, const int64_t *) = nullptr;
  Success (*matmulDesc2)(void *, const void *, const void *, const void *, const void *) = nullptr;
  Success (*primitiveDesc2)(Handle *, const void *, Handle, Handle, Handle) = nullptr;
  // Version 3.
  Success (*descByTag3)(Handle *, int, const int64_t *, int, int) = nullptr;
  Success (*descByStrides3)(Handle *, int, const int64_t *, int, const int64_t *) = nullptr;
  Success (*descDestroy3)(Handle) = nullptr;
  Success (*matmulDesc3)(Handle *, Handle, const void *, const void *, const void *, const void *,
                         Handle) = nullptr;
};

Expected<OneDnn> openOneDnn() {
  const std::string hint = "run 'make setup'";
  KF_TRY(VendorLibrary library,
         VendorLibrary::open("oneDNN", {"libdnnl.so.3", "libdnnl.so.2", "libdnnl.so"}, hint));
  auto *version = library.function<const Version *()>("dnnl_version");
  if (!version || version()->major < 2 || version()->major > 3)
    return missing("oneDNN is not usable", library.path(),
                   version ? fmt::format("its version is {}, not 2 or 3", version()->major)
                           : "it does not tell its version",
                   hint);
  OneDnn dnn;
  dnn.handles = version()->major == 3;
  dnn.version =
      fmt::format("oneDNN {}.{}.{}", version()->major, version()->minor, version()->patch);
  std::string absent;
  auto find = [&]<typename F>(F *&function, const char *name) {
    function = library.function<F>(name);
    if (!function)
      absent = name;
  };
  find(dnn.engineCreate, "dnnl_engine_create");
  find(dnn.streamCreate, "dnnl_stream_create");
  find(dnn.streamWait, "dnnl_stream_wait");
  find(dnn.streamDestroy, "dnnl_stream_destroy");
  find(dnn.memoryCreate, "dnnl_memory_create");
  find(dnn.memorySetHandle, "dnnl_memory_set_data_handle");
  find(dnn.memoryDestroy, "dnnl_memory_destroy");
  find(dnn.descSize, "dnnl_memory_desc_get_size");
  find(dnn.primitiveCreate, "dnnl_primitive_create");
  find(dnn.primitiveExecute, "dnnl_primitive_execute");
  find(dnn.primitiveDestroy, "dnnl_primitive_destroy");
  find(dnn.primitiveDescDestroy, "dnnl_primitive_desc_destroy");
  find(dnn.queryMemory, "dnnl_primitive_desc_query_md");
  find(dnn.reorderDesc, "dnnl_reorder_primitive_desc_create");
  if (dnn.handles) {
    find(dnn.descByTag3, "dnnl_memory_desc_create_with_tag");
    find(dnn.descByStrides3, "dnnl_memory_desc_create_with_strides");
    find(dnn.descDestroy3, "dnnl_memory_desc_destroy");
    find(dnn.matmulDesc3, "dnnl_matmul_primitive_desc_create");
  } else {
    find(dnn.descByTag2, "dnnl_memory_desc_init_by_tag");
    find(dnn.descByStrides2, "dnnl_memory_desc_init_by_strides");
    find(dnn.matmulDesc2, "dnnl_matmul_desc_init");
    find(dnn.primitiveDesc2, "dnnl_primitive_desc_create");
  }
  if (!absent.empty())
    return missing("oneDNN is not usable", library.path(), "it has no function " + absent, hint);
  if (dnn.engineCreate(&dnn.engine, cpuEngine, 0) != 0)
    return missing("oneDNN is not usable", library.path(), "it gives no engine for the CPU", hint);
  dnn.setThreads = library.function<void(int)>("omp_set_num_threads");
  return dnn;
}

/// Opened when first asked for.
const Expected<OneDnn> &oneDnn() {
  static const Expected<OneDnn> library = openOneDnn();
  return library;
}

/// A matrix [rows, columns] of f32 for the library: row-major, transposed, or in any layout.
class Descriptor {
public:
  enum class Layout { RowMajor, ColumnMajor, Any };
  Descriptor(const OneDnn &dnn, int64_t rows, int64_t columns, Layout layout) : dnn(dnn) {
    const Dims dims{rows, columns};
    const Dims strides = layout == Layout::RowMajor ? Dims{columns, 1} : Dims{1, rows};
    if (layout == Layout::Any)
      good = (dnn.handles ? dnn.descByTag3(&handle, 2, dims.data(), f32, anyLayout)
                          : dnn.descByTag2(&memory, 2, dims.data(), f32, anyLayout)) == 0;
    else
      good = (dnn.handles ? dnn.descByStrides3(&handle, 2, dims.data(), f32, strides.data())
                          : dnn.descByStrides2(&memory, 2, dims.data(), f32, strides.data())) == 0;
  }
  Descriptor(const Descriptor &) = delete;
  ~Descriptor() {
    if (handle)
      dnn.descDestroy3(handle);
  }
  const void *get() const { return dnn.handles ? handle : static_cast<const void *>(&memory); }

  bool good;

private:
  const OneDnn &dnn;
  Handle handle = nullptr;
  Opaque memory;
};

class PreparedOneDnn final : public PreparedMatmul {
public:
  PreparedOneDnn(const OneDnn &dnn, const MatmulProblem &problem, const MatmulOperands &operands,
                 int threads)
      : dnn(dnn), problem(problem), operands(operands), threads(threads) {}

  ~PreparedOneDnn() override {
    for (Handle memory : {input, output, weight})
      if (memory)
        dnn.memoryDestroy(memory);
    if (primitive)
      dnn.primitiveDestroy(primitive);
    if (description)
      dnn.primitiveDescDestroy(description);
    if (stream)
      dnn.streamDestroy(stream);
  }

  /// Makes the primitive and brings the weight into its layout.
  Status prepare() {
    using enum Descriptor::Layout;
    const Threads as(dnn, threads); // implementations are chosen by the number of threads
    const Descriptor source(dnn, problem.m, problem.k, RowMajor),
        target(dnn, problem.m, problem.n, RowMajor), any(dnn, problem.k, problem.n, Any),
        given(dnn, problem.k, problem.n, problem.transpose ? RowMajor : ColumnMajor);
    if (!source.good || !target.good || !any.good || !given.good)
      return refuse("it does not describe matrices of this size");
    if (describe(source, any, target) != 0)
      return refuse("it has no implementation of this matmul");
    const void *wanted = dnn.queryMemory(description, weightsQuery, 0);
    KF_TRY(packed, PageMemory::allocate(dnn.descSize(wanted)));
    if (dnn.primitiveCreate(&primitive, description) != 0 ||
        dnn.streamCreate(&stream, dnn.engine, inOrder) != 0 ||
        dnn.memoryCreate(&input, source.get(), dnn.engine, nullptr) != 0 ||
        dnn.memoryCreate(&output, target.get(), dnn.engine, nullptr) != 0 ||
        dnn.memoryCreate(&weight, wanted, dnn.engine, packed.data()) != 0)
      return refuse("it could not make the primitive");
    return reorder(given, wanted);
  }

  Status run(const float *from, float *to) override {
    const Threads as(dnn, threads);
    const std::array<Argument, 3> arguments{
        {{argumentSource, input}, {argumentWeights, weight}, {argumentResult, output}}};
    if (dnn.memorySetHandle(input, const_cast<float *>(from)) != 0 ||
        dnn.memorySetHandle(output, to) != 0 ||
        dnn.primitiveExecute(primitive, stream, 3, arguments.data()) != 0 ||
        dnn.streamWait(stream) != 0)
      return failed("matmul failed", problem.name() + ", vendor:onednn", "oneDNN gave an error");
    Epilogue{problem.epilogue, operands.bias, operands.residual, problem.n}.applyToAll(problem.m,
                                                                                       threads, to);
    return {};
  }

private:
  /// The number of threads for the calls in a scope. The library's OpenMP calls are answered by
  /// ours, or by the one that it was linked with: both are told.
  class Threads {
  public:
    Threads(const OneDnn &dnn, int threads) : before(omp_get_max_threads()) {
      if (dnn.setThreads)
        dnn.setThreads(threads);
      omp_set_num_threads(threads);
    }
    ~Threads() { omp_set_num_threads(before); }

  private:
    int before;
  };

  tl::unexpected<Error> refuse(std::string why) const {
    return failed("oneDNN refuses the matmul", problem.name(), std::move(why));
  }

  Success describe(const Descriptor &source, const Descriptor &weights, const Descriptor &target) {
    if (dnn.handles)
      return dnn.matmulDesc3(&description, dnn.engine, source.get(), weights.get(), nullptr,
                             target.get(), nullptr);
    Opaque matmul;
    if (Success error =
            dnn.matmulDesc2(&matmul, source.get(), weights.get(), nullptr, target.get()))
      return error;
    return dnn.primitiveDesc2(&description, &matmul, nullptr, dnn.engine, nullptr);
  }

  Status reorder(const Descriptor &given, const void *wanted) {
    Handle desc = nullptr, step = nullptr, from = nullptr;
    const bool made =
        dnn.reorderDesc(&desc, given.get(), dnn.engine, wanted, dnn.engine, nullptr) == 0 &&
        dnn.primitiveCreate(&step, desc) == 0 &&
        dnn.memoryCreate(&from, given.get(), dnn.engine,
                         const_cast<std::byte *>(operands.weight)) == 0;
    const std::array<Argument, 2> arguments{{{argumentSource, from}, {argumentResult, weight}}};
    const bool done = made && dnn.primitiveExecute(step, stream, 2, arguments.data()) == 0 &&
                      dnn.streamWait(stream) == 0;
    if (from)
      dnn.memoryDestroy(from);
    if (step)
      dnn.primitiveDestroy(step);
    if (desc)
      dnn.primitiveDescDestroy(desc);
    if (!done)
      return refuse("it could not bring the weight into its layout");
    return {};
  }

  const OneDnn &dnn;
  MatmulProblem problem;
  MatmulOperands operands;
  int threads;
  PageMemory packed;
  Handle description = nullptr, primitive = nullptr, stream = nullptr;
  Handle input = nullptr, output = nullptr, weight = nullptr;
};

class OneDnnMatmul final : public MatmulKernel {
public:
  std::string_view name() const override { return "vendor:onednn"; }
  MatmulSupport supports(const MatmulProblem &problem) const override {
    return vendorSupport(problem, oneDnn());
  }

private:
  Expected<std::unique_ptr<PreparedMatmul>> make(const MatmulProblem &problem,
                                                 const MatmulOperands &operands, const KnobValues &,
                                                 int threads) const override {
    auto prepared = std::make_unique<PreparedOneDnn>(*oneDnn(), problem, operands, threads);
    KF_CHECK(prepared->prepare());
    prepared->details.library = oneDnn()->version;
    return prepared;
  }
};

} // namespace

std::unique_ptr<MatmulKernel> kernelforge::makeOneDnnMatmul() {
  return std::make_unique<OneDnnMatmul>();
}
