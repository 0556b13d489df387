#include "graft/session/padded_loss.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include "graft/base/error.h"
#include "graft/ops/cross_entropy.h"

namespace graft {
namespace {

constexpr int64_t kIgnored = -100;

void check_targets(const Tensor& targets, int64_t classes) {
  const Tensor wrong = targets.ne(kIgnored).logical_and(targets.lt(0).logical_or(targets.ge(classes)));
  if (!wrong.any().item<bool>()) return;
  throw DataError("labels", "{}, expected 0 to {} or {}", targets.masked_select(wrong)[0].item<int64_t>(),
                  classes - 1, kIgnored);
}

/// Mean over the labelled rows.
Tensor mean_cross_entropy(const Tensor& logits, const Tensor& targets) {
  check_targets(targets, logits.size(1));
  const int64_t count = targets.ne(kIgnored).sum().item<int64_t>();
  if (count == 0) throw DataError("labels", "all are {}, expected at least one label", kIgnored);
  return ops::cross_entropy(logits, targets) / static_cast<double>(count);
}

/// labels [B, L] with V ignored columns in front.
Tensor extended(const Tensor& labels, int64_t in_front) {
  return at::constant_pad_nd(labels, {in_front, 0}, kIgnored);
}

/// A label of each packed row of `layout`, from padded [B, V + L].
Tensor packed_labels(const PaddedRows& rows, const Tensor& labels, const Layout& layout) {
  const int64_t in_front = rows.virtual_rows(layout);
  std::vector<Tensor> parts;
  for (int64_t b = 0; b < rows.sequences(); ++b) {
    const Tensor row = labels[b];
    const int64_t first = in_front + rows.first_column(b);
    parts.push_back(row.slice(0, 0, in_front));
    parts.push_back(row.slice(0, first, first + rows.lengths()[static_cast<size_t>(b)]));
  }
  return at::cat(parts);
}

Tensor check_shape(const Tensor& labels, const std::vector<int64_t>& shape) {
  if (labels.sizes().vec() == shape) return labels;
  throw DataError("labels", "[{}], expected [{}]", fmt::join(labels.sizes().vec(), ", "),
                  fmt::join(shape, ", "));
}

Tensor token_loss(const Tensor& logits, const PaddedRows& rows, const Tensor& labels, const Layout& layout) {
  const Tensor targets =
      packed_labels(rows, extended(check_shape(labels, rows.shape()), rows.virtual_rows(layout)), layout);
  if (targets.ne(kIgnored).sum().item<int64_t>() != labels.ne(kIgnored).sum().item<int64_t>()) {
    throw DataError("labels", "a label at a pad, expected {} there", kIgnored);
  }
  return mean_cross_entropy(logits, targets);
}

/// Each row predicts the next column's label.
Tensor causal_loss(const Tensor& logits, const PaddedRows& rows, const Tensor& labels, const Layout& layout) {
  const int64_t in_front = rows.virtual_rows(layout);
  const Tensor all = extended(check_shape(labels, rows.shape()), in_front);
  const Tensor next = at::constant_pad_nd(all.slice(1, 1), {0, 1}, kIgnored);
  return mean_cross_entropy(logits, packed_labels(rows, next, layout));
}

Tensor sequence_loss(const Model& model, const Tensor& logits, const Tensor& labels) {
  const std::string problem =
      model.config.contains("problem_type") && model.config["problem_type"].is_string()
          ? model.config["problem_type"].get<std::string>()
          : "";
  const bool regression = problem == "regression" || (problem.empty() && logits.size(1) == 1);
  if (regression) {
    const Tensor values = logits.size(1) == 1 ? logits.squeeze(1) : logits;
    return at::mse_loss(values, check_shape(labels, values.sizes().vec()).to(values.scalar_type()));
  }
  if (labels.is_floating_point()) {
    return at::binary_cross_entropy_with_logits(
        logits, check_shape(labels, logits.sizes().vec()).to(logits.scalar_type()));
  }
  return mean_cross_entropy(logits, check_shape(labels, {logits.size(0)}));
}

/// The mean of the losses of one end of the answers, a softmax over each sequence's rows.
Tensor position_loss(const Tensor& scores, const PaddedInputs& inputs, const Tensor& positions,
                     const Layout& layout) {
  const PaddedRows& rows = inputs.rows;
  check_shape(positions, {rows.sequences()});
  std::vector<Tensor> losses;
  for (int64_t b = 0; b < rows.sequences(); ++b) {
    const int64_t row = positions[b].item<int64_t>() - rows.first_column(b);
    if (row < 0 || row >= rows.lengths()[static_cast<size_t>(b)])
      continue;  // outside: not counted, as in transformers
    const int64_t begin = layout.offsets[static_cast<size_t>(b)], length = layout.length(b);
    const Tensor chosen = at::tensor({row + rows.virtual_rows(layout)}, at::kLong);
    losses.push_back(ops::cross_entropy(scores.slice(0, begin, begin + length).unsqueeze(0), chosen));
  }
  if (losses.empty())
    throw DataError("labels", "no position lies inside of its sequence, expected at least one");
  return at::stack(losses).mean();
}

}  // namespace

Tensor padded_loss(const Model& model, const Tensor& logits, const PaddedInputs& inputs,
                   const Layout& layout) {
  if (model.head == HeadKind::question_answering) {
    const Tensor start = inputs.find("start_positions"), end = inputs.find("end_positions");
    if (!start.defined() || !end.defined()) return {};
    return (position_loss(logits.select(1, 0), inputs, start, layout) +
            position_loss(logits.select(1, 1), inputs, end, layout)) /
           2;
  }
  const Tensor labels = inputs.find("labels");
  if (!labels.defined() || model.head == HeadKind::none) return {};
  switch (model.head) {
    case HeadKind::sequence_classification:
      return sequence_loss(model, logits, labels);
    case HeadKind::multiple_choice: {
      const int64_t batch = inputs.rows.shape()[0];
      return mean_cross_entropy(logits.view({batch, -1}), check_shape(labels, {batch}));
    }
    case HeadKind::causal_lm:
      return causal_loss(logits, inputs.rows, labels, layout);
    case HeadKind::seq2seq_lm:
      return token_loss(logits, *inputs.decoder_rows, labels, layout);
    default:
      return token_loss(logits, inputs.rows, labels, layout);
  }
}

}  // namespace graft
