#include "graft/session/forward.h"

#include <ATen/ATen.h>

#include "graft/base/error.h"
#include "graft/peft/multitask_prompt.h"
#include "graft/session/padded_loss.h"

namespace graft {
namespace {

Tensor without_virtual(const Tensor& padded, const PaddedRows& rows, const ForwardOptions& options) {
  if (options.virtual_rows) return padded;
  const int64_t dim = padded.dim() - 2;
  return padded.slice(dim, padded.size(dim) - rows.columns());
}

int64_t config_id(const Model& model, const char* key, int64_t otherwise) {
  const auto found = model.config.find(key);
  return found != model.config.end() && found->is_number_integer() ? found->get<int64_t>() : otherwise;
}

void take_trace(ForwardResult& result, const Trace& trace, const PaddedInputs& inputs, const Batch& batch,
                const ForwardOptions& options) {
  for (const Tensor& state : trace.hidden_states) {
    result.hidden_states.push_back(
        without_virtual(inputs.rows.scatter(state, batch.layout), inputs.rows, options));
  }
  for (const Tensor& state : trace.decoder_hidden_states) {
    result.decoder_hidden_states.push_back(without_virtual(
        inputs.decoder_rows->scatter(state, batch.decoder_layout), *inputs.decoder_rows, options));
  }
  result.pooler_output = trace.pooler_output;
}

/// `task_ids` say whose prompt each sequence gets; only multitask prompts look at them.
void choose_tasks(const Adapter& adapter, const PaddedInputs& inputs) {
  const auto prompt = std::dynamic_pointer_cast<MultitaskPrompt>(adapter.input);
  if (prompt) prompt->set_tasks(inputs.find("task_ids"));
}

}  // namespace

PaddedInputs padded_inputs(const Model& model, TensorMap tensors, const std::string& where) {
  std::optional<int64_t> start;
  const int64_t pad = config_id(model, "pad_token_id", 0);
  if (model.head == HeadKind::seq2seq_lm) start = config_id(model, "decoder_start_token_id", pad);
  return PaddedInputs::of(std::move(tensors), start, pad, where);
}

ForwardResult forward(Model& model, const Adapter* adapter, const PaddedInputs& inputs,
                      const ForwardOptions& options) {
  Batch batch = inputs.batch();
  if (adapter) refresh_stand_ins(*adapter, model);
  if (adapter) choose_tasks(*adapter, inputs);
  if (adapter && adapter->input) batch = adapter->input->before(model, std::move(batch));
  const bool decoder = inputs.decoder_rows.has_value();
  const Layout& layout = decoder ? batch.decoder_layout : batch.layout;
  const PaddedRows& rows = decoder ? *inputs.decoder_rows : inputs.rows;
  Trace trace;
  if (options.hidden_states) batch.trace = &trace;
  const Tensor head_rows = model.head_rows(layout, batch.input_ids);
  batch.rows = head_rows;
  ForwardResult result;
  const Tensor hidden = model.run(batch);
  if (model.head == HeadKind::none) {
    result.logits = without_virtual(rows.scatter(hidden, layout), rows, options);
  } else {
    const Tensor logits = model.logits(hidden, batch);
    result.loss = padded_loss(model, logits, inputs, layout);
    if (model.head == HeadKind::multiple_choice) {
      result.logits = logits.view({inputs.rows.shape()[0], -1});
    } else {
      result.logits =
          head_rows.defined() ? logits : without_virtual(rows.scatter(logits, layout), rows, options);
    }
  }
  if (options.hidden_states) take_trace(result, trace, inputs, batch, options);
  return result;
}

TensorMap named_results(const ForwardResult& result) {
  TensorMap out;
  out["logits"] = result.logits;
  if (result.loss.defined()) out["loss"] = result.loss;
  const bool two_stacks = !result.decoder_hidden_states.empty();
  for (size_t i = 0; i < result.hidden_states.size(); ++i) {
    out[fmt::format("{}hidden_states.{}", two_stacks ? "encoder_" : "", i)] = result.hidden_states[i];
  }
  for (size_t i = 0; i < result.decoder_hidden_states.size(); ++i) {
    out[fmt::format("decoder_hidden_states.{}", i)] = result.decoder_hidden_states[i];
  }
  if (result.pooler_output.defined()) out["pooler_output"] = result.pooler_output;
  for (auto& [name, tensor] : out) tensor = tensor.detach().to(at::kFloat).contiguous();
  return out;
}

}  // namespace graft
