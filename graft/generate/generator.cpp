#include "graft/generate/generator.h"

#include <ATen/ATen.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <numeric>

#include "graft/base/error.h"
#include "graft/base/file.h"
#include "graft/ops/few_values.h"
#include "graft/ops/parallel.h"

namespace graft {
namespace {

/// Enough of a prompt's end to know how its continuation is spaced.
constexpr size_t kPrimed = 32;

bool streams(Model& model) {
  for (const auto& [path, module] : model.named_modules()) {
    const auto* const linear = dynamic_cast<const Linear*>(module);
    if (linear != nullptr && !linear->streams()) return false;
  }
  return true;
}

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
  std::vector<int64_t> source;  // what the encoder reads, where there is one
  std::vector<int64_t> seen;  // prompt (the start token, where an encoder reads it), then what was generated
  size_t prompt_length = 0;   // of `seen`
  Sampler sampler;
  std::optional<Tokenizer::Stream> stream;
  TextOutput output;
  Finish finish = Finish::interrupted;
};

/// What was read already: by the stack that writes, and (two stacks) what it sees of the encoder's rows.
struct Generator::Caches {
  KvCache own, cross;
  bool far = false;    // the keys are of passes beyond ModelInfo::rotary_switch
  bool mixed = false;  // of passes on both sides of it
  Caches(const ModelInfo& info, int64_t sequences, int64_t capacity)
      : own(info.num_layers, sequences, capacity),
        cross(info.is_encoder_decoder ? info.num_layers : 0, sequences, 1) {}
  void select(const std::vector<int64_t>& sequences) {
    own.select(sequences);
    cross.select(sequences);
  }
  void add(const Caches& others) {
    own.add(others.own);
    cross.add(others.cross);
    mixed = mixed || others.mixed || far != others.far;
  }
};

/// The sequences that are worked on together.
struct Generator::Active {
  std::vector<Answer*> answers;
  Caches caches;
  void add(Active others) {
    if (others.answers.empty()) return;
    if (answers.empty()) {
      *this = std::move(others);
      return;
    }
    caches.add(others.caches);
    answers.insert(answers.end(), others.answers.begin(), others.answers.end());
  }
};

Generator::Generator(Model& model, const Adapter* adapter, const Tokenizer* tokenizer)
    : model_(model), adapter_(adapter), tokenizer_(tokenizer) {
  if (model.head != HeadKind::causal_lm && model.head != HeadKind::seq2seq_lm) {
    throw UsageError("generate",
                     "a model with head {}, expected causal_lm or seq2seq_lm; only language models with a "
                     "decoder generate text",
                     head_name(model.head));
  }
  if (streams(model)) crew_ = std::make_unique<ops::Crew>();
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
  // No graph is recorded: libtorch's operations need not ask each other whether one is.
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  for (size_t i = 0; i < prompts.size(); ++i) check(prompts[i], i);
  if (!tokenizer_ && !config.stop.empty()) throw UsageError("generate", "stop strings without a tokenizer");
  std::vector<Answer> answers;
  for (size_t i = 0; i < prompts.size(); ++i) answers.push_back(begin(prompts[i], i, config));
  if (config.max_new_tokens <= 0) {
    for (Answer& answer : answers) answer.finish = Finish::length;
  } else {
    work(answers, config, events);
  }
  std::vector<Generated> out;
  for (const Answer& answer : answers) {
    out.push_back(
        {{answer.seen.begin() + static_cast<std::ptrdiff_t>(answer.prompt_length), answer.seen.end()},
         answer.output.text(),
         answer.finish});
  }
  return out;
}

Generator::Answer Generator::begin(const std::vector<int64_t>& prompt, size_t index,
                                   const GenerateConfig& config) const {
  const ModelInfo& info = model_.info();
  Answer answer{.index = index,
                .source = {},
                .seen = prompt,
                .prompt_length = prompt.size(),
                .sampler = Sampler(config.sampling, static_cast<int64_t>(index)),
                .stream = std::nullopt,
                .output = TextOutput(config.stop)};
  if (info.is_encoder_decoder) {
    answer.source = prompt;
    answer.seen = {config.decoder_start.value_or(info.decoder_start_token)};
    answer.prompt_length = 1;
  }
  if (!tokenizer_) return answer;
  answer.stream.emplace(tokenizer_->stream(true));
  if (!config.continues_prompt || info.is_encoder_decoder) return answer;
  for (size_t k = prompt.size() - std::min(prompt.size(), kPrimed); k < prompt.size(); ++k)
    answer.stream->next(prompt[k]);
  return answer;
}

void Generator::work(std::vector<Answer>& answers, const GenerateConfig& config,
                     const GenerateEvents& events) const {
  const auto places = static_cast<size_t>(std::max<int64_t>(1, config.batch_size));
  Active active{{}, Caches(model_.info(), 0, 1)};
  size_t waiting = 0;
  while ((waiting < answers.size() || !active.answers.empty()) && !(events.stop && events.stop())) {
    if (waiting == answers.size() || active.answers.size() == places) {
      step(active, false, config, events);
      continue;
    }
    // Those that come are read in a pass of their own, and then go on beside the others.
    Active coming{{}, Caches(model_.info(), 0, 1)};
    int64_t longest = 0;
    while (waiting < answers.size() && active.answers.size() + coming.answers.size() < places) {
      coming.answers.push_back(&answers[waiting++]);
      longest = std::max(longest, static_cast<int64_t>(coming.answers.back()->prompt_length));
    }
    coming.caches = Caches(model_.info(), static_cast<int64_t>(coming.answers.size()),
                           longest + std::min<int64_t>(config.max_new_tokens, 64));
    step(coming, true, config, events);
    active.add(std::move(coming));
  }
  for (Answer* answer : active.answers) {
    const std::string rest = answer->output.finish();
    if (!rest.empty() && events.on_text) events.on_text(answer->index, rest);
  }
}

/// A token for each; those that end leave.
void Generator::step(Active& active, bool first, const GenerateConfig& config,
                     const GenerateEvents& events) const {
  const std::vector<int64_t> ids = next_ids(active.answers, first, active.caches);
  std::vector<Answer*> going_on;
  std::vector<int64_t> kept;
  for (size_t b = 0; b < active.answers.size(); ++b) {
    if (!advance(*active.answers[b], ids[b], config, events)) continue;
    going_on.push_back(active.answers[b]);
    kept.push_back(static_cast<int64_t>(b));
  }
  if (kept.size() < active.answers.size()) active.caches.select(kept);
  active.answers = std::move(going_on);
}

/// The first pass reads all of each sequence, a later one what was chosen last.
Batch Generator::batch_of(const std::vector<Answer*>& answers, bool first, Caches& caches) const {
  std::vector<int64_t> ids, lengths, starts, sources, source_lengths;
  for (const Answer* answer : answers) {
    const size_t begin = first ? 0 : answer->seen.size() - 1;
    ids.insert(ids.end(), answer->seen.begin() + static_cast<std::ptrdiff_t>(begin), answer->seen.end());
    lengths.push_back(static_cast<int64_t>(answer->seen.size() - begin));
    starts.push_back(static_cast<int64_t>(begin));
    sources.insert(sources.end(), answer->source.begin(), answer->source.end());
    source_lengths.push_back(static_cast<int64_t>(answer->source.size()));
  }
  const bool two_stacks = model_.info().is_encoder_decoder;
  Batch batch;
  (two_stacks ? batch.decoder_input_ids : batch.input_ids) = ops::whole_numbers(ids);
  Layout& layout = two_stacks ? batch.decoder_layout : batch.layout;
  layout = Layout::of(lengths, starts);
  batch.rows = layout.last_rows();
  batch.cache = &caches.own;
  if (two_stacks) batch.cross_cache = &caches.cross;
  // Later passes find the encoder's keys in the cache.
  if (two_stacks && first) {
    batch.input_ids = ops::whole_numbers(sources);
    batch.layout = Layout::of(source_lengths);
  }
  if (adapter_ && adapter_->input) batch = adapter_->input->before(model_, std::move(batch));
  return batch;
}

/// What each sequence goes on with. All is read anew where the cache's keys are rotated by other frequencies
/// than this pass has.
std::vector<int64_t> Generator::next_ids(const std::vector<Answer*>& answers, bool first,
                                         Caches& caches) const {
  Batch batch = batch_of(answers, first, caches);
  const int64_t limit = model_.info().rotary_switch;
  const bool far = limit > 0 && batch.layout.reach() > limit;
  if (!first && (caches.mixed || far != caches.far)) {
    caches = Caches(model_.info(), static_cast<int64_t>(answers.size()), batch.layout.reach() + 64);
    batch = batch_of(answers, true, caches);
  }
  caches.far = far;
  return next_ids(answers, batch);
}

std::vector<int64_t> Generator::next_ids(const std::vector<Answer*>& answers, const Batch& batch) const {
  std::vector<int64_t> ids(answers.size());
  const auto compute = [&] {
    const Tensor logits = ops::to_type(model_.logits(model_.run(batch), batch), at::kFloat).contiguous();
    const auto vocabulary = static_cast<size_t>(logits.size(1));
    ops::each_piece(static_cast<int64_t>(answers.size()), [&](int64_t i, int64_t) {
      const auto b = static_cast<size_t>(i);
      const std::span<const float> row(logits.const_data_ptr<float>() + b * vocabulary, vocabulary);
      ids[b] = answers[b]->sampler.next(row, answers[b]->seen);
    });
  };
  const auto rows = [](const Tensor& all) { return all.defined() ? all.size(0) : 0; };
  const bool few = rows(batch.input_ids) + rows(batch.decoder_input_ids) <= ops::kFewRows;
  if (crew_ && few) {
    crew_->run(compute);
  } else {
    compute();
  }
  return ids;
}

/// Writes the next token of one sequence; → whether it goes on.
bool Generator::advance(Answer& answer, int64_t id, const GenerateConfig& config,
                        const GenerateEvents& events) const {
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

std::optional<int64_t> decoder_start_id(const std::filesystem::path& folder) {
  const auto path = folder / "generation_config.json";
  if (!std::filesystem::exists(path)) return {};
  const Json generation = read_json(path);
  if (!generation.is_object()) return {};
  const Json id = generation.value("decoder_start_token_id", Json());
  if (id.is_null()) return {};
  if (!id.is_number_integer() || id.get<int64_t>() < 0)
    throw DataError(path.string(), "decoder_start_token_id: {}, expected a token id", id.dump());
  return id.get<int64_t>();
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
