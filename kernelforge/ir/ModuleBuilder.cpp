#include "kernelforge/ir/ModuleBuilder.h"

#include "kernelforge/ir/Transformer.h"

#include "mlir/IR/Builders.h"
#include "llvm/ADT/StringMap.h"

#include <cmath>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

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
                 const WeightTypeFn &weightType, const CacheDescription &cache)
      : d(description), range(range), weightType(weightType), cache(cache), module(module),
        b(module.getContext()), loc(b.getUnknownLoc()), arguments(b) {}

  void build() {
    declareArguments();
    func::FuncOp function = arguments.createFunction(module, range.name, results());
    b.setInsertionPointToEnd(&function.getBody().front());

    Value x = d.vocabSize ? embed() : arguments["x"];
    for (const LayerDescription &each : d.layers) {
      ++layer;
      x = decoderLayer(each, x);
    }
    layer = -1;
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
    types.push_back(rowsType("tokens", d.vocabSize, b.getF32Type()));
    return types;
  }

  int64_t longest() const { return std::max<int64_t>(d.contextLength, 1); }

  /// Of a sequence's first slot, or the pages of each sequence.
  Type tableType() {
    if (cache.page == 0)
      return indicesType(b.getContext(), "sequences");
    return rowsType("sequences", (longest() + cache.page - 1) / cache.page, b.getI32Type());
  }

  void declareArguments() {
    MLIRContext *context = b.getContext();
    arguments.addSize("tokens", range.minTokens, range.maxTokens);
    const bool hasOutputs = d.vocabSize != 0 && !range.step;
    if (hasOutputs)
      arguments.addSize("outputs", 1, range.maxOutputs);
    arguments.addSize("sequences", 1, range.maxSequences);
    if (!d.ropes.empty())
      arguments.addSize("context", 1, longest());
    arguments.addSize("cached", 1, longest());
    Type perToken = indicesType(context, "tokens"), perSequence = indicesType(context, "sequences");
    if (d.vocabSize)
      arguments.addInput("ids", perToken);
    else
      arguments.addInput("x", rowsType("tokens", d.modelDim, b.getF32Type()));
    arguments.addInput("positions", perToken);
    arguments.addInput("slots", perToken);
    arguments.addInput("sequences", perToken);
    arguments.addInput("table", tableType());
    arguments.addInput("lengths", perSequence);
    if (hasOutputs)
      arguments.addInput("outputs", indicesType(context, "outputs"));
    if (range.step)
      declareStep(perSequence);
    for (size_t i = 0; i < d.ropes.size(); ++i)
      arguments.addInput(ropeInputName(i),
                         rowsType("context", d.ropes[i].rotaryDim, b.getF32Type()));
    for (auto [i, each] : llvm::enumerate(d.layers)) {
      const AttentionDescription &a = each.attention;
      Type type = CacheType::get(context, a.kvHeads, a.headDim,
                                 elementTypeToMlir(context, cache.type), cache.page);
      for (StringRef kind : {"k", "v"})
        arguments.addInput(("cache." + Twine(i) + "." + kind).str(), type);
    }
    for (const WeightSlot &slot : weightSlots(d)) {
      // Vectors are small and read as f32; matrices stay as they are in the file.
      ElementType type = slot.isMatrix() ? weightType(slot.name) : ElementType::F32;
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

  /// An operation that says what it does in the model: `role`, and the layer that is being built.
  template <typename Op, typename... Args> Op create(StringRef role, Args &&...args) {
    Op op = b.create<Op>(loc, std::forward<Args>(args)...);
    setPlace(op, layer, role);
    return op;
  }

  Value embed() {
    Type type = rowsType("tokens", d.modelDim, b.getF32Type());
    Value rows =
        create<EmbeddingOp>("token_embd", type, arguments["ids"], arguments["token_embd.weight"],
                            b.getF64FloatAttr(d.embeddingScale));
    if (!d.learnedPositions)
      return rows;
    Value places = create<EmbeddingOp>("position_embd", type, arguments["positions"],
                                       arguments["position_embd.weight"], b.getF64FloatAttr(1.0));
    return create<AddOp>("embd_sum", rows, places);
  }

  Value decoderLayer(const LayerDescription &description, Value x) {
    Value y = attention(description.attention, norm("attn_norm", description.beforeAttention, x));
    y = norm("post_attention_norm", description.afterAttention, y);
    x = create<AddOp>("attn_residual", x, y);
    y = mlp(description.mlp, norm("ffn_norm", description.beforeMlp, x));
    y = norm("post_ffw_norm", description.afterMlp, y);
    return create<AddOp>("ffn_residual", x, y);
  }

  Value attention(const AttentionDescription &a, Value x) {
    const std::string caches = "cache." + std::to_string(layer) + ".";
    Value keyCache = arguments[caches + "k"], valueCache = arguments[caches + "v"];
    Value q = norm("attn_q_norm", a.queryNorm, linear("attn_q", x, a.queryDim()), a.heads);
    Value k = norm("attn_k_norm", a.keyNorm, linear("attn_k", x, a.kvDim()), a.kvHeads);
    q = rope("attn_q_rope", a, q);
    k = rope("attn_k_rope", a, k);
    Value v = linear("attn_v", x, a.kvDim());
    create<CacheAppendOp>("attn_k_append", keyCache, k, arguments["slots"]);
    create<CacheAppendOp>("attn_v_append", valueCache, v, arguments["slots"]);
    double scale = a.scale != 0 ? a.scale : 1.0 / std::sqrt(static_cast<double>(a.headDim));
    Value out = create<AttentionOp>(
        "attention", q.getType(), q, keyCache, valueCache, arguments["positions"],
        arguments["sequences"], arguments["table"], arguments["lengths"], weight("attn_sinks"),
        b.getI64IntegerAttr(a.heads), b.getF64FloatAttr(scale), b.getBoolAttr(true),
        b.getI64IntegerAttr(a.window), b.getF64FloatAttr(a.softcap), b.getStringAttr("cached"),
        /*numerics=*/NumericsAttr());
    return linear("attn_output", out, d.modelDim);
  }

  Value mlp(const MlpDescription &m, Value x) {
    auto bias = [&](StringRef part) { return weight(part, "bias"); };
    return create<MlpOp>("ffn", x.getType(), x, weight("ffn_gate"), weight("ffn_up"),
                         weight("ffn_down"), bias("ffn_gate"), bias("ffn_up"), bias("ffn_down"),
                         toActivation(m.activation), /*numerics=*/NumericsAttr());
  }

  Value head(Value x) {
    if (!range.step) // each of its rows wants a token
      x = create<GatherRowsOp>("outputs", rowsType("outputs", d.modelDim, b.getF32Type()), x,
                               arguments["outputs"]);
    x = norm("output_norm", d.finalNorm, x);
    Value logits =
        matmul("output", x, weight(d.tiedHead ? "token_embd" : "output"), Value(), d.vocabSize);
    if (d.logitSoftcap > 0)
      logits = create<ScaleOp>("output_softcap", logits.getType(), logits, b.getF64FloatAttr(1.0),
                               b.getF64FloatAttr(d.logitSoftcap));
    return logits;
  }

  SmallVector<Value> endStep(Value logits) {
    Value positions = arguments["positions"], recent = arguments["recent"];
    Value ids = create<SampleOp>("sample", positions.getType(), logits, arguments["settings"],
                                 arguments["draws"], positions, recent);
    SmallVector<Type> next = results();
    next.pop_back(); // the logits
    auto advance =
        create<AdvanceOp>("advance", next, ValueRange(stepOperands(ids, positions, recent)),
                          b.getNamedAttr("page", b.getI64IntegerAttr(cache.page)));
    SmallVector<Value> all(advance.getResults());
    all.push_back(logits);
    return all;
  }

  SmallVector<Value> stepOperands(Value ids, Value positions, Value recent) {
    SmallVector<Value> operands{ids, positions};
    for (const char *name : {"slots", "sequences", "table", "lengths", "limits"})
      operands.push_back(arguments[name]);
    if (recent)
      operands.push_back(recent);
    return operands;
  }

  /// A weight of the layer that is being built, or of the frame; null where it has none.
  Value weight(StringRef part, StringRef suffix = "weight") const {
    const std::string prefix = layer < 0 ? "" : "blk." + std::to_string(layer) + ".";
    return arguments[prefix + part.str() + "." + suffix.str()];
  }

  Value norm(StringRef part, const std::optional<NormDescription> &norm, Value x,
             int64_t heads = 1) {
    if (!norm)
      return x;
    auto epsilon = b.getF64FloatAttr(norm->epsilon), offset = b.getF64FloatAttr(norm->offset);
    auto perRow = b.getI64IntegerAttr(heads);
    if (norm->kind == NormKind::Rms)
      return create<RmsNormOp>(part, x.getType(), x, weight(part), epsilon, perRow, offset);
    return create<LayerNormOp>(part, x.getType(), x, weight(part), weight(part, "bias"), epsilon,
                               perRow, offset);
  }

  Value rope(StringRef role, const AttentionDescription &a, Value x) {
    if (!a.rope)
      return x;
    auto pairing = d.ropes[*a.rope].pairing == RopePairing::HalfSplit ? Pairing::HalfSplit
                                                                      : Pairing::Interleaved;
    return create<RopeOp>(role, x.getType(), x, arguments["positions"],
                          arguments[ropeInputName(*a.rope)], b.getI64IntegerAttr(a.headDim),
                          PairingAttr::get(b.getContext(), pairing));
  }

  Value linear(StringRef part, Value x, int64_t width) {
    return matmul(part, x, weight(part), weight(part, "bias"), width);
  }

  Value matmul(StringRef role, Value x, Value weight, Value bias, int64_t width) {
    StringRef rows = rowsSizeName(cast<RankedTensorType>(x.getType()));
    Type type = rowsType(rows, width, b.getF32Type());
    return create<MatmulOp>(role, TypeRange{type}, x, ValueRange{weight},
                            bias ? ValueRange{bias} : ValueRange{}, UnitAttr(), NumericsAttr())
        .getOutputs()[0];
  }

  const ModelDescription &d;
  const FunctionRange &range;
  const WeightTypeFn &weightType;
  const CacheDescription &cache;
  ModuleOp module;
  OpBuilder b;
  Location loc;
  ArgumentList arguments;
  int64_t layer = -1; ///< that is being built; -1: the frame
};

} // namespace

OwningOpRef<ModuleOp> kernelforge::buildDecoder(MLIRContext *context,
                                                const ModelDescription &description,
                                                llvm::ArrayRef<FunctionRange> ranges,
                                                const WeightTypeFn &weightType,
                                                const CacheDescription &cache) {
  context->loadDialect<TransformerDialect, func::FuncDialect>();
  OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(context));
  for (const FunctionRange &range : ranges)
    DecoderBuilder(*module, description, range, weightType, cache).build();
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
                         ValueRange{}, transpose ? b.getUnitAttr() : UnitAttr(), NumericsAttr());
  b.create<func::ReturnOp>(loc, matmul.getOutputs());
  return module;
}
