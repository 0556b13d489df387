// SentencePiece itself on its own model.
#include <sentencepiece_processor.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <map>
#include <thread>

#include "graft/base/error.h"
#include "graft/base/utf8.h"
#include "graft/text/normalized_text.h"
#include "graft/text/owned_text.h"
#include "graft/text/sentencepiece_model.h"
#include "graft/text/unigram.h"

namespace graft {
namespace {

using Kind = SentencePieceFile::Kind;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/// Code points before each byte of a text.
class CodePoints {
 public:
  explicit CodePoints(std::string_view text) : before_(text.size() + 1) {
    int64_t count = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      count += (text[i] & 0xc0) != 0x80;
      before_[i + 1] = count;
    }
  }
  int64_t at(size_t byte) const { return before_[std::min(byte, before_.size() - 1)]; }

 private:
  std::vector<int64_t> before_;
};

/// A stretch of the text: an added token, or text between them.
struct Segment {
  size_t begin, end;
  const AddedToken* token;
};

class RunModel : public TokenModel {
 public:
  RunModel(std::string_view bytes, const SentencePieceFile& file, Surroundings around,
           const std::string& where)
      : around_(std::move(around)), pieces_(static_cast<int64_t>(file.pieces.size())) {
    const auto status = processor_.LoadFromSerializedProto(bytes);
    if (!status.ok())
      throw DataError(where, "SentencePiece does not take it: {}", one_line(status.ToString()));
    for (const AddedToken& token : around_.added) {
      by_text_.emplace(token.text, &token);
      by_id_.emplace(*token.id, &token);
      first_bytes_[static_cast<unsigned char>(token.text[0])] = true;
    }
    if (file.algorithm == SentencePieceFile::Algorithm::kUnigram && !file.whitespace_suffix)
      unigram_.emplace(file);
    for (int byte = 0; byte < 256 && file.byte_fallback; ++byte) {
      byte_ids_.push_back(processor_.PieceToId(fmt::format("<0x{:02X}>", byte)));
    }
    for (size_t i = 0; i < file.pieces.size(); ++i) {
      kinds_.push_back(file.pieces[i].kind);
      const bool plain =
          file.pieces[i].kind == Kind::kNormal && file.pieces[i].text.find("\u2581") == std::string::npos;
      if (plain && anchor_ < 0 && decode_pieces({static_cast<int>(i)}) == file.pieces[i].text)
        anchor_ = static_cast<int>(i);
    }
  }

  std::vector<Encoding> encode(const std::vector<TextInput>& inputs) const override;
  std::string decode(const std::vector<int64_t>& ids, bool skip_special_tokens) const override;

  int64_t vocab_size() const override {
    return by_id_.empty() ? pieces_ : std::max(pieces_, by_id_.rbegin()->first + 1);
  }

  std::optional<int64_t> token_id(std::string_view token) const override {
    if (const auto added = by_text_.find(token); added != by_text_.end()) return added->second->id;
    const int id = processor_.PieceToId(token);
    if (id < 0 || id >= pieces_ || processor_.IdToPiece(id) != token) return std::nullopt;
    return id;
  }

  std::optional<std::string> id_token(int64_t id) const override {
    if (const auto added = by_id_.find(id); added != by_id_.end()) return added->second->text;
    if (id < 0 || id >= pieces_) return std::nullopt;
    return processor_.IdToPiece(static_cast<int>(id));
  }

 private:
  using Answer = sentencepiece::ImmutableSentencePieceText;
  /// An id and the bytes of the text that it stands for.
  struct Span {
    int64_t id;
    size_t begin, end;
  };

  Encoding encode_one(const TextInput& input) const;
  std::vector<Segment> segments(std::string_view text) const;
  const AddedToken* token_at(std::string_view text, size_t at) const;
  void append_text(const std::string& text, int64_t type, Encoding& out) const;
  void append_pieces(std::string_view text, size_t begin, const CodePoints& points, Encoding& out) const;
  NormalizedText normalized(std::string_view text, const Answer& answer) const;
  std::vector<Span> first_of_equals(const NormalizedText& normalized) const;
  void append_unknown(std::string_view bytes, Span place, bool after_unknown, std::vector<Span>& out) const;
  std::string decode_pieces(const std::vector<int>& ids) const;
  std::string decode_inside(std::vector<int> ids) const;
  Kind kind(int64_t id) const { return kinds_[static_cast<size_t>(id)]; }

  sentencepiece::SentencePieceProcessor processor_;
  Surroundings around_;
  int64_t pieces_;
  std::vector<Kind> kinds_;
  std::map<std::string, const AddedToken*, std::less<>> by_text_;
  std::map<int64_t, const AddedToken*> by_id_;
  bool first_bytes_[256] = {};
  std::optional<Unigram> unigram_;
  std::vector<int64_t> byte_ids_;  // by byte; empty without byte pieces
  int anchor_ = -1;                // a piece that is plain text, to decode what stands after it
};

/// The longest added token that begins here.
const AddedToken* RunModel::token_at(std::string_view text, size_t at) const {
  if (!first_bytes_[static_cast<unsigned char>(text[at])]) return nullptr;
  const AddedToken* best = nullptr;
  for (const AddedToken& token : around_.added) {
    if (best && token.text.size() <= best->text.size()) continue;
    if (text.substr(at).starts_with(token.text)) best = &token;
  }
  return best;
}

std::vector<Segment> RunModel::segments(std::string_view text) const {
  std::vector<Segment> out;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const AddedToken* token = token_at(text, at);
    if (!token) {
      ++at;
      continue;
    }
    size_t first = at, last = at + token->text.size();
    while (token->lstrip && first > begin && is_space(text[first - 1])) --first;
    while (token->rstrip && last < text.size() && is_space(text[last])) ++last;
    if (first > begin) out.push_back({begin, first, nullptr});
    out.push_back({first, last, token});
    begin = at = last;
  }
  if (begin < text.size()) out.push_back({begin, text.size(), nullptr});
  return out;
}

/// The characters that stand behind byte pieces, so that an answer's pieces are the normalized text again.
NormalizedText RunModel::normalized(std::string_view text, const Answer& answer) const {
  NormalizedText out;
  std::string bytes;
  size_t bytes_begin = 0;
  for (const auto& piece : answer.pieces()) {
    const size_t begin = piece.begin(), end = piece.end();
    if (kind(piece.id()) != Kind::kByte) {
      out.append(piece.piece(), text.substr(begin, end - begin), begin);
      continue;
    }
    if (bytes.empty()) bytes_begin = begin;
    bytes += static_cast<char>(std::stoi(piece.piece().substr(3, 2), nullptr, 16));  // <0x..>
    if (bytes.size() < utf8_size(bytes[0])) continue;
    out.append(bytes, text.substr(bytes_begin, end - bytes_begin), bytes_begin);
    bytes.clear();
  }
  return out;
}

/// An unknown character: its bytes where the model has them, else one token for a run of such characters.
void RunModel::append_unknown(std::string_view bytes, Span place, bool after_unknown,
                              std::vector<Span>& out) const {
  if (byte_ids_.size() == 256) {
    for (const char byte : bytes)
      out.push_back({byte_ids_[static_cast<unsigned char>(byte)], place.begin, place.begin});
    out.back().end = place.end;
  } else if (after_unknown) {
    out.back().end = place.end;
  } else {
    out.push_back({processor_.unk_id(), place.begin, place.end});
  }
}

std::vector<RunModel::Span> RunModel::first_of_equals(const NormalizedText& normalized) const {
  std::vector<Span> out;
  bool after_unknown = false;
  for (const Unigram::Part& part : unigram_->split(normalized.text())) {
    const Span place{part.id, normalized.origin(part.begin), normalized.origin(part.end)};
    if (part.id >= 0) {
      out.push_back(place);
    } else {
      append_unknown(std::string_view(normalized.text()).substr(part.begin, part.end - part.begin), place,
                     after_unknown, out);
    }
    after_unknown = part.id < 0;
  }
  return out;
}

void RunModel::append_pieces(std::string_view text, size_t begin, const CodePoints& points,
                             Encoding& out) const {
  const Answer answer = processor_.EncodeAsImmutableProto(text);
  std::vector<Span> spans;
  for (const auto& piece : answer.pieces()) spans.push_back({piece.id(), piece.begin(), piece.end()});
  if (unigram_) {
    std::vector<Span> first = first_of_equals(normalized(text, answer));
    const auto same_id = [](const Span& a, const Span& b) { return a.id == b.id; };
    if (!std::equal(first.begin(), first.end(), spans.begin(), spans.end(), same_id))
      spans = std::move(first);
  }
  for (const Span& span : spans) {
    out.ids.push_back(span.id);
    out.offsets.emplace_back(points.at(begin + span.begin), points.at(begin + span.end));
  }
}

void RunModel::append_text(const std::string& text, int64_t type, Encoding& out) const {
  if (const auto wrong = first_invalid_utf8(text))
    throw DataError("tokenize", "the text is not UTF-8: wrong byte at {}", *wrong);
  const CodePoints points(text);
  for (const Segment& segment : segments(text)) {
    if (segment.token) {
      out.ids.push_back(*segment.token->id);
      out.offsets.emplace_back(points.at(segment.begin), points.at(segment.end));
    } else {
      append_pieces(std::string_view(text).substr(segment.begin, segment.end - segment.begin), segment.begin,
                    points, out);
    }
  }
  out.type_ids.resize(out.ids.size(), type);
  out.special.resize(out.ids.size(), false);
}

Encoding RunModel::encode_one(const TextInput& input) const {
  Encoding out;
  const auto place = [&](const std::vector<PlacedToken>& tokens, int64_t type) {
    if (!input.add_special_tokens) return;
    for (const PlacedToken& token : tokens) {
      out.ids.push_back(token.id);
      out.offsets.emplace_back(0, 0);
      out.type_ids.push_back(type);
      out.special.push_back(true);
    }
  };
  const TemplateShape& shape = around_.shape;
  place(shape.before, 0);
  append_text(input.text, 0, out);
  if (!input.pair) {
    place(shape.after, 0);
    return out;
  }
  place(shape.between, shape.between_type);
  append_text(*input.pair, input.add_special_tokens ? shape.second_type : 1, out);
  place(shape.after, shape.second_type);
  return out;
}

std::vector<Encoding> RunModel::encode(const std::vector<TextInput>& inputs) const {
  std::vector<Encoding> out(inputs.size());
  const size_t most = std::max<size_t>(std::thread::hardware_concurrency(), 1),
               workers = std::min(most, inputs.size() / 16 + 1);
  std::vector<std::exception_ptr> failures(workers);
  std::atomic<size_t> next = 0;
  const auto work = [&](size_t worker) {
    try {
      for (size_t i = next++; i < inputs.size(); i = next++) out[i] = encode_one(inputs[i]);
    } catch (...) {
      failures[worker] = std::current_exception();
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 1; i < workers; ++i) threads.emplace_back(work, i);
  work(0);
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
  return out;
}

std::string RunModel::decode_pieces(const std::vector<int>& ids) const {
  std::string text;
  const auto status = processor_.Decode(ids, &text);
  if (!status.ok()) throw DataError("decode", "{}", one_line(status.ToString()));
  return text;
}

/// Pieces that stand behind something: their first space is kept.
std::string RunModel::decode_inside(std::vector<int> ids) const {
  if (ids.empty() || anchor_ < 0) return decode_pieces(ids);
  ids.insert(ids.begin(), anchor_);
  return decode_pieces(ids).substr(processor_.IdToPiece(anchor_).size());
}

std::string RunModel::decode(const std::vector<int64_t>& ids, bool skip_special_tokens) const {
  std::string text;
  std::vector<int> run;
  const auto flush = [&] {
    text += text.empty() ? decode_pieces(run) : decode_inside(run);
    run.clear();
  };
  for (const int64_t id : ids) {
    const auto added = by_id_.find(id);
    const bool is_piece = id >= 0 && id < pieces_;
    if (added != by_id_.end() && !(is_piece && kind(id) == Kind::kUnknown)) {
      if (skip_special_tokens && added->second->special) continue;
      flush();
      text += added->second->text;
    } else if (is_piece) {
      run.push_back(static_cast<int>(id));
    }
  }
  flush();
  return text;
}

}  // namespace

std::unique_ptr<TokenModel> run_sentencepiece(std::string_view bytes, const SentencePieceFile& file,
                                              Surroundings around, const std::string& where) {
  return std::make_unique<RunModel>(bytes, file, std::move(around), where);
}

}  // namespace graft
