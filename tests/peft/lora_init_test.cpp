// LoRA's first values against their definitions, and what becomes of them in files.
#include "graft/peft/lora_init.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "graft/base/error.h"
#include "graft/peft/eva.h"
#include "graft/peft/incremental_pca.h"
#include "graft/peft/lora.h"
#include "graft/peft/lora_fa.h"
#include "tests/peft/methods.h"
#include "tests/temporary.h"

namespace graft {
namespace {

using test::answer;
using test::contains;
using test::largest_difference;
using test::message_of;
using test::move_tensors;
using test::TemporaryFolder;

std::unique_ptr<Model> llama() { return test::tiny_model(test::tiny_models()[2]); }

Batch some_rows(const Model& model) {
  return test::batch_of(model, {test::some_text(1, 6), test::some_text(2, 4)});
}

Json config_of(const std::string& init) {
  return {{"name", "lora"},
          {"r", 4},
          {"lora_alpha", 6},
          {"init_lora_weights", init},
          {"rank_pattern", {{"v_proj", 2}}}};
}

const LoraTensors& at(const Adapter& adapter, const std::string& path) {
  return dynamic_cast<const LoraLinear&>(*adapter.linears.at(path)).tensors();
}

const std::string kQuery = "model.layers.1.self_attn.q_proj";
const std::string kValue = "model.layers.1.self_attn.v_proj";

TEST(LoraInit, PissaIsTheStrongestPartOfTheWeight) {
  const auto model = llama();
  const Adapter adapter = kLora.create(config_of("pissa"), *model, 1);
  for (const auto& [path, r] : {std::pair{kQuery, 4}, std::pair{kValue, 2}}) {
    const LoraTensors& lora = at(adapter, path);
    const Tensor weight = dynamic_cast<Linear&>(*model->find(path)).weight->base;
    const Tensor rest = weight - lora.scale * at::matmul(lora.b, lora.a);
    // What is left has the remaining singular values.
    const Tensor all = std::get<1>(at::linalg_svd(weight, false));
    const Tensor left = std::get<1>(at::linalg_svd(rest, false));
    const int64_t count = all.numel() - r;
    EXPECT_LT((left.narrow(0, 0, count) - all.narrow(0, r, count)).abs().max().item<double>(), 1e-5) << path;
    // Both factors carry half of it.
    EXPECT_LT((lora.a.norm() - lora.b.norm()).abs().item<double>(), 1e-5);
  }
}

TEST(LoraInit, FastPissaComesNearTheExactOne) {
  const auto model = llama();
  const Adapter exact = kLora.create(config_of("pissa"), *model, 1);
  const Adapter fast = kLora.create(config_of("pissa_niter_16"), *model, 1);
  const Tensor a = at::matmul(at(exact, kQuery).b, at(exact, kQuery).a);
  const Tensor b = at::matmul(at(fast, kQuery).b, at(fast, kQuery).a);
  // Subspace iteration converges with the ratio of neighbouring singular values.
  EXPECT_LT(largest_difference(a, b), 0.05 * a.abs().max().item<double>());
}

TEST(LoraInit, OloraIsTheFirstPartOfQr) {
  const auto model = llama();
  const LoraTensors lora = at(kLora.create(config_of("olora"), *model, 1), kQuery);
  EXPECT_LT((at::matmul(lora.b.t(), lora.b) - at::eye(4)).abs().max().item<double>(), 1e-5);
  // R is upper triangular: its first column has one entry.
  EXPECT_LT(lora.a.narrow(1, 0, 1).narrow(0, 1, 3).abs().max().item<double>(), 1e-6);
}

TEST(LoraInit, OrthogonalFactorsCancel) {
  const auto model = llama();
  const LoraTensors lora = at(kLora.create(config_of("orthogonal"), *model, 1), kQuery);
  EXPECT_GT(lora.a.abs().max().item<double>(), 0.01);
  EXPECT_GT(lora.b.abs().max().item<double>(), 0.01);
  EXPECT_LT(at::matmul(lora.b, lora.a).abs().max().item<double>(), 1e-6);
  Json odd = config_of("orthogonal");
  odd["r"] = 3;
  EXPECT_TRUE(contains(message_of<UsageError>([&] { kLora.create(odd, *model, 1); }), "even"));
}

TEST(LoraInit, SavedAsPlainLoraComputesTheSame) {
  for (const char* init : {"pissa", "olora", "pissa_niter_2"}) {
    for (const bool rooted : {false, true}) {
      const auto model = llama();
      const TemporaryFolder folder;
      Json config = config_of(init);
      config["use_rslora"] = rooted;
      config["save_as_lora"] = true;
      config["alpha_pattern"] = {{"q_proj", 5}};
      config["target_modules"] = {"q_proj", "v_proj", "embed_tokens"};
      const Adapter adapter = kLora.create(config, *model, 1);
      move_tensors(adapter);
      attach(adapter, *model);
      const Tensor expected = answer(*model, &adapter, some_rows(*model));
      detach(*model);
      write_adapter(folder.path(), adapter, *model);
      const Json written = read_json(folder / "adapter_config.json");
      EXPECT_EQ(written["init_lora_weights"], true);
      EXPECT_EQ(written["r"], 8);
      EXPECT_FALSE(written.contains("save_as_lora"));
      const Adapter plain = read_adapter(folder.path(), *model);
      EXPECT_FALSE(at(plain, kQuery).a0.defined());
      attach(plain, *model);
      // Sums in another order only.
      EXPECT_LT(largest_difference(answer(*model, &plain, some_rows(*model)), expected), 2e-5)
          << init << rooted;
    }
  }
}

TEST(LoraInit, DropoutLeavesTheBaseWhole) {
  const auto model = llama();
  Json config = config_of("pissa");
  config["lora_dropout"] = 0.5;
  const Adapter adapter = kLora.create(config, *model, 1);
  const LoraTensors& lora = at(adapter, kQuery);
  auto& linear = dynamic_cast<Linear&>(*model->find(kQuery));
  {
    const at::NoGradGuard no_grad;
    Tensor b = lora.b;
    b.zero_();
  }
  attach(adapter, *model);
  RandomStream stream(1, "dropout");
  const Tensor x = at::ones({3, linear.in()});
  // With B zero the update is nothing, dropped or not; what PiSSA took from the base must not be dropped.
  const Tensor rest = linear.apply(x) - lora.scale * at::matmul(at::matmul(x, lora.a0.t()), lora.b0.t());
  EXPECT_LT(largest_difference(linear.forward(x, &stream), rest), 1e-5);
}

TEST(LoraInit, RefusesWhatDoesNotGoTogether) {
  const auto model = llama();
  Json dora = config_of("pissa");
  dora["use_dora"] = true;
  EXPECT_TRUE(contains(message_of<UsageError>([&] { kLora.create(dora, *model, 1); }), "use_dora"));
  Json wide = config_of("olora");
  wide["r"] = 17;
  wide["rank_pattern"] = Json::object();
  EXPECT_TRUE(contains(message_of<UsageError>([&] { kLora.create(wide, *model, 1); }), "smaller side"));
  EXPECT_TRUE(contains(message_of<UsageError>([&] { kLora.create(config_of("pissa_niter_x"), *model, 1); }),
                       "init_lora_weights"));
}

TEST(LoraFa, OnlyBMovesAndItsGradientIsProjected) {
  const auto model = llama();
  const Adapter adapter = kLoraFa.create({{"name", "lora_fa"}, {"r", 3}, {"lora_alpha", 7}}, *model, 1);
  for (const auto& [key, tensor] : adapter.trained) EXPECT_TRUE(key.ends_with("lora_B.weight")) << key;
  EXPECT_EQ(adapter_file(adapter).tensors.size(), 2 * adapter.trained.size());
  attach(adapter, *model);
  answer(*model, &adapter, some_rows(*model)).square().sum().backward();
  const LoraTensors& lora = at(adapter, kQuery);
  const Tensor before = lora.b.grad().clone();
  adapter.adjust_gradients();
  const Tensor back = lora.b.grad().matmul(at::matmul(lora.a, lora.a.t())) * lora.scale * lora.scale;
  EXPECT_FALSE(lora.b.grad().equal(before));
  // The inverse in float32.
  EXPECT_LT(largest_difference(back, before), 1e-3 * before.abs().max().item<double>());
}

TEST(IncrementalPca, FindsTheDirectionsOfAllRowsTogether) {
  at::manual_seed(1);
  const Tensor spread = at::tensor({5.0, 3.0, 2.0, 0.1, 0.1, 0.1}, at::kDouble);
  const Tensor basis = std::get<0>(at::linalg_qr(at::randn({6, 6}, at::kDouble)));
  const Tensor rows = at::matmul(at::randn({300, 6}, at::kDouble) * spread, basis.t()) + 1.0;
  IncrementalPca pca(3, "test");
  for (const Tensor& part : rows.split(60)) pca.add(part);
  const Tensor centred = rows - rows.mean(0);
  const auto [u, s, vt] = at::linalg_svd(centred, false);
  const Tensor cosine = (pca.components() * vt.narrow(0, 0, 3)).sum(1).abs();
  // Kept are three of six directions after each batch: what is dropped is small here.
  EXPECT_GT(cosine.min().item<double>(), 0.999);
  const Tensor share = s.narrow(0, 0, 3).square() / centred.square().sum();
  EXPECT_LT((pca.explained() - share).abs().max().item<double>(), 2e-3);
}

TEST(Eva, RanksGoWhereTheInputsVaryAndSumUp) {
  const auto model = llama();
  const Json config = {{"name", "lora"},
                       {"r", 2},
                       {"lora_alpha", 4},
                       {"init_lora_weights", "eva"},
                       {"target_modules", {"q_proj", "k_proj", "down_proj"}}};
  const auto batches = [&] {
    return StudyBatch{
        test::batch_of(*model, {test::some_text(1, 9), test::some_text(2, 9), test::some_text(3, 9)}), {}};
  };
  const Adapter adapter = kLora.create_from_data(config, *model, 1, batches);
  int64_t sum = 0;
  for (const auto& [path, hook] : adapter.linears) {
    const LoraTensors& lora = at(adapter, path);
    const int64_t rank = lora.a.size(0);
    sum += rank;
    EXPECT_LE(rank, 4) << path;  // rho · r
    // Unit rows at right angles; the scale stays as the rank moves.
    EXPECT_LT((at::matmul(lora.a, lora.a.t()) - at::eye(rank)).abs().max().item<double>(), 1e-4) << path;
    EXPECT_NEAR(lora.scale, 2, 1e-9) << path;
    EXPECT_EQ(lora.b.abs().max().item<double>(), 0) << path;
  }
  EXPECT_EQ(sum, 2 * 3 * model->info().num_layers);
  // Equal inputs, equal directions.
  const std::string key = "model.layers.0.self_attn.k_proj", query = "model.layers.0.self_attn.q_proj";
  if (adapter.linears.count(key) && adapter.linears.count(query)) {
    EXPECT_TRUE(at(adapter, key).a[0].equal(at(adapter, query).a[0]));
  }
  EXPECT_EQ(adapter.config["init_lora_weights"], "eva");
  const TemporaryFolder folder;
  write_adapter(folder.path(), adapter, *model);
  EXPECT_EQ(read_adapter(folder.path(), *model).trained.size(), adapter.trained.size());
}

}  // namespace
}  // namespace graft
