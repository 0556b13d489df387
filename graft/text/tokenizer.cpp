#include "graft/text/tokenizer.h"

#include "graft/base/error.h"
#include "graft/base/file.h"
#include "graft/text/token_model.h"
#include "graft/text/tokenizer_config.h"
#include "graft/text/vocabulary_files.h"

namespace graft {
namespace {

struct SpecialName {
  const char* name;
  std::vector<const char*> usual;  // looked up where no file names the token
};

const SpecialName kBos{"bos_token", {"<s>"}}, kEos{"eos_token", {"</s>"}},
    kPad{"pad_token", {"[PAD]", "<pad>"}}, kUnk{"unk_token", {"[UNK]", "<unk>"}},
    kCls{"cls_token", {"[CLS]"}}, kSep{"sep_token", {"[SEP]"}}, kMask{"mask_token", {"[MASK]", "<mask>"}};

std::unique_ptr<TokenModel> open_model(const std::filesystem::path& folder, const TokenizerConfig& config) {
  const std::filesystem::path json = folder / "tokenizer.json";
  if (std::filesystem::exists(json)) return open_crate_model(read_file(json), json.string());
  if (auto model = open_vocabulary_files(folder, config)) return model;
  throw DataError(
      folder.string(),
      "no tokenizer: expected tokenizer.json, tokenizer.model, spiece.model, spm.model, vocab.txt, or "
      "vocab.json with merges.txt");
}

bool ends_unfinished(std::string_view text) { return text.ends_with("\xEF\xBF\xBD"); }

}  // namespace

struct Tokenizer::State {
  std::unique_ptr<TokenModel> model;
  TokenizerConfig config;

  std::optional<int64_t> special_id(const SpecialName& special) const {
    const auto named = config.named.find(special.name);
    if (named != config.named.end())
      return named->second.empty() ? std::nullopt : model->token_id(named->second);
    for (const char* usual : special.usual) {
      if (const auto id = model->token_id(usual)) return id;
    }
    return std::nullopt;
  }
};

Tokenizer::Tokenizer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::open(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder))
    throw DataError(folder.string(), "no such folder, expected one with a tokenizer");
  auto state = std::make_unique<State>();
  state->config = TokenizerConfig::open(folder);
  state->model = open_model(folder, state->config);
  return Tokenizer(std::move(state));
}

Encoding Tokenizer::encode(const TextInput& input) const {
  return std::move(state_->model->encode({input}).front());
}

std::vector<Encoding> Tokenizer::encode_batch(const std::vector<TextInput>& inputs) const {
  return state_->model->encode(inputs);
}

std::string Tokenizer::decode(const std::vector<int64_t>& ids, bool skip_special_tokens) const {
  return state_->model->decode(ids, skip_special_tokens);
}

int64_t Tokenizer::vocab_size() const { return state_->model->vocab_size(); }
std::optional<int64_t> Tokenizer::token_id(std::string_view token) const {
  return state_->model->token_id(token);
}
std::optional<std::string> Tokenizer::id_token(int64_t id) const { return state_->model->id_token(id); }

std::optional<int64_t> Tokenizer::bos_id() const { return state_->special_id(kBos); }
std::optional<int64_t> Tokenizer::eos_id() const { return state_->special_id(kEos); }
std::optional<int64_t> Tokenizer::pad_id() const { return state_->special_id(kPad); }
std::optional<int64_t> Tokenizer::unk_id() const { return state_->special_id(kUnk); }
std::optional<int64_t> Tokenizer::cls_id() const { return state_->special_id(kCls); }
std::optional<int64_t> Tokenizer::sep_id() const { return state_->special_id(kSep); }
std::optional<int64_t> Tokenizer::mask_id() const { return state_->special_id(kMask); }

// The decoder sees a short window of ids: what was handed out last (for spaces that depend on the left
// neighbour) and what waits. The rules are those of the crate's DecodeStream, so that both hand out the same
// pieces.
struct Tokenizer::Stream::State {
  const TokenModel* model;
  bool skip_special_tokens;
  std::vector<int64_t> window;
  std::string prefix;       // the text of the window's ids that are handed out
  size_t prefix_count = 0;  // how many ids those are
  std::optional<std::string> fault;

  std::string decode() const { return model->decode(window, skip_special_tokens); }

  void note_fault(int64_t id, const std::string& text) {
    fault = fmt::format(
        "Invalid prefix encountered while decoding stream. Token ID: {}, Expected prefix: '{}', Actual "
        "string: '{}'",
        id, prefix, text);
  }

  std::optional<std::string> next(int64_t id) {
    if (prefix.empty() && !window.empty()) {
      std::string text = decode();
      if (!ends_unfinished(text)) {
        prefix = std::move(text);
        prefix_count = window.size();
      }
    }
    window.push_back(id);
    std::string text = decode();
    if (text.size() <= prefix.size() || ends_unfinished(text)) return std::nullopt;
    if (!text.starts_with(prefix)) {
      note_fault(id, text);
      window.assign(1, id);
      prefix_count = 0;
      prefix.clear();
      return decode();
    }
    text.erase(0, prefix.size());
    window.erase(window.begin(), window.begin() + static_cast<std::ptrdiff_t>(prefix_count));
    prefix = decode();
    prefix_count = window.size();
    return text;
  }
};

Tokenizer::Stream::Stream(std::unique_ptr<State> state) : state_(std::move(state)) {}
Tokenizer::Stream::Stream(Stream&&) noexcept = default;
Tokenizer::Stream::~Stream() = default;
std::optional<std::string> Tokenizer::Stream::next(int64_t id) { return state_->next(id); }
const std::optional<std::string>& Tokenizer::Stream::fault() const { return state_->fault; }

Tokenizer::Stream Tokenizer::stream(bool skip_special_tokens) const {
  auto state = std::make_unique<Stream::State>();
  state->model = state_->model.get();
  state->skip_special_tokens = skip_special_tokens;
  return Stream(std::move(state));
}

}  // namespace graft
