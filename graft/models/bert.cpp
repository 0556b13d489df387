#include "graft/models/bert.h"

#include <ATen/ATen.h>

#include "graft/base/error.h"
#include "graft/models/config.h"
#include "graft/nn/activation.h"
#include "graft/nn/attention.h"
#include "graft/nn/dropout.h"
#include "graft/nn/norm.h"

namespace graft {
namespace {

struct BertConfig {
  int64_t vocab_size = 30522, hidden_size = 768, num_hidden_layers = 12, num_attention_heads = 12;
  int64_t intermediate_size = 3072, max_position_embeddings = 512, type_vocab_size = 2;
  std::string hidden_act = "gelu", position_embedding_type = "absolute";
  double hidden_dropout_prob = 0.1, attention_probs_dropout_prob = 0.1, layer_norm_eps = 1e-12;
  std::optional<double> classifier_dropout;
  std::optional<int64_t> pad_token_id = 0;
  bool tie_word_embeddings = true;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("vocab_size", self.vocab_size, "rows of the word embedding", size_check());
    visit("hidden_size", self.hidden_size, "width of the stream", size_check());
    visit("num_hidden_layers", self.num_hidden_layers, "blocks", count_check());
    visit("num_attention_heads", self.num_attention_heads, "heads a block", count_check());
    visit("intermediate_size", self.intermediate_size, "width of the feed-forward part", size_check());
    visit("max_position_embeddings", self.max_position_embeddings, "longest sequence", size_check());
    visit("type_vocab_size", self.type_vocab_size, "token types", size_check());
    visit("hidden_act", self.hidden_act, "activation", one_of(activation_names()));
    visit("position_embedding_type", self.position_embedding_type, "positions", one_of({"absolute"}));
    visit("hidden_dropout_prob", self.hidden_dropout_prob, "of sublayers' outputs", probability_check());
    visit("attention_probs_dropout_prob", self.attention_probs_dropout_prob, "of weights",
          probability_check());
    visit("layer_norm_eps", self.layer_norm_eps, "in every norm", eps_check());
    visit("classifier_dropout", self.classifier_dropout, "before a classifier; null: hidden_dropout_prob");
    visit("pad_token_id", self.pad_token_id, "row of the word embedding that starts as zeros");
    visit("tie_word_embeddings", self.tie_word_embeddings, "masked LM: the decoder is the word embedding");
  }
  int64_t head_dim() const {
    return divided(hidden_size, num_attention_heads, "hidden_size", "num_attention_heads");
  }
};

class BertEmbeddings : public Module {
 public:
  explicit BertEmbeddings(const BertConfig& config)
      : word_embeddings(config.vocab_size, config.hidden_size),
        position_embeddings_(config.max_position_embeddings, config.hidden_size),
        token_type_embeddings_(config.type_vocab_size, config.hidden_size),
        norm_(config.hidden_size, config.layer_norm_eps),
        dropout_(config.hidden_dropout_prob) {
    add("word_embeddings", word_embeddings);
    add("position_embeddings", position_embeddings_);
    add("token_type_embeddings", token_type_embeddings_);
    add("LayerNorm", norm_);
  }
  Tensor forward(const Batch& batch) const {
    const Tensor& positions = batch.layout.positions;
    batch.layout.check_positions(position_embeddings_.rows());
    const Tensor words = word_embeddings.inputs(batch.input_ids, batch.embeddings);
    const Tensor types = batch.token_type_ids.defined() ? batch.token_type_ids : at::zeros_like(positions);
    const Tensor sum =
        words + token_type_embeddings_.forward(types) + position_embeddings_.forward(positions);
    return dropped(norm_.forward(sum), dropout_, batch.dropout);
  }

  Embedding word_embeddings;

 private:
  Embedding position_embeddings_, token_type_embeddings_;
  LayerNorm norm_;
  double dropout_;
};

class BertSelfAttention : public Module {
 public:
  explicit BertSelfAttention(const BertConfig& config)
      : query_(config.hidden_size, config.hidden_size, true),
        key_(config.hidden_size, config.hidden_size, true),
        value_(config.hidden_size, config.hidden_size, true),
        heads_(config.num_attention_heads),
        head_dim_(config.head_dim()) {
    settings_.dropout = config.attention_probs_dropout_prob;
    add("query", query_);
    add("key", key_);
    add("value", value_);
  }
  Tensor forward(const Tensor& x, const LayerPass& pass) const {
    RandomStream* dropout = pass.batch.dropout;
    const auto split = [&](const Tensor& y) { return y.view({-1, heads_, head_dim_}); };
    const Tensor q = split(query_.forward(pass.query_input(x), dropout));
    const Tensor k = split(key_.forward(x, dropout));
    const Tensor v = split(value_.forward(x, dropout));
    return attend({q, k, v}, pass, settings_);
  }

 private:
  Linear query_, key_, value_;
  int64_t heads_, head_dim_;
  AttentionSettings settings_;
};

/// A sublayer's way back to the stream: dense, dropout, sum, norm.
class BertOutput : public Sublayer {
 public:
  BertOutput(int64_t in, const BertConfig& config)
      : dense_(in, config.hidden_size, true),
        norm_(config.hidden_size, config.layer_norm_eps),
        dropout_(config.hidden_dropout_prob) {
    add("dense", dense_);
    add("LayerNorm", norm_);
  }
  Tensor forward(const Tensor& x, const Tensor& residual, RandomStream* dropout) const {
    const Tensor output = dropped(dense_.forward(x, dropout), dropout_, dropout);
    const auto norm = [this](const Tensor& y) { return norm_.forward(y); };
    return norm(residual + Sublayer::forward({residual, output, norm}, dropout));
  }

 private:
  Linear dense_;
  LayerNorm norm_;
  double dropout_;
};

class BertLayer : public Module {
 public:
  explicit BertLayer(const BertConfig& config)
      : attention_(config),
        attention_output_(config.hidden_size, config),
        intermediate_(config.hidden_size, config.intermediate_size, true),
        output_(config.intermediate_size, config),
        activation_(activation(config.hidden_act)) {
    add("attention.self", attention_);
    add("attention.output", attention_output_);
    add("intermediate.dense", intermediate_);
    add("output", output_);
  }
  Tensor forward(const Tensor& x, const LayerPass& pass) const {
    RandomStream* dropout = pass.batch.dropout;
    const Tensor attended =
        attention_output_.forward(attention_.forward(x, pass), read_rows(x, pass.read), dropout);
    return output_.forward(activation_(intermediate_.forward(attended, dropout)), attended, dropout);
  }

 private:
  BertSelfAttention attention_;
  BertOutput attention_output_;
  Linear intermediate_;
  BertOutput output_;
  Activation activation_;
};

/// Everything below the heads; "bert." where there is a head.
class BertNetwork : public Module {
 public:
  BertNetwork(const BertConfig& config, bool with_pooler) : embeddings(config) {
    add("embeddings", embeddings);
    for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
      layers_.push_back(std::make_unique<BertLayer>(config));
      add(fmt::format("encoder.layer.{}", i), *layers_.back());
    }
    if (with_pooler) {
      pooler_ = std::make_unique<Linear>(config.hidden_size, config.hidden_size, true);
      add("pooler.dense", *pooler_);
    }
  }
  Tensor forward(const Batch& batch) const {
    const auto read = ReadRows::of(batch, batch.layout);
    Tensor x = embeddings.forward(batch);
    for (size_t i = 0; i < layers_.size(); ++i) {
      if (batch.trace != nullptr) batch.trace->hidden_states.push_back(x);
      const bool last = i + 1 == layers_.size();
      x = layers_[i]->forward(
          x, {batch, batch.layout, static_cast<int64_t>(i), last && read ? &*read : nullptr});
    }
    if (batch.trace == nullptr) return x;
    batch.trace->hidden_states.push_back(x);
    if (pooler_) batch.trace->pooler_output = pooled(x.index_select(0, batch.layout.first_rows()), nullptr);
    return batch.rows.defined() ? x.index_select(0, batch.rows) : x;
  }
  Tensor pooled(const Tensor& x, RandomStream* dropout) const {
    return at::tanh(pooler_->forward(x, dropout));
  }

  BertEmbeddings embeddings;

 private:
  std::vector<std::unique_ptr<BertLayer>> layers_;
  std::unique_ptr<Linear> pooler_;
};

class BertMaskedLmHead : public Module {
 public:
  BertMaskedLmHead(const BertConfig& config, const std::shared_ptr<Parameter>& words)
      : dense_(config.hidden_size, config.hidden_size, true),
        norm_(config.hidden_size, config.layer_norm_eps),
        decoder(config.tie_word_embeddings
                    ? std::make_unique<Linear>(words, true)
                    : std::make_unique<Linear>(config.hidden_size, config.vocab_size, true)),
        activation_(activation(config.hidden_act)) {
    add("bias", decoder->bias);
    add("transform.dense", dense_);
    add("transform.LayerNorm", norm_);
    add("decoder", *decoder);
  }
  Tensor forward(const Tensor& x, RandomStream* dropout) const {
    return decoder->forward(norm_.forward(activation_(dense_.forward(x, dropout))), dropout);
  }

 private:
  Linear dense_;
  LayerNorm norm_;

 public:
  std::unique_ptr<Linear> decoder;

 private:
  Activation activation_;
};

class Bert : public Model {
 public:
  Bert(const BertConfig& record, HeadKind kind, int64_t labels)
      : network_(record, kind == HeadKind::none || kind == HeadKind::sequence_classification ||
                             kind == HeadKind::multiple_choice),
        head_dropout_(record.classifier_dropout.value_or(record.hidden_dropout_prob)),
        pad_(record.pad_token_id.value_or(-1)) {
    head = kind;
    num_labels = labels;
    info_ = {.model_type = "bert",
             .hidden_size = record.hidden_size,
             .num_layers = record.num_hidden_layers,
             .num_heads = record.num_attention_heads,
             .num_kv_heads = record.num_attention_heads,
             .head_dim = record.head_dim(),
             .vocab_size = record.vocab_size,
             .max_positions = record.max_position_embeddings,
             .is_decoder = false};
    add(kind == HeadKind::none ? "" : "bert", network_);
    if (kind == HeadKind::masked_lm) {
      lm_head_ = std::make_unique<BertMaskedLmHead>(record, network_.embeddings.word_embeddings.weight);
      add("cls.predictions", *lm_head_);
    } else if (kind != HeadKind::none) {
      const int64_t outputs = kind == HeadKind::multiple_choice      ? 1
                              : kind == HeadKind::question_answering ? 2
                                                                     : labels;
      classifier_ = std::make_unique<Linear>(record.hidden_size, outputs, true);
      add(head_modules()[0], *classifier_);
    }
  }

  Tensor run(const Batch& batch) override { return network_.forward(batch); }

  Tensor logits(const Tensor& hidden, const Batch& batch) override {
    switch (head) {
      case HeadKind::masked_lm:
        return lm_head_->forward(hidden, batch.dropout);
      case HeadKind::question_answering:
        return classifier_->forward(hidden, batch.dropout);
      case HeadKind::token_classification:
        return classifier_->forward(dropped(hidden, head_dropout_, batch.dropout), batch.dropout);
      case HeadKind::sequence_classification:
      case HeadKind::multiple_choice:
        return classifier_->forward(
            dropped(network_.pooled(hidden, batch.dropout), head_dropout_, batch.dropout), batch.dropout);
      default:
        throw InternalError("bert", "no logits with head {}", head_name(head));
    }
  }

  Tensor head_rows(const Layout& layout) const override {
    const bool one = head == HeadKind::sequence_classification || head == HeadKind::multiple_choice;
    return one ? layout.first_rows() : Tensor();
  }
  const ModelInfo& info() const override { return info_; }
  std::vector<Role> roles() const override {
    return {{"query", "attention.self.query"},
            {"key", "attention.self.key"},
            {"value", "attention.self.value"},
            {"attention_output", "attention.output.dense"},
            {"mlp_up", "intermediate.dense"},
            {"mlp_down", "output.dense"},
            {"word_embedding", "embeddings.word_embeddings"}};
  }
  Embedding& word_embedding() override { return network_.embeddings.word_embeddings; }
  Linear* output_embedding() override { return lm_head_ ? lm_head_->decoder.get() : nullptr; }
  std::vector<std::string> head_modules() const override {
    if (head == HeadKind::none || head == HeadKind::masked_lm) return {};
    return {head == HeadKind::question_answering ? "qa_outputs" : "classifier"};
  }
  int64_t padding_row() const override { return pad_; }

 private:
  BertNetwork network_;
  std::unique_ptr<BertMaskedLmHead> lm_head_;
  std::unique_ptr<Linear> classifier_;
  double head_dropout_;
  int64_t pad_;
  ModelInfo info_;
};

std::unique_ptr<Model> create(const Json& config, HeadKind head, int64_t num_labels) {
  return std::make_unique<Bert>(read_config<BertConfig>(config), head, num_labels);
}

}  // namespace

const Family kBert = {
    .model_type = "bert",
    .create = create,
    .prefix = "bert.",
    .architectures = {{"BertModel", HeadKind::none},
                      {"BertForMaskedLM", HeadKind::masked_lm},
                      {"BertForPreTraining", HeadKind::masked_lm},
                      {"BertForSequenceClassification", HeadKind::sequence_classification},
                      {"BertForTokenClassification", HeadKind::token_classification},
                      {"BertForQuestionAnswering", HeadKind::question_answering},
                      {"BertForMultipleChoice", HeadKind::multiple_choice}},
    .heads = {"cls.", "classifier.", "qa_outputs.", "bert.pooler.", "pooler."},
    .buffers = {"embeddings.position_ids", "embeddings.token_type_ids"},
    .renames = {{"LayerNorm.gamma", "LayerNorm.weight"}, {"LayerNorm.beta", "LayerNorm.bias"}},
};

}  // namespace graft
