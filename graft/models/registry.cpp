#include "graft/base/error.h"
#include "graft/models/bert.h"
#include "graft/models/gpt2.h"
#include "graft/models/llama.h"
#include "graft/models/mt5.h"
#include "graft/models/t5.h"

namespace graft {

const std::vector<Family>& families() {
  static const std::vector<Family> rows = {kBert, kGpt2, kLlama, kMt5, kT5};
  return rows;
}

const Family& family(const std::string& model_type) {
  std::vector<std::string> names;
  for (const Family& known : families()) {
    if (known.model_type == model_type) return known;
    names.emplace_back(known.model_type);
  }
  throw DataError("config.json", "model_type '{}' is not implemented{}", model_type,
                  did_you_mean(model_type, names));
}

}  // namespace graft
