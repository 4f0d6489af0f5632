// The user's handle: compile a module, bind its weights and buffers by name, run its functions.
#pragma once

#include "kernelforge/backend/Device.h"
#include "kernelforge/codegen/Target.h"
#include "kernelforge/compiler/Targets.h"
#include "kernelforge/measure/Timing.h"
#include "kernelforge/records/RecordStore.h"
#include "kernelforge/support/ElementType.h"
#include "kernelforge/support/Error.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace kernelforge {

struct SessionOptions {
  Target target; ///< from parseTarget, or referenceTarget: the same module runs on any
  /// Where set, makes the device, instead of the registry: for tests.
  std::function<Expected<std::unique_ptr<Device>>()> openDevice = {};
  DeviceOptions device = {};          ///< options of the device; threads and poison are those below
  int threads = 0;                    ///< 0: the physical cores that this process may use
  bool fuse = true;                   ///< false: every operation is a kernel of its own
  bool cache = true;                  ///< keep compiled kernels in objectsDirectory()
  std::optional<RecordStore> records; ///< where set: whose winners kernels get
  bool poison = false; ///< for tests: fill with NaN what a kernel must write before it reads
  std::filesystem::path dumpFolder; ///< where set: the module after each pass that changed it
};

/// What compiling took.
struct CompileStatistics {
  int kernels = 0;                            ///< distinct kernels of all functions
  int fromCache = 0;                          ///< of those, read from disk
  double seconds = 0;                         ///< passes, code generation, loading
  std::map<std::string, int> scheduleSources; ///< kernels by where their schedule is from
  std::map<std::string, int> variants;        ///< kernels that are not generated, by what runs them
};

struct RunOptions {
  /// Where given, set to the nanoseconds of each launch, by index in Program::launches.
  std::vector<int64_t> *launchNanoseconds = nullptr;
  /// Where given, a true value ends the run between two launches with ErrorKind::Interrupted.
  const std::atomic<bool> *cancel = nullptr;
  /// For tests: results begin as the caller's memory holds them, wherever the device writes them,
  /// so that what a run leaves unwritten shows.
  bool keepResults = false;
};

/// One module on one device.
class Session {
public:
  /// Missing where this machine cannot run the target's code.
  static Expected<std::unique_ptr<Session>> create(SessionOptions options);
  ~Session();

  /// The context that modules for this session are built in.
  mlir::MLIRContext &context();

  /// Compiles all functions of `module` for this session's target; a second call is refused. A
  /// module of any stage is taken up where it is.
  Status compile(mlir::OwningOpRef<mlir::ModuleOp> module);

  /// The module as it was compiled: kernels, launches and schedules.
  mlir::ModuleOp module();

  /// Binds a weight, in all functions that take one of that name. `data` holds the matrix row-major
  /// as in the file, of the element type that the functions declare. It is brought into the
  /// weight's layout now, in parallel, or, where the layout is row-major and the device shares the
  /// host's memory, read where it is. `data` must stay: reopen() reads it again. Unusable where no
  /// function takes that weight, functions declare it in different ways, or its type or size
  /// differs.
  Status bindWeight(const std::string &name, ElementType type, std::span<const std::byte> data);

  /// Binds an input or a cache by name, in all functions that take it; it must stay until the runs
  /// that use it are over. A weight that has a layout is left alone: its bytes are bindWeight()'s.
  Status bind(const std::string &name, std::span<std::byte> data);

  /// The same for memory of the session's device, such as a cache that stays there.
  void bind(const std::string &name, const BufferRef &buffer);

  /// What the functions run on.
  Device &device();
  const Device &device() const;

  /// Makes another device where this one was lost (ErrorKind::Lost), loads the functions and brings
  /// the weights there again. What was bound of the device's own memory, such as caches, is gone:
  /// it is to be allocated and bound again.
  Status reopen();

  /// Names of the function's tensor and cache arguments, in order.
  std::vector<std::string> arguments(const std::string &function) const;

  /// Runs a function. `sizes` in the order of its size arguments; `results` in the order of its
  /// results, written when this returns. Unusable where an argument was not bound, or memory is too
  /// small for these sizes.
  Status run(const std::string &function, std::span<const int64_t> sizes,
             std::span<const std::span<std::byte>> results, const RunOptions &options = {});

  /// A function bound to memory of the device's alone, for runs that nobody waits for between them:
  /// arguments as they are bound by name, but those that are among `others`, and `results` in the
  /// order of its results. The caller brings to the device what the host wrote, submits and waits
  /// there; run() and what this gives run one after the other. It is to go before reopen(), and
  /// before what it is bound to. Unusable where there is no such function, an argument is not
  /// bound, or memory is too small.
  Expected<std::unique_ptr<BoundProgram>>
  bindOnDevice(const std::string &function, const std::map<std::string, BufferRef> &others,
               std::vector<BufferRef> results);

  /// Calls of run() to be timed: by the device's clock where it has one of its own, without what is
  /// copied to and fro, on what is bound now and not before another run of the function; else by
  /// the host's. Errors as those of run(). `sizes` and `results` must stay.
  Expected<TimedCalls> timed(const std::string &function, std::span<const int64_t> sizes,
                             std::span<const std::span<std::byte>> results);

  /// The program of a function; null where there is none of that name.
  const Program *program(const std::string &function) const;

  /// What the device says of that program's kernels, by index in Program::artifacts; empty where
  /// there is no such function.
  std::vector<KernelResources> resources(const std::string &function) const;

  const CompileStatistics &statistics() const;
  const SessionOptions &options() const;

  /// Bytes held in packed weights, and in arenas and scratch.
  int64_t packedBytes() const;
  int64_t scratchBytes() const;

private:
  struct Implementation;
  explicit Session(std::unique_ptr<Implementation> implementation);
  std::unique_ptr<Implementation> implementation;
};

} // namespace kernelforge
