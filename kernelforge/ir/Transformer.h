// The transformer dialect: operations, attributes, types, and what others ask of them.
#pragma once

#include "kernelforge/ir/OpKind.h"
#include "kernelforge/support/ElementType.h"
#include "kernelforge/support/Numerics.h"

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/IR/TensorEncoding.h"
#include "mlir/Interfaces/ControlFlowInterfaces.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/StringSet.h"

namespace kernelforge::transformer {

/// An error, with the attributes that `op` knows, where it has one that it does not. Those of other
/// dialects ("llvm.noalias") are none of its business.
llvm::LogicalResult verifyKnownAttributes(mlir::Operation *op);

template <typename ConcreteOp>
class KnownAttributes : public mlir::OpTrait::TraitBase<ConcreteOp, KnownAttributes> {
public:
  static llvm::LogicalResult verifyTrait(mlir::Operation *op) { return verifyKnownAttributes(op); }
};

} // namespace kernelforge::transformer

#include "kernelforge/ir/TransformerDialect.h.inc"
#include "kernelforge/ir/TransformerEnums.h.inc"
#define GET_ATTRDEF_CLASSES
#include "kernelforge/ir/TransformerAttrs.h.inc"
#define GET_TYPEDEF_CLASSES
#include "kernelforge/ir/TransformerInterfaces.h.inc"
#include "kernelforge/ir/TransformerTypes.h.inc"
#define GET_OP_CLASSES
#include "kernelforge/ir/TransformerOps.h.inc"

namespace kernelforge {

/// Names of the discardable attributes on function arguments.
constexpr llvm::StringLiteral sizeAttrName = "transformer.size";     ///< SizeAttr, on an index
constexpr llvm::StringLiteral weightAttrName = "transformer.weight"; ///< name of the weight
constexpr llvm::StringLiteral inputAttrName = "transformer.input";   ///< what the caller binds
/// On operations: what they do in the model ("attn_q"), and in which layer. A launch has them from
/// the operations that became its kernel. They change nothing that is computed.
constexpr llvm::StringLiteral roleAttrName = "transformer.role";   ///< a string
constexpr llvm::StringLiteral layerAttrName = "transformer.layer"; ///< i64, not negative
/// TargetAttr on the module: set before fusion.
constexpr llvm::StringLiteral targetAttrName = "transformer.target";

/// Name of tensor or cache argument `index` of a function: its weight or input name, else "argN".
std::string argumentName(mlir::func::FuncOp function, unsigned index);

/// What an operation does in the model, and in which layer: empty and -1 where it does not say.
struct Place {
  std::string role;
  int64_t layer = -1;
};
Place placeOf(mlir::Operation *op);

/// Says so of an operation; without a layer where that is negative.
void setPlace(mlir::Operation *op, int64_t layer, llvm::StringRef role);

/// The place of what operations become that are made one: their layer where they share it, and
/// their roles under a common beginning: "attn_q", "attn_k", "attn_v" are "attn_qkv", and
/// "ffn_gate", "ffn_up" are "ffn_gate_up". Nothing where one of them has no role.
Place joinedPlace(llvm::ArrayRef<mlir::Operation *> ops);

/// Element type of a weight or activation type; nothing where the table has none.
std::optional<ElementType> elementTypeOf(mlir::Type type);

/// The MLIR type of an element type.
mlir::Type elementTypeToMlir(mlir::MLIRContext *context, ElementType type);

/// Name of the size that the leading dimension of `type` follows; empty where it is static.
llvm::StringRef rowsSizeName(mlir::RankedTensorType type);

/// What to write so that the rows of `type` follow a size: the type with a named leading dimension,
/// and the argument that is the size. For error messages.
std::string namedRowsAdvice(mlir::RankedTensorType type);

/// The argument that a function needs for the size of that name. For error messages.
std::string sizeArgumentAdvice(llvm::StringRef size);

/// Index of a dynamic dimension that `type` gives no name; nothing where there is none.
std::optional<int64_t> unnamedDimension(mlir::Type type);

/// The layout of a weight's type; null where it lies row-major.
transformer::LayoutAttr layoutOf(mlir::Type type);

/// `type` with another layout (null: row-major).
mlir::RankedTensorType withLayout(mlir::RankedTensorType type, transformer::LayoutAttr layout);

/// A tensor of rows: `[size, width]` of `element`, its leading dimension named `size`.
mlir::RankedTensorType rowsType(llvm::StringRef size, int64_t width, mlir::Type element);

/// A vector of one i32 per `size`.
mlir::RankedTensorType indicesType(mlir::MLIRContext *context, llvm::StringRef size);

/// Bytes of a weight in its layout (`rows` overrides a dynamic leading dimension); nothing where a
/// row is no whole number of blocks or the size overflows.
std::optional<uint64_t> weightBytes(mlir::RankedTensorType type, int64_t rows = -1);

/// The kind of an operation; nothing where it computes nothing (yields, launches) or is null.
std::optional<OpKind> kindOf(mlir::Operation *op);

/// True for operations that are computed row by row.
bool isRowwise(mlir::Operation *op);

/// True for what a step ends with: it is always a kernel of its own.
bool endsStep(mlir::Operation *op);

/// Operands of an operation of the dialect that are rows of activations
/// (ComputeOp::getRowInputs()).
llvm::SmallVector<mlir::Value> rowInputs(mlir::Operation *op);

/// Columns of the settings and the draws of `sample`.
constexpr int64_t settingsWidth = 5, drawsWidth = 3;

/// Names of the functions that are code of the module's kernels, at stage target.
llvm::StringSet<> kernelCode(mlir::ModuleOp module);

/// Operations of `block` that nothing needs: free of side effects, and read by such operations
/// alone.
llvm::DenseSet<mlir::Operation *> unneededOperations(mlir::Block &block);

/// Hash of a kernel's body: names, locations, variant and schedule do not count. 64 hexadecimal
/// digits.
std::string kernelHash(transformer::KernelOp kernel);

} // namespace kernelforge
