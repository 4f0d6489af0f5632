#include "kernelforge/ir/Transformer.h"

#include "kernelforge/ir/Aliases.h"
#include "kernelforge/ir/WeightLayouts.h"
#include "kernelforge/support/CheckedArithmetic.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/SHA256.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

#include "kernelforge/ir/TransformerDialect.cpp.inc"
#include "kernelforge/ir/TransformerEnums.cpp.inc"
#include "kernelforge/ir/TransformerInterfaces.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "kernelforge/ir/TransformerAttrs.cpp.inc"
#define GET_TYPEDEF_CLASSES
#include "kernelforge/ir/TransformerTypes.cpp.inc"

void TransformerDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "kernelforge/ir/TransformerAttrs.cpp.inc"
      >();
  addTypes<
#define GET_TYPEDEF_LIST
#include "kernelforge/ir/TransformerTypes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "kernelforge/ir/TransformerOps.cpp.inc"
      >();
  addInterfaces<Aliases>();
}

//===----------------------------------------------------------------------===//
// Attributes and types
//===----------------------------------------------------------------------===//

LogicalResult DimsAttr::verifyEncoding(ArrayRef<int64_t> shape, Type elementType,
                                       function_ref<InFlightDiagnostic()> emitError) const {
  auto dynamic = static_cast<size_t>(llvm::count_if(shape, ShapedType::isDynamic));
  if (dynamic != getNames().size())
    return emitError() << "names " << getNames().size() << " dynamic dimensions, but the type has "
                       << dynamic
                       << (dynamic == 0 ? "; leave #transformer.dims out"
                                        : "; give one name for each '?'");
  return success();
}

static std::optional<WeightLayout> layoutNamed(StringRef kind) {
  return weightLayoutByName({kind.data(), kind.size()});
}

/// Rows that a layout takes together.
static int64_t rowsOfGroup(WeightLayout layout) {
  return layout == WeightLayout::Interleaved ? interleavedRows : 1;
}

LogicalResult LayoutAttr::verify(function_ref<InFlightDiagnostic()> emitError, StringRef kind,
                                 int64_t rows) {
  const std::optional<WeightLayout> layout = layoutNamed(kind);
  if (!layout || layout == WeightLayout::RowMajor)
    return emitError() << "unknown layout '" << kind << "'; known: interleaved, planes";
  const int64_t group = rowsOfGroup(*layout);
  if (rows == group)
    return success();
  if (group == 1)
    return emitError() << "layout " << kind << " has no groups of rows; leave rows out";
  return emitError() << "layout " << kind << " takes rows = " << group << ", not " << rows;
}

LogicalResult LayoutAttr::verifyEncoding(ArrayRef<int64_t> shape, Type elementType,
                                         function_ref<InFlightDiagnostic()> emitError) const {
  if (shape.size() != 2 || llvm::any_of(shape, ShapedType::isDynamic))
    return emitError() << "a layout belongs to a weight matrix of static shape";
  if (layoutNamed(getKind()) == WeightLayout::Planes && !llvm::isa<QuantType>(elementType))
    return emitError() << "planes are parts of quantized blocks, and " << elementType
                       << " has none";
  return success();
}

LogicalResult SizeAttr::verify(function_ref<InFlightDiagnostic()> emitError, StringAttr name,
                               int64_t min, int64_t max) {
  if (name.getValue().empty())
    return emitError() << "a size needs a name";
  if (min < 1 || max < min)
    return emitError() << "size '" << name.getValue() << "' has the empty or non-positive range "
                       << min << " to " << max
                       << "; a range is MIN to MAX from 1 on, such as 1 to 512";
  return success();
}

LogicalResult TargetAttr::verify(function_ref<InFlightDiagnostic()> emitError, StringRef kind,
                                 StringRef triple, StringRef cpu, ArrayRef<StringAttr> features,
                                 int64_t threads) {
  if (threads < 1)
    return emitError() << "threads must be at least 1, not " << threads;
  for (StringAttr feature : features)
    if (!feature.getValue().starts_with("+") && !feature.getValue().starts_with("-"))
      return emitError() << "feature '" << feature.getValue() << "' must begin with + or -";
  return success();
}

LogicalResult DemandsAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                                  DictionaryAttr limits) {
  for (NamedAttribute limit : limits) {
    const StringRef name = limit.getName();
    const Attribute value = limit.getValue();
    if (name == "no_spills") {
      if (!llvm::isa<UnitAttr>(value))
        return emitError() << "no_spills has no value";
    } else if (name == "max_registers") {
      auto number = llvm::dyn_cast<IntegerAttr>(value);
      if (!number || !number.getType().isInteger(64) || number.getInt() < 1)
        return emitError() << "max_registers must be a number from 1, not " << value;
    } else if (name == "min_roofline") {
      auto share = llvm::dyn_cast<FloatAttr>(value);
      if (!share || !(share.getValueAsDouble() > 0 && share.getValueAsDouble() <= 1))
        return emitError() << "min_roofline must be from above 0 to 1, not " << value;
    } else {
      return emitError() << "unknown demand '" << name
                         << "'; known: no_spills, max_registers, min_roofline";
    }
  }
  return success();
}

bool DemandsAttr::noSpills() const { return getLimits().contains("no_spills"); }

std::optional<int64_t> DemandsAttr::maxRegisters() const {
  auto number = getLimits().getAs<IntegerAttr>("max_registers");
  return number ? std::optional(number.getInt()) : std::nullopt;
}

std::optional<double> DemandsAttr::minRoofline() const {
  auto share = getLimits().getAs<FloatAttr>("min_roofline");
  return share ? std::optional(share.getValueAsDouble()) : std::nullopt;
}

Numerics NumericsAttr::getNumerics() const {
  return *numericsByName({getMultiply().data(), getMultiply().size()});
}

LogicalResult NumericsAttr::verify(function_ref<InFlightDiagnostic()> emitError, StringRef multiply,
                                   StringRef accumulate) {
  auto check = [&](StringRef what, StringRef given, ArrayRef<StringRef> known) -> LogicalResult {
    if (llvm::is_contained(known, given))
      return success();
    InFlightDiagnostic diagnostic = emitError();
    diagnostic << "unknown " << what << " '" << given << "'; known:";
    for (StringRef name : known)
      diagnostic << " " << name;
    return diagnostic;
  };
  SmallVector<StringRef> known;
  for (Numerics each : allNumerics())
    known.emplace_back(numericsName(each));
  if (failed(check("multiply", multiply, known)))
    return failure();
  return check("accumulate", accumulate, {"f32"});
}

LogicalResult QuantType::verify(function_ref<InFlightDiagnostic()> emitError, StringRef scheme) {
  auto type = elementTypeByName(std::string_view(scheme.data(), scheme.size()));
  if (!type || !info(*type).isQuantized()) {
    InFlightDiagnostic diagnostic = emitError();
    diagnostic << "unknown quantization scheme '" << scheme << "'; known:";
    for (const ElementTypeInfo &entry : elementTypes())
      if (entry.isQuantized())
        diagnostic << " " << entry.name;
    return diagnostic;
  }
  return success();
}

LogicalResult CacheType::verify(function_ref<InFlightDiagnostic()> emitError, int64_t heads,
                                int64_t dim, Type elementType, int64_t page) {
  if (heads < 1 || dim < 1)
    return emitError() << "a cache needs at least one head of at least one dimension";
  const std::optional<ElementType> element = elementTypeOf(elementType);
  if (element != ElementType::F32 && element != ElementType::F16 && element != ElementType::BF16 &&
      element != ElementType::Q8_0)
    return emitError()
           << "cache element type must be f32, f16, bf16 or !transformer.quant<q8_0>, not "
           << elementType;
  if (dim % info(*element).blockElements != 0)
    return emitError() << "heads of " << dim << " elements are no whole number of q8_0's blocks of "
                       << info(*element).blockElements;
  if (page < 0 || (page != 0 && !llvm::isPowerOf2_64(static_cast<uint64_t>(page))))
    return emitError() << "page must be a power of two, not " << page;
  return success();
}

//===----------------------------------------------------------------------===//
// What others ask of types
//===----------------------------------------------------------------------===//

std::string kernelforge::argumentName(func::FuncOp function, unsigned index) {
  for (StringRef attribute : {StringRef(weightAttrName), StringRef(inputAttrName)})
    if (auto name = function.getArgAttrOfType<StringAttr>(index, attribute))
      return name.getValue().str();
  return "arg" + std::to_string(index);
}

std::optional<ElementType> kernelforge::elementTypeOf(Type type) {
  if (auto shaped = dyn_cast<RankedTensorType>(type))
    type = shaped.getElementType();
  if (auto quant = dyn_cast<QuantType>(type)) {
    StringRef scheme = quant.getScheme();
    return elementTypeByName(std::string_view(scheme.data(), scheme.size()));
  }
  if (type.isF32())
    return ElementType::F32;
  if (type.isF16())
    return ElementType::F16;
  if (type.isBF16())
    return ElementType::BF16;
  if (type.isInteger(32))
    return ElementType::I32;
  return std::nullopt;
}

Type kernelforge::elementTypeToMlir(MLIRContext *context, ElementType type) {
  switch (type) {
  case ElementType::F32:
    return Float32Type::get(context);
  case ElementType::F16:
    return Float16Type::get(context);
  case ElementType::BF16:
    return BFloat16Type::get(context);
  case ElementType::I32:
    return IntegerType::get(context, 32);
  default:
    return QuantType::get(context, StringRef(info(type).name.data(), info(type).name.size()));
  }
}

StringRef kernelforge::rowsSizeName(RankedTensorType type) {
  auto dims = dyn_cast_or_null<DimsAttr>(type.getEncoding());
  if (!dims || !type.isDynamicDim(0))
    return "";
  return dims.getNames().front().getValue();
}

std::optional<int64_t> kernelforge::unnamedDimension(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  // Names, where there are any, are as many as dynamic dimensions: the encoding's verifier says so.
  if (!tensor || isa_and_nonnull<DimsAttr>(tensor.getEncoding()))
    return std::nullopt;
  for (int64_t i = 0; i < tensor.getRank(); ++i)
    if (tensor.isDynamicDim(i))
      return i;
  return std::nullopt;
}

std::string kernelforge::sizeArgumentAdvice(StringRef size) {
  return "%" + size.str() + ": index {transformer.size = #transformer.size<\"" + size.str() +
         "\", 1 to 512>}";
}

std::string kernelforge::namedRowsAdvice(RankedTensorType type) {
  SmallVector<StringAttr> names;
  for (int64_t extent : type.getShape())
    if (ShapedType::isDynamic(extent))
      names.push_back(StringAttr::get(type.getContext(), names.empty() ? "rows" : "columns"));
  std::string text = "write ";
  llvm::raw_string_ostream(text) << RankedTensorType::get(type.getShape(), type.getElementType(),
                                                          DimsAttr::get(type.getContext(), names))
                                 << " and alike in all types of the function";
  for (StringAttr name : names)
    text += (name == names.front() ? " and, as a leading argument, " : " and ") +
            sizeArgumentAdvice(name.getValue());
  return text;
}

LayoutAttr kernelforge::layoutOf(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor ? dyn_cast_or_null<LayoutAttr>(tensor.getEncoding()) : LayoutAttr();
}

WeightLayout kernelforge::weightLayoutOf(Type type) {
  LayoutAttr layout = layoutOf(type);
  return layout ? *layoutNamed(layout.getKind()) : WeightLayout::RowMajor;
}

LayoutAttr kernelforge::layoutAttr(MLIRContext *context, WeightLayout layout) {
  if (layout == WeightLayout::RowMajor)
    return {};
  const std::string_view name = nameOf(layout);
  return LayoutAttr::get(context, StringRef(name.data(), name.size()), rowsOfGroup(layout));
}

RankedTensorType kernelforge::withLayout(RankedTensorType type, LayoutAttr layout) {
  return RankedTensorType::get(type.getShape(), type.getElementType(), layout);
}

RankedTensorType kernelforge::rowsType(StringRef size, int64_t width, Type element) {
  MLIRContext *context = element.getContext();
  return RankedTensorType::get({ShapedType::kDynamic, width}, element,
                               DimsAttr::get(context, StringAttr::get(context, size)));
}

RankedTensorType kernelforge::indicesType(MLIRContext *context, StringRef size) {
  return RankedTensorType::get({ShapedType::kDynamic}, IntegerType::get(context, 32),
                               DimsAttr::get(context, StringAttr::get(context, size)));
}

std::optional<uint64_t> kernelforge::weightBytes(RankedTensorType type, int64_t rows) {
  auto element = elementTypeOf(type);
  if (!element || type.getRank() < 1 || type.getRank() > 2)
    return std::nullopt;
  const uint64_t leading = type.isDynamicDim(0) ? rows : type.getDimSize(0);
  return layoutBytes(weightLayoutOf(type), *element, leading,
                     type.getRank() == 2 ? type.getDimSize(1) : 1);
}

SmallVector<Value> ComputeOp::getRowInputs() {
  SmallVector<Value> inputs;
  for (auto [info, operand] : llvm::zip(describeOperands(), getOperation()->getOperands()))
    if (info.role == OperandRole::Rows || info.role == OperandRole::PickedRows)
      inputs.push_back(operand);
  return inputs;
}

std::optional<LookUp> ComputeOp::getLookUp() {
  LookUp lookUp;
  for (auto [info, operand] : llvm::zip(describeOperands(), getOperation()->getOperands()))
    switch (info.role) {
    case OperandRole::PickedRows:
    case OperandRole::RowTable:
    case OperandRole::WeightTable:
      lookUp.table = operand;
      break;
    case OperandRole::Indices:
      lookUp.indices = operand;
      break;
    default:
      break;
    }
  return lookUp.table ? std::optional(lookUp) : std::nullopt;
}

std::optional<OpKind> kernelforge::kindOf(Operation *op) {
  auto compute = dyn_cast_or_null<ComputeOp>(op);
  return compute ? std::optional(compute.getKind()) : std::nullopt;
}

bool kernelforge::isRowwise(Operation *op) {
  const std::optional<OpKind> kind = kindOf(op);
  return kind && isRowwise(*kind);
}

bool kernelforge::endsStep(Operation *op) { return kindOf(op) == OpKind::EndsStep; }

SmallVector<Value> kernelforge::rowInputs(Operation *op) {
  auto compute = dyn_cast<ComputeOp>(op);
  return compute ? compute.getRowInputs() : SmallVector<Value>();
}

llvm::StringSet<> kernelforge::kernelCode(ModuleOp module) {
  llvm::StringSet<> names;
  for (auto kernel : module.getOps<KernelOp>())
    if (auto code = kernel.getCode())
      names.insert(*code);
  return names;
}

llvm::DenseSet<Operation *> kernelforge::unneededOperations(Block &block) {
  llvm::DenseSet<Operation *> unneeded;
  for (Operation &op : llvm::reverse(block))
    if (!op.hasTrait<OpTrait::IsTerminator>() && isMemoryEffectFree(&op) &&
        llvm::all_of(op.getUsers(), [&](Operation *user) { return unneeded.contains(user); }))
      unneeded.insert(&op);
  return unneeded;
}

std::string kernelforge::kernelHash(KernelOp kernel) {
  // The identity is the body and its types: everything that only says how the kernel was named,
  // chosen or compiled is left out.
  OwningOpRef<KernelOp> copy = kernel.clone();
  copy->setSymName("kernel");
  copy->dropChoices();
  copy->removeDemandsAttr(); // what is asked of the code, not what it computes
  // Norms of whole rows were there before those of heads: records know them as they were.
  copy->walk([](ComputeOp op) {
    if (op.getKind() != OpKind::Statistics)
      return;
    if (op.getSeparateHeads() == 1)
      op->removeAttr("heads");
    if (auto offset = op->getAttrOfType<FloatAttr>("offset"); offset && offset.getValue().isZero())
      op->removeAttr("offset");
  });
  std::string text;
  llvm::raw_string_ostream stream(text);
  OpPrintingFlags flags;
  flags.enableDebugInfo(false).useLocalScope().printGenericOpForm();
  (*copy)->print(stream, flags);
  auto digest = llvm::SHA256::hash(
      ArrayRef<uint8_t>(reinterpret_cast<const uint8_t *>(text.data()), text.size()));
  return llvm::toHex(ArrayRef<uint8_t>(digest), /*LowerCase=*/true);
}
