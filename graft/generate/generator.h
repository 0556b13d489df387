// The generation loop: prompts in one packed pass, then a token a sequence a pass over the KV cache; a
// sequence that ends makes place for a prompt that waits. With two stacks the encoder reads the prompts once,
// and the decoder begins with its start token.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "graft/base/json.h"
#include "graft/generate/sampler.h"
#include "graft/generate/text_output.h"
#include "graft/ops/crew.h"
#include "graft/peft/adapter.h"
#include "graft/text/tokenizer.h"

namespace graft {

struct GenerateConfig {
  int64_t max_new_tokens = 128;
  std::vector<int64_t> eos{};       // ids that end an answer; each is the answer's last id
  std::vector<std::string> stop{};  // the text ends before the first of these
  int64_t batch_size = 16;          // prompts worked on together; where one ends, the next one enters
  /// Decode as going on from the prompt (its spaces count), not as a text of its own; what a decoder with an
  /// encoder writes is always one of its own.
  bool continues_prompt = true;
  std::optional<int64_t> decoder_start{};  // encoder-decoders: what an answer begins with; null: the model's
  SamplingConfig sampling{};
};

enum class Finish { eos, stop, length, interrupted };
/// "eos", "stop", "length", "interrupted".
std::string finish_name(Finish finish);

struct Generated {
  std::vector<int64_t> ids;  // new tokens only; a final eos included
  std::string text;          // empty without a tokenizer
  Finish finish = Finish::length;
};

/// What the caller hears meanwhile; both may be empty.
struct GenerateEvents {
  std::function<void(size_t prompt, std::string_view text)> on_text{};
  std::function<bool()> stop{};  // asked before each pass
};

class Generator {
 public:
  /// `adapter` (nullptr: none) is attached already; only its input hook is used. It is asked before every
  /// pass with positions that count real tokens; a cache that holds tokens tells it that virtual tokens in
  /// front were read already. `tokenizer` (nullptr: ids only) is needed for text and stop strings. Errors:
  /// UsageError where the model writes no text.
  Generator(Model& model, const Adapter* adapter, const Tokenizer* tokenizer);
  /// One answer a prompt, in order. Errors: UsageError (an empty prompt, one as long as the model's context,
  /// ids outside the vocabulary).
  std::vector<Generated> run(const std::vector<std::vector<int64_t>>& prompts, const GenerateConfig& config,
                             const GenerateEvents& events = {}) const;

 private:
  struct Answer;
  struct Caches;
  struct Active;
  Answer begin(const std::vector<int64_t>& prompt, size_t index, const GenerateConfig& config) const;
  void check(const std::vector<int64_t>& prompt, size_t index) const;
  void work(std::vector<Answer>& answers, const GenerateConfig& config, const GenerateEvents& events) const;
  void step(Active& active, bool first, const GenerateConfig& config, const GenerateEvents& events) const;
  Batch batch_of(const std::vector<Answer*>& answers, bool first, Caches& caches) const;
  std::vector<int64_t> next_ids(const std::vector<Answer*>& answers, bool first, Caches& caches) const;
  std::vector<int64_t> next_ids(const std::vector<Answer*>& answers, const Batch& batch) const;
  bool advance(Answer& answer, int64_t id, const GenerateConfig& config, const GenerateEvents& events) const;

  Model& model_;
  const Adapter* adapter_;
  const Tokenizer* tokenizer_;
  std::unique_ptr<ops::Crew> crew_;  // null: the model's layers take threads for themselves
};

/// What a decoder with an encoder begins with: generation_config.json's decoder_start_token_id, where there
/// is one. Errors: DataError.
std::optional<int64_t> decoder_start_id(const std::filesystem::path& folder);

/// The ids that end an answer: generation_config.json's eos_token_id (one or a list), else config.json's,
/// else the tokenizer's.
std::vector<int64_t> eos_ids(const std::filesystem::path& folder, const Json& config,
                             const Tokenizer* tokenizer);

}  // namespace graft
