// How long each launch of a run takes by the GPU's clock.
#include "kernelforge/backend/cuda/BoundProgram.h"

#include <algorithm>
#include <cmath>

namespace kernelforge::cuda {

namespace {

constexpr const char *cannotTime = "run cannot be timed";

/// How often more a launch is run in the second of its graphs: what a graph and its events cost is
/// the same in both, and goes with their difference.
constexpr int again = 8;

struct Range {
  CUdeviceptr begin = 0;
  int64_t bytes = 0;

  bool overlaps(const Range &other) const {
    return begin < other.begin + CUdeviceptr(other.bytes) &&
           other.begin < begin + CUdeviceptr(bytes);
  }
};

} // namespace

/// Whether a launch gives the same when it runs again: it writes nothing that it reads.
bool CudaBoundProgram::isRepeatable(int launch) const {
  std::vector<Range> read, written;
  const Launch &one = program->launches[launch];
  for (const Call &call : calls) {
    if (call.launch != launch)
      continue;
    for (const Parameter &parameter : call.phase->parameters) {
      if (parameter.kind != Parameter::Kind::Buffer && parameter.kind != Parameter::Kind::Map)
        continue;
      const int buffer = one.buffers[parameter.index];
      const Range range{addresses[buffer], capacities[buffer]};
      if (parameter.access != Access::Write)
        read.push_back(range);
      if (parameter.access != Access::Read)
        written.push_back(range);
    }
  }
  return std::ranges::none_of(written, [&](const Range &to) {
    return std::ranges::any_of(read, [&](const Range &from) { return from.overlaps(to); });
  });
}

Status CudaBoundProgram::launchOne(int launch, int times, CUstream stream) {
  for (int time = 0; time < times; ++time)
    for (Call &call : calls)
      if (call.launch == launch)
        KF_CHECK(this->launch(call, stream));
  return {};
}

/// A launch in a graph, so that no time of the host's is in what events tell.
Status CudaBoundProgram::timeOne(int launch, int times, CUevent begin, CUevent end) {
  KF_TRY(const CUgraphExec graph,
         queue->record([&](CUstream stream) { return launchOne(launch, times, stream); }));
  const Api &api = context->api();
  const auto ticket = queue->enqueue([&](CUstream stream) -> Status {
    KF_CHECK(context->check(api.cuEventRecord(begin, stream), cannotTime, program->function));
    KF_CHECK(context->check(api.cuGraphLaunch(graph, stream), cannotTime, program->function));
    return context->check(api.cuEventRecord(end, stream), cannotTime, program->function);
  });
  // What is in flight of it is finished first: the driver sees to that.
  const Context::Current current(*context);
  api.cuGraphExecDestroy(graph);
  return ticket.transform([](Ticket) {});
}

Expected<std::vector<int64_t>> CudaBoundProgram::runTimed(std::span<const int64_t> sizes,
                                                          const SubmitOptions &options) {
  KF_CHECK(checkCancelled(options));
  KF_CHECK(prepare(sizes));
  std::vector<std::shared_ptr<Event>> events;
  for (int i = 0; i < 4; ++i) {
    const Context::Current current(*context);
    KF_TRY(std::shared_ptr<Event> event, Event::make(context, /*isTimed=*/true));
    events.push_back(std::move(event));
  }
  auto between = [&](int begin, int end) -> Expected<double> {
    float milliseconds = 0;
    const Context::Current current(*context);
    KF_CHECK(context->check(
        context->api().cuEventElapsedTime(&milliseconds, events[begin]->get(), events[end]->get()),
        cannotTime, program->function));
    return double(milliseconds) * 1e6;
  };
  KF_CHECK(queue->warmUp());
  std::vector<int64_t> nanoseconds;
  for (int launch = 0; launch < int(program->launches.size()); ++launch) {
    KF_CHECK(checkCancelled(options));
    const bool repeats = isRepeatable(launch);
    KF_CHECK(timeOne(launch, 1, events[0]->get(), events[1]->get()));
    if (repeats)
      KF_CHECK(timeOne(launch, 1 + again, events[2]->get(), events[3]->get()));
    KF_TRY(const Ticket ticket, queue->enqueue([](CUstream) { return Status(); }));
    KF_CHECK(queue->wait(ticket));
    KF_TRY(const double once, between(0, 1));
    double each = once;
    if (repeats) {
      KF_TRY(const double often, between(2, 3));
      if (often > once)
        each = (often - once) / again;
    }
    nanoseconds.push_back(std::llround(each));
  }
  KF_TRY(const Ticket ticket,
         queue->enqueue([&](CUstream stream) { return copyResults(sizes, stream); }));
  KF_CHECK(queue->wait(ticket));
  queue->noteTimed();
  return nanoseconds;
}

} // namespace kernelforge::cuda
