// Forwards RTP from publishers' sections (ingress) to pullers' sections (egress), as opaque packets.
// Pure: packets and the time in, packets out; no I/O, clock or threads. One instance serves all
// sessions of an SFU; bound to one thread.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
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
  std::string preferred_rid;      // "" = the first that comes
  bool next_if_missing = false;   // ridNotAvailable: asciibetical
};

class Forwarder {
 public:
  class Output {
   public:
    virtual ~Output() = default;
    virtual void send_rtp(const std::string& session, Bytes packet) = 0;
    virtual void send_rtcp(const std::string& session, Bytes packet) = 0;
    // The first packet of an ingress arrived.
    virtual void media_started(const TrackAddress& track) = 0;
  };

  // `wallclock_offset_us`: added to every time given below it yields microseconds since 1970, for
  // sender reports.
  Forwarder(Output& output, int64_t wallclock_offset_us, uint32_t seed);
  ~Forwarder();

  // What a publisher sends in a section; again after a renegotiation.
  void set_ingress(const TrackAddress& track, const MediaSection& section);
  void remove_ingress(const TrackAddress& track);
  // What a puller receives in one of its sections. `section.codecs` are what it can take.
  void set_egress(const TrackAddress& puller, const TrackAddress& source,
                  const MediaSection& section, SsrcPair ssrcs, const std::string& cname,
                  const LayerChoice& choice, int64_t now_us);
  void set_choice(const TrackAddress& puller, const LayerChoice& choice, int64_t now_us);
  void remove_egress(const TrackAddress& puller);
  void set_connected(const std::string& session, bool connected, int64_t now_us);
  void remove_session(const std::string& session);

  void on_rtp(const std::string& session, Bytes packet, int64_t now_us);
  void on_rtcp(const std::string& session, Bytes packet, int64_t now_us);
  // Every 20 ms or so: reports, feedback, requests for what is missing.
  void on_tick(int64_t now_us);

  bool has_media(const TrackAddress& track) const;
  // Time of the last packet of an ingress; 0 = none yet.
  int64_t last_packet_us(const TrackAddress& track) const;
  // Any packet of the session; 0 = none yet.
  int64_t last_heard_us(const std::string& session) const;

  struct IngressStats {
    TrackAddress track;
    std::string kind, codec, rid;
    uint32_t ssrc = 0;
    uint64_t packets = 0, bytes = 0, recovered = 0, nacks = 0, key_frame_requests = 0;
    int64_t lost = 0;
    double jitter_ms = 0;
    int64_t first_packet_us = 0, last_packet_us = 0;
  };
  struct EgressStats {
    TrackAddress puller, source;
    uint32_t ssrc = 0;
    uint64_t packets = 0, bytes = 0, nacks = 0, resent = 0, key_frame_requests = 0, no_codec = 0;
    double fraction_lost = 0;
  };
  std::vector<IngressStats> ingress_stats() const;
  std::vector<EgressStats> egress_stats() const;

 private:
  struct Layer;
  struct Ingress;
  struct Egress;
  struct Session;

  Session& session(const std::string& id);
  Ingress* find_ingress(const TrackAddress& track) const;
  Layer* classify(Session& session, const RtpPacket& packet, Ingress** owner, bool* rtx);
  void receive(Ingress& ingress, Layer& layer, const RtpPacket& packet,
               bool recovered, int64_t now_us);
  void forward(Egress& egress, Ingress& ingress, Layer& layer, const RtpPacket& packet,
               int64_t now_us);
  void resend(Egress& egress, const std::vector<uint16_t>& sequences, int64_t now_us);
  void request_key_frame(Ingress& ingress, Layer* layer, int64_t now_us);
  void send_key_frame_request(Ingress& ingress, Layer& layer, int64_t now_us);
  void tick_ingress(Session& session, int64_t now_us);
  void tick_egress(Session& session, int64_t now_us);
  uint32_t random();

  Output& output_;
  const int64_t wallclock_offset_us_;
  uint64_t random_state_;
  std::map<std::string, std::unique_ptr<Session>> sessions_;
};

}  // namespace cfr::sfu
