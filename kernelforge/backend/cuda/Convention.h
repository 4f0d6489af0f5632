// How a kernel of a CUDA artifact is called: the contract between who makes PTX and who runs it.
//
// Artifact::code is the text of one PTX module (or a cubin), and each Phase::entry is one of its
// `.entry` functions, for blocks of Phase::block threads.
//
// Parameters. They stand in the order of Phase::parameters: a buffer or a workspace is its address
// (.u64, of global memory); a size is a .u32; a tensor map is 128 bytes aligned to 128, by value.
//
// Grid. It is linear: block number ctaid.x of nctaid.x. It is the tasks of Phase::grid, and where
// blocks form clusters, rounded up to whole ones: a block whose number is not below the tasks that
// it counts itself has nothing to do.
//
// Shared memory. Phase::sharedBytes is all that a block takes. What the code does not declare of
// it by itself is given to it as dynamic shared memory (`.extern .shared`).
//
// Memory. Every buffer begins on Limits::bufferAlignment, 256 bytes. A load may go on to the end
// of the 16 bytes that the last element lies in; what is there is nobody's.
//
// Order. All writes of a phase are visible to the next one: they run in one stream. A phase that
// `startsEarly` is launched while the one before it is still running (programmatic dependent
// launch): it touches nothing but weights before its `griddepcontrol.wait`.
#pragma once

#include <cstdint>

namespace kernelforge::cuda {

/// Of every buffer, and of what is allocated.
constexpr int64_t bufferAlignment = 256;

} // namespace kernelforge::cuda
