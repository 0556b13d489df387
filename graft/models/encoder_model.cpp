#include "graft/models/encoder_model.h"

#include <ATen/ATen.h>

#include "graft/base/error.h"
#include "graft/nn/dropout.h"

namespace graft {

LinearHead::LinearHead(const std::string& name, int64_t hidden, int64_t outputs, double dropout)
    : map_(hidden, outputs, true), dropout_(dropout) {
  add(name, map_);
}

Tensor LinearHead::forward(const Tensor& hidden, RandomStream* dropout) const {
  return map_.forward(dropped(hidden, dropout_, dropout), dropout);
}

SecondName::SecondName(const std::string& name, std::shared_ptr<Parameter> parameter) {
  add(name, std::move(parameter));
}

MaskedLmHead::MaskedLmHead(const Shape& shape, const Names& names, const std::shared_ptr<Parameter>& words)
    : dense_(shape.hidden, shape.words_width, true),
      norm_(shape.words_width, shape.eps),
      decoder_(shape.tied ? std::make_unique<Linear>(words, true)
                          : std::make_unique<Linear>(shape.words_width, shape.words, true)),
      activation_(shape.activation) {
  const bool second = !names.bias.empty();
  // The first name is the one that files are written with; transformers computes an untied head with the
  // map's.
  if (second && shape.tied) add(names.bias, decoder_->bias);
  add(names.dense, dense_);
  add(names.norm, norm_);
  add(names.decoder, *decoder_);
  if (second && !shape.tied) {
    second_bias_ = std::make_unique<SecondName>(names.bias, decoder_->bias);
    add("", *second_bias_);
  }
}

Tensor MaskedLmHead::forward(const Tensor& hidden, RandomStream* dropout) const {
  return decoder_->forward(norm_.forward(activation_(dense_.forward(hidden, dropout))), dropout);
}

TwoLayerHead::TwoLayerHead(int64_t hidden, int64_t outputs, Activation activation, double dropout)
    : dense_(hidden, hidden, true),
      out_proj_(hidden, outputs, true),
      activation_(activation),
      dropout_(dropout) {
  add("classifier.dense", dense_);
  add("classifier.out_proj", out_proj_);
}

Tensor TwoLayerHead::forward(const Tensor& hidden, RandomStream* dropout) const {
  const Tensor inner = activation_(dense_.forward(dropped(hidden, dropout_, dropout), dropout));
  return out_proj_.forward(dropped(inner, dropout_, dropout), dropout);
}

PooledHead::PooledHead(const Pooler& pooler, const std::string& name, int64_t outputs, double dropout)
    : pooler_(pooler), classifier_(name, pooler.map.out(), outputs, dropout) {
  add("", classifier_);
}

Tensor PooledHead::forward(const Tensor& hidden, RandomStream* dropout) const {
  const Tensor first = dropped(hidden, pooler_.dropout_before, dropout);
  return classifier_.forward(pooler_.activation(pooler_.map.forward(first, dropout)), dropout);
}

std::vector<Role> encoder_roles() {
  return {{"query", "attention.self.query"},
          {"key", "attention.self.key"},
          {"value", "attention.self.value"},
          {"attention_output", "attention.output.dense"},
          {"mlp_up", "intermediate.dense"},
          {"mlp_down", "output.dense"},
          {"word_embedding", "embeddings.word_embeddings"}};
}

EncoderModel::EncoderModel(Traits traits, HeadKind kind, int64_t labels) : traits_(std::move(traits)) {
  head = kind;
  num_labels = labels;
}

void EncoderModel::set_head(std::unique_ptr<EncoderHead> given) {
  head_ = std::move(given);
  add("", *head_);
}

int64_t EncoderModel::outputs() const {
  if (head == HeadKind::multiple_choice) return 1;
  return head == HeadKind::question_answering ? 2 : num_labels;
}

Tensor EncoderModel::logits(const Tensor& hidden, const Batch& batch) {
  if (!head_) throw InternalError(info().model_type, "no logits with head {}", head_name(head));
  return head_->forward(hidden, batch.dropout);
}

Tensor EncoderModel::head_rows(const Layout& layout, const Tensor&) const {
  const bool one = head == HeadKind::sequence_classification || head == HeadKind::multiple_choice;
  return one ? layout.first_rows() : Tensor();
}

std::vector<std::string> EncoderModel::head_modules() const {
  if (head == HeadKind::none || head == HeadKind::masked_lm) return {};
  return {head == HeadKind::question_answering ? "qa_outputs" : "classifier"};
}

}  // namespace graft
