#include "wire/json_syntax.h"

#include <glib.h>

namespace cfr::json {

namespace {

// Walks the grammar of RFC 8259 without building anything. The depth limit also bounds its own
// recursion.
class Checker {
 public:
  Checker(std::string_view text, const SyntaxLimits& limits) : text_(text), limits_(limits) {}

  std::string run() {
    if (text_.size() > limits_.max_bytes)
      return "is larger than " + std::to_string(limits_.max_bytes) + " bytes";
    if (!g_utf8_validate(text_.data(), static_cast<gssize>(text_.size()), nullptr))
      return "is not valid UTF-8";
    skip_space();
    if (at_end()) return "is empty";
    if (!value(0)) return problem_;
    skip_space();
    if (!at_end()) return "goes on after its end (offset " + std::to_string(position_) + ")";
    return {};
  }

 private:
  bool at_end() const { return position_ >= text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[position_]; }
  bool take(char c) {
    if (at_end() || text_[position_] != c) return false;
    ++position_;
    return true;
  }
  bool fail(const char* what) {
    if (problem_.empty())
      problem_ = std::string(what) + " (offset " + std::to_string(position_) + ")";
    return false;
  }
  bool wrong() { return fail(at_end() ? "ends too early" : "is not JSON"); }

  void skip_space() {
    while (!at_end() && (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r'))
      ++position_;
  }

  bool value(unsigned depth) {
    if (++values_ > limits_.max_values) return fail("has too many values");
    switch (peek()) {
      case '{': return object(depth + 1);
      case '[': return array(depth + 1);
      case '"': return string();
      case 't': return word("true");
      case 'f': return word("false");
      case 'n': return word("null");
      default: return number();
    }
  }

  bool object(unsigned depth) {
    if (depth > limits_.max_depth) return fail("is nested too deeply");
    take('{');
    skip_space();
    if (take('}')) return true;
    for (;;) {
      skip_space();
      if (peek() != '"' || !string()) return wrong();
      skip_space();
      if (!take(':')) return wrong();
      skip_space();
      if (!value(depth)) return false;
      skip_space();
      if (take('}')) return true;
      if (!take(',')) return wrong();
    }
  }

  bool array(unsigned depth) {
    if (depth > limits_.max_depth) return fail("is nested too deeply");
    take('[');
    skip_space();
    if (take(']')) return true;
    for (;;) {
      skip_space();
      if (!value(depth)) return false;
      skip_space();
      if (take(']')) return true;
      if (!take(',')) return wrong();
    }
  }

  bool word(std::string_view expected) {
    if (text_.substr(position_, expected.size()) != expected) return wrong();
    position_ += expected.size();
    return true;
  }

  bool digits() {
    if (!g_ascii_isdigit(peek())) return wrong();
    while (g_ascii_isdigit(peek())) ++position_;
    return true;
  }

  bool number() {
    take('-');
    if (take('0')) {
      if (g_ascii_isdigit(peek())) return wrong();
    } else if (!digits()) {
      return false;
    }
    if (take('.') && !digits()) return false;
    if (take('e') || take('E')) {
      if (!take('+')) take('-');
      if (!digits()) return false;
    }
    return true;
  }

  bool hex4(unsigned& code) {
    code = 0;
    for (int i = 0; i < 4; ++i) {
      if (!g_ascii_isxdigit(peek())) return wrong();
      code = code * 16 + static_cast<unsigned>(g_ascii_xdigit_value(peek()));
      ++position_;
    }
    return true;
  }

  bool escape() {
    unsigned code = 0, second = 0;
    switch (peek()) {
      case '"':
      case '\\':
      case '/':
      case 'b':
      case 'f':
      case 'n':
      case 'r':
      case 't': ++position_; return true;
      case 'u': break;
      default: return wrong();
    }
    ++position_;
    if (!hex4(code)) return false;
    if (code == 0) return fail("has the character U+0000 in a string");
    if (code >= 0xd800 && code <= 0xdbff) {
      if (!take('\\') || !take('u') || !hex4(second) || second < 0xdc00 || second > 0xdfff)
        return fail("has half a surrogate pair in a string");
    } else if (code >= 0xdc00 && code <= 0xdfff) {
      return fail("has half a surrogate pair in a string");
    }
    return true;
  }

  bool string() {
    take('"');
    for (;;) {
      if (at_end()) return wrong();
      char c = text_[position_];
      if (static_cast<unsigned char>(c) < 0x20) return fail("has a control character in a string");
      ++position_;
      if (c == '"') return true;
      if (c == '\\' && !escape()) return false;
    }
  }

  std::string_view text_;
  const SyntaxLimits& limits_;
  std::size_t position_ = 0;
  std::size_t values_ = 0;
  std::string problem_;
};

bool unfit(gunichar c) {
  return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x200e || c == 0x200f ||
         (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

}  // namespace

std::string check_syntax(std::string_view text, const SyntaxLimits& limits) {
  return Checker(text, limits).run();
}

std::string sanitise(std::string_view text, std::size_t max_characters) {
  // Four bytes hold any character; the rest would be cut anyway.
  if (text.size() > max_characters * 4) text = text.substr(0, max_characters * 4);
  g_autofree char* valid = g_utf8_make_valid(text.data(), static_cast<gssize>(text.size()));
  std::string result;
  std::size_t count = 0;
  for (const char* p = valid; *p && count < max_characters; p = g_utf8_next_char(p), ++count) {
    if (unfit(g_utf8_get_char(p)))
      result += ' ';
    else
      result.append(p, static_cast<std::size_t>(g_utf8_next_char(p) - p));
  }
  return result;
}

}  // namespace cfr::json
