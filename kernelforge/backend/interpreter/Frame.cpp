#include "kernelforge/backend/interpreter/Frame.h"

#include "kernelforge/ir/WeightLayouts.h"
#include "kernelforge/support/CheckedArithmetic.h"

#include <fmt/format.h>

#include <new>

using namespace mlir;
using namespace kernelforge::transformer;

namespace kernelforge {

std::string describeOp(Operation *op) {
  std::string text = op->getName().getStringRef().str();
  if (auto function = op->getParentOfType<FunctionOpInterface>())
    text += " in @" + function.getName().str();
  return text;
}

tl::unexpected<Error> refused(Operation *op, std::string why, std::string hint) {
  return unusable("operation cannot be interpreted", describeOp(op), std::move(why),
                  std::move(hint));
}

Status Frame::bindSizes(FunctionOpInterface function, std::span<const int64_t> values) {
  for (auto [i, value] : llvm::enumerate(values)) {
    auto size = function.getArgAttrOfType<SizeAttr>(i, sizeAttrName);
    if (value < size.getMin() || value > size.getMax())
      return unusable("run is refused", function.getName().str(),
                      fmt::format("size '{}' is {}, out of the range {} to {}",
                                  size.getName().str(), value, size.getMin(), size.getMax()));
    sizes[size.getName().getValue()] = value;
    set(function.getArgument(i), value);
  }
  return {};
}

Tensor Frame::describe(RankedTensorType type) const {
  Tensor tensor;
  tensor.element = *elementTypeOf(type);
  tensor.layout = weightLayoutOf(type);
  auto dims = dyn_cast_or_null<DimsAttr>(type.getEncoding());
  size_t named = 0;
  auto extent = [&](int64_t dimension) {
    if (!type.isDynamicDim(dimension))
      return type.getDimSize(dimension);
    return sizes.lookup(dims.getNames()[named++].getValue());
  };
  tensor.rows = extent(0);
  if (type.getRank() == 2)
    tensor.width = extent(1);
  return tensor;
}

std::optional<uint64_t> Frame::bytes(const Tensor &tensor) {
  auto total = layoutBytes(tensor.layout, tensor.element, tensor.rows, tensor.width);
  return total && *total <= uint64_t(INT64_MAX) ? total : std::nullopt;
}

Expected<Tensor> Frame::allocate(Operation *op, RankedTensorType type) const {
  Tensor tensor = describe(type);
  auto size = bytes(tensor);
  if (!size)
    return refused(op, "the size of its result overflows");
  tensor.storage.reset(new (std::nothrow) std::byte[*size]);
  if (!tensor.storage)
    return failed("out of memory", describeOp(op), fmt::format("its result takes {} bytes", *size));
  tensor.data = tensor.storage.get();
  return tensor;
}

Expected<Tensor> Frame::allocateRows(Operation *op, RankedTensorType type) const {
  const bool isNumbers = isa<FloatType>(type.getElementType());
  if (held == Held::InF32 && isNumbers && !isa<CastOp>(op))
    type = RankedTensorType::get(type.getShape(), Float32Type::get(type.getContext()),
                                 type.getEncoding());
  return allocate(op, type);
}

Expected<Tensor> Frame::leaving(Operation *op, Value value) const {
  const Tensor &from = tensor(value);
  auto type = cast<RankedTensorType>(value.getType());
  if (from.element == *elementTypeOf(type))
    return from;
  KF_TRY(Tensor to, allocate(op, type));
  quantizeRow(to.element, reinterpret_cast<const float *>(from.data),
              static_cast<uint64_t>(from.elements()), to.data);
  return to;
}

void Frame::set(Value value, FrameValue to) {
  auto uses = static_cast<size_t>(std::distance(value.use_begin(), value.use_end()));
  if (uses != 0)
    slots.insert_or_assign(value, Slot{std::move(to), uses});
}

void Frame::release(Operation *op) {
  for (Value operand : op->getOperands())
    if (auto slot = slots.find(operand); --slot->second.usesLeft == 0)
      slots.erase(slot);
}

//===----------------------------------------------------------------------===//
// Operands and results of one operation
//===----------------------------------------------------------------------===//

const float *OpValues::floats(const Tensor &tensor) {
  if (tensor.element == ElementType::F32)
    return reinterpret_cast<const float *>(tensor.data);
  auto &buffer = converted.emplace_back(static_cast<size_t>(tensor.elements()));
  dequantizeRow(tensor.element, tensor.data, buffer.size(), buffer.data());
  return buffer.data();
}

reference::Rows OpValues::rows(Value value) {
  const Tensor &tensor = frame.tensor(value);
  return reference::denseRows(floats(tensor), tensor.rows, tensor.width);
}

std::span<const float> OpValues::vector(Value value) {
  if (!value)
    return {};
  const Tensor &tensor = frame.tensor(value);
  return {floats(tensor), static_cast<size_t>(tensor.elements())};
}

std::span<const int32_t> OpValues::indices(Value value) const {
  const Tensor &tensor = frame.tensor(value);
  return {reinterpret_cast<const int32_t *>(tensor.data), static_cast<size_t>(tensor.elements())};
}

WeightView OpValues::weight(Value value) const {
  if (!value)
    return {};
  const Tensor &tensor = frame.tensor(value);
  return {tensor.element, tensor.data, tensor.rows, tensor.width, tensor.layout};
}

reference::CacheView OpValues::cache(Value value) const {
  return std::get<reference::CacheView>(frame.get(value));
}

Expected<reference::MutableRows> OpValues::result(Value value) {
  KF_TRY(Tensor tensor, frame.allocateRows(op, cast<RankedTensorType>(value.getType())));
  Pending &pending = results.emplace_back(Pending{value, std::move(tensor), {}});
  auto *data = reinterpret_cast<float *>(pending.tensor.data);
  if (pending.tensor.element != ElementType::F32) {
    pending.wide.resize(pending.tensor.elements());
    data = pending.wide.data();
  }
  return reference::denseRows(data, pending.tensor.rows, pending.tensor.width);
}

void OpValues::finish() {
  for (Pending &pending : results) {
    if (pending.tensor.element != ElementType::F32)
      quantizeRow(pending.tensor.element, pending.wide.data(), pending.wide.size(),
                  pending.tensor.data);
    frame.set(pending.value, std::move(pending.tensor));
  }
}

} // namespace kernelforge
