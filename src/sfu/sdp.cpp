#include "sfu/sdp.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>

namespace cfr::sfu {

namespace {

constexpr std::size_t kMaxSdpBytes = 512 * 1024, kMaxSections = 256, kMaxLines = 20000,
                      kMaxRids = 6;
// What is kept of one section. The rest is left out: it would be copied for every section and
// codec.
constexpr std::size_t kMaxFormats = 128, kMaxFmtpBytes = 4096, kMaxFeedback = 16,
                      kMaxExtensions = 64, kMaxUriBytes = 256;

constexpr char kMid[] = "urn:ietf:params:rtp-hdrext:sdes:mid";
constexpr char kRid[] = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
constexpr char kRepairedRid[] = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";
constexpr char kTransportCc[] =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
constexpr char kAbsSendTime[] = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";
constexpr char kAudioLevel[] = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";

Error bad(std::string text) {
  Error error;
  error.kind = ErrorKind::protocol;
  error.code = "invalid_session_description";
  error.message = std::move(text);
  return error;
}

std::vector<std::string> words(std::string_view text) {
  std::vector<std::string> result;
  std::size_t at = 0;
  while ((at = text.find_first_not_of(" \t", at)) != std::string_view::npos) {
    std::size_t end = std::min(text.find_first_of(" \t", at), text.size());
    result.emplace_back(text.substr(at, end - at));
    at = end;
  }
  return result;
}

std::optional<long> number(std::string_view text, long low, long high) {
  long value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < low || value > high)
    return std::nullopt;
  return value;
}

// RFC 8866: token; and what may stand in our lines.
bool is_token(std::string_view text, std::size_t longest) {
  return !text.empty() && text.size() <= longest &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return c > ' ' && c < 0x7f && c != '"' && c != ',' && c != '/' && c != ':' && c != ';' &&
                  c != '=' && c != '\\';
         });
}

// RFC 8851: rid-id.
bool is_rid(std::string_view text) {
  return is_token(text, 32) && std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return std::isalnum(c) || c == '-' || c == '_';
         });
}

struct KnownCodec {
  const char* name;
  const char* kind;
};
constexpr KnownCodec kCodecs[] = {{"H264", "video"}, {"H265", "video"}, {"VP8", "video"},
                                  {"VP9", "video"},  {"AV1", "video"},  {"opus", "audio"},
                                  {"PCMU", "audio"}, {"PCMA", "audio"}};

// Data channels: RFC 8841.
constexpr char kDataFormat[] = "webrtc-datachannel";
constexpr char kDataAttributes[] = "a=sctp-port:5000\r\na=max-message-size:65536\r\n";

std::string rtpmap(const MediaCodec& codec) {
  std::string line = "a=rtpmap:" + std::to_string(codec.payload_type) + " " + codec.name + "/" +
                     std::to_string(codec.clock_rate);
  if (codec.channels > 1) line += "/" + std::to_string(codec.channels);
  return line + "\r\n";
}

// A section while its lines are read.
struct Draft {
  ClientSection section;
  bool bundle_only = false, has_direction = false, allow_mixed = false, has_bundle = false;
  std::vector<std::string> bundle;  // mids of the group; of the session part
  long port = 0;
  std::string ufrag, pwd, fingerprint, setup;
  std::map<int, MediaCodec> codecs;                  // payload type ->
  std::map<int, std::string> fmtp;                   // also of rtx
  std::map<int, int> rtx;                            // rtx payload type -> apt
  std::map<int, std::vector<std::string>> feedback;  // -1: all
  std::vector<uint32_t> ssrcs;
  std::map<uint32_t, uint32_t> rtx_of;
  std::string simulcast;  // what follows "send"
};

void read_format(Draft& draft, std::string_view value) {  // 96 VP8/90000
  auto parts = words(value);
  if (parts.size() < 2) return;
  auto payload = number(parts[0], 0, 127);
  if (!payload) return;
  std::string name = parts[1].substr(0, parts[1].find('/'));
  MediaCodec codec;
  codec.payload_type = int(*payload);
  auto slash = parts[1].find('/');
  if (slash != std::string::npos) {
    std::string rest = parts[1].substr(slash + 1);
    auto second = rest.find('/');
    codec.clock_rate = int(number(rest.substr(0, second), 1, 1000000).value_or(90000));
    if (second != std::string::npos)
      codec.channels = int(number(rest.substr(second + 1), 1, 255).value_or(0));
  }
  codec.name = name;
  draft.codecs[int(*payload)] = codec;
}

void read_attribute(Draft& draft, std::string_view name, std::string_view value) {
  ClientSection& section = draft.section;
  if (name == "mid") {
    section.mid = value;
    section.named = true;
  } else if (name == "group") {
    auto parts = words(value);
    if (parts.empty() || parts[0] != "BUNDLE" || draft.has_bundle) return;
    draft.has_bundle = true;
    auto end = parts.begin() + std::ptrdiff_t(std::min(parts.size(), 1 + kMaxSections));
    draft.bundle.assign(parts.begin() + 1, end);
  } else if (name == "extmap-allow-mixed") {
    draft.allow_mixed = true;
  } else if (name == "sendrecv" || name == "sendonly" || name == "recvonly" || name == "inactive") {
    draft.has_direction = true;
    section.direction = name == "sendrecv"   ? Direction::sendrecv
                        : name == "sendonly" ? Direction::sendonly
                        : name == "recvonly" ? Direction::recvonly
                                             : Direction::inactive;
  } else if (name == "bundle-only") {
    draft.bundle_only = true;
  } else if (name == "ice-ufrag") {
    draft.ufrag = value;
  } else if (name == "ice-pwd") {
    draft.pwd = value;
  } else if (name == "fingerprint") {
    // One that everyone can check, if there are several.
    bool sha256 = value.size() > 8 && same_codec(std::string(value.substr(0, 8)), "sha-256 ");
    if (draft.fingerprint.empty() || sha256) draft.fingerprint = value;
  } else if (name == "setup") {
    draft.setup = value;
  } else if (name == "rtpmap") {
    read_format(draft, value);
  } else if (name == "fmtp") {
    auto space = value.find(' ');
    auto payload = number(value.substr(0, space), 0, 127);
    if (payload && space != std::string_view::npos && value.size() <= kMaxFmtpBytes)
      draft.fmtp[int(*payload)] = value.substr(space + 1);
  } else if (name == "rtcp-fb") {
    auto space = value.find(' ');
    if (space == std::string_view::npos) return;
    auto payload = value.substr(0, space) == "*" ? std::optional<long>(-1)
                                                 : number(value.substr(0, space), 0, 127);
    std::string what;
    for (const std::string& word : words(value.substr(space)))
      what += (what.empty() ? "" : " ") + word;
    if (!payload) return;
    auto& known = draft.feedback[int(*payload)];
    if (known.size() < kMaxFeedback) known.push_back(what);
  } else if (name == "extmap") {  // 3/sendonly urn:... attributes
    auto parts = words(value);
    if (parts.size() < 2) return;
    auto id = number(parts[0].substr(0, parts[0].find('/')), 1, 14);
    if (id && parts[1].size() <= kMaxUriBytes && section.extensions.size() < kMaxExtensions)
      section.extensions.emplace(parts[1], int(*id));
  } else if (name == "ssrc") {
    auto parts = words(value);
    auto ssrc = parts.empty() ? std::nullopt : number(parts[0], 1, 0xffffffffL);
    if (ssrc && draft.ssrcs.size() < 64 &&
        std::find(draft.ssrcs.begin(), draft.ssrcs.end(), uint32_t(*ssrc)) == draft.ssrcs.end())
      draft.ssrcs.push_back(uint32_t(*ssrc));
  } else if (name == "ssrc-group") {
    auto parts = words(value);
    if (parts.size() != 3 || parts[0] != "FID") return;
    auto media = number(parts[1], 1, 0xffffffffL), rtx = number(parts[2], 1, 0xffffffffL);
    if (media && rtx) draft.rtx_of[uint32_t(*media)] = uint32_t(*rtx);
  } else if (name == "rid") {
    auto parts = words(value);
    if (parts.size() >= 2 && parts[1] == "send" && section.rids.size() < kMaxRids &&
        is_rid(parts[0]))
      section.rids.push_back(parts[0]);
  } else if (name == "simulcast") {  // send f;~h,x;q recv ...
    auto parts = words(value);
    for (std::size_t i = 0; i + 1 < parts.size(); ++i)
      if (parts[i] == "send") draft.simulcast = parts[i + 1];
  }
}

void finish(Draft& draft) {
  ClientSection& section = draft.section;
  section.rejected = draft.port == 0 && !draft.bundle_only;
  if (is_data(section.kind, section.protocol)) section.direction = Direction::inactive;
  // The static ones need no rtpmap (RFC 3551).
  for (const std::string& format : section.formats) {
    auto payload = number(format, 0, 127);
    if (!payload || draft.codecs.count(int(*payload)) || section.kind != "audio") continue;
    if (*payload == 0) draft.codecs[0] = {"PCMU", 0, 8000, 1, ""};
    if (*payload == 8) draft.codecs[8] = {"PCMA", 8, 8000, 1, ""};
  }
  for (auto& [payload, codec] : draft.codecs) {
    if (!same_codec(codec.name, "rtx")) continue;
    std::string fmtp = draft.fmtp[payload];
    auto at = fmtp.find("apt=");
    if (at == std::string::npos) continue;
    std::string digits = fmtp.substr(at + 4, fmtp.find_first_not_of("0123456789", at + 4) - at - 4);
    if (auto apt = number(digits, 0, 127)) draft.rtx[int(*apt)] = payload;
  }
  for (const std::string& format : section.formats) {  // in the client's order
    auto payload = number(format, 0, 127);
    if (!payload) continue;
    auto found = draft.codecs.find(int(*payload));
    if (found == draft.codecs.end()) continue;
    MediaCodec codec = found->second;
    bool known = false;
    for (const KnownCodec& candidate : kCodecs) {
      if (!same_codec(codec.name, candidate.name) || section.kind != candidate.kind) continue;
      known = true;
      codec.name = candidate.name;  // a client may write it in other letters
    }
    bool repeated = std::any_of(section.codecs.begin(), section.codecs.end(), [&](auto& other) {
      return other.payload_type == codec.payload_type;
    });
    if (!known || repeated) continue;
    codec.fmtp = draft.fmtp[codec.payload_type];
    if (auto rtx = draft.rtx.find(codec.payload_type); rtx != draft.rtx.end())
      codec.rtx_payload_type = rtx->second;
    for (int key : {-1, codec.payload_type})
      for (const std::string& what : draft.feedback[key]) {
        if (what == "nack")
          codec.nack = true;
        else if (what == "nack pli")
          codec.pli = true;
        else if (what == "ccm fir")
          codec.fir = true;
        else if (what == "transport-cc")
          codec.transport_cc = true;
        else if (what == "goog-remb")
          codec.remb = true;
      }
    section.codecs.push_back(codec);
  }
  if (!draft.simulcast.empty()) {  // its order counts; of alternatives the first
    std::vector<std::string> ordered;
    for (std::size_t at = 0; at <= draft.simulcast.size();) {
      std::size_t end = std::min(draft.simulcast.find(';', at), draft.simulcast.size());
      std::string rid = draft.simulcast.substr(at, end - at);
      rid = rid.substr(0, rid.find(','));
      if (!rid.empty() && rid[0] == '~') rid.erase(0, 1);
      for (const std::string& known : section.rids)
        if (known == rid && ordered.size() < kMaxRids) ordered.push_back(rid);
      at = end + 1;
    }
    section.rids = std::move(ordered);
  }
  std::vector<uint32_t> repairs;
  for (auto [media, rtx] : draft.rtx_of) repairs.push_back(rtx);
  for (uint32_t ssrc : draft.ssrcs) {
    if (std::find(repairs.begin(), repairs.end(), ssrc) != repairs.end()) continue;
    auto rtx = draft.rtx_of.find(ssrc);
    section.ssrcs.push_back({ssrc, rtx == draft.rtx_of.end() ? 0 : rtx->second});
  }
}

}  // namespace

bool is_data(const std::string& kind, const std::string& protocol) {
  return kind == "application" && (protocol == "UDP/DTLS/SCTP" || protocol == "TCP/DTLS/SCTP");
}

bool same_codec(const std::string& a, const std::string& b) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [](unsigned char x, unsigned char y) {
           return std::tolower(x) == std::tolower(y);
         });
}

Direction reversed(Direction direction) {
  switch (direction) {
    case Direction::sendonly: return Direction::recvonly;
    case Direction::recvonly: return Direction::sendonly;
    default: return direction;
  }
}

const std::vector<std::string>& known_extensions(const std::string& kind) {
  static const std::vector<std::string> audio = {kMid, kTransportCc, kAbsSendTime, kAudioLevel};
  static const std::vector<std::string> video = {kMid, kRid, kRepairedRid, kTransportCc,
                                                 kAbsSendTime};
  return kind == "audio" ? audio : video;
}

ExtensionIds extension_ids(const std::map<std::string, int>& extensions) {
  auto id = [&](const char* uri) {
    auto found = extensions.find(uri);
    return found == extensions.end() ? 0 : found->second;
  };
  return {id(kMid),         id(kRid),         id(kRepairedRid),
          id(kTransportCc), id(kAbsSendTime), id(kAudioLevel)};
}

Result<ClientDescription> read_description(std::string_view text) {
  if (text.size() > kMaxSdpBytes) return bad("SDP is too long");
  if (text.empty()) return bad("SDP is empty");
  if (text.back() != '\n') return bad("Unable to parse SDP: missing termination at the end");
  ClientDescription description;
  Draft session;
  std::vector<Draft> drafts;
  std::size_t lines = 0;
  bool has_version = false;
  while (!text.empty()) {
    std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    while (!line.empty() && std::isspace(static_cast<unsigned char>(line.back())))
      line.remove_suffix(1);
    if (line.empty()) continue;
    if (++lines > kMaxLines) return bad("SDP has too many lines");
    if (line.size() < 2 || line[1] != '=')
      return bad("Unable to parse SDP: a line is not of the form x=value");
    if (std::any_of(line.begin(), line.end(), [](unsigned char c) { return c < ' ' && c != '\t'; }))
      return bad("Unable to parse SDP: a control character in a line");
    std::string_view value = line.substr(2);
    if (line[0] == 'v') {
      if (value != "0") return bad("Unable to parse SDP: unknown version");
      has_version = true;
    } else if (line[0] == 'm') {
      if (drafts.size() >= kMaxSections) return bad("SDP has too many media sections");
      auto parts = words(value);
      if (parts.size() < 4) return bad("Unable to parse SDP: incomplete media line");
      Draft draft;
      auto port = number(parts[1].substr(0, parts[1].find('/')), 0, 65535);
      if (!port) return bad("Unable to parse SDP: bad port in a media line");
      draft.port = *port;
      if (!is_token(parts[0], 32)) return bad("Unable to parse SDP: bad kind of media");
      draft.section.kind = parts[0];
      draft.section.protocol = parts[2];
      auto& formats = draft.section.formats;
      for (std::size_t i = 3; i < parts.size() && formats.size() < kMaxFormats; ++i)
        if (std::find(formats.begin(), formats.end(), parts[i]) == formats.end())
          formats.push_back(parts[i]);
      drafts.push_back(std::move(draft));
    } else if (line[0] == 'a') {
      auto colon = value.find(':');
      read_attribute(drafts.empty() ? session : drafts.back(), value.substr(0, colon),
                     colon == std::string_view::npos ? "" : value.substr(colon + 1));
    }
  }
  if (!has_version) return bad("Unable to parse SDP: no version line");
  if (drafts.empty()) return bad("SDP contains no media section");

  description.allow_mixed = session.allow_mixed;
  description.has_bundle = session.has_bundle;
  std::map<std::string, int> seen;
  for (std::size_t i = 0; i < drafts.size(); ++i) {
    Draft& draft = drafts[i];
    ClientSection& section = draft.section;
    if (!section.named) section.mid = std::to_string(i);
    if (!is_token(section.mid, 64)) return bad("SDP contains a mid that is none");
    if (seen[section.mid]++) return bad("SDP contains a mid twice");
    if (!draft.has_direction && session.has_direction)
      section.direction = session.section.direction;
    for (const auto& extension : session.section.extensions)
      if (section.extensions.size() < kMaxExtensions) section.extensions.insert(extension);
    section.bundled = std::find(session.bundle.begin(), session.bundle.end(), section.mid) !=
                      session.bundle.end();
    finish(draft);
  }
  // The transport of the group is that of its first section (RFC 8843, section 7), which is the
  // only one where there is no group.
  const Draft* tagged = nullptr;
  for (bool grouped : {true, false})
    for (const Draft& draft : drafts)
      if (!tagged && !draft.section.rejected && (draft.section.bundled || !grouped))
        tagged = &draft;
  if (!tagged) tagged = &drafts.front();  // all is over
  auto either = [](const std::string& of_section, const std::string& of_session) {
    return of_section.empty() ? of_session : of_section;
  };
  std::string ufrag = either(tagged->ufrag, session.ufrag), pwd = either(tagged->pwd, session.pwd);
  bool over = tagged->section.rejected;
  if (ufrag.empty() && !over) return bad("SDP contains no ice-ufrag");
  if (pwd.empty() && !over) return bad("SDP contains no ice-pwd");
  // RFC 8839, section 5.4.
  if (!over && (ufrag.size() < 4 || ufrag.size() > 256 || pwd.size() < 22 || pwd.size() > 256))
    return bad("SDP contains ICE credentials of a wrong length");
  auto parts = words(either(tagged->fingerprint, session.fingerprint));
  if (parts.size() != 2) {
    if (!over) return bad("SDP contains no fingerprint");
    parts = {"", ""};
  }
  bool passive = either(tagged->setup, session.setup) == "passive";
  description.transport = {ufrag, pwd, parts[0], parts[1], passive};
  for (Draft& draft : drafts) description.sections.push_back(std::move(draft.section));
  return description;
}

std::string write_description(const DescriptionHead& head, const LocalTransport& transport,
                              const std::vector<OurSection>& sections) {
  std::string out = "v=0\r\no=- " + std::to_string(head.origin_id) + " " +
                    std::to_string(head.version) +
                    " IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=msid-semantic:WMS*\r\n";
  out += "a=fingerprint:sha-256 " + transport.fingerprint + "\r\na=ice-lite\r\n";
  if (head.allow_mixed) out += "a=extmap-allow-mixed\r\n";
  std::string group;
  for (const OurSection& section : sections)
    if (!section.rejected) group += " " + section.mid;
  if (head.bundle && !group.empty()) out += "a=group:BUNDLE" + group + "\r\n";
  bool first = true;
  for (const OurSection& section : sections) {
    std::string line = "m=" + section.kind + (section.rejected ? " 0 " : " 9 ") + section.protocol;
    if (section.rejected) {
      for (const std::string& format : section.formats) line += " " + format;
      out += line + "\r\nc=IN IP4 0.0.0.0\r\na=mid:" + section.mid + "\r\n";
      // Not needed (RFC 8829, section 5.3.1), but there are clients that look for a codec.
      for (const MediaCodec& codec : section.codecs) out += rtpmap(codec);
      out += "a=inactive\r\n";
      continue;
    }
    const bool data = is_data(section.kind, section.protocol);
    if (data) line += std::string(" ") + kDataFormat;
    for (const MediaCodec& codec : section.codecs) {
      line += " " + std::to_string(codec.payload_type);
      if (codec.rtx_payload_type >= 0) line += " " + std::to_string(codec.rtx_payload_type);
    }
    out += line + "\r\nc=IN IP4 0.0.0.0\r\n";
    out += std::string("a=setup:") +
           (head.is_offer        ? "actpass"
            : head.we_are_client ? "active"
                                 : "passive") +
           "\r\n";
    out += "a=mid:" + section.mid + "\r\na=ice-ufrag:" + transport.ufrag +
           "\r\na=ice-pwd:" + transport.pwd + "\r\n";
    out += data ? kDataAttributes : "a=rtcp-mux\r\na=rtcp-rsize\r\n";
    for (const MediaCodec& codec : section.codecs) {
      std::string pt = std::to_string(codec.payload_type);
      out += rtpmap(codec);
      if (!codec.fmtp.empty()) out += "a=fmtp:" + pt + " " + codec.fmtp + "\r\n";
      auto feedback = [&](bool wanted, const char* what) {
        if (wanted) out += "a=rtcp-fb:" + pt + " " + what + "\r\n";
      };
      feedback(codec.remb, "goog-remb");
      feedback(codec.fir, "ccm fir");
      feedback(codec.nack, "nack");
      feedback(codec.pli, "nack pli");
      feedback(codec.transport_cc, "transport-cc");
      if (codec.rtx_payload_type >= 0) {
        std::string rtx = std::to_string(codec.rtx_payload_type);
        out += "a=rtpmap:" + rtx + " rtx/" + std::to_string(codec.clock_rate) +
               "\r\na=fmtp:" + rtx + " apt=" + pt + "\r\n";
      }
    }
    for (const auto& [uri, id] : section.extensions)
      out += "a=extmap:" + std::to_string(id) + " " + uri + "\r\n";
    if (!section.receive_rids.empty()) {
      std::string all;
      for (const std::string& rid : section.receive_rids) {
        out += "a=rid:" + rid + " recv\r\n";
        all += (all.empty() ? "" : ";") + rid;
      }
      out += "a=simulcast:recv " + all + "\r\n";
    }
    if (section.ssrcs.ssrc) {
      std::string ssrc = std::to_string(section.ssrcs.ssrc);
      std::string rtx = std::to_string(section.ssrcs.rtx_ssrc);
      std::string msid = section.cname + " " + section.stream_id;
      if (section.ssrcs.rtx_ssrc) out += "a=ssrc-group:FID " + ssrc + " " + rtx + "\r\n";
      for (const std::string& each :
           section.ssrcs.rtx_ssrc ? std::vector{ssrc, rtx} : std::vector{ssrc})
        out += "a=ssrc:" + each + " cname:" + section.cname + "\r\na=ssrc:" + each +
               " msid:" + msid + "\r\n";
      out += "a=msid:" + msid + "\r\n";
    }
    static const char* const names[] = {"sendrecv", "sendonly", "recvonly", "inactive"};
    if (!data) out += std::string("a=") + names[int(section.direction)] + "\r\n";
    if (std::exchange(first, false)) {
      std::string address = transport.address + " " + std::to_string(transport.port) + " typ host";
      out += "a=candidate:1 1 udp 2130706431 " + address + "\r\na=candidate:1 2 udp 2130706431 " +
             address + "\r\na=end-of-candidates\r\n";
    }
  }
  return out;
}

}  // namespace cfr::sfu
