#include "graft/models/deberta_v2.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "graft/models/config.h"
#include "graft/models/encoder_model.h"
#include "graft/nn/dropout.h"
#include "graft/nn/encoder_block.h"
#include "graft/nn/stack.h"

namespace graft {
namespace {

struct DebertaConfig {
  int64_t vocab_size = 128100, hidden_size = 1536, num_hidden_layers = 24, num_attention_heads = 24;
  int64_t intermediate_size = 6144, max_position_embeddings = 512, type_vocab_size = 0;
  int64_t max_relative_positions = -1, position_buckets = -1, conv_kernel_size = 0, conv_groups = 1;
  std::optional<int64_t> embedding_size, attention_head_size, pad_token_id = 0;
  std::string hidden_act = "gelu", pooler_hidden_act = "gelu", conv_act = "tanh", norm_rel_ebd = "none";
  double hidden_dropout_prob = 0.1, attention_probs_dropout_prob = 0.1, layer_norm_eps = 1e-7;
  double pooler_dropout = 0;
  std::optional<double> cls_dropout;
  bool relative_attention = false, position_biased_input = true, share_att_key = false;
  bool legacy = true, tie_word_embeddings = true;
  Json pos_att_type = Json::array();
  bool c2p = false, p2c = false;  // what pos_att_type says

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("vocab_size", self.vocab_size, "rows of the word embedding", size_check());
    visit("hidden_size", self.hidden_size, "width of the stream", size_check());
    visit("num_hidden_layers", self.num_hidden_layers, "blocks", count_check());
    visit("num_attention_heads", self.num_attention_heads, "heads a block", count_check());
    visit("attention_head_size", self.attention_head_size, "width of a head: hidden_size over the heads");
    visit("intermediate_size", self.intermediate_size, "width of the feed-forward part", size_check());
    visit("max_position_embeddings", self.max_position_embeddings, "longest sequence", size_check());
    visit("type_vocab_size", self.type_vocab_size, "token types; 0: none", between<int64_t>(0, 65536));
    visit("max_relative_positions", self.max_relative_positions, "below 1: max_position_embeddings");
    visit("position_buckets", self.position_buckets, "distances share rows by logarithm; below 1: none");
    visit("conv_kernel_size", self.conv_kernel_size, "a convolution beside the first block; 0: none",
          between<int64_t>(0, 255));
    visit("conv_groups", self.conv_groups, "of the convolution", count_check());
    visit("embedding_size", self.embedding_size, "width of the word embedding; null: hidden_size");
    visit("pad_token_id", self.pad_token_id, "row of the word embedding that starts as zeros");
    visit("hidden_act", self.hidden_act, "activation", one_of(activation_names()));
    visit("pooler_hidden_act", self.pooler_hidden_act, "activation of the pooler",
          one_of(activation_names()));
    visit("conv_act", self.conv_act, "activation of the convolution", one_of(activation_names()));
    visit("norm_rel_ebd", self.norm_rel_ebd, "norm of relative positions", one_of({"none", "layer_norm"}));
    visit("hidden_dropout_prob", self.hidden_dropout_prob, "of sublayers' outputs", probability_check());
    visit("attention_probs_dropout_prob", self.attention_probs_dropout_prob, "of weights",
          probability_check());
    visit("layer_norm_eps", self.layer_norm_eps, "in every norm", eps_check());
    visit("pooler_dropout", self.pooler_dropout, "before the pooler", probability_check());
    visit("cls_dropout", self.cls_dropout, "before a classifier; null: hidden_dropout_prob");
    visit("relative_attention", self.relative_attention, "relative positions: must be true");
    visit("position_biased_input", self.position_biased_input, "learned positions at the input too");
    visit("share_att_key", self.share_att_key, "positions are projected by the words' maps");
    visit("pos_att_type", self.pos_att_type, "c2p, p2c: a list, or a string with | between");
    visit("legacy", self.legacy, "masked LM: the head of earlier files");
    visit("tie_word_embeddings", self.tie_word_embeddings, "masked LM: the decoder is the word embedding");
  }
  int64_t words_width() const { return embedding_size.value_or(hidden_size); }
  int64_t head_dim() const {
    return divided(hidden_size, num_attention_heads, "hidden_size", "num_attention_heads");
  }
  int64_t farthest() const {
    return max_relative_positions < 1 ? max_position_embeddings : max_relative_positions;
  }
  /// Half the rows of the table of relative positions.
  int64_t span() const { return position_buckets > 0 ? position_buckets : farthest(); }
  EncoderShape block() const {
    return {hidden_size,    num_attention_heads, intermediate_size,           activation(hidden_act),
            layer_norm_eps, hidden_dropout_prob, attention_probs_dropout_prob};
  }
};

/// The table's row of each distance (query's position minus key's), from -span: [L, L].
Tensor relative_rows(int64_t length, const DebertaConfig& config) {
  const Tensor place = at::arange(length, at::kLong);
  const Tensor distance = place.unsqueeze(1) - place.unsqueeze(0);
  if (config.position_buckets < 1) return distance;
  const int64_t middle = config.position_buckets / 2;
  const Tensor away = at::where(distance.abs() < middle, at::full_like(distance, middle - 1), distance.abs());
  const float whole = std::log(static_cast<float>(config.farthest() - 1) / static_cast<float>(middle));
  const Tensor logarithm = at::log(away.to(at::kFloat) / static_cast<double>(middle)) / whole;
  const Tensor bucket = at::ceil(logarithm * static_cast<double>(middle - 1)) + middle;
  return at::where(away <= middle, distance, (bucket * distance.sign()).to(at::kLong));
}

/// The table of relative positions, and its norm.
class RelativePositions : public Module {
 public:
  explicit RelativePositions(const DebertaConfig& config)
      : table_(2 * config.span(), config.hidden_size), dropout_(config.hidden_dropout_prob) {
    add("rel_embeddings", table_);
    if (config.norm_rel_ebd != "layer_norm") return;
    norm_ = std::make_unique<LayerNorm>(config.hidden_size, config.layer_norm_eps);
    add("LayerNorm", *norm_);
  }
  /// [2 · span, hidden]
  Tensor forward(RandomStream* dropout) const {
    const Tensor rows = table_.forward(at::arange(table_.rows(), at::kLong));
    return dropped(norm_ ? norm_->forward(rows) : rows, dropout_, dropout);
  }

 private:
  Embedding table_;
  std::unique_ptr<LayerNorm> norm_;
  double dropout_;
};

class DisentangledAttention : public Module {
 public:
  DisentangledAttention(const DebertaConfig& config, const RelativePositions& positions)
      : query_proj_(config.hidden_size, config.hidden_size, true),
        key_proj_(config.hidden_size, config.hidden_size, true),
        value_proj_(config.hidden_size, config.hidden_size, true),
        positions_(positions),
        config_(config) {
    add("query_proj", query_proj_);
    add("key_proj", key_proj_);
    add("value_proj", value_proj_);
    if (config.share_att_key) return;
    if (config.c2p) own(pos_key_proj_, "pos_key_proj");
    if (config.p2c) own(pos_query_proj_, "pos_query_proj");
  }
  Tensor forward(const Tensor& x, const LayerPass& pass) const {
    if (!pass.batch.prefix.empty()) {
      throw UsageError("deberta-v2", "a prefix of keys is not implemented: keys in front have no distance");
    }
    RandomStream* dropout = pass.batch.dropout;
    const std::vector<Tensor> all =
        Linear::forward_together({&query_proj_, &key_proj_, &value_proj_}, x, dropout);
    const Tensor q = heads(all[0]), k = heads(all[1]), v = heads(all[2]);
    const Tensor positions = positions_.forward(dropout);
    Tensor position_keys, position_queries;
    if (config_.c2p) position_keys = project(positions, pos_key_proj_.get(), key_proj_, dropout);
    if (config_.p2c) position_queries = project(positions, pos_query_proj_.get(), query_proj_, dropout);
    std::vector<Tensor> parts;
    for (int64_t b = 0; b < pass.layout.sequences(); ++b) {
      const int64_t begin = pass.layout.offsets[static_cast<size_t>(b)], length = pass.layout.length(b);
      const auto rows = [&](const Tensor& y) { return y.narrow(1, begin, length); };
      const Tensor scores = scores_of(rows(q), rows(k), position_keys, position_queries);
      const Tensor weights = dropped(scores.softmax(-1), config_.attention_probs_dropout_prob, dropout);
      parts.push_back(at::matmul(weights, rows(v)).transpose(0, 1).reshape({length, config_.hidden_size}));
    }
    return read_rows(at::cat(parts).to(x.scalar_type()), pass.read);
  }

 private:
  void own(std::unique_ptr<Linear>& map, const char* name) {
    map = std::make_unique<Linear>(config_.hidden_size, config_.hidden_size, true);
    add(name, *map);
  }
  /// [T, hidden] → [H, T, D], float32 or wider: scores are sums of three products.
  Tensor heads(const Tensor& x) const {
    const Tensor wide = x.scalar_type() == at::kDouble ? x : x.to(at::kFloat);
    return wide.view({-1, config_.num_attention_heads, config_.head_dim()}).transpose(0, 1);
  }
  Tensor project(const Tensor& positions, const Linear* own_map, const Linear& shared,
                 RandomStream* dropout) const {
    return heads((own_map != nullptr ? *own_map : shared).forward(positions, dropout));
  }
  /// One sequence: q, k [H, L, D], the positions' keys and queries [H, 2 · span, D] or undefined → [H, L, L].
  Tensor scores_of(const Tensor& q, const Tensor& k, const Tensor& position_keys,
                   const Tensor& position_queries) const {
    const int64_t terms = 1 + (config_.c2p ? 1 : 0) + (config_.p2c ? 1 : 0);
    const double scale = 1 / std::sqrt(static_cast<double>(q.size(2) * terms));
    const Tensor distance = relative_rows(q.size(1), config_);
    const auto column = [&](const Tensor& rows) {
      const Tensor index = (rows + config_.span()).clamp(0, 2 * config_.span() - 1);
      return index.unsqueeze(0).expand({q.size(0), q.size(1), q.size(1)});
    };
    Tensor scores = at::matmul(q, k.transpose(1, 2));
    if (config_.c2p) {
      scores = scores + at::matmul(q, position_keys.transpose(1, 2)).gather(2, column(distance));
    }
    if (config_.p2c) {
      const Tensor by_key = at::matmul(k, position_queries.transpose(1, 2)).gather(2, column(-distance));
      scores = scores + by_key.transpose(1, 2);
    }
    return scores * scale;
  }

  Linear query_proj_, key_proj_, value_proj_;
  std::unique_ptr<Linear> pos_key_proj_, pos_query_proj_;
  const RelativePositions& positions_;
  DebertaConfig config_;
};

/// A convolution over each sequence's embeddings, added to the first block's output.
class DebertaConvolution : public Module {
 public:
  explicit DebertaConvolution(const DebertaConfig& config)
      : weight_(
            add("conv.weight", {config.hidden_size,
                                divided(config.hidden_size, config.conv_groups, "hidden_size", "conv_groups"),
                                config.conv_kernel_size})),
        bias_(add("conv.bias", {config.hidden_size})),
        norm_(config.hidden_size, config.layer_norm_eps),
        activation_(activation(config.conv_act)),
        dropout_(config.hidden_dropout_prob),
        groups_(config.conv_groups) {
    add("LayerNorm", norm_);
  }
  /// embeddings [T, hidden], output as the block gives it → as `output`.
  Tensor forward(const Tensor& embeddings, const Tensor& output, const LayerPass& pass) const {
    const auto type = embeddings.scalar_type();
    const Tensor weight = weight_->value().to(type), bias = bias_->value().to(type);
    std::vector<Tensor> parts;
    for (int64_t b = 0; b < pass.layout.sequences(); ++b) {
      const int64_t begin = pass.layout.offsets[static_cast<size_t>(b)], length = pass.layout.length(b);
      const Tensor rows = embeddings.narrow(0, begin, length).t().unsqueeze(0);
      const int64_t padding = (weight.size(2) - 1) / 2;
      parts.push_back(at::conv1d(rows, weight, bias, 1, padding, 1, groups_)[0].t());
    }
    const Tensor convolved = activation_(dropped(at::cat(parts), dropout_, pass.batch.dropout));
    return norm_.forward(output + read_rows(convolved, pass.read));
  }

 private:
  std::shared_ptr<Parameter> weight_, bias_;
  LayerNorm norm_;
  Activation activation_;
  double dropout_;
  int64_t groups_;
};

class DebertaLayer : public Module {
 public:
  DebertaLayer(const DebertaConfig& config, const RelativePositions& positions,
               const DebertaConvolution* convolution)
      : attention_(config, positions),
        attention_output_(config.hidden_size, config.block()),
        intermediate_(config.hidden_size, config.intermediate_size, true),
        output_(config.intermediate_size, config.block()),
        activation_(activation(config.hidden_act)),
        convolution_(convolution) {
    add("attention.self", attention_);
    add("attention.output", attention_output_);
    add("intermediate.dense", intermediate_);
    add("output", output_);
  }
  Tensor forward(const Tensor& x, const LayerPass& pass) const {
    RandomStream* dropout = pass.batch.dropout;
    const Tensor attended =
        attention_output_.forward(attention_.forward(x, pass), read_rows(x, pass.read), dropout);
    const Tensor inner = activation_(intermediate_.forward(attended, dropout));
    const Tensor output = output_.forward(inner, attended, dropout);
    return convolution_ != nullptr ? convolution_->forward(x, output, pass) : output;
  }

 private:
  DisentangledAttention attention_;
  PostNormOutput attention_output_;
  Linear intermediate_;
  PostNormOutput output_;
  Activation activation_;
  const DebertaConvolution* convolution_;
};

/// Words, and positions and types where the config has them.
class DebertaEmbeddings : public Module {
 public:
  explicit DebertaEmbeddings(const DebertaConfig& config)
      : word_embeddings(config.vocab_size, config.words_width()),
        norm_(config.hidden_size, config.layer_norm_eps),
        dropout_(config.hidden_dropout_prob) {
    add("word_embeddings", word_embeddings);
    const auto optional = [this](auto& slot, const char* name, auto made) {
      slot = std::move(made);
      add(name, *slot);
    };
    const int64_t width = config.words_width();
    if (config.position_biased_input) {
      optional(positions_, "position_embeddings",
               std::make_unique<Embedding>(config.max_position_embeddings, width));
    }
    if (config.type_vocab_size > 0) {
      optional(types_, "token_type_embeddings", std::make_unique<Embedding>(config.type_vocab_size, width));
    }
    if (width != config.hidden_size) {
      optional(project_, "embed_proj", std::make_unique<Linear>(width, config.hidden_size, false));
    }
    add("LayerNorm", norm_);
  }
  Tensor forward(const Batch& batch) const {
    const Tensor& places = batch.layout.positions;
    Tensor x = word_embeddings.inputs(batch.input_ids, batch.embeddings);
    if (positions_) {
      batch.layout.check_positions(positions_->rows());
      x = x + positions_->forward(places);
    }
    if (types_) {
      x = x + types_->forward(batch.token_type_ids.defined() ? batch.token_type_ids : at::zeros_like(places));
    }
    if (project_) x = project_->forward(x, batch.dropout);
    return dropped(norm_.forward(x), dropout_, batch.dropout);
  }

  Embedding word_embeddings;

 private:
  std::unique_ptr<Embedding> positions_, types_;
  std::unique_ptr<Linear> project_;
  LayerNorm norm_;
  double dropout_;
};

/// Everything below the heads; "deberta." where there is a head.
class DebertaNetwork : public Module {
 public:
  explicit DebertaNetwork(const DebertaConfig& config) : embeddings(config), positions_(config) {
    add("embeddings", embeddings);
    if (config.conv_kernel_size > 0) {
      convolution_ = std::make_unique<DebertaConvolution>(config);
      add("encoder.conv", *convolution_);
    }
    for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
      layers_.push_back(
          std::make_unique<DebertaLayer>(config, positions_, i == 0 ? convolution_.get() : nullptr));
      add(fmt::format("encoder.layer.{}", i), *layers_.back());
    }
    add("encoder", positions_);
  }
  Tensor forward(const Batch& batch) const {
    return run_stack(layers_, embeddings.forward(batch), batch, [](const Tensor& y) { return y; });
  }

  DebertaEmbeddings embeddings;

 private:
  RelativePositions positions_;
  std::unique_ptr<DebertaConvolution> convolution_;
  std::vector<std::unique_ptr<DebertaLayer>> layers_;
};

class Deberta : public EncoderModel {
 public:
  Deberta(const DebertaConfig& record, const Traits& traits, HeadKind kind, int64_t labels)
      : EncoderModel(traits, kind, labels), network_(record) {
    add(kind == HeadKind::none ? "" : "deberta", network_);
    if (kind == HeadKind::masked_lm) {
      const MaskedLmHead::Shape shape{record.hidden_size,    record.words_width(),
                                      record.vocab_size,     activation(record.hidden_act),
                                      record.layer_norm_eps, record.tie_word_embeddings};
      const MaskedLmHead::Names names{"cls.predictions.transform.dense",
                                      "cls.predictions.transform.LayerNorm", "cls.predictions.decoder",
                                      "cls.predictions.bias"};
      set_head(std::make_unique<MaskedLmHead>(shape, names, word_embedding().weight));
    } else if (kind == HeadKind::question_answering) {
      set_head(std::make_unique<LinearHead>("qa_outputs", record.hidden_size, outputs()));
    } else if (kind == HeadKind::token_classification) {
      set_head(std::make_unique<LinearHead>("classifier", record.hidden_size, outputs(),
                                            record.hidden_dropout_prob));
    } else if (kind != HeadKind::none) {
      pooler_ = std::make_unique<Linear>(record.hidden_size, record.hidden_size, true);
      add("pooler.dense", *pooler_);
      const PooledHead::Pooler pooler{*pooler_, activation(record.pooler_hidden_act), record.pooler_dropout};
      set_head(std::make_unique<PooledHead>(pooler, "classifier", outputs(),
                                            record.cls_dropout.value_or(record.hidden_dropout_prob)));
    }
  }
  Tensor run(const Batch& batch) override { return network_.forward(batch); }
  Embedding& word_embedding() override { return network_.embeddings.word_embeddings; }

 private:
  DebertaNetwork network_;
  std::unique_ptr<Linear> pooler_;
};

/// pos_att_type as a list, or as "p2c|c2p".
void read_position_types(DebertaConfig& record) {
  std::vector<std::string> types;
  if (record.pos_att_type.is_string()) {
    const auto text = record.pos_att_type.get<std::string>();
    for (size_t at = 0; at <= text.size();) {
      const size_t end = std::min(text.find('|', at), text.size());
      if (end > at) types.push_back(text.substr(at, end - at));
      at = end + 1;
    }
  } else if (record.pos_att_type.is_array()) {
    for (const Json& type : record.pos_att_type)
      types.push_back(type.is_string() ? type.get<std::string>() : "?");
  } else if (!record.pos_att_type.is_null()) {
    types.emplace_back(record.pos_att_type.dump());
  }
  for (const std::string& type : types) {
    if (type != "c2p" && type != "p2c") {
      throw DataError("config.json", "pos_att_type {} is not implemented, expected c2p or p2c", type);
    }
    (type == "c2p" ? record.c2p : record.p2c) = true;
  }
}

std::unique_ptr<Model> create(const Json& config, HeadKind head, int64_t num_labels) {
  auto record = read_config<DebertaConfig>(config, {"pooler_hidden_size"});
  read_position_types(record);
  check_given(record.embedding_size, "embedding_size");
  if (record.attention_head_size &&
      *record.attention_head_size * record.num_attention_heads != record.hidden_size) {
    throw DataError("config.json",
                    "attention_head_size {} is not implemented, expected hidden_size {} over {} heads",
                    *record.attention_head_size, record.hidden_size, record.num_attention_heads);
  }
  if (!record.relative_attention) {
    throw DataError("config.json", "relative_attention false is not implemented");
  }
  if (record.position_buckets == 1 || record.span() > (int64_t{1} << 20)) {
    throw DataError("config.json", "position_buckets {}, max_relative_positions {}: not a usable table",
                    record.position_buckets, record.farthest());
  }
  if (head == HeadKind::masked_lm && !record.legacy) {
    throw DataError("config.json", "legacy false is not implemented for masked language models");
  }
  Deberta::Traits traits;
  traits.info = {.model_type = "deberta-v2",
                 .hidden_size = record.hidden_size,
                 .num_layers = record.num_hidden_layers,
                 .num_heads = record.num_attention_heads,
                 .num_kv_heads = record.num_attention_heads,
                 .head_dim = record.head_dim(),
                 .vocab_size = record.vocab_size,
                 .max_positions = record.position_biased_input ? record.max_position_embeddings : 0,
                 .is_decoder = false};
  traits.roles = {{"query", "attention.self.query_proj"},
                  {"key", "attention.self.key_proj"},
                  {"value", "attention.self.value_proj"},
                  {"attention_output", "attention.output.dense"},
                  {"mlp_up", "intermediate.dense"},
                  {"mlp_down", "output.dense"},
                  {"word_embedding", "embeddings.word_embeddings"}};
  traits.padding_row = record.pad_token_id.value_or(-1);
  return std::make_unique<Deberta>(record, traits, head, num_labels);
}

}  // namespace

const Family kDebertaV2 = {
    .model_type = "deberta-v2",
    .create = create,
    .prefix = "deberta.",
    .architectures = {{"DebertaV2Model", HeadKind::none},
                      {"DebertaV2ForMaskedLM", HeadKind::masked_lm},
                      {"DebertaV2ForSequenceClassification", HeadKind::sequence_classification},
                      {"DebertaV2ForTokenClassification", HeadKind::token_classification},
                      {"DebertaV2ForQuestionAnswering", HeadKind::question_answering},
                      {"DebertaV2ForMultipleChoice", HeadKind::multiple_choice}},
    .heads = {"cls.", "lm_predictions.", "mask_predictions.", "pooler.", "classifier.", "qa_outputs."},
    .buffers = {"embeddings.position_ids", "embeddings.position_embeddings.weight"},
};

}  // namespace graft
