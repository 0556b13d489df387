// A frozen network of one family, its heads, and what methods and loops need to know of it.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "graft/io/checkpoint.h"
#include "graft/nn/batch.h"
#include "graft/nn/embedding.h"
#include "graft/nn/linear.h"
#include "graft/nn/sublayer.h"

namespace graft {

enum class HeadKind {
  none,  // hidden states (feature extraction)
  causal_lm,
  masked_lm,
  sequence_classification,  // regression too
  token_classification,
  question_answering,
  multiple_choice,
  seq2seq_lm,  // encoder-decoders
};
/// "causal_lm" … and back. Errors: UsageError with the known names.
std::string head_name(HeadKind head);
HeadKind head_kind(const std::string& name);

/// Sizes every family has. Units: rows of the respective tensors.
struct ModelInfo {
  std::string model_type;
  int64_t hidden_size = 0, num_layers = 0, num_heads = 0, num_kv_heads = 0, head_dim = 0;
  int64_t vocab_size = 0, max_positions = 0;
  bool is_decoder = false;    // causal: reads from left to right
  int64_t rotary_switch = 0;  // keys of passes that reach further do not fit those of others; 0: all fit
  bool is_encoder_decoder =
      false;  // then num_layers are the decoder's (those that a cache holds), and there are
  int64_t num_encoder_layers = 0;   // the encoder's
  int64_t decoder_start_token = 0;  // what its output begins with
};

/// What a linear or embedding does in its family, from which methods take default targets ("query", "value",
/// …).
struct Role {
  std::string
      name;  // query, key, value, attention_output, mlp_gate, mlp_up, mlp_down, word_embedding, head …
  std::string suffix;  // module path ends with this; the first row that fits counts
};

class Model : public Module {
 public:
  /// → [T, hidden] after the final norm; [N, hidden] where batch.rows is given.
  virtual Tensor run(const Batch& batch) = 0;
  /// The head on hidden rows [N, hidden] → [N, labels or vocabulary]. Sequence heads get one row a sequence
  /// (head_rows). multiple_choice gives [N, 1]. HeadKind::none: InternalError.
  virtual Tensor logits(const Tensor& hidden, const Batch& batch) = 0;
  /// ops::cross_entropy(logits(hidden, batch), targets) for heads over the vocabulary, some rows at a time:
  /// the logits of a whole step are never there at once. hidden [N, hidden], targets [N] → scalar, whose
  /// gradients are made on the way: one backward pass.
  Tensor vocabulary_loss(const Tensor& hidden, const Tensor& targets, const Batch& batch);
  /// The rows that a sequence head reads: [B] first (BERT) or last (decoders) of each; undefined for heads
  /// that read all. input_ids [T], or undefined: a decoder's last row is, as in transformers, the last whose
  /// token is no padding, though it be the text's own.
  virtual Tensor head_rows(const Layout& layout, const Tensor& input_ids) const = 0;
  virtual const ModelInfo& info() const = 0;
  virtual std::vector<Role> roles() const = 0;
  virtual Embedding& word_embedding() = 0;
  /// The map onto the vocabulary; nullptr where the model has none.
  virtual Linear* output_embedding() = 0;
  /// PEFT's names of new heads, trained and saved beside adapters ("classifier", "score", "qa_outputs");
  /// those that exist.
  virtual std::vector<std::string> head_modules() const = 0;
  /// What a fresh tensor holds: draws from N(0, deviation), or this value everywhere. Here: norms' weights 1,
  /// biases 0, the rest N(0, initializer_range).
  struct Init {
    double deviation = 0, value = 0;
  };
  virtual Init init(const std::string& path, const Parameter& parameter) const;
  /// The word embedding's row that starts as zeros; -1 where there is none.
  virtual int64_t padding_row() const { return -1; }

  HeadKind head = HeadKind::none;
  int64_t num_labels = 0;
  at::ScalarType dtype = at::kFloat;  // compute type of the frozen base
  bool int8 = false;                  // frozen linear maps are multiplied in 8 bits
  Json config;                        // what config.json of this model says (with head and labels)
  std::string name_or_path;           // where it came from
  std::vector<std::pair<int64_t, int64_t>> layer_replication;  // that it was loaded with
};

struct LoadOptions {
  at::ScalarType dtype = at::kFloat;
  /// Frozen linear maps multiply in 8 bits (ops::int8_linear), the head over the vocabulary with its exact
  /// gradient; what is trained anew (head_modules) does not. Everything else is of `dtype`.
  bool int8 = false;
  /// Linear maps of at most so many bytes in all are packed for both directions, larger ones once
  /// (Linear::use_one_layout).
  int64_t second_layout = int64_t{512} << 20;
  std::optional<HeadKind> head{};       // from config.json's architectures where not given
  std::optional<int64_t> num_labels{};  // from config.json where not given
  std::vector<std::string> label_names{};
  std::optional<std::string> problem_type{};  // "regression", …
  uint64_t seed = 0;  // of new heads (N(0, initializer_range), biases 0) and of from_scratch
  /// The layers [first, last) of each range, one range after the other, in place of the checkpoint's layers;
  /// copies share their weights. Empty: the layers as they are.
  std::vector<std::pair<int64_t, int64_t>> layer_replication{};
};

/// A family: one file pair in this folder, one line in the registry.
struct Family {
  const char* model_type;
  std::unique_ptr<Model> (*create)(const Json& config, HeadKind head, int64_t num_labels);
  std::string prefix{};  // of the network's tensors where there is a head ("bert.")
  std::vector<std::pair<std::string, HeadKind>>
      architectures{};  // transformers' class names; the first of a head is written
  std::vector<std::string>
      heads{};  // tensors that start so may be missing (drawn anew) or left over (of another head)
  std::vector<std::string> buffers{};                          // file keys that end so hold no weights
  std::vector<std::pair<std::string, std::string>> renames{};  // part of a file key → of a tensor's path here
  bool rename_back = false;                                    // written with the file's names
};
const std::vector<Family>& families();
/// Errors: DataError naming the nearest known ones.
const Family& family(const std::string& model_type);

/// Reads config.json strictly (a setting that changes the numbers and is not implemented is an error naming
/// it), builds, loads and checks every tensor: all missing, unexpected and misshapen names in one error; a
/// missing new head is initialised instead (warned).
std::unique_ptr<Model> load_model(const Checkpoint& checkpoint, const LoadOptions& options);
/// Random weights as transformers initialises them, from options.seed.
std::unique_ptr<Model> new_model(const Json& config, const LoadOptions& options);

/// What a checkpoint's file calls the tensor that lies at `path` here.
std::string file_name(const Model& model, const std::string& path);
/// The model's tensors by checkpoint name (values: stand-ins where attached), tied ones once; and config.json
/// to go with them.
TensorMap model_tensors(const Model& model, at::ScalarType dtype);
Json model_config(const Model& model, at::ScalarType dtype);

}  // namespace graft
