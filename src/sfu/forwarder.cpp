// Sessions, and what comes in from publishers. What goes out is in forwarder_out.cpp.
#include "sfu/forwarder.h"

#include <algorithm>
#include <cstdlib>

#include "sfu/forwarder_parts.h"

namespace cfr::sfu {

namespace {

constexpr int64_t kMs = 1000;
constexpr int64_t kReportInterval = 1000 * kMs;
constexpr int64_t kFeedbackInterval = 50 * kMs;
constexpr int64_t kNackInterval = 80 * kMs;
constexpr int64_t kNackGiveUp = 1000 * kMs;
constexpr int kNackTries = 10;
constexpr std::size_t kMaxMissing = 256;
constexpr int64_t kKeyFrameInterval = 1000 * kMs;
constexpr std::size_t kMaxLayers = 6;  // of one track; bounds what a hostile publisher can open

}  // namespace

Forwarder::Forwarder(Output& output, int64_t wallclock_offset_us, uint32_t seed)
    : output_(output),
      wallclock_offset_us_(wallclock_offset_us),
      random_state_(seed * 2654435769ull + 1) {}

Forwarder::~Forwarder() = default;

uint32_t Forwarder::random() {  // xorshift64*
  random_state_ ^= random_state_ >> 12;
  random_state_ ^= random_state_ << 25;
  random_state_ ^= random_state_ >> 27;
  return uint32_t((random_state_ * 2685821657736338717ull) >> 32);
}

Forwarder::Session& Forwarder::session(const std::string& id) {
  auto& session = sessions_[id];
  if (!session) {
    session = std::make_unique<Session>();
    session->id = id;
    session->own_ssrc = random() | 1;
  }
  return *session;
}

Forwarder::Ingress* Forwarder::find_ingress(const TrackAddress& track) const {
  auto session = sessions_.find(track.session);
  if (session == sessions_.end()) return nullptr;
  auto ingress = session->second->ingress.find(track.mid);
  return ingress == session->second->ingress.end() ? nullptr : ingress->second.get();
}

void Forwarder::set_ingress(const TrackAddress& track, const MediaSection& section) {
  Session& session = this->session(track.session);
  auto& ingress = session.ingress[track.mid];
  if (!ingress) {
    ingress = std::make_unique<Ingress>();
    ingress->track = track;
    // Whoever waits for this track already.
    for (auto& [id, other] : sessions_)
      for (auto& [mid, egress] : other->egress)
        if (egress->source == track) ingress->pullers.insert(egress->puller);
  }
  ingress->section = section;
  for (const SsrcPair& pair : section.ssrcs) {
    if (section.rids.size() > 1) break;  // simulcast: the packets name their layers
    auto known = session.ssrcs.find(pair.ssrc);
    if (known != session.ssrcs.end() || ingress->layers.size() >= kMaxLayers) continue;
    auto layer = std::make_unique<Layer>();
    layer->ssrc = pair.ssrc;
    layer->rtx_ssrc = pair.rtx_ssrc;
    session.ssrcs[pair.ssrc] = {ingress.get(), layer.get(), false};
    if (pair.rtx_ssrc) session.ssrcs[pair.rtx_ssrc] = {ingress.get(), layer.get(), true};
    ingress->layers.push_back(std::move(layer));
  }
}

void Forwarder::remove_ingress(const TrackAddress& track) {
  Ingress* ingress = find_ingress(track);
  if (!ingress) return;
  Session& session = *sessions_[track.session];
  std::erase_if(session.ssrcs, [&](const auto& known) { return known.second.ingress == ingress; });
  session.ingress.erase(track.mid);
}

void Forwarder::remove_session(const std::string& id) {
  auto found = sessions_.find(id);
  if (found == sessions_.end()) return;
  std::vector<TrackAddress> in, out;
  for (auto& [mid, ingress] : found->second->ingress) in.push_back(ingress->track);
  for (auto& [mid, egress] : found->second->egress) out.push_back(egress->puller);
  for (const TrackAddress& track : out) remove_egress(track);
  for (const TrackAddress& track : in) remove_ingress(track);
  sessions_.erase(id);
}

void Forwarder::set_connected(const std::string& id, bool connected, int64_t now_us) {
  Session& session = this->session(id);
  session.connected = connected;
  if (!connected) return;
  session.heard_us = now_us;
  // A puller that can see now wants a picture now.
  for (auto& [mid, egress] : session.egress)
    if (Ingress* source = find_ingress(egress->source)) request_key_frame(*source, nullptr, now_us);
}

bool Forwarder::has_media(const TrackAddress& track) const { return last_packet_us(track) > 0; }

int64_t Forwarder::last_packet_us(const TrackAddress& track) const {
  Ingress* ingress = find_ingress(track);
  return ingress ? ingress->last_packet_us : 0;
}

int64_t Forwarder::last_heard_us(const std::string& id) const {
  auto found = sessions_.find(id);
  return found == sessions_.end() ? 0 : found->second->heard_us;
}

// --- RTP in ----------------------------------------------------------------------------------

// RFC 8843, section 9.2: by what was learnt, the MID and RID in the packet, the payload type.
Forwarder::Layer* Forwarder::classify(Session& session, const RtpPacket& packet, Ingress** owner,
                                      bool* rtx) {
  auto known = session.ssrcs.find(packet.ssrc);
  if (known != session.ssrcs.end()) {
    *owner = known->second.ingress;
    *rtx = known->second.rtx;
    return known->second.layer;
  }
  Ingress* match = nullptr;
  std::string rid, repaired;
  auto text = [](Bytes bytes) { return std::string(bytes.begin(), bytes.end()); };
  for (auto& [mid, ingress] : session.ingress) {
    Bytes named = packet.find(ingress->section.extensions.mid);
    if (!named.empty() && text(named) == mid) match = ingress.get();
  }
  if (!match) {  // unique payload type
    int candidates = 0;
    for (auto& [mid, ingress] : session.ingress)
      if (ingress->codec(packet.payload_type) || ingress->codec_of_rtx(packet.payload_type)) {
        match = ingress.get();
        ++candidates;
      }
    if (candidates != 1) return nullptr;
  }
  rid = text(packet.find(match->section.extensions.rid));
  repaired = text(packet.find(match->section.extensions.repaired_rid));
  *owner = match;
  *rtx = match->codec_of_rtx(packet.payload_type) != nullptr;
  std::string layer_rid = *rtx && !repaired.empty() ? repaired : rid;
  Layer* layer = nullptr;
  for (auto& candidate : match->layers)
    if (!layer_rid.empty() ? candidate->rid == layer_rid
                           : *rtx && candidate->rtx_ssrc == 0 && match->layers.size() == 1)
      layer = candidate.get();
  if (*rtx) {
    if (!layer) return nullptr;  // repair of what has not come yet
    layer->rtx_ssrc = packet.ssrc;
  } else if (layer) {  // the publisher changed its SSRC
    session.ssrcs.erase(layer->ssrc);
    *layer = Layer();
    layer->rid = layer_rid;
    layer->ssrc = packet.ssrc;
  } else {
    if (!match->codec(packet.payload_type)) return nullptr;
    if (match->section.rids.empty() && !match->layers.empty()) {
      // A new SSRC in a section without layers replaces the old one.
      std::erase_if(session.ssrcs,
                    [&](const auto& entry) { return entry.second.ingress == match; });
      match->layers.clear();
    }
    if (match->layers.size() >= kMaxLayers) return nullptr;
    match->layers.push_back(std::make_unique<Layer>());
    layer = match->layers.back().get();
    layer->rid = layer_rid;
    layer->ssrc = packet.ssrc;
  }
  session.ssrcs[packet.ssrc] = {match, layer, *rtx};
  return layer;
}

void Forwarder::on_rtp(const std::string& id, Bytes bytes, int64_t now_us) {
  auto found = sessions_.find(id);
  if (found == sessions_.end()) return;
  Session& session = *found->second;
  session.heard_us = now_us;
  auto packet = RtpPacket::parse(bytes);
  if (!packet) return;
  Ingress* ingress = nullptr;
  bool rtx = false;
  Layer* layer = classify(session, *packet, &ingress, &rtx);
  if (!layer) return;
  Bytes counter = packet->find(ingress->section.extensions.transport_cc);
  if (counter.size() == 2) {
    session.feedback.arrived(read16(counter.data()), now_us);
    session.feedback_ssrc = packet->ssrc;
  }
  if (!rtx) return receive(*ingress, *layer, *packet, false, now_us);
  // RFC 4588: the original sequence number stands before the original payload.
  const MediaCodec* codec = ingress->codec_of_rtx(packet->payload_type);
  if (!codec || packet->payload.size() <= 2 || !layer->started) return;
  RtpPacket original = *packet;
  original.sequence = read16(packet->payload.data());
  original.payload = packet->payload.subspan(2);
  original.payload_type = codec->payload_type;
  original.ssrc = layer->ssrc;
  original.padding = 0;
  receive(*ingress, *layer, original, true, now_us);
}

void Forwarder::receive(Ingress& ingress, Layer& layer, const RtpPacket& packet,
                        bool recovered, int64_t now_us) {
  const MediaCodec* codec = ingress.codec(packet.payload_type);
  if (!codec) return;
  layer.payload_type = packet.payload_type;
  int64_t sequence = packet.sequence;
  if (!layer.started) {
    layer.started = true;
    layer.base = layer.highest = sequence;
    layer.first_packet_us = now_us;
  } else {
    sequence = layer.highest + int16_t(uint16_t(packet.sequence - uint16_t(layer.highest)));
    if (std::llabs(sequence - layer.highest) > 3000) {  // it started anew
      layer.missing.clear();
      layer.base = layer.highest = sequence = packet.sequence;
      layer.packets = layer.received_before = 0;
      layer.expected_before = 0;
    }
    auto waited = std::find_if(layer.missing.begin(), layer.missing.end(),
                               [&](const Layer::Missing& m) { return m.sequence == sequence; });
    if (waited != layer.missing.end()) layer.missing.erase(waited);
    else if (sequence <= layer.highest && codec->nack && sequence != layer.highest)
      return;  // a duplicate, or so late that nobody waits for it
    for (int64_t s = layer.highest + 1; s < sequence && codec->nack; ++s) {
      if (layer.missing.size() >= kMaxMissing) layer.missing.pop_front();
      layer.missing.push_back({s, now_us, now_us, 0});
    }
    layer.highest = std::max(layer.highest, sequence);
  }
  ++layer.packets;
  if (recovered) ++layer.recovered;
  layer.bytes += packet.payload.size();
  layer.last_packet_us = now_us;
  bool first = ingress.last_packet_us == 0;
  ingress.last_packet_us = now_us;
  if (!recovered) {  // RFC 3550, A.8
    int64_t arrival = now_us * codec->clock_rate / 1000000;
    int64_t transit = int32_t(uint32_t(arrival) - packet.timestamp);
    if (layer.packets > 1) {
      int64_t d = std::llabs(int64_t(int32_t(uint32_t(transit - layer.last_transit))));
      layer.jitter += (double(d) - layer.jitter) / 16;
    }
    layer.last_transit = transit;
  }
  for (const TrackAddress& puller : ingress.pullers) {
    auto other = sessions_.find(puller.session);
    if (other == sessions_.end()) continue;
    auto egress = other->second->egress.find(puller.mid);
    if (egress != other->second->egress.end() && other->second->connected)
      forward(*egress->second, ingress, layer, packet, now_us);
  }
  if (first) {
    request_key_frame(ingress, &layer, now_us);
    output_.media_started(ingress.track);
  }
}

// --- RTCP in ---------------------------------------------------------------------------------

void Forwarder::on_rtcp(const std::string& id, Bytes bytes, int64_t now_us) {
  auto found = sessions_.find(id);
  if (found == sessions_.end()) return;
  Session& session = *found->second;
  session.heard_us = now_us;
  RtcpContent content = RtcpContent::parse(bytes);
  for (const auto& report : content.sender_reports) {
    auto known = session.ssrcs.find(report.ssrc);
    if (known == session.ssrcs.end() || known->second.rtx) continue;
    known->second.layer->last_sr = uint32_t(report.info.ntp >> 16);
    known->second.layer->last_sr_us = now_us;
  }
  for (auto& [mid, egress] : session.egress) {
    for (const RtcpReportBlock& block : content.reports)
      if (block.ssrc == egress->ssrcs.ssrc) egress->fraction_lost = block.fraction_lost / 256.0;
    for (const auto& nack : content.nacks)
      if (nack.ssrc == egress->ssrcs.ssrc) {
        egress->nacks += nack.sequences.size();
        resend(*egress, nack.sequences, now_us);
      }
    for (uint32_t ssrc : content.key_frame_requests) {
      if (ssrc != egress->ssrcs.ssrc) continue;
      ++egress->key_frame_requests;
      Ingress* source = find_ingress(egress->source);
      if (!source) continue;
      Layer* layer = nullptr;
      for (auto& candidate : source->layers)
        if (candidate->ssrc == egress->source_ssrc) layer = candidate.get();
      request_key_frame(*source, layer, now_us);
    }
  }
}

// --- key frames ------------------------------------------------------------------------------

// At most one a second to each publisher; what is asked for in between is sent when that is over.
void Forwarder::request_key_frame(Ingress& ingress, Layer* layer, int64_t now_us) {
  if (ingress.section.kind != "video") return;
  if (!layer) {
    for (auto& each : ingress.layers) request_key_frame(ingress, each.get(), now_us);
    return;
  }
  if (!layer->started) return;  // its first packet will ask
  if (layer->asked_us && now_us - layer->asked_us < kKeyFrameInterval) {
    layer->ask_again = true;
    return;
  }
  send_key_frame_request(ingress, *layer, now_us);
}

void Forwarder::send_key_frame_request(Ingress& ingress, Layer& layer, int64_t now_us) {
  const MediaCodec* codec = ingress.codec(layer.payload_type);
  Session& session = this->session(ingress.track.session);
  if (!codec || !session.connected || (!codec->pli && !codec->fir)) return;
  layer.asked_us = now_us;
  layer.ask_again = false;
  ++layer.key_frame_requests;
  std::vector<uint8_t> out;
  append_receiver_report(out, session.own_ssrc, {});
  append_cname(out, session.own_ssrc, session.id);
  if (codec->pli) append_pli(out, session.own_ssrc, layer.ssrc);
  else append_fir(out, session.own_ssrc, layer.ssrc, layer.fir_number++);
  output_.send_rtcp(session.id, out);
}

// --- time ------------------------------------------------------------------------------------

void Forwarder::on_tick(int64_t now_us) {
  for (auto& [id, session] : sessions_) {
    if (!session->connected) continue;
    tick_ingress(*session, now_us);
    tick_egress(*session, now_us);
  }
}

void Forwarder::tick_ingress(Session& session, int64_t now_us) {
  std::vector<uint8_t> out;
  if (now_us - session.feedback_us >= kFeedbackInterval) {
    if (session.feedback.append(out, session.own_ssrc, session.feedback_ssrc)) {
      session.feedback_us = now_us;
      output_.send_rtcp(session.id, out);
      out.clear();
    }
  }
  bool report = now_us - session.report_us >= kReportInterval;
  std::vector<RtcpReportBlock> blocks;
  std::vector<uint8_t> requests;
  for (auto& [mid, ingress] : session.ingress)
    for (auto& layer : ingress->layers) {
      if (!layer->started) continue;
      const MediaCodec* codec = ingress->codec(layer->payload_type);
      std::vector<uint16_t> wanted;
      std::erase_if(layer->missing, [&](const Layer::Missing& m) {
        return m.tries >= kNackTries || now_us - m.since_us > kNackGiveUp;
      });
      for (Layer::Missing& m : layer->missing) {
        if (m.next_us > now_us) continue;
        ++m.tries;
        m.next_us = now_us + kNackInterval;
        wanted.push_back(uint16_t(m.sequence));
      }
      if (!wanted.empty() && codec && codec->nack) {
        layer->nacks += wanted.size();
        append_nack(requests, session.own_ssrc, layer->ssrc, wanted);
      }
      if (layer->ask_again && now_us - layer->asked_us >= kKeyFrameInterval)
        send_key_frame_request(*ingress, *layer, now_us);
      if (!report) continue;
      int64_t expected = layer->highest - layer->base + 1;
      int64_t lost = expected - int64_t(layer->packets);
      int64_t interval_expected = expected - layer->expected_before;
      int64_t interval_lost =
          interval_expected - int64_t(layer->packets - layer->received_before);
      layer->expected_before = expected;
      layer->received_before = layer->packets;
      RtcpReportBlock block;
      block.ssrc = layer->ssrc;
      if (interval_expected > 0 && interval_lost > 0)
        block.fraction_lost =
            uint8_t(std::min<int64_t>(255, interval_lost * 256 / interval_expected));
      block.lost = int32_t(std::clamp<int64_t>(lost, -0x800000, 0x7fffff));
      block.highest = uint32_t(layer->highest);
      block.jitter = uint32_t(layer->jitter);
      if (layer->last_sr_us) {
        block.last_sr = layer->last_sr;
        block.delay_since_sr = uint32_t((now_us - layer->last_sr_us) * 65536 / 1000000);
      }
      blocks.push_back(block);
    }
  if (!report && requests.empty()) return;
  // Also without publications: it tells the client that somebody is there.
  append_receiver_report(out, session.own_ssrc, blocks);
  append_cname(out, session.own_ssrc, session.id);
  out.insert(out.end(), requests.begin(), requests.end());
  if (report) session.report_us = now_us;
  output_.send_rtcp(session.id, out);
}

std::vector<Forwarder::IngressStats> Forwarder::ingress_stats() const {
  std::vector<IngressStats> all;
  for (auto& [id, session] : sessions_)
    for (auto& [mid, ingress] : session->ingress)
      for (auto& layer : ingress->layers) {
        const MediaCodec* codec = ingress->codec(layer->payload_type);
        IngressStats stats;
        stats.track = ingress->track;
        stats.kind = ingress->section.kind;
        stats.codec = codec ? codec->name : "";
        stats.rid = layer->rid;
        stats.ssrc = layer->ssrc;
        stats.packets = layer->packets;
        stats.bytes = layer->bytes;
        stats.recovered = layer->recovered;
        stats.nacks = layer->nacks;
        stats.key_frame_requests = layer->key_frame_requests;
        stats.lost = layer->started
                         ? layer->highest - layer->base + 1 - int64_t(layer->packets)
                         : 0;
        stats.jitter_ms = codec ? layer->jitter * 1000 / codec->clock_rate : 0;
        stats.first_packet_us = layer->first_packet_us;
        stats.last_packet_us = layer->last_packet_us;
        all.push_back(stats);
      }
  return all;
}

}  // namespace cfr::sfu
