#include "kernelforge/kernels/Layout.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>

namespace kernelforge {

namespace {

/// One piece of a row's block, and where its 16 copies begin in the group's block.
struct Field {
  int64_t offset;       ///< in the row-major block
  int64_t bytes;        ///< of one row
  int64_t packedOffset; ///< in the group's block; row r is at packedOffset + r * bytes
};

/// The units of a block, part after part; or the elements of a plain type that lie side by side,
/// which are a block here.
class Fields {
public:
  Fields(const ElementTypeInfo &t, int64_t width)
      : blockElements(t.isQuantized() ? t.blockElements : interleavedRun(t.type, width)),
        blockBytes(blockElements / t.blockElements * t.blockBytes) {
    if (!t.isQuantized()) {
      add(0, blockBytes);
      return;
    }
    for (BlockPart part : blockParts)
      for (int64_t at = 0; at < t.bytes(part); at += t.unitBytes(part))
        add(t.offset(part) + at, t.unitBytes(part));
  }
  const Field *begin() const { return fields.data(); }
  const Field *end() const { return fields.data() + count; }

  const int64_t blockElements, blockBytes;

private:
  void add(int64_t offset, int64_t bytes) {
    assert(count < fields.size() && "blocks have at most 256 bytes in words");
    fields[count++] = {offset, bytes, packed};
    packed += bytes * interleavedRows;
  }

  std::array<Field, 66> fields;
  size_t count = 0;
  int64_t packed = 0;
};

} // namespace

void packInterleaved(ElementType type, const std::byte *rows, int64_t n, int64_t k,
                     std::byte *out) {
  const ElementTypeInfo &t = info(type);
  assert(k % t.blockElements == 0 && "a row is whole blocks");
  const Fields fields(t, k);
  const int64_t blocks = k / fields.blockElements, rowBytes = blocks * fields.blockBytes;
  const int64_t groups = (n + interleavedRows - 1) / interleavedRows;
#pragma omp parallel for schedule(static)
  for (int64_t group = 0; group < groups; ++group) {
    std::byte *to = out + group * interleavedRows * rowBytes;
    const std::byte *from = rows + group * interleavedRows * rowBytes;
    const int64_t filled = std::min(interleavedRows, n - group * interleavedRows);
    for (int64_t block = 0; block < blocks; ++block) {
      for (const Field &field : fields) {
        std::byte *lanes = to + field.packedOffset;
        for (int64_t lane = 0; lane < filled; ++lane)
          std::memcpy(lanes + lane * field.bytes, from + lane * rowBytes + field.offset,
                      field.bytes);
        std::memset(lanes + filled * field.bytes, 0, (interleavedRows - filled) * field.bytes);
      }
      to += interleavedRows * fields.blockBytes;
      from += fields.blockBytes;
    }
  }
}

void packPlanes(ElementType type, const std::byte *rows, int64_t n, int64_t k, std::byte *out) {
  const ElementTypeInfo &t = info(type);
  const Planes planes(type, n, k);
  const int64_t blocks = k / t.blockElements;
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < n; ++row)
    for (int64_t block = row * blocks; block < (row + 1) * blocks; ++block)
      for (const Plane &plane : planes.all())
        std::memcpy(out + plane.begin + block * plane.bytes,
                    rows + block * t.blockBytes + plane.offset, plane.bytes);
  for (const Plane &plane : planes.all()) {
    const int64_t end = plane.begin + plane.content;
    std::memset(out + end, 0, (planeAlignment - end % planeAlignment) % planeAlignment);
  }
}

void packWeight(WeightLayout layout, ElementType type, const std::byte *rows, int64_t n, int64_t k,
                std::byte *out) {
  switch (layout) {
  case WeightLayout::RowMajor:
    std::memcpy(out, rows, n * (k / info(type).blockElements) * info(type).blockBytes);
    return;
  case WeightLayout::Interleaved:
    return packInterleaved(type, rows, n, k, out);
  case WeightLayout::Planes:
    return packPlanes(type, rows, n, k, out);
  }
}

/// Expands a row whose blocks, of so many elements and bytes, lie in pieces: `gather` puts block
/// `index` of it together again.
template <typename Gather>
static void dequantizeGathered(ElementType type, int64_t width, int64_t blockElements,
                               int64_t blockBytes, const Gather &gather, float *out) {
  // A few at a time, expanded by the one function that can.
  std::array<std::byte, 1024> buffer;
  const int64_t most = static_cast<int64_t>(buffer.size()) / blockBytes;
  const int64_t blocks = width / blockElements;
  for (int64_t done = 0; done < blocks;) {
    const int64_t chunk = std::min(most, blocks - done);
    for (int64_t block = 0; block < chunk; ++block)
      gather(done + block, buffer.data() + block * blockBytes);
    dequantizeRow(type, buffer.data(), chunk * blockElements, out + done * blockElements);
    done += chunk;
  }
}

void WeightView::readRow(int64_t row, float *out) const {
  const ElementTypeInfo &t = info(type);
  const int64_t blocks = width / t.blockElements;
  switch (layout) {
  case WeightLayout::RowMajor:
    return dequantizeRow(type, data + row * blocks * t.blockBytes, width, out);
  case WeightLayout::Interleaved: {
    const Fields fields(t, width);
    const int64_t lane = row % interleavedRows;
    const std::byte *group = data + (row - lane) * blocks * t.blockBytes;
    auto gather = [&](int64_t block, std::byte *to) {
      const std::byte *from = group + block * interleavedRows * fields.blockBytes;
      for (const Field &field : fields)
        std::memcpy(to + field.offset, from + field.packedOffset + lane * field.bytes, field.bytes);
    };
    return dequantizeGathered(type, width, fields.blockElements, fields.blockBytes, gather, out);
  }
  case WeightLayout::Planes: {
    const Planes planes(type, rows, width);
    auto gather = [&](int64_t block, std::byte *to) {
      for (const Plane &plane : planes.all())
        std::memcpy(to + plane.offset, data + plane.begin + (row * blocks + block) * plane.bytes,
                    plane.bytes);
    };
    return dequantizeGathered(type, width, t.blockElements, t.blockBytes, gather, out);
  }
  }
}

} // namespace kernelforge
