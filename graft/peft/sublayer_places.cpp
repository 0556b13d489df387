#include "graft/peft/sublayer_places.h"

#include <algorithm>

#include "graft/base/error.h"

namespace graft {
namespace {

bool is_number(const std::string& part) {
  return !part.empty() && part.size() < 10 &&
         std::all_of(part.begin(), part.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
}

std::vector<std::string> parts_of(const std::string& path) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('.', begin), path.size());
    parts.push_back(path.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

/// T5's blocks hold their sublayers in a list: attention, the decoder's cross-attention, feed-forward.
SublayerKind kind_in_list(const std::string& position, bool in_decoder) {
  if (position == "0") return SublayerKind::attention;
  return in_decoder && position == "1" ? SublayerKind::cross_attention : SublayerKind::feed_forward;
}

SublayerKind kind_of(const std::vector<std::string>& parts, bool in_decoder) {
  const std::string& last = parts.back();
  if (is_number(last)) return kind_in_list(last, in_decoder);
  if (last == "output" && parts.size() > 1 && parts[parts.size() - 2] == "attention")
    return SublayerKind::attention;
  if (last == "output" || last == "output_adapters") return SublayerKind::feed_forward;
  if (last == "attention" || last == "attention_adapters") return SublayerKind::attention;
  throw InternalError("sublayer", "{} has a name of no known kind", last);
}

}  // namespace

std::vector<SublayerPlace> sublayer_places(Model& model) {
  std::vector<SublayerPlace> places;
  for (const auto& [path, module] : model.named_modules()) {
    if (!dynamic_cast<Sublayer*>(module)) continue;
    const std::vector<std::string> parts = parts_of(path);
    SublayerPlace place{.path = path, .kind = SublayerKind::attention};
    place.in_decoder = model.info().is_encoder_decoder && path.find("decoder.") != std::string::npos;
    place.kind = kind_of(parts, place.in_decoder);
    const auto number = std::find_if(parts.begin(), parts.end(), is_number);
    if (number != parts.end()) place.layer_of_stack = std::stoll(*number);
    place.layer = place.layer_of_stack + (place.in_decoder ? model.info().num_encoder_layers : 0);
    places.push_back(place);
  }
  return places;
}

}  // namespace graft
