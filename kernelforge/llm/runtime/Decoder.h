// A language model ready to run: weights bound, programs compiled, a key/value cache in memory.
// The forward pass is the compiled module; this only feeds it rows.
#pragma once

#include "kernelforge/compiler/Session.h"
#include "kernelforge/llm/ModelFile.h"
#include "kernelforge/llm/runtime/DeviceSteps.h"
#include "kernelforge/llm/runtime/KernelTimes.h"
#include "kernelforge/support/PageMemory.h"

#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace kernelforge {

struct DecoderOptions {
  SessionOptions session;
  int64_t context = 0;        ///< positions of the cache; 0: the smaller of the model's and 4,096
  int64_t prefillChunk = 512; ///< most rows of one prefill run; 1: token by token
  bool allLogits = false;     ///< programs that give the logits of every row (scoring)
  /// A program whose steps choose their tokens, where the device has memory of its own: there the
  /// host need not wait for a token before it submits the next step.
  bool deviceSteps = false;
  /// Of keys and values in the cache: f32, f16, bf16 or q8_0.
  ElementType cacheType = ElementType::F32;
  /// Of the operations that can have them (setNumerics in ir/Numerics.h).
  ChosenNumerics numerics;
  /// Told, while weights are bound, how many of their bytes are: a device with memory of its own
  /// copies them, and a layout packs them.
  std::function<void(int64_t done, int64_t all)> onWeights = {};
};

/// Bytes by kind, exact. What is mapped belongs to the file; the rest is ours.
struct DecoderMemory {
  int64_t mappedBytes = 0;
  int64_t packedBytes = 0;
  int64_t kvCacheBytes = 0;
  int64_t scratchBytes = 0; ///< arenas, scratch, inputs, logits
};

/// The module of a model's decoder: `decode` for one row, and `prefill` for 2 to `chunk` rows
/// (where that is more than one) with the logits of up to `outputs` of them; on request `step`,
/// which is `decode` and chooses its token (FunctionRange::step). Heads are whole numbers of the
/// cache type's blocks. Operations that can have `numerics` have them; Unusable where there is
/// none.
Expected<mlir::OwningOpRef<mlir::ModuleOp>>
buildDecoderModule(mlir::MLIRContext *context, const ModelFile &model, int64_t chunk,
                   int64_t outputs, ElementType cacheType = ElementType::F32,
                   const ChosenNumerics &numerics = {}, bool step = false);

/// Unusable, naming layer and type, where no cache holds keys and values of the model in that type.
Status checkCacheType(const ModelFile &model, ElementType type);

class Decoder {
public:
  /// Loads, plans memory (Unusable before allocation where it cannot fit, with the numbers),
  /// compiles, packs weights. `model` must outlive the decoder.
  static Expected<std::unique_ptr<Decoder>> create(const ModelFile &model, DecoderOptions options);
  ~Decoder();

  const ModelDescription &description() const;
  int64_t context() const;
  ElementType cacheType() const;
  /// What its operations have: numericsOf() in ir/Numerics.h.
  const std::string &numerics() const;
  /// Tokens in the cache.
  int64_t length() const;

  /// Forgets all tokens from position `length` on (0: all).
  void truncate(int64_t length);

  /// Appends tokens to the sequence and gives the logits of the last one (vocabSize values, valid
  /// until the next call). One token runs the decode program, more run prefill in chunks.
  /// Unusable where they do not fit in the context or an id is not in the vocabulary; Interrupted
  /// where `cancel` became true. `progress` gets the number of tokens done so far.
  Expected<std::span<const float>> append(std::span<const int32_t> tokens,
                                          const std::atomic<bool> *cancel = nullptr,
                                          const std::function<void(int64_t)> &progress = {});

  /// Appends tokens and gives the logits of every one of them to `visit` (position in `tokens`,
  /// vocabSize values, valid until it is called again after DecoderOptions::prefillChunk tokens).
  /// Needs DecoderOptions::allLogits.
  Status score(std::span<const int32_t> tokens,
               const std::function<void(int64_t, std::span<const float>)> &visit,
               const std::atomic<bool> *cancel = nullptr);

  /// Whether beginSteps() may be called: DecoderOptions::deviceSteps on a device with memory of its
  /// own, and kernels are not measured.
  bool hasDeviceSteps() const;

  /// Begins with steps that choose their tokens on the device, `most` at most: the first appends
  /// `token`, each other one what the one before chose. Ends with endSteps(). Unusable where
  /// `token` is not in the vocabulary or there is no room for it.
  Status beginSteps(int32_t token, const TokenRules &rules, int64_t most);

  /// The token that the next step chooses; the device is at work on the one after it meanwhile.
  /// -1: no logit is a number. What append() would give and the rules choose from is the same.
  /// Unusable where `most` were given or the context is full; Interrupted where `cancel` became
  /// true. A device that is lost meanwhile is replaced as in append().
  Expected<int32_t> nextToken(const std::atomic<bool> *cancel = nullptr);

  /// Forgets steps whose tokens nobody took. The logits that the last token was chosen from
  /// (vocabSize values, valid until the next call); Unusable where there was none.
  Expected<std::span<const float>> endSteps();

  DecoderMemory memory() const;
  const CompileStatistics &compileStatistics() const;
  const Session &session() const;
  double loadSeconds() const; ///< binding and packing of weights

  /// Bytes of weights that one decode step reads.
  int64_t weightBytesPerToken() const;

  /// Starts measuring each kernel, or gives what was measured so far, largest first.
  void enableKernelTimes();
  std::vector<KernelTime> kernelTimes() const;

private:
  struct Implementation;
  explicit Decoder(std::unique_ptr<Implementation> implementation);
  std::unique_ptr<Implementation> implementation;
};

} // namespace kernelforge
