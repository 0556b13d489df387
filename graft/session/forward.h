// One forward pass on padded tensors: logits, transformers' loss, hidden states.
#pragma once
#include "graft/peft/adapter.h"
#include "graft/session/padded.h"

namespace graft {

/// What a pass gives; tensors are undefined where there is nothing to give.
struct ForwardResult {
  Tensor logits;  // per sequence [B, labels], or padded [B, L, n]; without a head the last hidden states
  Tensor loss;    // scalar, transformers' mean; where labels are given
  std::vector<Tensor> hidden_states;          // padded [B, L, hidden]
  std::vector<Tensor> decoder_hidden_states;  // padded [B, U, hidden]
  Tensor pooler_output;                       // [B, hidden]
};

struct ForwardOptions {
  bool hidden_states = false;
  bool virtual_rows = false;  // keep the rows of virtual tokens, in front
};

/// `adapter` (nullptr: none) is attached already. Errors: DataError (labels that do not fit the head).
ForwardResult forward(Model& model, const Adapter* adapter, const PaddedInputs& inputs,
                      const ForwardOptions& options);

/// Padded inputs for this model: knows whether there is a decoder.
PaddedInputs padded_inputs(const Model& model, TensorMap tensors, const std::string& where);

/// The tensors of a result by the names of `graft forward`: logits, loss, hidden_states.N, pooler_output.
TensorMap named_results(const ForwardResult& result);

}  // namespace graft
