// Matmuls of few rows: what the emitter and the schedules of the method share. A team of threads
// sums some columns of the result (rows of the weights, which are read once) and shares out their
// K; each thread reads 16 bytes of a column at a time.
#pragma once

#include "kernelforge/codegen/KernelAnalysis.h"
#include "kernelforge/codegen/Launching.h"
#include "kernelforge/codegen/ScheduleSpace.h"
#include "kernelforge/codegen/Target.h"
#include "kernelforge/codegen/simt/Epilogue.h"
#include "kernelforge/support/Error.h"
#include "kernelforge/support/Numerics.h"
#include "kernelforge/support/WeightLayout.h"

#include "mlir/IR/BuiltinOps.h"

#include <algorithm>
#include <string>
#include <vector>

namespace kernelforge::simt::rows {

/// Most rows of the result that are summed together, and most that a kernel of few rows has.
constexpr int64_t mostTogether = 8, mostRows = 32;

/// Knobs of a schedule.
struct Knobs {
  int64_t r;          ///< columns of each segment that a team sums at a time
  int64_t lanes;      ///< threads that share out K and add their sums up by shuffles
  int64_t ks;         ///< as many times so many share out K: a team
  int64_t u;          ///< units of a column that a thread has on their way
  int64_t threads;    ///< of a workgroup
  int64_t pieces;     ///< how often a workgroup goes on to further columns
  int64_t rows;       ///< rows that are summed together
  bool prepare;       ///< a phase of its own makes whole numbers of the rows, not each workgroup
  bool stage;         ///< rows of numbers are read from workgroup memory
  bool early = false; ///< it asks for its first weights before what ran before it is done
  bool ahead = false; ///< the next units are asked for before these are multiplied
  /// Threads that share out a column's K.
  int64_t team() const { return lanes * ks; }
  int64_t teams() const { return threads / team(); }
  /// Columns of each segment that a workgroup computes.
  int64_t columns() const { return pieces * teams() * r; }
};

/// What a thread reads at a time of a column: elements that lie side by side, or of a quantized
/// weight one, two or four runs of 16.
struct Unit {
  int64_t elements = 1;
  int64_t runs = 0;  ///< 0: plain numbers
  int64_t chunk = 0; ///< elements of the weight's chunks, among whose units its runs take turns
  int64_t words = 1; ///< that a thread loads, with what belongs to it
  bool operator==(const Unit &) const = default;
};

/// How the columns of a group may be shared out.
struct Columns {
  int64_t n = 0;        ///< columns of each segment
  int64_t segments = 1; ///< that are needed together
  int64_t whole = 1;    ///< a workgroup's are a multiple of that
  /// Not 0: the halves of heads that are rotated are so far apart, and a workgroup has as many
  /// columns of the first half as of the second, at the same places.
  int64_t apart = 0;
  Unit unit = {};
};

/// What the schedules of a kernel follow from: plain numbers.
struct Shape {
  std::string name; ///< of the kernel
  std::vector<Columns> groups;
  int64_t k = 0;
  Numerics numerics = Numerics::F32;
  int64_t rows = 1;        ///< most
  bool staged = false;     ///< the rows are computed
  int64_t rowBytes = 0;    ///< workgroup memory that computing a row takes, beside what it is
  int64_t lanes = 1;       ///< threads that can exchange values by shuffles; 1: none can
  bool separate = false;   ///< a phase for each group: all at once take too many buffers
  bool streams = false;    ///< the device has streamed loads, and phases that start early
  int64_t registers = 0;   ///< of a thread; 0: not known
  bool areMarked = false;  ///< all weights are known to be some
  int64_t sharedBytes = 0; ///< of a workgroup: there are
  int64_t threads = 0;     ///< of a workgroup: most
  double weightBytes = 0;  ///< of all groups

  /// Units of a column.
  int64_t units(const Unit &unit) const { return k / unit.elements; }
  /// How far quads that stand one after the other in a unit are apart where rows lie in workgroup
  /// memory: so far that eight neighbouring quads of a row, which neighbouring threads write, go to
  /// eight banks.
  int64_t stagedUnits(const Unit &unit) const {
    const int64_t run = unit.runs == 0 || unit.chunk == unit.elements ? unit.elements : runElements;
    const int64_t banks = 8, side = std::clamp<int64_t>(run / 4, 1, banks), step = banks / side;
    return side == 1 ? units(unit) : (units(unit) + step - 1) / (2 * step) * 2 * step + step;
  }
  /// Words of workgroup memory of a row there.
  int64_t stagedWords(const Unit &unit) const { return stagedUnits(unit) * unit.elements; }
  /// The units of all groups, each once.
  std::vector<Unit> distinctUnits() const;
  int64_t segments() const;
  /// Whether the rows are multiplied as whole numbers, in so many planes of bytes.
  bool integers() const { return multipliesIntegers(numerics); }
  /// Whether rows of numbers are computed, so that they can be read from workgroup memory alone.
  bool mustStage() const { return staged && !integers(); }
  int64_t bytePlanes() const { return numerics == Numerics::I8x2 ? 2 : 1; }
  /// Lanes of a sum of products of quads: one where registers are counted and there are other sums.
  int64_t lanesOfSum(const Knobs &knobs) const {
    constexpr int64_t several = 4;
    return registers > 0 && knobs.r * segments() * knobs.rows >= several ? 1 : 4;
  }
  /// Units of a column that a team has in whole rounds.
  int64_t wholeUnits(const Unit &unit, const Knobs &knobs) const {
    const int64_t round = knobs.team() * knobs.u;
    return units(unit) / round * round;
  }
  /// Values in workgroup memory where a workgroup's sums come to.
  int64_t sums(const Knobs &knobs) const {
    return knobs.ks * segments() * knobs.rows * knobs.columns();
  }
  /// Workgroups that share out the columns of a group.
  int64_t blocks(const Columns &group, const Knobs &knobs) const {
    return (group.n + knobs.columns() - 1) / knobs.columns();
  }
};

/// Where the columns of workgroup `block`, of which each has `count`, stand among a group's
/// results.
struct ColumnPlace {
  ColumnPlace(PhaseBuilder &p, const Columns &columns, mlir::Value block, int64_t count);
  /// Column of the results of one of them.
  mlir::Value column(PhaseBuilder &p, mlir::Value local) const;

  mlir::Value first;
  int64_t apart, run;
};

/// Why workgroups cannot have so many columns of a group, runs of which a team sums `r` at a time;
/// empty where they can.
std::string obstacleTo(const Columns &group, int64_t columns, int64_t r);

/// Unusable, naming kernel and operation, where few rows cannot be computed by columns: the weights
/// lie in another way, rows may be many, or more than columns is needed of what follows.
Status supportsShape(const KernelAnalysis &kernel);

/// Unusable, naming kernel and operation, where the method cannot compute the kernel.
Status supports(const KernelAnalysis &kernel, const Target &target);

/// Of a kernel whose shape is one of this method's.
Shape shapeOf(const KernelAnalysis &kernel, const Target &target);

/// The knobs of a schedule, checked.
Expected<Knobs> readKnobs(const Shape &shape, const KnobValues &values);

/// The schedule that is taken without measuring, but for what is given. Not checked.
KnobValues usualKnobs(const Shape &shape, const KnobValues &given);

ScheduleSpace space(const Shape &shape);

/// How the threads of a workgroup share out a row that is computed.
inline RowSharing sharingOf(const Shape &shape) {
  return {.lanes = 4, .subgroup = shape.lanes > 1 ? shape.lanes : 0, .kept = {}, .keptWidth = 0};
}

/// Where rows are whole numbers: for each row and plane of bytes, run by run of a unit, unit after
/// unit, four words; and for each row, run and unit the f32 that they are multiples of, and their
/// sum.
struct IntegerRows {
  mlir::Value words, facts;
  int64_t wordsOfRow(const Shape &shape, const Unit &unit) const {
    return shape.bytePlanes() * factsOfRow(shape, unit);
  }
  int64_t factsOfRow(const Shape &shape, const Unit &unit) const {
    return unit.runs * shape.units(unit);
  }
};

/// Makes whole numbers of rows, of each the parts that neighbouring threads make together.
class IntegerMaker {
public:
  /// `read`: four numbers of a row.
  using Reader = llvm::function_ref<mlir::Value(const Position &)>;
  IntegerMaker(PhaseBuilder &p, Reader read, const Shape &shape, const Unit &unit,
               const IntegerRows &to);

  /// Parts of a row, one a thread: as many threads as make a block are neighbours, and come here
  /// together.
  int64_t parts() const;
  /// Makes part `part` of row `row`, and puts it where row `place` is.
  void make(mlir::Value row, mlir::Value part, mlir::Value place) const;

private:
  /// What so many neighbouring threads have, joined, in each of them.
  mlir::Value overThreads(mlir::Value value, int64_t count,
                          llvm::function_ref<mlir::Value(mlir::Value, mlir::Value)> join) const;
  void store(mlir::Value run, mlir::Value place, const llvm::SmallVector<mlir::Value> &high,
             const llvm::SmallVector<mlir::Value> &low, mlir::Value factor, mlir::Value sum) const;

  PhaseBuilder &p;
  Reader read;
  const Shape &shape;
  const Unit &unit;
  const IntegerRows &to;
  int64_t threads; ///< that make a block
};

/// Adds the phase that does so for groups of the unit that is number `number` of the distinct ones,
/// and the workspaces where the rows are then: 2 * `number` and the next one.
void prepareIntegers(mlir::ModuleOp module, const KernelAnalysis &kernel, const Shape &shape,
                     size_t number, llvm::StringRef entry, Launching &launching);

/// Code of a supported kernel.
Launching emit(mlir::ModuleOp module, const KernelAnalysis &kernel, const Shape &shape,
               const Knobs &knobs, llvm::StringRef entry);

} // namespace kernelforge::simt::rows
