#include "kernelforge/backend/interpreter/Operations.h"

#include "kernelforge/ir/Numerics.h"
#include "kernelforge/ir/OpCases.h"
#include "kernelforge/kernels/ReferenceElements.h"

#include <fmt/format.h>

#include <cstring>

using namespace mlir;
using namespace kernelforge::transformer;

namespace kernelforge {

namespace {

ActivationKind kindOf(Activation function) {
  switch (function) {
  case Activation::Silu:
    return ActivationKind::Silu;
  case Activation::Gelu:
    return ActivationKind::Gelu;
  case Activation::GeluTanh:
    return ActivationKind::GeluTanh;
  case Activation::Relu:
    return ActivationKind::Relu;
  }
  return ActivationKind::Silu;
}

/// Whether all of `indices` are in [0, limit).
Status checkIndices(Operation *op, const char *name, std::span<const int32_t> indices,
                    int64_t limit) {
  for (size_t r = 0; r < indices.size(); ++r)
    if (indices[r] < 0 || indices[r] >= limit)
      return refused(op, fmt::format("{}[{}] is {}, out of the range 0 to {}", name, r, indices[r],
                                     limit - 1));
  return {};
}

Status execute(MatmulOp op, OpValues &values) {
  for (auto [s, weight] : llvm::enumerate(op.getWeights())) {
    KF_TRY(auto out, values.result(op.getOutputs()[s]));
    Value bias = op.getBiases().empty() ? Value() : op.getBiases()[s];
    reference::matmul(values.rows(op.getInput()), values.weight(weight), op.getTranspose(),
                      values.vector(bias), out, values.precision(), numericsOf(op));
  }
  return {};
}

Status execute(MlpOp op, OpValues &values) {
  KF_TRY(auto out, values.result(op.getOutput()));
  reference::MlpWeights weights;
  weights.gate = values.weight(op.getGate());
  weights.up = values.weight(op.getUp());
  weights.down = values.weight(op.getDown());
  weights.gateBias = values.vector(op.getGateBias());
  weights.upBias = values.vector(op.getUpBias());
  weights.downBias = values.vector(op.getDownBias());
  weights.function = kindOf(op.getActivation());
  weights.numerics = numericsOf(op);
  reference::mlp(values.rows(op.getInput()), weights, out, values.precision());
  return {};
}

Status execute(CacheAppendOp op, OpValues &values) {
  reference::cacheAppend(values.rows(op.getValues()), values.indices(op.getSlots()),
                         values.cache(op.getCache()));
  return {};
}

/// Whether every key that a row sees has a place in the table.
Status checkTable(AttentionOp op, const reference::AttentionInputs &in) {
  for (int64_t r = 0; r < in.query.rows; ++r) {
    const auto [first, end] = in.visible(r);
    const int64_t sequence = in.sequences[r], page = in.keys.page;
    if (first >= end)
      continue;
    if (page != 0 && (end - 1) / page >= in.tableWidth)
      return refused(op, fmt::format("row {} sees position {}, but the table has {} pages of {} "
                                     "for a sequence",
                                     r, end - 1, in.tableWidth, page));
    const int64_t step = page == 0 ? end - first : page;
    for (int64_t p = first; p < end; p = p / step * step + step)
      if (in.slot(sequence, p) < 0)
        return refused(op, fmt::format("row {} sees position {} of sequence {}, which has no slot "
                                       "in the table",
                                       r, p, sequence));
  }
  return {};
}

/// Whether no length, and no position that a row sees, is above the size that bounds them.
Status checkCached(AttentionOp op, const reference::AttentionInputs &in, int64_t cached) {
  const std::string bound =
      fmt::format("above the {} of size '{}', which bounds it", cached, op.getCached()->str());
  for (size_t s = 0; s < in.lengths.size(); ++s)
    if (in.lengths[s] > cached)
      return refused(op, fmt::format("sequence {} has length {}, {}", s, in.lengths[s], bound));
  for (int64_t r = 0; r < in.query.rows; ++r)
    if (const auto [first, end] = in.visible(r); first < end && end > cached)
      return refused(op, fmt::format("row {} sees {} positions, {}", r, end, bound));
  return {};
}

Status execute(AttentionOp op, OpValues &values) {
  KF_TRY(auto out, values.result(op.getOutput()));
  reference::AttentionInputs in;
  in.query = values.rows(op.getQuery());
  in.keys = values.cache(op.getKeys());
  in.values = values.cache(op.getValues());
  in.positions = values.indices(op.getPositions());
  in.sequences = values.indices(op.getSequences());
  in.table = values.indices(op.getTable());
  in.lengths = values.indices(op.getLengths());
  in.tableWidth = static_cast<int64_t>(in.table.size() / std::max<size_t>(in.lengths.size(), 1));
  in.heads = static_cast<int64_t>(op.getHeads());
  in.scale = op.getScale().convertToDouble();
  in.causal = op.getCausal();
  in.window = static_cast<int64_t>(op.getWindow());
  in.softcap = op.getSoftcap().convertToDouble();
  in.sinks = values.vector(op.getSinks());
  in.numerics = numericsOf(op);
  KF_CHECK(checkIndices(op, "sequences", in.sequences, static_cast<int64_t>(in.lengths.size())));
  if (op.getCached())
    KF_CHECK(checkCached(op, in, values.size(*op.getCached())));
  KF_CHECK(checkTable(op, in));
  reference::attention(in, out, values.precision());
  return {};
}

Status execute(EmbeddingOp op, OpValues &values) {
  WeightView table = values.weight(op.getTable());
  KF_CHECK(checkIndices(op, "ids", values.indices(op.getIds()), table.rows));
  KF_TRY(auto out, values.result(op.getOutput()));
  reference::embedding(values.indices(op.getIds()), table, op.getScale().convertToDouble(), out,
                       values.precision());
  return {};
}

Status execute(GatherRowsOp op, OpValues &values) {
  reference::Rows input = values.rows(op.getInput());
  KF_CHECK(checkIndices(op, "rows", values.indices(op.getRows()), input.rows));
  KF_TRY(auto out, values.result(op.getOutput()));
  reference::gatherRows(input, values.indices(op.getRows()), out);
  return {};
}

Status execute(RmsNormOp op, OpValues &values) {
  KF_TRY(auto out, values.result(op.getOutput()));
  const auto heads = static_cast<int64_t>(op.getHeads());
  reference::rmsNorm(reference::headsOf(values.rows(op.getInput()), heads),
                     values.vector(op.getWeight()), op.getEpsilon().convertToDouble(),
                     reference::headsOf(out, heads), values.precision(),
                     op.getOffset().convertToDouble());
  return {};
}

Status execute(LayerNormOp op, OpValues &values) {
  KF_TRY(auto out, values.result(op.getOutput()));
  const auto heads = static_cast<int64_t>(op.getHeads());
  reference::layerNorm(reference::headsOf(values.rows(op.getInput()), heads),
                       values.vector(op.getWeight()), values.vector(op.getBias()),
                       op.getEpsilon().convertToDouble(), reference::headsOf(out, heads),
                       values.precision(), op.getOffset().convertToDouble());
  return {};
}

Status execute(RopeOp op, OpValues &values) {
  reference::Rows table = values.rows(op.getTable());
  KF_CHECK(checkIndices(op, "positions", values.indices(op.getPositions()), table.rows));
  KF_TRY(auto out, values.result(op.getOutput()));
  auto pairing =
      op.getPairing() == Pairing::HalfSplit ? RopePairing::HalfSplit : RopePairing::Interleaved;
  reference::rope(values.rows(op.getInput()), values.indices(op.getPositions()), table,
                  static_cast<int64_t>(op.getHeadDim()), pairing, out, values.precision());
  return {};
}

Status execute(SoftmaxOp op, OpValues &values) {
  KF_TRY(auto out, values.result(op.getOutput()));
  reference::softmax(values.rows(op.getInput()), out, values.precision());
  return {};
}

/// For elementwise operations of one input: `function` of one element, a float or a double.
template <typename Op, typename Function>
Status mapElements(Op op, OpValues &values, const Function &function) {
  KF_TRY(auto out, values.result(op.getOutput()));
  reference::mapElements(values.rows(op.getInput()), out, values.precision(), function);
  return {};
}

Status execute(CastOp op, OpValues &values) {
  return mapElements(op, values, [](auto x) { return x; }); // rounded as the result's type is
}

Status execute(ActivationOp op, OpValues &values) {
  const ActivationKind function = kindOf(op.getFunction());
  return mapElements(op, values, [&](auto x) { return reference::activated(x, function); });
}

Status execute(AddOp op, OpValues &values) {
  KF_TRY(auto out, values.result(op.getOutput()));
  reference::add(values.rows(op.getLhs()), values.rows(op.getRhs()), out);
  return {};
}

Status execute(MulOp op, OpValues &values) {
  KF_TRY(auto out, values.result(op.getOutput()));
  reference::mul(values.rows(op.getLhs()), values.rows(op.getRhs()), out);
  return {};
}

Status execute(ScaleOp op, OpValues &values) {
  KF_TRY(auto out, values.result(op.getOutput()));
  reference::scale(values.rows(op.getInput()), op.getFactor().convertToDouble(),
                   op.getSoftcap().convertToDouble(), out, values.precision());
  return {};
}

/// Results of i32; they are known once all of them are computed.
class IndexResults {
public:
  explicit IndexResults(Frame &frame) : frame(frame) {}

  Expected<std::span<int32_t>> make(Value value) {
    KF_TRY(Tensor tensor,
           frame.allocate(value.getDefiningOp(), cast<RankedTensorType>(value.getType())));
    const std::span<int32_t> memory(reinterpret_cast<int32_t *>(tensor.data),
                                    static_cast<size_t>(tensor.elements()));
    made.emplace_back(value, std::move(tensor));
    return memory;
  }
  void finish() {
    for (auto &[value, tensor] : made)
      frame.set(value, std::move(tensor));
  }

private:
  Frame &frame;
  std::vector<std::pair<Value, Tensor>> made;
};

Status execute(SampleOp op, Frame &frame) {
  OpValues values(frame, op);
  reference::SampleInputs in;
  in.logits = values.rows(op.getLogits());
  in.settings = values.rows(op.getSettings());
  in.draws = values.indices(op.getDraws());
  in.positions = values.indices(op.getPositions());
  if (op.getRecent()) {
    in.recent = values.indices(op.getRecent());
    in.window = frame.tensor(op.getRecent()).width;
  }
  IndexResults results(frame);
  KF_TRY(std::span<int32_t> ids, results.make(op.getIds()));
  reference::sample(in, ids);
  results.finish();
  return {};
}

Status execute(AdvanceOp op, Frame &frame) {
  OpValues values(frame, op);
  reference::StepState state;
  state.ids = values.indices(op.getIds());
  state.positions = values.indices(op.getPositions());
  state.slots = values.indices(op.getSlots());
  state.sequences = values.indices(op.getSequences());
  state.table = values.indices(op.getTable());
  state.tableWidth = frame.tensor(op.getTable()).width;
  state.lengths = values.indices(op.getLengths());
  state.limits = values.indices(op.getLimits());
  state.page = static_cast<int64_t>(op.getPage());
  KF_CHECK(
      checkIndices(op, "sequences", state.sequences, static_cast<int64_t>(state.lengths.size())));
  IndexResults results(frame);
  reference::NextStep next;
  KF_TRY(next.ids, results.make(op.getNextIds()));
  KF_TRY(next.positions, results.make(op.getNextPositions()));
  KF_TRY(next.slots, results.make(op.getNextSlots()));
  KF_TRY(next.lengths, results.make(op.getNextLengths()));
  if (op.getRecent()) {
    state.recent = values.indices(op.getRecent());
    state.window = frame.tensor(op.getRecent()).width;
    KF_TRY(next.recent, results.make(op.getNextRecent()));
  }
  reference::advance(state, next);
  results.finish();
  return {};
}

/// The one operation that gives bytes of a weight instead of rows of numbers.
Status execute(PackOp op, Frame &frame) {
  const Tensor &input = frame.tensor(op.getInput());
  KF_TRY(Tensor output, frame.allocate(op, cast<RankedTensorType>(op.getOutput().getType())));
  if (input.layout == output.layout)
    std::memcpy(output.data, input.data, *Frame::bytes(input));
  else
    packWeight(output.layout, input.element, input.data, input.rows, input.width, output.data);
  frame.set(op.getOutput(), std::move(output));
  return {};
}

/// The cases above, by operation.
struct Cases {
  Frame &frame;

  template <typename Op>
    requires requires(Op op, OpValues &values) { execute(op, values); }
  Status operator()(Op op) {
    OpValues values(frame, op);
    KF_CHECK(execute(op, values));
    values.finish();
    return {};
  }
  template <typename Op>
    requires requires(Op op, Frame &frame) { execute(op, frame); }
  Status operator()(Op op) {
    return execute(op, frame);
  }
};

/// An operation that computes and has no case does not compile.
template <typename... Ops> constexpr bool checkCases(OpList<Ops...>) {
  static_assert(
      ((!std::is_base_of_v<ComputeOp::Trait<Ops>, Ops> || std::is_invocable_v<Cases &, Ops>) &&
       ...),
      "an operation has no reference semantics: write its execute()");
  return true;
}
static_assert(checkCases(DialectOps()));

} // namespace

bool canExecute(Operation *op) { return hasCase<Cases>(op); }

Status executeOp(Operation *op, Frame &frame) {
  if (std::optional<Status> status = callCase<Status>(Cases{frame}, op))
    return std::move(*status);
  return refused(op, "the reference backend does not know it");
}

} // namespace kernelforge
