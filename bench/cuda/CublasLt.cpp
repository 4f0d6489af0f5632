#include "CublasLt.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>

using namespace kernelforge;
using namespace kernelforge::bench;

namespace {

/// Numbers of the library's enumerations.
constexpr int compute32F = 68, real32F = 0, realBF16 = 14, operationN = 0, operationT = 1;
constexpr int descTransA = 3, descTransB = 4, descEpilogue = 7, descBiasPointer = 8;
constexpr int preferenceWorkspaceBytes = 1;
constexpr int success = 0;

/// As the library's ABI has it, which stays from release to release.
struct Heuristic {
  std::array<uint64_t, 8> algorithm{};
  size_t workspaceBytes = 0;
  int state = 0;
  float waves = 0;
  std::array<int, 4> reserved{};
};
static_assert(sizeof(Heuristic) == 96);

using Handle = struct OpaqueHandle *;
using Desc = struct OpaqueDesc *;
using Layout = struct OpaqueLayout *;
using Preference = struct OpaquePreference *;

int epilogueOf(Following following) {
  switch (following) {
  case Following::Nothing:
    return 1;
  case Following::Bias:
    return 4;
  case Following::BiasGelu:
    return 36;
  }
  return 1;
}

Status check(int result, const char *what) {
  if (result == success)
    return {};
  return failed("cuBLASLt failed", what, fmt::format("it gave result {}", result));
}

} // namespace

// X(name, symbol without "cublasLt", result, parameters)
#define KF_CUBLASLT_FUNCTIONS(X)                                                                   \
  X(getVersion, "GetVersion", size_t, ())                                                          \
  X(create, "Create", int, (Handle * handle))                                                      \
  X(matmulDescCreate, "MatmulDescCreate", int, (Desc * desc, int compute, int scale))              \
  X(matmulDescDestroy, "MatmulDescDestroy", int, (Desc desc))                                      \
  X(matmulDescSetAttribute, "MatmulDescSetAttribute", int,                                         \
    (Desc desc, int attribute, const void *value, size_t bytes))                                   \
  X(matrixLayoutCreate, "MatrixLayoutCreate", int,                                                 \
    (Layout * layout, int type, uint64_t rows, uint64_t columns, int64_t leading))                 \
  X(matrixLayoutDestroy, "MatrixLayoutDestroy", int, (Layout layout))                              \
  X(matmulPreferenceCreate, "MatmulPreferenceCreate", int, (Preference * preference))              \
  X(matmulPreferenceDestroy, "MatmulPreferenceDestroy", int, (Preference preference))              \
  X(matmulPreferenceSetAttribute, "MatmulPreferenceSetAttribute", int,                             \
    (Preference preference, int attribute, const void *value, size_t bytes))                       \
  X(matmulAlgoGetHeuristic, "MatmulAlgoGetHeuristic", int,                                         \
    (Handle handle, Desc desc, Layout a, Layout b, Layout c, Layout d, Preference preference,      \
     int most, Heuristic *results, int *count))                                                    \
  X(matmul, "Matmul", int,                                                                         \
    (Handle handle, Desc desc, const void *alpha, const void *a, Layout layoutA, const void *b,    \
     Layout layoutB, const void *beta, const void *c, Layout layoutC, void *d, Layout layoutD,     \
     const void *algorithm, void *workspace, size_t workspaceBytes, cuda::CUstream stream))

struct CublasLt::Library {
#define KF_POINTER(name, symbol, result, parameters) result(*name) parameters = nullptr;
  KF_CUBLASLT_FUNCTIONS(KF_POINTER)
#undef KF_POINTER
  Handle handle = nullptr; ///< made where a context is current
};

struct CublasLt::Plan::Implementation {
  explicit Implementation(std::shared_ptr<Library> from) : library(std::move(from)) {}
  ~Implementation() {
    for (Layout layout : {weights, rows, result})
      if (layout)
        library->matrixLayoutDestroy(layout);
    if (desc)
      library->matmulDescDestroy(desc);
    if (preference)
      library->matmulPreferenceDestroy(preference);
  }
  Implementation(const Implementation &) = delete;
  Implementation &operator=(const Implementation &) = delete;

  Status set(int attribute, const void *value, size_t bytes) const {
    return check(library->matmulDescSetAttribute(desc, attribute, value, bytes), "descriptor");
  }

  std::shared_ptr<Library> library;
  Desc desc = nullptr;
  Layout weights = nullptr, rows = nullptr, result = nullptr;
  Preference preference = nullptr;
  bool hasBias = false;
  std::vector<Heuristic> found;
};

Expected<CublasLt> CublasLt::open(const std::string &file) {
  constexpr const char *what = "cuBLASLt cannot be used";
  constexpr const char *hint =
      "name it with --cublas: torch's packages have it in site-packages/nvidia/cu13/lib";
  const std::vector<std::string> names =
      file.empty() ? std::vector<std::string>{"libcublasLt.so.13", "libcublasLt.so.12"}
                   : std::vector<std::string>{file};
  void *opened = nullptr;
  std::string why;
  for (const std::string &name : names) {
    if ((opened = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)))
      break;
    const char *said = dlerror();
    why = said ? said : "it cannot be opened";
  }
  if (!opened)
    return missing(what, names.front(), why, hint);
  CublasLt lt;
  lt.library = std::make_shared<Library>();
  std::vector<std::string> absent;
#define KF_FIND(name, symbol, result, parameters)                                                  \
  lt.library->name =                                                                               \
      reinterpret_cast<decltype(lt.library->name)>(dlsym(opened, "cublasLt" symbol));              \
  if (!lt.library->name)                                                                           \
    absent.emplace_back("cublasLt" symbol);
  KF_CUBLASLT_FUNCTIONS(KF_FIND)
#undef KF_FIND
  if (!absent.empty())
    return missing(what, names.front(), fmt::format("it has no {}", fmt::join(absent, ", ")), hint);
  return lt;
}

std::string CublasLt::version() const {
  const size_t number = library->getVersion(); // 130100, or of old releases 11000
  const size_t major = number >= 100'000 ? number / 10'000 : number / 1000;
  const size_t rest = number >= 100'000 ? number % 10'000 : number % 1000;
  return fmt::format("cuBLASLt {}.{}.{}", major, rest / 100, rest % 100);
}

Expected<CublasLt::Plan> CublasLt::plan(const Product &product, cuda::CUdeviceptr bias,
                                        int most) const {
  if (!library->handle)
    KF_CHECK(check(library->create(&library->handle), "handle"));
  Plan plan;
  plan.implementation = std::make_shared<Plan::Implementation>(library);
  Plan::Implementation &made = *plan.implementation;
  KF_CHECK(check(library->matmulDescCreate(&made.desc, compute32F, real32F), "descriptor"));
  // Its matrices stand column by column: what it gives, n x m, is our C row by row.
  KF_CHECK(made.set(descTransA, &operationT, sizeof(int)));
  KF_CHECK(made.set(descTransB, &operationN, sizeof(int)));
  const int epilogue = epilogueOf(product.following);
  KF_CHECK(made.set(descEpilogue, &epilogue, sizeof(int)));
  made.hasBias = product.following != Following::Nothing;
  if (made.hasBias)
    KF_CHECK(made.set(descBiasPointer, &bias, sizeof(bias)));
  const auto [m, n, k] = std::tuple(uint64_t(product.m), uint64_t(product.n), uint64_t(product.k));
  KF_CHECK(check(library->matrixLayoutCreate(&made.weights, realBF16, k, n, product.k), "layout"));
  KF_CHECK(check(library->matrixLayoutCreate(&made.rows, realBF16, k, m, product.k), "layout"));
  KF_CHECK(check(library->matrixLayoutCreate(&made.result, realBF16, n, m, product.n), "layout"));
  KF_CHECK(check(library->matmulPreferenceCreate(&made.preference), "preference"));
  const uint64_t bytes = workspaceBytes;
  KF_CHECK(check(library->matmulPreferenceSetAttribute(made.preference, preferenceWorkspaceBytes,
                                                       &bytes, sizeof(bytes)),
                 "preference"));
  made.found.resize(size_t(most));
  int count = 0;
  KF_CHECK(check(library->matmulAlgoGetHeuristic(library->handle, made.desc, made.weights,
                                                 made.rows, made.result, made.result,
                                                 made.preference, most, made.found.data(), &count),
                 "heuristic"));
  made.found.resize(size_t(count));
  std::erase_if(made.found, [](const Heuristic &each) { return each.state != success; });
  if (made.found.empty())
    return unusable("product has no algorithm",
                    fmt::format("{}x{}x{}", product.m, product.n, product.k),
                    "cuBLASLt's heuristic gives none");
  return plan;
}

size_t CublasLt::Plan::algorithms() const { return implementation->found.size(); }

Status CublasLt::Plan::run(size_t algorithm, const ProductOperands &operands,
                           cuda::CUdeviceptr workspace, cuda::CUstream stream) const {
  const Implementation &made = *implementation;
  if (made.hasBias)
    KF_CHECK(made.set(descBiasPointer, &operands.bias, sizeof(operands.bias)));
  const float one = 1, zero = 0;
  auto pointer = [](cuda::CUdeviceptr address) { return reinterpret_cast<void *>(address); };
  return check(made.library->matmul(made.library->handle, made.desc, &one, pointer(operands.b),
                                    made.weights, pointer(operands.a), made.rows, &zero,
                                    pointer(operands.c), made.result, pointer(operands.c),
                                    made.result, &made.found[algorithm].algorithm,
                                    pointer(workspace), size_t(workspaceBytes), stream),
               "product");
}
