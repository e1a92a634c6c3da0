// Checks that a text is one JSON value (RFC 8259) that is safe to hand to a recursive parser.
// Pure, any thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace cfr::json {

struct SyntaxLimits {
  std::size_t max_bytes = 1 << 20;
  unsigned max_depth = 32;         // nested arrays and objects
  std::size_t max_values = 65536;  // bounds the memory of the parsed tree
};

// "" when the text is fine, else what is wrong, as a part of a sentence ("is nested too deeply").
// Beyond the grammar it refuses invalid UTF-8, lone surrogates and the character U+0000, which C
// strings cannot hold.
std::string check_syntax(std::string_view text, const SyntaxLimits& limits = {});

// A text from outside made fit for logs and messages: one line, valid UTF-8, control and
// direction-changing characters replaced by spaces, at most max_characters.
std::string sanitise(std::string_view text, std::size_t max_characters = 300);

}  // namespace cfr::json
