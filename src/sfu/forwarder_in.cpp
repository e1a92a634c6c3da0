// What comes in: RTP of publishers, RTCP of all; and what is said to publishers about it.
#include <algorithm>
#include <cstdlib>

#include "sfu/forwarder_parts.h"
#include "sfu/keyframe.h"

namespace cfr::sfu {

namespace {

constexpr int64_t kReportInterval = 1000 * kMs;
constexpr int64_t kFeedbackInterval = 50 * kMs;
constexpr int64_t kNackGiveUp = 1000 * kMs;
constexpr int kNackTries = 10;
constexpr std::size_t kMaxMissing = 512;  // more at once is not repaired but begun anew
constexpr int64_t kMaxJump = 3000;        // MAX_DROPOUT of RFC 3550, A.1
constexpr std::size_t kMaxLayers = 6;     // of one track; bounds what a hostile publisher can open

std::string text(Bytes bytes) {
  return {bytes.begin(), bytes.end()};
}

bool equal(Bytes bytes, const std::string& text) {
  return bytes.size() == text.size() && std::equal(bytes.begin(), bytes.end(), text.begin());
}

}  // namespace

// RFC 8843, section 9.2: by the MID in the packet, by what was announced or learnt of the SSRC, by
// the payload type if it is unique.
Forwarder::Layer* Forwarder::classify(Session& session, const RtpPacket& packet, Ingress** owner,
                                      bool* rtx) {
  auto known = session.ssrcs.find(packet.ssrc);
  if (known != session.ssrcs.end()) {
    Ingress* ingress = known->second.ingress;
    Bytes mid = packet.extension.empty() ? Bytes() : packet.find(ingress->section.extensions.mid);
    if (mid.empty() || equal(mid, ingress->track.mid) || !session.ingress.count(text(mid))) {
      *owner = ingress;
      *rtx = known->second.rtx;
      return known->second.layer;
    }
    session.ssrcs.erase(known);  // the packet says otherwise
  }
  Ingress* match = nullptr;
  for (auto& [mid, ingress] : session.ingress) {
    Bytes named = packet.find(ingress->section.extensions.mid);
    if (!named.empty() && equal(named, mid)) match = ingress.get();
  }
  if (!match) {
    int candidates = 0;
    for (auto& [mid, ingress] : session.ingress)
      if (ingress->codec(packet.payload_type) || ingress->codec_of_rtx(packet.payload_type)) {
        match = ingress.get();
        ++candidates;
      }
    if (candidates != 1) return nullptr;
  }
  const ExtensionIds& ids = match->section.extensions;
  const bool layered = match->section.rids.size() > 1;
  const bool repair = match->codec_of_rtx(packet.payload_type) != nullptr;
  if (!repair && !match->codec(packet.payload_type)) return nullptr;
  std::string rid = text(packet.find(repair && ids.repaired_rid ? ids.repaired_rid : ids.rid));
  Layer* layer = nullptr;
  for (auto& candidate : match->layers)
    if (layered ? !rid.empty() && candidate->rid == rid : match->layers.size() == 1)
      layer = candidate.get();
  *owner = match;
  *rtx = repair;
  if (repair) {
    if (!layer) return nullptr;  // repair of what has not come yet
    session.ssrcs.erase(layer->rtx_ssrc);
    layer->rtx_ssrc = packet.ssrc;
    session.ssrcs[packet.ssrc] = {match, layer, true};
    return layer;
  }
  if (layered) {
    // Without its name a layer cannot be told from the others yet.
    if (rid.empty()) return nullptr;
    if (layer) {  // the publisher changed its SSRC
      std::erase_if(session.ssrcs, [&](const auto& entry) { return entry.second.layer == layer; });
      std::erase_if(match->layers, [&](const auto& each) { return each.get() == layer; });
    }
    if (match->layers.size() >= kMaxLayers) return nullptr;
  } else {
    forget_layers(session, *match);  // a new SSRC replaces the old one
    rid.clear();
  }
  return add_layer(*match, packet.ssrc, rid);
}

void Forwarder::on_rtp(const std::string& id, Bytes bytes, int64_t now_us) {
  Session* session = find_session(id);
  if (!session || session->blocked) return;
  session->heard_us = now_us;
  auto packet = RtpPacket::parse(bytes);
  if (!packet) return;
  // Of a section without a track, too: what is not told of has been lost, to the client.
  Bytes counter = packet->find(session->transport_cc);
  if (counter.size() == 2) {
    session->feedback.arrived(read16(counter.data()), now_us);
    session->feedback_ssrc = packet->ssrc;
  }
  Ingress* ingress = nullptr;
  bool rtx = false;
  Layer* layer = classify(*session, *packet, &ingress, &rtx);
  if (!layer) {
    ++session->unknown_packets;
    return;
  }
  if (!rtx) return receive(*session, *ingress, *layer, *packet, false, now_us);
  // RFC 4588: the original sequence number stands before the original payload. Without a payload
  // it is a probe.
  const MediaCodec* codec = ingress->codec_of_rtx(packet->payload_type);
  if (!codec || packet->payload.size() < 2 || !layer->started) return;
  if (packet->payload.size() == 2 && packet->padding) return;
  RtpPacket original = *packet;
  original.sequence = read16(packet->payload.data());
  original.payload = packet->payload.subspan(2);
  original.payload_type = codec->payload_type;
  original.ssrc = layer->ssrc;
  original.padding = 0;
  receive(*session, *ingress, *layer, original, true, now_us);
}

void Forwarder::receive(Session& session, Ingress& ingress, Layer& layer, const RtpPacket& packet,
                        bool rtx, int64_t now_us) {
  const MediaCodec* codec = ingress.codec(packet.payload_type);
  if (!codec) {
    ++session.unknown_packets;
    return;
  }
  // Unwrapped; the first one is put high enough that earlier ones are not negative.
  int64_t sequence = 0x10000 + packet.sequence;
  bool restart = !layer.started, recovered = rtx;
  if (layer.started) {
    sequence = layer.highest + int16_t(uint16_t(packet.sequence - uint16_t(layer.highest)));
    if (std::llabs(sequence - layer.highest) > kMaxJump) {
      if (rtx) return;
      if (layer.bad_sequence != packet.sequence) {  // perhaps one stray packet
        layer.bad_sequence = uint16_t(packet.sequence + 1);
        return;
      }
      restart = true;
      layer.serial = next_serial_++;
      sequence = 0x10000 + packet.sequence;
    }
  }
  layer.bad_sequence = -1;
  if (restart) {
    layer.started = true;
    layer.base = sequence;
    layer.highest = sequence - 1;
    layer.received.reset();
    layer.missing.clear();
    layer.expected_before = 0;
    layer.received_before = layer.received_since_base = 0;
    layer.anchored = false;
    layer.report.reset();
    if (!layer.first_packet_us) layer.first_packet_us = now_us;
  }
  const auto slot = [&](int64_t s) { return std::size_t(s) % layer.received.size(); };
  if (sequence > layer.highest) {
    for (int64_t s = layer.highest + 1; s < sequence; ++s) layer.received.reset(slot(s));
    if (codec->nack) {
      if (layer.missing.size() + std::size_t(sequence - layer.highest - 1) > kMaxMissing) {
        layer.missing.clear();
        request_key_frame(ingress, &layer, now_us);
      } else {
        for (int64_t s = layer.highest + 1; s < sequence; ++s)
          layer.missing.push_back({s, now_us, now_us, 0, 0});
      }
    }
    layer.highest = sequence;
  } else {
    if (layer.received.test(slot(sequence))) return;  // a duplicate
    auto waited = std::find_if(layer.missing.begin(), layer.missing.end(),
                               [&](const Layer::Missing& m) { return m.sequence == sequence; });
    if (waited != layer.missing.end()) {
      if (waited->tries == 1)
        layer.round_trip_us += (now_us - waited->asked_us - layer.round_trip_us) / 8;
      recovered = recovered || waited->tries > 0;
      layer.missing.erase(waited);
    }
  }
  layer.received.set(slot(sequence));
  layer.payload_type = packet.payload_type;
  layer.ended = false;
  ++layer.packets;
  ++layer.received_since_base;
  if (sequence < layer.base) layer.base = sequence;
  if (recovered) ++layer.recovered;
  layer.bytes += packet.payload.size();
  layer.rate_bytes += packet.payload.size();
  layer.last_packet_us = now_us;
  if (!rtx && !packet.padding_only()) {  // RFC 3550, A.8
    uint32_t transit = uint32_t(now_us * codec->clock_rate / 1000000) - packet.timestamp;
    if (layer.packets > 1 && !restart) {
      int64_t d = std::llabs(int64_t(int32_t(transit - layer.last_transit)));
      layer.jitter += (double(d) - layer.jitter) / 16;
    }
    layer.last_transit = transit;
    // The quickest arrival says when a timestamp was; it yields slowly, for clocks drift.
    int64_t ticks = int32_t(packet.timestamp - layer.anchor_rtp);
    int64_t expected = layer.anchor_us + ticks * 1000000 / codec->clock_rate;
    int64_t leak = (now_us - layer.anchor_us) / 1000;
    if (!layer.anchored || now_us < expected + leak ||
        std::llabs(now_us - expected) > 10000 * kMs) {
      layer.anchored = true;
      layer.anchor_rtp = packet.timestamp;
      layer.anchor_us = now_us;
    }
  }

  const bool key_frame = ingress.section.kind == "video" &&
                         starts_key_frame(codec->name, packet.payload).value_or(false);
  if (key_frame && !rtx) {
    ++layer.key_frames;
    layer.ask_again = false;  // whoever asked has it now
  }
  layer.cache.put(packet, now_us);
  const bool first = ingress.last_packet_us == 0;
  ingress.last_packet_us = now_us;
  bool watched = false;
  for (Egress* egress : ingress.pullers) {
    if (!egress->session->connected) continue;
    watched = true;
    forward(*egress, ingress, layer, packet, sequence, key_frame, now_us);
  }
  if (restart && watched && !key_frame) request_key_frame(ingress, &layer, now_us);
  if (first) {
    TrackAddress track = ingress.track;  // the listener may remove the ingress
    output_.media_started(track);
  }
}

// --- RTCP ------------------------------------------------------------------------------------

void Forwarder::on_rtcp(const std::string& id, Bytes bytes, int64_t now_us) {
  Session* session = find_session(id);
  if (!session || session->blocked) return;
  session->heard_us = now_us;
  RtcpContent content = RtcpContent::parse(bytes);
  for (const auto& report : content.sender_reports) {
    auto known = session->ssrcs.find(report.ssrc);
    if (known == session->ssrcs.end() || known->second.rtx) continue;
    Layer& layer = *known->second.layer;
    layer.report = {unix_us_from_ntp(report.info.ntp), report.info.rtp,
                    uint32_t(report.info.ntp >> 16), now_us};
    int64_t offset = now_us + wallclock_offset_us_ - layer.report->unix_us;
    if (!session->clock_offset_us || offset < *session->clock_offset_us ||
        offset - *session->clock_offset_us > 500 * kMs)
      session->clock_offset_us = offset;
  }
  for (uint32_t ssrc : content.byes) {
    auto known = session->ssrcs.find(ssrc);
    if (known != session->ssrcs.end() && !known->second.rtx) {
      known->second.layer->ended = true;
      known->second.layer->missing.clear();
    }
  }
  for (const auto& feedback : content.transport_feedback) {
    ++session->feedback_received;
    for (const auto& arrival : feedback.arrivals)
      ++(arrival.received ? session->feedback_packets : session->feedback_lost);
  }
  for (auto& [mid, egress] : session->egress) {
    for (const RtcpReportBlock& block : content.reports) {
      if (block.ssrc != egress->ssrcs.ssrc) continue;
      egress->fraction_lost = block.fraction_lost / 256.0;
      egress->lost = block.lost;
      if (block.last_sr) {  // RFC 3550, 6.4.1
        uint32_t middle = uint32_t(ntp_from_unix_us(now_us + wallclock_offset_us_) >> 16);
        int32_t units = int32_t(middle - block.last_sr - block.delay_since_sr);
        if (units >= 0) egress->rtt_ms = units * 1000.0 / 65536;
      }
    }
    for (const auto& nack : content.nacks)
      if (nack.ssrc == egress->ssrcs.ssrc) {
        egress->nacks += nack.sequences.size();
        resend(*egress, nack.sequences, now_us);
      }
    for (uint32_t ssrc : content.key_frame_requests) {
      if (ssrc != egress->ssrcs.ssrc) continue;
      ++egress->key_frame_requests;
      if (Ingress* source = find_ingress(egress->source))
        request_key_frame(*source, source->layer(egress->layer), now_us);
    }
  }
}

// --- time ------------------------------------------------------------------------------------

void Forwarder::on_tick(int64_t now_us) {
  for (auto& [id, session] : sessions_) {
    if (!session->connected) continue;
    tick_feedback(*session, now_us);
    tick_ingress(*session, now_us);
    for (auto& [mid, egress] : session->egress)
      if (egress->payload_type >= 0 && now_us - egress->last_report_us >= kReportInterval)
        send_report(*egress, now_us);
  }
}

void Forwarder::tick_feedback(Session& session, int64_t now_us) {
  if (now_us - session.feedback_us < kFeedbackInterval) return;
  for (int messages = 0; messages < 16; ++messages) {
    std::vector<uint8_t> out;
    append_receiver_report(out, session.own_ssrc, {});  // compound, for strict receivers
    if (!session.feedback.append(out, session.own_ssrc, session.feedback_ssrc)) return;
    session.feedback_us = now_us;
    ++session.feedback_sent;
    transmit(session, out, true);
  }
}

void Forwarder::tick_ingress(Session& session, int64_t now_us) {
  const bool report = now_us - session.report_us >= kReportInterval;
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
      const int64_t interval = std::clamp(layer->round_trip_us * 3 / 2, 20 * kMs, 200 * kMs);
      for (Layer::Missing& m : layer->missing) {
        if (m.next_us > now_us) continue;
        ++m.tries;
        m.asked_us = now_us;
        m.next_us = now_us + interval;
        wanted.push_back(uint16_t(m.sequence));
      }
      if (!wanted.empty() && codec && codec->nack) {
        layer->nacks += wanted.size();
        append_nack(requests, session.own_ssrc, layer->ssrc, wanted);
      }
      if (layer->ask_again && now_us - layer->asked_us >= 1000 * kMs)
        send_key_frame_request(*ingress, *layer, now_us);
      int64_t rate_time = now_us - layer->rate_since_us;
      if (rate_time >= 1000 * kMs) {
        layer->bitrate_bps = layer->rate_bytes * 8 * 1000000 / uint64_t(rate_time);
        layer->rate_bytes = 0;
        layer->rate_since_us = now_us;
      }
      if (!report) continue;
      // RFC 3550, A.3
      const int64_t expected = layer->highest - layer->base + 1;
      const int64_t lost = expected - int64_t(layer->received_since_base);
      const int64_t interval_expected = expected - layer->expected_before;
      const int64_t interval_lost =
          interval_expected - int64_t(layer->received_since_base - layer->received_before);
      layer->expected_before = expected;
      layer->received_before = layer->received_since_base;
      RtcpReportBlock block;
      block.ssrc = layer->ssrc;
      if (interval_expected > 0 && interval_lost > 0)
        block.fraction_lost =
            uint8_t(std::min<int64_t>(255, interval_lost * 256 / interval_expected));
      block.lost = int32_t(std::clamp<int64_t>(lost, -0x800000, 0x7fffff));
      block.highest = uint32_t(layer->highest - 0x10000);
      block.jitter = uint32_t(layer->jitter);
      if (layer->report) {
        block.last_sr = layer->report->ntp_middle;
        block.delay_since_sr = uint32_t((now_us - layer->report->arrival_us) * 65536 / 1000000);
      }
      blocks.push_back(block);
    }
  if (!report && requests.empty()) return;
  // Also without publications: it tells the client that somebody is there.
  std::vector<uint8_t> out;
  append_receiver_report(out, session.own_ssrc, blocks);
  append_cname(out, session.own_ssrc, session.id);
  out.insert(out.end(), requests.begin(), requests.end());
  if (report) session.report_us = now_us;
  transmit(session, out, true);
}

}  // namespace cfr::sfu
