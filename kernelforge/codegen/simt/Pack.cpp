#include "kernelforge/codegen/simt/Pack.h"

#include "kernelforge/codegen/simt/Weights.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;

Status simt::supportsPack(const KernelAnalysis &kernel, PackOp pack) {
  auto refuse = [&](std::string why, std::string hint) {
    return unusable("kernel cannot be compiled for a GPU", kernel.name() + ", transformer.pack",
                    std::move(why), std::move(hint));
  };
  if (!isa<BlockArgument>(pack.getInput()) ||
      !llvm::all_of(pack->getUsers(), [](Operation *user) { return isa<YieldOp>(user); }))
    return refuse("a packed weight is used in the kernel that packs it",
                  "yield it and pass it to another kernel");
  if (layoutOf(pack.getInput().getType()) || !layoutOf(pack.getOutput().getType()))
    return refuse("weights are packed from row-major into planes alone", "use the weight as it is");
  if (!weightBytes(cast<RankedTensorType>(pack.getOutput().getType())))
    return refuse("the weight is too large", "");
  return {};
}

Planes simt::planesOf(PackOp pack) {
  auto type = cast<RankedTensorType>(pack.getOutput().getType());
  return {*elementTypeOf(type), type.getDimSize(0), type.getDimSize(1)};
}

Phase simt::emitPackPlane(ModuleOp module, KernelOp kernel, PackOp pack, unsigned resultIndex,
                          const Plane &plane, StringRef entry) {
  PhaseBuilder p(module, kernel, entry);
  const ElementTypeInfo &type = info(*elementTypeOf(pack.getOutput().getType()));
  const int64_t alignment = type.blockBytes % 4 == 0 ? 4 : type.blockBytes % 2 == 0 ? 2 : 1;
  Value from = p.argument(pack.getInput()), to = p.result(resultIndex);
  // Four bytes of a block, whose part is words.
  auto wordsOfBlock = [&](Value word) {
    const int64_t words = plane.bytes / 4;
    Value block = p.named(p.div(word, words), "block_index");
    Value offset = p.add(p.mul(block, type.blockBytes), plane.offset);
    return wordOf(p, from, wordsFrom(p, offset, alignment), p.rem(word, words));
  };
  // Halves or bytes of several blocks; the last ones may be none, which are zeros.
  auto unitsOfBlocks = [&](Value word) {
    const int64_t perWord = 4 / plane.bytes, bits = 8 * plane.bytes;
    auto unit = [&](Value block) {
      Value offset = p.named(p.add(p.mul(block, type.blockBytes), plane.offset), "first_byte");
      Value around = p.load(from, p.shr(offset, 2));
      return p.andBits(p.shr(around, p.shl(p.andBits(offset, 4 - plane.bytes), 3)),
                       (int64_t(1) << bits) - 1);
    };
    const int64_t blocks = plane.content / plane.bytes;
    Value first = p.named(p.mul(word, perWord), "block_index"), units = unit(first);
    for (int64_t i = 1; i < perWord; ++i) {
      Value block = p.add(first, i);
      if (blocks % perWord == 0) {
        units = p.orBits(units, p.shl(unit(block), bits * i));
        continue;
      }
      Value isThere = p.named(p.lessThan(block, p.c(blocks)), "is_there");
      Value own = p.shl(unit(p.min(block, p.c(blocks - 1))), bits * i);
      units = p.orBits(units, p.select(isThere, own, p.c(0)));
    }
    return units;
  };

  const int64_t content = (plane.content + 3) / 4;
  const int64_t filled = (content * 4 + planeAlignment - 1) / planeAlignment * planeAlignment / 4;
  Value word = p.named(p.add(p.mul(p.block(), threads), p.thread()), "word_index");
  auto write = [&] {
    // What fills the plane is zero: nothing is read for it that is not there.
    Value read = content < filled ? p.named(p.min(word, p.c(content - 1)), "read_index") : word;
    Value value = plane.bytes % 4 == 0 ? wordsOfBlock(read) : unitsOfBlocks(read);
    if (content < filled)
      value = p.select(p.lessThan(word, p.c(content)), value, p.c(0));
    p.store(value, to, p.add(word, plane.begin / 4));
  };
  if (filled % threads == 0)
    write();
  else
    p.ifThen(p.lessThan(word, p.c(filled)), write);
  return p.finish(Extent((filled + threads - 1) / threads));
}
