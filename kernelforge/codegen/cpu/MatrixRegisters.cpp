#include "kernelforge/codegen/cpu/MatrixRegisters.h"

#include <array>
#include <cstring>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;

void MatrixRegisters::configure(ArrayRef<int64_t> rows) {
  // Intel's manual, "TILECFG": palette 1, from byte 16 on the bytes of a row of each register, from
  // byte 48 on its rows.
  std::array<uint8_t, 64> bytes{};
  bytes[0] = 1;
  for (auto [i, own] : llvm::enumerate(rows)) {
    bytes[16 + 2 * i] = rowBytes;
    bytes[48 + i] = uint8_t(own);
  }
  Value configuration = k.onStack(int64_t(bytes.size()) / 4);
  for (size_t i = 0; i < bytes.size(); i += 8) {
    uint64_t word = 0;
    std::memcpy(&word, &bytes[i], sizeof word);
    k.store(k.c(int64_t(word)), k.at(configuration, int64_t(i)), 4);
  }
  k.intrinsic("llvm.x86.ldtilecfg", {}, {configuration});
}
