#include "kernelforge/problem/FunctionSignature.h"

#include "kernelforge/compiler/ProgramBuilder.h"
#include "kernelforge/ir/Numerics.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/support/Suggest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

int64_t IndexLimit::evaluate(const SizeValues &values) const {
  int64_t limit = fixed;
  for (const std::string &size : sizes)
    if (auto known = values.find(size); known != values.end())
      limit = std::min(limit, known->second);
  return limit;
}

bool FunctionArgument::isCache() const { return isa<CacheType>(type); }

std::vector<int64_t> FunctionSignature::shape(RankedTensorType type,
                                              const SizeValues &values) const {
  auto dims = dyn_cast_or_null<DimsAttr>(type.getEncoding());
  std::vector<int64_t> shape;
  size_t named = 0;
  for (int64_t i = 0; i < type.getRank(); ++i)
    shape.push_back(type.isDynamicDim(i) ? values.at(dims.getNames()[named++].getValue().str())
                                         : type.getDimSize(i));
  return shape;
}

bool FunctionSignature::boundsLengths(std::string_view size) const {
  return std::ranges::any_of(attentions,
                             [&](const AttentionUse &use) { return use.cached == size; });
}

/// The coarser of `a` and the type of `type`'s elements: f32, then f16, bf16 and caches of q8_0.
static ElementType coarser(ElementType a, Type type) {
  const ElementType b = elementTypeOf(type).value_or(ElementType::F32);
  for (ElementType coarse : {ElementType::Q8_0, ElementType::BF16, ElementType::F16})
    if (a == coarse || b == coarse)
      return coarse;
  return a;
}

namespace {

/// Follows arguments to their uses, through launches into kernels.
class UseReader {
public:
  UseReader(func::FuncOp function, FunctionSignature &signature)
      : function(function), signature(signature) {}

  /// False where an attention or append works on something that is no argument.
  bool read() {
    Scope scope;
    int next = 0;
    for (BlockArgument argument : function.getArguments()) {
      if (auto size = function.getArgAttrOfType<SizeAttr>(argument.getArgNumber(), sizeAttrName))
        scope.sizeNames[size.getName().getValue()] = size.getName().str();
      else
        scope.arguments[argument] = next++;
    }
    readBody(function.getBody().front(), scope);
    return known;
  }

private:
  /// What values of a body are in the function: a kernel has its own names.
  struct Scope {
    llvm::DenseMap<Value, int> arguments;
    llvm::StringMap<std::string> sizeNames;

    int argument(Value value) const {
      auto known = arguments.find(value);
      return known == arguments.end() ? -1 : known->second;
    }
  };

  void readBody(Block &body, const Scope &scope) {
    for (Operation &op : body) {
      if (auto compute = dyn_cast<ComputeOp>(op))
        if (std::optional<LookUp> lookUp = compute.getLookUp())
          limitBy(lookUp->indices, lookUp->table, scope);
      if (auto launch = dyn_cast<LaunchOp>(op); launch && &body == &function.getBody().front())
        readLaunch(launch, scope);
      else if (auto attention = dyn_cast<AttentionOp>(op))
        readAttention(attention, scope);
      else if (auto append = dyn_cast<CacheAppendOp>(op))
        readAppend(append, scope);
      else if (auto rope = dyn_cast<RopeOp>(op))
        mark(rope.getPositions(), scope, &IndexUse::position);
      else if (auto sample = dyn_cast<SampleOp>(op))
        readSample(sample, scope);
      else if (auto advance = dyn_cast<AdvanceOp>(op))
        readAdvance(advance, scope);
    }
  }

  void readLaunch(LaunchOp launch, const Scope &scope) {
    auto kernel = SymbolTable::lookupNearestSymbolFrom<KernelOp>(launch, launch.getKernelAttr());
    Scope inner;
    Block &body = kernel.getBody().front();
    for (auto [operand, argument] : llvm::zip(launch.getOperands(), body.getArguments())) {
      unsigned index = argument.getArgNumber();
      if (index < kernel.getNumSizes()) {
        auto outer = dyn_cast<BlockArgument>(operand);
        auto size = outer ? function.getArgAttrOfType<SizeAttr>(outer.getArgNumber(), sizeAttrName)
                          : SizeAttr();
        if (size)
          inner.sizeNames[kernel.getSize(index).getName().getValue()] = size.getName().str();
      } else if (int known = scope.argument(operand); known >= 0) {
        inner.arguments[argument] = known;
      }
    }
    readBody(body, inner);
  }

  void readAttention(AttentionOp op, const Scope &scope) {
    mark(op.getPositions(), scope, &IndexUse::position);
    mark(op.getSequences(), scope, &IndexUse::sequence);
    mark(op.getTable(), scope, &IndexUse::table);
    mark(op.getLengths(), scope, &IndexUse::length);
    limitBy(op.getSequences(), op.getLengths(), scope);
    const auto bound = scope.sizeNames.find(op.getCached().value_or(""));
    const std::string cached = bound == scope.sizeNames.end() ? "" : bound->second;
    if (int argument = scope.argument(op.getPositions()); argument >= 0 && !cached.empty())
      signature.arguments[argument].use.limit.sizes.push_back(cached);
    AttentionUse use{scope.argument(op.getKeys()),
                     scope.argument(op.getValues()),
                     scope.argument(op.getPositions()),
                     scope.argument(op.getSequences()),
                     scope.argument(op.getTable()),
                     scope.argument(op.getLengths()),
                     cast<CacheType>(op.getKeys().getType()).getPage(),
                     op.getCausal(),
                     static_cast<int64_t>(op.getWindow()),
                     cached};
    for (int argument :
         {use.keys, use.values, use.positions, use.sequences, use.table, use.lengths})
      known &= argument >= 0;
    signature.attentions.push_back(use);
    signature.pages.push_back(use.page);
  }

  void readSample(SampleOp op, const Scope &scope) {
    mark(op.getSettings(), scope, &IndexUse::settings);
    mark(op.getDraws(), scope, &IndexUse::draws);
    mark(op.getPositions(), scope, &IndexUse::position);
    if (int argument = op.getRecent() ? scope.argument(op.getRecent()) : -1; argument >= 0)
      signature.arguments[argument].use.vocabulary =
          cast<RankedTensorType>(op.getLogits().getType()).getDimSize(1);
  }

  void readAdvance(AdvanceOp op, const Scope &scope) {
    mark(op.getPositions(), scope, &IndexUse::position);
    mark(op.getSlots(), scope, &IndexUse::slot);
    mark(op.getSequences(), scope, &IndexUse::sequence);
    mark(op.getTable(), scope, &IndexUse::table);
    mark(op.getLengths(), scope, &IndexUse::length);
    mark(op.getLimits(), scope, &IndexUse::limits);
    limitBy(op.getSequences(), op.getLengths(), scope);
    signature.pages.push_back(static_cast<int64_t>(op.getPage()));
  }

  void readAppend(CacheAppendOp op, const Scope &scope) {
    mark(op.getSlots(), scope, &IndexUse::slot);
    AppendUse use{scope.argument(op.getCache()), scope.argument(op.getSlots())};
    known &= use.cache >= 0 && use.slots >= 0;
    if (use.cache >= 0)
      signature.arguments[use.cache].written = true;
    // What is appended may be read again by the same function.
    signature.coarsest = coarser(signature.coarsest, op.getCache().getType().getElementType());
    signature.appends.push_back(use);
  }

  void mark(Value value, const Scope &scope, bool IndexUse::*use) {
    if (int argument = scope.argument(value); argument >= 0)
      signature.arguments[argument].use.*use = true;
  }

  /// `indices` index the rows of `indexed`.
  void limitBy(Value indices, Value indexed, const Scope &scope) {
    int argument = scope.argument(indices);
    if (argument < 0)
      return;
    IndexLimit &limit = signature.arguments[argument].use.limit;
    auto type = cast<RankedTensorType>(indexed.getType());
    if (!type.isDynamicDim(0))
      limit.fixed = std::min(limit.fixed, type.getDimSize(0));
    else if (auto name = scope.sizeNames.find(rowsSizeName(type)); name != scope.sizeNames.end())
      limit.sizes.push_back(name->second);
  }

  func::FuncOp function;
  FunctionSignature &signature;
  bool known = true;
};

} // namespace

namespace {

std::string printed(Type type) {
  std::string text;
  llvm::raw_string_ostream(text) << type;
  return text;
}

/// Why a run cannot hold a tensor of that type, and what to write instead; empty where it can.
struct Obstacle {
  std::string why, hint;
};

/// "%x" where the text that it was parsed from has that name, else the name that it is bound by.
std::string shownName(func::FuncOp function, unsigned index) {
  if (auto named = dyn_cast<NameLoc>(function.getArgument(index).getLoc()))
    return named.getName().str();
  return argumentName(function, index);
}

/// A size stands before all that follows it: where it is not there, or later.
Obstacle missingSize(func::FuncOp function, StringRef size) {
  for (unsigned i = 0; i < function.getNumArguments(); ++i)
    if (auto later = function.getArgAttrOfType<SizeAttr>(i, sizeAttrName);
        later && later.getName().getValue() == size)
      return {fmt::format("follows size '{}', which the function takes only after it", size.str()),
              "move " + shownName(function, i) + " to the front of the arguments"};
  return {fmt::format("follows size '{}', which the function does not take", size.str()),
          "give the function the leading argument " + sizeArgumentAdvice(size)};
}

Obstacle obstacleOf(func::FuncOp function, RankedTensorType type,
                    const std::set<std::string> &sizes) {
  if (!elementTypeOf(type))
    return {"has elements of another type than f32, f16, bf16, i32 and the quantized ones", ""};
  if (type.getRank() < 1 || type.getRank() > 2)
    return {"is no tensor of one or two dimensions", ""};
  if (auto dimension = unnamedDimension(type))
    return {fmt::format("has no name for its dimension {}", *dimension), namedRowsAdvice(type)};
  if (auto dims = dyn_cast_or_null<DimsAttr>(type.getEncoding()))
    for (StringAttr name : dims.getNames())
      if (!sizes.count(name.str()))
        return missingSize(function, name.getValue());
  return {};
}

} // namespace

/// The kernel that an operation launches; null where it launches none.
static KernelOp launchedBy(Operation &op) {
  auto launch = dyn_cast<LaunchOp>(op);
  return launch ? SymbolTable::lookupNearestSymbolFrom<KernelOp>(launch, launch.getKernelAttr())
                : KernelOp();
}

static ElementType coarsestElementOf(func::FuncOp function) {
  ElementType coarsest = ElementType::F32;
  auto add = [&](Operation *op) {
    for (Type type : op->getResultTypes())
      coarsest = coarser(coarsest, type);
  };
  for (Operation &op : function.getBody().front()) {
    add(&op);
    if (KernelOp kernel = launchedBy(op))
      for (auto cast : kernel.getBody().getOps<CastOp>())
        add(cast);
  }
  return coarsest;
}

static bool roundsOperands(func::FuncOp function) {
  const auto rounds = [](Operation &op) { return numericsOf(&op) != Numerics::F32; };
  return llvm::any_of(function.getBody().front(), [&](Operation &op) {
    KernelOp kernel = launchedBy(op);
    return rounds(op) || (kernel && llvm::any_of(kernel.getBody().front(), rounds));
  });
}

Expected<FunctionSignature> kernelforge::readSignature(func::FuncOp function) {
  FunctionSignature signature;
  signature.name = function.getSymName().str();
  auto refuse = [&](std::string why, std::string hint = "") {
    return unusable("function cannot be run", "@" + signature.name, std::move(why),
                    std::move(hint));
  };
  if (!function.getBody().hasOneBlock())
    return refuse("it has no body of one block");
  signature.coarsest = coarsestElementOf(function);
  signature.roundsOperands = roundsOperands(function);
  std::set<std::string> names, sizes;
  for (BlockArgument argument : function.getArguments()) {
    unsigned index = argument.getArgNumber();
    if (auto size = function.getArgAttrOfType<SizeAttr>(index, sizeAttrName)) {
      signature.sizes.push_back({size.getName().str(), size.getMin(), size.getMax()});
      sizes.insert(size.getName().str());
      continue;
    }
    FunctionArgument described{argumentName(function, index), argument.getType(), {}, false};
    auto tensor = dyn_cast<RankedTensorType>(described.type);
    const std::string what =
        "argument '" + shownName(function, index) + "' (" + printed(described.type) + ") ";
    if (described.type.isIndex())
      return refuse(what + "is an index, but no size",
                    "write " + sizeArgumentAdvice("rows") + " with the size's own name and range");
    if (!described.isCache() && !tensor)
      return refuse(what + "is neither a size, a tensor nor a cache");
    if (tensor)
      if (Obstacle obstacle = obstacleOf(function, tensor, sizes); !obstacle.why.empty())
        return refuse(what + obstacle.why, obstacle.hint);
    if (!names.insert(described.name).second)
      return refuse("two arguments are named '" + described.name + "'");
    signature.arguments.push_back(std::move(described));
  }
  for (Type type : function.getResultTypes()) {
    auto tensor = dyn_cast<RankedTensorType>(type);
    const std::string what =
        fmt::format("result {} ({}) ", signature.results.size(), printed(type));
    if (!tensor)
      return refuse(what + "is no tensor",
                    isa<CacheType>(type) ? "a cache that is written is given back anyway" : "");
    if (Obstacle obstacle = obstacleOf(function, tensor, sizes); !obstacle.why.empty())
      return refuse(what + obstacle.why, obstacle.hint);
    if (info(*elementTypeOf(tensor)).isQuantized() && (layoutOf(tensor) || tensor.getRank() != 2))
      return refuse(what + "is quantized and no matrix of whole rows");
    signature.results.push_back(tensor);
  }
  if (!UseReader(function, signature).read())
    return refuse("an attention or append takes a cache or indices that are no argument");
  return signature;
}

Expected<func::FuncOp> kernelforge::findFunction(ModuleOp module, StringRef name) {
  std::vector<func::FuncOp> candidates;
  std::vector<std::string> names;
  const llvm::StringSet<> code = kernelCode(module);
  for (auto function : module.getOps<func::FuncOp>()) {
    if (function.isExternal() || code.contains(function.getSymName()))
      continue;
    // One that is made of other dialects alone is not meant; where it mixes them, a run says so.
    Block &body = function.getBody().front();
    const llvm::DenseSet<Operation *> unneeded = unneededOperations(body);
    bool ours = false, foreign = false;
    for (Operation &op : body.without_terminator()) {
      const bool own = isa_and_nonnull<TransformerDialect>(op.getDialect());
      ours |= own;
      foreign |= !own && !unneeded.contains(&op);
    }
    if (foreign && !ours)
      continue;
    if (function.getSymName() == name)
      return function;
    names.push_back(function.getSymName().str());
    candidates.push_back(function);
  }
  if (name.empty() && candidates.size() == 1)
    return candidates.front();
  if (candidates.empty())
    return unusable("module cannot be run", "module",
                    "it has no function of transformer operations",
                    "write func.func @NAME(...) around them");
  if (name.empty())
    return unusable("function is not given", "module",
                    fmt::format("it has several: {}", fmt::join(names, ", ")),
                    "name one with --function");
  return unusable("unknown function", "@" + name.str(),
                  fmt::format("the module has {}", fmt::join(names, ", ")),
                  didYouMean({name.data(), name.size()}, names));
}

int64_t kernelforge::cachedBucket(int64_t longest, int64_t most) {
  constexpr int64_t least = 64;
  if (longest >= most)
    return most;
  return std::min(std::max(least, static_cast<int64_t>(llvm::PowerOf2Ceil(longest))), most);
}

/// The sizes without a value that do nothing but bound lengths: no tensor follows them.
static std::set<std::string> openBounds(const FunctionSignature &signature,
                                        const SizeValues &values) {
  std::set<std::string> bounds;
  for (const AttentionUse &use : signature.attentions)
    if (!use.cached.empty() && !values.count(use.cached))
      bounds.insert(use.cached);
  for (const FunctionArgument &argument : signature.arguments)
    if (auto tensor = dyn_cast<RankedTensorType>(argument.type))
      if (auto dims = dyn_cast_or_null<DimsAttr>(tensor.getEncoding()))
        for (StringAttr name : dims.getNames())
          bounds.erase(name.str());
  return bounds;
}

/// Positions of the longest sequence that the attentions which `bound` bounds read, where rows
/// follow a past.
static int64_t longestOf(const FunctionSignature &signature, const std::string &bound,
                         const SizeValues &values, int64_t past) {
  int64_t longest = 1;
  for (const AttentionUse &use : signature.attentions) {
    if (use.cached != bound)
      continue;
    const FunctionArgument &positions = signature.arguments[use.positions];
    const FunctionArgument &lengths = signature.arguments[use.lengths];
    const int64_t rows = signature.shape(positions.tensor(), values).front();
    const int64_t sequences = signature.shape(lengths.tensor(), values).front();
    const int64_t last = past + (rows + sequences - 1) / std::max<int64_t>(sequences, 1);
    longest = std::max(longest, std::min(last, positions.use.limit.evaluate(values)));
  }
  return longest;
}

Expected<SizeValues> kernelforge::chooseSizes(const FunctionSignature &signature,
                                              const SizeValues &given, int64_t past) {
  SizeValues values;
  int64_t largest = 8;
  for (const auto &[name, value] : given) {
    auto size = llvm::find_if(signature.sizes,
                              [name = name](const ProgramSize &s) { return s.name == name; });
    if (size == signature.sizes.end()) {
      std::vector<std::string> known;
      for (const ProgramSize &s : signature.sizes)
        known.push_back(s.name);
      return unusable("unknown size", name,
                      known.empty()
                          ? fmt::format("@{} has none", signature.name)
                          : fmt::format("@{} has {}", signature.name, fmt::join(known, ", ")),
                      didYouMean(name, known));
    }
    if (value < size->min || value > size->max)
      return unusable("size is out of range", name,
                      fmt::format("{} is not from {} to {}", value, size->min, size->max));
    values[name] = value;
    largest = std::max(largest, value);
  }
  // Positions are as many as rows and a past before them; tables and pages must hold them.
  std::set<std::string> roomy;
  for (const FunctionArgument &argument : signature.arguments) {
    if (argument.use.position)
      roomy.insert(argument.use.limit.sizes.begin(), argument.use.limit.sizes.end());
    if (argument.use.table && argument.tensor().getRank() == 2 && argument.tensor().isDynamicDim(1))
      roomy.insert(cast<DimsAttr>(argument.tensor().getEncoding()).getNames().back().str());
  }
  const std::set<std::string> bounds = openBounds(signature, values);
  for (const ProgramSize &size : signature.sizes)
    if (!values.count(size.name) && !bounds.count(size.name)) {
      const int64_t wanted = roomy.count(size.name) ? std::max<int64_t>(64, 2 * largest) : 8;
      values[size.name] = std::clamp(wanted, size.min, size.max);
    }
  for (const ProgramSize &size : signature.sizes)
    if (bounds.count(size.name)) {
      const int64_t longest = longestOf(signature, size.name, values, past);
      values[size.name] = std::max(cachedBucket(longest, size.max), size.min);
    }
  return values;
}
