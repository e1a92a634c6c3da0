// What an RTP packet says in its header (RFC 3550 5.1, RFC 8285). Pure, any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace cfr {

struct RtpHeader {
  uint32_t ssrc = 0;
  int payload = -1;  // -1 = not RTP
  std::string mid;
};
// `mid_id`: the id of the MID header extension; 0 = do not look for it.
RtpHeader read_rtp_header(const uint8_t* data, size_t size, int mid_id);

}  // namespace cfr
