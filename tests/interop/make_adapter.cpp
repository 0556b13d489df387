// make_adapter MODEL CONFIG.json OUT: a fresh adapter whose tensors are all moved away from their initial
// values, as graft saves it.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cstdio>

#include "graft/base/error.h"
#include "graft/base/random.h"
#include "graft/models/model.h"
#include "graft/peft/adapter.h"
#include "graft/peft/lora.h"

namespace {

constexpr double kNoise = 0.1;

void move_tensors(const graft::TensorMap& tensors) {
  const at::NoGradGuard no_grad;
  for (const auto& [key, tensor] : tensors) {
    graft::RandomStream stream(1, key);
    at::Tensor noise = at::empty(tensor.sizes(), at::kDouble);
    double* out = noise.data_ptr<double>();
    for (int64_t i = 0; i < noise.numel(); ++i) out[i] = kNoise * stream.normal();
    at::Tensor target = tensor;
    target.add_(noise.to(tensor.scalar_type()));
  }
}

int run(const std::string& model_folder, const std::string& config_path, const std::string& out) {
  graft::Json config = graft::read_json(config_path);
  graft::LoadOptions load;
  load.layer_replication = graft::layer_ranges(config.value("layer_replication", graft::Json()));
  const auto model = graft::load_model(graft::Checkpoint::open(model_folder), load);
  const graft::TuningMethod& method = graft::tuning_method(config.at("name").get<std::string>());
  const graft::Adapter adapter = method.create(config, *model, 0);
  move_tensors(adapter.trained);
  std::filesystem::create_directories(out);
  graft::write_adapter(out, adapter, *model);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 4) throw graft::UsageError("usage", "{} arguments, expected MODEL CONFIG.json OUT", argc - 1);
    return run(argv[1], argv[2], argv[3]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "make_adapter: %s\n", error.what());
    return 1;
  }
}
