#include "graft/session/merge_run.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "graft/base/error.h"
#include "graft/base/file.h"
#include "graft/base/random.h"
#include "graft/io/checkpoint.h"
#include "graft/io/tensor_stream.h"
#include "graft/models/build.h"
#include "graft/ops/tensor_memory.h"
#include "graft/peft/merged_weights.h"
#include "graft/session/adapter_head.h"
#include "graft/session/progress.h"
#include "graft/session/run_folder.h"
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
  batch.rows = model.head_rows(batch.layout, batch.input_ids);
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

/// The merged weights of a checkpoint above this are written as they are made, and its logits are not
/// compared: two passes, and all merged weights at once, would cost more than the merge.
constexpr size_t kHeldBytes = size_t{1} << 30;

size_t weight_bytes(const Checkpoint& checkpoint) {
  size_t bytes = 0;
  for (const auto& [name, tensor] : checkpoint.tensors) bytes += tensor.nbytes();
  return bytes;
}

using Bases = std::map<std::string, Tensor>;

Bases bases_of(const Model& model) {
  Bases out;
  for (const auto& [path, parameter] : model.named_parameters(true)) out[path] = parameter->base;
  return out;
}

class MergeRun {
 public:
  explicit MergeRun(const MergeRunOptions& options) : options_(options) {
    // Each weight's float32 forms lie where the last one's did: fresh pages cost more than the arithmetic.
    ops::keep_tensor_memory();
    check_new_folder(options.out);
    Checkpoint checkpoint = Checkpoint::open(options.model);
    dtype_ = written_dtype(options, checkpoint);
    streamed_ = weight_bytes(checkpoint) > kHeldBytes;
    LoadOptions load;
    if (streamed_) load.dtype = written_dtype({}, checkpoint);
    for (const AdapterChoice& choice : options.adapters) load = with_adapter_head(load, choice.folder);
    model_ = load_model(checkpoint, load);
  }

  RunReport run() {
    if (options_.out.has_parent_path()) fs::create_directories(options_.out.parent_path());
    AtomicFolder folder(options_.out);
    if (streamed_) {
      stream_into(folder.path());
    } else {
      for (const AdapterChoice& choice : options_.adapters) merge_held(choice);
      write_checkpoint(folder.path(), model_config(*model_, dtype_), model_tensors(*model_, dtype_),
                       options_.shard_bytes);
    }
    copy_text_files(options_.model, folder.path());
    for (const AdapterChoice& choice : options_.adapters) {
      const fs::path form = choice.folder / "chat_template.jinja";
      if (fs::exists(form)) write_file(folder.path() / "chat_template.jinja", read_file(form));
    }
    folder.commit();
    return report();
  }

 private:
  /// Compared at full weight, which is what being attached means; then the weight is applied.
  void merge_held(const AdapterChoice& choice) {
    const Adapter adapter = read_adapter(choice.folder, *model_);
    attach(adapter, *model_);
    const Tensor attached = probe_logits(*model_, &adapter);
    detach(*model_);
    const Bases before = bases_of(*model_);
    merge(adapter, *model_);
    const double difference = (attached - probe_logits(*model_, nullptr)).abs().max().item<double>();
    if (choice.weight != 1) {
      for (const auto& [path, parameter] : model_->named_parameters(true)) parameter->base = before.at(path);
      merge({{&adapter, choice.weight}}, *model_);
    }
    largest_ = std::max(largest_, difference);
    scale_ = std::max(scale_, attached.abs().max().item<double>());
    rows_.push_back({{"adapter", choice.folder.string()},
                     {"weight", choice.weight},
                     {"largest_logit_difference", difference}});
  }

  void stream_into(const fs::path& folder) {
    std::vector<Adapter> adapters;
    for (const AdapterChoice& choice : options_.adapters) {
      adapters.push_back(read_adapter(choice.folder, *model_));
      rows_.push_back({{"adapter", choice.folder.string()}, {"weight", choice.weight}});
    }
    std::vector<WeightedAdapter> parts;
    for (size_t i = 0; i < adapters.size(); ++i) parts.push_back({&adapters[i], options_.adapters[i].weight});
    MergedWeights merged(parts, *model_, dtype_);
    merged.untie_parted();
    std::map<std::string, std::shared_ptr<Parameter>> parameters;
    for (const auto& [path, parameter] : model_->named_parameters()) parameters[path] = parameter;
    std::map<std::string, std::string> keys;  // a tensor's name in the file → its path
    for (const auto& [path, parameter] : parameters) keys[file_name(*model_, path)] = path;
    TensorSpecs specs;
    for (const auto& [key, path] : keys) {
      std::vector<int64_t> shape = parameters.at(path)->shape;
      if (parameters.at(path)->transposed) std::reverse(shape.begin(), shape.end());
      specs[key] = {dtype_, shape};
    }
    const auto source = [&](const std::string& key) -> StreamedTensor {
      const std::string& path = keys.at(key);
      Parameter& parameter = *parameters.at(path);
      if (!parameter.transposed && merged.paths().contains(path)) {
        if (const auto rows = merged.rows(path)) {
          parameter.base = Tensor();
          return StreamedTensor(*rows);
        }
      }
      const Tensor value = merged.paths().contains(path) ? merged.value(path) : parameter.base;
      // A file whose tensors are all written is unmapped.
      parameter.base = Tensor();
      return in_file_form(value, parameter, dtype_);
    };
    stream_checkpoint(folder, model_config(*model_, dtype_), specs, source, options_.shard_bytes);
    largest_ = merged.largest_difference();
  }

  RunReport report() const {
    RunReport out;
    out.document = {{"out", options_.out.string()}, {"dtype", dtype_name(dtype_)}, {"adapters", rows_}};
    out.text = fmt::format("{}: merged, {}\n", options_.out.string(), dtype_name(dtype_));
    if (streamed_) {
      out.document["largest_output_difference"] = largest_;
      out.text += fmt::format(
          "largest difference of a map's output between attached and merged: {:.3g} (logits are compared up "
          "to 1 GiB of "
          "weights)",
          largest_);
    } else {
      out.document["largest_logit_difference"] = largest_;
      out.document["largest_logit"] = scale_;
      out.text +=
          fmt::format("largest logit difference between attached and merged: {:.3g} (largest logit {:.3g})",
                      largest_, scale_);
    }
    return out;
  }

  const MergeRunOptions& options_;
  std::unique_ptr<Model> model_;
  at::ScalarType dtype_ = at::kFloat;
  bool streamed_ = false;
  double largest_ = 0, scale_ = 0;
  Json rows_ = Json::array();
};

}  // namespace

RunReport merge_run(const MergeRunOptions& options) {
  const at::NoGradGuard no_grad;
  return MergeRun(options).run();
}

}  // namespace graft
