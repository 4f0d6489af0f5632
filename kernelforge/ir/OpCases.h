// Cases by operation: a class with a call operator for each operation that it handles is at once
// what handles them and the answer to which ones those are. A case that is not written is known to
// be missing.
#pragma once

#include "kernelforge/ir/Transformer.h"

#include <optional>
#include <type_traits>

namespace kernelforge {

template <typename... Ops> struct OpList {};

/// The operations of the dialect.
using DialectOps = OpList<
#define GET_OP_LIST
#include "kernelforge/ir/TransformerOps.cpp.inc"
    >;

namespace detail {

template <typename Cases, typename... Ops> bool hasCase(mlir::Operation *op, OpList<Ops...>) {
  return ((std::is_invocable_v<Cases &, Ops> && llvm::isa<Ops>(op)) || ...);
}

template <typename Result, typename Op, typename Cases>
bool tryCase(Cases &cases, mlir::Operation *op, std::optional<Result> &result) {
  if constexpr (std::is_invocable_v<Cases &, Op>)
    if (auto known = llvm::dyn_cast<Op>(op))
      result.emplace(cases(known));
  return result.has_value();
}

template <typename Result, typename Cases, typename... Ops>
std::optional<Result> callCase(Cases &cases, mlir::Operation *op, OpList<Ops...>) {
  std::optional<Result> result;
  (tryCase<Result, Ops>(cases, op, result) || ...);
  return result;
}

} // namespace detail

/// Whether `Cases` can be called with what `op` is.
template <typename Cases> bool hasCase(mlir::Operation *op) {
  return detail::hasCase<Cases>(op, DialectOps());
}

/// What `cases` gives, called with what `op` is; nothing where it has no case for that.
template <typename Result, typename Cases>
std::optional<Result> callCase(Cases &&cases, mlir::Operation *op) {
  return detail::callCase<Result>(cases, op, DialectOps());
}

} // namespace kernelforge
