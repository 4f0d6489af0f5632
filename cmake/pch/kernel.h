// Of the rooms from code generation up, and of what is made of them: MLIR with the dialects that
// code is made of, text and JSON, and what nearly all of their files include of ours. A file
// includes what it uses all the same.
#pragma once
#include "mlir.h"
#include "text.h"

#include "kernelforge/codegen/CodeGenerator.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/Matchers.h"
#include "mlir/Parser/Parser.h"
#include <fmt/ranges.h>
