// The C ABI of the Rust crate textkit: tokenizers of Hugging Face's format, and Jinja templates.
// Texts go in as UTF-8 with a length. What comes back is owned by the caller and freed by the function named
// beside it.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct textkit_tokenizer textkit_tokenizer;
typedef struct textkit_encodings textkit_encodings;

/// A borrowed text; data may be null where size is 0.
typedef struct {
  const char* data;
  size_t size;
} textkit_text;

/// An owned text: textkit_string_free.
typedef struct {
  char* data;
  size_t size;
} textkit_string;

/// One text or (has_pair) a pair to encode.
typedef struct {
  textkit_text text, pair;
  uint8_t has_pair;
  uint8_t add_special_tokens;
} textkit_input;

/// One encoding, borrowed from textkit_encodings: `size` ids; `offsets` has 2 · size numbers, in code points.
typedef struct {
  size_t size;
  const int64_t* ids;
  const int64_t* type_ids;
  const int64_t* offsets;
  const uint8_t* special;
} textkit_encoding;

void textkit_string_free(textkit_string string);

/// tokenizer.json's text → a tokenizer without truncation and padding. Null with *error on failure.
/// textkit_tokenizer_free.
textkit_tokenizer* textkit_tokenizer_open(textkit_text json, textkit_string* error);
void textkit_tokenizer_free(textkit_tokenizer* tokenizer);

/// Encodes in parallel, results in order. Null with *error on failure. textkit_encodings_free.
textkit_encodings* textkit_encode(const textkit_tokenizer* tokenizer, const textkit_input* inputs,
                                  size_t count, textkit_string* error);
/// → 1, or 0 where there is no such encoding.
int textkit_encodings_get(const textkit_encodings* encodings, size_t index, textkit_encoding* out);
void textkit_encodings_free(textkit_encodings* encodings);

/// → 1 and *out, or 0 and *error. Ids that are no token are left out.
int textkit_decode(const textkit_tokenizer* tokenizer, const int64_t* ids, size_t count,
                   int skip_special_tokens, textkit_string* out, textkit_string* error);

/// The number of ids, added tokens included.
size_t textkit_vocab_size(const textkit_tokenizer* tokenizer);
/// The token's id, or -1.
int64_t textkit_token_id(const textkit_tokenizer* tokenizer, textkit_text token);
/// → 1 and *out, or 0 where the id is no token.
int textkit_id_token(const textkit_tokenizer* tokenizer, int64_t id, textkit_string* out);

/// Renders a chat template as transformers does; `variables` is a JSON object. → 1 and *out, or 0 and *error.
/// *raised is 1 where the template called raise_exception: *error is its message then.
int textkit_render(textkit_text source, textkit_text variables, textkit_string* out, textkit_string* error,
                   int* raised);

#ifdef __cplusplus
}
#endif
