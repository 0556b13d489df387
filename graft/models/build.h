// From config.json and wishes to an empty model: family, head, labels; and the values of fresh tensors.
#pragma once
#include <memory>
#include <string>

#include "graft/models/model.h"

namespace graft {

/// What is to be built: the family, and config.json as the model will say it.
struct Blueprint {
  const Family* family = nullptr;
  Json config;
  HeadKind head = HeadKind::none;
  int64_t num_labels = 0;

  /// Errors: DataError (unknown model_type or architecture), UsageError (a head that the family does not
  /// have).
  static Blueprint of(const Json& config, const LoadOptions& options, const std::string& where);
  /// Empty tensors, everything else set.
  std::unique_ptr<Model> build(const LoadOptions& options) const;
};

/// Fills a tensor as transformers initialises it; each path has a stream of its own.
void draw(const Model& model, const std::string& path, Parameter& parameter, const LoadOptions& options);

/// A parameter's value as the file holds it: of this type, transposed where the file's is.
Tensor in_file_form(const Tensor& value, const Parameter& parameter, at::ScalarType dtype);

}  // namespace graft
