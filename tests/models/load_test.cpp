// Reading checkpoints: prefixes, new heads, types; and errors that say everything at once.
#include <gtest/gtest.h>

#include "graft/base/error.h"
#include "graft/io/checkpoint.h"
#include "tests/models/golden.h"
#include "tests/models/tiny.h"
#include "tests/temporary.h"

namespace graft::test {
namespace {

/// A checkpoint in memory from a tiny model.
Checkpoint checkpoint_of(size_t index) {
  const auto model = tiny_model(tiny_models()[index]);
  return {"memory", model_config(*model, at::kFloat), model_tensors(*model, at::kFloat)};
}
constexpr size_t kBertMlm = 0, kBertSeqcls = 1, kLlama = 2, kGpt2 = 3;

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(Load, AllProblemsInOneError) {
  Checkpoint checkpoint = checkpoint_of(kLlama);
  checkpoint.tensors.erase("model.norm.weight");
  checkpoint.tensors.erase("model.layers.1.mlp.up_proj.weight");
  checkpoint.tensors["model.layers.0.self_attn.q_proj.weight"] = at::zeros({3, 5});
  checkpoint.tensors["model.layers.2.mlp.up_proj.weight"] = at::zeros({40, 24});
  checkpoint.tensors["model.layers.0.input_layernorm.weight"] = at::zeros({24}, at::kLong);
  const std::string error = message_of<DataError>([&] { load_model(checkpoint, {}); });
  EXPECT_TRUE(has(error, "missing model.layers.1.mlp.up_proj.weight, model.norm.weight")) << error;
  EXPECT_TRUE(has(error, "unexpected model.layers.2.mlp.up_proj.weight")) << error;
  EXPECT_TRUE(has(error, "q_proj.weight has shape [3, 5], expected [32, 24]")) << error;
  EXPECT_TRUE(has(error, "input_layernorm.weight is of type Long")) << error;
}

TEST(Load, SettingsThatAreNotImplementedAreNamed) {
  Checkpoint checkpoint = checkpoint_of(kLlama);
  checkpoint.config["use_sliding_window"] = true;
  checkpoint.config["attn_logit_softcapping"] = 50.0;
  checkpoint.config["temperature"] = 0.7;
  checkpoint.config["some_switch"] = false;
  const std::string error = message_of<DataError>([&] { load_model(checkpoint, {}); });
  EXPECT_TRUE(has(error, "use_sliding_window = true, attn_logit_softcapping = 50.0")) << error;
  EXPECT_FALSE(has(error, "temperature") || has(error, "some_switch")) << error;
}

TEST(Load, WrongSettings) {
  const auto refused = [](size_t index, const char* key, const Json& value, const std::string& part) {
    Checkpoint checkpoint = checkpoint_of(index);
    checkpoint.config[key] = value;
    const std::string error = message_of<DataError>([&] { load_model(checkpoint, {}); });
    EXPECT_TRUE(has(error, part)) << error;
  };
  refused(kLlama, "hidden_size", "wide", "hidden_size");
  refused(kLlama, "hidden_size", -1, "hidden_size");
  refused(kLlama, "num_hidden_layers", 1000000000, "num_hidden_layers");
  refused(kLlama, "num_key_value_heads", 3, "num_key_value_heads 3");
  refused(kLlama, "head_dim", 0, "head_dim 0");
  refused(kLlama, "head_dim", 7, "7 rotated dimensions");
  refused(kLlama, "hidden_act", "swishh", "hidden_act");
  refused(kLlama, "rope_scaling", Json{{"rope_type", "proportional"}, {"factor", 4.0}},
          "rope_type proportional is not implemented");
  refused(kLlama, "rope_scaling", Json{{"rope_type", "linear"}, {"mrope_section", 4.0}}, "mrope_section");
  refused(kLlama, "rms_norm_eps", 0, "rms_norm_eps");
  refused(kLlama, "model_type", "lama", "did you mean llama");
  refused(kLlama, "model_type", 3, "model_type");
  refused(kLlama, "architectures", Json::array({"LlamaForVision"}), "LlamaForVision");
  refused(kLlama, "quantization_config", Json{{"bits", 4}}, "quantization_config");
  refused(kBertMlm, "position_embedding_type", "relative_key", "position_embedding_type");
  refused(kBertMlm, "num_attention_heads", 5, "hidden_size 24 does not divide by num_attention_heads 5");
  refused(kGpt2, "n_inner", -3, "n_inner: -3");
  refused(kBertMlm, "is_decoder", true, "is_decoder = true");
}

/// As transformers has it: a text may end in the padding's token, as where that is the end of a text.
TEST(Load, ADecodersClassReadsTheLastTokenThatIsNoPadding) {
  LoadOptions options;
  options.head = HeadKind::sequence_classification;
  Checkpoint checkpoint = checkpoint_of(kLlama);
  const Layout layout = Layout::of({3, 2});
  const Tensor ids = at::tensor({5, 7, 1, 6, 8}, at::kLong);
  EXPECT_TRUE(load_model(checkpoint, options)->head_rows(layout, ids).equal(at::tensor({1, 4}, at::kLong)));
  EXPECT_TRUE(load_model(checkpoint, options)->head_rows(layout, {}).equal(layout.last_rows()));
  checkpoint.config.erase("pad_token_id");
  EXPECT_TRUE(load_model(checkpoint, options)->head_rows(layout, ids).equal(layout.last_rows()));
}

/// transformers' LLaMA turns whole heads, whatever the key says, unless positions are scaled.
TEST(Load, PartsOfHeadsTurnOnlyWhereTheFamilyHasThem) {
  const at::NoGradGuard no_grad;
  const auto answer = [](const Json& rope) {
    Checkpoint checkpoint = checkpoint_of(kLlama);
    checkpoint.config["rope_parameters"] = rope;
    const auto model = load_model(checkpoint, {});
    return model->run(batch_of(*model, {some_text(1, 5)}));
  };
  const Json plain{{"rope_type", "default"}}, linear{{"rope_type", "linear"}, {"factor", 2.0}};
  const auto in_part = [](Json rope) {
    rope["partial_rotary_factor"] = 0.5;
    return rope;
  };
  EXPECT_TRUE(answer(in_part(plain)).equal(answer(plain)));
  EXPECT_FALSE(answer(in_part(linear)).equal(answer(linear)));
}

TEST(Load, KeysOfPublishedCheckpointsThatChangeNothing) {
  Checkpoint checkpoint = checkpoint_of(kLlama);
  checkpoint.config["unsloth_fixed"] = true;
  checkpoint.config["unsloth_version"] = "2026.1";
  EXPECT_NO_THROW(load_model(checkpoint, {}));
}

TEST(Load, AHeadThatTheFamilyDoesNotHave) {
  LoadOptions options;
  options.head = HeadKind::masked_lm;
  EXPECT_THROW(load_model(checkpoint_of(kLlama), options), UsageError);
  EXPECT_THROW(head_kind("sequence_clasification"), UsageError);
  EXPECT_EQ(head_kind("seq2seq_lm"), HeadKind::seq2seq_lm);
}

TEST(Load, AnotherHeadIsDrawnAndTheOldOneLeftOut) {
  LoadOptions options;
  options.head = HeadKind::token_classification;
  options.label_names = {"O", "B", "I", "E"};
  options.seed = 9;
  const auto model = load_model(checkpoint_of(kBertSeqcls), options);
  EXPECT_EQ(model->num_labels, 4);
  EXPECT_EQ(model->config["architectures"], Json::array({"BertForTokenClassification"}));
  EXPECT_EQ(model->config["id2label"]["1"], "B");
  EXPECT_EQ(model->config["label2id"]["I"], 2);
  const TensorMap tensors = model_tensors(*model, at::kFloat);
  EXPECT_EQ(tensors.at("classifier.weight").sizes(), at::IntArrayRef({4, 24}));
  EXPECT_NEAR(tensors.at("classifier.weight").std().item<double>(), 0.02, 0.01);
  EXPECT_EQ(tensors.at("classifier.bias").abs().sum().item<double>(), 0);
  EXPECT_FALSE(tensors.contains("bert.pooler.dense.weight"));
}

/// No file of an adapter holds a pooler: whoever opens one draws the same.
TEST(Load, WhatAdaptersDoNotHoldIsDrawnFromNoSeed) {
  LoadOptions options;
  options.head = HeadKind::sequence_classification;
  const auto tensors = [&](uint64_t seed) {
    options.seed = seed;
    return model_tensors(*load_model(checkpoint_of(kBertMlm), options), at::kFloat);
  };
  const TensorMap one = tensors(1), two = tensors(2);
  const char *pooler = "bert.pooler.dense.weight", *head = "classifier.weight";
  EXPECT_GT(one.at(pooler).abs().max().item<double>(), 0);
  EXPECT_TRUE(one.at(pooler).equal(two.at(pooler)));
  EXPECT_FALSE(one.at(head).equal(two.at(head)));
}

TEST(Load, PrefixesAreAddedAndTakenAway) {
  LoadOptions options;
  options.head = HeadKind::none;
  const auto bare = load_model(checkpoint_of(kBertSeqcls), options);
  EXPECT_NE(bare->find("encoder.layer.0.attention.self.query"), nullptr);
  const Checkpoint written{"memory", model_config(*bare, at::kFloat), model_tensors(*bare, at::kFloat)};
  EXPECT_TRUE(written.tensors.contains("pooler.dense.weight"));
  options.head = HeadKind::sequence_classification;
  const auto headed = load_model(written, options);
  const at::NoGradGuard no_grad;
  const Batch batch = batch_of(*headed, {some_text(1, 5)});
  EXPECT_TRUE(at::equal(headed->run(batch), bare->run(batch)));
}

TEST(Load, WeightsOfTheComputeTypeStayWhereTheyAre) {
  const Checkpoint checkpoint = checkpoint_of(kLlama);
  const auto model = load_model(checkpoint, {});
  for (const auto& [path, parameter] : model->named_parameters()) {
    EXPECT_EQ(parameter->base.data_ptr(), checkpoint.tensors.at(path).data_ptr()) << path;
  }
  const auto narrow = load_model(checkpoint, {.dtype = at::kBFloat16});
  for (const auto& [path, parameter] : narrow->named_parameters()) {
    EXPECT_EQ(parameter->base.scalar_type(), at::kBFloat16) << path;
  }
}

TEST(Load, ATiedHeadThatDiffersInTheFileStaysItsOwn) {
  Checkpoint checkpoint = checkpoint_of(kLlama);
  checkpoint.tensors["lm_head.weight"] = checkpoint.tensors.at("model.embed_tokens.weight").clone();
  EXPECT_EQ(model_tensors(*load_model(checkpoint, {}), at::kFloat).count("lm_head.weight"), 0u);
  checkpoint.tensors["lm_head.weight"][0][0] += 1;
  const auto model = load_model(checkpoint, {});
  EXPECT_TRUE(at::equal(model->output_embedding()->weight->base, checkpoint.tensors.at("lm_head.weight")));
  EXPECT_EQ(model->config["tie_word_embeddings"], false);
}

/// As transformers 5 has it: tied heads have one bias under two names; of an untied head's two it uses the
/// map's.
TEST(Load, AMaskedWordsHeadWithTwoBiases) {
  const std::string bias = "cls.predictions.bias", of_map = "cls.predictions.decoder.bias";
  Checkpoint tied = checkpoint_of(kBertMlm);
  tied.tensors[of_map] = tied.tensors.at(bias).clone();
  EXPECT_EQ(model_tensors(*load_model(tied, {}), at::kFloat).count(of_map), 0u);
  tied.tensors[of_map][0] += 1;
  const std::string error = message_of<DataError>([&] { load_model(tied, {}); });
  EXPECT_TRUE(has(error, bias + " and " + of_map + " differ")) << error;

  Checkpoint untied = tied;
  untied.config["tie_word_embeddings"] = false;
  untied.tensors["cls.predictions.decoder.weight"] =
      untied.tensors.at("bert.embeddings.word_embeddings.weight") + 1;
  const auto of_written = [](const Checkpoint& checkpoint) {
    return model_tensors(*load_model(checkpoint, {}), at::kFloat).at("cls.predictions.decoder.bias");
  };
  EXPECT_TRUE(at::equal(of_written(untied), untied.tensors.at(of_map)));
  untied.tensors.erase(of_map);
  EXPECT_TRUE(at::equal(of_written(untied), untied.tensors.at(bias)));
}

TEST(Load, BFloat16IsNearFloat32) {
  const at::NoGradGuard no_grad;
  for (const Tiny& tiny : tiny_models()) {
    const auto wide = tiny_model(tiny);
    const Checkpoint checkpoint{"memory", model_config(*wide, at::kFloat), model_tensors(*wide, at::kFloat)};
    const auto narrow = load_model(checkpoint, {.dtype = at::kBFloat16});
    const Batch batch = batch_of(*wide, {some_text(1, 7), some_text(2, 4)});
    const Tensor want = wide->run(batch), got = narrow->run(batch);
    EXPECT_EQ(got.scalar_type(), at::kBFloat16);
    // bfloat16 keeps 8 bits: 0.4 % a rounding, a few dozen roundings deep.
    const double relative = (got.to(at::kFloat) - want).norm().item<double>() / want.norm().item<double>();
    EXPECT_LT(relative, 0.05) << tiny.name;
  }
}

/// The word embedding's gradient of all outputs' squares.
Tensor gradient_of_words(Model& model, const Batch& batch) {
  Parameter& words = *model.word_embedding().weight;
  words.stand_in = words.base.to(at::kFloat).requires_grad_(true);
  const Tensor loss = model.run(batch).to(at::kFloat).square().sum();
  return torch::autograd::grad({loss}, {words.stand_in})[0];
}

TEST(Load, OneLayoutOfTheWeightsComputesTheSame) {
  for (const Tiny& tiny : tiny_models()) {
    const auto drawn = tiny_model(tiny);
    const Checkpoint checkpoint{"memory", model_config(*drawn, at::kFloat),
                                model_tensors(*drawn, at::kFloat)};
    const Batch batch = batch_of(*drawn, {some_text(1, 7), some_text(2, 4)});
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      const auto gradient = [&](int64_t second_layout) {
        const auto model = load_model(checkpoint, {.dtype = dtype, .second_layout = second_layout});
        return gradient_of_words(*model, batch);
      };
      const Tensor two = gradient(int64_t{1} << 40), one = gradient(0);
      EXPECT_GT(two.abs().max().item<float>(), 0) << tiny.name;
      if (dtype == at::kBFloat16) {
        EXPECT_TRUE(at::equal(one, two)) << tiny.name;
      } else {
        EXPECT_TRUE(at::allclose(one, two, 1e-4, 1e-4)) << tiny.name;
      }
    }
  }
}

/// A deeper model of the same weights computes what its layers compute one after the other.
TEST(Load, ReplicatedLayersShareTheirWeights) {
  const Checkpoint checkpoint = checkpoint_of(kLlama);
  LoadOptions options;
  options.layer_replication = {{0, 2}, {1, 2}};
  const auto model = load_model(checkpoint, options);
  EXPECT_EQ(model->info().num_layers, 3);
  EXPECT_EQ(model->config["num_hidden_layers"], 3);
  Checkpoint written{"memory", model->config, checkpoint.tensors};
  for (const auto& [key, tensor] : checkpoint.tensors) {
    if (const size_t at = key.find("layers.1."); at != std::string::npos)
      written.tensors[std::string(key).replace(at, 9, "layers.2.")] = tensor.clone();
  }
  const auto plain = load_model(written, {});
  const Batch batch = batch_of(*model, {some_text(1, 7), some_text(2, 4)});
  EXPECT_TRUE(model->run(batch).equal(plain->run(batch)));
  const auto base = [&](const char* path) {
    return dynamic_cast<Linear&>(*model->find(path)).weight->base.data_ptr();
  };
  EXPECT_EQ(base("model.layers.1.mlp.up_proj"), base("model.layers.2.mlp.up_proj"));
  for (const auto& wrong : {std::pair<int64_t, int64_t>{1, 3}, {1, 1}, {-1, 1}}) {
    options.layer_replication = {wrong};
    EXPECT_THROW(load_model(checkpoint, options), UsageError);
  }
  options.layer_replication = {{0, 1}};
  EXPECT_THROW(load_model(checkpoint_of(kBertMlm), options), UsageError);
}

TEST(Load, InputsOutsideTheTables) {
  const auto model = tiny_model(tiny_models()[kBertMlm]);
  Batch batch = batch_of(*model, {some_text(1, 33)});
  EXPECT_TRUE(has(message_of<DataError>([&] { model->run(batch); }), "at most 32 tokens"));
  batch = batch_of(*model, {{{61}, {}}});
  EXPECT_TRUE(has(message_of<DataError>([&] { model->run(batch); }), "id 61, expected 0 to 60"));
}

TEST(Load, MiniLmWithANewHead) {
  GRAFT_NEED(shared_dir());
  const Checkpoint checkpoint = Checkpoint::open(shared_dir() / "models/all-MiniLM-L6-v2");
  LoadOptions options;
  options.head = HeadKind::sequence_classification;
  const auto model = load_model(checkpoint, options);
  EXPECT_NE(model->find("bert.encoder.layer.5.attention.self.query"), nullptr);
  const Tensor& weight = model->word_embedding().weight->base;
  EXPECT_EQ(weight.scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(weight, checkpoint.tensors.at("embeddings.word_embeddings.weight").to(at::kFloat)));
  options.head = {};
  EXPECT_EQ(load_model(checkpoint, options)->head, HeadKind::none);
}

TEST(Golden, AMovedReferenceFails) {
  const Tensor expected = at::randn({4, 5});
  EXPECT_LT(share_of_tolerance(expected, expected, 1e-5, 1e-5), 1.0);
  const Tensor moved = expected.clone();
  moved[1][2] += 1e-3;
  EXPECT_GT(share_of_tolerance(moved, expected, 1e-5, 1e-5), 1.0);
  moved[1][2] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_GT(share_of_tolerance(moved, expected, 1e-5, 1e-5), 1.0);
  EXPECT_GT(share_of_tolerance(expected, at::full({4, 5}, NAN), 1e-5, 1e-5), 1.0);
}

}  // namespace
}  // namespace graft::test
