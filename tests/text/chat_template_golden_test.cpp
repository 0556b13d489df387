// Chat templates against transformers' rendering.
#include "graft/base/error.h"
#include "graft/text/chat_template.h"
#include "tests/text/goldens.h"

namespace graft {
namespace {

TEST(ChatTemplateGolden, Rows) {
  GRAFT_NEED(test::shared_dir());
  const std::vector<Json> rows = test::golden_rows("chat-templates.jsonl", "");
  ASSERT_GT(rows.size(), 300u);
  for (const Json& row : rows) {
    SCOPED_TRACE(row["name"].get<std::string>() + " " + row["feature"].get<std::string>());
    const ChatTemplate chat(row["template"], row["vars"]);
    const ChatTemplate::Request request{row["messages"], row["tools"], row["add_generation_prompt"],
                                        row["kwargs"]};
    if (row.contains("text")) {
      try {
        EXPECT_EQ(chat.render(request), row["text"].get<std::string>());
      } catch (const DataError& error) {
        ADD_FAILURE() << error.what() << "\n" << row["template"];
      }
    } else if (row["error"] == "raise_exception") {
      try {
        ADD_FAILURE() << chat.render(request);
      } catch (const DataError& error) {
        EXPECT_EQ(error.what(), "[chat template] " + row["error_text"].get<std::string>());
      }
    } else {
      EXPECT_THROW(ADD_FAILURE() << chat.render(request), DataError) << row["error_text"];
    }
  }
}

}  // namespace
}  // namespace graft
