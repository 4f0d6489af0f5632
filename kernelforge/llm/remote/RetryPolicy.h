// When a request that failed is sent again, and how long after.
#pragma once

#include "kernelforge/llm/remote/HttpExchange.h"

#include <ctime>
#include <optional>

namespace kernelforge {

/// Seconds a server may ask to wait; who asks for longer is not waited for.
inline constexpr double longestRetryWait = 60;

/// Whether an answer with this status asks for another try: 408, 409, 429 and 5xx, unless
/// x-should-retry says otherwise.
bool asksForRetry(const HttpHead &head);

/// What the server asks to wait, in seconds: retry-after-ms, or retry-after as seconds or as a date
/// (`now` is the time of day to take from it). Nothing where it does not say, or says what is none.
std::optional<double> requestedWait(const HttpHead &head, std::time_t now);

/// Seconds to wait before try number `retry` (from 0): half a second, twice as long each time,
/// eight at most, less up to a quarter as `uniform`, in [0, 1), says, so that clients do not come
/// back all at once.
double backOff(int retry, double uniform);

} // namespace kernelforge
