#include "kernelforge/support/Amx.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace kernelforge {

AmxState amxState() {
  static const AmxState asked = [] {
    constexpr int requestPermission = 0x1023, tileData = 18; // of arch_prctl
    constexpr unsigned amxTile = 1U << 24;                   // CPUID, leaf 7, EDX
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    AmxState state;
    state.present = __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & amxTile) != 0;
    state.permitted = state.present && syscall(SYS_arch_prctl, requestPermission, tileData) == 0;
    return state;
  }();
  return asked;
}

} // namespace kernelforge
