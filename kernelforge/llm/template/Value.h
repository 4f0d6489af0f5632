// Values of the template language, with Python's meaning of printing, equality and order.
#pragma once

#include "kernelforge/llm/template/Text.h"

#include <functional>
#include <map>
#include <memory>
#include <variant>

namespace kernelforge::chat {

class Value;
class Interpreter;
struct Statement;

/// The arguments of a call, a filter or a test.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

/// A name or field that is not there; printing it gives nothing, most other uses fail with its
/// message.
struct Undefined {
  std::shared_ptr<const std::string> message;
};
struct None {};

/// Lists and tuples; they never change once made, so no list can hold itself.
struct Sequence {
  std::vector<Value> items;
  bool isTuple = false;
  size_t depth = 1; ///< of nesting, bounded: freeing and printing recurse
  bool holdsNamespace = false;
};
struct Mapping {
  std::vector<std::pair<Value, Value>> entries; ///< in order of insertion
  size_t depth = 1;
  bool holdsNamespace = false;
};
/// What namespace() makes: the one value that can change. It may hold no namespace.
struct Namespace {
  std::map<std::string, Value, std::less<>> fields;
};
/// The variable `loop` inside a loop.
struct Loop {
  std::shared_ptr<const Sequence> items;
  size_t index0 = 0;
};
/// A function: built in, bound to the value that it is a method of, or a macro.
struct Callable {
  using Function = Value (*)(Interpreter &, const Value &self, const Arguments &);
  std::string name;
  Function function = nullptr;
  const Statement *macro = nullptr;
  std::shared_ptr<const Value> self;
};

class Value {
public:
  using TextRef = std::shared_ptr<const Text>;
  using SequenceRef = std::shared_ptr<const Sequence>;
  using MappingRef = std::shared_ptr<const Mapping>;
  using NamespaceRef = std::shared_ptr<Namespace>;
  using LoopRef = std::shared_ptr<const Loop>;
  using CallableRef = std::shared_ptr<const Callable>;
  using Storage = std::variant<Undefined, None, bool, int64_t, double, TextRef, SequenceRef,
                               MappingRef, NamespaceRef, LoopRef, CallableRef>;

  Value() : storage(None{}) {}
  Value(bool v) : storage(v) {}
  Value(int64_t v) : storage(v) {}
  Value(double v) : storage(v) {}
  Value(const char *) = delete; // would become a bool
  Value(Text v) : storage(std::make_shared<const Text>(std::move(v))) {}
  explicit Value(Storage v) : storage(std::move(v)) {}

  static Value undefined(std::string message);
  /// Throws where the nesting exceeds `maxDepth`.
  static Value list(std::vector<Value> items, size_t maxDepth, bool isTuple = false);
  static Value mapping(std::vector<std::pair<Value, Value>> entries, size_t maxDepth);

  template <typename T> const T *get() const { return std::get_if<T>(&storage); }
  const Text *text() const { return pointee<TextRef>(); }
  const Sequence *sequence() const { return pointee<SequenceRef>(); }
  const Mapping *mapping() const { return pointee<MappingRef>(); }
  const Loop *loop() const { return pointee<LoopRef>(); }
  const Callable *callable() const { return pointee<CallableRef>(); }
  Namespace *space() const { return pointee<NamespaceRef>(); }
  bool isUndefined() const { return get<Undefined>() != nullptr; }
  bool isNone() const { return get<None>() != nullptr; }

  /// Integers and booleans, as Python counts them.
  std::optional<int64_t> integer() const;
  /// Any number.
  std::optional<double> number() const;

  bool truthy() const;
  size_t depth() const;
  bool holdsNamespace() const;
  /// "str", "list", ...: for messages.
  std::string typeName() const;

private:
  template <typename Ref> auto pointee() const -> decltype(std::declval<Ref>().get()) {
    auto *ref = std::get_if<Ref>(&storage);
    return ref ? ref->get() : nullptr;
  }
  Storage storage;
};

[[noreturn]] void fail(std::string message);
/// Throws the message of an undefined value; does nothing for others.
void requireDefined(const Value &value);

/// What printing gives: Python's str(). Undefined prints as nothing.
Text toText(const Value &value, Budget &budget);
/// Python's repr() of a float.
std::string floatText(double value);
/// Python's json.dumps.
struct JsonStyle {
  bool ensureAscii = false, sortKeys = false;
  std::optional<std::string> indent; ///< per level; not set: all on one line
  std::string itemSeparator, keySeparator;
};
Text toJson(const Value &value, const JsonStyle &style, Budget &budget);

bool equals(const Value &a, const Value &b, Budget &budget);
/// Negative, 0 or positive; throws where the two have no order. Numbers may be NaN: then
/// `unordered` is returned, which is no less, greater or equal.
inline constexpr int unordered = 2;
int compare(const Value &a, const Value &b, Budget &budget);
/// The places 0 to count - 1 in the order of `less`, equal ones as they were. Any `less` is safe,
/// also one that is no order (there are NaNs) or that throws.
std::vector<size_t> stableOrder(size_t count, const std::function<bool(size_t, size_t)> &less);
const Value *findKey(const Mapping &mapping, const Value &key, Budget &budget);
/// Lists and dicts, and tuples that hold them, cannot be keys.
bool isKey(const Value &value);
/// Throws for what cannot be a key.
void requireKey(const Value &key);

} // namespace kernelforge::chat
