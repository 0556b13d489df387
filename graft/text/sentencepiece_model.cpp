#include "graft/text/sentencepiece_model.h"

#include <algorithm>

#include "graft/base/error.h"
#include "graft/base/file.h"

namespace graft {
namespace {

using Kind = SentencePieceFile::Kind;

/// Finds and adds the tokens of a model's surroundings.
class SurroundingsBuilder {
 public:
  SurroundingsBuilder(const SentencePieceFile& file, const TokenizerConfig& config)
      : file_(file), config_(config) {
    next_ = static_cast<int64_t>(file.pieces.size());
    for (size_t i = 0; i < file.pieces.size(); ++i) {
      const Kind kind = file.pieces[i].kind;
      if (kind != Kind::kControl && kind != Kind::kUnknown) continue;
      around.added.push_back({file.pieces[i].text, static_cast<int64_t>(i)});
    }
    for (const AddedToken& token : config.added) add(token);
  }

  /// The token's id; added behind the last one where neither the model nor the files have it.
  PlacedToken place(const char* name, const char* usual) {
    const auto named = config_.named.find(name);
    AddedToken token{named != config_.named.end() && !named->second.empty() ? named->second : usual, {}};
    add(token);
    const auto found = find(token.text);
    return {found->text, *found->id};
  }

  void add(AddedToken token) {
    if (token.text.empty()) return;
    if (const auto known = find(token.text); known != around.added.end()) {
      token.id = known->id;
      *known = token;
      return;
    }
    if (!token.id) token.id = id_of_piece(token.text);
    if (!token.id) token.id = next_;
    // Ids far away would be holes of the size of the vocabulary.
    if (*token.id < next_ + 100000) {
      next_ = std::max(next_, *token.id + 1);
      around.added.push_back(std::move(token));
    }
  }

  bool has(const char* text) const { return id_of_piece(text).has_value(); }

  Surroundings around;

 private:
  std::vector<AddedToken>::iterator find(const std::string& text) {
    return std::find_if(around.added.begin(), around.added.end(),
                        [&](const AddedToken& token) { return token.text == text; });
  }

  std::optional<int64_t> id_of_piece(const std::string& text) const {
    for (size_t i = 0; i < file_.pieces.size(); ++i) {
      if (file_.pieces[i].text == text) return static_cast<int64_t>(i);
    }
    return std::nullopt;
  }

  const SentencePieceFile& file_;
  const TokenizerConfig& config_;
  int64_t next_;
};

/// T5: A </s> B </s>, and a hundred sentinels behind the vocabulary, the last one first.
void surround_t5(SurroundingsBuilder& builder, const TokenizerConfig& config) {
  builder.around.shape.after = builder.around.shape.between = {builder.place("eos_token", "</s>")};
  builder.around.shape.second_type = 0;
  const Json extra = config.document.value("extra_ids", Json(100));
  const int64_t count = extra.is_number_unsigned() ? std::min<int64_t>(extra.get<int64_t>(), 10000) : 100;
  for (int64_t i = count - 1; i >= 0; --i) builder.add({fmt::format("<extra_id_{}>", i), {}});
}

/// BERT's shape on pieces: [CLS] A [SEP] B [SEP].
void surround_bert(SurroundingsBuilder& builder) {
  TemplateShape& shape = builder.around.shape;
  shape.before = {builder.place("cls_token", "[CLS]")};
  shape.after = shape.between = {builder.place("sep_token", "[SEP]")};
  builder.place("mask_token", "[MASK]");
}

/// LLaMA: <s> A, a pair as <s> A <s> B; what stands there is switched by add_bos_token and add_eos_token.
void surround_llama(SurroundingsBuilder& builder, const TokenizerConfig& config) {
  TemplateShape& shape = builder.around.shape;
  std::vector<PlacedToken> eos;
  if (builder.has("<s>") && config.flag("add_bos_token", true))
    shape.before = {builder.place("bos_token", "<s>")};
  if (builder.has("</s>") && config.flag("add_eos_token", false)) eos = {builder.place("eos_token", "</s>")};
  shape.after = eos;
  shape.between = eos;
  shape.between.insert(shape.between.end(), shape.before.begin(), shape.before.end());
  shape.between_type = 1;
}

Surroundings surround(const std::filesystem::path& path, const SentencePieceFile& file,
                      const TokenizerConfig& config) {
  const std::string name = config.tokenizer_class(), from = path.filename().string();
  // A model under a name of its own, with nothing beside it, is not a whole tokenizer: pieces only, as
  // SentencePiece has it.
  const bool usual = from == "tokenizer.model" || from == "spiece.model" || from == "spm.model";
  if (!usual && name.empty() && config.added.empty() && config.named.empty()) return {};
  SurroundingsBuilder builder(file, config);
  const bool bert_pieces = builder.has("[CLS]") && builder.has("[SEP]");
  if (name == "T5Tokenizer" || (name.empty() && from == "spiece.model" && !bert_pieces)) {
    surround_t5(builder, config);
  } else if (name == "DebertaV2Tokenizer" || name == "AlbertTokenizer" || (name.empty() && bert_pieces)) {
    surround_bert(builder);
  } else {
    surround_llama(builder, config);
  }
  for (const auto& [role, text] : config.named) builder.add({text, {}});
  std::sort(builder.around.added.begin(), builder.around.added.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  return std::move(builder.around);
}

}  // namespace

std::unique_ptr<TokenModel> open_sentencepiece_model(const std::filesystem::path& path,
                                                     const TokenizerConfig& config) {
  const std::string bytes = read_file(path), where = path.string();
  const SentencePieceFile file = SentencePieceFile::parse(bytes, where);
  Surroundings around = surround(path, file, config);
  if (const auto json = sentencepiece_json(file, around)) return open_crate_model(*json, where);
  return run_sentencepiece(bytes, file, std::move(around), where);
}

}  // namespace graft
