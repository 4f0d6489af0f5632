#include "kernelforge/backend/ProgramJson.h"

#include <functional>
#include <gmock/gmock.h>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

/// A program in which no field has the value that it begins with.
Program everything() {
  Phase phase{.entry = "k_main",
              .parameters = {{Parameter::Kind::Buffer, 1, Access::ReadWrite},
                             {Parameter::Kind::Workspace, 0, Access::Write},
                             {Parameter::Kind::Size, 0, Access::Read},
                             {Parameter::Kind::Map, 0, Access::Write,
                              TensorMap{.element = TensorMap::Element::F16,
                                        .shape = {64, {2, 0}},
                                        .strides = {128},
                                        .box = {32, 8},
                                        .swizzle = TensorMap::Swizzle::Bytes64,
                                        .toEnd = true}}},
              .grid = Extent(3, 0, 16) * Extent(2, 1, 4),
              .block = {64, 2, 3},
              .cluster = 2,
              .sharedBytes = 1024,
              .scratchBytes = 2048,
              .afterPrevious = false,
              .coResident = true,
              .startsEarly = true};
  phase.grid.product[1].beyond = 5;
  phase.grid.atMost = 132;
  Artifact artifact;
  artifact.kernel = "k";
  artifact.entry = "kf_0123";
  artifact.code = std::string("code\0bytes", 10);
  artifact.codeHash = "abcd";
  artifact.schedule = R"({"mr":4})";
  artifact.scheduleSource = "record";
  artifact.variant = "other";
  artifact.library =
      LibraryCall{.problem = {64, 48, 32, ElementType::Q4_1, true, {EpilogueStep::Bias}},
                  .rowsSize = 1,
                  .input = 3,
                  .weight = 2,
                  .bias = 4,
                  .residual = 5,
                  .sizes = 2,
                  .arguments = 6};
  artifact.launching = {
      {phase},
      {{.bytes = {64, 1, 8}, .alignment = 256, .contents = Workspace::Contents::ZeroedOnce}}};
  artifact.sizeNames = {"tokens", "cached"};
  artifact.cost = {{{2, 0}}, {{4, 0}, 9}, Numerics::BF16, false};
  artifact.fromCache = true;
  artifact.compileSeconds = 0.25;
  Program program;
  program.function = "f";
  program.sizes = {{"tokens", 2, 64}, {"cached", 0, 512}};
  program.buffers = {{"x", BufferKind::Argument, {4, 0}, 0},
                     {"w", BufferKind::Weight, 128, 0},
                     {"k", BufferKind::Cache, 0, 0},
                     {"middle", BufferKind::Intermediate, {4, 0}, 192},
                     {"y", BufferKind::Argument, {4, 0}, 0}};
  program.arguments = {0, 1, 2};
  program.results = {4};
  program.artifacts = {artifact, artifact};
  program.artifacts[1].code = "other";
  program.launches = {{1, {0, 1, 3}, {0, 1}, 7}};
  program.copies = {{0, 4, {4, 0}}};
  program.arenaBytes = 4096;
  return program;
}

TensorMap &mapOf(Program &program) {
  return *program.artifacts[0].launching.phases[0].parameters.back().map;
}

std::string textOf(const Program &program) {
  std::string code;
  const Json json = programJson(program, code);
  return json.dump() + code;
}

TEST(ProgramJson, EveryFieldComesBack) {
  const Program program = everything();
  std::string code;
  const Json json = programJson(program, code);
  auto back = programFrom(Json::parse(json.dump()), code);
  ASSERT_TRUE(back) << back.error().line();
  EXPECT_EQ(textOf(*back), textOf(program));
  EXPECT_EQ(back->artifacts[0].launching, program.artifacts[0].launching);
  EXPECT_EQ(back->artifacts[0].code, program.artifacts[0].code);
  EXPECT_EQ(back->artifacts[1].code, "other");
  EXPECT_EQ(back->buffers[3].offset, 192);
  EXPECT_EQ(back->launches[0].layer, 7);
}

/// A field that was forgotten would leave the text as it is.
TEST(ProgramJson, EveryFieldIsInTheText) {
  const std::function<void(Program &)> changes[] = {
      [](Program &p) { p.function = "g"; },
      [](Program &p) { p.sizes[0].name = "rows"; },
      [](Program &p) { p.sizes[0].min = 3; },
      [](Program &p) { p.sizes[0].max = 65; },
      [](Program &p) { p.buffers[0].name = "z"; },
      [](Program &p) { p.buffers[0].kind = BufferKind::Weight; },
      [](Program &p) { p.buffers[0].bytes = 5; },
      [](Program &p) { p.buffers[3].offset = 64; },
      [](Program &p) { p.arguments[0] = 2; },
      [](Program &p) { p.results[0] = 3; },
      [](Program &p) { p.launches[0].artifact = 0; },
      [](Program &p) { p.launches[0].buffers[1] = 2; },
      [](Program &p) { p.launches[0].sizes[1] = 0; },
      [](Program &p) { p.launches[0].layer = 8; },
      [](Program &p) { p.copies[0].from = 1; },
      [](Program &p) { p.copies[0].to = 3; },
      [](Program &p) { p.copies[0].bytes = 8; },
      [](Program &p) { p.arenaBytes = 8192; },
      [](Program &p) { p.artifacts[0].kernel = "l"; },
      [](Program &p) { p.artifacts[0].entry = "l"; },
      [](Program &p) { p.artifacts[0].code += "x"; },
      [](Program &p) { p.artifacts[0].codeHash = "l"; },
      [](Program &p) { p.artifacts[0].schedule = "{}"; },
      [](Program &p) { p.artifacts[0].scheduleSource = "pinned"; },
      [](Program &p) { p.artifacts[0].variant = "l"; },
      [](Program &p) { p.artifacts[0].library = {}; },
      [](Program &p) { p.artifacts[0].library->problem.m = 1; },
      [](Program &p) { p.artifacts[0].library->problem.n = 1; },
      [](Program &p) { p.artifacts[0].library->problem.k = 1; },
      [](Program &p) { p.artifacts[0].library->problem.weights = ElementType::F16; },
      [](Program &p) { p.artifacts[0].library->problem.transpose = false; },
      [](Program &p) { p.artifacts[0].library->problem.epilogue = {}; },
      [](Program &p) { p.artifacts[0].library->rowsSize = -1; },
      [](Program &p) { p.artifacts[0].library->input = 1; },
      [](Program &p) { p.artifacts[0].library->weight = 1; },
      [](Program &p) { p.artifacts[0].library->bias = {}; },
      [](Program &p) { p.artifacts[0].library->residual = {}; },
      [](Program &p) { p.artifacts[0].library->sizes = 1; },
      [](Program &p) { p.artifacts[0].library->arguments = 1; },
      [](Program &p) { p.artifacts[0].sizeNames[0] = "l"; },
      [](Program &p) { p.artifacts[0].cost.flopTerms[0] = 1; },
      [](Program &p) { p.artifacts[0].cost.byteTerms[1] = 1; },
      [](Program &p) { p.artifacts[0].cost.isWhole = true; },
      [](Program &p) { p.artifacts[0].fromCache = false; },
      [](Program &p) { p.artifacts[0].compileSeconds = 1; },
      [](Program &p) { p.artifacts[0].launching.phases[0].entry = "l"; },
      [](Program &p) { p.artifacts[0].launching.phases[0].parameters[1].kind = {}; },
      [](Program &p) { p.artifacts[0].launching.phases[0].parameters[0].index = 2; },
      [](Program &p) { p.artifacts[0].launching.phases[0].parameters[0].access = {}; },
      [](Program &p) { mapOf(p).element = {}; },
      [](Program &p) { mapOf(p).shape[1] = 2; },
      [](Program &p) { mapOf(p).strides[0] = 256; },
      [](Program &p) { mapOf(p).box[1] = 4; },
      [](Program &p) { mapOf(p).swizzle = {}; },
      [](Program &p) { mapOf(p).toEnd = false; },
      [](Program &p) { p.artifacts[0].launching.phases[0].grid.multiplier = 7; },
      [](Program &p) { p.artifacts[0].launching.phases[0].grid.product[0].size = 1; },
      [](Program &p) { p.artifacts[0].launching.phases[0].grid.product[0].divisor = 2; },
      [](Program &p) { p.artifacts[0].launching.phases[0].grid.product[0].beyond = 2; },
      [](Program &p) { p.artifacts[0].launching.phases[0].grid.product[1].beyond = 0; },
      [](Program &p) { p.artifacts[0].launching.phases[0].grid.atMost = {}; },
      [](Program &p) { p.artifacts[0].launching.phases[0].block[2] = 1; },
      [](Program &p) { p.artifacts[0].launching.phases[0].cluster = 1; },
      [](Program &p) { p.artifacts[0].launching.phases[0].sharedBytes = 1; },
      [](Program &p) { p.artifacts[0].launching.phases[0].scratchBytes = 1; },
      [](Program &p) { p.artifacts[0].launching.phases[0].afterPrevious = true; },
      [](Program &p) { p.artifacts[0].launching.phases[0].coResident = false; },
      [](Program &p) { p.artifacts[0].launching.phases[0].startsEarly = false; },
      [](Program &p) { p.artifacts[0].launching.workspaces[0].bytes = 1; },
      [](Program &p) { p.artifacts[0].launching.workspaces[0].alignment = 64; },
      [](Program &p) { p.artifacts[0].launching.workspaces[0].contents = {}; },
  };
  const std::string before = textOf(everything());
  for (size_t i = 0; i < std::size(changes); ++i) {
    Program program = everything();
    changes[i](program);
    EXPECT_NE(textOf(program), before) << "change " << i;
  }
}

TEST(ProgramJson, WhatDoesNotFitIsNamed) {
  std::string code;
  const Json json = programJson(everything(), code);
  auto whyOf = [&](const std::function<void(Json &)> &change, std::string_view bytes) {
    Json changed = json;
    change(changed);
    auto program = programFrom(changed, bytes);
    return program ? std::string("nothing") : program.error().why;
  };
  EXPECT_THAT(whyOf([](Json &j) { j.erase("function"); }, code), HasSubstr("'function'"));
  EXPECT_THAT(whyOf([](Json &j) { j["buffers"][0]["kind"] = "wing"; }, code), HasSubstr("'wing'"));
  EXPECT_THAT(whyOf([](Json &) {}, std::string_view(code).substr(1)), HasSubstr("code"));
  EXPECT_THAT(whyOf([](Json &) {}, code + "x"), HasSubstr("follow its code"));
  auto &&phase = [](Json &j) -> Json & { return j["artifacts"][0]["launching"]["phases"][0]; };
  EXPECT_THAT(whyOf([&](Json &j) { phase(j)["scratch_bytes"] = -1; }, code),
              HasSubstr("'scratch_bytes' is -1"));
  EXPECT_THAT(whyOf([&](Json &j) { phase(j)["block"] = {1, 2}; }, code), HasSubstr("'block'"));
  EXPECT_THAT(whyOf([&](Json &j) { phase(j)["grid"] = "x"; }, code), HasSubstr("'extent'"));
  EXPECT_THAT(whyOf([&](Json &j) { phase(j)["grid"]["product"][0][1] = 0; }, code),
              HasSubstr("divisor 0"));
  EXPECT_THAT(whyOf([&](Json &j) { phase(j)["parameters"][0]["access"] = "none"; }, code),
              HasSubstr("\"none\" is none"));
  EXPECT_THAT(whyOf([&](Json &j) { phase(j).erase("co_resident"); }, code),
              HasSubstr("'co_resident'"));
  auto &&library = [](Json &j) -> Json & { return j["artifacts"][0]["library"]; };
  EXPECT_THAT(whyOf([&](Json &j) { library(j)["weights"] = "q9"; }, code), HasSubstr("'q9'"));
  EXPECT_THAT(whyOf([&](Json &j) { library(j)["epilogue"] = "bend"; }, code),
              HasSubstr("'epilogue'"));
  EXPECT_THAT(whyOf([&](Json &j) { library(j)["bias"] = -1; }, code), HasSubstr("'bias'"));
  EXPECT_THAT(whyOf([&](Json &j) { library(j) = "call"; }, code), HasSubstr("'m'"));
}

} // namespace
