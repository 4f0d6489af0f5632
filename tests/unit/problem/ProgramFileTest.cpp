// Programs in files: what was written runs again, and whatever was done to a file since is found
// before anything of it is used.
#include "kernelforge/problem/ProgramRun.h"

#include "kernelforge/backend/ProgramJson.h"
#include "kernelforge/compiler/KernelCompiler.h"
#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/compiler/Sections.h"
#include "kernelforge/measure/Accuracy.h"
#include "kernelforge/problem/ModuleText.h"
#include "kernelforge/problem/Verification.h"

#include <algorithm>
#include <functional>
#include <gmock/gmock.h>
#include <map>
#include <random>

using namespace mlir;
using namespace kernelforge;
using testing::HasSubstr;

namespace {

/// A product with a weight, and a cache that is read before it is written.
constexpr const char *text = R"(
!c = !transformer.cache<2, 4, f32>
!x = tensor<?x8xf32, #transformer.dims<"rows">>
!i = tensor<?xi32, #transformer.dims<"rows">>
func.func @f(%rows: index {transformer.size = #transformer.size<"rows", 1 to 16>}, %x: !x,
             %w: tensor<8x8xf32>, %c: !c, %slots: !i) -> !x {
  %0 = transformer.matmul %x weights(%w) : (!x, tensor<8x8xf32>) -> !x
  transformer.cache_append %0, %slots into %c : !c, !x, !i
  return %0 : !x
})";

/// A file of `text` for the reference, which every build has.
ProgramFile makeFile(std::optional<uint64_t> seed = 7) {
  DialectRegistry registry;
  registerAllStages(registry);
  MLIRContext context(registry);
  context.loadAllAvailableDialects();
  auto module = parseModuleText(&context, text, "test").value();
  const FunctionSignature signature = readSignature(*findFunction(*module, "")).value();
  const SizeValues sizes = chooseSizes(signature, {{"rows", 3}}).value();
  const FunctionData data = randomData(signature, sizes, seed.value_or(1)).value();
  const auto expected = runReference(*module, signature, data).value();
  PipelineOptions pipeline;
  pipeline.target = referenceTarget();
  KernelAnalyses analyses;
  EXPECT_TRUE(runToStage(*module, Stage::Scheduled, pipeline, analyses));
  const auto artifacts =
      compileKernels(*module, pipeline.target, ObjectCache::disabled(), analyses).value();
  ProgramFile file =
      makeProgramFile(*module, signature, artifacts, pipeline.target, data, seed, expected).value();
  file.module = text;
  file.tolerances = {0.25, 1e-4};
  return file;
}

std::string makeBytes() { return writeProgramFile(makeFile()); }

/// What reading says; "read" where it has nothing to say.
std::string readingSays(std::string_view bytes) {
  const auto file = readProgramFile(bytes, "a.kfp");
  if (file)
    return "read";
  EXPECT_EQ(file.error().kind, ErrorKind::Unusable);
  EXPECT_EQ(file.error().what, "program file is not usable");
  EXPECT_TRUE(file.error().where.starts_with("a.kfp")) << file.error().line();
  EXPECT_FALSE(file.error().why.empty());
  return file.error().line();
}

constexpr const char *sections[] = {"about", "program", "module", "code", "inputs", "expected"};

/// A file whose sections were changed and have the right checksums all the same: what a hostile
/// writer makes.
std::string resealed(std::string_view bytes,
                     const std::function<void(std::map<std::string, std::string> &)> &change) {
  const size_t begin = bytes.find('\n') + 1;
  std::string file(bytes.substr(0, begin));
  bytes.remove_prefix(begin);
  std::map<std::string, std::string> parts;
  for (const char *name : sections)
    parts[name] = takeSection(bytes, name).value();
  change(parts);
  for (const char *name : sections)
    appendSection(file, name, parts[name]);
  return file;
}

std::string withJson(std::string_view bytes, const char *section,
                     const std::function<void(Json &)> &change) {
  return resealed(bytes, [&](std::map<std::string, std::string> &parts) {
    Json json = Json::parse(parts[section]);
    change(json);
    parts[section] = json.dump();
  });
}

/// Runs a file's program and compares it with what the file expects.
void expectRight(ProgramRun &run) {
  const auto expected = expectedOf(run.file(), run.signature(), run.data()).value();
  const auto outputs = outputsOf(run.signature(), run.data());
  ASSERT_EQ(outputs.size(), 2u); // the result and the cache
  for (size_t i = 0; i < outputs.size(); ++i)
    EXPECT_TRUE(compareValues(outputs[i]->toFloats(), expected[i].toFloats(), 1e-6).pass)
        << outputs[i]->name;
}

TEST(ProgramFile, ComesBackAsItWasWritten) {
  for (const std::optional<uint64_t> seed : {std::optional<uint64_t>(UINT64_MAX), {}}) {
    const std::string bytes = writeProgramFile(makeFile(seed));
    const auto file = readProgramFile(bytes, "a.kfp");
    ASSERT_TRUE(file) << file.error().line();
    EXPECT_EQ(file->seed, seed);
    EXPECT_EQ(file->tolerances, (std::vector<double>{0.25, 1e-4}));
    EXPECT_EQ(file->inputs.size(), seed ? 0u : 4u);
    EXPECT_EQ(writeProgramFile(*file), bytes);
  }
}

TEST(ProgramFile, RunsVerifiesAndIsTimed) {
  for (const std::optional<uint64_t> seed : {std::optional<uint64_t>(7), {}}) {
    auto run =
        ProgramRun::create(readProgramFile(writeProgramFile(makeFile(seed)), "a").value(), {});
    ASSERT_TRUE(run) << run.error().line();
    auto data = dataOf((*run)->file(), (*run)->signature());
    ASSERT_TRUE(data) << data.error().line();
    ASSERT_TRUE((*run)->bind(std::move(*data)));
    for (int i = 0; i < 2; ++i) {
      ASSERT_TRUE((*run)->run(nullptr));
      expectRight(**run);
    }
    EXPECT_EQ((*run)->runTimed(nullptr)->size(), (*run)->program().launches.size());
    EXPECT_EQ((*run)->time(3)->size(), 3u);
  }
}

TEST(ProgramFile, CutShortAnywhereIsRefused) {
  const std::string bytes = makeBytes();
  for (size_t length = 0; length < bytes.size(); length += length < 200 ? 1 : 37)
    EXPECT_NE(readingSays(std::string_view(bytes).substr(0, length)), "read") << length;
  EXPECT_THAT(readingSays(bytes + "x"), HasSubstr("bytes follow its end"));
  EXPECT_THAT(readingSays(std::string_view(bytes).substr(0, bytes.size() - 2)),
              HasSubstr("its expected is cut short"));
}

TEST(ProgramFile, AnyFlippedBitIsFound) {
  std::string bytes = makeBytes();
  for (size_t i = 0; i < bytes.size(); i += i < 400 ? 1 : 13) {
    const char bit = static_cast<char>(1 << i % 8);
    bytes[i] ^= bit;
    EXPECT_NE(readingSays(bytes), "read") << "bit " << i % 8 << " of byte " << i;
    bytes[i] ^= bit;
  }
  EXPECT_EQ(readingSays(bytes), "read");
}

TEST(ProgramFile, ForeignFilesAreSaidToBe) {
  EXPECT_THAT(readingSays(""), HasSubstr("does not begin as one"));
  EXPECT_THAT(readingSays("GGUF\x03"), HasSubstr("does not begin as one"));
  EXPECT_THAT(readingSays("kernelforge-program 1\nabout"),
              HasSubstr("it has format '1' where this build reads 2"));
  EXPECT_THAT(readingSays("kernelforge-program 2\n"), HasSubstr("it ends before its about"));
  EXPECT_THAT(readingSays("kernelforge-program 2\nabout 99999999999999999999 x\n"),
              HasSubstr("header of its about is malformed"));
}

/// Every checksum is right, and what it says is not.
TEST(ProgramFile, WhatDoesNotFitTogetherIsNamed) {
  const std::string bytes = makeBytes();
  auto says = [&](const char *section, const std::function<void(Json &)> &change) {
    return readingSays(withJson(bytes, section, change));
  };
  auto &&launch = [](Json &j) -> Json & { return j["launches"][0]; };
  EXPECT_EQ(says("about", [](Json &) {}), "read");
  EXPECT_THAT(says("about", [](Json &j) { j.erase("target"); }), HasSubstr("field target"));
  EXPECT_THAT(says("about", [](Json &j) { j["target"]["limits"].erase("bindings"); }),
              HasSubstr("bindings"));
  EXPECT_THAT(says("about", [](Json &j) { j["convention"] = -1; }), HasSubstr("convention"));
  EXPECT_THAT(says("about", [](Json &j) { j["seed"] = 0.5; }), HasSubstr("it is no seed"));
  EXPECT_THAT(says("about", [](Json &j) { j["layouts"] = {"interleaved"}; }),
              HasSubstr("its arguments are not those of its program"));
  EXPECT_EQ(says("about", [](Json &j) { j.erase("tolerances"); }), "read");
  EXPECT_THAT(says("about", [](Json &j) { j["tolerances"] = {1.0}; }),
              HasSubstr("its tolerances are not those of what it expects"));
  EXPECT_THAT(says("about", [](Json &j) { j["tolerances"][0] = -1.0; }), HasSubstr("tolerances"));
  EXPECT_THAT(says("about", [](Json &j) { j["layouts"][0] = "columns"; }),
              HasSubstr("it is no layout of a weight"));
  EXPECT_THAT(says("about", [](Json &j) { j["sizes"].erase("rows"); }),
              HasSubstr("no value for the size 'rows'"));
  EXPECT_THAT(says("about", [](Json &j) { j["expected"][0] = 1 << 30; }), HasSubstr("are left"));
  EXPECT_THAT(says("about", [](Json &j) { j["expected"].erase(0); }), HasSubstr("bytes follow"));
  EXPECT_THAT(says("program", [&](Json &j) { launch(j)["artifact"] = 99; }),
              HasSubstr("there is no artifact 99"));
  EXPECT_THAT(says("program", [&](Json &j) { launch(j)["buffers"][0] = int64_t(1) << 32; }),
              HasSubstr("'buffers' is no list of indices"));
  EXPECT_THAT(says("program", [&](Json &j) { launch(j)["buffers"][0] = 1e300; }),
              HasSubstr("'buffers' is no list of indices"));
  EXPECT_THAT(says("program", [](Json &j) { j["arena_bytes"] = 1e300; }),
              HasSubstr("'arena_bytes' is no integer in its range"));
  EXPECT_THAT(says("program", [](Json &j) { j["artifacts"][0]["code_hash"] = "x"; }),
              HasSubstr("other code than it says"));
  EXPECT_THAT(readingSays(resealed(
                  bytes, [](std::map<std::string, std::string> &parts) { parts["code"][0] ^= 1; })),
              HasSubstr("other code than it says"));
}

/// Leaves of the program's JSON replaced at random, checksums right: read or refused in one line.
TEST(ProgramFile, HostileProgramsAreReadOrRefused) {
  const std::string bytes = makeBytes();
  const Json hostile[] = {-1,
                          INT64_MIN,
                          UINT64_MAX,
                          1e300,
                          0.5,
                          true,
                          "",
                          "x",
                          Json::array(),
                          Json::object(),
                          int64_t(1) << 40,
                          {},
                          64};
  std::mt19937_64 random(11);
  int refused = 0;
  for (int round = 0; round < 3000; ++round) {
    const char *section = random() % 3 == 0 ? "about" : "program";
    const std::string changed = withJson(bytes, section, [&](Json &json) {
      Json flat = json.flatten();
      auto leaf = flat.begin();
      std::advance(leaf, random() % flat.size());
      json[Json::json_pointer(leaf.key())] = hostile[random() % std::size(hostile)];
    });
    refused += readingSays(changed) != "read";
  }
  EXPECT_GT(refused, 1000);
}

TEST(ProgramFile, OtherConventionsTargetsAndSeedsAreRefusedBeforeARun) {
  auto creating = [](const std::function<void(ProgramFile &)> &change) {
    ProgramFile file = makeFile();
    change(file);
    auto run = ProgramRun::create(std::move(file), {});
    return run ? std::string("created") : run.error().line();
  };
  EXPECT_EQ(creating([](ProgramFile &) {}), "created");
  EXPECT_THAT(creating([](ProgramFile &f) { f.convention += 1; }),
              HasSubstr("has calling convention 2 where this build has 1"));
  EXPECT_THAT(creating([](ProgramFile &f) { f.target.kind = "abacus"; }),
              HasSubstr("--target abacus"));
  EXPECT_THAT(creating([](ProgramFile &f) { f.module = "module {}"; }),
              HasSubstr("it has no function of transformer operations"));
  EXPECT_THAT(creating([](ProgramFile &f) { f.module = "nonsense"; }),
              HasSubstr("module of the program file"));
  EXPECT_THAT(
      creating([](ProgramFile &f) { f.layouts[0] = f.layouts[2] = WeightLayout::Interleaved; }),
      HasSubstr("'arg3' is said to lie in interleaved"));
  EXPECT_THAT(creating([](ProgramFile &f) { f.layouts[0] = WeightLayout::Planes; }),
              HasSubstr("is said to lie in planes and is no weight that can"));
  // The signature is of the module, the sizes of the program.
  EXPECT_THAT(creating([](ProgramFile &f) {
                size_t at;
                while ((at = f.module.find("\"rows\"")) != std::string::npos)
                  f.module.replace(at, 6, "\"tows\"");
              }),
              HasSubstr("its module has no size 'rows'"));
  ProgramFile file = makeFile();
  file.seed = 8;
  auto run = ProgramRun::create(std::move(file), {}).value();
  const auto data = dataOf(run->file(), run->signature());
  ASSERT_FALSE(data);
  EXPECT_THAT(data.error().why, HasSubstr("other random numbers of seed 8"));
}

TEST(ProgramFile, StoredInputsAreCheckedLikeAUsers) {
  const ProgramFile good = makeFile(std::nullopt);
  auto run = ProgramRun::create(ProgramFile(good), {}).value();
  auto dataSays = [&](const std::function<void(ProgramFile &)> &change) {
    ProgramFile file = good;
    change(file);
    const auto data = dataOf(file, run->signature());
    return data ? std::string("taken") : data.error().line();
  };
  EXPECT_EQ(dataSays([](ProgramFile &) {}), "taken");
  EXPECT_THAT(dataSays([](ProgramFile &f) { f.inputs[0].pop_back(); }), HasSubstr("'arg1' has 95"));
  EXPECT_THAT(dataSays([](ProgramFile &f) { f.inputs.pop_back(); }), HasSubstr("3 inputs"));
  EXPECT_THAT(dataSays([](ProgramFile &f) { f.inputs[0][0] ^= 1; }),
              HasSubstr("are not those that it was made with"));
  // A slot far outside its cache.
  EXPECT_THAT(dataSays([](ProgramFile &f) { f.inputs[3][3] = 0x7f; }),
              HasSubstr("out of the range"));
  EXPECT_THAT(dataSays([](ProgramFile &f) { f.inputs[2] = ""; }), HasSubstr("there are no rows"));
}

} // namespace
