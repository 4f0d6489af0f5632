// What looks like one character: a letter with its marks, an emoji of several.
#pragma once

#include <functional>
#include <string_view>

namespace kernelforge {

/// Calls use() for each extended grapheme cluster in turn. `text` is valid UTF-8. The rules are
/// those of https://www.unicode.org/reports/tr29/#Grapheme_Cluster_Boundary_Rules. Its classes come
/// from a table of ours, as those of SplitPattern.h do: ids must not depend on a system's version.
void forEachGrapheme(std::string_view text, const std::function<void(std::string_view)> &use);

} // namespace kernelforge
