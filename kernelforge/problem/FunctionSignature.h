// What a function takes and what its arguments are used for, so that a run can be given values that
// make sense, or be refused ones that do not.
#pragma once

#include "kernelforge/backend/Program.h"
#include "kernelforge/support/ElementType.h"
#include "kernelforge/support/Error.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinTypes.h"

#include <map>
#include <string>
#include <vector>

namespace kernelforge {

/// Values of a function's sizes, by name.
using SizeValues = std::map<std::string, int64_t>;

/// How far indices may go: below `fixed` and below each of the named sizes.
struct IndexLimit {
  int64_t fixed = INT32_MAX;
  std::vector<std::string> sizes;

  int64_t evaluate(const SizeValues &values) const;
};

/// What an argument of i32 or the settings of `sample` say. One argument may have several uses.
struct IndexUse {
  bool position = false;  ///< of a row in its sequence
  bool sequence = false;  ///< of a row
  bool table = false;     ///< where a sequence lies in a cache
  bool length = false;    ///< of a sequence
  bool slot = false;      ///< where a row is written in a cache; negative: nowhere
  bool limits = false;    ///< positions at which sequences end
  bool settings = false;  ///< rows of settings of `sample`
  bool draws = false;     ///< rows of top-k and seed
  int64_t vocabulary = 0; ///< recent ids are below it, or -1; 0: it holds none
  IndexLimit limit;       ///< of tables and inputs that are indexed directly
};

struct FunctionArgument {
  std::string name;
  mlir::Type type;      ///< ranked tensor, or cache
  IndexUse use;         ///< of a tensor
  bool written = false; ///< a cache that the function appends to

  bool isCache() const;
  mlir::RankedTensorType tensor() const { return mlir::cast<mlir::RankedTensorType>(type); }
};

/// One attention of the function; numbers are indices of FunctionSignature::arguments.
struct AttentionUse {
  int keys, values, positions, sequences, table, lengths;
  int64_t page; ///< 0: contiguous
  bool causal;
  int64_t window;
  std::string cached; ///< the function's size that bounds the lengths; empty where none does
};

/// One append to a cache.
struct AppendUse {
  int cache, slots;
};

struct FunctionSignature {
  std::string name;
  std::vector<ProgramSize> sizes;
  std::vector<FunctionArgument> arguments; ///< tensors and caches, in order
  std::vector<mlir::RankedTensorType> results;
  std::vector<AttentionUse> attentions;
  std::vector<AppendUse> appends;
  std::vector<int64_t> pages; ///< of the function's attentions and advances; 0: contiguous
  /// The coarsest type that rows are rounded to on their way to the results: what the function's
  /// operations hand on, casts within its kernels, and caches that it appends to.
  ElementType coarsest = ElementType::F32;
  /// Whether operations of the function or of its kernels round what they multiply (numerics).
  bool roundsOperands = false;

  /// Extents of a tensor type at these sizes.
  std::vector<int64_t> shape(mlir::RankedTensorType type, const SizeValues &values) const;

  /// Whether a size bounds the lengths of an attention.
  bool boundsLengths(std::string_view size) const;
};

/// Reads a function of operations or launches. Unusable, with what to write instead, where it takes
/// anything but sizes, tensors of one or two dimensions of known sizes and caches, gives anything
/// but such tensors, or where two arguments have the same name.
Expected<FunctionSignature> readSignature(mlir::func::FuncOp function);

/// The function of `module` that is named, or its only one where `name` is empty; those of other
/// dialects alone, such as a kernel's code, do not count. Unusable, naming the functions,
/// otherwise.
Expected<mlir::func::FuncOp> findFunction(mlir::ModuleOp module, llvm::StringRef name);

/// The value of a size that bounds lengths for a run whose longest sequence has `longest` positions
/// after it, of `most`: the next power of two from 64 on, so that what is made for each value of a
/// size (a recorded graph) is made a few times, and not for every token.
int64_t cachedBucket(int64_t longest, int64_t most);

/// Positions before the rows of a run that nobody said anything about.
constexpr int64_t defaultPast = 7;

/// Values for all sizes: those in `given`, and a small one within its range for every other, larger
/// where positions must fit; a bound of lengths is the bucket of rows after a past of `past`
/// positions. Unusable where one is not known or out of range.
Expected<SizeValues> chooseSizes(const FunctionSignature &signature, const SizeValues &given,
                                 int64_t past = defaultPast);

} // namespace kernelforge
