// What goes out to pullers: the choice of a layer, numbering, header extensions, repair, reports.
#include <algorithm>
#include <cctype>
#include <cstdlib>

#include "sfu/forwarder_parts.h"

namespace cfr::sfu {

namespace {

// How long a change of layers waits for a key frame: with a picture to show meanwhile, or without.
constexpr int64_t kSwitchWait = 5000 * kMs, kSwitchWaitBlind = 2000 * kMs;
constexpr int64_t kResendInterval = 10 * kMs;  // of the same packet
constexpr std::size_t kMaxShifts = 64;

bool same_text(const std::string& a, const std::string& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](unsigned char x, unsigned char y) {
    return std::tolower(x) == std::tolower(y);
  });
}

// The value of a parameter in an fmtp text, "" if absent.
std::string parameter(const std::string& fmtp, const std::string& name) {
  for (std::size_t at = 0; at < fmtp.size();) {
    std::size_t end = std::min(fmtp.find(';', at), fmtp.size());
    std::string item = fmtp.substr(at, end - at);
    item.erase(0, std::min(item.find_first_not_of(' '), item.size()));
    item.erase(item.find_last_not_of(' ') + 1);
    auto equals = item.find('=');
    if (same_text(item.substr(0, equals), name))
      return equals == std::string::npos ? "" : item.substr(equals + 1);
    at = end + 1;
  }
  return "";
}

std::string parameter_or(const MediaCodec& codec, const char* name, const char* fallback) {
  std::string value = parameter(codec.fmtp, name);
  return value.empty() ? fallback : value;
}

// How well a puller's codec fits the publisher's: 0 = not at all. A mere difference in parameters
// is no reason to refuse: many a decoder takes more than its description says.
int fit(const MediaCodec& published, const MediaCodec& offered) {
  if (!same_text(published.name, offered.name)) return 0;
  int score = 1;
  if (same_text(published.name, "H264")) {  // RFC 6184, 8.1 and 8.2.2
    if (parameter_or(published, "packetization-mode", "0") ==
        parameter_or(offered, "packetization-mode", "0"))
      score += 8;
    std::string a = parameter_or(published, "profile-level-id", "42000a"),
                b = parameter_or(offered, "profile-level-id", "42000a");
    if (same_text(a, b))
      score += 4;
    else if (same_text(a.substr(0, 4), b.substr(0, 4)))
      score += 3;
    else if (same_text(a.substr(0, 2), b.substr(0, 2)))
      score += 2;
  } else if (same_text(published.name, "VP9")) {
    if (parameter_or(published, "profile-id", "0") != parameter_or(offered, "profile-id", "0"))
      return 0;  // another bit depth or chroma format altogether
  } else if (published.clock_rate != offered.clock_rate) {
    return 0;
  }
  return score;
}

}  // namespace

const MediaCodec* Forwarder::codec_for(Egress& egress, const Ingress& ingress, int payload_type) {
  const auto& codecs = egress.section.codecs;
  for (const Egress::Mapping& known : egress.mapping)
    if (known.payload_type == payload_type)
      return known.codec < 0 ? nullptr : &codecs[std::size_t(known.codec)];
  const MediaCodec* published = ingress.codec(payload_type);
  int best = -1, best_fit = 0;
  for (std::size_t i = 0; published && i < codecs.size(); ++i) {
    int value = fit(*published, codecs[i]);
    if (value > best_fit && codecs[i].payload_type >= 0) {
      best_fit = value;
      best = int(i);
    }
  }
  egress.mapping.push_back({payload_type, best});
  return best < 0 ? nullptr : &codecs[std::size_t(best)];
}

// --- layers ----------------------------------------------------------------------------------

// The layer that should be forwarded now; null = none.
Forwarder::Layer* Forwarder::wanted_layer(const Egress& egress, const Ingress& ingress,
                                          int64_t now_us) const {
  if (ingress.layers.size() == 1 && ingress.section.rids.size() <= 1)
    return ingress.layers.front().get();
  auto alive = [&](const std::string& rid) -> Layer* {
    for (auto& layer : ingress.layers)
      if (layer->rid == rid && layer->alive(now_us)) return layer.get();
    return nullptr;
  };
  const std::string& preferred = egress.choice.preferred_rid;
  if (!preferred.empty() && !ingress.section.rids.empty()) {
    if (Layer* layer = alive(preferred)) return layer;
    if (!egress.choice.next_if_missing) return nullptr;
    // The next in the order a to z, else the nearest before it.
    Layer *next = nullptr, *before = nullptr;
    for (auto& layer : ingress.layers) {
      if (!layer->alive(now_us)) continue;
      if (layer->rid > preferred && (!next || layer->rid < next->rid)) next = layer.get();
      if (layer->rid < preferred && (!before || layer->rid > before->rid)) before = layer.get();
    }
    return next ? next : before;
  }
  for (const std::string& rid : ingress.section.rids)
    if (Layer* layer = alive(rid)) return layer;
  if (Layer* current = ingress.layer(egress.layer); current && current->alive(now_us))
    return current;
  for (auto& layer : ingress.layers)
    if (layer->alive(now_us)) return layer.get();
  return nullptr;
}

// Whether a packet of `layer` goes to this puller; changes the layer in use when it is time.
bool Forwarder::follow_layer(Egress& egress, Ingress& ingress, Layer& layer, bool key_frame,
                             int64_t now_us) {
  Layer* wanted = wanted_layer(egress, ingress, now_us);
  if (layer.serial == egress.layer) {
    if (wanted == &layer) egress.waiting_since_us = 0;
    return true;
  }
  if (wanted != &layer) return false;
  Layer* current = ingress.layer(egress.layer);
  if (current && ingress.section.kind == "video" && !key_frame) {
    if (!egress.waiting_since_us) egress.waiting_since_us = now_us;
    int64_t patience = current->alive(now_us) ? kSwitchWait : kSwitchWaitBlind;
    if (now_us - egress.waiting_since_us < patience) {
      if (!layer.ask_again) request_key_frame(ingress, &layer, now_us);
      return false;
    }
  }
  return true;
}

// --- packets ---------------------------------------------------------------------------------

void Forwarder::forward(Egress& egress, Ingress& ingress, Layer& layer, const RtpPacket& packet,
                        int64_t sequence, bool key_frame, int64_t now_us) {
  if (!follow_layer(egress, ingress, layer, key_frame, now_us)) return;
  const MediaCodec* codec = codec_for(egress, ingress, packet.payload_type);
  const bool fresh = egress.layer != layer.serial;
  if (!codec) ++egress.no_codec;
  if (fresh) {
    if (!codec || packet.padding_only()) return;  // begin with something to see
    // Numbering goes on where the source before ended, time by as much as has passed.
    uint32_t passed = 0;
    if (egress.payload_type >= 0) {
      passed = uint32_t((now_us - egress.last_sent_us) * codec->clock_rate / 1000000);
      if (passed == 0) passed = 1;
      if (!key_frame) request_key_frame(ingress, &layer, now_us);
    }
    egress.layer = layer.serial;
    egress.rid = layer.rid;
    egress.waiting_since_us = 0;
    egress.shifts.clear();
    egress.shifts.push_back({sequence, uint16_t(egress.last_sequence + 1 - uint16_t(sequence))});
    egress.source_highest = sequence - 1;
    egress.timestamp_offset = egress.last_timestamp + passed - packet.timestamp;
  }

  const bool late = sequence <= egress.source_highest;
  if (!late) egress.source_highest = sequence;
  const bool leave_out = !codec || packet.padding_only();
  if (packet.padding_only()) ++egress.padding_dropped;
  if (leave_out && !late) {  // those after it move up
    egress.shifts.push_back({sequence + 1, uint16_t(egress.shifts.back().offset - 1)});
    if (egress.shifts.size() > kMaxShifts) egress.shifts.pop_front();
    return;
  }
  auto shift = std::find_if(egress.shifts.rbegin(), egress.shifts.rend(),
                            [&](const Egress::Shift& s) { return s.from <= sequence; });
  if (shift == egress.shifts.rend()) return;  // from before this source was taken

  RtpPacket out = packet;
  out.sequence = uint16_t(uint16_t(sequence) + shift->offset);
  out.timestamp = packet.timestamp + egress.timestamp_offset;
  out.ssrc = egress.ssrcs.ssrc;
  int rtx_payload_type = codec && egress.ssrcs.rtx_ssrc ? codec->rtx_payload_type : -1;
  if (leave_out) {
    // Its number is taken already: a filler, or the puller asks for it for ever.
    if (egress.payload_type < 0) return;
    out.payload_type = egress.payload_type;
    out.payload = {};
    out.marker = false;
    rtx_payload_type = -1;
  } else {
    out.payload_type = codec->payload_type;
    Egress::Sent& sent = egress.sent[out.sequence & (egress.sent.size() - 1)];
    sent.layer = layer.serial;
    sent.sequence = out.sequence;
    sent.source_sequence = packet.sequence;
    sent.timestamp = out.timestamp;
    sent.payload_type = int8_t(out.payload_type);
    sent.rtx_payload_type = int8_t(rtx_payload_type);
    sent.resent_us = 0;
  }
  if (!late) {
    egress.last_sequence = out.sequence;
    egress.last_timestamp = out.timestamp;
    egress.last_sent_us = now_us;
    egress.payload_type = out.payload_type;
    egress.clock_rate = codec->clock_rate;
  }
  if (!egress.first_packet_us) egress.first_packet_us = now_us;
  ++egress.packets;
  egress.bytes += out.payload.size();
  emit(egress, out, packet.find(ingress.section.extensions.audio_level), -1, now_us);
}

// Writes and sends a packet whose header fields are the puller's already.
void Forwarder::emit(Egress& egress, const RtpPacket& packet, Bytes audio_level,
                     int original_sequence, int64_t now_us) {
  const ExtensionIds& ids = egress.section.extensions;
  HeaderExtension extensions[4];
  std::size_t n = 0;
  if (ids.mid) {
    auto* mid = reinterpret_cast<const uint8_t*>(egress.puller.mid.data());
    extensions[n++] = {ids.mid, Bytes(mid, egress.puller.mid.size())};
  }
  uint8_t counter[2];
  if (ids.transport_cc) {
    write16(counter, egress.session->transport_sequence++);
    extensions[n++] = {ids.transport_cc, counter};
  }
  uint8_t send_time[3];
  if (ids.abs_send_time) {  // seconds modulo 64 in 6.18 fixed point
    uint64_t fixed = (uint64_t(now_us % 64000000) << 18) / 1000000;
    for (int i = 0; i < 3; ++i) send_time[i] = uint8_t(fixed >> (16 - 8 * i));
    extensions[n++] = {ids.abs_send_time, send_time};
  }
  if (ids.audio_level) extensions[n++] = {ids.audio_level, audio_level};
  write_packet(scratch_, packet, std::span(extensions, n), original_sequence);
  transmit(*egress.session, scratch_, false);
}

void Forwarder::resend(Egress& egress, const std::vector<uint16_t>& sequences, int64_t now_us) {
  Ingress* ingress = find_ingress(egress.source);
  if (!ingress) return;
  for (uint16_t sequence : sequences) {
    Egress::Sent& sent = egress.sent[sequence & (egress.sent.size() - 1)];
    if (!sent.layer || sent.sequence != sequence) continue;
    if (sent.resent_us && now_us - sent.resent_us < kResendInterval) continue;
    Layer* layer = ingress->layer(sent.layer);
    const RtpPacket* source = layer ? layer->cache.get(sent.source_sequence, now_us) : nullptr;
    if (!source) continue;
    sent.resent_us = now_us;
    ++egress.resent;
    RtpPacket out = *source;
    out.timestamp = sent.timestamp;
    out.padding = 0;
    const bool rtx = sent.rtx_payload_type >= 0;
    out.sequence = rtx ? egress.rtx_sequence++ : sequence;
    out.payload_type = rtx ? sent.rtx_payload_type : sent.payload_type;
    out.ssrc = rtx ? egress.ssrcs.rtx_ssrc : egress.ssrcs.ssrc;
    emit(egress, out, source->find(ingress->section.extensions.audio_level), rtx ? sequence : -1,
         now_us);
  }
}

// --- reports ---------------------------------------------------------------------------------

void Forwarder::send_report(Egress& egress, int64_t now_us) {
  egress.last_report_us = now_us;
  Ingress* ingress = find_ingress(egress.source);
  Layer* layer = ingress ? ingress->layer(egress.layer) : nullptr;
  if (!layer) return;
  const int64_t wall_us = now_us + wallclock_offset_us_;
  auto ticks = [&](int64_t us) { return uint32_t(us * egress.clock_rate / 1000000); };
  RtcpSenderInfo info;
  info.ntp = ntp_from_unix_us(wall_us);
  // Which timestamp belongs to this moment: as the publisher reported, by its clock translated into
  // ours; before its first report, as its packets arrived.
  const auto& offset = ingress->session->clock_offset_us;
  if (layer->report && offset)
    info.rtp = layer->report->rtp + ticks(wall_us - *offset - layer->report->unix_us);
  else
    info.rtp = layer->anchor_rtp + ticks(now_us - layer->anchor_us);
  info.rtp += egress.timestamp_offset;
  info.packets = uint32_t(egress.packets);
  info.bytes = uint32_t(egress.bytes);
  std::vector<uint8_t> out;
  append_sender_report(out, egress.ssrcs.ssrc, info);
  append_cname(out, egress.ssrcs.ssrc, egress.cname);
  transmit(*egress.session, out, true);
}

}  // namespace cfr::sfu
