#include "graft/tasks/chat_forms.h"

#include <map>

#include "graft/base/error.h"
#include "graft/base/file.h"

namespace graft {
namespace {

const std::map<std::string, std::string>& forms() {
  static const std::map<std::string, std::string> table{
      // Taori et al. 2023: a preamble, then sections.
      {"alpaca",
       R"({{ bos_token }}{% if messages[0].role != 'system' %}{% if '### Input:' in messages[0].content %})"
       R"({{ 'Below is an instruction that describes a task, paired with an input that provides further context. )"
       R"(Write a response that appropriately completes the request.\n\n' }}{% else %})"
       R"({{ 'Below is an instruction that describes a task. )"
       R"(Write a response that appropriately completes the request.\n\n' }}{% endif %}{% endif %})"
       R"({% for m in messages %}{% if m.role == 'system' %}{{ m.content + '\n\n' }}{% elif m.role == 'assistant' %})"
       R"({{ '### Response:\n' + m.content + eos_token }}{% if not loop.last %}{{ '\n\n' }}{% endif %}{% else %})"
       R"({{ '### Instruction:\n' + m.content + '\n\n' }}{% endif %}{% endfor %})"
       R"({% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %})"},
      {"chatml",
       R"({% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %})"
       R"({% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %})"},
      {"gemma",
       R"({{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) )"
       R"(+ '\n' + m.content + '<end_of_turn>\n' }}{% endfor %})"
       R"({% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %})"},
      {"llama2",
       R"({% set ns = namespace(system='') %}{% for m in messages %}{% if m.role == 'system' %})"
       R"({% set ns.system = '<<SYS>>\n' + m.content + '\n<</SYS>>\n\n' %}{% elif m.role == 'assistant' %})"
       R"({{ ' ' + m.content + ' ' + eos_token }}{% else %})"
       R"({{ bos_token + '[INST] ' + ns.system + m.content + ' [/INST]' }}{% set ns.system = '' %}{% endif %}{% endfor %})"},
      {"llama3",
       R"({{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content )"
       R"(+ '<|eot_id|>' }}{% endfor %})"
       R"({% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %})"},
      {"mistral",
       R"({{ bos_token }}{% set ns = namespace(system='') %}{% for m in messages %}{% if m.role == 'system' %})"
       R"({% set ns.system = m.content + '\n\n' %}{% elif m.role == 'assistant' %}{{ ' ' + m.content + eos_token }})"
       R"({% else %}{{ '[INST] ' + ns.system + m.content + ' [/INST]' }}{% set ns.system = '' %}{% endif %}{% endfor %})"},
      {"plain",
       R"({{ bos_token }}{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }})"
       R"({% endif %}{% endfor %})"},
      {"vicuna",
       R"({{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content + ' ' }})"
       R"({% elif m.role == 'assistant' %}{{ 'ASSISTANT: ' + m.content + eos_token }}{% else %})"
       R"({{ 'USER: ' + m.content + ' ' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %})"},
      {"zephyr",
       R"({% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}{% endfor %})"
       R"({% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %})"},
  };
  return table;
}

}  // namespace

std::vector<std::string> chat_form_names() {
  std::vector<std::string> names;
  for (const auto& [name, source] : forms()) names.push_back(name);
  return names;
}

std::string chat_form_source(const std::string& name) {
  if (const auto found = forms().find(name); found != forms().end()) return found->second;
  if (name.ends_with(".jinja")) return read_file(name);
  std::string list;
  for (const std::string& one : chat_form_names()) list += (list.empty() ? "" : ", ") + one;
  throw UsageError("task.template", "{}, expected one of {}, or a .jinja file{}", name, list,
                   did_you_mean(name, chat_form_names()));
}

ChatTemplate chat_form(const std::string& name, const Tokenizer& tokenizer) {
  const auto token = [&](std::optional<int64_t> id) {
    return id ? tokenizer.id_token(*id).value_or("") : std::string();
  };
  return {chat_form_source(name),
          Json{{"bos_token", token(tokenizer.bos_id())}, {"eos_token", token(tokenizer.eos_id())}}};
}

}  // namespace graft
