// What the evaluation measures, as data: a suite is a JSON document that lists kernels and their
// sizes; everything else reads it.
#pragma once

#include "kernelforge/kernels/MatmulKernel.h"
#include "kernelforge/support/Json.h"

#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace kernelforge {

/// A matmul as a measurement row has it.
Json problemJson(const MatmulProblem &problem);

/// Attention of `rows` new rows of one sequence, of which `past` positions are cached, over the
/// caches' past and the rows themselves, causal.
struct AttentionProblem {
  int64_t heads = 1, kvHeads = 1, headDim = 64;
  ElementType cache = ElementType::F32;
  int64_t rows = 1, past = 0;
  Numerics numerics = Numerics::F32;
};

/// One operation over rows of `width` f32. Of a rope, the rows are heads of `headDim`.
struct RowwiseProblem {
  enum class Operation { RmsNorm, LayerNorm, Softmax, Rope, SiluMul, Add };
  Operation operation = Operation::RmsNorm;
  int64_t rows = 1, width = 1, headDim = 0;

  /// Arithmetic operations of the definition, of which exp, a division and a maximum are one each;
  /// what is once a row, as a square root, is left out.
  double flops() const;
};

/// Decoder layers with all their kernels fused: `rows` new rows of one sequence after `past`.
struct BlockProblem {
  int64_t modelDim = 1, heads = 1, kvHeads = 1, headDim = 1, ffnDim = 1, layers = 1;
  ElementType weights = ElementType::F32;
  int64_t rows = 1, past = 0;
  Numerics numerics = Numerics::F32; ///< of the operations that can have them
};

/// A function of the user's own module.
struct ModuleProblem {
  std::string file, function; ///< the function may be empty where the module has one only
  std::map<std::string, int64_t> sizes;
  int64_t past = 0;
};

/// One kernel at one size.
struct SuiteRow {
  std::string name;   ///< unique in its suite: "smollm2/qkv/m1"
  std::string family; ///< "matmul", "attention", "rowwise", "block" or "module"
  std::variant<MatmulProblem, AttentionProblem, RowwiseProblem, BlockProblem, ModuleProblem>
      problem;

  /// The problem as a measurement row has it.
  Json problemJson() const;
};

struct Suite {
  std::string name, summary;
  std::vector<SuiteRow> rows;
  Json document;    ///< what it was read from
  std::string hash; ///< 16 hexadecimal digits of its rows, modules' text included: equal hashes
                    ///< measure the same
};

/// Reads a suite document:
///     {"name", "summary", "rows": [{"name", "family", sizes...}, ...]}
/// A size, a type or a past may be a list: the row then stands for one row of each combination,
/// whose names end in "/m8", "/q4_1", "/past512", ... Fields by family (docs/evaluation.md):
///     matmul     m, n, k, weights ("f32"), transpose (false), epilogue (""), numerics ("exact")
///     attention  heads, kv_heads, head_dim, cache ("f32"), rows, past (0), numerics ("exact")
///     rms_norm, layer_norm, softmax, silu_mul, add    rows, width
///     rope       rows, heads, head_dim
///     block      d_model, heads, kv_heads, head_dim, d_ff, layers (1), weights, rows, past (0),
///                numerics ("exact")
///     module     file (beside the suite's), function, sizes, past (0)
/// `folder` is where files are looked for. Unusable, naming the field, where one is missing, not
/// known or out of range, or a name is given twice.
Expected<Suite> parseSuite(const JsonView &root, const std::string &folder = "");

/// The document of a suite by name (one that comes with the program) or of a file. Missing, with
/// the names that there are, where there is neither.
Expected<JsonDocument> suiteDocument(const std::string &nameOrFile);

/// The same, read.
Expected<Suite> findSuite(const std::string &nameOrFile);

/// A whole suite with these numerics in each matmul, attention and block that can have them and
/// does not say its own.
Suite withNumerics(Suite suite, const ChosenNumerics &numerics);

/// The suites that come with the program, in the order in which they are listed.
std::vector<std::string> suiteNames();

/// `suite` with the rows only whose names contain a match of the regular expression. Unusable where
/// it is none, or matches no row.
Expected<Suite> filterSuite(Suite suite, const std::string &regex);

} // namespace kernelforge
