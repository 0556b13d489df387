// The small networks that a soft prompt's rows come out of while it is trained.
#pragma once
#include "graft/peft/builder.h"

namespace graft {

/// Maps an embedding of virtual tokens to the prompt. Trained tensors are `prompt_encoder.…`; the file holds
/// only what comes out.
class PromptEncoder {
 public:
  virtual ~PromptEncoder() = default;
  /// [v, d] → [v, d'].
  virtual Tensor forward(const Tensor& embedding) const = 0;
};

/// Linear maps with an activation between each two. Sizes [in, …, out]; `name` and its places are torch's
/// ("mlp_head.0").
struct MlpShape {
  std::string name;
  std::vector<int64_t> sizes;
  bool tanh = false;  // else ReLU
};
std::unique_ptr<PromptEncoder> make_mlp(AdapterBuilder& builder, const MlpShape& shape);

/// A bidirectional LSTM of width `hidden` each way, then two maps. Source: Liu et al. 2021, as PEFT has it.
std::unique_ptr<PromptEncoder> make_lstm(AdapterBuilder& builder, int64_t dim, int64_t hidden,
                                         int64_t layers);

}  // namespace graft
