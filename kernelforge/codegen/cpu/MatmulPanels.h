// Panels of the matmul family: rows that are brought side by side, weights that are unpacked into
// scratch, and the micro-kernels that multiply them. One form for each way to multiply that
// processors have; what numerics and target choose.
#pragma once

#include "kernelforge/codegen/cpu/KernelBuilder.h"
#include "kernelforge/codegen/cpu/MatmulSchedule.h"
#include "kernelforge/codegen/cpu/Weights.h"

#include <memory>

namespace kernelforge::cpu::matmul {

/// Multiplies packed rows with the panels of a register tile's groups. A panel is up to `kc`
/// elements of K of one group of columns; rows lie in tiles of `mr`.
class Panels {
public:
  /// For rows of `depth` elements.
  static std::unique_ptr<Panels> create(KernelBuilder &k, const Knobs &knobs, PanelForm form,
                                        int64_t depth);
  virtual ~Panels() = default;

  /// Bytes of a packed row, and of a group's panel.
  int64_t rowBytes() const { return packedDepth() * form.elementBytes(); }
  int64_t panelBytes() const {
    return roundUp(knobs.kc, form.step()) * form.elementBytes() * lanes;
  }

  /// Stores `count` elements of row `r` (i64) of the tile at `tile`, from column `column` (i64, a
  /// multiple of 16) on: the first lanes of `x`.
  virtual void storeRow(mlir::Value tile, mlir::Value r, mlir::Value column, mlir::Value x,
                        int64_t count) = 0;

  /// Where tile number `tile` (i64) of the rows at `packed` begins, and where its element `k0`
  /// lies.
  mlir::Value tileAt(mlir::Value packed, mlir::Value tile) {
    return k.at(packed, k.mul(tile, knobs.mr * rowBytes()));
  }
  mlir::Value rowsAt(mlir::Value packed, mlir::Value tile, mlir::Value k0) {
    return k.at(tileAt(packed, tile), k.mul(k0, knobs.mr * form.elementBytes()));
  }

  /// Whether a weight can be multiplied where it lies.
  bool readsInPlace(const WeightReader &reader) const {
    if (form.unit == PanelForm::Unit::Floats)
      return !form.rounds && reader.isPanel();
    return reader.isPairPanel() && depth % form.step() == 0;
  }
  /// Writes elements [k0, k0 + count) of a group's K to `panel`; k0 (i64) is a multiple of kc.
  void unpack(WeightReader &reader, mlir::Value group, mlir::Value k0, int64_t count,
              mlir::Value panel);

  /// Before and after all products of a task.
  virtual void beginTask() {}
  virtual void endTask() {}

  /// Runs `store` where group `group` of a register tile is one of the task's tile.
  using WhereRoom = llvm::function_ref<void(int64_t group, llvm::function_ref<void()> store)>;
  /// What is asked for while a tile of rows is multiplied, so that it is in L2 when it is needed.
  struct Ahead {
    mlir::Value rows = {}; ///< whether the next tile's are (i1); null: no
    mlir::Value tile = {}; ///< number of the tile among the task's (i64)
    llvm::SmallVector<mlir::Value> weights =
        {};            ///< of the next panel, where those of each group begin
    int64_t bytes = 0; ///< of each, by all tiles together
  };

  /// Products of a tile of rows with a panel of each group: to the f32 at `out`, rows `nb` apart;
  /// where `isFirst` is not null and false, they are added to what is there. `rows` point to the
  /// panels' first element of K: of packed rows of the whole tile, otherwise of each row.
  virtual void multiply(llvm::ArrayRef<mlir::Value> rows, llvm::ArrayRef<mlir::Value> panels,
                        int64_t count, mlir::Value out, mlir::Value isFirst, WhereRoom whereRoom,
                        const Ahead &ahead) = 0;

protected:
  Panels(KernelBuilder &k, const Knobs &knobs, PanelForm form, int64_t depth)
      : k(k), knobs(knobs), form(form), depth(depth) {}

  int64_t packedDepth() const { return roundUp(depth, form.step()); }
  /// Sixteen elements of which the first `count` count: the others are 0.
  mlir::Value firstOf(mlir::Value x, int64_t count);

  KernelBuilder &k;
  const Knobs knobs;
  const PanelForm form;
  const int64_t depth;

private:
  /// Block `block` (i64) of a group, `count` elements of it, to `to`.
  void unpackBlock(WeightReader &reader, mlir::Value group, mlir::Value block, int64_t count,
                   mlir::Value to);
};

/// Panels that the tile registers of AMX multiply.
std::unique_ptr<Panels> createMatrixPanels(KernelBuilder &k, const Knobs &knobs, PanelForm form,
                                           int64_t depth);

} // namespace kernelforge::cpu::matmul
