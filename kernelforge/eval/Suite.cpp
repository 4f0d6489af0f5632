#include "kernelforge/eval/Suite.h"

#include "kernelforge/eval/Embedded.h"
#include "kernelforge/ir/Hash.h"
#include "kernelforge/problem/ModuleText.h"
#include "kernelforge/support/MappedFile.h"
#include "kernelforge/support/Suggest.h"

#include <algorithm>
#include <filesystem>
#include <regex>
#include <set>

#include <fmt/format.h>

using namespace kernelforge;

double RowwiseProblem::flops() const {
  const auto ofElement = [&] {
    switch (operation) {
    case Operation::RmsNorm:
      return 4; // square, sum, scale, weight
    case Operation::LayerNorm:
      return 7; // sum, difference, square, sum, scale, weight, bias
    case Operation::Softmax:
      return 5; // maximum, difference, exp, sum, scale
    case Operation::Rope:
      return 3; // two products, sum
    case Operation::SiluMul:
      return 5; // negation, exp, sum, division, product
    case Operation::Add:
      return 1;
    }
    return 0;
  };
  return static_cast<double>(rows * width) * ofElement();
}

namespace fs = std::filesystem;

static constexpr const char *purpose = "suite is not usable";
static constexpr int64_t mostRows = 10'000, mostSize = int64_t(1) << 24, mostListed = 64;

namespace {

using Operation = RowwiseProblem::Operation;
constexpr std::pair<const char *, Operation> operations[] = {
    {"rms_norm", Operation::RmsNorm}, {"layer_norm", Operation::LayerNorm},
    {"softmax", Operation::Softmax},  {"rope", Operation::Rope},
    {"silu_mul", Operation::SiluMul}, {"add", Operation::Add}};

std::optional<Operation> operationOf(std::string_view name) {
  for (const auto &[known, operation] : operations)
    if (name == known)
      return operation;
  return std::nullopt;
}

const char *operationName(Operation operation) {
  for (const auto &[known, value] : operations)
    if (value == operation)
      return known;
  return "";
}

/// One entry of "rows" as it is read for each combination of its lists: `pick` says which value of
/// each list, in the order in which they are asked for.
class Entry {
public:
  Entry(const JsonView &view, const std::vector<size_t> &pick) : view(view), pick(pick) {}

  Expected<int64_t> size(const char *field, int64_t low, const char *tag) {
    KF_TRY(JsonView value, choose(field));
    KF_TRY(int64_t number, value.asInteger(low, mostSize));
    note(fmt::format("{}{}", tag, number));
    return number;
  }
  Expected<int64_t> sizeOr(const char *field, int64_t low, const char *tag, int64_t fallback) {
    if (!view.has(field))
      return fallback;
    return size(field, low, tag);
  }
  Expected<ElementType> typeOr(const char *field, ElementType fallback) {
    if (!view.has(field))
      return fallback;
    KF_TRY(JsonView value, choose(field));
    KF_TRY(std::string name, value.asString(16));
    const std::optional<ElementType> type = elementTypeByName(name);
    if (!type || *type == ElementType::I32)
      return value.error("'" + name + "' is no type of weights");
    note(name);
    return *type;
  }
  Expected<Numerics> numerics() {
    if (!view.has("numerics"))
      return Numerics::F32;
    KF_TRY(JsonView value, choose("numerics"));
    KF_TRY(std::string name, value.asString(16));
    const Expected<Numerics> numerics = parseNumerics(name);
    if (!numerics)
      return value.error(numerics.error().why);
    note(name);
    return *numerics;
  }
  Expected<std::string> text(const char *field) {
    asked.insert(field);
    return view.string(field, 4096);
  }
  Expected<std::string> textOr(const char *field, std::string fallback) {
    asked.insert(field);
    return view.stringOr(field, 4096, std::move(fallback));
  }
  Expected<bool> booleanOr(const char *field, bool fallback) {
    asked.insert(field);
    return view.booleanOr(field, fallback);
  }
  Expected<std::map<std::string, int64_t>> sizes(const char *field) {
    asked.insert(field);
    std::map<std::string, int64_t> values;
    if (!view.has(field))
      return values;
    KF_TRY(JsonView object, view.object(field));
    KF_TRY(auto members, object.members());
    for (const auto &[name, value] : members) {
      KF_TRY(values[name], value.asInteger(1, mostSize));
    }
    return values;
  }

  /// Unusable where a field is not one of those that were asked for.
  Status finish() const {
    KF_TRY(auto members, view.members());
    for (const auto &[name, value] : members)
      if (!asked.contains(name))
        return value.error("this family has no such field");
    return {};
  }

  tl::unexpected<Error> refuse(std::string why) const { return view.error(std::move(why)); }
  const std::string &suffix() const { return names; }           ///< of the row's name
  const std::vector<size_t> &lengths() const { return counts; } ///< of the lists, as asked for

private:
  /// A field's value, or its picked one where it is a list.
  Expected<JsonView> choose(const char *field) {
    asked.insert(field);
    KF_TRY(JsonView value, view.at(field));
    isList = value.isArray();
    if (!isList)
      return value;
    KF_TRY(auto elements, value.elements(mostListed));
    if (elements.empty())
      return value.error("the list is empty");
    counts.push_back(elements.size());
    return elements[counts.size() <= pick.size() ? pick[counts.size() - 1] : 0];
  }
  void note(const std::string &text) {
    if (isList)
      names += "/" + text;
  }

  const JsonView &view;
  const std::vector<size_t> &pick;
  std::set<std::string> asked{"name", "family"};
  std::vector<size_t> counts;
  std::string names;
  bool isList = false;
};

Expected<MatmulProblem> readMatmul(Entry &entry) {
  MatmulProblem p;
  KF_TRY(p.m, entry.size("m", 1, "m"));
  KF_TRY(p.n, entry.size("n", 1, "n"));
  KF_TRY(p.k, entry.size("k", 1, "k"));
  KF_TRY(p.weights, entry.typeOr("weights", ElementType::F32));
  KF_TRY(p.transpose, entry.booleanOr("transpose", false));
  KF_TRY(std::string epilogue, entry.textOr("epilogue", ""));
  KF_TRY(p.epilogue, parseEpilogue(epilogue));
  KF_TRY(p.numerics, entry.numerics());
  if (Status legal = checkProblem(p); !legal)
    return entry.refuse(legal.error().why);
  return p;
}

Expected<AttentionProblem> readAttention(Entry &entry) {
  AttentionProblem p;
  KF_TRY(p.rows, entry.size("rows", 1, "m"));
  KF_TRY(p.past, entry.sizeOr("past", 0, "past", 0));
  KF_TRY(p.heads, entry.size("heads", 1, "h"));
  KF_TRY(p.kvHeads, entry.sizeOr("kv_heads", 1, "kv", p.heads));
  KF_TRY(p.headDim, entry.size("head_dim", 2, "d"));
  KF_TRY(p.cache, entry.typeOr("cache", ElementType::F32));
  KF_TRY(p.numerics, entry.numerics());
  if (multipliesIntegers(p.numerics))
    return entry.refuse("an attention has no numerics of whole numbers");
  if (p.heads % p.kvHeads != 0)
    return entry.refuse("heads is no multiple of kv_heads");
  const ElementTypeInfo &cache = info(p.cache);
  if (cache.type == ElementType::I32 || (cache.isQuantized() && cache.type != ElementType::Q8_0))
    return entry.refuse("a cache is f32, f16, bf16 or q8_0");
  if (p.headDim % cache.blockElements != 0)
    return entry.refuse("head_dim is no whole number of blocks of the cache");
  return p;
}

Expected<RowwiseProblem> readRowwise(Entry &entry, Operation operation) {
  RowwiseProblem p;
  p.operation = operation;
  KF_TRY(p.rows, entry.size("rows", 1, "m"));
  if (operation != Operation::Rope) {
    KF_TRY(p.width, entry.size("width", 1, "w"));
    return p;
  }
  KF_TRY(int64_t heads, entry.size("heads", 1, "h"));
  KF_TRY(p.headDim, entry.size("head_dim", 2, "d"));
  if (p.headDim % 2 != 0)
    return entry.refuse("head_dim is odd");
  p.width = heads * p.headDim;
  return p;
}

Expected<BlockProblem> readBlock(Entry &entry) {
  BlockProblem p;
  KF_TRY(p.rows, entry.size("rows", 1, "m"));
  KF_TRY(p.past, entry.sizeOr("past", 0, "past", 0));
  KF_TRY(p.modelDim, entry.size("d_model", 1, "w"));
  KF_TRY(p.heads, entry.size("heads", 1, "h"));
  KF_TRY(p.kvHeads, entry.sizeOr("kv_heads", 1, "kv", p.heads));
  KF_TRY(p.headDim, entry.sizeOr("head_dim", 2, "d", p.modelDim / p.heads));
  KF_TRY(p.ffnDim, entry.size("d_ff", 1, "f"));
  KF_TRY(p.layers, entry.sizeOr("layers", 1, "l", 1));
  KF_TRY(p.weights, entry.typeOr("weights", ElementType::F32));
  KF_TRY(p.numerics, entry.numerics());
  if (multipliesIntegers(p.numerics) && !info(p.weights).hasIntegers())
    return entry.refuse(
        fmt::format("numerics {} multiply by whole numbers, and {} weights are none",
                    numericsName(p.numerics), info(p.weights).name));
  if (p.heads % p.kvHeads != 0 || p.headDim < 2 || p.headDim % 2 != 0)
    return entry.refuse("heads is no multiple of kv_heads, or head_dim is odd");
  for (int64_t width : {p.modelDim, p.heads * p.headDim, p.ffnDim})
    if (!rowBytes(p.weights, static_cast<uint64_t>(width)))
      return entry.refuse(fmt::format("rows of {} elements are no whole number of {} blocks", width,
                                      info(p.weights).name));
  return p;
}

Expected<ModuleProblem> readModule(Entry &entry, const std::string &folder) {
  ModuleProblem p;
  KF_TRY(std::string file, entry.text("file"));
  const bool isBeside = !folder.empty() && fs::path(file).is_relative();
  p.file = isBeside ? (fs::path(folder) / file).string() : file;
  KF_TRY(p.function, entry.textOr("function", ""));
  KF_TRY(p.sizes, entry.sizes("sizes"));
  KF_TRY(p.past, entry.sizeOr("past", 0, "past", 0));
  return p;
}

Expected<SuiteRow> readRow(Entry &entry, const std::string &family, const std::string &folder) {
  SuiteRow row;
  row.family = family;
  if (family == "matmul") {
    KF_TRY(row.problem, readMatmul(entry));
  } else if (family == "attention") {
    KF_TRY(row.problem, readAttention(entry));
  } else if (family == "block") {
    KF_TRY(row.problem, readBlock(entry));
  } else if (family == "module") {
    KF_TRY(row.problem, readModule(entry, folder));
  } else if (auto operation = operationOf(family)) {
    KF_TRY(row.problem, readRowwise(entry, *operation));
    row.family = "rowwise";
  } else {
    std::string known = "matmul, attention, block, module";
    for (const auto &[name, value] : operations)
      known += std::string(", ") + name;
    return entry.refuse("\"family\" is '" + family + "'; known are " + known);
  }
  KF_CHECK(entry.finish());
  return row;
}

/// The next combination of lists of these lengths; false after the last.
bool advance(std::vector<size_t> &pick, const std::vector<size_t> &lengths) {
  pick.resize(lengths.size(), 0);
  for (size_t i = pick.size(); i-- > 0;) {
    if (++pick[i] < lengths[i])
      return true;
    pick[i] = 0;
  }
  return false;
}

} // namespace

/// `json` with what it rounds before it multiplies, where it rounds anything.
static Json saying(Json json, Numerics numerics) {
  if (numerics != Numerics::F32)
    json["numerics"] = numericsName(numerics);
  return json;
}

Json kernelforge::problemJson(const MatmulProblem &p) {
  return saying({{"m", p.m},
                 {"n", p.n},
                 {"k", p.k},
                 {"dtype", "f32"},
                 {"weights", info(p.weights).name},
                 {"transpose", p.transpose},
                 {"epilogue", epilogueText(p.epilogue)}},
                p.numerics);
}

Json SuiteRow::problemJson() const {
  struct Writer {
    Json operator()(const MatmulProblem &p) const { return kernelforge::problemJson(p); }
    Json operator()(const AttentionProblem &p) const {
      return saying({{"rows", p.rows},
                     {"past", p.past},
                     {"heads", p.heads},
                     {"kv_heads", p.kvHeads},
                     {"head_dim", p.headDim},
                     {"cache", info(p.cache).name}},
                    p.numerics);
    }
    Json operator()(const RowwiseProblem &p) const {
      Json json = {{"operation", operationName(p.operation)}, {"rows", p.rows}, {"width", p.width}};
      if (p.headDim > 0)
        json["head_dim"] = p.headDim;
      return json;
    }
    Json operator()(const BlockProblem &p) const {
      return saying({{"rows", p.rows},
                     {"past", p.past},
                     {"d_model", p.modelDim},
                     {"heads", p.heads},
                     {"kv_heads", p.kvHeads},
                     {"head_dim", p.headDim},
                     {"d_ff", p.ffnDim},
                     {"layers", p.layers},
                     {"weights", info(p.weights).name}},
                    p.numerics);
    }
    Json operator()(const ModuleProblem &p) const {
      return {{"file", fs::path(p.file).filename().string()},
              {"function", p.function},
              {"sizes", p.sizes},
              {"past", p.past}};
    }
  };
  return std::visit(Writer{}, problem);
}

/// What tells the contents of a file from others; of one that cannot be read, which its row will
/// say, nothing.
static std::string fileHash(const std::string &file) {
  auto text = readFile(file, purpose, maxModuleBytes);
  return text ? sha256Hex(*text) : "";
}

/// Suite::hash of these rows.
static std::string hashOf(const std::vector<SuiteRow> &rows) {
  Json problems = Json::array();
  for (const SuiteRow &row : rows) {
    problems.push_back({row.name, row.problemJson()});
    if (const auto *module = std::get_if<ModuleProblem>(&row.problem))
      problems.push_back(fileHash(module->file));
  }
  return sha256Hex(problems.dump()).substr(0, 16);
}

Expected<Suite> kernelforge::parseSuite(const JsonView &root, const std::string &folder) {
  Suite suite;
  KF_TRY(suite.name, root.string("name", 256));
  KF_TRY(suite.summary, root.stringOr("summary", 4096, ""));
  KF_TRY(auto entries, root.array("rows", static_cast<uint64_t>(mostRows)));
  std::set<std::string> names;
  for (const JsonView &view : entries) {
    KF_TRY(std::string name, view.string("name", 256));
    KF_TRY(std::string family, view.string("family", 64));
    std::vector<size_t> pick;
    for (bool more = true; more;) {
      Entry entry(view, pick);
      KF_TRY(SuiteRow row, readRow(entry, family, folder));
      row.name = name + entry.suffix();
      if (!names.insert(row.name).second)
        return view.error("the name '" + row.name + "' is given twice");
      if (static_cast<int64_t>(suite.rows.size()) == mostRows)
        return view.error(fmt::format("the suite has more than {} rows", mostRows));
      suite.rows.push_back(std::move(row));
      more = advance(pick, entry.lengths());
    }
  }
  if (suite.rows.empty())
    return root.error("\"rows\" is empty");
  suite.document = root.value();
  suite.hash = hashOf(suite.rows);
  return suite;
}

Suite kernelforge::withNumerics(Suite suite, const ChosenNumerics &numerics) {
  const auto set = [&](Numerics &own, const ProductTraits &product) {
    const Numerics chosen = numerics.of(product);
    if (own == Numerics::F32 && (product.byQuantized || !multipliesIntegers(chosen)))
      own = chosen;
  };
  for (SuiteRow &row : suite.rows)
    if (auto *matmul = std::get_if<MatmulProblem>(&row.problem))
      set(matmul->numerics, matmul->product());
    else if (auto *block = std::get_if<BlockProblem>(&row.problem))
      set(block->numerics,
          {.byQuantized = info(block->weights).isQuantized(), .rows = block->rows});
    else if (auto *attention = std::get_if<AttentionProblem>(&row.problem))
      set(attention->numerics, {.isAttention = true, .rows = attention->rows});
  suite.hash = hashOf(suite.rows);
  return suite;
}

std::vector<std::string> kernelforge::suiteNames() {
  return {"transformer", "seed", "decode-weights", "odd", "smoke"};
}

Expected<JsonDocument> kernelforge::suiteDocument(const std::string &nameOrFile) {
  if (std::ranges::count(suiteNames(), nameOrFile) > 0)
    return parseJson(embeddedFile("suites/" + nameOrFile + ".json"), purpose, nameOrFile);
  std::error_code error;
  if (nameOrFile == "-" || fs::exists(nameOrFile, error))
    return readJsonText(nameOrFile, purpose);
  return missing("suite is not here", nameOrFile, "there is no such file or suite",
                 namesHint(nameOrFile, suiteNames()));
}

Expected<Suite> kernelforge::findSuite(const std::string &nameOrFile) {
  KF_TRY(JsonDocument document, suiteDocument(nameOrFile));
  return parseSuite(document.root(), fs::path(nameOrFile).parent_path());
}

Expected<Suite> kernelforge::filterSuite(Suite suite, const std::string &regex) {
  if (regex.empty())
    return suite;
  std::regex pattern;
  try {
    pattern = std::regex(regex, std::regex::extended);
  } catch (const std::regex_error &error) {
    return unusable("wrong usage", "--filter " + regex, error.what());
  }
  std::erase_if(suite.rows,
                [&](const SuiteRow &row) { return !std::regex_search(row.name, pattern); });
  if (suite.rows.empty())
    return unusable("wrong usage", "--filter " + regex,
                    "no row of the suite " + suite.name + " has such a name",
                    "'benchmark-suite --list -v' shows the rows");
  return suite;
}
