// The one precompiled header. Files still include what they use; this only makes it cheap.
#pragma once
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>

#include <ATen/ATen.h>
#include <cmath>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>
