// How a kernel of a CUDA artifact is called: the contract between who makes PTX and who runs it.
//
// Artifact::code is the text of one PTX module, which the driver finishes (or a cubin), and each
// Phase::entry is one of its `.entry` functions. It leaves no symbol open.
//
// Parameters. They stand in the order of Phase::parameters: a buffer or a workspace is its address
// (.u64, of global memory), a size is a .u32, a tensor map is 128 bytes by value. Nothing is
// promised about addresses that differ: two parameters may be one buffer.
//
// Grid. A block has Phase::block threads (`.reqntid` or `.maxntid`), and the grid is linear, in x
// alone: block i is task i of Phase::grid. Where blocks form clusters it is rounded up to whole
// ones: a block then finds by itself that it has nothing to do.
//
// Shared memory. Phase::sharedBytes is all that a block takes. What the code does not declare of it
// statically is given to it as dynamic shared memory (`.extern .shared`).
//
// Memory. Every buffer begins on bufferAlignment. Element types other than f32 are read as words of
// 32 bits: a load may touch up to three bytes behind a buffer, in the word that its last byte lies
// in. Indices are u32 of elements, or of bytes in quantized weights, and widened without a sign: a
// buffer may have up to mostBufferBytes.
//
// Order. All writes of a phase are visible to the next one: they run in one stream. A phase that
// `startsEarly` is launched while the one before it is still running (programmatic dependent
// launch): it touches nothing but weights before its `griddepcontrol.wait`.
#pragma once

#include <cstdint>

namespace kernelforge::cuda {

/// Bytes: each buffer begins at a multiple of it, which is what an allocation gives.
constexpr int64_t bufferAlignment = 256;

/// What every device lets a block declare statically, in bytes.
constexpr int64_t mostStaticSharedBytes = 48 * 1024;

/// Bytes of the largest buffer that a 32-bit index reaches wherever it counts bytes.
constexpr int64_t mostBufferBytes = int64_t(1) << 32;

} // namespace kernelforge::cuda
