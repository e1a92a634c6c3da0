// RTP and RTCP packets, read and written without trusting a byte (RFC 3550, 8285, 4585, 5104,
// draft-holmer-rmcat-transport-wide-cc-extensions-01). Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace cfr::sfu {

using Bytes = std::span<const uint8_t>;

inline uint16_t read16(const uint8_t* p) { return uint16_t(p[0] << 8 | p[1]); }
inline uint32_t read24(const uint8_t* p) { return uint32_t(p[0]) << 16 | p[1] << 8 | p[2]; }
inline uint32_t read32(const uint8_t* p) { return uint32_t(read16(p)) << 16 | read16(p + 2); }
inline void write16(uint8_t* p, uint16_t v) {
  p[0] = uint8_t(v >> 8);
  p[1] = uint8_t(v);
}
inline void write32(uint8_t* p, uint32_t v) {
  write16(p, uint16_t(v >> 16));
  write16(p + 2, uint16_t(v));
}

// A view of one RTP packet; valid while its bytes are.
struct RtpPacket {
  bool marker = false;
  int payload_type = 0;
  uint16_t sequence = 0;
  uint32_t timestamp = 0;
  uint32_t ssrc = 0;
  Bytes extension;          // the block's data, without its four-byte header
  uint16_t profile = 0;     // 0xBEDE: one-byte headers; 0x100X: two-byte headers
  Bytes payload;            // without padding
  uint8_t padding = 0;

  static std::optional<RtpPacket> parse(Bytes data);
  // The value of an extension; empty if absent.
  Bytes find(int id) const;
};

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
  std::vector<SenderReport> sender_reports;
  std::vector<RtcpReportBlock> reports;
  std::vector<Nack> nacks;
  std::vector<uint32_t> key_frame_requests;  // PLI and FIR: the media's SSRC
  std::vector<uint32_t> byes;
  unsigned transport_feedback = 0;  // transport-cc messages

  // Unknown and cut parts are skipped.
  static RtcpContent parse(Bytes data);
};

// Builders; each appends one RTCP packet.
void append_receiver_report(std::vector<uint8_t>& out, uint32_t sender,
                            const std::vector<RtcpReportBlock>& blocks);
void append_sender_report(std::vector<uint8_t>& out, uint32_t ssrc, const RtcpSenderInfo& info);
void append_cname(std::vector<uint8_t>& out, uint32_t ssrc, const std::string& cname);
void append_nack(std::vector<uint8_t>& out, uint32_t sender, uint32_t media,
                 const std::vector<uint16_t>& sequences);  // ascending
void append_pli(std::vector<uint8_t>& out, uint32_t sender, uint32_t media);
void append_fir(std::vector<uint8_t>& out, uint32_t sender, uint32_t media, uint8_t number);

// Arrivals of one transport, fed back to its sender.
class TransportFeedback {
 public:
  void arrived(uint16_t sequence, int64_t time_us);
  // Appends one message about all since the last, if there is anything; false if not.
  bool append(std::vector<uint8_t>& out, uint32_t sender, uint32_t media);

 private:
  struct Arrival {
    int64_t sequence;
    int64_t time_us;
  };
  std::vector<Arrival> arrivals_;
  int64_t highest_ = -1;
  int64_t next_base_ = -1;  // first sequence not fed back yet
  uint8_t count_ = 0;
};

}  // namespace cfr::sfu
