// A user's program: describe a transformer block, compile it for this machine, run it on a few
// rows, and print the kernels that it became with the schedule and the time of each.
#include "kernelforge/compiler/Session.h"
#include "kernelforge/compiler/Targets.h"
#include "kernelforge/ir/ModuleBuilder.h"

#include <cmath>
#include <cstdio>
#include <random>

using namespace kernelforge;

/// Numbers of both signs, of the order of `scale`.
static std::vector<float> randomNumbers(size_t count, float scale) {
  static std::mt19937 random(1);
  std::vector<float> numbers(count);
  for (float &number : numbers)
    number = scale * (static_cast<float>(random()) * 0x1p-31f - 1.0f);
  return numbers;
}

static Status run() {
  // 1. What the block is: grouped-query attention and a gated feed-forward layer.
  ModelDescription block;
  block.modelDim = 256;
  block.contextLength = 128;
  LayerDescription layer;
  AttentionDescription &attention = layer.attention;
  attention.heads = 4;
  attention.kvHeads = 2;
  attention.headDim = 64;
  attention.rope = block.addRope({.rotaryDim = attention.headDim});
  layer.mlp.width = 512;
  block.layers = {layer};

  // 2. A session for this machine; its module has one function for runs of 2 to 32 rows.
  SessionOptions options;
  KF_TRY(options.target, parseTarget(targetKinds().front(), "", ""));
  KF_TRY(std::unique_ptr<Session> session, Session::create(options));
  const FunctionRange range{"forward", 2, 32, 1, 1};
  KF_CHECK(session->compile(buildDecoder(&session->context(), block, range,
                                         [](llvm::StringRef) { return ElementType::F32; })));

  // 3. Weights, by name. The session keeps a copy of what it brings into another layout, and reads
  //    the rest where it is.
  std::vector<std::vector<float>> weights;
  for (const WeightSlot &slot : weightSlots(block)) {
    size_t count = 1;
    for (int64_t extent : slot.shape)
      count *= static_cast<size_t>(extent);
    weights.push_back(randomNumbers(
        count, slot.isMatrix() ? 1 / std::sqrt(static_cast<float>(slot.shape[1])) : 1.0f));
    KF_CHECK(
        session->bindWeight(slot.name, ElementType::F32, std::as_bytes(std::span(weights.back()))));
  }

  // 4. Inputs: eight rows of one sequence, and the caches that they are appended to.
  const int64_t rows = 8, context = block.contextLength, half = attention.headDim / 2;
  std::vector<float> x = randomNumbers(static_cast<size_t>(rows * block.modelDim), 1);
  std::vector<int32_t> positions(rows), slots(rows), sequences(rows), table{0}, lengths{rows};
  for (int32_t row = 0; row < rows; ++row)
    positions[row] = slots[row] = row;
  std::vector<float> rope(static_cast<size_t>(context * attention.headDim));
  for (int64_t p = 0; p < context; ++p)
    for (int64_t i = 0; i < half; ++i) {
      const double angle = double(p) * std::pow(block.ropes[0].theta, -double(i) / double(half));
      rope[p * attention.headDim + i] = static_cast<float>(std::cos(angle));
      rope[p * attention.headDim + half + i] = static_cast<float>(std::sin(angle));
    }
  const auto cacheSize = static_cast<size_t>(context * attention.kvDim());
  std::vector<float> keys(cacheSize), values(cacheSize);
  KF_CHECK(session->bind("x", std::as_writable_bytes(std::span(x))));
  KF_CHECK(session->bind("positions", std::as_writable_bytes(std::span(positions))));
  KF_CHECK(session->bind("slots", std::as_writable_bytes(std::span(slots))));
  KF_CHECK(session->bind("sequences", std::as_writable_bytes(std::span(sequences))));
  KF_CHECK(session->bind("table", std::as_writable_bytes(std::span(table))));
  KF_CHECK(session->bind("lengths", std::as_writable_bytes(std::span(lengths))));
  KF_CHECK(session->bind("rope", std::as_writable_bytes(std::span(rope))));
  KF_CHECK(session->bind("cache.0.k", std::as_writable_bytes(std::span(keys))));
  KF_CHECK(session->bind("cache.0.v", std::as_writable_bytes(std::span(values))));

  // 5. Run: sizes are tokens, sequences, context and a bound of the lengths, in the order of the
  //    function's arguments.
  std::vector<float> y(x.size());
  const std::span<std::byte> result = std::as_writable_bytes(std::span(y));
  const int64_t sizes[] = {rows, 1, context, context};
  std::vector<int64_t> nanoseconds;
  RunOptions timed;
  timed.launchNanoseconds = &nanoseconds;
  KF_CHECK(session->run("forward", sizes, {&result, 1}, timed));

  // 6. What happened: every launch with its kernel, schedule and time.
  const Program &program = *session->program("forward");
  for (size_t i = 0; i < program.launches.size(); ++i) {
    const Artifact &kernel = program.artifacts[program.launches[i].artifact];
    std::printf("%-44s %7.1f us  %s\n", kernel.kernel.c_str(), double(nanoseconds[i]) / 1e3,
                kernel.schedule.c_str());
  }
  double sum = 0;
  for (float value : y)
    sum += double(value) * value;
  std::printf("root mean square of the result: %.4f\n", std::sqrt(sum / double(y.size())));
  if (!std::isfinite(sum) || sum == 0)
    return failed("example gave nonsense", "forward", "its result is not a finite number");
  return {};
}

int main() {
  if (Status status = run(); !status) {
    std::fprintf(stderr, "%s\n", status.error().line().c_str());
    return static_cast<int>(status.error().kind);
  }
  return 0;
}
