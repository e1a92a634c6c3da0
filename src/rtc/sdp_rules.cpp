#include "rtc/sdp_rules.h"

#include <gio/gio.h>

#include <algorithm>
#include <cstring>

namespace cfr::sdp_rules {

Error failure(ErrorKind kind, std::string message) {
  Error error;
  error.kind = kind;
  error.message = std::move(message);
  return error;
}

Error protocol_error(std::string message) {
  return failure(ErrorKind::protocol, std::move(message));
}

// The same codec, whatever its parameters.
bool same_codec(const SdpFormat& a, const SdpFormat& b) {
  return a.encoding == b.encoding && a.clock_rate == b.clock_rate &&
         associated_payload(a) == associated_payload(b);
}

bool is_media(const std::string& kind) {
  return kind == "audio" || kind == "video";
}

// RFC 8839 5.4 allows letters, digits, + and /; some agents use more.
bool is_ice_text(const std::string& text, size_t min) {
  return text.size() >= min && text.size() <= 256 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

bool is_mid(const std::string& mid) {
  return !mid.empty() && mid.size() <= 64 &&
         std::all_of(mid.begin(), mid.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

static size_t hash_bytes(const std::string& algorithm) {
  if (algorithm == "sha-256") return 32;
  if (algorithm == "sha-384") return 48;
  if (algorithm == "sha-512") return 64;
  return 0;
}

// The first fingerprint of a usable algorithm.
std::optional<Fingerprint> find_fingerprint(const SdpAttributes& attributes) {
  for (const SdpAttribute& a : attributes) {
    if (a.name != "fingerprint") continue;
    const auto words = split_words(a.value);
    if (words.size() != 2) continue;
    Fingerprint found{std::string(words[0]), std::string(words[1])};
    for (char& c : found.algorithm) c = g_ascii_tolower(c);
    for (char& c : found.value) c = g_ascii_toupper(c);
    const size_t bytes = hash_bytes(found.algorithm);
    bool good = bytes > 0 && found.value.size() == bytes * 3 - 1;
    for (size_t i = 0; good && i < found.value.size(); i++)
      good = i % 3 == 2 ? found.value[i] == ':' : g_ascii_isxdigit(found.value[i]);
    if (good) return found;
  }
  return std::nullopt;
}

Direction direction_of(const SdpText& sdp, const SdpSection& section) {
  for (const SdpAttributes* attributes : {&section.attributes, &sdp.attributes})
    for (const SdpAttribute& a : *attributes) {
      if (a.name == "sendonly") return Direction::sendonly;
      if (a.name == "recvonly") return Direction::recvonly;
      if (a.name == "inactive") return Direction::inactive;
      if (a.name == "sendrecv") return Direction::sendrecv;
    }
  return Direction::sendrecv;
}

bool sends(Direction direction) {
  return direction == Direction::sendonly || direction == Direction::sendrecv;
}

// Port 0 means rejected, unless the section only waits for its bundle (RFC 8843 6).
bool is_rejected(const SdpSection& section) {
  return section.port == 0 && !section.attributes.has("bundle-only");
}

// A candidate that webrtcbin can use: UDP, component 1 (rtcp-mux), an address rather than a name.
std::optional<std::string> usable_candidate(const std::string& value) {
  const auto words = split_words(value);
  if (words.size() < 8 || words[1] != "1" || words[6] != "typ") return std::nullopt;
  if (g_ascii_strncasecmp(words[2].data(), "udp", 3) != 0 || words[2].size() != 3)
    return std::nullopt;
  if (!g_hostname_is_ip_address(std::string(words[4]).c_str())) return std::nullopt;
  if (parse_number(words[5], 65535) <= 0 || parse_number(words[3], UINT32_MAX) < 0)
    return std::nullopt;
  return value;
}

// Only what can go into caps without colliding with the fields that GStreamer puts there itself.
std::string tidy_fmtp(const std::string& fmtp) {
  std::string out;
  std::string_view rest = fmtp;
  while (!rest.empty()) {
    std::string_view item = rest.substr(0, rest.find(';'));
    rest.remove_prefix(std::min(item.size() + 1, rest.size()));
    while (!item.empty() && item.front() == ' ') item.remove_prefix(1);
    while (!item.empty() && item.back() == ' ') item.remove_suffix(1);
    std::string key(item.substr(0, item.find('=')));
    for (char& c : key) c = g_ascii_tolower(c);
    const bool plain =
        !key.empty() && g_ascii_isalpha(key[0]) && std::all_of(key.begin(), key.end(), [](char c) {
          return g_ascii_isalnum(c) || c == '-' || c == '_';
        });
    if (!plain) continue;
    bool reserved = false;
    for (const char* prefix : {"a-", "extmap-", "rtcp-fb-", "ssrc", "x-gst", "rid-"})
      reserved = reserved || g_str_has_prefix(key.c_str(), prefix);
    for (const char* name : {"media", "payload", "clock-rate", "encoding-name", "encoding-params",
                             "seqnum-base", "clock-base", "npt-start", "npt-stop", "play-speed",
                             "play-scale", "timestamp-offset", "seqnum-offset", "is-fec"})
      reserved = reserved || key == name;
    if (reserved) continue;
    if (!out.empty()) out += ';';
    out += item;
  }
  return out;
}

// Feedback that both we and webrtcbin understand (RFC 4585, RFC 5104, draft-holmer-rmcat).
std::vector<std::string> known_feedback(const std::vector<std::string>& feedback) {
  std::vector<std::string> known;
  for (const char* name : {"nack", "nack pli", "ccm fir", "transport-cc"})
    if (std::find(feedback.begin(), feedback.end(), name) != feedback.end())
      known.emplace_back(name);
  return known;
}

static bool has_parameter(const std::string& fmtp, const char* key) {
  return (";" + fmtp).find(std::string(";") + key + "=") != std::string::npos;
}

// What a codec's peers expect to read and payloaders do not say.
void complete_fmtp(SdpFormat& format) {
  std::vector<std::string> wanted;
  if (format.encoding == "H264")
    wanted = {"level-asymmetry-allowed=1", "packetization-mode=1", "profile-level-id=42e01f"};
  if (format.encoding == "OPUS") wanted = {"minptime=10", "useinbandfec=1"};
  for (const std::string& item : wanted) {
    if (has_parameter(format.fmtp, item.substr(0, item.find('=')).c_str())) continue;
    format.fmtp += (format.fmtp.empty() ? "" : ";") + item;
  }
}

// RFC 8830: an msid identifier is a token of at most 64 characters.
bool is_msid_id(const std::string& name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return g_ascii_isalnum(c) || (c != '\0' && std::strchr("!#$%&'*+-.^_`{|}~", c));
  });
}

}  // namespace cfr::sdp_rules

namespace cfr {

std::string certificate_fingerprint(const std::string& pem, const std::string& algorithm) {
  static constexpr char kBegin[] = "-----BEGIN CERTIFICATE-----";
  const size_t begin = pem.find(kBegin);
  const size_t end = pem.find("-----END CERTIFICATE-----");
  if (begin == std::string::npos || end == std::string::npos || end < begin) return {};
  std::string body = pem.substr(begin + sizeof kBegin - 1, end - begin - (sizeof kBegin - 1));
  body.erase(std::remove_if(body.begin(), body.end(), [](char c) { return g_ascii_isspace(c); }),
             body.end());
  gsize size = 0;
  g_autofree guchar* der = g_base64_decode(body.c_str(), &size);
  GChecksumType type = G_CHECKSUM_SHA256;
  if (algorithm == "sha-384")
    type = G_CHECKSUM_SHA384;
  else if (algorithm == "sha-512")
    type = G_CHECKSUM_SHA512;
  else if (algorithm != "sha-256")
    return {};
  if (size == 0) return {};
  g_autofree gchar* hex = g_compute_checksum_for_data(type, der, size);
  std::string out;
  for (size_t i = 0; hex[i]; i++) {
    if (i > 0 && i % 2 == 0) out += ':';
    out += g_ascii_toupper(hex[i]);
  }
  return out;
}

}  // namespace cfr
