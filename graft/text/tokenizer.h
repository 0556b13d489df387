// Text to ids and back, on the Rust crate `tokenizers`; sentencepiece models are converted on loading.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace graft {

struct Encoding {
  std::vector<int64_t> ids, type_ids;
  std::vector<std::pair<int64_t, int64_t>> offsets;  // start, end in code points of the text
  std::vector<bool> special;                         // true where a template put a special token
};

/// Text (or a pair) to encode; special tokens are added by the tokenizer's template unless switched off.
struct TextInput {
  std::string text;
  std::optional<std::string> pair;
  bool add_special_tokens = true;
};

class Tokenizer {
 public:
  /// From a folder: tokenizer.json, else tokenizer.model / spiece.model / spm.model, vocab.txt, vocab.json +
  /// merges.txt. Stored truncation and padding are off. Errors: DataError.
  static Tokenizer open(const std::filesystem::path& folder);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// Errors: DataError (not UTF-8).
  Encoding encode(const TextInput& input) const;
  /// In parallel, in order.
  std::vector<Encoding> encode_batch(const std::vector<TextInput>& inputs) const;
  std::string decode(const std::vector<int64_t>& ids, bool skip_special_tokens) const;

  int64_t vocab_size() const;  // added tokens included
  std::optional<int64_t> token_id(std::string_view token) const;
  std::optional<std::string> id_token(int64_t id) const;
  /// Named by tokenizer_config.json / special_tokens_map.json where given ("[PAD]", "</s>", …).
  std::optional<int64_t> bos_id() const, eos_id() const, pad_id() const, unk_id() const, cls_id() const,
      sep_id() const, mask_id() const;

  /// Hands out text as ids arrive, never half a character. `next` → the new text, nullopt for nothing yet.
  /// The tokenizer must outlive it.
  class Stream {
   public:
    ~Stream();
    Stream(Stream&&) noexcept;
    std::optional<std::string> next(int64_t id);
    /// Set once byte tokens that were handed out turned out not to be UTF-8: later text does not continue
    /// them.
    const std::optional<std::string>& fault() const;

   private:
    friend class Tokenizer;
    struct State;
    explicit Stream(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
  };
  Stream stream(bool skip_special_tokens) const;

 private:
  struct State;
  explicit Tokenizer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace graft
