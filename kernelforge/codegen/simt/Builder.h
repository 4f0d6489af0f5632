// What every emitter of code for GPUs writes with: scalars and short vectors of one thread, 32-bit
// integers, flat buffers, workgroup memory. One function is one phase.
#pragma once

#include "kernelforge/codegen/Launching.h"
#include "kernelforge/ir/Transformer.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Builders.h"

#include <map>

namespace kernelforge::simt {

/// Threads of a workgroup, where an emitter has no reason for another number.
constexpr int64_t threads = 64;

/// On a load from workgroup memory: all threads load the same, and what depends on it is uniform.
constexpr llvm::StringLiteral uniformAttrName = "uniform";

/// A function of the target's language: PhaseBuilder::waitForPrevious().
constexpr llvm::StringLiteral waitForPreviousName = "waitForPrevious";

/// On a call: what the function gives is a signed integer in its language.
constexpr llvm::StringLiteral signedAttrName = "signed";

/// The function that PhaseBuilder::lookUpBytes() calls, with a word and the four of a table.
constexpr llvm::StringLiteral lookUpBytesName = "look_up_bytes";

/// How a phase sees a buffer: element by element as PhaseBuilder says; in quads, four elements at a
/// time (f32: four of them, f16 and bf16: two words, i32: four words); or 16 bytes at a time, as
/// four words. What does not fill the last quad or 16 bytes is not seen.
enum class View { Elements, Quads, Words4 };

/// Builds the function of one phase of a kernel. Its parameters are the buffers that it uses, in
/// the order of the kernel's arguments and results, then the sizes that it uses (i32). A buffer is
/// a flat memref: of f32 where it holds f32, of i16 where elements narrower than a word are written
/// to it (f16, bf16, a cache of q8_0), of i32 for all else, quantized weights among them.
/// `gpu.block_id x` is the block's number within the grid. Values carry readable names as name
/// locations.
class PhaseBuilder {
public:
  /// Starts the function `entry` at the end of `module`; the insertion point is its body. A block
  /// has `blockThreads` threads, a power of two.
  PhaseBuilder(mlir::ModuleOp module, transformer::KernelOp kernel, llvm::StringRef entry,
               int64_t blockThreads = threads);

  /// Ends the function with a return and says how it is launched: `grid` blocks.
  Phase finish(Extent grid);

  transformer::KernelOp kernel;
  mlir::OpBuilder b;
  mlir::Location loc;
  mlir::Type i1, i32, f32;

  // Buffers and sizes of the kernel.
  // A phase sees each buffer in one view, the one that is asked for first: what is given back may
  // be of another than is asked for.
  /// Buffer of a tensor or cache argument of the kernel's body.
  mlir::Value argument(mlir::Value bodyArgument, Access access = Access::Read,
                       View view = View::Elements);
  /// Buffer of result `i`, which is written; read where a phase before this one wrote it.
  mlir::Value result(unsigned i, Access access = Access::Write, View view = View::Elements);
  /// Workspace `i` of the launching, of elements of a scalar or vector type.
  mlir::Value workspace(int i, Access access, mlir::Type element);
  /// Dimension `index` of `type` (i32): a constant, or the size that it follows.
  mlir::Value dimension(mlir::Type type, unsigned index);
  mlir::Value rows(mlir::Type type) { return dimension(type, 0); }
  /// ceil(rows / divisor) for a grid.
  Extent rowsExtent(mlir::Type type, int64_t divisor = 1);
  /// Workgroup memory of `count` elements, named after the phase and `name`.
  mlir::Value shared(llvm::StringRef name, mlir::Type element, int64_t count);

  mlir::Value block();  ///< i32: number of the workgroup
  mlir::Value thread(); ///< i32: number of the thread in it
  int64_t blockThreads() const { return phase.block[0]; }
  mlir::Value lane(); ///< i32: number of the thread in its subgroup
  void barrier();
  /// From here on all that ran before is done and seen. The phase starts early: what stands before
  /// reads weights alone. All threads must come here, once.
  void waitForPrevious();
  /// The value at the lane whose number differs in the bits of `mask`. All lanes must come here.
  mlir::Value shuffleXor(mlir::Value value, int64_t mask, int64_t subgroupSize);
  /// Every lane's `value` (f32 or i32) combined, the same in all lanes of the subgroup, which must
  /// all come here. The order of a sum is the device's own.
  mlir::Value subgroupReduce(mlir::Value value, mlir::gpu::AllReduceOperation operation);

  /// The value, with a name for people; constants and values that have one keep what they have.
  mlir::Value named(mlir::Value value, llvm::StringRef name);

  // Short vectors of f32, i32 or f16: what is said of numbers below holds for each of their lanes,
  // and a number meets a vector as a vector of equal lanes.
  static int64_t lanes(mlir::Value value); ///< 1: a scalar
  mlir::VectorType vec(mlir::Type element, int64_t lanes) const {
    return mlir::VectorType::get({lanes}, element);
  }
  mlir::Value splat(mlir::Value value, int64_t lanes);
  mlir::Value vector(mlir::ValueRange elements);
  mlir::Value extract(mlir::Value vector, int64_t lane);
  mlir::Value extract(mlir::Value vector, mlir::Value lane);
  /// Lanes `first` to `first + count - 1`.
  mlir::Value slice(mlir::Value vector, int64_t first, int64_t count);
  mlir::Value sumOfLanes(mlir::Value vector); ///< (x + y) + (z + w)
  /// Numbers of f16, two in each word, as f32; twice as many lanes as words.
  mlir::Value halvesToFloats(mlir::Value words);
  /// f32 rounded to f16 or `half`, two in each word; half as many lanes, a scalar of two. To
  /// nearest where the device rounds so, and always of bf16.
  mlir::Value floatsToHalves(mlir::Value floats, mlir::Type half = {});

  /// Calls a function that the target's language has, by its name there.
  /// `isSigned`: it gives signed integers, where i32 stands for both.
  mlir::Value call(llvm::StringRef function, mlir::Type result, mlir::ValueRange operands,
                   bool isSigned = false);
  /// The sum of the four products of signed bytes of two words.
  mlir::Value dotOfBytes(mlir::Value x, mlir::Value y);
  /// Every byte of each word, from 0 to 15, as the signed byte that a table has for it.
  mlir::Value lookUpBytes(mlir::Value words, const std::array<int8_t, 16> &table);

  // Matrices that a subgroup holds together (gpu.subgroup_mma_*), `rows` x `cols` of `element`.
  enum class Side { Left, Right, Sum };
  mlir::Type matrix(Side side, mlir::Type element, int64_t rows, int64_t cols);
  mlir::Value zeroMatrix(mlir::Type type);
  /// From workgroup memory, from element `at` of it on, rows `stride` elements apart; columns where
  /// it lies `columnMajor`. Elements of memory may be vectors of anything: only bytes count.
  mlir::Value loadMatrix(mlir::Type type, mlir::Value memory, mlir::Value at, int64_t stride,
                         bool columnMajor = false);
  void storeMatrix(mlir::Value matrix, mlir::Value memory, mlir::Value at, int64_t stride);
  /// left * right + sum.
  mlir::Value multiplyMatrices(mlir::Value left, mlir::Value right, mlir::Value sum);
  /// Every element times a number.
  mlir::Value scaleMatrix(mlir::Value matrix, mlir::Value factor);

  // Unsigned 32-bit integers; small folds keep the code readable.
  mlir::Value c(int64_t value);
  mlir::Value add(mlir::Value x, mlir::Value y);
  mlir::Value add(mlir::Value x, int64_t y) { return add(x, c(y)); }
  mlir::Value sub(mlir::Value x, mlir::Value y);
  mlir::Value sub(mlir::Value x, int64_t y) { return sub(x, c(y)); }
  mlir::Value mul(mlir::Value x, mlir::Value y);
  mlir::Value mul(mlir::Value x, int64_t y) { return mul(x, c(y)); }
  mlir::Value div(mlir::Value x, int64_t y);
  mlir::Value rem(mlir::Value x, int64_t y);
  mlir::Value andBits(mlir::Value x, int64_t mask);
  mlir::Value orBits(mlir::Value x, mlir::Value y);
  mlir::Value xorBits(mlir::Value x, mlir::Value y);
  mlir::Value shl(mlir::Value x, mlir::Value y);
  mlir::Value shl(mlir::Value x, int64_t y) { return shl(x, c(y)); }
  mlir::Value shr(mlir::Value x, mlir::Value y);
  mlir::Value shr(mlir::Value x, int64_t y) { return shr(x, c(y)); }
  mlir::Value shrSigned(mlir::Value x, int64_t y);
  mlir::Value min(mlir::Value x, mlir::Value y);
  mlir::Value max(mlir::Value x, mlir::Value y);
  mlir::Value minSigned(mlir::Value x, mlir::Value y);
  mlir::Value maxSigned(mlir::Value x, mlir::Value y);
  mlir::Value cmp(mlir::arith::CmpIPredicate predicate, mlir::Value x, mlir::Value y);
  mlir::Value lessThan(mlir::Value x, mlir::Value y) {
    return cmp(mlir::arith::CmpIPredicate::ult, x, y);
  }
  mlir::Value select(mlir::Value condition, mlir::Value x, mlir::Value y);

  // Floats.
  mlir::Value cf(double value);
  mlir::Value addf(mlir::Value x, mlir::Value y);
  mlir::Value subf(mlir::Value x, mlir::Value y);
  mlir::Value mulf(mlir::Value x, mlir::Value y);
  mlir::Value fma(mlir::Value x, mlir::Value y,
                  mlir::Value z); ///< x * y + z, rounded once or twice
  mlir::Value divf(mlir::Value x, mlir::Value y);
  mlir::Value negf(mlir::Value x);
  mlir::Value absf(mlir::Value x);
  mlir::Value maxf(mlir::Value x, mlir::Value y); ///< the other one where one is NaN
  mlir::Value minf(mlir::Value x, mlir::Value y); ///< the other one where one is NaN
  mlir::Value cmpf(mlir::arith::CmpFPredicate predicate, mlir::Value x, mlir::Value y);
  mlir::Value exp(mlir::Value x);
  mlir::Value sqrt(mlir::Value x);
  mlir::Value toFloat(mlir::Value x);       ///< of an unsigned integer
  mlir::Value signedToFloat(mlir::Value x); ///< of a signed one
  mlir::Value toInteger(mlir::Value x);     ///< rounded down, of a float from 0 on, below 2^31
  mlir::Value bitsToFloat(mlir::Value bits);
  mlir::Value floatToBits(mlir::Value x);
  /// The f16 in the low half of a word.
  mlir::Value halfToFloat(mlir::Value word);
  /// Rounded to the nearest f16 or `half`, ties to even, in the low half of a word with nothing
  /// above it. A NaN stays one.
  mlir::Value floatToHalf(mlir::Value x, mlir::Type half = {});

  /// An element of the memory's type; of a buffer that is seen in another view the word or f32 with
  /// that number in the view Elements (i32, but f32 where quads of f32 are seen).
  mlir::Value load(mlir::Value buffer, mlir::Value index);
  /// Quad or 16 bytes `index` of a buffer seen so; an element of memory of vectors.
  mlir::Value loadVector(mlir::Value buffer, mlir::Value index);
  /// What was loaded from memory, where a device has loads for that: it is read once, by one
  /// thread, and need not stay in caches beside it.
  mlir::Value streamed(mlir::Value loaded);
  /// Whether memory is seen in more than single elements.
  static bool isWide(mlir::Value memory);
  /// x / 4, without a division where it can be seen that x is a multiple.
  mlir::Value quarter(mlir::Value x);
  /// From workgroup memory, the same for all threads of the block: what follows is uniform.
  mlir::Value loadUniform(mlir::Value buffer, int64_t index);
  void store(mlir::Value value, mlir::Value buffer, mlir::Value index);
  /// A quad, 16 bytes, or an element of memory of vectors.
  void storeVector(mlir::Value value, mlir::Value buffer, mlir::Value index) {
    store(value, buffer, index);
  }

  // Control flow: the bodies get the induction variable and the carried values. Bounds are below
  // 2^31.
  using LoopBody = llvm::function_ref<void(mlir::Value iv)>;
  using CarryBody =
      llvm::function_ref<llvm::SmallVector<mlir::Value>(mlir::Value iv, mlir::ValueRange carried)>;
  void loop(llvm::StringRef name, mlir::Value from, mlir::Value to, int64_t step, LoopBody body);
  /// `carriedNames` names what is carried, with spaces between; what is more than that takes the
  /// last one with a number ("sum": sum0, sum1).
  llvm::SmallVector<mlir::Value> loop(llvm::StringRef name, mlir::Value from, mlir::Value to,
                                      int64_t step, llvm::StringRef carriedNames,
                                      mlir::ValueRange init, CarryBody body);
  void ifThen(mlir::Value condition, llvm::function_ref<void()> then);
  /// Values of which only one side's are computed.
  llvm::SmallVector<mlir::Value>
  ifElse(llvm::StringRef name, mlir::Value condition, mlir::TypeRange types,
         llvm::function_ref<llvm::SmallVector<mlir::Value>()> then,
         llvm::function_ref<llvm::SmallVector<mlir::Value>()> otherwise);
  /// One value of two (f32 where no type is given), of which only one is computed.
  mlir::Value ifElse(llvm::StringRef name, mlir::Value condition,
                     llvm::function_ref<mlir::Value()> then,
                     llvm::function_ref<mlir::Value()> otherwise, mlir::Type type = {});

  /// Every thread's `value` (f32 or i32) combined by `combine`, the same in all threads, in a fixed
  /// order. All threads of the block must come here.
  mlir::Value reduce(mlir::Value value,
                     llvm::function_ref<mlir::Value(mlir::Value, mlir::Value)> combine);

private:
  void dropUnused();
  mlir::func::FuncOp declared(llvm::StringRef function, mlir::TypeRange operands,
                              mlir::TypeRange results);
  mlir::Value parameter(Parameter::Kind kind, int index, Access access, mlir::Type type,
                        llvm::StringRef name);
  mlir::Value buffer(int index, mlir::Type tensor, Access access, View view, llvm::StringRef name);
  mlir::Value size(int index);
  int sizeIndex(llvm::StringRef name);
  mlir::Location nameLocation(llvm::StringRef name);
  /// Makes both of as many lanes.
  void match(mlir::Value &x, mlir::Value &y);
  /// `type` with as many lanes as `like` has.
  static mlir::Type likeOf(mlir::Type type, mlir::Value like);
  void nameValues(mlir::ValueRange values, llvm::StringRef names);
  template <typename Op> mlir::Value make(mlir::Value x, mlir::Value y) {
    match(x, y);
    return b.create<Op>(loc, x, y);
  }

  mlir::ModuleOp module;
  mlir::func::FuncOp function;
  Phase phase;
  int64_t sharedBytes = 0;
  std::map<std::string, mlir::Value> sharedMemory;
  mlir::Value blockId, threadId, laneId;
  llvm::DenseMap<int64_t, mlir::Value> constants;
  std::map<double, mlir::Value> floatConstants;
};

/// What a kernel's argument is for: "weight", "positions"; for readable code.
std::string roleOf(transformer::KernelOp kernel, unsigned argument);

} // namespace kernelforge::simt
