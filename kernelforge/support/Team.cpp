#include "kernelforge/support/Team.h"

#include "kernelforge/support/Host.h"
#include "kernelforge/support/TaskBoard.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <dlfcn.h>
#include <fcntl.h>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unistd.h>

using namespace kernelforge;

using Clock = std::chrono::steady_clock;

namespace {

/// Whether this thread is at work for a team: then it works alone.
thread_local bool isMember = false;

/// How long members stay awake after work: longer than what lies between two runs of a decoder.
constexpr std::chrono::milliseconds usualSpinning(2);
thread_local std::chrono::milliseconds spinning = usualSpinning;

/// How long the caller waits before it takes the one that it waits for as displaced: far longer
/// than the tasks of a decode kernel differ.
constexpr std::chrono::microseconds stall(300);

/// How far apart two stalls may be of which the second says what the machine is like.
constexpr std::chrono::milliseconds recently(20);

/// How long a member that was displaced stays away, at first and at most. Where two want one core
/// the system gives it to each for some milliseconds in turns, and the team would wait that long.
constexpr std::chrono::milliseconds shortestRest(10), longestRest(640);

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/// How long the calling thread has waited for a core that others had, in all. For one thread; where
/// the system does not tell, always 0.
class CoreDelay {
public:
  CoreDelay() : file(::open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC)) {}
  ~CoreDelay() {
    if (file >= 0)
      ::close(file);
  }
  CoreDelay(const CoreDelay &) = delete;
  CoreDelay &operator=(const CoreDelay &) = delete;

  std::chrono::nanoseconds read() const {
    // "TIME_ON_CORES TIME_WAITED TURNS", in nanoseconds.
    std::array<char, 96> text{};
    if (file < 0 || ::pread(file, text.data(), text.size() - 1, 0) <= 0)
      return {};
    char *rest = nullptr;
    std::strtoll(text.data(), &rest, 10);
    return std::chrono::nanoseconds(std::strtoll(rest, nullptr, 10));
  }

private:
  const int file;
};

/// Waiting awake, with a look at the clock now and then: on some virtual machines that takes
/// microseconds.
class AwakeWait {
public:
  /// Waits a moment. How long it has lasted in all, where it looked at the clock.
  std::optional<Clock::duration> wait() {
    pause();
    if (++spins % 256 != 0)
      return std::nullopt;
    const auto now = Clock::now();
    if (spins == 256)
      since = now;
    return now - since;
  }

  bool isStall = false; ///< for who uses it

private:
  int64_t spins = 0;
  Clock::time_point since;
};

/// How long OpenMP's threads stay awake after the calling thread's regions, where it is LLVM's; of
/// another one nothing is known.
int openMpSpinning() {
  static const auto get = reinterpret_cast<int (*)()>(::dlsym(RTLD_DEFAULT, "kmp_get_blocktime"));
  return get ? get() : 0;
}
void setOpenMpSpinning(int milliseconds) {
  static const auto set =
      reinterpret_cast<void (*)(int)>(::dlsym(RTLD_DEFAULT, "kmp_set_blocktime"));
  if (set)
    set(milliseconds);
}

/// The threads that one calling thread works with.
///
/// The tasks of a step are on a board, many of them in pieces. Whoever has taken one keeps its step
/// from ending, and may read what is said of it; whoever has none, such as a thread that was away
/// since an earlier step, reads nothing. Who ends the last task of a step begins the next.
class Team {
public:
  explicit Team(int threads) : threads(threads), board(threads) {
    for (int member = 1; member < threads; ++member)
      workers.emplace_back([this, member] { serve(member); });
  }
  ~Team() {
    ending = true;
    callUp();
  }

  const int threads;

  void runSteps(SteppedWork &steps);
  void runAll(const std::function<void(int, int)> &member);

private:
  /// Tasks of a piece, of so many that a step has.
  static int64_t pieceOf(int64_t tasks) { return (tasks + TaskBoard::most - 1) / TaskBoard::most; }

  // Of everybody.
  bool takeTasks(int member);
  void begin(size_t step, int member);
  void waitWithinRun(AwakeWait &waiting);
  void wake();
  // Of the caller.
  void callUp();
  // Of the others.
  void serve(int member);
  void stayAway(Clock::duration time, uint64_t callsSeen);
  void waitForWork(uint64_t callsSeen);
  bool hasWork(uint64_t callsSeen) const {
    return !board.isEmpty() || calls.load() != callsSeen || ending.load();
  }

  // The work and its current step: read only by who has a task of it.
  SteppedWork *work = nullptr;
  size_t current = 0;

  // Each on a line of its own, apart from what others write.
  TaskBoard board;
  alignas(64) std::atomic<int64_t> done{0}; ///< tasks of the step
  alignas(64) std::atomic<bool> ended{true};
  std::atomic<int64_t> stalls{0}; ///< how often somebody waited long within a run

  // A call of all members.
  alignas(64) std::atomic<uint64_t> calls{0};
  std::atomic<int> arrived{0};
  const std::function<void(int, int)> *everyone = nullptr;

  // Sleepers hold no lock: one that is displaced with it would be waited for by who wakes them.
  alignas(64) std::atomic<int> sleepers{0};
  std::atomic<int> wakings{0};
  std::atomic<Clock::duration> patience{spinning}; ///< of who waits awake
  std::atomic<bool> ending{false};
  std::mutex lock; ///< of those who rest
  std::condition_variable rested;

  std::vector<std::jthread> workers;
};

/// After what hasWork() looks at was written, in one order for all: a sleeper sees that, or is
/// seen.
void Team::wake() {
  if (sleepers.load() == 0)
    return;
  wakings.fetch_add(1);
  wakings.notify_all();
}

/// Wakes those who rest, too.
void Team::callUp() {
  wake();
  const std::lock_guard guard(lock);
  rested.notify_all();
}

/// Begins a step. One with a single task is done at once, which is quicker than handing it on.
void Team::begin(size_t step, int member) {
  for (; step < work->steps(); ++step) {
    const int64_t tasks = work->tasks(step);
    if (tasks > 1) {
      current = step;
      done.store(0, std::memory_order_relaxed);
      const int64_t piece = pieceOf(tasks);
      board.post(static_cast<int>((tasks + piece - 1) / piece));
      wake();
      return;
    }
    work->run(step, 0, member);
    if (!work->completed(step))
      break;
  }
  ended.store(true, std::memory_order_release);
}

/// Takes tasks and does them, of this step and the next ones, while there are any. False where
/// there were none.
bool Team::takeTasks(int member) {
  int64_t mine = 0, tasks = 0; // done and not yet told; of their step
  size_t step = 0;
  for (bool any = false;; any = true) {
    if (const std::optional<int> taken = board.take(member)) {
      step = current;
      tasks = work->tasks(step);
      const int64_t piece = pieceOf(tasks), first = *taken * piece;
      for (int64_t task = first; task < std::min(first + piece, tasks); ++task, ++mine)
        work->run(step, task, member);
      continue;
    }
    if (mine == 0)
      return any;
    if (done.fetch_add(mine, std::memory_order_acq_rel) + mine == tasks) {
      if (work->completed(step))
        begin(step + 1, member);
      else
        ended.store(true, std::memory_order_release);
    }
    mine = 0;
  }
}

/// Waits a moment for who has the last tasks of a step.
void Team::waitWithinRun(AwakeWait &waiting) {
  if (waiting.wait() < stall)
    return;
  if (!std::exchange(waiting.isStall, true))
    stalls.fetch_add(1, std::memory_order_relaxed);
  std::this_thread::yield(); // the other may be waiting for this very core
}

void Team::runSteps(SteppedWork &steps) {
  work = &steps;
  patience.store(spinning, std::memory_order_relaxed);
  ended.store(false, std::memory_order_relaxed);
  isMember = true;
  begin(0, 0);
  while (!ended.load(std::memory_order_acquire)) {
    if (takeTasks(0))
      continue;
    for (AwakeWait waiting; board.isEmpty() && !ended.load(std::memory_order_relaxed);)
      waitWithinRun(waiting);
  }
  isMember = false;
}

void Team::runAll(const std::function<void(int, int)> &member) {
  everyone = &member;
  patience.store(spinning, std::memory_order_relaxed);
  arrived.store(0, std::memory_order_relaxed);
  calls.fetch_add(1);
  callUp();
  isMember = true;
  member(0, threads);
  isMember = false;
  for (AwakeWait waiting; arrived.load(std::memory_order_acquire) != threads - 1;)
    if (waiting.wait() >= stall)
      std::this_thread::yield();
}

/// Until there is something to do: awake, then asleep.
void Team::waitForWork(uint64_t callsSeen) {
  for (AwakeWait waiting; !hasWork(callsSeen);) {
    if (!ended.load(std::memory_order_relaxed)) {
      waitWithinRun(waiting);
      continue;
    }
    const std::optional<Clock::duration> lasted = waiting.wait();
    if (!lasted || *lasted < patience.load(std::memory_order_relaxed))
      continue;
    sleepers.fetch_add(1);
    for (int seen = wakings.load(); !hasWork(callsSeen); seen = wakings.load())
      wakings.wait(seen);
    sleepers.fetch_sub(1);
    return;
  }
}

void Team::stayAway(Clock::duration time, uint64_t callsSeen) {
  std::unique_lock guard(lock);
  rested.wait_for(guard, time, [&] { return calls.load() != callsSeen || ending.load(); });
}

void Team::serve(int member) {
  isMember = true;
  uint64_t callsSeen = 0;
  int64_t stallsSeen = 0;
  const CoreDelay coreDelay;
  std::chrono::nanoseconds delay = coreDelay.read();
  Clock::duration rest = shortestRest;
  Clock::time_point looked, back; // at `delay`; from a rest
  while (!ending) {
    if (const uint64_t call = calls.load(std::memory_order_acquire); call != callsSeen) {
      callsSeen = call;
      (*everyone)(member, threads);
      arrived.fetch_add(1, std::memory_order_release);
      continue;
    }
    if (!takeTasks(member))
      waitForWork(callsSeen);
    if (stalls.load(std::memory_order_relaxed) == stallsSeen)
      continue;
    // Somebody waited long. Whose core somebody else had meanwhile makes way: for long where it had
    // only just come back. What was longer ago says nothing.
    stallsSeen = stalls.load(std::memory_order_relaxed);
    const Clock::time_point before = std::exchange(looked, Clock::now());
    const std::chrono::nanoseconds known = std::exchange(delay, coreDelay.read());
    if (looked - before > recently || delay - known < stall)
      continue;
    rest = looked - back < rest ? std::min<Clock::duration>(4 * rest, longestRest) : shortestRest;
    stayAway(rest, callsSeen);
    looked = back = Clock::now();
    delay = coreDelay.read();
    stallsSeen = stalls.load(std::memory_order_relaxed);
  }
}

Team &teamOfThisThread(int threads) {
  static thread_local std::vector<std::unique_ptr<Team>> teams;
  for (const std::unique_ptr<Team> &team : teams)
    if (team->threads == threads)
      return *team;
  // The reference and some libraries have threads of OpenMP's on the same cores, which would stay
  // awake for long.
  setOpenMpSpinning(std::min<int>(openMpSpinning(), usualSpinning.count()));
  return *teams.emplace_back(std::make_unique<Team>(threads));
}

/// Alone: everything in order.
void runAlone(SteppedWork &work) {
  for (size_t step = 0; step < work.steps(); ++step) {
    for (int64_t task = 0, tasks = work.tasks(step); task < tasks; ++task)
      work.run(step, task, 0);
    if (!work.completed(step))
      return;
  }
}

} // namespace

void kernelforge::runSteps(int threads, SteppedWork &work) {
  if (threads <= 1 || isMember)
    runAlone(work);
  else
    teamOfThisThread(threads).runSteps(work);
}

void kernelforge::runTeam(int threads, const std::function<void(int index, int team)> &member) {
  if (threads <= 1 || isMember)
    member(0, 1);
  else
    teamOfThisThread(threads).runAll(member);
}

BoundTeam::BoundTeam(int threads, std::span<const int> cpus) {
  if (static_cast<size_t>(threads) > cpus.size())
    return;
  std::atomic<bool> all{true};
  before.resize(static_cast<size_t>(threads));
  runTeam(threads, [&](int index, int team) {
    const auto i = static_cast<size_t>(index);
    before[i] = usableCpus();
    if (team != threads || (index > 0 && !stayOnCpus(cpus.subspan(i, 1))))
      all = false;
  });
  bound = all;
  if (!bound)
    release();
}

BoundTeam::~BoundTeam() {
  if (bound)
    release();
}

void BoundTeam::release() {
  runTeam(static_cast<int>(before.size()), [&](int index, int) {
    if (index > 0)
      stayOnCpus(before[static_cast<size_t>(index)]);
  });
}

BoundCaller::BoundCaller(int cpu) {
  if (cpu < 0)
    return;
  before = usableCpus();
  stayOnCpus(std::span(&cpu, 1));
}

BoundCaller::~BoundCaller() {
  if (!before.empty())
    stayOnCpus(before);
}

ShortSpinning::ShortSpinning(int milliseconds) : before(spinning), openMpBefore(openMpSpinning()) {
  spinning = std::min(spinning, std::chrono::milliseconds(milliseconds));
  setOpenMpSpinning(std::min(openMpBefore, milliseconds));
}

ShortSpinning::~ShortSpinning() {
  spinning = before;
  setOpenMpSpinning(openMpBefore);
}
