// A program as a file: what runs, for which target, on what, and what must come out. It is run,
// verified and timed on a machine that compiled nothing (ProgramRun.h).
#pragma once

#include "kernelforge/backend/Program.h"
#include "kernelforge/codegen/Target.h"
#include "kernelforge/problem/FunctionData.h"
#include "kernelforge/support/WeightLayout.h"

#include "mlir/IR/BuiltinOps.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge {

/// What to do about a file that cannot be used.
inline constexpr const char *writeProgramAgain =
    "write it again with `kernelforge compile --emit program`";

struct ProgramFile {
  Target target;
  int convention = 0; ///< the target's calling convention when the program was compiled
  std::string madeBy; ///< version and commit of the build that wrote it, for people

  Program program;
  std::vector<WeightLayout> layouts; ///< by argument: that it is bound in

  /// The module as it was written: names, dynamic sizes and uses of the function's arguments. It is
  /// not compiled again.
  std::string module;
  std::string function;

  SizeValues sizes; ///< that `expected` is for
  /// Where given, the arguments are what randomData makes of it, so that the file stays small; else
  /// they are `inputs`, the bytes of each.
  std::optional<uint64_t> seed;
  std::vector<std::string> inputs;
  std::string inputsHash; ///< of all arguments before a run, by hashOfInputs
  /// Bytes that the reference semantics give: results, then written caches.
  std::vector<std::string> expected;
  /// What each may be off by, as a multiple of its largest value (tolerancesOf); empty: as its type
  /// says.
  std::vector<double> tolerances;
};

/// What one function of `compiled` becomes, a module at stage Scheduled whose kernels are
/// `artifacts`: on `data` before a run, with the outputs that are `expected` of it. `seed` is what
/// `data` was made of, where it is random. The text of the module as it was written, and
/// tolerances, are left to the caller. Errors as buildProgram's.
Expected<ProgramFile> makeProgramFile(mlir::ModuleOp compiled, const FunctionSignature &signature,
                                      const std::vector<Artifact> &artifacts, const Target &target,
                                      const FunctionData &data, std::optional<uint64_t> seed,
                                      const std::vector<TensorData> &expected);

/// SHA-256 over the bytes of all arguments, in order.
std::string hashOfInputs(const FunctionData &data);

/// A whole file.
std::string writeProgramFile(const ProgramFile &file);

/// The same back, from bytes that nobody vouches for; `where` is the file's name. Unusable, in one
/// line, where they are no program file, cut short, damaged (every section has a checksum), of
/// another format, or inconsistent (checkProgram).
Expected<ProgramFile> readProgramFile(std::string_view bytes, const std::string &where);

/// The arguments that the file was made with, and room for the results. Unusable where they do not
/// fit the signature of the file's function, or this build makes other random numbers of the seed.
Expected<FunctionData> dataOf(const ProgramFile &file, const FunctionSignature &signature);

/// The expected values as tensors like `data`'s outputs (outputsOf). Unusable where their sizes
/// differ.
Expected<std::vector<TensorData>>
expectedOf(const ProgramFile &file, const FunctionSignature &signature, const FunctionData &data);

} // namespace kernelforge
