// Types: quantized elements and key/value caches.
#ifndef KERNELFORGE_IR_TRANSFORMERTYPES_TD
#define KERNELFORGE_IR_TRANSFORMERTYPES_TD

include "kernelforge/ir/TransformerDialect.td"
include "mlir/IR/BuiltinTypeInterfaces.td"

def Transformer_QuantType : Transformer_Type<"Quant", "quant", [
    DeclareTypeInterfaceMethods<MemRefElementTypeInterface>]> {
  let summary = "element of a quantized weight";
  let description = [{
    `!transformer.quant<q4_1>`: the scheme is a row of the table in support/ElementType.h, which says
    how many elements share a block, its bytes, and how an element is expanded.
  }];
  let parameters = (ins Transformer_KeywordParameter<"a scheme of the element type table">:$scheme);
  let assemblyFormat = "`<` $scheme `>`";
  let genVerifyDecl = 1;
}

def Transformer_CacheType : Transformer_Type<"Cache", "cache"> {
  let summary = "a key or value cache";
  let description = [{
    Rows of `heads * dim` values, one row per slot: `!transformer.cache<3, 64, f32>`. A sequence's
    position p lies in slot start + p (contiguous), or, with `page = N`, in slot
    table[sequence, p / N] * N + p mod N. Written by `cache_append`, read by `attention`.

    Elements are f32, f16, bf16 or `!transformer.quant<q8_0>`, whose blocks of 32 lie within a head. A slot
    of these has all its quants, a byte each, and behind them the blocks' scales, f16, filled up to whole
    32-bit words.
  }];
  let parameters = (ins "int64_t":$heads, "int64_t":$dim, "::mlir::Type":$elementType,
                        OptionalParameter<"int64_t">:$page);
  let assemblyFormat = "`<` $heads `,` $dim `,` $elementType (`,` `page` `=` $page^)? `>`";
  let genVerifyDecl = 1;
}

#endif
