#include "graft/base/error.h"
#include "graft/models/albert.h"
#include "graft/models/bert.h"
#include "graft/models/deberta_v2.h"
#include "graft/models/electra.h"
#include "graft/models/gemma2.h"
#include "graft/models/gpt2.h"
#include "graft/models/gpt_neox.h"
#include "graft/models/llama.h"
#include "graft/models/mistral.h"
#include "graft/models/mt5.h"
#include "graft/models/opt.h"
#include "graft/models/phi3.h"
#include "graft/models/qwen2.h"
#include "graft/models/qwen3.h"
#include "graft/models/roberta.h"
#include "graft/models/t5.h"
#include "graft/models/xlm_roberta.h"

namespace graft {

const std::vector<Family>& families() {
  static const std::vector<Family> rows = {kAlbert,  kBert,  kDebertaV2, kElectra, kGemma2,    kGpt2,
                                           kGptNeox, kLlama, kMistral,   kMt5,     kOpt,       kPhi3,
                                           kQwen2,   kQwen3, kRoberta,   kT5,      kXlmRoberta};
  return rows;
}

const Family& family(const std::string& model_type) {
  std::vector<std::string> names;
  for (const Family& known : families()) {
    if (known.model_type == model_type) return known;
    names.emplace_back(known.model_type);
  }
  std::string hint = did_you_mean(model_type, names);
  if (hint.empty()) hint = fmt::format("; there are {}", fmt::join(names, ", "));
  throw DataError("config.json", "model_type '{}' is not implemented{}", model_type, hint);
}

}  // namespace graft
