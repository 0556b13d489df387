// English words to stems: Porter's algorithm (1980) with NLTK's extensions, which ROUGE's tools use.
#pragma once
#include <string>
#include <string_view>

namespace graft {

/// `word`: lower-case ASCII letters and digits; words of one or two characters stay.
std::string porter_stem(std::string_view word);

}  // namespace graft
