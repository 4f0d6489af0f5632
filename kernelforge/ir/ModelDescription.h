// A decoder in plain words: what config.json, GGUF metadata and the command line's --block are
// turned into, and what ModuleBuilder makes a module of. No MLIR here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge {

enum class NormKind { Rms, Layer };
enum class ActivationKind { Silu, Gelu, GeluTanh, Relu };

/// Which dimensions of a head rotate together: i with i + d/2 (Hugging Face), or 2i with 2i + 1
/// (GGUF files of architecture llama, whose Q and K rows are permuted to match).
enum class RopePairing { HalfSplit, Interleaved };

/// A norm over a row, or over each head of one. A layer norm has a bias, an RMS norm has none.
struct NormDescription {
  NormKind kind = NormKind::Rms;
  double epsilon = 1e-5;
  double offset = 0; ///< it multiplies by offset + weight
  bool operator==(const NormDescription &) const = default;
};

/// One table of rotary embedding. `frequencyFactors` (length rotaryDim / 2, or empty) divide the
/// frequencies: every scaling rule (linear, llama3, yarn, longrope, dynamic) is turned into them by
/// the loader. `magnitude` scales cos and sin (yarn's attention factor).
struct RopeDescription {
  RopePairing pairing = RopePairing::HalfSplit;
  double theta = 10000.0;
  int64_t rotaryDim = 0; ///< leading dimensions of a head that rotate; even
  std::vector<double> frequencyFactors = {};
  double magnitude = 1.0;
  /// A table of more positions than these follows the rule below; 0: it has none.
  int64_t originalContext = 0;
  std::vector<double> longFactors = {}; ///< in place of frequencyFactors (longrope)
  double dynamicFactor = 0; ///< theta grows with the positions (dynamic NTK); 0: it does not
  bool operator==(const RopeDescription &) const = default;
};

/// Causal attention of one layer. Each key/value head serves heads / kvHeads query heads.
struct AttentionDescription {
  int64_t heads = 0;
  int64_t kvHeads = 0;
  int64_t headDim = 0;
  bool bias = false;       ///< biases on q, k and v
  bool outputBias = false; ///< bias on the output projection
  int64_t window = 0;      ///< 0: none; otherwise a row sees its last `window` positions
  double scale = 0;        ///< of the scores; 0: 1 / sqrt(headDim)
  double softcap = 0;      ///< of the scores; 0: none
  /// Of each head of the queries and of the keys, before they rotate; one weight for all heads.
  std::optional<NormDescription> queryNorm = std::nullopt, keyNorm = std::nullopt;
  /// A score for each query head takes part in the softmax, as a key whose value is 0.
  bool sinks = false;
  std::optional<size_t> rope = std::nullopt; ///< index into ModelDescription::ropes; nothing: none

  int64_t queryDim() const { return heads * headDim; }
  int64_t kvDim() const { return kvHeads * headDim; }
  bool operator==(const AttentionDescription &) const = default;
};

/// Feed-forward part of one layer: down(act(gate(x)) * up(x)), or down(act(up(x))) without a gate.
struct MlpDescription {
  int64_t width = 0; ///< of what is between up and down
  ActivationKind activation = ActivationKind::Silu;
  bool gated = true;
  bool bias = false; ///< on each projection
  bool operator==(const MlpDescription &) const = default;
};

/// One layer: x += after(attention(before(x))), then x += after(mlp(before(x))).
struct LayerDescription {
  std::optional<NormDescription> beforeAttention = NormDescription{};
  AttentionDescription attention;
  std::optional<NormDescription> afterAttention = std::nullopt;
  std::optional<NormDescription> beforeMlp = NormDescription{};
  MlpDescription mlp;
  std::optional<NormDescription> afterMlp = std::nullopt;
  bool operator==(const LayerDescription &) const = default;
};

/// A decoder-only transformer: its layers, and the frame around them. Equal layers are stated by
/// `layers.assign(count, layer)`; their kernels are compiled once.
struct ModelDescription {
  std::string architecture = "llama"; ///< its family's name, see llm/architectures
  int64_t modelDim = 0;               ///< width of the rows between layers
  int64_t vocabSize = 0;              ///< 0: a block without embedding, final norm and head
  int64_t contextLength = 0;          ///< the longest sequence the model was made for
  double embeddingScale = 1;          ///< of the rows of the embedding
  bool learnedPositions = false;      ///< a row of a table is added by position, at the start
  std::vector<RopeDescription> ropes; ///< the tables that layers read
  std::vector<LayerDescription> layers;
  NormDescription finalNorm;
  bool tiedHead = false;   ///< the head is the embedding
  double logitSoftcap = 0; ///< 0: none

  /// Index of a table like this one, added where there is none yet.
  size_t addRope(const RopeDescription &rope);
};

/// The name that the table of that index is bound by: "rope", "rope.1", ...
std::string ropeInputName(size_t index);

/// What a weight is, which says how it is read.
enum class WeightKind {
  Table,  ///< a matrix whose rows are looked up (a tied head multiplies by it, too)
  Matrix, ///< [out, in], multiplied by
  Norm,   ///< what a norm multiplies by
  Bias,   ///< added
  Score,  ///< of a key that stands in no cache
};

/// A weight that a model needs. Names are those of GGUF files ("blk.0.attn_q.weight"); a matrix is
/// row-major and may be quantized, a vector may not.
struct WeightSlot {
  std::string name;
  std::vector<int64_t> shape; ///< outermost first: [out, in], or [n] of a vector
  WeightKind kind = WeightKind::Matrix;
  int64_t layer = -1; ///< -1: of the frame
  std::string_view part =
      {};            ///< of the layer or the frame: "attn_q", "output_norm"; static storage
  double offset = 0; ///< of a norm: what it adds before it multiplies

  bool isMatrix() const { return kind == WeightKind::Table || kind == WeightKind::Matrix; }
};

/// All weights of a model in the order of use: the only list of them. With vocabSize 0 there is
/// neither embedding nor final norm nor head; with a tied head there is no output.weight.
std::vector<WeightSlot> weightSlots(const ModelDescription &description);

/// Relations between dimensions that everyone who makes a description checks: heads divide by
/// kvHeads, headDim and rotaryDim are even, ...; empty, or what is wrong in a sentence.
std::string describeDefect(const ModelDescription &description);

} // namespace kernelforge
