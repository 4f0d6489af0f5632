// Values of one thread: numbers, vectors and matrices, and what is computed of them.
#include "kernelforge/codegen/simt/Builder.h"

#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;

//===----------------------------------------------------------------------===//
// Vectors
//===----------------------------------------------------------------------===//

int64_t PhaseBuilder::lanes(Value value) {
  auto type = dyn_cast<VectorType>(value.getType());
  return type ? type.getNumElements() : 1;
}

Type PhaseBuilder::likeOf(Type type, Value like) {
  auto shape = dyn_cast<VectorType>(like.getType());
  return shape ? VectorType::get(shape.getShape(), type) : type;
}

Value PhaseBuilder::splat(Value value, int64_t lanes) {
  if (lanes == 1 || isa<VectorType>(value.getType()))
    return value;
  return b.create<vector::SplatOp>(loc, vec(value.getType(), lanes), value);
}

void PhaseBuilder::match(Value &x, Value &y) {
  x = splat(x, lanes(y));
  y = splat(y, lanes(x));
}

Value PhaseBuilder::vector(ValueRange elements) {
  Type type = vec(elements[0].getType(), static_cast<int64_t>(elements.size()));
  return b.create<vector::FromElementsOp>(loc, cast<VectorType>(type), elements);
}

Value PhaseBuilder::extract(Value vector, int64_t lane) {
  if (auto made = vector.getDefiningOp<vector::FromElementsOp>())
    return made.getElements()[static_cast<unsigned>(lane)];
  if (auto splat = vector.getDefiningOp<vector::SplatOp>())
    return splat.getInput();
  return b.create<vector::ExtractOp>(loc, vector, lane);
}

Value PhaseBuilder::extract(Value vector, Value lane) {
  Value at = b.create<arith::IndexCastUIOp>(loc, b.getIndexType(), lane);
  return b.create<vector::ExtractOp>(loc, vector, at);
}

Value PhaseBuilder::slice(Value vector, int64_t first, int64_t count) {
  SmallVector<int64_t> numbers;
  for (int64_t i = 0; i < count; ++i)
    numbers.push_back(first + i);
  return b.create<vector::ShuffleOp>(loc, vector, vector, numbers);
}

Value PhaseBuilder::sumOfLanes(Value vector) {
  const int64_t count = lanes(vector);
  if (count == 1)
    return vector;
  SmallVector<Value> sums;
  for (int64_t i = 0; i < count; ++i)
    sums.push_back(extract(vector, i));
  while (sums.size() > 1) {
    for (size_t i = 0; i < sums.size() / 2; ++i)
      sums[i] = addf(sums[2 * i], sums[2 * i + 1]);
    sums.truncate(sums.size() / 2);
  }
  return sums[0];
}

Value PhaseBuilder::halvesToFloats(Value words) {
  const int64_t count = 2 * lanes(words);
  if (!isa<VectorType>(words.getType()))
    words = vector(words);
  Value halves = b.create<vector::BitCastOp>(loc, vec(b.getF16Type(), count), words);
  return b.create<arith::ExtFOp>(loc, vec(f32, count), halves);
}

Value PhaseBuilder::floatsToHalves(Value floats, Type half) {
  const int64_t count = lanes(floats);
  half = half ? half : b.getF16Type();
  Value halves = b.create<arith::TruncFOp>(loc, vec(half, count), floats);
  Value words = b.create<vector::BitCastOp>(loc, vec(i32, count / 2), halves);
  return count == 2 ? extract(words, int64_t(0)) : words;
}

func::FuncOp PhaseBuilder::declared(StringRef name, TypeRange operands, TypeRange results) {
  auto callee = module.lookupSymbol<func::FuncOp>(name);
  if (!callee) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(module.getBody());
    callee = b.create<func::FuncOp>(loc, name, b.getFunctionType(operands, results));
    callee.setPrivate();
  }
  return callee;
}

Value PhaseBuilder::call(StringRef name, Type result, ValueRange operands, bool isSigned) {
  auto made = b.create<func::CallOp>(loc, declared(name, operands.getTypes(), result), operands);
  if (isSigned)
    made->setAttr(signedAttrName, b.getUnitAttr());
  return made.getResult(0);
}

Value PhaseBuilder::dotOfBytes(Value x, Value y) {
  return call("dot4I8Packed", i32, {x, y}, /*isSigned=*/true);
}

Value PhaseBuilder::lookUpBytes(Value words, const std::array<int8_t, 16> &table) {
  SmallVector<Value> operands(1);
  for (size_t first = 0; first < table.size(); first += 4) {
    uint32_t word = 0;
    for (size_t i = 0; i < 4; ++i)
      word |= uint32_t(uint8_t(table[first + i])) << (8 * i);
    operands.push_back(c(word));
  }
  SmallVector<Value> found;
  for (int64_t i = 0; i < lanes(words); ++i) {
    operands[0] = lanes(words) == 1 ? words : extract(words, i);
    found.push_back(call(lookUpBytesName, i32, operands));
  }
  return found.size() == 1 ? found[0] : vector(found);
}

//===----------------------------------------------------------------------===//
// Matrices of a subgroup
//===----------------------------------------------------------------------===//

Type PhaseBuilder::matrix(Side side, Type element, int64_t rows, int64_t cols) {
  const StringRef operand = side == Side::Left ? "AOp" : side == Side::Right ? "BOp" : "COp";
  return gpu::MMAMatrixType::get({rows, cols}, element, operand);
}

Value PhaseBuilder::zeroMatrix(Type type) {
  Type element = cast<gpu::MMAMatrixType>(type).getElementType();
  Value zero = b.create<arith::ConstantOp>(loc, b.getZeroAttr(element));
  return b.create<gpu::SubgroupMmaConstantMatrixOp>(loc, type, zero);
}

Value PhaseBuilder::loadMatrix(Type type, Value memory, Value at, int64_t stride,
                               bool columnMajor) {
  Value index = b.create<arith::IndexCastUIOp>(loc, b.getIndexType(), at);
  return b.create<gpu::SubgroupMmaLoadMatrixOp>(loc, type, memory, index, b.getIndexAttr(stride),
                                                columnMajor ? b.getUnitAttr() : UnitAttr());
}

void PhaseBuilder::storeMatrix(Value matrix, Value memory, Value at, int64_t stride) {
  Value index = b.create<arith::IndexCastUIOp>(loc, b.getIndexType(), at);
  b.create<gpu::SubgroupMmaStoreMatrixOp>(loc, matrix, memory, index, b.getIndexAttr(stride),
                                          UnitAttr());
}

Value PhaseBuilder::multiplyMatrices(Value left, Value right, Value sum) {
  return b.create<gpu::SubgroupMmaComputeOp>(loc, sum.getType(), left, right, sum, UnitAttr(),
                                             UnitAttr());
}

Value PhaseBuilder::scaleMatrix(Value matrix, Value factor) {
  Value factors = b.create<gpu::SubgroupMmaConstantMatrixOp>(loc, matrix.getType(), factor);
  return b.create<gpu::SubgroupMmaElementwiseOp>(loc, matrix.getType(), ValueRange{matrix, factors},
                                                 gpu::MMAElementwiseOp::MULF);
}

//===----------------------------------------------------------------------===//
// Integers
//===----------------------------------------------------------------------===//

static std::optional<int64_t> constantOf(Value value) {
  APInt constant;
  if (matchPattern(value, m_ConstantInt(&constant)))
    return constant.getSExtValue();
  return std::nullopt;
}

Value PhaseBuilder::c(int64_t value) {
  value = static_cast<int32_t>(value);
  Value &constant = constants[value];
  if (!constant) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(&function.getBody().front());
    constant = b.create<arith::ConstantIntOp>(loc, value, 32);
  }
  return constant;
}

Value PhaseBuilder::add(Value x, Value y) {
  auto p = constantOf(x), q = constantOf(y);
  if (p && q)
    return c(*p + *q);
  if (p == 0)
    return y;
  return q == 0 ? x : make<arith::AddIOp>(x, y);
}

Value PhaseBuilder::sub(Value x, Value y) {
  auto p = constantOf(x), q = constantOf(y);
  if (p && q)
    return c(*p - *q);
  return q == 0 ? x : make<arith::SubIOp>(x, y);
}

Value PhaseBuilder::mul(Value x, Value y) {
  auto p = constantOf(x), q = constantOf(y);
  if (p && q)
    return c(*p * *q);
  if (p == 0 || q == 0)
    return c(0);
  if (p == 1)
    return y;
  return q == 1 ? x : make<arith::MulIOp>(x, y);
}

Value PhaseBuilder::div(Value x, int64_t y) {
  if (auto p = constantOf(x))
    return c(*p / y);
  return y == 1 ? x : make<arith::DivUIOp>(x, c(y));
}

Value PhaseBuilder::rem(Value x, int64_t y) {
  if (auto p = constantOf(x))
    return c(*p % y);
  return y == 1 ? c(0) : make<arith::RemUIOp>(x, c(y));
}

Value PhaseBuilder::andBits(Value x, int64_t mask) { return make<arith::AndIOp>(x, c(mask)); }
Value PhaseBuilder::orBits(Value x, Value y) { return make<arith::OrIOp>(x, y); }
Value PhaseBuilder::xorBits(Value x, Value y) { return make<arith::XOrIOp>(x, y); }
Value PhaseBuilder::shl(Value x, Value y) {
  return constantOf(y) == 0 ? x : make<arith::ShLIOp>(x, y);
}
Value PhaseBuilder::shr(Value x, Value y) {
  return constantOf(y) == 0 ? x : make<arith::ShRUIOp>(x, y);
}
Value PhaseBuilder::shrSigned(Value x, int64_t y) { return make<arith::ShRSIOp>(x, c(y)); }
Value PhaseBuilder::quarter(Value x) {
  auto isMultiple = [](auto &self, Value value, int depth) -> bool {
    if (auto number = constantOf(value))
      return *number % 4 == 0;
    Operation *op = value.getDefiningOp();
    if (!op || depth == 0)
      return false;
    if (isa<arith::AddIOp, arith::SubIOp>(op))
      return self(self, op->getOperand(0), depth - 1) && self(self, op->getOperand(1), depth - 1);
    return isa<arith::MulIOp>(op) &&
           (self(self, op->getOperand(0), depth - 1) || self(self, op->getOperand(1), depth - 1));
  };
  constexpr int deepest = 6;
  auto divide = [&](auto &self, Value value) -> Value {
    Operation *op = value.getDefiningOp();
    if (auto number = constantOf(value))
      return c(*number / 4);
    if (!isMultiple(isMultiple, value, deepest))
      return shr(value, 2);
    Value left = op->getOperand(0), right = op->getOperand(1);
    if (isa<arith::AddIOp>(op))
      return add(self(self, left), self(self, right));
    if (isa<arith::SubIOp>(op))
      return sub(self(self, left), self(self, right));
    return isMultiple(isMultiple, left, deepest) ? mul(self(self, left), right)
                                                 : mul(left, self(self, right));
  };
  return divide(divide, x);
}

Value PhaseBuilder::min(Value x, Value y) { return make<arith::MinUIOp>(x, y); }
Value PhaseBuilder::max(Value x, Value y) { return make<arith::MaxUIOp>(x, y); }
Value PhaseBuilder::minSigned(Value x, Value y) { return make<arith::MinSIOp>(x, y); }
Value PhaseBuilder::maxSigned(Value x, Value y) { return make<arith::MaxSIOp>(x, y); }
Value PhaseBuilder::cmp(arith::CmpIPredicate predicate, Value x, Value y) {
  match(x, y);
  return b.create<arith::CmpIOp>(loc, predicate, x, y);
}
Value PhaseBuilder::select(Value condition, Value x, Value y) {
  match(x, y);
  return x == y ? x : b.create<arith::SelectOp>(loc, condition, x, y).getResult();
}

//===----------------------------------------------------------------------===//
// Floats
//===----------------------------------------------------------------------===//

Value PhaseBuilder::cf(double value) {
  Value &constant = floatConstants[value];
  if (!constant) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(&function.getBody().front());
    constant = b.create<arith::ConstantFloatOp>(loc, APFloat(static_cast<float>(value)),
                                                cast<FloatType>(f32));
  }
  return constant;
}
Value PhaseBuilder::addf(Value x, Value y) { return make<arith::AddFOp>(x, y); }
Value PhaseBuilder::subf(Value x, Value y) { return make<arith::SubFOp>(x, y); }
Value PhaseBuilder::mulf(Value x, Value y) { return make<arith::MulFOp>(x, y); }
Value PhaseBuilder::fma(Value x, Value y, Value z) {
  match(x, y);
  match(x, z);
  match(y, z);
  return b.create<math::FmaOp>(loc, x, y, z);
}
Value PhaseBuilder::divf(Value x, Value y) { return make<arith::DivFOp>(x, y); }
Value PhaseBuilder::negf(Value x) { return b.create<arith::NegFOp>(loc, x); }
Value PhaseBuilder::absf(Value x) { return bitsToFloat(andBits(floatToBits(x), 0x7fffffff)); }
Value PhaseBuilder::maxf(Value x, Value y) { return make<arith::MaxNumFOp>(x, y); }
Value PhaseBuilder::minf(Value x, Value y) { return make<arith::MinNumFOp>(x, y); }
Value PhaseBuilder::cmpf(arith::CmpFPredicate predicate, Value x, Value y) {
  match(x, y);
  return b.create<arith::CmpFOp>(loc, predicate, x, y);
}
Value PhaseBuilder::exp(Value x) { return b.create<math::ExpOp>(loc, x); }
Value PhaseBuilder::sqrt(Value x) { return b.create<math::SqrtOp>(loc, x); }
Value PhaseBuilder::toFloat(Value x) { return b.create<arith::UIToFPOp>(loc, likeOf(f32, x), x); }
Value PhaseBuilder::signedToFloat(Value x) {
  return b.create<arith::SIToFPOp>(loc, likeOf(f32, x), x);
}
Value PhaseBuilder::bitsToFloat(Value bits) {
  return b.create<arith::BitcastOp>(loc, likeOf(f32, bits), bits);
}
Value PhaseBuilder::toInteger(Value x) { return b.create<arith::FPToUIOp>(loc, likeOf(i32, x), x); }
Value PhaseBuilder::floatToBits(Value x) {
  return b.create<arith::BitcastOp>(loc, likeOf(i32, x), x);
}
Value PhaseBuilder::halfToFloat(Value word) {
  Value half = b.create<arith::TruncIOp>(loc, b.getI16Type(), word);
  half = b.create<arith::BitcastOp>(loc, b.getF16Type(), half);
  return b.create<arith::ExtFOp>(loc, f32, half);
}
Value PhaseBuilder::floatToHalf(Value x, Type half) {
  half = half ? half : b.getF16Type();
  Value rounded = b.create<arith::TruncFOp>(loc, likeOf(half, x), x);
  rounded = b.create<arith::BitcastOp>(loc, likeOf(b.getI16Type(), x), rounded);
  return b.create<arith::ExtUIOp>(loc, likeOf(i32, x), rounded);
}
