#include "kernelforge/backend/cpu/Team.h"

#include "kernelforge/support/Host.h"

#include <atomic>
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

BoundTeam::BoundTeam(int threads, std::span<const int> cpus) {
  if (static_cast<size_t>(threads) > cpus.size())
    return;
  std::atomic<bool> all{true};
  before.resize(static_cast<size_t>(threads));
  runTeam(threads, [&](int index, int team) {
    const auto i = static_cast<size_t>(index);
    before[i] = usableCpus();
    if (team != threads || (index > 0 && !stayOnCpus(cpus.subspan(i, 1))))
      all = false;
  });
  bound = all;
  if (!bound)
    release();
}

BoundTeam::~BoundTeam() {
  if (bound)
    release();
}

void BoundTeam::release() {
  runTeam(static_cast<int>(before.size()), [&](int index, int) {
    if (index > 0)
      stayOnCpus(before[static_cast<size_t>(index)]);
  });
}

BoundCaller::BoundCaller(int cpu) {
  if (cpu < 0)
    return;
  before = usableCpus();
  stayOnCpus(std::span(&cpu, 1));
}

BoundCaller::~BoundCaller() {
  if (!before.empty())
    stayOnCpus(before);
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
