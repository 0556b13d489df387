// Any bytes as a model's config.json: a model is built from it (sizes bounded), or it is refused.
#include "graft/models/model.h"
#include "tests/fuzz/fuzz.h"

namespace {

/// Large sizes would only make the target slow: their bounds have unit tests.
void bound(graft::Json& node) {
  if (node.is_number_integer() && !node.is_number_unsigned() && node.get<int64_t>() < 0) return;
  if (node.is_number_integer() && node.get<uint64_t>() > 16) node = node.get<uint64_t>() % 16 + 1;
  if (node.is_structured()) {
    for (graft::Json& item : node) bound(item);
  }
}

/// A size that is not given would be the family's own: a model of a hundred million parameters an input.
void shrink_defaults(graft::Json& config) {
  for (const char* key : {"vocab_size", "hidden_size", "intermediate_size", "max_position_embeddings",
                          "embedding_size", "n_embd", "n_positions", "ffn_dim", "d_model", "d_kv", "d_ff"})
    config.emplace(key, 8);
  for (const char* key :
       {"num_hidden_layers", "num_attention_heads", "n_layer", "n_head", "num_layers", "num_heads"})
    config.emplace(key, 2);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  graft::set_quiet(true);
  graft::fuzz::accepted([&] {
    graft::Json config = graft::parse_json(graft::fuzz::text_of(data, size), "config.json");
    bound(config);
    if (!config.is_object()) return;
    shrink_defaults(config);
    graft::new_model(config, {});
  });
  return 0;
}
