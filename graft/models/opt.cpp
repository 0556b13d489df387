#include "graft/models/opt.h"

#include <ATen/ATen.h>

#include "graft/models/config.h"
#include "graft/models/decoder_model.h"
#include "graft/nn/activation.h"
#include "graft/nn/attention.h"
#include "graft/nn/dropout.h"
#include "graft/nn/norm.h"
#include "graft/nn/stack.h"
#include "graft/ops/few_values.h"

namespace graft {
namespace {

/// The position table's first rows are of no position.
constexpr int64_t kFirstPosition = 2;
/// OPT's norms have torch's default; config.json does not say it.
constexpr double kEps = 1e-5;

struct OptConfig {
  int64_t vocab_size = 50272, hidden_size = 768, num_hidden_layers = 12, ffn_dim = 3072;
  int64_t max_position_embeddings = 2048, num_attention_heads = 12;
  std::optional<int64_t> word_embed_proj_dim, pad_token_id = 1;
  std::string activation_function = "relu";
  double dropout = 0.1, attention_dropout = 0, layerdrop = 0, init_std = 0.02;
  bool do_layer_norm_before = true, remove_final_layer_norm = false, enable_bias = true;
  bool layer_norm_elementwise_affine = true, tie_word_embeddings = true;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("vocab_size", self.vocab_size, "rows of the word embedding", size_check());
    visit("hidden_size", self.hidden_size, "width of the stream", size_check());
    visit("num_hidden_layers", self.num_hidden_layers, "blocks", count_check());
    visit("ffn_dim", self.ffn_dim, "width of the feed-forward part", size_check());
    visit("max_position_embeddings", self.max_position_embeddings, "longest sequence", size_check());
    visit("num_attention_heads", self.num_attention_heads, "heads a block", count_check());
    visit("word_embed_proj_dim", self.word_embed_proj_dim, "width of the word embedding; null: hidden_size");
    visit("pad_token_id", self.pad_token_id, "row of the word embedding that starts as zeros");
    visit("activation_function", self.activation_function, "activation", one_of(activation_names()));
    visit("dropout", self.dropout, "of sublayers' outputs", probability_check());
    visit("attention_dropout", self.attention_dropout, "of weights", probability_check());
    visit("layerdrop", self.layerdrop, "of whole layers: not implemented", between(0.0, 0.0));
    visit("init_std", self.init_std, "deviation of fresh weights", at_least(0.0));
    visit("do_layer_norm_before", self.do_layer_norm_before, "norm before the sublayer, else after the sum");
    visit("_remove_final_layer_norm", self.remove_final_layer_norm, "no norm at the end");
    visit("enable_bias", self.enable_bias, "biases in linear maps");
    visit("layer_norm_elementwise_affine", self.layer_norm_elementwise_affine, "norms have weights");
    visit("tie_word_embeddings", self.tie_word_embeddings, "the head is the word embedding");
  }
  int64_t words_width() const { return word_embed_proj_dim.value_or(hidden_size); }
  int64_t head_dim() const {
    return divided(hidden_size, num_attention_heads, "hidden_size", "num_attention_heads");
  }
};

class OptAttention : public Module {
 public:
  explicit OptAttention(const OptConfig& config)
      : k_proj_(config.hidden_size, config.hidden_size, config.enable_bias),
        v_proj_(config.hidden_size, config.hidden_size, config.enable_bias),
        q_proj_(config.hidden_size, config.hidden_size, config.enable_bias),
        out_proj_(config.hidden_size, config.hidden_size, config.enable_bias),
        head_dim_(config.head_dim()) {
    settings_.causal = true;
    settings_.dropout = config.attention_dropout;
    add("k_proj", k_proj_);
    add("v_proj", v_proj_);
    add("q_proj", q_proj_);
    add("out_proj", out_proj_);
  }
  Tensor forward(const Tensor& x, const LayerPass& pass) const {
    const Projections projected = project(q_proj_, k_proj_, v_proj_, x, pass, head_dim_);
    return out_proj_.forward(attend(projected, pass, settings_), pass.batch.dropout);
  }

 private:
  Linear k_proj_, v_proj_, q_proj_, out_proj_;
  int64_t head_dim_;
  AttentionSettings settings_;
};

class OptLayer : public Module {
 public:
  explicit OptLayer(const OptConfig& config)
      : attention_(config),
        attention_norm_(config.hidden_size, kEps),
        fc1_(config.hidden_size, config.ffn_dim, config.enable_bias),
        fc2_(config.ffn_dim, config.hidden_size, config.enable_bias),
        final_norm_(config.hidden_size, kEps),
        activation_(activation(config.activation_function)),
        dropout_(config.dropout),
        norm_before_(config.do_layer_norm_before) {
    add("self_attn", attention_);
    add("self_attn_layer_norm", attention_norm_);
    add("fc1", fc1_);
    add("fc2", fc2_);
    add("final_layer_norm", final_norm_);
    add("attention_adapters", attention_output_);
    add("output_adapters", output_);
  }
  Tensor forward(const Tensor& x, const LayerPass& pass) const {
    RandomStream* dropout = pass.batch.dropout;
    const Tensor attended = attention_.forward(before(x, attention_norm_), pass);
    const Tensor middle =
        join({attention_output_, attention_norm_}, read_rows(x, pass.read), attended, dropout);
    const Tensor inner = activation_(fc1_.forward(before(middle, final_norm_), dropout));
    return join({output_, final_norm_}, middle, fc2_.forward(inner, dropout), dropout);
  }

 private:
  struct Place {
    const Sublayer& slot;
    const LayerNorm& norm;
  };
  Tensor before(const Tensor& x, const LayerNorm& norm) const { return norm_before_ ? norm.forward(x) : x; }
  /// The sublayer's output back in the stream, normed where the norm comes after.
  Tensor join(const Place& place, const Tensor& residual, const Tensor& output, RandomStream* dropout) const {
    SublayerPass pass{residual, dropped(output, dropout_, dropout), {}};
    if (norm_before_) return ops::sum(residual, place.slot.forward(pass, dropout));
    pass.norm = [&place](const Tensor& y) { return place.norm.forward(y); };
    return place.norm.forward(ops::sum(residual, place.slot.forward(pass, dropout)));
  }

  OptAttention attention_;
  LayerNorm attention_norm_;
  Linear fc1_, fc2_;
  LayerNorm final_norm_;
  Sublayer attention_output_, output_;
  Activation activation_;
  double dropout_;
  bool norm_before_;
};

/// Everything below the heads; "model." where there is a head.
class OptNetwork : public Module {
 public:
  explicit OptNetwork(const OptConfig& config)
      : embed_tokens_(config.vocab_size, config.words_width()),
        embed_positions_(config.max_position_embeddings + kFirstPosition, config.hidden_size),
        dropout_(config.dropout) {
    add("decoder.embed_tokens", embed_tokens_);
    add("decoder.embed_positions", embed_positions_);
    if (config.words_width() != config.hidden_size) {
      project_in_ = std::make_unique<Linear>(config.words_width(), config.hidden_size, false);
      project_out_ = std::make_unique<Linear>(config.hidden_size, config.words_width(), false);
      add("decoder.project_in", *project_in_);
      add("decoder.project_out", *project_out_);
    }
    if (config.do_layer_norm_before && !config.remove_final_layer_norm) {
      final_norm_ = std::make_unique<LayerNorm>(config.hidden_size, kEps);
      add("decoder.final_layer_norm", *final_norm_);
    }
    for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
      layers_.push_back(std::make_unique<OptLayer>(config));
      add(fmt::format("decoder.layers.{}", i), *layers_.back());
    }
  }
  Tensor forward(const Batch& batch) const {
    batch.layout.check_positions(embed_positions_.rows() - kFirstPosition);
    Tensor x = embed_tokens_.inputs(batch.input_ids, batch.embeddings);
    if (project_in_) x = project_in_->forward(x, batch.dropout);
    x = x + embed_positions_.forward(batch.layout.positions + kFirstPosition);
    return run_stack(layers_, dropped(x, dropout_, batch.dropout), batch, [&](const Tensor& y) {
      const Tensor normed = final_norm_ ? final_norm_->forward(y) : y;
      return project_out_ ? project_out_->forward(normed, batch.dropout) : normed;
    });
  }
  Embedding& words() { return embed_tokens_; }

 private:
  Embedding embed_tokens_, embed_positions_;
  std::unique_ptr<Linear> project_in_, project_out_;
  std::unique_ptr<LayerNorm> final_norm_;
  std::vector<std::unique_ptr<OptLayer>> layers_;
  double dropout_;
};

class Opt : public DecoderModel<OptNetwork> {
 public:
  Opt(const OptConfig& record, const Traits& traits, HeadKind kind, int64_t labels)
      : DecoderModel(record, traits, kind, labels), deviation_(record.init_std) {}
  Init init(const std::string& path, const Parameter& parameter) const override {
    return parameter.shape.size() > 1 ? Init{.deviation = deviation_} : Model::init(path, parameter);
  }

 private:
  double deviation_;
};

std::unique_ptr<Model> create(const Json& config, HeadKind head, int64_t num_labels) {
  const auto record = read_config<OptConfig>(config, {"activation_dropout"});
  if (!record.layer_norm_elementwise_affine) {
    throw DataError("config.json", "layer_norm_elementwise_affine false is not implemented");
  }
  check_given(record.word_embed_proj_dim, "word_embed_proj_dim");
  Opt::Traits traits;
  traits.info = {.model_type = "opt",
                 .hidden_size = record.hidden_size,
                 .num_layers = record.num_hidden_layers,
                 .num_heads = record.num_attention_heads,
                 .num_kv_heads = record.num_attention_heads,
                 .head_dim = record.head_dim(),
                 .vocab_size = record.vocab_size,
                 .max_positions = record.max_position_embeddings,
                 .is_decoder = true};
  traits.network = "model";
  traits.roles = {{"query", "self_attn.q_proj"},
                  {"key", "self_attn.k_proj"},
                  {"value", "self_attn.v_proj"},
                  {"attention_output", "self_attn.out_proj"},
                  {"mlp_up", ".fc1"},
                  {"mlp_down", ".fc2"},
                  {"word_embedding", "embed_tokens"},
                  {"head", "lm_head"}};
  traits.tied = record.tie_word_embeddings;
  traits.padding_row = record.pad_token_id.value_or(-1);
  traits.head_width = record.words_width();
  return std::make_unique<Opt>(record, traits, head, num_labels);
}

}  // namespace

const Family kOpt = {
    .model_type = "opt",
    .create = create,
    .prefix = "model.",
    .architectures = {{"OPTForCausalLM", HeadKind::causal_lm},
                      {"OPTModel", HeadKind::none},
                      {"OPTForSequenceClassification", HeadKind::sequence_classification}},
    .heads = {"lm_head.", "score."},
};

}  // namespace graft
