// Of the unit tests of rooms that use MLIR.
#pragma once
#include "mlir.h"
#include "text_test.h"
