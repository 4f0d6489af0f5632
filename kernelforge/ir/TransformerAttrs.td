// Attributes: sizes, layouts, targets, schedules and the enumerations of operations.
#ifndef KERNELFORGE_IR_TRANSFORMERATTRS_TD
#define KERNELFORGE_IR_TRANSFORMERATTRS_TD

include "kernelforge/ir/TransformerDialect.td"
include "mlir/IR/TensorEncoding.td"

def Transformer_Activation : I32EnumAttr<"Activation", "an activation function", [
    I32EnumAttrCase<"Silu", 0, "silu">,
    I32EnumAttrCase<"Gelu", 1, "gelu">,
    I32EnumAttrCase<"GeluTanh", 2, "gelu_tanh">,
    I32EnumAttrCase<"Relu", 3, "relu">]> {
  let cppNamespace = "::kernelforge::transformer";
  let genSpecializedAttr = 0;
}
def Transformer_ActivationAttr : EnumAttr<Transformer_Dialect, Transformer_Activation, "fn"> {
  let assemblyFormat = "`<` $value `>`";
}

def Transformer_Pairing : I32EnumAttr<"Pairing", "which dimensions of a head rotate together", [
    I32EnumAttrCase<"HalfSplit", 0, "half_split">,
    I32EnumAttrCase<"Interleaved", 1, "interleaved">]> {
  let cppNamespace = "::kernelforge::transformer";
  let genSpecializedAttr = 0;
}
def Transformer_PairingAttr : EnumAttr<Transformer_Dialect, Transformer_Pairing, "pairing"> {
  let assemblyFormat = "`<` $value `>`";
}

def Transformer_NumericsAttr : Transformer_Attr<"Numerics", "numerics"> {
  let summary = "what a matmul or an attention multiplies and sums in";
  let description = [{
    `#transformer.numerics<multiply = f16>`: both operands are rounded to what `multiply` says before they are
    multiplied. Products and sums are f32, which `accumulate = f32` may say, too. Where an operation says
    nothing, it is f32 in both.

    | `multiply` | rounds |
    |---|---|
    | `f32` | nothing |
    | `f16`, `bf16` | both operands to that type, to nearest even; a quantized weight after it is expanded. Of an attention queries, keys, probabilities and values |
    | `i8` | the input of a matmul whose weights are all quantized, in blocks of 32 along the sum: `scale = max(abs(x)) / 127`, whole numbers `rint(x / scale)`, 0 in a block of zeros. The sums of a block are exact whole numbers, as are the weight's quants; the sums over blocks are f32 |
    | `i8x2` | the same with 16 bits, `scale = max(abs(x)) / 32512`, in two planes `256 * high + low` of 8 bits each |
    | `tf32x3`, `fp8` | an f32 into three parts of 11 bits, to e4m3: nothing computes them yet |

    It is part of what is computed, not of how fast: no schedule changes it.
  }];
  let parameters = (ins Transformer_KeywordParameter<"what operands are rounded to">:$multiply,
      Transformer_KeywordParameterOr<"f32", "what sums are kept in">:$accumulate);
  let assemblyFormat = "`<` `multiply` `=` $multiply (`,` `accumulate` `=` $accumulate^)? `>`";
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// f32 in both: what an operation without the attribute computes in.
    bool isF32() const { return getNumerics() == ::kernelforge::Numerics::F32; }
    /// What operands are rounded to.
    ::kernelforge::Numerics getNumerics() const;
  }];
}

def Transformer_DimsAttr : Transformer_Attr<"Dims", "dims", [
    DeclareAttrInterfaceMethods<VerifiableTensorEncoding>]> {
  let summary = "names of a tensor type's dynamic dimensions, in order";
  let description = [{
    `tensor<?x576xf32, #transformer.dims<"tokens">>` has as many rows as the size `tokens` says.
  }];
  let parameters = (ins ArrayRefParameter<"::mlir::StringAttr">:$names);
  let assemblyFormat = "`<` $names `>`";
}

def Transformer_LayoutAttr : Transformer_Attr<"Layout", "layout", [
    DeclareAttrInterfaceMethods<VerifiableTensorEncoding>]> {
  let summary = "how a weight matrix lies in memory";
  let description = [{
    `#transformer.layout<interleaved, rows = 16>`: rows are taken in groups of 16 (the last group is
    filled with zeros); within a group, block after block along K; in a block the 16 rows' scales,
    then their minima, sub-scales, high bits and quants (those that the type has), in units of a
    32-bit word where a part is whole words, unit after unit, 16 rows side by side. Plain numbers
    are blocks of one element, bf16 of two where rows are whole pairs. Nothing is expanded: a weight
    takes the bytes that it took in the file (up to the last group's filling). A weight without
    layout lies as in the file, row-major.

    `#transformer.layout<planes>`, of quantized weights: each part of a block lies in a plane of its
    own for the whole weight, row after row, block after block as in the file: all quants, then high
    bits, sub-scales, and scales with what stands beside them in the file (those that the type has). Planes begin at
    multiples of 16 bytes, so that quants can be read 16 bytes at a time.

    The layout belongs to the weight: all programs of a session read one copy.
  }];
  let parameters = (ins Transformer_KeywordParameter<"kind of layout">:$kind,
      DefaultValuedParameter<"int64_t", "1", "rows of a group">:$rows);
  let assemblyFormat = "`<` $kind (`,` `rows` `=` $rows^)? `>`";
  let genVerifyDecl = 1;
}

def Transformer_SizeAttr : Transformer_Attr<"Size", "size"> {
  let summary = "a named dynamic size and the range that a program is compiled for";
  let description = [{
    On a leading `index` argument: `%tokens: index {transformer.size = #transformer.size<"tokens", 1 to 512>}`.
  }];
  let parameters = (ins "::mlir::StringAttr":$name, "int64_t":$min, "int64_t":$max);
  let assemblyFormat = "`<` $name `,` $min `to` $max `>`";
  let genVerifyDecl = 1;
}

def Transformer_TargetAttr : Transformer_Attr<"Target", "target"> {
  let summary = "the exact machine that code is generated for";
  let description = [{
    `#transformer.target<cpu, triple = "x86_64-pc-linux-gnu", cpu = "znver4", features = ["+avx512f"],
    threads = 2>`. `threads` is how many workers the task grids are made for.
  }];
  let parameters = (ins Transformer_KeywordParameter<"kind of target">:$kind,
      StringRefParameter<>:$triple, StringRefParameter<>:$cpu,
      OptionalArrayRefParameter<"::mlir::StringAttr">:$features, "int64_t":$threads);
  let assemblyFormat = [{
    `<` $kind `,` `triple` `=` $triple `,` `cpu` `=` $cpu `,`
    `features` `=` `[` (`]`) : ($features^ `]`)? `,` `threads` `=` $threads `>`
  }];
  let genVerifyDecl = 1;
}

def Transformer_ScheduleAttr : Transformer_Attr<"Schedule", "schedule"> {
  let summary = "the knobs of one kernel on one target";
  let description = [{
    An open dictionary: the target's code generator says which knobs a family has, verifies them and
    gives the analytic default. The same fields make the JSON form of tuning records.
  }];
  let parameters = (ins "::mlir::DictionaryAttr":$knobs);
  let assemblyFormat = "`<` $knobs `>`";
}

def Transformer_DemandsAttr : Transformer_Attr<"Demands", "demands"> {
  let summary = "what a kernel's code must keep to";
  let description = [{
    `#transformer.demands<{no_spills, max_registers = 24, min_roofline = 0.5}>`: compiling the kernel fails
    where an inner loop keeps values in memory because registers ran out, or where the code takes more
    registers (of a thread on a GPU, vector registers on a CPU); timing it fails where it reaches less than
    this share of what the roofline allows.
  }];
  let parameters = (ins "::mlir::DictionaryAttr":$limits);
  let assemblyFormat = "`<` $limits `>`";
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    bool noSpills() const;
    std::optional<int64_t> maxRegisters() const;
    /// From above 0 to 1.
    std::optional<double> minRoofline() const;
  }];
}

#endif
