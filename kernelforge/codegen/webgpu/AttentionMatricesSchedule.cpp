// Schedules of attention by matrices of a subgroup.
#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/codegen/simt/AttentionTile.h"
#include "kernelforge/codegen/simt/CacheVectors.h"
#include "kernelforge/codegen/webgpu/AttentionMatrices.h"
#include "kernelforge/codegen/webgpu/Methods.h"

#include "llvm/Support/MathExtras.h"

#include <cmath>
#include <fmt/format.h>
#include <limits>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;
using namespace kernelforge::webgpu;
using namespace kernelforge::webgpu::matrices;

int64_t Shape::sharedBytes() const {
  return memoryVectors() * 16 + 4 +
         AttentionTile::sharedBytes(facts.sequences, rows(), threads(), subgroup);
}

namespace {

constexpr int64_t mostSubgroups = 16;

Shape baseOf(const KernelAnalysis &kernel, const Target &target) {
  AttentionOp op = kernel.attention();
  Shape shape;
  shape.facts = attentionFacts(kernel, target);
  // Threads that stand for a subgroup are none of the device's.
  shape.subgroup = target.has(emulatedMatrices) ? 0 : shape.facts.subgroup;
  shape.pieceOfKey = CacheVectors::pieceOf(op.getKeys().getType());
  shape.pieceOfValue = CacheVectors::pieceOf(op.getValues().getType());
  return shape;
}

Expected<Shape> readShape(const Shape &base, const KnobValues &values) {
  const AttentionFacts &facts = base.facts;
  KnobReader read(facts.name, values);
  KF_CHECK(read.checkNames({"rows", "subgroups", "keys"}));
  Shape shape = base;
  KF_TRY(shape.rowsOfSubgroup, read.get("rows", {matrixSize, 2 * matrixSize, matrixSize}));
  KF_TRY(shape.subgroups,
         read.get("subgroups", {1, std::min(mostSubgroups, facts.threads / lanes)}));
  KF_TRY(shape.blockKeys, read.get("keys", {matrixSize, 4 * matrixSize, matrixSize}));
  auto refuse = [&](std::string why, std::string hint) {
    return unusable("schedule is not legal", facts.name, std::move(why), std::move(hint));
  };
  if (!llvm::isPowerOf2_64(uint64_t(shape.subgroups)) ||
      !llvm::isPowerOf2_64(uint64_t(shape.blockKeys)))
    return refuse(
        fmt::format("{} subgroups take {} keys at a time", shape.subgroups, shape.blockKeys),
        "use powers of two");
  if (shape.sharedBytes() > facts.sharedBytes)
    return refuse(fmt::format("it takes {} bytes of workgroup memory, and there are {}",
                              shape.sharedBytes(), facts.sharedBytes),
                  "use fewer subgroups, rows or keys");
  return shape;
}

KnobValues valuesOf(const Shape &shape) {
  return {
      {"rows", shape.rowsOfSubgroup}, {"subgroups", shape.subgroups}, {"keys", shape.blockKeys}};
}

/// As many rows to a subgroup as its registers hold outputs of, fewer subgroups where rows are few.
Shape usualShape(const Shape &base) {
  constexpr int64_t widestOfMany = 96, wanted = 132;
  Shape shape = base;
  const int64_t dim = std::max(base.facts.keyDim, base.facts.valueDim);
  shape.rowsOfSubgroup = dim <= widestOfMany ? 2 * matrixSize : matrixSize;
  shape.subgroups = std::min<int64_t>(4, llvm::bit_floor(uint64_t(base.facts.threads / lanes)));
  auto tiles = [&] {
    return int64_t(llvm::divideCeil(base.facts.rows, shape.rows())) * base.facts.heads;
  };
  auto fits = [&] { return readShape(base, valuesOf(shape)).has_value(); };
  while (shape.rowsOfSubgroup > matrixSize && tiles() < wanted)
    shape.rowsOfSubgroup /= 2;
  while (shape.subgroups > 1 && (tiles() < wanted || !fits()))
    shape.subgroups /= 2;
  while (shape.rowsOfSubgroup > matrixSize && !fits())
    shape.rowsOfSubgroup /= 2;
  while (shape.blockKeys > matrixSize && !fits())
    shape.blockKeys /= 2;
  return shape;
}

/// Seconds on a large GPU.
double predict(const Shape &shape) {
  return shape.facts.secondsOfTiles(shape.rows(), shape.blockKeys,
                                    {.rate = 160e12, .wait = 1e-6, .resident = 2});
}

class AttentionMatricesMethod final : public Method {
public:
  std::string_view name() const override { return "matrices"; }

  Status supports(const KernelAnalysis &kernel, const Target &target) const override {
    KF_CHECK(checkAttention(kernel, target, /*workspaces=*/0));
    auto refuse = [&](std::string why, std::string hint) {
      return unusable("attention cannot be computed by matrices", kernel.name(), std::move(why),
                      std::move(hint));
    };
    const std::string feature = fmt::format("subgroup-matrix-f16-{0}x{0}x{0}", matrixSize);
    if (!target.has(feature))
      return refuse("the target does not have " + feature, "use another method");
    if (!target.has(emulatedMatrices) &&
        (target.limits.subgroupMin != lanes || target.limits.subgroupMax != lanes))
      return refuse(fmt::format("its subgroups have {} to {} threads, and must have {}",
                                target.limits.subgroupMin, target.limits.subgroupMax, lanes),
                    "use another method");
    AttentionOp op = kernel.attention();
    if (factorType(op) != ElementType::F16)
      return refuse("its operands are not rounded to f16", "say so by its numerics");
    for (CacheType cache : {op.getKeys().getType(), op.getValues().getType()})
      if (cache.getDim() % matrixSize != 0)
        return refuse(fmt::format("it has heads of {} values", cache.getDim()),
                      fmt::format("multiples of {} can be", matrixSize));
    const Shape base = baseOf(kernel, target);
    return readShape(base, valuesOf(usualShape(base))).transform([](const Shape &) {});
  }

  ScheduleSpace space(const KernelAnalysis &kernel, const Target &target) const override {
    const Shape base = baseOf(kernel, target);
    ScheduleSpace space;
    space.knobs = {{"rows", {16, 32}, "of a subgroup"},
                   {"subgroups", {1, 2, 4, 8}, "of a workgroup"},
                   {"keys", {16, 32, 64}, "of a block"}};
    space.analytic = valuesOf(usualShape(base));
    setBlockRules(
        space, [base](const KnobValues &values) { return readShape(base, values); },
        [](const Shape &shape) { return ::predict(shape); });
    return space;
  }

  Expected<Launching> emit(ModuleOp module, const KernelAnalysis &kernel, const Target &target,
                           StringRef entry, const KnobValues &schedule) const override {
    KF_TRY(const Shape shape, readShape(baseOf(kernel, target), schedule));
    Launching launching;
    launching.phases.push_back(matrices::emit(module, kernel, shape, entry));
    return launching;
  }

  std::vector<std::string> describe(const KernelAnalysis &kernel,
                                    const KnobValues &schedule) const override {
    return {
        simt::describe(kernel).front(),
        fmt::format("a query head of {} rows for each of {} subgroups a workgroup, {} keys at a "
                    "time",
                    schedule.at("rows"), schedule.at("subgroups"), schedule.at("keys"))};
  }
};

} // namespace

const Method &webgpu::attentionMatrices() {
  static const AttentionMatricesMethod method;
  return method;
}
