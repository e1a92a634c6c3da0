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

void SfuState::Session::set_remote(Hooks& hooks, const RemoteTransport& remote) {
  if (remote_set) return;
  remote_set = true;
  we_are_client = remote.client_is_passive;
  hooks.set_remote(id, remote);
}

std::optional<ApiReply> SfuState::apply_offer(Session& session,
                                              const ClientDescription& description,
                                              int64_t now_us) {
  auto refuse = [](const char* text) {
    return error_reply(406, "invalid_session_description", text);
  };
  if (session.pending_offer)
    return refuse("An offer is waiting for its answer: call renegotiate first");
  if (description.sections.size() < session.sections.size())
    return refuse("The offer lacks sections of the session");
  for (std::size_t i = 0; i < session.sections.size(); ++i)
    if (description.sections[i].mid != session.sections[i].ours.mid)
      return refuse("The offer changes the order or the mids of the session's sections");

  for (std::size_t i = 0; i < description.sections.size(); ++i) {
    const ClientSection& client = description.sections[i];
    if (i == session.sections.size()) session.sections.emplace_back();
    Section& section = session.sections[i];
    section.client = client;
    OurSection& ours = section.ours;
    ours.mid = client.mid;
    ours.kind = client.kind;
    ours.protocol = client.protocol;
    ours.formats = client.formats;
    bool media = client.kind == "audio" || client.kind == "video";
    if (client.rejected || !media || client.codecs.empty()) {
      ours.rejected = true;
      ours.direction = Direction::inactive;
      if (section.role != Section::Role::none && !section.closed)
        close_section(session, section, false);
      continue;
    }
    ours.rejected = false;
    for (const MediaCodec& codec : client.codecs) {
      session.payloads.emplace(codec.payload_type, key_of(codec));
      if (codec.rtx_payload_type >= 0)
        session.payloads.emplace(codec.rtx_payload_type,
                                 "rtx of " + std::to_string(codec.payload_type));
    }
    std::map<std::string, int> extensions;
    for (const std::string& uri : known_extensions(client.kind)) {
      auto offered = client.extensions.find(uri);
      if (offered == client.extensions.end()) continue;
      extensions.insert(*offered);
      session.extensions.emplace(uri, offered->second);
    }
    if (section.role == Section::Role::pull) {
      if (section.closed || !client.receives()) ours.direction = Direction::inactive;
      continue;
    }
    ours.codecs = client.codecs;
    ours.extensions = std::move(extensions);
    ours.receive_rids = client.rids;
    // A closed track stays silent; recvonly sections wait to be given a track.
    ours.direction = client.sends() && !section.closed ? Direction::recvonly : Direction::inactive;
    if (section.role == Section::Role::push && !section.closed) {
      if (client.sends()) publish(session, section);
      else close_section(session, section, false);
    }
  }
  session.set_remote(hooks_, description.transport);
  (void)now_us;
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
  section.started = true;
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
  MediaSection media =
      media_section(section.ours.mid, section.ours.kind, codecs, extensions);
  forwarder_.set_egress({session.id, section.ours.mid}, section.source, media, section.ours.ssrcs,
                        section.ours.cname, section.choice, now_us);
}

void SfuState::close_section(Session& session, Section& section, bool forced) {
  TrackAddress address{session.id, section.ours.mid};
  if (section.role == Section::Role::push) forwarder_.remove_ingress(address);
  if (section.role == Section::Role::pull) forwarder_.remove_egress(address);
  section.closed = true;
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
      codec.transport_cc = true;
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
  for (const Section& section : session.sections) sections.push_back(section.ours);
  return write_description(is_offer, session.origin_id, session.version++, session.local,
                           session.we_are_client, sections);
}

}  // namespace cfr::sfu
