#include "graft/models/gpt2.h"

#include <ATen/ATen.h>

#include <cmath>

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

struct Gpt2Config {
  int64_t vocab_size = 50257, n_positions = 1024, n_embd = 768, n_layer = 12, n_head = 12;
  std::optional<int64_t> n_inner;
  std::string activation_function = "gelu_new";
  double resid_pdrop = 0.1, embd_pdrop = 0.1, attn_pdrop = 0.1, layer_norm_epsilon = 1e-5;
  double initializer_range = 0.02;
  bool scale_attn_weights = true, scale_attn_by_inverse_layer_idx = false, tie_word_embeddings = true;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("vocab_size", self.vocab_size, "rows of the word embedding", size_check());
    visit("n_positions", self.n_positions, "longest sequence", size_check());
    visit("n_embd", self.n_embd, "width of the stream", size_check());
    visit("n_layer", self.n_layer, "blocks", count_check());
    visit("n_head", self.n_head, "heads a block", count_check());
    visit("n_inner", self.n_inner, "width of the feed-forward part; null: 4 · n_embd");
    visit("activation_function", self.activation_function, "activation", one_of(activation_names()));
    visit("resid_pdrop", self.resid_pdrop, "of sublayers' outputs", probability_check());
    visit("embd_pdrop", self.embd_pdrop, "of embeddings", probability_check());
    visit("attn_pdrop", self.attn_pdrop, "of weights", probability_check());
    visit("layer_norm_epsilon", self.layer_norm_epsilon, "in every norm", eps_check());
    visit("initializer_range", self.initializer_range, "deviation of fresh weights", at_least(0.0));
    visit("scale_attn_weights", self.scale_attn_weights,
          "scores are divided by the root of the head's width");
    visit("scale_attn_by_inverse_layer_idx", self.scale_attn_by_inverse_layer_idx,
          "… and by the layer's number");
    visit("tie_word_embeddings", self.tie_word_embeddings, "the head is the word embedding");
  }
  int64_t inner() const { return n_inner.value_or(4 * n_embd); }
  int64_t head_dim() const { return divided(n_embd, n_head, "n_embd", "n_head"); }
};

/// transformers' Conv1D: a linear map whose weight the file holds as [in, out].
class Conv1d : public Linear {
 public:
  Conv1d(int64_t in, int64_t out) : Linear(in, out, true) { weight->transposed = true; }
};

class Gpt2Attention : public Module {
 public:
  Gpt2Attention(const Gpt2Config& config, int64_t layer)
      : c_attn_(config.n_embd, 3 * config.n_embd),
        c_proj_(config.n_embd, config.n_embd),
        heads_(config.n_head),
        head_dim_(config.head_dim()) {
    settings_.causal = true;
    settings_.dropout = config.attn_pdrop;
    settings_.scale = config.scale_attn_weights ? 1 / std::sqrt(static_cast<double>(head_dim_)) : 1;
    if (config.scale_attn_by_inverse_layer_idx) settings_.scale /= static_cast<double>(layer + 1);
    add("c_attn", c_attn_);
    add("c_proj", c_proj_);
  }
  Tensor forward(const Tensor& x, const LayerPass& pass) const {
    RandomStream* dropout = pass.batch.dropout;
    const Tensor fused = c_attn_.forward(x, dropout).view({-1, 3, heads_, head_dim_});
    const Projections projections{pass.query_input(fused.select(1, 0)), fused.select(1, 1),
                                  fused.select(1, 2)};
    return c_proj_.forward(attend(projections, pass, settings_), dropout);
  }

 private:
  Conv1d c_attn_, c_proj_;
  int64_t heads_, head_dim_;
  AttentionSettings settings_;
};

class Gpt2Mlp : public Module {
 public:
  explicit Gpt2Mlp(const Gpt2Config& config)
      : c_fc_(config.n_embd, config.inner()),
        c_proj_(config.inner(), config.n_embd),
        activation_(activation(config.activation_function)) {
    add("c_fc", c_fc_);
    add("c_proj", c_proj_);
  }
  Tensor forward(const Tensor& x, RandomStream* dropout) const {
    return c_proj_.forward(activation_(c_fc_.forward(x, dropout)), dropout);
  }

 private:
  Conv1d c_fc_, c_proj_;
  Activation activation_;
};

class Gpt2Block : public Module {
 public:
  Gpt2Block(const Gpt2Config& config, int64_t layer)
      : ln_1_(config.n_embd, config.layer_norm_epsilon),
        attention_(config, layer),
        ln_2_(config.n_embd, config.layer_norm_epsilon),
        mlp_(config),
        dropout_(config.resid_pdrop) {
    add("ln_1", ln_1_);
    add("attn", attention_);
    add("ln_2", ln_2_);
    add("mlp", mlp_);
    add("attention_adapters", attention_output_);
    add("output_adapters", output_);
  }
  Tensor forward(const Tensor& x, const LayerPass& pass) const {
    RandomStream* dropout = pass.batch.dropout;
    const Tensor residual = read_rows(x, pass.read);
    const Tensor attended = dropped(attention_.forward(ln_1_.forward(x), pass), dropout_, dropout);
    const Tensor joined = attention_output_.forward({residual, attended, {}}, dropout);
    const auto [middle, normed] = ln_2_.added(joined, residual);
    const Tensor fed = dropped(mlp_.forward(normed, dropout), dropout_, dropout);
    return ops::sum(middle, output_.forward({middle, fed, {}}, dropout));
  }

 private:
  LayerNorm ln_1_;
  Gpt2Attention attention_;
  LayerNorm ln_2_;
  Gpt2Mlp mlp_;
  double dropout_;
  Sublayer attention_output_, output_;
};

/// Everything below the heads; "transformer." where there is a head.
class Gpt2Network : public Module {
 public:
  explicit Gpt2Network(const Gpt2Config& config)
      : wte_(config.vocab_size, config.n_embd),
        wpe_(config.n_positions, config.n_embd),
        ln_f_(config.n_embd, config.layer_norm_epsilon),
        dropout_(config.embd_pdrop) {
    add("wte", wte_);
    add("wpe", wpe_);
    for (int64_t i = 0; i < config.n_layer; ++i) {
      blocks_.push_back(std::make_unique<Gpt2Block>(config, i));
      add(fmt::format("h.{}", i), *blocks_.back());
    }
    add("ln_f", ln_f_);
  }
  Tensor forward(const Batch& batch) const {
    batch.layout.check_positions(wpe_.rows());
    Tensor x = wte_.inputs(batch.input_ids, batch.embeddings) + wpe_.forward(batch.layout.positions);
    if (batch.token_type_ids.defined()) x = x + wte_.forward(batch.token_type_ids);
    x = dropped(x, dropout_, batch.dropout);
    return run_stack(blocks_, x, batch, [this](const Tensor& y) { return ln_f_.forward(y); });
  }
  Embedding& words() { return wte_; }

 private:
  Embedding wte_, wpe_;
  std::vector<std::unique_ptr<Gpt2Block>> blocks_;
  LayerNorm ln_f_;
  double dropout_;
};

class Gpt2 : public DecoderModel<Gpt2Network> {
 public:
  Gpt2(const Gpt2Config& record, const Traits& traits, HeadKind kind, int64_t labels)
      : DecoderModel(record, traits, kind, labels),
        residual_deviation_(record.initializer_range / std::sqrt(2.0 * static_cast<double>(record.n_layer))) {
  }
  /// Smaller where outputs add up over the layers.
  Init init(const std::string& path, const Parameter& parameter) const override {
    if (path.ends_with("c_proj.weight")) return {.deviation = residual_deviation_};
    return Model::init(path, parameter);
  }

 private:
  double residual_deviation_;
};

std::unique_ptr<Model> create(const Json& config, HeadKind head, int64_t num_labels) {
  const std::vector<std::string> harmless = {
      "n_ctx",
      "reorder_and_upcast_attn",  // same numbers, other rounding in 16 bits
      "summary_activation",
      "summary_first_dropout",
      "summary_proj_to_labels",
      "summary_type",
      "summary_use_proj"};
  const auto record = read_config<Gpt2Config>(config, harmless);
  check_given(record.n_inner, "n_inner");
  Gpt2::Traits traits;
  traits.info = {.model_type = "gpt2",
                 .hidden_size = record.n_embd,
                 .num_layers = record.n_layer,
                 .num_heads = record.n_head,
                 .num_kv_heads = record.n_head,
                 .head_dim = record.head_dim(),
                 .vocab_size = record.vocab_size,
                 .max_positions = record.n_positions,
                 .is_decoder = true};
  traits.network = "transformer";
  traits.roles = {
      {"query_key_value", "attn.c_attn"}, {"attention_output", "attn.c_proj"}, {"mlp_up", "mlp.c_fc"},
      {"mlp_down", "mlp.c_proj"},         {"word_embedding", "wte"},           {"head", "lm_head"}};
  traits.tied = record.tie_word_embeddings;
  return std::make_unique<Gpt2>(record, traits, head, num_labels);
}

}  // namespace

const Family kGpt2 = {
    .model_type = "gpt2",
    .create = create,
    .prefix = "transformer.",
    .architectures = {{"GPT2LMHeadModel", HeadKind::causal_lm},
                      {"GPT2Model", HeadKind::none},
                      {"GPT2ForSequenceClassification", HeadKind::sequence_classification}},
    .heads = {"lm_head.", "score."},
    .buffers = {".attn.bias", ".attn.masked_bias"},
};

}  // namespace graft
