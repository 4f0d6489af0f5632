// Verifiers, folders and canonicalisations of the operations.
#include "kernelforge/ir/Numerics.h"
#include "kernelforge/ir/Transformer.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Interfaces/FunctionImplementation.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

// What a launch takes and gives, as one type: launches of a kernel repeat its name alone.
static ParseResult parseLaunchType(OpAsmParser &parser, SmallVectorImpl<Type> &operands,
                                   SmallVectorImpl<Type> &outputs) {
  FunctionType type;
  if (parser.parseType(type))
    return failure();
  llvm::append_range(operands, type.getInputs());
  llvm::append_range(outputs, type.getResults());
  return success();
}

static void printLaunchType(OpAsmPrinter &printer, Operation *op, TypeRange operands,
                            TypeRange outputs) {
  printer.printType(FunctionType::get(op->getContext(), operands, outputs));
}

/// The role that the kernel's name says: what is behind its last dot; empty where there is none.
static StringRef roleInName(FlatSymbolRefAttr kernel) {
  auto [before, role] = kernel.getValue().rsplit('.');
  return role;
}

static ParseResult parseRole(OpAsmParser &parser, StringAttr &role, FlatSymbolRefAttr kernel) {
  if (succeeded(parser.parseOptionalKeyword("as"))) {
    std::string text;
    if (parser.parseString(&text))
      return failure();
    role = parser.getBuilder().getStringAttr(text);
  } else {
    role = parser.getBuilder().getStringAttr(roleInName(kernel));
  }
  if (role.empty())
    role = {};
  return success();
}

static void printRole(OpAsmPrinter &printer, Operation *op, StringAttr role,
                      FlatSymbolRefAttr kernel) {
  const StringRef stated = role ? role.getValue() : "";
  if (stated != roleInName(kernel))
    printer << " as \"" << stated << '"';
}

#define GET_OP_CLASSES
#include "kernelforge/ir/TransformerOps.cpp.inc"

//===----------------------------------------------------------------------===//
// Shared checks
//===----------------------------------------------------------------------===//

static int64_t widthOf(Value value) {
  return cast<RankedTensorType>(value.getType()).getDimSize(1);
}

/// The leading dimension as the user reads it: its size's name or its number.
static std::string rowsText(Type type) {
  auto tensor = cast<RankedTensorType>(type);
  StringRef name = rowsSizeName(tensor);
  if (!name.empty())
    return "'" + name.str() + "'";
  return tensor.isDynamicDim(0) ? "unnamed" : std::to_string(tensor.getDimSize(0));
}

static LogicalResult checkSameRows(Operation *op, StringRef nameA, Value a, StringRef nameB,
                                   Value b) {
  std::string rowsA = rowsText(a.getType()), rowsB = rowsText(b.getType());
  if (rowsA == rowsB)
    return success();
  auto error = op->emitOpError() << nameA << " has " << rowsA << " rows, but " << nameB << " has "
                                 << rowsB << (rowsB == "unnamed" ? " ones" : "");
  for (Value value : {a, b})
    if (unnamedDimension(value.getType()))
      return error << "; " << namedRowsAdvice(cast<RankedTensorType>(value.getType()));
  return error;
}

static LogicalResult checkWidth(Operation *op, StringRef name, Value value, int64_t width) {
  if (widthOf(value) != width)
    return op->emitOpError() << name << " is " << widthOf(value) << " wide, expected " << width;
  return success();
}

static LogicalResult checkLength(Operation *op, StringRef name, Value vector, int64_t length) {
  int64_t actual = cast<RankedTensorType>(vector.getType()).getDimSize(0);
  if (actual != length)
    return op->emitOpError() << name << " has " << actual << " elements, expected " << length;
  return success();
}

/// Rows of a quantized weight must be whole blocks.
static LogicalResult checkBlocks(Operation *op, StringRef name, Value weight) {
  auto type = cast<RankedTensorType>(weight.getType());
  const ElementTypeInfo &element = info(*elementTypeOf(type));
  if (type.getDimSize(1) % element.blockElements != 0)
    return op->emitOpError() << name << " has rows of " << type.getDimSize(1)
                             << " elements, which is no multiple of the block of "
                             << element.blockElements << " of "
                             << StringRef(element.name.data(), element.name.size());
  return success();
}

static LogicalResult checkEpsilon(Operation *op, const APFloat &epsilon) {
  if (!epsilon.isFinite() || epsilon.isNegative())
    return op->emitOpError("epsilon must be finite and not negative");
  return success();
}

static LogicalResult checkLinear(Operation *op, StringRef name, Value weight, Value bias, int64_t k,
                                 int64_t n, bool transpose = false) {
  auto type = cast<RankedTensorType>(weight.getType());
  int64_t weightN = type.getDimSize(transpose ? 1 : 0),
          weightK = type.getDimSize(transpose ? 0 : 1);
  if (weightK != k)
    return op->emitOpError() << name << " takes rows of " << weightK << ", but its input is " << k
                             << " wide; a weight is " << (transpose ? "[in, out]" : "[out, in]")
                             << (transpose ? " with transpose" : "");
  if (weightN != n)
    return op->emitOpError() << name << " gives rows of " << weightN << ", expected " << n;
  if (failed(checkBlocks(op, name, weight)))
    return failure();
  if (bias)
    return checkLength(op, name == "weight" ? "bias" : (name + " bias").str(), bias, n);
  return success();
}

//===----------------------------------------------------------------------===//
// Matmul and mlp
//===----------------------------------------------------------------------===//

int64_t MatmulOp::getN(unsigned s) { return widthOf(getOutputs()[s]); }
int64_t MatmulOp::getK() { return widthOf(getInput()); }

int64_t MatmulOp::getFlopsPerRow() {
  int64_t columns = 0;
  for (Value output : getOutputs())
    columns += widthOf(output);
  return 2 * getK() * columns;
}

/// Rows of whole numbers are multiplied by whole numbers alone.
static LogicalResult checkNumerics(Operation *op, NumericsAttr numerics) {
  if (!numerics || takesNumerics(op, numerics.getNumerics()))
    return success();
  return op->emitOpError() << "multiplies in " << numerics.getMultiply()
                           << ", which is for a matmul whose weights are all quantized; quantize "
                              "them, or give other numerics";
}

LogicalResult MatmulOp::verify() {
  if (getWeights().empty())
    return emitOpError("needs at least one weight");
  if (getOutputs().size() != getWeights().size())
    return emitOpError() << "has " << getWeights().size() << " weights, but " << getOutputs().size()
                         << " results";
  if (!getBiases().empty() && getBiases().size() != getWeights().size())
    return emitOpError() << "has " << getBiases().size() << " biases for " << getWeights().size()
                         << " weights; give one for each or none";
  for (auto [s, weight] : llvm::enumerate(getWeights())) {
    if (getTranspose() && isa<QuantType>(getElementTypeOrSelf(weight.getType())))
      return emitOpError("cannot transpose a quantized weight: its blocks lie along K");
    if (getTranspose() && layoutOf(weight.getType()))
      return emitOpError("cannot transpose a weight that has a layout");
    Value bias = getBiases().empty() ? Value() : getBiases()[s];
    if (failed(checkLinear(*this, "weight", weight, bias, getK(), getN(s), getTranspose())) ||
        failed(checkSameRows(*this, "result", getOutputs()[s], "input", getInput())))
      return failure();
  }
  return checkNumerics(*this, getNumericsAttr());
}

namespace {
/// A segment whose result nobody uses is not computed.
struct DropUnusedSegments : OpRewritePattern<MatmulOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(MatmulOp op, PatternRewriter &rewriter) const override {
    SmallVector<unsigned> used;
    for (auto [s, output] : llvm::enumerate(op.getOutputs()))
      if (!output.use_empty())
        used.push_back(s);
    if (used.empty() || used.size() == op.getOutputs().size())
      return failure();
    SmallVector<Value> weights, biases;
    SmallVector<Type> types;
    for (unsigned s : used) {
      weights.push_back(op.getWeights()[s]);
      types.push_back(op.getOutputs()[s].getType());
      if (!op.getBiases().empty())
        biases.push_back(op.getBiases()[s]);
    }
    auto smaller = rewriter.create<MatmulOp>(op.getLoc(), types, op.getInput(), weights, biases,
                                             op.getTransposeAttr(), op.getNumericsAttr());
    smaller->setDiscardableAttrs(op->getDiscardableAttrDictionary());
    for (auto [i, s] : llvm::enumerate(used))
      rewriter.replaceAllUsesWith(op.getOutputs()[s], smaller.getOutputs()[i]);
    rewriter.eraseOp(op);
    return success();
  }
};
} // namespace

void MatmulOp::getCanonicalizationPatterns(RewritePatternSet &patterns, MLIRContext *context) {
  patterns.add<DropUnusedSegments>(context);
}

LogicalResult MlpOp::verify() {
  int64_t width = widthOf(getInput());
  int64_t hidden = cast<RankedTensorType>(getUp().getType()).getDimSize(0);
  if (getGateBias() && !getGate())
    return emitOpError("has a gate bias, but no gate");
  if (getGate() && failed(checkLinear(*this, "gate", getGate(), getGateBias(), width, hidden)))
    return failure();
  if (failed(checkLinear(*this, "up", getUp(), getUpBias(), width, hidden)) ||
      failed(checkLinear(*this, "down", getDown(), getDownBias(), hidden, widthOf(getOutput()))) ||
      failed(checkNumerics(*this, getNumericsAttr())))
    return failure();
  return checkSameRows(*this, "result", getOutput(), "input", getInput());
}

//===----------------------------------------------------------------------===//
// Attention and its cache
//===----------------------------------------------------------------------===//

LogicalResult CacheAppendOp::verify() {
  CacheType cache = getCache().getType();
  if (failed(checkWidth(*this, "values", getValues(), cache.getHeads() * cache.getDim())))
    return failure();
  return checkSameRows(*this, "slots", getSlots(), "values", getValues());
}

/// A size that an operation names must be one of the function or kernel around it.
static LogicalResult checkIsSize(Operation *op, StringRef name) {
  auto around = op->getParentOfType<FunctionOpInterface>();
  if (!around)
    return success();
  for (unsigned i = 0; i < around.getNumArguments(); ++i)
    if (auto size = around.getArgAttrOfType<SizeAttr>(i, sizeAttrName);
        size && size.getName().getValue() == name)
      return success();
  return op->emitOpError() << "is bounded by size '" << name << "', which '" << around->getName()
                           << "' around it does not take; give it the leading argument "
                           << sizeArgumentAdvice(name);
}

int64_t AttentionOp::getFlopsPerRow() {
  const auto heads = static_cast<int64_t>(getHeads());
  return 2 * heads * (getKeys().getType().getDim() + getValues().getType().getDim());
}

LogicalResult AttentionOp::verify() {
  CacheType keys = getKeys().getType(), values = getValues().getType();
  auto heads = static_cast<int64_t>(getHeads());
  if (keys.getHeads() != values.getHeads() || keys.getPage() != values.getPage())
    return emitOpError() << "keys and values differ in heads or paging: " << keys << " and "
                         << values;
  if (heads < 1 || heads % keys.getHeads() != 0)
    return emitOpError() << "has " << heads << " query heads, which is no multiple of the cache's "
                         << keys.getHeads();
  if (failed(checkWidth(*this, "query", getQuery(), heads * keys.getDim())) ||
      failed(checkWidth(*this, "result", getOutput(), heads * values.getDim())) ||
      failed(checkSameRows(*this, "result", getOutput(), "query", getQuery())) ||
      failed(checkSameRows(*this, "positions", getPositions(), "query", getQuery())) ||
      failed(checkSameRows(*this, "sequences", getSequences(), "query", getQuery())) ||
      failed(checkSameRows(*this, "lengths", getLengths(), "table", getTable())))
    return failure();
  int64_t rank = cast<RankedTensorType>(getTable().getType()).getRank();
  if (keys.getPage() != 0 && rank != 2)
    return emitOpError("reads a paged cache and needs a table [sequences, pages]");
  if (keys.getPage() == 0 && rank != 1)
    return emitOpError("reads a contiguous cache and needs a table [sequences] of first slots");
  if (getSinks() && failed(checkLength(*this, "sinks", getSinks(), heads)))
    return failure();
  if (!getScale().isFinite())
    return emitOpError("scale must be finite");
  if (static_cast<int64_t>(getWindow()) < 0)
    return emitOpError("window must not be negative");
  if (!getSoftcap().isFinite() || getSoftcap().isNegative())
    return emitOpError("softcap must be finite and not negative");
  if (failed(checkNumerics(*this, getNumericsAttr())))
    return failure();
  return getCached() ? checkIsSize(*this, *getCached()) : success();
}

//===----------------------------------------------------------------------===//
// Rowwise operations
//===----------------------------------------------------------------------===//

LogicalResult EmbeddingOp::verify() {
  if (failed(checkWidth(*this, "result", getOutput(), widthOf(getTable()))) ||
      failed(checkBlocks(*this, "table", getTable())))
    return failure();
  return checkSameRows(*this, "result", getOutput(), "ids", getIds());
}

LogicalResult GatherRowsOp::verify() {
  if (failed(checkWidth(*this, "result", getOutput(), widthOf(getInput()))))
    return failure();
  return checkSameRows(*this, "result", getOutput(), "rows", getRows());
}

template <typename NormOp> static LogicalResult verifyNorm(NormOp op) {
  if (op.getInput().getType() != op.getOutput().getType())
    return op.emitOpError() << "result type " << op.getOutput().getType() << " differs from "
                            << op.getInput().getType();
  if (failed(checkEpsilon(op, op.getEpsilon())))
    return failure();
  if (!op.getOffset().isFinite())
    return op.emitOpError("offset must be finite");
  const auto heads = static_cast<int64_t>(op.getHeads());
  const int64_t width = widthOf(op.getInput());
  if (heads < 1 || width % heads != 0)
    return op.emitOpError() << "has rows of " << width << ", which are no " << heads
                            << " heads of equal width";
  return checkLength(op, "weight", op.getWeight(), width / heads);
}

LogicalResult RmsNormOp::verify() { return verifyNorm(*this); }

int64_t RmsNormOp::getSeparateHeads() { return static_cast<int64_t>(getHeads()); }

LogicalResult LayerNormOp::verify() {
  if (failed(verifyNorm(*this)))
    return failure();
  const int64_t length = cast<RankedTensorType>(getWeight().getType()).getNumElements();
  return getBias() ? checkLength(*this, "bias", getBias(), length) : success();
}

int64_t LayerNormOp::getSeparateHeads() { return static_cast<int64_t>(getHeads()); }

int64_t RopeOp::getRotaryDim() { return widthOf(getTable()); }

LogicalResult RopeOp::verify() {
  auto headDim = static_cast<int64_t>(getHeadDim());
  if (headDim < 1 || widthOf(getInput()) % headDim != 0)
    return emitOpError() << "input is " << widthOf(getInput())
                         << " wide, which is no whole number of heads of " << headDim;
  if (getRotaryDim() % 2 != 0 || getRotaryDim() < 2 || getRotaryDim() > headDim)
    return emitOpError() << "table is " << getRotaryDim()
                         << " wide; an even number of rotary dimensions up to the head's "
                         << headDim << " is needed";
  if (getInput().getType() != getOutput().getType())
    return emitOpError() << "result type " << getOutput().getType() << " differs from "
                         << getInput().getType();
  return checkSameRows(*this, "positions", getPositions(), "input", getInput());
}

LogicalResult CastOp::verify() {
  if (failed(checkWidth(*this, "result", getOutput(), widthOf(getInput()))))
    return failure();
  return checkSameRows(*this, "result", getOutput(), "input", getInput());
}

OpFoldResult CastOp::fold(FoldAdaptor adaptor) {
  return getInput().getType() == getOutput().getType() ? OpFoldResult(getInput()) : OpFoldResult();
}

OpFoldResult ActivationOp::fold(FoldAdaptor adaptor) {
  // relu(relu(x)) is relu(x).
  auto inner = getInput().getDefiningOp<ActivationOp>();
  if (inner && getFunction() == Activation::Relu && inner.getFunction() == Activation::Relu)
    return getInput();
  return {};
}

LogicalResult ScaleOp::verify() {
  if (!getFactor().isFinite())
    return emitOpError("factor must be finite");
  if (!getSoftcap().isFinite() || getSoftcap().isNegative())
    return emitOpError("softcap must be finite and not negative");
  return success();
}

OpFoldResult ScaleOp::fold(FoldAdaptor adaptor) {
  if (getFactor().isExactlyValue(1.0) && getSoftcap().isZero())
    return getInput();
  return {};
}

LogicalResult PackOp::verify() {
  auto input = cast<RankedTensorType>(getInput().getType());
  auto output = cast<RankedTensorType>(getOutput().getType());
  if (input.getShape() != output.getShape() || input.getElementType() != output.getElementType())
    return emitOpError() << "changes more than the layout: " << input << " to " << output;
  if (layoutOf(input) && layoutOf(input) != layoutOf(output))
    return emitOpError("packs from the file's row-major layout only");
  return checkBlocks(*this, "input", getInput());
}

OpFoldResult PackOp::fold(FoldAdaptor adaptor) {
  return getInput().getType() == getOutput().getType() ? OpFoldResult(getInput()) : OpFoldResult();
}

//===----------------------------------------------------------------------===//
// The end of a step
//===----------------------------------------------------------------------===//

/// A window of recent ids, where there is one, holds some.
static LogicalResult checkRecent(Operation *op, Value recent) {
  if (recent && widthOf(recent) == 0)
    return op->emitOpError("has a window of no recent ids; leave it out");
  return success();
}

LogicalResult SampleOp::verify() {
  for (auto [name, value] : {std::pair("logits", getLogits()), {"settings", getSettings()}})
    if (!getElementTypeOrSelf(value.getType()).isF32())
      return emitOpError() << name << " must be f32: what is chosen depends on each bit";
  if (widthOf(getLogits()) == 0)
    return emitOpError("has no logits to choose from");
  if (failed(checkRecent(*this, getRecent())) ||
      failed(checkWidth(*this, "settings", getSettings(), settingsWidth)) ||
      failed(checkWidth(*this, "draws", getDraws(), drawsWidth)) ||
      failed(checkSameRows(*this, "settings", getSettings(), "logits", getLogits())) ||
      failed(checkSameRows(*this, "draws", getDraws(), "logits", getLogits())) ||
      failed(checkSameRows(*this, "positions", getPositions(), "logits", getLogits())) ||
      failed(checkSameRows(*this, "result", getIds(), "logits", getLogits())))
    return failure();
  if (getRecent())
    return checkSameRows(*this, "recent", getRecent(), "logits", getLogits());
  return success();
}

LogicalResult AdvanceOp::verify() {
  auto sameRows = [&](StringRef name, Value value) {
    return checkSameRows(*this, name, value, "ids", getIds());
  };
  auto sameSequences = [&](StringRef name, Value value) {
    return checkSameRows(*this, name, value, "lengths", getLengths());
  };
  if (failed(sameRows("positions", getPositions())) || failed(sameRows("slots", getSlots())) ||
      failed(sameRows("sequences", getSequences())) || failed(sameSequences("table", getTable())) ||
      failed(sameSequences("limits", getLimits())) ||
      failed(sameRows("result of ids", getNextIds())) ||
      failed(sameRows("result of positions", getNextPositions())) ||
      failed(sameRows("result of slots", getNextSlots())) ||
      failed(sameSequences("result of lengths", getNextLengths())))
    return failure();
  if (static_cast<bool>(getRecent()) != static_cast<bool>(getNextRecent()))
    return emitOpError() << "has " << (getRecent() ? "" : "no ") << "recent ids and gives "
                         << (getNextRecent() ? "some" : "none");
  if (getRecent() && (getRecent().getType() != getNextRecent().getType() ||
                      failed(sameRows("recent", getRecent()))))
    return emitOpError("recent ids and their result differ in type or rows");
  if (failed(checkRecent(*this, getRecent())))
    return failure();
  const auto page = static_cast<int64_t>(getPage());
  if (page < 0 || (page != 0 && !llvm::isPowerOf2_64(static_cast<uint64_t>(page))))
    return emitOpError() << "page must be a power of two, not " << page;
  int64_t rank = cast<RankedTensorType>(getTable().getType()).getRank();
  if (page != 0 && rank != 2)
    return emitOpError("steps through pages and needs a table [sequences, pages]");
  if (page == 0 && rank != 1)
    return emitOpError("has no page and needs a table [sequences] of first slots");
  return success();
}

//===----------------------------------------------------------------------===//
// Kernels and launches
//===----------------------------------------------------------------------===//

ParseResult KernelOp::parse(OpAsmParser &parser, OperationState &result) {
  auto buildFunctionType = [](Builder &builder, ArrayRef<Type> arguments, ArrayRef<Type> results,
                              function_interface_impl::VariadicFlag, std::string &) {
    return builder.getFunctionType(arguments, results);
  };
  return function_interface_impl::parseFunctionOp(
      parser, result, /*allowVariadic=*/false, getFunctionTypeAttrName(result.name),
      buildFunctionType, getArgAttrsAttrName(result.name), getResAttrsAttrName(result.name));
}

void KernelOp::print(OpAsmPrinter &printer) {
  function_interface_impl::printFunctionOp(printer, *this, /*isVariadic=*/false,
                                           getFunctionTypeAttrName(), getArgAttrsAttrName(),
                                           getResAttrsAttrName());
}

unsigned KernelOp::getNumSizes() {
  unsigned count = 0;
  while (count < getNumArguments() && getArgumentTypes()[count].isIndex())
    ++count;
  return count;
}

SizeAttr KernelOp::getSize(unsigned i) { return getArgAttrOfType<SizeAttr>(i, sizeAttrName); }

Operation *KernelOp::getRoot() {
  Operation *last = nullptr;
  for (Operation &op : getBody().front().without_terminator()) {
    if (!isRowwise(&op))
      return &op;
    last = &op;
  }
  return last;
}

void KernelOp::dropChoices() {
  for (StringRef name :
       {"variant", "schedule", "schedule_source", "schedule_reason", "code", "launching"})
    (*this)->removeAttr(name);
}

StringRef KernelOp::getFamily() {
  const std::optional<OpKind> kind = kindOf(getRoot());
  return kind == OpKind::Matmul ? "matmul" : kind == OpKind::Attention ? "attention" : "rowwise";
}

LogicalResult KernelOp::verify() {
  if (getVariant() && getVariant()->empty())
    return emitOpError("has a variant without a name");
  if (!isGenerated() && (getCode() || getLaunching()))
    return emitOpError() << "has code and is run by variant '" << *getVariant() << "'";
  for (unsigned i = 0; i < getNumSizes(); ++i)
    if (!getSize(i))
      return emitOpError() << "argument " << i << " is an index without " << sizeAttrName;
  for (Type type : getArgumentTypes().drop_front(getNumSizes()))
    if (!isa<RankedTensorType, CacheType>(type))
      return emitOpError() << "takes " << type
                           << "; after the sizes, arguments are tensors and caches";
  return success();
}

LogicalResult KernelOp::verifyRegions() {
  auto yield = dyn_cast<YieldOp>(getBody().front().getTerminator());
  if (!yield)
    return emitOpError("must end with transformer.yield");
  if (TypeRange(yield.getValues().getTypes()) != TypeRange(getResultTypes()))
    return emitOpError("yields other types than it declares as results");
  unsigned roots = 0;
  bool empty = true;
  llvm::StringSet<llvm::MallocAllocator> sizes;
  for (unsigned i = 0; i < getNumSizes(); ++i)
    sizes.insert(getSize(i).getName().getValue());
  for (Operation &op : getBody().front().without_terminator()) {
    empty = false;
    if (!kindOf(&op))
      return op.emitOpError("cannot stand in a kernel");
    if (!isRowwise(&op) && ++roots > 1)
      return op.emitOpError("is a second root; a kernel has one matmul or attention");
    for (Value value : op.getOperands())
      if (auto tensor = dyn_cast<RankedTensorType>(value.getType())) {
        if (auto dimension = unnamedDimension(tensor))
          return op.emitOpError() << "dimension " << *dimension << " of " << tensor
                                  << " has no name; " << namedRowsAdvice(tensor);
        StringRef name = rowsSizeName(tensor);
        if (!name.empty() && !sizes.contains(name))
          return op.emitOpError() << "uses rows of size '" << name
                                  << "', which the kernel does not take as a leading argument";
      }
  }
  if (empty)
    return emitOpError("has an empty body");
  if (!isGenerated() && getFamily() != "matmul")
    return emitOpError() << "is no matmul, but is to be run by variant '" << *getVariant() << "'";
  return success();
}

LogicalResult LaunchOp::verifySymbolUses(SymbolTableCollection &symbols) {
  auto kernel = symbols.lookupNearestSymbolFrom<KernelOp>(*this, getKernelAttr());
  if (!kernel)
    return emitOpError() << "launches @" << getKernel() << ", which is no kernel of this module";
  if (TypeRange(getOperandTypes()) != TypeRange(kernel.getArgumentTypes()))
    return emitOpError() << "gives other operand types than @" << getKernel() << " takes";
  if (TypeRange(getResultTypes()) != TypeRange(kernel.getResultTypes()))
    return emitOpError() << "takes other result types than @" << getKernel() << " gives";
  return success();
}

void LaunchOp::getEffects(
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>> &effects) {
  for (OpOperand &operand : getOperation()->getOpOperands())
    if (isa<CacheType>(operand.get().getType())) {
      effects.emplace_back(MemoryEffects::Read::get(), &operand);
      effects.emplace_back(MemoryEffects::Write::get(), &operand);
    }
}
