// Every method, listed once.
#include <map>

#include "graft/base/error.h"
#include "graft/peft/adalora.h"
#include "graft/peft/adapter.h"
#include "graft/peft/bitfit.h"
#include "graft/peft/boft.h"
#include "graft/peft/bottleneck.h"
#include "graft/peft/c3a.h"
#include "graft/peft/delora.h"
#include "graft/peft/fourierft.h"
#include "graft/peft/full.h"
#include "graft/peft/hira.h"
#include "graft/peft/hra.h"
#include "graft/peft/ia3.h"
#include "graft/peft/intrinsic.h"
#include "graft/peft/ln_tuning.h"
#include "graft/peft/loha.h"
#include "graft/peft/lokr.h"
#include "graft/peft/lora.h"
#include "graft/peft/lora_fa.h"
#include "graft/peft/miss.h"
#include "graft/peft/multitask_prompt.h"
#include "graft/peft/oft.h"
#include "graft/peft/p_tuning.h"
#include "graft/peft/prefix_tuning.h"
#include "graft/peft/prompt_tuning.h"
#include "graft/peft/randlora.h"
#include "graft/peft/road.h"
#include "graft/peft/shira.h"
#include "graft/peft/trainable_tokens.h"
#include "graft/peft/vblora.h"
#include "graft/peft/vera.h"

namespace graft {

const std::vector<TuningMethod>& tuning_methods() {
  static const std::vector<TuningMethod> methods = {kLora,
                                                    kLoraFa,
                                                    kAdaLora,
                                                    kTrainableTokens,
                                                    kIa3,
                                                    kLnTuning,
                                                    kVera,
                                                    kLoha,
                                                    kLokr,
                                                    kOft,
                                                    kBoft,
                                                    kHra,
                                                    kFourierFt,
                                                    kMiss,
                                                    kShira,
                                                    kHira,
                                                    kC3a,
                                                    kDelora,
                                                    kRoad,
                                                    kRandlora,
                                                    kVblora,
                                                    kPromptTuning,
                                                    kPTuning,
                                                    kPrefixTuning,
                                                    kMultitaskPrompt,
                                                    kFull,
                                                    kBitfit,
                                                    kLayerNorm,
                                                    kHead,
                                                    kDid,
                                                    kSaid,
                                                    kBottleneck,
                                                    kHoulsby,
                                                    kPfeiffer,
                                                    kAdapterDrop,
                                                    kParallel,
                                                    kCompacter,
                                                    kCompacterPlusPlus};
  return methods;
}

const TuningMethod& tuning_method(const std::string& given) {
  // AdapterHub's names.
  static const std::map<std::string, std::string> others = {
      {"double_seq_bn", "houlsby"}, {"seq_bn", "pfeiffer"}, {"par_bn", "parallel"}};
  const auto other = others.find(given);
  const std::string& name = other == others.end() ? given : other->second;
  std::vector<std::string> names;
  for (const TuningMethod& method : tuning_methods()) {
    if (name == method.name) return method;
    names.emplace_back(method.name);
  }
  throw UsageError("method", "{}, expected a known method{}", name, did_you_mean(name, names));
}

}  // namespace graft
