#include "kernelforge/codegen/KernelAnalysis.h"

#include "kernelforge/codegen/StepKernel.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/EquivalenceClasses.h"
#include "llvm/ADT/SetVector.h"

#include <algorithm>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

std::optional<RowCount> kernelforge::rowCountOf(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  if (!tensor || tensor.getRank() == 0)
    return std::nullopt;
  return RowCount{rowsSizeName(tensor), tensor.getDimSize(0)};
}

int64_t kernelforge::widthOf(Value value) {
  return cast<RankedTensorType>(value.getType()).getDimSize(1);
}

int64_t kernelforge::headWidthOf(Operation *op) {
  if (auto rope = dyn_cast<RopeOp>(op))
    return static_cast<int64_t>(rope.getHeadDim());
  const int64_t heads = cast<ComputeOp>(op).getSeparateHeads();
  return heads > 1 ? widthOf(op->getResult(0)) / heads : 0;
}

//===----------------------------------------------------------------------===//
// One kernel
//===----------------------------------------------------------------------===//

static KernelFamily familyOf(KernelOp kernel, Operation *root) {
  if (endsStep(kernel))
    return KernelFamily::Step;
  if (isa_and_nonnull<MatmulOp>(root))
    return KernelFamily::Matmul;
  return isa_and_nonnull<AttentionOp>(root) ? KernelFamily::Attention : KernelFamily::Rowwise;
}

static SmallVector<Sink> sinksOf(KernelOp kernel) {
  SmallVector<Sink> found;
  for (Operation &op : kernel.getBody().front()) {
    if (auto append = dyn_cast<CacheAppendOp>(op))
      found.push_back({append.getValues(), &op, 0});
    else if (auto yield = dyn_cast<YieldOp>(op))
      for (auto [i, value] : llvm::enumerate(yield.getValues()))
        found.push_back({value, &op, static_cast<unsigned>(i)});
  }
  return found;
}

KernelAnalysis::KernelAnalysis(KernelOp kernel)
    : op(kernel), symbol("@" + kernel.getSymName().str()), first(kernel.getRoot()),
      stores(sinksOf(kernel)) {
  kind = familyOf(kernel, first);
  for (Operation &operation : kernel.getBody().front())
    if (llvm::any_of(operation.getOperands(), [&](Value operand) {
          Operation *from = operand.getDefiningOp();
          return from && (from == first || followers.contains(from));
        }))
      followers.insert(&operation);
  if (kind == KernelFamily::Matmul)
    formGroups();
  else if (kind == KernelFamily::Rowwise)
    formRowGroups();
}

MatmulOp KernelAnalysis::matmul() const { return dyn_cast_or_null<MatmulOp>(first); }

AttentionOp KernelAnalysis::attention() const { return dyn_cast_or_null<AttentionOp>(first); }

bool KernelAnalysis::isWeight(BlockArgument argument) const {
  const unsigned number = argument.getArgNumber();
  KernelOp own = op;
  if (own.getArgAttr(number, weightAttrName))
    return true;
  bool isLaunched = false, isWeight = true;
  if (Operation *module = own->getParentOp())
    module->walk([&](LaunchOp launch) {
      if (launch.getKernel() != own.getSymName())
        return;
      auto value = dyn_cast<BlockArgument>(launch.getOperands()[number]);
      auto function =
          value ? dyn_cast<func::FuncOp>(value.getOwner()->getParentOp()) : func::FuncOp();
      isLaunched = true;
      isWeight = isWeight && function && function.getArgAttr(value.getArgNumber(), weightAttrName);
    });
  return isLaunched && isWeight;
}

bool KernelAnalysis::isRootAlone() const {
  Operation *end = first ? first->getBlock()->getTerminator() : nullptr;
  return first && first == &first->getBlock()->front() && first->getNextNode() == end &&
         llvm::all_of(first->getOperands(), llvm::IsaPred<BlockArgument>) &&
         first->getResults() == end->getOperands();
}

/// Adds what `value` is computed by: the matmul's segments, and the other operations.
static void collectSources(Value value, Operation *matmul,
                           llvm::SmallSetVector<unsigned, 4> &segments,
                           llvm::SmallSetVector<Operation *, 8> &ops) {
  Operation *op = value.getDefiningOp();
  if (!op)
    return;
  if (op == matmul) {
    segments.insert(cast<OpResult>(value).getResultNumber());
    return;
  }
  if (ops.insert(op))
    for (Value operand : op->getOperands())
      collectSources(operand, matmul, segments, ops);
}

void KernelAnalysis::formGroups() {
  MatmulOp root = matmul();
  const auto count = static_cast<unsigned>(root.getWeights().size());
  llvm::EquivalenceClasses<unsigned> classes;
  for (unsigned s = 0; s < count; ++s)
    classes.insert(s);
  // Of each sink: a segment that it needs, and its operations.
  SmallVector<unsigned> owners;
  SmallVector<llvm::SmallSetVector<Operation *, 8>> opsOf(stores.size());
  for (auto [sink, ops] : llvm::zip(stores, opsOf)) {
    llvm::SmallSetVector<unsigned, 4> segments;
    collectSources(sink.value, root, segments, ops);
    // What needs none of them is computed with the first.
    owners.push_back(segments.empty() ? 0 : segments.front());
    for (unsigned s : segments)
      classes.unionSets(owners.back(), s);
  }
  for (unsigned s = 0; s < count; ++s) {
    if (classes.getLeaderValue(s) != s)
      continue;
    SegmentGroup group;
    for (unsigned t = 0; t < count; ++t)
      if (classes.isEquivalent(s, t))
        group.segments.push_back(t);
    llvm::SmallSetVector<Operation *, 8> ops;
    for (auto [sink, owner, own] : llvm::zip(stores, owners, opsOf))
      if (classes.isEquivalent(s, owner)) {
        group.sinks.push_back(sink);
        ops.insert(own.begin(), own.end());
      }
    group.ops = ops.takeVector();
    group.n = widthOf(root.getOutputs()[s]);
    if (!group.sinks.empty() && group.n > 0)
      segmentGroups.push_back(std::move(group));
  }
}

void KernelAnalysis::formRowGroups() {
  auto isPacked = [](const Sink &sink) {
    return isa_and_nonnull<PackOp>(sink.value.getDefiningOp());
  };
  for (const Sink &sink : stores) {
    const std::optional<RowCount> rows = rowCountOf(sink.value.getType());
    auto same = llvm::find_if(sinksByRows, [&](const SmallVector<Sink> &group) {
      return rows && !isPacked(sink) && !isPacked(group.front()) &&
             rowCountOf(group.front().value.getType()) == rows;
    });
    if (same != sinksByRows.end())
      same->push_back(sink);
    else
      sinksByRows.push_back({sink});
  }
}

std::pair<int64_t, int64_t> KernelAnalysis::rows(Type type) const {
  KernelOp kernel = op;
  auto tensor = cast<RankedTensorType>(type);
  for (unsigned i = 0; i < kernel.getNumSizes(); ++i)
    if (kernel.getSize(i).getName().getValue() == rowsSizeName(tensor))
      return {kernel.getSize(i).getMin(), kernel.getSize(i).getMax()};
  return {tensor.getDimSize(0), tensor.getDimSize(0)};
}

std::pair<int64_t, int64_t> KernelAnalysis::plannedRows(Type type) const {
  constexpr int64_t most = int64_t(1) << 30;
  const auto [least, largest] = rows(type);
  return {std::min(least, most), std::min(largest, most)};
}

const KernelCost &KernelAnalysis::cost() const {
  if (!counted)
    counted = costOf(op);
  return *counted;
}

//===----------------------------------------------------------------------===//
// All of a module
//===----------------------------------------------------------------------===//

const KernelAnalysis &KernelAnalyses::of(KernelOp kernel) {
  std::unique_ptr<KernelAnalysis> &analysis = known[kernel.getOperation()];
  if (!analysis) {
    analysis = std::make_unique<KernelAnalysis>(kernel);
    ++count;
  }
  return *analysis;
}

//===----------------------------------------------------------------------===//
// What every code generator asks of what is stored
//===----------------------------------------------------------------------===//

std::string kernelforge::sinkObstacle(const Sink &sink) {
  auto type = dyn_cast<RankedTensorType>(sink.value.getType());
  if (!type || type.getRank() != 2 || !isa<FloatType>(type.getElementType()))
    return "a result that is no rows of numbers is not supported";
  if (type.isDynamicDim(1) || (type.isDynamicDim(0) && rowsSizeName(type).empty()))
    return "a result has a dimension that no size gives";
  return "";
}

std::string kernelforge::epilogueObstacle(const KernelAnalysis &kernel, bool hasTile) {
  MatmulOp matmul = kernel.matmul();
  auto needs = [](Operation *op, StringRef what) {
    return (op->getName().getStringRef() + " needs " + what).str();
  };
  for (const SegmentGroup &group : kernel.groups()) {
    for (const Sink &sink : group.sinks) {
      if (std::string why = sinkObstacle(sink); !why.empty())
        return why;
      if (rowCountOf(sink.value.getType()) != rowCountOf(matmul.getInput().getType()) ||
          widthOf(sink.value) != group.n)
        return "a result has another type than the matmul's";
    }
    for (Operation *op : group.ops) {
      Operation *input = op->getNumOperands() > 0 ? op->getOperand(0).getDefiningOp() : nullptr;
      const bool readsResult = input && (input == kernel.root() || kernel.followsRoot(input));
      const std::optional<OpKind> kind = kindOf(op);
      const bool ofHeads = kind == OpKind::Statistics && cast<ComputeOp>(op).getSeparateHeads() > 1;
      if (kind == OpKind::Statistics && !(ofHeads && hasTile))
        return needs(op, ofHeads ? "whole heads, and follows the matmul"
                                 : "whole rows, and follows the matmul");
      if (readsResult && kind == OpKind::PicksRows)
        return needs(op, "other rows of the matmul's result than those at hand");
      if (readsResult && kind == OpKind::Pairs && !hasTile)
        return needs(op, "other elements of the matmul's result than the one at hand");
    }
  }
  return "";
}
