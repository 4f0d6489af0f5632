#include "kernelforge/codegen/KernelCost.h"

#include "kernelforge/ir/Caches.h"
#include "kernelforge/ir/Numerics.h"

#include "llvm/ADT/SetVector.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

static double sum(const std::vector<Extent> &terms, const int64_t *sizes) {
  double total = 0;
  for (const Extent &term : terms)
    total += static_cast<double>(term.evaluate(sizes));
  return total;
}

double KernelCost::flops(const int64_t *sizes) const { return sum(flopTerms, sizes); }

double KernelCost::bytes(const int64_t *sizes) const { return sum(byteTerms, sizes); }

namespace {

class Counter {
public:
  explicit Counter(KernelOp kernel) : kernel(kernel) {}

  KernelCost count() {
    for (BlockArgument argument : kernel.getArguments())
      if (auto type = dyn_cast<RankedTensorType>(argument.getType()))
        addBytesRead(argument, type);
    for (Type type : kernel.getResultTypes())
      cost.byteTerms.push_back(bytesOf(cast<RankedTensorType>(type)));
    for (auto op : kernel.getBody().getOps<ComputeOp>()) {
      if (const Numerics own = numericsOf(op); own != Numerics::F32)
        cost.numerics = own;
      if (auto attention = dyn_cast<AttentionOp>(op.getOperation()))
        addAttention(attention);
      else if (const int64_t flops = op.getFlopsPerRow(); flops > 0)
        cost.flopTerms.push_back(rowsTimes(op.getRowInputs().front().getType(), flops));
      if (auto append = dyn_cast<CacheAppendOp>(op.getOperation()))
        cost.byteTerms.push_back(
            rowsTimes(append.getValues().getType(), slotOf(append.getCache().getType()).bytes()));
    }
    return std::move(cost);
  }

private:
  /// The kernel's size of that name.
  std::optional<Extent> sizeNamed(StringRef name) {
    for (unsigned i = 0; i < kernel.getNumSizes(); ++i)
      if (kernel.getSize(i).getName().getValue() == name)
        return Extent{1, static_cast<int>(i)};
    return std::nullopt;
  }

  /// `bytes` for each row of `type`.
  Extent rowsTimes(Type type, int64_t bytes) {
    auto tensor = cast<RankedTensorType>(type);
    if (std::optional<Extent> rows = sizeNamed(rowsSizeName(tensor)))
      return *rows * bytes;
    return Extent{bytes * (tensor.isDynamicDim(0) ? 1 : tensor.getDimSize(0))};
  }

  /// Positions of one sequence that the caches hold at most.
  std::optional<Extent> positionsOf(AttentionOp attention) {
    if (attention.getCached())
      return sizeNamed(*attention.getCached());
    const int64_t page = attention.getKeys().getType().getPage();
    if (page == 0)
      return std::nullopt;
    auto table = cast<RankedTensorType>(attention.getTable().getType());
    if (!table.isDynamicDim(1))
      return Extent{page * table.getDimSize(1)};
    // The last name is that of the last dimension.
    std::optional<Extent> pages =
        sizeNamed(cast<DimsAttr>(table.getEncoding()).getNames().back().getValue());
    return pages ? std::optional(*pages * page) : std::nullopt;
  }

  void addAttention(AttentionOp attention) {
    const std::optional<Extent> positions = positionsOf(attention);
    cost.isWhole &= positions.has_value();
    if (!positions)
      return;
    cost.flopTerms.push_back(rowsTimes(attention.getQuery().getType(), attention.getFlopsPerRow()) *
                             *positions);
    for (CacheType cache : {attention.getKeys().getType(), attention.getValues().getType()})
      cost.byteTerms.push_back(*positions * slotOf(cache).bytes());
  }

  /// Bytes of a whole tensor; 0 where it has no size in bytes.
  Extent bytesOf(RankedTensorType type) {
    if (type.getRank() == 0)
      return Extent{0};
    auto bytes = static_cast<int64_t>(weightBytes(type, 1).value_or(0));
    return type.isDynamicDim(0) ? rowsTimes(type, bytes) : Extent{bytes};
  }

  /// The indices by which an operation looks up rows of `table`; null where it reads the whole.
  static Value lookUpIndices(Operation *op, Value table) {
    auto compute = dyn_cast<ComputeOp>(op);
    const std::optional<LookUp> lookUp = compute ? compute.getLookUp() : std::nullopt;
    return lookUp && lookUp->table == table ? lookUp->indices : Value();
  }

  void addBytesRead(BlockArgument argument, RankedTensorType type) {
    // Several operations that look up the same rows read them once.
    llvm::SmallSetVector<Value, 2> lookUps;
    for (Operation *user : argument.getUsers())
      lookUps.insert(lookUpIndices(user, argument));
    if (lookUps.empty() || lookUps.contains(Value())) {
      cost.byteTerms.push_back(bytesOf(type));
      return;
    }
    auto row = static_cast<int64_t>(rowBytes(*elementTypeOf(type), type.getDimSize(1)).value_or(0));
    for (Value indices : lookUps)
      cost.byteTerms.push_back(rowsTimes(indices.getType(), row));
  }

  KernelOp kernel;
  KernelCost cost;
};

} // namespace

KernelCost kernelforge::costOf(KernelOp kernel) { return Counter(kernel).count(); }
