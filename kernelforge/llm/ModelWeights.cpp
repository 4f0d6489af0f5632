#include "kernelforge/llm/ModelWeights.h"

#include "kernelforge/llm/Fp8Weights.h"

#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <unordered_set>

namespace kernelforge {

namespace {

std::string supportedTypes(bool isMatrix) {
  std::string names;
  for (const ElementTypeInfo &type : elementTypes())
    if (type.type != ElementType::I32 && (isMatrix || !type.isQuantized()))
      names += fmt::format("{}{}", names.empty() ? "" : ", ", type.name);
  return names;
}

const StoredTensor *findTensor(const NamedList<StoredTensor> &tensors, const TensorSource &source) {
  for (const std::string &name : source.names)
    if (const StoredTensor *tensor = tensors.find(name))
      return tensor;
  return nullptr;
}

/// Bytes of a row (of an element, where the weight is a vector) as the file has them. The type was
/// checked, and rows of the file were when it was opened.
uint64_t bytesOfRow(const WeightSlot &slot, ElementType type) {
  return *rowBytes(type, slot.isMatrix() ? static_cast<uint64_t>(slot.shape.back()) : 1);
}

/// A weight in the file: its rows are neighbours, or it has to be transposed first, or its numbers
/// and their scales are to be joined.
struct Found {
  const WeightSlot *slot;
  const StoredTensor *tensor;
  TensorSource source;
  ElementType type;
  std::optional<Fp8Scales> scales = {};

  bool isCopied() const { return source.transposed || scales; }
};

Expected<Found> findWeight(const WeightSlot &slot, TensorSource source,
                           const NamedList<StoredTensor> &tensors, const std::string &where) {
  const StoredTensor *tensor = findTensor(tensors, source);
  auto error = [&](std::string why, std::string hint = "") {
    const std::string &name = tensor ? tensor->name : source.names.front();
    return unusable(std::string(modelFileError), fmt::format("{}, tensor {}", where, name),
                    std::move(why), std::move(hint));
  };
  if (!tensor)
    return error("is missing");
  const bool isDense = !slot.isMatrix() || source.transposed; // blocks lie along a row
  const bool isScaled = isFp8(*tensor) && !isDense;
  const bool usable = tensor->type && *tensor->type != ElementType::I32 &&
                      !(isDense && info(*tensor->type).isQuantized());
  if (!usable && !isScaled)
    return error(fmt::format("type {} is not supported for a {}", tensor->typeName,
                             slot.isMatrix() ? "weight matrix" : "norm or bias"),
                 "supported are " + supportedTypes(!isDense));
  std::vector<int64_t> stored = slot.shape;
  if (source.rows != 0)
    stored.front() = source.rows;
  if (source.transposed)
    std::swap(stored.front(), stored.back());
  if (tensor->shape != stored) // after the type: packed types have shapes of their own
    return error(fmt::format("has shape {}, the model needs {}", printShape(tensor->shape),
                             printShape(stored)));
  if (!isScaled)
    return Found{&slot, tensor, std::move(source), *tensor->type};
  KF_TRY(const Fp8Scales scales, findFp8Scales(*tensor, tensors, where));
  return Found{&slot, tensor, std::move(source), ElementType::F8_E4M3, scales};
}

/// out[r][c] = in[c * inStride + r] for elements of one size; in tiles, so that both sides stay in
/// the cache.
template <typename Word>
void transpose(const std::byte *in, int64_t inStride, int64_t rows, int64_t columns,
               std::byte *out) {
  constexpr int64_t tile = 32;
  for (int64_t r0 = 0; r0 < rows; r0 += tile)
    for (int64_t c0 = 0; c0 < columns; c0 += tile)
      for (int64_t r = r0; r < std::min(r0 + tile, rows); ++r)
        for (int64_t c = c0; c < std::min(c0 + tile, columns); ++c)
          std::memcpy(out + (r * columns + c) * static_cast<int64_t>(sizeof(Word)),
                      in + (c * inStride + r) * static_cast<int64_t>(sizeof(Word)), sizeof(Word));
}

/// The weight's bytes in `out`, row-major [out, in].
void copyInto(const Found &found, std::span<std::byte> out) {
  if (found.scales)
    return joinFp8(*found.tensor, *found.scales, found.source.firstRow, found.slot->shape.front(),
                   out.data());
  const int64_t rows = found.slot->shape.front(), columns = found.slot->shape.back();
  const int64_t stride = found.tensor->shape.back();
  const auto size = static_cast<int64_t>(info(*found.tensor->type).blockBytes);
  const std::byte *in = found.tensor->bytes.data() + found.source.firstRow * size;
  if (size == sizeof(uint16_t))
    transpose<uint16_t>(in, stride, rows, columns, out.data());
  else
    transpose<uint32_t>(in, stride, rows, columns, out.data());
}

uint64_t bytesOf(const Found &found) {
  const auto rows = static_cast<uint64_t>(found.slot->shape.front());
  return rows * bytesOfRow(*found.slot, found.type);
}

} // namespace

Expected<BoundWeights> bindWeights(const Architecture &architecture,
                                   const ModelDescription &description,
                                   const NamedList<StoredTensor> &tensors, WeightNaming naming,
                                   const std::string &where) {
  const std::vector<WeightSlot> slots = weightSlots(description);
  std::vector<Found> all;
  std::unordered_set<std::string_view> used; // views into `tensors`
  uint64_t owned = 0; // no more than the file has, and scales for blocks of it
  for (const WeightSlot &slot : slots) {
    KF_TRY(Found found,
           findWeight(slot, architecture.locate(slot, description, naming), tensors, where));
    used.insert(found.tensor->name);
    if (found.scales)
      used.insert(found.scales->tensor->name);
    owned += found.isCopied() ? bytesOf(found) : 0;
    all.push_back(std::move(found));
  }
  for (const StoredTensor &tensor : tensors)
    if (!used.contains(tensor.name) && !architecture.isRedundant(tensor.name, description, naming))
      return unusable(std::string(modelFileError), fmt::format("{}, tensor {}", where, tensor.name),
                      "has no place in a model of this configuration");
  BoundWeights bound;
  if (owned != 0) {
    KF_TRY(bound.owned, PageMemory::allocate(owned));
  }
  uint64_t next = 0;
  for (const Found &found : all) {
    const uint64_t bytes = bytesOf(found);
    Weight weight{found.slot->name, found.type, found.slot->shape, {}, found.tensor->name};
    if (found.isCopied()) {
      const auto memory = bound.owned.span().subspan(next, bytes);
      copyInto(found, memory);
      weight.bytes = memory;
      next += bytes;
    } else {
      const auto first = static_cast<uint64_t>(found.source.firstRow);
      weight.bytes =
          found.tensor->bytes.subspan(first * bytesOfRow(*found.slot, found.type), bytes);
    }
    bound.weights.add(std::move(weight));
  }
  return bound;
}

std::string describeNonFinite(const NamedList<Weight> &weights) {
  std::vector<float> values;
  for (const Weight &weight : weights) {
    values.resize(static_cast<size_t>(weight.shape.back()));
    const uint64_t stride = *rowBytes(weight.type, values.size()); // checked when it was bound
    const int64_t rows = weight.shape.size() == 1 ? 1 : weight.shape.front();
    for (int64_t row = 0; row < rows; ++row) {
      dequantizeRow(weight.type, weight.bytes.data() + static_cast<uint64_t>(row) * stride,
                    values.size(), values.data());
      for (float value : values)
        if (!std::isfinite(value))
          return fmt::format("{} has {} in row {}",
                             weight.fileName.empty() ? weight.name : weight.fileName,
                             std::isnan(value) ? std::fabs(value) : value, row); // NaN has a sign
    }
  }
  return "";
}

} // namespace kernelforge
