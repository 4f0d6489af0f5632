// A decoder in plain words: what config.json, GGUF metadata and the command line's --block are
// turned into, and what ModuleBuilder makes a module of. No MLIR here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kernelforge {

enum class NormKind { Rms, Layer };
enum class ActivationKind { Silu, Gelu, GeluTanh, Relu };

/// Which dimensions of a head rotate together: i with i + d/2 (Hugging Face), or 2i with 2i + 1
/// (GGUF files of architecture llama, whose Q and K rows are permuted to match).
enum class RopePairing { HalfSplit, Interleaved };

/// Rotary embedding. `frequencyFactors` (length rotaryDim / 2, or empty) divide the frequencies:
/// every scaling rule (linear, llama3, yarn, longrope) is turned into them by the loader.
/// `magnitude` scales cos and sin (yarn's attention factor).
struct RopeDescription {
  bool present = false;
  RopePairing pairing = RopePairing::HalfSplit;
  double theta = 10000.0;
  int64_t rotaryDim = 0; ///< leading dimensions of a head that rotate; even
  std::vector<double> frequencyFactors;
  double magnitude = 1.0;
};

/// Dimensions and switches of a decoder-only transformer. Weights are named as in GGUF files
/// (token_embd.weight, blk.N.attn_q.weight, ..., output_norm.weight, output.weight); a weight
/// matrix is [out, in], row-major.
struct ModelDescription {
  std::string architecture = "llama";
  int64_t layers = 0;
  int64_t modelDim = 0;
  int64_t heads = 0;
  int64_t kvHeads = 0;
  int64_t headDim = 0;
  int64_t ffnDim = 0;
  int64_t vocabSize = 0;     ///< 0: a block without embedding and head
  int64_t contextLength = 0; ///< the longest sequence the model was made for
  NormKind norm = NormKind::Rms;
  double normEpsilon = 1e-5;
  ActivationKind activation = ActivationKind::Silu;
  bool gated = true;
  RopeDescription rope;
  bool tiedEmbeddings = false;
  bool attentionBias = false; ///< biases on q, k and v
  bool outputBias = false;    ///< bias on the attention's output projection
  bool mlpBias = false;       ///< biases on the mlp's projections
  int64_t slidingWindow = 0;  ///< 0: none; otherwise a row sees its last `slidingWindow` positions
  double attentionScale = 0;  ///< 0: 1 / sqrt(headDim)
  double attentionSoftcap = 0;
  double logitSoftcap = 0;
};

} // namespace kernelforge
