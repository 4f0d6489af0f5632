#include "kernelforge/backend/cpu/Team.h"

#include <dlfcn.h>
#include <omp.h>

namespace kernelforge {

void runTeam(int threads, const std::function<void(int index, int team)> &member) {
  if (threads <= 1) {
    member(0, 1);
    return;
  }
#pragma omp parallel num_threads(threads)
  member(omp_get_thread_num(), omp_get_num_threads());
}

namespace {

/// What LLVM's OpenMP has for it; of another, nothing.
struct SpinControl {
  void (*set)(int) = reinterpret_cast<void (*)(int)>(::dlsym(RTLD_DEFAULT, "kmp_set_blocktime"));
  int (*get)() = reinterpret_cast<int (*)()>(::dlsym(RTLD_DEFAULT, "kmp_get_blocktime"));
  bool works() const { return set && get; }
};

const SpinControl &spinControl() {
  static const SpinControl control;
  return control;
}

} // namespace

ShortSpinning::ShortSpinning(int milliseconds)
    : before(spinControl().works() ? spinControl().get() : 0) {
  if (spinControl().works())
    spinControl().set(milliseconds);
}

ShortSpinning::~ShortSpinning() {
  if (spinControl().works())
    spinControl().set(before);
}

} // namespace kernelforge
