#include "kernelforge/support/Npy.h"

#include "kernelforge/support/CheckedArithmetic.h"
#include "kernelforge/support/MappedFile.h"
#include "kernelforge/support/OutputFile.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <optional>

namespace kernelforge {

namespace {

struct TypeRow {
  NpyType type;
  std::string_view descr; ///< in a header, after the byte order
  std::string_view name;
  uint64_t bytes;
};
constexpr TypeRow typeTable[] = {
    {NpyType::F16, "f2", "float16", 2}, {NpyType::F32, "f4", "float32", 4},
    {NpyType::F64, "f8", "float64", 8}, {NpyType::U8, "u1", "uint8", 1},
    {NpyType::U16, "u2", "uint16", 2},  {NpyType::I32, "i4", "int32", 4},
    {NpyType::I64, "i8", "int64", 8},
};
const TypeRow &rowOf(NpyType type) { return typeTable[static_cast<size_t>(type)]; }

constexpr std::string_view magic("\x93NUMPY", 6);
constexpr std::string_view purpose = "array file is not usable";

/// What a header says.
struct Header {
  std::optional<std::string_view> descr;
  std::optional<bool> fortranOrder;
  std::optional<std::vector<uint64_t>> shape;
};

/// Reads the header: a Python dictionary of strings, booleans and a tuple, and nothing else.
class HeaderParser {
public:
  HeaderParser(std::string_view text, const std::string &where) : rest(text), where(where) {}

  Expected<Header> parse() {
    KF_CHECK(expect('{'));
    while (!accept('}')) {
      KF_TRY(std::string_view key, string());
      KF_CHECK(expect(':'));
      KF_CHECK(value(key));
      if (!accept(',') && peek() != '}')
        return refuse("a ',' or '}' is missing after '" + std::string(key) + "'");
    }
    if (peek() != '\0')
      return refuse("its header goes on after the dictionary");
    for (auto [present, name] : {std::pair(header.descr.has_value(), "descr"),
                                 {header.fortranOrder.has_value(), "fortran_order"},
                                 {header.shape.has_value(), "shape"}})
      if (!present)
        return refuse(std::string("its header has no '") + name + "'");
    return std::move(header);
  }

private:
  tl::unexpected<Error> refuse(std::string why) const {
    return unusable(std::string(purpose), where, std::move(why));
  }

  /// The next character that is no white space; NUL at the end.
  char peek() {
    while (!rest.empty() && (rest[0] == ' ' || rest[0] == '\n' || rest[0] == '\t'))
      rest.remove_prefix(1);
    return rest.empty() ? '\0' : rest[0];
  }
  bool accept(char c) {
    if (peek() != c)
      return false;
    rest.remove_prefix(1);
    return true;
  }
  Status expect(char c) {
    if (!accept(c))
      return refuse(fmt::format("its header lacks a '{}'", c));
    return {};
  }

  Expected<std::string_view> string() {
    const char quote = peek();
    const size_t end = quote == '\'' || quote == '"' ? rest.find(quote, 1) : std::string_view::npos;
    if (end == std::string_view::npos)
      return refuse("its header has no string where one belongs");
    std::string_view text = rest.substr(1, end - 1);
    rest.remove_prefix(end + 1);
    return text;
  }

  template <typename T> Status setOnce(std::optional<T> &field, T value) {
    if (field)
      return refuse("its header says something twice");
    field = std::move(value);
    return {};
  }

  Status value(std::string_view key) {
    if (key == "descr") {
      KF_TRY(std::string_view descr, string());
      return setOnce(header.descr, descr);
    }
    if (key == "fortran_order")
      for (auto [word, meaning] : {std::pair<std::string_view, bool>("True", true),
                                   std::pair<std::string_view, bool>("False", false)})
        if (peek(); rest.starts_with(word)) {
          rest.remove_prefix(word.size());
          return setOnce(header.fortranOrder, meaning);
        }
    if (key == "shape")
      return shape();
    return refuse("its header's '" + std::string(key.substr(0, 40)) + "' is not understood");
  }

  Status shape() {
    std::vector<uint64_t> dimensions;
    KF_CHECK(expect('('));
    while (!accept(')')) {
      uint64_t dimension = 0;
      peek();
      auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), dimension);
      if (error != std::errc())
        return refuse("its shape holds something that is no size");
      rest.remove_prefix(static_cast<size_t>(end - rest.data()));
      dimensions.push_back(dimension);
      if (dimensions.size() > npyLimits::dimensions)
        return refuse(fmt::format("it has more than {} dimensions", npyLimits::dimensions));
      if (!accept(',') && peek() != ')')
        return refuse("its shape is not closed");
    }
    return setOnce(header.shape, std::move(dimensions));
  }

  std::string_view rest;
  const std::string &where;
  Header header;
};

Expected<NpyType> typeOf(std::string_view descr, const std::string &where) {
  if (!descr.empty() && (descr[0] == '<' || descr[0] == '|'))
    for (const TypeRow &row : typeTable)
      if (row.descr == descr.substr(1))
        return row.type;
  std::string known;
  for (const TypeRow &row : typeTable)
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  return unusable(std::string(purpose), where,
                  "its element type '" + std::string(descr.substr(0, 40)) + "' is not supported",
                  "write little-endian " + known);
}

} // namespace

uint64_t elementBytes(NpyType type) { return rowOf(type).bytes; }
std::string_view npyTypeName(NpyType type) { return rowOf(type).name; }

uint64_t NpyArray::elements() const { return checkedProduct(shape).value_or(0); }

Expected<NpyArray> parseNpy(std::span<const std::byte> bytes, const std::string &where) {
  auto refuse = [&](std::string why, std::string hint = "") {
    return unusable(std::string(purpose), where, std::move(why), std::move(hint));
  };
  std::string_view text(reinterpret_cast<const char *>(bytes.data()), bytes.size());
  if (!text.starts_with(magic) || text.size() < 10)
    return refuse("it does not begin as a .npy file", "write it with numpy.save");
  const int version = static_cast<unsigned char>(text[6]);
  if (version < 1 || version > 3)
    return refuse(fmt::format("its format version {} is not 1, 2 or 3", version));
  const size_t lengthBytes = version == 1 ? 2 : 4, start = 8 + lengthBytes;
  if (text.size() < start)
    return refuse("it ends in its header");
  uint64_t length = 0;
  for (size_t i = 0; i < lengthBytes; ++i)
    length |= uint64_t(static_cast<uint8_t>(text[8 + i])) << (8 * i);
  if (length > npyLimits::headerBytes || length > text.size() - start)
    return refuse(fmt::format("its header of {} bytes is beyond the file or the limit of {}",
                              length, npyLimits::headerBytes));

  KF_TRY(Header header, HeaderParser(text.substr(start, length), where).parse());
  NpyArray array;
  KF_TRY(array.type, typeOf(*header.descr, where));
  array.shape = std::move(*header.shape);
  if (*header.fortranOrder && array.shape.size() > 1)
    return refuse("it is in Fortran order", "write numpy.ascontiguousarray(array)");
  auto elements = checkedProduct(array.shape);
  auto wanted = elements ? checkedMul(*elements, elementBytes(array.type)) : std::nullopt;
  const uint64_t left = text.size() - start - length;
  if (!wanted || *wanted != left)
    return refuse(fmt::format("it holds {} bytes of data where a {} array of shape [{}] takes {}",
                              left, npyTypeName(array.type), fmt::join(array.shape, ", "),
                              wanted ? std::to_string(*wanted) : "more than 2^64"));
  auto data = bytes.subspan(start + length);
  array.data.assign(data.begin(), data.end());
  return array;
}

Expected<NpyArray> readNpy(const std::string &path) {
  KF_TRY(MappedFile file, MappedFile::open(path, purpose));
  return parseNpy(file.bytes(), path);
}

Status writeNpy(const std::filesystem::path &path, NpyType type, std::span<const uint64_t> shape,
                std::span<const std::byte> data) {
  std::string header = fmt::format("{{'descr': '{}{}', 'fortran_order': False, 'shape': ({}{}), }}",
                                   elementBytes(type) == 1 ? '|' : '<', rowOf(type).descr,
                                   fmt::join(shape, ", "), shape.size() == 1 ? "," : "");
  // The data begin at a multiple of 64, behind spaces and a newline.
  constexpr size_t fixed = 10;
  const size_t total = (fixed + header.size() + 1 + 63) / 64 * 64;
  header.append(total - fixed - header.size() - 1, ' ');
  header += '\n';
  std::string bytes(magic);
  bytes += {'\x01', '\0', static_cast<char>(header.size() & 0xff),
            static_cast<char>(header.size() >> 8)};
  bytes += header;
  bytes.append(reinterpret_cast<const char *>(data.data()), data.size());
  return writeOutput(path, bytes);
}

} // namespace kernelforge
