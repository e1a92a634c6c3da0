// RTP that was made elsewhere and passes through a SendChain. Its header extensions give way to
// ours, since their ids mean something else on this connection: an SFU that reads a foreign
// extension as a MID throws the packets away. Payload type, SSRC, numbers and times stay.
#pragma once

#include <gst/gst.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "media/codecs.h"
#include "util/gst_ref.h"

namespace cfr {

class RtpInput {
 public:
  // `changed`, on the streaming thread: the caps that packets really have, once their SSRC and
  // payload type are known, and again when another SSRC has taken over.
  explicit RtpInput(std::function<void(gref<GstCaps>)> changed);

  // The caps event came. Returns the caps for downstream: complete, with our extensions.
  gref<GstCaps> set_caps(const Codec& codec, const GstCaps* caps);
  // Looks at a packet's header. Streaming thread; before rewrite, whether or not it will be sent.
  void inspect(GstBuffer* packet);
  // The packet with our extensions; takes it, nullptr if it is no RTP. Streaming thread. The
  // payload is shared, the header is new.
  GstBuffer* rewrite(GstBuffer* packet) const;

  // At most 16 bytes are sent, those of a longer one not at all. Any thread, while no packet is
  // being rewritten.
  void set_mid(const std::string& mid);

 private:
  void report();

  const std::function<void(gref<GstCaps>)> changed_;
  // streaming thread
  gref<GstCaps> caps_;
  int64_t ssrc_ = -1, payload_ = -1;  // announced; -1 = not yet
  bool reported_ = false;
  uint32_t other_ssrc_ = 0;
  unsigned others_ = 0;  // packets in a row with it
  // MID, one element of a one-byte header; written while shut
  std::atomic<uint8_t> mid_length_{0};
  char mid_[16] = {};
};

}  // namespace cfr
