#include "kernelforge/eval/SuiteRounds.h"

#include "kernelforge/measure/AccuracyJson.h"
#include "kernelforge/support/CounterRandom.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

using namespace kernelforge;

/// A ceiling that is this far from its usual value says that the machine was not itself.
static constexpr double mostOff = 0.10;

/// A row of which fewer than half of the rounds count is not to be trusted, nor is one whose
/// samples scatter like this around their median (median absolute deviation).
static constexpr double leastKept = 0.5, mostScatter = 0.10;

SuiteRounds::SuiteRounds(SuiteRunner &runner, RoundsOptions options)
    : runner(runner), options(std::move(options)), samples(runner.rows().size()) {}

Json SuiteRounds::anchorsNow() {
  Json json = Json::object();
  for (const std::string &name : runner.anchors().names()) {
    const double value = runner.anchor(name);
    json[name] = value;
    anchorValues[name].push_back(value);
  }
  return json;
}

Status SuiteRounds::prepareAll() {
  const auto total = static_cast<int64_t>(runner.rows().size());
  for (size_t row = 0; row < runner.rows().size(); ++row) {
    if (options.progress)
      options.progress("preparing " + runner.rows()[row].row->name, int64_t(row), total);
    if (runner.options().cancel && *runner.options().cancel)
      return makeError(ErrorKind::Interrupted, "interrupted", "suite", "stopped by user");
    KF_CHECK(runner.prepare(row));
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

Status SuiteRounds::measureRound(int round) {
  Json values = anchorsNow();
  int64_t done = 0;
  for (size_t index : shuffledRows(runner.rows().size(), options.seed, round)) {
    const PreparedRow &row = runner.rows()[index];
    if (options.progress)
      options.progress(fmt::format("round {} of {}", round + 1, options.rounds), done++,
                       static_cast<int64_t>(runner.rows().size()));
    if (!row.isOk())
      continue;
    const double anchor = runner.anchor(row.anchor);
    anchorValues[row.anchor].push_back(anchor);
    KF_TRY(double ns, runner.sample(index));
    samples[index].own.push_back({round, ns, anchor});
    for (size_t v = 0; v < row.vendors.size(); ++v)
      if (row.vendors[v]) {
        KF_TRY(double vendorNs, runner.sampleVendor(index, v));
        samples[index].vendors[v].push_back(vendorNs);
      }
    if (runner.options().cancel && *runner.options().cancel)
      return makeError(ErrorKind::Interrupted, "interrupted", "suite", "stopped by user");
  }
  perRound.push_back({{"round", round}, {"values", std::move(values)}});
  return {};
}

Status SuiteRounds::run() {
  const auto keep = [this] {
    return options.checkpoint && isWhole() ? options.checkpoint() : Status();
  };
  KF_CHECK(keep());
  KF_CHECK(prepareAll());
  prepared = true;
  if (runner.options().timed) {
    if (before.is_null())
      before = anchorsNow();
    KF_CHECK(keep());
    while (roundsDone < options.rounds) {
      if (Status status = measureRound(roundsDone); !status) {
        // Of a round that was not finished nothing is kept: it is measured again.
        for (RowSamples &row : samples) {
          while (!row.own.empty() && row.own.back().round == roundsDone)
            row.own.pop_back();
          for (std::vector<double> &vendor : row.vendors)
            vendor.resize(std::min(vendor.size(), static_cast<size_t>(roundsDone)));
        }
        return status;
      }
      ++roundsDone;
      KF_CHECK(keep());
    }
    after = anchorsNow();
    for (size_t row = 0; row < runner.rows().size(); ++row)
      if (runner.rows()[row].isOk())
        KF_CHECK(runner.verifyAgain(row));
  }
  complete = true;
  return keep();
}

int SuiteRounds::wrongRows() const {
  return static_cast<int>(std::ranges::count_if(runner.rows(), [](const PreparedRow &row) {
    return row.status == RecordStatus::WrongResult || row.status == RecordStatus::CompileError;
  }));
}

//===----------------------------------------------------------------------===//
// JSON
//===----------------------------------------------------------------------===//

double SuiteRounds::usual(const std::string &anchor) const {
  auto found = anchorValues.find(anchor);
  return found == anchorValues.end() ? 0 : median(found->second);
}

bool SuiteRounds::isOff(const RoundSample &sample, const std::string &anchor) const {
  return std::abs(sample.anchor / usual(anchor) - 1) > mostOff;
}

Json SuiteRounds::anchorsJson() const {
  Json units = Json::object();
  for (const std::string &name : runner.anchors().names())
    units[name] = Anchors::unit(name);
  Json rounds = perRound;
  for (Json &round : rounds) {
    round["off"] = Json::array();
    for (const auto &[name, value] : round["values"].items())
      if (isOff({0, 0, value.get<double>()}, name))
        round["off"].push_back(name);
  }
  return {{"units", units}, {"before", before}, {"after", after}, {"per_round", rounds}};
}

void SuiteRounds::addVendors(Json &json, size_t index, double own) const {
  const PreparedRow &row = runner.rows()[index];
  std::optional<double> best;
  for (size_t v = 0; v < row.run->vendors().size(); ++v) {
    const VendorRun &vendor = row.run->vendors()[v];
    Json entry = {{"variant", vendor.name}};
    const bool timed = v < samples[index].vendors.size() && !samples[index].vendors[v].empty();
    entry["status"] = timed ? "ok" : vendor.prepared ? "wrong_result" : "unavailable";
    if (!vendor.why.empty())
      entry["error"] = vendor.why;
    if (timed) {
      const double time = median(samples[index].vendors[v]);
      entry.update(
          {{"samples_ns", samples[index].vendors[v]}, {"median_ns", time}, {"ratio", own / time}});
      best = std::min(best.value_or(HUGE_VAL), time);
    }
    json["vendors"].push_back(std::move(entry));
  }
  if (best)
    json["vendor_ratio"] = own / *best;
}

/// What was measured: samples of the rounds that count, and the figures made of them.
void SuiteRounds::addTimes(Json &json, size_t index) const {
  const PreparedRow &row = runner.rows()[index];
  std::vector<double> times, anchors;
  std::vector<int> rounds;
  Json dropped = Json::array();
  for (const RoundSample &sample : samples[index].own) {
    if (isOff(sample, row.anchor)) {
      dropped.push_back({{"round", sample.round}, {"ns", sample.ns}, {"anchor", sample.anchor}});
      continue;
    }
    times.push_back(sample.ns);
    anchors.push_back(sample.anchor);
    rounds.push_back(sample.round);
  }
  const double all = static_cast<double>(samples[index].own.size());
  json.update({{"batch", row.timed->batch()},
               {"samples_ns", times},
               {"rounds", rounds},
               {"anchor", row.anchor},
               {"anchor_samples", anchors},
               {"dropped", dropped},
               {"dropped_rounds", dropped.size()}});
  if (times.empty()) {
    json["trusted"] = false;
    return;
  }
  const double time = median(times), mad = medianAbsoluteDeviation(times);
  const double flops = row.run->flops(), bytes = row.run->bytes();
  const std::string reading = row.computeBound ? runner.anchors().readingAnchor(bytes) : row.anchor;
  const double least = std::max(flops / usual("fma_f32"),
                                usual(reading) > 0 ? bytes / usual(reading) : 0); // in ns
  json.update({{"median_ns", time},
               {"mad_ns", mad},
               {"trusted",
                static_cast<double>(times.size()) >= leastKept * all && mad <= mostScatter * time},
               {"gflops", flops / time},
               {"gb_per_s", bytes / time},
               {"pct_roofline", 100 * least / time}});
  if (!row.run->vendors().empty())
    addVendors(json, index, time);
}

Json SuiteRounds::rowJson(size_t index) const {
  const PreparedRow &row = runner.rows()[index];
  const SessionOptions &session = runner.options().rows.session;
  Json json = {{"name", row.row->name},
               {"family", row.row->family},
               {"problem", row.row->problemJson()},
               {"target", session.target.cpu},
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
    json["bound"] = row.computeBound ? "compute" : "memory";
    addTimes(json, index);
  }
  return json;
}

Json SuiteRounds::rowsJson() const {
  Json rows = Json::array();
  for (size_t row = 0; row < runner.rows().size(); ++row)
    rows.push_back(rowJson(row));
  return rows;
}

//===----------------------------------------------------------------------===//
// Going on
//===----------------------------------------------------------------------===//

static constexpr double longest = 1e15; // nanoseconds; more is a defect of the file

/// The samples of a row in a report.
static Expected<RowSamples> readSamples(const JsonView &row) {
  RowSamples samples;
  if (!row.has("samples_ns"))
    return samples;
  KF_TRY(auto times, row.array("samples_ns", maxSamples));
  KF_TRY(auto rounds, row.array("rounds", maxSamples));
  KF_TRY(auto anchors, row.array("anchor_samples", maxSamples));
  if (times.size() != rounds.size() || times.size() != anchors.size())
    return row.error("samples_ns, rounds and anchor_samples are not equally long");
  for (size_t i = 0; i < times.size(); ++i) {
    RoundSample sample;
    KF_TRY(int64_t round, rounds[i].asInteger(0, int64_t(maxSamples)));
    sample.round = static_cast<int>(round);
    KF_TRY(sample.ns, times[i].asNumber(0, longest));
    KF_TRY(sample.anchor, anchors[i].asNumber(0, longest));
    samples.own.push_back(sample);
  }
  KF_TRY(auto dropped, row.array("dropped", maxSamples));
  for (const JsonView &view : dropped) {
    RoundSample sample;
    KF_TRY(int64_t round, view.integer("round", 0, int64_t(maxSamples)));
    sample.round = static_cast<int>(round);
    KF_TRY(sample.ns, view.number("ns", 0, longest));
    KF_TRY(sample.anchor, view.number("anchor", 0, longest));
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
      KF_TRY(values.emplace_back(), value.asNumber(0, longest));
    }
  }
  return samples;
}

Status SuiteRounds::resume(const JsonView &report) {
  KF_TRY(JsonView anchors, report.object("anchors"));
  KF_TRY(auto rounds, anchors.array("per_round", maxSamples));
  for (const JsonView &round : rounds) {
    KF_TRY(JsonView values, round.object("values"));
    KF_TRY(auto members, values.members());
    for (const auto &[name, value] : members) {
      KF_TRY(anchorValues[name].emplace_back(), value.asNumber(0, longest));
    }
    perRound.push_back({{"round", perRound.size()}, {"values", values.value()}});
  }
  if (anchors.has("before"))
    before = anchors.value()["before"];
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
    KF_TRY(RowSamples read, readSamples(row));
    KF_TRY(std::string anchor, row.stringOr("anchor", 64, ""));
    for (const RoundSample &sample : read.own)
      anchorValues[anchor].push_back(sample.anchor);
    samples[place->second] = std::move(read);
  }
  return {};
}
