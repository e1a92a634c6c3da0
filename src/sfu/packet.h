// RTP packets, read and written without trusting a byte (RFC 3550, RFC 8285). Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace cfr::sfu {

using Bytes = std::span<const uint8_t>;

inline uint16_t read16(const uint8_t* p) {
  return uint16_t(p[0] << 8 | p[1]);
}
inline uint32_t read24(const uint8_t* p) {
  return uint32_t(p[0]) << 16 | p[1] << 8 | p[2];
}
inline uint32_t read32(const uint8_t* p) {
  return uint32_t(read16(p)) << 16 | read16(p + 2);
}
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
  Bytes extension;       // the block's data, without its four-byte header
  uint16_t profile = 0;  // 0xBEDE: one-byte headers; 0x100X: two-byte headers
  Bytes payload;         // without padding
  uint8_t padding = 0;

  static std::optional<RtpPacket> parse(Bytes data);
  // The value of an extension; empty if absent.
  Bytes find(int id) const;
  // Nothing but padding: a probe, or a filler.
  bool padding_only() const { return payload.empty(); }
};

struct HeaderExtension {
  int id;  // 1 to 255; others are left out
  Bytes value;
};

// Writes a packet without CSRCs: `packet`'s header fields and payload with these extensions.
// One-byte headers where they will do, else two-byte ones. `original_sequence`, if not negative, is
// put in front of the payload (RFC 4588). A packet without payload is written as one of padding
// alone.
void write_packet(std::vector<uint8_t>& out, const RtpPacket& packet,
                  std::span<const HeaderExtension> extensions, int original_sequence = -1);

}  // namespace cfr::sfu
