// The dialect itself, and the bases of its attributes, types and operations.
#ifndef KERNELFORGE_IR_TRANSFORMERDIALECT_TD
#define KERNELFORGE_IR_TRANSFORMERDIALECT_TD

include "mlir/IR/OpBase.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"

def Transformer_Dialect : Dialect {
  let name = "transformer";
  let cppNamespace = "::kernelforge::transformer";
  let summary = "Transformer models as operations, kernels and launches";
  let description = [{
    Activations are rows: tensors `[rows, width]` whose leading dimension is a named dynamic size
    (`tokens`, `outputs`, ...). A row may belong to any sequence. Weights are function arguments,
    `[out, in]` unless an operation says otherwise, dense or of a quantized element type, with a
    layout that belongs to the weight. Key/value caches are written by memory effect.

    A `kernel` is what is fused, scheduled, compiled and timed; a `launch` uses it.

    A first module:

    ```mlir
    !rows = tensor<?x64xf32, #transformer.dims<"tokens">>
    func.func @layer(%tokens: index {transformer.size = #transformer.size<"tokens", 1 to 512>},
        %x: !rows, %norm: tensor<64xf32>, %w: tensor<64x64xf32>) -> !rows {
      %h = transformer.rms_norm %x, %norm {epsilon = 1.0e-5} : (!rows, tensor<64xf32>) -> !rows
      %m = transformer.matmul %h weights(%w) : (!rows, tensor<64x64xf32>) -> !rows
      %a = transformer.activation %m <silu> : !rows
      %y = transformer.add %a, %x : !rows
      return %y : !rows
    }
    ```

    As `first.mlir` it is compiled, run on random input and verified by the first command; the second
    prints the one kernel that it becomes:

    ```sh
    kernelforge compile first.mlir --run --size tokens=5
    kernelforge emit-mlir first.mlir --stage fused
    ```
  }];
  let useDefaultTypePrinterParser = 1;
  let useDefaultAttributePrinterParser = 1;
  let hasOperationAttrVerify = 1;
  let hasRegionArgAttrVerify = 1;
  let hasRegionResultAttrVerify = 1;
  let dependentDialects = ["::mlir::func::FuncDialect"];
}

class Transformer_Attr<string name, string attrMnemonic, list<Trait> traits = []>
    : AttrDef<Transformer_Dialect, name, traits> {
  let mnemonic = attrMnemonic;
}

class Transformer_Type<string name, string typeMnemonic, list<Trait> traits = []>
    : TypeDef<Transformer_Dialect, name, traits> {
  let mnemonic = typeMnemonic;
}

/// A name out of a fixed list, written without quotes (with quotes it is read too).
class Transformer_KeywordParameter<string description> : StringRefParameter<description> {
  let parser = [{[&]() -> ::mlir::FailureOr<std::string> {
    std::string word;
    if ($_parser.parseKeywordOrString(&word))
      return ::mlir::failure();
    return word;
  }()}];
  let printer = [{$_printer.printKeywordOrString($_self)}];
}
/// One that is `word` where it is left out.
class Transformer_KeywordParameterOr<string word, string description>
    : Transformer_KeywordParameter<description> {
  let defaultValue = "\"" # word # "\"";
}

/// Attributes without a dialect's prefix are those that the operation declares. Structural, so that a
/// misspelt attribute is named before the one that is missing for it.
def Transformer_KnownAttributes : NativeOpTrait<"KnownAttributes">, StructuralOpTrait {
  let cppNamespace = "::kernelforge::transformer";
}

class Transformer_Op<string mnemonic, list<Trait> traits = []>
    : Op<Transformer_Dialect, mnemonic, !listconcat([Transformer_KnownAttributes], traits)>;

#endif
