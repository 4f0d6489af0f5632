// OpenBLAS: the build that SciPy publishes (64-bit integers, names with a prefix and a suffix), or
// a distribution's.
#include "kernelforge/kernels/MatmulVariants.h"
#include "kernelforge/kernels/VendorMatmul.h"

#include <cstdlib>

using namespace kernelforge;

namespace {

struct OpenBlas {
  Sgemm<int64_t> *sgemm64 = nullptr; ///< one of the two is there
  Sgemm<int> *sgemm = nullptr;
  void (*setThreads)(int) = nullptr;
  std::string version;
};

Expected<OpenBlas> openOpenBlas() {
  const std::string hint = "run 'make setup'";
  // Its threads spin for 2^28 ticks after a call, a tenth of a second, and took half of a core from
  // whatever was timed next. 2^24 are some milliseconds, longer than it is between calls.
  ::setenv("OPENBLAS_THREAD_TIMEOUT", "24", /*overwrite=*/0);
  KF_TRY(VendorLibrary library,
         VendorLibrary::open("OpenBLAS", {"libscipy_openblas64_.so", "libopenblas.so.0"}, hint));
  OpenBlas blas;
  blas.sgemm64 = library.function<Sgemm<int64_t>>("scipy_cblas_sgemm64_");
  const bool wide = blas.sgemm64 != nullptr;
  if (!wide)
    blas.sgemm = library.function<Sgemm<int>>("cblas_sgemm");
  blas.setThreads = library.function<void(int)>(wide ? "scipy_openblas_set_num_threads64_"
                                                     : "openblas_set_num_threads");
  auto *config =
      library.function<char *()>(wide ? "scipy_openblas_get_config64_" : "openblas_get_config");
  if ((!wide && !blas.sgemm) || !blas.setThreads)
    return missing("OpenBLAS is not usable", library.path(),
                   "it has no cblas_sgemm or cannot set its threads", hint);
  blas.version = config ? config() : "OpenBLAS";
  return blas;
}

/// Opened when first asked for.
const Expected<OpenBlas> &openBlas() {
  static const Expected<OpenBlas> library = openOpenBlas();
  return library;
}

class OpenBlasMatmul final : public MatmulKernel {
public:
  std::string_view name() const override { return "vendor:openblas"; }
  MatmulSupport supports(const MatmulProblem &problem) const override {
    return vendorSupport(problem, openBlas());
  }
  bool hasOwnThreads() const override { return true; }

private:
  Expected<std::unique_ptr<PreparedMatmul>> make(const MatmulProblem &problem,
                                                 const MatmulOperands &operands, const KnobValues &,
                                                 int threads) const override {
    const OpenBlas &blas = *openBlas();
    std::unique_ptr<PreparedMatmul> prepared;
    if (blas.sgemm64)
      prepared = std::make_unique<SgemmMatmul<int64_t>>(problem, operands, blas.sgemm64,
                                                        blas.setThreads, threads, hasOwnThreads());
    else
      prepared = std::make_unique<SgemmMatmul<int>>(problem, operands, blas.sgemm, blas.setThreads,
                                                    threads, hasOwnThreads());
    prepared->details.library = blas.version;
    return prepared;
  }
};

} // namespace

std::unique_ptr<MatmulKernel> kernelforge::makeOpenBlasMatmul() {
  return std::make_unique<OpenBlasMatmul>();
}
