#include "graft/text/vocabulary_files.h"

#include <algorithm>
#include <unordered_map>

#include "graft/base/error.h"
#include "graft/base/file.h"
#include "graft/text/sentencepiece_model.h"

namespace graft {
namespace {

using Ids = std::unordered_map<std::string, int64_t>;

/// Lines without their ends; nothing after the last newline.
std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    if (line.ends_with('\r')) line.pop_back();
    lines.push_back(std::move(line));
    at = end + 1;
  }
  return lines;
}

/// JSON text of a string; errors: DataError where it is not UTF-8.
std::string quoted(const std::string& text, const std::filesystem::path& where) {
  try {
    return Json(text).dump();
  } catch (const Json::exception&) {
    throw DataError(where.string(), "not UTF-8 text");
  }
}

/// The names that are in the vocabulary, with the flags that the files give them.
std::vector<AddedToken> special_tokens(const TokenizerConfig& config, const std::vector<std::string>& usual,
                                       const Ids& ids) {
  std::vector<AddedToken> tokens = config.added;
  const auto add = [&](const std::string& text) {
    const auto id = ids.find(text);
    const bool known = std::any_of(tokens.begin(), tokens.end(),
                                   [&](const AddedToken& token) { return token.text == text; });
    if (id != ids.end() && !known) tokens.push_back({text, id->second});
  };
  for (const std::string& text : usual) add(text);
  for (const auto& [name, text] : config.named) add(text);
  for (AddedToken& token : tokens) {
    // RoBERTa's mask takes the space before it.
    if (token.text == "<mask>") token.lstrip = true;
  }
  std::sort(tokens.begin(), tokens.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  return tokens;
}

PlacedToken placed(const TokenizerConfig& config, const char* name, const char* usual, const Ids& ids,
                   const std::filesystem::path& where) {
  const auto named = config.named.find(name);
  const std::string text = named != config.named.end() && !named->second.empty() ? named->second : usual;
  const auto id = ids.find(text);
  if (id == ids.end()) throw DataError(where.string(), "the vocabulary lacks {} ({})", text, name);
  return {text, id->second};
}

/// `model` is JSON text: its vocabulary is too long for a document with ordered keys.
std::string document(Json head, const std::string& model) {
  head["truncation"] = nullptr;
  head["padding"] = nullptr;
  std::string text = head.dump();
  text.back() = ',';
  return text + "\"model\":" + model + "}";
}

Json step(const char* name, int64_t type) { return {{name, {{"id", "A"}, {"type_id", type}}}}; }

Json special_step(const PlacedToken& token, int64_t type) {
  return {{"SpecialToken", {{"id", token.text}, {"type_id", type}}}};
}

constexpr const char* kQwenSplit =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

Json byte_level(bool add_prefix_space, bool trim_offsets, bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", add_prefix_space},
          {"trim_offsets", trim_offsets},
          {"use_regex", use_regex}};
}

Json qwen_pipeline() {
  Json head;
  head["normalizer"] = {{"type", "NFC"}};
  const Json split = {
      {"type", "Split"}, {"pattern", {{"Regex", kQwenSplit}}}, {"behavior", "Isolated"}, {"invert", false}};
  head["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {split, byte_level(false, false, false)}}};
  head["post_processor"] = byte_level(false, false, false);
  head["decoder"] = byte_level(false, false, false);
  return head;
}

Json gpt2_pipeline(bool add_prefix_space) {
  Json head;
  head["normalizer"] = nullptr;
  head["pre_tokenizer"] = byte_level(add_prefix_space, true, true);
  head["post_processor"] = byte_level(true, false, true);
  head["decoder"] = byte_level(true, true, true);
  return head;
}

/// The ids of the few tokens that are looked up, out of vocab.json.
Ids read_vocabulary(const std::string& text, const std::filesystem::path& where) {
  Ids ids;
  std::string key;
  const nlohmann::json::parser_callback_t take = [&](int depth, nlohmann::json::parse_event_t event,
                                                     nlohmann::json& value) {
    if (depth > 1) throw DataError(where.string(), "nested values, expected an object of tokens and ids");
    if (event == nlohmann::json::parse_event_t::key) key = value.get<std::string>();
    if (event != nlohmann::json::parse_event_t::value) return true;
    if (!value.is_number_unsigned()) throw DataError(where.string(), "{}: not an id: {}", key, value.dump());
    ids[key] = value.get<int64_t>();
    return false;  // nothing is kept in the document
  };
  if (const auto parsed = nlohmann::json::parse(text, take, false);
      parsed.is_discarded() || !parsed.is_object()) {
    throw DataError(where.string(), "not a JSON object of tokens and ids; is the file whole?");
  }
  return ids;
}

std::string merges_json(const std::filesystem::path& path) {
  std::string out = "[";
  size_t number = 0;
  for (const std::string& line : lines_of(read_file(path))) {
    ++number;
    if (line.starts_with("#version") || line.empty()) continue;
    const size_t space = line.find(' ');
    if (space == std::string::npos || line.find(' ', space + 1) != std::string::npos) {
      throw DataError(path.string(), "line {}: expected two tokens with a space between them", number);
    }
    if (out.size() > 1) out += ',';
    out += "[" + quoted(line.substr(0, space), path) + "," + quoted(line.substr(space + 1), path) + "]";
  }
  return out + "]";
}

}  // namespace

Json template_json(const TemplateShape& shape) {
  Json single = Json::array(), pair = Json::array(), tokens = Json::object();
  for (const auto* list : {&shape.before, &shape.between, &shape.after}) {
    for (const PlacedToken& token : *list) {
      tokens[token.text] = {{"id", token.text}, {"ids", {token.id}}, {"tokens", {token.text}}};
    }
  }
  for (const PlacedToken& token : shape.before) single.push_back(special_step(token, 0));
  single.push_back(step("Sequence", 0));
  for (const PlacedToken& token : shape.after) single.push_back(special_step(token, 0));
  for (const PlacedToken& token : shape.before) pair.push_back(special_step(token, 0));
  pair.push_back(step("Sequence", 0));
  for (const PlacedToken& token : shape.between) pair.push_back(special_step(token, shape.between_type));
  pair.push_back({{"Sequence", {{"id", "B"}, {"type_id", shape.second_type}}}});
  for (const PlacedToken& token : shape.after) pair.push_back(special_step(token, shape.second_type));
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", tokens}};
}

Json added_tokens_json(const std::vector<AddedToken>& tokens) {
  Json out = Json::array();
  for (const AddedToken& token : tokens) {
    if (!token.id || token.text.empty()) continue;
    out.push_back({{"id", *token.id},
                   {"content", token.text},
                   {"single_word", false},
                   {"lstrip", token.lstrip},
                   {"rstrip", token.rstrip},
                   {"normalized", token.normalized},
                   {"special", token.special}});
  }
  return out;
}

std::string wordpiece_json(const std::filesystem::path& vocab, const TokenizerConfig& config) {
  Ids ids;
  std::vector<std::string> lines = lines_of(read_file(vocab));
  if (lines.empty()) throw DataError(vocab.string(), "an empty vocabulary, expected a token a line");
  for (size_t i = 0; i < lines.size(); ++i) ids[lines[i]] = static_cast<int64_t>(i);
  std::string entries;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (ids[lines[i]] != static_cast<int64_t>(i)) continue;  // the last of equal lines counts
    entries += (entries.empty() ? "" : ",") + quoted(lines[i], vocab) + ":" + std::to_string(i);
  }
  const PlacedToken unk = placed(config, "unk_token", "[UNK]", ids, vocab);
  TemplateShape shape;
  shape.before = {placed(config, "cls_token", "[CLS]", ids, vocab)};
  shape.between = shape.after = {placed(config, "sep_token", "[SEP]", ids, vocab)};
  Json head;
  head["added_tokens"] =
      added_tokens_json(special_tokens(config, {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}, ids));
  const Json accents = config.document.value("strip_accents", Json());
  head["normalizer"] = {{"type", "BertNormalizer"},
                        {"clean_text", true},
                        {"handle_chinese_chars", config.flag("tokenize_chinese_chars", true)},
                        {"strip_accents", accents.is_boolean() ? accents : Json()},
                        {"lowercase", config.flag("do_lower_case", true)}};
  head["pre_tokenizer"] = {{"type", "BertPreTokenizer"}};
  head["post_processor"] = template_json(shape);
  head["decoder"] = {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}};
  return document(head,
                  "{\"type\":\"WordPiece\",\"unk_token\":" + quoted(unk.text, vocab) +
                      ",\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":100,\"vocab\":{" +
                      entries + "}}");
}

std::string byte_level_json(const std::filesystem::path& vocab, const std::filesystem::path& merges,
                            const TokenizerConfig& config) {
  const std::string vocabulary = read_file(vocab);
  const Ids ids = read_vocabulary(vocabulary, vocab);
  const std::string name = config.tokenizer_class();
  const bool roberta =
      name.empty() ? ids.contains("<s>") && ids.contains("</s>") : name == "RobertaTokenizer";
  const bool prefix_space = config.flag("add_prefix_space", false);
  Json head = name == "Qwen2Tokenizer" ? qwen_pipeline() : gpt2_pipeline(prefix_space);
  if (roberta) {
    const PlacedToken cls = placed(config, "cls_token", "<s>", ids, vocab),
                      sep = placed(config, "sep_token", "</s>", ids, vocab);
    head["post_processor"] = {{"type", "RobertaProcessing"},
                              {"sep", {sep.text, sep.id}},
                              {"cls", {cls.text, cls.id}},
                              {"trim_offsets", true},
                              {"add_prefix_space", prefix_space}};
  }
  std::vector<std::string> usual = {"<|endoftext|>"};
  if (roberta) usual = {"<s>", "<pad>", "</s>", "<unk>", "<mask>"};
  head["added_tokens"] = added_tokens_json(special_tokens(config, usual, ids));
  return document(head,
                  "{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":\"\","
                  "\"end_of_word_suffix\":\"\",\"fuse_unk\":false,\"byte_fallback\":false,\"vocab\":" +
                      vocabulary + ",\"merges\":" + merges_json(merges) + "}");
}

namespace {

/// The folder's SentencePiece model: one of the usual names, else the only *.model.
std::optional<std::filesystem::path> find_sentencepiece(const std::filesystem::path& folder) {
  for (const char* name : {"tokenizer.model", "spiece.model", "spm.model"}) {
    if (std::filesystem::exists(folder / name)) return folder / name;
  }
  std::optional<std::filesystem::path> only;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".model") continue;
    if (only) return std::nullopt;
    only = entry.path();
  }
  return only;
}

}  // namespace

std::unique_ptr<TokenModel> open_vocabulary_files(const std::filesystem::path& folder,
                                                  const TokenizerConfig& config) {
  if (const auto model = find_sentencepiece(folder)) return open_sentencepiece_model(*model, config);
  const std::filesystem::path lines = folder / "vocab.txt", vocab = folder / "vocab.json",
                              merges = folder / "merges.txt";
  if (std::filesystem::exists(lines)) return open_crate_model(wordpiece_json(lines, config), lines.string());
  if (std::filesystem::exists(vocab) && std::filesystem::exists(merges)) {
    return open_crate_model(byte_level_json(vocab, merges, config), vocab.string());
  }
  return nullptr;
}

}  // namespace graft
