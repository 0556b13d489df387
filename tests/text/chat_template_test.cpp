// Chat templates: where they come from, what they cannot do, and Python's values.
#include "graft/text/chat_template.h"

#include "graft/base/error.h"
#include "tests/text/goldens.h"

namespace graft {
namespace {

std::string render(const std::string& source, const Json& extra = Json::object()) {
  const Json messages = {{{"role", "user"}, {"content", "Hi"}}};
  return ChatTemplate(source, {{"bos_token", "<s>"}}).render({messages, nullptr, true, extra});
}

std::string complaint(const std::string& source) {
  try {
    render(source);
  } catch (const DataError& error) {
    return error.what();
  }
  return "";
}

TEST(ChatTemplate, IsFoundInTheFolder) {
  const test::TempFolder folder;
  EXPECT_FALSE(ChatTemplate::open(folder.path()));
  folder.write("tokenizer_config.json",
               R"({"bos_token":"<s>","chat_template":[{"name":"tool_use","template":"no"},
    {"name":"default","template":"{{ bos_token }}{{ messages[0].content }}"}]})");
  EXPECT_EQ(ChatTemplate::open(folder.path())
                ->render({{{{"role", "user"}, {"content", "Hi"}}}, nullptr, false, {}}),
            "<s>Hi");
  folder.write("chat_template.jinja", "file\n");
  EXPECT_EQ(ChatTemplate::open(folder.path())->render({Json::array(), nullptr, false, {}}), "file");
}

TEST(ChatTemplate, PrintsAsPython) {
  EXPECT_EQ(render("{{ [1, none, 'a', 1e20, (true, 'b')] }}"), "[1, None, 'a', 1e+20, (True, 'b')]");
  EXPECT_EQ(render("{{ 'x' ~ ['a'] ~ 1e-7 ~ {'k': none} + '!' }}"), "x['a']1e-07{'k': None}!");
  EXPECT_EQ(render("{% for (a, b) in {'x': 1}.items() %}{{ a ~ b }}{% endfor %}"), "x1");
  EXPECT_EQ(render("{{ ('x',) }}{{ {'a': 1}.items()|list }}{{ 'a' in ('a', 'b') }}"), "('x',)[('a', 1)]True");
  EXPECT_EQ(render("{{ 'a b c'.rsplit(' ', 1) }}{{ 'a=b=c'.partition('=') }}{{ '你好'.find('好') }}"),
            "['a b', 'c']('a', '=', 'b=c')1");
  EXPECT_EQ(render("{{ 'a,b,c'.split(',', maxsplit=1) }}{{ 'xa'.removeprefix('x') }}{{ '7'.zfill(3) }}"),
            "['a', 'b,c']a007");
  EXPECT_EQ(render("{{ 1 and 0 }}{{ '%s' | format(1) }}{{ 2.5 | round }}"), "012.0");
  EXPECT_EQ(render("{{ f | tojson }} {{ s | tojson }}", {{"f", 1e16}, {"s", "é\"\x01"}}),
            "1e+16 \"é\\\"\\u0001\"");
}

TEST(ChatTemplate, TagsOfTransformers) {
  EXPECT_EQ(render("a\n{%- generation -%}\n b {%- endgeneration %} c"), "ab c");
  EXPECT_EQ(render("{% raw %}{{ x ~ (1, 2) }}{% generation %}{% endraw %}"),
            "{{ x ~ (1, 2) }}{% generation %}");
  EXPECT_EQ(
      render("{# {{ ~ #}{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}"),
      "01");
  EXPECT_EQ(render("{{ strftime_now('%Y')|length }}{{ strftime_now('x') }}"), "4x");
}

TEST(ChatTemplate, SaysWhatIsWrong) {
  EXPECT_EQ(complaint("{{ raise_exception('no ' ~ messages[0].role) }}"), "[chat template] no user");
  EXPECT_NE(complaint("{% if true %}").find("line 1"), std::string::npos);
  EXPECT_NE(complaint("{{ nope.deeper }}").find("undefined"), std::string::npos);
  EXPECT_NE(complaint("{{ 'a' | nope }}").find("nope"), std::string::npos);
  EXPECT_NE(complaint("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}"),
            "");
  EXPECT_NE(complaint("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), "");
  EXPECT_NE(complaint("{{ " + std::string(100000, '(') + " }}"), "");
  EXPECT_NE(complaint("{{ 'unclosed ~ }}"), "");
  EXPECT_NE(complaint("{{ messages \xff }}"), "");
}

}  // namespace
}  // namespace graft
