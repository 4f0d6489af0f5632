#include "MatmulPeers.h"

#include "Compiled.h"

#include "kernelforge/support/Json.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>

using namespace kernelforge;
using namespace kernelforge::bench;

namespace {

/// Algorithms of the library that are measured in full, the first beside them, and rounds that
/// choose them.
constexpr size_t finalists = 3;
constexpr int choosingRounds = 3;

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const size_t half = values.size() / 2;
  return values.size() % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
}
double quantile(std::vector<double> values, double share) {
  std::ranges::sort(values);
  return values[size_t(std::lround(share * double(values.size() - 1)))];
}

/// Time of the library to ours in each round: above 1 ours is faster.
struct Ratio {
  double middle = 0, low = 0, high = 0; ///< median and quartiles
};
Ratio ratioOf(const std::vector<double> &theirs, const std::vector<double> &ours) {
  std::vector<double> ratios;
  for (size_t i = 0; i < ours.size(); ++i)
    ratios.push_back(theirs[i] / ours[i]);
  return {median(ratios), quantile(ratios, 0.25), quantile(ratios, 0.75)};
}
Json toJson(const Ratio &ratio) {
  return {{"median", ratio.middle}, {"low", ratio.low}, {"high", ratio.high}};
}

/// What came of one product at one pace.
struct Row {
  std::string name, group;
  Pace pace = Pace::BackToBack;
  double ours = 0, first = 0, best = 0; ///< seconds of a run
  std::string bestName;
  size_t algorithms = 0;
  Ratio toFirst, toBest;
  double error = 0, libraryError = 0;
  std::string schedule, source;
};

/// The operands of all sets on the GPU, and one product's sides.
class ProductRun {
public:
  ProductRun(const Gpu &gpu, const CublasLt &library, const NumberPool &pool,
             const NamedProduct &named)
      : gpu(gpu), library(library), pool(pool), named(named), product(named.product) {}

  Status prepare(const Target &target, const MatmulOptions &options, BufferRef workspaceMemory);
  Status choose(Turns &turns, uint64_t seed);
  Expected<std::vector<Row>> measure(Turns &turns, const MatmulOptions &options);

private:
  Status makeOperands();
  Status makeOurs(const Target &target, const MatmulOptions &options);
  Expected<double> verified(Side &side);
  Expected<ProductOperands> operandsOf(int set) const;

  const Gpu &gpu;
  const CublasLt &library;
  const NumberPool &pool;
  const NamedProduct &named;
  const Product &product;
  int sets = 0, runs = 0;
  std::vector<BufferRef> a, b, bias, c;
  BufferRef workspace;
  std::unique_ptr<Side> ours;
  std::vector<std::unique_ptr<Side>> theirs; ///< by the heuristic's order
  std::vector<size_t> kept;                  ///< of them; the first is among them
  double error = 0, libraryError = 0;
  std::string schedule, source;
};

Status ProductRun::makeOperands() {
  auto fill = [&](std::vector<BufferRef> &to, int64_t which, int64_t count) -> Status {
    const std::span<const uint16_t> numbers(pool.slice(which, count), size_t(count));
    KF_TRY(to.emplace_back(), gpu.upload(std::as_bytes(numbers)));
    return {};
  };
  for (int set = 0; set < sets; ++set) {
    KF_CHECK(fill(a, 3 * set, product.m * product.k));
    KF_CHECK(fill(b, 3 * set + 1, product.n * product.k));
    if (product.following != Following::Nothing)
      KF_CHECK(fill(bias, 3 * set + 2, product.n));
    KF_TRY(c.emplace_back(), gpu.allocatePoisoned(2 * product.m * product.n));
  }
  return {};
}

Status ProductRun::makeOurs(const Target &target, const MatmulOptions &options) {
  KF_TRY(const Program once, compileText(moduleOf(product), named.name(), target, options.records));
  for (const Artifact &artifact : once.artifacts) {
    schedule += artifact.schedule;
    source = artifact.scheduleSource;
  }
  ProgramBuffers buffers;
  for (int set = 0; set < sets; ++set) {
    buffers.arguments.insert(buffers.arguments.end(), {a[size_t(set)], b[size_t(set)]});
    if (!bias.empty())
      buffers.arguments.push_back(bias[size_t(set)]);
    buffers.results.push_back(c[size_t(set)]);
  }
  KF_TRY(ours, makeOurSide(gpu, "ours", repeated(once, sets, runs), {}, std::move(buffers)));
  return {};
}

Expected<ProductOperands> ProductRun::operandsOf(int set) const {
  ProductOperands operands;
  const auto i = size_t(set);
  KF_TRY(operands.a, addressOf(gpu.context(), a[i], "a"));
  KF_TRY(operands.b, addressOf(gpu.context(), b[i], "b"));
  KF_TRY(operands.c, addressOf(gpu.context(), c[i], "c"));
  if (!bias.empty()) {
    KF_TRY(operands.bias, addressOf(gpu.context(), bias[i], "bias"));
  }
  return operands;
}

/// One sample into poisoned results: the error of the first set's.
Expected<double> ProductRun::verified(Side &side) {
  KF_CHECK(gpu.poison(c.front()));
  KF_TRY(const Ticket ticket, side.submit(nullptr, nullptr));
  KF_CHECK(gpu.queue()->wait(ticket));
  std::vector<uint16_t> result(size_t(product.m * product.n));
  KF_CHECK(gpu.download(c.front(), std::as_writable_bytes(std::span(result))));
  return errorOf(product, pool.slice(0, product.m * product.k),
                 pool.slice(1, product.n * product.k), pool.slice(2, product.n), result);
}

Status ProductRun::prepare(const Target &target, const MatmulOptions &options,
                           BufferRef workspaceMemory) {
  workspace = std::move(workspaceMemory);
  sets = std::clamp(int(std::ceil(beyondCache / product.bytes())), 2, mostSets);
  const double about = std::max(product.flops() / 700e12, product.bytes() / 4e12) + 2e-6;
  runs = std::clamp(int(options.sampleMilliseconds * 1e-3 / about), 2, mostRuns);
  sets = std::min(sets, runs);
  runs = (runs + sets - 1) / sets * sets;
  KF_CHECK(makeOperands());
  KF_CHECK(makeOurs(target, options));
  KF_TRY(error, verified(*ours));
  if (!(error < mostError))
    return makeError(ErrorKind::No, "our result is wrong", named.name(),
                     fmt::format("its error is {:.2e}", error), "report this as a bug");

  KF_TRY(const ProductOperands first, operandsOf(0));
  KF_TRY(const cuda::CUdeviceptr scratch, addressOf(gpu.context(), workspace, "workspace"));
  CublasLt::Plan plan;
  {
    const cuda::Context::Current current(gpu.context());
    KF_TRY(plan, library.plan(product, first.bias, options.algorithms));
  }
  for (size_t each = 0; each < plan.algorithms(); ++each) {
    auto put = [&](cuda::CUstream stream, int times) -> Status {
      for (int run = 0; run < times; ++run) {
        KF_TRY(const ProductOperands operands, operandsOf(run % sets));
        KF_CHECK(plan.run(each, operands, scratch, stream));
      }
      return {};
    };
    // What a library makes ready at its first call is not for a recording.
    KF_TRY(const Ticket ticket,
           gpu.queue()->enqueue([&](cuda::CUstream stream) { return put(stream, 1); }));
    KF_CHECK(gpu.queue()->wait(ticket));
    KF_TRY(theirs.emplace_back(),
           makeRecordedSide(gpu, fmt::format("cublasLt#{}", each),
                            [&](cuda::CUstream stream) { return put(stream, runs); }));
  }
  return {};
}

/// Which algorithms are measured in full: the first, and those that are fastest in a few rounds.
Status ProductRun::choose(Turns &turns, uint64_t seed) {
  std::vector<Side *> sides;
  for (const auto &side : theirs)
    sides.push_back(side.get());
  KF_TRY(const auto seconds, turns.time(sides, Pace::IdleGaps, choosingRounds, seed));
  std::vector<std::pair<double, size_t>> order;
  for (size_t i = 0; i < seconds.size(); ++i)
    order.emplace_back(median(seconds[i]), i);
  std::ranges::sort(order);
  order.resize(std::min(order.size(), finalists));
  kept = {0};
  for (const auto &[taken, which] : order)
    if (which != 0)
      kept.push_back(which);
  for (size_t which : kept) {
    KF_TRY(const double wrong, verified(*theirs[which]));
    libraryError = std::max(libraryError, wrong);
  }
  if (!(libraryError < mostError))
    return makeError(ErrorKind::No, "cuBLASLt's result is not what was asked for", named.name(),
                     fmt::format("its error is {:.2e}", libraryError),
                     "see how the product is described in CublasLt.cpp");
  return {};
}

Expected<std::vector<Row>> ProductRun::measure(Turns &turns, const MatmulOptions &options) {
  std::vector<Side *> sides{ours.get()};
  for (size_t which : kept)
    sides.push_back(theirs[which].get());
  std::vector<Row> rows;
  for (Pace pace : {Pace::IdleGaps, Pace::BackToBack}) {
    KF_TRY(auto seconds, turns.time(sides, pace, options.rounds, options.seed));
    for (std::vector<double> &side : seconds)
      for (double &each : side)
        each /= runs;
    size_t best = 1;
    for (size_t i = 2; i < sides.size(); ++i)
      if (median(seconds[i]) < median(seconds[best]))
        best = i;
    rows.push_back({named.name(), named.group, pace, median(seconds[0]), median(seconds[1]),
                    median(seconds[best]), sides[best]->name(), theirs.size(),
                    ratioOf(seconds[1], seconds[0]), ratioOf(seconds[best], seconds[0]), error,
                    libraryError, schedule, source});
  }
  return rows;
}

void print(const Row &row, const Product &product, bool json) {
  const double tera = product.flops() / row.ours * 1e-12, giga = product.bytes() / row.ours * 1e-9;
  if (json)
    fmt::print("{}\n", Json{{"name", row.name},
                            {"group", row.group},
                            {"pace", nameOf(row.pace)},
                            {"ours_us", row.ours * 1e6},
                            {"tflops", tera},
                            {"gb_per_s", giga},
                            {"first_us", row.first * 1e6},
                            {"best_us", row.best * 1e6},
                            {"best", row.bestName},
                            {"algorithms", row.algorithms},
                            {"ratio_first", toJson(row.toFirst)},
                            {"ratio_best", toJson(row.toBest)},
                            {"error", row.error},
                            {"peer_error", row.libraryError},
                            {"schedule", row.schedule},
                            {"schedule_source", row.source}}
                           .dump());
  else
    fmt::print("{:<28} {:<13} ours {:9.2f} us {:6.1f} TF {:5.0f} GB/s  first {:9.2f} best {:9.2f} "
               "({}, of {})  x{:.3f} ({:.3f}-{:.3f})  x{:.3f} ({:.3f}-{:.3f})  err {:.1e} {:.1e}  "
               "{} {}\n",
               row.name, nameOf(row.pace), row.ours * 1e6, tera, giga, row.first * 1e6,
               row.best * 1e6, row.bestName, row.algorithms, row.toFirst.middle, row.toFirst.low,
               row.toFirst.high, row.toBest.middle, row.toBest.low, row.toBest.high, row.error,
               row.libraryError, row.source, row.schedule);
  std::fflush(stdout);
}

/// Geometric means of the ratios, by pace and group, and of all but what is there twice: products
/// with what follows them.
void printMeans(const std::vector<Row> &rows, bool json) {
  struct Sum {
    double first = 0, best = 0;
    int count = 0;
  };
  std::map<std::pair<std::string, std::string>, Sum> sums;
  for (const Row &row : rows)
    for (const std::string &group : {row.group, std::string("all")}) {
      if (group == "all" && row.group == "epilogue")
        continue;
      Sum &sum = sums[{std::string(nameOf(row.pace)), group}];
      sum.first += std::log(row.toFirst.middle);
      sum.best += std::log(row.toBest.middle);
      ++sum.count;
    }
  for (const auto &[key, sum] : sums) {
    const double first = std::exp(sum.first / sum.count), best = std::exp(sum.best / sum.count);
    if (json)
      fmt::print("{}\n", Json{{"geomean", key.second},
                              {"pace", key.first},
                              {"products", sum.count},
                              {"ratio_first", first},
                              {"ratio_best", best}}
                             .dump());
    else
      fmt::print("geomean {:<13} {:<9} {:3} products  first x{:.3f}  best x{:.3f}\n", key.first,
                 key.second, sum.count, first, best);
  }
}

} // namespace

Status bench::compileProducts(const MatmulOptions &options, const std::string &chip) {
  KF_TRY(const Target target, parseTarget("cuda", chip, ""));
  for (const NamedProduct &named : options.products) {
    KF_TRY(const Program program,
           compileText(moduleOf(named.product), named.name(), target, options.records));
    KF_CHECK(checkProgram(repeated(program, 2, 3)));
    std::string schedules;
    for (const Artifact &artifact : program.artifacts)
      schedules += artifact.schedule;
    if (options.json)
      fmt::print(
          "{}\n",
          Json{{"name", named.name()}, {"group", named.group}, {"schedule", schedules}}.dump());
    else
      fmt::print("{:<28} {}\n", named.name(), schedules);
  }
  return {};
}

Status bench::compareProducts(const MatmulOptions &options) {
  KF_TRY(const CublasLt library, CublasLt::open(options.cublas));
  KF_TRY(const Gpu gpu, Gpu::open(options.cudaLibrary));
  DeviceOptions device;
  if (!options.cudaLibrary.empty())
    device.words["cuda-library"] = options.cudaLibrary;
  KF_TRY(const Target target, parseTarget("cuda", "native", "", device));
  const DeviceInfo &info = gpu.context().info();
  if (options.json)
    fmt::print("{}\n", Json{{"device", info.name},
                            {"driver", info.driver},
                            {"peer", library.version()},
                            {"rounds", options.rounds}}
                           .dump());
  else
    fmt::print("{}, {}, {}; xN: time of cuBLASLt's first and best algorithm to ours, median and "
               "quartiles of {} rounds\n",
               info.name, info.driver, library.version(), options.rounds);
  int64_t most = 0;
  for (const NamedProduct &named : options.products)
    most = std::max({most, named.product.m * named.product.k, named.product.n * named.product.k});
  const NumberPool pool(most);
  KF_TRY(Turns turns, Turns::make(gpu));
  KF_TRY(const BufferRef workspace,
         gpu.queue()->allocate(CublasLt::workspaceBytes, MemoryUse::Arena));
  std::vector<Row> rows;
  Status wrong; // the others are worth knowing, too
  for (const NamedProduct &named : options.products) {
    ProductRun run(gpu, library, pool, named);
    auto measured = [&]() -> Expected<std::vector<Row>> {
      KF_CHECK(run.prepare(target, options, workspace));
      KF_CHECK(run.choose(turns, options.seed));
      return run.measure(turns, options);
    }();
    if (!measured) {
      if (measured.error().kind == ErrorKind::Lost)
        return tl::unexpected(measured.error());
      fmt::print(stderr, "cuda-peers: {}: {}\n", named.name(), measured.error().line());
      wrong = tl::unexpected(measured.error());
      continue;
    }
    for (Row &row : *measured) {
      print(row, named.product, options.json);
      rows.push_back(std::move(row));
    }
  }
  printMeans(rows, options.json);
  return wrong;
}
