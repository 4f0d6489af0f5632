#include "kernelforge/llm/PieceModel.h"

#include "kernelforge/llm/ByteToken.h"
#include "kernelforge/support/Utf8.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

namespace kernelforge {

static tl::unexpected<Error> error(const TokenizerData &data, std::string why,
                                   std::string_view hint = "") {
  return unusable("tokenizer is not usable", data.where, why, hint);
}

Expected<std::shared_ptr<const PieceModel>> PieceModel::create(const TokenizerData &data) {
  std::shared_ptr<PieceModel> model(new PieceModel(*data.pieces));
  KF_CHECK(model->addPieces(data));
  if (model->rules.algorithm == PieceRules::Algorithm::MergesByRank)
    KF_CHECK(model->addMerges(data));
  else if (model->rules.algorithm == PieceRules::Algorithm::MergesByScore)
    model->addRanks();
  return model;
}

Status PieceModel::addPieces(const TokenizerData &data) {
  const size_t count = data.tokens.size();
  const bool hasScores = rules.algorithm != PieceRules::Algorithm::MergesByRank;
  if (hasScores && rules.scores.size() != count)
    return error(data, fmt::format("{} tokens but {} scores", count, rules.scores.size()));
  if (rules.unknown && (*rules.unknown < 0 || static_cast<size_t>(*rules.unknown) >= count))
    return error(data, fmt::format("unknown token {} is not in the vocabulary of {} tokens",
                                   *rules.unknown, count));
  types = data.types;
  takesWholeWords = data.ignoresMerges.value_or(false);
  byteIds.fill(-1);
  size_t total = 0;
  for (const std::string &text : data.tokens)
    total += text.size();
  texts = std::make_unique<std::string>();
  texts->reserve(total);
  ids.reserve(count);
  const bool isUnigram = rules.algorithm == PieceRules::Algorithm::Unigram;
  std::vector<std::pair<std::string, TokenId>> within, unigrams;
  double lowest = 0;
  bool isFirst = !rules.bytesArePieces; // `tokenizers` has no lowest score above 0
  for (size_t i = 0; i < count; ++i) {
    const std::string &text = data.tokens[i];
    const TokenType type = types[i];
    const auto id = static_cast<TokenId>(i);
    if (hasScores && !std::isfinite(rules.scores[i]))
      return error(data, fmt::format("the score of token {} is not a finite number", i));
    const bool isPiece = type == TokenType::Normal || type == TokenType::UserDefined ||
                         type == TokenType::Unused ||
                         (type == TokenType::Byte && rules.bytesArePieces);
    if (hasScores && (type == TokenType::Normal || rules.bytesArePieces) &&
        (isFirst || rules.scores[i] < lowest)) {
      lowest = rules.scores[i];
      isFirst = false;
    }
    if (type == TokenType::Byte)
      if (const int byte = byteOfToken(text); byte >= 0)
        byteIds[byte] = id;
    const auto added = data.added.find(id);
    const bool isApart = added != data.added.end() && added->second.isApart;
    if (!isPiece || isApart || text.empty())
      continue;
    if (text.size() > PieceRules::maxPieceBytes)
      return error(data, fmt::format("token {} is {} bytes long", i, text.size()),
                   fmt::format("the limit of pieces is {}", PieceRules::maxPieceBytes));
    longest = std::max(longest, text.size());
    const size_t at = texts->size();
    *texts += text;
    ids.emplace(std::string_view(*texts).substr(at, text.size()), id);
    for (size_t space = text.find(pieceSpace, 1); space != text.npos;
         space = text.find(pieceSpace, space + 1))
      joined.set(static_cast<uint8_t>(text[space - 1]));
    if (data.isWithin(id))
      within.emplace_back(text, id);
    if (isUnigram && type != TokenType::Unused)
      unigrams.emplace_back(text, id);
  }
  userDefined = PieceSet(std::move(within));
  lattice = PieceSet(std::move(unigrams));
  constexpr double penalty = 10; // of both references
  unknownScore = lowest - penalty;
  return {};
}

void PieceModel::addRanks() {
  std::vector<double> scores = rules.scores;
  std::ranges::sort(scores, std::greater());
  const auto repeated = std::ranges::unique(scores);
  scores.erase(repeated.begin(), repeated.end());
  ranks.reserve(rules.scores.size());
  for (double score : rules.scores)
    ranks.push_back(static_cast<uint32_t>(std::ranges::lower_bound(scores, score, std::greater()) -
                                          scores.begin()));
}

Status PieceModel::addMerges(const TokenizerData &data) {
  std::unordered_map<std::string_view, TokenId> idOf;
  idOf.reserve(data.tokens.size());
  for (size_t i = 0; i < data.tokens.size(); ++i)
    idOf.emplace(data.tokens[i], static_cast<TokenId>(i));
  merges.reserve(data.merges.size());
  std::string both;
  for (size_t rank = 0; rank < data.merges.size(); ++rank) {
    KF_TRY(const MergeText merge, splitMerge(data, rank));
    both.assign(merge.left).append(merge.right);
    const auto left = idOf.find(merge.left), right = idOf.find(merge.right),
               result = idOf.find(both);
    if (left == idOf.end() || right == idOf.end() || result == idOf.end())
      return error(data, fmt::format("merge {} has a token that is not in the vocabulary", rank));
    if (types[result->second] == TokenType::Control)
      continue; // never made from ordinary text
    merges[static_cast<uint64_t>(left->second) << 32 | static_cast<uint32_t>(right->second)] = {
        static_cast<uint32_t>(rank), result->second};
  }
  return {};
}

TokenId PieceModel::find(std::string_view text) const {
  if (text.size() > longest)
    return -1;
  const auto found = ids.find(text);
  return found == ids.end() ? -1 : found->second;
}

void PieceModel::emitUnknown(std::string_view text, Worker &worker,
                             std::vector<TokenId> &out) const {
  auto hasByte = [&](char c) { return byteIds[static_cast<uint8_t>(c)] >= 0; };
  if (rules.byteFallback && std::ranges::all_of(text, hasByte)) {
    for (char c : text)
      out.push_back(byteIds[static_cast<uint8_t>(c)]);
    worker.wasUnknown = false;
    return;
  }
  if (rules.unknown && !(rules.fuseUnknown && worker.wasUnknown))
    out.push_back(*rules.unknown);
  worker.wasUnknown = true;
}

void PieceModel::emit(std::string_view text, TokenId id, Worker &worker,
                      std::vector<TokenId> &out) const {
  if (id < 0 || id == rules.unknown)
    return emitUnknown(text, worker, out);
  if (types[id] == TokenType::Unused && rules.algorithm == PieceRules::Algorithm::MergesByScore) {
    // It was a step to a longer piece that did not come: what it was made of takes its place.
    const auto split = worker.splits.find(id);
    if (split == worker.splits.end())
      return emitUnknown(text, worker, out);
    const std::string_view left = text.substr(0, split->second), right = text.substr(split->second);
    emit(left, find(left), worker, out);
    emit(right, find(right), worker, out);
    return;
  }
  out.push_back(id);
  worker.wasUnknown = false;
}

std::optional<PairMerge> PieceModel::mergeByScore(std::string_view part, Worker &worker,
                                                  const MergeSymbol &left,
                                                  const MergeSymbol &right) const {
  if (!left.mayMerge || !right.mayMerge)
    return std::nullopt;
  const TokenId id = find(part.substr(left.begin, size_t(left.size) + right.size));
  if (id < 0)
    return std::nullopt;
  if (types[id] == TokenType::Unused)
    worker.splits[id] = left.size;
  return PairMerge{ranks[id], id};
}

void PieceModel::mergePart(std::string_view part, Worker &worker, std::vector<TokenId> &out) const {
  PairMerger &merger = worker.merger;
  merger.clear();
  for (size_t at = 0; at < part.size();) {
    size_t size = userDefined.longestPrefix(part.substr(at));
    const bool isUserDefined = size > 0;
    if (!isUserDefined)
      size = decodeUtf8(part.substr(at)).length;
    const std::string_view text = part.substr(at, size);
    merger.add({find(text), static_cast<uint32_t>(at), static_cast<uint32_t>(size), -1, -1,
                !isUserDefined});
    at += size;
  }
  if (rules.algorithm == PieceRules::Algorithm::MergesByScore)
    merger.merge([&](const MergeSymbol &left, const MergeSymbol &right) {
      return mergeByScore(part, worker, left, right);
    });
  else
    merger.merge([&](const MergeSymbol &left, const MergeSymbol &right) {
      const auto found =
          merges.find(static_cast<uint64_t>(left.id) << 32 | static_cast<uint32_t>(right.id));
      return found == merges.end() ? std::nullopt : std::optional(found->second);
    });
  for (int32_t i = 0; i >= 0; i = merger.symbols[i].next)
    emit(part.substr(merger.symbols[i].begin, merger.symbols[i].size), merger.symbols[i].id, worker,
         out);
}

/// The first place behind the beginning that no piece goes across.
size_t PieceModel::partEnd(std::string_view word) const {
  for (size_t at = word.find(pieceSpace, 1); at != word.npos; at = word.find(pieceSpace, at + 1))
    if (!joined.test(static_cast<uint8_t>(word[at - 1])))
      return at;
  return word.size();
}

void PieceModel::encodeMerges(std::string_view word, Worker &worker,
                              std::vector<TokenId> &out) const {
  if (takesWholeWords)
    if (const TokenId id = find(word); id >= 0) {
      out.push_back(id);
      worker.wasUnknown = false;
      return;
    }
  while (!word.empty()) {
    const size_t end = partEnd(word);
    mergePart(word.substr(0, end), worker, out);
    word.remove_prefix(end);
  }
}

/// The best path over the places of the word; where two are as good, the one that was found first.
template <typename Sum>
void PieceModel::encodeUnigram(std::string_view word, Worker &worker,
                               std::vector<TokenId> &out) const {
  auto &ends = worker.ends;
  ends.assign(word.size() + 1, {0, -1, -1});
  auto offer = [&](size_t begin, size_t end, TokenId id, Sum score) {
    Worker::PathEnd &best = ends[end];
    const Sum sum = score + static_cast<Sum>(ends[begin].score);
    if (best.begin < 0 || sum > static_cast<Sum>(best.score))
      best = {sum, id, static_cast<int32_t>(begin)};
  };
  size_t furthest = 0;
  for (size_t at = 0; at < word.size();) {
    // SentencePiece moves the zero of its sums from time to time, so that f32 can tell them apart.
    constexpr Sum farFromZero = 100000;
    const Sum here = static_cast<Sum>(ends[at].score);
    if (rules.sumsInF32 && std::abs(here) > farFromZero)
      for (size_t i = at; i <= furthest; ++i)
        if (i == at || ends[i].begin >= 0)
          ends[i].score = static_cast<Sum>(ends[i].score) - here;
    const size_t character = decodeUtf8(word.substr(at)).length;
    bool isPiece = false;
    lattice.forEachPrefix(word.substr(at), [&](size_t length, TokenId id) {
      // A user defined piece is worth more than any path of others.
      const bool isUserDefined = types[id] == TokenType::UserDefined && rules.userDefinedWithin;
      const auto score = isUserDefined ? static_cast<Sum>(0.1 * static_cast<double>(length - 1))
                                       : static_cast<Sum>(rules.scores[id]);
      furthest = std::max(furthest, at + length);
      offer(at, at + length, id, score);
      isPiece |= length == character;
    });
    if (!isPiece) {
      furthest = std::max(furthest, at + character);
      offer(at, at + character, -1, static_cast<Sum>(unknownScore));
    }
    at += character;
  }
  auto &path = worker.path;
  path.clear();
  for (size_t end = word.size(); end > 0;) {
    const Worker::PathEnd &last = ends[end];
    const auto begin = static_cast<size_t>(last.begin);
    path.emplace_back(word.substr(begin, end - begin), last.id);
    end = begin;
  }
  for (size_t i = path.size(); i-- > 0;)
    emit(path[i].first, path[i].second, worker, out);
}

void PieceModel::encode(std::string_view word, Worker &worker, std::vector<TokenId> &out) const {
  if (rules.algorithm != PieceRules::Algorithm::Unigram)
    encodeMerges(word, worker, out);
  else if (rules.sumsInF32)
    encodeUnigram<float>(word, worker, out);
  else
    encodeUnigram<double>(word, worker, out);
}

} // namespace kernelforge
