#include "rtc/sdp.h"

#include <gio/gio.h>

#include <algorithm>
#include <cstring>

namespace cfr {

namespace {

constexpr size_t kMaxCandidates = 64;
constexpr size_t kMaxSsrcs = 1024;  // announced by one section

Error failure(ErrorKind kind, std::string message) {
  Error error;
  error.kind = kind;
  error.message = std::move(message);
  return error;
}

Error protocol_error(std::string message) {
  return failure(ErrorKind::protocol, std::move(message));
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

// The same codec, whatever its parameters.
bool same_codec(const SdpFormat& a, const SdpFormat& b) {
  return a.encoding == b.encoding && a.clock_rate == b.clock_rate &&
         associated_payload(a) == associated_payload(b);
}

bool is_media(const std::string& kind) {
  return kind == "audio" || kind == "video";
}

// RFC 8839 5.4: ice-char
bool is_ice_text(const std::string& text, size_t min) {
  return text.size() >= min && text.size() <= 256 &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return g_ascii_isalnum(c) || c == '+' || c == '/'; });
}

// pion and others use a few more characters than ice-char; libnice takes any.
bool is_usable_ice_text(const std::string& text, size_t min) {
  return is_ice_text(text, min) ||
         (text.size() >= min && text.size() <= 256 &&
          std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; }));
}

bool is_mid(const std::string& mid) {
  return !mid.empty() && mid.size() <= 64 &&
         std::all_of(mid.begin(), mid.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

struct Fingerprint {
  std::string algorithm, value;
};

size_t hash_bytes(const std::string& algorithm) {
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

enum class Direction { sendrecv, sendonly, recvonly, inactive };

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

bool has_parameter(const std::string& fmtp, const char* key) {
  return contains(";" + fmtp, std::string(";") + key + "=");
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

}  // namespace

SdpDialog::SdpDialog(std::string token, std::set<std::string> receivable, uint32_t (*random)())
    : token_(std::move(token)), receivable_(std::move(receivable)), random_(random) {}

SdpDialog::Entry* SdpDialog::entry(const std::string& mid) {
  for (Entry& e : entries_)
    if (e.mid == mid) return &e;
  return nullptr;
}

const SdpDialog::Entry* SdpDialog::live_entry(const std::string& mid) const {
  for (const Entry& e : entries_)
    if (e.mid == mid && !e.ours && !e.rejected && !e.closed) return &e;
  return nullptr;
}

// `wish` if nothing else uses it, else another dynamic payload type; -1 = all are taken.
int SdpDialog::free_payload(int wish) const {
  const auto is_free = [this](int payload) { return payloads_.count(payload) == 0; };
  if (wish >= 96 && wish <= 127 && is_free(wish)) return wish;
  for (int payload = 127; payload >= 96; payload--)
    if (is_free(payload)) return payload;
  for (int payload = 63; payload >= 35; payload--)
    if (is_free(payload)) return payload;
  return -1;
}

Result<std::string> SdpDialog::add_track(const SdpTrack& track) {
  if (entries_.size() >= kMaxSdpSections)
    return failure(ErrorKind::peer, "The connection has too many tracks.");
  Entry e;
  e.kind = track.kind;
  e.ours = true;
  e.track = track;
  complete_fmtp(e.track.format);
  const SdpFormat& format = e.track.format;
  const auto known = payloads_.find(format.payload);
  if (known != payloads_.end() && !same_codec(known->second, format))
    return failure(ErrorKind::peer, "Payload type " + std::to_string(format.payload) +
                                        " is in use for another codec on this connection.");
  payloads_.emplace(format.payload, format);
  if (e.kind == "video") {
    auto rtx = rtx_payloads_.find(format.payload);
    if (rtx == rtx_payloads_.end()) {
      // One retransmission payload type per codec, next to it as browsers number them.
      SdpFormat repair;
      repair.payload = free_payload(format.payload + 1);
      if (repair.payload >= 0) {
        repair.encoding = "RTX";
        repair.clock_rate = format.clock_rate;
        repair.fmtp = "apt=" + std::to_string(format.payload);
        payloads_.emplace(repair.payload, repair);
        rtx = rtx_payloads_.emplace(format.payload, repair.payload).first;
      }
    }
    while (rtx != rtx_payloads_.end() && e.rtx_ssrc == 0) {
      const uint32_t ssrc = random_();
      const bool used = ssrc == track.ssrc ||
                        std::any_of(entries_.begin(), entries_.end(), [ssrc](const Entry& other) {
                          return other.track.ssrc == ssrc || other.rtx_ssrc == ssrc;
                        });
      if (!used) e.rtx_ssrc = ssrc;
    }
  }
  // mids count up as the SFU's own do; never one that was in use before
  size_t number = entries_.size();
  while (entry(std::to_string(number))) number++;
  e.mid = std::to_string(number);
  e.wire_payload = format.payload;
  describe_track(e);
  entries_.push_back(std::move(e));
  return entries_.back().mid;
}

void SdpDialog::describe_track(Entry& e) {
  SdpSection& section = e.local;
  section.media = e.kind;
  const bool video = e.kind == "video";
  for (const RtpExtension& extension : kRtpExtensions)
    if (video ? extension.video : extension.audio)
      section.attributes.add("extmap", std::to_string(extension.id) + " " + extension.uri);
  const std::string msid =
      token_ + " " + (is_msid_id(e.track.name) ? e.track.name : "track-" + e.mid);
  section.attributes.add("msid", msid);
  section.attributes.add("rtcp-mux");
  section.attributes.add("rtcp-rsize");
  SdpFormat format = e.track.format;
  format.feedback = video ? std::vector<std::string>{"transport-cc", "ccm fir", "nack", "nack pli"}
                          : std::vector<std::string>{"transport-cc"};
  std::vector<SdpFormat> formats = {format};
  const auto rtx = rtx_payloads_.find(format.payload);
  if (e.rtx_ssrc && rtx != rtx_payloads_.end()) formats.push_back(payloads_.at(rtx->second));
  set_formats(section, formats);
  const std::string ssrc = std::to_string(e.track.ssrc);
  const std::string repair = std::to_string(e.rtx_ssrc);
  if (e.rtx_ssrc) section.attributes.add("ssrc-group", "FID " + ssrc + " " + repair);
  for (const std::string& id : {ssrc, repair}) {
    if (id == "0") continue;
    section.attributes.add("ssrc", id + " cname:" + token_);
    section.attributes.add("ssrc", id + " msid:" + msid);
  }
}

bool SdpDialog::has_track(uint32_t id) const {
  return mid_of(id).has_value();
}

std::optional<std::string> SdpDialog::mid_of(uint32_t track) const {
  for (const Entry& e : entries_)
    if (e.ours && e.track.id == track) return e.mid;
  return std::nullopt;
}

std::optional<int> SdpDialog::renumbered(uint32_t track) const {
  for (const Entry& e : entries_)
    if (e.ours && e.track.id == track && e.wire_payload != e.track.format.payload)
      return e.wire_payload;
  return std::nullopt;
}

std::vector<SdpDialog::Repair> SdpDialog::repairs() const {
  std::vector<Repair> repairs;
  for (const Entry& e : entries_)
    if (e.ours && e.rtx_ssrc) repairs.push_back({e.track.ssrc, e.rtx_ssrc});
  return repairs;
}

void SdpDialog::close(const std::string& mid) {
  if (Entry* e = entry(mid)) e->closed = true;
}

std::optional<Error> SdpDialog::learn_generated(const std::string& generated) {
  Result<SdpText> sdp = parse_sdp(generated);
  if (!sdp) return failure(ErrorKind::peer, "webrtcbin made a description that cannot be read.");
  if (sdp->sections.size() != entries_.size())
    return failure(ErrorKind::peer, "webrtcbin left out a media section.");
  if (session_id_.empty())
    session_id_ = std::to_string(g_random_int_range(1, G_MAXINT32)) +
                  std::to_string(g_random_int_range(100000, G_MAXINT32));
  for (size_t i = 0; i < entries_.size(); i++) {
    const SdpSection& section = sdp->sections[i];
    const std::string* mid = section.attributes.find("mid");
    if (!mid || *mid != entries_[i].mid)
      return failure(ErrorKind::peer, "webrtcbin mixed up the media sections.");
    // A section that webrtcbin rejects is a copy of the offer, with the other side's credentials.
    if (is_rejected(section)) continue;
    const std::string* ufrag = section.attributes.find("ice-ufrag");
    const std::string* pwd = section.attributes.find("ice-pwd");
    const std::string* fingerprint = section.attributes.find("fingerprint");
    if (!ufrag || !pwd || !fingerprint || *ufrag == remote_ufrag_) continue;
    if (!ufrag_.empty() && ufrag_ == *ufrag) break;
    ufrag_ = *ufrag;
    pwd_ = *pwd;
    fingerprint_ = *fingerprint;
    break;
  }
  if (ufrag_.empty() || fingerprint_.empty())
    return failure(ErrorKind::peer, "webrtcbin gave no credentials.");
  return std::nullopt;
}

// A section that exists for webrtcbin only: of the same kind, with a codec that never comes. It
// keeps the numbering of sections, and the first one as the transport's (see docs/webrtcbin.md).
SdpSection SdpDialog::placeholder(const Entry& e) const {
  SdpSection section;
  section.media = is_media(e.kind) ? e.kind : "audio";
  SdpFormat none;
  none.payload = free_payload(-1);
  if (none.payload < 0) none.payload = 0;
  none.encoding = "X-NONE";
  none.clock_rate = section.media == "video" ? 90000 : 8000;
  set_formats(section, {none});
  return section;
}

SdpText SdpDialog::inner_frame() const {
  SdpText sdp;
  sdp.session_id = session_id_.empty() ? "1" : session_id_;
  sdp.version = std::to_string(version_);
  std::string group = "BUNDLE";
  for (const Entry& e : entries_) group += " " + e.mid;
  sdp.attributes.add("group", group);
  return sdp;
}

SdpDialog::Texts SdpDialog::local_texts(bool is_offer) {
  version_++;
  SdpText inner = inner_frame();
  SdpText wire;
  wire.session_id = session_id_;
  wire.version = std::to_string(version_);
  std::string group = "BUNDLE";
  for (const Entry& e : entries_)
    if (!e.rejected) group += " " + e.mid;
  if (group != "BUNDLE") wire.attributes.add("group", group);
  wire.attributes.add("msid-semantic", "WMS *");
  wire.attributes.add("ice-options", "trickle");

  const char* role = role_ == Role::passive ? "passive" : "active";
  const char* inner_setup = role_ == Role::unknown ? "actpass" : role;
  const char* wire_setup = is_offer ? "actpass" : role;
  for (const Entry& e : entries_) {
    const auto with_transport = [&](const SdpSection& body, const char* setup,
                                    const char* direction) {
      SdpSection section = body;
      SdpAttributes attributes;
      attributes.add("ice-ufrag", ufrag_);
      attributes.add("ice-pwd", pwd_);
      attributes.add("fingerprint", fingerprint_);
      attributes.add("setup", setup);
      attributes.add("mid", e.mid);
      attributes.add(direction);
      attributes.insert(attributes.end(), body.attributes.begin(), body.attributes.end());
      section.attributes = std::move(attributes);
      return section;
    };
    const bool usable = is_media(e.kind) && !e.local.formats.empty() && !(e.rejected && !e.ours);
    SdpSection body = usable ? e.local : placeholder(e);
    if (!body.attributes.has("rtcp-mux")) body.attributes.add("rtcp-mux");
    inner.sections.push_back(with_transport(body, inner_setup, e.ours ? "sendonly" : "recvonly"));

    if (e.rejected) {
      SdpSection section;
      section.media = e.kind;
      section.port = 0;
      section.protocol = e.local.protocol;
      section.formats = e.local.formats;
      if (section.formats.empty()) section.formats = {"0"};
      section.attributes.add("mid", e.mid);
      section.attributes.add("inactive");
      for (const SdpAttribute& a : e.local.attributes)
        if (a.name == "rtpmap") section.attributes.push_back(a);
      wire.sections.push_back(std::move(section));
      continue;
    }
    const char* direction = e.closed ? "inactive" : e.ours ? "sendonly" : "recvonly";
    wire.sections.push_back(with_transport(e.local, wire_setup, direction));
  }
  return {write_sdp(wire), write_sdp(inner)};
}

Result<SdpDialog::Texts> SdpDialog::offer(const std::string& generated) {
  if (auto error = learn_generated(generated)) return *error;
  return local_texts(true);
}

Result<SdpDialog::Texts> SdpDialog::answer(const std::string& generated) {
  if (auto error = learn_generated(generated)) return *error;
  return local_texts(false);
}

std::string SdpDialog::with_candidates(const std::string& wire,
                                       const std::vector<std::string>& candidates) {
  Result<SdpText> sdp = parse_sdp(wire);
  if (!sdp) return wire;
  for (SdpSection& section : sdp->sections) {
    if (section.port == 0) continue;
    SdpAttributes lines;
    for (const std::string& candidate : candidates) {
      const size_t colon = candidate.find(':');
      const std::string value =
          colon == std::string::npos ? candidate : candidate.substr(colon + 1);
      const auto words = split_words(value);
      if (words.size() >= 8 && words[1] == "1") lines.add("candidate", value);
    }
    section.attributes.insert(section.attributes.begin(), lines.begin(), lines.end());
    break;
  }
  return write_sdp(*sdp);
}

std::optional<Error> SdpDialog::learn_remote(const SdpText& sdp, bool is_offer) {
  std::string ufrag, pwd, setup;
  std::optional<Fingerprint> fingerprint;
  bool differs = false;
  const auto take = [&](const SdpAttributes& attributes) {
    const std::string* u = attributes.find("ice-ufrag");
    const std::string* p = attributes.find("ice-pwd");
    const std::string* s = attributes.find("setup");
    if (u && p) {
      differs = differs || (!ufrag.empty() && (ufrag != *u || pwd != *p));
      ufrag = *u;
      pwd = *p;
    }
    if (auto found = find_fingerprint(attributes)) {
      if (fingerprint && (fingerprint->value != found->value)) differs = true;
      fingerprint = found;
    }
    if (s && setup.empty()) setup = *s;
  };
  // Rejected sections count only where no other says anything.
  for (const SdpSection& section : sdp.sections)
    if (!is_rejected(section)) take(section.attributes);
  if (ufrag.empty() || !fingerprint || setup.empty()) {
    const bool had = !ufrag.empty(), had_fingerprint = fingerprint.has_value();
    const std::string u = ufrag, p = pwd;
    const auto f = fingerprint;
    take(sdp.attributes);
    if (had) ufrag = u, pwd = p, differs = false;
    if (had_fingerprint) fingerprint = f, differs = false;
  }
  if (ufrag.empty() || !fingerprint)
    for (const SdpSection& section : sdp.sections)
      if (ufrag.empty() || !fingerprint) take(section.attributes);
  if (differs) return protocol_error("The SFU's description does not bundle its media sections.");
  if (!is_usable_ice_text(ufrag, 4) || !is_usable_ice_text(pwd, 22))
    return protocol_error("The SFU's description has no usable ICE credentials.");
  if (!fingerprint)
    return protocol_error("The SFU's description has no usable certificate fingerprint.");
  if (!remote_ufrag_.empty() && (remote_ufrag_ != ufrag || remote_pwd_ != pwd))
    return failure(ErrorKind::gone, "The SFU asks for an ICE restart; a new session is needed.");
  if (!remote_fingerprint_.empty() && remote_fingerprint_ != fingerprint->value)
    return failure(ErrorKind::gone, "The SFU changed its certificate; a new session is needed.");
  remote_ufrag_ = ufrag;
  remote_pwd_ = pwd;
  remote_fingerprint_ = fingerprint->value;
  remote_algorithm_ = fingerprint->algorithm;
  remote_lite_ = remote_lite_ || sdp.attributes.has("ice-lite");
  // Who is the DTLS client is decided once; a later description cannot turn it round.
  if (role_ == Role::unknown) role_ = setup == "active" ? Role::passive : Role::active;

  std::vector<std::string> candidates;
  const auto collect = [&candidates](const SdpAttributes& attributes) {
    for (const SdpAttribute& a : attributes) {
      if (a.name != "candidate" || candidates.size() >= kMaxCandidates) continue;
      auto candidate = usable_candidate(a.value);
      if (candidate &&
          std::find(candidates.begin(), candidates.end(), *candidate) == candidates.end())
        candidates.push_back(std::move(*candidate));
    }
  };
  collect(sdp.attributes);
  for (const SdpSection& section : sdp.sections) collect(section.attributes);
  if (!candidates.empty()) remote_candidates_ = std::move(candidates);
  return std::nullopt;
}

std::string SdpDialog::inner_remote(const std::vector<SdpSection>& bodies, bool is_offer) const {
  SdpText sdp = inner_frame();
  if (remote_lite_) sdp.attributes.add("ice-lite");
  const char* setup = is_offer ? (role_ == Role::passive ? "active" : "actpass")
                               : (role_ == Role::passive ? "active" : "passive");
  for (size_t i = 0; i < entries_.size(); i++) {
    const Entry& e = entries_[i];
    SdpSection section = bodies[i];
    SdpAttributes attributes;
    attributes.add("ice-ufrag", remote_ufrag_);
    attributes.add("ice-pwd", remote_pwd_);
    attributes.add("fingerprint", remote_algorithm_ + " " + remote_fingerprint_);
    attributes.add("setup", setup);
    attributes.add("mid", e.mid);
    attributes.add("rtcp-mux");
    attributes.add("rtcp-rsize");
    attributes.add(e.ours ? "recvonly" : "sendonly");
    for (const SdpAttribute& a : section.attributes)
      if (a.name != "rtcp-mux" && a.name != "rtcp-rsize") attributes.push_back(a);
    if (i == 0)
      for (const std::string& candidate : remote_candidates_)
        attributes.add("candidate", candidate);
    section.attributes = std::move(attributes);
    sdp.sections.push_back(std::move(section));
  }
  return write_sdp(sdp);
}

Result<SdpDialog::Remote> SdpDialog::remote_answer(const std::string& text) {
  Result<SdpText> sdp = parse_sdp(text);
  if (!sdp) return sdp.error();
  if (sdp->sections.size() != entries_.size())
    return protocol_error("The SFU's answer does not have the sections of our offer.");
  for (size_t i = 0; i < entries_.size(); i++) {
    const std::string* mid = sdp->sections[i].attributes.find("mid");
    if (mid && !mid->empty() && *mid != entries_[i].mid)
      return protocol_error("The SFU's answer has its sections in another order than our offer.");
    if (sdp->sections[i].media != entries_[i].kind)
      return protocol_error("The SFU's answer has other kinds of media than our offer.");
  }
  if (auto error = learn_remote(*sdp, false)) return *error;

  Remote remote;
  std::vector<SdpSection> bodies;
  for (size_t i = 0; i < entries_.size(); i++) {
    Entry& e = entries_[i];
    const SdpSection& section = sdp->sections[i];
    SdpSection body;
    body.media = is_media(e.kind) ? e.kind : "audio";
    if (!e.ours) {
      // a section the SFU sends in; nothing new can come of our offer
      body = e.local.formats.empty() || e.rejected ? placeholder(e) : e.local;
      bodies.push_back(std::move(body));
      continue;
    }
    const std::vector<SdpFormat> answered = formats_of(section);
    const SdpFormat* codec = nullptr;
    for (const SdpFormat& f : answered)
      if (f.payload == e.track.format.payload && same_codec(f, e.track.format)) codec = &f;
    for (const SdpFormat& f : answered)  // renumbered
      if (!codec && same_codec(f, e.track.format)) codec = &f;
    const bool refused = is_rejected(section) || !codec ||
                         direction_of(*sdp, section) == Direction::inactive ||
                         direction_of(*sdp, section) == Direction::sendonly;
    if (refused) {
      if (!e.closed) remote.rejected_mids.push_back(e.mid);
      if (is_rejected(section)) e.rejected = true;
      body.attributes = {};
      set_formats(body, formats_of(e.local));
    } else {
      e.wire_payload = codec->payload;
      std::vector<SdpFormat> formats = {*codec};
      for (const SdpFormat& f : answered)
        if (associated_payload(f) == codec->payload && formats.size() == 1) formats.push_back(f);
      for (SdpFormat& f : formats) {
        f.feedback = known_feedback(f.feedback);
        f.fmtp = tidy_fmtp(f.fmtp);
      }
      for (const SdpAttribute& a : section.attributes)
        if (a.name == "extmap" &&
            std::find(e.local.attributes.begin(), e.local.attributes.end(), a) !=
                e.local.attributes.end() &&
            std::find(body.attributes.begin(), body.attributes.end(), a) == body.attributes.end())
          body.attributes.push_back(a);
      set_formats(body, formats);
    }
    bodies.push_back(std::move(body));
  }
  remote.inner = inner_remote(bodies, false);
  return remote;
}

bool SdpDialog::describe_received(Entry& e, const SdpSection& offered) {
  std::vector<SdpFormat> formats;
  const std::vector<SdpFormat> all = formats_of(offered);
  const auto fits = [this](const SdpFormat& format) {
    const auto known = payloads_.find(format.payload);
    return known == payloads_.end() || same_codec(known->second, format);
  };
  for (const SdpFormat& format : all)
    if (receivable_.count(format.encoding) && fits(format)) formats.push_back(format);
  const size_t codecs = formats.size();
  if (codecs == 0) return false;
  for (const SdpFormat& format : all) {
    const int repaired = associated_payload(format);
    if (repaired < 0 || !fits(format)) continue;
    for (size_t i = 0; i < codecs; i++)
      if (formats[i].payload == repaired) formats.push_back(format);
  }
  for (SdpFormat& format : formats) {
    format.feedback = known_feedback(format.feedback);
    format.fmtp = tidy_fmtp(format.fmtp);
    payloads_.emplace(format.payload, format);
  }
  // in the order offered, so that a codec's repair stands beside it
  std::vector<SdpFormat> ordered;
  for (const SdpFormat& format : all)
    for (const SdpFormat& kept : formats)
      if (kept.payload == format.payload) ordered.push_back(kept);

  SdpSection section;
  section.media = e.kind;
  std::set<int> ids;
  for (const SdpAttribute& a : offered.attributes) {
    if (a.name != "extmap") continue;
    const auto words = split_words(a.value);
    if (words.size() < 2) continue;
    const int id = static_cast<int>(parse_number(words[0].substr(0, words[0].find('/')), 255));
    for (const RtpExtension& extension : kRtpExtensions)
      if (id > 0 && id != 15 && words[1] == extension.uri && ids.insert(id).second) {
        section.attributes.add("extmap", std::to_string(id) + " " + extension.uri);
        if (words[1] == kMidExtension) mid_extension_id_ = id;
      }
  }
  section.attributes.add("rtcp-mux");
  if (offered.attributes.has("rtcp-rsize")) section.attributes.add("rtcp-rsize");
  set_formats(section, ordered);
  e.local = std::move(section);
  return true;
}

Result<SdpDialog::Remote> SdpDialog::remote_offer(const std::string& text) {
  Result<SdpText> sdp = parse_sdp(text);
  if (!sdp) return sdp.error();
  if (sdp->sections.empty()) return protocol_error("The SFU's offer has no media section.");
  if (sdp->sections.size() < entries_.size())
    return protocol_error("The SFU's offer lacks sections that exist already.");
  std::vector<std::string> mids;
  for (size_t i = 0; i < sdp->sections.size(); i++) {
    const SdpSection& section = sdp->sections[i];
    const std::string* named = section.attributes.find("mid");
    std::string mid = named && !named->empty() ? *named : "";
    if (i < entries_.size()) {
      if (mid.empty()) mid = entries_[i].mid;
      if (mid != entries_[i].mid || section.media != entries_[i].kind)
        return failure(ErrorKind::gone,
                       "The SFU uses an old media section for something else; a new session is "
                       "needed.");
    } else if (mid.empty()) {
      // a rejected section need not have one
      for (size_t number = i; mid.empty(); number++) {
        const std::string name = std::to_string(number);
        bool used = std::find(mids.begin(), mids.end(), name) != mids.end();
        for (const SdpSection& other : sdp->sections) {
          const std::string* theirs = other.attributes.find("mid");
          used = used || (theirs && *theirs == name);
        }
        if (!used) mid = name;
      }
    }
    if (!is_mid(mid) || std::find(mids.begin(), mids.end(), mid) != mids.end())
      return protocol_error("The SFU's offer has an ill-formed or repeated mid.");
    mids.push_back(std::move(mid));
  }
  if (auto error = learn_remote(*sdp, true)) return *error;

  Remote remote;
  std::vector<SdpSection> bodies;
  for (size_t i = 0; i < sdp->sections.size(); i++) {
    const SdpSection& section = sdp->sections[i];
    const bool is_new = i >= entries_.size();
    if (is_new) {
      Entry fresh;
      fresh.mid = mids[i];
      fresh.kind = section.media;
      fresh.closed = true;
      entries_.push_back(std::move(fresh));
    }
    Entry& e = entries_[i];
    if (e.ours) {
      SdpSection body;
      body.media = e.kind;
      set_formats(body, formats_of(e.local));
      bodies.push_back(std::move(body));
      continue;
    }
    const Direction direction = direction_of(*sdp, section);
    const bool dead = is_rejected(section) || !sends(direction);
    if (!dead || (is_new && !is_rejected(section))) {
      e.rejected = !is_media(e.kind) || !describe_received(e, section);
      if (e.rejected) remote.rejected_mids.push_back(e.mid);
      e.announced.clear();
    }
    if (e.rejected || (is_rejected(section) && e.local.formats.empty())) {
      e.rejected = true;
      e.local = SdpSection();
      e.local.media = e.kind;
      e.local.protocol = section.protocol;
      e.local.formats = section.formats;
      for (const SdpAttribute& a : section.attributes)
        if (a.name == "rtpmap") e.local.attributes.push_back(a);
    } else {
      e.rejected = is_rejected(section);
    }
    e.closed = dead;

    SdpSection body = e.rejected && !is_rejected(section) ? placeholder(e) : e.local;
    if (e.rejected) body = placeholder(e);
    if (!dead && !e.rejected) {
      std::map<uint32_t, std::string> cnames, msids;
      for (const SdpAttribute& a : section.attributes) {
        const auto words = split_words(a.value);
        if (a.name == "msid" && words.size() <= 2 && !words.empty()) body.attributes.push_back(a);
        if (a.name != "ssrc" || words.empty()) continue;
        const int64_t ssrc = parse_number(words[0], UINT32_MAX);
        if (ssrc <= 0 || e.announced.size() >= kMaxSsrcs) continue;
        e.announced.insert(static_cast<uint32_t>(ssrc));
        if (words.size() > 1 && words[1].substr(0, 6) == "cname:" && words[1].size() > 6)
          cnames[static_cast<uint32_t>(ssrc)] = std::string(words[1].substr(6));
      }
      // webrtcbin learns an SSRC from its cname line only
      for (uint32_t ssrc : e.announced) {
        const auto cname = cnames.find(ssrc);
        body.attributes.add("ssrc", std::to_string(ssrc) + " cname:" +
                                        (cname == cnames.end() ? "sfu" : cname->second));
      }
    }
    bodies.push_back(std::move(body));
  }
  remote.inner = inner_remote(bodies, true);
  return remote;
}

std::string SdpDialog::section_of(uint32_t ssrc, const std::string& packet_mid, int payload,
                                  const std::set<std::string>& taken) const {
  for (const Entry& e : entries_)
    if (!e.ours && !e.rejected && !e.closed && e.announced.count(ssrc)) return e.mid;
  if (!packet_mid.empty() && live_entry(packet_mid)) return packet_mid;
  // Of the sections that can carry this payload type and have no media yet, the only one; those
  // that announced other SSRCs come second.
  for (const bool unannounced : {true, false}) {
    std::string found;
    int count = 0;
    for (const Entry& e : entries_) {
      if (e.ours || e.rejected || e.closed || taken.count(e.mid)) continue;
      if (e.announced.empty() != unannounced) continue;
      for (const SdpFormat& format : formats_of(e.local))
        if (format.payload == payload && format.encoding != "RTX") {
          found = e.mid;
          count++;
        }
    }
    if (count == 1) return found;
    if (count > 1) return {};
  }
  return {};
}

bool SdpDialog::repairs_section(const std::string& mid) const {
  const Entry* e = live_entry(mid);
  if (!e) return false;
  for (const SdpFormat& format : formats_of(e->local))
    if (std::find(format.feedback.begin(), format.feedback.end(), "nack") != format.feedback.end())
      return true;
  return false;
}

bool SdpDialog::is_remote_certificate(const std::string& pem) const {
  return !remote_fingerprint_.empty() &&
         certificate_fingerprint(pem, remote_algorithm_) == remote_fingerprint_;
}

RtpHeader read_rtp_header(const uint8_t* data, size_t size, int mid_id) {
  RtpHeader header;
  if (size < 12 || data[0] >> 6 != 2) return header;
  header.payload = data[1] & 0x7f;
  header.ssrc = uint32_t{data[8]} << 24 | data[9] << 16 | data[10] << 8 | data[11];
  size_t at = 12 + 4 * size_t(data[0] & 0x0f);
  if (!(data[0] & 0x10) || mid_id <= 0 || at + 4 > size) return header;
  const unsigned profile = data[at] << 8 | data[at + 1];
  const size_t length = 4 * size_t(data[at + 2] << 8 | data[at + 3]);
  at += 4;
  const size_t end = std::min(at + length, size);
  const bool one_byte = profile == 0xbede;
  if (!one_byte && (profile & 0xfff0) != 0x1000) return header;
  while (at < end) {
    if (data[at] == 0) {  // padding
      at++;
      continue;
    }
    int id;
    size_t bytes;
    if (one_byte) {
      id = data[at] >> 4;
      bytes = (data[at] & 0x0f) + 1;
      at += 1;
      if (id == 15) break;
    } else {
      if (at + 2 > end) break;
      id = data[at];
      bytes = data[at + 1];
      at += 2;
    }
    if (at + bytes > end) break;
    if (id == mid_id) {
      header.mid.assign(reinterpret_cast<const char*>(data + at), bytes);
      return header;
    }
    at += bytes;
  }
  return header;
}

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
