// Sessions, tracks and their bookkeeping. What comes in is in forwarder_in.cpp, what goes out in
// forwarder_out.cpp.
#include "sfu/forwarder.h"

#include <algorithm>

#include "sfu/forwarder_parts.h"

namespace cfr::sfu {

namespace {

constexpr int64_t kKeyFrameInterval = 1000 * kMs;

}  // namespace

Forwarder::Forwarder(Output& output, int64_t wallclock_offset_us, uint32_t seed)
    : output_(output),
      wallclock_offset_us_(wallclock_offset_us),
      random_state_(seed * 2654435769ull + 1) {
  scratch_.reserve(2048);
}

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

Forwarder::Session* Forwarder::find_session(const std::string& id) const {
  auto found = sessions_.find(id);
  return found == sessions_.end() ? nullptr : found->second.get();
}

Forwarder::Ingress* Forwarder::find_ingress(const TrackAddress& track) const {
  Session* session = find_session(track.session);
  if (!session) return nullptr;
  auto ingress = session->ingress.find(track.mid);
  return ingress == session->ingress.end() ? nullptr : ingress->second.get();
}

Forwarder::Egress* Forwarder::find_egress(const TrackAddress& puller) const {
  Session* session = find_session(puller.session);
  if (!session) return nullptr;
  auto egress = session->egress.find(puller.mid);
  return egress == session->egress.end() ? nullptr : egress->second.get();
}

void Forwarder::transmit(Session& session, Bytes packet, bool rtcp) {
  if (!session.connected || session.blocked) return;
  if (rtcp)
    output_.send_rtcp(session.id, packet);
  else
    output_.send_rtp(session.id, packet);
}

// --- publications ----------------------------------------------------------------------------

Forwarder::Layer* Forwarder::add_layer(Ingress& ingress, uint32_t ssrc, const std::string& rid) {
  std::size_t slots = ingress.section.kind == "video" ? kVideoSlots : kAudioSlots;
  ingress.layers.push_back(std::make_unique<Layer>(next_serial_++, slots));
  Layer* layer = ingress.layers.back().get();
  layer->ssrc = ssrc;
  layer->rid = rid;
  ingress.session->ssrcs[ssrc] = {&ingress, layer, false};
  return layer;
}

void Forwarder::forget_layers(Session& session, Ingress& ingress) {
  std::erase_if(session.ssrcs, [&](const auto& known) { return known.second.ingress == &ingress; });
  ingress.layers.clear();
}

void Forwarder::set_ingress(const TrackAddress& track, const MediaSection& section) {
  Session& session = this->session(track.session);
  auto& ingress = session.ingress[track.mid];
  if (!ingress) {
    ingress = std::make_unique<Ingress>();
    ingress->track = track;
    ingress->session = &session;
    for (auto& [id, other] : sessions_)  // whoever waits for this track already
      for (auto& [mid, egress] : other->egress)
        if (egress->source == track) ingress->pullers.push_back(egress.get());
  }
  ingress->section = section;
  if (section.extensions.transport_cc) session.transport_cc = section.extensions.transport_cc;
  for (Egress* puller : ingress->pullers) puller->mapping.clear();
  if (section.rids.size() > 1) return;  // simulcast: the packets name their layers

  // Announced SSRCs (RFC 5576); what was announced before and is not any more has ended.
  if (section.ssrcs.empty()) return;
  auto announced = [&](const Layer& layer) {
    return std::any_of(section.ssrcs.begin(), section.ssrcs.end(),
                       [&](const SsrcPair& pair) { return pair.ssrc == layer.ssrc; });
  };
  std::erase_if(session.ssrcs, [&](const auto& known) {
    return known.second.ingress == ingress.get() && !announced(*known.second.layer);
  });
  std::erase_if(ingress->layers, [&](const auto& layer) { return !announced(*layer); });
  constexpr std::size_t kMaxAnnounced = 4;
  for (const SsrcPair& pair : section.ssrcs) {
    auto known = session.ssrcs.find(pair.ssrc);
    Layer* layer = nullptr;
    if (known != session.ssrcs.end() && known->second.ingress == ingress.get())
      layer = known->second.rtx ? nullptr : known->second.layer;
    else if (known == session.ssrcs.end() && ingress->layers.size() < kMaxAnnounced)
      layer = add_layer(*ingress, pair.ssrc, "");
    if (!layer || !pair.rtx_ssrc) continue;
    if (session.ssrcs.try_emplace(pair.rtx_ssrc, Session::Known{ingress.get(), layer, true}).second)
      layer->rtx_ssrc = pair.rtx_ssrc;
  }
}

void Forwarder::remove_ingress(const TrackAddress& track) {
  Ingress* ingress = find_ingress(track);
  if (!ingress) return;
  Session& session = *ingress->session;
  forget_layers(session, *ingress);
  session.ingress.erase(track.mid);
}

void Forwarder::remove_session(const std::string& id) {
  Session* session = find_session(id);
  if (!session) return;
  while (!session->egress.empty()) remove_egress(TrackAddress{id, session->egress.begin()->first});
  while (!session->ingress.empty())
    remove_ingress(TrackAddress{id, session->ingress.begin()->first});
  sessions_.erase(id);
}

// --- pulls -----------------------------------------------------------------------------------

void Forwarder::set_egress(const TrackAddress& puller, const TrackAddress& source,
                           const MediaSection& section, SsrcPair ssrcs, const std::string& cname,
                           const LayerChoice& choice, int64_t now_us) {
  Session& session = this->session(puller.session);
  auto& egress = session.egress[puller.mid];
  if (!egress) {
    egress = std::make_unique<Egress>();
    egress->puller = puller;
    egress->session = &session;
    egress->rtx_sequence = uint16_t(random());
    // Below 2^15, as SRTP cannot tell an early wrap-around from the start (RFC 3711, 3.3.1).
    egress->last_sequence = uint16_t(random() & 0x3fff);
    egress->last_timestamp = random();
    egress->sent.resize(section.kind == "video" ? kVideoSlots : kAudioSlots);
  } else if (Ingress* before = find_ingress(egress->source)) {
    std::erase(before->pullers, egress.get());
  }
  egress->source = source;
  egress->section = section;
  egress->ssrcs = ssrcs;
  egress->cname = cname;
  egress->choice = choice;
  egress->mapping.clear();
  egress->waiting_since_us = 0;
  if (Ingress* ingress = find_ingress(source)) {
    ingress->pullers.push_back(egress.get());
    if (session.connected) request_key_frame(*ingress, nullptr, now_us);
  }
}

void Forwarder::set_choice(const TrackAddress& puller, const LayerChoice& choice, int64_t now_us) {
  Egress* egress = find_egress(puller);
  if (!egress) return;
  egress->choice = choice;
  egress->waiting_since_us = 0;
  Ingress* ingress = find_ingress(egress->source);
  if (!ingress) return;
  Layer* wanted = wanted_layer(*egress, *ingress, now_us);
  if (wanted && wanted->serial != egress->layer) request_key_frame(*ingress, wanted, now_us);
}

void Forwarder::remove_egress(const TrackAddress& puller) {
  Egress* egress = find_egress(puller);
  if (!egress) return;
  if (Ingress* ingress = find_ingress(egress->source)) std::erase(ingress->pullers, egress);
  egress->session->egress.erase(puller.mid);
}

// --- sessions --------------------------------------------------------------------------------

void Forwarder::set_connected(const std::string& id, bool connected, int64_t now_us) {
  Session& session = this->session(id);
  session.connected = connected;
  if (!connected) return;
  session.heard_us = std::max(session.heard_us, now_us);
  // A puller that can see now wants a picture now.
  for (auto& [mid, egress] : session.egress)
    if (Ingress* source = find_ingress(egress->source)) request_key_frame(*source, nullptr, now_us);
}

void Forwarder::set_blocked(const std::string& id, bool blocked) {
  if (Session* session = find_session(id)) session->blocked = blocked;
}

void Forwarder::heard(const std::string& id, int64_t now_us) {
  if (Session* session = find_session(id)) session->heard_us = std::max(session->heard_us, now_us);
}

bool Forwarder::has_media(const TrackAddress& track) const {
  return last_packet_us(track) > 0;
}

int64_t Forwarder::last_packet_us(const TrackAddress& track) const {
  Ingress* ingress = find_ingress(track);
  return ingress ? ingress->last_packet_us : 0;
}

int64_t Forwarder::last_heard_us(const std::string& id) const {
  Session* session = find_session(id);
  return session ? session->heard_us : 0;
}

// --- key frames ------------------------------------------------------------------------------

// At most one a second to each stream; what is asked for in between is sent when that is over.
// `layer` null = all of them.
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
  Session& session = *ingress.session;
  layer.ask_again = false;
  if (!codec || (!codec->pli && !codec->fir)) return;
  if (!session.connected) {
    layer.ask_again = true;
    return;
  }
  layer.asked_us = now_us;
  ++layer.key_frame_requests;
  std::vector<uint8_t> out;
  append_receiver_report(out, session.own_ssrc, {});
  append_cname(out, session.own_ssrc, session.id);
  if (codec->pli)
    append_pli(out, session.own_ssrc, layer.ssrc);
  else
    append_fir(out, session.own_ssrc, layer.ssrc, layer.fir_number++);
  transmit(session, out, true);
}

// --- what happened ---------------------------------------------------------------------------

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
        stats.rtx_ssrc = layer->rtx_ssrc;
        stats.packets = layer->packets;
        stats.bytes = layer->bytes;
        stats.recovered = layer->recovered;
        stats.nacks = layer->nacks;
        stats.key_frame_requests = layer->key_frame_requests;
        stats.key_frames = layer->key_frames;
        if (layer->started)
          stats.lost = layer->highest - layer->base + 1 - int64_t(layer->received_since_base);
        stats.jitter_ms =
            codec && codec->clock_rate > 0 ? layer->jitter * 1000 / codec->clock_rate : 0;
        stats.bitrate_bps = layer->bitrate_bps;
        stats.first_packet_us = layer->first_packet_us;
        stats.last_packet_us = layer->last_packet_us;
        all.push_back(std::move(stats));
      }
  return all;
}

std::vector<Forwarder::EgressStats> Forwarder::egress_stats() const {
  std::vector<EgressStats> all;
  for (auto& [id, session] : sessions_)
    for (auto& [mid, egress] : session->egress) {
      EgressStats stats;
      stats.puller = egress->puller;
      stats.source = egress->source;
      stats.ssrc = egress->ssrcs.ssrc;
      stats.rtx_ssrc = egress->ssrcs.rtx_ssrc;
      stats.rid = egress->rid;
      stats.packets = egress->packets;
      stats.bytes = egress->bytes;
      stats.nacks = egress->nacks;
      stats.resent = egress->resent;
      stats.key_frame_requests = egress->key_frame_requests;
      stats.no_codec = egress->no_codec;
      stats.padding_dropped = egress->padding_dropped;
      stats.first_packet_us = egress->first_packet_us;
      stats.fraction_lost = egress->fraction_lost;
      stats.lost = egress->lost;
      stats.rtt_ms = egress->rtt_ms;
      all.push_back(std::move(stats));
    }
  return all;
}

std::vector<Forwarder::SessionStats> Forwarder::session_stats() const {
  std::vector<SessionStats> all;
  for (auto& [id, session] : sessions_) {
    SessionStats stats;
    stats.session = id;
    stats.connected = session->connected;
    stats.blocked = session->blocked;
    stats.unknown_packets = session->unknown_packets;
    stats.feedback_sent = session->feedback_sent;
    stats.feedback_received = session->feedback_received;
    stats.feedback_packets = session->feedback_packets;
    stats.feedback_lost = session->feedback_lost;
    all.push_back(std::move(stats));
  }
  return all;
}

}  // namespace cfr::sfu
