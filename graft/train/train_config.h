// The `train:` part of a recipe.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "graft/base/fields.h"

namespace graft {

/// More were no use anywhere, and stacks for them not to be had.
constexpr int64_t kMostThreads = 1024;

struct TrainConfig {
  double epochs = 3;
  int64_t steps = 0;
  int64_t batch_size = 8;
  int64_t batch_tokens = 0;
  int64_t gradient_accumulation_steps = 1;
  bool shuffle = true;
  bool group_by_length = false;
  double learning_rate = 2e-4;
  std::string schedule = "linear";
  int64_t warmup_steps = 0;
  double warmup_ratio = 0;
  std::string optimizer = "adamw";
  std::vector<double> betas{0.9, 0.999};
  double momentum = 0;
  bool scale_parameter = false;
  double eps = 1e-8;
  double weight_decay = 0;
  double max_grad_norm = 1;
  std::string master_weights = "float32";
  std::string checkpointing = "auto";
  std::string memory;
  double loraplus_lr_ratio = 1, loraplus_lr_embedding = 1e-6;
  int64_t evaluate_every = 0;
  int64_t save_every = 0;
  int64_t keep = 1;
  int64_t early_stopping = 0;
  std::string metric;
  int64_t log_every = 1;
  int64_t seed = 42;
  int64_t threads = 0;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("epochs", self.epochs, "passes over the training data; parts of one are fine", above(0.0));
    visit("steps", self.steps, "optimizer steps; 0: as many as `epochs` takes", at_least<int64_t>(0));
    visit("batch_size", self.batch_size, "sequences a batch", at_least<int64_t>(1));
    visit("batch_tokens", self.batch_tokens,
          "at most so many tokens a batch, in place of batch_size; 0: by batch_size", at_least<int64_t>(0));
    visit("gradient_accumulation_steps", self.gradient_accumulation_steps, "batches an optimizer step",
          at_least<int64_t>(1));
    visit("shuffle", self.shuffle, "a new order of the examples in each epoch");
    visit("group_by_length", self.group_by_length, "batches of sequences of like lengths");
    visit("learning_rate", self.learning_rate, "the optimizer's step size at its highest", at_least(0.0));
    visit("schedule", self.schedule, "how the learning rate goes after the warm-up",
          one_of({"constant", "linear", "cosine"}));
    visit("warmup_steps", self.warmup_steps, "steps in which the learning rate rises from 0",
          at_least<int64_t>(0));
    visit("warmup_ratio", self.warmup_ratio, "the same as a share of all steps; used where warmup_steps is 0",
          between(0.0, 1.0));
    visit("optimizer", self.optimizer, "the optimizer", one_of({"adamw", "adafactor", "sgd", "lion"}));
    visit("betas", self.betas, "decay of AdamW's two moments; Lion's two rates");
    visit("momentum", self.momentum, "SGD's share of the last step", between(0.0, 1.0));
    visit("scale_parameter", self.scale_parameter,
          "Adafactor: learning_rate is a share of each tensor's root mean square, as T5 was pre-trained");
    visit("eps", self.eps, "what AdamW adds to the denominator", at_least(0.0));
    visit("weight_decay", self.weight_decay, "decoupled decay of weights; biases and norms are left out",
          at_least(0.0));
    visit("max_grad_norm", self.max_grad_norm, "gradients are clipped to this global norm; 0: not clipped",
          at_least(0.0));
    visit("master_weights", self.master_weights,
          "trained matrices of a bfloat16 model: float32 copies, or none: bfloat16, rounded by chance at "
          "each step",
          one_of({"float32", "none"}));
    visit("checkpointing", self.checkpointing,
          "blocks compute their activations anew in the backward pass (the same bits, less memory, up to a "
          "third more "
          "time): all of them, none, or as few as train.memory needs",
          one_of({"auto", "true", "false"}));
    visit("memory", self.memory,
          "what the run may take, for example 8GiB; decides with checkpointing: auto; empty: no limit");
    visit("loraplus_lr_ratio", self.loraplus_lr_ratio,
          "LoRA+: the step size of B and of vectors as a multiple of learning_rate; 1: one for all",
          above(0.0));
    visit("loraplus_lr_embedding", self.loraplus_lr_embedding,
          "LoRA+: the step size of low-rank updates of embeddings; counts where loraplus_lr_ratio is not 1",
          at_least(0.0));
    visit("evaluate_every", self.evaluate_every, "steps between evaluations; 0: after each epoch",
          at_least<int64_t>(0));
    visit("save_every", self.save_every, "steps between checkpoints; 0: after each epoch",
          at_least<int64_t>(0));
    visit("keep", self.keep, "how many checkpoints are kept", at_least<int64_t>(1));
    visit("early_stopping", self.early_stopping,
          "stop after so many evaluations without a better metric; 0: never", at_least<int64_t>(0));
    visit("metric", self.metric,
          "what decides which state is the best (a metric of the task, or loss); empty: the task's own");
    visit("log_every", self.log_every, "steps between lines of metrics.jsonl", at_least<int64_t>(1));
    visit("seed", self.seed, "of every random draw", at_least<int64_t>(0));
    visit("threads", self.threads, "threads; 0: one a core", between<int64_t>(0, kMostThreads));
  }
};

}  // namespace graft
