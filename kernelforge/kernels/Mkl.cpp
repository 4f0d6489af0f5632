// Intel MKL by its single dynamic library, which loads the parts for the processor itself.
#include "kernelforge/kernels/MatmulVariants.h"
#include "kernelforge/kernels/VendorMatmul.h"

#include <array>

using namespace kernelforge;

namespace {

struct Mkl {
  Sgemm<int> *sgemm = nullptr;
  void (*setThreads)(int) = nullptr;
  std::string version;
};

Expected<Mkl> openLibrary() {
  const std::string hint = "run 'make vendors'";
  KF_TRY(VendorLibrary library,
         VendorLibrary::open("MKL", {"libmkl_rt.so.3", "libmkl_rt.so.2", "libmkl_rt.so"}, hint));
  // The layer on GNU's interface: its calls are answered by the OpenMP runtime that this process
  // has already. Intel's layer would load a second copy of that runtime, which ends the process.
  constexpr int gnuLayer = 3;
  auto *setLayer = library.function<int(int)>("MKL_Set_Threading_Layer");
  Mkl mkl;
  mkl.sgemm = library.function<Sgemm<int>>("cblas_sgemm");
  mkl.setThreads = library.function<void(int)>("MKL_Set_Num_Threads");
  if (!setLayer || !mkl.sgemm || !mkl.setThreads)
    return missing("MKL is not usable", library.path(),
                   "it has no cblas_sgemm or cannot set its threads", hint);
  setLayer(gnuLayer);
  if (auto *version = library.function<void(char *, int)>("MKL_Get_Version_String")) {
    std::array<char, 200> text{};
    version(text.data(), static_cast<int>(text.size()) - 1);
    mkl.version = text.data();
    mkl.version.erase(mkl.version.find_last_not_of(' ') + 1);
  }
  return mkl;
}

/// Opened when first asked for.
const Expected<Mkl> &intelMkl() {
  static const Expected<Mkl> library = openLibrary();
  return library;
}

class MklMatmul final : public MatmulKernel {
public:
  std::string_view name() const override { return "vendor:mkl"; }
  MatmulSupport supports(const MatmulProblem &problem) const override {
    return vendorSupport(problem, intelMkl());
  }

private:
  Expected<std::unique_ptr<PreparedMatmul>> make(const MatmulProblem &problem,
                                                 const MatmulOperands &operands, const KnobValues &,
                                                 int threads) const override {
    const Mkl &mkl = *intelMkl();
    auto prepared = std::make_unique<SgemmMatmul<int>>(problem, operands, mkl.sgemm, mkl.setThreads,
                                                       threads, hasOwnThreads());
    prepared->details.library = mkl.version;
    return prepared;
  }
};

} // namespace

std::unique_ptr<MatmulKernel> kernelforge::makeMklMatmul() { return std::make_unique<MklMatmul>(); }
