#include "graft/models/albert.h"

#include <ATen/ATen.h>

#include "graft/models/config.h"
#include "graft/models/encoder_model.h"
#include "graft/nn/encoder_block.h"
#include "graft/nn/stack.h"

namespace graft {
namespace {

struct AlbertConfig {
  int64_t vocab_size = 30000, embedding_size = 128, hidden_size = 4096, num_hidden_layers = 12;
  int64_t num_hidden_groups = 1, num_attention_heads = 64, intermediate_size = 16384, inner_group_num = 1;
  int64_t max_position_embeddings = 512, type_vocab_size = 2;
  std::string hidden_act = "gelu_new", position_embedding_type = "absolute";
  double hidden_dropout_prob = 0, attention_probs_dropout_prob = 0, layer_norm_eps = 1e-12;
  std::optional<double> classifier_dropout_prob = 0.1;
  std::optional<int64_t> pad_token_id = 0;
  bool tie_word_embeddings = true;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("vocab_size", self.vocab_size, "rows of the word embedding", size_check());
    visit("embedding_size", self.embedding_size, "width of the word embedding", size_check());
    visit("hidden_size", self.hidden_size, "width of the stream", size_check());
    visit("num_hidden_layers", self.num_hidden_layers, "how often a block is passed", count_check());
    visit("num_hidden_groups", self.num_hidden_groups, "blocks with weights of their own", count_check());
    visit("num_attention_heads", self.num_attention_heads, "heads a block", count_check());
    visit("intermediate_size", self.intermediate_size, "width of the feed-forward part", size_check());
    visit("inner_group_num", self.inner_group_num, "blocks a group", between<int64_t>(1, 1));
    visit("max_position_embeddings", self.max_position_embeddings, "longest sequence", size_check());
    visit("type_vocab_size", self.type_vocab_size, "token types", size_check());
    visit("hidden_act", self.hidden_act, "activation", one_of(activation_names()));
    visit("position_embedding_type", self.position_embedding_type, "positions", one_of({"absolute"}));
    visit("hidden_dropout_prob", self.hidden_dropout_prob, "of attention's output", probability_check());
    visit("attention_probs_dropout_prob", self.attention_probs_dropout_prob, "of weights",
          probability_check());
    visit("layer_norm_eps", self.layer_norm_eps, "in every norm", eps_check());
    visit("classifier_dropout_prob", self.classifier_dropout_prob, "before a classifier");
    visit("pad_token_id", self.pad_token_id, "row of the word embedding that starts as zeros");
    visit("tie_word_embeddings", self.tie_word_embeddings, "masked LM: the decoder is the word embedding");
  }
  EncoderShape block() const {
    return {hidden_size,    num_attention_heads, intermediate_size,           activation(hidden_act),
            layer_norm_eps, hidden_dropout_prob, attention_probs_dropout_prob};
  }
};

class AlbertBlock : public Module {
 public:
  explicit AlbertBlock(const AlbertConfig& config)
      : attention_output_(config.hidden_size, config.block()),
        attention_(config.block()),
        ffn_(config.hidden_size, config.intermediate_size, true),
        ffn_output_(config.intermediate_size, config.hidden_size, true),
        norm_(config.hidden_size, config.layer_norm_eps),
        activation_(activation(config.hidden_act)) {
    add("attention", attention_output_);  // dense and LayerNorm lie beside query, key and value
    add("attention", attention_);
    add("ffn", ffn_);
    add("ffn_output", ffn_output_);
    add("full_layer_layer_norm", norm_);
    add("output_adapters", output_);
  }
  Tensor forward(const Tensor& x, const LayerPass& pass) const {
    RandomStream* dropout = pass.batch.dropout;
    const Tensor attended =
        attention_output_.forward(attention_.forward(x, pass), read_rows(x, pass.read), dropout);
    const Tensor fed = ffn_output_.forward(activation_(ffn_.forward(attended, dropout)), dropout);
    const auto norm = [this](const Tensor& y) { return norm_.forward(y); };
    return norm_.added(output_.forward({attended, fed, norm}, dropout), attended).normed;
  }

 private:
  PostNormOutput attention_output_;
  EncoderAttention attention_;
  Linear ffn_, ffn_output_;
  LayerNorm norm_;
  Sublayer output_;
  Activation activation_;
};

/// One pass through a block that several layers share.
class SharedBlock {
 public:
  explicit SharedBlock(const AlbertBlock& block) : block_(block) {}
  Tensor forward(const Tensor& x, const LayerPass& pass) const { return block_.forward(x, pass); }

 private:
  const AlbertBlock& block_;
};

/// Everything below the heads; "albert." where there is a head.
class AlbertNetwork : public Module {
 public:
  AlbertNetwork(const AlbertConfig& config, bool with_pooler)
      : embeddings({config.vocab_size, config.max_position_embeddings, config.type_vocab_size,
                    config.embedding_size, config.layer_norm_eps, config.hidden_dropout_prob}),
        mapping_(config.embedding_size, config.hidden_size, true) {
    add("embeddings", embeddings);
    add("encoder.embedding_hidden_mapping_in", mapping_);
    for (int64_t i = 0; i < config.num_hidden_groups; ++i) {
      blocks_.push_back(std::make_unique<AlbertBlock>(config));
      add(fmt::format("encoder.albert_layer_groups.{}.albert_layers.0", i), *blocks_.back());
    }
    for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
      const auto group = static_cast<size_t>(i * config.num_hidden_groups / config.num_hidden_layers);
      layers_.push_back(std::make_unique<SharedBlock>(*blocks_[group]));
    }
    if (!with_pooler) return;
    pooler = std::make_unique<Linear>(config.hidden_size, config.hidden_size, true);
    add("pooler", *pooler);
  }
  Tensor forward(const Batch& batch) const {
    const Tensor x = mapping_.forward(embeddings.forward(batch), batch.dropout);
    return run_stack(layers_, x, batch, [&](const Tensor& y) {
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
  Linear mapping_;
  std::vector<std::unique_ptr<AlbertBlock>> blocks_;
  std::vector<std::unique_ptr<SharedBlock>> layers_;
};

bool pools(HeadKind kind) {
  return kind == HeadKind::none || kind == HeadKind::sequence_classification ||
         kind == HeadKind::multiple_choice;
}

class Albert : public EncoderModel {
 public:
  Albert(const AlbertConfig& record, const Traits& traits, HeadKind kind, int64_t labels)
      : EncoderModel(traits, kind, labels), network_(record, pools(kind)) {
    add(kind == HeadKind::none ? "" : "albert", network_);
    const double dropout = record.classifier_dropout_prob.value_or(record.hidden_dropout_prob);
    if (kind == HeadKind::masked_lm) {
      const MaskedLmHead::Shape shape{record.hidden_size,    record.embedding_size,
                                      record.vocab_size,     activation(record.hidden_act),
                                      record.layer_norm_eps, record.tie_word_embeddings};
      set_head(
          std::make_unique<MaskedLmHead>(shape,
                                         MaskedLmHead::Names{"predictions.dense", "predictions.LayerNorm",
                                                             "predictions.decoder", "predictions.bias"},
                                         word_embedding().weight));
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
  AlbertNetwork network_;
};

std::unique_ptr<Model> create(const Json& config, HeadKind head, int64_t num_labels) {
  const std::vector<std::string> unused = {"down_scale_factor", "gap_size", "net_structure_type",
                                           "num_memory_blocks", "net_type", "layers_to_keep"};
  const auto record = read_config<AlbertConfig>(config, unused);
  Albert::Traits traits;
  traits.info = {.model_type = "albert",
                 .hidden_size = record.hidden_size,
                 .num_layers = record.num_hidden_layers,
                 .num_heads = record.num_attention_heads,
                 .num_kv_heads = record.num_attention_heads,
                 .head_dim = divided(record.hidden_size, record.num_attention_heads, "hidden_size",
                                     "num_attention_heads"),
                 .vocab_size = record.vocab_size,
                 .max_positions = record.max_position_embeddings,
                 .is_decoder = false};
  traits.roles = {{"query", "attention.query"},
                  {"key", "attention.key"},
                  {"value", "attention.value"},
                  {"attention_output", "attention.dense"},
                  {"mlp_up", ".ffn"},
                  {"mlp_down", ".ffn_output"},
                  {"word_embedding", "embeddings.word_embeddings"}};
  traits.padding_row = record.pad_token_id.value_or(-1);
  return std::make_unique<Albert>(record, traits, head, num_labels);
}

}  // namespace

const Family kAlbert = {
    .model_type = "albert",
    .create = create,
    .prefix = "albert.",
    .architectures = {{"AlbertModel", HeadKind::none},
                      {"AlbertForMaskedLM", HeadKind::masked_lm},
                      {"AlbertForPreTraining", HeadKind::masked_lm},
                      {"AlbertForSequenceClassification", HeadKind::sequence_classification},
                      {"AlbertForTokenClassification", HeadKind::token_classification},
                      {"AlbertForQuestionAnswering", HeadKind::question_answering},
                      {"AlbertForMultipleChoice", HeadKind::multiple_choice}},
    .heads = {"predictions.", "sop_classifier.", "classifier.", "qa_outputs.", "albert.pooler.", "pooler."},
    .buffers = {"embeddings.position_ids", "embeddings.token_type_ids"},
};

}  // namespace graft
