// Attention kernels whose schedules are pinned, on ragged data, on the device of the tests.
#pragma once

#include "MethodFixture.h"

namespace kernelforge {

/// One problem; the size `cached` is up to 512.
struct AttentionCase {
  int64_t heads = 4, kvHeads = 2, dim = 64, valueDim = 64, rows = 3, sequences = 2, past = 70;
  int64_t page = 0, window = 0;
  double softcap = 0, scale = 0.125;
  bool causal = true, sinks = false;
  std::string keys = "f16", values = "f16", query = "f32", result = "f32";
  std::string numerics = "";

  /// One kernel a schedule.
  std::string text(const std::vector<std::string> &schedules) const;
};

class AttentionMethods : public MethodTest {
protected:
  /// Rows in another order than that of their sequences, and every byte of slots that no row sees a
  /// one: NaN, whatever the type.
  void expectRight(const AttentionCase &test, const std::vector<std::string> &schedules);
};

} // namespace kernelforge
