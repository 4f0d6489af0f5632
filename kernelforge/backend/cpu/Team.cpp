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

void shortenSpinning() {
  constexpr int milliseconds = 5;
  if (auto *set = reinterpret_cast<void (*)(int)>(::dlsym(RTLD_DEFAULT, "kmp_set_blocktime")))
    set(milliseconds);
}

} // namespace kernelforge
