// The parts of the Forwarder; for its own files only.
#pragma once

#include <bitset>
#include <deque>
#include <map>
#include <optional>

#include "sfu/forwarder.h"
#include "sfu/packet_cache.h"
#include "sfu/rtcp.h"

namespace cfr::sfu {

inline constexpr int64_t kMs = 1000;              // microseconds
inline constexpr int64_t kKeep = 1200 * kMs;      // packets that may be asked for again
inline constexpr std::size_t kVideoSlots = 2048;  // a second at 20 Mbit/s
inline constexpr std::size_t kAudioSlots = 256;
inline constexpr int64_t kLayerAlive = 2000 * kMs;  // silence after which a layer is gone

// One SSRC of a publisher: the track, or one of its simulcast layers.
struct Forwarder::Layer {
  Layer(uint64_t serial, std::size_t slots) : serial(serial), cache(slots, kKeep) {}

  uint64_t serial;  // changes when the numbering starts anew
  std::string rid;
  uint32_t ssrc = 0;
  uint32_t rtx_ssrc = 0;
  int payload_type = -1;  // of the last packet
  PacketCache cache;

  // reception (RFC 3550, appendix A)
  bool started = false;
  bool ended = false;             // said BYE
  int64_t base = 0, highest = 0;  // unwrapped sequence numbers
  std::bitset<4096> received;     // of the last numbers, by number modulo its size
  int bad_sequence = -1;          // of a packet far off; a second in a row is a new start
  uint64_t packets = 0, bytes = 0, recovered = 0, key_frames = 0;
  uint64_t received_since_base = 0, received_before = 0;
  int64_t expected_before = 0;
  double jitter = 0;  // timestamp units
  uint32_t last_transit = 0;
  int64_t first_packet_us = 0, last_packet_us = 0;
  int64_t rate_since_us = 0;
  uint64_t rate_bytes = 0, bitrate_bps = 0;

  // clocks: the publisher's own report, and the quickest arrivals
  struct Report {
    int64_t unix_us;  // by the publisher's clock
    uint32_t rtp;
    uint32_t ntp_middle;
    int64_t arrival_us;
  };
  std::optional<Report> report;
  bool anchored = false;
  uint32_t anchor_rtp = 0;
  int64_t anchor_us = 0;

  // repair
  struct Missing {
    int64_t sequence;
    int64_t since_us, next_us, asked_us;
    int tries;
  };
  std::deque<Missing> missing;
  int64_t round_trip_us = 100 * kMs;  // from a NACK to what it asked for
  uint64_t nacks = 0;

  // key frames
  int64_t asked_us = 0;
  bool ask_again = false;
  uint8_t fir_number = 0;
  uint64_t key_frame_requests = 0;

  bool alive(int64_t now_us) const {
    return started && !ended && now_us - last_packet_us < kLayerAlive;
  }
};

struct Forwarder::Ingress {
  TrackAddress track;
  Session* session = nullptr;
  MediaSection section;
  std::vector<std::unique_ptr<Layer>> layers;
  std::vector<Egress*> pullers;
  int64_t last_packet_us = 0;

  const MediaCodec* codec(int payload_type) const {
    for (const MediaCodec& codec : section.codecs)
      if (codec.payload_type == payload_type) return &codec;
    return nullptr;
  }
  const MediaCodec* codec_of_rtx(int payload_type) const {
    for (const MediaCodec& codec : section.codecs)
      if (codec.rtx_payload_type >= 0 && codec.rtx_payload_type == payload_type) return &codec;
    return nullptr;
  }
  Layer* layer(uint64_t serial) const {
    for (auto& layer : layers)
      if (layer->serial == serial) return layer.get();
    return nullptr;
  }
};

struct Forwarder::Egress {
  TrackAddress puller, source;
  Session* session = nullptr;
  MediaSection section;
  SsrcPair ssrcs;
  std::string cname;
  LayerChoice choice;
  struct Mapping {
    int payload_type;  // the publisher's
    int codec;         // index in section.codecs; -1 = the puller has none for it
  };
  std::vector<Mapping> mapping;

  // numbering: what goes out = what came in + an offset that shrinks when packets are left out
  uint64_t layer = 0;  // serial of the one in use; 0 = none yet
  std::string rid;     // of that
  struct Shift {
    int64_t from;  // unwrapped sequence number of the source
    uint16_t offset;
  };
  std::deque<Shift> shifts;  // of the layer in use, oldest first
  int64_t source_highest = 0;
  uint16_t last_sequence = 0;
  uint32_t timestamp_offset = 0, last_timestamp = 0;
  int64_t last_sent_us = 0, waiting_since_us = 0;
  int clock_rate = 90000;
  int payload_type = -1;  // of the last packet sent
  uint16_t rtx_sequence = 0;

  // what was sent lately, by sequence number modulo the size
  struct Sent {
    uint64_t layer = 0;  // 0 = unused
    int64_t resent_us = 0;
    uint32_t timestamp = 0;
    uint16_t sequence = 0, source_sequence = 0;
    int8_t payload_type = -1, rtx_payload_type = -1;
  };
  std::vector<Sent> sent;

  int64_t last_report_us = 0, first_packet_us = 0;
  uint64_t packets = 0, bytes = 0, nacks = 0, resent = 0, key_frame_requests = 0, no_codec = 0;
  uint64_t padding_dropped = 0;
  double fraction_lost = 0, rtt_ms = 0;
  int64_t lost = 0;
};

struct Forwarder::Session {
  std::string id;
  bool connected = false, blocked = false;
  uint32_t own_ssrc = 0;                                    // sender of our RTCP
  std::map<std::string, std::unique_ptr<Ingress>> ingress;  // by mid
  std::map<std::string, std::unique_ptr<Egress>> egress;    // by mid
  struct Known {
    Ingress* ingress;
    Layer* layer;
    bool rtx;
  };
  std::unordered_map<uint32_t, Known> ssrcs;
  int transport_cc = 0;  // id of the extension; in a BUNDLE group it is one for all sections
  TransportFeedback feedback;
  uint32_t feedback_ssrc = 0;
  int64_t feedback_us = 0, report_us = 0, heard_us = 0;
  uint16_t transport_sequence = 0;  // of what we send
  // Our clock minus the publisher's, by the sender report that was quickest to arrive. One for all
  // its tracks, so that they stay in step with each other.
  std::optional<int64_t> clock_offset_us;
  uint64_t unknown_packets = 0, feedback_sent = 0;
  uint64_t feedback_received = 0, feedback_packets = 0, feedback_lost = 0;
};

}  // namespace cfr::sfu
