#include "graft/session/run_folder.h"

#include <algorithm>

#include "graft/base/error.h"
#include "graft/base/file.h"
#include "graft/base/log.h"
#include "graft/io/checkpoint.h"
#include "graft/train/state.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

/// A file or folder that a writer was killed over: its temporary name.
bool half_written(const fs::path& path) {
  const std::string name = path.filename().string();
  return name.starts_with('.') && name.ends_with(".tmp");
}

bool taken(const fs::path& folder) {
  std::error_code error;
  if (!fs::exists(folder, error)) return false;
  if (!fs::is_directory(folder, error))
    throw UsageError("output", "{} is a file, expected a folder", folder.string());
  return std::any_of(fs::directory_iterator(folder), fs::directory_iterator(),
                     [](const auto& entry) { return !half_written(entry.path()); });
}

void remove_half_written(const fs::path& folder) {
  std::vector<fs::path> leftovers;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (half_written(entry.path())) leftovers.push_back(entry.path());
  }
  for (const fs::path& path : leftovers) fs::remove_all(path);
}

/// Through links, whether or not the file is there.
bool lies_in(const fs::path& path, const fs::path& folder) {
  std::error_code error;
  const fs::path inner = fs::weakly_canonical(path, error), outer = fs::weakly_canonical(folder, error);
  if (error || path.empty()) return false;
  return std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end()).first == outer.end();
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

std::vector<std::string> method_tags(const Adapter& adapter) {
  if (adapter.parts.empty()) {
    const TuningMethod& method = *adapter.method;
    return {lower(method.peft_type != nullptr ? method.peft_type : method.name)};
  }
  std::vector<std::string> tags;
  for (const Adapter& part : adapter.parts) tags.push_back(method_tags(part)[0]);
  return tags;
}

/// How the library that the files are for opens an adapter.
std::string python_usage(const Adapter& adapter, const std::string& folder) {
  std::string text;
  for (size_t i = 0; i < adapter.parts.size(); ++i)
    text += python_usage(adapter.parts[i], folder + "/" + adapter.part_names[i]);
  if (!adapter.parts.empty()) return text;
  if (adapter.method->files == AdapterFiles::adapterhub) {
    return fmt::format(
        "\n```python\nimport adapters\nadapters.init(base_model)\nbase_model.load_adapter(\"{}\", "
        "use_safetensors=True, set_active=True)\n```\n",
        folder);
  }
  if (adapter.method->peft_type == nullptr) return "";
  return fmt::format(
      "\n```python\nfrom peft import PeftModel\nmodel = PeftModel.from_pretrained(base_model, \"{}\")\n```\n",
      folder);
}

std::string front_matter(const RunSummary& summary, const Adapter& adapter, const Model& model) {
  const bool is_adapter = writes_adapter(adapter);
  const bool peft = is_adapter && adapter.method->peft_type != nullptr;
  Json front = {{"base_model", summary.base_model},
                {"library_name", peft         ? "peft"
                                 : is_adapter ? "adapters"
                                              : "transformers"}};
  if (model.head == HeadKind::causal_lm) front["pipeline_tag"] = "text-generation";
  Json tags = Json::array();
  if (is_adapter) {
    tags.push_back("base_model:adapter:" + summary.base_model);
    for (const std::string& name : method_tags(adapter)) tags.push_back(name);
  }
  tags.push_back("transformers");
  tags.push_back("graft");
  front["tags"] = tags;
  std::string text = to_yaml(front);
  if (!text.ends_with('\n')) text += '\n';
  return "---\n" + text + "---\n";
}

std::string metrics_table(const Json& results) {
  std::string text;
  for (const char* part : {"metrics", "test_metrics"}) {
    if (!results.contains(part) || !results[part].is_object()) continue;
    for (const auto& [name, value] : results[part].items()) {
      text += fmt::format("| {} | {} | {:.4f} |\n", std::string(part) == "metrics" ? "validation" : "test",
                          name, value.get<double>());
    }
  }
  if (text.empty()) return "No split was evaluated.\n";
  return "| split | metric | value |\n| --- | --- | --- |\n" + text;
}

std::string usage(const RunSummary& summary, const Adapter& adapter, const Model& model) {
  const std::string folder = summary.recipe["output"].get<std::string>();
  std::string text = "```sh\n";
  if (model.head == HeadKind::causal_lm) {
    text += writes_adapter(adapter) ? fmt::format("graft generate --model {} --adapter {} --prompt 'Once'\n",
                                                  summary.base_model, folder)
                                    : fmt::format("graft generate --model {} --prompt 'Once'\n", folder);
  }
  text += fmt::format("graft eval {}\n```\n", folder);
  return writes_adapter(adapter) ? text + python_usage(adapter, folder) : text;
}

}  // namespace

void check_run_folder(const fs::path& folder, Existing existing, const std::vector<fs::path>& inputs) {
  if (folder.empty()) throw UsageError("output", "missing, expected a folder for the run");
  const bool is_taken = taken(folder);
  if (existing == Existing::resume || !is_taken) return;
  if (existing == Existing::refuse) {
    throw UsageError("output",
                     "{} is not empty; --resume goes on, --overwrite starts anew, or choose another output",
                     folder.string());
  }
  if (!fs::exists(folder / "recipe.yaml")) {
    throw UsageError("output",
                     "{} is no run's folder (it has no recipe.yaml); remove it, or choose another output",
                     folder.string());
  }
  for (const fs::path& input : inputs) {
    if (lies_in(input, folder)) {
      throw UsageError("output", "{} holds {}, which --overwrite would remove; choose another output",
                       folder.string(), input.string());
    }
  }
}

void check_new_folder(const fs::path& folder) {
  std::error_code error;
  if (!fs::exists(folder, error)) return;
  if (!fs::is_directory(folder, error) || !fs::is_empty(folder, error))
    throw UsageError("out", "{} is taken, expected a new or empty folder", folder.string());
}

void open_run_folder(const fs::path& folder, Existing existing) {
  check_run_folder(folder, existing);
  std::error_code error;
  if (existing == Existing::overwrite) fs::remove_all(folder, error);
  if (!error) fs::create_directories(folder, error);
  if (error) throw DataError(folder.string(), "cannot be made: {}", error.message());
  remove_half_written(folder);
}

fs::path open_checkpoints(const fs::path& folder) {
  const fs::path checkpoints = folder / "checkpoints";
  std::error_code error;
  fs::create_directories(checkpoints, error);
  if (error) throw DataError(checkpoints.string(), "cannot be made: {}", error.message());
  remove_leftovers(checkpoints);
  return checkpoints;
}

bool writes_adapter(const Adapter& adapter) {
  // A bias where the base has none has no place in a checkpoint.
  return !adapter.parts.empty() || adapter.method->peft_type != nullptr ||
         adapter.method->files != AdapterFiles::peft || !adapter.linears.empty();
}

void write_trained(const fs::path& folder, const Adapter& adapter, const Model& model,
                   at::ScalarType save_dtype, const fs::path& text_files) {
  if (writes_adapter(adapter)) {
    write_adapter(folder, adapter, model);
    return;
  }
  write_checkpoint(folder, model_config(model, save_dtype), model_tensors(model, save_dtype));
  copy_text_files(text_files, folder);
}

std::string model_card(const RunSummary& summary, const Adapter& adapter, const Model& model) {
  const Json& results = summary.results;
  std::string text = front_matter(summary, adapter, model);
  text +=
      fmt::format("\n# {}\n\nTrained with graft: method `{}` on `{}`, {} of {} parameters.\n\n",
                  summary.title, adapter.method->name, summary.base_model,
                  results["trainable_parameters"].get<int64_t>(), results["total_parameters"].get<int64_t>());
  text += fmt::format("## Results (step {} of {})\n\n{}\n", results["best_step"].get<int64_t>(),
                      results["steps"].get<int64_t>(), metrics_table(results));
  text += fmt::format("## Use\n\n{}\n## Recipe\n\n```yaml\n{}\n```\n", usage(summary, adapter, model),
                      to_yaml(summary.recipe));
  return text;
}

}  // namespace graft
