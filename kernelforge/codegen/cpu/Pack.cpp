#include "kernelforge/codegen/cpu/Pack.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;
using namespace kernelforge::transformer;

namespace {

/// Writes one group of 16 rows in the interleaved layout: everything is gathered as 32-bit words
/// that lie a row's bytes apart, and stored side by side.
class GroupPacker {
public:
  /// `mask` turns off the lanes of rows beyond the weight's; null: none.
  GroupPacker(KernelBuilder &k, const ElementTypeInfo &type, int64_t width, Value mask)
      : k(k), type(type), width(width), mask(mask) {
    SmallVector<int64_t> offsets;
    for (int64_t lane = 0; lane < lanes; ++lane)
      offsets.push_back(lane * (width / type.blockElements * type.blockBytes));
    rowOffsets = k.b.create<arith::ConstantOp>(k.loc, k.b.getI64VectorAttr(offsets));
  }

  void pack(Value from, Value to) {
    if (type.isQuantized())
      packBlocks(from, to);
    else if (type.blockBytes == 4)
      packWords(from, to);
    else
      packHalves(from, to);
  }

private:
  Value gather(Type element, Value from) { return k.gatherBytes(element, from, rowOffsets, mask); }
  Value lowHalves(Value words) { return k.b.create<arith::TruncIOp>(k.loc, k.vec(k.i16), words); }
  Value highHalves(Value words) {
    return lowHalves(k.b.create<arith::ShRUIOp>(k.loc, words, k.splatI(16)));
  }

  void packWords(Value from, Value to) {
    k.loop(k.c(0), k.c(width), 1, [&](Value i) {
      k.store(gather(k.i32, k.at(from, k.mul(i, 4))), k.at(to, k.mul(i, 4 * lanes)), 4);
    });
  }

  /// Two elements at a time; an odd last one alone, since the bytes after it may be nobody's.
  void packHalves(Value from, Value to) {
    k.loop(k.c(0), k.c(width / 2 * 2), 2, [&](Value i) {
      Value words = gather(k.i32, k.at(from, k.mul(i, 2)));
      Value begin = k.at(to, k.mul(i, 2 * lanes));
      if (interleavedRun(type.type, width) == 2)
        return k.store(words, begin, 4);
      k.store(lowHalves(words), begin, 2);
      k.store(highHalves(words), k.at(begin, 2 * lanes), 2);
    });
    if (width % 2 != 0)
      k.store(gather(k.i16, k.at(from, 2 * (width - 1))), k.at(to, 2 * lanes * (width - 1)), 2);
  }

  void packBlocks(Value from, Value to) {
    k.loop(k.c(0), k.c(width / type.blockElements), 1, [&](Value i) {
      Value block = k.at(from, k.mul(i, type.blockBytes));
      Value begin = k.at(to, k.mul(i, type.blockBytes * lanes));
      for (BlockPart part : blockParts)
        for (int64_t at = 0; at < type.bytes(part); at += type.unitBytes(part)) {
          const int64_t offset = type.offset(part) + at;
          Value unit;
          if (type.unitBytes(part) == 4)
            unit = gather(k.i32, k.at(block, offset));
          else if (type.unitBytes(part) == 1)
            unit =
                k.b.create<arith::TruncIOp>(k.loc, k.vec(k.i8), gather(k.i32, k.at(block, offset)));
          else if (offset + 4 <= type.blockBytes) // only words are gathered: stay in the block
            unit = lowHalves(gather(k.i32, k.at(block, offset)));
          else
            unit = highHalves(gather(k.i32, k.at(block, offset - 2)));
          k.store(unit, k.at(begin, lanes * (type.bytesBefore(part) + at)), 1);
        }
    });
  }

  KernelBuilder &k;
  const ElementTypeInfo &type;
  int64_t width;
  Value mask, rowOffsets;
};

} // namespace

void cpu::emitPackRows(KernelBuilder &k, PackOp op, Value from, Value to, Value firstRow,
                       int64_t rowCount) {
  auto type = cast<RankedTensorType>(op.getOutput().getType());
  const ElementTypeInfo &element = info(*elementTypeOf(type));
  const int64_t rows = type.getDimSize(0), width = type.getDimSize(1);
  const int64_t rowBytes = width / element.blockElements * element.blockBytes;
  if (op.getInput().getType() == op.getOutput().getType()) {
    const int64_t bytes = static_cast<int64_t>(*weightBytes(type));
    Value begin = k.mul(firstRow, rowBytes);
    Value count = k.min(k.c(rowCount * rowBytes), k.sub(k.c(bytes), begin));
    k.b.create<LLVM::MemcpyOp>(k.loc, k.at(to, begin), k.at(from, begin), count,
                               /*isVolatile=*/false);
    return;
  }
  const int64_t wholeRows = rows / lanes * lanes;
  Value lastRow = k.add(firstRow, rowCount);
  auto packGroup = [&](Value row, Value mask) {
    Value offset = k.mul(row, rowBytes);
    GroupPacker(k, element, width, mask).pack(k.at(from, offset), k.at(to, offset));
  };
  k.loop(firstRow, k.min(lastRow, k.c(wholeRows)), lanes,
         [&](Value row) { packGroup(row, Value()); });
  if (wholeRows < rows)
    k.ifThen(k.lessThan(k.c(wholeRows), lastRow), [&] {
      k.ifThen(k.cmp(arith::CmpIPredicate::sge, k.c(wholeRows), firstRow),
               [&] { packGroup(k.c(wholeRows), k.firstLanes(k.c(rows - wholeRows))); });
    });
}
