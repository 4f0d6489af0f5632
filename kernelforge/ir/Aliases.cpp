#include "kernelforge/ir/Aliases.h"

#include "kernelforge/ir/Transformer.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

using AliasResult = OpAsmDialectInterface::AliasResult;

/// A size's name within an alias: what is no letter or digit would need quotes.
static void printWord(StringRef name, llvm::raw_ostream &stream) {
  for (char c : name)
    stream << (llvm::isAlnum(c) ? c : '_');
}

AliasResult Aliases::getAlias(Attribute attribute, llvm::raw_ostream &stream) const {
  return llvm::TypeSwitch<Attribute, AliasResult>(attribute)
      .Case([&](DimsAttr dims) {
        for (StringAttr name : dims.getNames()) {
          printWord(name.getValue(), stream);
          stream << "_";
        }
        stream << "dims";
        return AliasResult::OverridableAlias;
      })
      .Case([&](LayoutAttr layout) {
        stream << layout.getKind();
        return AliasResult::OverridableAlias;
      })
      .Case([&](TargetAttr target) {
        stream << "target";
        return AliasResult::OverridableAlias;
      })
      .Default(AliasResult::NoAlias);
}

/// "q4_1", "f32"; empty where the table of element types has none.
static std::string elementName(Type type) {
  const auto element = elementTypeOf(type);
  return element ? std::string(info(*element).name) : "";
}

/// Rows, indices, weights and vectors of parameters: a name is short, its type is at the top.
static AliasResult tensorAlias(RankedTensorType type, llvm::raw_ostream &stream) {
  const std::string element = elementName(type);
  if (element.empty())
    return AliasResult::NoAlias;
  if (auto dims = dyn_cast_or_null<DimsAttr>(type.getEncoding())) {
    // "tokens" of i32, one for each; "x576_tokens" of f32, "f16x576_tokens".
    const bool isPlain = element == (type.getRank() == 1 ? "i32" : "f32");
    stream << (isPlain ? "" : element);
    for (int64_t extent : type.getShape())
      if (!ShapedType::isDynamic(extent))
        stream << "x" << extent;
    for (StringAttr name : dims.getNames()) {
      stream << (isPlain && type.getRank() == 1 ? "" : "_");
      printWord(name.getValue(), stream);
    }
    return AliasResult::OverridableAlias;
  }
  if (type.getRank() == 1 && type.hasStaticShape() && !type.getEncoding()) {
    stream << (element == "f32" ? "" : element + "_") << "vector";
    return AliasResult::OverridableAlias;
  }
  if (!layoutOf(type) && !isa<QuantType>(type.getElementType()))
    return AliasResult::NoAlias;
  stream << element;
  return AliasResult::OverridableAlias;
}

AliasResult Aliases::getAlias(Type type, llvm::raw_ostream &stream) const {
  return llvm::TypeSwitch<Type, AliasResult>(type)
      .Case([&](RankedTensorType tensor) { return tensorAlias(tensor, stream); })
      .Case([&](CacheType) {
        stream << "cache";
        return AliasResult::OverridableAlias;
      })
      .Case([&](FunctionType) { // of launches: those of functions are printed by part
        stream << "launch";
        return AliasResult::OverridableAlias;
      })
      .Default(AliasResult::NoAlias);
}
