// The body of one function as WGSL statements.
#pragma once

#include "kernelforge/codegen/webgpu/Wgsl.h"
#include "kernelforge/codegen/webgpu/WgslMatrices.h"
#include "kernelforge/codegen/webgpu/WgslNames.h"
#include "kernelforge/support/Error.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include <string>

namespace kernelforge::webgpu {

/// What the text needs that must be declared before.
struct WgslHelpers {
  /// Functions of ours that are called, by the lanes that they are called for: 1, 2 or 4, or sums
  /// of these.
  int64_t erf = 0, tanh = 0, roundToF16 = 0, roundToBf16 = 0, pairs = 0, halves = 0;
  /// Parts of the language that are used.
  bool unpacks = false;
  bool looksUp = false; ///< bytes in a table
  bool f16 = false, subgroups = false, packedDot = false, matrices = false;
  bool trusts = false; ///< where threads come together is not to be proven
  EmulatedMatrices emulated;
  bool lane = false; ///< of the function at hand: the thread's number in its subgroup
};

/// A type of values: scalars, vectors, and matrices of a subgroup.
std::string typeText(mlir::Type type);

/// Prints a function's body. Values that have a name location, more than one use, or a use in
/// another block become `let`; all others are written where they are used.
class WgslFunction {
public:
  WgslFunction(const WgslNames &names, const WgslOptions &options, WgslHelpers &helpers)
      : names(&names), options(options), helpers(helpers), blockNumber(this->names.take("block")),
        laneName(this->names.take("lane")) {}

  /// Whether what a buffer holds may change while the function runs.
  enum class Memory { Constant, Changing };

  /// Says how a parameter or memory is called.
  void define(mlir::Value value, std::string name, Memory memory = Memory::Constant);

  /// The same for a buffer in several pieces, which the function `at` reads. It is constant.
  void defineInPieces(mlir::Value value, std::string name, std::string at);

  /// Statements, each indented by two spaces at least. Failed, naming it, where an operation has no
  /// text.
  Expected<std::string> print(mlir::func::FuncOp function);

  /// The variable that holds the number of the workgroup.
  const std::string &blockName() const { return blockNumber; }
  /// The variable that holds the thread's number in its subgroup.
  const std::string &laneText() const { return laneName; }

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
  void findChain(mlir::scf::ForOp loop, unsigned i, const std::string &variable);
  void printIf(mlir::scf::IfOp branch);
  void printStore(mlir::memref::StoreOp store);
  /// What a loop or a branch yields, to its variables: all at once.
  void assign(mlir::ValueRange values, llvm::ArrayRef<std::string> variables);
  void line(const std::string &text);

  // What is written where it is used.
  bool isInline(mlir::Operation *op);
  bool decideInline(mlir::Operation *op);
  static bool isTransparent(mlir::Operation *op);
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
  Expression helper(llvm::StringRef function, int64_t &lanes, mlir::Operation *op);
  Expression bitcast(mlir::Operation *op);
  Expression floatsOf(mlir::vector::BitCastOp halves);
  Expression ofVector(mlir::Operation *op);
  Expression ofSubgroup(mlir::Operation *op);
  Expression ofMatrix(mlir::Operation *op);
  Expression load(mlir::memref::LoadOp op);
  Expression ofEmulatedMatrix(mlir::Operation *op);
  std::string zeroText(mlir::Type type) const;
  static Expression constant(mlir::Attribute value);
  Expression refuse(mlir::Operation *op);
  std::string operand(mlir::Value value, Tight least);
  std::string signedOperand(mlir::Value value, Tight least); ///< as i32
  static std::string parenthesized(const Expression &expression, Tight least);

  /// A new variable's name, by which the value is known from here on.
  std::string variableFor(mlir::Value value);

  WgslNames names;
  const WgslOptions &options;
  WgslHelpers &helpers;
  std::string blockNumber, laneName;
  llvm::DenseMap<mlir::Value, std::string> known; ///< names of values
  llvm::DenseMap<mlir::Value, Memory> memories;
  llvm::DenseMap<mlir::Value, std::string> readers; ///< functions that read what is in pieces
  llvm::DenseMap<mlir::Operation *, bool> inlined;
  llvm::DenseMap<mlir::Operation *, std::string> inPlace; ///< what changes a variable
  std::string out;
  std::string indent = "  ";
  /// The function multiplies matrices: what compiles them takes our word that threads come
  /// together.
  bool trusts = false;
  std::string unknown; ///< the first operation without text
};

} // namespace kernelforge::webgpu
