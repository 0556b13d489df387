// What causal language models share above their networks: the head onto the vocabulary, or a score of the
// last row.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "graft/base/error.h"
#include "graft/models/model.h"

namespace graft {

/// What differs between decoder families above their networks.
struct DecoderTraits {
  ModelInfo info;
  std::string network;  // the network's name where there is a head ("model")
  std::vector<Role> roles;
  bool tied = false;
  int64_t padding_row = -1;
  int64_t head_width = 0;  // what the head reads; 0: hidden_size
  std::string lm_head = "lm_head";
};

/// A Network has `Tensor forward(const Batch&)` → rows after its last norm, and `Embedding& words()`.
template <class Network>
class DecoderModel : public Model {
 public:
  using Traits = DecoderTraits;

  template <class Config>
  DecoderModel(const Config& record, Traits traits, HeadKind kind, int64_t labels)
      : network_(record), traits_(std::move(traits)) {
    head = kind;
    num_labels = labels;
    add(kind == HeadKind::none ? "" : traits_.network, network_);
    const int64_t width = traits_.head_width > 0 ? traits_.head_width : traits_.info.hidden_size;
    if (kind == HeadKind::causal_lm) {
      head_ = traits_.tied ? std::make_unique<Linear>(network_.words().weight, false)
                           : std::make_unique<Linear>(width, traits_.info.vocab_size, false);
      add(traits_.lm_head, *head_);
    } else if (kind != HeadKind::none) {
      head_ = std::make_unique<Linear>(width, labels, false);
      add("score", *head_);
    }
  }

  Tensor run(const Batch& batch) override { return network_.forward(batch); }
  Tensor logits(const Tensor& hidden, const Batch& batch) override {
    if (!head_) throw InternalError(info().model_type, "no logits with head {}", head_name(head));
    return head_->forward(hidden, batch.dropout);
  }
  Tensor head_rows(const Layout& layout, const Tensor& input_ids) const override {
    if (head != HeadKind::sequence_classification) return {};
    const int64_t padding = padding_id();
    return input_ids.defined() && padding >= 0 ? layout.last_rows_without(input_ids, padding)
                                               : layout.last_rows();
  }
  const ModelInfo& info() const override { return traits_.info; }
  std::vector<Role> roles() const override { return traits_.roles; }
  Embedding& word_embedding() override { return network_.words(); }
  Linear* output_embedding() override { return head == HeadKind::causal_lm ? head_.get() : nullptr; }
  std::vector<std::string> head_modules() const override {
    if (head == HeadKind::none || head == HeadKind::causal_lm) return {};
    return {"score"};
  }
  int64_t padding_row() const override { return traits_.padding_row; }

 protected:
  /// -1: the config has none.
  int64_t padding_id() const {
    const auto given = config.find("pad_token_id");
    return given != config.end() && given->is_number_integer() ? given->template get<int64_t>()
                                                               : traits_.padding_row;
  }

  Network network_;
  std::unique_ptr<Linear> head_;
  Traits traits_;
};

}  // namespace graft
