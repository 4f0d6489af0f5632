// Fields of config.json that families read alike.
#pragma once

#include "kernelforge/ir/ModelDescription.h"
#include "kernelforge/support/Json.h"

namespace kernelforge {

/// Longest name (of an architecture, an activation, ...) that a configuration may have.
inline constexpr uint64_t maxNameBytes = 128;

/// An integer, which other languages' writers make a float of ("4096.0").
Expected<int64_t> asWhole(const JsonView &view, int64_t low, int64_t high);

/// The same of a field, which must be there.
Expected<int64_t> whole(const JsonView &root, std::string_view field, int64_t low, int64_t high);

/// The same, or `fallback` where the field is absent.
Expected<int64_t> wholeOr(const JsonView &root, std::string_view field, int64_t low, int64_t high,
                          int64_t fallback);

/// The activation that a field names, or `fallback` where it is absent.
Expected<ActivationKind> activationOr(const JsonView &root, std::string_view field,
                                      ActivationKind fallback);

} // namespace kernelforge
