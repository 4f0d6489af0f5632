#include "kernelforge/compiler/ProgramBuilder.h"

#include "kernelforge/compiler/MemoryPlan.h"
#include "kernelforge/ir/Transformer.h"

#include <map>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

namespace {

class ProgramBuilder {
public:
  ProgramBuilder(func::FuncOp function, const std::vector<Artifact> &artifacts, int64_t alignment)
      : function(function), all(artifacts), alignment(alignment) {}

  Expected<Program> build() {
    program.function = function.getSymName().str();
    if (!function.getBody().hasOneBlock())
      return refuse(function, "it has more than one block");
    KF_CHECK(addArguments());
    for (Operation &op : function.getBody().front().without_terminator()) {
      auto launch = dyn_cast<LaunchOp>(op);
      if (!launch)
        return refuse(&op, "only operations of the transformer dialect can be run",
                      "pass what it computes as an argument of the function");
      KF_CHECK(addLaunch(launch));
    }
    KF_CHECK(addResults());
    KF_CHECK(placeIntermediates());
    return std::move(program);
  }

private:
  tl::unexpected<Error> refuse(Operation *op, const std::string &why,
                               const std::string &hint = "") {
    return unusable("function cannot be compiled",
                    function.getSymName().str() + ", " + op->getName().getStringRef().str(), why,
                    hint);
  }

  Status addArguments() {
    for (BlockArgument argument : function.getArguments()) {
      unsigned index = argument.getArgNumber();
      Type type = argument.getType();
      if (auto size = function.getArgAttrOfType<SizeAttr>(index, sizeAttrName)) {
        sizes[argument.getAsOpaquePointer()] = static_cast<int>(program.sizes.size());
        if (!sizeByName.emplace(size.getName().str(), program.sizes.size()).second)
          return refuse(function, "it takes size '" + size.getName().str() + "' twice",
                        "leave one of the two out");
        program.sizes.push_back({size.getName().str(), size.getMin(), size.getMax()});
        continue;
      }
      Buffer buffer{argumentName(function, index), BufferKind::Argument, Extent{0}, 0};
      if (isa<CacheType>(type)) {
        buffer.kind = BufferKind::Cache;
      } else if (isa<RankedTensorType>(type)) {
        if (function.getArgAttr(index, weightAttrName))
          buffer.kind = BufferKind::Weight;
        KF_TRY(buffer.bytes, bytesOf(cast<RankedTensorType>(type)));
      } else {
        return refuse(function, "argument " + std::to_string(index) +
                                    " is neither a size, a tensor nor a cache");
      }
      program.arguments.push_back(addBuffer(argument, std::move(buffer)));
    }
    return {};
  }

  /// Bytes of a tensor over the program's sizes: rows of a fixed length times what they follow.
  Expected<Extent> bytesOf(RankedTensorType type) {
    if (type.getRank() == 2 && type.isDynamicDim(1) && elementTypeOf(type) == ElementType::I32)
      return Extent{0}; // a block table: its extent is the caller's
    auto one = weightBytes(type, 1);
    if (!one)
      return refuse(function, "it has a tensor without a size in bytes");
    if (!type.isDynamicDim(0)) {
      auto bytes = weightBytes(type);
      if (!bytes || *bytes > static_cast<uint64_t>(INT64_MAX))
        return refuse(function, "the size of one of its tensors overflows");
      return Extent{static_cast<int64_t>(*bytes)};
    }
    auto size = sizeByName.find(rowsSizeName(type).str());
    if (size == sizeByName.end())
      return refuse(function,
                    "it has a tensor that follows size '" + rowsSizeName(type).str() +
                        "', which it does not take before it",
                    "move the size to the front of the arguments");
    return Extent{static_cast<int64_t>(*one), size->second};
  }

  int addBuffer(Value value, Buffer buffer) {
    int index = static_cast<int>(program.buffers.size());
    program.buffers.push_back(std::move(buffer));
    lifetimes.push_back({});
    if (value)
      buffers[value.getAsOpaquePointer()] = index;
    return index;
  }

  /// Index of a kernel's artifact in this program; artifacts that it does not launch stay out.
  Expected<int> artifactOf(LaunchOp launch) {
    std::string name = launch.getKernel().str();
    if (auto known = artifacts.find(name); known != artifacts.end())
      return known->second;
    for (const Artifact &artifact : all)
      if (artifact.kernel == name) {
        // Kernels that differ in their names alone have the same code: it is loaded once.
        auto same = llvm::find_if(program.artifacts, [&](const Artifact &other) {
          return other.entry == artifact.entry && other.codeHash == artifact.codeHash;
        });
        int index = static_cast<int>(same - program.artifacts.begin());
        if (same == program.artifacts.end())
          program.artifacts.push_back(artifact);
        artifacts[name] = index;
        return index;
      }
    return refuse(launch, "kernel @" + name + " has no code");
  }

  /// A kernel's code is made for its own sizes and their ranges: it must be launched with the sizes
  /// of those names, and with no others than it was made for.
  Status checkSizes(LaunchOp op) {
    auto kernel = SymbolTable::lookupNearestSymbolFrom<KernelOp>(op, op.getKernelAttr());
    for (unsigned i = 0; i < kernel.getNumSizes(); ++i) {
      SizeAttr wanted = kernel.getSize(i);
      const ProgramSize &given = program.sizes[sizes.at(op.getOperands()[i].getAsOpaquePointer())];
      auto text = [](StringRef name, int64_t min, int64_t max) {
        return "'" + name.str() + "' (" + std::to_string(min) + " to " + std::to_string(max) + ")";
      };
      if (given.name != wanted.getName().getValue() || given.min < wanted.getMin() ||
          given.max > wanted.getMax())
        return refuse(op, "kernel @" + op.getKernel().str() + " takes size " +
                              text(wanted.getName(), wanted.getMin(), wanted.getMax()) +
                              " and is given " + text(given.name, given.min, given.max));
    }
    return {};
  }

  Status addLaunch(LaunchOp op) {
    Launch launch;
    KF_TRY(launch.artifact, artifactOf(op));
    KF_CHECK(checkSizes(op));
    launch.layer = op.getLayer() ? static_cast<int>(*op.getLayer()) : -1;
    int now = static_cast<int>(program.launches.size());
    for (Value operand : op.getOperands()) {
      if (operand.getType().isIndex()) {
        launch.sizes.push_back(sizes.at(operand.getAsOpaquePointer()));
        continue;
      }
      int buffer = buffers.at(operand.getAsOpaquePointer());
      lifetimes[buffer].last = now;
      launch.buffers.push_back(buffer);
    }
    for (Value result : op.getOutputs()) {
      KF_TRY(Extent bytes, bytesOf(cast<RankedTensorType>(result.getType())));
      launch.buffers.push_back(addBuffer(result, {"", BufferKind::Intermediate, bytes, 0}));
      lifetimes.back() = {0, now, now};
    }
    const Artifact &artifact = program.artifacts[launch.artifact];
    for (const Workspace &workspace : artifact.launching.workspaces) {
      if (workspace.contents == Workspace::Contents::ZeroedOnce) {
        launch.buffers.push_back(-1);
        continue;
      }
      Extent bytes = workspace.bytes;
      for (Term &term : bytes.product)
        term.size = launch.sizes[term.size];
      launch.buffers.push_back(addBuffer({}, {"workspace", BufferKind::Intermediate, bytes, 0}));
      lifetimes.back() = {0, now, now};
    }
    program.launches.push_back(std::move(launch));
    return {};
  }

  /// A launch writes each of its results where the caller wants it, once; what is returned a second
  /// time, and what is an argument, is copied.
  Status addResults() {
    Operation *terminator = function.getBody().front().getTerminator();
    for (Value value : terminator->getOperands()) {
      auto tensor = dyn_cast<RankedTensorType>(value.getType());
      const std::string name = "result" + std::to_string(program.results.size());
      if (!tensor)
        return refuse(terminator, name + " is no tensor");
      const int from = buffers.at(value.getAsOpaquePointer());
      Buffer &buffer = program.buffers[from];
      if (buffer.kind == BufferKind::Intermediate) {
        buffer.kind = BufferKind::Argument;
        buffer.name = name;
        program.results.push_back(from);
        continue;
      }
      KF_TRY(Extent bytes, copiedBytes(tensor));
      const int to = addBuffer({}, {name, BufferKind::Argument, buffer.bytes, 0});
      program.results.push_back(to);
      program.copies.push_back({from, to, std::move(bytes)});
    }
    return {};
  }

  /// Bytes of any tensor over the program's sizes, those of a block table too.
  Expected<Extent> copiedBytes(RankedTensorType type) {
    KF_TRY(Extent bytes, bytesOf(type));
    if (type.getRank() < 2 || !type.isDynamicDim(1))
      return bytes;
    Extent product = static_cast<int64_t>(*rowBytes(*elementTypeOf(type), 1));
    auto names = cast<DimsAttr>(type.getEncoding()).getNames();
    size_t named = 0;
    for (int64_t extent : type.getShape()) {
      auto size =
          ShapedType::isDynamic(extent) ? sizeByName.find(names[named++].str()) : sizeByName.end();
      if (ShapedType::isDynamic(extent) && size == sizeByName.end())
        return refuse(function, "it has a tensor that follows a size it does not take");
      product = product * (ShapedType::isDynamic(extent) ? Extent(1, size->second) : extent);
    }
    return product;
  }

  Status placeIntermediates() {
    std::vector<int64_t> largest;
    for (const ProgramSize &size : program.sizes)
      largest.push_back(size.max);
    std::vector<int> placed;
    std::vector<Lifetime> live;
    for (size_t i = 0; i < program.buffers.size(); ++i)
      if (program.buffers[i].kind == BufferKind::Intermediate) {
        Lifetime lifetime = lifetimes[i];
        auto bytes = checkedExtent(program.buffers[i].bytes, largest);
        if (!bytes)
          return refuse(function, "the size of an intermediate overflows",
                        "give its sizes smaller maxima");
        lifetime.bytes = static_cast<int64_t>(*bytes);
        placed.push_back(static_cast<int>(i));
        live.push_back(lifetime);
      }
    KF_TRY(MemoryPlan plan, planMemory(live, alignment));
    for (size_t i = 0; i < placed.size(); ++i)
      program.buffers[placed[i]].offset = plan.offsets[i];
    program.arenaBytes = plan.arenaBytes;
    return {};
  }

  func::FuncOp function;
  const std::vector<Artifact> &all;
  const int64_t alignment;
  Program program;
  std::map<const void *, int> sizes, buffers;
  std::map<std::string, int> sizeByName, artifacts;
  std::vector<Lifetime> lifetimes; ///< of each buffer, by index
};

} // namespace

std::vector<func::FuncOp> kernelforge::programFunctions(ModuleOp module) {
  const llvm::StringSet<> code = kernelCode(module);
  std::vector<func::FuncOp> functions;
  for (auto function : module.getOps<func::FuncOp>()) {
    if (function.isExternal() || code.contains(function.getSymName()))
      continue;
    Block &body = function.getBody().front();
    const bool launches = llvm::any_of(body, [](Operation &op) { return isa<LaunchOp>(op); });
    // Code of others may stand beside ours: what gives numbers, say, is no function of tensors.
    auto isTensor = [](Type type) { return isa<RankedTensorType>(type); };
    auto isArgument = [](Type type) {
      return type.isIndex() || isa<RankedTensorType, CacheType>(type);
    };
    const bool gives = function.getBody().hasOneBlock() && llvm::hasSingleElement(body) &&
                       function.getNumResults() > 0 &&
                       llvm::all_of(function.getResultTypes(), isTensor) &&
                       llvm::all_of(function.getArgumentTypes(), isArgument);
    if (launches || gives)
      functions.push_back(function);
  }
  return functions;
}

Expected<Program> kernelforge::buildProgram(func::FuncOp function,
                                            const std::vector<Artifact> &artifacts,
                                            const Limits &limits) {
  return ProgramBuilder(function, artifacts, std::max<int64_t>(64, limits.bufferAlignment)).build();
}
