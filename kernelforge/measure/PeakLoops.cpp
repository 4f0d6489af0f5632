#include "kernelforge/measure/PeakLoops.h"

#include "kernelforge/measure/Ceilings.h"
#include "kernelforge/support/Amx.h"

#include <cpuid.h>
#include <cstring>
#include <immintrin.h>
#include <vector>

namespace kernelforge {

// Each loop keeps as many sums in registers as the latency of two pipes needs. With the factors
// they fit into sixteen, of which the compiler uses no more here: sums in memory would wait for it.
// They end in a volatile, so that they must be computed: one of each thread, because a line that
// all cores write would be what is measured.
static thread_local volatile float floatSink;
static thread_local volatile int intSink;
static volatile float floatSource = 1e-9f;
static volatile int intSource = 0x01010101;

__attribute__((target("avx2,fma"))) static void fmaAvx2(int64_t iterations) {
  __m256 a = _mm256_set1_ps(floatSource), b = _mm256_set1_ps(floatSource), sums[12];
  for (auto &sum : sums)
    sum = _mm256_set1_ps(floatSource);
  for (int64_t i = 0; i < iterations; ++i)
    for (auto &sum : sums)
      sum = _mm256_fmadd_ps(a, b, sum);
  for (auto &sum : sums)
    floatSink = _mm256_cvtss_f32(sum);
}

__attribute__((target("avx512f"))) static void fmaAvx512(int64_t iterations) {
  __m512 a = _mm512_set1_ps(floatSource), b = _mm512_set1_ps(floatSource), sums[12];
  for (auto &sum : sums)
    sum = _mm512_set1_ps(floatSource);
  for (int64_t i = 0; i < iterations; ++i)
    for (auto &sum : sums)
      sum = _mm512_fmadd_ps(a, b, sum);
  for (auto &sum : sums)
    floatSink = _mm512_cvtss_f32(sum);
}

__attribute__((target("avx512f,avx512bf16"))) static void dotBf16(int64_t iterations) {
  auto a = (__m512bh)_mm512_set1_epi32(intSource), b = (__m512bh)_mm512_set1_epi32(intSource);
  __m512 sums[12];
  for (auto &sum : sums)
    sum = _mm512_set1_ps(floatSource);
  for (int64_t i = 0; i < iterations; ++i)
    for (auto &sum : sums)
      sum = _mm512_dpbf16_ps(sum, a, b);
  for (auto &sum : sums)
    floatSink = _mm512_cvtss_f32(sum);
}

__attribute__((target("avx512f,avx512vnni"))) static void dotInt8Avx512(int64_t iterations) {
  __m512i a = _mm512_set1_epi32(intSource), b = _mm512_set1_epi32(intSource), sums[12];
  for (auto &sum : sums)
    sum = _mm512_set1_epi32(intSource);
  for (int64_t i = 0; i < iterations; ++i)
    for (auto &sum : sums)
      sum = _mm512_dpbusd_epi32(sum, a, b);
  for (auto &sum : sums)
    intSink = _mm512_cvtsi512_si32(sum);
}

__attribute__((target("avx2,avxvnni"))) static void dotInt8Avx(int64_t iterations) {
  __m256i a = _mm256_set1_epi32(intSource), b = _mm256_set1_epi32(intSource), sums[12];
  for (auto &sum : sums)
    sum = _mm256_set1_epi32(intSource);
  for (int64_t i = 0; i < iterations; ++i)
    for (auto &sum : sums)
      sum = _mm256_dpbusd_avx_epi32(sum, a, b);
  for (auto &sum : sums)
    intSink = _mm256_cvtsi256_si32(sum);
}

/// Without VNNI: pairs of products in 16 bits, and their sums.
__attribute__((target("avx2"))) static void dotInt8Pairs(int64_t iterations) {
  __m256i a = _mm256_set1_epi32(intSource), sums[12];
  for (auto &sum : sums)
    sum = _mm256_set1_epi32(intSource);
  for (int64_t i = 0; i < iterations; ++i)
    for (auto &sum : sums)
      sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(a, sum));
  for (auto &sum : sums)
    intSink = _mm256_cvtsi256_si32(sum);
}

/// All eight tiles as 16 rows of 64 bytes.
struct alignas(64) TileConfiguration {
  uint8_t palette = 1, startRow = 0, reserved[14] = {};
  uint16_t rowBytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

/// Factors of the tiles: not zero, which takes less power, so that the clock is that of kernels.
struct alignas(64) TileData {
  uint8_t bytes[1024];
  TileData() {
    for (int i = 0; i < 1024; ++i) // bf16 of about 1 and small integers alike
      bytes[i] = i % 2 == 0 ? static_cast<uint8_t>(i * 37) : 0x3f;
  }
};
static const TileData tileData;

#define KF_TILE_LOOP(name, features, instruction)                                                  \
  __attribute__((target(features))) static void name(int64_t iterations) {                         \
    const TileConfiguration configuration;                                                         \
    _tile_loadconfig(&configuration);                                                              \
    _tile_zero(0);                                                                                 \
    _tile_zero(1);                                                                                 \
    _tile_zero(2);                                                                                 \
    _tile_zero(3);                                                                                 \
    _tile_loadd(4, tileData.bytes, 64);                                                            \
    _tile_loadd(5, tileData.bytes, 64);                                                            \
    _tile_loadd(6, tileData.bytes, 64);                                                            \
    _tile_loadd(7, tileData.bytes, 64);                                                            \
    for (int64_t i = 0; i < iterations; ++i) {                                                     \
      instruction(0, 4, 6);                                                                        \
      instruction(1, 4, 7);                                                                        \
      instruction(2, 5, 6);                                                                        \
      instruction(3, 5, 7);                                                                        \
    }                                                                                              \
    _tile_release();                                                                               \
  }
KF_TILE_LOOP(amxBf16, "amx-tile,amx-bf16", _tile_dpbf16ps)
KF_TILE_LOOP(amxInt8, "amx-tile,amx-int8", _tile_dpbssd)
#undef KF_TILE_LOOP

/// Bits of CPUID leaf 7; all zero where there is none.
struct Leaf7 {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  explicit Leaf7(unsigned subleaf) { __get_cpuid_count(7, subleaf, &eax, &ebx, &ecx, &edx); }
};
static bool bit(unsigned value, int index) { return (value >> index & 1) != 0; }

static bool hasAvx512() { return __builtin_cpu_supports("avx512f"); }

std::span<const PeakLoop> peakLoops() {
  static const std::vector<PeakLoop> loops = [] {
    std::vector<PeakLoop> found;
    if (hasAvx512())
      found.push_back({"fma_f32", "vfmadd231ps zmm", 12 * 32, fmaAvx512});
    else
      found.push_back({"fma_f32", "vfmadd231ps ymm", 12 * 16, fmaAvx2});
    if (__builtin_cpu_supports("avx512bf16"))
      found.push_back({"dot_bf16", "vdpbf16ps zmm", 12 * 64, dotBf16});
    if (__builtin_cpu_supports("avx512vnni"))
      found.push_back({"dot_int8", "vpdpbusd zmm", 12 * 128, dotInt8Avx512});
    else if (bit(Leaf7(1).eax, 4) && __builtin_cpu_supports("avx2"))
      found.push_back({"dot_int8", "vpdpbusd ymm", 12 * 64, dotInt8Avx});
    else if (__builtin_cpu_supports("avx2"))
      found.push_back({"dot_int8", "vpmaddubsw ymm, vpaddw", 12 * 64, dotInt8Pairs});
    if (amxState().permitted) {
      const Leaf7 leaf(0);
      if (bit(leaf.edx, 22))
        found.push_back({"amx_bf16", "tdpbf16ps", 4 * 2.0 * 16 * 16 * 32, amxBf16});
      if (bit(leaf.edx, 25))
        found.push_back({"amx_int8", "tdpbssd", 4 * 2.0 * 16 * 16 * 64, amxInt8});
    }
    return found;
  }();
  return loops;
}

__attribute__((target("avx512f"))) static void readAvx512(const std::byte *data, int64_t bytes) {
  __m512i sums[8] = {};
  for (int64_t i = 0; i < bytes; i += 512)
    for (int j = 0; j < 8; ++j)
      sums[j] = _mm512_or_si512(sums[j], _mm512_loadu_si512(data + i + 64 * j));
  for (auto &sum : sums)
    intSink = _mm512_cvtsi512_si32(sum);
}

__attribute__((target("avx2"))) static void readAvx2(const std::byte *data, int64_t bytes) {
  __m256i sums[8] = {};
  for (int64_t i = 0; i < bytes; i += 256)
    for (int j = 0; j < 8; ++j)
      sums[j] = _mm256_or_si256(
          sums[j], _mm256_loadu_si256(reinterpret_cast<const __m256i *>(data + i + 32 * j)));
  for (auto &sum : sums)
    intSink = _mm256_cvtsi256_si32(sum);
}

void readAll(const std::byte *data, int64_t bytes) {
  static const bool wide = hasAvx512();
  wide ? readAvx512(data, bytes) : readAvx2(data, bytes);
}

// The assembly keeps the compiler from making one call of a library's of all stores.
__attribute__((target("avx512f"))) static void writeAvx512(std::byte *data, int64_t bytes) {
  const __m512i value = _mm512_set1_epi32(intSource);
  for (int64_t i = 0; i < bytes; i += 512)
    for (int j = 0; j < 8; ++j) {
      _mm512_storeu_si512(data + i + 64 * j, value);
      asm volatile("" ::: "memory");
    }
}

__attribute__((target("avx2"))) static void writeAvx2(std::byte *data, int64_t bytes) {
  const __m256i value = _mm256_set1_epi32(intSource);
  for (int64_t i = 0; i < bytes; i += 256)
    for (int j = 0; j < 8; ++j) {
      _mm256_storeu_si256(reinterpret_cast<__m256i *>(data + i + 32 * j), value);
      asm volatile("" ::: "memory");
    }
}

void writeAll(std::byte *data, int64_t bytes) {
  static const bool wide = hasAvx512();
  wide ? writeAvx512(data, bytes) : writeAvx2(data, bytes);
}

} // namespace kernelforge
