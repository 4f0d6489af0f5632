#include "kernelforge/backend/ProgramJson.h"

#include "kernelforge/codegen/LaunchingJson.h"

#include <algorithm>
#include <type_traits>
#include <utility>

#include <fmt/format.h>

namespace kernelforge {

namespace {

auto malformed(std::string why) {
  return unusable("program is not usable", "", std::move(why), "compile it again");
}

template <typename T> constexpr bool isInteger = std::is_integral_v<T> && !std::is_same_v<T, bool>;

/// Whether a number is one of T: JSON's own conversion would cut it.
template <typename T> bool isWithin(const Json &json) {
  if constexpr (isInteger<T>)
    return json.is_number_unsigned()
               ? std::in_range<T>(json.get<uint64_t>())
               : json.is_number_integer() && std::in_range<T>(json.get<int64_t>());
  else
    return true;
}

/// A field by its type; JSON's own exceptions end here.
template <typename T> Expected<T> field(const Json &json, const char *name) {
  try {
    const Json &value = json.at(name);
    if (!isWithin<T>(value))
      return malformed(fmt::format("'{}' is no integer in its range", name));
    return value.get<T>();
  } catch (const Json::exception &error) {
    return malformed(fmt::format("'{}': {}", name, error.what()));
  }
}

/// A field as it is; null where there is none.
const Json &part(const Json &json, const char *name) {
  static const Json none;
  const auto found = json.is_object() ? json.find(name) : json.end();
  return found == json.end() ? none : *found;
}

/// A list of indices.
Expected<std::vector<int>> indices(const Json &json, const char *name) {
  const Json &list = part(json, name);
  if (!list.is_array() || !std::ranges::all_of(list, isWithin<int>))
    return malformed(fmt::format("'{}' is no list of indices", name));
  return list.get<std::vector<int>>();
}

/// A list's elements; none where there is no such list.
const Json &elements(const Json &json, const char *name) {
  static const Json none = Json::array();
  const Json &found = part(json, name);
  return found.is_array() ? found : none;
}

//===----------------------------------------------------------------------===//
// Library calls
//===----------------------------------------------------------------------===//

Json libraryJson(const std::optional<LibraryCall> &call) {
  if (!call)
    return {};
  const MatmulProblem &problem = call->problem;
  return {{"m", problem.m},
          {"n", problem.n},
          {"k", problem.k},
          {"weights", info(problem.weights).name},
          {"transpose", problem.transpose},
          {"epilogue", epilogueText(problem.epilogue)},
          {"rows_size", call->rowsSize},
          {"input", call->input},
          {"weight", call->weight},
          {"bias", orNull(call->bias)},
          {"residual", orNull(call->residual)},
          {"sizes", call->sizes},
          {"arguments", call->arguments}};
}

Expected<std::optional<unsigned>> operandFrom(const Json &json, const char *name) {
  if (part(json, name).is_null())
    return std::nullopt;
  KF_TRY(const auto operand, field<unsigned>(json, name));
  return std::optional(operand);
}

/// What an artifact says of the library that runs it; nothing where it is generated.
Expected<std::optional<LibraryCall>> libraryFrom(const Json &json) {
  if (json.is_null())
    return std::nullopt;
  LibraryCall call;
  MatmulProblem &problem = call.problem;
  KF_TRY(problem.m, field<int64_t>(json, "m"));
  KF_TRY(problem.n, field<int64_t>(json, "n"));
  KF_TRY(problem.k, field<int64_t>(json, "k"));
  KF_TRY(const auto weights, field<std::string>(json, "weights"));
  const auto type = elementTypeByName(weights);
  if (!type)
    return malformed(fmt::format("'weights' is '{}', which is no type", weights));
  problem.weights = *type;
  KF_TRY(problem.transpose, field<bool>(json, "transpose"));
  KF_TRY(const auto epilogue, field<std::string>(json, "epilogue"));
  auto steps = parseEpilogue(epilogue);
  if (!steps)
    return malformed(fmt::format("'epilogue': {}", steps.error().why));
  problem.epilogue = std::move(*steps);
  KF_TRY(call.rowsSize, field<int>(json, "rows_size"));
  KF_TRY(call.input, field<unsigned>(json, "input"));
  KF_TRY(call.weight, field<unsigned>(json, "weight"));
  KF_TRY(call.bias, operandFrom(json, "bias"));
  KF_TRY(call.residual, operandFrom(json, "residual"));
  KF_TRY(call.sizes, field<unsigned>(json, "sizes"));
  KF_TRY(call.arguments, field<unsigned>(json, "arguments"));
  return std::optional(std::move(call));
}

constexpr const char *bufferKinds[] = {"argument", "weight", "cache", "intermediate"};

Expected<Buffer> bufferFrom(const Json &json) {
  Buffer buffer;
  KF_TRY(buffer.name, field<std::string>(json, "name"));
  KF_TRY(const auto kind, field<std::string>(json, "kind"));
  const auto known = std::ranges::find(bufferKinds, kind);
  if (known == std::end(bufferKinds))
    return malformed(fmt::format("buffer '{}' is of kind '{}'", buffer.name, kind));
  buffer.kind = static_cast<BufferKind>(known - std::begin(bufferKinds));
  KF_TRY(buffer.bytes, extentFrom(part(json, "bytes")));
  KF_TRY(buffer.offset, field<int64_t>(json, "offset"));
  return buffer;
}

Expected<Launch> launchFrom(const Json &json) {
  Launch launch;
  KF_TRY(launch.artifact, field<int>(json, "artifact"));
  KF_TRY(launch.buffers, indices(json, "buffers"));
  KF_TRY(launch.sizes, indices(json, "sizes"));
  KF_TRY(launch.layer, field<int>(json, "layer"));
  return launch;
}

Expected<ResultCopy> copyFrom(const Json &json) {
  ResultCopy copy;
  KF_TRY(copy.from, field<int>(json, "from"));
  KF_TRY(copy.to, field<int>(json, "to"));
  KF_TRY(copy.bytes, extentFrom(part(json, "bytes")));
  return copy;
}

Expected<ProgramSize> sizeFrom(const Json &json) {
  ProgramSize size;
  KF_TRY(size.name, field<std::string>(json, "name"));
  KF_TRY(size.min, field<int64_t>(json, "min"));
  KF_TRY(size.max, field<int64_t>(json, "max"));
  return size;
}

} // namespace

Json artifactJson(const Artifact &artifact) {
  return {{"kernel", artifact.kernel},
          {"entry", artifact.entry},
          {"code_hash", artifact.codeHash},
          {"code_bytes", artifact.code.size()},
          {"schedule", artifact.schedule},
          {"schedule_source", artifact.scheduleSource},
          {"variant", artifact.variant},
          {"library", libraryJson(artifact.library)},
          {"launching", launchingJson(artifact.launching)},
          {"sizes", artifact.sizeNames},
          {"cost", costJson(artifact.cost)},
          {"from_cache", artifact.fromCache},
          {"compile_seconds", artifact.compileSeconds}};
}

Expected<Artifact> artifactFrom(const Json &json, std::string_view code) {
  Artifact artifact;
  KF_TRY(artifact.kernel, field<std::string>(json, "kernel"));
  KF_TRY(artifact.entry, field<std::string>(json, "entry"));
  KF_TRY(artifact.codeHash, field<std::string>(json, "code_hash"));
  KF_TRY(const auto codeBytes, field<uint64_t>(json, "code_bytes"));
  KF_TRY(artifact.schedule, field<std::string>(json, "schedule"));
  KF_TRY(artifact.scheduleSource, field<std::string>(json, "schedule_source"));
  KF_TRY(artifact.variant, field<std::string>(json, "variant"));
  KF_TRY(artifact.library, libraryFrom(part(json, "library")));
  // What a library runs has none.
  if (const Json &launching = part(json, "launching"); !elements(launching, "phases").empty()) {
    KF_TRY(artifact.launching, launchingFrom(launching));
  }
  KF_TRY(artifact.sizeNames, field<std::vector<std::string>>(json, "sizes"));
  KF_TRY(artifact.cost, costFrom(part(json, "cost")));
  KF_TRY(artifact.fromCache, field<bool>(json, "from_cache"));
  KF_TRY(artifact.compileSeconds, field<double>(json, "compile_seconds"));
  if (codeBytes != code.size())
    return malformed(fmt::format("'{}' has {} bytes of code where it says {}", artifact.kernel,
                                 code.size(), codeBytes));
  artifact.code = code;
  return artifact;
}

Json programJson(const Program &program, std::string &code) {
  Json sizes = Json::array(), buffers = Json::array(), artifacts = Json::array(),
       launches = Json::array(), copies = Json::array();
  for (const ProgramSize &size : program.sizes)
    sizes.push_back({{"name", size.name}, {"min", size.min}, {"max", size.max}});
  for (const Buffer &buffer : program.buffers)
    buffers.push_back({{"name", buffer.name},
                       {"kind", bufferKinds[static_cast<int>(buffer.kind)]},
                       {"bytes", extentJson(buffer.bytes)},
                       {"offset", buffer.offset}});
  for (const Artifact &artifact : program.artifacts) {
    artifacts.push_back(artifactJson(artifact));
    code += artifact.code;
  }
  for (const Launch &launch : program.launches)
    launches.push_back({{"artifact", launch.artifact},
                        {"buffers", launch.buffers},
                        {"sizes", launch.sizes},
                        {"layer", launch.layer}});
  for (const ResultCopy &copy : program.copies)
    copies.push_back({{"from", copy.from}, {"to", copy.to}, {"bytes", extentJson(copy.bytes)}});
  return {{"function", program.function},
          {"sizes", sizes},
          {"buffers", buffers},
          {"arguments", program.arguments},
          {"results", program.results},
          {"artifacts", artifacts},
          {"launches", launches},
          {"copies", copies},
          {"arena_bytes", program.arenaBytes}};
}

Expected<Program> programFrom(const Json &json, std::string_view code) {
  Program program;
  KF_TRY(program.function, field<std::string>(json, "function"));
  for (const Json &size : elements(json, "sizes")) {
    KF_TRY(program.sizes.emplace_back(), sizeFrom(size));
  }
  for (const Json &buffer : elements(json, "buffers")) {
    KF_TRY(program.buffers.emplace_back(), bufferFrom(buffer));
  }
  KF_TRY(program.arguments, indices(json, "arguments"));
  KF_TRY(program.results, indices(json, "results"));
  for (const Json &artifact : elements(json, "artifacts")) {
    KF_TRY(const auto bytes, field<uint64_t>(artifact, "code_bytes"));
    if (bytes > code.size())
      return malformed("its code is cut short");
    KF_TRY(program.artifacts.emplace_back(), artifactFrom(artifact, code.substr(0, bytes)));
    code.remove_prefix(bytes);
  }
  for (const Json &launch : elements(json, "launches")) {
    KF_TRY(program.launches.emplace_back(), launchFrom(launch));
  }
  for (const Json &copy : elements(json, "copies")) {
    KF_TRY(program.copies.emplace_back(), copyFrom(copy));
  }
  KF_TRY(program.arenaBytes, field<int64_t>(json, "arena_bytes"));
  if (!code.empty())
    return malformed("bytes follow its code");
  return program;
}

} // namespace kernelforge
