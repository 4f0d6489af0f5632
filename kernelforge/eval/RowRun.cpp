#include "kernelforge/eval/RowRun.h"

#include "kernelforge/compiler/RecordKeys.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;

static const float *floatsOf(const TensorData *tensor) {
  return tensor ? reinterpret_cast<const float *>(tensor->memory.data()) : nullptr;
}

static const TensorData *findArgument(const FunctionData &data, std::string_view name) {
  const auto found = std::ranges::find(data.arguments, name, &TensorData::name);
  return found == data.arguments.end() ? nullptr : &*found;
}

/// The operands of a matmul's module, as buildMatmulModule names them.
static MatmulOperands operandsOf(const FunctionData &data) {
  return {findArgument(data, "weight")->memory.data(), floatsOf(findArgument(data, "bias")),
          floatsOf(findArgument(data, "residual"))};
}

static std::span<float> resultFloats(FunctionData &data) {
  TensorData &result = data.results.front();
  return {reinterpret_cast<float *>(result.memory.data()), static_cast<size_t>(result.elements())};
}

Expected<std::unique_ptr<RowRun>> RowRun::create(const SuiteRow &row, const RowOptions &options) {
  std::unique_ptr<RowRun> made(new RowRun);
  RowRun &r = *made;
  if (const auto *problem = std::get_if<MatmulProblem>(&row.problem))
    r.matmul = *problem;
  KF_TRY(r.session, Session::create(options.session));
  KF_TRY(r.source, buildRowModule(&r.session->context(), row));
  KF_TRY(func::FuncOp function, findFunction(*r.source.module, r.source.function));
  KF_TRY(r.signature, readSignature(function));
  KF_CHECK(r.prepareData(row, options));
  KF_CHECK(r.session->compile(OwningOpRef<ModuleOp>(r.source.module->clone())));
  KF_TRY(r.function, FunctionRun::create(*r.session, r.signature, r.data));
  r.countWork();
  if (const auto *rowwise = std::get_if<RowwiseProblem>(&row.problem))
    r.operations = rowwise->flops(); // of which kernels count none
  if (options.vendors)
    KF_CHECK(r.prepareVendors(options));
  return made;
}

Status RowRun::prepareData(const SuiteRow &row, const RowOptions &options) {
  KF_TRY(SizeValues sizes, chooseSizes(signature, source.sizes, source.past));
  KF_TRY(data, randomData(signature, sizes, options.seed, source.past));
  if (!options.verified)
    return {};
  if (matmul) {
    KF_TRY(matmulResult,
           SampledMatmul::create(*matmul, operandsOf(data), floatsOf(findArgument(data, "x")),
                                 options.seed, options.session.threads));
  } else {
    KF_TRY(fidelity, FunctionFidelity::create(*source.module, signature, data));
  }
  return {};
}

Status RowRun::prepareVendors(const RowOptions &options) {
  if (!matmul)
    return {};
  for (const auto &variant : MatmulRegistry::global().all()) {
    if (!variant->name().starts_with("vendor:"))
      continue;
    const MatmulSupport support = variant->supports(*matmul);
    if (support.kind == MatmulSupport::Kind::Unsupported)
      continue; // not a peer for this problem
    VendorRun vendor{std::string(variant->name()), nullptr, support.why};
    if (support) {
      auto prepared = variant->prepare(*matmul, operandsOf(data), {options.session.threads, ""});
      if (prepared)
        vendor.prepared = std::move(*prepared);
      else
        vendor.why = prepared.error().line();
    }
    vendorRuns.push_back(std::move(vendor));
  }
  return {};
}

Status RowRun::run() { return function->run(); }

Status RowRun::run(VendorRun &vendor) {
  return vendor.prepared->run(floatsOf(findArgument(data, "x")), resultFloats(data).data());
}

Accuracy RowRun::judge() const {
  if (matmulResult)
    return matmulResult->judge(resultFloats(const_cast<FunctionData &>(data)));
  return combined(fidelity->judge(signature, data));
}

Expected<Accuracy> RowRun::verify() {
  function->poisonResults();
  KF_CHECK(run());
  return judge();
}

Expected<Accuracy> RowRun::verify(VendorRun &vendor) {
  function->poisonResults();
  KF_CHECK(run(vendor));
  return judge();
}

Expected<std::optional<std::string>> RowRun::bitwiseDifference() {
  function->poisonResults();
  KF_CHECK(run());
  std::vector<TensorData> first;
  for (const TensorData *output : outputsOf(signature, data)) {
    KF_TRY(TensorData copy, output->clone());
    first.push_back(std::move(copy));
  }
  function->poisonResults();
  KF_CHECK(run());
  std::vector<const TensorData *> before;
  for (const TensorData &output : first)
    before.push_back(&output);
  return kernelforge::bitwiseDifference(before, outputsOf(signature, data));
}

void RowRun::countWork() {
  const Program &program = *session->program(signature.name);
  const auto rows = data.sizes.find("tokens");
  const int64_t ownRows = rows == data.sizes.end() ? 0 : rows->second;
  // Under a causal mask, row i of a run sees i + 1 of the run's own positions: on average half a
  // position more than half of them, which is between two whole numbers where rows are even.
  const int64_t cached = source.past + ownRows;
  const int64_t fewer = source.past + (ownRows + 1) / 2;
  const int64_t more = source.past + (ownRows > 0 ? ownRows / 2 + 1 : 0);
  std::map<Numerics, double> byNumerics;
  for (const Launch &launch : program.launches) {
    const KernelCost &cost = program.artifacts[static_cast<size_t>(launch.artifact)].cost;
    const auto own = [&](int64_t read) {
      const std::vector<int64_t> values = data.sizeList(signature, read);
      std::vector<int64_t> list;
      for (int size : launch.sizes)
        list.push_back(values[static_cast<size_t>(size)]);
      return list;
    };
    const double flops = (cost.flops(own(fewer).data()) + cost.flops(own(more).data())) / 2;
    operations += flops;
    byNumerics[cost.numerics] += flops;
    traffic += cost.bytes(own(cached).data());
  }
  const auto least = [](const auto &a, const auto &b) { return a.second < b.second; };
  if (const auto most = std::ranges::max_element(byNumerics, least); most != byNumerics.end())
    mostNumerics = most->first;
}

Json RowRun::codeJson() const {
  const Program &program = *session->program(signature.name);
  Json kernels = Json::array();
  const std::vector<KernelResources> each = session->resources(signature.name);
  RecordResources resources; // bytes of all code, and the most of a kernel
  double compileMs = 0;
  std::string hashes;
  for (size_t i = 0; i < program.artifacts.size(); ++i) {
    const Artifact &artifact = program.artifacts[i];
    const int64_t launches = std::ranges::count_if(program.launches, [&](const Launch &launch) {
      return &program.artifacts[static_cast<size_t>(launch.artifact)] == &artifact;
    });
    if (launches == 0)
      continue; // of another function, such as packing
    kernels.push_back({{"name", artifact.kernel},
                       {"launches", launches},
                       {"variant", artifact.variant},
                       {"schedule", Json::parse(artifact.schedule, nullptr, false)},
                       {"schedule_source", artifact.scheduleSource},
                       {"code_hash", artifact.codeHash}});
    const RecordResources own = recordResources(artifact, each[i]);
    resources = {std::max(resources.registers, own.registers),
                 std::max(resources.spillBytes, own.spillBytes),
                 std::max(resources.sharedBytes, own.sharedBytes),
                 resources.codeBytes + own.codeBytes};
    compileMs += artifact.compileSeconds * 1e3;
    hashes += (hashes.empty() ? "" : "+") + artifact.codeHash;
  }
  Json json = {{"kernels", kernels},
               {"variant", "generated"},
               {"resources", toJson(resources)},
               {"code_hash", hashes},
               {"compile_ms", compileMs}};
  if (kernels.size() == 1)
    json.update({{"variant", kernels[0]["variant"]},
                 {"schedule", kernels[0]["schedule"]},
                 {"schedule_source", kernels[0]["schedule_source"]}});
  return json;
}
