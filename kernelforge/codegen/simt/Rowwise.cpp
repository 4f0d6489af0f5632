// Kernels without a root: a workgroup computes a row, its threads every 64th column each.
#include "kernelforge/codegen/simt/Cache.h"
#include "kernelforge/codegen/simt/Emit.h"
#include "kernelforge/codegen/simt/Pack.h"

#include "llvm/ADT/MapVector.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;

namespace {

PackOp packOf(const Sink &sink) { return sink.value.getDefiningOp<PackOp>(); }

/// What one phase computes: all stores whose rows follow one size; or a packed weight, a phase a
/// plane.
using Stores = SmallVector<Sink>;

Phase emitPhase(ModuleOp module, KernelOp kernel, const Stores &stores, StringRef entry) {
  PhaseBuilder p(module, kernel, entry);
  RowExpressions rows(p);
  Value row = p.block();
  SmallVector<Value> values;
  llvm::MapVector<int64_t, Stores> byWidth;
  SmallVector<CacheAppendOp> inBlocks;
  for (const Sink &sink : stores) {
    values.push_back(sink.value);
    if (isInBlocks(sink))
      inBlocks.push_back(cast<CacheAppendOp>(sink.op));
    else
      byWidth[widthOf(sink.value)].push_back(sink);
  }
  rows.prepareRow(values, row);
  for (auto &[width, together] : byWidth)
    p.loop("col", p.thread(), p.c(width), threads,
           [&, &sinks = together](Value col) { rows.store(sinks, {row, col}); });
  for (CacheAppendOp append : inBlocks)
    p.loop("block_index", p.thread(), p.c(blocksOf(append.getCache().getType())), threads,
           [&](Value block) { rows.appendBlock(append, row, block); });
  return p.finish(p.rowsExtent(stores[0].value.getType()));
}

} // namespace

Status rowwise::supports(const KernelAnalysis &kernel) {
  for (auto pack : kernel.kernel().getBody().getOps<PackOp>())
    KF_CHECK(supportsPack(kernel, pack));
  for (const Sink &sink : kernel.sinks()) {
    if (packOf(sink))
      continue;
    if (std::string why = sinkObstacle(sink); !why.empty())
      return unusable("kernel cannot be compiled for a GPU",
                      kernel.name() + ", " + sink.op->getName().getStringRef().str(), why,
                      "name the leading dimension with #transformer.dims");
  }
  return {};
}

SmallVector<Needs> rowwise::needsOf(const KernelAnalysis &kernel) {
  SmallVector<Needs> needs;
  for (const Stores &stores : kernel.rowGroups())
    needs.push_back(
        {countBuffers(stores), threads * 4 + RowExpressions::sharedBytesOfRow(kernel.kernel())});
  return needs;
}

Launching rowwise::emit(ModuleOp module, const KernelAnalysis &kernel, StringRef entry) {
  Launching launching;
  SmallVector<std::optional<Planes>> packed; // by what is stored; nothing where that is rows
  size_t count = 0;
  for (const Stores &stores : kernel.rowGroups()) {
    PackOp pack = packOf(stores[0]);
    packed.push_back(pack ? std::optional(planesOf(pack)) : std::nullopt);
    count += pack ? packed.back()->all().size() : 1;
  }
  auto nextEntry = [&] { return phaseEntry(entry, launching.phases.size(), count); };
  for (const auto &[stores, planes] : llvm::zip(kernel.rowGroups(), packed)) {
    if (!planes) {
      launching.phases.push_back(emitPhase(module, kernel.kernel(), stores, nextEntry()));
      continue;
    }
    for (const Plane &plane : planes->all())
      launching.phases.push_back(emitPackPlane(module, kernel.kernel(), packOf(stores[0]),
                                               stores[0].resultIndex, plane, nextEntry()));
  }
  for (auto [i, phase] : llvm::enumerate(launching.phases))
    phase.afterPrevious = i == 0; // they do not wait for each other
  return launching;
}
