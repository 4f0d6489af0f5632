// How a kernel's code is launched: phases with their grids and parameters, and workspaces. One
// description for every target; how the parameters are passed is each target's own convention.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kernelforge {

/// ceil((sizes[size] - beyond) / divisor), 0 where the size is not beyond.
struct Term {
  int size = 0; ///< index of a size
  int64_t divisor = 1;
  int64_t beyond = 0;

  int64_t above(const int64_t *sizes) const {
    return sizes[size] > beyond ? sizes[size] - beyond : 0;
  }
  bool operator==(const Term &) const = default;
};

/// A number that may follow dynamic sizes: multiplier times the product of its terms, at most
/// `atMost`. A negative multiplier is malformed: what overflowed.
struct Extent {
  int64_t multiplier = 1;
  std::vector<Term> product = {};
  std::optional<int64_t> atMost = {};

  Extent(int64_t constant = 1) : multiplier(constant) {}
  Extent(int64_t multiplier, int size, int64_t divisor = 1)
      : multiplier(multiplier), product{{size, divisor}} {}

  bool isConstant() const { return product.empty(); }
  /// At sizes for which checkedExtent() gives a value.
  int64_t evaluate(const int64_t *sizes) const {
    int64_t value = multiplier;
    for (const Term &term : product)
      value *= (term.above(sizes) + term.divisor - 1) / term.divisor;
    return atMost && value > *atMost ? *atMost : value;
  }
  bool operator==(const Extent &) const = default;
};

/// The product of two extents without `atMost`.
Extent operator*(const Extent &a, const Extent &b);

/// What a launch does with a buffer.
enum class Access { Read, Write, ReadWrite };

/// A buffer as a GPU's bulk copies of tiles see it (TMA). It holds an address, so a device makes it
/// where the buffer is bound.
struct TensorMap {
  enum class Element { U8, I32, F16, F32, BF16 };
  enum class Swizzle { None, Bytes32, Bytes64, Bytes128 };
  Element element = Element::BF16;
  std::vector<Extent> shape;    ///< elements, innermost first, at the sizes' maxima; 1 to 5 of them
  std::vector<int64_t> strides; ///< bytes from one to the next, of each dimension but the innermost
  std::vector<int64_t> box;     ///< elements that one copy moves, of each dimension
  Swizzle swizzle = Swizzle::None;
  /// The outermost dimension goes to the end of the buffer that is bound, `shape` at most: of a
  /// cache nobody else knows how many slots there are.
  bool toEnd = false;

  bool operator==(const TensorMap &) const = default;
};

/// One parameter of a phase's entry.
struct Parameter {
  enum class Kind {
    Buffer,    ///< of the launch, by index
    Workspace, ///< of the launching, by index
    Size,      ///< of the kernel, by index
    Map,       ///< a tensor map of a buffer of the launch, by index
  };
  Kind kind = Kind::Buffer;
  int index = 0;
  Access access = Access::Read;      ///< of buffers, mapped ones too, and workspaces
  std::optional<TensorMap> map = {}; ///< of kind Map alone

  bool operator==(const Parameter &) const = default;
};

/// One phase of a kernel: all tasks of its grid may run at once. All writes of a phase are visible
/// to the next.
struct Phase {
  std::string entry = {}; ///< symbol of its code
  std::vector<Parameter> parameters = {};
  Extent grid = 1;                       ///< tasks, or blocks; the device folds it past its limits
  std::array<int64_t, 3> block{1, 1, 1}; ///< threads of a block on a GPU
  int64_t cluster = 1;                   ///< blocks of a cluster on a GPU
  int64_t sharedBytes = 0;   ///< shared memory of a block on a GPU, declared in it or not
  int64_t scratchBytes = 0;  ///< scratch per worker on a CPU, 64-byte aligned, not cleared
  bool afterPrevious = true; ///< false: it does not depend on the phase before it
  bool coResident = false;   ///< needs all blocks at once (grid barrier)
  bool startsEarly = false;  ///< touches only weights before it waits for what ran before it

  bool operator==(const Phase &) const = default;
};

/// Memory that all tasks of one launch share, besides its buffers.
struct Workspace {
  enum class Contents {
    Uninitialised, ///< lies in the arena
    ZeroedOnce,    ///< zero when the program is bound, and as the launch before left it after that
  };
  Extent bytes{0};
  int64_t alignment = 64;
  Contents contents = Contents::Uninitialised;

  bool operator==(const Workspace &) const = default;
};

/// What an emitter says of the code that it made.
struct Launching {
  std::vector<Phase> phases;
  std::vector<Workspace> workspaces;

  bool operator==(const Launching &) const = default;
};

} // namespace kernelforge
