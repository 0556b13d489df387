#include "graft/session/start_words.h"

#include <algorithm>

#include "graft/base/error.h"
#include "graft/base/fields.h"

namespace graft {
namespace {

std::string text_under(const Json& method, const char* key) {
  std::string text;
  if (method.contains(key) && !method[key].is_null())
    read_value(method[key], text, fmt::format("method.{}", key));
  return text;
}

/// Without the special tokens that a template would put around.
std::vector<int64_t> pieces(const Tokenizer& tokenizer, const std::string& text) {
  return tokenizer.encode({.text = text, .pair = std::nullopt, .add_special_tokens = false}).ids;
}

/// The labels that the recipe gives words for, or the task's own names.
std::vector<std::string> label_words(const Json& method, const Task& task) {
  std::vector<std::string> words;
  const auto given = method.find("prompt_tuning_init_text");
  if (given != method.end() && given->is_array()) {
    read_value(*given, words, "method.prompt_tuning_init_text");
  } else {
    words = task.label_names();
  }
  if (words.empty())
    throw UsageError("method.prompt_tuning_init", "CLASS_LABEL for a task without classes, expected TEXT");
  return words;
}

void add_prompt_start(Json& method, const Tokenizer& tokenizer, const Task& task) {
  const std::string init = method.value("prompt_tuning_init", "RANDOM");
  if (init == "TEXT") {
    const std::string text = text_under(method, "prompt_tuning_init_text");
    // With special tokens, as PEFT has it.
    if (!text.empty())
      method["prompt_tuning_init_ids"] = tokenizer.encode({.text = text, .pair = std::nullopt}).ids;
  } else if (init == "CLASS_LABEL") {
    Json rows = Json::array();
    for (const std::string& word : label_words(method, task)) {
      std::vector<int64_t> ids = pieces(tokenizer, word);
      if (ids.empty())
        throw UsageError("method.prompt_tuning_init_text", "'{}': no tokens, expected a word", word);
      rows.push_back(std::move(ids));
    }
    method["prompt_tuning_init_ids"] = std::move(rows);
  }
}

void add_pseudo_tokens(Json& method, const Task& task) {
  const std::vector<int64_t> starts = task.pseudo_tokens();
  if (starts.empty()) return;
  const auto count = static_cast<int64_t>(starts.size());
  if (!method.contains("num_virtual_tokens")) method["num_virtual_tokens"] = count;
  if (method["num_virtual_tokens"] != Json(count)) {
    throw UsageError("method.num_virtual_tokens", "{}, expected the {} pseudo tokens of task.template",
                     method["num_virtual_tokens"].dump(), count);
  }
  const bool anchored = std::any_of(starts.begin(), starts.end(), [](int64_t id) { return id >= 0; });
  if (!anchored || method.contains("prompt_tuning_init_ids")) return;
  Json rows = Json::array();
  for (const int64_t id : starts) rows.push_back(id >= 0 ? Json::array({id}) : Json::array());
  method["prompt_tuning_init_ids"] = std::move(rows);
}

}  // namespace

Json with_start_words(Json method, const Tokenizer& tokenizer, const Task& task) {
  const std::string name = method.value("name", "");
  if (name == "prompt_tuning" || name == "multitask_prompt_tuning" || name == "p_tuning") {
    if (name != "p_tuning") add_prompt_start(method, tokenizer, task);
    add_pseudo_tokens(method, task);
  } else if (name == "prefix_tuning") {
    const std::string text = text_under(method, "prefix_init_text");
    if (!text.empty()) method["prefix_init_ids"] = pieces(tokenizer, text);
  }
  return method;
}

}  // namespace graft
