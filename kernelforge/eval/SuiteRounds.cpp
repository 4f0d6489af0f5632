#include "kernelforge/eval/SuiteRounds.h"

#include "kernelforge/measure/AccuracyJson.h"
#include "kernelforge/support/CounterRandom.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <thread>

#include <fmt/format.h>

using namespace kernelforge;

using Clock = std::chrono::steady_clock;

/// A row of which fewer of the rounds count is not to be trusted, nor is one whose samples (those
/// of unshared cores where there are enough) scatter like this around their median (median absolute
/// deviation). Which samples count does not depend on their times: a quarter says as much as all
/// would.
static constexpr double leastKept = 0.25, mostScatter = 0.10;

static double secondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

SuiteRounds::SuiteRounds(SuiteRunner &runner, RoundsOptions options)
    : runner(runner), options(std::move(options)), samples(runner.rows().size()) {}

Json SuiteRounds::anchorsNow() {
  Json json = Json::object();
  for (const std::string &name : runner.anchors().names())
    json[name] = anchorNow(name);
  return json;
}

/// An anchor as it is now; 0 where there is none of that name.
static double anchorOf(SuiteRunner &runner, const std::string &name) {
  return runner.anchors().has(name) ? runner.anchor(name) : 0;
}

/// Measures an anchor and keeps its value.
double SuiteRounds::anchorNow(const std::string &name) {
  const double value = anchorOf(runner, name);
  if (value > 0)
    anchorValues[name].push_back(value);
  return value;
}

/// What the planned rounds take, about: beside each sample anchors are measured, and between
/// libraries there are pauses.
double SuiteRounds::plannedSeconds() const {
  constexpr double anchors = 0.01, pauses = 0.01;
  const double batch = runner.options().batchSeconds;
  double seconds = 0;
  for (const PreparedRow &row : runner.rows())
    if (row.isOk())
      seconds += batch + anchors + static_cast<double>(row.vendors.size()) * (batch + pauses);
  return seconds * options.rounds;
}

/// Interrupted where the caller wants no more.
Status SuiteRounds::goesOn() const {
  if (runner.options().cancel && *runner.options().cancel)
    return makeError(ErrorKind::Interrupted, "interrupted", "suite", "stopped by user");
  return {};
}

bool SuiteRounds::isPatient() const { return spare < options.patience * plannedSeconds(); }

/// The machine as it is now, which is in its usual state (where `alone`: also without anybody else
/// on its cores) or for which there is no patience left. What it was while that was awaited is not
/// kept: it is no ceiling of a row.
Expected<MachineState> SuiteRounds::awaitUsual(bool alone) {
  auto isThere = [&] {
    MachineState machine;
    machine.fma = anchorOf(runner, "fma_f32");
    machine.exchange = anchorOf(runner, "exchange");
    if (alone)
      machine.writeSlowest = runner.writing().slowest;
    const MachineState usual = usualMachine();
    return isUsual(machine, usual) && (!alone || isAlone(machine, usual.writeSlowest));
  };
  const auto begin = Clock::now();
  const double before = spare;
  while (!isThere() && isPatient()) {
    KF_CHECK(goesOn());
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    spare = before + secondsSince(begin);
  }
  MachineState now;
  now.fma = anchorNow("fma_f32");
  now.exchange = anchorNow("exchange");
  return now;
}

Status SuiteRounds::prepareAll() {
  const auto total = static_cast<int64_t>(runner.rows().size());
  for (size_t row = 0; row < runner.rows().size(); ++row) {
    if (options.progress)
      options.progress("preparing " + runner.rows()[row].row->name, int64_t(row), total);
    KF_CHECK(goesOn());
    KF_CHECK(runner.prepare(row));
    if (!samples[row].own.empty())
      runner.judgeBy(row, samples[row].anchor);
    const RowRun *run = runner.rows()[row].run.get();
    if (run)
      samples[row].vendors.resize(runner.rows()[row].vendors.size());
  }
  return {};
}

/// The rows in an order that is the seed's and the round's.
static std::vector<size_t> shuffledRows(size_t count, uint64_t seed, int round) {
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t(0));
  const uint64_t key = mixBits(seed) + static_cast<uint64_t>(round);
  for (size_t i = count; i > 1; --i)
    std::swap(order[i - 1], order[randomBits(key, i) % i]);
  return order;
}

Status SuiteRounds::measureRow(size_t index, int round) {
  const PreparedRow &row = runner.rows()[index];
  RoundSample sample;
  sample.round = round;
  anchorNow(row.anchor);
  KF_TRY(sample.machine, awaitUsual(round >= options.rounds && lackOf(index).alone));
  Beside beside;
  KF_TRY(sample.ns, runner.sample(index, &beside));
  sample.anchor = beside.anchor;
  sample.machine.writeFirst = beside.writing.first;
  sample.machine.writeSlowest = beside.writing.slowest;
  sample.machine.preemptions = beside.preemptions;
  keepWriting(sample.machine);
  samples[index].own.push_back(sample);
  return {};
}

/// Measures the vendors' variants of some rows, one library after another.
Status SuiteRounds::measureVendors(std::span<const size_t> rows) {
  size_t libraries = 0;
  for (size_t row : rows)
    libraries = std::max(libraries, samples[row].vendors.size());
  for (size_t v = 0; v < libraries; ++v)
    for (size_t row : rows)
      if (v < samples[row].vendors.size() && runner.rows()[row].vendors[v]) {
        KF_TRY(double ns, runner.sampleVendor(row, v));
        samples[row].vendors[v].push_back(ns);
        KF_CHECK(goesOn());
      }
  return {};
}

/// Measures all rows once, or those that lack samples where all planned rounds are done. Before a
/// library runs, and after the last, threads need time to go to sleep: some rows share it.
Status SuiteRounds::measureRound(int round) {
  Json values = anchorsNow();
  int64_t done = 0;
  const bool makesUp = round >= options.rounds;
  constexpr size_t together = 8;
  std::vector<size_t> measured;
  auto measureTheirVendors = [&]() -> Status {
    KF_CHECK(measureVendors(measured));
    measured.clear();
    return {};
  };
  for (size_t index : shuffledRows(runner.rows().size(), options.seed, round)) {
    if (options.progress)
      options.progress(makesUp
                           ? fmt::format("round {}, for samples of a machine at rest", round + 1)
                           : fmt::format("round {} of {}", round + 1, options.rounds),
                       done++, static_cast<int64_t>(runner.rows().size()));
    if (!runner.rows()[index].isOk() || (makesUp && !lackOf(index).any()))
      continue;
    KF_CHECK(measureRow(index, round));
    if (!makesUp)
      measured.push_back(index);
    if (measured.size() == together)
      KF_CHECK(measureTheirVendors());
    KF_CHECK(goesOn());
  }
  KF_CHECK(measureTheirVendors());
  perRound.push_back({{"round", round}, {"values", std::move(values)}});
  return {};
}

/// The planned rounds that are left, then those that make up for samples that say little.
Status SuiteRounds::measureRounds() {
  auto someLack = [&] {
    for (size_t row = 0; row < runner.rows().size(); ++row)
      if (runner.rows()[row].isOk() && lackOf(row).any())
        return true;
    return false;
  };
  const double most = std::min(options.rounds * (1 + std::max(1.0, 2 * options.patience)),
                               static_cast<double>(maxSamples));
  for (;;) {
    const bool makesUp = roundsDone >= options.rounds;
    if (makesUp && (roundsDone >= most || !isPatient() || !someLack()))
      return {};
    const auto begin = Clock::now();
    const double waited = spare;
    if (Status status = measureRound(roundsDone); !status) {
      // Of a round that was not finished nothing is kept: it is measured again.
      for (RowSamples &row : samples)
        row.keepRounds(roundsDone);
      return status;
    }
    ++roundsDone;
    if (makesUp)
      spare = waited + secondsSince(begin); // which holds what was waited
    KF_CHECK(keep());
  }
}

/// Tells the caller that what there is now is worth keeping.
Status SuiteRounds::keep() const {
  return options.checkpoint && isWhole() ? options.checkpoint() : Status();
}

Status SuiteRounds::run() {
  KF_CHECK(keep());
  KF_CHECK(prepareAll());
  prepared = true;
  if (runner.options().timed) {
    if (before.is_null())
      before = anchorsNow();
    KF_CHECK(keep());
    KF_CHECK(measureRounds());
    after = anchorsNow();
    for (size_t row = 0; row < runner.rows().size(); ++row)
      if (runner.rows()[row].isOk())
        KF_CHECK(runner.verifyAgain(row));
  }
  complete = true;
  return keep();
}

int SuiteRounds::failedRows() const {
  return static_cast<int>(
      std::ranges::count_if(runner.rows(), [](const PreparedRow &row) { return !row.isOk(); }));
}

//===----------------------------------------------------------------------===//
// JSON
//===----------------------------------------------------------------------===//

double SuiteRounds::usual(const std::string &anchor) const {
  auto found = anchorValues.find(anchor);
  return found == anchorValues.end() ? 0 : median(found->second);
}

MachineState SuiteRounds::usualMachine() const {
  auto best = [&](const char *name) {
    auto found = anchorValues.find(name);
    return found == anchorValues.end() ? 0 : undisturbed(found->second);
  };
  MachineState machine;
  machine.fma = best("fma_f32");
  machine.exchange = best("exchange");
  machine.writeFirst = aloneWriting(writingFirst);
  machine.writeSlowest = aloneWriting(writingSlowest);
  return machine;
}

void SuiteRounds::keepWriting(const MachineState &machine) {
  writingFirst.push_back(machine.writeFirst);
  writingSlowest.push_back(machine.writeSlowest);
}

Json SuiteRounds::anchorsJson() const {
  Json units = Json::object();
  for (const std::string &name : runner.anchors().names())
    units[name] = Anchors::unit(name);
  const MachineState machine = usualMachine();
  Json rounds = perRound;
  for (Json &round : rounds) {
    round["off"] = Json::array();
    for (const auto &[name, value] : round["values"].items()) {
      MachineState then;
      then.fma = name == "fma_f32" ? value.get<double>() : 0;
      then.exchange = name == "exchange" ? value.get<double>() : 0;
      const bool ofCores = then.fma > 0 || then.exchange > 0;
      if (ofCores ? !isUsual(then, machine)
                  : std::abs(value.get<double>() / usual(name) - 1) > mostAnchorOff)
        round["off"].push_back(name);
    }
  }
  return {{"units", units},
          {"before", before},
          {"after", after},
          {"per_round", rounds},
          {"usual", machineJson(machine)},
          {"spare_s", spare}};
}

/// The vendors' variants, beside the row's own samples `own` that count, of rounds `rounds`: only
/// rounds in which both were measured are compared.
void SuiteRounds::addVendors(Json &json, size_t index, std::span<const double> own,
                             std::span<const int> rounds) const {
  const PreparedRow &row = runner.rows()[index];
  std::optional<double> best; // of the ratios
  for (size_t v = 0; v < row.run->vendors().size(); ++v) {
    const VendorRun &vendor = row.run->vendors()[v];
    Json entry = {{"variant", vendor.name}};
    const bool timed = v < samples[index].vendors.size() && !samples[index].vendors[v].empty();
    entry["status"] = !vendor.prepared ? "unavailable" : vendor.why.empty() ? "ok" : "wrong_result";
    if (!vendor.why.empty())
      entry["error"] = vendor.why;
    if (timed) {
      const std::vector<double> &all = samples[index].vendors[v];
      entry["samples_ns"] = all;
      std::vector<double> times, ours;
      for (size_t i = 0; i < rounds.size(); ++i)
        if (static_cast<size_t>(rounds[i]) < all.size()) {
          times.push_back(all[static_cast<size_t>(rounds[i])]);
          ours.push_back(own[i]);
        }
      const double time = median(times.empty() ? all : times);
      const double ratio =
          (ours.empty() ? json["median_ns"].get<double>() : median(std::move(ours))) / time;
      entry.update({{"median_ns", time}, {"ratio", ratio}});
      best = std::max(best.value_or(0), ratio);
    }
    json["vendors"].push_back(std::move(entry));
  }
  if (best)
    json["vendor_ratio"] = *best;
}

/// What was measured: samples of the rounds that count, and the figures made of them.
void SuiteRounds::addTimes(Json &json, size_t index) const {
  const PreparedRow &row = runner.rows()[index];
  std::vector<double> times, anchors, alone;
  std::vector<int> rounds;
  Json dropped = Json::array(), machine = Json::array();
  const std::vector<RoundSample> &own = samples[index].own;
  const MachineState usualState = usualMachine();
  const std::vector<bool> counts = countingSamples(own, usualState);
  const auto kept = static_cast<size_t>(std::ranges::count(counts, true));
  const size_t planned = std::min(own.size(), static_cast<size_t>(options.rounds));
  // Where too few count, all are shown, and none is trusted.
  const bool enough = static_cast<double>(kept) >= leastKept * static_cast<double>(planned);
  for (size_t i = 0; i < own.size(); ++i) {
    if (!counts[i] && enough) {
      dropped.push_back({{"round", own[i].round},
                         {"ns", own[i].ns},
                         {"anchor", own[i].anchor},
                         {"machine", machineJson(own[i].machine)}});
      continue;
    }
    times.push_back(own[i].ns);
    if (isAlone(own[i].machine, usualState.writeSlowest))
      alone.push_back(own[i].ns);
    anchors.push_back(own[i].anchor);
    machine.push_back(machineJson(own[i].machine));
    rounds.push_back(own[i].round);
  }
  json.update({{"batch", row.timed->batch()},
               {"samples_ns", times},
               {"rounds", rounds},
               {"anchor", row.anchor},
               {"anchor_samples", anchors},
               {"machine_samples", machine},
               {"dropped", dropped},
               {"dropped_rounds", dropped.size()}});
  if (times.empty()) {
    json["trusted"] = false;
    json["why_untrusted"] = "no sample was taken";
    return;
  }
  const double time = median(times), mad = medianAbsoluteDeviation(times);
  const std::vector<double> &steady = alone.size() >= enoughAlone ? alone : times;
  const double scatter = medianAbsoluteDeviation(steady) / median(steady);
  const double flops = row.run->flops(), bytes = row.run->bytes();
  const DeviceInfo &device = runner.device();
  json.update({{"median_ns", time},
               {"mad_ns", mad},
               {"trusted", enough && scatter <= mostScatter && !device.software},
               {"gflops", flops / time},
               {"gb_per_s", bytes / time}});
  if (row.isBoundKnown) {
    const std::string reading =
        row.computeBound ? runner.anchors().readingAnchor(bytes) : row.anchor;
    const double least = std::max(flops / usual(row.arithmetic),
                                  usual(reading) > 0 ? bytes / usual(reading) : 0); // in ns
    json["pct_roofline"] = 100 * least / time;
  }
  if (device.software)
    json["why_untrusted"] = device.name + " is emulated by the processor: not for timing";
  else if (!enough)
    json["why_untrusted"] =
        fmt::format("the machine was itself in {} of {} samples only", kept, own.size());
  else if (scatter > mostScatter)
    json["why_untrusted"] = fmt::format("samples scatter by {:.0f} %", 100 * scatter);
  if (!row.run->vendors().empty())
    addVendors(json, index, times, rounds);
}

Json SuiteRounds::rowJson(size_t index) const {
  const PreparedRow &row = runner.rows()[index];
  const SessionOptions &session = runner.options().rows.session;
  Json json = {{"name", row.row->name},
               {"family", row.row->family},
               {"problem", row.row->problemJson()},
               {"target", session.target.chip.empty() ? session.target.kind : session.target.chip},
               {"threads", session.threads},
               {"variant", "generated"},
               {"status", statusName(row.status)},
               {"mode", runner.options().cold ? "cold" : "warm"}};
  if (!row.error.empty())
    json["error"] = row.error;
  if (row.accuracy)
    json["accuracy"] = accuracyJson(*row.accuracy, "f64");
  if (!row.run)
    return json;
  json.update({{"flops", row.run->flops()}, {"bytes", row.run->bytes()}});
  json.update(row.run->codeJson());
  if (row.timed) {
    if (row.isBoundKnown)
      json["bound"] = row.computeBound ? "compute" : "memory";
    addTimes(json, index);
  }
  return json;
}

Json SuiteRounds::rowsJson() const {
  Json rows = Json::array();
  for (size_t row = 0; row < runner.rows().size(); ++row)
    if (runner.rows()[row].ready)
      rows.push_back(rowJson(row));
  return rows;
}

//===----------------------------------------------------------------------===//
// Going on
//===----------------------------------------------------------------------===//

Status SuiteRounds::resume(const JsonView &report) {
  KF_TRY(JsonView anchors, report.object("anchors"));
  KF_TRY(auto rounds, anchors.array("per_round", maxSamples));
  for (const JsonView &round : rounds) {
    KF_TRY(JsonView values, round.object("values"));
    KF_TRY(auto members, values.members());
    for (const auto &[name, value] : members) {
      KF_TRY(anchorValues[name].emplace_back(), value.asNumber(0, mostReported));
    }
    perRound.push_back({{"round", perRound.size()}, {"values", values.value()}});
  }
  if (anchors.has("before"))
    before = anchors.value()["before"];
  KF_TRY(spare, anchors.numberOr("spare_s", 0, mostReported, 0));
  roundsDone = static_cast<int>(rounds.size());
  KF_TRY(auto rows, report.array("rows", samples.size()));
  std::map<std::string, size_t> places;
  for (size_t i = 0; i < runner.rows().size(); ++i)
    places[runner.rows()[i].row->name] = i;
  for (const JsonView &row : rows) {
    KF_TRY(std::string name, row.string("name", 4096));
    auto place = places.find(name);
    if (place == places.end())
      return row.error("the suite has no row of that name");
    KF_TRY(RowSamples read, readRowSamples(row));
    for (const RoundSample &sample : read.own) {
      if (sample.machine.fma > 0)
        anchorValues["fma_f32"].push_back(sample.machine.fma);
      keepWriting(sample.machine);
      if (sample.machine.exchange > 0)
        anchorValues["exchange"].push_back(sample.machine.exchange);
      if (read.anchor != "fma_f32")
        anchorValues[read.anchor].push_back(sample.anchor);
    }
    samples[place->second] = std::move(read);
  }
  return {};
}
