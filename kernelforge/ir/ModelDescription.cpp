#include "kernelforge/ir/ModelDescription.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

namespace kernelforge {

size_t ModelDescription::addRope(const RopeDescription &rope) {
  const auto known = std::find(ropes.begin(), ropes.end(), rope);
  if (known != ropes.end())
    return static_cast<size_t>(known - ropes.begin());
  ropes.push_back(rope);
  return ropes.size() - 1;
}

std::string ropeInputName(size_t index) {
  return index == 0 ? "rope" : fmt::format("rope.{}", index);
}

namespace {

/// Adds weights in the order of use; reads as a list of names and shapes.
class SlotList {
public:
  explicit SlotList(const ModelDescription &description) : d(description) {}

  std::vector<WeightSlot> make() {
    if (d.vocabSize != 0) {
      add("token_embd", ".weight", {d.vocabSize, d.modelDim}, WeightKind::Table);
      if (d.learnedPositions)
        add("position_embd", ".weight", {d.contextLength, d.modelDim}, WeightKind::Table);
    }
    for (const LayerDescription &layer : d.layers) {
      ++current;
      addLayer(layer);
    }
    current = -1;
    if (d.vocabSize != 0) {
      norm("output_norm", d.finalNorm);
      if (!d.tiedHead)
        add("output", ".weight", {d.vocabSize, d.modelDim}, WeightKind::Matrix);
    }
    return std::move(slots);
  }

private:
  void addLayer(const LayerDescription &layer) {
    const AttentionDescription &a = layer.attention;
    const MlpDescription &m = layer.mlp;
    norm("attn_norm", layer.beforeAttention);
    linear("attn_q", a.queryDim(), d.modelDim, a.bias);
    linear("attn_k", a.kvDim(), d.modelDim, a.bias);
    linear("attn_v", a.kvDim(), d.modelDim, a.bias);
    norm("attn_q_norm", a.queryNorm, a.headDim);
    norm("attn_k_norm", a.keyNorm, a.headDim);
    if (a.sinks)
      add("attn_sinks", ".weight", {a.heads}, WeightKind::Score);
    linear("attn_output", d.modelDim, a.queryDim(), a.outputBias);
    norm("post_attention_norm", layer.afterAttention);
    norm("ffn_norm", layer.beforeMlp);
    if (m.gated)
      linear("ffn_gate", m.width, d.modelDim, m.bias);
    linear("ffn_up", m.width, d.modelDim, m.bias);
    linear("ffn_down", d.modelDim, m.width, m.bias);
    norm("post_ffw_norm", layer.afterMlp);
  }

  void norm(std::string_view part, const std::optional<NormDescription> &norm) {
    this->norm(part, norm, d.modelDim);
  }

  void norm(std::string_view part, const std::optional<NormDescription> &norm, int64_t width) {
    if (!norm)
      return;
    add(part, ".weight", {width}, WeightKind::Norm);
    slots.back().offset = norm->offset;
    if (norm->kind == NormKind::Layer)
      add(part, ".bias", {width}, WeightKind::Bias);
  }

  void linear(std::string_view part, int64_t out, int64_t in, bool bias) {
    add(part, ".weight", {out, in}, WeightKind::Matrix);
    if (bias)
      add(part, ".bias", {out}, WeightKind::Bias);
  }

  void add(std::string_view part, std::string_view suffix, std::vector<int64_t> shape,
           WeightKind kind) {
    const std::string layer = current < 0 ? "" : fmt::format("blk.{}.", current);
    slots.push_back(
        {fmt::format("{}{}{}", layer, part, suffix), std::move(shape), kind, current, part});
  }

  const ModelDescription &d;
  std::vector<WeightSlot> slots;
  int64_t current = -1; ///< layer
};

std::string describeDefect(const ModelDescription &d, const AttentionDescription &a) {
  if (a.heads % a.kvHeads != 0)
    return fmt::format("{} attention heads are no multiple of {} key/value heads", a.heads,
                       a.kvHeads);
  if (!a.rope)
    return "";
  if (*a.rope >= d.ropes.size())
    return fmt::format("RoPE table {} is used, there are {}", *a.rope, d.ropes.size());
  const int64_t rotaryDim = d.ropes[*a.rope].rotaryDim;
  if (a.headDim % 2 != 0)
    return fmt::format("the head dimension {} is odd, and RoPE rotates pairs", a.headDim);
  if (rotaryDim % 2 != 0 || rotaryDim > a.headDim)
    return fmt::format("{} rotary dimensions must be even and at most the head dimension {}",
                       rotaryDim, a.headDim);
  return "";
}

std::string describeDefect(const RopeDescription &rope) {
  for (const auto *factors : {&rope.frequencyFactors, &rope.longFactors}) {
    if (!factors->empty() && static_cast<int64_t>(factors->size()) != rope.rotaryDim / 2)
      return fmt::format("there are {} RoPE frequency factors, {} are needed", factors->size(),
                         rope.rotaryDim / 2);
    for (double factor : *factors)
      if (!std::isfinite(factor) || factor <= 0)
        return fmt::format("the RoPE frequency factor {} is not finite and above 0", factor);
  }
  return "";
}

} // namespace

std::vector<WeightSlot> weightSlots(const ModelDescription &description) {
  return SlotList(description).make();
}

std::string describeDefect(const ModelDescription &description) {
  for (const LayerDescription &layer : description.layers)
    if (std::string defect = describeDefect(description, layer.attention); !defect.empty())
      return defect;
  for (const RopeDescription &rope : description.ropes)
    if (std::string defect = describeDefect(rope); !defect.empty())
      return defect;
  return "";
}

} // namespace kernelforge
