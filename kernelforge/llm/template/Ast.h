// The syntax tree of a template.
#pragma once

#include "kernelforge/llm/template/Value.h"

#include <memory>
#include <string>
#include <vector>

namespace kernelforge::chat {

struct Expression;
struct Statement;
using ExpressionPtr = std::unique_ptr<Expression>;
using Body = std::vector<std::unique_ptr<Statement>>;

enum class Op : uint8_t {
  Add,
  Sub,
  Mul,
  Div,
  FloorDiv,
  Mod,
  Pow,
  Eq,
  Ne,
  Lt,
  Le,
  Gt,
  Ge,
  In,
  NotIn
};

struct NamedArgument {
  std::string name;
  ExpressionPtr value;
};

struct Expression {
  enum class Kind : uint8_t {
    Constant,    ///< `value`
    Name,        ///< `name`
    List,        ///< parts
    Tuple,       ///< parts
    Dict,        ///< parts: key, value, key, value, ...
    Attribute,   ///< parts[0] . name
    Item,        ///< parts[0] [ parts[1] ]
    Slice,       ///< [parts[0] : parts[1] : parts[2]], null where left out
    Call,        ///< parts[0] ( parts[1..], named )
    Filter,      ///< parts[0] | name ( parts[1..], named ); parts[0] null in a filter block
    Test,        ///< parts[0] is name ( parts[1..], named )
    Not,         ///< parts[0]
    Negative,    ///< parts[0]
    Positive,    ///< parts[0]
    Binary,      ///< parts[0] ops[0] parts[1]
    Compare,     ///< parts[0] ops[0] parts[1] ops[1] parts[2] ...
    And,         ///< parts[0], parts[1]
    Or,          ///< parts[0], parts[1]
    Concat,      ///< parts, printed one after another
    Conditional, ///< parts[0] if parts[1] else parts[2], which may be null
  };
  Kind kind;
  Position at;
  std::string name;
  Value value;
  std::vector<ExpressionPtr> parts;
  std::vector<NamedArgument> named;
  std::vector<Op> ops;
  size_t height = 1; ///< of the tree below, bounded: evaluating and freeing recurse
};

/// What is assigned to: names to unpack into, or one attribute of a namespace.
struct Target {
  std::vector<std::string> names;
  bool unpack = false;
  std::string attribute;
};

struct Statement {
  enum class Kind : uint8_t {
    Data,     ///< `text`
    Output,   ///< {{ value }}
    If,       ///< branches; orElse
    For,      ///< target in value if condition; body; orElse
    Set,      ///< target = value
    SetBlock, ///< target = body, through `value` (a chain of filters) if there is one
    With,     ///< assignments, body
    Macro,    ///< name(parameters); body
    Filter,   ///< body through `value`
    Scope,    ///< body as it is (tags of other engines' bookkeeping)
    Break,
    Continue
  };
  struct Branch {
    ExpressionPtr condition;
    Body body;
  };
  struct Parameter {
    std::string name;
    ExpressionPtr fallback; ///< null: undefined where not given
  };
  Kind kind;
  Position at;
  Text text;
  std::string name;
  Target target;
  ExpressionPtr value, condition;
  std::vector<Branch> branches;
  std::vector<Parameter> parameters;
  std::vector<std::pair<Target, ExpressionPtr>> assignments;
  Body body, orElse;
};

} // namespace kernelforge::chat
