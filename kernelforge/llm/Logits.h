// A row of logits: whether it is a distribution at all, and what identifies it.
#pragma once

#include "kernelforge/support/Error.h"

#include <cstdint>
#include <span>
#include <string>

namespace kernelforge {

/// Why logits are no distribution ("nan at id 7", "all are -inf"); empty where they are one. A
/// single -inf is a probability of 0 and no defect.
std::string describeDefect(std::span<const float> logits);

/// What the error of checkLogits() begins with.
inline constexpr const char *logitsError = "logits are no numbers";

/// Failed where logits are no distribution; the error says after how many tokens of the sequence.
Status checkLogits(std::span<const float> logits, int64_t tokens);

/// Identifies a row of logits bit by bit (64-bit FNV-1a).
uint64_t hashLogits(std::span<const float> logits);

} // namespace kernelforge
