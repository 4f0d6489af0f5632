// The template engine under templates that mean ill: each ends in an error, soon and in little
// memory.

#include "kernelforge/llm/template/Template.h"

#include <gmock/gmock.h>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

std::string repeat(const std::string &text, size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i)
    out += text;
  return out;
}

/// The rendered text, or "error: " and the message.
std::string render(const std::string &source, const chat::Limits &limits = {}) {
  auto parsed = chat::parseTemplate(source, "", limits);
  if (!parsed)
    return "error: " + parsed.error().line();
  auto text = chat::renderTemplate(**parsed, {}, "");
  return text ? text->bytes : "error: " + text.error().line();
}

TEST(TemplateLimits, Steps) {
  chat::Limits limits;
  limits.steps = 100'000;
  EXPECT_THAT(render("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}"
                     "{% endfor %}",
                     limits),
              HasSubstr("steps"));
  EXPECT_THAT(render("{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}"
                     "{% endmacro %}{{ f(60) }}",
                     limits),
              HasSubstr("steps"));
}

TEST(TemplateLimits, Text) {
  EXPECT_THAT(render("{% set ns = namespace(x='ab') %}{% for i in range(60) %}"
                     "{% set ns.x = ns.x + ns.x %}{% endfor %}"),
              HasSubstr("bytes of text"));
  EXPECT_THAT(render("{{ 'a' * 9223372036854775807 }}"), HasSubstr("too long"));
  EXPECT_THAT(render("{{ [1] * 9223372036854775807 }}"), HasSubstr("too long"));
  EXPECT_THAT(render("{{ '' * 9223372036854775807 }}{{ [] * 9223372036854775807 }}"), "[]");
  EXPECT_THAT(render("{% set a = 'a' * 100000 %}{{ a.replace('', a) }}"), HasSubstr("error"));
  EXPECT_THAT(render("{% set a = ('a ' * 100000).split() %}{% for i in range(1000) %}"
                     "{% set b = a + a %}{% endfor %}"),
              HasSubstr("error"));
  EXPECT_THAT(render("{% set a = ',' * 9000000 %}{{ a.split(',')|length }}"), HasSubstr("error"));
  EXPECT_THAT(render("{{ 'x'|indent(100000000) }}"), HasSubstr("width"));
  EXPECT_THAT(render("{{ [[1]]|tojson(indent=100000000) }}"), HasSubstr("indent"));
  EXPECT_THAT(render("{{ 1e300|round(301) }}"), HasSubstr("precision"));
}

TEST(TemplateLimits, Output) {
  chat::Limits limits;
  limits.outputBytes = 100;
  EXPECT_EQ(render(std::string(100, 'a'), limits), std::string(100, 'a'));
  EXPECT_THAT(render(std::string(101, 'a'), limits), HasSubstr("output"));
  EXPECT_THAT(render("{% for i in range(200) %}a{% endfor %}", limits), HasSubstr("output"));
}

TEST(TemplateLimits, Range) {
  EXPECT_THAT(render("{{ range(100000)|length }}"), "100000");
  EXPECT_THAT(render("{{ range(100001)|length }}"), HasSubstr("range is longer"));
  EXPECT_THAT(render("{{ range(9223372036854775800, 9223372036854775807, 5)|length }}"), "2");
}

TEST(TemplateLimits, TemplateSize) {
  chat::Limits limits;
  limits.templateBytes = 10;
  EXPECT_EQ(render("0123456789", limits), "0123456789");
  EXPECT_THAT(render("0123456789a", limits), HasSubstr("11 bytes"));
}

TEST(TemplateLimits, Nesting) {
  size_t many = 12000;
  using Brackets = std::pair<const char *, const char *>;
  for (auto [open, close] :
       {Brackets("(", ")"), Brackets("[", "]"), Brackets("{1:", "}"), Brackets("not ", ""),
        Brackets("-", ""), Brackets("1+(", ")"), Brackets("a[", "]"), Brackets("a(", ")"),
        Brackets("x if (", ")"), Brackets("a|f(", ")"), Brackets("a is in(", ")")})
    EXPECT_THAT(render("{{ " + repeat(open, many) + "1" + repeat(close, many) + " }}"),
                HasSubstr("deep"))
        << open;
  for (const char *chain :
       {"+1", ".a", "|string", "[0]", " and 1", " or 1", "()", "**1", " if 1 else 1"})
    EXPECT_THAT(render("{{ 1" + repeat(chain, many) + " }}"), HasSubstr("deep")) << chain;
  EXPECT_EQ(render("{{ 1" + repeat("~1", many) + " }}"), std::string(many + 1, '1')); // one level
  EXPECT_EQ(render("{{ 1" + repeat("==1", many) + " }}"), "True");
  EXPECT_THAT(render(repeat("{% if 1 %}", many)), HasSubstr("deep"));
  EXPECT_THAT(render(repeat("{% for a in b %}", many)), HasSubstr("deep"));
  EXPECT_THAT(render("{{ " + repeat("(", 40) + "1" + repeat(")", 40) + " }}"), "1");
  EXPECT_THAT(render("{{ 1" + repeat("+1", 100) + " }}"), "101");
}

TEST(TemplateLimits, DepthOfCallsAndValues) {
  EXPECT_THAT(render("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), HasSubstr("deep"));
  EXPECT_THAT(render("{% set ns = namespace(a=[]) %}{% for i in range(9999) %}"
                     "{% set ns.a = [ns.a] %}{% endfor %}"),
              HasSubstr("nested"));
  EXPECT_THAT(render("{% set ns = namespace(a={}) %}{% for i in range(9999) %}"
                     "{% set ns.a = {'a': ns.a} %}{% endfor %}"),
              HasSubstr("nested"));
  EXPECT_THAT(render("{% set ns = namespace() %}{% for i in range(9999) %}"
                     "{% for j in [ns] %}{% set ns.a = loop %}{% endfor %}{% endfor %}"),
              HasSubstr("namespace"));
  EXPECT_THAT(render("{% set ns = namespace() %}{% set ns.a = [ns] %}"), HasSubstr("namespace"));
  EXPECT_THAT(render("{% set ns = namespace() %}{% for i in range(9999) %}{% for j in [ns.a] %}"
                     "{% set ns.a = loop %}{% endfor %}{% endfor %}"),
              HasSubstr("error"));
}

TEST(TemplateLimits, IntegersDoNotWrap) {
  std::string most = "9223372036854775807";
  for (const std::string &expression :
       std::vector<std::string>{most + " + 1", "-" + most + " - 2", most + " * 2", "2 ** 63",
                                "(-" + most + " - 1) // -1", "-(-" + most + " - 1)",
                                "(-" + most + " - 1)|abs", "1e300|int", "'" + most + "0'|int"})
    EXPECT_THAT(render("{{ " + expression + " }}"), HasSubstr("out of range")) << expression;
  EXPECT_EQ(render("{{ (-" + most + " - 1) % -1 }}"), "0");
  EXPECT_THAT(render("{{ 99999999999999999999 }}"), HasSubstr("out of range"));
}

TEST(TemplateLimits, NothingOfTheHostIsReached) {
  for (const char *expression :
       {"''.__class__", "range.__globals__", "{}.__init__", "self", "[].__class__.__mro__"}) {
    std::string text = render("{{ " + std::string(expression) + " }}");
    EXPECT_TRUE(text.empty() || text.starts_with("error")) << expression << ": " << text;
  }
}

TEST(TemplateLimits, OddEndingsAndBytes) {
  for (std::string source : std::vector<std::string>{"{",
                                                     "{{",
                                                     "{%",
                                                     "{#",
                                                     "{{ '",
                                                     "{{ \"\\",
                                                     "{% raw",
                                                     "{% raw %}",
                                                     "{{-",
                                                     "{%+",
                                                     "{% set",
                                                     "{% for",
                                                     "{% macro f(",
                                                     "{{ 1e",
                                                     "{{ 0x",
                                                     "{{ '\\x",
                                                     "{{ '\\uD800' }}",
                                                     "{{ a b",
                                                     "{{ }}",
                                                     "{% %}",
                                                     "{{ $ }}",
                                                     "}}",
                                                     "%}"}) {
    std::string text = render(source);
    bool plain = source == "{" || source == "}}" || source == "%}";
    EXPECT_EQ(text.starts_with("error"), !plain) << source << ": " << text;
  }
  std::string zero("a\0b{{ '\0' }}", 12);
  EXPECT_EQ(render(zero).size(), 4u);
}

TEST(TemplateLimits, SortingWithoutAnOrder) {
  EXPECT_THAT(render("{% set inf = 1e308 * 10 %}{% set nan = inf - inf %}"
                     "{{ ([nan, 1, nan, 3, 2, nan] * 50)|sort|length }}"),
              "300");
  EXPECT_THAT(render("{{ [1, 'a']|sort }}"), HasSubstr("order"));
}

} // namespace
