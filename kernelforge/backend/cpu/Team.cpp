#include "kernelforge/backend/cpu/Team.h"

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

} // namespace kernelforge
