#include "graft/generate/generator.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <numeric>

#include "graft/base/error.h"
#include "graft/base/file.h"

namespace graft {
namespace {

/// Enough of a prompt's end to know how its continuation is spaced.
constexpr size_t kPrimed = 32;

}  // namespace

std::string finish_name(Finish finish) {
  switch (finish) {
    case Finish::eos:
      return "eos";
    case Finish::stop:
      return "stop";
    case Finish::length:
      return "length";
    case Finish::interrupted:
      return "interrupted";
  }
  throw InternalError("generate", "no name for {}", static_cast<int>(finish));
}

/// One prompt on its way.
struct Generator::Answer {
  size_t index = 0;
  std::vector<int64_t> seen;  // prompt, then what was generated
  size_t prompt_length = 0;
  Sampler sampler;
  std::optional<Tokenizer::Stream> stream;
  TextOutput output;
  Finish finish = Finish::interrupted;
};

Generator::Generator(Model& model, const Adapter* adapter, const Tokenizer* tokenizer)
    : model_(model), adapter_(adapter), tokenizer_(tokenizer) {
  if (model.head != HeadKind::causal_lm) {
    throw UsageError("generate",
                     "a model with head {}, expected causal_lm; only causal language models generate text",
                     head_name(model.head));
  }
}

void Generator::check(const std::vector<int64_t>& prompt, size_t index) const {
  const ModelInfo& info = model_.info();
  if (prompt.empty()) throw UsageError("generate", "prompt {}: no tokens, expected at least one", index + 1);
  if (info.max_positions > 0 && static_cast<int64_t>(prompt.size()) >= info.max_positions) {
    throw UsageError("generate", "prompt {}: {} tokens, expected fewer than the model's {} positions",
                     index + 1, prompt.size(), info.max_positions);
  }
  for (const int64_t id : prompt) {
    if (id < 0 || id >= info.vocab_size) {
      throw UsageError("generate", "prompt {}: token {}, expected 0 to {}; is this the model's tokenizer?",
                       index + 1, id, info.vocab_size - 1);
    }
  }
}

std::vector<Generated> Generator::run(const std::vector<std::vector<int64_t>>& prompts,
                                      const GenerateConfig& config, const GenerateEvents& events) const {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < prompts.size(); ++i) check(prompts[i], i);
  if (!tokenizer_ && !config.stop.empty()) throw UsageError("generate", "stop strings without a tokenizer");
  const auto group = static_cast<size_t>(std::max<int64_t>(1, config.batch_size));
  std::vector<Generated> out;
  for (size_t begin = 0; begin < prompts.size(); begin += group) {
    std::vector<Answer> answers;
    for (size_t i = begin; i < std::min(begin + group, prompts.size()); ++i) {
      answers.push_back({i, prompts[i], prompts[i].size(), Sampler(config.sampling, static_cast<int64_t>(i)),
                         std::nullopt, TextOutput(config.stop)});
      if (!tokenizer_) continue;
      answers.back().stream.emplace(tokenizer_->stream(true));
      const std::vector<int64_t>& prompt = prompts[i];
      if (!config.continues_prompt) continue;
      for (size_t k = prompt.size() - std::min(prompt.size(), kPrimed); k < prompt.size(); ++k)
        answers.back().stream->next(prompt[k]);
    }
    run_group(answers, config, events);
    for (const Answer& answer : answers) {
      out.push_back(
          {{answer.seen.begin() + static_cast<std::ptrdiff_t>(answer.prompt_length), answer.seen.end()},
           answer.output.text(),
           answer.finish});
    }
  }
  return out;
}

void Generator::run_group(std::vector<Answer>& answers, const GenerateConfig& config,
                          const GenerateEvents& events) const {
  if (config.max_new_tokens <= 0) {
    for (Answer& answer : answers) answer.finish = Finish::length;
    return;
  }
  int64_t longest = 0;
  for (const Answer& answer : answers)
    longest = std::max(longest, static_cast<int64_t>(answer.prompt_length));
  KvCache cache(model_.info().num_layers, static_cast<int64_t>(answers.size()),
                longest + std::min<int64_t>(config.max_new_tokens, 64));
  std::vector<Answer*> active;
  std::vector<std::vector<int64_t>> ids;
  for (Answer& answer : answers) {
    active.push_back(&answer);
    ids.push_back(answer.seen);
  }
  std::vector<int64_t> first(active.size(), 0);
  while (!active.empty() && !(events.stop && events.stop())) {
    const Tensor logits = pass(ids, first, cache);
    const auto vocabulary = static_cast<size_t>(logits.size(1));
    std::vector<Answer*> going_on;
    std::vector<int64_t> kept;
    for (size_t b = 0; b < active.size(); ++b) {
      const std::span<const float> row(logits.const_data_ptr<float>() + b * vocabulary, vocabulary);
      if (!advance(*active[b], row, config, events)) continue;
      going_on.push_back(active[b]);
      kept.push_back(static_cast<int64_t>(b));
    }
    if (kept.size() < active.size() && !kept.empty()) cache.select(kept);
    active = std::move(going_on);
    ids.clear();
    first.clear();
    for (const Answer* answer : active) {
      ids.push_back({answer->seen.back()});
      first.push_back(static_cast<int64_t>(answer->seen.size()) - 1);
    }
  }
  for (Answer* answer : active) {
    const std::string rest = answer->output.finish();
    if (!rest.empty() && events.on_text) events.on_text(answer->index, rest);
  }
}

/// → logits [B, vocabulary] float32 behind each sequence's last row.
Tensor Generator::pass(const std::vector<std::vector<int64_t>>& ids, const std::vector<int64_t>& first,
                       KvCache& cache) const {
  std::vector<int64_t> lengths, packed;
  for (const std::vector<int64_t>& sequence : ids) {
    lengths.push_back(static_cast<int64_t>(sequence.size()));
    packed.insert(packed.end(), sequence.begin(), sequence.end());
  }
  Batch batch;
  batch.input_ids = at::tensor(packed, at::kLong);
  batch.layout = Layout::of(lengths, first);
  batch.rows = batch.layout.last_rows();
  batch.cache = &cache;
  if (adapter_ && adapter_->input) batch = adapter_->input->before(model_, std::move(batch));
  return model_.logits(model_.run(batch), batch).to(at::kFloat).contiguous();
}

/// Chooses the next token of one sequence; → whether it goes on.
bool Generator::advance(Answer& answer, std::span<const float> logits, const GenerateConfig& config,
                        const GenerateEvents& events) const {
  const int64_t id = answer.sampler.next(logits, answer.seen);
  answer.seen.push_back(id);
  const auto hand_out = [&](const std::string& text) {
    if (!text.empty() && events.on_text) events.on_text(answer.index, text);
  };
  const bool ends = std::find(config.eos.begin(), config.eos.end(), id) != config.eos.end();
  if (answer.stream && !ends) hand_out(answer.output.add(answer.stream->next(id).value_or("")));
  const auto length = static_cast<int64_t>(answer.seen.size());
  const int64_t positions = model_.info().max_positions;
  if (ends) {
    answer.finish = Finish::eos;
  } else if (answer.output.stopped()) {
    answer.finish = Finish::stop;
  } else if (length - static_cast<int64_t>(answer.prompt_length) >= config.max_new_tokens ||
             (positions > 0 && length >= positions)) {
    answer.finish = Finish::length;
  } else {
    return true;
  }
  hand_out(answer.output.finish());
  return false;
}

std::vector<int64_t> eos_ids(const std::filesystem::path& folder, const Json& config,
                             const Tokenizer* tokenizer) {
  const auto path = folder / "generation_config.json";
  const Json generation = std::filesystem::exists(path) ? read_json(path) : Json::object();
  for (const Json* document : {&generation, &config}) {
    const auto found = document->is_object() ? document->find("eos_token_id") : document->end();
    if (found == document->end() || found->is_null()) continue;
    std::vector<int64_t> ids;
    for (const Json& id : found->is_array() ? *found : Json::array({*found})) {
      if (!id.is_number_integer()) {
        throw DataError(folder.string(), "eos_token_id: {}, expected a token id or a list of them",
                        found->dump());
      }
      ids.push_back(id.get<int64_t>());
    }
    return ids;
  }
  if (tokenizer && tokenizer->eos_id()) return {*tokenizer->eos_id()};
  return {};
}

}  // namespace graft
