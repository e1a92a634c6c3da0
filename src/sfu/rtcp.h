// RTCP, read and written without trusting a byte (RFC 3550, 4585, 5104, 5506,
// draft-holmer-rmcat-transport-wide-cc-extensions-01). Pure.
#pragma once

#include <string>
#include <vector>

#include "sfu/packet.h"

namespace cfr::sfu {

struct RtcpReportBlock {
  uint32_t ssrc = 0;
  uint8_t fraction_lost = 0;  // of 256
  int32_t lost = 0;
  uint32_t highest = 0;  // extended sequence number
  uint32_t jitter = 0;   // in timestamp units
  uint32_t last_sr = 0, delay_since_sr = 0;
};

struct RtcpSenderInfo {
  uint64_t ntp = 0;
  uint32_t rtp = 0, packets = 0, bytes = 0;
};

// What matters of a compound RTCP packet.
struct RtcpContent {
  struct SenderReport {
    uint32_t ssrc;
    RtcpSenderInfo info;
  };
  struct Nack {
    uint32_t ssrc;
    std::vector<uint16_t> sequences;
  };
  // What a receiver says of the transport-wide numbers that were sent to it.
  struct TransportFeedback {
    uint8_t count = 0;  // of the message
    struct Arrival {
      uint16_t sequence;
      bool received;
      int64_t time_us;  // of the receiver's clock; of received ones
    };
    std::vector<Arrival> arrivals;
  };
  std::vector<SenderReport> sender_reports;
  std::vector<RtcpReportBlock> reports;
  std::vector<Nack> nacks;
  std::vector<uint32_t> key_frame_requests;  // PLI and FIR: the media's SSRC
  std::vector<uint32_t> byes;
  std::vector<TransportFeedback> transport_feedback;

  // Unknown and cut parts are skipped.
  static RtcpContent parse(Bytes data);
};

// Builders; each appends one RTCP packet (a receiver report one for every 31 blocks).
void append_receiver_report(std::vector<uint8_t>& out, uint32_t sender,
                            const std::vector<RtcpReportBlock>& blocks);
void append_sender_report(std::vector<uint8_t>& out, uint32_t ssrc, const RtcpSenderInfo& info);
void append_cname(std::vector<uint8_t>& out, uint32_t ssrc, const std::string& cname);
void append_nack(std::vector<uint8_t>& out, uint32_t sender, uint32_t media,
                 const std::vector<uint16_t>& sequences);  // ascending
void append_pli(std::vector<uint8_t>& out, uint32_t sender, uint32_t media);
void append_fir(std::vector<uint8_t>& out, uint32_t sender, uint32_t media, uint8_t number);

// Microseconds since 1970 as an NTP timestamp, and back.
uint64_t ntp_from_unix_us(int64_t unix_us);
int64_t unix_us_from_ntp(uint64_t ntp);

// Remembers the arrivals of one transport and tells its sender of them.
class TransportFeedback {
 public:
  void arrived(uint16_t sequence, int64_t time_us);
  // Appends one message about what has not been told yet; false if there is nothing. A packet that
  // came late is told with those after it, again.
  bool append(std::vector<uint8_t>& out, uint32_t sender, uint32_t media);

 private:
  static constexpr int64_t kWindow = 2048;  // sequence numbers
  struct Slot {
    int64_t sequence = -1;
    int64_t time_us = 0;
  };
  const Slot* find(int64_t sequence) const;

  std::vector<Slot> slots_;
  std::vector<uint8_t> symbols_, deltas_, chunks_;
  int64_t highest_ = -1;
  int64_t next_ = -1;  // first sequence number that has not been told
  uint8_t count_ = 0;
};

}  // namespace cfr::sfu
