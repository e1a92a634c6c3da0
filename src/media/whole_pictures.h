// Whether all packets of a picture have come. A depayloader for H.264 or H.265 makes a picture of
// what there is, and does not tell a loss before it from one inside. Pure; streaming thread alone.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace cfr {

class WholePictures {
 public:
  // Depayloaders of other codecs than these drop what is not whole.
  static bool needed(const std::string& codec) { return codec == "H264" || codec == "H265"; }
  explicit WholePictures(const std::string& codec) : h265_(codec == "H265") {}

  struct Packet {
    uint16_t sequence = 0;
    uint32_t timestamp = 0;  // RTP's; the same for all packets of a picture
    bool marker = false;     // the last one of its picture
    uint64_t pts = 0;        // ns
    std::span<const uint8_t> payload;
  };
  void add(const Packet& packet);  // in order
  // Of the last two pictures, the one at `pts`; its packets may differ a little.
  bool whole(uint64_t pts) const;

 private:
  struct Picture {
    uint32_t timestamp = 0;
    uint64_t pts = 0;
    bool whole = false, ended = false;
  };
  // The packet is the first of a picture, to judge by its payload (RFC 6184, RFC 7798).
  bool begins(std::span<const uint8_t> payload) const;

  const bool h265_;
  bool any_ = false;
  uint16_t next_ = 0;
  Picture before_, current_;
};

}  // namespace cfr
