// SDP as text: a description in lines, read strictly and written the way browsers and pion expect
// (RFC 8866). Pure, any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "util/result.h"

namespace cfr {

// A description larger than this, or with more sections, is refused.
inline constexpr size_t kMaxSdpBytes = 256 * 1024;
inline constexpr size_t kMaxSdpSections = 256;

struct SdpAttribute {
  std::string name;
  std::string value;  // "" = a flag such as a=rtcp-mux
  bool operator==(const SdpAttribute&) const = default;
};

struct SdpAttributes : std::vector<SdpAttribute> {
  using std::vector<SdpAttribute>::vector;
  const std::string* find(std::string_view name) const;  // the first one's value
  bool has(std::string_view name) const { return find(name) != nullptr; }
  void add(std::string name, std::string value = {});
  void remove(std::string_view name);
};

struct SdpSection {
  std::string media;  // audio, video, application
  unsigned port = 9;
  std::string protocol = "UDP/TLS/RTP/SAVPF";
  std::vector<std::string> formats;
  SdpAttributes attributes;
};

struct SdpText {
  std::string session_id;  // of the o= line
  std::string version;
  SdpAttributes attributes;
  std::vector<SdpSection> sections;
};

// Reads a description. Trailing blanks of lines and bare LF are forgiven; anything that is not SDP
// is an error of kind protocol. Lines other than v=, o=, a= and m= are checked and left out.
Result<SdpText> parse_sdp(const std::string& text);
// Lines end with CRLF. Each section gets the c= line of bundled media.
std::string write_sdp(const SdpText& sdp);

// A payload type of a section, put together from its a=rtpmap, a=fmtp and a=rtcp-fb lines.
struct SdpFormat {
  int payload = -1;
  std::string encoding;    // upper case: H264, OPUS, RTX
  int clock_rate = 0;      // Hz
  std::string parameters;  // what follows the clock rate: channels of audio
  std::string fmtp;
  std::vector<std::string> feedback;  // "nack pli"; those of "*" included
  bool operator==(const SdpFormat&) const = default;
};

// The usable payload types in the order of the m= line: those with a known mapping, none twice,
// none in the range that collides with RTCP (RFC 5761 4).
std::vector<SdpFormat> formats_of(const SdpSection& section);
// Replaces the section's payload types and their lines.
void set_formats(SdpSection& section, const std::vector<SdpFormat>& formats);
// The payload type that `format`, an RTX format, repairs; -1 = none (RFC 4588 8.6).
int associated_payload(const SdpFormat& format);

// A non-negative decimal number, all of `text`; -1 = it is not one, or above `max`.
int64_t parse_number(std::string_view text, int64_t max);
// The words of `text` between blanks.
std::vector<std::string_view> split_words(std::string_view text);

}  // namespace cfr
