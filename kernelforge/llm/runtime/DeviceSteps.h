// Steps of decoding that end on the device: each chooses its token there and leaves what the next
// one begins with, so that the next one is submitted before the host has read the token.
#pragma once

#include "kernelforge/compiler/Session.h"
#include "kernelforge/support/Sampling.h"

#include <array>
#include <atomic>
#include <memory>
#include <span>

namespace kernelforge {

/// How tokens are chosen, by rules that stay the same for a whole text: no ids are penalised.
struct TokenRules {
  SampleSettings settings;
  int32_t topK = 0;
  uint64_t seed = 0;

  /// Whether devices go through the logits only a few times for a token: the greatest is taken, or
  /// one is drawn of few. Else the host that reads them is sooner done.
  bool areQuick() const {
    constexpr int32_t few = 256;
    return settings.sharpness == 0 || (topK > 0 && topK <= few);
  }
};

/// One sequence of a session's function whose steps choose their tokens (FunctionRange::step in
/// ir/ModuleBuilder.h, without a window). State lies twice in the device's memory, and steps go
/// from one to the other in turns.
class DeviceSteps {
public:
  /// Binds `function` to state of its own, and to caches, tables and weights as they are bound by
  /// name. Goes before the session, and before Session::reopen().
  static Expected<std::unique_ptr<DeviceSteps>> create(Session &session, std::string function,
                                                       int64_t vocabulary);
  /// Waits for steps that are under way.
  ~DeviceSteps();
  DeviceSteps(const DeviceSteps &) = delete;
  DeviceSteps &operator=(const DeviceSteps &) = delete;

  /// The next step begins with `token` at `position`. What was under way is waited for and
  /// forgotten. `context`: positions that the caches have.
  Status begin(int32_t token, int64_t position, int64_t context, const TokenRules &rules);

  /// Submits the next step. At most two are under way. `sizes` are those of the function. Errors as
  /// BoundProgram::submit().
  Status submit(std::span<const int64_t> sizes, const std::atomic<bool> *cancel);
  int underWay() const { return static_cast<int>(submitted - taken); }

  /// Waits for the oldest step that is under way: the id that it chose, -1 where no logit was a
  /// number.
  Expected<int32_t> take();

  /// Bytes of the state.
  int64_t bytes() const;

  /// The logits that the id which was taken last was chosen from. Waits for what is under way.
  Status logits(std::span<float> out);

private:
  /// What a step begins with, and the logits of the one before.
  struct State {
    BufferRef ids, positions, slots, lengths, logits;
    std::unique_ptr<BoundProgram> next; ///< the step from here to the other state
    int32_t id = 0;                     ///< `ids` on the host
    Ticket ticket = 0;                  ///< of that
  };

  explicit DeviceSteps(Session &session) : session(session) {}
  Status settle();

  Session &session;
  BufferRef sequences, table, settings, draws, limits;
  std::array<State, 2> states; ///< step n goes from n % 2 to the other
  int64_t submitted = 0, taken = 0;
};

} // namespace kernelforge
