// Of the rooms that read and write text and JSON, and know no MLIR.
#pragma once
#include <algorithm>
#include <array>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <span>
#include <spdlog/common.h>
#include <string>
#include <tl/expected.hpp>
#include <vector>
