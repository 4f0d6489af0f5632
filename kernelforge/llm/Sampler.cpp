#include "kernelforge/llm/Sampler.h"

#include "kernelforge/llm/Logits.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

namespace kernelforge {

namespace {

template <typename Number>
Status checkRange(std::string_view name, Number value, bool inside, std::string_view range) {
  if (inside) // false for NaN, whatever the range
    return {};
  return unusable("sampling option is not usable", std::string(name),
                  fmt::format("{} is not {}", value, range));
}

} // namespace

Expected<Sampler> Sampler::create(const SamplingOptions &o) {
  KF_CHECK(checkRange("temperature", o.temperature, o.temperature >= 0 && o.temperature <= 100,
                      "a number from 0 to 100"));
  KF_CHECK(checkRange("top-k", o.topK, o.topK >= 0, "0 or more"));
  KF_CHECK(checkRange("top-p", o.topP, o.topP > 0 && o.topP <= 1, "above 0 and at most 1"));
  KF_CHECK(checkRange("min-p", o.minP, o.minP >= 0 && o.minP <= 1, "a number from 0 to 1"));
  KF_CHECK(checkRange("repeat-penalty", o.repeatPenalty,
                      o.repeatPenalty > 0 && std::isfinite(o.repeatPenalty),
                      "a finite number above 0"));
  KF_CHECK(checkRange("repeat window", o.repeatWindow,
                      o.repeatWindow >= 0 && o.repeatWindow <= (1 << 20), "from 0 to 1048576"));
  return Sampler(o);
}

Expected<int32_t> Sampler::sample(std::span<const float> logits, std::span<const int32_t> history,
                                  uint64_t position) {
  KF_CHECK(checkLogits(logits, static_cast<int64_t>(position)));
  const auto window = static_cast<size_t>(settings.repeatWindow);
  return sampler.choose(logits,
                        SampleSettings::of(settings.temperature, settings.topP, settings.minP,
                                           settings.repeatPenalty),
                        {settings.topK, settings.seed, position},
                        history.last(std::min(history.size(), window)));
}

} // namespace kernelforge
