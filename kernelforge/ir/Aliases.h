// Short names for types and attributes in printed modules.
#pragma once

#include "mlir/IR/OpImplementation.h"

namespace kernelforge::transformer {

/// Names what a model's module repeats a hundred times: weights by their element type (`!q4_1_2` is
/// the third of its shapes), rows (`!x576_tokens`), one number for each (`!tokens`), vectors of
/// parameters, caches, and what a launch takes and gives. The types themselves are at the top.
/// (Attributes of arguments, such as sizes, are printed in full: MLIR's printer looks for no
/// aliases there.)
class Aliases : public mlir::OpAsmDialectInterface {
public:
  using OpAsmDialectInterface::OpAsmDialectInterface;
  AliasResult getAlias(mlir::Attribute attribute, llvm::raw_ostream &stream) const override;
  AliasResult getAlias(mlir::Type type, llvm::raw_ostream &stream) const override;
};

} // namespace kernelforge::transformer
