#include "media/whole_pictures.h"

namespace cfr {

namespace {

using Bytes = std::span<const uint8_t>;

// `nal` begins with its header. Of slices, the first one of the picture says so in its first bit:
// first_mb_in_slice = 0 (H.264 7.3.3), first_slice_segment_in_pic_flag (H.265 7.3.6.1). Parameter
// sets, delimiters and SEI stand before the slices.
bool h264_begins(Bytes nal) {
  if (nal.size() < 2) return false;
  const int type = nal[0] & 0x1f;
  return type == 1 || type == 5 ? (nal[1] & 0x80) != 0 : type >= 6 && type <= 9;
}

bool h265_begins(Bytes nal) {
  if (nal.size() < 3) return false;
  const int type = nal[0] >> 1 & 0x3f;
  return type < 32 ? (nal[2] & 0x80) != 0 : type <= 35 || type == 39;
}

}  // namespace

bool WholePictures::begins(Bytes payload) const {
  if (payload.size() < 4) return false;
  if (h265_) {
    switch (payload[0] >> 1 & 0x3f) {
      case 48:
        return h265_begins(payload.subspan(4));  // aggregation packet: header, size, NAL unit
      case 49:                                   // fragmentation unit
        return (payload[2] & 0x80) && (payload[2] & 0x3f) < 32 && (payload[3] & 0x80);
      default: return h265_begins(payload);
    }
  }
  switch (payload[0] & 0x1f) {
    case 24: return h264_begins(payload.subspan(3));  // STAP-A: header, size, NAL unit
    case 28: {                                        // FU-A
      const int type = payload[1] & 0x1f;
      return (payload[1] & 0x80) && (type == 1 || type == 5) && (payload[2] & 0x80);
    }
    default: return h264_begins(payload);
  }
}

bool WholePictures::whole(uint64_t pts) const {
  auto distance = [pts](const Picture& picture) {
    return pts < picture.pts ? picture.pts - pts : pts - picture.pts;
  };
  return (distance(before_) < distance(current_) ? before_ : current_).whole;
}

void WholePictures::add(const Packet& packet) {
  const bool follows = any_ && packet.sequence == next_;
  if (any_ && packet.timestamp == current_.timestamp) {
    current_.whole = current_.whole && follows;
  } else {
    before_ = current_;
    // Without a marker the end is where the next one begins.
    before_.whole = before_.whole && (before_.ended || follows);
    current_ = {packet.timestamp, packet.pts, follows || begins(packet.payload), false};
  }
  current_.ended = current_.ended || packet.marker;  // padding may follow
  next_ = uint16_t(packet.sequence + 1);
  any_ = true;
}

}  // namespace cfr
