// What goes out to pullers.
#include <algorithm>
#include <cstring>

#include "sfu/forwarder_parts.h"

namespace cfr::sfu {

namespace {

constexpr int64_t kReportInterval = 1000 * 1000;
constexpr int64_t kLayerAlive = 1000 * 1000;
// About a second of a fast track; packets older than kKeep are not sent again.
constexpr std::size_t kVideoRing = 1024, kAudioRing = 64;
constexpr int64_t kKeep = 1500 * 1000;

// The value of a parameter in an fmtp text, "" if absent.
std::string parameter(const std::string& fmtp, const std::string& name) {
  for (std::size_t at = 0; at < fmtp.size();) {
    std::size_t end = fmtp.find(';', at);
    if (end == std::string::npos) end = fmtp.size();
    std::string item = fmtp.substr(at, end - at);
    item.erase(0, item.find_first_not_of(' '));
    auto equals = item.find('=');
    if (item.substr(0, equals) == name)
      return equals == std::string::npos ? "" : item.substr(equals + 1);
    at = end + 1;
  }
  return "";
}

bool same_name(const std::string& a, const std::string& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) {
           return (x | 0x20) == (y | 0x20);
         });
}

// How well a puller's codec fits the publisher's: -1 = not at all.
int fit(const MediaCodec& published, const MediaCodec& offered) {
  if (!same_name(published.name, offered.name)) return -1;
  int score = 1;
  if (same_name(published.name, "H264")) {
    auto mode = [](const MediaCodec& codec) {
      std::string mode = parameter(codec.fmtp, "packetization-mode");
      return mode.empty() ? std::string("0") : mode;
    };
    if (mode(published) == mode(offered)) score += 4;
    std::string a = parameter(published.fmtp, "profile-level-id"),
                b = parameter(offered.fmtp, "profile-level-id");
    if (a.size() == 6 && b.size() == 6) {
      if (same_name(a, b)) score += 3;
      else if (same_name(a.substr(0, 4), b.substr(0, 4))) score += 2;
      else if (same_name(a.substr(0, 2), b.substr(0, 2))) score += 1;
    }
  } else if (same_name(published.name, "VP9")) {
    auto profile = [](const MediaCodec& codec) {
      std::string profile = parameter(codec.fmtp, "profile-id");
      return profile.empty() ? std::string("0") : profile;
    };
    if (profile(published) == profile(offered)) score += 4;
  }
  return score;
}

}  // namespace

void Forwarder::set_egress(const TrackAddress& puller, const TrackAddress& source,
                           const MediaSection& section, SsrcPair ssrcs, const std::string& cname,
                           const LayerChoice& choice, int64_t now_us) {
  Session& session = this->session(puller.session);
  auto& egress = session.egress[puller.mid];
  if (!egress) {
    egress = std::make_unique<Egress>();
    egress->puller = puller;
    egress->rtx_sequence = uint16_t(random());
    egress->last_sequence = uint16_t(random() & 0x7fff);
    egress->last_timestamp = random();
    egress->ring.resize(section.kind == "video" ? kVideoRing : kAudioRing);
  } else if (Ingress* before = find_ingress(egress->source)) {
    before->pullers.erase(puller);
  }
  egress->source = source;
  egress->section = section;
  egress->ssrcs = ssrcs;
  egress->cname = cname;
  egress->choice = choice;
  egress->mapping.clear();
  if (Ingress* ingress = find_ingress(source)) {
    ingress->pullers.insert(puller);
    if (session.connected) request_key_frame(*ingress, nullptr, now_us);
  }
}

void Forwarder::set_choice(const TrackAddress& puller, const LayerChoice& choice, int64_t now_us) {
  auto session = sessions_.find(puller.session);
  if (session == sessions_.end()) return;
  auto found = session->second->egress.find(puller.mid);
  if (found == session->second->egress.end()) return;
  found->second->choice = choice;
  if (Ingress* ingress = find_ingress(found->second->source))
    for (auto& layer : ingress->layers)
      if (layer->rid == choice.preferred_rid) request_key_frame(*ingress, layer.get(), now_us);
}

void Forwarder::remove_egress(const TrackAddress& puller) {
  auto session = sessions_.find(puller.session);
  if (session == sessions_.end()) return;
  auto found = session->second->egress.find(puller.mid);
  if (found == session->second->egress.end()) return;
  if (Ingress* ingress = find_ingress(found->second->source)) ingress->pullers.erase(puller);
  session->second->egress.erase(found);
}

void Forwarder::forward(Egress& egress, Ingress& ingress, Layer& layer, const RtpPacket& packet,
                        int64_t now_us) {
  // Which layer: the wanted one while it lives, else the first or the next one.
  if (ingress.layers.size() > 1) {
    const Layer* chosen = nullptr;
    std::vector<const Layer*> alive;
    for (auto& candidate : ingress.layers)
      if (candidate->started && now_us - candidate->last_packet_us < kLayerAlive)
        alive.push_back(candidate.get());
    std::sort(alive.begin(), alive.end(),
              [](const Layer* a, const Layer* b) { return a->rid < b->rid; });
    for (const Layer* candidate : alive) {
      if (!egress.choice.preferred_rid.empty() && candidate->rid == egress.choice.preferred_rid)
        chosen = candidate;
    }
    if (!chosen && egress.choice.preferred_rid.empty()) {
      for (const Layer* candidate : alive)
        if (candidate->ssrc == egress.source_ssrc) chosen = candidate;
      if (!chosen && !alive.empty()) chosen = alive.front();
    }
    if (!chosen && egress.choice.next_if_missing) {
      for (const Layer* candidate : alive)
        if (!chosen && candidate->rid > egress.choice.preferred_rid) chosen = candidate;
      if (!chosen && !alive.empty()) chosen = alive.front();
    }
    if (chosen != &layer) return;
  }

  auto mapped = egress.mapping.find(packet.payload_type);
  if (mapped == egress.mapping.end()) {
    const MediaCodec* published = ingress.codec(packet.payload_type);
    const MediaCodec* best = nullptr;
    int best_fit = 0;
    for (const MediaCodec& offered : egress.section.codecs) {
      int value = published ? fit(*published, offered) : -1;
      if (value > best_fit) {
        best_fit = value;
        best = &offered;
      }
    }
    mapped = egress.mapping.emplace(packet.payload_type, best).first;
  }
  const MediaCodec* codec = mapped->second;
  if (!codec) {
    ++egress.no_codec;
    return;
  }

  if (!egress.started || egress.source_ssrc != packet.ssrc) {
    // Numbering goes on where the source before ended, time by as much as has passed.
    uint32_t passed = 0;
    if (egress.started) {
      passed = uint32_t((now_us - egress.last_sent_us) * codec->clock_rate / 1000000);
      if (passed == 0) passed = 1;
      request_key_frame(ingress, &layer, now_us);
    }
    egress.sequence_offset = uint16_t(egress.last_sequence + 1 - packet.sequence);
    egress.timestamp_offset = egress.last_timestamp + passed - packet.timestamp;
    egress.source_ssrc = packet.ssrc;
    egress.started = true;
    egress.last_sequence = uint16_t(packet.sequence + egress.sequence_offset);
  }
  uint16_t sequence = uint16_t(packet.sequence + egress.sequence_offset);
  uint32_t timestamp = packet.timestamp + egress.timestamp_offset;
  if (int16_t(uint16_t(sequence - egress.last_sequence)) >= 0) {
    egress.last_sequence = sequence;
    egress.last_timestamp = timestamp;
    egress.last_sent_us = now_us;
    egress.clock_rate = codec->clock_rate;
  }

  std::vector<uint8_t>& out = egress.scratch;
  out.clear();
  out.resize(12);
  out[0] = uint8_t(0x80 | (packet.padding && packet.payload.empty() ? 0x20 : 0));
  out[1] = uint8_t((packet.marker ? 0x80 : 0) | codec->payload_type);
  write16(&out[2], sequence);
  write32(&out[4], timestamp);
  write32(&out[8], egress.ssrcs.ssrc);

  const ExtensionIds& ids = egress.section.extensions;
  Session& session = this->session(egress.puller.session);
  std::size_t start = out.size();
  auto extend = [&](int id, Bytes value) {
    if (id <= 0 || id > 14 || value.empty() || value.size() > 16) return;
    if (out.size() == start) out.insert(out.end(), {0xBE, 0xDE, 0, 0});
    out.push_back(uint8_t(id << 4 | (value.size() - 1)));
    out.insert(out.end(), value.begin(), value.end());
  };
  auto* mid = reinterpret_cast<const uint8_t*>(egress.puller.mid.data());
  extend(ids.mid, Bytes(mid, egress.puller.mid.size()));
  if (ids.transport_cc) {
    uint8_t counter[2];
    write16(counter, session.transport_sequence++);
    extend(ids.transport_cc, counter);
  }
  if (ids.abs_send_time) {  // seconds in 6.18 fixed point
    uint64_t fixed = (uint64_t(now_us) << 18) / 1000000;
    uint8_t value[3] = {uint8_t(fixed >> 16), uint8_t(fixed >> 8), uint8_t(fixed)};
    extend(ids.abs_send_time, value);
  }
  extend(ids.audio_level, packet.find(ingress.section.extensions.audio_level));
  if (out.size() > start) {
    out[0] |= 0x10;
    while (out.size() % 4) out.push_back(0);
    write16(&out[start + 2], uint16_t((out.size() - start - 4) / 4));
  }
  out.insert(out.end(), packet.payload.begin(), packet.payload.end());
  if (out[0] & 0x20) {  // probing: nothing but padding
    out.resize(out.size() + packet.padding, 0);
    out.back() = packet.padding;
  }

  auto& slot = egress.ring[sequence % egress.ring.size()];
  slot.sequence = sequence;
  slot.time_us = now_us;
  slot.rtx_payload_type = codec->rtx_payload_type;
  slot.bytes.assign(out.begin(), out.end());
  ++egress.packets;
  egress.bytes += packet.payload.size();
  output_.send_rtp(egress.puller.session, out);
}

void Forwarder::resend(Egress& egress, const std::vector<uint16_t>& sequences, int64_t now_us) {
  for (uint16_t sequence : sequences) {
    auto& slot = egress.ring[sequence % egress.ring.size()];
    if (slot.bytes.empty() || slot.sequence != sequence || now_us - slot.time_us > kKeep) continue;
    ++egress.resent;
    if (slot.rtx_payload_type < 0 || !egress.ssrcs.rtx_ssrc) {
      output_.send_rtp(egress.puller.session, slot.bytes);
      continue;
    }
    auto packet = RtpPacket::parse(slot.bytes);
    if (!packet) continue;
    std::size_t header = std::size_t(packet->payload.data() - slot.bytes.data());
    std::vector<uint8_t>& out = egress.scratch;
    out.assign(slot.bytes.begin(), slot.bytes.begin() + std::ptrdiff_t(header));
    out[0] &= uint8_t(~0x20);
    out[1] = uint8_t((out[1] & 0x80) | slot.rtx_payload_type);
    write16(&out[2], egress.rtx_sequence++);
    write32(&out[8], egress.ssrcs.rtx_ssrc);
    // Every packet has a transport-wide number of its own.
    int id = egress.section.extensions.transport_cc;
    Bytes counter = packet->find(id);
    if (counter.size() == 2)
      write16(&out[std::size_t(counter.data() - slot.bytes.data())],
              session(egress.puller.session).transport_sequence++);
    out.push_back(uint8_t(sequence >> 8));
    out.push_back(uint8_t(sequence));
    out.insert(out.end(), packet->payload.begin(), packet->payload.end());
    output_.send_rtp(egress.puller.session, out);
  }
}

void Forwarder::tick_egress(Session& session, int64_t now_us) {
  for (auto& [mid, egress] : session.egress) {
    if (!egress->started || now_us - egress->last_report_us < kReportInterval) continue;
    egress->last_report_us = now_us;
    RtcpSenderInfo info;
    // Both clocks at this moment: all tracks of a session share ours, so they stay in sync.
    int64_t wall_us = now_us + wallclock_offset_us_;
    constexpr uint64_t kNtpEpoch = 2208988800ull;  // 1900 to 1970
    uint64_t seconds = uint64_t(wall_us / 1000000) + kNtpEpoch;
    uint64_t fraction = (uint64_t(wall_us % 1000000) << 32) / 1000000;
    info.ntp = seconds << 32 | fraction;
    info.rtp = egress->last_timestamp +
               uint32_t((now_us - egress->last_sent_us) * egress->clock_rate / 1000000);
    info.packets = uint32_t(egress->packets);
    info.bytes = uint32_t(egress->bytes);
    std::vector<uint8_t> out;
    append_sender_report(out, egress->ssrcs.ssrc, info);
    append_cname(out, egress->ssrcs.ssrc, egress->cname);
    output_.send_rtcp(session.id, out);
  }
}

std::vector<Forwarder::EgressStats> Forwarder::egress_stats() const {
  std::vector<EgressStats> all;
  for (auto& [id, session] : sessions_)
    for (auto& [mid, egress] : session->egress) {
      EgressStats stats;
      stats.puller = egress->puller;
      stats.source = egress->source;
      stats.ssrc = egress->ssrcs.ssrc;
      stats.packets = egress->packets;
      stats.bytes = egress->bytes;
      stats.nacks = egress->nacks;
      stats.resent = egress->resent;
      stats.key_frame_requests = egress->key_frame_requests;
      stats.no_codec = egress->no_codec;
      stats.fraction_lost = egress->fraction_lost;
      all.push_back(stats);
    }
  return all;
}

}  // namespace cfr::sfu
