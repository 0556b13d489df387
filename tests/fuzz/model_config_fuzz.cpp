// Any bytes as a model's config.json: a model is built from it (sizes bounded), or it is refused.
#include "graft/models/model.h"
#include "tests/fuzz/fuzz.h"

namespace {

/// Large sizes would only make the target slow: their bounds have unit tests.
void bound(graft::Json& node) {
  if (node.is_number_integer() && !node.is_number_unsigned() && node.get<int64_t>() < 0) return;
  if (node.is_number_integer() && node.get<uint64_t>() > 64) node = node.get<uint64_t>() % 64 + 1;
  if (node.is_structured()) {
    for (graft::Json& item : node) bound(item);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  graft::set_quiet(true);
  graft::fuzz::accepted([&] {
    graft::Json config = graft::parse_json(graft::fuzz::text_of(data, size), "config.json");
    bound(config);
    if (!config.is_object()) return;
    graft::new_model(config, {});
  });
  return 0;
}
