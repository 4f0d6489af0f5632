// Of the unit tests of rooms that use MLIR.
#pragma once
#include "kernel.h"
#include "text_test.h"

#include "kernelforge/compiler/Session.h"
