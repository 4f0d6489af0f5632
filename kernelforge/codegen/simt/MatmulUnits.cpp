#include "kernelforge/codegen/simt/MatmulUnits.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::simt::rows;

using Values = SmallVector<Value>;

RunPlace::RunPlace(PhaseBuilder &p, const Unit &of, Value number) {
  const int64_t runsOfChunk = of.chunk / runElements, units = of.chunk / of.elements;
  Value chunk = p.div(number, runsOfChunk), within = p.rem(number, runsOfChunk);
  run = p.div(within, units);
  unit = p.add(p.mul(chunk, units), p.rem(within, units));
}

Value rows::roundedFor(PhaseBuilder &p, Numerics numerics, Value x) {
  const std::optional<ElementType> type = roundedTo(numerics);
  return type ? rounded(p, *type, x) : x;
}

std::optional<ElementType> rows::roundedTo(Numerics numerics) {
  if (numerics == Numerics::F16)
    return ElementType::F16;
  if (numerics == Numerics::BF16)
    return ElementType::BF16;
  return std::nullopt;
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

WeightUnits::WeightUnits(PhaseBuilder &p, Value weight, const Unit &unit, Numerics numerics,
                         bool streams, int64_t lanesOfSum)
    : p(p), numerics(numerics), unit(unit), streams(streams), lanesOfSum(lanesOfSum) {
  if (PlaneReader::reads(weight.getType()))
    planes.emplace(p, weight);
  else
    plain.emplace(p, weight, unit.elements);
}

int64_t WeightUnits::lanes() const {
  return multipliesRuns() || multipliesIntegers(numerics) || unit.elements == 1 ? 1 : lanesOfSum;
}

SmallVector<Runs> WeightUnits::runs() const {
  if (plain)
    return {Runs()};
  int64_t together = 1;
  if (multipliesIntegers(numerics))
    together = planes->hasOneScale() ? unit.runs : pieces();
  SmallVector<Runs> runs;
  for (int64_t first = 0; first < unit.runs; first += together)
    runs.push_back({first, together});
  return runs;
}

WeightUnits::Loaded WeightUnits::load(Value number) {
  Loaded loaded;
  if (plain) {
    loaded.plain = plain->load(number, "w");
  } else {
    loaded.pieces.push_back(planes->load(p.mul(number, pieces())));
    for (int64_t i = 1; i < pieces(); ++i)
      loaded.pieces.push_back(planes->loadAfter(loaded.pieces[0], i));
  }
  for (Value value : loaded.plain)
    if (streams)
      p.streamed(value);
  for (const PlaneReader::Piece &piece : loaded.pieces)
    if (streams)
      p.streamed(piece.quants);
  return loaded;
}

Values WeightUnits::valuesOf(const Loaded &loaded) {
  Values values = loaded.plain;
  for (const PlaneReader::Piece &piece : loaded.pieces) {
    values.append({piece.quants, piece.scale});
    if (piece.highs)
      values.push_back(piece.highs);
    values.append(piece.subScales.begin(), piece.subScales.end());
  }
  return values;
}

WeightUnits::Loaded WeightUnits::loadedOf(ValueRange values, Value number, const Loaded &like) {
  size_t next = 0;
  Loaded loaded = {like.plain, like.pieces, {}};
  for (Value &value : loaded.plain)
    value = values[next++];
  for (auto [i, piece] : llvm::enumerate(loaded.pieces)) {
    piece.number = p.add(p.mul(number, pieces()), static_cast<int64_t>(i));
    piece.quants = values[next++];
    piece.scale = values[next++];
    if (piece.highs)
      piece.highs = values[next++];
    for (Value &word : piece.subScales)
      word = values[next++];
  }
  return loaded;
}

void WeightUnits::multiply(Loaded &loaded, const Runs &runs, ArrayRef<InputRuns> rows, Sums sum) {
  if (planes) {
    if (loaded.scales.empty())
      loaded.scales = planes->scales(loaded.pieces[0]);
    if (multipliesIntegers(numerics))
      multiplyIntegers(loaded, runs, rows, sum);
    else if (multipliesRuns())
      multiplyQuants(loaded, runs, rows, sum);
    else
      multiplyElements(loaded, runs, rows, sum);
    return;
  }
  Values quads = plain->quads(loaded.plain);
  if (plain->elementType() != roundedTo(numerics))
    for (Value &quad : quads)
      quad = roundedFor(p, numerics, quad);
  multiplyQuads(quads, rows, sum);
}

void WeightUnits::multiplyQuads(const Values &quads, ArrayRef<InputRuns> rows, Sums sum) {
  for (auto [m, row] : llvm::enumerate(rows))
    for (auto [w, x] : llvm::zip(quads, row.quads)) {
      if (PhaseBuilder::lanes(w) == PhaseBuilder::lanes(sum(m))) {
        sum(m) = p.fma(w, x, sum(m));
        continue;
      }
      for (int64_t i = 0; i < PhaseBuilder::lanes(w); ++i)
        sum(m) = p.fma(p.extract(w, i), p.extract(x, i), sum(m));
    }
}

/// Rounded to f16 as elements, which is after they were scaled.
void WeightUnits::multiplyElements(const Loaded &loaded, const Runs &runs, ArrayRef<InputRuns> rows,
                                   Sums sum) {
  Values quads;
  for (int64_t run = runs.first; run < runs.first + runs.count; ++run)
    for (Value quad : planes->elements(pieceOf(loaded, run), runOfPiece(run), scaleOf(loaded, run)))
      quads.push_back(roundedFor(p, numerics, quad));
  multiplyQuads(quads, rows, sum);
}

/// Exact: quants are f32, and a run's sum is scaled as a whole. Bytes are converted as they are:
/// with what is added to quants else, a matvec took 4 to 20 % longer on an H200.
void WeightUnits::multiplyQuants(const Loaded &loaded, const Runs &runs, ArrayRef<InputRuns> rows,
                                 Sums sum) {
  const auto offset = static_cast<double>(planes->offset());
  for (int64_t i = 0; i < runs.count; ++i) {
    const int64_t run = runs.first + i;
    const auto number = static_cast<size_t>(i);
    const PlaneReader::Piece &piece = pieceOf(loaded, run);
    const Values quants = planes->hasBytes() ? planes->byteQuads(piece, runOfPiece(run))
                                             : planes->offsetQuads(piece, runOfPiece(run));
    const PlaneReader::Scale &scale = scaleOf(loaded, run);
    for (auto [m, row] : llvm::enumerate(rows)) {
      const auto x = ArrayRef(row.quads).slice(number * quants.size(), quants.size());
      Value products = p.mulf(quants[0], x[0]);
      for (size_t q = 1; q < x.size(); ++q)
        products = p.fma(quants[q], x[q], products);
      products = p.sumOfLanes(p.named(products, "products"));
      if (!planes->hasBytes())
        products = p.fma(p.cf(-offset), row.totals[number], products);
      sum(m) = p.fma(scale.factor, products, sum(m));
      if (scale.minimum)
        sum(m) = p.fma(scale.minimum, row.totals[number], sum(m));
    }
  }
}

/// Whole numbers: bytes are multiplied and added up exactly.
void WeightUnits::multiplyIntegers(const Loaded &loaded, const Runs &runs, ArrayRef<InputRuns> rows,
                                   Sums sum) {
  Values bytes;
  for (int64_t run = runs.first; run < runs.first + runs.count; ++run)
    bytes.push_back(p.named(planes->bytes(pieceOf(loaded, run), runOfPiece(run)), "bytes"));
  auto dots = [&](const Values &xs) {
    Value all;
    for (auto [w, x] : llvm::zip(bytes, xs))
      for (int64_t i = 0; i < 4; ++i) {
        Value dot = p.dotOfBytes(p.extract(w, i), p.extract(x, i));
        all = all ? p.add(all, dot) : dot;
      }
    return all;
  };
  const PlaneReader::Scale &scale = scaleOf(loaded, runs.first);
  for (auto [m, row] : llvm::enumerate(rows)) {
    Value products = dots(row.high), ofRow = row.sums[0];
    if (!row.low.empty())
      products = p.add(p.shl(products, 8), dots(row.low));
    for (size_t i = 1; i < row.sums.size(); ++i)
      ofRow = p.add(ofRow, row.sums[i]);
    if (planes->zero() != 0)
      products = p.sub(products, p.mul(ofRow, planes->zero()));
    Value product = p.mulf(scale.factor, p.signedToFloat(products));
    if (scale.minimum)
      product = p.fma(scale.minimum, p.signedToFloat(ofRow), product);
    sum(m) = p.fma(row.factors[0], product, sum(m));
  }
}
