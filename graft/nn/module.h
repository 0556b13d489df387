// A tree of named tensors, named as in transformers' state dict; what a family's classes are made of.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "graft/io/tensor_map.h"

namespace graft {

/// A named base tensor, and the trained (or computed) one that stands in for it while an adapter is attached.
struct Parameter {
  Tensor base;      // the checkpoint's, frozen from loading on
  Tensor stand_in;  // undefined where nothing stands in; may be float32 over a bfloat16 base
  std::vector<int64_t> shape;
  bool transposed =
      false;  // the file holds it as [in, out] (GPT-2's Conv1D); here it is [out, in] all the same
  const Tensor& value() const { return stand_in.defined() ? stand_in : base; }
  bool frozen() const { return !stand_in.defined(); }
};

/// Neither copied nor moved: children are registered by address. Tied tensors share one Parameter.
class Module {
 public:
  Module() = default;
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  using NamedParameter = std::pair<std::string, std::shared_ptr<Parameter>>;
  /// By path, in order of registration; a tied one once, under its first path, unless `with_tied`.
  std::vector<NamedParameter> named_parameters(bool with_tied = false) const;
  /// Every module below by path, this one ("") included.
  std::vector<std::pair<std::string, Module*>> named_modules();
  /// nullptr where there is none.
  Module* find(const std::string& path);

 protected:
  /// An empty slot of this shape, to be filled by loading.
  std::shared_ptr<Parameter> add(const std::string& name, std::vector<int64_t> shape);
  /// Registers an existing slot (tied weights).
  void add(const std::string& name, std::shared_ptr<Parameter> shared);
  /// Another parameter in the place of one that was added.
  void replace(const std::string& name, std::shared_ptr<Parameter> parameter);
  /// A child; an empty name puts its children and tensors at this module's own path.
  void add(const std::string& name, Module& child);

 private:
  void visit(const std::string& path, const std::function<void(const std::string&, Module&)>& visitor);

  std::vector<NamedParameter> parameters_;
  std::vector<std::pair<std::string, Module*>> children_;
};

}  // namespace graft
