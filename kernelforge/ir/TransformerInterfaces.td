// What an operation is to those who fuse, cost, compile and interpret it: said once, beside its definition.
#ifndef KERNELFORGE_IR_TRANSFORMERINTERFACES_TD
#define KERNELFORGE_IR_TRANSFORMERINTERFACES_TD

include "kernelforge/ir/TransformerDialect.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def Transformer_ComputeOpInterface : OpInterface<"ComputeOp"> {
  let cppNamespace = "::kernelforge::transformer";
  let description = [{
    An operation that computes something. Fusion, costs, code generators and the interpreter ask it what it
    is; none of them has a list of operations. Which element types a target reads in which place follows
    from the roles of the operands, where an operation may stand in a kernel from its kind.
  }];
  let methods = [
    StaticInterfaceMethod<"What an element of its result is computed from.",
        "::kernelforge::OpKind", "getKind">,
    InterfaceMethod<"The name in its definition and the role of each operand, in order.",
        "::llvm::SmallVector<::kernelforge::OperandInfo>", "describeOperands">,
    StaticInterfaceMethod<"Whether it may be computed where a matmul reads its rows, again for each tile.",
        "bool", "mayBePrologue">,
    InterfaceMethod<[{
        Floating-point operations of a row, which an attention spends on each position that the row sees.
        Rowwise operations count none: what they take is the time of the bytes that they move.
      }], "int64_t", "getFlopsPerRow", (ins), "", "return 0;">,
    InterfaceMethod<[{
        So many runs of equal width of a row, heads, are computed each by itself: what it needs its whole row
        for otherwise, it needs the head of an element for.
      }], "int64_t", "getSeparateHeads", (ins), "", "return 1;">
  ];
  let extraClassDeclaration = [{
    /// The operations that give a kernel its family, and around which kernels are formed.
    bool isRoot() { return ::kernelforge::isRoot(getKind()); }
    /// Whether its rows are computed one by one.
    bool isRowwise() { return ::kernelforge::isRowwise(getKind()); }
    /// Whether it may be computed from a root's result while that is in registers.
    bool mayBeEpilogue() {
      return ::kernelforge::mayBeEpilogue(getKind()) || getSeparateHeads() > 1;
    }
    /// The role of an operand.
    ::kernelforge::OperandRole getRole(::mlir::OpOperand &operand) {
      return describeOperands()[operand.getOperandNumber()].role;
    }
    /// Operands that are rows of activations, the result's or others, and may be computed in the same
    /// kernel. All others stand in memory.
    ::llvm::SmallVector<::mlir::Value> getRowInputs();
    /// What it looks up by indices; nothing where it looks nothing up.
    ::std::optional<::kernelforge::LookUp> getLookUp();
  }];
}

//===----------------------------------------------------------------------===//
// Operands
//===----------------------------------------------------------------------===//

/// The constraint of an operand says its role, too: one of OperandRole (ir/OpKind.h).
class Transformer_Operand<string role> {
  string operandRole = role;
}

class Transformer_Several<Type type>
    : Variadic<type>, Transformer_Operand<!cast<Transformer_Operand>(type).operandRole>;
class Transformer_Maybe<Type type>
    : Optional<type>, Transformer_Operand<!cast<Transformer_Operand>(type).operandRole>;

//===----------------------------------------------------------------------===//
// Operations that compute
//===----------------------------------------------------------------------===//

/// An operation of a kind of OpKind (ir/OpKind.h). `overrides` names methods of the interface that
/// have a default and that it defines nevertheless.
class Transformer_ComputeOp<string mnemonic, string opKind, list<Trait> traits = [],
                            list<string> overrides = []>
    : Transformer_Op<mnemonic, !listconcat(
          [DeclareOpInterfaceMethods<Transformer_ComputeOpInterface, overrides>], traits)> {
  string kind = opKind;
  /// Whether it may be a prologue.
  bit isPrologue = 0;

  // Operands, which come before attributes, by their places among the arguments.
  list<int> operandPlaces = !filter(i, !range(!size(arguments)),
      !not(!isa<AttrConstraint>(!getdagarg<Constraint>(arguments, i))));
  list<string> operandTexts = !foreach(i, operandPlaces,
      "{\"" # !getdagname(arguments, i) # "\", ::kernelforge::OperandRole::"
      # !getdagarg<Transformer_Operand>(arguments, i).operandRole # "}");

  let extraClassDefinition = [{
    ::kernelforge::OpKind $cppClass::getKind() { return ::kernelforge::OpKind::}] # opKind # [{; }
    bool $cppClass::mayBePrologue() { return }] # !if(isPrologue, "true", "false") # [{; }
    ::llvm::SmallVector<::kernelforge::OperandInfo> $cppClass::describeOperands() {
      const ::kernelforge::OperandInfo declared[] = }] # "{" # !interleave(operandTexts, ", ") # "};" # [{
      ::llvm::SmallVector<::kernelforge::OperandInfo> operands;
      for (auto [i, operand] : ::llvm::enumerate(declared))
        operands.append(getODSOperandIndexAndLength(static_cast<unsigned>(i)).second, operand);
      return operands;
    }
  }];
}

class Transformer_RowwiseOp<string mnemonic, string opKind, list<Trait> traits = [],
                            list<string> overrides = []>
    : Transformer_ComputeOp<mnemonic, opKind, !listconcat([Pure], traits), overrides>;

/// Element by element of rows of one type, which the result has, too.
class Transformer_ElementwiseOp<string mnemonic, list<Trait> traits = []>
    : Transformer_RowwiseOp<mnemonic, "Elementwise",
                            !listconcat([SameOperandsAndResultType], traits)>;

#endif
