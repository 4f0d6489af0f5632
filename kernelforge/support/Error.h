// Errors as values: what failed, where, why and what to do about it. Library code returns them;
// only the tools turn them into exit codes.
#pragma once

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace kernelforge {

/// Why a request could not be met; each kind but Lost is one exit code of the command line.
enum class ErrorKind {
  No = 1,       ///< It ran and the answer is no (regression found, verification failed).
  Unusable = 2, ///< Wrong usage, a defect in an input, or refused before allocation.
  Missing = 3,  ///< Something is not here: a device, a library, a model name, a key.
  Failed = 4,   ///< It failed part-way: I/O, memory, device, network.
  /// A device is lost and its memory with it; another one can be made. To whoever asked for a
  /// result it is Failed.
  Lost = 5,
  Interrupted = 130 ///< The user stopped it.
};

/// One failure. `what` and `why` are never empty; `where` names the file, field, offset or op;
/// `hint` says what to do. Control characters are escaped when printed, not here.
struct Error {
  ErrorKind kind = ErrorKind::Failed;
  std::string what;
  std::string where;
  std::string why;
  std::string hint;

  // Every call that can fail makes, moves and drops one: thousands of places, most of them cold.
  // Were these inline, compiling them would take longer than much of what they stand in.
  Error();
  Error(ErrorKind kind, std::string what, std::string where, std::string why,
        std::string hint = "");
  Error(const Error &other);
  Error(Error &&other) noexcept;
  Error &operator=(const Error &other);
  Error &operator=(Error &&other) noexcept;
  ~Error();

  /// "WHAT (WHERE): WHY; WHAT TO DO", control characters escaped: one line, always.
  std::string line() const;
};

template <typename T> using Expected = tl::expected<T, Error>;
using Status = Expected<void>;

/// Shorthands: `return unusable("model file is not usable", path, "bad magic");`
tl::unexpected<Error> makeError(ErrorKind kind, std::string_view what, std::string_view where,
                                std::string_view why, std::string_view hint = "");
tl::unexpected<Error> unusable(std::string_view what, std::string_view where, std::string_view why,
                               std::string_view hint = "");
tl::unexpected<Error> missing(std::string_view what, std::string_view where, std::string_view why,
                              std::string_view hint = "");
tl::unexpected<Error> failed(std::string_view what, std::string_view where, std::string_view why,
                             std::string_view hint = "");

/// Escapes control characters (and DEL) as \xNN, so that text from a file or a server can be
/// printed on one line of a terminal.
std::string escapeControls(std::string_view text);

} // namespace kernelforge

#define KF_CONCAT_IMPL(a, b) a##b
#define KF_CONCAT(a, b) KF_CONCAT_IMPL(a, b)

/// KF_TRY(auto x, f()): x is the value of f(), or the enclosing function returns its error.
#define KF_TRY(declaration, expression)                                                            \
  KF_TRY_IMPL(KF_CONCAT(kfResult, __LINE__), declaration, expression)
#define KF_TRY_IMPL(result, declaration, expression)                                               \
  auto result = (expression);                                                                      \
  if (!result)                                                                                     \
    return tl::unexpected<::kernelforge::Error>(std::move(result).error());                        \
  declaration = std::move(*result)

/// KF_CHECK(f()): the enclosing function returns f()'s error if there is one.
#define KF_CHECK(expression)                                                                       \
  do {                                                                                             \
    if (auto kfStatus = (expression); !kfStatus)                                                   \
      return tl::unexpected<::kernelforge::Error>(std::move(kfStatus).error());                    \
  } while (false)
