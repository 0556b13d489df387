#include "graft/text/tokenizer_config.h"

#include <algorithm>
#include <charconv>

#include "graft/base/error.h"

namespace graft {
namespace {

constexpr const char* kNames[] = {"bos_token", "eos_token", "unk_token", "pad_token",
                                  "cls_token", "sep_token", "mask_token"};

Json object_if_there(const std::filesystem::path& path) {
  return std::filesystem::exists(path) ? read_object(path) : Json::object();
}

/// A token stands as its text or as an object with "content".
std::optional<std::string> token_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object() && value.contains("content") && value["content"].is_string()) {
    return value["content"].get<std::string>();
  }
  return std::nullopt;
}

bool flag_of(const Json& object, const char* name, bool otherwise) {
  const auto found = object.find(name);
  return found != object.end() && found->is_boolean() ? found->get<bool>() : otherwise;
}

void read_named(const Json& document, TokenizerConfig& config) {
  for (const char* name : kNames) {
    const auto found = document.find(name);
    if (found == document.end()) continue;
    if (found->is_null()) config.named.try_emplace(name, "");
    if (const auto text = token_text(*found)) config.named[name] = *text;
  }
}

void read_added_decoder(const Json& decoder, TokenizerConfig& config) {
  if (!decoder.is_object()) return;
  for (const auto& [key, value] : decoder.items()) {
    int64_t id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    const auto text = token_text(value);
    if (error != std::errc() || end != key.data() + key.size() || id < 0 || !text) continue;
    config.added.push_back({*text, id, flag_of(value, "lstrip", false), flag_of(value, "rstrip", false),
                            flag_of(value, "normalized", false), flag_of(value, "special", false)});
  }
}

}  // namespace

TokenizerConfig TokenizerConfig::open(const std::filesystem::path& folder) {
  TokenizerConfig config;
  config.document = object_if_there(folder / "tokenizer_config.json");
  read_named(object_if_there(folder / "special_tokens_map.json"), config);
  read_named(config.document, config);
  if (config.document.contains("added_tokens_decoder")) {
    read_added_decoder(config.document["added_tokens_decoder"], config);
  }
  const Json added = object_if_there(folder / "added_tokens.json");
  for (const auto& [text, id] : added.items()) {
    const bool known = std::any_of(config.added.begin(), config.added.end(),
                                   [&, &name = text](const AddedToken& token) { return token.text == name; });
    if (!known && id.is_number_unsigned()) config.added.push_back({text, id.get<int64_t>()});
  }
  std::stable_sort(config.added.begin(), config.added.end(),
                   [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  return config;
}

std::string TokenizerConfig::tokenizer_class() const {
  const auto found = document.find("tokenizer_class");
  if (found == document.end() || !found->is_string()) return "";
  std::string name = found->get<std::string>();
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  return name;
}

bool TokenizerConfig::flag(const char* name, bool otherwise) const {
  return flag_of(document, name, otherwise);
}

}  // namespace graft
