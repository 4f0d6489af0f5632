// What the interpreter holds while it runs a body: sizes by name, and the value of each operand.
#pragma once

#include "kernelforge/ir/Transformer.h"
#include "kernelforge/kernels/Reference.h"
#include "kernelforge/support/Error.h"

#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/StringMap.h"

#include <list>
#include <memory>
#include <variant>

namespace kernelforge {

/// A tensor's value: memory in the format and layout of its type, the caller's or our own.
struct Tensor {
  ElementType element = ElementType::F32;
  int64_t rows = 0;
  int64_t width = 1; ///< 1 for tensors of one dimension
  WeightLayout layout = WeightLayout::RowMajor;
  std::byte *data = nullptr;
  std::shared_ptr<std::byte[]> storage; ///< keeps `data` alive; null where the caller does

  int64_t elements() const { return rows * width; }
};

/// A value of a body: a size, a tensor or a cache.
using FrameValue = std::variant<int64_t, Tensor, reference::CacheView>;

/// "transformer.rope in @decode", for messages.
std::string describeOp(mlir::Operation *op);

/// The refusal to interpret `op`, and why.
tl::unexpected<Error> refused(mlir::Operation *op, std::string why, std::string hint = "");

/// What the results of a body's operations are held in. What crosses its border is of its type.
enum class Held {
  InTypes, ///< each in its type: a function's operations hand theirs on in memory
  InF32    ///< in f32, whatever their type says, but for casts: so are those of a kernel's
};

/// Values of one run of a body.
class Frame {
public:
  Frame(reference::Precision precision, Held held) : precision(precision), held(held) {}

  /// Takes note of the body's sizes: `values` of the leading index arguments. Unusable where one is
  /// out of the range that the argument declares.
  Status bindSizes(mlir::FunctionOpInterface function, std::span<const int64_t> values);

  /// The value of a size of the body, by its name.
  int64_t size(llvm::StringRef name) const { return sizes.lookup(name); }

  /// Shape and format of a tensor of `type` with this frame's sizes, without memory.
  Tensor describe(mlir::RankedTensorType type) const;

  /// Bytes of a tensor; nothing where they overflow.
  static std::optional<uint64_t> bytes(const Tensor &tensor);

  /// Makes a tensor for a result of `op`. Unusable where its size overflows, Failed where the
  /// memory cannot be had.
  Expected<Tensor> allocate(mlir::Operation *op, mlir::RankedTensorType type) const;

  /// The same for rows of numbers, in what the frame holds them in.
  Expected<Tensor> allocateRows(mlir::Operation *op, mlir::RankedTensorType type) const;

  /// A value of the body as it leaves it: rounded to its type. Errors as allocate(), for `op`.
  Expected<Tensor> leaving(mlir::Operation *op, mlir::Value value) const;

  /// Makes `value` known until its last use.
  void set(mlir::Value value, FrameValue to);
  const FrameValue &get(mlir::Value value) const { return slots.find(value)->second.value; }
  const Tensor &tensor(mlir::Value value) const { return std::get<Tensor>(get(value)); }

  /// Forgets the operands of `op` that are not used again.
  void release(mlir::Operation *op);

  const reference::Precision precision; ///< that operations are computed in
  const Held held;

private:
  struct Slot {
    FrameValue value;
    size_t usesLeft;
  };
  llvm::DenseMap<mlir::Value, Slot> slots;
  llvm::StringMap<int64_t> sizes;
};

/// The operands and results of one operation as the reference functions take them. Tensors that
/// are not f32 are converted on the way in and out.
class OpValues {
public:
  OpValues(Frame &frame, mlir::Operation *op) : frame(frame), op(op) {}

  reference::Precision precision() const { return frame.precision; }
  /// The value of a size of the body around the operation, by its name.
  int64_t size(llvm::StringRef name) const { return frame.size(name); }
  reference::Rows rows(mlir::Value value);
  /// Empty where `value` is null.
  std::span<const float> vector(mlir::Value value);
  std::span<const int32_t> indices(mlir::Value value) const;
  /// Without data where `value` is null.
  WeightView weight(mlir::Value value) const;
  reference::CacheView cache(mlir::Value value) const;

  /// Memory for a result; `finish` rounds it to what the frame holds it in and makes it known.
  Expected<reference::MutableRows> result(mlir::Value value);
  void finish();

private:
  const float *floats(const Tensor &tensor);

  struct Pending {
    mlir::Value value;
    Tensor tensor;
    std::vector<float> wide; ///< the result in f32, where it is held in a narrower type
  };
  Frame &frame;
  mlir::Operation *op;
  std::list<std::vector<float>> converted;
  std::list<Pending> results;
};

} // namespace kernelforge
