// Reference cases as packed batches, and the comparison with what transformers computed.
#pragma once
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "graft/io/checkpoint.h"
#include "graft/io/safetensors.h"
#include "graft/models/model.h"
#include "tests/shared.h"

namespace graft::test {

/// One case of the shared goldens: its model, its padded inputs, and where their real rows are.
struct GoldenCase {
  std::string name;
  std::filesystem::path folder, model_folder;
  Json description;
  TensorMap inputs, expected;

  static GoldenCase open(const std::string& name) {
    GoldenCase out;
    out.name = name;
    const auto root = shared_dir() / "goldens";
    out.folder = root / "cases" / name;
    out.description = read_json(out.folder / "case.json");
    out.model_folder = root / out.description.at("model").get<std::string>();
    out.inputs = read_safetensors(out.folder / "inputs.safetensors");
    out.expected = read_safetensors(out.folder / "expected.safetensors");
    return out;
  }
  std::string task() const { return description.at("task").get<std::string>(); }
  std::unique_ptr<Model> load(at::ScalarType dtype = at::kFloat) const {
    return load_model(Checkpoint::open(model_folder), {.dtype = dtype});
  }

  /// [B · L] bool: real rows of the encoder (or only) side; of the decoder side.
  Tensor real() const { return inputs.at("attention_mask").flatten() != 0; }
  Tensor decoder_real() const { return inputs.at("labels").flatten() != -100; }
  int64_t width() const { return inputs.at("input_ids").size(-1); }

  static Layout layout_of(const Tensor& real, int64_t width) {
    const Tensor counts = real.view({-1, width}).sum(1).to(at::kLong).contiguous();
    const int64_t* count = counts.data_ptr<int64_t>();
    return Layout::of(std::vector<int64_t>(count, count + counts.numel()));
  }
  static Tensor pack(const Tensor& padded, const Tensor& real) {
    return padded.flatten().masked_select(real).contiguous();
  }

  Batch batch() const {
    Batch out;
    out.layout = layout_of(real(), width());
    out.input_ids = pack(inputs.at("input_ids"), real());
    if (inputs.contains("token_type_ids")) out.token_type_ids = pack(inputs.at("token_type_ids"), real());
    if (task() == "seq2seq_lm") {
      const Tensor& labels = inputs.at("labels");
      const Tensor ids =
          at::cat({at::zeros({labels.size(0), 1}, at::kLong), labels.narrow(1, 0, labels.size(1) - 1)}, 1);
      out.decoder_layout = layout_of(decoder_real(), labels.size(1));
      out.decoder_input_ids = pack(ids, decoder_real());
    }
    return out;
  }
};

/// Largest |got - expected| as a share of atol + rtol · max|expected|; NaN in `expected` is not compared.
inline double share_of_tolerance(const Tensor& got, const Tensor& expected, double atol, double rtol) {
  const Tensor wanted = expected.to(at::kDouble).flatten();
  const Tensor compared = wanted.isnan().logical_not();
  const Tensor want = wanted.masked_select(compared);
  const Tensor have = got.detach().to(at::kDouble).flatten().masked_select(compared);
  if (want.numel() == 0) return 1e9;  // a comparison of nothing proves nothing
  const double worst = (have - want).abs().max().item<double>();
  const double share = worst / (atol + rtol * want.abs().max().item<double>());
  return std::isfinite(share) ? share : 1e9;
}

/// Compares packed rows [T, …] with a padded tensor [B, L, …] at its real rows.
inline void expect_rows(const Tensor& packed, const Tensor& padded, const Tensor& real,
                        const std::string& what) {
  const Tensor rows = padded.reshape({real.numel(), -1}).index_select(0, real.nonzero().flatten());
  ASSERT_EQ(packed.numel(), rows.numel()) << what;
  // The goldens' own tolerances (README): 1e-5 + 1e-5 · largest, about ten times plain float32's error.
  EXPECT_LT(share_of_tolerance(packed, rows, 1e-5, 1e-5), 1.0) << what;
}

}  // namespace graft::test
