#include "kernelforge/codegen/webgpu/MatmulUnits.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::webgpu;
using namespace kernelforge::webgpu::rows;

using Values = SmallVector<Value>;

Value rows::roundedFor(PhaseBuilder &p, Numerics numerics, Value x) {
  if (numerics != Numerics::F16)
    return x;
  if (PhaseBuilder::lanes(x) > 1)
    return p.halvesToFloats(p.floatsToHalves(x));
  return rounded(p, ElementType::F16, x);
}

//===----------------------------------------------------------------------===//
// Plain numbers
//===----------------------------------------------------------------------===//

PlainUnits::PlainUnits(PhaseBuilder &p, Value bodyArgument, int64_t unit)
    : p(p), type(*elementTypeOf(bodyArgument.getType())), unit(unit) {
  const View view = unit == 1                   ? View::Elements
                    : unit == 8 && isHalf(type) ? View::Words4
                                                : View::Quads;
  buffer = p.argument(bodyArgument, Access::Read, view);
}

bool PlainUnits::isVector() const {
  auto seen = dyn_cast<VectorType>(cast<MemRefType>(buffer.getType()).getElementType());
  return seen &&
         seen.getElementTypeBitWidth() * seen.getNumElements() == unit * (isHalf(type) ? 16 : 32);
}

Values PlainUnits::load(Value number, StringRef name) {
  if (isVector())
    return {p.named(p.loadVector(buffer, number), name)};
  if (unit == 1)
    return {p.named(readElement(p, buffer, type, number), name)};
  Values elements;
  for (int64_t i = 0; i < unit; i += 4)
    elements.push_back(
        p.named(readElement(p, buffer, type, p.add(p.mul(number, unit), i), 4), name));
  return elements;
}

Values PlainUnits::quads(const Values &loaded) {
  if (!isVector())
    return loaded;
  if (unit == 4)
    return {widenedQuad(p, type, loaded[0])};
  return {widenedQuad(p, type, p.slice(loaded[0], 0, 2)),
          widenedQuad(p, type, p.slice(loaded[0], 2, 2))};
}

//===----------------------------------------------------------------------===//
// Weights
//===----------------------------------------------------------------------===//

WeightUnits::WeightUnits(PhaseBuilder &p, Value weight, int64_t unit, Numerics numerics)
    : p(p), numerics(numerics), unit(unit) {
  if (PlaneReader::reads(weight.getType()))
    planes.emplace(p, weight);
  else
    plain.emplace(p, weight, unit);
}

int64_t WeightUnits::lanes() const {
  return multipliesRuns() || multipliesIntegers(numerics) || (plain && unit == 1) ? 1 : 4;
}

bool WeightUnits::needsTotals() const {
  return multipliesRuns() && (planes->hasMinimum() || planes->offset() != 0);
}

WeightUnits::Loaded WeightUnits::load(Value number) {
  if (planes)
    return {{}, planes->load(number)};
  return {plain->load(number, "w"), {}};
}

void WeightUnits::multiply(const Loaded &loaded, ArrayRef<InputUnit> rows,
                           llvm::function_ref<Value &(size_t row)> sum) {
  if (planes) {
    if (multipliesIntegers(numerics))
      multiplyIntegers(loaded.piece, rows, sum);
    else if (multipliesRuns())
      multiplyRuns(loaded.piece, rows, sum);
    else
      multiplyElements(loaded.piece, rows, sum);
    return;
  }
  Values quads = plain->quads(loaded.plain);
  if (plain->elementType() != ElementType::F16)
    for (Value &quad : quads)
      quad = roundedFor(p, numerics, quad);
  multiplyQuads(quads, rows, sum);
}

void WeightUnits::multiplyQuads(const Values &quads, ArrayRef<InputUnit> rows,
                                llvm::function_ref<Value &(size_t row)> sum) {
  for (auto [m, row] : llvm::enumerate(rows))
    for (auto [w, x] : llvm::zip(quads, row.quads))
      sum(m) = p.fma(w, x, sum(m));
}

/// Rounded to f16 as elements, which is after they were scaled.
void WeightUnits::multiplyElements(const PlaneReader::Piece &piece, ArrayRef<InputUnit> rows,
                                   llvm::function_ref<Value &(size_t row)> sum) {
  const auto scales = planes->scales(piece);
  Values quads;
  for (int64_t run = 0; run < planes->runs(); ++run)
    for (Value quad : planes->elements(piece, run, scales[static_cast<size_t>(run)]))
      quads.push_back(roundedFor(p, numerics, quad));
  multiplyQuads(quads, rows, sum);
}

/// Exact: quants are f32, and a run's sum is scaled as a whole.
void WeightUnits::multiplyRuns(const PlaneReader::Piece &piece, ArrayRef<InputUnit> rows,
                               llvm::function_ref<Value &(size_t row)> sum) {
  const auto scales = planes->scales(piece);
  const auto offset = static_cast<double>(planes->offset());
  for (size_t run = 0; run < scales.size(); ++run) {
    const Values quants = planes->offsetQuads(piece, static_cast<int64_t>(run));
    for (auto [m, row] : llvm::enumerate(rows)) {
      const auto x = ArrayRef(row.quads).slice(run * quants.size(), quants.size());
      Value products = p.mulf(quants[0], x[0]);
      for (size_t i = 1; i < x.size(); ++i)
        products = p.fma(quants[i], x[i], products);
      products = p.sumOfLanes(p.named(products, "products"));
      if (offset != 0)
        products = p.fma(p.cf(-offset), row.totals[run], products);
      sum(m) = p.fma(scales[run].factor, products, sum(m));
      if (scales[run].minimum)
        sum(m) = p.fma(scales[run].minimum, row.totals[run], sum(m));
    }
  }
}

/// Whole numbers: bytes are multiplied and added up exactly, of both runs together where they have
/// one scale and one block of the row.
void WeightUnits::multiplyIntegers(const PlaneReader::Piece &piece, ArrayRef<InputUnit> rows,
                                   llvm::function_ref<Value &(size_t row)> sum) {
  const auto scales = planes->scales(piece);
  Values bytes;
  for (int64_t run = 0; run < planes->runs(); ++run)
    bytes.push_back(p.named(planes->bytes(piece, run), "bytes"));
  const int64_t together = planes->hasOneScale() ? planes->runs() : 1;
  auto dots = [&](Value w, Value x) {
    Value all;
    for (int64_t i = 0; i < 4; ++i) {
      Value dot = p.dotOfBytes(p.extract(w, i), p.extract(x, i));
      all = all ? p.add(all, dot) : dot;
    }
    return all;
  };
  for (auto [m, row] : llvm::enumerate(rows))
    for (int64_t run = 0; run < planes->runs(); run += together) {
      Value products, ofRow;
      for (int64_t i = run; i < run + together; ++i) {
        const auto number = static_cast<size_t>(i);
        Value product = dots(bytes[number], row.high[number]);
        if (!row.low.empty())
          product = p.add(p.shl(product, 8), dots(bytes[number], row.low[number]));
        products = products ? p.add(products, product) : product;
        ofRow = ofRow ? p.add(ofRow, row.sums[number]) : row.sums[number];
      }
      if (planes->zero() != 0)
        products = p.sub(products, p.mul(ofRow, planes->zero()));
      const PlaneReader::Scale &scale = scales[static_cast<size_t>(run)];
      Value factor = row.factors[static_cast<size_t>(run)];
      Value product = p.mulf(scale.factor, p.signedToFloat(products));
      if (scale.minimum)
        product = p.fma(scale.minimum, p.signedToFloat(ofRow), product);
      sum(m) = p.fma(factor, product, sum(m));
    }
}
