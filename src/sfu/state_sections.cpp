// How sections come to be: the client's offers, and what we offer for a pull.
#include <algorithm>
#include <charconv>

#include "sfu/state_parts.h"

namespace cfr::sfu {

namespace {

// What identifies a codec within a session.
std::string key_of(const MediaCodec& codec) {
  std::string name = codec.name;
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return name + "/" + std::to_string(codec.clock_rate) + " " + codec.fmtp;
}

MediaCodec video_codec(const char* name, const std::string& fmtp) {
  MediaCodec codec;
  codec.name = name;
  codec.fmtp = fmtp;
  codec.nack = codec.pli = codec.fir = codec.transport_cc = codec.remb = true;
  return codec;
}

}  // namespace

// Decimal, and never one that the client chose.
std::string SfuState::Session::next_mid() const {
  long highest = -1;
  for (const Section& section : sections) {
    long value = -1;
    const std::string& mid = section.ours.mid;
    auto [end, error] = std::from_chars(mid.data(), mid.data() + mid.size(), value);
    if (error == std::errc() && end == mid.data() + mid.size()) highest = std::max(highest, value);
  }
  return std::to_string(std::max(highest + 1, long(sections.size())));
}

int SfuState::Session::extension_id(const std::string& uri) {
  auto found = extensions.find(uri);
  if (found != extensions.end()) return found->second;
  for (int id = 1; id <= 14; ++id) {
    bool used = std::any_of(extensions.begin(), extensions.end(),
                            [id](const auto& entry) { return entry.second == id; });
    if (!used) return extensions[uri] = id;
  }
  return 0;
}

// Some clients number the extensions of each section by themselves, and so give a number twice. In
// a BUNDLE group it means one extension (RFC 8843, section 9): the one that came first.
void SfuState::Session::note_extensions(std::map<std::string, int>& offered) {
  std::erase_if(offered, [this](const auto& extension) {
    const std::string& uri = extension.first;
    const int id = extension.second;
    bool taken = std::any_of(extensions.begin(), extensions.end(), [&](const auto& known) {
      return known.second == id && known.first != uri;
    });
    if (!taken && extensions.size() < 64) extensions.emplace(uri, id);
    return taken;
  });
}

int SfuState::Session::payload_type(const std::string& codec, int wish) {
  for (const auto& [number, name] : payloads)
    if (name == codec) return number;
  auto take = [&](int number) {
    payloads[number] = codec;
    return number;
  };
  if (!payloads.count(wish)) return take(wish);
  for (int number = 96; number < 128; ++number)
    if (!payloads.count(number)) return take(number);
  for (int number = 35; number < 64; ++number)
    if (!payloads.count(number)) return take(number);
  return -1;
}

std::string SfuState::Session::tagged_mid() const {
  for (const Section& section : sections)
    if (!section.ours.rejected) return section.ours.mid;
  return "";
}

void SfuState::Session::set_remote(Hooks& hooks, const RemoteTransport& remote) {
  if (remote_set) return;
  remote_set = true;
  this->remote = remote;
  we_are_client = remote.client_is_passive;
  hooks.set_remote(id, remote);
}

const char* SfuState::Session::another_client(const RemoteTransport& theirs) const {
  if (theirs.ufrag.empty()) return nullptr;  // all is rejected
  if (!remote_set) return nullptr;
  if (theirs.ufrag != remote.ufrag || theirs.pwd != remote.pwd)
    return "ICE restart is not supported: create a new session";
  // The letters' case says nothing (RFC 8122, section 5).
  if (!same_codec(theirs.fingerprint_hash, remote.fingerprint_hash) ||
      !same_codec(theirs.fingerprint, remote.fingerprint))
    return "The fingerprint is not that of the connection";
  return nullptr;
}

std::optional<ApiReply> SfuState::check_offer(const Session& session,
                                              const ClientDescription& description) const {
  auto refuse = [](const char* text) {
    return error_reply(406, "invalid_session_description", text);
  };
  if (session.pending_offer)
    return refuse("An offer is waiting for its answer: call renegotiate first");
  if (description.sections.size() < session.sections.size())
    return refuse("The offer lacks sections of the session");
  if (description.sections.size() > settings_.max_sections)
    return error_reply(410, "session_error", "The session has too many media sections");
  for (std::size_t i = 0; i < session.sections.size(); ++i) {
    const OurSection& ours = session.sections[i].ours;
    const ClientSection& client = description.sections[i];
    if (client.rejected && !client.named) continue;
    // RFC 8829, section 5.2.2: a rejected section is free for another.
    if (client.mid != ours.mid && !ours.rejected)
      return refuse("The offer changes the order or the mids of the session's sections");
    if (client.mid == ours.mid && client.kind != ours.kind)
      return refuse("The offer changes the kind of a section");
  }
  if (const char* problem = session.another_client(description.transport)) return refuse(problem);
  return std::nullopt;
}

std::optional<ApiReply> SfuState::apply_offer(Session& session,
                                              const ClientDescription& description,
                                              int64_t now_us) {
  if (auto problem = check_offer(session, description)) return problem;
  const std::string tagged_before = session.tagged_mid();
  session.client_bundles = description.has_bundle;
  session.client_mixes = description.allow_mixed;
  bool alone = true;  // without a group only one section has a transport

  for (std::size_t i = 0; i < description.sections.size(); ++i) {
    const ClientSection& client = description.sections[i];
    if (i == session.sections.size())
      session.sections.emplace_back();
    else if (client.mid != session.sections[i].ours.mid && client.named)
      session.sections[i] = Section();
    Section& section = session.sections[i];
    OurSection& ours = section.ours;
    if (ours.mid.empty()) ours.mid = client.mid;
    section.client = client;
    session.note_extensions(section.client.extensions);
    ours.kind = client.kind;
    ours.protocol = client.protocol;
    ours.formats = client.formats;
    bool media = (client.kind == "audio" || client.kind == "video") &&
                 client.protocol.find("RTP/SAVPF") != std::string::npos;
    bool reachable = description.has_bundle ? client.bundled : alone;
    // No data goes through it, but a client whose first offer is of data channels alone needs it
    // to connect.
    bool data = is_data(client.kind, client.protocol) && !client.rejected && reachable;
    if (data) {
      alone = ours.rejected = false;
      continue;
    }
    if (client.rejected || !media || !reachable || client.codecs.empty()) {
      if (section.role != Section::Role::none && !section.closed)
        close_section(session, section, false);
      ours.rejected = true;
      ours.direction = Direction::inactive;
      ours.codecs = client.codecs;
      continue;
    }
    alone = false;
    ours.rejected = false;
    for (const MediaCodec& codec : client.codecs) {
      session.payloads.emplace(codec.payload_type, key_of(codec));
      session.agreed[codec.payload_type] = codec;
      if (codec.rtx_payload_type >= 0)
        session.payloads.emplace(codec.rtx_payload_type,
                                 "rtx of " + std::to_string(codec.payload_type));
    }
    for (const std::string& format : client.formats) {  // also of what is not forwarded
      int number = -1;
      std::from_chars(format.data(), format.data() + format.size(), number);
      if (number >= 0 && number < 128) session.payloads.emplace(number, "of the client");
    }
    std::map<std::string, int> extensions;
    for (const std::string& uri : known_extensions(client.kind)) {
      auto offered = section.client.extensions.find(uri);
      if (offered != section.client.extensions.end()) extensions.insert(*offered);
    }
    if (section.role == Section::Role::pull) {
      follow_client(session, section, now_us);
      continue;
    }
    ours.codecs = client.codecs;
    ours.extensions = std::move(extensions);
    ours.receive_rids = client.rids;
    // A closed track stays silent; sections without a track wait to be given one.
    ours.direction = client.sends() && !section.closed ? Direction::recvonly : Direction::inactive;
    if (section.role == Section::Role::push && !section.closed && !section.forced) {
      if (client.sends()) {
        publish(session, section);
      } else {  // paused
        TrackAddress track{session.id, ours.mid};
        section.alive_us = std::max(section.alive_us, forwarder_.last_packet_us(track));
        forwarder_.remove_ingress(track);
      }
    }
  }
  // Where all is rejected there is no transport yet: the next offer may bring another.
  if (alone) return std::nullopt;
  // The connection is that of the group's first section. libwebrtc makes another when that section
  // ends, though RFC 8843 lets the next one take it over.
  if (session.remote_set && session.tagged_mid() != tagged_before)
    hooks_.expect_another_connection(session.id);
  session.set_remote(hooks_, description.transport);
  return std::nullopt;
}

static MediaSection media_section(const std::string& mid, const std::string& kind,
                                  const std::vector<MediaCodec>& codecs,
                                  const std::map<std::string, int>& extensions) {
  MediaSection section;
  section.mid = mid;
  section.kind = kind;
  section.codecs = codecs;
  section.extensions = extension_ids(extensions);
  return section;
}

void SfuState::publish(Session& session, Section& section) {
  MediaSection media = media_section(section.ours.mid, section.ours.kind, section.ours.codecs,
                                     section.ours.extensions);
  media.ssrcs = section.client.ssrcs;
  media.rids = section.client.rids;
  section.ours.direction = Direction::recvonly;
  forwarder_.set_ingress({session.id, section.ours.mid}, media);
}

void SfuState::start_egress(Session& session, Section& section, int64_t now_us) {
  section.flowing = true;
  // The codecs the client named, with our numbers and parameters where it kept them.
  std::vector<MediaCodec> codecs;
  for (const MediaCodec& taken : section.client.codecs) {
    MediaCodec codec = taken;
    for (const MediaCodec& offered : section.ours.codecs)
      if (offered.payload_type == taken.payload_type && same_codec(offered.name, taken.name)) {
        if (codec.fmtp.empty()) codec.fmtp = offered.fmtp;
        if (!offered.fmtp.empty() && same_codec(codec.name, "H264")) codec.fmtp = offered.fmtp;
      }
    codecs.push_back(std::move(codec));
  }
  // What the client knows of the extensions, by its own numbers.
  std::map<std::string, int> extensions;
  for (const std::string& uri : known_extensions(section.ours.kind)) {
    auto known = section.client.extensions.find(uri);
    if (known != section.client.extensions.end()) extensions.insert(*known);
  }
  if (section.ours.extensions.empty()) section.ours.extensions = extensions;
  MediaSection media = media_section(section.ours.mid, section.ours.kind, codecs, extensions);
  forwarder_.set_egress({session.id, section.ours.mid}, section.source, media, section.ours.ssrcs,
                        section.ours.cname, section.choice, now_us);
}

// A pulled section after an exchange: the client says whether it wants media.
void SfuState::follow_client(Session& session, Section& section, int64_t now_us) {
  bool wanted = section.started && !section.closed && section.client.receives();
  section.ours.direction = wanted ? Direction::sendonly : Direction::inactive;
  if (wanted && !section.flowing) start_egress(session, section, now_us);
  if (!wanted && section.flowing) {
    forwarder_.remove_egress({session.id, section.ours.mid});
    section.flowing = false;
  }
}

void SfuState::close_section(Session& session, Section& section, bool forced) {
  TrackAddress address{session.id, section.ours.mid};
  if (section.role == Section::Role::push) forwarder_.remove_ingress(address);
  if (section.role == Section::Role::pull) forwarder_.remove_egress(address);
  section.closed = true;
  section.flowing = false;
  section.forced = section.forced || forced;
  section.ours.direction = Direction::inactive;
  section.ours.ssrcs = {};
}

// Several codecs, not the source's alone, as the service does. The order is the same for all.
std::vector<MediaCodec> SfuState::codecs_to_offer(Session& session, const Section& source) {
  std::vector<MediaCodec> codecs;
  auto add = [&](MediaCodec codec, int wish) {
    for (const MediaCodec& have : codecs)
      if (key_of(have) == key_of(codec)) return;
    codec.payload_type = session.payload_type(key_of(codec), wish);
    if (codec.payload_type < 0) return;
    codec.rtx_payload_type = -1;
    if (source.ours.kind == "video") {
      std::string rtx = "rtx of " + std::to_string(codec.payload_type);
      codec.rtx_payload_type = session.payload_type(rtx, codec.payload_type + 1);
      codec.nack = codec.pli = codec.fir = codec.transport_cc = codec.remb = true;
    } else {
      codec.nack = codec.pli = codec.fir = codec.remb = false;
      codec.transport_cc = true;
    }
    // libwebrtc takes a number as the same codec only if its feedback is the same, too.
    if (auto known = session.agreed.find(codec.payload_type); known != session.agreed.end()) {
      codec.nack = known->second.nack;
      codec.pli = known->second.pli;
      codec.fir = known->second.fir;
      codec.transport_cc = known->second.transport_cc;
      codec.remb = known->second.remb;
    }
    codecs.push_back(std::move(codec));
  };
  if (source.ours.kind == "audio") {
    MediaCodec opus;
    opus.name = "opus";
    opus.clock_rate = 48000;
    opus.channels = 2;
    opus.fmtp = "minptime=10;useinbandfec=1";
    for (const MediaCodec& published : source.ours.codecs)
      if (same_codec(published.name, "opus") && !published.fmtp.empty()) opus.fmtp = published.fmtp;
    add(opus, 111);
    for (auto [name, number] : {std::pair{"PCMU", 0}, std::pair{"PCMA", 8}}) {
      MediaCodec plain;
      plain.name = name;
      plain.clock_rate = 8000;
      add(plain, number);
    }
    return codecs;
  }
  add(video_codec("VP8", ""), 96);
  std::string h264 = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";
  bool any_h264 = false;
  for (const MediaCodec& published : source.ours.codecs)
    if (same_codec(published.name, "H264") && published.fmtp.find("sprop") == std::string::npos) {
      add(video_codec("H264", published.fmtp), 102);
      any_h264 = true;
    }
  if (!any_h264) add(video_codec("H264", h264), 102);
  add(video_codec("VP9", "profile-id=0"), 98);
  for (const MediaCodec& published : source.ours.codecs)
    if (same_codec(published.name, "VP9") || same_codec(published.name, "AV1") ||
        same_codec(published.name, "H265"))
      add(video_codec(published.name.c_str(), published.fmtp), 104);
  return codecs;
}

std::string SfuState::describe(Session& session, bool is_offer) {
  std::vector<OurSection> sections;
  for (const Section& section : session.sections) {
    sections.push_back(section.ours);
    if (is_offer || section.role != Section::Role::pull || section.ours.rejected) continue;
    // An answer names nothing that was not offered.
    std::vector<MediaCodec> codecs;
    for (MediaCodec codec : section.ours.codecs)
      for (const MediaCodec& theirs : section.client.codecs) {
        if (theirs.payload_type != codec.payload_type || !same_codec(theirs.name, codec.name))
          continue;
        if (theirs.rtx_payload_type != codec.rtx_payload_type) codec.rtx_payload_type = -1;
        codecs.push_back(codec);
        break;
      }
    if (!codecs.empty()) sections.back().codecs = std::move(codecs);
    std::erase_if(sections.back().extensions, [&](const auto& extension) {
      auto theirs = section.client.extensions.find(extension.first);
      return theirs == section.client.extensions.end() || theirs->second != extension.second;
    });
  }
  DescriptionHead head;
  head.is_offer = is_offer;
  head.origin_id = session.origin_id;
  head.version = session.version++;
  head.we_are_client = session.we_are_client;
  head.bundle = is_offer || session.client_bundles;
  head.allow_mixed = is_offer || session.client_mixes;
  return write_description(head, session.local, sections);
}

}  // namespace cfr::sfu
