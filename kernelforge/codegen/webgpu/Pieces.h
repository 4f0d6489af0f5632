// Weights that are larger than what an adapter binds at once: in several bindings, piece by piece.
//
// Such a weight stands several times in a row among the parameters of a phase, once for each piece.
// All pieces have pieceBytes() but the last, which has what is left. Code reads them through a
// function that finds the piece of an element.
#pragma once

#include "kernelforge/codegen/Launching.h"

#include <algorithm>
#include <cstdint>
#include <vector>

namespace kernelforge::webgpu {

/// What every adapter can bind from: the standard's largest alignment.
constexpr int64_t pieceAlignment = 256;

/// How many pieces of at most `bindingBytes` (0: anything) hold `bytes`.
inline int64_t pieceCount(int64_t bytes, int64_t bindingBytes) {
  if (bindingBytes <= 0 || bytes <= bindingBytes)
    return 1;
  const int64_t most = std::max(bindingBytes / pieceAlignment, int64_t(1)) * pieceAlignment;
  return (bytes + most - 1) / most;
}

/// Bytes of each piece but the last of a buffer of `bytes` in `count` pieces.
inline int64_t pieceBytes(int64_t bytes, int64_t count) {
  const int64_t even = (bytes + count - 1) / count;
  return (even + pieceAlignment - 1) / pieceAlignment * pieceAlignment;
}

/// How many pieces the buffer has whose first parameter is `parameters[at]`.
inline int64_t piecesAt(const std::vector<Parameter> &parameters, size_t at) {
  size_t end = at + 1;
  while (parameters[at].kind == Parameter::Kind::Buffer && end < parameters.size() &&
         parameters[end] == parameters[at])
    ++end;
  return static_cast<int64_t>(end - at);
}

} // namespace kernelforge::webgpu
