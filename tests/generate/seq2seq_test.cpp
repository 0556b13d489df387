// Encoder-decoders: what tests/reference/make_seq2seq.py had transformers and PEFT generate, token for token.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "graft/base/error.h"
#include "graft/generate/generator.h"
#include "graft/io/checkpoint.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

using Prompts = std::vector<std::vector<int64_t>>;

const fs::path kFolder = fs::path(GRAFT_SOURCE_DIR) / "tests/reference/seq2seq";

class Seq2Seq : public testing::TestWithParam<const char*> {
 protected:
  fs::path folder() const { return kFolder / GetParam(); }
  std::unique_ptr<Model> load(at::ScalarType dtype = at::kFloat) const {
    return load_model(Checkpoint::open(folder()), {.dtype = dtype, .head = HeadKind::seq2seq_lm});
  }
  GenerateConfig config() const {
    return {.max_new_tokens = expected_["max_new_tokens"].get<int64_t>(),
            .eos = eos_ids(folder(), Json::object(), nullptr),
            .decoder_start = decoder_start_id(folder())};
  }
  Json ids_of(Model& model, const Adapter* adapter, const GenerateConfig& config) const {
    Json ids = Json::array();
    for (const Generated& one : Generator(model, adapter, nullptr).run(prompts_, config))
      ids.push_back(one.ids);
    return ids;
  }

  Json expected_ = read_json(folder() / "expected.json");
  Prompts prompts_ = expected_["prompts"].get<Prompts>();
};

TEST_P(Seq2Seq, EqualsTransformersTokenForToken) {
  const auto model = load();
  EXPECT_EQ(ids_of(*model, nullptr, config()), expected_["answers"]["base"]);
  GenerateConfig penalised = config();
  penalised.sampling.repetition_penalty = expected_["repetition_penalty"].get<double>();
  EXPECT_EQ(ids_of(*model, nullptr, penalised), expected_["answers"]["penalised"]);
}

TEST_P(Seq2Seq, EqualsPeftTokenForTokenWithAdapters) {
  for (const char* name : {"lora", "prompt", "prefix", "ia3"}) {
    const auto model = load();
    const Adapter adapter = read_adapter(folder() / "adapters" / name, *model);
    attach(adapter, *model);
    EXPECT_EQ(ids_of(*model, &adapter, config()), expected_["answers"][name]) << name;
    GenerateConfig queued = config();
    queued.batch_size = 2;
    EXPECT_EQ(ids_of(*model, &adapter, queued), expected_["answers"][name]) << name;
  }
}

TEST_P(Seq2Seq, CompanyAndGroupsChangeNothing) {
  const auto model = load();
  for (const int64_t group : {1, 3}) {
    GenerateConfig grouped = config();
    grouped.batch_size = group;
    EXPECT_EQ(ids_of(*model, nullptr, grouped), expected_["answers"]["base"]) << group;
  }
  GenerateConfig drawn = config();
  drawn.sampling = {.temperature = 1.3, .top_k = 20, .seed = 7};
  const Json together = ids_of(*model, nullptr, drawn);
  EXPECT_NE(together, expected_["answers"]["base"]);
  drawn.batch_size = 2;
  EXPECT_EQ(ids_of(*model, nullptr, drawn), together);
}

TEST_P(Seq2Seq, CompanyChangesNothingInHalves) {
  const auto model = load(at::kBFloat16);
  GenerateConfig alone = config();
  alone.batch_size = 1;
  EXPECT_EQ(ids_of(*model, nullptr, config()), ids_of(*model, nullptr, alone));
}

TEST_P(Seq2Seq, TheFirstTokenIsTheDecodersStart) {
  const auto model = load();
  GenerateConfig other = config();
  other.decoder_start = 17;
  EXPECT_NE(ids_of(*model, nullptr, other), expected_["answers"]["base"]);
  other.decoder_start = model->info().vocab_size;
  EXPECT_THROW(ids_of(*model, nullptr, other), DataError);
}

INSTANTIATE_TEST_SUITE_P(Models, Seq2Seq, testing::Values("t5-relu", "t5-gated"), [](const auto& parameter) {
  return std::string(parameter.index == 0 ? "Relu" : "Gated");
});

}  // namespace
}  // namespace graft
