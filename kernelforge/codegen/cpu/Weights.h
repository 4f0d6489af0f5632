// Matmul weights as emitters read them: groups of 16 outputs side by side, blocks along K,
// dequantized in registers.
#pragma once

#include "kernelforge/codegen/cpu/IntegerRows.h"
#include "kernelforge/codegen/cpu/KernelBuilder.h"

namespace kernelforge::cpu {

/// Reads one weight of a matmul: `[N, K]` in the interleaved layout, or `[K, N]` row-major where
/// the matmul transposes. A group is 16 consecutive outputs; groups past the last one read the
/// last.
class WeightReader {
public:
  WeightReader(KernelBuilder &k, mlir::Value pointer, mlir::RankedTensorType type, bool transposed);

  /// Elements of K that are read together, called a block here: a chunk of a quantized block, or a
  /// handful of plain numbers. The last block of plain numbers may be shorter.
  int64_t blockK() const { return block; }
  static int64_t blockK(const ElementTypeInfo &type);
  int64_t n() const { return outputs; }
  int64_t k() const { return depth; }
  int64_t groups() const { return (outputs + lanes - 1) / lanes; }

  /// Elements of x whose sums dotBlock needs, block after block; 0 where it needs none.
  int64_t sumElements() const;

  /// Sums that dotBlock keeps in registers at once for each group, beside its accumulator.
  static int64_t chains(const ElementTypeInfo &type);

  /// True where an unpacked panel would be a copy: a group's values lie as a panel does, K rows of
  /// 16 f32.
  bool isPanel() const;

  /// True where values lie as a panel of pairs of bf16 does: K pairs of rows of 16 x 2.
  bool isPairPanel() const { return isPairs; }

  /// Whether the numbers are bf16; loadBfloat16Pair gives elements `i` and `i + 1` of block `index`
  /// of a group: the bits of both of the first output, of the next, ...; 0 where there is no second
  /// one.
  bool isBfloat16() const { return element.type == ElementType::BF16; }
  mlir::Value loadBfloat16Pair(mlir::Value g, mlir::Value index, int64_t i, bool hasSecond);

  /// Where group `g` (i64) begins.
  mlir::Value groupPointer(mlir::Value g);

  /// What of a group belongs to elements [k0, k0 + count) of K: where it begins (k0: i64, of whole
  /// blocks), and its bytes. Not of transposed weights.
  mlir::Value piecePointer(mlir::Value g, mlir::Value k0);
  int64_t pieceBytes(int64_t count) const { return (count + block - 1) / block * blockStep(); }

  bool isTransposed() const { return transposed; }

  /// Adds to accumulators[i], for each of several groups, the products of x[0 .. count - 1] with
  /// the group's elements of block `index` (i64). `x` points to the block's first activation;
  /// `sums` to the first of the block's sums (f32) of `sumBlock` elements each, where they are
  /// needed; sumElements() is a multiple of that. `groups` are the groups' numbers. What is
  /// `prefetch` blocks further on in each group is asked for (0: nothing).
  void dotBlock(llvm::ArrayRef<mlir::Value> groups, mlir::Value index, int64_t count, mlir::Value x,
                mlir::Value sums, int64_t sumBlock, llvm::MutableArrayRef<mlir::Value> accumulators,
                int64_t prefetch);

  /// The same of rows of whole numbers, by whole numbers: adds to accumulators[r * groups + g] the
  /// products of row r with the elements of block `index` of group g. Quantized weights, whole
  /// blocks; `rows` from the block's first element on. `apart`: where unpackIntegers() has taken
  /// the block of each group apart; empty: it is done here. Sums are the same either way.
  void dotIntegers(llvm::ArrayRef<mlir::Value> groups, mlir::Value index,
                   llvm::ArrayRef<IntegerRow> rows, llvm::MutableArrayRef<mlir::Value> accumulators,
                   int64_t prefetch, llvm::ArrayRef<mlir::Value> apart = {});

  /// Takes block `index` of group `g` apart for many rows, to integersBytes() at `to`: its quants
  /// as bytes, word after word of 16 outputs, then its factors in f32.
  void unpackIntegers(mlir::Value g, mlir::Value index, mlir::Value to);
  int64_t integersBytes() const { return lanes * (block + 4 * integerFactors()); }

  /// Expands block `index` of group `g`: calls `store` with each element's place in the block and
  /// the 16 outputs' values there.
  void unpackBlock(mlir::Value g, mlir::Value index, int64_t count,
                   llvm::function_ref<void(int64_t, mlir::Value)> store);

  /// Number of whole blocks within K, and the elements of a shorter last one.
  int64_t wholeBlocks() const { return depth / block; }
  int64_t lastBlock() const { return depth % block; }

private:
  /// Calls `visit(place, group, value)` with each element's place in the block and its quants as
  /// f32 minus zero (or, for plain numbers, the values), in the order in which they lie in memory,
  /// for each of the groups in turn: independent sums side by side, and an activation that is
  /// broadcast once is used at once. `byFields`: one field after the other, words read again for
  /// each. `between` is called before each word of quants whose expansion takes many registers.
  void visitQuants(llvm::ArrayRef<mlir::Value> groups, mlir::Value index, int64_t count,
                   llvm::function_ref<void(int64_t, size_t, mlir::Value)> visit,
                   llvm::function_ref<void()> between, bool byFields);
  /// Calls `visit(place, group, words)` for each word of each group: the quants of elements place
  /// .. place + 3 of the block in its four bytes, as they are stored or as a table has them.
  void visitBytes(llvm::ArrayRef<mlir::Value> groups, mlir::Value index,
                  llvm::function_ref<void(int64_t, size_t, mlir::Value)> visit);
  /// What sums of whole numbers are multiplied by: the factor of each sub-block's scale, where it
  /// has any, the block's scale, and for minima that of each sub-block.
  int64_t integerFactors() const {
    const int64_t subs = subBlocks(), own = element.hasSubScales() ? subs : 0;
    return own + 1 + (!element.hasMin() ? 0 : own ? subs : 1);
  }
  llvm::SmallVector<mlir::Value> loadIntegerFactors(mlir::Value g, mlir::Value index);
  /// 32-bit words of the groups' 16 outputs side by side; see the layout's description.
  llvm::SmallVector<mlir::Value> loadWords(llvm::ArrayRef<mlir::Value> groups, mlir::Value index,
                                           BlockPart part, int64_t word);
  void askAhead(llvm::ArrayRef<mlir::Value> groups, mlir::Value index, int64_t prefetch);
  /// Bytes from a block of a group to its next; the mean where several make a quantized block.
  int64_t blockStep() const;
  int64_t chunks() const { return element.isQuantized() ? element.blockElements / block : 1; }
  int64_t subBlocks() const { return element.isQuantized() ? block / element.subElements : 1; }
  /// Whether a chunk is read field after field, its words again for each: there are so many
  /// sub-blocks in a word that their sums would not stay in registers.
  bool isByFields() const {
    const bool isWide = b.target.has("avx512f");
    return element.hasSubScales() && (element.fields() > 2 || (element.hasHighs() && !isWide));
  }
  /// Words of high bits that a block reads.
  int64_t highWords() const;
  mlir::Value blockPointer(mlir::Value g, mlir::Value index); ///< of the whole quantized block
  /// Where the share that block `index` has in a part begins. Scale, minimum, packed sub-scales and
  /// high bits that several chunks have in the same bytes are shared by all.
  mlir::Value partPointer(BlockPart part, mlir::Value g, mlir::Value index);
  mlir::Value scale(mlir::Value g, mlir::Value index);
  mlir::Value minimum(mlir::Value g, mlir::Value index);
  /// The factor of the scale (or minimum) of the block's sub-block `sub`.
  mlir::Value subScale(mlir::Value g, mlir::Value index, int64_t sub, bool isMin);
  mlir::Value loadDense(mlir::Value pointer, mlir::Value g);
  /// The even or the odd elements of 16 pairs of bf16.
  mlir::Value ofPairs(mlir::Value pairs, bool odd);
  mlir::Value loadBits(mlir::Value pointer, mlir::Value g); ///< of 16-bit numbers
  /// Field `field` of each word, of those that quants of up to four bits have there.
  mlir::Value lowBitsToFloat(mlir::Value words, int64_t field);
  mlir::Value lowBitsToFloat(mlir::Value words); ///< of the quant at the bottom of each word
  mlir::Value byteToFloat(mlir::Value words, int64_t byte); ///< signed, or a number; the zero is 0
  /// A quant at the bottom of a byte of each word; anything may stand above it.
  mlir::Value unsignedByteToFloat(mlir::Value words, int64_t byte);
  /// A word of high bits of each group, those of the block's first elements at the bottom.
  llvm::SmallVector<mlir::Value> loadHighs(llvm::ArrayRef<mlir::Value> groups, mlir::Value index,
                                           int64_t word);
  /// The quants of elements 4 word .. 4 word + 3 of a field, each at the bottom of its byte.
  mlir::Value joinHighs(mlir::Value words, mlir::Value highs, int64_t word, int64_t field);

  KernelBuilder &b;
  mlir::Value pointer;
  const ElementTypeInfo &element;
  bool transposed;
  int64_t outputs, depth, block;
  bool isPairs; ///< bf16 in pairs along K
  /// How a quant in byte 0 or 2 of a word becomes a float on AVX-512: see unsignedByteToFloat.
  struct MantissaPlace {
    mlir::Value mask, exponent, excess;
  };
  std::array<MantissaPlace, 2> mantissa;
  /// The order in which unpackIntegers() met the words of a block.
  llvm::SmallVector<int64_t> placesApart;
  mlir::Value table; ///< the values of sixteen nibbles, where a permutation looks them up
};

} // namespace kernelforge::cpu
