#include "graft/models/t5.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "graft/base/error.h"
#include "graft/models/config.h"
#include "graft/nn/activation.h"
#include "graft/nn/attention.h"
#include "graft/nn/dropout.h"
#include "graft/nn/norm.h"
#include "graft/nn/stack.h"
#include "graft/ops/few_values.h"

namespace graft {

template <class Self, class Visitor>
void T5Config::fields(Self& self, Visitor& visit) {
  visit("vocab_size", self.vocab_size, "rows of the word embedding", size_check());
  visit("d_model", self.d_model, "width of the stream", size_check());
  visit("d_kv", self.d_kv, "width of a head", between<int64_t>(1, 65536));
  visit("d_ff", self.d_ff, "width of the feed-forward part", size_check());
  visit("num_layers", self.num_layers, "blocks of the encoder", count_check());
  visit("num_decoder_layers", self.num_decoder_layers, "blocks of the decoder; null: num_layers");
  visit("num_heads", self.num_heads, "heads a block", count_check());
  visit("relative_attention_num_buckets", self.relative_attention_num_buckets, "rows of the distance table",
        between<int64_t>(4, 65536));
  visit("relative_attention_max_distance", self.relative_attention_max_distance,
        "distances from here on share a row", between<int64_t>(1, 1 << 20));
  visit("decoder_start_token_id", self.decoder_start_token_id, "what the decoder's input begins with");
  visit("dropout_rate", self.dropout_rate, "everywhere", probability_check());
  visit("layer_norm_epsilon", self.layer_norm_epsilon, "in every norm", eps_check());
  visit("initializer_factor", self.initializer_factor, "scale of fresh weights", at_least(0.0));
  visit("feed_forward_proj", self.feed_forward_proj, "activation, with gated- in front where it is gated");
  visit("tie_word_embeddings", self.tie_word_embeddings, "the head is the word embedding");
  visit("scale_decoder_outputs", self.scale_decoder_outputs, "null: as tie_word_embeddings");
}

namespace {

/// The row of the distance table for each distance -reach … reach (key's position minus query's), [2 · reach
/// + 1].
Tensor distance_buckets(const T5Config& config, bool bidirectional, int64_t reach) {
  const Tensor distance = at::arange(-reach, reach + 1, at::kLong);
  const int64_t buckets = config.relative_attention_num_buckets / (bidirectional ? 2 : 1);
  const Tensor offset = bidirectional ? (distance > 0).to(at::kLong) * buckets : at::zeros_like(distance);
  const Tensor away = bidirectional ? distance.abs() : (-distance).clamp_min(0);
  const int64_t exact = buckets / 2;
  // The logarithm in float32: transformers' rounding decides at the edges of the buckets.
  const double span =
      std::log(static_cast<double>(config.relative_attention_max_distance) / static_cast<double>(exact));
  const Tensor logarithm = at::log(away.to(at::kFloat) / static_cast<double>(exact)) / span;
  const Tensor far =
      exact + (logarithm * static_cast<double>(buckets - exact)).clamp(-1e6, 1e6).to(at::kLong);
  return offset + at::where(away < exact, away, far.clamp_max(buckets - 1));
}

class T5Attention : public Module {
 public:
  T5Attention(const T5Config& config, bool causal, bool with_bias, bool bidirectional_buckets)
      : q_(config.d_model, config.num_heads * config.d_kv, false),
        k_(config.d_model, config.num_heads * config.d_kv, false),
        v_(config.d_model, config.num_heads * config.d_kv, false),
        o_(config.num_heads * config.d_kv, config.d_model, false),
        head_dim_(config.d_kv) {
    settings_.causal = causal;
    settings_.scale = 1;
    settings_.dropout = config.dropout_rate;
    add("q", q_);
    add("k", k_);
    add("v", v_);
    add("o", o_);
    if (!with_bias) return;
    relative_ = std::make_unique<Embedding>(config.relative_attention_num_buckets, config.num_heads);
    add("relative_attention_bias", *relative_);
    // Beyond either number every distance has the last row.
    const int64_t reach =
        std::max(config.relative_attention_max_distance, config.relative_attention_num_buckets);
    buckets_ = distance_buckets(config, bidirectional_buckets, reach);
  }

  /// [H, 2R + 1] float32: what each distance adds to the scores; the first block's counts for all.
  Tensor distance_bias() const {
    const Tensor bias = relative_->forward(buckets_);
    return (bias.scalar_type() == at::kDouble ? bias : bias.to(at::kFloat)).t().contiguous();
  }

  /// Within the stack.
  Tensor forward(const Tensor& x, const LayerPass& pass, const Tensor& bias) const {
    AttentionSettings settings = settings_;
    settings.distance_bias = bias;
    return o_.forward(attend(project(q_, k_, v_, x, pass, head_dim_), pass, settings), pass.batch.dropout);
  }
  /// To the encoder's rows `memory`, or to what the cache holds of them.
  Tensor forward_across(const Tensor& x, const Tensor& memory, const LayerPass& pass) const {
    KvCache* cache = pass.batch.cross_cache;
    RandomStream* dropout = pass.batch.dropout;
    const auto heads = [&](const Tensor& y) { return y.view({y.size(0), y.size(1) / head_dim_, head_dim_}); };
    Projections p{heads(q_.forward(x, dropout)), {}, {}};
    ops::Spans spans = ops::Spans::of(pass.batch.layout.offsets);
    if (memory.defined()) {
      const std::vector<Tensor> others = Linear::forward_together({&k_, &v_}, memory, dropout);
      p.k = heads(others[0]), p.v = heads(others[1]);
      if (cache != nullptr) cache->append(pass.layer, p.k, p.v, pass.batch.layout);
    } else {
      p.k = cache->keys(pass.layer);
      p.v = cache->values(pass.layer);
      spans = cache->spans(pass.layer);
    }
    return o_.forward(attend_across(p, pass, spans, settings_), dropout);
  }

 private:
  Linear q_, k_, v_, o_;
  std::unique_ptr<Embedding> relative_;
  Tensor buckets_;
  int64_t head_dim_;
  AttentionSettings settings_;
};

class T5FeedForward : public Module {
 public:
  explicit T5FeedForward(const T5Config& config)
      : gated_(config.feed_forward_proj.starts_with("gated-")),
        wi_(config.d_model, config.d_ff, false),
        wo_(config.d_ff, config.d_model, false),
        dropout_(config.dropout_rate) {
    const std::string name = gated_ ? config.feed_forward_proj.substr(6) : config.feed_forward_proj;
    // transformers' word for it: gated-gelu is the tanh form.
    activation_ = activation(gated_ && name == "gelu" ? "gelu_new" : name);
    add(gated_ ? "wi_0" : "wi", wi_);
    if (gated_) {
      wi_1_ = std::make_unique<Linear>(config.d_model, config.d_ff, false);
      add("wi_1", *wi_1_);
    }
    add("wo", wo_);
  }
  Tensor forward(const Tensor& x, RandomStream* dropout) const {
    return wo_.forward(dropped(inner(x, dropout), dropout_, dropout), dropout);
  }

 private:
  Tensor inner(const Tensor& x, RandomStream* dropout) const {
    if (!wi_1_) return activation_(wi_.forward(x, dropout));
    const std::vector<Tensor> both = Linear::forward_together({&wi_, wi_1_.get()}, x, dropout);
    return activation_.gated(both[0], both[1]);
  }
  bool gated_;
  Linear wi_;
  std::unique_ptr<Linear> wi_1_;
  Linear wo_;
  Activation activation_;
  double dropout_;
};

/// A sublayer: norm, what it computes (a child `name`), dropout, sum.
template <class Inner>
class T5Sublayer : public Sublayer {
 public:
  template <class... Args>
  T5Sublayer(const char* name, const T5Config& config, Args... args)
      : inner(config, args...),
        norm_(config.d_model, config.layer_norm_epsilon),
        dropout_(config.dropout_rate) {
    add(name, inner);
    add("layer_norm", norm_);
  }
  Tensor normed(const Tensor& x) const { return norm_.forward(x); }
  Tensor joined(const Tensor& residual, const Tensor& output, RandomStream* dropout) const {
    return ops::sum(residual, Sublayer::forward({residual, dropped(output, dropout_, dropout), {}}, dropout));
  }

  Inner inner;

 private:
  RmsNorm norm_;
  double dropout_;
};

class T5Block : public Module {
 public:
  T5Block(const T5Config& config, bool decoder, bool first)
      : attention("SelfAttention", config, decoder, first, !decoder),
        feed_forward_("DenseReluDense", config) {
    add("layer.0", attention);
    if (decoder) {
      cross_ = std::make_unique<T5Sublayer<T5Attention>>("EncDecAttention", config, false, false, false);
      add("layer.1", *cross_);
    }
    add(decoder ? "layer.2" : "layer.1", feed_forward_);
  }
  /// x [T, d_model], bias as of the first block; memory: the encoder's rows (decoder only, undefined: in the
  /// cache).
  Tensor forward(const Tensor& x, const LayerPass& pass, const Tensor& bias, const Tensor& memory) const {
    RandomStream* dropout = pass.batch.dropout;
    Tensor y = attention.joined(read_rows(x, pass.read),
                                attention.inner.forward(attention.normed(x), pass, bias), dropout);
    if (cross_) y = cross_->joined(y, cross_->inner.forward_across(cross_->normed(y), memory, pass), dropout);
    return feed_forward_.joined(y, feed_forward_.inner.forward(feed_forward_.normed(y), dropout), dropout);
  }

  T5Sublayer<T5Attention> attention;

 private:
  std::unique_ptr<T5Sublayer<T5Attention>> cross_;
  T5Sublayer<T5FeedForward> feed_forward_;
};

/// Encoder or decoder.
class T5Stack : public Module {
 public:
  T5Stack(const T5Config& config, bool decoder, const std::shared_ptr<Parameter>& words)
      : embed_tokens(words), norm_(config.d_model, config.layer_norm_epsilon), dropout_(config.dropout_rate) {
    add("embed_tokens", embed_tokens);
    const int64_t layers =
        decoder ? config.num_decoder_layers.value_or(config.num_layers) : config.num_layers;
    for (int64_t i = 0; i < layers; ++i) {
      blocks_.push_back(std::make_unique<T5Block>(config, decoder, i == 0));
      add(fmt::format("block.{}", i), *blocks_.back());
    }
    add("final_layer_norm", norm_);
  }
  /// x: embeddings [T, d_model] of `layout`; states: where the trace goes, or null.
  Tensor forward(Tensor x, const Batch& batch, const Layout& layout, const Tensor& memory,
                 std::vector<Tensor>* states) const {
    auto read = ReadRows::of(batch, layout);
    if (read && !read->early) read.reset();  // cross-attention needs the rows in their order
    const auto stack = std::make_shared<const StackPass>(StackPass{batch, layout, read});
    const Tensor bias = blocks_[0]->attention.inner.distance_bias();
    x = dropped(x, dropout_, batch.dropout);
    for (size_t i = 0; i < blocks_.size(); ++i) {
      if (states != nullptr) states->push_back(x);
      const T5Block& block = *blocks_[i];
      x = run_block(stack, i, blocks_.size(), x,
                    [&block, bias, memory](const Tensor& y, const LayerPass& pass) {
                      return block.forward(y, pass, bias, memory);
                    });
    }
    x = dropped(norm_.forward(x), dropout_, batch.dropout);
    if (states != nullptr) states->push_back(x);
    return batch.rows.defined() && !read ? x.index_select(0, batch.rows) : x;
  }

  Embedding embed_tokens;

 private:
  std::vector<std::unique_ptr<T5Block>> blocks_;
  RmsNorm norm_;
  double dropout_;
};

class T5 : public Model {
 public:
  T5(const T5Config& record, const char* model_type, HeadKind kind)
      : shared_(record.vocab_size, record.d_model),
        encoder_(record, false, shared_.weight),
        decoder_(record, true, shared_.weight),
        lm_head_(record.tie_word_embeddings
                     ? std::make_unique<Linear>(shared_.weight, false)
                     : std::make_unique<Linear>(record.d_model, record.vocab_size, false)),
        record_(record) {
    head = kind;
    info_ = {.model_type = model_type,
             .hidden_size = record.d_model,
             .num_layers = record.num_decoder_layers.value_or(record.num_layers),
             .num_heads = record.num_heads,
             .num_kv_heads = record.num_heads,
             .head_dim = record.d_kv,
             .vocab_size = record.vocab_size,
             .max_positions = 0,
             .is_decoder = true,
             .is_encoder_decoder = true,
             .num_encoder_layers = record.num_layers,
             .decoder_start_token = record.decoder_start_token_id.value_or(0)};
    add("shared", shared_);
    add("encoder", encoder_);
    add("decoder", decoder_);
    add("lm_head", *lm_head_);
  }

  Tensor run(const Batch& batch) override {
    if (batch.layout.sequences() != batch.decoder_layout.sequences() && !remembered(batch)) {
      throw InternalError("t5", "{} sequences for the encoder, {} for the decoder", batch.layout.sequences(),
                          batch.decoder_layout.sequences());
    }
    Tensor memory;
    if (!remembered(batch)) {
      Batch encoder;
      encoder.dropout = batch.dropout;
      const Tensor words = encoder_.embed_tokens.inputs(batch.input_ids, batch.embeddings);
      memory = encoder_.forward(words, encoder, batch.layout, {},
                                batch.trace != nullptr ? &batch.trace->hidden_states : nullptr);
    }
    const Tensor words = decoder_.embed_tokens.inputs(batch.decoder_input_ids, batch.decoder_embeddings);
    return decoder_.forward(words, batch, batch.decoder_layout, memory,
                            batch.trace != nullptr ? &batch.trace->decoder_hidden_states : nullptr);
  }
  Tensor logits(const Tensor& hidden, const Batch& batch) override {
    const bool scaled = record_.scale_decoder_outputs.value_or(record_.tie_word_embeddings);
    const double scale = scaled ? 1 / std::sqrt(static_cast<double>(record_.d_model)) : 1;
    return lm_head_->forward(scaled ? hidden * scale : hidden, batch.dropout);
  }
  Tensor head_rows(const Layout&, const Tensor&) const override { return {}; }
  const ModelInfo& info() const override { return info_; }
  std::vector<Role> roles() const override {
    return {{"query", ".q"},
            {"key", ".k"},
            {"value", ".v"},
            {"attention_output", ".o"},
            {"mlp_gate", ".wi_0"},
            {"mlp_up", ".wi_1"},
            {"mlp_up", ".wi"},
            {"mlp_down", ".wo"},
            {"word_embedding", "embed_tokens"},
            {"head", "lm_head"}};
  }
  Embedding& word_embedding() override { return encoder_.embed_tokens; }
  Linear* output_embedding() override { return lm_head_.get(); }
  std::vector<std::string> head_modules() const override { return {}; }

  /// Deviations as T5PreTrainedModel has them (from mesh TensorFlow).
  Init init(const std::string& path, const Parameter& parameter) const override {
    const double factor = record_.initializer_factor;
    const auto root = [](int64_t size) { return std::sqrt(static_cast<double>(size)); };
    if (parameter.shape.size() == 1) return {.deviation = 0, .value = factor};
    if (path.ends_with("shared.weight") || path.ends_with("lm_head.weight")) return {.deviation = factor};
    if (path.ends_with(".q.weight")) return {.deviation = factor / root(record_.d_model * record_.d_kv)};
    if (path.ends_with(".o.weight")) return {.deviation = factor / root(record_.num_heads * record_.d_kv)};
    if (path.ends_with(".wo.weight")) return {.deviation = factor / root(record_.d_ff)};
    return {.deviation = factor / root(record_.d_model)};
  }

 private:
  static bool remembered(const Batch& batch) {
    return batch.cross_cache != nullptr && batch.cross_cache->sequences() > 0 &&
           batch.cross_cache->length(0) > 0;
  }
  Embedding shared_;
  T5Stack encoder_, decoder_;
  std::unique_ptr<Linear> lm_head_;
  T5Config record_;
  ModelInfo info_;
};

std::unique_ptr<Model> create(const Json& config, HeadKind head, int64_t) {
  return new_t5(read_t5_config(config, {}), "t5", head);
}

}  // namespace

std::unique_ptr<Model> new_t5(const T5Config& config, const char* model_type, HeadKind head) {
  return std::make_unique<T5>(config, model_type, head);
}

T5Config read_t5_config(const Json& config, const T5Config& defaults) {
  T5Config out = defaults;
  try {
    FieldReader reader(config, "");
    T5Config::fields(out, reader);
    refuse_settings(reader.unknown(), {"classifier_dropout", "dense_act_fn", "is_gated_act", "n_positions",
                                       "output_past", "num_hidden_layers"});
  } catch (const UsageError& error) {
    fail_config(error);
  }
  if (const int64_t layers = out.num_decoder_layers.value_or(out.num_layers); layers < 1 || layers > 4096) {
    throw DataError("config.json", "num_decoder_layers {}, expected 1 to 4096", layers);
  }
  if (out.relative_attention_max_distance <= out.relative_attention_num_buckets / 2) {
    throw DataError("config.json", "relative_attention_max_distance {}, expected above half of {} buckets",
                    out.relative_attention_max_distance, out.relative_attention_num_buckets);
  }
  return out;
}

const Family kT5 = {
    .model_type = "t5",
    .create = create,
    .architectures = {{"T5ForConditionalGeneration", HeadKind::seq2seq_lm},
                      {"T5WithLMHeadModel", HeadKind::seq2seq_lm}},
    .heads = {"lm_head."},
    .buffers = {"EncDecAttention.relative_attention_bias.weight"},
};

}  // namespace graft
