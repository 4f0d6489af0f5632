#include "kernelforge/eval/RoundSamples.h"

#include "kernelforge/measure/Timing.h"

#include <algorithm>
#include <cmath>

namespace kernelforge {

Json machineJson(const MachineState &machine) {
  Json json = {{"fma_f32", machine.fma}, {"exchange", machine.exchange}};
  if (machine.writeFirst > 0)
    json.update({{"write_first", machine.writeFirst}, {"write_slowest", machine.writeSlowest}});
  if (machine.preemptions >= 0)
    json["preemptions"] = machine.preemptions;
  return json;
}

Expected<MachineState> readMachine(const JsonView &view) {
  MachineState machine;
  KF_TRY(machine.fma, view.number("fma_f32", 0, mostReported));
  KF_TRY(machine.exchange, view.number("exchange", 0, mostReported));
  KF_TRY(machine.writeFirst, view.numberOr("write_first", 0, mostReported, 0));
  KF_TRY(machine.writeSlowest, view.numberOr("write_slowest", 0, mostReported, 0));
  KF_TRY(machine.preemptions, view.integerOr("preemptions", 0, int64_t(mostReported), -1));
  return machine;
}

double undisturbed(std::vector<double> values) {
  if (values.empty())
    return 0;
  const auto place = values.begin() + static_cast<std::ptrdiff_t>((values.size() - 1) * 9 / 10);
  std::nth_element(values.begin(), place, values.end());
  return *place;
}

static bool isNear(double value, double usual, double most) {
  return value <= 0 || usual <= 0 || std::abs(value / usual - 1) <= most;
}

bool isUsual(const MachineState &machine, const MachineState &usual) {
  return isNear(machine.fma, usual.fma, mostAnchorOff) &&
         isNear(machine.exchange, usual.exchange, mostExchangeOff);
}

bool isAlone(const MachineState &machine, double bestSlowest) {
  // Who shares a core all the time takes a third of it, who does now and then some per cent, of a
  // rate that keeps within 1 % otherwise. The system itself interrupts a sample in three.
  constexpr double least = 0.985;
  constexpr int64_t most = 1;
  return bestSlowest > 0 && machine.writeSlowest >= least * bestSlowest &&
         machine.preemptions <= most;
}

double aloneWriting(std::vector<double> writeSlowest) {
  constexpr size_t place = 2;
  if (writeSlowest.empty())
    return 0;
  const auto found =
      writeSlowest.begin() + static_cast<std::ptrdiff_t>(std::min(place, writeSlowest.size() - 1));
  std::ranges::nth_element(writeSlowest, found, std::greater());
  return *found;
}

std::vector<bool> countingSamples(std::span<const RoundSample> samples, const MachineState &usual) {
  std::vector<bool> counts;
  std::vector<double> anchors;
  for (const RoundSample &sample : samples) {
    counts.push_back(isUsual(sample.machine, usual));
    if (counts.back())
      anchors.push_back(sample.anchor);
  }
  const double anchor = median(std::move(anchors));
  for (size_t i = 0; i < samples.size(); ++i)
    counts[i] = counts[i] && isNear(samples[i].anchor, anchor, mostAnchorOff);
  return counts;
}

SampleLack lacking(std::span<const RoundSample> samples, const MachineState &usual, int rounds) {
  const int wanted = std::max(rounds / 2, std::min(rounds, static_cast<int>(enoughAlone)));
  int itself = 0, alone = 0;
  for (const RoundSample &sample : samples)
    if (isUsual(sample.machine, usual)) {
      ++itself;
      alone += isAlone(sample.machine, usual.writeSlowest) ? 1 : 0;
    }
  return {itself < rounds, usual.writeSlowest > 0 && alone < wanted};
}

void RowSamples::keepRounds(int rounds) {
  std::erase_if(own, [&](const RoundSample &sample) { return sample.round >= rounds; });
  for (std::vector<double> &vendor : vendors)
    vendor.resize(std::min(vendor.size(), static_cast<size_t>(rounds)));
}

Expected<RowSamples> readRowSamples(const JsonView &row) {
  RowSamples samples;
  if (!row.has("samples_ns"))
    return samples;
  KF_TRY(samples.anchor, row.string("anchor", 64));
  KF_TRY(auto times, row.array("samples_ns", maxSamples));
  KF_TRY(auto rounds, row.array("rounds", maxSamples));
  KF_TRY(auto anchors, row.array("anchor_samples", maxSamples));
  KF_TRY(auto machine, row.array("machine_samples", maxSamples));
  if (times.size() != rounds.size() || times.size() != anchors.size() ||
      times.size() != machine.size())
    return row.error("samples_ns, rounds, anchor_samples and machine_samples are not equally long");
  for (size_t i = 0; i < times.size(); ++i) {
    RoundSample sample;
    KF_TRY(int64_t round, rounds[i].asInteger(0, int64_t(maxSamples)));
    sample.round = static_cast<int>(round);
    KF_TRY(sample.ns, times[i].asNumber(0, mostReported));
    KF_TRY(sample.anchor, anchors[i].asNumber(0, mostReported));
    KF_TRY(sample.machine, readMachine(machine[i]));
    samples.own.push_back(sample);
  }
  KF_TRY(auto dropped, row.array("dropped", maxSamples));
  for (const JsonView &view : dropped) {
    RoundSample sample;
    KF_TRY(int64_t round, view.integer("round", 0, int64_t(maxSamples)));
    sample.round = static_cast<int>(round);
    KF_TRY(sample.ns, view.number("ns", 0, mostReported));
    KF_TRY(sample.anchor, view.number("anchor", 0, mostReported));
    KF_TRY(JsonView machine, view.object("machine"));
    KF_TRY(sample.machine, readMachine(machine));
    samples.own.push_back(sample);
  }
  std::ranges::sort(samples.own, {}, &RoundSample::round);
  if (!row.has("vendors"))
    return samples;
  KF_TRY(auto vendors, row.array("vendors", 16));
  for (const JsonView &vendor : vendors) {
    std::vector<double> &values = samples.vendors.emplace_back();
    if (!vendor.has("samples_ns"))
      continue;
    KF_TRY(auto list, vendor.array("samples_ns", maxSamples));
    for (const JsonView &value : list) {
      KF_TRY(values.emplace_back(), value.asNumber(0, mostReported));
    }
  }
  return samples;
}

} // namespace kernelforge
