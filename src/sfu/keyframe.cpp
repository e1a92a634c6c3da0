#include "sfu/keyframe.h"

namespace cfr::sfu {

namespace {

// H.264: parameter sets or an IDR slice, alone, aggregated, or the beginning of a fragmented one.
bool h264(Bytes p) {
  auto key = [](int type) { return type == 5 || type == 7; };
  int type = p[0] & 0x1f;
  if (type == 24) {  // STAP-A
    for (std::size_t at = 1; at + 3 <= p.size();) {
      if (key(p[at + 2] & 0x1f)) return true;
      at += 2 + read16(&p[at]);
    }
    return false;
  }
  if (type == 28) return p.size() > 1 && (p[1] & 0x80) && key(p[1] & 0x1f);  // FU-A
  return key(type);
}

bool h265(Bytes p) {
  // VPS, SPS, or a picture at which decoding can start
  auto key = [](int type) { return type == 32 || type == 33 || (type >= 16 && type <= 21); };
  if (p.size() < 3) return false;
  int type = p[0] >> 1 & 0x3f;
  if (type == 48) {  // aggregation
    for (std::size_t at = 2; at + 3 <= p.size();) {
      if (key(p[at + 2] >> 1 & 0x3f)) return true;
      at += 2 + read16(&p[at]);
    }
    return false;
  }
  if (type == 49) return (p[2] & 0x80) && key(p[2] & 0x3f);  // fragmentation
  return key(type);
}

bool vp8(Bytes p) {
  bool start = (p[0] & 0x10) && (p[0] & 0x07) == 0;
  std::size_t at = 1;
  if (p[0] & 0x80) {  // X
    if (at >= p.size()) return false;
    uint8_t x = p[at++];
    if (x & 0x80) {  // I
      if (at >= p.size()) return false;
      at += p[at] & 0x80 ? 2 : 1;
    }
    if (x & 0x40) ++at;  // L
    if (x & 0x30) ++at;  // T or K
  }
  return start && at < p.size() && !(p[at] & 0x01);
}

bool vp9(Bytes p) {
  // Begins a frame, is not predicted from another picture
  if (!(p[0] & 0x08) || (p[0] & 0x40)) return false;
  if (!(p[0] & 0x20)) return true;  // no layers
  std::size_t at = 1;
  if (p[0] & 0x80) {
    if (at >= p.size()) return false;
    at += p[at] & 0x80 ? 2 : 1;
  }
  return at < p.size() && (p[at] >> 1 & 0x07) == 0;  // the lowest spatial layer
}

}  // namespace

std::optional<bool> starts_key_frame(const std::string& codec, Bytes payload) {
  bool known =
      codec == "H264" || codec == "H265" || codec == "VP8" || codec == "VP9" || codec == "AV1";
  if (!known) return std::nullopt;
  if (payload.empty()) return false;
  if (codec == "H264") return h264(payload);
  if (codec == "H265") return h265(payload);
  if (codec == "VP8") return vp8(payload);
  if (codec == "VP9") return vp9(payload);
  return (payload[0] & 0x08) != 0;  // AV1: N, a new coded video sequence
}

}  // namespace cfr::sfu
