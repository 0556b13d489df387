#include "graft/train/state.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <charconv>

#include "graft/base/error.h"
#include "graft/base/fields.h"
#include "graft/base/file.h"
#include "graft/io/safetensors.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "step-";
constexpr const char* kNow = "now.";
constexpr const char* kBest = "best.";

/// N of "step-N"; nothing for any other name.
std::optional<int64_t> step_of(const std::string& name) {
  if (!name.starts_with(kPrefix)) return {};
  int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data() + kPrefix.size(), end, step);
  if (error != std::errc() || stop != end) return {};
  return step;
}

/// Steps of the checkpoints in `folder`, newest first.
std::vector<int64_t> steps_in(const fs::path& folder) {
  std::vector<int64_t> steps;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const auto step = step_of(entry.path().filename().string());
    if (step && fs::exists(entry.path() / "state.json")) steps.push_back(*step);
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

fs::path folder_of(const fs::path& folder, int64_t step) {
  return folder / fmt::format("{}{}", kPrefix, step);
}

TensorMap prefixed(const TensorMap& tensors, const std::string& prefix) {
  TensorMap out;
  for (const auto& [key, tensor] : tensors) out[prefix + key] = tensor;
  return out;
}

/// Those whose names start with `prefix`, without it.
TensorMap unprefixed(const TensorMap& tensors, const std::string& prefix) {
  TensorMap out;
  for (const auto& [key, tensor] : tensors) {
    if (key.starts_with(prefix)) out[key.substr(prefix.size())] = tensor.clone();
  }
  return out;
}

}  // namespace

std::filesystem::path save_checkpoint(const fs::path& folder, const TrainState& state, Optimizer& optimizer,
                                      int64_t keep) {
  fs::create_directories(folder);
  const fs::path target = folder_of(folder, state.step);
  {
    AtomicFolder whole(target);
    write_safetensors(whole.path() / "trained.safetensors", optimizer.trained());
    write_safetensors(whole.path() / "optimizer.safetensors", optimizer.state());
    if (!state.best.empty()) write_safetensors(whole.path() / "best.safetensors", state.best);
    TensorMap method = prefixed(state.method, kNow);
    method.merge(prefixed(state.best_method, kBest));
    if (!method.empty()) write_safetensors(whole.path() / "method.safetensors", method);
    Json document = write_fields(state);
    document["dropout_position"] = state.dropout_position;
    write_file(whole.path() / "state.json", to_pretty_json(document));
    whole.commit();
  }
  const std::vector<int64_t> steps = steps_in(folder);
  for (size_t i = static_cast<size_t>(keep); i < steps.size(); ++i) {
    // Renamed first: a half-removed checkpoint must not look like a whole one.
    const fs::path removed = folder / fmt::format("removed-{}", steps[i]);
    fs::remove_all(removed);
    fs::rename(folder_of(folder, steps[i]), removed);
    fs::remove_all(removed);
  }
  return target;
}

std::optional<fs::path> newest_checkpoint(const fs::path& folder) {
  const std::vector<int64_t> steps = steps_in(folder);
  if (steps.empty()) return {};
  return folder_of(folder, steps[0]);
}

void remove_leftovers(const fs::path& folder) {
  std::vector<fs::path> leftovers;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (!step_of(entry.path().filename().string())) leftovers.push_back(entry.path());
  }
  for (const fs::path& path : leftovers) fs::remove_all(path);
}

int64_t checkpoint_step(const fs::path& checkpoint) {
  const auto step = step_of(checkpoint.filename().string());
  if (!step) throw InternalError("checkpoint", "{} is no checkpoint's name", checkpoint.string());
  return *step;
}

void copy_values(const TensorMap& from, TensorMap to, const std::string& where) {
  std::vector<std::string> wrong;
  for (const auto& [key, tensor] : to) {
    const auto found = from.find(key);
    if (found == from.end()) {
      wrong.push_back(key + " is missing");
    } else if (found->second.sizes() != tensor.sizes()) {
      wrong.push_back(fmt::format("{} has shape [{}], expected [{}]", key,
                                  fmt::join(found->second.sizes(), ", "), fmt::join(tensor.sizes(), ", ")));
    }
  }
  for (const auto& [key, tensor] : from) {
    if (!to.contains(key)) wrong.push_back(key + " is unexpected");
  }
  if (!wrong.empty()) throw DataError(where, "does not fit this run: {}", fmt::join(wrong, "; "));
  const at::NoGradGuard no_grad;
  for (auto& [key, tensor] : to) tensor.copy_(from.at(key));
}

TrainState load_checkpoint(const fs::path& checkpoint, Optimizer& optimizer) {
  Json document = read_json(checkpoint / "state.json");
  const std::string where = (checkpoint / "state.json").string();
  if (!document.is_object() || !document.contains("dropout_position") ||
      !document["dropout_position"].is_number_unsigned()) {
    throw DataError(where, "no dropout_position, expected a count");
  }
  const uint64_t dropout_position = document["dropout_position"].get<uint64_t>();
  document.erase("dropout_position");
  auto state = read_fields<TrainState>(document, where);
  state.dropout_position = dropout_position;
  const fs::path best = checkpoint / "best.safetensors";
  const fs::path trained = checkpoint / "trained.safetensors";
  const fs::path of_optimizer = checkpoint / "optimizer.safetensors";
  copy_values(read_safetensors(trained), optimizer.trained(), trained.string());
  copy_values(read_safetensors(of_optimizer), optimizer.state(), of_optimizer.string());
  if (fs::exists(best)) {
    for (const auto& [key, tensor] : optimizer.trained()) state.best[key] = at::empty_like(tensor.detach());
    copy_values(read_safetensors(best), state.best, best.string());
  }
  if (const fs::path method = checkpoint / "method.safetensors"; fs::exists(method)) {
    const TensorMap tensors = read_safetensors(method);
    state.method = unprefixed(tensors, kNow);
    state.best_method = unprefixed(tensors, kBest);
  }
  return state;
}

}  // namespace graft
