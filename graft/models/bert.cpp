#include "graft/models/bert.h"

#include <ATen/ATen.h>

#include "graft/models/config.h"
#include "graft/models/encoder_model.h"
#include "graft/nn/encoder_block.h"
#include "graft/nn/stack.h"

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
  EncoderEmbeddings::Shape embeddings() const {
    return {vocab_size,  max_position_embeddings, type_vocab_size,
            hidden_size, layer_norm_eps,          hidden_dropout_prob};
  }
  EncoderShape block() const {
    return {hidden_size,    num_attention_heads, intermediate_size,           activation(hidden_act),
            layer_norm_eps, hidden_dropout_prob, attention_probs_dropout_prob};
  }
};

/// Everything below the heads; "bert." where there is a head.
class BertNetwork : public Module {
 public:
  BertNetwork(const BertConfig& config, bool with_pooler) : embeddings(config.embeddings()) {
    add("embeddings", embeddings);
    for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
      blocks_.push_back(std::make_unique<EncoderBlock>(config.block()));
      add(fmt::format("encoder.layer.{}", i), *blocks_.back());
    }
    if (!with_pooler) return;
    pooler = std::make_unique<Linear>(config.hidden_size, config.hidden_size, true);
    add("pooler.dense", *pooler);
  }
  Tensor forward(const Batch& batch) const {
    return run_stack(blocks_, embeddings.forward(batch), batch, [&](const Tensor& y) {
      if (batch.trace != nullptr && pooler) {
        const Tensor first = y.index_select(0, batch.layout.first_rows());
        batch.trace->pooler_output = at::tanh(pooler->forward(first));
      }
      return y;
    });
  }

  EncoderEmbeddings embeddings;
  std::unique_ptr<Linear> pooler;  // null where nothing reads it

 private:
  std::vector<std::unique_ptr<EncoderBlock>> blocks_;
};

bool pools(HeadKind kind) {
  return kind == HeadKind::none || kind == HeadKind::sequence_classification ||
         kind == HeadKind::multiple_choice;
}

class Bert : public EncoderModel {
 public:
  Bert(const BertConfig& record, const Traits& traits, HeadKind kind, int64_t labels)
      : EncoderModel(traits, kind, labels), network_(record, pools(kind)) {
    add(kind == HeadKind::none ? "" : "bert", network_);
    const double dropout = record.classifier_dropout.value_or(record.hidden_dropout_prob);
    if (kind == HeadKind::masked_lm) {
      const MaskedLmHead::Shape shape{record.hidden_size,    record.hidden_size,
                                      record.vocab_size,     activation(record.hidden_act),
                                      record.layer_norm_eps, record.tie_word_embeddings};
      const MaskedLmHead::Names names{"cls.predictions.transform.dense",
                                      "cls.predictions.transform.LayerNorm", "cls.predictions.decoder",
                                      "cls.predictions.bias"};
      set_head(std::make_unique<MaskedLmHead>(shape, names, word_embedding().weight));
    } else if (kind == HeadKind::question_answering) {
      set_head(std::make_unique<LinearHead>("qa_outputs", record.hidden_size, outputs()));
    } else if (kind == HeadKind::token_classification) {
      set_head(std::make_unique<LinearHead>("classifier", record.hidden_size, outputs(), dropout));
    } else if (kind != HeadKind::none) {
      set_head(std::make_unique<PooledHead>(PooledHead::Pooler{*network_.pooler, activation("tanh")},
                                            "classifier", outputs(), dropout));
    }
  }
  Tensor run(const Batch& batch) override { return network_.forward(batch); }
  Embedding& word_embedding() override { return network_.embeddings.word_embeddings; }

 private:
  BertNetwork network_;
};

std::unique_ptr<Model> create(const Json& config, HeadKind head, int64_t num_labels) {
  const auto record = read_config<BertConfig>(
      config, {"pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head",
               "pooler_type"});  // of the original release; nothing reads them
  Bert::Traits traits;
  traits.info = {.model_type = "bert",
                 .hidden_size = record.hidden_size,
                 .num_layers = record.num_hidden_layers,
                 .num_heads = record.num_attention_heads,
                 .num_kv_heads = record.num_attention_heads,
                 .head_dim = record.head_dim(),
                 .vocab_size = record.vocab_size,
                 .max_positions = record.max_position_embeddings,
                 .is_decoder = false};
  traits.roles = encoder_roles();
  traits.padding_row = record.pad_token_id.value_or(-1);
  return std::make_unique<Bert>(record, traits, head, num_labels);
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
