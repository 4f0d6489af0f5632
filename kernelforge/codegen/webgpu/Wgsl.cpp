#include "kernelforge/codegen/webgpu/Wgsl.h"

#include "kernelforge/codegen/simt/Emit.h"
#include "kernelforge/codegen/webgpu/Pieces.h"
#include "kernelforge/codegen/webgpu/WgslFunction.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::webgpu;

namespace {

/// Functions that WGSL has not, or not for all arguments.
constexpr StringLiteral erfText = R"(
/// The error function, to 1e-7.
fn erf(x: f32) -> f32 {
  let a = min(abs(x), 10.0);
  let s = a * a;
  let small = a + a * (0.128379151 + s * (-0.376125067 + s * (0.112819649 + s * (-0.0267724283
      + s * (0.00500232307 + s * -0.000604072178)))));
  let t = 1.0 / (1.0 + 0.5 * a);
  let p = -3.52023926e-05 + t * (0.282943934 + t * (0.273447901 + t * (0.295197815
      + t * (0.0150715597 + t * (0.405326158 + t * (-0.356415838 + t * 0.084199369))))));
  let magnitude = select(1.0 - exp(-s) * p, small, a < 0.875);
  return select(magnitude, -magnitude, x < 0.0);
}
)";

constexpr StringLiteral tanhText = R"(
/// tanh, right for small and for large arguments.
fn safe_tanh(x: f32) -> f32 {
  let a = min(abs(x), 10.0);
  let s = a * a;
  let small = a + a * s * (-0.333332807 + s * (0.133314058 + s * (-0.0537365153
      + s * (0.0206281673 + s * -0.0056922962))));
  let magnitude = select(1.0 - 2.0 / (exp(2.0 * a) + 1.0), small, a < 0.625);
  return select(magnitude, -magnitude, x < 0.0);
}
)";

constexpr StringLiteral lookUpBytesText = R"(
/// Each byte of a word, from 0 to 15, as the byte that a table of sixteen has for it: four to a word.
fn look_up_bytes(word: u32, table0: u32, table1: u32, table2: u32, table3: u32) -> u32 {
  let places = vec4<u32>(0u, 8u, 16u, 24u);
  let index = vec4<u32>(word) >> places;
  let isOdd = (index & vec4<u32>(4u)) != vec4<u32>();
  let low = select(vec4<u32>(table0), vec4<u32>(table1), isOdd);
  let high = select(vec4<u32>(table2), vec4<u32>(table3), isOdd);
  let four = select(low, high, (index & vec4<u32>(8u)) != vec4<u32>());
  let bytes = ((four >> ((index & vec4<u32>(3u)) << vec4<u32>(3u))) & vec4<u32>(255u)) << places;
  return bytes.x | bytes.y | bytes.z | bytes.w;
}
)";

constexpr StringLiteral roundToF16Text = R"(
/// The f16 that is nearest to x, of two the even one, in the low half of a word.
fn round_to_f16(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  let sign = (bits >> 16u) & 0x8000u;
  let magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) { // not a number
    return sign | 0x7e00u;
  }
  if (magnitude >= 0x477ff000u) { // 65520 and more: infinity
    return sign | 0x7c00u;
  }
  if (magnitude < 0x33000000u) { // below half of the least number
    return sign;
  }
  var digits = magnitude - 0x38000000u;
  var shift = 13u;
  if (magnitude < 0x38800000u) { // below the normal ones, which count in 2^-24
    digits = (magnitude & 0x7fffffu) | 0x800000u;
    shift = 126u - (magnitude >> 23u);
  }
  let odd = (digits >> shift) & 1u;
  return sign | ((digits + (1u << (shift - 1u)) - 1u + odd) >> shift);
}
)";

constexpr StringLiteral roundToBf16Text = R"(
/// The bf16 that is nearest to x, of two the even one, in the low half of a word.
fn round_to_bf16(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) { // not a number
    return (bits >> 16u) | 0x40u;
  }
  return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}
)";

/// Elements of a buffer or of memory that a function sees as `element`.
std::string elementText(Type element) {
  // Halves of words, which several threads write, are changed in place.
  return element.isInteger(16) ? "atomic<u32>" : typeText(element);
}

/// `function`, one of the above, for so many lanes as its bits say.
std::string laneWise(StringRef function, StringRef result, int64_t lanes) {
  std::string text;
  for (const int64_t count : {2, 4})
    if (lanes & count) {
      text += fmt::format("\nfn {0}_{1}(x: vec{1}<f32>) -> vec{1}<{2}> {{\n  return vec{1}<{2}>(",
                          function.str(), count, result.str());
      for (int64_t i = 0; i < count; ++i)
        text += fmt::format("{}{}(x.{})", i > 0 ? ", " : "", function.str(), "xyzw"[i]);
      text += ");\n}\n";
    }
  return text;
}

constexpr StringLiteral pairHalves2Text = R"(
fn pair_halves_2(x: vec2<u32>) -> u32 {
  return x.x | (x.y << 16u);
}
)";

constexpr StringLiteral pairHalves4Text = R"(
fn pair_halves_4(x: vec4<u32>) -> vec2<u32> {
  return x.xz | (x.yw << vec2<u32>(16u));
}
)";

constexpr StringLiteral halves2Text = R"(
/// Rounded to f16.
fn to_halves_2(x: vec2<f32>) -> u32 {
  return pack2x16float(vec2<f32>(vec2<f16>(x)));
}
)";

constexpr StringLiteral halves4Text = R"(
/// Rounded to f16.
fn to_halves_4(x: vec4<f32>) -> vec2<u32> {
  let rounded = vec4<f32>(vec4<f16>(x));
  return vec2<u32>(pack2x16float(rounded.xy), pack2x16float(rounded.zw));
}
)";

/// The same where words and pairs of halves are cast: what compiles matrices can.
constexpr StringLiteral castHalves2Text = R"(
/// Rounded to f16.
fn to_halves_2(x: vec2<f32>) -> u32 {
  return bitcast<u32>(vec2<f16>(x));
}
)";

constexpr StringLiteral castHalves4Text = R"(
/// Rounded to f16.
fn to_halves_4(x: vec4<f32>) -> vec2<u32> {
  return bitcast<vec2<u32>>(vec4<f16>(x));
}
)";

constexpr StringLiteral unpackHalvesText = R"(
fn unpack_halves(x: vec2<u32>) -> vec4<f32> {
  return vec4<f32>(unpack2x16float(x.x), unpack2x16float(x.y));
}
)";

StringRef nameOf(Location loc, StringRef otherwise) {
  auto name = dyn_cast<NameLoc>(loc);
  return name ? name.getName().getValue() : otherwise;
}

/// Bytes of an element in memory.
int64_t bytesOf(Type element) {
  auto vector = dyn_cast<VectorType>(element);
  return vector ? vector.getNumElements() * vector.getElementTypeBitWidth() / 8
                : element.getIntOrFloatBitWidth() / 8;
}

/// A function that gives element `i` of a buffer that is bound in pieces of `count` elements.
std::string pieceText(const std::string &function, ArrayRef<std::string> pieces,
                      const std::string &element, int64_t count) {
  std::string text = fmt::format("\nfn {}(i: u32) -> {} {{\n", function, element);
  for (auto [p, piece] : llvm::enumerate(pieces)) {
    const int64_t first = int64_t(p) * count;
    const std::string own = p == 0 ? "i" : fmt::format("i - {}u", first);
    if (p + 1 < pieces.size())
      text +=
          fmt::format("  if (i < {}u) {{\n    return {}[{}];\n  }}\n", first + count, piece, own);
    else
      text += fmt::format("  return {}[{}];\n}}\n\n", piece, own);
  }
  return text;
}

/// Declares a phase's bindings and memory, and prints its function.
Expected<std::string> printPhase(func::FuncOp function, const Phase &phase, bool isOnly,
                                 const WgslOptions &options, WgslNames &names,
                                 WgslHelpers &helpers) {
  helpers.lane = false;
  helpers.emulated.setThreads(phase.block[0]);
  WgslFunction printer(names, options, helpers);
  std::string text;
  WgslNames fields; // of the uniform structure: they have a scope of their own
  std::string structName = isOnly ? "Launch" : names.take(phase.entry + "_launch_sizes");
  std::string launchName = isOnly ? "launch" : names.take(phase.entry + "_launch");
  std::string launchFields;
  int binding = 0;
  int64_t pieces = 1;
  unsigned number = 0; // of the function's argument
  for (size_t i = 0; i < phase.parameters.size(); i += static_cast<size_t>(pieces)) {
    const Parameter &parameter = phase.parameters[i];
    pieces = piecesAt(phase.parameters, i);
    BlockArgument argument = function.getArgument(number++);
    const StringRef wanted = nameOf(argument.getLoc(), "argument");
    if (parameter.kind == Parameter::Kind::Size) {
      const std::string field = fields.take(wanted);
      launchFields += fmt::format("  {}: u32,\n", field);
      printer.define(argument, fmt::format("{}.{}", launchName, field));
      continue;
    }
    const bool isBuffer = parameter.kind == Parameter::Kind::Buffer;
    const bool onlyRead = parameter.access == Access::Read;
    const bool isWeight =
        isBuffer && onlyRead && options.isWeight && options.isWeight(parameter.index);
    const std::string name = names.take(wanted);
    const Type element = cast<MemRefType>(argument.getType()).getElementType();
    std::vector<std::string> bound = {name};
    for (int64_t piece = 1; piece < pieces; ++piece)
      bound.push_back(names.take(fmt::format("{}_{}", name, piece)));
    for (const std::string &one : bound)
      text += fmt::format("@group(0) @binding({}) var<storage, {}> {}: array<{}>;\n", binding++,
                          isWeight ? "read" : "read_write", one, elementText(element));
    if (pieces > 1) {
      const std::string at = names.take(name + "_at");
      text += pieceText(at, bound, elementText(element),
                        pieceBytes(options.bytesOf(parameter.index), pieces) / bytesOf(element));
      printer.defineInPieces(argument, name, at);
      continue;
    }
    printer.define(argument, name,
                   onlyRead ? WgslFunction::Memory::Constant : WgslFunction::Memory::Changing);
  }
  text +=
      fmt::format("@group(0) @binding({}) var<uniform> {}: {};\n", binding, launchName, structName);
  for (auto global : function.getOps<memref::GetGlobalOp>()) {
    auto type = cast<MemRefType>(global.getType());
    const std::string name = names.take(nameOf(global.getLoc(), "memory"));
    text += fmt::format("var<workgroup> {}: array<{}, {}>;\n", name,
                        elementText(type.getElementType()), type.getDimSize(0));
    printer.define(global.getResult(), name, WgslFunction::Memory::Changing);
  }
  const std::string fieldsText = fmt::format(
      "\nstruct {} {{\n{}  tasks: u32, // workgroups that have work\n  width: u32, // workgroups "
      "in x\n}}\n\n",
      structName, launchFields);
  KF_TRY(std::string body, printer.print(function));
  const std::string lane =
      helpers.lane
          ? fmt::format(",\n    @builtin(subgroup_invocation_id) {}: u32", printer.laneText())
          : "";
  helpers.subgroups |= helpers.lane;
  return fmt::format(
      "{}{}\n@compute @workgroup_size({}, {}, {})\nfn {}(@builtin(workgroup_id) "
      "workgroup_id: vec3<u32>,\n    @builtin(local_invocation_id) local_id: "
      "vec3<u32>{}) {{\n  let {} = workgroup_id.y * {}.width + workgroup_id.x;\n  if "
      "({} >= {}.tasks) {{\n    return;\n  }}\n{}{}}}\n",
      fieldsText, text, phase.block[0], phase.block[1], phase.block[2], phase.entry, lane,
      printer.blockName(), launchName, printer.blockName(), launchName,
      helpers.emulated.isUsed() ? EmulatedMatrices::start(launchName) : "", body);
}

} // namespace

Expected<std::string> webgpu::printWgsl(ModuleOp module, const Launching &launching,
                                        const WgslOptions &options) {
  WgslNames names;
  WgslHelpers helpers;
  std::string text = simt::commentText(options.comment);
  for (const Phase &phase : launching.phases)
    names.take(phase.entry);
  std::string phases;
  for (const Phase &phase : launching.phases) {
    auto function = module.lookupSymbol<func::FuncOp>(phase.entry);
    size_t parameters = 0;
    for (size_t i = 0; i < phase.parameters.size(); ++parameters)
      i += static_cast<size_t>(piecesAt(phase.parameters, i));
    if (!function || function.getNumArguments() != parameters)
      return failed("WGSL cannot be printed", phase.entry,
                    "the module has no such function, or one with other parameters");
    KF_TRY(std::string one,
           printPhase(function, phase, launching.phases.size() == 1, options, names, helpers));
    phases += one;
  }
  if (helpers.f16)
    text += "enable f16;\n";
  if (helpers.subgroups)
    text += "enable subgroups;\n";
  if (helpers.matrices)
    text += "enable chromium_experimental_subgroup_matrix;\n";
  if (helpers.trusts)
    text += "enable chromium_disable_uniformity_analysis;\n";
  if (helpers.packedDot)
    text += "requires packed_4x8_integer_dot_product;\n";
  // What all lanes of a subgroup compute together stands where all of them come: the code is ours,
  // and what decides is the same in all, as the language's own analysis cannot know.
  if (helpers.subgroups)
    text += "diagnostic(off, subgroup_uniformity);\n";
  if (helpers.matrices)
    text += "diagnostic(off, chromium.subgroup_matrix_uniformity);\n";
  if (helpers.erf)
    text += erfText.str() + laneWise("erf", "f32", helpers.erf);
  if (helpers.tanh)
    text += tanhText.str() + laneWise("safe_tanh", "f32", helpers.tanh);
  if (helpers.roundToF16)
    text += roundToF16Text.str() + laneWise("round_to_f16", "u32", helpers.roundToF16);
  if (helpers.roundToBf16)
    text += roundToBf16Text.str() + laneWise("round_to_bf16", "u32", helpers.roundToBf16);
  if (helpers.pairs & 2)
    text += pairHalves2Text;
  if (helpers.pairs & 4)
    text += pairHalves4Text;
  if (helpers.halves & 2)
    text += helpers.matrices ? castHalves2Text : halves2Text;
  if (helpers.halves & 4)
    text += helpers.matrices ? castHalves4Text : halves4Text;
  if (helpers.unpacks)
    text += unpackHalvesText;
  if (helpers.looksUp)
    text += lookUpBytesText;
  return text + helpers.emulated.text() + phases;
}
