// A library call on the machine that runs it: the variant that was asked for, found and prepared
// for what it is called with.
#pragma once

#include "kernelforge/kernels/LibraryCall.h"
#include "kernelforge/kernels/MatmulRegistry.h"

#include <list>
#include <memory>
#include <span>
#include <string>

namespace kernelforge {

/// A variant is prepared for its operands, known only when it runs, and for a number of rows. What
/// was prepared is kept, one for each weight: a kernel is launched once a layer with the weight of
/// that layer, and prepared again only where its number of rows changes (the end of a prompt) or
/// its other operands do. One, as some variants keep a copy of the weight. At most 256 are kept,
/// more than layers that share a kernel; then the one that ran least lately goes.
///
/// Not to be run by two threads at once.
class LibraryMatmul {
public:
  /// What holds a weight: as long as that lives, the weight is the same. Where nothing does, it is
  /// another one at each run.
  using Holder = std::weak_ptr<const void>;

  /// `variant` by its name in the registry, with a schedule (JSON; empty or "{}": its own choice).
  /// Unusable where there is no such variant or it cannot do the problem, Missing where what it
  /// needs is not on this machine.
  static Expected<std::unique_ptr<LibraryMatmul>>
  create(const LibraryCall &call, const std::string &variant, const std::string &schedule);

  /// Runs one launch on up to `threads` threads: `buffers` and `sizes` are the launch's, `holder`
  /// is that of its weight. Unusable where the launch has others than the call.
  Status run(std::span<void *const> buffers, std::span<const int64_t> sizes, int threads,
             const Holder &holder);

private:
  /// What a prepared matmul is for.
  struct Use {
    int64_t rows = 0;
    MatmulOperands operands;
    int threads = 1;
    Holder holder;

    bool sameWeight(const Use &other) const;
    bool operator==(const Use &other) const;
  };
  struct Kept {
    Use use;
    std::unique_ptr<PreparedMatmul> matmul;
  };

  LibraryMatmul(LibraryCall call, const MatmulKernel &variant, std::string schedule)
      : call(std::move(call)), variant(variant), schedule(std::move(schedule)) {}
  Expected<PreparedMatmul *> prepare(const Use &use);
  std::string scheduleFor(const MatmulProblem &problem, int threads) const;

  const LibraryCall call;
  const MatmulKernel &variant;
  const std::string schedule; ///< empty: the variant's own choice
  std::list<Kept> kept;       ///< the one that ran last in front
};

} // namespace kernelforge
