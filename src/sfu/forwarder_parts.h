// The parts of the Forwarder; for its own files only.
#pragma once

#include <set>

#include "sfu/forwarder.h"

namespace cfr::sfu {

// One SSRC of a publisher: the track, or one of its simulcast layers.
struct Forwarder::Layer {
  std::string rid;
  uint32_t ssrc = 0;
  uint32_t rtx_ssrc = 0;
  int payload_type = -1;  // of the last packet
  // reception (RFC 3550, appendix A)
  bool started = false;
  int64_t base = 0, highest = 0;  // unwrapped sequence numbers
  uint64_t packets = 0, bytes = 0, recovered = 0;
  int64_t expected_before = 0;
  uint64_t received_before = 0;
  double jitter = 0;  // timestamp units
  int64_t last_transit = 0;
  uint32_t last_sr = 0;
  int64_t last_sr_us = 0, last_packet_us = 0, first_packet_us = 0;
  // repair
  struct Missing {
    int64_t sequence;
    int64_t since_us, next_us;
    int tries;
  };
  std::deque<Missing> missing;
  uint64_t nacks = 0;
  // key frames
  int64_t asked_us = 0;
  bool ask_again = false;
  uint8_t fir_number = 0;
  uint64_t key_frame_requests = 0;
};

struct Forwarder::Ingress {
  TrackAddress track;
  MediaSection section;
  std::vector<std::unique_ptr<Layer>> layers;
  std::set<TrackAddress> pullers;
  int64_t last_packet_us = 0;

  const MediaCodec* codec(int payload_type) const {
    for (const MediaCodec& codec : section.codecs)
      if (codec.payload_type == payload_type) return &codec;
    return nullptr;
  }
  const MediaCodec* codec_of_rtx(int payload_type) const {
    for (const MediaCodec& codec : section.codecs)
      if (codec.rtx_payload_type == payload_type) return &codec;
    return nullptr;
  }
};

struct Forwarder::Egress {
  TrackAddress puller, source;
  MediaSection section;
  SsrcPair ssrcs;
  std::string cname;
  LayerChoice choice;
  // numbering: what goes out = what came in + offset, modulo their widths
  uint32_t source_ssrc = 0;
  bool started = false;
  uint16_t sequence_offset = 0, last_sequence = 0;
  uint32_t timestamp_offset = 0, last_timestamp = 0;
  int64_t last_sent_us = 0;
  int clock_rate = 90000;
  std::map<int, const MediaCodec*> mapping;  // the publisher's payload type -> ours; null = none
  uint16_t rtx_sequence = 0;
  // sent packets, by sequence number modulo the ring's size
  struct Sent {
    int64_t time_us = 0;
    uint16_t sequence = 0;
    int rtx_payload_type = -1;
    std::vector<uint8_t> bytes;
  };
  std::vector<Sent> ring;
  std::vector<uint8_t> scratch;
  int64_t last_report_us = 0;
  uint32_t reported_packets = 0;
  uint64_t packets = 0, bytes = 0, nacks = 0, resent = 0, key_frame_requests = 0, no_codec = 0;
  double fraction_lost = 0;
};

struct Forwarder::Session {
  std::string id;
  bool connected = false;
  uint32_t own_ssrc = 0;  // sender of our RTCP
  std::map<std::string, std::unique_ptr<Ingress>> ingress;  // by mid
  std::map<std::string, std::unique_ptr<Egress>> egress;    // by mid
  struct Known {
    Ingress* ingress;
    Layer* layer;
    bool rtx;
  };
  std::map<uint32_t, Known> ssrcs;
  TransportFeedback feedback;
  uint32_t feedback_ssrc = 0;
  int64_t feedback_us = 0, report_us = 0, heard_us = 0;
  uint16_t transport_sequence = 0;  // of what we send
};

}  // namespace cfr::sfu
