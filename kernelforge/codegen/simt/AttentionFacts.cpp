#include "kernelforge/codegen/simt/AttentionFacts.h"

#include "kernelforge/codegen/Operands.h"
#include "kernelforge/codegen/simt/CacheVectors.h"
#include "kernelforge/codegen/simt/Elements.h"
#include "kernelforge/ir/Caches.h"

#include "llvm/Support/MathExtras.h"

#include <algorithm>
#include <fmt/format.h>
#include <tuple>

#include <algorithm>
#include <cmath>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;

/// Widest head.
static constexpr int64_t mostHeadDim = 256;

int64_t simt::subgroupOf(const Target &target) {
  const int64_t least = target.limits.subgroupMin;
  return least >= 4 && llvm::isPowerOf2_64(static_cast<uint64_t>(least)) ? least : 0;
}

bool simt::startsEarly(const Target &target) { return target.has("dependent-launch"); }

AttentionFacts simt::attentionFacts(const KernelAnalysis &kernel, const Target &target) {
  AttentionOp op = kernel.attention();
  AttentionFacts facts;
  facts.name = kernel.name();
  std::tie(facts.minRows, facts.rows) = kernel.plannedRows(op.getQuery().getType());
  facts.rows = std::max<int64_t>(facts.rows, 1);
  facts.sequences = std::max<int64_t>(kernel.plannedRows(op.getLengths().getType()).second, 1);
  facts.heads = static_cast<int64_t>(op.getHeads());
  const CacheSlot keys = slotOf(op.getKeys().getType()), values = slotOf(op.getValues().getType());
  facts.kvHeads = keys.heads;
  facts.keyDim = keys.dim;
  facts.valueDim = values.dim;
  facts.keyBytes = keys.headBytes();
  facts.valueBytes = values.headBytes();
  constexpr int64_t usualKeys = 4096, mostPlanned = 32768;
  facts.keys = usualKeys;
  KernelOp body = kernel.kernel();
  if (op.getCached())
    for (unsigned i = 0; i < body.getNumSizes(); ++i)
      if (body.getSize(i).getName().getValue() == *op.getCached()) {
        facts.cachedSize = static_cast<int>(i);
        facts.keys = std::clamp<int64_t>(body.getSize(i).getMax(), 1, mostPlanned);
      }
  facts.subgroup = subgroupOf(target);
  facts.sharedBytes = target.limits.sharedBytes > 0 ? target.limits.sharedBytes : 16384;
  facts.threads = target.limits.threadsPerBlock > 0 ? target.limits.threadsPerBlock : 256;
  facts.bindingBytes = target.limits.bindingBytes;
  facts.startsEarly = startsEarly(target);
  return facts;
}

double AttentionFacts::secondsOfTiles(int64_t tileRows, int64_t blockKeys,
                                      const TileSpeed &speed) const {
  constexpr double multiprocessors = 132;
  const double tiles = double(heads * std::min(rows, sequences)) *
                       std::ceil(double(rowsOfSequence()) / double(tileRows));
  const double flops = 2 * tiles * double(tileRows * likelyKeys()) * double(keyDim + valueDim);
  const double blocks = std::ceil(double(likelyKeys()) / double(blockKeys));
  return dispatch + flops / speed.rate / std::min(1.0, tiles / multiprocessors) +
         blocks * speed.wait * std::ceil(tiles / (speed.resident * multiprocessors));
}

Status simt::checkAttention(const KernelAnalysis &kernel, const Target &target,
                            int64_t workspaces) {
  KF_CHECK(checkOperations(kernel.kernel(), {.device = "a GPU",
                                             .hasCode = RowExpressions::hasCode,
                                             .readsLayouts = false,
                                             .needsFiniteF32 = true,
                                             .multipliesIn = [](Operation *, Numerics numerics) {
                                               return numerics == Numerics::F16 ||
                                                      numerics == Numerics::BF16;
                                             }}));
  KF_CHECK(attention::supports(kernel));
  AttentionOp op = kernel.attention();
  for (CacheType cache : {op.getKeys().getType(), op.getValues().getType()})
    if (cache.getDim() > mostHeadDim || CacheVectors::pieceOf(cache) == 0)
      return unusable("attention cannot be computed so", kernel.name() + ", transformer.attention",
                      fmt::format("it has heads of {} values", cache.getDim()),
                      fmt::format("multiples of 4 up to {} can be", mostHeadDim));
  SmallVector<Needs> needs = attention::needsOf(kernel);
  needs[0].buffers += workspaces;
  needs[0].sharedBytes = 0;
  return checkLimits(kernel.kernel(), needs, target.limits);
}

Value simt::readQuery(PhaseBuilder &p, AttentionOp op, Value start, Value element) {
  Value quad = readElement(p, op.getQuery(), p.add(start, element), 4);
  const ElementType factor = factorType(op);
  if (factor != *elementTypeOf(op.getQuery().getType()))
    quad = roundedTo(p, factor, quad);
  return quad;
}
