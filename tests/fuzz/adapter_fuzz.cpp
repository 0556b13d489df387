// Any bytes as adapter_config.json beside well-formed weights: read, attached and detached, or refused.
#include <ATen/ATen.h>

#include "graft/io/safetensors.h"
#include "graft/peft/adapter.h"
#include "tests/fuzz/fuzz.h"

namespace {

std::unique_ptr<graft::Model> tiny_model() {
  const graft::Json config = {
      {"model_type", "bert"},        {"vocab_size", 8},          {"hidden_size", 4},
      {"num_hidden_layers", 1},      {"num_attention_heads", 1}, {"intermediate_size", 4},
      {"max_position_embeddings", 8}};
  graft::LoadOptions options;
  options.head = graft::HeadKind::sequence_classification;
  options.num_labels = 2;
  return graft::new_model(config, options);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const graft::fuzz::Folder folder;
  static const std::unique_ptr<graft::Model> model = [] {
    std::unique_ptr<graft::Model> made = tiny_model();
    graft::set_quiet(true);
    graft::TensorMap tensors;
    for (const char* module : {"query", "value"}) {
      const std::string path = std::string("base_model.model.bert.encoder.layer.0.attention.self.") + module;
      tensors[path + ".lora_A.weight"] = at::ones({2, 4});
      tensors[path + ".lora_B.weight"] = at::ones({4, 2});
    }
    graft::write_safetensors(folder.path() / "adapter_model.safetensors", tensors);
    return made;
  }();
  folder.write("adapter_config.json", graft::fuzz::text_of(data, size));
  graft::fuzz::accepted([&] {
    const graft::Adapter adapter = graft::read_adapter(folder.path(), *model);
    graft::attach(adapter, *model);
    graft::detach(*model);
  });
  return 0;
}
