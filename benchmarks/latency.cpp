// What each method costs at inference: one sequence through a model of BERT-base's shape (random weights),
// plain and with adapters, measured in turns in one run. Prints a Markdown table.
//
//   graft_latency_benchmark [ROUNDS (default 9)] [float32 | bfloat16 (default float32)] [THREADS (default:
//   one a core)]
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <vector>

#include "graft/base/error.h"
#include "graft/base/random.h"
#include "graft/ops/kernels.h"
#include "graft/ops/tensor_memory.h"
#include "graft/peft/adapter.h"
#include "graft/session/session.h"
#include "graft/train/evaluate.h"

namespace {

using graft::Adapter;
using graft::Json;
using graft::Model;

constexpr int64_t kLengths[] = {16, 64, 128, 512};
/// Virtual tokens take positions in prompt tuning: the longest sequence and they must fit.
constexpr int64_t kVirtual = 20, kPositions = 512 + kVirtual;

struct Variant {
  const char* name;
  Json method;          // null: none
  bool merged = false;  // into the second model
  std::shared_ptr<Adapter> adapter{};
};

std::vector<Variant> variants() {
  const Json lora = {{"name", "lora"}, {"r", 8}, {"lora_alpha", 16}, {"target_modules", {"query", "value"}}};
  return {
      {"base", nullptr},
      {"LoRA r 8 (query, value), merged", lora, true},
      {"LoRA r 8 (query, value), unmerged", lora},
      {"Adpt-H, bottleneck 64", {{"name", "houlsby"}, {"bottleneck_size", 64}}},
      {"Adpt-P, bottleneck 64", {{"name", "pfeiffer"}, {"bottleneck_size", 64}}},
      {"AdapterDrop, bottleneck 64, 5 layers without",
       {{"name", "adapterdrop"}, {"bottleneck_size", 64}, {"drop_layers", 5}}},
      {"prefix tuning, 20 virtual tokens", {{"name", "prefix_tuning"}, {"num_virtual_tokens", kVirtual}}},
      {"prompt tuning, 20 virtual tokens", {{"name", "prompt_tuning"}, {"num_virtual_tokens", kVirtual}}}};
}

std::unique_ptr<Model> bert_base(at::ScalarType type) {
  graft::LoadOptions load;
  load.dtype = type;
  load.num_labels = 2;
  return graft::new_model({{"model_type", "bert"},
                           {"architectures", {"BertForSequenceClassification"}},
                           {"vocab_size", 30522},
                           {"hidden_size", 768},
                           {"num_hidden_layers", 12},
                           {"num_attention_heads", 12},
                           {"intermediate_size", 3072},
                           {"max_position_embeddings", kPositions}},
                          load);
}

graft::Batch sequence(const Model& model, int64_t length) {
  graft::RandomStream random(1, "latency");
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < length; ++i)
    ids.push_back(static_cast<int64_t>(random.below(static_cast<uint64_t>(model.info().vocab_size))));
  graft::Batch batch;
  batch.input_ids = at::tensor(ids, at::kLong);
  batch.layout = graft::Layout::of({length});
  batch.rows = model.head_rows(batch.layout, batch.input_ids);
  return batch;
}

void pass(Model& model, const Adapter* adapter, const graft::Batch& batch) {
  const graft::Batch prepared = graft::prepare_batch(adapter, model, batch);
  model.logits(model.run(prepared), prepared);
}

/// Milliseconds a pass; several passes where one is short.
double milliseconds(Model& model, const Adapter* adapter, const graft::Batch& batch) {
  const int64_t passes = std::max<int64_t>(1, 128 / batch.layout.rows());
  pass(model, adapter, batch);
  const auto begin = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < passes; ++i) pass(model, adapter, batch);
  const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - begin;
  return time.count() / static_cast<double>(passes);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// Times of every variant at one length, the rounds' medians.
std::vector<double> measure(std::vector<Variant>& all, Model& model, Model& merged, int64_t length,
                            int rounds) {
  const graft::Batch batch = sequence(model, length);
  std::vector<std::vector<double>> times(all.size());
  for (int round = 0; round < rounds; ++round) {
    for (size_t i = 0; i < all.size(); ++i) {
      graft::detach(model);
      if (all[i].adapter && !all[i].merged) graft::attach(*all[i].adapter, model);
      Model& runs = all[i].merged ? merged : model;
      times[i].push_back(milliseconds(runs, all[i].merged ? nullptr : all[i].adapter.get(), batch));
    }
  }
  std::vector<double> medians;
  for (const auto& of_one : times) medians.push_back(median(of_one));
  return medians;
}

void print_table(const std::vector<Variant>& all, const std::vector<std::vector<double>>& columns) {
  fmt::print("| method |");
  for (const int64_t length : kLengths) fmt::print(" {} tokens |", length);
  fmt::print("\n| --- |{}\n", std::string(" --- | --- | --- | --- |"));
  for (size_t i = 0; i < all.size(); ++i) {
    fmt::print("| {} |", all[i].name);
    for (const auto& column : columns)
      fmt::print(" {:.2f} ms ({:+.1f} %) |", column[i], 100 * (column[i] / column[0] - 1));
    fmt::print("\n");
  }
}

int run(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 9;
  if (rounds < 1) throw graft::UsageError("rounds", "{}, expected a number above 0", argv[1]);
  const at::ScalarType type = graft::dtype_of(argc > 2 ? argv[2] : "float32");
  if (argc > 3) at::set_num_threads(std::max(1, std::atoi(argv[3])));
  graft::ops::keep_tensor_memory();
  const at::NoGradGuard no_grad;
  const auto model = bert_base(type), merged = bert_base(type);
  std::vector<Variant> all = variants();
  for (Variant& one : all) {
    if (one.method.is_null()) continue;
    Model& own = one.merged ? *merged : *model;
    one.adapter = std::make_shared<Adapter>(
        graft::tuning_method(one.method["name"].get<std::string>()).create(one.method, own, 1));
    if (one.merged) graft::merge(*one.adapter, own);
  }
  std::vector<std::vector<double>> columns;
  for (const int64_t length : kLengths) columns.push_back(measure(all, *model, *merged, length, rounds));
  fmt::print("BERT-base shape, batch 1, {}, {} threads, kernels {}, medians of {} rounds\n\n",
             graft::dtype_name(type), at::get_num_threads(), graft::ops::isa(), rounds);
  print_table(all, columns);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "latency: {}\n", error.what());
    return 1;
  }
}
