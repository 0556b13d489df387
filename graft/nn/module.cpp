#include "graft/nn/module.h"

#include <unordered_set>

#include "graft/base/error.h"

namespace graft {
namespace {

std::string join(const std::string& path, const std::string& name) {
  if (path.empty()) return name;
  return name.empty() ? path : path + "." + name;
}

}  // namespace

void Module::visit(const std::string& path, const std::function<void(const std::string&, Module&)>& visitor) {
  visitor(path, *this);
  for (const auto& [name, child] : children_) child->visit(join(path, name), visitor);
}

std::vector<Module::NamedParameter> Module::named_parameters(bool with_tied) const {
  std::vector<NamedParameter> found;
  std::unordered_set<const Parameter*> seen;
  // The visitor takes mutable modules for named_modules' sake; nothing is changed here.
  const_cast<Module*>(this)->visit("", [&](const std::string& path, Module& module) {
    for (const auto& [name, parameter] : module.parameters_) {
      if (seen.insert(parameter.get()).second || with_tied) found.emplace_back(join(path, name), parameter);
    }
  });
  return found;
}

std::vector<std::pair<std::string, Module*>> Module::named_modules() {
  std::vector<std::pair<std::string, Module*>> found;
  visit("", [&](const std::string& path, Module& module) {
    if (path.empty() && &module != this) return;
    found.emplace_back(path, &module);
  });
  return found;
}

Module* Module::find(const std::string& path) {
  if (path.empty()) return this;
  for (const auto& [name, child] : children_) {
    if (name.empty()) {
      if (Module* found = child->find(path)) return found;
    } else if (path == name) {
      return child;
    } else if (path.size() > name.size() && path[name.size()] == '.' && path.starts_with(name)) {
      if (Module* found = child->find(path.substr(name.size() + 1))) return found;
    }
  }
  return nullptr;
}

std::shared_ptr<Parameter> Module::add(const std::string& name, std::vector<int64_t> shape) {
  auto parameter = std::make_shared<Parameter>();
  parameter->shape = std::move(shape);
  add(name, parameter);
  return parameter;
}

void Module::add(const std::string& name, std::shared_ptr<Parameter> shared) {
  if (!shared) throw InternalError("module", "no parameter given for {}", name);
  parameters_.emplace_back(name, std::move(shared));
}

void Module::replace(const std::string& name, std::shared_ptr<Parameter> parameter) {
  for (auto& [known, held] : parameters_) {
    if (known != name) continue;
    held = std::move(parameter);
    return;
  }
  throw InternalError("module", "no parameter {} to replace", name);
}

void Module::add(const std::string& name, Module& child) {
  if (&child == this) throw InternalError("module", "{} added to itself", name);
  children_.emplace_back(name, &child);
}

}  // namespace graft
