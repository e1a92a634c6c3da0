// What one m-section of a session has agreed upon, for the parts that move packets. Plain data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace cfr::sfu {

struct MediaCodec {
  std::string name;  // H264, H265, VP8, VP9, AV1, opus, PCMU, PCMA
  int payload_type = -1;
  int clock_rate = 90000;  // Hz
  int channels = 0;        // audio; 0 = not said
  std::string fmtp;
  int rtx_payload_type = -1;  // RFC 4588; -1 = none
  bool nack = false, pli = false, fir = false, transport_cc = false, remb = false;
};

// Ids of RTP header extensions (RFC 8285); 0 = not negotiated.
struct ExtensionIds {
  int mid = 0;            // RFC 8843
  int rid = 0;            // RFC 8852
  int repaired_rid = 0;   // RFC 8852
  int transport_cc = 0;   // draft-holmer-rmcat-transport-wide-cc-extensions-01
  int abs_send_time = 0;  // http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time
  int audio_level = 0;    // RFC 6464
};

struct SsrcPair {
  uint32_t ssrc = 0;
  uint32_t rtx_ssrc = 0;  // ssrc-group FID (RFC 5576, RFC 4588); 0 = none
};

struct MediaSection {
  std::string mid;
  std::string kind;  // audio, video
  std::vector<MediaCodec> codecs;
  ExtensionIds extensions;
  std::vector<SsrcPair> ssrcs;     // announced by the sender of the section
  std::vector<std::string> rids;   // simulcast layers, as announced (RFC 8853)
};

}  // namespace cfr::sfu
