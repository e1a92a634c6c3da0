// Forwards RTP from publishers' sections (ingress) to pullers' sections (egress), as opaque
// packets. Pure: packets and the time in, packets out; no I/O, clock or threads. One instance
// serves all sessions of an SFU; bound to one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "sfu/media_section.h"
#include "sfu/packet.h"

namespace cfr::sfu {

struct TrackAddress {
  std::string session;
  std::string mid;
  bool operator==(const TrackAddress&) const = default;
  auto operator<=>(const TrackAddress&) const = default;
};

// How an egress chooses among simulcast layers.
struct LayerChoice {
  std::string preferred_rid;     // "" = the first announced one that is alive
  bool next_if_missing = false;  // ridNotAvailable: asciibetical
};

class Forwarder {
 public:
  class Output {
   public:
    virtual ~Output() = default;
    // Must not call the Forwarder. The bytes are valid during the call.
    virtual void send_rtp(const std::string& session, Bytes packet) = 0;
    virtual void send_rtcp(const std::string& session, Bytes packet) = 0;
    // The first packet of an ingress arrived. May call the Forwarder.
    virtual void media_started(const TrackAddress& track) = 0;
  };

  // `wallclock_offset_us`: added to every time given below it yields microseconds since 1970, for
  // sender reports.
  Forwarder(Output& output, int64_t wallclock_offset_us, uint32_t seed);
  ~Forwarder();

  // What a publisher sends in a section; again after a renegotiation.
  void set_ingress(const TrackAddress& track, const MediaSection& section);
  void remove_ingress(const TrackAddress& track);
  // What a puller receives in one of its sections; again after a renegotiation or to change the
  // source. `section.codecs` are what it can take. Numbering goes on over a change of the source.
  void set_egress(const TrackAddress& puller, const TrackAddress& source,
                  const MediaSection& section, SsrcPair ssrcs, const std::string& cname,
                  const LayerChoice& choice, int64_t now_us);
  void set_choice(const TrackAddress& puller, const LayerChoice& choice, int64_t now_us);
  void remove_egress(const TrackAddress& puller);
  // Nothing is sent to a session that is not connected.
  void set_connected(const std::string& session, bool connected, int64_t now_us);
  // A fault for tests: what comes from and goes to the session is silently lost.
  void set_blocked(const std::string& session, bool blocked);
  void remove_session(const std::string& session);

  void on_rtp(const std::string& session, Bytes packet, int64_t now_us);
  void on_rtcp(const std::string& session, Bytes packet, int64_t now_us);
  // The client is there, though it sent no media (a STUN check arrived).
  void heard(const std::string& session, int64_t now_us);
  // Every 20 ms or more often: reports, feedback, requests for what is missing.
  void on_tick(int64_t now_us);

  bool has_media(const TrackAddress& track) const;
  // Time of the last packet of an ingress; 0 = none yet.
  int64_t last_packet_us(const TrackAddress& track) const;
  // Any packet of the session; 0 = none yet.
  int64_t last_heard_us(const std::string& session) const;

  // Of one SSRC of an ingress: a track, or a simulcast layer.
  struct IngressStats {
    TrackAddress track;
    std::string kind, codec, rid;
    uint32_t ssrc = 0, rtx_ssrc = 0;
    uint64_t packets = 0, bytes = 0;  // of media, with what was recovered
    uint64_t recovered = 0;           // came by RTX or late
    uint64_t nacks = 0;               // sequence numbers asked for
    uint64_t key_frame_requests = 0;  // sent
    uint64_t key_frames = 0;          // seen, where the codec is known
    int64_t lost = 0;
    double jitter_ms = 0;
    uint64_t bitrate_bps = 0;  // over about a second
    int64_t first_packet_us = 0, last_packet_us = 0;
  };
  struct EgressStats {
    TrackAddress puller, source;
    uint32_t ssrc = 0, rtx_ssrc = 0;
    std::string rid;  // of the layer in use
    uint64_t packets = 0, bytes = 0, nacks = 0, resent = 0, key_frame_requests = 0, no_codec = 0;
    uint64_t padding_dropped = 0;
    int64_t first_packet_us = 0;
    double fraction_lost = 0;  // as the puller reported
    int64_t lost = 0;
    double rtt_ms = 0;  // 0 = unknown
  };
  struct SessionStats {
    std::string session;
    bool connected = false, blocked = false;
    uint64_t unknown_packets = 0;  // RTP that belongs to no section
    uint64_t feedback_sent = 0;    // transport-cc messages
    uint64_t feedback_received = 0, feedback_packets = 0, feedback_lost = 0;
  };
  std::vector<IngressStats> ingress_stats() const;
  std::vector<EgressStats> egress_stats() const;
  std::vector<SessionStats> session_stats() const;

 private:
  struct Layer;
  struct Ingress;
  struct Egress;
  struct Session;

  Session& session(const std::string& id);
  Session* find_session(const std::string& id) const;
  Ingress* find_ingress(const TrackAddress& track) const;
  Egress* find_egress(const TrackAddress& puller) const;
  void transmit(Session& session, Bytes packet, bool rtcp);

  Layer* classify(Session& session, const RtpPacket& packet, Ingress** owner, bool* rtx);
  Layer* add_layer(Ingress& ingress, uint32_t ssrc, const std::string& rid);
  void forget_layers(Session& session, Ingress& ingress);
  void receive(Session& session, Ingress& ingress, Layer& layer, const RtpPacket& packet, bool rtx,
               int64_t now_us);
  void request_key_frame(Ingress& ingress, Layer* layer, int64_t now_us);
  void send_key_frame_request(Ingress& ingress, Layer& layer, int64_t now_us);
  void tick_feedback(Session& session, int64_t now_us);
  void tick_ingress(Session& session, int64_t now_us);

  Layer* wanted_layer(const Egress& egress, const Ingress& ingress, int64_t now_us) const;
  bool follow_layer(Egress& egress, Ingress& ingress, Layer& layer, bool key_frame, int64_t now_us);
  const MediaCodec* codec_for(Egress& egress, const Ingress& ingress, int payload_type);
  void forward(Egress& egress, Ingress& ingress, Layer& layer, const RtpPacket& packet,
               int64_t sequence, bool key_frame, int64_t now_us);
  void emit(Egress& egress, const RtpPacket& packet, Bytes audio_level, int original_sequence,
            int64_t now_us);
  void resend(Egress& egress, const std::vector<uint16_t>& sequences, int64_t now_us);
  void send_report(Egress& egress, int64_t now_us);
  uint32_t random();

  Output& output_;
  const int64_t wallclock_offset_us_;
  uint64_t random_state_;
  uint64_t next_serial_ = 1;  // of layers
  std::unordered_map<std::string, std::unique_ptr<Session>> sessions_;
  std::vector<uint8_t> scratch_;
};

}  // namespace cfr::sfu
