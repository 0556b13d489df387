// GLUE's data sets as presets of sequence classification (Wang et al. 2019): columns, labels, metrics.
#pragma once
#include <string>
#include <vector>

#include "graft/base/json.h"

namespace graft {

struct TaskPreset {
  std::string name, kind;
  Json task;  // labels, metrics, problem_type
  Json data;  // columns, header, names
  bool test_has_header = true;
};

const std::vector<TaskPreset>& glue_presets();

}  // namespace graft
