#include "rtc/sdp.h"

#include <glib.h>

#include <algorithm>

#include "rtc/sdp_rules.h"

namespace cfr {

using namespace sdp_rules;
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

void SdpDialog::reopen(const std::string& mid) {
  if (Entry* e = entry(mid); e && !e->ours) e->closed = false;
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
      for (const SdpAttribute& a : e.local.attributes)
        if (a.name == "rtpmap") section.attributes.push_back(a);
      // As browsers do: there are SFUs that take missing credentials for other ones.
      wire.sections.push_back(with_transport(section, wire_setup, "inactive"));
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

}  // namespace cfr
