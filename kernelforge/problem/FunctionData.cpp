#include "kernelforge/problem/FunctionData.h"

#include "kernelforge/ir/Caches.h"
#include "kernelforge/kernels/Reference.h"
#include "kernelforge/support/CheckedArithmetic.h"
#include "kernelforge/support/Host.h"
#include "kernelforge/support/Sampling.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

//===----------------------------------------------------------------------===//
// Tensors
//===----------------------------------------------------------------------===//

/// The slots of a cache; nothing where the shape is that of a tensor.
static std::optional<CacheSlot> slotIn(ElementType type, const std::vector<int64_t> &shape) {
  return shape.size() == 3 ? std::optional(CacheSlot{type, shape[1], shape[2]}) : std::nullopt;
}

/// Elements of all dimensions but the last, and bytes of a row of the last; of a cache, its slots
/// and the bytes of a slot.
static std::optional<std::pair<uint64_t, uint64_t>>
rowsAndBytes(ElementType type, const std::vector<int64_t> &shape) {
  if (const auto slot = slotIn(type, shape)) {
    const auto bytes = slot->checkedBytes(1);
    return bytes ? std::optional(std::pair(static_cast<uint64_t>(shape[0]), *bytes)) : std::nullopt;
  }
  auto rows = checkedProduct(std::vector<uint64_t>(shape.begin(), shape.end() - 1));
  auto row = rowBytes(type, static_cast<uint64_t>(shape.back()));
  if (!rows || !row)
    return std::nullopt;
  return std::pair(*rows, *row);
}

int64_t TensorData::elements() const {
  int64_t count = 1;
  for (int64_t extent : shape)
    count *= extent;
  return count;
}

uint64_t TensorData::bytes() const {
  auto [rows, row] = *rowsAndBytes(type, shape);
  return rows * row;
}

Expected<TensorData> TensorData::allocate(std::string name, ElementType type,
                                          std::vector<int64_t> shape) {
  auto size = rowsAndBytes(type, shape);
  auto bytes = size ? checkedMul(size->first, size->second) : std::nullopt;
  const auto available = static_cast<uint64_t>(host().memoryBytes);
  if (!bytes || (available != 0 && *bytes > available))
    return unusable("tensor does not fit in memory", name,
                    bytes ? fmt::format("it takes {} bytes, this machine has {}", *bytes, available)
                          : "its size overflows");
  TensorData tensor{std::move(name), type, std::move(shape), {}};
  // A byte at least: a tensor without elements has an address too.
  KF_TRY(tensor.memory, PageMemory::allocate(std::max<uint64_t>(*bytes, 1)));
  return tensor;
}

uint64_t TensorData::rows() const { return rowsAndBytes(type, shape)->first; }

uint64_t TensorData::rowElements() const {
  const auto slot = slotIn(type, shape);
  return static_cast<uint64_t>(slot ? slot->elements() : shape.back());
}

std::vector<float> TensorData::toFloats() const {
  const auto slot = slotIn(type, shape);
  auto [rows, row] = *rowsAndBytes(type, shape);
  std::vector<float> values(static_cast<size_t>(elements()));
  float *out = values.data();
  for (uint64_t r = 0; r < rows; ++r, out += rowElements()) {
    const std::byte *from = memory.data() + r * row;
    if (slot)
      for (int64_t head = 0; head < slot->heads; ++head)
        slot->read(from, head, out + head * slot->dim);
    else
      dequantizeRow(type, from, shape.back(), out);
  }
  return values;
}

void TensorData::setRow(uint64_t row, const float *values) {
  std::byte *to = memory.data() + row * rowsAndBytes(type, shape)->second;
  if (const auto slot = slotIn(type, shape))
    slot->write(values, to);
  else
    quantizeRow(type, values, rowElements(), to);
}

Expected<TensorData> TensorData::clone() const {
  KF_TRY(TensorData copy, allocate(name, type, shape));
  std::memcpy(copy.memory.data(), memory.data(), bytes());
  return copy;
}

std::vector<int64_t> FunctionData::sizeList(const FunctionSignature &signature) const {
  std::vector<int64_t> list;
  for (const ProgramSize &size : signature.sizes)
    list.push_back(sizes.at(size.name));
  return list;
}

std::vector<int64_t> FunctionData::sizeList(const FunctionSignature &signature,
                                            int64_t cached) const {
  std::vector<int64_t> list;
  for (const ProgramSize &size : signature.sizes)
    list.push_back(signature.boundsLengths(size.name) ? cached : sizes.at(size.name));
  return list;
}

int64_t FunctionData::longest(const FunctionSignature &signature) const {
  int64_t longest = 0;
  for (const AttentionUse &use : signature.attentions)
    for (int32_t length : arguments[use.lengths].indices())
      longest = std::max<int64_t>(longest, length);
  return longest;
}

//===----------------------------------------------------------------------===//
// Random values
//===----------------------------------------------------------------------===//

namespace {

/// Where the rows of a run stand: which sequence, which position, which slot.
class Placement {
public:
  Placement(const FunctionSignature &signature, const SizeValues &sizes, int64_t wantedPast) {
    bool paged = false;
    int64_t limit = INT32_MAX, tableWidth = 0;
    for (const FunctionArgument &argument : signature.arguments) {
      if (argument.isCache())
        continue;
      const std::vector<int64_t> shape = signature.shape(argument.tensor(), sizes);
      const IndexUse &use = argument.use;
      if (use.position || use.sequence || use.slot)
        rows = std::max(rows, shape[0]);
      if (use.length || use.table)
        sequences = std::max(sequences, shape[0]);
      if (use.position)
        limit = std::min(limit, use.limit.evaluate(sizes));
      if (use.table && shape.size() == 2)
        tableWidth = shape[1];
    }
    for (int64_t used : signature.pages)
      if (used != 0) {
        paged = true;
        page = used;
        limit = std::min(limit, tableWidth * page);
      }
    // A past of some rows where there is room for one.
    const int64_t perSequence = (rows + sequences - 1) / sequences;
    limit = std::max<int64_t>(limit, 1);
    past = std::clamp<int64_t>(limit - perSequence, 0, wantedPast);
    positions = limit;
    span = paged ? tableWidth * page : std::min(limit, past + perSequence);
    for (int64_t r = 0; r < rows; ++r) {
      if (r == 0 || sequence(r) != sequence(r - 1))
        starts.resize(sequence(r) + 1, r);
    }
  }

  int64_t limit() const { return positions; }
  int64_t slots() const { return std::max<int64_t>(sequences * span, 1); }
  int64_t sequence(int64_t row) const { return row * sequences / std::max<int64_t>(rows, 1); }
  int64_t position(int64_t row) const { return (past + inSequence(row)) % positions; }
  int64_t length(int64_t s) const {
    const int64_t end = s + 1 < static_cast<int64_t>(starts.size()) ? starts[s + 1] : rows;
    const int64_t own = s < static_cast<int64_t>(starts.size()) ? end - starts[s] : 0;
    return std::min(past + own, positions);
  }
  /// Where positions began anew, a row is written nowhere: no two rows share a slot.
  int64_t slot(int64_t row) const {
    return past + inSequence(row) < positions ? sequence(row) * span + position(row) : -1;
  }
  int64_t tableEntry(int64_t s, int64_t column, int64_t width) const {
    return page == 0 ? s * span : s * width + column;
  }

private:
  int64_t inSequence(int64_t row) const { return row - starts[sequence(row)]; }

  int64_t rows = 0, sequences = 1, page = 0;
  int64_t past = 0, span = 0, positions = 1;
  std::vector<int64_t> starts; ///< first row of each sequence
};

class RandomFiller {
public:
  RandomFiller(const Placement &placement, const SizeValues &sizes, uint64_t seed)
      : placement(placement), sizes(sizes), random(seed) {}

  void fill(const FunctionArgument &argument, TensorData &tensor) {
    if (argument.use.settings)
      return fillSettings(tensor);
    if (tensor.type == ElementType::I32)
      return fillIndices(argument.use, tensor);
    // A weight's rows are summed over its width; everything else is of the order of one.
    const bool weight = !argument.isCache() && argument.tensor().getRank() == 2 &&
                        argument.tensor().hasStaticShape();
    const auto width = static_cast<uint64_t>(tensor.shape.back());
    const float scale = weight ? std::sqrt(3.0f / static_cast<float>(width)) : 1.0f;
    if (info(tensor.type).isQuantized() && !argument.isCache() && tensor.elements() > mostQuantized)
      return fillFromPool(tensor, scale);
    std::vector<float> values(tensor.rowElements());
    for (uint64_t row = 0; row < tensor.rows(); ++row) {
      for (float &value : values)
        value = scale * uniform();
      tensor.setRow(row, values.data());
    }
  }

private:
  /// In [-1, 1), of 24 bits.
  float uniform() { return static_cast<float>(random() >> 40) * 0x1p-23f - 1.0f; }

  /// Rows as those of users: every third one is greedy.
  void fillSettings(TensorData &tensor) {
    const std::span out(reinterpret_cast<float *>(tensor.memory.data()),
                        static_cast<size_t>(tensor.elements()));
    for (size_t i = 0; i + 5 <= out.size(); i += 5) {
      const auto settings = SampleSettings::of(i / 5 % 3 == 1 ? 0 : 1.25F + uniform(),
                                               0.9F + uniform() / 10, 0.05F, 1.25F);
      std::ranges::copy(settings.row(), out.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }

  /// Quantizing hundreds of millions of weights takes minutes: blocks of a pool, drawn at random,
  /// make rows that differ as much.
  void fillFromPool(TensorData &tensor, float scale) {
    const ElementTypeInfo &type = info(tensor.type);
    const auto block = static_cast<size_t>(type.blockBytes);
    const auto elements = static_cast<uint64_t>(type.blockElements);
    std::vector<std::byte> pool(poolBlocks * block);
    std::vector<float> values(elements);
    for (size_t i = 0; i < poolBlocks; ++i) {
      for (float &value : values)
        value = scale * uniform();
      quantizeRow(tensor.type, values.data(), elements, pool.data() + i * block);
    }
    for (std::byte *out = tensor.memory.data(), *end = out + tensor.bytes(); out < end;
         out += block)
      std::memcpy(out, pool.data() + (random() >> 40) % poolBlocks * block, block);
  }

  void fillIndices(const IndexUse &use, TensorData &tensor) {
    std::span<int32_t> out = tensor.indices();
    const int64_t width = tensor.shape.size() == 2 ? tensor.shape[1] : 1;
    const auto limit = static_cast<uint64_t>(std::max<int64_t>(use.limit.evaluate(sizes), 1));
    const bool indexes = use.limit.fixed != INT32_MAX || !use.limit.sizes.empty();
    for (int64_t i = 0; i < static_cast<int64_t>(out.size()); ++i) {
      int64_t value = 0;
      if (use.position)
        value = placement.position(i);
      else if (use.sequence) // fewer may be known here than elsewhere in the function
        value = std::min(placement.sequence(i), static_cast<int64_t>(limit) - 1);
      else if (use.slot)
        value = placement.slot(i);
      else if (use.length)
        value = placement.length(i);
      else if (use.table)
        value = placement.tableEntry(i / width, i % width, width);
      else if (use.limits)
        value = placement.limit();
      else if (use.draws) // top-k, and the halves of a seed
        value = static_cast<int64_t>(i % 3 == 0 ? random() % 41 : random());
      else if (use.vocabulary != 0)
        value = static_cast<int64_t>(random() % static_cast<uint64_t>(use.vocabulary + 1)) - 1;
      else if (indexes)
        value = static_cast<int64_t>(random() % limit);
      out[i] = static_cast<int32_t>(value);
    }
  }

  static constexpr int64_t mostQuantized = 1 << 20; ///< elements that are quantized one by one
  static constexpr size_t poolBlocks = 4093;

  const Placement &placement;
  const SizeValues &sizes;
  std::mt19937_64 random;
};

} // namespace

Expected<std::vector<TensorData>> kernelforge::allocateResults(const FunctionSignature &signature,
                                                               const SizeValues &sizes) {
  std::vector<TensorData> results;
  for (RankedTensorType type : signature.results) {
    std::vector<int64_t> shape = signature.shape(type, sizes);
    if (LayoutAttr layout = layoutOf(type)) // as it lies in memory, the last group of rows filled
      shape[0] = (shape[0] + layout.getRows() - 1) / layout.getRows() * layout.getRows();
    KF_TRY(TensorData result, TensorData::allocate(fmt::format("result {}", results.size()),
                                                   *elementTypeOf(type), std::move(shape)));
    results.push_back(std::move(result));
  }
  return results;
}

std::pair<ElementType, std::vector<int64_t>>
kernelforge::describeArgument(const FunctionSignature &signature, const FunctionArgument &argument,
                              const SizeValues &sizes, int64_t slots) {
  if (!argument.isCache())
    return {*elementTypeOf(argument.tensor()), signature.shape(argument.tensor(), sizes)};
  const CacheSlot slot = slotOf(cast<CacheType>(argument.type));
  return {slot.type, {slots, slot.heads, slot.dim}};
}

/// Unusable where all arguments together are beyond this machine's memory.
static Status checkTotal(const FunctionSignature &signature, const SizeValues &sizes,
                         int64_t slots) {
  std::optional<uint64_t> total = 0;
  for (const FunctionArgument &argument : signature.arguments) {
    auto [type, shape] = describeArgument(signature, argument, sizes, slots);
    auto size = rowsAndBytes(type, shape);
    auto bytes = size ? checkedMul(size->first, size->second) : std::nullopt;
    total = total && bytes ? checkedAdd(*total, *bytes) : std::nullopt;
  }
  const auto available = static_cast<uint64_t>(host().memoryBytes);
  if (total && (available == 0 || *total <= available))
    return {};
  return unusable("inputs do not fit in memory", "@" + signature.name,
                  total ? fmt::format("they take {} bytes, this machine has {}", *total, available)
                        : "their size overflows",
                  "choose smaller sizes");
}

Expected<FunctionData> kernelforge::randomData(const FunctionSignature &signature,
                                               const SizeValues &sizes, uint64_t seed,
                                               int64_t past) {
  FunctionData data;
  data.sizes = sizes;
  KF_CHECK(checkTotal(signature, sizes, 1)); // before rows are gone through one by one
  const Placement placement(signature, sizes, past);
  KF_CHECK(checkTotal(signature, sizes, placement.slots()));
  RandomFiller filler(placement, sizes, seed);
  for (const FunctionArgument &argument : signature.arguments) {
    auto [type, shape] = describeArgument(signature, argument, sizes, placement.slots());
    KF_TRY(TensorData tensor, TensorData::allocate(argument.name, type, std::move(shape)));
    filler.fill(argument, tensor);
    data.arguments.push_back(std::move(tensor));
  }
  KF_TRY(data.results, allocateResults(signature, sizes));
  KF_CHECK(checkIndices(signature, data));
  return data;
}

//===----------------------------------------------------------------------===//
// Checking
//===----------------------------------------------------------------------===//

static Status checkRange(const TensorData &tensor, int64_t low, int64_t end) {
  std::span<const int32_t> values = tensor.indices();
  if (!values.empty() && end <= std::max<int64_t>(low, 0))
    return unusable("input is not usable", tensor.name,
                    "its elements are to be numbers of rows, and there are no rows",
                    "index something that has rows, or give no indices");
  for (size_t i = 0; i < values.size(); ++i)
    if (values[i] < low || values[i] >= end)
      return unusable(
          "input is not usable", tensor.name,
          fmt::format("element {} is {}, out of the range {} to {}", i, values[i], low, end - 1));
  return {};
}

/// Whether every key that a row sees lies in a slot of both caches.
static Status checkVisibleSlots(const AttentionUse &use, const FunctionData &data) {
  auto at = [&](int argument) -> const TensorData & { return data.arguments[argument]; };
  reference::AttentionInputs in;
  in.positions = at(use.positions).indices();
  in.sequences = at(use.sequences).indices();
  in.table = at(use.table).indices();
  in.lengths = at(use.lengths).indices();
  in.tableWidth = at(use.table).shape.size() == 2 ? at(use.table).shape[1] : 1;
  in.keys.page = use.page;
  in.causal = use.causal;
  in.window = use.window;
  const int64_t slots = std::min(at(use.keys).shape[0], at(use.values).shape[0]);
  for (int64_t r = 0; r < static_cast<int64_t>(in.positions.size()); ++r) {
    const auto [first, end] = in.visible(r);
    // The first and last position of each page, or of the whole range where there are none.
    const int64_t step = use.page != 0 ? use.page : std::max<int64_t>(end - first, 1);
    for (int64_t p = first; p < end; p = use.page != 0 ? (p / step + 1) * step : p + step) {
      const int64_t last = std::min(end, use.page != 0 ? (p / step + 1) * step : end) - 1;
      const bool inTable = use.page == 0 || p / use.page < in.tableWidth;
      const int64_t from = inTable ? in.slot(in.sequences[r], p) : -1;
      if (!inTable || from < 0 || from + (last - p) >= slots)
        return unusable("input is not usable", at(use.table).name,
                        fmt::format("row {} sees positions {} to {} of sequence {}, which lie "
                                    "outside the {} slots of the caches",
                                    r, p, last, in.sequences[r], slots));
    }
  }
  return {};
}

Status kernelforge::checkIndices(const FunctionSignature &signature, const FunctionData &data) {
  for (size_t i = 0; i < signature.arguments.size(); ++i) {
    const FunctionArgument &argument = signature.arguments[i];
    const IndexUse &use = argument.use;
    const bool indexes = use.limit.fixed != INT32_MAX || !use.limit.sizes.empty();
    if (data.arguments[i].type == ElementType::I32 && (indexes || use.position || use.length))
      KF_CHECK(checkRange(data.arguments[i], 0, use.limit.evaluate(data.sizes)));
  }
  for (const AppendUse &use : signature.appends)
    KF_CHECK(checkRange(data.arguments[use.slots], INT32_MIN, data.arguments[use.cache].shape[0]));
  for (const AttentionUse &use : signature.attentions) {
    if (!use.cached.empty())
      KF_CHECK(checkRange(data.arguments[use.lengths], 0, data.sizes.at(use.cached) + 1));
    KF_CHECK(checkVisibleSlots(use, data));
  }
  return {};
}
