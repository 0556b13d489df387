// A tokenizer.json in the Rust crate `tokenizers`.
#include <textkit.h>

#include <algorithm>

#include "graft/base/error.h"
#include "graft/text/owned_text.h"
#include "graft/text/token_model.h"

namespace graft {
namespace {

struct FreeTokenizer {
  void operator()(textkit_tokenizer* tokenizer) const { textkit_tokenizer_free(tokenizer); }
};
struct FreeEncodings {
  void operator()(textkit_encodings* encodings) const { textkit_encodings_free(encodings); }
};

Encoding copy_encoding(const textkit_encoding& from) {
  Encoding out;
  out.ids.assign(from.ids, from.ids + from.size);
  out.type_ids.assign(from.type_ids, from.type_ids + from.size);
  out.special.resize(from.size);
  out.offsets.resize(from.size);
  for (size_t i = 0; i < from.size; ++i) {
    out.special[i] = from.special[i] != 0;
    out.offsets[i] = {from.offsets[2 * i], from.offsets[2 * i + 1]};
  }
  return out;
}

class CrateModel : public TokenModel {
 public:
  CrateModel(std::string_view json, std::string where) : where_(std::move(where)) {
    OwnedText error;
    tokenizer_.reset(textkit_tokenizer_open(borrow(json), error.place()));
    if (!tokenizer_) {
      throw DataError(where_, "no tokenizer can be made of it: {}; is the file whole?",
                      one_line(error.take()));
    }
  }

  std::vector<Encoding> encode(const std::vector<TextInput>& inputs) const override {
    std::vector<textkit_input> borrowed;
    borrowed.reserve(inputs.size());
    for (const TextInput& input : inputs) {
      const std::string_view pair = input.pair ? std::string_view(*input.pair) : std::string_view();
      borrowed.push_back(
          {borrow(input.text), borrow(pair), input.pair.has_value(), input.add_special_tokens});
    }
    OwnedText error;
    const std::unique_ptr<textkit_encodings, FreeEncodings> encodings(
        textkit_encode(tokenizer_.get(), borrowed.data(), borrowed.size(), error.place()));
    if (!encodings) throw DataError("tokenize", "{}", one_line(error.take()));
    std::vector<Encoding> out(inputs.size());
    textkit_encoding view;
    for (size_t i = 0; i < out.size(); ++i) {
      if (textkit_encodings_get(encodings.get(), i, &view)) out[i] = copy_encoding(view);
    }
    return out;
  }

  std::string decode(const std::vector<int64_t>& ids, bool skip_special_tokens) const override {
    OwnedText out, error;
    if (!textkit_decode(tokenizer_.get(), ids.data(), ids.size(), skip_special_tokens, out.place(),
                        error.place())) {
      throw DataError("decode", "{}", one_line(error.take()));
    }
    return out.take();
  }

  int64_t vocab_size() const override { return static_cast<int64_t>(textkit_vocab_size(tokenizer_.get())); }

  std::optional<int64_t> token_id(std::string_view token) const override {
    const int64_t id = textkit_token_id(tokenizer_.get(), borrow(token));
    return id < 0 ? std::nullopt : std::optional(id);
  }

  std::optional<std::string> id_token(int64_t id) const override {
    OwnedText out;
    if (!textkit_id_token(tokenizer_.get(), id, out.place())) return std::nullopt;
    return out.take();
  }

 private:
  std::string where_;
  std::unique_ptr<textkit_tokenizer, FreeTokenizer> tokenizer_;
};

}  // namespace

std::unique_ptr<TokenModel> open_crate_model(std::string_view json, std::string where) {
  return std::make_unique<CrateModel>(json, std::move(where));
}

}  // namespace graft
