// Chat templates by name, for models that bring none: the forms that the field trains with.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "graft/text/chat_template.h"
#include "graft/text/tokenizer.h"

namespace graft {

std::vector<std::string> chat_form_names();
/// The Jinja source of a form, or of a .jinja file. Errors: UsageError with the nearest names.
std::string chat_form_source(const std::string& name);
/// The form with the tokenizer's bos_token and eos_token.
ChatTemplate chat_form(const std::string& name, const Tokenizer& tokenizer);

}  // namespace graft
