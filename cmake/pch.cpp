// Nothing: this file carries the precompiled header that the MLIR rooms reuse.
