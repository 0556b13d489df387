// The words that soft prompts start from, as tokens: only a session knows the tokenizer and the task.
#pragma once
#include "graft/base/json.h"
#include "graft/tasks/task.h"

namespace graft {

/// A method of the recipe with the ids of the words that it names (TEXT, CLASS_LABEL,
/// prefix_init_text) and of the task's pseudo tokens, whose number a prompt gets where the recipe says none.
/// Errors: UsageError.
Json with_start_words(Json method, const Tokenizer& tokenizer, const Task& task);

}  // namespace graft
