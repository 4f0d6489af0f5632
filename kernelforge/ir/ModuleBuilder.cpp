#include "kernelforge/ir/ModuleBuilder.h"

#include "kernelforge/ir/Transformer.h"

#include "mlir/IR/Builders.h"
#include "llvm/ADT/StringMap.h"

#include <cmath>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

std::vector<WeightSlot> kernelforge::weightSlots(const ModelDescription &d) {
  std::vector<WeightSlot> slots;
  auto add = [&](const std::string &name, std::vector<int64_t> shape) {
    slots.push_back({name, std::move(shape)});
  };
  auto norm = [&](const std::string &name) {
    add(name + ".weight", {d.modelDim});
    if (d.norm == NormKind::Layer)
      add(name + ".bias", {d.modelDim});
  };
  auto linear = [&](const std::string &name, int64_t out, int64_t in, bool bias) {
    add(name + ".weight", {out, in});
    if (bias)
      add(name + ".bias", {out});
  };
  int64_t qDim = d.heads * d.headDim, kvDim = d.kvHeads * d.headDim;
  if (d.vocabSize)
    add("token_embd.weight", {d.vocabSize, d.modelDim});
  for (int64_t layer = 0; layer < d.layers; ++layer) {
    std::string prefix = "blk." + std::to_string(layer) + ".";
    norm(prefix + "attn_norm");
    linear(prefix + "attn_q", qDim, d.modelDim, d.attentionBias);
    linear(prefix + "attn_k", kvDim, d.modelDim, d.attentionBias);
    linear(prefix + "attn_v", kvDim, d.modelDim, d.attentionBias);
    linear(prefix + "attn_output", d.modelDim, qDim, d.outputBias);
    norm(prefix + "ffn_norm");
    if (d.gated)
      linear(prefix + "ffn_gate", d.ffnDim, d.modelDim, d.mlpBias);
    linear(prefix + "ffn_up", d.ffnDim, d.modelDim, d.mlpBias);
    linear(prefix + "ffn_down", d.modelDim, d.ffnDim, d.mlpBias);
  }
  if (d.vocabSize) {
    norm("output_norm");
    if (!d.tiedEmbeddings)
      add("output.weight", {d.vocabSize, d.modelDim});
  }
  return slots;
}

static Activation toActivation(ActivationKind kind) {
  switch (kind) {
  case ActivationKind::Silu:
    return Activation::Silu;
  case ActivationKind::Gelu:
    return Activation::Gelu;
  case ActivationKind::GeluTanh:
    return Activation::GeluTanh;
  case ActivationKind::Relu:
    return Activation::Relu;
  }
  return Activation::Silu;
}

namespace {

/// Arguments of a function under construction: type and attributes, by name.
class ArgumentList {
public:
  explicit ArgumentList(Builder &builder) : builder(builder) {}

  void addSize(StringRef name, int64_t min, int64_t max) {
    add("size." + name.str(), builder.getIndexType(),
        builder.getNamedAttr(sizeAttrName, SizeAttr::get(builder.getContext(),
                                                         builder.getStringAttr(name), min, max)));
  }
  void addInput(StringRef name, Type type) {
    add(name.str(), type, builder.getNamedAttr(inputAttrName, builder.getStringAttr(name)));
  }
  void addWeight(StringRef name, Type type) {
    add(name.str(), type, builder.getNamedAttr(weightAttrName, builder.getStringAttr(name)));
  }

  /// Creates the function with these arguments at the end of `module`.
  func::FuncOp createFunction(ModuleOp module, StringRef name, TypeRange results) {
    auto function = func::FuncOp::create(builder.getUnknownLoc(), name,
                                         builder.getFunctionType(types, results));
    function.setAllArgAttrs(attributes);
    module.push_back(function);
    Block *entry = function.addEntryBlock();
    for (const auto &[argumentName, index] : indices)
      values[argumentName] = entry->getArgument(index);
    return function;
  }

  /// The value of an argument; null where the function has none of that name.
  Value operator[](StringRef name) const { return values.lookup(name.str()); }

private:
  void add(const std::string &name, Type type, NamedAttribute attribute) {
    indices[name] = types.size();
    types.push_back(type);
    attributes.push_back(builder.getDictionaryAttr(attribute));
  }

  Builder &builder;
  SmallVector<Type> types;
  SmallVector<DictionaryAttr> attributes;
  std::map<std::string, unsigned> indices;
  struct Values : std::map<std::string, Value> {
    Value lookup(const std::string &name) const {
      auto it = find(name);
      return it == end() ? Value() : it->second;
    }
  } values;
};

/// Builds one function of the decoder: reads as the paper.
class DecoderBuilder {
public:
  DecoderBuilder(ModuleOp module, const ModelDescription &description, const FunctionRange &range,
                 const WeightTypeFn &weightType)
      : d(description), range(range), weightType(weightType), module(module),
        b(module.getContext()), loc(b.getUnknownLoc()), arguments(b) {}

  void build() {
    declareArguments();
    func::FuncOp function = arguments.createFunction(module, range.name, results());
    b.setInsertionPointToEnd(&function.getBody().front());

    Value x = d.vocabSize ? embed() : arguments["x"];
    for (int64_t layer = 0; layer < d.layers; ++layer)
      x = decoderLayer(layer, x);
    if (d.vocabSize)
      x = head(x);
    if (range.step)
      b.create<func::ReturnOp>(loc, endStep(x));
    else
      b.create<func::ReturnOp>(loc, x);
  }

private:
  SmallVector<Type> results() {
    if (!range.step)
      return {d.vocabSize ? rowsType("outputs", d.vocabSize, b.getF32Type())
                          : rowsType("tokens", d.modelDim, b.getF32Type())};
    Type perToken = indicesType(b.getContext(), "tokens");
    SmallVector<Type> types{perToken, perToken, perToken, indicesType(b.getContext(), "sequences")};
    if (range.recentWindow)
      types.push_back(rowsType("tokens", range.recentWindow, b.getI32Type()));
    return types;
  }

  void declareArguments() {
    MLIRContext *context = b.getContext();
    const int64_t longest = std::max<int64_t>(d.contextLength, 1);
    arguments.addSize("tokens", range.minTokens, range.maxTokens);
    const bool hasOutputs = d.vocabSize != 0 && !range.step;
    if (hasOutputs)
      arguments.addSize("outputs", 1, range.maxOutputs);
    arguments.addSize("sequences", 1, range.maxSequences);
    if (d.rope.present)
      arguments.addSize("context", 1, longest);
    arguments.addSize("cached", 1, longest);
    Type perToken = indicesType(context, "tokens"), perSequence = indicesType(context, "sequences");
    if (d.vocabSize)
      arguments.addInput("ids", perToken);
    else
      arguments.addInput("x", rowsType("tokens", d.modelDim, b.getF32Type()));
    arguments.addInput("positions", perToken);
    arguments.addInput("slots", perToken);
    arguments.addInput("sequences", perToken);
    arguments.addInput("table", perSequence);
    arguments.addInput("lengths", perSequence);
    if (hasOutputs)
      arguments.addInput("outputs", indicesType(context, "outputs"));
    if (range.step)
      declareStep(perSequence);
    if (d.rope.present)
      arguments.addInput("rope", rowsType("context", d.rope.rotaryDim, b.getF32Type()));
    Type cache = CacheType::get(context, d.kvHeads, d.headDim, b.getF32Type(), 0);
    for (int64_t layer = 0; layer < d.layers; ++layer)
      for (StringRef kind : {"k", "v"})
        arguments.addInput(("cache." + Twine(layer) + "." + kind).str(), cache);
    for (const WeightSlot &slot : weightSlots(d)) {
      // Vectors are small and read as f32; matrices stay as they are in the file.
      ElementType type = slot.shape.size() == 1 ? ElementType::F32 : weightType(slot.name);
      arguments.addWeight(slot.name,
                          RankedTensorType::get(slot.shape, elementTypeToMlir(context, type)));
    }
  }

  void declareStep(Type perSequence) {
    arguments.addInput("settings", rowsType("tokens", settingsWidth, b.getF32Type()));
    arguments.addInput("draws", rowsType("tokens", drawsWidth, b.getI32Type()));
    arguments.addInput("limits", perSequence);
    if (range.recentWindow)
      arguments.addInput("recent", rowsType("tokens", range.recentWindow, b.getI32Type()));
  }

  Value embed() {
    Type type = rowsType("tokens", d.modelDim, b.getF32Type());
    return b.create<EmbeddingOp>(loc, type, arguments["ids"], arguments["token_embd.weight"],
                                 b.getF64FloatAttr(1.0));
  }

  Value decoderLayer(int64_t layer, Value x) {
    std::string prefix = "blk." + std::to_string(layer) + ".";
    x = b.create<AddOp>(loc, x, attention(layer, prefix, norm(prefix + "attn_norm", x)));
    return b.create<AddOp>(loc, x, mlp(prefix, norm(prefix + "ffn_norm", x)));
  }

  Value attention(int64_t layer, const std::string &prefix, Value x) {
    std::string cache = "cache." + std::to_string(layer) + ".";
    Value keyCache = arguments[cache + "k"], valueCache = arguments[cache + "v"];
    int64_t qDim = d.heads * d.headDim, kvDim = d.kvHeads * d.headDim;
    Value q = rope(linear(prefix + "attn_q", x, qDim));
    Value k = rope(linear(prefix + "attn_k", x, kvDim));
    Value v = linear(prefix + "attn_v", x, kvDim);
    b.create<CacheAppendOp>(loc, keyCache, k, arguments["slots"]);
    b.create<CacheAppendOp>(loc, valueCache, v, arguments["slots"]);
    double scale =
        d.attentionScale != 0 ? d.attentionScale : 1.0 / std::sqrt(static_cast<double>(d.headDim));
    Value out = b.create<AttentionOp>(
        loc, q.getType(), q, keyCache, valueCache, arguments["positions"], arguments["sequences"],
        arguments["table"], arguments["lengths"], b.getI64IntegerAttr(d.heads),
        b.getF64FloatAttr(scale), b.getBoolAttr(true), b.getI64IntegerAttr(d.slidingWindow),
        b.getF64FloatAttr(d.attentionSoftcap), b.getStringAttr("cached"));
    return linear(prefix + "attn_output", out, d.modelDim);
  }

  Value mlp(const std::string &prefix, Value x) {
    auto bias = [&](StringRef name) { return arguments[(prefix + name + ".bias").str()]; };
    return b.create<MlpOp>(loc, x.getType(), x, arguments[prefix + "ffn_gate.weight"],
                           arguments[prefix + "ffn_up.weight"],
                           arguments[prefix + "ffn_down.weight"], bias("ffn_gate"), bias("ffn_up"),
                           bias("ffn_down"), toActivation(d.activation));
  }

  Value head(Value x) {
    if (!range.step) // each of its rows wants a token
      x = b.create<GatherRowsOp>(loc, rowsType("outputs", d.modelDim, b.getF32Type()), x,
                                 arguments["outputs"]);
    x = norm("output_norm", x);
    Value weight = arguments[d.tiedEmbeddings ? "token_embd.weight" : "output.weight"];
    Value logits = matmul(x, weight, Value(), d.vocabSize);
    if (d.logitSoftcap > 0)
      logits = b.create<ScaleOp>(loc, logits.getType(), logits, b.getF64FloatAttr(1.0),
                                 b.getF64FloatAttr(d.logitSoftcap));
    return logits;
  }

  ValueRange endStep(Value logits) {
    Value positions = arguments["positions"], recent = arguments["recent"];
    Value ids = b.create<SampleOp>(loc, positions.getType(), logits, arguments["settings"],
                                   arguments["draws"], positions, recent);
    auto advance =
        b.create<AdvanceOp>(loc, results(), ValueRange(stepOperands(ids, positions, recent)),
                            b.getNamedAttr("page", b.getI64IntegerAttr(0)));
    return advance.getResults();
  }

  SmallVector<Value> stepOperands(Value ids, Value positions, Value recent) {
    SmallVector<Value> operands{ids, positions};
    for (const char *name : {"slots", "sequences", "table", "lengths", "limits"})
      operands.push_back(arguments[name]);
    if (recent)
      operands.push_back(recent);
    return operands;
  }

  Value norm(const std::string &name, Value x) {
    Value weight = arguments[name + ".weight"];
    auto epsilon = b.getF64FloatAttr(d.normEpsilon);
    if (d.norm == NormKind::Rms)
      return b.create<RmsNormOp>(loc, x.getType(), x, weight, epsilon);
    return b.create<LayerNormOp>(loc, x.getType(), x, weight, arguments[name + ".bias"], epsilon);
  }

  Value rope(Value x) {
    if (!d.rope.present)
      return x;
    auto pairing =
        d.rope.pairing == RopePairing::HalfSplit ? Pairing::HalfSplit : Pairing::Interleaved;
    return b.create<RopeOp>(loc, x.getType(), x, arguments["positions"], arguments["rope"],
                            b.getI64IntegerAttr(d.headDim),
                            PairingAttr::get(b.getContext(), pairing));
  }

  Value linear(const std::string &name, Value x, int64_t width) {
    return matmul(x, arguments[name + ".weight"], arguments[name + ".bias"], width);
  }

  Value matmul(Value x, Value weight, Value bias, int64_t width) {
    StringRef rows = rowsSizeName(cast<RankedTensorType>(x.getType()));
    Type type = rowsType(rows, width, b.getF32Type());
    return b
        .create<MatmulOp>(loc, TypeRange{type}, x, ValueRange{weight},
                          bias ? ValueRange{bias} : ValueRange{}, UnitAttr(), TypeAttr())
        .getOutputs()[0];
  }

  const ModelDescription &d;
  const FunctionRange &range;
  const WeightTypeFn &weightType;
  ModuleOp module;
  OpBuilder b;
  Location loc;
  ArgumentList arguments;
};

} // namespace

OwningOpRef<ModuleOp> kernelforge::buildDecoder(MLIRContext *context,
                                                const ModelDescription &description,
                                                llvm::ArrayRef<FunctionRange> ranges,
                                                const WeightTypeFn &weightType) {
  context->loadDialect<TransformerDialect, func::FuncDialect>();
  OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(context));
  for (const FunctionRange &range : ranges)
    DecoderBuilder(*module, description, range, weightType).build();
  return module;
}

OwningOpRef<ModuleOp> kernelforge::buildMatmul(MLIRContext *context, int64_t minRows,
                                               int64_t maxRows, int64_t n, int64_t k,
                                               ElementType weights, bool transpose) {
  context->loadDialect<TransformerDialect, func::FuncDialect>();
  OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(context));
  OpBuilder b(context);
  Location loc = b.getUnknownLoc();
  ArgumentList arguments(b);
  arguments.addSize("rows", minRows, maxRows);
  arguments.addInput("x", rowsType("rows", k, b.getF32Type()));
  SmallVector<int64_t> shape = transpose ? SmallVector<int64_t>{k, n} : SmallVector<int64_t>{n, k};
  arguments.addWeight("weight", RankedTensorType::get(shape, elementTypeToMlir(context, weights)));
  Type result = rowsType("rows", n, b.getF32Type());
  func::FuncOp function = arguments.createFunction(*module, "matmul", result);
  b.setInsertionPointToEnd(&function.getBody().front());
  auto matmul =
      b.create<MatmulOp>(loc, TypeRange{result}, arguments["x"], ValueRange{arguments["weight"]},
                         ValueRange{}, transpose ? b.getUnitAttr() : UnitAttr(), TypeAttr());
  b.create<func::ReturnOp>(loc, matmul.getOutputs());
  return module;
}
