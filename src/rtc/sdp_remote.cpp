// The half of SdpDialog that reads what the SFU says.
#include <algorithm>

#include "rtc/sdp.h"
#include "rtc/sdp_rules.h"

namespace cfr {

using namespace sdp_rules;

namespace {

constexpr size_t kMaxCandidates = 64;
constexpr size_t kMaxSsrcs = 1024;  // announced by one section

}  // namespace

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
  if (!is_ice_text(ufrag, 4) || !is_ice_text(pwd, 22))
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
  if (auto error = learn_remote(*sdp, false)) {
    // Rejected sections need say nothing of a transport (RFC 8829 5.3.1), and those of pion do not.
    if (remote_ufrag_.empty() &&
        std::all_of(sdp->sections.begin(), sdp->sections.end(), is_rejected))
      return failure(ErrorKind::rejected,
                     "The SFU supports no codec of what it was offered. Publish H.264, VP8, VP9 or "
                     "Opus.");
    return *error;
  }

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
    // GStreamer would ask for key frames by FIR wherever that is agreed. It is not for repair (RFC
    // 5104, section 4.3.1.2), and there are SFUs that heed PLI alone.
    if (std::find(format.feedback.begin(), format.feedback.end(), "nack pli") !=
        format.feedback.end())
      std::erase(format.feedback, "ccm fir");
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

    SdpSection body = e.local;
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
  // Last, when all payload types of the offer are known and one that is free can be told.
  for (size_t i = 0; i < entries_.size(); i++)
    if (!entries_[i].ours && entries_[i].rejected) bodies[i] = placeholder(entries_[i]);
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

bool SdpDialog::may_carry(const std::string& mid, uint32_t ssrc) const {
  const Entry* e = live_entry(mid);
  return e && (e->announced.empty() || e->announced.count(ssrc));
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

}  // namespace cfr
