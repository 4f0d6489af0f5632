#include "kernelforge/llm/template/Template.h"

#include "kernelforge/llm/template/Interpreter.h"
#include "kernelforge/llm/template/Parser.h"
#include "kernelforge/support/Utf8.h"

#include <fmt/format.h>
#include <new>

namespace kernelforge::chat {

namespace {

/// Runs `work`, turning what it throws into an Error.
template <typename Work>
auto guarded(std::string_view where, Work work) -> Expected<decltype(work())> {
  try {
    return work();
  } catch (const TemplateError &error) {
    std::string place(where);
    if (error.at.line > 0)
      place += fmt::format("{}line {}, column {}", place.empty() ? "" : ", ", error.at.line,
                           error.at.column);
    // What raise_exception() is given comes from outside and may be of any length.
    std::string why = error.message.empty() ? "it was refused" : error.message;
    if (why.size() > 1000)
      why = replaceInvalidUtf8(why.substr(0, 1000)) + "...";
    return unusable("chat template cannot be used", std::move(place), std::move(why));
  } catch (const std::bad_alloc &) {
    return failed("chat template cannot be used", std::string(where), "out of memory");
  }
}

} // namespace

Expected<std::shared_ptr<const Template>>
parseTemplate(std::string_view source, std::string_view where, const Limits &limits) {
  return guarded(where, [&]() -> std::shared_ptr<const Template> {
    if (!isValidUtf8(source))
      fail("it is not valid UTF-8");
    auto out = std::make_shared<Template>();
    out->limits = limits;
    out->body = parse(source, limits);
    return out;
  });
}

Expected<Text> renderTemplate(const Template &parsed,
                              std::vector<std::pair<std::string, Value>> variables,
                              std::string_view where, std::optional<std::tm> now) {
  return guarded(where, [&] {
    return Interpreter(parsed.limits, now).render(parsed.body, std::move(variables));
  });
}

} // namespace kernelforge::chat
