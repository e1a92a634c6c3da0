// What stands between webrtcbin's source pad and a pad of the element: depayload -> parse ->
// decode, as far as downstream asks for it. It is a bin. Until configured, and while its output is
// not linked, packets are dropped at its entry; errors of one chain never reach webrtcbin, whose
// other tracks would end with it. EOS of webrtcbin is swallowed (the element decides about EOS).
// Video begins with a key frame, at the start and after damage, and asks for it until it comes.
#pragma once

#include <gst/gst.h>

#include <functional>
#include <memory>
#include <string>

#include "media/codecs.h"
#include "util/error.h"
#include "util/gst_ref.h"
#include "util/result.h"

namespace cfr {

class ReceiveChain {
 public:
  enum class Output { raw, encoded, rtp };

  ReceiveChain(const Codec& codec, const char* name);
  ~ReceiveChain();

  // Floating until added; always-pads "sink" (RTP) and "src".
  GstElement* bin() const;
  const Codec& codec() const;

  // What downstream sees; before configure. Takes the tags. Streams of one group belong together.
  void set_stream_id(const std::string& stream_id, guint group);
  void set_tags(GstTagList* tags);
  // Once per configure at most: downstream refuses what it is given, or it cannot be decoded. On a
  // streaming thread; before configure.
  void set_on_error(std::function<void(Error)> on_error);

  // What to give, from what the peer of the element's pad accepts: raw if it takes raw, else
  // encoded, else RTP. Error peer if none fits. Builds the elements and syncs their state with the
  // bin's. Call it again when the downstream peer changed. Not on a streaming thread: it may wait
  // for what is still being pushed.
  Result<Output> configure(const GstCaps* downstream_caps);
  // Back to dropping (the element's pad was unlinked). Does not wait.
  void unconfigure();

  // Links webrtcbin's src pad (swallowing its EOS, flow errors never go back) to "sink"; asks for
  // a key frame when configured. Replaces an earlier one.
  bool connect(GstPad* webrtc_src);
  void disconnect();
  // No packet has come for longer than the latency: to be called again and again while it is so.
  // From the second call on, each sends a GAP event for the time since the one before, less the
  // latency. Waits for what is being pushed, unless another call does already. While PLAYING.
  void fill_gap();
  // Sends EOS out of "src", after what is queued.
  void end();
  // RTP packets seen since construction; for watchdogs. Any thread.
  uint64_t packets() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace cfr
