#include "kernelforge/llm/runtime/DeviceSteps.h"

#include <map>
#include <vector>

using namespace kernelforge;

namespace {

template <typename T> std::span<const std::byte> bytesOf(const T &values) {
  return std::as_bytes(std::span(values));
}

} // namespace

Expected<std::unique_ptr<DeviceSteps>> DeviceSteps::create(Session &session, std::string function,
                                                           int64_t vocabulary) {
  std::unique_ptr<DeviceSteps> steps(new DeviceSteps(session));
  auto allocate = [&](BufferRef &buffer, int64_t words) -> Status {
    KF_TRY(buffer, session.device().allocate(words * 4, MemoryUse::Transfer));
    return {};
  };
  for (BufferRef *each : {&steps->sequences, &steps->table, &steps->limits})
    KF_CHECK(allocate(*each, 1));
  KF_CHECK(allocate(steps->settings, std::tuple_size_v<decltype(SampleSettings().row())>));
  KF_CHECK(allocate(steps->draws, 3));
  for (State &state : steps->states) {
    for (BufferRef *each : {&state.ids, &state.positions, &state.slots, &state.lengths})
      KF_CHECK(allocate(*each, 1));
    KF_CHECK(allocate(state.logits, vocabulary));
  }
  for (size_t i = 0; i < 2; ++i) {
    State &from = steps->states[i];
    const State &to = steps->states[1 - i];
    const std::map<std::string, BufferRef> arguments = {
        {"ids", from.ids},
        {"positions", from.positions},
        {"slots", from.slots},
        {"lengths", from.lengths},
        {"sequences", steps->sequences},
        {"table", steps->table},
        {"settings", steps->settings},
        {"draws", steps->draws},
        {"limits", steps->limits},
    };
    KF_TRY(from.next,
           session.bindOnDevice(function, arguments,
                                {to.ids, to.positions, to.slots, to.lengths, to.logits}));
  }
  return steps;
}

/// Copies to the host write into states.
DeviceSteps::~DeviceSteps() { (void)settle(); }

Status DeviceSteps::settle() {
  // Step n ends in state (n + 1) % 2.
  const Ticket last = states[submitted % 2].ticket;
  const bool isIdle = submitted == taken;
  taken = submitted;
  return isIdle ? Status() : session.device().wait(last);
}

Status DeviceSteps::begin(int32_t token, int64_t position, int64_t context,
                          const TokenRules &rules) {
  KF_CHECK(settle());
  submitted = taken = 0;
  Device &device = session.device();
  auto upload = [&](const BufferRef &buffer, int64_t value) -> Status {
    const std::array<int32_t, 1> word = {static_cast<int32_t>(value)};
    KF_CHECK(device.upload(bytesOf(word), buffer));
    return {};
  };
  State &first = states[0];
  for (const auto &[buffer, value] :
       {std::pair(&first.ids, int64_t(token)), std::pair(&first.positions, position),
        std::pair(&first.slots, position), std::pair(&first.lengths, position + 1),
        std::pair(&sequences, int64_t(0)), std::pair(&table, int64_t(0)),
        std::pair(&limits, context)})
    KF_CHECK(upload(*buffer, value));
  const std::array<float, 5> row = rules.settings.row();
  KF_CHECK(device.upload(bytesOf(row), settings));
  const std::array<int32_t, 3> draw = {rules.topK, static_cast<int32_t>(rules.seed),
                                       static_cast<int32_t>(rules.seed >> 32)};
  KF_CHECK(device.upload(bytesOf(draw), draws));
  return {};
}

Status DeviceSteps::submit(std::span<const int64_t> sizes, const std::atomic<bool> *cancel) {
  State &from = states[submitted % 2], &to = states[1 - submitted % 2];
  KF_CHECK(from.next->submit(sizes, {cancel}));
  KF_TRY(to.ticket, session.device().download(
                        to.ids, std::as_writable_bytes(std::span<int32_t, 1>(&to.id, 1))));
  ++submitted;
  return {};
}

Expected<int32_t> DeviceSteps::take() {
  const State &end = states[1 - taken % 2];
  KF_CHECK(session.device().wait(end.ticket));
  ++taken;
  return end.id;
}

int64_t DeviceSteps::bytes() const {
  int64_t bytes = 0;
  for (const BufferRef *each : {&sequences, &table, &settings, &draws, &limits})
    bytes += each->bytes;
  for (const State &state : states)
    for (const BufferRef *each :
         {&state.ids, &state.positions, &state.slots, &state.lengths, &state.logits})
      bytes += each->bytes;
  return bytes;
}

Status DeviceSteps::logits(std::span<float> out) {
  const BufferRef &last = states[taken % 2].logits;
  KF_CHECK(settle());
  KF_TRY(const Ticket ticket, session.device().download(last, std::as_writable_bytes(out)));
  return session.device().wait(ticket);
}
