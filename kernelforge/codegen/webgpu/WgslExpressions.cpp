// Expressions of values as WGSL.
#include "kernelforge/codegen/simt/Builder.h"
#include "kernelforge/codegen/webgpu/WgslFunction.h"

#include "mlir/IR/Matchers.h"
#include "llvm/ADT/TypeSwitch.h"

#include <cmath>
#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::webgpu;

//===----------------------------------------------------------------------===//
// Types
//===----------------------------------------------------------------------===//

static std::string scalarText(Type type) {
  if (type.isF32() || type.isF16())
    return type.isF32() ? "f32" : "f16";
  return type.isInteger(1) ? "bool" : "u32";
}

/// Of a vector with elements called so. One of a single lane is that lane.
static std::string vectorText(VectorType vector, const std::string &element) {
  const int64_t lanes = vector.getNumElements();
  return lanes == 1 ? element : fmt::format("vec{}<{}>", lanes, element);
}

std::string webgpu::typeText(Type type) {
  if (auto vector = dyn_cast<VectorType>(type))
    return vectorText(vector, scalarText(vector.getElementType()));
  auto matrix = dyn_cast<gpu::MMAMatrixType>(type);
  if (!matrix)
    return scalarText(type);
  const StringRef operand = matrix.getOperand();
  Type element = matrix.getElementType();
  const std::string text = element.isInteger(8)    ? (element.isSignedInteger() ? "i8" : "u8")
                           : element.isInteger(32) ? "i32"
                                                   : scalarText(element);
  return fmt::format("subgroup_matrix_{}<{}, {}, {}>",
                     operand == "AOp"   ? "left"
                     : operand == "BOp" ? "right"
                                        : "result",
                     text, matrix.getShape()[1], matrix.getShape()[0]);
}

std::string WgslFunction::zeroText(Type type) const {
  if (auto matrix = dyn_cast<gpu::MMAMatrixType>(type); matrix && options.emulatesMatrices)
    return EmulatedMatrices::typeText(matrix) + "()";
  if (isa<VectorType, gpu::MMAMatrixType>(type))
    return typeText(type) + "()";
  return type.isF32() ? "0.0" : type.isInteger(1) ? "false" : "0u";
}

/// The signed integers that are of as many lanes.
static std::string signedText(Type type) {
  auto vector = dyn_cast<VectorType>(type);
  return vector ? vectorText(vector, "i32") : "i32";
}

//===----------------------------------------------------------------------===//
// Operands
//===----------------------------------------------------------------------===//

std::string WgslFunction::parenthesized(const Expression &expression, Tight least) {
  return expression.tight < least ? "(" + expression.text + ")" : expression.text;
}

/// Of the value's own type: u32 for all integers.
WgslFunction::Expression WgslFunction::plain(Value value) {
  Expression found = expression(value);
  if (!found.isSigned)
    return found;
  return {typeText(value.getType()) + "(" + found.text + ")"};
}

std::string WgslFunction::operand(Value value, Tight least) {
  return parenthesized(plain(value), least);
}

std::string WgslFunction::signedOperand(Value value, Tight least) {
  APInt constant;
  if (matchPattern(value, m_ConstantInt(&constant)))
    return fmt::format("{}", constant.getSExtValue());
  Expression found = expression(value);
  return found.isSigned ? parenthesized(found, least)
                        : signedText(value.getType()) + "(" + found.text + ")";
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
  auto number = dyn_cast<IntegerAttr>(value);
  if (!number) // a vector of equal numbers
    return {fmt::format("{}({})", typeText(cast<TypedAttr>(value).getType()),
                        constant(cast<DenseElementsAttr>(value).getSplatValue<Attribute>()).text)};
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
  // Sums and products of a number and a vector are those of each lane.
  auto side = [&](Value value, Tight least) {
    auto splat = value.getDefiningOp<vector::SplatOp>();
    return operand(
        splat && tight != Tight::Bits && !known.contains(value) ? splat.getInput() : value, least);
  };
  if (op->getOperand(0).getDefiningOp<vector::SplatOp>() &&
      op->getOperand(1).getDefiningOp<vector::SplatOp>())
    return {operand(op->getOperand(0), Tight::Unary) + " " + symbol.str() + " " +
                operand(op->getOperand(1), Tight::Unary),
            tight};
  // Bits do not mix with anything; sums and products go from left to right.
  const Tight left = tight == Tight::Bits ? Tight::Unary : tight;
  const Tight right = tight == Tight::Sum ? Tight::Product : Tight::Unary;
  return {side(op->getOperand(0), left) + " " + symbol.str() + " " + side(op->getOperand(1), right),
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

/// A function of ours, for vectors the one that calls it for each lane.
WgslFunction::Expression WgslFunction::helper(StringRef function, int64_t &lanes, Operation *op) {
  auto vector = dyn_cast<VectorType>(op->getOperand(0).getType());
  const int64_t needed = vector ? vector.getNumElements() : 1;
  lanes |= needed;
  return call(needed == 1 ? function.str() : fmt::format("{}_{}", function.str(), needed),
              op->getOperands());
}

/// Not every compiler of WGSL can cast between words and pairs of halves, but all have functions
/// that pack and unpack them.
WgslFunction::Expression WgslFunction::bitcast(Operation *op) {
  Value from = op->getOperand(0);
  auto halves = dyn_cast<VectorType>(from.getType());
  if (!isa<vector::BitCastOp>(op) || halves.getElementTypeBitWidth() != 16)
    return call("bitcast<" + typeText(op->getResult(0).getType()) + ">", from);
  const int64_t lanes = halves.getNumElements();
  auto narrower = from.getDefiningOp<arith::TruncFOp>();
  if (!options.f16 || !narrower || !halves.getElementType().isF16()) {
    // Each half is a word of its own, which the helper has rounded.
    helpers.pairs |= lanes;
    return {fmt::format("pair_halves_{}({})", lanes, plain(from).text)};
  }
  helpers.f16 = true;
  helpers.halves |= lanes;
  return call(fmt::format("to_halves_{}", lanes), narrower.getIn());
}

WgslFunction::Expression WgslFunction::floatsOf(vector::BitCastOp halves) {
  Value words = halves.getSource();
  if (cast<VectorType>(words.getType()).getNumElements() == 1)
    return call("unpack2x16float", words);
  helpers.unpacks = true;
  return call("unpack_halves", words);
}

WgslFunction::Expression WgslFunction::ofVector(Operation *op) {
  static constexpr char lanes[] = "xyzw";
  auto isOneLane = [](Value value) {
    return cast<VectorType>(value.getType()).getNumElements() == 1;
  };
  return TypeSwitch<Operation *, Expression>(op)
      .Case([&](vector::ExtractOp extract) -> Expression {
        if (isOneLane(extract.getVector()))
          return expression(extract.getVector());
        const std::string vector = operand(extract.getVector(), Tight::Unary);
        if (!extract.getDynamicPosition().empty())
          return {vector + "[" + plain(extract.getDynamicPosition()[0]).text + "]"};
        return {vector + "." + lanes[extract.getStaticPosition()[0]]};
      })
      .Case(
          [&](vector::SplatOp splat) { return call(typeText(splat.getType()), splat.getInput()); })
      .Case([&](vector::FromElementsOp made) {
        return isOneLane(made.getResult()) ? plain(made.getElements()[0])
                                           : call(typeText(made.getType()), made.getElements());
      })
      .Case([&](vector::ShuffleOp shuffle) -> Expression {
        if (shuffle.getV1() != shuffle.getV2())
          return refuse(op);
        std::string text = operand(shuffle.getV1(), Tight::Unary) + ".";
        for (Attribute lane : shuffle.getMask())
          text += lanes[cast<IntegerAttr>(lane).getInt()];
        return {text};
      });
}

WgslFunction::Expression WgslFunction::ofSubgroup(Operation *op) {
  if (auto shuffle = dyn_cast<gpu::ShuffleOp>(op); shuffle && options.emulatesMatrices)
    return shuffle.getMode() == gpu::ShuffleMode::XOR && shuffle.getValue().getType().isF32()
               ? Expression{helpers.emulated.shuffleXor(plain(shuffle.getValue()).text,
                                                        plain(shuffle.getOffset()).text)}
               : refuse(op);
  helpers.subgroups = true;
  if (auto shuffle = dyn_cast<gpu::ShuffleOp>(op))
    return shuffle.getMode() == gpu::ShuffleMode::XOR
               ? call("subgroupShuffleXor", {shuffle.getValue(), shuffle.getOffset()})
               : refuse(op);
  using Reduce = gpu::AllReduceOperation;
  switch (cast<gpu::SubgroupReduceOp>(op).getOp()) {
  case Reduce::ADD:
    return call("subgroupAdd", op->getOperand(0));
  case Reduce::MAXNUMF:
  case Reduce::MAXUI:
    return call("subgroupMax", op->getOperand(0));
  case Reduce::MINNUMF:
  case Reduce::MINUI:
    return call("subgroupMin", op->getOperand(0));
  default:
    return refuse(op);
  }
}

WgslFunction::Expression WgslFunction::ofEmulatedMatrix(Operation *op) {
  auto typeOf = [](Value value) { return cast<gpu::MMAMatrixType>(value.getType()); };
  return TypeSwitch<Operation *, Expression>(op)
      .Case([&](gpu::SubgroupMmaConstantMatrixOp constant) -> Expression {
        return {zeroText(constant.getType())};
      })
      .Case([&](gpu::SubgroupMmaLoadMatrixOp load) -> Expression {
        return {helpers.emulated.load(
            typeOf(load.getRes()), plain(load.getSrcMemref()).text,
            cast<MemRefType>(load.getSrcMemref().getType()).getElementType(),
            plain(load.getIndices()[0]).text, load.getLeadDimension().getSExtValue(),
            load.getTranspose().has_value())};
      })
      .Case([&](gpu::SubgroupMmaComputeOp multiply) -> Expression {
        return {helpers.emulated.multiply(
            typeOf(multiply.getOpA()), typeOf(multiply.getOpB()), plain(multiply.getOpA()).text,
            plain(multiply.getOpB()).text, plain(multiply.getOpC()).text)};
      })
      .Case([&](gpu::SubgroupMmaElementwiseOp scale) -> Expression {
        auto factor = scale.getArgs()[1].getDefiningOp<gpu::SubgroupMmaConstantMatrixOp>();
        if (scale.getOpType() != gpu::MMAElementwiseOp::MULF || !factor)
          return refuse(op);
        return {helpers.emulated.scale(typeOf(scale.getArgs()[0]), plain(scale.getArgs()[0]).text,
                                       plain(factor.getValue()).text)};
      });
}

WgslFunction::Expression WgslFunction::ofMatrix(Operation *op) {
  if (options.emulatesMatrices)
    return ofEmulatedMatrix(op);
  helpers.subgroups = helpers.matrices = true;
  if (getElementTypeOrSelf(op->getResult(0).getType()).isF16())
    helpers.f16 = true;
  if (auto matrix = dyn_cast<gpu::MMAMatrixType>(op->getResult(0).getType()))
    helpers.f16 |= matrix.getElementType().isF16();
  return TypeSwitch<Operation *, Expression>(op)
      .Case([&](gpu::SubgroupMmaConstantMatrixOp constant) -> Expression {
        return {zeroText(constant.getType())}; // of another number: only to scale with
      })
      .Case([&](gpu::SubgroupMmaLoadMatrixOp load) -> Expression {
        if (readers.contains(load.getSrcMemref())) // a matrix may lie in two of them
          return refuse(op);
        return {fmt::format("subgroupMatrixLoad<{}, {}>(&{}, {}, {}u)", typeText(load.getType()),
                            load.getTranspose() ? "col_major" : "row_major",
                            plain(load.getSrcMemref()).text, plain(load.getIndices()[0]).text,
                            load.getLeadDimension().getZExtValue())};
      })
      .Case([&](gpu::SubgroupMmaComputeOp multiply) {
        return call("subgroupMatrixMultiplyAccumulate",
                    {multiply.getOpA(), multiply.getOpB(), multiply.getOpC()});
      })
      .Case([&](gpu::SubgroupMmaElementwiseOp scale) -> Expression {
        auto factor = scale.getArgs()[1].getDefiningOp<gpu::SubgroupMmaConstantMatrixOp>();
        if (scale.getOpType() != gpu::MMAElementwiseOp::MULF || !factor)
          return refuse(op);
        return call("subgroupMatrixScalarMultiply", {scale.getArgs()[0], factor.getValue()});
      });
}

WgslFunction::Expression WgslFunction::load(memref::LoadOp load) {
  if (load.getType().isInteger(16)) // buffers of halves are written
    return refuse(load);
  if (auto reader = readers.find(load.getMemRef()); reader != readers.end())
    return call(reader->second, load.getIndices());
  std::string place =
      expression(load.getMemRef()).text + "[" + plain(load.getIndices()[0]).text + "]";
  if (load->hasAttr(simt::uniformAttrName) && !trusts)
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
      .Case<arith::UIToFPOp, arith::FPToUIOp>(
          [&](auto) { return call(typeText(op->getResult(0).getType()), op->getOperands()); })
      .Case([&](arith::SIToFPOp) -> Expression {
        return {typeText(op->getResult(0).getType()) + "(" +
                signedOperand(op->getOperand(0), Tight::Comparison) + ")"};
      })
      .Case<arith::BitcastOp, vector::BitCastOp>([&](auto) { return bitcast(op); })
      .Case([&](arith::ExtFOp extended) -> Expression {
        if (auto halves = extended.getIn().getDefiningOp<vector::BitCastOp>())
          return floatsOf(halves);
        if (!extended.getIn().getType().isF16())
          return refuse(op);
        return {call("unpack2x16float", op->getOperands()).text + ".x"};
      })
      .Case([&](math::ExpOp) { return call("exp", op->getOperands()); })
      .Case([&](math::Exp2Op) { return call("exp2", op->getOperands()); })
      .Case([&](math::SqrtOp) { return call("sqrt", op->getOperands()); })
      .Case([&](math::ErfOp) { return helper("erf", helpers.erf, op); })
      .Case([&](math::TanhOp) { return helper("safe_tanh", helpers.tanh, op); })
      .Case([&](arith::TruncFOp narrower) -> Expression {
        const Type half = getElementTypeOrSelf(narrower.getType());
        if (half.isBF16())
          return helper("round_to_bf16", helpers.roundToBf16, op);
        return half.isF16() ? helper("round_to_f16", helpers.roundToF16, op) : refuse(op);
      })
      .Case([&](arith::ExtUIOp) -> Expression {
        return {operand(op->getOperand(0), Tight::Unary) + " & 0xffffu", Tight::Bits};
      })
      .Case([&](math::FmaOp) { return call("fma", op->getOperands()); })
      .Case<vector::ExtractOp, vector::SplatOp, vector::FromElementsOp, vector::ShuffleOp>(
          [&](auto) { return ofVector(op); })
      .Case([&](func::CallOp made) -> Expression {
        helpers.packedDot |= made.getCallee() == "dot4I8Packed";
        helpers.looksUp |= made.getCallee() == simt::lookUpBytesName;
        Expression value = call(made.getCallee(), op->getOperands());
        value.isSigned = made->hasAttr(simt::signedAttrName);
        return value;
      })
      .Case<gpu::ShuffleOp, gpu::SubgroupReduceOp>([&](auto) { return ofSubgroup(op); })
      .Case<gpu::SubgroupMmaConstantMatrixOp, gpu::SubgroupMmaLoadMatrixOp,
            gpu::SubgroupMmaComputeOp, gpu::SubgroupMmaElementwiseOp>(
          [&](auto) { return ofMatrix(op); })
      .Case([&](memref::LoadOp op) { return load(op); })
      .Default([&](Operation *) { return refuse(op); });
}
