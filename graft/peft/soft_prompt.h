// Virtual tokens in front of the input's, or keys and values in front of every layer's: the fourth place
// where a method acts.
#pragma once
#include "graft/peft/adapter.h"
#include "graft/peft/prompt_encoder.h"

namespace graft {

/// A prompt's rows: trained themselves, or what an encoder makes of trained ones.
class PromptSource {
 public:
  /// Trained rows [v, d] under the file's key.
  explicit PromptSource(Tensor rows) : rows_(std::move(rows)) {}
  PromptSource(Tensor embedding, std::unique_ptr<PromptEncoder> encoder)
      : rows_(std::move(embedding)), encoder_(std::move(encoder)) {}
  /// [v, d']; with an encoder its output, whose gradient is kept.
  Tensor rows();
  bool encoded() const { return encoder_ != nullptr; }
  /// The last output of the encoder, for those who look at its gradient.
  const Tensor& last() const { return last_; }

 private:
  Tensor rows_;
  std::unique_ptr<PromptEncoder> encoder_;
  Tensor last_;
};

class SoftPrompt : public InputHook {
 public:
  explicit SoftPrompt(PromptSource source) : source_(std::move(source)) {}
  PromptSource& source() { return source_; }

 protected:
  PromptSource source_;
};

/// Virtual tokens in front of each sequence; in front of the encoder's, where there are two stacks.
class EmbeddedPrompt : public SoftPrompt {
 public:
  EmbeddedPrompt(PromptSource source, int64_t length) : SoftPrompt(std::move(source)), length_(length) {}
  Batch before(const Model& model, Batch batch) override;

 protected:
  /// The prompt's rows for each sequence: [S, d], of which sequence b takes rows first(b) … first(b) + length
  /// - 1.
  struct Rows {
    Tensor values;
    std::vector<int64_t> first;
  };
  virtual Rows rows_for(const Batch& batch, bool decoder);
  virtual bool in_decoder() const { return false; }
  /// Negative ids name rows of the prompt (-1 the first): they stand where the ids stood, and nothing in
  /// front.
  Batch filled(const Model& model, Batch batch);
  int64_t length_;
};

/// Keys and values of each layer, read from the rows [v, 2 L heads head_dim] as PEFT's file holds them.
class PrefixPrompt : public SoftPrompt {
 public:
  PrefixPrompt(PromptSource source, int64_t layers, int64_t heads)
      : SoftPrompt(std::move(source)), layers_(layers), heads_(heads) {}
  Batch before(const Model& model, Batch batch) override;

 private:
  int64_t layers_, heads_;
};

/// The file of an encoded prompt holds what the encoder makes, not the encoder.
void save_encoded(Adapter& adapter);

}  // namespace graft
