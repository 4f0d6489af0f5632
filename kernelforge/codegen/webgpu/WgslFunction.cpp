#include "kernelforge/codegen/webgpu/WgslFunction.h"

#include "kernelforge/codegen/simt/Builder.h"

#include "mlir/IR/Matchers.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/TypeSwitch.h"

#include <cmath>
#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::webgpu;

/// Operations in one expression, beyond which a part of it gets a name.
static constexpr int mostOperations = 14;

//===----------------------------------------------------------------------===//
// Names
//===----------------------------------------------------------------------===//

void WgslFunction::define(Value value, std::string name, Memory memory) {
  known[value] = std::move(name);
  memories[value] = memory;
}

/// The name that a value's location gives it; a value without one is named after its type.
static StringRef wantedName(Value value) {
  if (auto name = dyn_cast<NameLoc>(value.getLoc()))
    return name.getName().getValue();
  return value.getType().isF32() ? "value" : value.getType().isInteger(1) ? "condition" : "at";
}

std::string WgslFunction::variableFor(Value value) {
  std::string name = names.take(wantedName(value));
  known[value] = name;
  return name;
}

/// Longest line; what is longer goes on in the next one.
static constexpr size_t lineLength = 100;

/// Where to break `text` so that at most `length` characters stay in the line: before a sum or a
/// difference or after a comma, or else at any space; 0 where there is none.
static size_t breakPlace(StringRef text, size_t length) {
  for (size_t at = length; at > length / 2; --at)
    if (text[at] == ' ' && (text[at - 1] == ',' || text[at + 1] == '+' || text[at + 1] == '-'))
      return at;
  const size_t space = text.take_front(length + 1).rfind(' ');
  return space == StringRef::npos ? 0 : space;
}

void WgslFunction::line(const std::string &text) {
  StringRef rest = text;
  std::string before = indent;
  while (before.size() + rest.size() > lineLength) {
    const size_t at = breakPlace(rest, lineLength - before.size());
    if (at == 0)
      break;
    out += before + rest.take_front(at).str() + "\n";
    rest = rest.drop_front(at + 1);
    before = indent + "    ";
  }
  out += before + rest.str() + "\n";
}

//===----------------------------------------------------------------------===//
// What is written where it is used
//===----------------------------------------------------------------------===//

/// Whether nothing stands above a half (i16): it is an f16 that was rounded to.
static bool isWholeWord(Value half) {
  auto bits = half.getDefiningOp<arith::BitcastOp>();
  return bits && bits.getIn().getDefiningOp<arith::TruncFOp>();
}

/// Casts between types that are one and the same in WGSL. Halves, f16 and i16, are words there,
/// with anything above them.
static bool isTransparent(Operation *op) {
  if (isa<arith::IndexCastUIOp, arith::IndexCastOp, arith::TruncIOp>(op))
    return true;
  if (isa<arith::BitcastOp>(op))
    return op->getResult(0).getType().getIntOrFloatBitWidth() == 16;
  return isa<arith::ExtUIOp>(op) && isWholeWord(op->getOperand(0));
}

static bool isArithmetic(Operation *op) {
  return isa_and_nonnull<arith::ArithDialect, math::MathDialect>(op->getDialect());
}

/// True where nothing between a load and the statement that it would be written in can change what
/// it loads.
bool WgslFunction::staysUntilUsed(Operation *load) {
  Operation *statement = *load->user_begin();
  while (isInline(statement))
    statement = *statement->user_begin();
  for (Operation *op = load->getNextNode(); op && op != statement; op = op->getNextNode())
    if (op->getNumRegions() > 0 || isa<memref::StoreOp, gpu::BarrierOp>(op))
      return false;
  return true;
}

int WgslFunction::sizeOf(Operation *op) {
  int size = isTransparent(op) ? 0 : 1;
  for (Value operand : op->getOperands())
    if (Operation *inner = operand.getDefiningOp();
        inner && !known.contains(operand) && !isa<arith::ConstantOp>(inner) && isInline(inner))
      size += sizeOf(inner);
  return size;
}

bool WgslFunction::decideInline(Operation *op) {
  if (isa<arith::ConstantOp>(op) || isTransparent(op))
    return true;
  if (op->getNumResults() != 1 || isa<NameLoc>(op->getLoc()) || !op->hasOneUse() ||
      (*op->user_begin())->getBlock() != op->getBlock())
    return false;
  if (auto load = dyn_cast<memref::LoadOp>(op)) {
    if (load->hasAttr(simt::uniformAttrName))
      return false;
    return memories.lookup(load.getMemRef()) == Memory::Constant || staysUntilUsed(op);
  }
  return isArithmetic(op) && sizeOf(op) <= mostOperations;
}

bool WgslFunction::isInline(Operation *op) {
  // Its own operands do not count while it is decided: they are decided after it.
  auto [entry, isNew] = inlined.try_emplace(op, false);
  if (!isNew)
    return entry->second;
  const bool decision = decideInline(op);
  inlined[op] = decision;
  return decision;
}

//===----------------------------------------------------------------------===//
// Expressions
//===----------------------------------------------------------------------===//

std::string WgslFunction::parenthesized(const Expression &expression, Tight least) {
  return expression.tight < least ? "(" + expression.text + ")" : expression.text;
}

/// Of the value's own type: u32 for all integers.
WgslFunction::Expression WgslFunction::plain(Value value) {
  Expression found = expression(value);
  if (!found.isSigned)
    return found;
  return {"u32(" + found.text + ")"};
}

std::string WgslFunction::operand(Value value, Tight least) {
  return parenthesized(plain(value), least);
}

std::string WgslFunction::signedOperand(Value value, Tight least) {
  APInt constant;
  if (matchPattern(value, m_ConstantInt(&constant)))
    return fmt::format("{}", constant.getSExtValue());
  Expression found = expression(value);
  return found.isSigned ? parenthesized(found, least) : "i32(" + found.text + ")";
}

WgslFunction::Expression WgslFunction::constant(Attribute value) {
  if (auto number = dyn_cast<FloatAttr>(value)) {
    const float exact = number.getValue().convertToFloat();
    std::string text = fmt::format("{}", exact);
    // The shortest text of the largest numbers is beyond them, which some compilers refuse.
    if (std::abs(exact) > 3.4e38F)
      text = fmt::format("{}", static_cast<double>(exact));
    if (text.find_first_of(".e") == std::string::npos)
      text += ".0";
    return {text};
  }
  auto number = cast<IntegerAttr>(value);
  if (number.getType().isInteger(1))
    return {number.getValue().isZero() ? "false" : "true"};
  return {fmt::format("{}u", number.getValue().getZExtValue() & 0xffffffff)};
}

WgslFunction::Expression WgslFunction::expression(Value value) {
  if (auto name = known.find(value); name != known.end())
    return {name->second};
  Operation *op = value.getDefiningOp();
  return op ? compute(op) : Expression{"undefined"};
}

WgslFunction::Expression WgslFunction::binary(Operation *op, StringRef symbol, Tight tight) {
  // Bits do not mix with anything; sums and products go from left to right.
  const Tight left = tight == Tight::Bits ? Tight::Unary : tight;
  const Tight right = tight == Tight::Sum ? Tight::Product : Tight::Unary;
  return {operand(op->getOperand(0), left) + " " + symbol.str() + " " +
              operand(op->getOperand(1), right),
          tight};
}

WgslFunction::Expression WgslFunction::call(StringRef function, ValueRange arguments) {
  std::string text = function.str() + "(";
  for (auto [i, argument] : llvm::enumerate(arguments))
    text += (i == 0 ? "" : ", ") + plain(argument).text;
  return {text + ")"};
}

WgslFunction::Expression WgslFunction::signedCall(StringRef function, ValueRange arguments) {
  std::string text = function.str() + "(";
  for (auto [i, argument] : llvm::enumerate(arguments))
    text += (i == 0 ? "" : ", ") + signedOperand(argument, Tight::Comparison);
  return {text + ")", Tight::Unary, /*isSigned=*/true};
}

WgslFunction::Expression WgslFunction::compare(arith::CmpIOp op) {
  using Predicate = arith::CmpIPredicate;
  auto made = [&](StringRef symbol, bool isSigned) -> Expression {
    auto side = [&](Value value) {
      return isSigned ? signedOperand(value, Tight::Sum) : operand(value, Tight::Sum);
    };
    return {side(op.getLhs()) + " " + symbol.str() + " " + side(op.getRhs()), Tight::Comparison};
  };
  switch (op.getPredicate()) {
  case Predicate::eq:
    return made("==", false);
  case Predicate::ne:
    return made("!=", false);
  case Predicate::slt:
    return made("<", true);
  case Predicate::sle:
    return made("<=", true);
  case Predicate::sgt:
    return made(">", true);
  case Predicate::sge:
    return made(">=", true);
  case Predicate::ult:
    return made("<", false);
  case Predicate::ule:
    return made("<=", false);
  case Predicate::ugt:
    return made(">", false);
  case Predicate::uge:
    return made(">=", false);
  }
  llvm_unreachable("a predicate without a symbol");
}

WgslFunction::Expression WgslFunction::compare(arith::CmpFOp op) {
  using Predicate = arith::CmpFPredicate;
  StringRef symbol;
  switch (op.getPredicate()) {
  case Predicate::OEQ:
    symbol = "==";
    break;
  case Predicate::OLT:
    symbol = "<";
    break;
  case Predicate::OLE:
    symbol = "<=";
    break;
  case Predicate::OGT:
    symbol = ">";
    break;
  case Predicate::OGE:
    symbol = ">=";
    break;
  default:
    return refuse(op);
  }
  return {operand(op.getLhs(), Tight::Sum) + " " + symbol.str() + " " +
              operand(op.getRhs(), Tight::Sum),
          Tight::Comparison};
}

WgslFunction::Expression WgslFunction::refuse(Operation *op) {
  if (unknown.empty())
    unknown = op->getName().getStringRef().str();
  return {"undefined"};
}

WgslFunction::Expression WgslFunction::load(memref::LoadOp load) {
  if (load.getType().isInteger(16)) // buffers of halves are written
    return refuse(load);
  std::string place =
      expression(load.getMemRef()).text + "[" + plain(load.getIndices()[0]).text + "]";
  if (load->hasAttr(simt::uniformAttrName))
    return {"workgroupUniformLoad(&" + place + ")"};
  return {place};
}

WgslFunction::Expression WgslFunction::compute(Operation *op) {
  if (isTransparent(op))
    return expression(op->getOperand(0));
  return TypeSwitch<Operation *, Expression>(op)
      .Case([&](arith::ConstantOp number) { return constant(number.getValue()); })
      .Case<arith::AddIOp, arith::AddFOp>([&](auto) { return binary(op, "+", Tight::Sum); })
      .Case<arith::SubIOp, arith::SubFOp>([&](auto) { return binary(op, "-", Tight::Sum); })
      .Case<arith::MulIOp, arith::MulFOp>([&](auto) { return binary(op, "*", Tight::Product); })
      .Case<arith::DivUIOp, arith::DivFOp>([&](auto) { return binary(op, "/", Tight::Product); })
      .Case([&](arith::RemUIOp) { return binary(op, "%", Tight::Product); })
      .Case([&](arith::AndIOp) { return binary(op, "&", Tight::Bits); })
      .Case([&](arith::OrIOp) { return binary(op, "|", Tight::Bits); })
      .Case([&](arith::XOrIOp) { return binary(op, "^", Tight::Bits); })
      .Case([&](arith::ShLIOp) { return binary(op, "<<", Tight::Bits); })
      .Case([&](arith::ShRUIOp) { return binary(op, ">>", Tight::Bits); })
      .Case([&](arith::ShRSIOp shift) -> Expression {
        return {signedOperand(shift.getLhs(), Tight::Unary) + " >> " +
                    operand(shift.getRhs(), Tight::Unary),
                Tight::Bits, /*isSigned=*/true};
      })
      .Case<arith::MinUIOp, arith::MinNumFOp>([&](auto) { return call("min", op->getOperands()); })
      .Case<arith::MaxUIOp, arith::MaxNumFOp>([&](auto) { return call("max", op->getOperands()); })
      .Case([&](arith::MinSIOp) { return signedCall("min", op->getOperands()); })
      .Case([&](arith::MaxSIOp) { return signedCall("max", op->getOperands()); })
      .Case<arith::CmpIOp, arith::CmpFOp>([&](auto comparison) { return compare(comparison); })
      .Case([&](arith::SelectOp select) {
        return call("select",
                    {select.getFalseValue(), select.getTrueValue(), select.getCondition()});
      })
      .Case([&](arith::NegFOp negated) -> Expression {
        std::string text = operand(negated.getOperand(), Tight::Unary);
        return {text.starts_with("-") ? "-(" + text + ")" : "-" + text};
      })
      .Case([&](arith::UIToFPOp) { return call("f32", op->getOperands()); })
      .Case([&](arith::FPToUIOp) { return call("u32", op->getOperands()); })
      .Case([&](arith::SIToFPOp) -> Expression {
        return {"f32(" + signedOperand(op->getOperand(0), Tight::Comparison) + ")"};
      })
      .Case([&](arith::BitcastOp) {
        return call(op->getResult(0).getType().isF32() ? "bitcast<f32>" : "bitcast<u32>",
                    op->getOperands());
      })
      .Case([&](arith::ExtFOp extended) -> Expression {
        if (!extended.getIn().getType().isF16())
          return refuse(op);
        return {call("unpack2x16float", op->getOperands()).text + ".x"};
      })
      .Case([&](math::ExpOp) { return call("exp", op->getOperands()); })
      .Case([&](math::SqrtOp) { return call("sqrt", op->getOperands()); })
      .Case([&](math::ErfOp) {
        helpers.erf = true;
        return call("erf", op->getOperands());
      })
      .Case([&](math::TanhOp) {
        helpers.tanh = true;
        return call("safe_tanh", op->getOperands());
      })
      .Case([&](arith::TruncFOp narrower) -> Expression {
        if (!narrower.getType().isF16())
          return refuse(op);
        helpers.roundToF16 = true;
        return call("round_to_f16", op->getOperands());
      })
      .Case([&](arith::ExtUIOp) -> Expression {
        return {operand(op->getOperand(0), Tight::Unary) + " & 0xffffu", Tight::Bits};
      })
      .Case([&](memref::LoadOp op) { return load(op); })
      .Default([&](Operation *) { return refuse(op); });
}

//===----------------------------------------------------------------------===//
// Statements
//===----------------------------------------------------------------------===//

Expected<std::string> WgslFunction::print(func::FuncOp function) {
  printBlock(function.getBody().front());
  if (!unknown.empty())
    return failed("WGSL cannot be printed", function.getSymName().str(),
                  fmt::format("{} has no text in it", unknown));
  return out;
}

void WgslFunction::printBlock(Block &body) {
  for (Operation &op : body.without_terminator())
    printOp(&op);
}

void WgslFunction::printOp(Operation *op) {
  if (op->getNumResults() == 1 && known.contains(op->getResult(0)))
    return;
  const bool isValue = isArithmetic(op) || isa<memref::LoadOp>(op);
  if (isValue && (op->use_empty() || isInline(op)))
    return;
  TypeSwitch<Operation *>(op)
      .Case([&](scf::ForOp loop) { printFor(loop); })
      .Case([&](scf::IfOp branch) { printIf(branch); })
      .Case([&](gpu::BarrierOp) { line("workgroupBarrier();"); })
      .Case([&](gpu::BlockIdOp id) { known[id.getResult()] = blockNumber; })
      .Case([&](gpu::ThreadIdOp id) {
        const std::string name = variableFor(id.getResult());
        line(fmt::format("let {} = local_id.x;", name));
      })
      .Case([&](memref::StoreOp store) { printStore(store); })
      .Default([&](Operation *) {
        if (!isValue) {
          refuse(op);
          return;
        }
        const std::string text = plainOf(compute(op));
        line(fmt::format("let {} = {};", variableFor(op->getResult(0)), text));
      });
}

void WgslFunction::printStore(memref::StoreOp store) {
  const std::string memory = expression(store.getMemRef()).text;
  const std::string place = plain(store.getIndices()[0]).text;
  if (!store.getMemRefType().getElementType().isInteger(16)) {
    line(fmt::format("{}[{}] = {};", memory, place, plain(store.getValue()).text));
    return;
  }
  // Another thread may write the other half of the word, at any time: each changes its own bits.
  const std::string at = names.take("half_at"), shift = names.take("shift");
  line(fmt::format("let {} = {};", at, place));
  line(fmt::format("let {} = ({} & 1u) << 4u;", shift, at));
  line(fmt::format("atomicAnd(&{}[{} >> 1u], ~(0xffffu << {}));", memory, at, shift));
  line(fmt::format("atomicOr(&{}[{} >> 1u], ({} & 0xffffu) << {});", memory, at,
                   operand(store.getValue(), Tight::Unary), shift));
}

std::string WgslFunction::plainOf(const Expression &expression) {
  return expression.isSigned ? "u32(" + expression.text + ")" : expression.text;
}

/// The number of the iteration argument of the loop around `loop` that is carried through `loop`
/// and nothing else: it needs no variable of its own.
static BlockArgument carriedThrough(scf::ForOp loop, unsigned i) {
  auto outer = dyn_cast<scf::ForOp>(loop->getParentOp());
  auto init = dyn_cast<BlockArgument>(loop.getInitArgs()[i]);
  Value result = loop.getResult(i);
  if (!outer || !init || init.getOwner() != outer.getBody() || init.getArgNumber() == 0 ||
      !init.hasOneUse() || !result.hasOneUse())
    return {};
  OpOperand &use = *result.use_begin();
  const bool isYielded = use.getOwner() == outer.getBody()->getTerminator() &&
                         use.getOperandNumber() == init.getArgNumber() - 1;
  return isYielded ? init : BlockArgument();
}

void WgslFunction::printFor(scf::ForOp loop) {
  std::vector<std::string> variables;
  for (auto [i, carried] : llvm::enumerate(loop.getRegionIterArgs())) {
    if (BlockArgument outer = carriedThrough(loop, static_cast<unsigned>(i))) {
      std::string name = known.lookup(outer); // the map may move
      known[carried] = std::move(name);
    } else {
      const std::string init = plain(loop.getInitArgs()[i]).text;
      line(fmt::format("var {} = {};", variableFor(carried), init));
    }
    variables.push_back(known[carried]);
    known[loop.getResult(static_cast<unsigned>(i))] = variables.back();
  }
  // The bound is looked at in every step: what is more than a name or number is computed before.
  Expression end = plain(loop.getUpperBound());
  Operation *bound = loop.getUpperBound().getDefiningOp();
  if (bound && !isa<arith::ConstantOp>(bound) && !known.contains(loop.getUpperBound())) {
    const std::string name = names.take("end");
    line(fmt::format("let {} = {};", name, end.text));
    end = {name};
  }
  const std::string begin = plain(loop.getLowerBound()).text;
  const std::string counter = variableFor(loop.getInductionVar());
  const std::string step = plain(loop.getStep()).text;
  line(fmt::format("for (var {} = {}; {} < {}; {}) {{", counter, begin, counter, end.text,
                   step == "1u" ? counter + "++" : counter + " += " + step));
  indent += "  ";
  printBlock(*loop.getBody());
  assign(loop.getBody()->getTerminator()->getOperands(), variables);
  indent.resize(indent.size() - 2);
  line("}");
}

void WgslFunction::printIf(scf::IfOp branch) {
  std::vector<std::string> variables;
  for (Value result : branch.getResults()) {
    const char *zero = result.getType().isF32() ? "0.0" : "0u";
    line(fmt::format("var {} = {};", variableFor(result), zero));
    variables.push_back(known[result]);
  }
  line(fmt::format("if ({}) {{", plain(branch.getCondition()).text));
  auto side = [&](Block *body) {
    indent += "  ";
    printBlock(*body);
    assign(body->getTerminator()->getOperands(), variables);
    indent.resize(indent.size() - 2);
  };
  side(branch.thenBlock());
  if (branch.elseBlock()) {
    line("} else {");
    side(branch.elseBlock());
  }
  line("}");
}

/// True where `text` mentions the variable.
static bool mentions(StringRef text, StringRef name) {
  auto isPart = [](char c) { return llvm::isAlnum(c) || c == '_'; };
  for (size_t at = text.find(name); at != StringRef::npos; at = text.find(name, at + 1)) {
    const size_t end = at + name.size();
    if ((at == 0 || !isPart(text[at - 1])) && (end == text.size() || !isPart(text[end])))
      return true;
  }
  return false;
}

void WgslFunction::assign(ValueRange values, ArrayRef<std::string> variables) {
  std::vector<std::string> texts;
  bool dependsOnOther = false;
  for (auto [i, value] : llvm::enumerate(values)) {
    texts.push_back(plain(value).text);
    for (size_t j = 0; j < i; ++j)
      dependsOnOther |= texts[j] != variables[j] && mentions(texts[i], variables[j]);
  }
  if (dependsOnOther) // all are computed before any is assigned
    for (auto [i, text] : llvm::enumerate(texts))
      if (text != variables[i]) {
        const std::string name = names.take("next_" + variables[i]);
        line(fmt::format("let {} = {};", name, text));
        text = name;
      }
  for (auto [i, value] : llvm::enumerate(values)) {
    if (texts[i] == variables[i])
      continue;
    auto sum = value.getDefiningOp<arith::AddFOp>();
    if (!dependsOnOther && sum && !known.contains(value) &&
        expression(sum.getLhs()).text == variables[i])
      line(fmt::format("{} += {};", variables[i], plain(sum.getRhs()).text));
    else
      line(fmt::format("{} = {};", variables[i], texts[i]));
  }
}
