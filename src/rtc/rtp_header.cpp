#include "rtc/rtp_header.h"

#include <algorithm>

namespace cfr {

RtpHeader read_rtp_header(const uint8_t* data, size_t size, int mid_id) {
  RtpHeader header;
  if (size < 12 || data[0] >> 6 != 2) return header;
  header.payload = data[1] & 0x7f;
  header.ssrc = uint32_t{data[8]} << 24 | data[9] << 16 | data[10] << 8 | data[11];
  size_t at = 12 + 4 * size_t(data[0] & 0x0f);
  if (!(data[0] & 0x10) || mid_id <= 0 || at + 4 > size) return header;
  const unsigned profile = data[at] << 8 | data[at + 1];
  const size_t length = 4 * size_t(data[at + 2] << 8 | data[at + 3]);
  at += 4;
  const size_t end = std::min(at + length, size);
  const bool one_byte = profile == 0xbede;
  if (!one_byte && (profile & 0xfff0) != 0x1000) return header;
  while (at < end) {
    if (data[at] == 0) {  // padding
      at++;
      continue;
    }
    int id;
    size_t bytes;
    if (one_byte) {
      id = data[at] >> 4;
      bytes = (data[at] & 0x0f) + 1;
      at += 1;
      if (id == 15) break;
    } else {
      if (at + 2 > end) break;
      id = data[at];
      bytes = data[at + 1];
      at += 2;
    }
    if (at + bytes > end) break;
    if (id == mid_id) {
      header.mid.assign(reinterpret_cast<const char*>(data + at), bytes);
      return header;
    }
    at += bytes;
  }
  return header;
}

}  // namespace cfr
