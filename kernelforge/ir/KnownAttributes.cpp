// A misspelt attribute must not be ignored: which attributes operations, arguments and modules
// have.
#include "kernelforge/ir/Transformer.h"

#include "kernelforge/support/Suggest.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

/// "; known: a, b; did you mean 'b'?"
static std::string knownText(StringRef name, const std::vector<std::string> &known) {
  std::string text = known.empty() ? "; it has none" : "; known: " + llvm::join(known, ", ");
  const std::string guess = didYouMean({name.data(), name.size()}, known);
  return text + (guess.empty() ? "" : "; " + guess);
}

/// Attributes of an operation that a user may write in its dictionary.
static std::vector<std::string> writtenAttributes(Operation *op) {
  constexpr StringLiteral syntax[] = {"sym_name", "function_type", "arg_attrs", "res_attrs",
                                      "operandSegmentSizes"};
  std::vector<std::string> names;
  for (StringAttr name : op->getName().getAttributeNames())
    if (!llvm::is_contained(syntax, name.getValue()))
      names.push_back(name.str());
  return names;
}

LogicalResult transformer::verifyKnownAttributes(Operation *op) {
  // As nearly always: verifying is what every pass pays for.
  if (op->getDiscardableAttrDictionary().empty())
    return success();
  for (NamedAttribute attribute : op->getDiscardableAttrs()) {
    const StringRef name = attribute.getName();
    const bool visibility =
        name == SymbolTable::getVisibilityAttrName() && op->hasTrait<SymbolOpInterface::Trait>();
    if (!name.contains('.') && !visibility)
      return op->emitOpError() << "has no attribute '" << name << "'"
                               << knownText(name, writtenAttributes(op));
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Attributes with the dialect's prefix, on whatever operation
//===----------------------------------------------------------------------===//

/// Those of function and kernel arguments.
static std::vector<std::string> argumentAttributes() {
  return {sizeAttrName.str(), weightAttrName.str(), inputAttrName.str()};
}

/// Whether kernels are made of operations like this one.
static bool isModelOperation(Operation *op) {
  return isa_and_nonnull<TransformerDialect>(op->getDialect()) &&
         !isa<KernelOp, YieldOp, LaunchOp>(op);
}

/// Those of an operation.
static std::vector<std::string> operationAttributes(Operation *op) {
  if (isa<ModuleOp>(op))
    return {targetAttrName.str()};
  if (isModelOperation(op))
    return {roleAttrName.str(), layerAttrName.str()};
  return {};
}

/// Role and layer are of operations that become kernels; a launch has them without a prefix.
static LogicalResult verifyPlace(Operation *op, NamedAttribute attribute) {
  const StringRef name = attribute.getName();
  if (isa<LaunchOp>(op))
    return op->emitOpError("carries ") << name << "; a launch has 'layer' and 'role'";
  if (!isModelOperation(op))
    return op->emitOpError("carries ") << name << ", which belongs on what a kernel is made of";
  if (name == roleAttrName) {
    auto role = dyn_cast<StringAttr>(attribute.getValue());
    if (!role || role.empty() ||
        !llvm::all_of(role.getValue(), [](char c) { return llvm::isAlnum(c) || c == '_'; }))
      return op->emitOpError() << name << " must be a word of letters, digits and _";
    return success();
  }
  auto layer = dyn_cast<IntegerAttr>(attribute.getValue());
  if (!layer || !layer.getType().isInteger(64) || layer.getInt() < 0)
    return op->emitOpError() << name << " must be an i64 from 0 on";
  return success();
}

LogicalResult TransformerDialect::verifyOperationAttribute(Operation *op,
                                                           NamedAttribute attribute) {
  const StringRef name = attribute.getName();
  if (llvm::is_contained(argumentAttributes(), name))
    return op->emitOpError("carries ") << name << ", which belongs on an argument";
  if (name == roleAttrName || name == layerAttrName)
    return verifyPlace(op, attribute);
  if (name != targetAttrName)
    return op->emitOpError() << "has no attribute '" << name << "'"
                             << knownText(name, operationAttributes(op));
  if (!isa<ModuleOp>(op))
    return op->emitOpError("carries ") << targetAttrName << ", which belongs on the module";
  if (!isa<TargetAttr>(attribute.getValue()))
    return op->emitOpError() << targetAttrName << " must be a #transformer.target";
  return success();
}

LogicalResult TransformerDialect::verifyRegionArgAttribute(Operation *op, unsigned region,
                                                           unsigned argument,
                                                           NamedAttribute attribute) {
  const StringRef name = attribute.getName();
  auto function = dyn_cast<FunctionOpInterface>(op);
  auto error = [&] {
    // At the argument's own place, which may be lines below the function's.
    const Location place =
        function && !function.isExternal() ? function.getArgument(argument).getLoc() : op->getLoc();
    return emitError(place) << "'" << op->getName() << "' op argument " << argument;
  };
  if (!llvm::is_contained(argumentAttributes(), name))
    return error() << " has no attribute '" << name << "'" << knownText(name, argumentAttributes());
  if (name == sizeAttrName) {
    if (!isa<SizeAttr>(attribute.getValue()))
      return error()
             << ": " << sizeAttrName
             << " must be a #transformer.size, such as #transformer.size<\"rows\", 1 to 512>";
    if (function && !function.getArgumentTypes()[argument].isIndex())
      return error() << " is a size and must be an index, not "
                     << function.getArgumentTypes()[argument];
  } else if (!isa<StringAttr>(attribute.getValue())) {
    return error() << ": " << name << " must be a string: the name that it is bound by";
  }
  if (function && name == inputAttrName && function.getArgAttr(argument, weightAttrName))
    return error() << " is a " << weightAttrName << " and a " << inputAttrName
                   << ": a weight is bound once, an input changes from run to run; give it one of "
                      "the two";
  return success();
}

LogicalResult TransformerDialect::verifyRegionResultAttribute(Operation *op, unsigned region,
                                                              unsigned result,
                                                              NamedAttribute attribute) {
  return op->emitOpError() << "result " << result << " has no attribute '"
                           << attribute.getName().getValue() << "'"
                           << knownText(attribute.getName(), {});
}
