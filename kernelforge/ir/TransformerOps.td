// The operations of the dialect.
#ifndef KERNELFORGE_IR_TRANSFORMEROPS_TD
#define KERNELFORGE_IR_TRANSFORMEROPS_TD

include "kernelforge/ir/TransformerAttrs.td"
include "kernelforge/ir/TransformerInterfaces.td"
include "kernelforge/ir/TransformerTypes.td"
include "mlir/IR/OpAsmInterface.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/ControlFlowInterfaces.td"
include "mlir/Interfaces/FunctionInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

//===----------------------------------------------------------------------===//
// Operands
//===----------------------------------------------------------------------===//

/// Dimensions of the model are static: only the leading one, the rows, may follow a size.
def Transformer_StaticWidth : CPred<
    "!::llvm::cast<::mlir::RankedTensorType>($_self).isDynamicDim("
    "::llvm::cast<::mlir::RankedTensorType>($_self).getRank() - 1)">;

class Transformer_RowsOf<string role, string summary>
    : RankedTensorOf<[F32, F16, BF16], [HasAnyRankOfPred<[2]>, Transformer_StaticWidth], summary>,
      Transformer_Operand<role>;
/// Activations: `[rows, width]` of a floating type.
def Transformer_Rows : Transformer_RowsOf<"Rows", "rows of activations of static width">;
/// Activations of which an operation picks some rows.
def Transformer_PickedRows
    : Transformer_RowsOf<"PickedRows", "rows of activations of static width">;
/// What an operation looks up by row.
def Transformer_RowTable : Transformer_RowsOf<"RowTable", "rows of numbers of static width">;

class Transformer_IndicesOf<list<Pred> shape, string summary>
    : RankedTensorOf<[I32], shape, summary>, Transformer_Operand<"Indices">;
/// One i32 per row.
def Transformer_Indices : Transformer_IndicesOf<[HasAnyRankOfPred<[1]>], "one i32 per row">;
/// One or two dimensional i32: first slots, or a block table.
def Transformer_SlotTable : Transformer_IndicesOf<[HasAnyRankOfPred<[1, 2]>], "slot table">;
/// `[rows, width]` of i32.
def Transformer_IntegerRows
    : Transformer_IndicesOf<[HasAnyRankOfPred<[2]>, Transformer_StaticWidth],
                            "rows of i32 of static width">;

/// A vector of parameters.
def Transformer_Vector
    : RankedTensorOf<[F32, F16, BF16], [HasAnyRankOfPred<[1]>, HasStaticShapePred],
                     "a vector of parameters of static length">,
      Transformer_Operand<"Parameter">;

class Transformer_WeightOf<string role>
    : RankedTensorOf<[F32, F16, BF16, Transformer_QuantType],
                     [HasAnyRankOfPred<[2]>, HasStaticShapePred], "a weight matrix of static shape">,
      Transformer_Operand<role>;
/// A weight matrix, dense or quantized.
def Transformer_Weight : Transformer_WeightOf<"Weight">;
/// One whose rows are looked up.
def Transformer_WeightTable : Transformer_WeightOf<"WeightTable">;

/// A cache, and what an operation does to it.
class Transformer_CacheOf<list<OpVariableDecorator> effects>
    : Constraint<Transformer_CacheType.predicate>, Arg<Transformer_CacheType, "", effects>,
      Transformer_Operand<"Cache">;
def Transformer_ReadCache : Transformer_CacheOf<[MemRead]>;
def Transformer_WrittenCache : Transformer_CacheOf<[MemRead, MemWrite]>;

//===----------------------------------------------------------------------===//
// Matmul and mlp
//===----------------------------------------------------------------------===//

def Transformer_MatmulOp : Transformer_ComputeOp<"matmul", "Matmul", [Pure, AttrSizedOperandSegments],
                                                 ["getFlopsPerRow"]> {
  let summary = "rows times one or more weights";
  let description = [{
    Result s is `input * weights[s]^T (+ biases[s])`: `[M, K] x [N_s, K] -> [M, N_s]`. With
    `transpose` the weights are `[K, N_s]`. Several weights are N-segments of one matmul: they share
    K and may differ in N, element type and layout. `numerics` says what the input and the weights are rounded
    to before they are multiplied, f32 where it is not given; `i8` and `i8x2` need quantized weights.

    ```mlir
    %q, %k = transformer.matmul %x weights(%wq, %wk) : (tensor<?x576xf32, #tokens>,
        tensor<576x576x!transformer.quant<q4_1>>, tensor<192x576x!transformer.quant<q4_1>>)
        -> (tensor<?x576xf32, #tokens>, tensor<?x192xf32, #tokens>)
    ```
  }];
  let arguments = (ins Transformer_Rows:$input, Transformer_Several<Transformer_Weight>:$weights,
      Transformer_Several<Transformer_Vector>:$biases, UnitAttr:$transpose,
      OptionalAttr<Transformer_NumericsAttr>:$numerics);
  let results = (outs Variadic<Transformer_Rows>:$outputs);
  let assemblyFormat = [{
    $input `weights` `(` $weights `)` (`bias` `(` $biases^ `)`)? attr-dict `:`
    functional-type(operands, results)
  }];
  let hasVerifier = 1;
  let hasCanonicalizer = 1;
  let extraClassDeclaration = [{
    /// Output width of segment `s`.
    int64_t getN(unsigned s);
    /// Width of the input.
    int64_t getK();
  }];
}

def Transformer_MlpOp : Transformer_ComputeOp<"mlp", "Composite", [Pure, AttrSizedOperandSegments]> {
  let summary = "feed-forward layer, plain or gated";
  let description = [{
    Plain: `down(act(up(x)))`. Gated: `down(act(gate(x)) * up(x))`. Weights are `[out, in]`.
    A composite: the pass `decompose` turns it into `matmul`, `activation` and `mul`. `numerics` are those of
    each matmul.
  }];
  let arguments = (ins Transformer_Rows:$input, Transformer_Maybe<Transformer_Weight>:$gate,
      Transformer_Weight:$up, Transformer_Weight:$down, Transformer_Maybe<Transformer_Vector>:$gateBias,
      Transformer_Maybe<Transformer_Vector>:$upBias, Transformer_Maybe<Transformer_Vector>:$downBias,
      Transformer_ActivationAttr:$activation, OptionalAttr<Transformer_NumericsAttr>:$numerics);
  let results = (outs Transformer_Rows:$output);
  let assemblyFormat = [{
    $input (`gate` `(` $gate^ `)`)? `up` `(` $up `)` `down` `(` $down `)`
    (`gate_bias` `(` $gateBias^ `)`)? (`up_bias` `(` $upBias^ `)`)? (`down_bias` `(` $downBias^ `)`)?
    $activation attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Attention and its cache
//===----------------------------------------------------------------------===//

def Transformer_CacheAppendOp : Transformer_ComputeOp<"cache_append", "Stores"> {
  let summary = "write rows into a cache";
  let description = [{
    Row r of `values` (`[rows, heads * dim]`) is written to slot `slots[r]` of the cache. Rows whose
    slot is negative are not written.
  }];
  let arguments = (ins Transformer_WrittenCache:$cache,
      Transformer_Rows:$values, Transformer_Indices:$slots);
  let assemblyFormat = "$values `,` $slots `into` $cache attr-dict `:` type(operands)";
  let hasVerifier = 1;
}

def Transformer_AttentionOp : Transformer_ComputeOp<"attention", "Attention", [], ["getFlopsPerRow"]> {
  let summary = "grouped-query attention over a cache";
  let description = [{
    Row r of `query` (`[rows, heads * dim]`) belongs to sequence s = `sequences[r]` and stands at
    `positions[r]`. It sees the keys of positions 0 .. positions[r] (causal) or 0 .. lengths[s] - 1,
    and with `window` w only the last w of them up to its own position. Position p of sequence s lies
    in slot `table[s] + p` of a contiguous cache, or in page `table[s, p / page]` of a paged one.
    Query head h reads cache head h / (heads / kv_heads).

    score = scale * q.k, then softcap * tanh(score / softcap) where softcap > 0; softmax over the
    keys that the row sees; the result is the weighted sum of values. A row that sees no key gives 0.
    `sinks` has a score for each query head that takes part in the softmax as a key whose value is 0.
    `numerics` is that of both products, f32 where it is not given; `i8` and `i8x2` are for matmuls alone.

    `cached` names a size of the function or kernel around it, which bounds every length and every
    position that a row sees from above: grids and costs may follow it, results do not.
  }];
  let arguments = (ins Transformer_Rows:$query,
      Transformer_ReadCache:$keys, Transformer_ReadCache:$values,
      Transformer_Indices:$positions, Transformer_Indices:$sequences, Transformer_SlotTable:$table,
      Transformer_Indices:$lengths, Transformer_Maybe<Transformer_Vector>:$sinks, I64Attr:$heads,
      F64Attr:$scale,
      DefaultValuedAttr<BoolAttr, "true">:$causal, DefaultValuedAttr<I64Attr, "0">:$window,
      DefaultValuedAttr<F64Attr, "0.0">:$softcap, OptionalAttr<StrAttr>:$cached,
      OptionalAttr<Transformer_NumericsAttr>:$numerics);
  let results = (outs Transformer_Rows:$output);
  let assemblyFormat = [{
    $query `,` $keys `,` $values `positions` `(` $positions `)` `sequences` `(` $sequences `)`
    `table` `(` $table `)` `lengths` `(` $lengths `)` (`sinks` `(` $sinks^ `)`)? attr-dict `:`
    functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Rowwise operations
//===----------------------------------------------------------------------===//

def Transformer_EmbeddingOp : Transformer_RowwiseOp<"embedding", "PicksRows"> {
  let summary = "rows of a table";
  let description = [{
    Row r of the result is row `ids[r]` of `table` (`[vocabulary, width]`), expanded where the table
    is quantized, times `scale`. Ids are checked by whoever makes them, not here.
  }];
  let arguments = (ins Transformer_Indices:$ids, Transformer_WeightTable:$table,
                       DefaultValuedAttr<F64Attr, "1.0">:$scale);
  let results = (outs Transformer_Rows:$output);
  let assemblyFormat = "$ids `,` $table attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Transformer_GatherRowsOp : Transformer_RowwiseOp<"gather_rows", "PicksRows"> {
  let summary = "some rows of the input";
  let description = "Row r of the result is row `rows[r]` of the input.";
  let isPrologue = 1;
  let arguments = (ins Transformer_PickedRows:$input, Transformer_Indices:$rows);
  let results = (outs Transformer_Rows:$output);
  let assemblyFormat = "$input `,` $rows attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Transformer_RmsNormOp
    : Transformer_RowwiseOp<"rms_norm", "Statistics", [], ["getSeparateHeads"]> {
  let summary = "root mean square norm";
  let description = [{
    `x / sqrt(mean(x^2) + epsilon) * (offset + weight)`, row by row (Zhang and Sennrich 2019). A row is
    `heads` heads of equal width, each normed by itself with the same weight, which is as long as a head.
  }];
  let isPrologue = 1;
  let arguments = (ins Transformer_Rows:$input, Transformer_Vector:$weight, F64Attr:$epsilon,
      DefaultValuedAttr<I64Attr, "1">:$heads, DefaultValuedAttr<F64Attr, "0.0">:$offset);
  let results = (outs Transformer_Rows:$output);
  let assemblyFormat = "$input `,` $weight attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Transformer_LayerNormOp
    : Transformer_RowwiseOp<"layer_norm", "Statistics", [], ["getSeparateHeads"]> {
  let summary = "layer norm";
  let description = [{
    `(x - mean(x)) / sqrt(var(x) + epsilon) * (offset + weight) (+ bias)`, row by row, with the biased
    variance (Ba, Kiros and Hinton 2016). Heads as those of `rms_norm`; the bias is as long as the weight.
  }];
  let isPrologue = 1;
  let arguments = (ins Transformer_Rows:$input, Transformer_Vector:$weight,
                       Transformer_Maybe<Transformer_Vector>:$bias, F64Attr:$epsilon,
      DefaultValuedAttr<I64Attr, "1">:$heads, DefaultValuedAttr<F64Attr, "0.0">:$offset);
  let results = (outs Transformer_Rows:$output);
  let assemblyFormat = [{
    $input `,` $weight (`,` $bias^)? attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def Transformer_RopeOp : Transformer_RowwiseOp<"rope", "Pairs"> {
  let summary = "rotary position embedding";
  let description = [{
    The input's rows hold heads of `headDim` values, of which the first `rotaryDim` rotate. Row p of
    `table` (`[context, rotaryDim]`) holds the cosines of position p's rotaryDim / 2 angles, then their
    sines; scaling rules are in the table. Pair i is (i, i + rotaryDim / 2) for `half_split` and
    (2i, 2i + 1) for `interleaved`; (a, b) becomes (a cos - b sin, a sin + b cos) (Su et al. 2021).
  }];
  let arguments = (ins Transformer_Rows:$input, Transformer_Indices:$positions,
      Transformer_RowTable:$table, I64Attr:$headDim, Transformer_PairingAttr:$pairing);
  let results = (outs Transformer_Rows:$output);
  let assemblyFormat = [{
    $input `,` $positions `,` $table $pairing attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// Leading dimensions of a head that rotate: the table's width.
    int64_t getRotaryDim();
  }];
}

def Transformer_SoftmaxOp : Transformer_RowwiseOp<"softmax", "Statistics", [SameOperandsAndResultType]> {
  let summary = "softmax of each row";
  let description = "`exp(x - max(x)) / sum(exp(x - max(x)))`, row by row.";
  let arguments = (ins Transformer_Rows:$input);
  let results = (outs Transformer_Rows:$output);
  let assemblyFormat = "$input attr-dict `:` type($output)";
}

def Transformer_CastOp : Transformer_RowwiseOp<"cast", "Elementwise"> {
  let summary = "the same rows in another element type";
  let description = [{
    Rounds to nearest, ties to even, where the result's type is narrower; that holds inside a kernel, too,
    where the results of other operations are rounded to their type only when they are stored.
  }];
  let arguments = (ins Transformer_Rows:$input);
  let results = (outs Transformer_Rows:$output);
  let assemblyFormat = "$input attr-dict `:` type($input) `to` type($output)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Transformer_ActivationOp : Transformer_ElementwiseOp<"activation"> {
  let summary = "an activation function, element by element";
  let description = [{
    `silu`: x / (1 + exp(-x)); `gelu`: x * Phi(x) with the exact erf; `gelu_tanh`: its tanh
    approximation (Hendrycks and Gimpel 2016); `relu`: max(x, 0).
  }];
  let arguments = (ins Transformer_Rows:$input, Transformer_ActivationAttr:$function);
  let results = (outs Transformer_Rows:$output);
  let assemblyFormat = "$input $function attr-dict `:` type($output)";
  let hasFolder = 1;
}

class Transformer_BinaryOp<string mnemonic, string symbol>
    : Transformer_ElementwiseOp<mnemonic, [Commutative]> {
  let summary = "a " # symbol # " b, element by element";
  let arguments = (ins Transformer_Rows:$lhs, Transformer_Rows:$rhs);
  let results = (outs Transformer_Rows:$output);
  let assemblyFormat = "$lhs `,` $rhs attr-dict `:` type($output)";
}
def Transformer_AddOp : Transformer_BinaryOp<"add", "+">;
def Transformer_MulOp : Transformer_BinaryOp<"mul", "*">;

def Transformer_ScaleOp : Transformer_ElementwiseOp<"scale"> {
  let summary = "each element times a constant, optionally soft-capped";
  let description = "`y = factor * x`, then `softcap * tanh(y / softcap)` where softcap > 0.";
  let arguments = (ins Transformer_Rows:$input, DefaultValuedAttr<F64Attr, "1.0">:$factor,
                       DefaultValuedAttr<F64Attr, "0.0">:$softcap);
  let results = (outs Transformer_Rows:$output);
  let assemblyFormat = "$input attr-dict `:` type($output)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Transformer_PackOp : Transformer_RowwiseOp<"pack", "Packs"> {
  let summary = "bring a weight into a layout";
  let description = [{
    The result has the input's values in the layout of its type. Run once per weight at load.
  }];
  let arguments = (ins Transformer_Weight:$input);
  let results = (outs Transformer_Weight:$output);
  let assemblyFormat = "$input attr-dict `:` type($input) `to` type($output)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

//===----------------------------------------------------------------------===//
// The end of a step
//===----------------------------------------------------------------------===//

def Transformer_SampleOp : Transformer_RowwiseOp<"sample", "EndsStep"> {
  let summary = "a token from each row of logits";
  let description = [{
    Row r stands at `positions[r]`; result r is the id that its logits choose for the position after
    it, or -1 where no logit is a number. The order of steps and the arithmetic, bit by bit, are in
    support/Sampling.h: a seed gives the same ids on every device.

    A row of `settings` is 1 / temperature (0: the greatest logit), top-p, min-p, and what positive and
    negative logits of recent ids are multiplied with (1 / repetition penalty, and the penalty); all
    finite. A row of `draws` is top-k and the low and high half of the seed. `recent` holds the ids that
    are penalised, -1 where there are fewer.

    ```mlir
    %ids = transformer.sample %logits settings(%settings) draws(%draws) positions(%positions)
        recent(%recent) : (tensor<?x49152xf32, #tokens>, tensor<?x5xf32, #tokens>,
        tensor<?x3xi32, #tokens>, tensor<?xi32, #tokens>, tensor<?x64xi32, #tokens>)
        -> tensor<?xi32, #tokens>
    ```
  }];
  let arguments = (ins Transformer_Rows:$logits, Transformer_Rows:$settings,
      Transformer_IntegerRows:$draws, Transformer_Indices:$positions,
      Transformer_Maybe<Transformer_IntegerRows>:$recent);
  let results = (outs Transformer_Indices:$ids);
  let assemblyFormat = [{
    $logits `settings` `(` $settings `)` `draws` `(` $draws `)` `positions` `(` $positions `)`
    (`recent` `(` $recent^ `)`)? attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def Transformer_AdvanceOp : Transformer_RowwiseOp<"advance", "EndsStep"> {
  let summary = "from one step's tokens and integer state to the next one's";
  let description = [{
    `ids` are the tokens that the rows chose. A row lives on where it has a slot (`slots[r]` is not
    negative), chose a token (not -1) and its next position p = positions[r] + 1 is below the limit
    `limits[s]` of its sequence s = `sequences[r]`, and, with `page`, within the table and in a page that it
    has (its entry is not negative). The next step then is at position p, in slot `table[s] + p` of a
    contiguous cache or `table[s, p / page] * page + p mod page` of a paged one. Any other row stays
    where it is with slot -1, which stores nothing; its id is the token that it chose, or 0.

    `lengths[s]` grows by one for each of the sequence's rows that live on: each step reads what it stores.
    `recent`, newest last, loses its first id and gains the token where the row lives on.
  }];
  let arguments = (ins Transformer_Indices:$ids, Transformer_Indices:$positions,
      Transformer_Indices:$slots, Transformer_Indices:$sequences, Transformer_SlotTable:$table,
      Transformer_Indices:$lengths, Transformer_Indices:$limits,
      Transformer_Maybe<Transformer_IntegerRows>:$recent, DefaultValuedAttr<I64Attr, "0">:$page);
  let results = (outs Transformer_Indices:$nextIds, Transformer_Indices:$nextPositions,
      Transformer_Indices:$nextSlots, Transformer_Indices:$nextLengths,
      Optional<Transformer_IntegerRows>:$nextRecent);
  let assemblyFormat = [{
    $ids `,` $positions `,` $slots `sequences` `(` $sequences `)` `table` `(` $table `)`
    `lengths` `(` $lengths `)` `limits` `(` $limits `)` (`recent` `(` $recent^ `)`)? attr-dict `:`
    functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Kernels and launches
//===----------------------------------------------------------------------===//

def Transformer_KernelOp : Transformer_Op<"kernel", [
    IsolatedFromAbove, FunctionOpInterface, Symbol, SingleBlock, HasParent<"::mlir::ModuleOp">]> {
  let summary = "the unit that is fused, scheduled, compiled, tuned, launched and timed";
  let description = [{
    An isolated symbol with a body of operations around one root (a matmul, an attention, or a chain
    of rowwise operations). Leading `index` arguments are the sizes that it needs. Its identity is its
    body: names and locations do not count, equal bodies are one kernel.

    `variant` says what runs it: a variant of matmul by its name ("vendor:openblas", "blocked"), for a
    kernel that is exactly one matmul problem, or "generated", as where it is not given. `schedule` holds
    the knobs, `schedule_source` where variant and knobs came from (pinned, record, transferred or
    analytic), `schedule_reason` why these; `code` names the function that the target's code generator
    made of it, `launching` how that is launched (codegen/Launching.h, with the same fields). `demands` is
    what its code must keep to; compiling or timing it fails otherwise.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttrOf<FunctionType>:$function_type,
      OptionalAttr<DictArrayAttr>:$arg_attrs, OptionalAttr<DictArrayAttr>:$res_attrs,
      OptionalAttr<StrAttr>:$variant, OptionalAttr<Transformer_ScheduleAttr>:$schedule, OptionalAttr<StrAttr>:$schedule_source, OptionalAttr<StrAttr>:$schedule_reason,
      OptionalAttr<FlatSymbolRefAttr>:$code, OptionalAttr<DictionaryAttr>:$launching,
      OptionalAttr<Transformer_DemandsAttr>:$demands);
  let regions = (region SizedRegion<1>:$body);
  let hasCustomAssemblyFormat = 1;
  let hasVerifier = 1;
  let hasRegionVerifier = 1;
  let extraClassDeclaration = [{
    /// Argument and result types (FunctionOpInterface).
    ::llvm::ArrayRef<::mlir::Type> getArgumentTypes() { return getFunctionType().getInputs(); }
    ::llvm::ArrayRef<::mlir::Type> getResultTypes() { return getFunctionType().getResults(); }
    ::mlir::Region *getCallableRegion() { return &getBody(); }
    /// Removes all that says what runs the kernel, with which schedule and code.
    void dropChoices();
    /// How many leading arguments are sizes.
    unsigned getNumSizes();
    /// The size on leading argument `i`.
    SizeAttr getSize(unsigned i);
    /// The operation that gives the kernel its family; the last one where all are rowwise.
    ::mlir::Operation *getRoot();
    /// matmul, attention or rowwise.
    ::llvm::StringRef getFamily();
    /// Whether code is generated for it: no other variant runs it.
    bool isGenerated() { return getVariant().value_or("generated") == "generated"; }
  }];
}

def Transformer_YieldOp : Transformer_Op<"yield", [
    Pure, Terminator, ReturnLike, HasParent<"KernelOp">]> {
  let summary = "results of a kernel";
  let arguments = (ins Variadic<AnyType>:$values);
  let assemblyFormat = "($values^ `:` type($values))? attr-dict";
}

def Transformer_LaunchOp : Transformer_Op<"launch", [
    DeclareOpInterfaceMethods<SymbolUserOpInterface>,
    DeclareOpInterfaceMethods<MemoryEffectsOpInterface>]> {
  let summary = "use of a kernel";
  let description = [{
    `%y = transformer.launch @k[3](%tokens, %x, %w) as "ffn_down" : (...) -> ...`: sizes first, then
    buffers, in the order of the kernel's arguments. `layer` (in brackets) and `role` (after `as`) say
    where in the model it stands, where that is known.

    A role that stands in the kernel's name, behind its last dot, is not repeated: a launch of
    `@decode.ffn_down` has the role `ffn_down` where the text says nothing else, and `as ""` means none.
  }];
  let arguments = (ins FlatSymbolRefAttr:$kernel, Variadic<AnyType>:$operands,
                       OptionalAttr<I64Attr>:$layer, OptionalAttr<StrAttr>:$role);
  let results = (outs Variadic<AnyType>:$outputs);
  let assemblyFormat = [{
    $kernel (`` `[` $layer^ `]`)? `` `(` $operands `)` `` custom<Role>($role, ref($kernel)) attr-dict `:`
    custom<LaunchType>(type($operands), type($outputs))
  }];
}

#endif
