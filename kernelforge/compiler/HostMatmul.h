// Variants of matmul as host functions of a program: what runs a kernel for which no code is
// generated.
#pragma once

#include "kernelforge/backend/Program.h"
#include "kernelforge/compiler/LibraryProblem.h"

namespace kernelforge {

/// A host function that runs a kernel by a variant with a schedule (JSON; empty: its own choice).
///
/// A variant is prepared for its operands, known only when it runs, and for a number of rows. What
/// was prepared is kept, one for each weight: a kernel is launched once a layer with the weight of
/// that layer, and prepared again only where its number of rows changes (the end of a prompt) or
/// its other operands do. One, as some variants keep a copy of the weight. At most 256 are kept,
/// more than layers that share a kernel; then the one that ran least lately goes.
std::shared_ptr<HostKernel> makeHostMatmul(const LibraryProblem &kernel,
                                           const MatmulKernel &variant, std::string schedule);

} // namespace kernelforge
