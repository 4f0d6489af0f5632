#include "Instruction.h"
#include "Names.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

namespace kernelforge::ptx {

namespace {

struct Failure {
  std::string why;
};

[[noreturn]] void fail(const std::string &why) { throw Failure{why}; }

std::string_view trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r");
  if (begin == text.npos)
    return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

std::vector<std::string_view> split(std::string_view text, char at) {
  std::vector<std::string_view> parts;
  int depth = 0;
  size_t begin = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    depth += text[i] == '{' || text[i] == '[' ? 1 : text[i] == '}' || text[i] == ']' ? -1 : 0;
    if (text[i] == at && depth == 0) {
      parts.push_back(trim(text.substr(begin, i - begin)));
      begin = i + 1;
    }
  }
  if (!trim(text.substr(begin)).empty())
    parts.push_back(trim(text.substr(begin)));
  return parts;
}

uint64_t number(std::string_view text) {
  const bool isNegative = text.starts_with('-');
  if (isNegative)
    text.remove_prefix(1);
  const bool isHex = text.starts_with("0x");
  uint64_t value = 0;
  const char *begin = text.data() + (isHex ? 2 : 0), *end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(begin, end, value, isHex ? 16 : 10);
  if (error != std::errc() || stop != end)
    fail("no number: " + std::string(text));
  return isNegative ? 0 - value : value;
}

std::optional<Type> typeOf(std::string_view name) {
  if (name == "pred")
    return Type{Type::Predicate, 1};
  const std::string_view kinds = "busf";
  const size_t kind = name.empty() ? kinds.npos : kinds.find(name[0]);
  if (kind == kinds.npos)
    return std::nullopt;
  for (const char *bits : {"8", "16", "32", "64"})
    if (name.substr(1) == bits)
      return Type{static_cast<Type::Kind>(Type::Bits + kind), static_cast<uint8_t>(number(bits))};
  return std::nullopt;
}

class EntryParser {
public:
  explicit EntryParser(Entry &entry) : entry(entry) {}

  void parameter(std::string_view text) {
    const std::vector<std::string_view> words = split(text, ' ');
    if (words.size() < 3)
      fail("no parameter: " + std::string(text));
    if (words[1] == ".align") { // ".param .align 64 .b8 name[128]"
      const std::string_view name = words.back();
      if (!name.ends_with("[128]"))
        fail("parameter of another form: " + std::string(text));
      return parameter(name.substr(0, name.find('[')), tensorMapBytes, number(words[2]));
    }
    const std::optional<Type> type = typeOf(words[1].substr(1));
    if (!type)
      fail("parameter of another type: " + std::string(text));
    parameter(words.back(), type->bits / 8, type->bits / 8);
  }

  void parameter(std::string_view name, unsigned bytes, uint64_t alignment) {
    const auto unit = static_cast<unsigned>(alignment);
    parameterEnd = (parameterEnd + unit - 1) / unit * unit;
    symbols[std::string(name)] = parameterEnd;
    entry.parameterOffsets.push_back(parameterEnd);
    entry.parameterBytes.push_back(bytes);
    parameterEnd += bytes;
  }

  /// A statement without its semicolon.
  void statement(std::string_view text, unsigned line) {
    if (text.starts_with(".reg"))
      return registers(text.substr(4));
    if (text.starts_with(".shared"))
      return shared(text.substr(7));
    if (text.starts_with(".pragma"))
      return;
    if (text.starts_with('.'))
      fail("directive that is not emulated: " + std::string(text));
    if (text.starts_with('{') && text.ends_with('}')) { // a scope of one line
      for (std::string_view inner : split(text.substr(1, text.size() - 2), ';'))
        statement(inner, line);
      return;
    }
    instruction(text, line);
  }

  void label(std::string_view name) {
    labels.back()[std::string(name)] = static_cast<unsigned>(entry.code.size());
  }

  /// Shared memory that a launch asks for: it lies behind what is declared, which is nothing here.
  void askedMemory(const std::string &name) { symbols[name] = 0; }

  // A scope has labels of its own.
  void open() { labels.emplace_back(); }
  /// Whether that was the entry's own.
  bool close() {
    std::erase_if(branches, [&](const auto &branch) {
      const auto label = labels.back().find(branch.second);
      if (label == labels.back().end())
        return false;
      entry.code[branch.first].target = label->second;
      return true;
    });
    labels.pop_back();
    if (labels.empty() && !branches.empty())
      fail("no label " + branches.front().second);
    return labels.empty();
  }

private:
  /// " .f32 %f<12>", " .b64 left, right"
  void registers(std::string_view text) {
    text = trim(text);
    if (const size_t comma = text.rfind(','); comma != text.npos) {
      registers(text.substr(0, comma));
      registers(std::string(text.substr(0, text.find(' ') + 1)) +
                std::string(trim(text.substr(comma + 1))));
      return;
    }
    const size_t space = text.find_first_of(" \t"), open = text.find('<');
    const std::optional<Type> type = typeOf(text.substr(1, space - 1));
    if (!type)
      fail("registers of another kind: " + std::string(text));
    const std::string prefix(trim(text.substr(space, open - space)));
    if (open == text.npos) { // one, named as it is
      singles[prefix] = {entry.registers++, 1, type->bits};
      return;
    }
    const uint64_t count = number(text.substr(open + 1, text.find('>') - open - 1));
    banks[prefix] = {entry.registers, static_cast<unsigned>(count), type->bits};
    entry.registers += static_cast<unsigned>(count);
  }

  /// " .align 4 .b8 name[256]", " .align 4 .u32 name"
  void shared(std::string_view text) {
    const std::vector<std::string_view> words = split(trim(text), ' ');
    const std::optional<Type> type = words.size() == 4 ? typeOf(words[2].substr(1)) : std::nullopt;
    if (!type || words[0] != ".align")
      fail("shared memory of another form: " + std::string(text));
    const size_t open = words[3].find('[');
    uint64_t count = 1;
    if (open != words[3].npos)
      count = number(words[3].substr(open + 1, words[3].find(']') - open - 1));
    const auto alignment = static_cast<unsigned>(number(words[1]));
    entry.sharedBytes = (entry.sharedBytes + alignment - 1) / alignment * alignment;
    symbols[std::string(words[3].substr(0, open))] = entry.sharedBytes;
    entry.sharedBytes += static_cast<unsigned>(count * type->bits / 8);
  }

  Operand operand(std::string_view text) {
    Operand made;
    if (text.starts_with('%')) {
      static const std::pair<std::string_view, SpecialRegister> special[] = {
          {"%tid.", ThreadId}, {"%ntid.", BlockSize}, {"%ctaid.", BlockId}, {"%nctaid.", GridSize}};
      for (const auto &[prefix, first] : special)
        if (text.starts_with(prefix)) {
          made.kind = Operand::Special;
          made.index = first + static_cast<unsigned>(text[prefix.size()] - 'x');
          return made;
        }
      if (text == "%laneid") {
        made.kind = Operand::Special;
        made.index = Lane;
        return made;
      }
      const size_t digits = text.find_first_of("0123456789");
      const auto bank = banks.find(std::string(text.substr(0, digits)));
      if (digits == text.npos || bank == banks.end())
        fail("register that is not declared: " + std::string(text));
      const uint64_t index = number(text.substr(digits));
      if (index >= bank->second.count)
        fail("register beyond its bank: " + std::string(text));
      made.kind = Operand::Register;
      made.index = bank->second.first + static_cast<unsigned>(index);
      made.bits = bank->second.bits;
      return made;
    }
    if (const auto single = singles.find(std::string(text)); single != singles.end()) {
      made.kind = Operand::Register;
      made.index = single->second.first;
      made.bits = single->second.bits;
      return made;
    }
    made.kind = Operand::Immediate;
    if (text.starts_with("0f"))
      made.value = number("0x" + std::string(text.substr(2)));
    else if (const auto symbol = symbols.find(std::string(text)); symbol != symbols.end())
      made.value = symbol->second;
    else
      made.value = number(text);
    return made;
  }

  /// "[%rd1+4]"
  Operand address(std::string_view text) {
    if (!text.starts_with('[') || !text.ends_with(']'))
      fail("no address: " + std::string(text));
    text = text.substr(1, text.size() - 2);
    const size_t plus = text.find('+');
    Operand made = operand(trim(text.substr(0, plus)));
    if (plus != text.npos)
      made.value += number(trim(text.substr(plus + 1)));
    return made;
  }

  /// "%r1" or "{%r1, %r2}"
  static std::vector<std::string_view> elements(std::string_view text) {
    if (!text.starts_with('{'))
      return {text};
    return split(text.substr(1, text.size() - 2), ',');
  }

  void instruction(std::string_view text, unsigned line) {
    Instruction made;
    made.line = line;
    if (text.starts_with('@')) {
      const size_t space = text.find_first_of(" \t");
      std::string_view guard = text.substr(1, space - 1);
      made.isGuarded = true;
      made.guardIsNegated = guard.starts_with('!');
      guard.remove_prefix(made.guardIsNegated ? 1 : 0);
      made.guard = operand(guard).index;
      text = trim(text.substr(space));
    }
    const size_t space = std::min(text.find_first_of(" \t"), text.size());
    const std::vector<std::string_view> words = split(text.substr(0, space), '.');
    const std::vector<std::string_view> operands = split(text.substr(space), ',');
    if (!special(made, text.substr(0, space), operands)) {
      name(made, words, text.substr(0, space));
      fill(made, operands);
    }
    entry.code.push_back(made);
  }

  /// What capability 9.0 has; false where it is none of that.
  bool special(Instruction &made, std::string_view name,
               const std::vector<std::string_view> &texts) {
    constexpr std::string_view product = "wgmma.mma_async.sync.aligned.m64n";
    if (name.starts_with(product)) {
      made.op = Op::Product;
      entry.hasRoles = true;
      name.remove_prefix(product.size());
      const size_t end = name.find('k');
      made.columns = static_cast<unsigned>(number(name.substr(0, end)));
      made.isBf16 = name.ends_with(".bf16.bf16");
      // Descriptors of both operands or four words of the left one and a descriptor; whether it
      // adds, two signs, and which operands in shared memory lie along the other dimension.
      const bool isOfRegisters = texts.size() == 7 && texts[1].starts_with('{');
      if (name.substr(end) != (made.isBf16 ? "k16.f32.bf16.bf16" : "k16.f32.f16.f16") ||
          texts.size() != (isOfRegisters ? 7 : 8) || texts[4] != "1" || texts[5] != "1" ||
          (isOfRegisters ? texts[3] != "1" : texts[6] != "0"))
        fail("a product that is not emulated");
      for (std::string_view element : elements(texts[0]))
        made.sums.push_back(operand(element));
      made.isOfColumns = texts.back() != "0";
      if (isOfRegisters) {
        made.op = Op::ProductOfRegisters;
        for (std::string_view element : elements(texts[1]))
          made.operand.at(made.operands++) = operand(element);
        made.operand.at(made.operands++) = operand(texts[2]);
      } else {
        for (size_t i : {1, 2, 3})
          made.operand.at(made.operands++) = operand(texts[i]);
      }
      return true;
    }
    if (name == "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32" ||
        name == "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32") {
      made.op = Op::WarpProduct;
      made.isBf16 = name.find("bf16") != name.npos;
      for (std::string_view element : elements(texts.at(0)))
        made.result.at(made.results++) = operand(element);
      for (std::string_view text : {texts.at(1), texts.at(2), texts.at(3)})
        for (std::string_view element : elements(text))
          made.sums.push_back(operand(element));
      return true;
    }
    const auto *found =
        std::ranges::find(wholeNames, name, &std::pair<std::string_view, Op>::first);
    if (found == std::end(wholeNames))
      return false;
    made.op = found->second;
    made.isBf16 = name.find("bf16") != name.npos;
    const Op giving[] = {Op::TryWait,   Op::Shuffle,    Op::ShuffleXor, Op::DotBytes,
                         Op::Round,     Op::PackHalves, Op::PowerOfTwo, Op::Reciprocal,
                         Op::MapShared, Op::AnyLane};
    const bool gives = std::ranges::find(giving, made.op) != std::end(giving);
    entry.hasRoles = entry.hasRoles || (made.op == Op::InitBarrier);
    if (made.op == Op::Reciprocal)
      made.type = {Type::Float, 32};
    if (made.op == Op::Nothing)
      return true;
    for (size_t i = 0; i < texts.size(); ++i) {
      std::string_view text = texts[i];
      if (text == "_")
        continue;
      if (gives && i == 0) {
        made.result[made.results++] = operand(text);
        continue;
      }
      // "[a]", "[map, {x, y}]", "{a, b}" and "a" are their values in order.
      if (text.starts_with('['))
        text = text.substr(1, text.size() - 2);
      for (std::string_view part : split(text, ','))
        for (std::string_view element : elements(part))
          made.operand.at(made.operands++) = operand(element);
    }
    return true;
  }

  static void name(Instruction &made, const std::vector<std::string_view> &words,
                   std::string_view whole) {
    const auto found = operations.find(words[0]);
    if (found == operations.end())
      fail("instruction that is not emulated: " + std::string(whole));
    made.op = found->second;
    int types = 0;
    for (size_t i = 1; i < words.size(); ++i) {
      const std::string_view word = words[i];
      if (const std::optional<Type> type = typeOf(word))
        (types++ == 0 ? made.type : made.source) = *type;
      else if (word == "f16x2" || word == "bf16x2") {
        made.type = {Type::Float, 32};
        made.isPair = true;
        made.isBf16 = word == "bf16x2";
      } else if (made.op == Op::SetPredicate && comparisons.contains(word))
        std::tie(made.compare, made.isUnordered) = comparisons.at(word);
      else if (word == "param" || word == "global" || word == "shared" || word == "shared::cluster")
        made.space = word == "param"    ? Space::Parameter
                     : word == "global" ? Space::Global
                     : word == "shared" ? Space::Shared
                                        : Space::Cluster;
      else if (word == "wide" || word == "hi")
        made.part = word == "wide" ? Part::Wide : Part::High;
      else if (made.op == Op::FunnelLeft && (word == "l" || word == "r"))
        made.op = word == "l" ? Op::FunnelLeft : Op::FunnelRight;
      else if (word != "v2" && word != "v4" && word != "lo" &&
               !(made.op == Op::AtomicAdd && word == "add") &&
               std::ranges::find(ignored, word) == std::end(ignored))
        fail("instruction that is not emulated: " + std::string(whole));
    }
  }

  void fill(Instruction &made, const std::vector<std::string_view> &texts) {
    auto operands = [&](std::string_view text) {
      for (std::string_view element : elements(text))
        made.operand.at(made.operands++) = operand(element);
    };
    switch (made.op) {
    case Op::Return:
      return;
    case Op::Barrier:
      if (texts.size() == 2) { // of some threads
        entry.hasRoles = true;
        operands(texts[0]);
        return operands(texts[1]);
      }
      if (texts.size() != 1 || texts[0] != "0")
        fail("a barrier other than 0 of all threads");
      return;
    case Op::Branch:
      branches.emplace_back(entry.code.size(), std::string(texts.at(0)));
      return;
    case Op::Store:
      made.operand[made.operands++] = address(texts.at(0));
      return operands(texts.at(1));
    default:
      break;
    }
    for (std::string_view element : elements(texts.at(0)))
      made.result.at(made.results++) = operand(element);
    if (made.op == Op::Load || made.op == Op::AtomicAdd) {
      made.operand[made.operands++] = address(texts.at(1));
      if (made.op == Op::AtomicAdd)
        operands(texts.at(2));
      return;
    }
    for (size_t i = 1; i < texts.size(); ++i)
      operands(texts[i]);
    if (made.op == Op::Move && made.results > 1)
      made.op = Op::Unpack;
    else if (made.op == Op::Move && made.operands > 1)
      made.op = Op::Pack;
  }

  struct Bank {
    unsigned first, count;
    uint8_t bits;
  };

  Entry &entry;
  unsigned parameterEnd = 0;
  std::map<std::string, Bank> banks, singles;
  std::map<std::string, unsigned> symbols;
  std::vector<std::map<std::string, unsigned>> labels; ///< by scope
  std::vector<std::pair<size_t, std::string>> branches;
};

/// Goes through a module line by line: what LLVM writes has one statement in each, or in several.
class ModuleParser {
public:
  std::unique_ptr<Module> parse(std::string_view text) {
    while (!text.empty()) {
      ++line;
      const size_t end = std::min(text.find('\n'), text.size());
      std::string_view content = text.substr(0, end);
      text.remove_prefix(std::min(end + 1, text.size()));
      content = trim(content.substr(0, content.find("//")));
      if (!content.empty())
        take(content);
    }
    if (parser)
      fail("an entry does not end");
    return std::move(module);
  }

  unsigned line = 0;

private:
  void take(std::string_view content) {
    if (!parser)
      return header(content);
    if (!inBody) {
      if (content.starts_with(".param"))
        parser->parameter(content.substr(0, content.find(',')));
      else if (content.starts_with(".reqntid"))
        block(content.substr(8));
      else if (content == "{") {
        inBody = true;
        parser->open();
      } else if (content != ")" && !content.starts_with(".maxnreg"))
        fail("directive that is not emulated: " + std::string(content));
      return;
    }
    if (!pending.empty() ||
        !(std::string_view(";{}:").find(content.back()) != std::string_view::npos)) {
      pending += std::string(pending.empty() ? "" : " ") + std::string(content);
      if (!content.ends_with(';'))
        return;
      const std::string whole = std::exchange(pending, "");
      return parser->statement(std::string_view(whole).substr(0, whole.size() - 1), line);
    }
    if (content == "{") {
      parser->open();
    } else if (content == "}") {
      if (!parser->close())
        return;
      module->entries[entry->name] = entry;
      parser.reset();
      inBody = false;
    } else if (content.ends_with(':')) {
      parser->label(content.substr(0, content.size() - 1));
    } else {
      for (std::string_view statement : split(content, ';'))
        parser->statement(statement, line);
    }
  }

  void header(std::string_view content) {
    const std::string_view entryPrefix = ".visible .entry ";
    if (content.starts_with(".target")) {
      module->target = trim(content.substr(7));
    } else if (content.starts_with(entryPrefix)) {
      entry = std::make_shared<Entry>();
      parser.emplace(*entry);
      for (const std::string &name : asked)
        parser->askedMemory(name);
      const size_t open = content.find('(');
      entry->name = trim(content.substr(entryPrefix.size(), open - entryPrefix.size()));
    } else if (content.starts_with(".extern .shared") && content.ends_with("[];")) {
      const std::vector<std::string_view> words = split(content, ' ');
      asked.emplace_back(words.back().substr(0, words.back().find('[')));
    } else if (!content.starts_with(".version") && content != ".address_size 64") {
      fail("directive that is not emulated: " + std::string(content));
    }
  }

  void block(std::string_view text) {
    entry->block = {1, 1, 1};
    const std::vector<std::string_view> extents = split(text, ',');
    for (size_t i = 0; i < extents.size() && i < 3; ++i)
      entry->block[i] = static_cast<unsigned>(number(extents[i]));
  }

  std::unique_ptr<Module> module = std::make_unique<Module>();
  std::shared_ptr<Entry> entry;
  std::optional<EntryParser> parser;
  std::vector<std::string> asked; ///< names of shared memory that launches ask for
  bool inBody = false;
  std::string pending; ///< a statement that goes on
};

} // namespace

std::unique_ptr<Module> parse(std::string_view text, std::string &error) {
  ModuleParser parser;
  try {
    return parser.parse(text);
  } catch (const Failure &failure) {
    error = "line " + std::to_string(parser.line) + ": " + failure.why;
  } catch (const std::out_of_range &) {
    error = "line " + std::to_string(parser.line) + ": more or fewer operands than expected";
  }
  return nullptr;
}

} // namespace kernelforge::ptx
