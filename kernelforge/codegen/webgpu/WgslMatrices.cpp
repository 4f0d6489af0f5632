#include "kernelforge/codegen/webgpu/WgslMatrices.h"

#include "mlir/IR/BuiltinTypes.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge::webgpu;

/// Threads that stand for a subgroup.
static constexpr int64_t subgroup = 32;

/// A matrix of a subgroup, and what a thread has of it.
struct Share {
  int64_t rows, cols, count;
  std::string number; ///< type of what the thread computes with
  int64_t bytes;      ///< of an element in memory

  explicit Share(gpu::MMAMatrixType matrix)
      : rows(matrix.getShape()[0]), cols(matrix.getShape()[1]), count(rows * cols / subgroup),
        number(matrix.getElementType().isInteger(32) ? "i32" : "f32"),
        bytes(matrix.getElementType().getIntOrFloatBitWidth() / 8) {}
};

std::string EmulatedMatrices::typeText(gpu::MMAMatrixType matrix) {
  const Share share(matrix);
  return fmt::format("array<{}, {}>", share.number, share.count);
}

/// Numbers of a memory's element, and their type's name.
static std::pair<int64_t, std::string> lanesOf(Type element) {
  auto vector = dyn_cast<VectorType>(element);
  Type one = vector ? vector.getElementType() : element;
  return {vector ? vector.getNumElements() : 1, one.isF32() ? "f32" : "u32"};
}

std::string EmulatedMatrices::load(gpu::MMAMatrixType matrix, const std::string &memory,
                                   Type element, const std::string &at, int64_t stride,
                                   bool columnMajor) {
  const Share share(matrix);
  const auto [lanes, type] = lanesOf(element);
  const std::string name = fmt::format("load_{}_{}x{}_{}_{}", memory, share.rows, share.cols,
                                       share.bytes, columnMajor ? "columns" : "rows");
  const std::string down = columnMajor ? "col" : "row", across = columnMajor ? "row" : "col";
  const int64_t inWord = 4 / share.bytes;
  std::string word =
      fmt::format("{}[at + {} * stride + {} / {}u]", memory, down, across, lanes * inWord);
  if (lanes > 1)
    word += fmt::format("[{} / {}u % {}u]", across, inWord, lanes);
  if (share.bytes == 4)
    word = type == share.number ? word : fmt::format("bitcast<{}>({})", share.number, word);
  else if (type == "f32")
    word = "bitcast<u32>(" + word + ")";
  if (share.bytes == 2)
    word = fmt::format("unpack2x16float({})[{} % 2u]", word, across);
  else if (share.bytes == 1)
    word = fmt::format("f32(extractBits(bitcast<i32>({}), {} % 4u * 8u, 8u))", word, across);
  functions[name] = fmt::format(R"(
fn {0}(thread: u32, at: u32, stride: u32) -> {1} {{
  var share = {1}();
  for (var i = 0u; i < {2}u; i += emulated_one) {{
    let number = thread % {3}u * {2}u + i;
    let row = number / {4}u;
    let col = number % {4}u;
    share[i] = {5};
  }}
  return share;
}}
)",
                                name, typeText(matrix), share.count, subgroup, share.cols, word);
  return fmt::format("{}(local_id.x, {}, {}u)", name, at, stride);
}

std::string EmulatedMatrices::store(gpu::MMAMatrixType matrix, const std::string &value,
                                    const std::string &memory, Type element, const std::string &at,
                                    int64_t stride) {
  // Whole vectors: two threads must not write to one.
  const Share share(matrix);
  const auto [lanes, type] = lanesOf(element);
  const std::string name = fmt::format("store_{}_{}", memory, share.number);
  std::string stores;
  for (int64_t i = 0; i < share.count; i += lanes) {
    std::string vector;
    for (int64_t lane = 0; lane < lanes; ++lane)
      vector += fmt::format("{}share[{}]", lane > 0 ? ", " : "", i + lane);
    if (lanes > 1)
      vector = fmt::format("vec{}<{}>({})", lanes, share.number, vector);
    if (type != share.number)
      vector = lanes > 1 ? fmt::format("bitcast<vec{}<{}>>({})", lanes, type, vector)
                         : fmt::format("bitcast<{}>({})", type, vector);
    stores += fmt::format("  {}[to + {}u] = {};\n", memory, i / lanes, vector);
  }
  functions[name] =
      fmt::format(R"(
fn {0}(thread: u32, share: {1}, at: u32, stride: u32) {{
  let number = thread % {2}u * {3}u;
  let to = at + number / {4}u * stride + number % {4}u / {5}u;
{6}}}
)",
                  name, typeText(matrix), subgroup, share.count, share.cols, lanes, stores);
  return fmt::format("{}(local_id.x, {}, {}, {}u)", name, value, at, stride);
}

std::string EmulatedMatrices::multiply(gpu::MMAMatrixType left, gpu::MMAMatrixType right,
                                       const std::string &a, const std::string &b,
                                       const std::string &sum) {
  const Share of(left), by(right);
  leftElements = std::max(leftElements, of.rows * of.cols);
  rightElements = std::max(rightElements, by.rows * by.cols);
  const bool isFloat = of.bytes == 2;
  const std::string name =
      fmt::format("multiply_{}x{}x{}{}", of.rows, by.cols, of.cols, isFloat ? "" : "_whole");
  const std::string sums =
      fmt::format("array<{}, {}>", isFloat ? "f32" : "i32", of.rows * by.cols / subgroup);
  functions[name] = fmt::format(
      R"(
fn {0}(thread: u32, left: array<f32, {1}>, right: array<f32, {2}>, before: {3}) -> {3} {{
  let lane = thread % {4}u;
  let left_begin = thread / {4}u * {5}u;
  let right_begin = thread / {4}u * {6}u;
  var left_share = left;
  var right_share = right;
  workgroupBarrier();
  for (var i = 0u; i < {1}u; i += emulated_one) {{
    emulated_left[left_begin + lane * {1}u + i] = left_share[i];
  }}
  for (var i = 0u; i < {2}u; i += emulated_one) {{
    emulated_right[right_begin + lane * {2}u + i] = right_share[i];
  }}
  workgroupBarrier();
  var sums = before;
  let row = left_begin + lane * {7}u / {8}u * {9}u;
  let col = right_begin + lane * {7}u % {8}u;
  for (var k = 0u; k < {9}u; k += emulated_one) {{
    let x = emulated_left[row + k];
    for (var i = 0u; i < {7}u; i += emulated_one) {{
      sums[i] += {10}(x * emulated_right[col + k * {8}u + i]);
    }}
  }}
  return sums;
}}
)",
      name, of.count, by.count, sums, subgroup, of.rows * of.cols, by.rows * by.cols,
      of.rows * by.cols / subgroup, by.cols, of.cols, isFloat ? "f32" : "i32");
  return fmt::format("{}(local_id.x, {}, {}, {})", name, a, b, sum);
}

std::string EmulatedMatrices::scale(gpu::MMAMatrixType matrix, const std::string &value,
                                    const std::string &factor) {
  const Share share(matrix);
  const std::string name = fmt::format("scale_{}x{}", share.rows, share.cols);
  functions[name] = fmt::format(R"(
fn {0}(matrix: {1}, factor: f32) -> {1} {{
  var scaled = matrix;
  for (var i = 0u; i < {2}u; i += emulated_one) {{
    scaled[i] *= factor;
  }}
  return scaled;
}}
)",
                                name, typeText(matrix), share.count);
  return fmt::format("{}({}, {})", name, value, factor);
}

std::string EmulatedMatrices::shuffleXor(const std::string &value, const std::string &mask) {
  leftElements = std::max(leftElements, subgroup);
  functions["shuffle_xor"] = fmt::format(R"(
fn shuffle_xor(thread: u32, value: f32, mask: u32) -> f32 {{
  workgroupBarrier();
  emulated_left[thread] = value;
  workgroupBarrier();
  let other = emulated_left[thread / {0}u * {0}u + ((thread % {0}u) ^ mask)];
  workgroupBarrier();
  return other;
}}
)",
                                         subgroup);
  return fmt::format("shuffle_xor(local_id.x, {}, {})", value, mask);
}

std::string EmulatedMatrices::start(const std::string &launch) {
  // Loops whose steps a compiler does not know are not written out, which would take minutes.
  return fmt::format("  emulated_one = min({}.width, 1u);\n", launch);
}

std::string EmulatedMatrices::text() const {
  std::string all;
  if (isUsed())
    all += "\nvar<private> emulated_one: u32;\n";
  const int64_t subgroups = (threads + subgroup - 1) / subgroup;
  if (leftElements > 0)
    all += fmt::format("var<workgroup> emulated_left: array<f32, {}>;\n", subgroups * leftElements);
  if (rightElements > 0)
    all +=
        fmt::format("var<workgroup> emulated_right: array<f32, {}>;\n", subgroups * rightElements);
  for (const auto &[name, function] : functions)
    all += function;
  return all;
}
