// What stands between a sink pad of the element and webrtcbin: raw -> encode -> payload, as far as
// the input needs it. It is a bin, built when the input's caps are known, on the streaming thread.
// It outlives any webrtcbin: while none is connected its packets are dropped at its end, paced by
// the clock, and nothing upstream notices. No lock, allocation or log of ours on the packet path
// (RTP input excepted, whose headers are written anew).
#pragma once

#include <gst/gst.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "media/codecs.h"
#include "util/error.h"
#include "util/gst_ref.h"

namespace cfr {

// How far media that is not live lags behind the pipeline's clock: it was held until somebody could
// see it, or a flush has set its running time back. Chains that share it (those of one element)
// stay in step with each other.
class Timeline {
 public:
  // The lag of the chain that asks first is that of all, as long as neither `epoch` (seqnum of the
  // flush that began it, 0 at the start) nor the base time changes. Never negative. Any thread.
  int64_t offset_ns(guint32 epoch, GstClockTime base_time, int64_t lag_ns);
  void forget();

 private:
  std::mutex mutex_;
  guint32 epoch_ = 0;
  GstClockTime base_time_ = 0;
  int64_t offset_ns_ = -1;  // -1 = nobody has asked
};

class SendChain {
 public:
  // All run on a streaming thread; they copy and post.
  struct Callbacks {
    // The RTP that will come: application/x-rtp with media, encoding-name, clock-rate, payload,
    // ssrc and fmtp fields. Once, and again if the codec or the SSRC changes, or after EOS.
    std::function<void(gref<GstCaps> rtp_caps)> on_caps;
    std::function<void()> on_first_packet;  // after each connect(): a packet has gone to webrtcbin
    std::function<void()> on_eos;           // the input ended; EOS never reaches webrtcbin
    std::function<void(Error)> on_error;    // unusable caps, missing encoder
  };

  SendChain(MediaKind kind, const char* name, Callbacks callbacks,
            std::shared_ptr<Timeline> timeline = std::make_shared<Timeline>());
  ~SendChain();

  // Floating until added to the element; its always-pads: "sink" (accepts sendable_caps(kind)),
  // "src" (RTP, to be linked by connect).
  GstElement* bin() const;

  // The media section its packets will name in the MID header extension (RFC 8843); before connect.
  void set_mid(const std::string& mid);
  // Packets given to webrtcbin since construction. Any thread.
  uint64_t packets() const;
  // Forgets the input's caps, so that on_caps tells them again; while its state is READY or lower.
  void rearm();

  // Links "src" to webrtcbin's sink pad (both children of the element), lets packets through and
  // asks the encoder for a key frame. Any thread; not while a lock is held.
  bool connect(GstPad* webrtc_sink);
  // Packets are dropped from now on, and the pads unlinked. Returns at once; safe while a push
  // is blocked inside webrtcbin, whose errors never travel upstream.
  void disconnect();
  // As disconnect(), for good: what is held in here, until connect(), by the clock or in PAUSED,
  // comes back at once. Any thread.
  void leave();
  // Nobody will ever see this track: what is held until connect() goes, and is dropped, so that
  // whatever feeds it can end, and feed others. Any thread.
  void give_up();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace cfr
