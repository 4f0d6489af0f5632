// The engine's border: nothing thrown gets past these two functions.
#pragma once

#include "kernelforge/llm/template/Ast.h"
#include "kernelforge/support/Error.h"

#include <ctime>
#include <memory>
#include <optional>
#include <string_view>

namespace kernelforge::chat {

struct Template {
  Body body;
  Limits limits;
};

/// Parses a template. `where` (a file, a field) goes into the message with line and column.
Expected<std::shared_ptr<const Template>>
parseTemplate(std::string_view source, std::string_view where, const Limits &limits = {});

/// Renders a template with variables. `now` is what strftime_now() formats; without it there is no
/// such function. Errors as parseTemplate, or what raise_exception() says.
Expected<Text> renderTemplate(const Template &parsed,
                              std::vector<std::pair<std::string, Value>> variables,
                              std::string_view where, std::optional<std::tm> now = {});

} // namespace kernelforge::chat
