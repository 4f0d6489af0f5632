#include "Arithmetic.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace kernelforge::ptx {

/// An f32 rounded to 16 bits.
static uint64_t narrow(uint64_t value, bool isBf16) {
  const float number = floatOf(value);
  if (!isBf16)
    return std::bit_cast<uint16_t>(static_cast<_Float16>(number));
  const auto bits = static_cast<uint32_t>(value);
  return std::isnan(number) ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

void Arithmetic::compute(const Instruction &i) {
  switch (i.op) {
  case Op::Move:
    return set(i.result[0], operand(i, 0));
  case Op::Pack: {
    uint64_t packed = 0;
    const unsigned bits = i.type.bits / i.operands;
    for (unsigned n = 0; n < i.operands; ++n)
      packed |= low(operand(i, n), bits) << (n * bits);
    return set(i.result[0], packed);
  }
  case Op::Unpack: {
    const unsigned bits = i.type.bits / i.results;
    for (unsigned n = 0; n < i.results; ++n)
      set(i.result[n], low(operand(i, 0) >> (n * bits), bits));
    return;
  }
  case Op::Convert:
    return convert(i);
  case Op::SetPredicate:
    return set(i.result[0], compare(i) ? 1 : 0);
  case Op::DotBytes: {
    auto sum = static_cast<uint32_t>(operand(i, 2));
    for (unsigned n = 0; n < 4; ++n) {
      const auto x = static_cast<int8_t>(operand(i, 0) >> (8 * n));
      const auto y = static_cast<int8_t>(operand(i, 1) >> (8 * n));
      sum += static_cast<uint32_t>(x * y);
    }
    return set(i.result[0], sum);
  }
  case Op::Round:
    return set(i.result[0], bitsOf(std::nearbyint(floatOf(operand(i, 0)))));
  case Op::PowerOfTwo:
    return set(i.result[0], bitsOf(std::exp2(floatOf(operand(i, 0)))));
  case Op::PackHalves: {
    const uint64_t first = narrow(operand(i, 0), i.isBf16);
    return set(i.result[0],
               i.operands == 1 ? first : first << 16 | narrow(operand(i, 1), i.isBf16));
  }
  case Op::Select:
    return set(i.result[0], operand(i, 2) & 1 ? operand(i, 0) : operand(i, 1));
  default:
    return i.type.kind == Type::Float ? floats(i) : integers(i);
  }
}

/// Sums and products of narrow numbers: exact in f64, and rounded once where those are f16.
void Arithmetic::halves(const Instruction &i) {
  uint64_t results = 0;
  for (unsigned shift = 0; shift < i.type.bits; shift += 16) {
    auto number = [&](unsigned n) -> double {
      const uint64_t bits = low(operand(i, n) >> shift, 16);
      return i.isBf16 ? floatOf(bits << 16) : halfOf(bits);
    };
    const double x = number(0), y = number(1);
    if (i.op != Op::Add && i.op != Op::Sub && i.op != Op::Mul)
      return fail("an operation on f16 that is not emulated");
    const double result = i.op == Op::Add ? x + y : i.op == Op::Sub ? x - y : x * y;
    results |= (i.isBf16 ? narrow(bitsOf(float(result)), true)
                         : uint64_t(std::bit_cast<uint16_t>(static_cast<_Float16>(result))))
               << shift;
  }
  set(i.result[0], results);
}

void Arithmetic::floats(const Instruction &i) {
  if (i.type.bits == 16 || i.isPair)
    return halves(i);
  if (i.type.bits != 32)
    return fail("floats of another width");
  auto x = [&](unsigned n) { return floatOf(operand(i, n)); };
  auto give = [&](float result) { set(i.result[0], bitsOf(result)); };
  switch (i.op) {
  case Op::Add:
    return give(x(0) + x(1));
  case Op::Sub:
    return give(x(0) - x(1));
  case Op::Mul:
    return give(x(0) * x(1));
  case Op::Mad:
    return give(std::fma(x(0), x(1), x(2)));
  case Op::Div:
    return give(x(0) / x(1));
  case Op::Reciprocal:
    return give(1.0F / x(0));
  case Op::SquareRoot:
    return give(std::sqrt(x(0)));
  case Op::Min:
    return give(std::fmin(x(0), x(1)));
  case Op::Max:
    return give(std::fmax(x(0), x(1)));
  case Op::Neg:
    return set(i.result[0], operand(i, 0) ^ 0x80000000);
  case Op::Abs:
    return set(i.result[0], operand(i, 0) & 0x7fffffff);
  case Op::CopySign:
    return set(i.result[0], (operand(i, 0) & 0x80000000) | (operand(i, 1) & 0x7fffffff));
  default:
    return fail("an operation of integers on floats");
  }
}

void Arithmetic::integers(const Instruction &i) {
  const unsigned bits = i.type.bits;
  const bool isSigned = i.type.kind == Type::Signed;
  const uint64_t a = low(operand(i, 0), bits), b = low(operand(i, 1), bits);
  const int64_t sa = withSign(a, bits), sb = withSign(b, bits);
  auto give = [&](uint64_t result) { set(i.result[0], low(result, bits)); };
  const auto shift = static_cast<unsigned>(std::min<uint64_t>(low(operand(i, 1), 32), 64));
  switch (i.op) {
  case Op::Add:
    return give(a + b);
  case Op::Sub:
    return give(a - b);
  case Op::Mul:
  case Op::Mad:
    return multiply(i);
  case Op::Div:
  case Op::Rem:
    if (b == 0)
      return fail("division by zero");
    if (i.op == Op::Div)
      return give(isSigned ? static_cast<uint64_t>(sa / sb) : a / b);
    return give(isSigned ? static_cast<uint64_t>(sa % sb) : a % b);
  case Op::Min:
    return give((isSigned ? sa < sb : a < b) ? a : b);
  case Op::Max:
    return give((isSigned ? sa > sb : a > b) ? a : b);
  case Op::Neg:
    return give(0 - a);
  case Op::Abs:
    return give(static_cast<uint64_t>(sa < 0 ? -sa : sa));
  case Op::Not:
    return give(~a);
  case Op::And:
    return give(a & b);
  case Op::Or:
    return give(a | b);
  case Op::Xor:
    return give(a ^ b);
  case Op::ShiftLeft:
    return give(shift >= bits ? 0 : a << shift);
  case Op::ShiftRight:
    if (isSigned)
      return give(static_cast<uint64_t>(sa >> std::min(shift, bits - 1)));
    return give(shift >= bits ? 0 : a >> shift);
  case Op::FunnelLeft:
  case Op::FunnelRight: {
    const uint64_t both = low(operand(i, 1), 32) << 32 | low(operand(i, 0), 32);
    const uint64_t by = operand(i, 2) & 31;
    return set(i.result[0], i.op == Op::FunnelLeft ? both << by >> 32 : both >> by);
  }
  case Op::ExtractBits: {
    const uint64_t from = operand(i, 1) & 255, count = operand(i, 2) & 255;
    if (count == 0 || from + count > bits)
      return fail("a field of bits that is not emulated");
    const uint64_t field = low(a >> from, static_cast<unsigned>(count));
    return give(isSigned ? static_cast<uint64_t>(withSign(field, static_cast<unsigned>(count)))
                         : field);
  }
  case Op::InsertBits: {
    const uint64_t from = operand(i, 2) & 255, count = operand(i, 3) & 255;
    if (from + count > bits)
      return fail("a field of bits that is not emulated");
    const uint64_t mask = low(~uint64_t(0), static_cast<unsigned>(count)) << from;
    return give((b & ~mask) | (a << from & mask));
  }
  case Op::Permute: {
    const uint64_t bytes = b << 32 | a, chosen = operand(i, 2);
    uint64_t result = 0;
    for (unsigned n = 0; n < 4; ++n) {
      const uint64_t pick = chosen >> (4 * n) & 15;
      if (pick > 7)
        return fail("a permutation that is not emulated");
      result |= (bytes >> (8 * pick) & 255) << (8 * n);
    }
    return give(result);
  }
  default:
    return fail("an operation of floats on integers");
  }
}

void Arithmetic::multiply(const Instruction &i) {
  const unsigned bits = i.type.bits;
  __int128 product;
  if (i.type.kind == Type::Signed)
    product = __int128(withSign(operand(i, 0), bits)) * withSign(operand(i, 1), bits);
  else
    product = static_cast<__int128>(static_cast<unsigned __int128>(low(operand(i, 0), bits)) *
                                    low(operand(i, 1), bits));
  if (i.part == Part::High)
    product >>= bits;
  auto result = static_cast<uint64_t>(product);
  if (i.op == Op::Mad)
    result += operand(i, 2);
  set(i.result[0], low(result, i.part == Part::Wide ? 2 * bits : bits));
}

bool Arithmetic::compare(const Instruction &i) const {
  const unsigned bits = i.type.bits;
  auto holds = [&](auto a, auto b) {
    switch (i.compare) {
    case Compare::Eq:
      return a == b;
    case Compare::Ne:
      return a != b;
    case Compare::Lt:
      return a < b;
    case Compare::Le:
      return a <= b;
    case Compare::Gt:
      return a > b;
    default:
      return a >= b;
    }
  };
  if (i.type.kind == Type::Float) {
    const bool isHalf = bits == 16;
    const float a = isHalf ? halfOf(operand(i, 0)) : floatOf(operand(i, 0));
    const float b = isHalf ? halfOf(operand(i, 1)) : floatOf(operand(i, 1));
    const bool isOrdered = !std::isnan(a) && !std::isnan(b);
    if (i.compare == Compare::Number || i.compare == Compare::NotNumber)
      return isOrdered == (i.compare == Compare::Number);
    return isOrdered ? holds(a, b) : i.isUnordered;
  }
  if (i.type.kind == Type::Signed)
    return holds(withSign(operand(i, 0), bits), withSign(operand(i, 1), bits));
  return holds(low(operand(i, 0), bits), low(operand(i, 1), bits));
}

void Arithmetic::convert(const Instruction &i) {
  const uint64_t from = low(operand(i, 0), i.source.bits);
  const int64_t asSigned = withSign(from, i.source.bits);
  const bool isSigned = i.source.kind == Type::Signed;
  auto give = [&](uint64_t result) { set(i.result[0], low(result, i.type.bits)); };
  if (i.source.kind == Type::Float && i.type.kind == Type::Float) {
    if (i.source.bits == 16 && i.type.bits == 32)
      return give(bitsOf(halfOf(from)));
    if (i.source.bits == 32 && i.type.bits == 16)
      return give(std::bit_cast<uint16_t>(static_cast<_Float16>(floatOf(from))));
    return fail("a conversion that is not emulated");
  }
  if (i.type.kind == Type::Float)
    return i.type.bits == 32
               ? give(bitsOf(isSigned ? static_cast<float>(asSigned) : static_cast<float>(from)))
               : fail("a conversion that is not emulated");
  if (i.source.kind == Type::Float) {
    if (i.source.bits != 32 || i.type.bits != 32 || i.type.kind != Type::Unsigned)
      return fail("a conversion that is not emulated");
    // What is no number becomes 0, what is out of range its end.
    const auto value = static_cast<double>(floatOf(from));
    return give(value > 0 ? static_cast<uint64_t>(std::min<double>(value, UINT32_MAX)) : 0);
  }
  // A register may be wider than what it is converted to: a sign goes on to its end.
  const uint64_t widened = isSigned ? static_cast<uint64_t>(asSigned) : from;
  if (i.type.kind == Type::Signed)
    return set(i.result[0], static_cast<uint64_t>(withSign(widened, i.type.bits)));
  give(widened);
}

} // namespace kernelforge::ptx
