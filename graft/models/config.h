// Reading a family's config.json strictly: a setting that changes the numbers and is not implemented is an
// error naming it.
#pragma once
#include <string>
#include <vector>

#include "graft/base/fields.h"

namespace graft {

/// Throws a DataError that names all of `unknown`'s keys which are not harmless: known to leave the numbers
/// alone, starting with an underscore, or switched off (null, false, empty).
void refuse_settings(const Json& unknown, const std::vector<std::string>& harmless);
/// `error`'s text as an error of config.json.
[[noreturn]] void fail_config(const UsageError& error);

/// A family's record from config.json; `harmless`: the family's own keys without effect here (others are
/// known to all families).
template <HasFields T>
T read_config(const Json& config, const std::vector<std::string>& harmless = {}) {
  try {
    Json unknown;
    T record = read_known_fields<T>(config, "", unknown);
    refuse_settings(unknown, harmless);
    return record;
  } catch (const UsageError& error) {
    fail_config(error);
  }
}

/// A size in config.json that may not be nonsense: 1 to 2^31 - 1.
inline Check<int64_t> size_check() { return between<int64_t>(1, 2147483647); }
/// Layers and heads, which cost memory before any weight is read.
inline Check<int64_t> count_check() { return between<int64_t>(1, 4096); }
inline Check<double> probability_check() { return between(0.0, 0.999); }
inline Check<double> eps_check() { return above(0.0); }

/// hidden / heads. Errors: DataError where it does not divide.
int64_t divided(int64_t size, int64_t parts, const char* size_key, const char* parts_key);

/// Errors: DataError where an optional size is given and below 1 or above 2^31 - 1.
void check_given(const std::optional<int64_t>& size, const char* key);
/// Errors: DataError where heads do not share keys evenly, or a head's dimension is nonsense.
void check_heads(int64_t heads, int64_t kv_heads, int64_t head_dim);

/// Errors: DataError where a window is given and below 1.
void check_window(const std::optional<int64_t>& window);
/// `layer_types`: one of sliding_attention and full_attention a layer. Errors: DataError.
void check_layer_types(const std::optional<std::vector<std::string>>& types, int64_t layers);
bool is_sliding(const std::vector<std::string>& types, int64_t layer);

}  // namespace graft
