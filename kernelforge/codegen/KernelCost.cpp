#include "kernelforge/codegen/KernelCost.h"

#include "kernelforge/ir/Transformer.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

static double sum(const std::vector<Extent> &terms, const int64_t *sizes) {
  double total = 0;
  for (const Extent &term : terms)
    total += static_cast<double>(term.evaluate(sizes));
  return total;
}

double KernelCost::flops(const int64_t *sizes, int64_t cached) const {
  return sum(flopTerms, sizes) + sum(flopTermsPerCached, sizes) * static_cast<double>(cached);
}

double KernelCost::bytes(const int64_t *sizes, int64_t cached) const {
  return sum(byteTerms, sizes) + static_cast<double>(bytesPerCached) * static_cast<double>(cached);
}

namespace {

class Counter {
public:
  explicit Counter(KernelOp kernel) : kernel(kernel) {}

  KernelCost count() {
    for (BlockArgument argument : kernel.getArguments())
      if (auto type = dyn_cast<RankedTensorType>(argument.getType()))
        cost.byteTerms.push_back(bytesRead(argument, type));
    for (Type type : kernel.getResultTypes())
      cost.byteTerms.push_back(rowsTimes(type, rowBytesOf(cast<RankedTensorType>(type))));
    for (Operation &op : kernel.getBody().front()) {
      if (auto matmul = dyn_cast<MatmulOp>(op)) {
        for (unsigned s = 0; s < matmul.getWeights().size(); ++s)
          cost.flopTerms.push_back(
              rowsTimes(matmul.getInput().getType(), 2 * matmul.getK() * matmul.getN(s)));
      } else if (auto attention = dyn_cast<AttentionOp>(op)) {
        CacheType keys = attention.getKeys().getType();
        int64_t heads = static_cast<int64_t>(attention.getHeads());
        cost.flopTermsPerCached.push_back(
            rowsTimes(attention.getQuery().getType(), 4 * heads * keys.getDim()));
        cost.bytesPerCached += 2 * keys.getHeads() * keys.getDim() * elementBytes(keys);
      } else if (auto append = dyn_cast<CacheAppendOp>(op)) {
        CacheType cache = append.getCache().getType();
        cost.byteTerms.push_back(rowsTimes(
            append.getValues().getType(), cache.getHeads() * cache.getDim() * elementBytes(cache)));
      }
    }
    return std::move(cost);
  }

private:
  static int64_t elementBytes(CacheType cache) {
    return cache.getElementType().getIntOrFloatBitWidth() / 8;
  }
  static int64_t rowBytesOf(RankedTensorType type) {
    return static_cast<int64_t>(weightBytes(type, 1).value_or(0));
  }

  /// `bytes` for each row of `type`.
  Extent rowsTimes(Type type, int64_t bytes) {
    auto tensor = cast<RankedTensorType>(type);
    StringRef name = rowsSizeName(tensor);
    for (unsigned i = 0; i < kernel.getNumSizes(); ++i)
      if (kernel.getSize(i).getName().getValue() == name)
        return Extent{bytes, static_cast<int>(i)};
    return Extent{bytes * (tensor.isDynamicDim(0) ? 1 : tensor.getDimSize(0))};
  }

  Extent bytesRead(BlockArgument argument, RankedTensorType type) {
    if (argument.hasOneUse()) {
      Operation *user = *argument.getUsers().begin();
      int64_t row =
          type.getRank() == 2 && !type.isDynamicDim(1)
              ? static_cast<int64_t>(rowBytes(*elementTypeOf(type), type.getDimSize(1)).value_or(0))
              : 0;
      auto embedding = dyn_cast<EmbeddingOp>(user);
      auto gather = dyn_cast<GatherRowsOp>(user);
      auto rope = dyn_cast<RopeOp>(user);
      if ((embedding && embedding.getTable() == argument) ||
          (gather && gather.getInput() == argument) || (rope && rope.getTable() == argument))
        return rowsTimes(user->getResult(0).getType(), row);
    }
    if (!type.isDynamicDim(0))
      return Extent{static_cast<int64_t>(weightBytes(type).value_or(0))};
    return rowsTimes(type, rowBytesOf(type));
  }

  KernelOp kernel;
  KernelCost cost;
};

} // namespace

KernelCost kernelforge::costOf(KernelOp kernel) { return Counter(kernel).count(); }
