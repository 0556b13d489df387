// What encoders share above their networks: which head reads which rows, and under what name.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "graft/models/model.h"
#include "graft/nn/activation.h"
#include "graft/nn/norm.h"

namespace graft {

/// A head of an encoder: hidden rows [N, hidden] → [N, outputs]. Its children have their paths in the model
/// ("classifier.dense").
class EncoderHead : public Module {
 public:
  virtual Tensor forward(const Tensor& hidden, RandomStream* dropout) const = 0;
  /// The map onto the vocabulary; nullptr where the head is another one.
  virtual Linear* vocabulary() { return nullptr; }
};

/// One linear map `name` after dropout.
class LinearHead : public EncoderHead {
 public:
  LinearHead(const std::string& name, int64_t hidden, int64_t outputs, double dropout = 0);
  Tensor forward(const Tensor& hidden, RandomStream* dropout) const override;

 private:
  Linear map_;
  double dropout_;
};

/// A parameter by another path, behind the one that it has.
class SecondName : public Module {
 public:
  SecondName(const std::string& name, std::shared_ptr<Parameter> parameter);
};

/// What masked words are read from: dense, activation, norm, the map onto the vocabulary (with the path
/// `decoder`, tied or not).
class MaskedLmHead : public EncoderHead {
 public:
  struct Shape {
    int64_t hidden, words_width, words;
    Activation activation;
    double eps;
    bool tied = true;
  };
  struct Names {
    std::string dense, norm, decoder, bias;  // the bias of the decoder has a path of its own too
  };
  MaskedLmHead(const Shape& shape, const Names& names, const std::shared_ptr<Parameter>& words);
  Tensor forward(const Tensor& hidden, RandomStream* dropout) const override;
  Linear* vocabulary() override { return decoder_.get(); }

 private:
  Linear dense_;
  LayerNorm norm_;
  std::unique_ptr<Linear> decoder_;
  std::unique_ptr<SecondName> second_bias_;  // null where the bias's own path is its first one
  Activation activation_;
};

/// dropout, dense, activation, dropout, out_proj on the first row (RoBERTa, ELECTRA). Children of
/// "classifier".
class TwoLayerHead : public EncoderHead {
 public:
  TwoLayerHead(int64_t hidden, int64_t outputs, Activation activation, double dropout);
  Tensor forward(const Tensor& hidden, RandomStream* dropout) const override;

 private:
  Linear dense_, out_proj_;
  Activation activation_;
  double dropout_;
};

/// A pooler that lies in the network, dropout, and one map `name`.
class PooledHead : public EncoderHead {
 public:
  struct Pooler {
    const Linear& map;
    Activation activation;
    double dropout_before = 0;
  };
  PooledHead(const Pooler& pooler, const std::string& name, int64_t outputs, double dropout);
  Tensor forward(const Tensor& hidden, RandomStream* dropout) const override;

 private:
  Pooler pooler_;
  LinearHead classifier_;
};

/// Of EncoderBlock and EncoderEmbeddings.
std::vector<Role> encoder_roles();

class EncoderModel : public Model {
 public:
  struct Traits {
    ModelInfo info;
    std::vector<Role> roles;
    int64_t padding_row = -1;
  };
  Tensor logits(const Tensor& hidden, const Batch& batch) override;
  /// The first row of each sequence for sequence classification and multiple choice.
  Tensor head_rows(const Layout& layout, const Tensor& input_ids) const override;
  const ModelInfo& info() const override { return traits_.info; }
  std::vector<Role> roles() const override { return traits_.roles; }
  Linear* output_embedding() override { return head_ ? head_->vocabulary() : nullptr; }
  std::vector<std::string> head_modules() const override;
  int64_t padding_row() const override { return traits_.padding_row; }

 protected:
  EncoderModel(Traits traits, HeadKind kind, int64_t labels);
  void set_head(std::unique_ptr<EncoderHead> given);
  /// How many outputs the head has: labels, 2 for answers' starts and ends, 1 for a choice.
  int64_t outputs() const;

 private:
  Traits traits_;
  std::unique_ptr<EncoderHead> head_;
};

}  // namespace graft
