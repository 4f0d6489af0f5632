// The target-neutral passes, one file each.
#ifndef KERNELFORGE_PASSES_PASSES_TD
#define KERNELFORGE_PASSES_PASSES_TD

include "mlir/Pass/PassBase.td"

def Decompose : Pass<"kernelforge-decompose", "::mlir::ModuleOp"> {
  let summary = "turn composite operations into the operations that kernels are made of";
  let description = [{
    `mlp` becomes `matmul` (gate and up, then down), `activation` and, where it is gated, `mul`.
  }];
  let dependentDialects = ["::kernelforge::transformer::TransformerDialect"];
}

def MergeMatmuls : Pass<"kernelforge-merge-matmuls", "::mlir::func::FuncOp"> {
  let summary = "make matmuls of one input N-segments of one matmul";
  let description = [{
    q, k and v read the same rows, as do gate and up: one matmul reads them once, and its prologue
    runs once. Segments keep their own weights, types and layouts.
  }];
  let dependentDialects = ["::kernelforge::transformer::TransformerDialect"];
}

def MarkWeights : Pass<"kernelforge-mark-weights", "::mlir::ModuleOp"> {
  let summary = "mark plain arguments that are multiplied by as weights";
  let description = [{
    An argument that is neither a size nor marked, and that matmuls alone read as their weight, gets
    `transformer.weight` with the name that it has anyway (`arg1`). It is packed once, when it is
    bound. A matrix that is to change from run to run says so by `transformer.input`.
  }];
  let dependentDialects = ["::kernelforge::transformer::TransformerDialect"];
}

def AssignLayouts : Pass<"kernelforge-assign-layouts", "::mlir::ModuleOp"> {
  let summary = "choose one layout for each weight over all its uses in all functions";
  let description = [{
    A weight that any matmul multiplies with gets the layout that the target wants for its type: a CPU
    interleaved, a target that reads 16 bytes at a time planes of quantized types. One that is only
    gathered from stays row-major, as does a transposed one. The same weight has the same layout in
    every function, so that a session holds one copy. Where a target's matmuls read that layout alone,
    what is multiplied by and is row-major nevertheless (an input, a result, a weight that is returned
    or transposed elsewhere) is packed by a `pack` before it is used.
  }];
  let options = [
    Option<"layout", "layout", "std::string", "\"interleaved\"",
           "without a target: interleaved, which then is needed, or planes">
  ];
  let dependentDialects = ["::kernelforge::transformer::TransformerDialect"];
}

def Fuse : Pass<"kernelforge-fuse", "::mlir::ModuleOp"> {
  let summary = "form kernels: each operation becomes part of one launch";
  let description = [{
    Around each root (matmul, attention) the rowwise operations that feed it alone become its
    prologue, and those that consume its result while it is at hand become its epilogue: bias,
    activation, gate, residual, RoPE, cache append. What is left forms rowwise kernels. Equal bodies
    are one kernel. A launch has layer and role of its root, and a kernel is named after the role that
    all its launches have. Within the compiler, the target's code generator is asked before a kernel is
    formed: what it refuses together and computes one by one stays apart.
  }];
  let options = [
    Option<"fuse", "fuse", "bool", "true", "false: every operation is a kernel of its own">
  ];
  let dependentDialects = ["::kernelforge::transformer::TransformerDialect"];
}

#endif
