#include "kernelforge/eval/SuiteRunner.h"

#include "kernelforge/eval/SlowedCall.h"
#include "kernelforge/support/Host.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>

using namespace kernelforge;

using Clock = std::chrono::steady_clock;

/// How long threads that spin may take to go to sleep: ours after a run before a library with
/// threads of its own is timed, and its after that.
static constexpr auto settling = std::chrono::milliseconds(15);
static constexpr int spinMilliseconds = 5;

/// How old a ceiling may be.
static constexpr auto recently = std::chrono::milliseconds(100);

Expected<std::unique_ptr<SuiteRunner>> SuiteRunner::create(Suite suite, SuiteOptions options) {
  std::unique_ptr<SuiteRunner> runner(new SuiteRunner(std::move(suite), std::move(options)));
  for (const SuiteRow &row : runner->measuredSuite.rows) {
    runner->prepared.emplace_back();
    runner->prepared.back().row = &row;
  }
  const SessionOptions &session = runner->settings.rows.session;
  {
    KF_TRY(auto device, createDevice(session.target.kind, session.device));
    runner->runsOn = device->info();
  }
  KF_CHECK(runner->runsOn.hasOwnClock() ? runner->prepareDevice() : runner->prepareHost());
  return runner;
}

/// Rows are calls of this process's threads.
Status SuiteRunner::prepareHost() {
  const int threads = settings.rows.session.threads;
  if (settings.rows.vendors)
    spinning.emplace(spinMilliseconds);
  team.emplace(threads, host().coreCpus);
  if (isBound())
    callerCpu = host().coreCpus.front();
  KF_TRY(ceilings, HostAnchors::create(threads, runTeam));
  if (settings.cold) {
    KF_TRY(CacheEviction eviction, CacheEviction::create(threads, runTeam));
    evict = [shared = std::make_shared<CacheEviction>(std::move(eviction))] { (*shared)(); };
  }
  return {};
}

/// Rows are runs of a device, which vendors' libraries for processors are no peers of.
Status SuiteRunner::prepareDevice() {
  settings.rows.vendors = false;
  KF_TRY(auto anchors, DeviceAnchors::create(settings.rows.session));
  if (settings.cold)
    evict = [own = anchors.get()] { own->evict(); };
  ceilings = std::move(anchors);
  return {};
}

TimingOptions SuiteRunner::timing() const {
  TimingOptions options;
  options.warmup = settings.warmup;
  options.batchSeconds = settings.batchSeconds;
  options.cancel = settings.cancel;
  options.evict = evict;
  return options;
}

/// The row's status for one that did not come up.
static RecordStatus statusOf(const Error &error) {
  return error.kind == ErrorKind::Missing    ? RecordStatus::Unavailable
         : error.kind == ErrorKind::Unusable ? RecordStatus::Unsupported
                                             : RecordStatus::CompileError;
}

void SuiteRunner::judge(PreparedRow &row, const Accuracy &accuracy) {
  row.accuracy = accuracy;
  if (accuracy.pass)
    return;
  row.status = RecordStatus::WrongResult;
  row.error = accuracy.why;
}

Status SuiteRunner::bringUp(PreparedRow &row) {
  KF_TRY(row.run, RowRun::create(*row.row, settings.rows));
  if (settings.rows.verified) {
    KF_TRY(Accuracy accuracy, row.run->verify());
    judge(row, accuracy);
  }
  if (row.isOk() && settings.bitwise) {
    KF_TRY(std::optional<std::string> difference, row.run->bitwiseDifference());
    if (difference) {
      row.status = RecordStatus::WrongResult;
      row.error = "two runs differ: " + *difference;
    }
  }
  return row.isOk() && settings.timed ? bringUpTimer(row) : Status();
}

Status SuiteRunner::bringUpTimer(PreparedRow &row) {
  RowRun &run = *row.run;
  // One that is slow when cold is not judged by a cache.
  const std::string reading =
      settings.cold ? ceilings->names().back() : ceilings->readingAnchor(run.bytes());
  const auto kinds = arithmeticOf(run.numerics());
  const auto kind =
      std::ranges::find_if(kinds, [&](std::string_view name) { return ceilings->has(name); });
  row.isBoundKnown = kind != kinds.end();
  if (row.isBoundKnown)
    row.arithmetic = *kind;
  row.computeBound =
      row.isBoundKnown && run.flops() / anchor(row.arithmetic) >= run.bytes() / anchor(reading);
  row.anchor = row.computeBound ? row.arithmetic : reading;

  KF_TRY(TimedCalls calls, run.timed());
  if (auto slow = settings.slow.find(row.row->name); slow != settings.slow.end()) {
    if (runsOn.hasOwnClock()) {
      calls = [calls, factor = slow->second](int64_t count) -> Expected<CallTimes> {
        KF_TRY(CallTimes times, calls(count));
        times.taken *= factor;
        return times;
      };
    } else {
      KF_TRY(auto call, slowedCall([&run] { return run.run(); }, slow->second,
                                   row.anchor == "read_memory", settings.rows.session.threads));
      calls = byHostClock(std::move(call));
    }
  }
  row.timed.emplace(std::move(calls), timing());
  KF_CHECK(row.timed->start());
  for (VendorRun &vendor : run.vendors()) {
    row.vendors.emplace_back();
    if (!vendor.prepared)
      continue;
    std::this_thread::sleep_for(settling);
    library = vendor.name;
    auto accuracy = run.verify(vendor);
    if (!accuracy || !accuracy->pass) { // which says nothing of ours
      vendor.why = accuracy ? accuracy->why : accuracy.error().line();
      continue;
    }
    row.vendors.back().emplace(byHostClock([&run, &vendor] { return run.run(vendor); }), timing());
    KF_CHECK(row.vendors.back()->start());
  }
  return {};
}

Status SuiteRunner::prepare(size_t index) {
  PreparedRow &row = prepared[index];
  Status status = bringUp(row);
  if (!status && status.error().kind == ErrorKind::Interrupted)
    return status;
  row.ready = true;
  if (status)
    return {};
  row.status = statusOf(status.error());
  row.error = status.error().line();
  row.run.reset();
  return {};
}

/// Waits until a library's threads sleep.
void SuiteRunner::settle() {
  if (!library.empty())
    std::this_thread::sleep_for(settling);
  library.clear();
}

Expected<double> SuiteRunner::sample(size_t index, Beside *beside) {
  PreparedRow &row = prepared[index];
  if (beside)
    beside->anchor = anchor(row.anchor);
  settle();
  const BoundCaller bound(callerCpu);
  if (!beside || runsOn.hasOwnClock()) // nobody shares a device's cores with it
    return row.timed->sample(/*settle=*/true);
  // Reading a cache would take from the row what it has there.
  const bool isHarmless = row.anchor == row.arithmetic || row.anchor == "read_memory";
  std::vector<double> first, slowest, anchors;
  const int64_t before = timesPreempted();
  auto taken = row.timed->sample(/*settle=*/true, [&] {
    const Writing writing = ceilings->measureWriting();
    first.push_back(writing.first);
    slowest.push_back(writing.slowest);
    if (isHarmless)
      anchors.push_back(ceilings->measure(row.anchor, 0.125));
  });
  beside->preemptions = timesPreempted() - before;
  beside->writing = {median(std::move(first)), median(std::move(slowest))};
  if (isHarmless)
    beside->anchor = median(std::move(anchors));
  return taken;
}

Expected<double> SuiteRunner::sampleVendor(size_t index, size_t vendor) {
  const std::string &name = prepared[index].run->vendors()[vendor].name;
  if (library != name)
    std::this_thread::sleep_for(settling);
  library = name;
  const BoundCaller bound(callerCpu);
  return prepared[index].vendors[vendor]->sample(/*settle=*/true);
}

double SuiteRunner::anchor(const std::string &name) {
  Measured &measured = lately[name];
  if (measured.value == 0 || Clock::now() - measured.at > recently) {
    settle();
    const BoundCaller bound(callerCpu);
    measured.value = ceilings->measure(name);
    measured.at = Clock::now();
  }
  return measured.value;
}

Writing SuiteRunner::writing() {
  settle();
  const BoundCaller bound(callerCpu);
  return ceilings->measureWriting();
}

void SuiteRunner::judgeBy(size_t index, const std::string &anchor) {
  PreparedRow &row = prepared[index];
  if (!row.timed || !ceilings->has(anchor))
    return;
  row.anchor = anchor;
  row.computeBound = anchor == row.arithmetic;
}

Status SuiteRunner::verifyAgain(size_t index) {
  KF_TRY(Accuracy accuracy, prepared[index].run->verify());
  judge(prepared[index], accuracy);
  return {};
}
