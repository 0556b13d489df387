#include "graft/session/session.h"

#include <algorithm>
#include <cstdlib>

#include "graft/base/error.h"
#include "graft/peft/bottleneck.h"
#include "graft/peft/merged_weights.h"
#include "graft/peft/several.h"
#include "graft/session/adapter_head.h"

namespace graft {

AdapterChoice adapter_choice(const std::string& text) {
  const size_t at = text.rfind('@');
  if (at == std::string::npos || std::filesystem::exists(text)) return {text, 1};
  const std::string number = text.substr(at + 1);
  char* end = nullptr;
  const double weight = std::strtod(number.c_str(), &end);
  if (number.empty() || *end != 0 || !std::isfinite(weight)) {
    throw UsageError("adapter", "weight after @ in {}: '{}', expected a number", text, number);
  }
  return {text.substr(0, at), weight};
}

Session Session::open(const SessionOptions& options) {
  Session session;
  session.folder_ = options.model;
  LoadOptions load = options.load;
  for (const AdapterChoice& choice : options.adapters) load = with_adapter_head(load, choice.folder);
  session.model_ = load_model(Checkpoint::open(options.model), load);
  // A chat form that an adapter was trained with lies beside it.
  for (const AdapterChoice& choice : options.adapters) {
    if (!session.chat_template_) session.chat_template_ = ChatTemplate::open(choice.folder);
  }
  if (!session.chat_template_) session.chat_template_ = ChatTemplate::open(options.model);
  const bool merged = options.merged || options.adapters.size() > 1 ||
                      (options.adapters.size() == 1 && options.adapters[0].weight != 1);
  for (const AdapterChoice& choice : options.adapters) {
    Adapter adapter = read_adapter(choice.folder, *session.model_);
    drop_adapters(adapter, *session.model_, options.drop_adapters);
    attach(adapter, *session.model_);
    if (merged) {
      merge({{&adapter, choice.weight}}, *session.model_);
    } else {
      session.adapter_ = std::make_unique<Adapter>(std::move(adapter));
    }
  }
  return session;
}

const Tokenizer& Session::tokenizer() const {
  if (!tokenizer_) tokenizer_ = Tokenizer::open(folder_);
  return *tokenizer_;
}

Batch Session::prepare(Batch batch) const {
  if (adapter_ && adapter_->input) return adapter_->input->before(*model_, std::move(batch));
  return batch;
}

HeadKind text_head(const std::filesystem::path& model) {
  const Json config = Checkpoint::open_config(model).config;
  const Json type = config.is_object() ? config.value("model_type", Json()) : Json();
  if (!type.is_string()) return HeadKind::causal_lm;  // loading says what is wrong with it
  for (const auto& [name, head] : family(type.get<std::string>()).architectures) {
    if (head == HeadKind::seq2seq_lm) return head;
  }
  return HeadKind::causal_lm;
}

at::ScalarType dtype_of(const std::string& name) {
  if (name == "float32") return at::kFloat;
  if (name == "bfloat16") return at::kBFloat16;
  if (name == "float64") return at::kDouble;
  throw UsageError("dtype", "{}, expected float32 or bfloat16{}", name,
                   did_you_mean(name, {"float32", "bfloat16"}));
}

void set_dtype(LoadOptions& options, const std::string& name) {
  const std::vector<std::string> known{"float32", "bfloat16", "float64", "int8"};
  if (std::find(known.begin(), known.end(), name) == known.end()) {
    throw UsageError("dtype", "{}, expected float32, bfloat16 or int8{}", name, did_you_mean(name, known));
  }
  options.int8 = name == "int8";
  options.dtype = options.int8 ? at::kBFloat16 : dtype_of(name);
}

std::string dtype_name(at::ScalarType type) {
  if (type == at::kFloat) return "float32";
  if (type == at::kBFloat16) return "bfloat16";
  if (type == at::kDouble) return "float64";
  throw InternalError("dtype", "no name for {}", at::toString(type));
}

}  // namespace graft
