// An adapter as data: hooks by module path, trained tensors that stand in for base tensors, the config that
// made them.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "graft/base/fields.h"
#include "graft/models/model.h"

namespace graft {

struct TuningMethod;

/// The fourth place where a method acts: on the model's inputs.
class InputHook {
 public:
  virtual ~InputHook() = default;
  virtual Batch before(const Model& model, Batch batch) = 0;
};

struct Adapter {
  const TuningMethod* method = nullptr;
  Json config;  // adapter_config.json as read or as it will be written, unknown keys kept
  std::map<std::string, std::shared_ptr<LinearHook>> linears;        // by module path
  std::map<std::string, std::shared_ptr<EmbeddingHook>> embeddings;  // by module path
  std::map<std::string, std::shared_ptr<SublayerHook>> sublayers;    // by module path
  std::shared_ptr<InputHook> input;
  TensorMap stand_ins;  // by base tensor path: trained tensors in place of base tensors
  TensorMap trained;    // file key → trained tensor (leaf, float32): what the optimizer gets, all of it
  TensorMap untrained;  // file key → tensor that the file holds beside (untrained copies)
  TensorMap state;      // by name: what a training checkpoint keeps beside (statistics), changed in place
  /// Tensors computed from trained ones at every pass (intrinsic dimension): given stand_ins, → by path what
  /// takes their place in the model, of the same shapes. May be empty.
  std::function<TensorMap(const TensorMap& stand_ins)> compute_stand_ins;
  /// What the file holds, where that is not the trained tensors and the config as they are; changes both
  /// (copies). May be empty.
  std::function<void(TensorMap& tensors, Json& config)> before_saving;
  /// Several adapters at once: what each was made as, in their order, and the names of their folders.
  /// Everything above holds then what all of them have.
  std::vector<Adapter> parts;
  std::vector<std::string> part_names;
  std::function<Tensor()> auxiliary_loss;        // AdaLoRA; may be empty
  std::function<void()> adjust_gradients;        // before each optimizer step (LoRA-FA); may be empty
  std::function<void(int64_t step)> after_step;  // AdaLoRA; may be empty
};

/// Whose files a method's adapters are.
enum class AdapterFiles { peft, adapterhub };

/// A batch of the training data, for a method that looks at data before training.
struct StudyBatch {
  Batch batch;
  Tensor rows;  // [N] int64: the rows that have a label; undefined: all count
};
/// Batch after batch, again from the first after the last.
using StudyBatches = std::function<StudyBatch()>;

/// What every method is: a constant in its own file, one line in the registry.
struct TuningMethod {
  const char* name;       // in recipes: "lora"
  const char* peft_type;  // in adapter_config.json: "LORA"; nullptr where PEFT has none
  /// A fresh adapter for `model` from a method's config (PEFT's keys); draws from seeded streams. Errors:
  /// UsageError.
  Adapter (*create)(const Json& config, Model& model, uint64_t seed);
  /// Help on its keys in a recipe, as "method.r".
  std::vector<FieldHelp> (*help)();
  double learning_rate = 0;  // default of recipes; 0: the task's
  const char* steps_key =
      nullptr;  // the config's key for the training's optimizer steps, filled from its plan
  /// As create, with a look at the training data first where the config wants one; nullptr where none does.
  Adapter (*create_from_data)(const Json& config, Model& model, uint64_t seed,
                              const StudyBatches& batches) = nullptr;
  AdapterFiles files = AdapterFiles::peft;
};
const std::vector<TuningMethod>& tuning_methods();
/// Errors: UsageError with the nearest names.
const TuningMethod& tuning_method(const std::string& name);

/// Everything the optimizer gets, by file key, in order of the keys; each is a leaf that requires gradient.
TensorMap trainable(const Adapter& adapter);
int64_t parameter_count(const TensorMap& tensors);

/// Puts the hooks and stand-ins in place. Errors: DataError naming every path that the model does not have.
/// One adapter at a time.
void attach(const Adapter& adapter, Model& model);
/// Computes the stand-ins of an attached adapter anew, where it computes any: before every pass in which its
/// trained tensors may have changed. attach() does it once, without a graph.
void refresh_stand_ins(const Adapter& adapter, const Model& model);
/// Leaves the base bit-equal to before.
void detach(Model& model);
/// Into the base tensors, for good, and detaches; a tied head whose embedding alone changed is untied (config
/// too). Errors: UsageError where the method has no merged form.
void merge(const Adapter& adapter, Model& model);

/// PEFT's folder: adapter_config.json, adapter_model.safetensors; AdapterHub's (adapterhub_file.h) where the
/// method is not PEFT's; a folder of such folders for several adapters (several.h). Reading checks every key
/// and shape and reports all problems at once.
Adapter read_adapter(const std::filesystem::path& folder, Model& model);
/// What write_adapter writes.
struct AdapterFile {
  TensorMap tensors;
  Json config;
};
AdapterFile adapter_file(const Adapter& adapter);
void write_adapter(const std::filesystem::path& folder, const Adapter& adapter, const Model& model);

}  // namespace graft
