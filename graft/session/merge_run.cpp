#include "graft/session/merge_run.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "graft/base/error.h"
#include "graft/base/file.h"
#include "graft/base/random.h"
#include "graft/io/checkpoint.h"
#include "graft/session/adapter_head.h"
#include "graft/session/progress.h"
#include "graft/session/weighted_merge.h"
#include "graft/train/evaluate.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

/// Two sequences of drawn tokens: enough to see every weight at work.
Batch probe(const Model& model) {
  RandomStream random(0, "merge probe");
  const int64_t longest = model.info().max_positions > 0 ? model.info().max_positions : 32;
  const std::vector<int64_t> lengths{std::min<int64_t>(32, longest), std::min<int64_t>(9, longest)};
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < lengths[0] + lengths[1]; ++i)
    ids.push_back(static_cast<int64_t>(random.below(static_cast<uint64_t>(model.info().vocab_size))));
  Batch batch;
  batch.input_ids = at::tensor(ids, at::kLong);
  batch.layout = Layout::of(lengths);
  batch.rows = model.head_rows(batch.layout);
  return batch;
}

Tensor probe_logits(Model& model, const Adapter* adapter) {
  const Batch batch = prepare_batch(adapter, model, probe(model));
  const Tensor hidden = model.run(batch);
  return (model.head == HeadKind::none ? hidden : model.logits(hidden, batch)).to(at::kFloat);
}

at::ScalarType written_dtype(const MergeRunOptions& options, const Checkpoint& checkpoint) {
  if (!options.dtype.empty()) return dtype_of(options.dtype);
  for (const auto& [name, tensor] : checkpoint.tensors) {
    if (at::isFloatingType(tensor.scalar_type())) return tensor.scalar_type();
  }
  return at::kFloat;
}

void check_output(const fs::path& out) {
  std::error_code error;
  if (!fs::exists(out, error)) return;
  if (!fs::is_directory(out, error) || !fs::is_empty(out, error))
    throw UsageError("out", "{} is taken, expected a new or empty folder", out.string());
}

void write_model(const MergeRunOptions& options, const Model& model, at::ScalarType dtype) {
  if (options.out.has_parent_path()) fs::create_directories(options.out.parent_path());
  AtomicFolder folder(options.out);
  write_checkpoint(folder.path(), model_config(model, dtype), model_tensors(model, dtype),
                   options.shard_bytes);
  copy_text_files(options.model, folder.path());
  for (const AdapterChoice& choice : options.adapters) {
    const fs::path form = choice.folder / "chat_template.jinja";
    if (fs::exists(form)) write_file(folder.path() / "chat_template.jinja", read_file(form));
  }
  folder.commit();
}

}  // namespace

RunReport merge_run(const MergeRunOptions& options) {
  check_output(options.out);
  const at::NoGradGuard no_grad;
  const Checkpoint checkpoint = Checkpoint::open(options.model);
  LoadOptions load;
  for (const AdapterChoice& choice : options.adapters) load = with_adapter_head(load, choice.folder);
  const std::unique_ptr<Model> model = load_model(checkpoint, load);
  double largest = 0, scale = 0;
  Json rows = Json::array();
  for (const AdapterChoice& choice : options.adapters) {
    const Adapter adapter = read_adapter(choice.folder, *model);
    attach(adapter, *model);
    const Tensor attached = probe_logits(*model, &adapter);
    const double weight = choice.weight;
    // Compared at full weight, which is what being attached means; then the weight is applied.
    const TensorMap before = base_tensors(*model);
    merge(adapter, *model);
    const Tensor merged = probe_logits(*model, nullptr);
    apply_weight(*model, before, weight);
    const double difference = (attached - merged).abs().max().item<double>();
    largest = std::max(largest, difference);
    scale = std::max(scale, attached.abs().max().item<double>());
    rows.push_back(
        {{"adapter", choice.folder.string()}, {"weight", weight}, {"largest_logit_difference", difference}});
  }
  const at::ScalarType dtype = written_dtype(options, checkpoint);
  write_model(options, *model, dtype);
  RunReport report;
  report.document = {{"out", options.out.string()},
                     {"dtype", dtype_name(dtype)},
                     {"adapters", rows},
                     {"largest_logit_difference", largest},
                     {"largest_logit", scale}};
  report.text = fmt::format(
      "{}: merged, {}\nlargest logit difference between attached and merged: {:.3g} (largest logit {:.3g})",
      options.out.string(), dtype_name(dtype), largest, scale);
  return report;
}

}  // namespace graft
