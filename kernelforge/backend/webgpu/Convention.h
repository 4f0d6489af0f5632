// How a kernel of a WebGPU artifact is called: the contract between who prints WGSL and who runs
// it.
//
// Artifact::code is the text of one WGSL module, and each Phase::entry is one of its compute entry
// points, with @workgroup_size equal to Phase::block.
//
// Resources. All are in @group(0). The n buffers and workspaces of Phase::parameters, in their
// order, are the storage buffers of bindings 0 to n-1. They are bound as they are declared, `read`
// or `read_write`; where phases of one module declare a binding differently, `read` is what the
// parameter only reads and every launch binds a weight to. One dispatch cannot bind a buffer both
// ways, and pieces of the arena are one buffer: so only weights can be `read`. A module need not
// declare what it does not use.
//
// A weight that is larger than a binding can be stands there several times in a row, once for each
// piece of it (codegen/webgpu/Pieces.h).
//
// Sizes. Binding n is a uniform buffer of u32: each size parameter in order, then `tasks`, the
// number of tasks of the grid, then `width`, the workgroups in x. A grid beyond the device's limit
// for a dimension is folded, so the task of a workgroup is workgroup_id.y * width + workgroup_id.x,
// and a workgroup leaves where that is not less than `tasks`.
//
// Memory. Every buffer begins on Limits::bufferAlignment. It is bound with the bytes that it has at
// the largest sizes, rounded up to a multiple of 16 where its memory goes on, so that its last
// elements can be read as vec4<f32>. What lies behind the bytes of the buffer is nobody's.
#pragma once

#include "kernelforge/codegen/Launching.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge::webgpu {

/// A grid as it is dispatched.
struct FoldedGrid {
  uint32_t tasks = 0, width = 0, height = 0;
};

/// Folds `tasks` at `limit` workgroups a dimension; nothing where they are too many, or a task's
/// number would not fit into 32 bits. No tasks: width and height are 0, too.
std::optional<FoldedGrid> foldGrid(uint64_t tasks, uint64_t limit);

/// The indices of the parameters of a kind, in order.
std::vector<int> sizesOf(const Phase &phase);
/// The parameters that are storage buffers, in order of binding.
std::vector<Parameter> buffersOf(const Phase &phase);

/// Bytes of the uniform buffer of a phase.
uint64_t uniformBytes(const Phase &phase);
/// Writes them: values of the kernel's sizes, each below 2^32, then the grid.
void writeUniform(const Phase &phase, std::span<const int64_t> sizes, const FoldedGrid &grid,
                  uint32_t *words);

/// How a module declares the storage buffers of group 0.
class DeclaredAccess {
public:
  explicit DeclaredAccess(std::string_view wgsl);

  /// Whether a binding is only read by an entry point. Where others declare it another way, the
  /// entry's own declaration is the last one before its function; nothing where there is none.
  std::optional<bool> isReadOnly(int binding, std::string_view entry) const;

private:
  struct Declaration {
    int binding;
    bool readOnly;
    size_t at; ///< in the text
  };
  std::string text; ///< without comments
  std::vector<Declaration> declarations;
};

} // namespace kernelforge::webgpu
