#include "kernelforge/problem/SyntaxHints.h"

#include "kernelforge/ir/Transformer.h"
#include "kernelforge/support/Suggest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <set>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

const std::vector<std::pair<std::string, std::string>> &kernelforge::operationForms() {
  static const std::vector<std::pair<std::string, std::string>> forms = {
      {"transformer.matmul",
       "%y = transformer.matmul %x weights(%w) bias(%b) : (!rows, !weight, !vector) -> !rows"},
      {"transformer.rms_norm",
       "%y = transformer.rms_norm %x, %v {epsilon = 1.0e-5} : (!rows, !vector) -> !rows"},
      {"transformer.layer_norm",
       "%y = transformer.layer_norm %x, %v, %b {epsilon = 1.0e-5} : (!rows, !vector, !vector) -> "
       "!rows"},
      {"transformer.activation", "%y = transformer.activation %x <gelu> : !rows"},
      {"transformer.add", "%z = transformer.add %x, %y : !rows"},
      {"transformer.mul", "%z = transformer.mul %x, %y : !rows"},
      {"transformer.scale", "%y = transformer.scale %x {factor = 0.5} : !rows"},
      {"transformer.softmax", "%y = transformer.softmax %x : !rows"},
      {"transformer.mlp", "%y = transformer.mlp %x gate(%w) up(%w) down(%w) <silu> : (!rows, "
                          "!weight, !weight, !weight) -> !rows"},
      {"transformer.embedding", "%y = transformer.embedding %i, %w : (!indices, !weight) -> !rows"},
      {"transformer.gather_rows",
       "%y = transformer.gather_rows %x, %i : (!rows, !indices) -> !rows"},
      {"transformer.rope", "%y = transformer.rope %x, %i, %w <half_split> {headDim = 8 : i64} : "
                           "(!rows, !indices, !weight) -> !rows"},
      {"transformer.cache_append",
       "transformer.cache_append %x, %i into %k : !cache, !rows, !indices"},
      {"transformer.attention",
       "%y = transformer.attention %x, %k, %k positions(%i) sequences(%i) table(%i) lengths(%i) "
       "{heads = 1 : i64, scale = 0.125 : f64} : (!rows, !cache, !cache, !indices, !indices, "
       "!indices, !indices) -> !rows"},
  };
  return forms;
}

namespace {

class HintMaker {
public:
  HintMaker(MLIRContext *context, StringRef text, const ParseMistake &mistake)
      : context(context), text(text), message(mistake.message) {
    StringRef rest = text;
    for (unsigned i = 1; i < mistake.line; ++i)
      rest = rest.split('\n').second;
    line = rest.split('\n').first;
    place = line.drop_front(std::min<size_t>(line.size(), mistake.column - 1));
  }

  std::string hint() const {
    for (auto make :
         {&HintMaker::noModule, &HintMaker::unknownOperation, &HintMaker::attributeWithoutDialect,
          &HintMaker::unknownOfDialect, &HintMaker::undefinedValue, &HintMaker::wrongLiteral,
          &HintMaker::wrongKeyword, &HintMaker::wrongOperand, &HintMaker::otherType,
          &HintMaker::wrongReturn, &HintMaker::form})
      if (std::string hint = (this->*make)(); !hint.empty())
        return hint;
    return "";
  }

private:
  bool says(StringRef words) const { return message.contains(words); }

  /// What stands between the last pair of quotes after `words`.
  StringRef quotedAfter(StringRef words) const {
    const StringRef rest = message.split(words).second;
    return rest.split('\'').second.split('\'').first;
  }

  /// The word that stands at the mistake.
  StringRef word() const {
    return place.drop_while([](char c) { return c == '<' || c == ' ' || c == '!'; })
        .take_while([](char c) { return llvm::isAlnum(c) || c == '_'; });
  }

  static std::string guess(StringRef word, const std::vector<std::string> &known) {
    return didYouMean({word.data(), word.size()}, known);
  }

  /// What is no module at all, or only the beginning of one.
  std::string noModule() const {
    if (text.contains('\0'))
      return "the file is binary; a module is text";
    if (text.contains("\n\t.text"))
      return "this is assembly, as emit-mlir --stage asm prints it; give the module that it was "
             "made from";
    if (text.contains("\n@compute @workgroup_size("))
      return "this is WGSL, as emit-mlir --stage wgsl prints it; give the module that it was made "
             "from";
    return "";
  }

  std::string unknownOperation() const {
    StringRef name;
    if (message.starts_with("custom op '") && says("is unknown"))
      name = quotedAfter("custom op ");
    else if (says("not found for custom op"))
      name = quotedAfter("not found for custom op ");
    if (name.empty())
      return "";
    const StringRef word = name.contains('.') ? name.split('.').second : name;
    for (Activation function :
         {Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu})
      if (word == stringifyActivation(function))
        return "write %y = transformer.activation %x <" + word.str() + "> : !rows";
    std::vector<std::string> words, names;
    for (RegisteredOperationName known : context->getRegisteredOperations())
      if (isa<TransformerDialect, func::FuncDialect>(known.getDialect()))
        names.push_back(known.getStringRef().str());
    for (const std::string &known : names)
      words.push_back(StringRef(known).split('.').second.str());
    // By the word alone first: the prefix may be missing or misspelt.
    const std::string near = nearestName({word.data(), word.size()}, words);
    for (const std::string &known : names)
      if (!near.empty() && StringRef(known).split('.').second == near)
        return "did you mean '" + known + "'?";
    std::vector<std::string> forms;
    for (const auto &[known, form] : operationForms())
      forms.push_back(known);
    return fmt::format("known are {}", fmt::join(forms, ", "));
  }

  std::string attributeWithoutDialect() const {
    if (says("arguments may only have dialect attributes"))
      return fmt::format("write them with their prefix: {}, {} or {}", sizeAttrName.str(),
                         weightAttrName.str(), inputAttrName.str());
    if (!says("created with unregistered dialect"))
      return "";
    return "attributes and types of the dialect have its prefix: #transformer.dims, "
           "#transformer.size, !transformer.quant, !transformer.cache";
  }

  /// A type or attribute that the dialect does not have.
  std::string unknownOfDialect() const {
    const bool type = says("unknown  type `");
    if (!type && !says("unknown attribute `"))
      return "";
    const StringRef name = message.split('`').second.split('`').first;
    if (type && isQuantized(name))
      return "write !transformer.quant<" + name.str() + ">";
    std::vector<std::string> known = {"dims", "size", "layout", "schedule", "target"};
    if (type)
      known = {"quant", "cache"};
    for (std::string &each : known)
      each = (type ? "!transformer." : "#transformer.") + each;
    const std::string near = guess((type ? "!transformer." : "#transformer.") + name.str(), known);
    return near.empty() ? fmt::format("known are {}", fmt::join(known, ", ")) : near;
  }

  static bool isQuantized(StringRef name) {
    auto type = elementTypeByName({name.data(), name.size()});
    return type && info(*type).isQuantized();
  }

  std::string undefinedValue() const {
    if (says("invalid SSA name"))
      return "a value's name is % and letters, digits or _, such as %x";
    if (says("redefinition of SSA value"))
      return "a value is defined once: give this one a name of its own";
    if (says("undefined symbol alias"))
      return "define the alias before: !NAME = tensor<...>";
    if (says("block with no terminator"))
      return "end a function with return, a kernel with transformer.yield";
    if (!says("use of undeclared SSA value"))
      return "";
    const StringRef name = valueName(place);
    std::set<std::string> names;
    for (StringRef rest = text; !rest.empty(); rest = rest.drop_front()) {
      rest = rest.drop_front(std::min(rest.find('%'), rest.size()));
      if (rest.empty())
        break;
      if (const StringRef other = valueName(rest); other != name)
        names.insert(other.str());
    }
    const std::vector<std::string> known(names.begin(), names.end());
    const std::string guess = didYouMean({name.data(), name.size()}, known);
    return "nothing defines " + name.str() + (guess.empty() ? "" : "; " + guess);
  }

  static StringRef valueName(StringRef from) {
    return from.take_while([](char c) {
      return llvm::isAlnum(c) || c == '%' || c == '_' || c == '$' || c == '.' || c == '-';
    });
  }

  std::string wrongLiteral() const {
    const bool real = says("64-bit float attribute"), whole = says("64-bit signless integer");
    if (real || whole) {
      const StringRef value = place.split(quotedAfter("attribute ")).second.split('=').second;
      const StringRef written = value.take_until([](char c) { return c == ',' || c == '}'; });
      if (const StringRef type = written.split(':').second.trim(); !type.empty())
        return "leave out ': " + type.str() + "'";
      return real ? "write a number with a point: 1.0e-5, 0.5, 2.0" : "write a whole number: 8";
    }
    if (says("expected non-function type"))
      return isQuantized(word()) ? "write !transformer.quant<" + word().str() + ">"
                                 : "elements are f32, f16, bf16, i32 or, of weights, "
                                   "!transformer.quant<q8_0> and alike";
    return "";
  }

  /// A misspelt name of those that a message lists.
  std::string wrongKeyword() const {
    if (!says(" to be one of: "))
      return "";
    SmallVector<StringRef> listed;
    message.split(" to be one of: ").second.split(listed, ", ");
    return guess(word(), std::vector<std::string>(listed.begin(), listed.end()));
  }

  /// An operand or result of a type that the operation does not take.
  std::string wrongOperand() const {
    if (!says("must be ") || !says(", but got '"))
      return "";
    if (says("a weight matrix")) {
      std::vector<std::string> schemes;
      for (const ElementTypeInfo &type : elementTypes())
        if (type.isQuantized())
          schemes.push_back(fmt::format("!transformer.quant<{}>", type.name));
      return fmt::format("a weight is tensor<OUTxINxT>; known for T: f32, f16, bf16, {}",
                         fmt::join(schemes, ", "));
    }
    if (says("a vector of parameters"))
      return "a vector is tensor<NxT>; known for T: f32, f16, bf16";
    if (says("rows of activations"))
      return "rows are tensor<?xWIDTHxT, #transformer.dims<\"rows\">>, or of a number in place of "
             "'?'; known for T: f32, f16, bf16";
    if (says("one i32 per row"))
      return "indices are tensor<?xi32, #transformer.dims<\"rows\">>, or of a number in place of "
             "'?'";
    return "";
  }

  std::string otherType() const {
    if (!says("expects different type than prior uses"))
      return "";
    return "a value has the same type wherever it stands; an alias (!x = tensor<...>) names it "
           "once";
  }

  std::string wrongReturn() const {
    if (says("but enclosing function") && says("returns 0"))
      return "say what the function returns: func.func @NAME(...) -> TYPE {";
    const StringRef written = line.trim();
    if (says("expected ':'") && written.starts_with("return "))
      return "it is written " + written.str() + " : TYPE";
    return "";
  }

  /// How the operation of the line is written, where the parser expected something else.
  std::string form() const {
    const bool count = says("operands present");
    if (!message.starts_with("expected") && !says("' expected ") && !count &&
        !says("requires attribute") && !says("invalid kind of type"))
      return ""; // a verifier's, which says it in the operation's own words
    for (const auto &[name, form] : operationForms()) {
      const size_t at = line.find(name);
      if (at != StringRef::npos && !line.substr(at + name.size()).starts_with("_"))
        return "it is written " + form + (count ? optional(form) : "");
    }
    const StringRef near = place.trim().substr(0, 32);
    return near.empty() ? "" : "there stands: " + near.str();
  }

  /// What a form shows and an operation need not have.
  static std::string optional(StringRef form) {
    const std::string each = "; after the colon each operand has its type, in order";
    if (form.contains("bias(%b)"))
      return each + "; bias(%b) and its type may be left out together";
    return form.contains("%x, %v, %b") ? each + "; %b and its type may be left out together" : each;
  }

  MLIRContext *context;
  StringRef text, message, line, place;
};

} // namespace

std::string kernelforge::syntaxHint(MLIRContext *context, std::string_view text,
                                    const ParseMistake &mistake) {
  if (mistake.line == 0 || mistake.column == 0)
    return "";
  return HintMaker(context, {text.data(), text.size()}, mistake).hint();
}
