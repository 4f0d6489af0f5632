#include "kernelforge/problem/ProgramFile.h"

#include "kernelforge/backend/ProgramJson.h"
#include "kernelforge/codegen/TargetJson.h"
#include "kernelforge/compiler/ProgramBuilder.h"
#include "kernelforge/compiler/Sections.h"
#include "kernelforge/compiler/TargetFacts.h"
#include "kernelforge/ir/Hash.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/ir/WeightLayouts.h"
#include "kernelforge/problem/Verification.h"
#include "kernelforge/support/Version.h"

#include <algorithm>
#include <cfloat>
#include <cstring>

#include <fmt/format.h>

namespace kernelforge {

namespace {

constexpr const char *what = "program file is not usable";

/// First line of a file. The number is the format's: raise it when a section changes its form.
constexpr std::string_view magic = "kernelforge-program ";
constexpr int format = 2;

constexpr uint64_t mostTensors = 1 << 16;
constexpr uint64_t longestText = 4096;

//===--------------------------------------------------------------------------------------------===
// Writing
//===--------------------------------------------------------------------------------------------===

/// Tensors one after another, with the length of each in `lengths`.
std::string joined(const std::vector<std::string> &tensors, Json &lengths) {
  std::string bytes;
  lengths = Json::array();
  for (const std::string &tensor : tensors) {
    lengths.push_back(tensor.size());
    bytes += tensor;
  }
  return bytes;
}

//===--------------------------------------------------------------------------------------------===
// Reading
//===--------------------------------------------------------------------------------------------===

Expected<std::vector<std::string>> split(const JsonView &about, std::string_view field,
                                         std::string_view bytes) {
  KF_TRY(const std::vector<JsonView> lengths, about.array(field, mostTensors));
  std::vector<std::string> tensors;
  for (const JsonView &element : lengths) {
    KF_TRY(const int64_t length, element.asInteger(0, INT64_MAX));
    if (static_cast<uint64_t>(length) > bytes.size())
      return element.error(fmt::format("{} bytes where {} are left", length, bytes.size()));
    tensors.emplace_back(bytes.substr(0, length));
    bytes.remove_prefix(length);
  }
  if (!bytes.empty())
    return about.error(fmt::format("{} bytes follow the last of '{}'", bytes.size(), field));
  return tensors;
}

Status readAbout(const JsonView &about, ProgramFile &file) {
  KF_TRY(const JsonView target, about.object("target"));
  KF_TRY(file.target, targetFrom(target));
  KF_TRY(file.convention, about.integer("convention", 0, INT32_MAX));
  KF_TRY(file.madeBy, about.string("made_by", longestText));
  KF_TRY(file.function, about.string("function", longestText));
  KF_TRY(const JsonView sizes, about.object("sizes"));
  KF_TRY(const auto members, sizes.members());
  for (const auto &[name, value] : members) {
    KF_TRY(file.sizes[name], value.asInteger(0, INT64_MAX));
  }
  KF_TRY(const std::vector<JsonView> layouts, about.array("layouts", mostTensors));
  for (const JsonView &element : layouts) {
    KF_TRY(const std::string name, element.asString(longestText));
    const std::optional<WeightLayout> layout = weightLayoutByName(name);
    if (!layout)
      return element.error("it is no layout of a weight");
    file.layouts.push_back(*layout);
  }
  if (about.has("seed")) {
    // Seeds go beyond the integers that other fields have.
    KF_TRY(const JsonView seed, about.at("seed"));
    if (!seed.value().is_number_unsigned())
      return seed.error("it is no seed");
    file.seed = seed.value().get<uint64_t>();
  }
  KF_TRY(file.inputsHash, about.string("inputs_sha256", longestText));
  if (!about.has("tolerances")) // of a build that had none
    return {};
  KF_TRY(const std::vector<JsonView> tolerances, about.array("tolerances", mostTensors));
  for (const JsonView &tolerance : tolerances) {
    KF_TRY(file.tolerances.emplace_back(), tolerance.asNumber(0, DBL_MAX));
  }
  return {};
}

/// What a device takes for granted of a program that a compiler made.
Status checkConsistent(const ProgramFile &file) {
  const Program &program = file.program;
  KF_CHECK(checkProgram(program));
  auto inconsistent = [](std::string why) {
    return unusable(what, "", std::move(why), writeProgramAgain);
  };
  for (const Artifact &artifact : program.artifacts)
    if (artifact.library)
      continue;
    else if (artifact.code.empty())
      return inconsistent(fmt::format("kernel '{}' has no code", artifact.kernel));
    else if (sha256Hex(artifact.code) != artifact.codeHash)
      return inconsistent(fmt::format("kernel '{}' has other code than it says", artifact.kernel));
  if (file.layouts.size() != program.arguments.size())
    return inconsistent("its arguments are not those of its program");
  if (!file.tolerances.empty() && file.tolerances.size() != file.expected.size())
    return inconsistent("its tolerances are not those of what it expects");
  for (const ProgramSize &size : program.sizes)
    if (!file.sizes.count(size.name))
      return inconsistent(fmt::format("it gives no value for the size '{}'", size.name));
  return {};
}

Expected<JsonDocument> parse(std::string_view text, const std::string &where) {
  return parseJson(text, what, where);
}

Expected<ProgramFile> readSections(std::string_view bytes, const std::string &where) {
  ProgramFile file;
  KF_TRY(const std::string_view aboutText, takeSection(bytes, "about"));
  KF_TRY(const std::string_view programText, takeSection(bytes, "program"));
  KF_TRY(const std::string_view module, takeSection(bytes, "module"));
  KF_TRY(const std::string_view code, takeSection(bytes, "code"));
  KF_TRY(const std::string_view inputs, takeSection(bytes, "inputs"));
  KF_TRY(const std::string_view expected, takeSection(bytes, "expected"));
  if (!bytes.empty())
    return unusable(what, where, "bytes follow its end", writeProgramAgain);
  KF_TRY(const JsonDocument about, parse(aboutText, where));
  KF_CHECK(readAbout(about.root(), file));
  KF_TRY(const JsonDocument program, parse(programText, where));
  KF_TRY(file.program, programFrom(program.value(), code));
  file.module = module;
  KF_TRY(file.inputs, split(about.root(), "inputs", inputs));
  KF_TRY(file.expected, split(about.root(), "expected", expected));
  KF_CHECK(checkConsistent(file));
  return file;
}

Status checkFormat(std::string_view &bytes) {
  if (!bytes.starts_with(magic))
    return unusable(what, "", "it does not begin as one", writeProgramAgain);
  bytes.remove_prefix(magic.size());
  const std::string own = fmt::format("{}\n", format);
  if (!bytes.starts_with(own)) {
    const std::string_view other = bytes.substr(0, std::min<size_t>(bytes.find('\n'), 12));
    return unusable(what, "",
                    fmt::format("it has format '{}' where this build reads {}", other, format),
                    writeProgramAgain);
  }
  bytes.remove_prefix(own.size());
  return {};
}

tl::unexpected<Error> doesNotFit(std::string why) {
  return unusable(what, "", std::move(why), writeProgramAgain);
}

Status fill(TensorData &tensor, const std::string &bytes) {
  if (bytes.size() != tensor.bytes())
    return doesNotFit(fmt::format("'{}' has {} bytes where {} are needed", tensor.name,
                                  bytes.size(), tensor.bytes()));
  std::memcpy(tensor.memory.data(), bytes.data(), bytes.size());
  return {};
}

/// Slots of a cache of so many bytes.
Expected<int64_t> slotsOf(const FunctionSignature &signature, const FunctionArgument &argument,
                          const SizeValues &sizes, size_t bytes) {
  if (!argument.isCache())
    return 0;
  auto [type, shape] = describeArgument(signature, argument, sizes, 1);
  KF_TRY(const TensorData slot, TensorData::allocate(argument.name, type, std::move(shape)));
  return slot.bytes() == 0 ? 0 : static_cast<int64_t>(bytes / slot.bytes());
}

Expected<FunctionData> storedData(const ProgramFile &file, const FunctionSignature &signature) {
  FunctionData data;
  data.sizes = file.sizes;
  if (file.inputs.size() != signature.arguments.size())
    return doesNotFit(fmt::format("it has {} inputs where @{} takes {}", file.inputs.size(),
                                  signature.name, signature.arguments.size()));
  for (size_t i = 0; i < file.inputs.size(); ++i) {
    const FunctionArgument &argument = signature.arguments[i];
    KF_TRY(const int64_t slots, slotsOf(signature, argument, file.sizes, file.inputs[i].size()));
    auto [type, shape] = describeArgument(signature, argument, file.sizes, slots);
    KF_TRY(TensorData tensor, TensorData::allocate(argument.name, type, std::move(shape)));
    KF_CHECK(fill(tensor, file.inputs[i]));
    data.arguments.push_back(std::move(tensor));
  }
  KF_CHECK(checkIndices(signature, data));
  KF_TRY(data.results, allocateResults(signature, data.sizes));
  return data;
}

} // namespace

static std::string bytesOf(const TensorData &tensor) {
  return {reinterpret_cast<const char *>(tensor.memory.data()), tensor.bytes()};
}

Expected<ProgramFile> makeProgramFile(mlir::ModuleOp compiled, const FunctionSignature &signature,
                                      const std::vector<Artifact> &artifacts, const Target &target,
                                      const FunctionData &data, std::optional<uint64_t> seed,
                                      const std::vector<TensorData> &expected) {
  ProgramFile file;
  file.target = target;
  KF_TRY(file.convention, conventionOf(target.kind));
  file.madeBy = fmt::format("kernelforge {} ({})", version().number, version().gitCommit);
  auto function = compiled.lookupSymbol<mlir::func::FuncOp>(signature.name);
  KF_TRY(file.program, buildProgram(function, artifacts, target.limits));
  KF_CHECK(checkProgram(file.program));
  for (mlir::Type type : declaredTypes(compiled, signature.name))
    file.layouts.push_back(weightLayoutOf(type));
  file.function = signature.name;
  file.sizes = data.sizes;
  file.seed = seed;
  if (!seed)
    for (const TensorData &argument : data.arguments)
      file.inputs.push_back(bytesOf(argument));
  file.inputsHash = hashOfInputs(data);
  for (const TensorData &output : expected)
    file.expected.push_back(bytesOf(output));
  return file;
}

std::string hashOfInputs(const FunctionData &data) {
  // Of the arguments' hashes: their bytes need not lie together.
  std::string hashes;
  for (const TensorData &argument : data.arguments)
    hashes += sha256Hex({reinterpret_cast<const char *>(argument.memory.data()), argument.bytes()});
  return sha256Hex(hashes);
}

std::string writeProgramFile(const ProgramFile &file) {
  Json layouts = Json::array(), inputLengths, expectedLengths;
  for (WeightLayout layout : file.layouts)
    layouts.push_back(nameOf(layout));
  const std::string inputs = joined(file.inputs, inputLengths);
  const std::string expected = joined(file.expected, expectedLengths);
  const Json about = {{"target", targetJson(file.target)},
                      {"convention", file.convention},
                      {"made_by", file.madeBy},
                      {"function", file.function},
                      {"sizes", file.sizes},
                      {"layouts", layouts},
                      {"seed", orNull(file.seed)},
                      {"inputs_sha256", file.inputsHash},
                      {"inputs", inputLengths},
                      {"expected", expectedLengths},
                      {"tolerances", file.tolerances}};
  std::string code;
  const Json program = programJson(file.program, code);
  auto text = [](const Json &json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
  };
  std::string bytes = fmt::format("{}{}\n", magic, format);
  appendSection(bytes, "about", text(about));
  appendSection(bytes, "program", text(program));
  appendSection(bytes, "module", file.module);
  appendSection(bytes, "code", code);
  appendSection(bytes, "inputs", inputs);
  appendSection(bytes, "expected", expected);
  return bytes;
}

Expected<ProgramFile> readProgramFile(std::string_view bytes, const std::string &where) {
  auto inFile = [&](Error error) {
    // What is wrong within a file is wrong with the file.
    error.what = what;
    if (error.where != where)
      error.where = error.where.empty() ? where : fmt::format("{}, {}", where, error.where);
    error.hint = writeProgramAgain;
    return error;
  };
  return checkFormat(bytes).and_then([&] { return readSections(bytes, where); }).map_error(inFile);
}

Expected<FunctionData> dataOf(const ProgramFile &file, const FunctionSignature &signature) {
  for (const ProgramSize &size : signature.sizes) {
    const auto given = file.sizes.find(size.name);
    if (given == file.sizes.end())
      return doesNotFit(fmt::format("it gives no value for the size '{}'", size.name));
    if (given->second < size.min || given->second > size.max)
      return doesNotFit(fmt::format("the size '{}' is {}, it can be {} to {}", size.name,
                                    given->second, size.min, size.max));
  }
  Expected<FunctionData> data =
      file.seed ? randomData(signature, file.sizes, *file.seed) : storedData(file, signature);
  if (data && hashOfInputs(*data) != file.inputsHash)
    return unusable(what, "@" + signature.name,
                    file.seed ? fmt::format("this build makes other random numbers of seed {} than "
                                            "the one that wrote it ({})",
                                            *file.seed, file.madeBy)
                              : "its inputs are not those that it was made with",
                    writeProgramAgain);
  return data;
}

Expected<std::vector<TensorData>>
expectedOf(const ProgramFile &file, const FunctionSignature &signature, const FunctionData &data) {
  const std::vector<const TensorData *> outputs = outputsOf(signature, data);
  if (outputs.size() != file.expected.size())
    return doesNotFit(fmt::format("it expects {} results and written caches of {}",
                                  file.expected.size(), outputs.size()));
  std::vector<TensorData> expected;
  for (size_t i = 0; i < outputs.size(); ++i) {
    KF_TRY(TensorData tensor,
           TensorData::allocate(outputs[i]->name, outputs[i]->type, outputs[i]->shape));
    KF_CHECK(fill(tensor, file.expected[i]));
    expected.push_back(std::move(tensor));
  }
  return expected;
}

} // namespace kernelforge
