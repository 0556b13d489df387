#include "graft/session/golden_case.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <limits>
#include <set>

#include "graft/base/error.h"
#include "graft/generate/generator.h"
#include "graft/io/safetensors.h"
#include "graft/ops/adamw.h"
#include "graft/peft/multitask_prompt.h"
#include "graft/session/forward.h"

namespace graft {
namespace {

struct Tolerance {
  double absolute, relative;
};

/// Source: the reference set's README, eight and more times the error of plain float32.
Tolerance tolerance_of(const std::string& name) {
  const std::string head = name.substr(0, name.find('.'));
  if (name == "losses") return {5e-5, 5e-5};
  if (head == "generate" || head == "kept") return {0, 0};
  if (head == "grad") return {3e-6, 3e-5};
  if (head == "after") return {2e-4, 2e-4};
  if (head == "loss") return {3e-6, 3e-6};
  return {1e-5, 1e-5};
}

HeadKind head_of(const std::string& task) {
  if (task == "feature_extraction") return HeadKind::none;
  if (task == "regression") return HeadKind::sequence_classification;
  return head_kind(task);
}

/// A case's model with its adapter attached, and the inputs.
struct Subject {
  std::filesystem::path folder;
  Json description;
  std::unique_ptr<Model> model;
  std::unique_ptr<Adapter> adapter;

  std::string text(const char* key) const {
    const auto found = description.find(key);
    if (found == description.end() || !found->is_string()) {
      throw DataError((folder / "case.json").string(), "no {}, expected a string", key);
    }
    return found->get<std::string>();
  }
  double training(const char* key) const {
    double number = 0;
    read_value(description.at("training").at(key), number, key);
    return number;
  }
};

/// A prompt with the network that makes it: its tensors lie beside the adapter, whose file holds only what
/// comes out.
Adapter encoded_prompt(const std::filesystem::path& folder, Model& model) {
  Json config = read_json(folder / "adapter" / "adapter_config.json");
  const std::string type = config.value("peft_type", "");
  config.erase("peft_type");
  for (const TuningMethod& method : tuning_methods()) {
    if (!method.peft_type || method.peft_type != type) continue;
    Adapter adapter = method.create(config, model, 0);
    const TensorMap encoder = read_safetensors(folder / "encoder.safetensors");
    const TensorMap rest = read_safetensors(folder / "adapter" / "adapter_model.safetensors");
    const at::NoGradGuard no_grad;
    for (auto& [key, tensor] : adapter.trained) {
      const bool inside = key.starts_with("prompt_encoder.");
      const auto found = inside ? encoder.find(key.substr(15)) : rest.find(key);
      if (found == (inside ? encoder : rest).end() || found->second.sizes() != tensor.sizes()) {
        throw DataError(folder.string(), "{} is missing or misshapen, expected it beside the adapter", key);
      }
      tensor.copy_(found->second);
    }
    return adapter;
  }
  throw DataError(folder.string(), "peft_type '{}' is not implemented", type);
}

Subject open_subject(const std::filesystem::path& folder) {
  Subject subject{folder, read_json(folder / "case.json"), nullptr, nullptr};
  const std::filesystem::path model = folder / ".." / ".." / subject.text("model");
  LoadOptions options;
  options.head = head_of(subject.text("task"));
  subject.model = load_model(Checkpoint::open(model), options);
  if (std::filesystem::exists(folder / "encoder.safetensors")) {
    subject.adapter = std::make_unique<Adapter>(encoded_prompt(folder, *subject.model));
  } else if (std::filesystem::exists(folder / "adapter")) {
    subject.adapter = std::make_unique<Adapter>(read_adapter(folder / "adapter", *subject.model));
  } else {
    std::string name = subject.text("method");
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
    const TuningMethod& method = tuning_method(name);
    subject.adapter = std::make_unique<Adapter>(method.create(Json::object(), *subject.model, 0));
  }
  attach(*subject.adapter, *subject.model);
  return subject;
}

PaddedInputs inputs_of(const Subject& subject) {
  const std::filesystem::path path = subject.folder / "inputs.safetensors";
  TensorMap tensors = read_safetensors(path);
  tensors.erase("prompt.ids");
  return padded_inputs(*subject.model, std::move(tensors), path.string());
}

void compute_forward(const Subject& subject, bool hidden_states, TensorMap& out) {
  const at::NoGradGuard no_grad;
  const ForwardOptions options{.hidden_states = hidden_states, .virtual_rows = true};
  out.merge(named_results(forward(*subject.model, subject.adapter.get(), inputs_of(subject), options)));
}

void compute_merged(const std::filesystem::path& folder, TensorMap& out) {
  const Subject subject = open_subject(folder);
  merge(*subject.adapter, *subject.model);
  const at::NoGradGuard no_grad;
  out["merged.logits"] = named_results(forward(*subject.model, nullptr, inputs_of(subject), {})).at("logits");
}

void compute_generated(const Subject& subject, int64_t count, TensorMap& out) {
  const TensorMap inputs = read_safetensors(subject.folder / "inputs.safetensors");
  const auto found = inputs.find("prompt.ids");
  if (found == inputs.end())
    throw DataError(subject.text("name"), "no prompt.ids, expected them for generate.ids");
  const Tensor ids = found->second.flatten().to(at::kLong).contiguous();
  const int64_t* begin = ids.const_data_ptr<int64_t>();
  const std::vector<std::vector<int64_t>> prompts = {{begin, begin + ids.numel()}};
  // The set generates with the second task where there are several.
  const auto multitask = std::dynamic_pointer_cast<MultitaskPrompt>(subject.adapter->input);
  if (multitask) multitask->set_tasks(at::ones({1}, at::kLong));
  GenerateConfig config;
  config.max_new_tokens = count;
  const Generator generator(*subject.model, subject.adapter.get(), nullptr);
  out["generate.ids"] = at::tensor(generator.run(prompts, config)[0].ids, at::kLong).unsqueeze(0);
}

/// Plain AdamW that decays every tensor.
class Steps {
 public:
  Steps(const Subject& subject, TensorMap trained) : trained_(std::move(trained)) {
    const Json& training = subject.description.at("training");
    options_.learning_rate = subject.training("lr");
    options_.eps = subject.training("eps");
    options_.weight_decay = subject.training("weight_decay");
    read_value(training.at("betas").at(0), options_.beta1, "betas[0]");
    read_value(training.at("betas").at(1), options_.beta2, "betas[1]");
    for (const auto& [key, tensor] : trained_) {
      moments_.emplace(key, std::pair{at::zeros_like(tensor), at::zeros_like(tensor)});
    }
  }
  void clear_gradients() {
    for (auto& [key, tensor] : trained_) tensor.mutable_grad() = Tensor();
  }
  Tensor gradient(const std::string& key) const {
    const Tensor& tensor = trained_.at(key);
    return tensor.grad().defined() ? tensor.grad() : at::zeros_like(tensor);
  }
  void step(int64_t number) {
    const at::NoGradGuard no_grad;
    for (auto& [key, tensor] : trained_) {
      auto& [average, square] = moments_.at(key);
      ops::adamw_step(tensor, gradient(key).contiguous(), average, square, number, options_);
    }
  }

 private:
  TensorMap trained_;
  std::map<std::string, std::pair<Tensor, Tensor>> moments_;
  ops::AdamWOptions options_;
};

/// The task's loss, and what is minimised.
std::pair<Tensor, Tensor> losses_of(const Subject& subject, const PaddedInputs& inputs) {
  const Tensor loss = forward(*subject.model, subject.adapter.get(), inputs, {}).loss;
  if (!loss.defined()) throw DataError(subject.text("name"), "no labels, expected them for training");
  return {loss, subject.adapter->auxiliary_loss ? loss + subject.adapter->auxiliary_loss() : loss};
}

/// Which singular triplets AdaLoRA has left, as its file would say.
void take_kept(const Json& config, TensorMap& out) {
  const auto pattern = config.find("rank_pattern");
  if (pattern == config.end() || !pattern->is_object()) return;
  for (const auto& [key, booleans] : pattern->items()) {
    if (!booleans.is_array()) continue;
    std::vector<int64_t> kept;
    for (const Json& one : booleans) kept.push_back(one == Json(true) ? 1 : 0);
    out["kept." + key.substr(0, key.find(".lora_E"))] = at::tensor(kept, at::kLong);
  }
}

void compute_training(const Subject& subject, TensorMap& out) {
  const PaddedInputs inputs = inputs_of(subject);
  const TensorMap trained = trainable(*subject.adapter);
  Steps steps(subject, trained);
  const auto count = static_cast<int64_t>(subject.training("steps"));
  const bool allocates = subject.text("variant") != "adalora";  // that case trains without allocation
  std::vector<double> losses;
  for (int64_t number = 1; number <= count; ++number) {
    steps.clear_gradients();
    const auto [task_loss, loss] = losses_of(subject, inputs);
    loss.backward();
    losses.push_back(loss.item<double>());
    if (number == 1) {
      out["loss"] = loss.detach();
      out["loss.task"] = task_loss.detach();
      for (const auto& [key, tensor] : trained) out["grad." + key] = steps.gradient(key).clone();
      const auto prompt = std::dynamic_pointer_cast<SoftPrompt>(subject.adapter->input);
      if (prompt && prompt->source().encoded())
        out["grad.prompt_embeddings"] = prompt->source().last().grad();
    }
    steps.step(number);
    if (allocates && subject.adapter->after_step) subject.adapter->after_step(number);
  }
  out["losses"] = at::tensor(losses, at::kDouble).to(at::kFloat);
  for (const auto& [key, tensor] : trained) out["after." + key] = tensor.detach().clone();
  const AdapterFile file = adapter_file(*subject.adapter);
  if (const auto made = file.tensors.find("prompt_embeddings"); made != file.tensors.end()) {
    out["after.prompt_embeddings"] = made->second.clone();
  }
  take_kept(file.config, out);
}

bool any_starts(const TensorMap& tensors, const std::string& prefix) {
  const auto found = tensors.lower_bound(prefix);
  return found != tensors.end() && found->first.starts_with(prefix);
}

TensorMap compute(const Subject& subject, const TensorMap& expected) {
  TensorMap out;
  const bool states = any_starts(expected, "hidden_states.") || any_starts(expected, "pooler_output") ||
                      any_starts(expected, "encoder_hidden_states.");
  compute_forward(subject, states, out);
  if (expected.count("merged.logits")) compute_merged(subject.folder, out);
  if (const auto ids = expected.find("generate.ids"); ids != expected.end()) {
    compute_generated(subject, ids->second.numel(), out);
  }
  if (any_starts(expected, "grad.") || expected.count("losses")) compute_training(subject, out);
  return out;
}

void compare(const TensorMap& expected, CaseReport& report) {
  std::vector<std::string> unknown;
  for (const auto& [name, tensor] : expected) {
    const auto found = report.computed.find(name);
    if (found == report.computed.end()) {
      unknown.push_back(name);
      continue;
    }
    const double share = tolerance_share(name, found->second, tensor);
    if (share > report.share || report.worst.empty()) {
      report.share = share;
      report.worst = name;
    }
    if (!(share <= 1)) report.problems.push_back(fmt::format("{}: {:.3g} of what is allowed", name, share));
  }
  if (!unknown.empty()) {
    throw DataError(report.name, "expected.safetensors holds {}, expected names that this program computes",
                    fmt::join(unknown, ", "));
  }
}

}  // namespace

double tolerance_share(const std::string& name, const Tensor& computed, const Tensor& expected) {
  constexpr double kOver = std::numeric_limits<double>::infinity();
  if (computed.sizes() != expected.sizes()) return kOver;
  const Tolerance allowed = tolerance_of(name);
  if (allowed.absolute == 0) return computed.to(at::kLong).equal(expected.to(at::kLong)) ? 0 : kOver;
  const Tensor counted = expected.isfinite();
  if (!expected.isinf().logical_not().all().item<bool>()) return kOver;
  if (!counted.any().item<bool>()) return 0;
  const Tensor ours = computed.to(at::kDouble).masked_select(counted);
  const Tensor theirs = expected.to(at::kDouble).masked_select(counted);
  if (!ours.isfinite().all().item<bool>()) return kOver;
  const double error = (ours - theirs).abs().max().item<double>();
  return error / (allowed.absolute + allowed.relative * theirs.abs().max().item<double>());
}

CaseReport run_case(const std::filesystem::path& folder) {
  CaseReport report;
  report.name = std::filesystem::weakly_canonical(folder).filename().string();
  const TensorMap expected = read_safetensors(folder / "expected.safetensors");
  if (expected.empty()) throw DataError(report.name, "expected.safetensors is empty, expected tensors");
  const Subject subject = open_subject(folder);
  const TensorMap computed = compute(subject, expected);
  for (const auto& [name, tensor] : computed) {
    if (expected.count(name)) report.computed[name] = tensor;
  }
  compare(expected, report);
  return report;
}

}  // namespace graft
