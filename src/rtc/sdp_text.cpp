#include "rtc/sdp_text.h"

#include <glib.h>

#include <algorithm>

namespace cfr {

namespace {

constexpr size_t kMaxFormats = 64;  // of one section; Chromium offers about 25

Error not_sdp(std::string message) {
  Error error;
  error.kind = ErrorKind::protocol;
  error.message = std::move(message);
  return error;
}

std::string_view trim_end(std::string_view line) {
  while (!line.empty() && (line.back() == ' ' || line.back() == '\t' || line.back() == '\r'))
    line.remove_suffix(1);
  return line;
}

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = g_ascii_toupper(c);
  return out;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = g_ascii_tolower(c);
  return out;
}

bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return c > ' ' && c < 0x7f && c != ':' && c != '=';
  });
}

Result<SdpSection> parse_media(std::string_view value) {
  const auto words = split_words(value);
  if (words.size() < 4) return not_sdp("The description has an incomplete m= line.");
  SdpSection section;
  section.media = lower(words[0]);
  if (!is_token(section.media)) return not_sdp("The description has an ill-formed m= line.");
  const std::string_view port = words[1].substr(0, words[1].find('/'));
  const int64_t number = parse_number(port, 65535);
  if (number < 0) return not_sdp("The description has an m= line without a port.");
  section.port = static_cast<unsigned>(number);
  section.protocol = std::string(words[2]);
  for (size_t i = 3; i < words.size() && section.formats.size() < kMaxFormats; i++)
    section.formats.emplace_back(words[i]);
  return section;
}

// "96 rest of the line" of a=rtpmap, a=fmtp, a=rtcp-fb.
bool split_payload(const std::string& value, std::string_view& payload, std::string_view& rest) {
  const size_t blank = value.find_first_of(" \t");
  if (blank == std::string::npos) return false;
  payload = std::string_view(value).substr(0, blank);
  const size_t start = value.find_first_not_of(" \t", blank);
  if (start == std::string::npos) return false;
  rest = std::string_view(value).substr(start);
  return true;
}

}  // namespace

const std::string* SdpAttributes::find(std::string_view name) const {
  for (const SdpAttribute& attribute : *this)
    if (attribute.name == name) return &attribute.value;
  return nullptr;
}

void SdpAttributes::add(std::string name, std::string value) {
  push_back({std::move(name), std::move(value)});
}

void SdpAttributes::remove(std::string_view name) {
  erase(std::remove_if(begin(), end(), [&](const SdpAttribute& a) { return a.name == name; }),
        end());
}

int64_t parse_number(std::string_view text, int64_t max) {
  if (text.empty() || text.size() > 18) return -1;
  int64_t value = 0;
  for (char c : text) {
    if (c < '0' || c > '9') return -1;
    value = value * 10 + (c - '0');
  }
  return value <= max ? value : -1;
}

std::vector<std::string_view> split_words(std::string_view text) {
  std::vector<std::string_view> words;
  size_t at = 0;
  while ((at = text.find_first_not_of(" \t", at)) != std::string_view::npos) {
    const size_t end = std::min(text.find_first_of(" \t", at), text.size());
    words.push_back(text.substr(at, end - at));
    at = end;
  }
  return words;
}

Result<SdpText> parse_sdp(const std::string& text) {
  if (text.size() > kMaxSdpBytes) return not_sdp("The description is too large.");
  if (!g_utf8_validate_len(text.data(), text.size(), nullptr))
    return not_sdp("The description is not text.");

  SdpText sdp;
  bool first = true, origin = false;
  size_t at = 0;
  while (at < text.size()) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = trim_end(std::string_view(text).substr(at, end - at));
    at = end + 1;
    if (line.empty()) continue;
    if (line.size() < 2 || line[1] != '=' || line[0] < 'a' || line[0] > 'z')
      return not_sdp("The description has a line that is not SDP.");
    if (std::any_of(line.begin(), line.end(),
                    [](char c) { return (c >= 0 && c < ' ' && c != '\t') || c == 0x7f; }))
      return not_sdp("The description has control characters.");
    const std::string_view value = line.substr(2);
    if (first && line != "v=0") return not_sdp("The description does not start with v=0.");
    first = false;
    if (line[0] == 'o' && sdp.sections.empty() && !origin) {
      const auto words = split_words(value);
      if (words.size() != 6) return not_sdp("The description has an ill-formed o= line.");
      sdp.session_id = std::string(words[1]);
      sdp.version = std::string(words[2]);
      origin = true;
    } else if (line[0] == 'm') {
      if (sdp.sections.size() == kMaxSdpSections)
        return not_sdp("The description has too many media sections.");
      Result<SdpSection> section = parse_media(value);
      if (!section) return section.error();
      sdp.sections.push_back(std::move(*section));
    } else if (line[0] == 'a') {
      const size_t colon = value.find(':');
      SdpAttribute attribute;
      attribute.name = std::string(value.substr(0, colon));
      if (!is_token(attribute.name)) return not_sdp("The description has an ill-formed attribute.");
      if (colon != std::string_view::npos) {
        std::string_view rest = value.substr(colon + 1);
        while (!rest.empty() && (rest.front() == ' ' || rest.front() == '\t'))
          rest.remove_prefix(1);
        attribute.value = std::string(rest);
      }
      SdpAttributes& target =
          sdp.sections.empty() ? sdp.attributes : sdp.sections.back().attributes;
      target.push_back(std::move(attribute));
    }
  }
  if (!origin) return not_sdp("The description has no o= line.");
  return sdp;
}

std::string write_sdp(const SdpText& sdp) {
  std::string out;
  const auto line = [&out](std::initializer_list<std::string_view> parts) {
    for (std::string_view part : parts) out += part;
    out += "\r\n";
  };
  const auto attributes = [&line](const SdpAttributes& list) {
    for (const SdpAttribute& a : list)
      a.value.empty() ? line({"a=", a.name}) : line({"a=", a.name, ":", a.value});
  };
  line({"v=0"});
  line({"o=- ", sdp.session_id, " ", sdp.version, " IN IP4 127.0.0.1"});
  line({"s=-"});
  line({"t=0 0"});
  attributes(sdp.attributes);
  for (const SdpSection& section : sdp.sections) {
    out += "m=" + section.media + " " + std::to_string(section.port) + " " + section.protocol;
    for (const std::string& format : section.formats) out += " " + format;
    out += "\r\n";
    line({"c=IN IP4 0.0.0.0"});
    attributes(section.attributes);
  }
  return out;
}

std::vector<SdpFormat> formats_of(const SdpSection& section) {
  std::vector<SdpFormat> formats;
  for (const std::string& name : section.formats) {
    SdpFormat format;
    format.payload = static_cast<int>(parse_number(name, 127));
    if (format.payload < 0 || (format.payload >= 64 && format.payload < 96)) continue;
    if (std::any_of(formats.begin(), formats.end(),
                    [&](const SdpFormat& f) { return f.payload == format.payload; }))
      continue;
    // the static payload types of RFC 3551 that this API knows
    if (format.payload == 0 || format.payload == 8) {
      format.encoding = format.payload == 0 ? "PCMU" : "PCMA";
      format.clock_rate = 8000;
    }
    for (const SdpAttribute& a : section.attributes) {
      std::string_view payload, rest;
      if ((a.name != "rtpmap" && a.name != "fmtp" && a.name != "rtcp-fb") ||
          !split_payload(a.value, payload, rest))
        continue;
      const bool ours = parse_number(payload, 127) == format.payload;
      if (a.name == "rtcp-fb" && (ours || payload == "*")) {
        if (format.feedback.size() < 32) format.feedback.emplace_back(rest);
      } else if (a.name == "fmtp" && ours && format.fmtp.empty()) {
        format.fmtp = std::string(rest);
      } else if (a.name == "rtpmap" && ours) {
        const size_t slash = rest.find('/');
        if (slash == std::string_view::npos) continue;
        std::string_view rate = rest.substr(slash + 1);
        const size_t second = rate.find('/');
        if (second != std::string_view::npos) {
          format.parameters = std::string(rate.substr(second + 1));
          rate = rate.substr(0, second);
        }
        const int64_t hz = parse_number(rate, 1000000);
        if (hz <= 0) continue;
        format.encoding = upper(rest.substr(0, slash));
        format.clock_rate = static_cast<int>(hz);
      }
    }
    if (!format.encoding.empty()) formats.push_back(std::move(format));
  }
  return formats;
}

void set_formats(SdpSection& section, const std::vector<SdpFormat>& formats) {
  section.formats.clear();
  section.attributes.remove("rtpmap");
  section.attributes.remove("fmtp");
  section.attributes.remove("rtcp-fb");
  for (const SdpFormat& format : formats) {
    const std::string payload = std::to_string(format.payload);
    section.formats.push_back(payload);
    // browsers and pion write these names in lower case
    const bool small = format.encoding == "OPUS" || format.encoding == "RTX";
    std::string map = payload + " " + (small ? lower(format.encoding) : format.encoding) + "/" +
                      std::to_string(format.clock_rate);
    if (!format.parameters.empty()) map += "/" + format.parameters;
    section.attributes.add("rtpmap", std::move(map));
    for (const std::string& feedback : format.feedback)
      section.attributes.add("rtcp-fb", payload + " " + feedback);
    if (!format.fmtp.empty()) section.attributes.add("fmtp", payload + " " + format.fmtp);
  }
}

int associated_payload(const SdpFormat& format) {
  if (format.encoding != "RTX") return -1;
  std::string_view rest = format.fmtp;
  while (!rest.empty()) {
    std::string_view item = rest.substr(0, rest.find(';'));
    rest.remove_prefix(std::min(item.size() + 1, rest.size()));
    while (!item.empty() && item.front() == ' ') item.remove_prefix(1);
    item = trim_end(item);
    if (item.substr(0, 4) == "apt=") return static_cast<int>(parse_number(item.substr(4), 127));
  }
  return -1;
}

}  // namespace cfr
