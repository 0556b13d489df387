// Rows of instruction data as messages: Alpaca's columns, message lists, ShareGPT's turns, prompt and
// completion.
#pragma once
#include <string>

#include "graft/base/json.h"
#include "graft/data/source.h"
#include "graft/tasks/data_config.h"

namespace graft {

struct Conversation {
  Json messages = Json::array();  // [{"role", "content", …}], contents of text, the last one an assistant's
  Json tools;                     // a list; null: none
};

/// What an Alpaca row's input becomes: a section of Alpaca's own prompt, or lines below the instruction.
enum class InputStyle { lines, section };

/// `format`: alpaca, messages, sharegpt, prompt; empty: by the row's columns. Errors: DataError naming the
/// row.
Conversation conversation_of(const Example& example, const DataConfig& data, const std::string& format,
                             InputStyle style);

}  // namespace graft
