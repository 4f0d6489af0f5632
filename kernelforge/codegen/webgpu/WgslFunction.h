// The body of one function as WGSL statements.
#pragma once

#include "kernelforge/codegen/webgpu/WgslNames.h"
#include "kernelforge/support/Error.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

#include <string>

namespace kernelforge::webgpu {

/// Functions that the text calls and that must be declared before.
struct WgslHelpers {
  bool erf = false, tanh = false, roundToF16 = false;
};

/// Prints a function's body. Values that have a name location, more than one use, or a use in
/// another block become `let`; all others are written where they are used.
class WgslFunction {
public:
  WgslFunction(const WgslNames &names, WgslHelpers &helpers)
      : names(&names), helpers(helpers), blockNumber(this->names.take("block")) {}

  /// Whether what a buffer holds may change while the function runs.
  enum class Memory { Constant, Changing };

  /// Says how a parameter or memory is called.
  void define(mlir::Value value, std::string name, Memory memory = Memory::Constant);

  /// Statements, each indented by two spaces at least. Failed, naming it, where an operation has no
  /// text.
  Expected<std::string> print(mlir::func::FuncOp function);

  /// The variable that holds the number of the workgroup.
  const std::string &blockName() const { return blockNumber; }

private:
  /// How tight an expression holds together.
  enum class Tight { Comparison, Bits, Sum, Product, Unary };
  struct Expression {
    std::string text;
    Tight tight = Tight::Unary;
    bool isSigned = false; ///< i32 and not u32
  };

  // Statements.
  void printBlock(mlir::Block &body);
  void printOp(mlir::Operation *op);
  void printFor(mlir::scf::ForOp loop);
  void printIf(mlir::scf::IfOp branch);
  void printStore(mlir::memref::StoreOp store);
  /// What a loop or a branch yields, to its variables: all at once.
  void assign(mlir::ValueRange values, llvm::ArrayRef<std::string> variables);
  void line(const std::string &text);

  // What is written where it is used.
  bool isInline(mlir::Operation *op);
  bool decideInline(mlir::Operation *op);
  bool staysUntilUsed(mlir::Operation *load);
  int sizeOf(mlir::Operation *op); ///< operations of its expression

  // Expressions.
  Expression expression(mlir::Value value);
  Expression compute(mlir::Operation *op);
  Expression plain(mlir::Value value);
  static std::string plainOf(const Expression &expression);
  Expression binary(mlir::Operation *op, llvm::StringRef symbol, Tight tight);
  Expression compare(mlir::arith::CmpIOp op);
  Expression compare(mlir::arith::CmpFOp op);
  Expression call(llvm::StringRef function, mlir::ValueRange arguments);
  Expression signedCall(llvm::StringRef function, mlir::ValueRange arguments);
  Expression load(mlir::memref::LoadOp op);
  static Expression constant(mlir::Attribute value);
  Expression refuse(mlir::Operation *op);
  std::string operand(mlir::Value value, Tight least);
  std::string signedOperand(mlir::Value value, Tight least); ///< as i32
  static std::string parenthesized(const Expression &expression, Tight least);

  /// A new variable's name, by which the value is known from here on.
  std::string variableFor(mlir::Value value);

  WgslNames names;
  WgslHelpers &helpers;
  std::string blockNumber;
  llvm::DenseMap<mlir::Value, std::string> known; ///< names of values
  llvm::DenseMap<mlir::Value, Memory> memories;
  llvm::DenseMap<mlir::Operation *, bool> inlined;
  std::string out;
  std::string indent = "  ";
  std::string unknown; ///< the first operation without text
};

} // namespace kernelforge::webgpu
