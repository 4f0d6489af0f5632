#include "kernelforge/llm/architectures/ConfigFields.h"

#include <cmath>
#include <fmt/format.h>

namespace kernelforge {

Expected<int64_t> asWhole(const JsonView &view, int64_t low, int64_t high) {
  constexpr double exact = 1LL << 53;
  const Json &json = view.value();
  if (json.is_number_float()) {
    const auto value = json.get<double>();
    if (std::abs(value) <= exact && std::trunc(value) == value && value >= low && value <= high)
      return static_cast<int64_t>(value);
  }
  return view.asInteger(low, high);
}

Expected<int64_t> whole(const JsonView &root, std::string_view field, int64_t low, int64_t high) {
  KF_TRY(JsonView view, root.at(field));
  return asWhole(view, low, high);
}

Expected<int64_t> wholeOr(const JsonView &root, std::string_view field, int64_t low, int64_t high,
                          int64_t fallback) {
  return root.has(field) ? whole(root, field, low, high) : fallback;
}

Expected<ActivationKind> activationOr(const JsonView &root, std::string_view field,
                                      ActivationKind fallback) {
  if (!root.has(field))
    return fallback;
  KF_TRY(std::string name, root.string(field, maxNameBytes));
  if (name == "silu" || name == "swish")
    return ActivationKind::Silu;
  if (name == "gelu")
    return ActivationKind::Gelu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh")
    return ActivationKind::GeluTanh;
  if (name == "relu")
    return ActivationKind::Relu;
  KF_TRY(JsonView view, root.at(field));
  return view.error(fmt::format("activation \"{}\" is not supported", name),
                    "supported are silu, gelu, gelu_new, gelu_pytorch_tanh and relu");
}

} // namespace kernelforge
