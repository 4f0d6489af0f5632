#include "TensorFiles.h"

#include "kernelforge/ir/Caches.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstring>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cli;
using namespace kernelforge::transformer;

namespace {

/// How a tensor's elements travel in a file.
struct FileForm {
  NpyType type;
  bool bytes = false; ///< the last dimension counts bytes, not elements
};

FileForm formOf(ElementType type, bool cache) {
  if (cache)
    return {NpyType::F32};
  switch (type) {
  case ElementType::F32:
    return {NpyType::F32};
  case ElementType::F16:
    return {NpyType::F16};
  case ElementType::BF16:
    return {NpyType::U16};
  case ElementType::I32:
    return {NpyType::I32};
  default:
    return {NpyType::U8, true};
  }
}

/// Shape of a tensor in its file; a dynamic extent is -1.
std::vector<int64_t> fileShape(std::vector<int64_t> shape, ElementType type, const FileForm &form) {
  if (form.bytes)
    shape.back() = static_cast<int64_t>(rowBytes(type, shape.back()).value_or(0));
  return shape;
}

std::string describe(NpyType type, const std::vector<int64_t> &shape) {
  std::string text;
  for (int64_t extent : shape)
    text += (text.empty() ? "" : ", ") + (extent < 0 ? std::string("?") : std::to_string(extent));
  return std::string(npyTypeName(type)) + " [" + text + "]";
}

bool fits(const NpyArray &array, const FileForm &form, const std::vector<int64_t> &shape) {
  if (array.type != form.type || array.shape.size() != shape.size())
    return false;
  for (size_t i = 0; i < shape.size(); ++i)
    if (array.shape[i] > uint64_t(INT64_MAX) ||
        (shape[i] >= 0 && array.shape[i] != static_cast<uint64_t>(shape[i])))
      return false;
  return true;
}

tl::unexpected<Error> misfit(const std::string &file, const std::string &name,
                             const NpyArray &array, const FileForm &form,
                             const std::vector<int64_t> &shape) {
  return unusable("array does not fit", file,
                  fmt::format("'{}' is {}, the file holds {}", name, describe(form.type, shape),
                              describe(array.type, {array.shape.begin(), array.shape.end()})));
}

} // namespace

/// Element type and shape of an argument, with -1 for what the array says.
static std::pair<ElementType, std::vector<int64_t>> typeAndShape(const FunctionArgument &argument) {
  if (argument.isCache()) {
    const CacheSlot slot = slotOf(cast<CacheType>(argument.type));
    return {slot.type, {-1, slot.heads, slot.dim}};
  }
  std::vector<int64_t> shape;
  for (int64_t extent : argument.tensor().getShape())
    shape.push_back(ShapedType::isDynamic(extent) ? -1 : extent);
  return {*elementTypeOf(argument.tensor()), shape};
}

/// Adds the sizes that the array of an argument settles.
static Status settleSizes(const FunctionArgument &argument, const NpyArray &array,
                          const std::string &file, SizeValues &sizes) {
  if (argument.isCache() || argument.tensor().hasStaticShape())
    return {};
  auto names = cast<DimsAttr>(argument.tensor().getEncoding()).getNames();
  size_t named = 0;
  for (int64_t i = 0; i < argument.tensor().getRank(); ++i) {
    if (!argument.tensor().isDynamicDim(i))
      continue;
    const std::string name = names[named++].str();
    const auto extent = static_cast<int64_t>(array.shape[i]);
    auto [known, added] = sizes.emplace(name, extent);
    if (!added && known->second != extent)
      return unusable("array does not fit", file,
                      fmt::format("'{}' has {} = {}, elsewhere it is {}", argument.name, name,
                                  extent, known->second));
  }
  return {};
}

static Status fill(TensorData &tensor, bool cache, const NpyArray &array) {
  if (!cache || tensor.type == ElementType::F32) {
    std::memcpy(tensor.memory.data(), array.data.data(), array.data.size());
    return {};
  }
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  std::memcpy(values.data(), array.data.data(), array.data.size());
  for (uint64_t row = 0; row < tensor.rows(); ++row)
    tensor.setRow(row, values.data() + row * tensor.rowElements());
  return {};
}

Expected<FunctionData> cli::dataFromFiles(const FunctionSignature &signature,
                                          const SizeValues &given,
                                          const std::vector<std::string> &files) {
  if (files.size() != signature.arguments.size()) {
    std::string wanted;
    for (const FunctionArgument &argument : signature.arguments) {
      auto [type, shape] = typeAndShape(argument);
      const FileForm form = formOf(type, argument.isCache());
      wanted += (wanted.empty() ? "" : ", ") + argument.name + " " +
                describe(form.type, fileShape(shape, type, form));
    }
    return unusable("inputs do not fit", "--input",
                    fmt::format("@{} takes {} arrays, {} are given", signature.name,
                                signature.arguments.size(), files.size()),
                    wanted.empty() ? "" : "give " + wanted);
  }
  SizeValues sizes = given;
  std::vector<NpyArray> arrays;
  for (size_t i = 0; i < files.size(); ++i) {
    const FunctionArgument &argument = signature.arguments[i];
    KF_TRY(NpyArray array, readNpy(files[i]));
    auto [type, shape] = typeAndShape(argument);
    const FileForm form = formOf(type, argument.isCache());
    shape = fileShape(shape, type, form);
    if (!fits(array, form, shape))
      return misfit(files[i], argument.name, array, form, shape);
    KF_CHECK(settleSizes(argument, array, files[i], sizes));
    arrays.push_back(std::move(array));
  }
  FunctionData data;
  // How long the files' sequences are is not known yet: as long as they may be.
  KF_TRY(data.sizes, chooseSizes(signature, sizes, INT32_MAX));
  for (size_t i = 0; i < files.size(); ++i) {
    const FunctionArgument &argument = signature.arguments[i];
    // Only caches have an extent that no size names: their slots.
    const auto slots = argument.isCache() ? static_cast<int64_t>(arrays[i].shape[0]) : 0;
    auto [type, shape] = describeArgument(signature, argument, data.sizes, slots);
    KF_TRY(TensorData tensor, TensorData::allocate(argument.name, type, shape));
    KF_CHECK(fill(tensor, argument.isCache(), arrays[i]));
    arrays[i] = {};
    data.arguments.push_back(std::move(tensor));
  }
  KF_CHECK(checkIndices(signature, data));
  KF_TRY(data.results, allocateResults(signature, data.sizes));
  return data;
}

Status cli::writeTensor(const std::string &file, const TensorData &tensor, bool cache) {
  const FileForm form = formOf(tensor.type, cache);
  const std::vector<int64_t> shape = fileShape(tensor.shape, tensor.type, form);
  const std::vector<uint64_t> extents(shape.begin(), shape.end());
  if (!cache)
    return writeNpy(file, form.type, extents, tensor.memory.span().first(tensor.bytes()));
  const std::vector<float> values = tensor.toFloats();
  return writeNpy(file, form.type, extents, std::as_bytes(std::span(values)));
}

Expected<std::vector<float>> cli::readExpected(const std::string &file, const TensorData &tensor,
                                               bool cache) {
  KF_TRY(NpyArray array, readNpy(file));
  const FileForm form = formOf(tensor.type, cache);
  const std::vector<int64_t> shape = fileShape(tensor.shape, tensor.type, form);
  if (!fits(array, form, shape))
    return misfit(file, tensor.name, array, form, shape);
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  dequantizeRow(cache ? ElementType::F32 : tensor.type, array.data.data(), values.size(),
                values.data());
  return values;
}
