// What must hold for every family: a batch's company, rows that are not read, caches and files change
// nothing.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <numeric>
#include <set>

#include "graft/base/error.h"
#include "graft/io/checkpoint.h"
#include "graft/nn/recompute.h"
#include "tests/models/tiny.h"

namespace graft::test {
namespace {

/// float32 sums in another order: 24 to 40 terms of size one, two or three layers.
constexpr double kRounding = 2e-5;

Tensor rows_of(const std::vector<int64_t>& rows) { return at::tensor(rows, at::kLong); }

class Laws : public ::testing::TestWithParam<Tiny> {
 protected:
  std::unique_ptr<Model> model = tiny_model(GetParam());
  bool two_stacks() const { return model->info().is_encoder_decoder; }
  std::vector<Text> texts() const {
    return {some_text(1, 7, 3), some_text(2, 3, 6), some_text(3, 11, 1), some_text(4, 1, 4)};
  }
};

class DecoderLaws : public Laws {};

TEST_P(Laws, CompanyAndOrderChangeNothing) {
  const at::NoGradGuard no_grad;
  const std::vector<Text> all = texts();
  const Batch together = batch_of(*model, {all[2], all[0], all[3], all[1]});
  const Tensor hidden = model->run(together);
  const std::vector<size_t> order = {2, 0, 3, 1};
  for (size_t place = 0; place < order.size(); ++place) {
    const Tensor alone = model->run(batch_of(*model, {all[order[place]]}));
    const Layout& layout = result_layout(*model, together);
    const Tensor part = hidden.slice(0, layout.offsets[place], layout.offsets[place + 1]);
    EXPECT_LT(largest_difference(alone, part), kRounding) << "sequence " << order[place];
  }
}

TEST_P(Laws, ReadRowsAreTheRowsOfAll) {
  const std::vector<Text> all = texts();
  Batch batch = batch_of(*model, all);
  const Layout layout = result_layout(*model, batch);
  const int64_t last = layout.rows() - 1;
  const std::vector<Tensor> choices = {
      layout.first_rows(),   layout.last_rows(),       rows_of({0, 1, layout.offsets[2]}),
      rows_of({0, 2, last}), rows_of({last, 0, last}), rows_of({})};
  const auto gradient = [&](const Batch& given, const Tensor& rows) {
    Parameter& weight = *model->named_parameters()[3].second;
    weight.stand_in = weight.base.clone().requires_grad_(true);
    Tensor hidden = model->run(given);
    if (rows.defined()) hidden = hidden.index_select(0, rows);
    (hidden * at::linspace(-1, 1, hidden.numel()).view(hidden.sizes())).sum().backward();
    const Tensor found = weight.stand_in.grad();
    weight.stand_in = Tensor();
    return found.defined() ? found : at::zeros_like(weight.base);
  };
  batch.rows = Tensor();
  const Tensor whole = model->run(batch).detach();
  for (const Tensor& rows : choices) {
    batch.rows = Tensor();
    const Tensor wanted = gradient(batch, rows);
    batch.rows = rows;
    EXPECT_LT(largest_difference(model->run(batch).detach(), whole.index_select(0, rows)), kRounding) << rows;
    EXPECT_LT(largest_difference(gradient(batch, {}), wanted), 10 * kRounding) << rows;
    Trace trace;
    batch.trace = &trace;
    EXPECT_LT(largest_difference(model->run(batch).detach(), whole.index_select(0, rows)), kRounding) << rows;
    batch.trace = nullptr;
  }
}

/// Counts the rows that a linear map is given.
class CountRows : public LinearHook {
 public:
  Tensor forward(const Linear& base, const Tensor& x, RandomStream*) override {
    rows = x.size(0);
    return base.apply(x);
  }
  int64_t rows = 0;
};

/// The linear maps with this role, in the network's order.
std::vector<Linear*> linears_of(Model& model, const std::string& role) {
  std::vector<Linear*> found;
  const std::vector<Role> roles = model.roles();
  for (const auto& [path, module] : model.named_modules()) {
    const auto fits = [&path = path](const Role& one) { return path.ends_with(one.suffix); };
    const auto first = std::find_if(roles.begin(), roles.end(), fits);
    auto* const linear = dynamic_cast<Linear*>(module);
    if (linear != nullptr && first != roles.end() && first->name == role) found.push_back(linear);
  }
  return found;
}

TEST_P(Laws, LastBlockComputesOnlyTheRowsThatAreRead) {
  const at::NoGradGuard no_grad;
  Batch batch = batch_of(*model, texts());
  const Layout& layout = result_layout(*model, batch);
  batch.rows = layout.last_rows();
  for (const char* role : {"attention_output", "mlp_up", "mlp_down"}) {
    const std::vector<Linear*> maps = linears_of(*model, role);
    ASSERT_GE(maps.size(), 1U) << role;
    const auto count = std::make_shared<CountRows>();
    maps.back()->hook = count;
    model->run(batch);
    maps.back()->hook.reset();
    // ALBERT's one block serves every layer; the last of them is what counted last.
    EXPECT_EQ(count->rows, layout.sequences()) << role;
    EXPECT_LT(count->rows, layout.rows()) << role;
  }
}

TEST_P(Laws, NoGradientIsMadeBelowTheLowestTrainedPlace) {
  const std::vector<Linear*> maps = linears_of(*model, "mlp_down");
  if (maps.size() < 2) return;  // shared blocks have no lower place
  Batch batch = batch_of(*model, texts());
  Trace trace;
  batch.trace = &trace;
  maps.back()->weight->stand_in = maps.back()->weight->base.clone().requires_grad_(true);
  const Tensor hidden = model->run(batch);
  const auto& states = two_stacks() ? trace.decoder_hidden_states : trace.hidden_states;
  ASSERT_GE(states.size(), 3U);
  for (size_t i = 0; i + 1 < states.size(); ++i)
    EXPECT_FALSE(states[i].requires_grad()) << "input of block " << i;
  EXPECT_TRUE(hidden.requires_grad());
}

/// Equal bits are promised on one thread: a table's gradient is summed by several in any order.
class OneThread {
 public:
  OneThread() { at::set_num_threads(1); }
  ~OneThread() { at::set_num_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_ = at::get_num_threads();
};

TEST_P(Laws, RecomputedBlocksHaveTheSameBits) {
  const OneThread one_thread;
  Batch batch = batch_of(*model, texts());
  batch.rows = result_layout(*model, batch).last_rows();
  const Tensor seed = (at::arange(24, at::kFloat) / 50 - 0.2).requires_grad_(true);
  const auto run = [&](int64_t recomputed) {
    RandomStream dropout(9, "dropout");
    batch.dropout = &dropout;
    const RecomputeGuard guard(recomputed);
    batch.prefix.clear();
    // A prefix is computed from what is trained: it is read by the blocks, but lies outside of them.
    const auto& info = model->info();
    for (int64_t layer = 0; GetParam().has_prefix && layer < info.num_layers; ++layer) {
      const Tensor key = (seed.repeat({2 * info.num_kv_heads}) * static_cast<double>(layer + 1))
                             .slice(0, 0, 2 * info.num_kv_heads * info.head_dim)
                             .view({2, info.num_kv_heads, info.head_dim});
      batch.prefix.push_back({key.sin(), key.cos()});
    }
    std::vector<Tensor> out = {seed};
    for (const auto& [path, parameter] : model->named_parameters()) {
      parameter->stand_in = parameter->base.clone().requires_grad_(true);
      out.push_back(parameter->stand_in);
    }
    seed.mutable_grad() = Tensor();
    const Tensor hidden = model->run(batch);
    (hidden * at::linspace(-1, 1, hidden.numel()).view(hidden.sizes())).sum().backward();
    for (Tensor& tensor : out) tensor = tensor.grad().defined() ? tensor.grad().clone() : Tensor();
    out.push_back(hidden.detach());
    out.push_back(at::tensor(static_cast<int64_t>(dropout.position())));
    return out;
  };
  const std::vector<Tensor> kept = run(0), anew = run(9);
  ASSERT_EQ(kept.size(), anew.size());
  size_t with_gradient = 0;
  for (size_t i = 0; i < kept.size(); ++i) {
    ASSERT_EQ(kept[i].defined(), anew[i].defined()) << i;
    if (!kept[i].defined()) continue;
    EXPECT_TRUE(at::equal(kept[i], anew[i])) << "tensor " << i;
    ++with_gradient;
  }
  EXPECT_GT(with_gradient, kept.size() / 2);
}

TEST_P(DecoderLaws, CachedDecodingEqualsTheFullForward) {
  const at::NoGradGuard no_grad;
  const std::vector<Text> all = {some_text(1, 9, 9), some_text(2, 6, 6)};
  const Tensor whole = model->run(batch_of(*model, all));
  const std::vector<int64_t> starts = {0, 9};
  KvCache cache(model->info().num_layers, 2, 2), cross(model->info().num_layers, 2, 1);
  int64_t seen = 0;
  for (const int64_t step : {int64_t{3}, int64_t{1}, int64_t{1}, int64_t{1}}) {
    std::vector<std::vector<int64_t>> parts;
    for (const Text& text : all) {
      const auto& ids = two_stacks() ? text.decoder_ids : text.ids;
      parts.emplace_back(ids.begin() + seen, ids.begin() + seen + step);
    }
    Batch batch = batch_of(*model, all);
    Layout& layout = two_stacks() ? batch.decoder_layout : batch.layout;
    pack(parts, two_stacks() ? batch.decoder_input_ids : batch.input_ids, layout);
    layout = Layout::of({step, step}, {seen, seen});
    batch.cache = &cache;
    if (two_stacks()) batch.cross_cache = &cross;
    const Tensor got = model->run(batch);
    for (size_t b = 0; b < 2; ++b) {
      const Tensor want = whole.slice(0, starts[b] + seen, starts[b] + seen + step);
      const auto begin = static_cast<int64_t>(b) * step;
      EXPECT_LT(largest_difference(got.slice(0, begin, begin + step), want), kRounding) << "from " << seen;
    }
    seen += step;
  }
  EXPECT_EQ(cache.length(0), 6);
}

TEST_P(Laws, APrefixIsSeenFirstAlsoThroughACache) {
  const at::NoGradGuard no_grad;
  const ModelInfo& info = model->info();
  const std::vector<Text> all = texts();
  Batch batch = batch_of(*model, all);
  const Tensor without = model->run(batch);
  for (int64_t i = 0; i < info.num_layers; ++i) {
    const auto sizes = std::vector<int64_t>{2, info.num_kv_heads, info.head_dim};
    batch.prefix.push_back({at::linspace(-1, 2, 2 * info.num_kv_heads * info.head_dim).view(sizes),
                            at::linspace(1, -1, 2 * info.num_kv_heads * info.head_dim).view(sizes)});
  }
  if (!GetParam().has_prefix) {
    EXPECT_THROW(model->run(batch), UsageError);
    return;
  }
  const Tensor with = model->run(batch);
  EXPECT_GT(largest_difference(with, without), 1e-3);
  batch.rows = result_layout(*model, batch).last_rows();
  EXPECT_LT(largest_difference(model->run(batch), with.index_select(0, batch.rows)), kRounding);
  if (!info.is_decoder) return;
  batch.rows = Tensor();
  KvCache cache(info.num_layers, 4, 1), cross(info.num_layers, 4, 1);
  batch.cache = &cache;
  if (two_stacks()) batch.cross_cache = &cross;
  EXPECT_LT(largest_difference(model->run(batch), with), kRounding);
  EXPECT_EQ(cache.length(3), 2 + result_layout(*model, batch).length(3));
}

TEST_P(Laws, DropoutIsAFunctionOfTheStream) {
  Batch batch = batch_of(*model, texts());
  const Tensor calm = model->run(batch);
  const auto trained = [&](uint64_t seed) {
    RandomStream stream(seed, "dropout");
    batch.dropout = &stream;
    return model->run(batch);
  };
  const Tensor once = trained(1), again = trained(1), other = trained(2);
  EXPECT_TRUE(at::equal(once, again));
  EXPECT_GT(largest_difference(once, calm), 1e-3);
  EXPECT_GT(largest_difference(once, other), 1e-3);
}

TEST_P(Laws, WrittenAndReadAgainIsTheSame) {
  const at::NoGradGuard no_grad;
  const auto folder = std::filesystem::temp_directory_path() / ("graft_models_" + GetParam().name);
  std::filesystem::create_directories(folder);
  write_checkpoint(folder, model_config(*model, at::kFloat), model_tensors(*model, at::kFloat));
  const auto again = load_model(Checkpoint::open(folder), {});
  const Batch batch = batch_of(*model, texts());
  EXPECT_TRUE(at::equal(again->run(batch), model->run(batch)));
  EXPECT_EQ(again->head, model->head);
  EXPECT_EQ(again->config, model_config(*model, at::kFloat));
  std::filesystem::remove_all(folder);
}

TEST_P(Laws, OneSeedGivesOneModelOnAnyNumberOfThreads) {
  LoadOptions options;
  options.seed = 3;
  const Json config = parse_json(GetParam().config, "tiny");
  const auto one = new_model(config, options);
  const int threads = at::get_num_threads();
  at::set_num_threads(threads == 1 ? 2 : 1);
  const auto two = new_model(config, options);
  at::set_num_threads(threads);
  options.seed = 4;
  const auto three = new_model(config, options);
  const auto a = model_tensors(*one, at::kFloat), b = model_tensors(*two, at::kFloat);
  bool any_other = false;
  for (const auto& [key, value] : a) {
    EXPECT_TRUE(at::equal(value, b.at(key))) << key;
    any_other |= !at::equal(value, model_tensors(*three, at::kFloat).at(key));
    if (key.ends_with("bias")) {
      EXPECT_EQ(value.abs().sum().item<double>(), 0) << key;
    }
    if (value.dim() == 1 && key.ends_with("weight")) {
      const double first = GetParam().name == "gemma2" ? 0 : 1;  // what is added to 1
      EXPECT_TRUE((value == first).all().item<bool>()) << key;
    }
  }
  EXPECT_TRUE(any_other);
  if (const int64_t row = one->padding_row(); row >= 0) {
    EXPECT_EQ(one->word_embedding().weight->base[row].abs().sum().item<double>(), 0);
  }
}

TEST_P(Laws, PathsAreFoundAndTiedTensorsAreOne) {
  std::set<std::string> seen;  // ALBERT has two modules at one path: the first counts
  for (const auto& [path, module] : model->named_modules()) {
    if (seen.insert(path).second) {
      EXPECT_EQ(model->find(path), module) << path;
    }
  }
  EXPECT_EQ(model->find("no.such.module"), nullptr);
  for (const Role& role : model->roles()) {
    const auto modules = model->named_modules();
    const bool found = std::any_of(modules.begin(), modules.end(),
                                   [&](const auto& row) { return row.first.ends_with(role.suffix); });
    // Heads, and gates where nothing is gated, are not in every model of a family.
    if (role.name != "head" && !role.name.starts_with("mlp_")) {
      EXPECT_TRUE(found) << role.suffix;
    }
  }
  Linear* output = model->output_embedding();
  EXPECT_EQ(GetParam().tied, output != nullptr && output->weight == model->word_embedding().weight);
  if (GetParam().tied) {
    const size_t before = model->named_parameters().size();
    output->untie();
    EXPECT_EQ(model->named_parameters().size(), before + 1);
    EXPECT_TRUE(at::equal(output->weight->base, model->word_embedding().weight->base));
  }
}

std::vector<Tiny> tiny_decoders() {
  std::vector<Tiny> rows;
  for (const Tiny& tiny : tiny_models()) {
    if (tiny_model(tiny)->info().is_decoder) rows.push_back(tiny);
  }
  return rows;
}

INSTANTIATE_TEST_SUITE_P(Families, DecoderLaws, ::testing::ValuesIn(tiny_decoders()),
                         [](const auto& given) { return given.param.name; });
INSTANTIATE_TEST_SUITE_P(Families, Laws, ::testing::ValuesIn(tiny_models()),
                         [](const auto& given) { return given.param.name; });

}  // namespace
}  // namespace graft::test
