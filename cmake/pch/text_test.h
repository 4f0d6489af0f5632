// Of the unit tests of rooms without MLIR.
#pragma once
#include "text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
