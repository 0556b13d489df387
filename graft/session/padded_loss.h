// Losses as transformers' models define them, on packed rows and padded labels.
#pragma once
#include "graft/models/model.h"
#include "graft/session/padded.h"

namespace graft {

/// logits: packed [T', n] of `layout`, or one row a sequence. → the mean, or undefined where no labels are
/// given. A label at a pad is an error: its row does not exist here. Question answering looks at a sequence's
/// real rows only. Errors: DataError naming the label.
Tensor padded_loss(const Model& model, const Tensor& logits, const PaddedInputs& inputs,
                   const Layout& layout);

}  // namespace graft
