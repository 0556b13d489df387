// graft forward: tensors in, tensors out.
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>

#include "cli/command.h"
#include "cli/number_option.h"
#include "graft/base/error.h"
#include "graft/io/safetensors.h"
#include "graft/session/forward.h"
#include "graft/session/session.h"
#include "graft/train/train_config.h"

namespace graft::cli {
namespace {

struct ForwardArguments {
  std::string model, inputs, out, dtype = "float32", head;
  std::vector<std::string> adapters;
  bool merged = false, hidden_states = false;
  int64_t threads = 0, drop_adapters = 0;
};

int run(const ForwardArguments& options, const Globals& globals) {
  if (options.threads > 0) at::set_num_threads(static_cast<int>(options.threads));
  SessionOptions opening;
  opening.model = options.model;
  opening.merged = options.merged;
  opening.drop_adapters = options.drop_adapters;
  for (const std::string& adapter : options.adapters) opening.adapters.push_back(adapter_choice(adapter));
  set_dtype(opening.load, options.dtype);
  if (!options.head.empty()) opening.load.head = head_kind(options.head);
  const Session session = Session::open(opening);
  const at::NoGradGuard no_grad;
  const PaddedInputs inputs =
      padded_inputs(session.model(), read_safetensors(options.inputs), options.inputs);
  const TensorMap results = named_results(
      forward(session.model(), session.adapter(), inputs, {.hidden_states = options.hidden_states}));
  write_safetensors(options.out, results);

  Json document = {{"out", options.out}, {"tensors", Json::object()}};
  std::string text = options.out;
  for (const auto& [name, tensor] : results) {
    document["tensors"][name] = tensor.sizes().vec();
    text += fmt::format("\n  {} [{}]", name, fmt::join(tensor.sizes().vec(), ", "));
  }
  if (const auto loss = results.find("loss"); loss != results.end()) {
    document["loss"] = loss->second.item<double>();
    text += fmt::format("\nloss {:.6f}", loss->second.item<double>());
  }
  print_result(globals, document, text);
  return 0;
}

}  // namespace

Run define_forward(CLI::App& app, const Globals& globals) {
  auto options = std::make_shared<ForwardArguments>();
  app.add_option("--model", options->model, "folder of the model, in Hugging Face layout")->required();
  app.add_option("--adapter", options->adapters, "folder of an adapter; FOLDER@WEIGHT; several are merged")
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--inputs", options->inputs, "safetensors with input_ids, attention_mask, labels …")
      ->required();
  app.add_option("--out", options->out, "safetensors for logits, loss, hidden states")->required();
  app.add_option("--drop-adapters", options->drop_adapters,
                 "AdapterDrop: leave out the bottlenecks of this many of the lowest layers")
      ->check(number(between<int64_t>(0, 1000000)));
  app.add_flag("--merged", options->merged, "merge the adapter into the weights first");
  app.add_flag("--hidden-states", options->hidden_states, "write hidden_states.0 … too");
  app.add_option("--head", options->head, "the head, where a checkpoint has none or several");
  app.add_option("--dtype", options->dtype,
                 "float32, bfloat16, or int8: frozen linear maps multiply in 8 bits, the rest is bfloat16")
      ->capture_default_str();
  app.add_option("--threads", options->threads, "threads; 0: one a core")
      ->check(number(between<int64_t>(0, kMostThreads)))
      ->capture_default_str();
  return [options, &globals] { return run(*options, globals); };
}

}  // namespace graft::cli
