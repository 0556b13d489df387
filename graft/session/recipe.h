// A recipe: everything that one training run is made of, as a document with defaults.
#pragma once
#include <c10/core/ScalarType.h>

#include <filesystem>
#include <string>
#include <vector>

#include "graft/base/fields.h"
#include "graft/base/json.h"
#include "graft/tasks/data_config.h"
#include "graft/train/train_config.h"

namespace graft {

struct FromScratchConfig {
  std::filesystem::path config;
  std::filesystem::path tokenizer;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("config", self.config,
          "a config.json (or its folder): the model starts from random weights of this shape");
    visit("tokenizer", self.tokenizer, "folder of the tokenizer; empty: the config's folder");
  }
};

struct ModelConfig {
  std::filesystem::path path;
  std::string dtype = "float32";
  std::string save_dtype;
  FromScratchConfig from_scratch;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("path", self.path, "the pretrained model: a folder in Hugging Face layout");
    visit("dtype", self.dtype,
          "compute type of the frozen base; int8: its linear maps multiply in 8 bits, the rest is bfloat16",
          one_of({"float32", "bfloat16", "int8"}));
    visit("save_dtype", self.save_dtype,
          "type of a whole model's weights in its file; empty: dtype, bfloat16 for int8",
          one_of({"", "float32", "bfloat16"}));
    visit("from_scratch", self.from_scratch, "in place of path: a model with random weights");
  }
};

struct Recipe {
  ModelConfig model;
  Json method = {{"name", "lora"}};
  Json task = {{"name", "sequence_classification"}};
  DataConfig data;
  TrainConfig train;
  std::filesystem::path output;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("model", self.model, "what is adapted");
    visit("method", self.method, "name of the method, and its keys as PEFT names them");
    visit("task", self.task, "name of the task, and its keys");
    visit("data", self.data, "files, and how they are read");
    visit("train", self.train, "how it is trained");
    visit("output", self.output, "folder of the run");
  }

  /// True where the model starts from random weights.
  bool from_scratch() const { return !model.from_scratch.config.empty(); }
  /// The folder with tokenizer and chat template.
  std::filesystem::path text_folder() const;
  at::ScalarType save_dtype() const;
  /// Files and folders that are read; some may be empty.
  std::vector<std::filesystem::path> inputs() const;
};

/// `model: PATH`, `method: NAME` and `task: NAME` become the mappings that they are short for.
void expand_names(Json& document);
/// Reads a document strictly; `model`, `method` and `task` may also be a plain name. Presets and defaults
/// that depend on task and method are filled in. Errors: UsageError (an unknown key with the nearest known
/// ones, a missing model, a wrong value).
Recipe read_recipe(Json document);
/// The effective recipe, every key; read_recipe reads it back as the same.
Json recipe_document(const Recipe& recipe);

/// Every key with its default and meaning, in order; those of methods and tasks say whose they are.
std::vector<FieldHelp> recipe_help();

/// Where two recipes differ in what a resumed run may not change: "train.seed: 1, was 2" …; empty where
/// nowhere.
std::vector<std::string> differences(const Json& now, const Json& before);

/// The methods of a recipe's `method`, which is one or a list of several.
std::vector<Json> method_list(const Json& method);

}  // namespace graft
