// How generated CUDA code is called: what the code generator promises and what the device keeps to.
//
// Each phase is an `.entry` of Phase::entry's name. Its parameters are Phase::parameters in order:
// buffers and workspaces are 64-bit addresses of global memory, at a multiple of bufferAlignment;
// sizes are u32. Nothing is promised about addresses that differ: two parameters may be one buffer.
//
// A block has exactly Phase::block threads (`.reqntid`), and the grid is linear, in x alone: block
// i is task i of Phase::grid. Phase::sharedBytes is static memory that the code declares itself: a
// launch adds no dynamic bytes to it.
//
// Indices are u32 of elements, or of bytes in quantized weights, and widened without a sign: a
// buffer may have up to mostBufferBytes. Element types other than f32 are read as words of 32 bits:
// a load may touch up to three bytes behind a buffer, in the word that its last byte lies in.
//
// Code leaves no symbol open, calls nothing and prints nothing. Compiled text is PTX, which the
// driver finishes; it begins with comments.
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
