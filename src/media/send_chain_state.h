// The inside of SendChain, shared by the files that implement it.
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "media/edge.h"
#include "media/rtp_input.h"
#include "media/send_chain.h"
#include "media/weak.h"

namespace cfr {

// What decides how the inside is built; the rest of the caps (sizes, rates) the elements follow.
struct SendShape {
  bool raw = false, rtp = false, interlaced = false;
  bool nals = false;             // H.264 or H.265 in single NAL units
  const Codec* codec = nullptr;  // nullptr for raw
  bool operator==(const SendShape&) const = default;
};

struct SendChain::State : std::enable_shared_from_this<SendChain::State> {
  State(MediaKind kind, Callbacks callbacks, std::shared_ptr<Timeline> timeline)
      : kind(kind), callbacks(std::move(callbacks)), timeline(std::move(timeline)) {}

  const MediaKind kind;
  const Callbacks callbacks;
  const std::shared_ptr<Timeline> timeline;
  gref<GstElement> bin;
  GstPad* sink = nullptr;  // ghost pads, owned by the bin
  GstPad* src = nullptr;
  const std::shared_ptr<Edge> edge = std::make_shared<Edge>();
  std::mutex mutex;  // guards the next ones; held only to copy
  std::string mid;
  gref<GstElement> mid_extension;
  std::shared_ptr<RtpInput> rtp_input;
  gref<GstPad> held_pad;
  gulong hold = 0;
  gref<GstPad> linked;  // webrtcbin's
  bool connected_once = false;
  // streaming thread
  bool built = false;
  gref<GstCaps> refused;
  bool ended = false;       // EOS came; what comes next is a new track
  gref<GstCaps> announced;  // last
  SendShape shape;
  const Codec* codec = nullptr;
  bool reported = false;
  std::vector<GstElement*> inside;
  std::string missing;  // the first element that could not be made
  GstElement* encoder = nullptr;
  const char* encoder_factory = nullptr;
  GstElement* clocksync = nullptr;
  bool paced = false;
  guint32 epoch = 0;  // seqnum of the last flush that reset the running time
  GstClockTime flushed_at = GST_CLOCK_TIME_NONE;     // by the clock, since the offset was set
  GstClockTime anchored_base = GST_CLOCK_TIME_NONE;  // base time that the offset belongs to
  gulong anchoring = 0;                              // probe
  gulong inspection = 0;

  gref<GstCaps> on_caps(GstCaps* caps);
  bool build(GstCaps* caps);
  bool append_encoder(GstCaps* caps);
  void append_payloader();
  bool link_inside();
  void clear();
  void release();
  GstElement* append(const char* factory);
  void report(GstCaps* rtp);
  void announce(gref<GstCaps> caps);
  void begin_after_end();
  void report_early(GstCaps* input);
  void follow_rtp();
  bool framed() const;
  GstEvent* in_time(GstEvent* segment);
  void time_pictures();
  void pace();
  void watch_pace();
  GstPadProbeReturn anchor(GstPad* pad, GstPadProbeInfo* info);
  void begin_anew(guint32 seqnum);
};

}  // namespace cfr
