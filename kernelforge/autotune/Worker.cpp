#include "kernelforge/autotune/Worker.h"

#include "kernelforge/autotune/DeviceOutputs.h"
#include "kernelforge/autotune/SharedData.h"
#include "kernelforge/backend/DeviceTiming.h"
#include "kernelforge/backend/ProgramJson.h"
#include "kernelforge/compiler/Targets.h"
#include "kernelforge/ir/Hash.h"
#include "kernelforge/measure/Accuracy.h"
#include "kernelforge/support/ChildProcess.h"
#include "kernelforge/support/ElementType.h"
#include "kernelforge/support/PageMemory.h"
#include "kernelforge/support/Team.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <map>
#include <thread>

#include <csignal>
#include <sys/resource.h>
#include <unistd.h>

using namespace kernelforge;

uint64_t kernelforge::turnsOf(uint64_t bytes, uint64_t streamBytes, bool onDevice) {
  // What a device binds anew for each candidate takes its time.
  const uint64_t most = onDevice ? 64 : 4096;
  return bytes == 0 ? 1 : std::clamp<uint64_t>((streamBytes + bytes - 1) / bytes, 1, most);
}

namespace {

using Clock = std::chrono::steady_clock;

/// How long threads spin where the threads of a library are to be measured, too, and a pause that
/// is longer.
constexpr int spinMilliseconds = 5, settleMilliseconds = 30;

/// Nanoseconds: where a device's clock stands still within a run.
constexpr double leastSample = 1e-3;

double secondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// An argument or result of the problem's function in one of its data sets.
struct Tensor {
  uint64_t offset = 0;   ///< in the shared data
  uint64_t rowMajor = 0; ///< the same as it lies in a file
  uint64_t bytes = 0;
  uint64_t rowMajorBytes = 0;
  bool streamed = false; ///< a weight or cache: timed calls take turns on copies of it
  bool written = false;  ///< a cache: copied before each run
};

/// What an output must be.
struct Output {
  int argument = -1; ///< a cache, or
  int result = -1;   ///< a result
  ElementType type = ElementType::F32;
  uint64_t offset = 0, elements = 0; ///< of the reference, f32
  double tolerance = 0;
};

struct DataSet {
  std::vector<Tensor> arguments;
  std::vector<uint64_t> results; ///< bytes of each
  std::vector<Output> outputs;
};

/// One candidate, loaded twice: to be verified (scratch and intermediates are poisoned) and timed.
struct Candidate {
  std::unique_ptr<Executable> verified, timed;
  std::vector<std::unique_ptr<BoundProgram>> turns; ///< `timed` on the arguments of each turn
  bool library = false; ///< another variant, which reads weights row-major and has its own threads
};

class Worker {
public:
  Worker(ParentChannel tuner, SharedData data) : tuner(std::move(tuner)), data(std::move(data)) {}

  Status serve() {
    for (;;) {
      KF_TRY(std::optional<Message> message, tuner.receive());
      if (!message)
        return {};
      Json answer;
      try {
        Status status = handle(*message, answer);
        // The device went down with the candidate, and so do we: another worker makes another.
        if (!status && status.error().kind == ErrorKind::Lost)
          return status;
        if (!status)
          answer = {{"error", status.error().line()}};
      } catch (const std::bad_alloc &) { // says nothing against the candidate
        answer = {{"error", "out of memory"}};
      }
      KF_CHECK(tuner.send(answer));
    }
  }

private:
  Status handle(const Message &message, Json &answer) {
    const std::string command = message.json().value("command", "");
    if (command == "problem")
      return setProblem(message.json(), answer);
    if (command == "load")
      return load(message, answer);
    if (command == "verify")
      return verify(message.json(), answer);
    if (command == "time")
      return time(message.json(), answer);
    return unusable("tuning worker cannot serve", command, "there is no such command");
  }

  Status setProblem(const Json &json, Json &answer) {
    threads = json["threads"];
    const std::string kind = json["device"];
    DeviceOptions options{threads, /*poison=*/false, json["device_words"]};
    KF_TRY(timing, createDevice(kind, options));
    options.poison = true; // which devices with memory of their own leave to us
    if (hasOwnMemory())
      verifying = timing;
    else {
      KF_TRY(verifying, createDevice(kind, options));
    }
    sizes = json["sizes"].get<std::vector<int64_t>>();
    streamBytes = json["stream_bytes"];
    for (const Json &described : json["sets"]) {
      DataSet set;
      for (const Json &a : described["arguments"])
        set.arguments.push_back({a["offset"], a["row_major"], a["bytes"], a["row_major_bytes"],
                                 a["streamed"], a["written"]});
      set.results = described["results"].get<std::vector<uint64_t>>();
      for (const Json &o : described["outputs"])
        set.outputs.push_back({o["argument"], o["result"],
                               static_cast<ElementType>(o["type"].get<int>()), o["offset"],
                               o["elements"], o["tolerance"]});
      sets.push_back(std::move(set));
    }
    answer = {{"pid", ::getpid()}};
    return {};
  }

  Status load(const Message &message, Json &answer) {
    Candidate candidate;
    KF_TRY(Program loaded, programFrom(message.json(), message.bytes));
    auto program = std::make_shared<const Program>(std::move(loaded));
    candidate.library = program->artifacts.front().library.has_value();
    KF_TRY(auto verified, verifying->load({&program, 1}));
    KF_TRY(auto timed, timing->load({&program, 1}));
    candidate.verified = std::move(verified.front());
    candidate.timed = std::move(timed.front());
    const KernelResources resources = candidate.timed->resources().front();
    candidates[message.json()["slot"]] = std::move(candidate);
    const DeviceInfo &device = timing->info();
    answer = {{"device", device.name},
              {"software", device.software},
              {"own_clock", device.hasOwnClock()},
              {"resources",
               {{"registers", resources.registers},
                {"spill_bytes", resources.spillBytes},
                {"shared_bytes", resources.sharedBytes}}}};
    return {};
  }

  using Bytes = std::span<std::byte>;

  /// Memory for what a run of a set writes, and all that it takes.
  struct Run {
    std::vector<GuardedBuffer> written, results; ///< by argument (empty: only read), by result
    std::vector<Bytes> arguments, resultBytes;
    std::vector<Bytes> rowMajor; ///< the arguments of other variants
  };

  Status prepare(const DataSet &set, Run &run) {
    for (const Tensor &tensor : set.arguments) {
      std::byte *from = data.data() + tensor.offset;
      run.written.emplace_back();
      if (tensor.written) {
        KF_TRY(run.written.back(), GuardedBuffer::create(tensor.bytes));
        std::memcpy(run.written.back().data(), from, tensor.bytes);
        from = run.written.back().data();
      }
      run.arguments.emplace_back(from, tensor.bytes);
      run.rowMajor.push_back(tensor.written
                                 ? run.arguments.back()
                                 : Bytes(data.data() + tensor.rowMajor, tensor.rowMajorBytes));
    }
    for (uint64_t bytes : set.results) {
      KF_TRY(GuardedBuffer result, GuardedBuffer::create(bytes));
      run.results.push_back(std::move(result));
      run.resultBytes.emplace_back(run.results.back().data(), bytes);
    }
    return {};
  }

  /// The arguments of timed calls, which take turns on them; the first are those of the run itself.
  struct Turns {
    std::vector<std::vector<Bytes>> arguments;
    std::vector<PageMemory> copies;
  };

  bool hasOwnMemory() const { return !timing->info().sharesHostMemory; }

  /// As many copies of what is streamed as make `streamBytes` together. A device with memory of its
  /// own makes the copies when they are bound, and of all that a call reads: it keeps weights as
  /// they lie in a file, where nothing tells them from other arguments.
  Expected<Turns> makeTurns(const DataSet &set, const Run &run, bool rowMajor) const {
    Turns turns;
    turns.arguments.push_back(rowMajor ? run.rowMajor : run.arguments);
    const auto bytesOf = [&](const Tensor &tensor) {
      return rowMajor ? tensor.rowMajorBytes : tensor.bytes;
    };
    uint64_t each = 0;
    for (const Tensor &tensor : set.arguments)
      each += (hasOwnMemory() ? !tensor.written : tensor.streamed) ? bytesOf(tensor) : 0;
    const uint64_t count = turnsOf(each, static_cast<uint64_t>(streamBytes), hasOwnMemory());
    for (uint64_t copy = 1; copy < count; ++copy) {
      std::vector<Bytes> arguments = turns.arguments.front();
      for (size_t i = 0; i < arguments.size(); ++i) {
        if (!set.arguments[i].streamed || hasOwnMemory())
          continue;
        KF_TRY(PageMemory memory, PageMemory::allocate(bytesOf(set.arguments[i])));
        std::memcpy(memory.data(), arguments[i].data(), memory.size());
        arguments[i] = memory.span();
        turns.copies.push_back(std::move(memory));
      }
      turns.arguments.push_back(std::move(arguments));
    }
    return turns;
  }

  /// Binds a program to these arguments and to what `run` is to write. A device with memory of its
  /// own gets copies, of what is written in `outputs`.
  static Expected<std::unique_ptr<BoundProgram>> bind(Device &device, Executable &executable,
                                                      std::span<const Bytes> arguments,
                                                      const Run &run, DeviceOutputs &outputs) {
    const bool isApart = !device.info().sharesHostMemory;
    auto written = [&](Bytes bytes) {
      return isApart ? outputs.place(bytes) : device.import(bytes, MemoryUse::Transfer, nullptr);
    };
    ProgramBuffers buffers;
    for (size_t i = 0; i < arguments.size(); ++i) {
      KF_TRY(buffers.arguments.emplace_back(),
             run.written[i].size() > 0 ? written(arguments[i])
                                       : device.import(arguments[i], MemoryUse::Transfer, nullptr));
    }
    for (Bytes bytes : run.resultBytes) {
      KF_TRY(buffers.results.emplace_back(), written(bytes));
    }
    const int64_t arenaBytes = executable.program().arenaBytes;
    KF_TRY(buffers.arena, device.allocate(arenaBytes, MemoryUse::Arena));
    if (isApart) {
      const std::vector<std::byte> poison(static_cast<size_t>(arenaBytes), std::byte{0xff});
      KF_CHECK(device.upload(poison, buffers.arena));
    }
    return executable.bind(std::move(buffers));
  }

  /// Binds a candidate to the arguments of each turn, once.
  Status bindTurns(Candidate &candidate) {
    if (!candidate.turns.empty())
      return {};
    for (const std::vector<Bytes> &arguments : timedTurns.at(candidate.library).arguments) {
      KF_TRY(candidate.turns.emplace_back(),
             bind(*timing, *candidate.timed, arguments, *timedRun, *timedOutputs));
    }
    return {};
  }

  /// Runs a candidate so often, on the arguments whose turn it is.
  Expected<CallTimes> runTimed(const Candidate &candidate, int64_t calls) {
    const size_t turns = candidate.turns.size();
    if (timing->info().hasOwnClock()) {
      std::vector<BoundProgram *> programs;
      for (const auto &bound : candidate.turns)
        programs.push_back(bound.get());
      turn %= turns;
      return timedRuns(*timing, programs, sizes, calls, turn);
    }
    const auto start = Clock::now();
    for (int64_t call = 0; call < calls; ++call)
      KF_CHECK(candidate.turns[turn++ % turns]->submit(sizes));
    const double took = secondsSince(start) * 1e9;
    return CallTimes{took, took};
  }

  /// Runs a candidate once into poisoned memory and compares.
  Status verify(const Json &json, Json &answer) {
    const Candidate &candidate = candidates.at(json["slot"]);
    const DataSet &set = sets.at(json["set"].get<size_t>());
    Run run;
    KF_CHECK(prepare(set, run));
    DeviceOutputs outputs(*verifying);
    KF_TRY(auto bound, bind(*verifying, *candidate.verified,
                            candidate.library ? run.rowMajor : run.arguments, run, outputs));
    KF_TRY(const Ticket ticket, bound->submit(sizes));
    KF_CHECK(verifying->wait(ticket));
    std::string allBytes;
    KF_TRY(bool pass, outputs.fetch());
    std::string why;
    Accuracy worst;
    for (const GuardedBuffer &buffer : run.results)
      pass &= buffer.guardsAreIntact();
    for (const GuardedBuffer &buffer : run.written)
      pass &= buffer.size() == 0 || buffer.guardsAreIntact();
    if (!pass)
      why = "bytes beside an output were written";
    for (const Output &output : set.outputs) {
      const GuardedBuffer &buffer =
          output.result >= 0 ? run.results[output.result] : run.written[output.argument];
      allBytes.append(reinterpret_cast<const char *>(buffer.data()), buffer.size());
      std::vector<float> values(output.elements);
      if (output.type == ElementType::F32)
        std::memcpy(values.data(), buffer.data(), output.elements * sizeof(float));
      else
        dequantizeRow(output.type, buffer.data(), output.elements, values.data());
      const std::span<const float> reference(
          reinterpret_cast<const float *>(data.data() + output.offset), output.elements);
      Accuracy accuracy = compareValues(values, reference, output.tolerance);
      // Poison is a NaN; what was never written is one still.
      accuracy.poisonedLeft = countPoison(buffer, output);
      if (!accuracy.pass && why.empty())
        why = accuracy.poisonedLeft > 0 ? "outputs were left unwritten"
              : accuracy.nan == 0       ? "the result differs from the reference"
              : std::isfinite(reference[static_cast<size_t>(accuracy.worst)])
                  ? "the result has NaN where the reference has none"
                  : "the result has a number where the reference has none";
      if (accuracy.pass ? worst.pass || worst.tolerance == 0 : true)
        if (worst.tolerance == 0 || accuracy.maxRel >= worst.maxRel || !accuracy.pass)
          worst = accuracy;
      pass &= accuracy.pass;
    }
    answer = {{"pass", pass},
              {"why", why},
              {"bits", sha256Hex(allBytes)},
              {"accuracy",
               {{"max_abs", finite(worst.maxAbs)},
                {"max_rel", finite(worst.maxRel)},
                {"l2_rel", finite(worst.l2Rel)},
                {"cosine_diff", finite(worst.cosineDiff)},
                {"nan", worst.nan},
                {"poisoned_left", worst.poisonedLeft},
                {"tolerance", worst.tolerance}}}};
    return {};
  }

  /// JSON knows no infinity.
  static double finite(double x) { return std::clamp(x, -1e300, 1e300) == x ? x : 1e300; }

  /// Elements that still hold the poison's bytes.
  static int64_t countPoison(const GuardedBuffer &buffer, const Output &output) {
    const uint64_t each = output.elements ? buffer.size() / output.elements : 0;
    int64_t count = 0;
    for (uint64_t i = 0; i < output.elements; ++i)
      count += std::all_of(buffer.data() + i * each, buffer.data() + (i + 1) * each,
                           [](std::byte b) { return b == std::byte{0xff}; });
    return count;
  }

  /// Times candidates in turns: one sample of each a round, in an order that rotates.
  Status time(const Json &json, Json &answer) {
    const auto slots = json["slots"].get<std::vector<int>>();
    const int rounds = json["rounds"];
    const double sampleSeconds = json["sample_seconds"];
    const DataSet &set = sets.front();
    if (!timedRun) {
      timedRun.emplace();
      timedOutputs.emplace(*timing);
      KF_CHECK(prepare(set, *timedRun));
    }
    for (int slot : slots)
      if (const bool library = candidates.at(slot).library; !timedTurns.contains(library)) {
        KF_TRY(timedTurns[library], makeTurns(set, *timedRun, library));
      }
    for (int slot : slots)
      KF_CHECK(bindTurns(candidates.at(slot)));
    // Threads that wait for more work spin on the cores that another's threads need next.
    const bool settle = threads > 1 && std::ranges::any_of(slots, [&](int slot) {
                          return candidates.at(slot).library;
                        });
    std::optional<ShortSpinning> shortly;
    if (settle)
      shortly.emplace(spinMilliseconds);
    std::vector<int64_t> batches;
    for (int slot : slots) { // warm up, and see how many calls make a sample
      const Candidate &candidate = candidates.at(slot);
      pauseWhere(settle);
      KF_CHECK(runTimed(candidate, 1));
      auto start = Clock::now();
      double each = HUGE_VAL; // the least: others on the machine must not make a sample shorter
      for (int calls = 0; calls < 3 || (calls < 1000 && secondsSince(start) < sampleSeconds / 4);
           ++calls) {
        KF_TRY(CallTimes once, runTimed(candidate, 1));
        each = std::min(each, once.onHost * 1e-9);
      }
      each = std::max(each, 1e-8);
      batches.push_back(std::clamp<int64_t>(std::llround(sampleSeconds / each), 1, 1'000'000));
    }
    std::vector<std::vector<double>> samples(slots.size());
    for (int round = 0; round < rounds; ++round)
      for (size_t i = 0; i < slots.size(); ++i) {
        const size_t which = (i + static_cast<size_t>(round)) % slots.size();
        const Candidate &candidate = candidates.at(slots[which]);
        pauseWhere(settle);
        if (settle) // its threads are awake then
          KF_CHECK(runTimed(candidate, 1));
        KF_TRY(CallTimes times, runTimed(candidate, batches[which]));
        samples[which].push_back(std::max(times.taken / double(batches[which]), leastSample));
      }
    answer = {{"samples_ns", samples}};
    return {};
  }

  static void pauseWhere(bool settle) {
    if (settle)
      std::this_thread::sleep_for(std::chrono::milliseconds(settleMilliseconds));
  }

  ParentChannel tuner;
  SharedData data;
  int threads = 1;
  std::shared_ptr<Device> timing, verifying; ///< one where the device has memory of its own
  std::vector<int64_t> sizes;
  std::vector<DataSet> sets;
  std::map<int, Candidate> candidates; ///< by slot
  std::optional<Run> timedRun;
  std::optional<DeviceOutputs> timedOutputs;
  std::map<bool, Turns> timedTurns; ///< by whether of a library
  size_t turn = 0;
  int64_t streamBytes = 0;
};

} // namespace

Status kernelforge::runWorker() {
  // Whoever started it wants it no longer than it lives itself.
  if (!endWithParent())
    return {};
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  // A terminal's interrupt goes to all its processes; the tuner ends its candidate, then stops.
  ::signal(SIGINT, SIG_IGN);
  KF_TRY(SharedData data, SharedData::open(workerData));
  KF_TRY(ParentChannel tuner, ParentChannel::take("tuning worker"));
  return Worker(std::move(tuner), std::move(data)).serve();
}
