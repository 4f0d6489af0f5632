// Kernels are what everything later is done to: this pass decides what belongs together.
#include "kernelforge/passes/Passes.h"

#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

namespace kernelforge {
#define GEN_PASS_DEF_FUSE
#include "kernelforge/passes/Passes.h.inc"
} // namespace kernelforge

namespace {

/// Operations of one future kernel, in block order once sorted; `anchor` is where it is launched.
struct Group {
  llvm::SmallSetVector<Operation *, 8> ops;
  Operation *anchor;
};

/// A group of each operation.
SmallVector<Group> split(const Group &group) {
  SmallVector<Group> parts;
  for (Operation *op : group.ops) {
    parts.push_back({{}, op});
    parts.back().ops.insert(op);
  }
  return parts;
}

/// The size that the rows of an operation's result (or of what it stores) follow, and their number
/// where it is static.
std::pair<StringRef, int64_t> rowsOf(Operation *op) {
  Value value = op->getNumResults() ? Value(op->getResult(0)) : rowInputs(op).front();
  auto type = cast<RankedTensorType>(value.getType());
  return {rowsSizeName(type), type.getDimSize(0)};
}

class FunctionFuser {
public:
  FunctionFuser(func::FuncOp function, bool fuse) : function(function), fuse(fuse) {}

  SmallVector<Group> formGroups() {
    Block &block = function.getBody().front();
    for (auto op : block.getOps<ComputeOp>())
      if (op.isRoot())
        addGroup(op);
    for (auto op : block.getOps<ComputeOp>())
      if (op.isRowwise() && !grouped.contains(op))
        addGroup(op);
    for (Group &group : groups) {
      auto ops = group.ops.takeVector();
      llvm::sort(ops, [](Operation *a, Operation *b) { return a->isBeforeInBlock(b); });
      group.ops.insert(ops.begin(), ops.end());
    }
    llvm::sort(groups,
               [](const Group &a, const Group &b) { return a.anchor->isBeforeInBlock(b.anchor); });
    return std::move(groups);
  }

private:
  void addGroup(ComputeOp anchor) {
    Group group{{}, anchor};
    take(group, anchor);
    if (fuse) {
      const OpKind kind = anchor.getKind();
      if (kind == OpKind::Matmul)
        takePrologue(group, anchor.getRowInputs().front());
      if (kind != OpKind::Attention && kind != OpKind::EndsStep)
        takeEpilogue(group);
    }
    groups.push_back(std::move(group));
  }

  void take(Group &group, Operation *op) {
    group.ops.insert(op);
    grouped.insert(op);
  }

  /// Takes what may be a prologue (norms, row gathers), feeds `input` and nothing outside the
  /// group.
  void takePrologue(Group &group, Value input) {
    auto producer = input.getDefiningOp<ComputeOp>();
    if (!producer || !producer.mayBePrologue() || grouped.contains(producer))
      return;
    for (Operation *user : producer->getUsers())
      if (!group.ops.contains(user))
        return;
    take(group, producer);
    if (const SmallVector<Value> rows = producer.getRowInputs(); !rows.empty())
      takePrologue(group, rows.front());
  }

  /// Takes what may be an epilogue, consumes the group's results and can be computed where the
  /// group is launched.
  void takeEpilogue(Group &group) {
    const auto rows = rowsOf(group.anchor);
    auto isOfGroup = [&](Value operand) {
      Operation *producer = operand.getDefiningOp();
      return producer && group.ops.contains(producer);
    };
    for (Operation *next = group.anchor->getNextNode(); next; next = next->getNextNode()) {
      // Most of what follows reads nothing of the group; asking an interface costs more.
      if (grouped.contains(next) || llvm::none_of(next->getOperands(), isOfGroup))
        continue;
      auto op = dyn_cast<ComputeOp>(next);
      if (!op || !op.mayBeEpilogue() || rowsOf(op) != rows)
        continue;
      bool consumes = false, available = true;
      for (OpOperand &operand : op->getOpOperands()) {
        Operation *producer = operand.get().getDefiningOp();
        // Only rows are computed with; what is looked up in must stand in memory.
        if (isOfGroup(operand.get()))
          op.getRole(operand) == OperandRole::Rows ? consumes = true : available = false;
        else if (producer && !producer->isBeforeInBlock(group.anchor))
          available = false;
      }
      if (consumes && available && canMoveUp(op, group))
        take(group, op);
    }
  }

  /// What is written to memory may not pass another access of it that stays outside the group.
  bool canMoveUp(Operation *op, const Group &group) {
    for (Value memory : op->getOperands()) {
      if (!hasEffect<MemoryEffects::Write>(op, memory))
        continue;
      for (Operation *other = group.anchor; other != op; other = other->getNextNode())
        if (!group.ops.contains(other) && llvm::is_contained(other->getOperands(), memory))
          return false;
    }
    return true;
  }

  func::FuncOp function;
  bool fuse;
  SmallVector<Group> groups;
  llvm::DenseSet<Operation *> grouped;
};

/// "rms_norm_matmul_rope": the operations once each, in order.
std::string bodyName(const Group &group) {
  std::string name;
  llvm::StringSet<> seen;
  for (Operation *op : group.ops) {
    StringRef mnemonic = op->getName().stripDialect();
    if (seen.insert(mnemonic).second)
      name += (name.empty() ? "" : "_") + mnemonic.str();
  }
  return name;
}

/// What the group does in the model: what its root does, else the operation that it is anchored at.
Place placeOf(const Group &group) {
  for (Operation *op : group.ops)
    if (cast<ComputeOp>(op).isRoot())
      return kernelforge::placeOf(op);
  return kernelforge::placeOf(group.anchor);
}

/// A kernel that the pass made, with what its name is made of.
struct Made {
  std::string function, body;
  llvm::SmallSetVector<StringRef, 1> roles; ///< of its launches, "" where one has none
  SmallVector<LaunchOp> launches;

  /// "decode.ffn_down" where all its launches have that role, else "decode_matmul_add".
  std::string name() const {
    if (roles.size() == 1 && !roles.front().empty())
      return function + "." + roles.front().str();
    return function + "_" + body;
  }
};

struct Fuse : kernelforge::impl::FuseBase<Fuse> {
  using FuseBase::FuseBase;
  Fuse(const FuseOptions &options, KernelSupport supports)
      : FuseBase(options), supports(std::move(supports)) {}

  void runOnOperation() override {
    for (auto kernel : getOperation().getOps<KernelOp>())
      kernels[kernelHash(kernel)] = kernel;
    for (auto function : getOperation().getOps<func::FuncOp>())
      if (!function.isExternal() && isOurs(function) && failed(fuseFunction(function)))
        return signalPassFailure();
    nameKernels();
  }

private:
  using Sizes = llvm::StringMap<Value>; ///< arguments of a function, by their names

  /// Functions that the code generator made are left alone.
  static bool isOurs(func::FuncOp function) {
    return llvm::any_of(function.getBody().front(),
                        [](Operation &op) { return isa<ComputeOp>(op); });
  }

  LogicalResult fuseFunction(func::FuncOp function) {
    if (!function.getBody().hasOneBlock())
      return function.emitError("kernels are formed in functions of one block");
    for (Operation &op : function.getBody().front().without_terminator())
      if (kindOf(&op) == OpKind::Composite)
        return op.emitOpError(
            "is composite: no kernel is made of it; give --kernelforge-decompose before "
            "--kernelforge-fuse");
    if (failed(checkRowsAreNamed(function)))
      return failure();
    Sizes sizes;
    for (BlockArgument argument : function.getArguments())
      if (auto size = function.getArgAttrOfType<SizeAttr>(argument.getArgNumber(), sizeAttrName))
        sizes[size.getName().getValue()] = argument;
    for (Group &group : FunctionFuser(function, fuse).formGroups())
      if (failed(outline(function, group, sizes)))
        return failure();
    return success();
  }

  /// A kernel is made for the range of each size: a dynamic dimension must say which it follows.
  static LogicalResult checkRowsAreNamed(func::FuncOp function) {
    for (Operation &op : function.getBody().front())
      for (Value value :
           llvm::concat<Value>(llvm::to_vector(op.getOperands()), llvm::to_vector(op.getResults())))
        if (auto dimension = unnamedDimension(value.getType()))
          return op.emitOpError() << "dimension " << *dimension << " of " << value.getType()
                                  << " has no name; "
                                  << namedRowsAdvice(cast<RankedTensorType>(value.getType()));
    return success();
  }

  /// Whether there is no code for `kernel`, which is made of the group, and for each of the group's
  /// operations alone there is.
  bool isBetterApart(func::FuncOp function, KernelOp kernel, ArrayRef<Group> parts,
                     const Sizes &sizes) {
    if (!supports || parts.size() < 2 || supports(kernel))
      return false;
    return llvm::all_of(parts, [&](const Group &part) {
      FailureOr<Border> border = borderOf(function, part, sizes);
      if (failed(border))
        return false;
      KernelOp alone = makeKernel(function, part, *border);
      const bool isSupported = supports(alone);
      alone.erase();
      return isSupported;
    });
  }

  /// What crosses the border of a group.
  struct Border {
    SmallVector<Value> operands; ///< sizes first
    SmallVector<DictionaryAttr> attributes;
    SmallVector<Value> outputs;
  };

  FailureOr<Border> borderOf(func::FuncOp function, const Group &group, const Sizes &sizes) {
    Border border;
    llvm::SmallSetVector<Value, 8> inputs;
    llvm::SmallSetVector<StringRef, 4> sizeNames;
    auto noteSize = [&](Type type) {
      if (auto tensor = dyn_cast<RankedTensorType>(type))
        if (auto dims = dyn_cast_or_null<DimsAttr>(tensor.getEncoding()))
          for (StringAttr name : dims.getNames())
            sizeNames.insert(name.getValue());
    };
    for (Operation *op : group.ops) {
      for (Value operand : op->getOperands()) {
        noteSize(operand.getType());
        if (!operand.getDefiningOp() || !group.ops.contains(operand.getDefiningOp()))
          inputs.insert(operand);
      }
      for (Value result : op->getResults()) {
        noteSize(result.getType());
        if (llvm::any_of(result.getUsers(), [&](Operation *u) { return !group.ops.contains(u); }))
          border.outputs.push_back(result);
      }
    }
    // Last, so that code that does not read it finds the other sizes where they are without it.
    for (Operation *op : group.ops)
      if (auto attention = dyn_cast<AttentionOp>(op); attention && attention.getCached())
        sizeNames.insert(*attention.getCached());
    Builder attributes(&getContext());
    for (StringRef name : sizeNames) {
      Value size = sizes.lookup(name);
      if (!size)
        return group.anchor->emitOpError()
               << "uses rows of size '" << name
               << "', which the function does not take; give it the leading argument "
               << sizeArgumentAdvice(name);
      auto argument = cast<BlockArgument>(size);
      border.operands.push_back(size);
      border.attributes.push_back(attributes.getDictionaryAttr(attributes.getNamedAttr(
          sizeAttrName, function.getArgAttr(argument.getArgNumber(), sizeAttrName))));
    }
    border.operands.append(inputs.begin(), inputs.end());
    border.attributes.resize(border.operands.size(), attributes.getDictionaryAttr({}));
    return border;
  }

  /// Replaces the group by a launch of a kernel with its body, or by one of each operation.
  LogicalResult outline(func::FuncOp function, const Group &group, const Sizes &sizes) {
    FailureOr<Border> border = borderOf(function, group, sizes);
    if (failed(border))
      return failure();
    KernelOp kernel = makeKernel(function, group, *border);
    const std::string hash = kernelHash(kernel);
    const SmallVector<Group> parts = split(group);
    if (!kernels.contains(hash) && isBetterApart(function, kernel, parts, sizes)) {
      kernel.erase();
      return success(llvm::all_of(
          parts, [&](const Group &part) { return succeeded(outline(function, part, sizes)); }));
    }
    kernel = intern(kernel, hash, function, group);
    OpBuilder builder(group.anchor);
    const Place place = placeOf(group);
    auto launch = builder.create<LaunchOp>(
        group.anchor->getLoc(), TypeRange(ValueRange(border->outputs)), kernel.getSymName(),
        border->operands, place.layer < 0 ? IntegerAttr() : builder.getI64IntegerAttr(place.layer),
        place.role.empty() ? StringAttr() : builder.getStringAttr(place.role));
    if (auto known = made.find(kernel); known != made.end()) {
      known->second.roles.insert(launch.getRole().value_or(""));
      known->second.launches.push_back(launch);
    }
    for (auto [output, result] : llvm::zip(border->outputs, launch.getOutputs()))
      output.replaceUsesWithIf(result,
                               [&](OpOperand &use) { return !group.ops.contains(use.getOwner()); });
    for (Operation *op : llvm::reverse(group.ops))
      op->erase();
    return success();
  }

  /// A kernel with the group's body and no name yet. Its operations do not say where in the model
  /// they stand: the launches do, of which there may be many.
  KernelOp makeKernel(func::FuncOp function, const Group &group, const Border &border) {
    OpBuilder builder(function);
    Location loc = group.anchor->getLoc();
    auto type = builder.getFunctionType(TypeRange(ValueRange(border.operands)),
                                        TypeRange(ValueRange(border.outputs)));
    auto kernel = builder.create<KernelOp>(loc, "", type, ArrayAttr(), ArrayAttr(), StringAttr(),
                                           ScheduleAttr(), StringAttr(), StringAttr(),
                                           FlatSymbolRefAttr(), DictionaryAttr(), DemandsAttr());
    kernel.setAllArgAttrs(border.attributes);
    Block &body = kernel.getBody().emplaceBlock();
    IRMapping mapping;
    for (Value operand : border.operands)
      mapping.map(operand, body.addArgument(operand.getType(), loc));
    builder.setInsertionPointToEnd(&body);
    for (Operation *op : group.ops) {
      Operation *copy = builder.clone(*op, mapping);
      copy->removeAttr(roleAttrName);
      copy->removeAttr(layerAttrName);
    }
    SmallVector<Value> yields;
    for (Value output : border.outputs)
      yields.push_back(mapping.lookup(output));
    builder.create<YieldOp>(loc, yields);
    return kernel;
  }

  /// The kernel, or the one with the same body.
  KernelOp intern(KernelOp kernel, const std::string &hash, func::FuncOp function,
                  const Group &group) {
    auto [entry, isNew] = kernels.try_emplace(hash, kernel);
    if (isNew)
      made.insert({kernel, Made{function.getSymName().str(), bodyName(group), {}, {}}});
    else
      kernel.erase();
    return entry->second;
  }

  /// Gives each new kernel a name of its own, when it is known who launches it.
  void nameKernels() {
    llvm::StringSet<> taken;
    for (Operation &op : *getOperation().getBody())
      if (auto name = op.getAttrOfType<StringAttr>(SymbolTable::getSymbolAttrName()))
        taken.insert(name.getValue());
    for (auto &[kernel, uses] : made) {
      const std::string base = uses.name();
      std::string name = base;
      for (unsigned suffix = 1; !taken.insert(name).second; ++suffix)
        name = base + "_" + std::to_string(suffix);
      kernel.setSymName(name);
      for (LaunchOp launch : uses.launches)
        launch.setKernel(name);
    }
  }

  KernelSupport supports;
  llvm::StringMap<KernelOp> kernels;    ///< by hash
  llvm::MapVector<KernelOp, Made> made; ///< in the order in which they were formed
};

} // namespace

std::unique_ptr<Pass> kernelforge::createFuse(FuseOptions options, KernelSupport supports) {
  return std::make_unique<Fuse>(options, std::move(supports));
}
