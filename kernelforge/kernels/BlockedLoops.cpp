#include "kernelforge/kernels/BlockedLoops.h"

#include <algorithm>
#include <cstring>

using namespace kernelforge;

static int64_t roundUp(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

int64_t kernelforge::depthUnit(const MatmulProblem &problem) {
  return std::max<int64_t>(32, info(problem.weights).blockElements);
}

BlockedLoops::BlockedLoops(const MatmulProblem &problem, const MatmulOperands &operands,
                           const Blocking &blocking)
    : problem(problem), weight(operands.weight), blocking(blocking), kernels(tileKernels()) {}

// Scratch: the panel, the packed input, then dotRows rows of the weight, expanded.
int64_t BlockedLoops::scratchValues() const {
  const int64_t rows = dotRows * blocking.kc;
  if (!blocking.pack)
    return rows;
  return roundUp(blocking.nc, kernels.columns) * blocking.kc +
         roundUp(blocking.mc, tileRows) * blocking.kc + rows;
}

void BlockedLoops::run(const MatmulArea &area, const float *input, float *out,
                       float *scratch) const {
  const auto [mc, nc, kc, pack] = blocking;
  float *panel = scratch;
  float *packed = panel + (pack ? roundUp(nc, kernels.columns) * kc : 0);
  float *rows = packed + (pack ? roundUp(mc, tileRows) * kc : 0);
  for (int64_t n = area.columnBegin; n < area.columnEnd; n += nc)
    for (int64_t k = area.kBegin; k < area.kEnd; k += kc) {
      MatmulArea block = area;
      block.columnBegin = n;
      block.columnEnd = std::min(n + nc, area.columnEnd);
      block.kBegin = k;
      block.kEnd = std::min(k + kc, area.kEnd);
      const bool add = k != area.kBegin;
      if (!pack) {
        multiplyRows(block, input, out, rows, add);
        continue;
      }
      packWeight(block, panel, rows);
      for (int64_t m = area.rowBegin; m < area.rowEnd; m += mc) {
        block.rowBegin = m;
        block.rowEnd = std::min(m + mc, area.rowEnd);
        packInput(block, input, packed);
        multiply(block, packed, panel, out, add);
      }
    }
}

/// Rows [first, first + count) of the weight over the block's part of k: where they lie, if they
/// are f32 there, else expanded into `rows`. Tells how far apart they are, in values.
const float *BlockedLoops::expandRows(const MatmulArea &block, int64_t first, int64_t count,
                                      float *rows, int64_t &stride) const {
  const ElementTypeInfo &t = info(problem.weights);
  const int64_t rowBytes = problem.k / t.blockElements * t.blockBytes;
  const std::byte *from = weight + first * rowBytes + block.kBegin / t.blockElements * t.blockBytes;
  if (problem.weights == ElementType::F32) {
    stride = problem.k;
    return reinterpret_cast<const float *>(from);
  }
  stride = blocking.kc;
  for (int64_t r = 0; r < count; ++r)
    dequantizeRow(problem.weights, from + r * rowBytes, block.kEnd - block.kBegin,
                  rows + r * stride);
  return rows;
}

/// Packs the block of the weight into groups of kernels.columns columns, [group][k][columns];
/// columns that there are not are zero.
void BlockedLoops::packWeight(const MatmulArea &block, float *panel, float *rows) const {
  const int64_t depth = block.kEnd - block.kBegin, columns = kernels.columns;
  const int64_t elementBytes = info(problem.weights).blockBytes;
  for (int64_t n = block.columnBegin; n < block.columnEnd; n += columns, panel += columns * depth) {
    const int64_t width = std::min(columns, block.columnEnd - n);
    if (width < columns)
      std::fill_n(panel, columns * depth, 0.0f);
    if (problem.transpose) {
      for (int64_t k = 0; k < depth; ++k)
        dequantizeRow(problem.weights, weight + ((block.kBegin + k) * problem.n + n) * elementBytes,
                      width, panel + k * columns);
      continue;
    }
    for (int64_t r = 0; r < width; r += 8) {
      const int64_t count = std::min<int64_t>(8, width - r);
      int64_t stride;
      const float *from = expandRows(block, n + r, count, rows, stride);
      kernels.transpose(count, depth, from, stride, panel + r, columns);
    }
  }
}

/// Packs the block of the input into groups of tileRows rows, [group][k][tileRows].
void BlockedLoops::packInput(const MatmulArea &block, const float *input, float *packed) const {
  const int64_t depth = block.kEnd - block.kBegin;
  for (int64_t m = block.rowBegin; m < block.rowEnd; m += tileRows, packed += tileRows * depth)
    kernels.transpose(std::min(tileRows, block.rowEnd - m), depth,
                      input + m * problem.k + block.kBegin, problem.k, packed, tileRows);
}

/// out (+)= packed * panel. A group of the panel stays in the L1 cache while all groups of the
/// packed input pass.
void BlockedLoops::multiply(const MatmulArea &block, const float *packed, const float *panel,
                            float *out, bool add) const {
  constexpr int64_t widest = 64;
  float edge[tileRows * widest];
  const int64_t depth = block.kEnd - block.kBegin, columns = kernels.columns;
  for (int64_t n = block.columnBegin; n < block.columnEnd; n += columns, panel += columns * depth) {
    const int64_t width = std::min(columns, block.columnEnd - n);
    const float *group = packed;
    for (int64_t m = block.rowBegin; m < block.rowEnd; m += tileRows, group += tileRows * depth) {
      const int64_t rows = std::min(tileRows, block.rowEnd - m);
      float *to = out + m * problem.n + n;
      if (width == columns) {
        kernels.tile(rows, depth, group, panel, to, problem.n, add);
        continue;
      }
      // A tile is whole columns wide: at the right edge it is made beside the result.
      kernels.tile(rows, depth, group, panel, edge, columns, false);
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < width; ++c)
          to[r * problem.n + c] =
              add ? to[r * problem.n + c] + edge[r * columns + c] : edge[r * columns + c];
    }
  }
}

/// out (+)= input * weight^T by dot products with dotRows rows of the weight at a time.
void BlockedLoops::multiplyRows(const MatmulArea &block, const float *input, float *out,
                                float *rows, bool add) const {
  const int64_t depth = block.kEnd - block.kBegin;
  for (int64_t n = block.columnBegin; n < block.columnEnd; n += dotRows) {
    const int64_t count = std::min(dotRows, block.columnEnd - n);
    int64_t stride;
    const float *from = expandRows(block, n, count, rows, stride);
    for (int64_t m = block.rowBegin; m < block.rowEnd; ++m) {
      const float *x = input + m * problem.k + block.kBegin;
      float sums[dotRows];
      if (count == dotRows)
        kernels.dot(depth, x, from, stride, sums);
      else
        for (int64_t r = 0; r < count; ++r) {
          float same[dotRows]; // with a stride of 0, eight times the same row
          kernels.dot(depth, x, from + r * stride, 0, same);
          sums[r] = same[0];
        }
      float *to = out + m * problem.n + n;
      for (int64_t r = 0; r < count; ++r)
        to[r] = add ? to[r] + sums[r] : sums[r];
    }
  }
}
