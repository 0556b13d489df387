#include "graft/tasks/instruction.h"

#include <algorithm>

#include "graft/base/error.h"
#include "graft/base/log.h"
#include "graft/tasks/chat_forms.h"
#include "graft/tasks/conversation.h"
#include "graft/tasks/packing.h"
#include "graft/tasks/token_loss.h"

namespace graft {
namespace {

struct InstructionConfig {
  std::string name = "instruction", chat_template, format, system, loss_on = "answers";
  int64_t max_length = 0;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("name", self.name, "the task");
    visit("template", self.chat_template,
          "chat template: empty: the model's; or alpaca, chatml, gemma, llama2, llama3, mistral, plain, "
          "vicuna, zephyr; or a "
          ".jinja file");
    visit("format", self.format, "what the rows are; empty: by their columns",
          one_of({"", "alpaca", "messages", "sharegpt", "prompt"}));
    visit("system", self.system, "system message of conversations without one");
    visit("loss_on", self.loss_on, "which tokens the loss counts", one_of({"answers", "all"}));
    visit("max_length", self.max_length,
          "longer conversations lose their end; 0: 512, or what the model reads", at_least<int64_t>(0));
  }
};

/// Begin and end of an answer in the rendered text, in code points.
using Ranges = std::vector<std::pair<int64_t, int64_t>>;

int64_t code_points(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

size_t common_prefix(std::string_view a, std::string_view b) {
  const size_t shorter = std::min(a.size(), b.size());
  return static_cast<size_t>(
      std::mismatch(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(shorter), b.begin()).first -
      a.begin());
}

struct Rendered {
  std::string text;
  Ranges answers;
};

class InstructionTask : public TokenTask {
 public:
  InstructionTask(InstructionConfig config, const TaskSetup& setup)
      : config_(std::move(config)),
        data_(setup.data),
        tokenizer_(setup.tokenizer),
        template_(template_of(config_.chat_template, setup)),
        style_(config_.chat_template == "alpaca" ? InputStyle::section : InputStyle::lines),
        max_length_(length_limit(config_.max_length, setup.max_positions)) {}

  HeadKind head() const override { return HeadKind::causal_lm; }

  std::vector<Features> features(const std::vector<Example>& examples) const override {
    std::vector<TextInput> inputs;
    std::vector<Ranges> answers;
    for (const Example& example : examples) {
      Rendered one = render(example);
      // The template writes every special token itself.
      inputs.push_back({.text = std::move(one.text), .pair = std::nullopt, .add_special_tokens = false});
      answers.push_back(std::move(one.answers));
    }
    const std::vector<Encoding> encodings = tokenizer_.encode_batch(inputs);
    std::vector<Features> out;
    for (size_t i = 0; i < encodings.size(); ++i) {
      Features one = labelled(encodings[i], answers[i]);
      one.example = static_cast<int64_t>(i);
      if (one.input_ids.size() > 1) out.push_back(std::move(one));
    }
    const size_t left_out = examples.size() - out.size();
    if (left_out > 0)
      warn("{} of {} conversations left out: no answer within {} tokens", left_out, examples.size(),
           max_length_);
    if (out.empty() && !examples.empty())
      throw DataError(examples[0].where,
                      "no answer within {} tokens in any row, expected some; raise task.max_length",
                      max_length_);
    return out;
  }

  TaskBatch collate(const std::vector<Features>& features, const std::vector<int64_t>& indices, const Model&,
                    int64_t) const override {
    return next_token_batch(features, indices, &Features::labels);
  }

  std::string default_metric() const override { return "loss"; }
  Json config() const override { return write_fields(config_); }

 private:
  static ChatTemplate template_of(const std::string& name, const TaskSetup& setup) {
    if (!name.empty()) return chat_form(name, setup.tokenizer);
    if (setup.chat_template) return *setup.chat_template;
    std::string list;
    for (const std::string& one : chat_form_names()) list += (list.empty() ? "" : ", ") + one;
    throw UsageError("task.template", "the model has no chat template, expected a form's name: {}", list);
  }

  std::string rendered(const Json& messages, const Json& tools, bool prompt) const {
    return template_.render(
        {.messages = messages, .tools = tools, .add_generation_prompt = prompt, .extra = Json::object()});
  }

  /// The whole conversation, and where its answers lie: from what the prompt for one and the text with it
  /// share.
  Rendered render(const Example& example) const {
    Conversation conversation = conversation_of(example, data_, config_.format, style_);
    Json& messages = conversation.messages;
    if (!config_.system.empty() && messages[0]["role"] != "system")
      messages.insert(messages.begin(), Json{{"role", "system"}, {"content", config_.system}});
    try {
      Rendered out{rendered(messages, conversation.tools, false), {}};
      Json part = Json::array();
      for (size_t i = 0; i < messages.size(); ++i) {
        if (messages[i]["role"] == "assistant" && i > 0)
          add_answer(out, part, messages[i], conversation.tools, example);
        part.push_back(messages[i]);
      }
      return out;
    } catch (const DataError& error) {
      if (std::string(error.what()).find(example.where) != std::string::npos) throw;
      throw DataError(example.where, "the chat template fails: {}", error.what());
    }
  }

  /// A template that never says tool_calls would leave the answer out.
  void require_calls(const Json& answer, const Example& example) const {
    if (!answer.value("tool_calls", Json()).empty() &&
        template_.source().find("tool_calls") == std::string::npos)
      throw DataError(example.where, "the chat template writes no tool_calls, expected one that does");
  }

  void add_answer(Rendered& out, const Json& before, const Json& answer, const Json& tools,
                  const Example& example) const {
    require_calls(answer, example);
    Json with = before;
    with.push_back(answer);
    const std::string until = rendered(with, tools, false);
    const size_t begin = common_prefix(rendered(before, tools, true), until);
    const size_t end = common_prefix(until, out.text);
    const bool last = end == out.text.size();
    if (end <= begin || (!last && end < until.size())) {
      // Templates may drop parts of earlier answers (reasoning); the last one must be there.
      if (with.size() < 2 || last)
        throw DataError(example.where, "the chat template hides the answer, expected it in the text");
      return;
    }
    // A line's end behind the end-of-turn token is not the model's to say.
    const std::string_view said = std::string_view(out.text).substr(begin, end - begin);
    const size_t trimmed = said.find_last_not_of(" \n");
    const size_t length = trimmed == std::string_view::npos ? said.size() : trimmed + 1;
    const int64_t first = code_points(std::string_view(out.text).substr(0, begin));
    out.answers.emplace_back(first, first + code_points(said.substr(0, length)));
  }

  Features labelled(const Encoding& encoding, const Ranges& answers) const {
    Features out;
    const size_t length = std::min(encoding.ids.size(), static_cast<size_t>(max_length_));
    out.input_ids.assign(encoding.ids.begin(), encoding.ids.begin() + static_cast<std::ptrdiff_t>(length));
    out.labels.assign(length, kNoLabel);
    bool any = false;
    for (size_t i = 1; i < length; ++i) {
      const auto [begin, end] = encoding.offsets[i];
      const bool inside =
          std::any_of(answers.begin(), answers.end(), [&, b = begin, e = end](const auto& range) {
            return b >= range.first && e <= range.second && e > b;
          });
      if (config_.loss_on == "answers" && !inside) continue;
      out.labels[i] = out.input_ids[i];
      any = true;
    }
    return any ? out : Features{};
  }

  InstructionConfig config_;
  DataConfig data_;
  const Tokenizer& tokenizer_;
  ChatTemplate template_;
  InputStyle style_;
  int64_t max_length_;
};

std::unique_ptr<Task> create(const TaskSetup& setup) {
  return std::make_unique<InstructionTask>(read_fields<InstructionConfig>(setup.task, "task"), setup);
}

std::vector<FieldHelp> help() { return describe_fields<InstructionConfig>("task"); }

}  // namespace

const TaskKind kInstruction = {
    .name = "instruction",
    .summary = "instructions and conversations; the loss counts the answers",
    .create = create,
    .help = help,
    .train_defaults = {{"epochs", 3.0}, {"batch_size", 8}, {"learning_rate", 2e-4}, {"warmup_ratio", 0.03}},
};

}  // namespace graft
