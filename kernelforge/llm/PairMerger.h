// The loop of byte pair encoding, whatever says which two symbols merge.
#pragma once

#include "kernelforge/llm/TokenizerData.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

namespace kernelforge {

/// A stretch of the text on its way to become a token.
struct MergeSymbol {
  TokenId id;     ///< -1: of no token yet
  uint32_t begin; ///< in bytes
  uint32_t size;  ///< 0: was merged into the one before
  int32_t previous = -1, next = -1;
  bool mayMerge = true;
};

/// What two symbols become, and how soon: the smallest rank first.
struct PairMerge {
  uint32_t rank;
  TokenId id;
};

/// Merges the symbols of one piece of text, smallest rank first and leftmost among equals, in
/// n log n time. Reused from piece to piece to avoid allocation.
class PairMerger {
public:
  std::vector<MergeSymbol> symbols; ///< the first is always there after merging

  void clear() { symbols.clear(); }

  void add(MergeSymbol symbol) {
    const auto index = static_cast<int32_t>(symbols.size());
    symbol.previous = index - 1;
    if (index > 0)
      symbols.back().next = index;
    symbols.push_back(symbol);
  }

  /// `find(left, right)` gives the merge of two neighbours, a std::optional<PairMerge>.
  template <typename Find> void merge(const Find &find) {
    heap.clear();
    auto mergeAt = [&](int32_t left) -> std::optional<PairMerge> {
      if (left < 0 || symbols[left].next < 0)
        return std::nullopt;
      return find(symbols[left], symbols[symbols[left].next]);
    };
    auto propose = [&](int32_t left) {
      const std::optional<PairMerge> merge = mergeAt(left);
      if (!merge)
        return;
      heap.push_back({merge->rank, left, merge->id});
      std::push_heap(heap.begin(), heap.end());
    };
    for (size_t i = 0; i + 1 < symbols.size(); ++i)
      if (const auto merge = mergeAt(static_cast<int32_t>(i)))
        heap.push_back({merge->rank, static_cast<int32_t>(i), merge->id});
    std::make_heap(heap.begin(), heap.end());

    while (!heap.empty()) {
      const Candidate top = heap.front();
      std::pop_heap(heap.begin(), heap.end());
      heap.pop_back();
      if (symbols[top.left].size == 0)
        continue;
      // The pair may have changed since it was proposed; another pair with the same result is as
      // good (the references decide so too).
      const std::optional<PairMerge> now = mergeAt(top.left);
      if (!now || now->id != top.result)
        continue;
      MergeSymbol &left = symbols[top.left];
      MergeSymbol &right = symbols[left.next];
      left.id = top.result;
      left.size += right.size;
      right.size = 0;
      left.next = right.next;
      if (left.next >= 0)
        symbols[left.next].previous = top.left;
      propose(left.previous);
      propose(top.left);
    }
  }

private:
  struct Candidate {
    uint32_t rank;
    int32_t left; ///< index of the pair's left symbol
    TokenId result;
    /// Order of a heap whose top is the smallest.
    bool operator<(const Candidate &other) const {
      return rank != other.rank ? rank > other.rank : left > other.left;
    }
  };
  std::vector<Candidate> heap;
};

} // namespace kernelforge
