// Messages and tools of chat data in the form that chat templates read.
#pragma once
#include <string>

#include "graft/base/json.h"

namespace graft {

/// A message whose content is one text: a list of parts ({"type": "text", "text": …}) is joined without
/// anything between; no content, where tool_calls stand beside it, is an empty one. Everything else stays.
/// Errors: DataError naming `where` (no role, another part's type, a content that is no text).
Json plain_message(const Json& message, const std::string& where);

/// The tools that a conversation may call, as a list; null for none (null, "", []). A list may be given as
/// JSON text, and its functions without the {"type": "function", "function": …} around them, as
/// LLaMA-Factory's data has both. Errors: DataError naming `where`.
Json plain_tools(const Json& tools, const std::string& where);

/// An assistant's message that calls what `text` says: {"name", "arguments"} or a list of such,
/// LLaMA-Factory's function_call. Errors: DataError naming `where`.
Json call_message(const std::string& text, const std::string& where);

}  // namespace graft
