// What a program opens: a model folder with its tokenizer, chat template and adapters, ready to compute.
#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "graft/models/model.h"
#include "graft/peft/adapter.h"
#include "graft/text/chat_template.h"
#include "graft/text/tokenizer.h"

namespace graft {

/// An adapter's folder and how much of it counts.
struct AdapterChoice {
  std::filesystem::path folder;
  double weight = 1;
};
/// "FOLDER" or "FOLDER@0.5". Errors: UsageError (a weight that is no number).
AdapterChoice adapter_choice(const std::string& text);

struct SessionOptions {
  std::filesystem::path model;  // a folder in Hugging Face layout
  std::vector<AdapterChoice>
      adapters{};             // with several, or a weight other than 1, all are merged into the base
  bool merged = false;        // merge also a single adapter
  int64_t drop_adapters = 0;  // AdapterDrop: bottlenecks in this many of the lowest layers are left out
  LoadOptions load{};
};

class Session {
 public:
  /// Errors: DataError, UsageError (no such folder, an adapter for another base …).
  static Session open(const SessionOptions& options);
  Session(Session&&) = default;
  Session& operator=(Session&&) = default;

  Model& model() const { return *model_; }
  /// Errors: DataError where the model's folder has no tokenizer.
  const Tokenizer& tokenizer() const;
  /// nullptr where the model has none.
  const ChatTemplate* chat_template() const { return chat_template_ ? &*chat_template_ : nullptr; }
  /// The attached adapter; nullptr for a plain or merged model.
  const Adapter* adapter() const { return adapter_ ? adapter_.get() : nullptr; }
  const std::filesystem::path& folder() const { return folder_; }

  /// What the adapter's input hook makes of a batch; the batch itself where there is no such hook. Call
  /// before Model::run.
  Batch prepare(Batch batch) const;

 private:
  Session() = default;
  std::filesystem::path folder_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Adapter> adapter_;
  mutable std::optional<Tokenizer> tokenizer_;  // opened when first asked for
  std::optional<ChatTemplate> chat_template_;
};

/// The head that writes text with the model in this folder: seq2seq_lm where its family has two stacks, else
/// causal_lm. Errors: DataError.
HeadKind text_head(const std::filesystem::path& model);

/// "float32" or "bfloat16" (also "float64"). Errors: UsageError.
at::ScalarType dtype_of(const std::string& name);
/// The type a model computes in: dtype_of's, or "int8": bfloat16, but frozen linear maps in 8 bits. Errors:
/// UsageError.
void set_dtype(LoadOptions& options, const std::string& name);
std::string dtype_name(at::ScalarType type);

}  // namespace graft
