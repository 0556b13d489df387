// Any bytes as a recipe (YAML or JSON) and as an override: what is accepted is written and read back as the
// same.
#include "graft/session/recipe.h"
#include "tests/fuzz/fuzz.h"

namespace {

void read(const graft::Json& document) {
  const graft::Recipe recipe = graft::read_recipe(document);
  const graft::Json effective = graft::recipe_document(recipe);
  const std::string yaml = graft::to_yaml(effective);
  if (graft::recipe_document(graft::read_recipe(graft::parse_yaml(yaml, "again"))) != effective) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = graft::fuzz::text_of(data, size);
  graft::fuzz::accepted([&] { read(graft::parse_yaml(text, "input")); });
  graft::fuzz::accepted([&] {
    const graft::Json document = graft::parse_json(text, "input");
    if (graft::parse_json(graft::to_pretty_json(document), "again").size() != document.size()) std::abort();
    read(document);
  });
  graft::fuzz::accepted([&] {
    graft::Json document = {{"train", {{"seed", 1}}}, {"method", {{{"name", "lora"}}}}};
    graft::apply_override(document, text.substr(0, text.find('\n')));
    graft::to_yaml(document);
  });
  return 0;
}
